//! Data that belongs to a person, and groups that people share.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::support::{Era, tenant_with};

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

/// A documents tenant on this directory, with these lines in `[sandbox]`.
fn tenant_on(data: &Path, sandbox: &str) -> String {
    let server = tenant_with(tenantd(), &["builtin", "documents"], "");
    granted(&format!("data = {data:?}\n{server}{sandbox}\n"))
}

fn save(home: &Home, name: &str) {
    let mut session = connect(home, "acme");
    session.open(Era::Modern);
    session.call("save_document", json!({"name": name, "text": "new"}));
    assert_eq!(session.close().code(), Some(0));
}

#[test]
fn a_persons_data_stays_theirs_and_so_does_what_the_server_writes() {
    if !root() {
        return;
    }
    let home = Home::system();
    let data = persons_home(&home);
    home.tenant("acme", &tenant_on(&data, ""));
    let supervisor = home.start_system();
    let mut session = connect(&home, "acme");
    session.open(Era::Modern);
    let old = session.call("get_document", json!({"name": "old.md"}));
    assert_eq!(old["structuredContent"]["text"], "old", "{old}");
    session.call("save_document", json!({"name": "new.md", "text": "new"}));
    session.call("save_document", json!({"name": "old.md", "text": "changed"}));
    session.close();
    for file in ["new.md", "old.md"] {
        assert_eq!(owner(&data.join(file)), PERSON, "{file}");
    }
    assert_eq!(fs::read_to_string(data.join("old.md")).expect("there"), "changed");
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
    home.tenant("acme", &tenant_on(&data, ""));
    let supervisor = home.start_system();
    save(&home, "first.md");
    for path in [data.parent().expect("above"), &data, &data.join("first.md")] {
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
    home.tenant("acme", &tenant_on(&data, &format!("groups = [\"{SHARED}\"]")));
    let supervisor = home.start_system();
    save(&home, "shared.md");
    let [server, ..] = uids(&home, "acme");
    assert_eq!(owner(&data.join("shared.md")), (server, SHARED));
    supervisor.stop();
}

/// The error of the first call.
fn refusal(home: &Home) -> String {
    let mut session = connect(home, "acme");
    session.open(Era::Modern);
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
    home.tenant("globex", &granted(&documents_tenant()));
    home.tenant("acme", &granted(&documents_tenant()));
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
