//! Servers on a host where this user's programs make no user namespace, as AppArmor has it on Ubuntu, and
//! bubblewrap does: it makes them for tenantd, and every other layer is the same as everywhere.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use support::{
    Era, Home, Session, Supervisor, as_test_user, child, descendants, documents_tenant, puppet,
    said, tenantd, test_user,
};
use tempfile::{NamedTempFile, TempPath};

const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

fn namespace(pid: u32, kind: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("it lives")
}

/// A field of /proc/PID/status.
fn field(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name}: {status}")).trim().to_owned()
}

fn open(supervisor: &Supervisor<'_>, tenant: &str) -> Session {
    let mut session = supervisor.connect(tenant);
    session.open(Era::Legacy);
    session
}

#[test]
fn servers_run_confined_in_user_namespaces_that_bubblewrap_makes() {
    let home = Home::with_bubblewrap();
    home.tenant("acme", &documents_tenant()).tenant("globex", &documents_tenant());
    let supervisor = home.start();
    let mut sessions = ["acme", "globex"].map(|tenant| open(&supervisor, tenant));
    for session in &mut sessions {
        let saved = session.call("save_document", json!({"name": "a", "text": "b"}));
        assert!(said(&saved).contains("byte"), "{saved}");
    }
    let status = home.status();
    assert_eq!(status["supervisor"]["backend"], "user namespace by bubblewrap");
    let missing = status["supervisor"]["not_isolated"].as_array().expect("layers");
    assert!(missing.iter().all(|it| it.as_str().is_some_and(|it| it.starts_with("cgroup:"))));
    let servers = ["acme", "globex"].map(|tenant| home.server(tenant).pid);
    for kind in NAMESPACES {
        let own: BTreeSet<_> =
            servers.iter().chain([&supervisor.pid()]).map(|pid| namespace(*pid, kind)).collect();
        assert_eq!(own.len(), 3, "{kind}: shared");
    }
    for pid in servers {
        for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(pid, capabilities), "0000000000000000", "{capabilities}");
        }
        assert_eq!((field(pid, "NoNewPrivs"), field(pid, "Seccomp")), ("1".into(), "2".into()));
        assert_eq!(field(pid, "NSpid").split_whitespace().last(), Some("2"));
        let map = fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("it lives");
        let uid = field(pid, "Uid").split_whitespace().next().map(str::to_owned).expect("a uid");
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), [&uid, &uid, "1"]);
        assert!(!PathBuf::from(format!("/proc/{pid}/root/etc/shadow")).exists());
    }
    let names: Vec<_> = supervisor.descendants().into_iter().map(|held| held.name).collect();
    assert!(!names.iter().any(|name| name == "bwrap"), "{names:?}");
    drop(sessions);
    supervisor.stop();
}

#[test]
fn the_processes_of_a_server_are_counted_in_its_namespace() {
    let home = Home::with_bubblewrap();
    let puppet = puppet();
    let rest =
        "[sandbox]\nrequire = [\"namespaces\", \"landlock\", \"seccomp\"]\n[quota]\nprocesses = 12";
    home.tenant("acme", &format!("[server]\ncommand = {puppet:?}\n{rest}\n"));
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    let forks =
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do sleep 100 >/dev/null 2>&1 & echo $i; done";
    let program = json!({"program": ["/bin/sh", "-c", forks], "input": ""});
    let done: Value = serde_json::from_str(said(&session.call("run", program))).expect("JSON");
    let started = done["stdout"].as_str().expect("a text").lines().count();
    assert!((1..12).contains(&started), "{done}");
    drop(session);
    supervisor.stop();
}

#[test]
fn the_doctor_says_who_makes_the_namespaces_and_that_strict_isolation_works() {
    let home = Home::with_bubblewrap();
    let mut doctor = Command::new(child("only_bubblewrap"));
    doctor.arg(tenantd()).args(["doctor", "--user"]).env("TENANTD_HOME", home.path());
    let output = as_test_user(&mut doctor).current_dir("/").output().expect("started");
    let page = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{page}");
    for line in ["user namespace by bubblewrap", "bubblewrap makes them for tenantd"] {
        assert!(page.contains(line), "{line}: {page}");
    }
}

/// Puts another file in the place of bubblewrap, for the rest of its words alone.
const INSTEAD: &str = "mount --bind \"$1\" /usr/bin/bwrap && shift && exec \"$@\"";

/// A supervisor whose bubblewrap is this file.
fn start_with<'a>(home: &'a Home, bubblewrap: &str) -> Option<Supervisor<'a>> {
    let Some(user) = test_user() else {
        assert!(std::env::var_os("CI").is_none(), "in CI nothing is skipped");
        eprintln!("SKIPPED: only root can put something in the place of bubblewrap");
        return None;
    };
    let (uid, gid) = (user.uid.to_string(), user.gid.to_string());
    let wrapper = [
        ["unshare", "--mount", "sh", "-c"].as_slice(),
        &[INSTEAD, "sh", bubblewrap, "setpriv", "--clear-groups"],
        &["--reuid", &uid, "--regid", &gid, "--"],
    ];
    Some(home.launch(home.user_command(&wrapper.concat())))
}

#[test]
fn a_bubblewrap_that_is_not_roots_alone_or_makes_something_else_starts_no_server() {
    let home = Home::with_bubblewrap();
    home.tenant("acme", &documents_tenant());
    let theirs = home.file("theirs", "#!/bin/sh\nexec /usr/bin/true\n");
    let broken = script("echo 'no: \\033[31mnot here' >&2; exit 1");
    let silent = script("exit 0");
    let real = NamedTempFile::new().expect("a file").into_temp_path();
    fs::copy("/usr/bin/bwrap", &real).expect("bubblewrap is installed");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o755)).expect("chmod");
    let other = script(&format!("exec {} --uid 4242 --gid 4242 \"$@\"", real.display()));
    let none = script("while [ \"$1\" != -- ]; do shift; done; shift; exec \"$@\"");
    for (bubblewrap, why) in [
        (theirs.as_path(), "can be changed by others than root"),
        (&*broken, "bubblewrap made no user namespace (exit status: 1): no: "),
        (&*silent, "bubblewrap made no user namespace (exit status: 0): it said nothing"),
        (&*other, "the user namespace of bubblewrap maps other users"),
        (&*none, "the user namespace of bubblewrap cannot be entered: EINVAL"),
    ] {
        let path = bubblewrap.to_str().expect("text");
        let Some(supervisor) = start_with(&home, path) else { return };
        let status = home.status();
        assert_eq!(status["supervisor"]["backend"], "no namespaces");
        let missing = status["supervisor"]["not_isolated"].to_string();
        assert!(missing.contains(why) && !missing.contains('\u{1b}'), "{missing}");
        let refused = home.run(&["call", "acme", "echo", "{\"text\":\"a\"}"]);
        let error = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && error.contains("namespaces"), "{error}");
        assert!(!descendants(supervisor.pid()).iter().any(|held| held.name == "tenantd-init"));
        supervisor.stop();
    }
}

/// A program of root's, that nobody has open for writing.
fn script(line: &str) -> TempPath {
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), format!("#!/bin/sh\n{line}\n")).expect("written");
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    file.into_temp_path()
}
