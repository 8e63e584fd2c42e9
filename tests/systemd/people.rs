//! People's own supervisors, under the managers that a login starts.

use std::time::{Duration, Instant};

use crate::machine::{Machine, PUPPET};
use crate::service::assert_echoes;
use crate::support::{Era, tenant_with};

/// Where alice's processes are, as systemd groups them.
const ALICE: &str = "/user.slice/user-1000.slice";
/// How long everything may outlive the word that ends it.
const GONE: Duration = Duration::from_secs(5);

/// A machine on which alice has a tenant, and every login brings the sockets.
fn machine() -> Option<Machine> {
    let machine = Machine::boot()?;
    assert_eq!(machine.uid("alice"), "1000");
    // A logout is the end at once, and not ten seconds later.
    machine.file("/etc/systemd/logind.conf.d/test.conf", "[Login]\nUserStopDelaySec=0\n");
    machine.run(&["systemctl", "restart", "systemd-logind.service"]);
    machine.run(&["systemctl", "--global", "enable", "tenantd.socket"]);
    let tenants = "/home/alice/.config/tenantd/tenants.d";
    let environment = "env = { PUPPET_STUBBORN = \"1\" }";
    machine.file(&format!("{tenants}/acme.toml"), &tenant_with(PUPPET.as_ref(), &[], environment));
    machine.run(&["chown", "-R", "alice:alice", "/home/alice/.config"]);
    Some(machine)
}

/// A login of alice's: a session of logind's, which starts her manager.
fn log_in(machine: &Machine) {
    let login =
        ["systemd-run", "--unit=login", "-pUser=alice", "-pPAMName=login", "sleep", "infinity"];
    machine.run(&login);
    let socket = machine.path("/run/user/1000/tenantd/session.sock");
    machine.until("alice's doors are open", || socket.exists());
}

fn log_out(machine: &Machine) {
    machine.run(&["systemctl", "stop", "login.service"]);
}

fn systemctl(machine: &Machine, arguments: &[&str]) -> String {
    machine.run_as("alice", &[&["systemctl", "--user"], arguments].concat()).trim().to_owned()
}

fn show(machine: &Machine, property: &str) -> String {
    systemctl(machine, &["show", "--value", "-p", property, "tenantd.service"])
}

#[test]
fn the_first_client_starts_a_persons_service_and_a_stop_leaves_nothing() {
    let Some(machine) = machine() else { return };
    log_in(&machine);
    assert_eq!(show(&machine, "ActiveState"), "inactive");
    let mut session = machine.connect_as("alice", "acme");
    session.open(Era::Legacy);
    assert_echoes(&mut session, "her own");
    assert_eq!(show(&machine, "SubState"), "running");
    let text = "1 tenants, 1 in use, 1 sessions";
    machine.until(text, || show(&machine, "StatusText") == text);
    let group = show(&machine, "ControlGroup");
    let held = machine.processes(&group);
    assert!(held.len() >= 4, "{}", held.len());

    let since = Instant::now();
    systemctl(&machine, &["stop", "tenantd.service"]);
    assert_eq!(session.wait().code(), Some(69), "{}", session.stderr());
    assert!(since.elapsed() < GONE, "{:?}", since.elapsed());
    assert!(session.stderr().contains("tenantd is stopping"), "{}", session.stderr());
    assert!(held.iter().all(|process| process.ends_within(Duration::ZERO)));
    assert_eq!(show(&machine, "Result"), "success");
}

#[test]
fn a_persons_supervisor_that_dies_or_hangs_is_replaced() {
    let Some(machine) = machine() else { return };
    machine.drop_in("user", "tenantd.service", "[Service]\nWatchdogSec=2s\n");
    log_in(&machine);
    let mut session = machine.connect_as("alice", "acme");
    session.open(Era::Legacy);
    for (restarts, signal) in [("1", "KILL"), ("2", "STOP")] {
        systemctl(&machine, &["kill", "--kill-who=main", "--signal", signal, "tenantd.service"]);
        assert_echoes(&mut session, signal);
        machine.until("another main process runs", || {
            show(&machine, "NRestarts") == restarts && show(&machine, "SubState") == "running"
        });
        assert_echoes(&mut session, "after");
        let mut new = machine.connect_as("alice", "acme");
        new.open(Era::Legacy);
        assert_echoes(&mut new, "new");
    }
}

#[test]
fn a_logout_ends_what_is_a_persons() {
    let Some(machine) = machine() else { return };
    log_in(&machine);
    let mut session = machine.connect_as("alice", "acme");
    session.open(Era::Legacy);
    assert_echoes(&mut session, "logged in");
    let held = machine.processes(ALICE);
    assert!(held.len() >= 4, "{}", held.len());
    let since = Instant::now();
    log_out(&machine);
    assert_eq!(session.wait().code(), Some(69), "{}", session.stderr());
    assert!(session.stderr().contains("tenantd is stopping"), "{}", session.stderr());
    for process in &held {
        let left = GONE.saturating_sub(since.elapsed());
        assert!(process.ends_within(left), "{} ({}) lives", process.pid, process.name);
    }
    machine.until("nothing is left", || machine.processes(ALICE).is_empty());
    machine.until("her runtime directory is gone", || !machine.path("/run/user/1000").exists());
}

#[test]
fn a_logout_of_who_lingers_ends_nothing() {
    let Some(machine) = machine() else { return };
    machine.run(&["loginctl", "enable-linger", "alice"]);
    log_in(&machine);
    let mut session = machine.connect_as("alice", "acme");
    session.open(Era::Legacy);
    let main = show(&machine, "MainPID");
    log_out(&machine);
    let sessions = || machine.run(&["loginctl", "list-sessions", "--no-legend"]);
    machine.until("she is logged out", || sessions().trim().is_empty());
    assert_echoes(&mut session, "lingering");
    assert_eq!(show(&machine, "MainPID"), main);
    assert_eq!(session.close().code(), Some(0));
    let mut new = machine.connect_as("alice", "acme");
    new.open(Era::Legacy);
    assert_echoes(&mut new, "new");
}
