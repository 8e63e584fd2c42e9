//! The supervisor that a person's client starts through the user manager: the installed unit, else a
//! transient one; in no client's process tree and control group, with nothing of its environment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::machine::{Machine, PUPPET};
use crate::service::assert_echoes;
use crate::support::{DEADLINE, Era, Held, Session, tenant_with};

/// The unit of a client's own making.
const TRANSIENT: &str = "tenantd-user.service";
/// The least that a client leaves its servers, and something that must not reach the supervisor.
const BARE: [&str; 4] = ["env", "-i", "PATH=/usr/bin:/bin", "CANARY=of-the-client"];
const CONNECT: [&str; 3] = ["tenantd", "connect", "acme"];

/// A machine on which alice has a tenant and no socket is open.
fn machine(installed: bool) -> Option<Machine> {
    let machine = Machine::boot()?;
    assert_eq!(machine.uid("alice"), "1000");
    let file = "/home/alice/.config/tenantd/tenants.d/acme.toml";
    machine.file(file, &tenant_with(PUPPET.as_ref(), &[], ""));
    machine.run(&["chown", "-R", "alice:alice", "/home/alice/.config"]);
    if !installed {
        for unit in ["tenantd.socket", "tenantd.service"] {
            let unit = format!("/etc/systemd/user/{unit}");
            machine.run(&["umount", &unit]);
            machine.run(&["rm", &unit]);
        }
    }
    Some(machine)
}

/// A login, which starts alice's manager.
fn log_in(machine: &Machine) {
    let login =
        ["systemd-run", "--unit=login", "-pUser=alice", "-pPAMName=login", "sleep", "infinity"];
    machine.run(&login);
    let state = ["systemctl", "--user", "is-system-running"];
    let up =
        || machine.command_as("alice", &state).output().is_ok_and(|said| said.status.success());
    machine.until("alice's manager runs", up);
}

fn connect(machine: &Machine) -> Session {
    Session::spawn_ourselves(machine.command_as("alice", &[&BARE[..], &CONNECT].concat()))
}

fn assert_works(session: &mut Session) {
    session.open(Era::Legacy);
    assert_echoes(session, "well");
}

fn show(machine: &Machine, unit: &str, property: &str) -> String {
    let show = ["systemctl", "--user", "show", "--value", "-p", property, unit];
    machine.run_as("alice", &show).trim().to_owned()
}

/// Alice's supervisors, seen from outside.
fn supervisors(machine: &Machine) -> Vec<Held> {
    let inside = machine.run(&["pgrep", "-u", "alice", "-f", "tenantd serve --user"]);
    let namespace = fs::read_link(machine.path("/proc/1/ns/pid")).expect("a namespace");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let text = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let numbers = text.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let number = numbers.split_whitespace().last().unwrap_or_default();
        let here = fs::read_link(entry.path().join("ns/pid")).is_ok_and(|link| link == namespace);
        if here && inside.lines().any(|pid| pid == number) {
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            found.extend(pid.and_then(Held::of));
        }
    }
    found
}

/// The one supervisor.
fn supervisor(machine: &Machine) -> Held {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut all = supervisors(machine);
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => return one,
            // One that lost the race is on its way out.
            _ => assert!(Instant::now() < deadline, "not one supervisor: {}", machine.journal()),
        }
    }
}

fn link(held: &Held, what: &str) -> PathBuf {
    fs::read_link(format!("/proc/{}/{what}", held.pid)).expect("a link")
}

/// Nothing of the client's, and in the control group of this unit.
fn assert_clean(supervisor: &Held, unit: &str) {
    let environment = fs::read(format!("/proc/{}/environ", supervisor.pid)).expect("environ");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert!(environment.contains("JOURNAL_STREAM") && !environment.contains("CANARY"));
    assert_eq!(link(supervisor, "fd/0"), PathBuf::from("/dev/null"));
    for stream in ["fd/1", "fd/2"] {
        let link = link(supervisor, stream).display().to_string();
        assert!(link.starts_with("socket:"), "{stream}: {link}");
    }
    let place = |what: &str| {
        let meta = fs::metadata(format!("/proc/{}/{what}", supervisor.pid)).expect("a place");
        (meta.dev(), meta.ino())
    };
    assert_eq!(place("cwd"), place("root"), "{:?}", link(supervisor, "cwd"));
    let group = fs::read_to_string(format!("/proc/{}/cgroup", supervisor.pid)).expect("cgroup");
    assert!(group.contains(unit), "{group}");
}

#[test]
fn a_client_starts_the_installed_unit() {
    let Some(machine) = machine(true) else { return };
    log_in(&machine);
    assert_eq!(show(&machine, "tenantd.socket", "ActiveState"), "inactive");
    let mut session = connect(&machine);
    assert_works(&mut session);
    assert_eq!(show(&machine, "tenantd.socket", "ActiveState"), "active");
    assert_eq!(show(&machine, "tenantd.service", "SubState"), "running");
    let supervisor = supervisor(&machine);
    assert_clean(&supervisor, "/tenantd.service");
    assert_works(&mut connect(&machine));
    assert!(!supervisor.ends_within(Duration::ZERO));
}

