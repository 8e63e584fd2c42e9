//! What a live tenant's processes are, as the kernel shows them outside: a layer that is not there shows here
//! even where another one keeps every probe from finding the hole.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use nix::unistd::geteuid;

use super::{run, strict_tenant};
use crate::support::{Era, Held, Home, Session, Supervisor, as_owner, descendants};

fn open(supervisor: &Supervisor<'_>) -> Session {
    let mut session = supervisor.connect("acme");
    session.open(Era::Legacy);
    // Whatever there is to be started runs by now.
    run(&mut session, &["/bin/true"], "");
    session
}

fn named(supervisor: &Supervisor<'_>, name: &str) -> Held {
    let found = descendants(supervisor.pid()).into_iter().find(|held| held.name == name);
    found.unwrap_or_else(|| panic!("no {name}"))
}

/// /proc/PID/status, by key.
fn status(pid: u32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect()
}

#[test]
fn programs_of_the_same_user_read_none_of_our_processes() {
    if geteuid().is_root() && crate::support::test_user().is_none() {
        return eprintln!("SKIPPED: root reads everything (set TENANTD_TEST_USER)");
    }
    let home = Home::new();
    home.tenant("acme", &strict_tenant("network = [\"127.0.0.1:9\"]", ""));
    let supervisor = home.start();
    let session = open(&supervisor);
    let reads = |pid: u32, file: &str| {
        as_owner(|| fs::File::open(format!("/proc/{pid}/{file}"))).map_err(|error| error.kind())
    };
    let ours = ["tenantd-mux", "tenantd-keeper", "tenantd-init", "tenantd-egress"]
        .map(|name| named(&supervisor, name).pid);
    for pid in ours.into_iter().chain([supervisor.pid()]) {
        for file in ["environ", "mem", "maps"] {
            let denied = reads(pid, file).err();
            assert_eq!(denied, Some(ErrorKind::PermissionDenied), "{file} of {:?}", status(pid));
        }
    }
    // An ordinary program is read, so that it is not the way of asking that is refused.
    reads(named(&supervisor, "puppet").pid, "maps").expect("the server's own");
    drop(session);
    supervisor.stop();
}

#[test]
fn what_reads_for_strangers_is_filtered_and_what_only_waits_holds_nothing() {
    let home = Home::new();
    home.tenant("acme", &strict_tenant("network = [\"127.0.0.1:9\"]", ""));
    let supervisor = home.start();
    let session = open(&supervisor);
    for name in ["tenantd-mux", "tenantd-egress", "puppet"] {
        let status = status(named(&supervisor, name).pid);
        assert_eq!((&*status["Seccomp"], &*status["NoNewPrivs"]), ("2", "1"), "{name}");
    }
    for name in ["tenantd-init", "puppet"] {
        let status = status(named(&supervisor, name).pid);
        for key in ["CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd"] {
            assert_eq!(status[key], "0000000000000000", "{key} of {name}");
        }
        assert_eq!(status["NoNewPrivs"], "1", "{name}");
    }
    drop(session);
    supervisor.stop();
}

#[test]
fn nothing_of_the_hosts_tree_is_left_beside_the_servers_own() {
    if !geteuid().is_root() {
        return eprintln!(
            "SKIPPED: only root looks into other mount namespaces (run tests/run as root)"
        );
    }
    let home = Home::new();
    home.tenant("acme", &strict_tenant("", ""));
    let supervisor = home.start();
    let session = open(&supervisor);
    let server = named(&supervisor, "puppet").pid;
    // From the root of the namespace, which need not be that of a process in it.
    let mut look = Command::new("nsenter");
    look.arg(format!("--mount=/proc/{server}/ns/mnt"));
    look.args([
        "/bin/sh",
        "-c",
        "cd /; for name in * .[!.]*; do [ -e \"$name\" ] && echo \"$name\"; done",
    ]);
    let output = look.output().expect("nsenter runs");
    let seen = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    let mut seen: Vec<_> = seen.lines().map(str::to_owned).collect();
    seen.sort();
    let own = fs::read_dir(format!("/proc/{server}/root/")).expect("its root").flatten();
    let mut own: Vec<_> =
        own.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    own.sort();
    assert_eq!(seen, own, "{why}");
    assert!(!own.iter().any(|name| name == "old" || name == "new"), "{own:?}");
    drop(session);
    supervisor.stop();
}

#[test]
fn each_role_of_the_system_is_a_user_of_its_own_and_none_is_root() {
    if crate::support::test_user().is_none() {
        let skipped = geteuid().is_root() && std::env::var_os("CI").is_some();
        assert!(!skipped, "in CI nothing is skipped");
        return eprintln!("SKIPPED: only root can be several users (run tests/run as root)");
    }
    let home = Home::system();
    let grant = "[[grant]]\nusers = [\"root\"]\n";
    home.tenant("acme", &strict_tenant("network = [\"127.0.0.1:9\"]", grant));
    let supervisor = home.start_system();
    let mut command = Command::new(crate::support::tenantd());
    command.args(["connect", "--system", "acme"]).env("TENANTD_HOME", home.path());
    let mut session = Session::spawn_as_is(command);
    session.open(Era::Legacy);
    run(&mut session, &["/bin/true"], "");
    let uids = ["puppet", "tenantd-mux", "tenantd-egress"].map(|name| {
        let status = status(named(&supervisor, name).pid);
        for key in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(status[key], "0000000000000000", "{key} of {name}");
        }
        assert!(status["Groups"].is_empty(), "{name}: {}", status["Groups"]);
        let mut ids = status["Uid"].split_whitespace();
        let uid: u32 = ids.next().expect("a uid").parse().expect("a number");
        assert!(ids.all(|id| id == uid.to_string()), "{name}: {}", status["Uid"]);
        uid
    });
    assert!(uids.iter().all(|uid| (1_900_000_000..=1_900_065_535).contains(uid)), "{uids:?}");
    assert!(uids[0] != uids[1] && uids[1] != uids[2] && uids[0] != uids[2], "{uids:?}");
    drop(session);
    supervisor.stop();
}
