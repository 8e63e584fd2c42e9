//! Data that belongs to a person, and groups that people share.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::support::{Era, wait_until};

/// A person, and a group that people share.
const PERSON: (u32, u32) = (100_001, 100_002);
const SHARED: u32 = 100_003;

fn make(path: &Path, (uid, gid): (u32, u32), mode: u32) {
    fs::create_dir(path).expect("made");
    chown(path, Some(uid), Some(gid)).expect("given");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

fn write(path: &Path, (uid, gid): (u32, u32), mode: u32, text: &str) {
    fs::write(path, text).expect("written");
    chown(path, Some(uid), Some(gid)).expect("given");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

/// A home that only its owner can enter, with a directory of documents, one of them old.
fn persons_home(home: &Home) -> PathBuf {
    let path = home.path().join("erna");
    make(&path, PERSON, 0o700);
    make(&path.join("Acme"), PERSON, 0o700);
    write(&path.join("Acme/old.md"), PERSON, 0o600, "old");
    path.join("Acme")
}

/// A tenant on this directory, with these lines in `[sandbox]`.
fn tenant_on(data: &Path, sandbox: &str) -> String {
    granted(&format!("data = {data:?}\n{}{sandbox}\n", puppet_tenant(&[], "")))
}

/// As [`tenant_on`], with a script for a server; it is done when it has made the file `done`.
fn script_on(data: &Path, script: &str, sandbox: &str) -> String {
    format!("data = {data:?}\n{}", script_tenant(&format!("{script}\n: > done"), sandbox))
}

fn wait_for(path: &Path) {
    wait_until(&format!("{} is there", path.display()), || path.exists());
}

#[test]
fn a_persons_data_stays_theirs_and_so_does_what_the_server_writes() {
    if !root() {
        return;
    }
    let home = Home::system();
    let data = persons_home(&home);
    let script = "cat old.md > new.md && echo changed >> old.md && mkdir sub && echo x > sub/x
        chmod 4755 new.md; ln -s /etc/passwd link; cat link > /dev/null";
    home.tenant("acme", &script_on(&data, script, ""));
    let supervisor = home.start_system();
    wait_for(&data.join("done"));
    for made in ["new.md", "old.md", "sub", "sub/x", "link", "done"] {
        assert_eq!(owner(&data.join(made)), PERSON, "{made}");
    }
    assert_eq!(fs::read_to_string(data.join("old.md")).expect("there"), "oldchanged\n");
    assert_eq!(fs::read_to_string(data.join("new.md")).expect("there"), "old");
    let mode = data.join("new.md").metadata().expect("there").permissions().mode();
    assert_eq!(mode & 0o6000, 0, "nobody becomes the person by it");
    assert_eq!(owner(&data), PERSON);
    assert_eq!(owner(data.parent().expect("a home")), PERSON);
    // Outside its sandbox the server's uid reaches nothing of it.
    let [server, ..] = uids(&home, "acme");
    let outside = crate::support::as_user(server, server, || fs::read_dir(&data).map(drop));
    assert_eq!(outside.expect_err("denied").kind(), std::io::ErrorKind::PermissionDenied);
    supervisor.stop();
}

#[test]
fn a_new_directory_in_a_persons_home_is_that_persons() {
    if !root() {
        return;
    }
    let home = Home::system();
    let data = persons_home(&home).join("Customers/New");
    home.tenant("acme", &script_on(&data, "", ""));
    let supervisor = home.start_system();
    wait_for(&data.join("done"));
    for path in [data.parent().expect("above"), &data, &data.join("done")] {
        assert_eq!(owner(path), PERSON, "{}", path.display());
    }
    supervisor.stop();
}

#[test]
fn a_servers_groups_let_it_into_what_people_share() {
    if !root() {
        return;
    }
    let home = Home::system();
    let data = home.path().join("shared");
    make(&data, (0, SHARED), 0o2770);
    write(&data.join("theirs.md"), (PERSON.0, SHARED), 0o660, "");
    home.tenant(
        "acme",
        &script_on(
            &data,
            "echo x >> theirs.md && id -G > groups",
            &format!("groups = [\"{SHARED}\"]"),
        ),
    );
    let supervisor = home.start_system();
    wait_for(&data.join("done"));
    let [server, ..] = uids(&home, "acme");
    assert_eq!(owner(&data.join("done")), (server, SHARED));
    assert_eq!(fs::read_to_string(data.join("theirs.md")).expect("there"), "x\n");
    // In its user namespace it has no name for the group, and has it nevertheless.
    let groups = fs::read_to_string(data.join("groups")).expect("there");
    assert_eq!(groups, format!("{server} 65534\n"));
    supervisor.stop();
}

/// The error of the first call.
fn refusal(home: &Home) -> String {
    let mut session = connect(home, "acme");
    session.open(Era::Legacy);
    let call = json!({"name": "echo", "arguments": {"text": "x"}});
    let error = session.request("tools/call", call)["error"]["message"].to_string();
    session.close();
    error
}

#[test]
fn data_that_is_nobodys_to_lend_is_refused_with_what_to_do() {
    if !root() {
        return;
    }
    let home = Home::system();
    home.tenant("globex", &granted(&puppet_tenant(&[], "")));
    home.tenant("acme", &granted(&puppet_tenant(&[], "")));
    let supervisor = home.start_system();
    let ([server, ..], [other, ..]) = (uids(&home, "acme"), uids(&home, "globex"));
    supervisor.stop();
    make(&home.path().join("roots"), (0, 0), 0o755);
    make(&home.path().join("others"), (other, other), 0o777);
    make(&home.path().join("real"), PERSON, 0o755);
    std::os::unix::fs::symlink("real", home.path().join("link")).expect("a link");
    for (name, wanted) in [
        ("roots", format!("chown -R {server}:{server}")),
        ("others", "another tenant's".to_owned()),
        ("link", "leads through a symbolic link".to_owned()),
    ] {
        home.tenant("acme", &tenant_on(&home.path().join(name), ""));
        let supervisor = home.start_system();
        let error = refusal(&home);
        assert!(error.contains(&wanted), "{name}: {error}");
        supervisor.stop();
        let checked = as_root(&home, &["check", "--system"]);
        assert_eq!(checked.status.code(), Some(78), "{name}");
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(said.contains("tenants.d/acme.toml") && said.contains(&wanted), "{name}: {said}");
    }
    home.tenant("acme", &tenant_on(&home.path().join("real"), "groups = [\"no-such-group\"]"));
    let supervisor = home.start_system();
    let error = refusal(&home);
    assert!(error.contains("no-such-group"), "{error}");
    let forbidden = format!("groups = [\"{other}\"]");
    home.tenant("acme", &tenant_on(&home.path().join("real"), &forbidden));
    assert!(as_root(&home, &["reload", "--system"]).status.success());
    let error = refusal(&home);
    assert!(error.contains(&other.to_string()), "{error}");
    supervisor.stop();
}

#[test]
fn check_says_by_which_way_a_server_comes_to_its_data() {
    if !root() {
        return;
    }
    let home = Home::system();
    let data = persons_home(&home);
    home.tenant("acme", &tenant_on(&data, ""));
    let checked = as_root(&home, &["check", "--system"]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(said.contains("stays uid 100001's") && said.contains("idmapped mount"), "{said}");
    assert!(!home.path().join("state/uids.json").exists(), "a check gives nothing");
}

/// Runs the rest of its words as root of a user namespace below which there is none: so it is where user
/// namespaces are forbidden. What can be lent only by root of the machine cannot be lent there.
const WITHOUT_NAMESPACES: &str = r#"
    me=$$ fifo=$1; shift
    (
        while [ "$(readlink /proc/$me/ns/user)" = "$(readlink /proc/self/ns/user)" ]; do sleep 0.02; done
        echo 0 0 4294967294 > /proc/$me/uid_map && echo 0 0 4294967294 > /proc/$me/gid_map && : > "$fifo"
    ) &
    exec unshare --user --mount sh -c '
        : < "$1"; shift
        exec sh -c "echo 0 > /proc/sys/user/max_user_namespaces; exec \"\$@\"" sh "$@"
    ' sh "$fifo" "$@"
"#;

#[test]
fn where_user_namespaces_are_forbidden_groups_do_what_they_can() {
    if !root() {
        return;
    }
    let home = Home::system();
    let data = persons_home(&home);
    let shared = home.path().join("shared");
    make(&shared, (PERSON.0, SHARED), 0o2770);
    home.tenant("own", &script_tenant("id -u > done", ""));
    let groups = format!("groups = [\"{SHARED}\"]");
    home.tenant("shared", &script_on(&shared, "", &groups));
    home.tenant("acme", &tenant_on(&data, &groups));
    let fifo = home.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("made");
    let fifo = fifo.to_str().expect("UTF-8");
    let supervisor = home.start_system_under(&["sh", "-c", WITHOUT_NAMESPACES, "sh", fifo]);
    for path in [home.data("own").join("done"), shared.join("done")] {
        wait_for(&path);
    }
    let server = |tenant| uids(&home, tenant)[0];
    let text = fs::read_to_string(home.data("own").join("done")).expect("there");
    assert_eq!(text, format!("{}\n", server("own")));
    assert_eq!(owner(&shared.join("done")), (server("shared"), SHARED));
    let of =
        |pid: u32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("it lives");
    let mut inits = family(&supervisor);
    inits.retain(|held| held.name == "tenantd-init");
    assert!(!inits.is_empty(), "servers run");
    for init in inits {
        assert_eq!(of(init.pid, "user"), of(supervisor.pid(), "user"));
        assert_ne!(of(init.pid, "mnt"), of(supervisor.pid(), "mnt"));
    }
    let error = refusal(&home);
    assert!(error.contains("cannot be lent") && error.contains("sandbox.groups"), "{error}");
    supervisor.stop();
}