#[test]
fn without_a_unit_a_client_makes_one_and_its_log_is_in_the_journal() {
    let Some(machine) = machine(false) else { return };
    log_in(&machine);
    let mut session = connect(&machine);
    assert_works(&mut session);
    assert_eq!(show(&machine, TRANSIENT, "SubState"), "running");
    for (property, value) in [
        ("Type", "notify"),
        ("KillMode", "process"),
        ("OOMPolicy", "continue"),
        ("Delegate", "yes"),
        ("WatchdogUSec", "30s"),
    ] {
        assert_eq!(show(&machine, TRANSIENT, property), value, "{property}");
    }
    let first = supervisor(&machine);
    assert_clean(&first, TRANSIENT);
    let unit = format!("_SYSTEMD_USER_UNIT={TRANSIENT}");
    let said = || machine.run(&["journalctl", "--no-pager", "-o", "cat", &unit]);
    machine.until("its log is in the journal", || said().contains("tenantd serves"));
    assert_works(&mut connect(&machine));
    assert_eq!(supervisor(&machine).pid, first.pid);
    // The unit goes with it, so that the next client can make another.
    session.close();
    machine.run_as("alice", &["tenantd", "stop"]);
    assert!(first.ends_within(DEADLINE));
    assert_works(&mut connect(&machine));
    assert_eq!(show(&machine, TRANSIENT, "SubState"), "running");
}

#[test]
fn ten_clients_at_once_make_one_unit_and_all_get_a_session() {
    let Some(machine) = machine(false) else { return };
    log_in(&machine);
    let mut sessions: Vec<_> = (0..10).map(|_| connect(&machine)).collect();
    sessions.iter_mut().for_each(assert_works);
    assert_clean(&supervisor(&machine), TRANSIENT);
    for session in sessions {
        assert_eq!(session.close().code(), Some(0));
    }
}

#[test]
fn the_supervisor_survives_the_kill_of_its_client_s_control_group() {
    let Some(machine) = machine(false) else { return };
    log_in(&machine);
    // As a desktop starts an application: in a control group of its own, which ends whole.
    let client = ["systemd-run", "--user", "--quiet", "--pipe", "--unit=client", "--", "sh", "-c"];
    let script = "tenantd connect acme; true";
    let command = machine.command_as("alice", &[&client[..], &[script]].concat());
    let mut doomed = Session::spawn_ourselves(command);
    assert_works(&mut doomed);
    let first = supervisor(&machine);
    let group = machine.processes(&show(&machine, "client.service", "ControlGroup"));
    assert!(group.len() >= 2, "no tree: {}", group.len());
    machine.run_as("alice", &["systemctl", "--user", "kill", "--signal=KILL", "client.service"]);
    assert!(group.iter().all(|held| held.ends_within(DEADLINE)), "the client lives");
    assert!(!first.ends_within(Duration::from_millis(200)), "{}", machine.journal());
    assert_works(&mut connect(&machine));
    assert_eq!(supervisor(&machine).pid, first.pid);
}

#[test]
fn a_user_manager_that_hangs_is_done_without_in_bounded_time() {
    let Some(machine) = machine(false) else { return };
    log_in(&machine);
    let manager =
        machine.run(&["systemctl", "show", "--value", "-p", "MainPID", "user@1000.service"]);
    machine.run(&["kill", "-STOP", manager.trim()]);
    let since = Instant::now();
    let mut session = connect(&machine);
    assert_works(&mut session);
    assert!(since.elapsed() < Duration::from_secs(9), "{:?}", since.elapsed());
    let first = supervisor(&machine);
    let environment = fs::read(format!("/proc/{}/environ", first.pid)).expect("environ");
    assert_eq!(String::from_utf8_lossy(&environment), "PATH=/usr/local/bin:/usr/bin:/bin\0");
    session.close();
    // It goes on when the manager does.
    machine.run(&["kill", "-CONT", manager.trim()]);
    assert_works(&mut connect(&machine));
    assert_eq!(supervisor(&machine).pid, first.pid);
}

/// A supervisor that a client started before any login holds the lock when the login brings the sockets.
#[test]
fn a_supervisor_from_before_the_login_makes_room_for_the_unit() {
    let Some(machine) = machine(true) else { return };
    machine.run(&["systemctl", "--global", "enable", "tenantd.socket"]);
    let mut session = connect(&machine);
    assert_works(&mut session);
    let first = supervisor(&machine);
    assert!(machine.path("/tmp/tenantd-1000/session.sock").exists());
    log_in(&machine);
    let socket = machine.path("/run/user/1000/tenantd/session.sock");
    machine.until("the login brings the sockets", || socket.exists());
    assert_echoes(&mut session, "it lives on");
    session.close();
    let mut next = connect(&machine);
    assert_works(&mut next);
    assert!(first.ends_within(DEADLINE), "both serve");
    assert_clean(&supervisor(&machine), "/tenantd.service");
}
