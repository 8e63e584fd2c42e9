//! The system's service: started by its sockets, replaced when it hangs or dies, reloaded.

use serde_json::{Value, json};

use crate::journal::text;
use crate::machine::{Machine, PUPPET};
use crate::support::{Era, Session, tenant_with};

/// A tenant on the test server, open to all people of the machine.
pub(crate) fn open_tenant(environment: &str) -> String {
    let server = format!("env = {{ {environment} }}");
    let server = tenant_with(PUPPET.as_ref(), &[], &server);
    format!("{server}[[grant]]\nusers = [\"root\", \"alice\"]\n")
}

pub(crate) fn machine(tenants: &[&str]) -> Option<Machine> {
    let machine = Machine::boot()?;
    for id in tenants {
        machine.tenant(id, &open_tenant(""));
    }
    machine.run(&["systemctl", "start", "tenantd.socket"]);
    Some(machine)
}

pub(crate) fn assert_echoes(session: &mut Session, text: &str) {
    assert_eq!(session.call("echo", json!({ "text": text }))["content"][0]["text"], text);
}

/// Waits for the end of a call that was held, as another session releases it.
fn release(by: &mut Session, held: &mut Session, call: &Value, text: &str) {
    by.call("release", json!({"key": "k", "text": text}));
    assert_eq!(held.answer(call)["result"]["content"][0]["text"], text);
}

/// The pids of the processes of this role in the service, as ps shows them.
fn pids(machine: &Machine, role: &str) -> Vec<u32> {
    let of_role = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == role.as_bytes())
    };
    machine.service().iter().map(|held| held.pid).filter(of_role).collect()
}

#[test]
fn the_first_client_starts_the_service_by_either_door() {
    let Some(machine) = machine(&["acme"]) else { return };
    assert_eq!(machine.show("tenantd.service", "ActiveState"), "inactive");
    let status = machine.run_as("alice", &["tenantd", "status"]);
    assert!(status.contains("acme"), "{status}");
    assert_eq!(machine.show("tenantd.service", "ActiveState"), "active");
    machine.run(&["systemctl", "stop", "tenantd.service"]);
    assert_eq!(machine.show("tenantd.service", "Result"), "success");

    let mut session = machine.connect_as("alice", "acme");
    session.open(Era::Legacy);
    assert_echoes(&mut session, "by the door");
    assert_eq!(machine.show("tenantd.service", "SubState"), "running");
    assert_eq!(machine.show("tenantd.service", "Type"), "notify");
    let text = "1 tenants, 1 in use, 1 sessions";
    machine.until(text, || machine.show("tenantd.service", "StatusText") == text);
    let shown = machine.run(&["systemctl", "status", "tenantd.service"]);
    assert!(shown.contains(&format!("Status: \"{text}\"")), "{shown}");
    assert_eq!(session.close().code(), Some(0));
}

#[test]
fn a_supervisor_that_hangs_is_replaced_and_its_sessions_do_not_notice() {
    let Some(machine) = machine(&["acme"]) else { return };
    machine.drop_in("system", "tenantd.service", "[Service]\nWatchdogSec=2s\n");
    is_replaced(&machine, "SIGSTOP", "watchdog");
}

#[test]
fn a_supervisor_that_is_killed_is_replaced_and_its_sessions_do_not_notice() {
    let Some(machine) = machine(&["acme"]) else { return };
    is_replaced(&machine, "SIGKILL", "signal");
}

/// Sends the main process a signal; a session and its call in flight must outlive the change.
fn is_replaced(machine: &Machine, signal: &str, result: &str) {
    let (mut old, mut other) = (machine.connect("acme"), machine.connect_as("alice", "acme"));
    old.open(Era::Legacy);
    other.open(Era::Legacy);
    let held = old.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    assert_echoes(&mut other, "before");
    let (main, muxes) = (machine.show("tenantd.service", "MainPID"), pids(machine, "--role=mux"));
    assert_eq!(muxes.len(), 1);
    let server = machine.service().into_iter().find(|held| held.name == "puppet").expect("runs");
    let temporary = format!("/proc/{}/root/tmp/kept", server.pid);
    // In there the test's own user is nobody.
    other.call("run", json!({"program": ["/usr/bin/touch", "/tmp/kept"], "input": ""}));
    assert!(std::fs::exists(&temporary).expect("a directory"), "it was not made");

    machine.run(&["systemctl", "kill", "--kill-who=main", "--signal", signal, "tenantd.service"]);
    // Also while nobody supervises.
    assert_echoes(&mut other, "meanwhile");
    machine.until("another main process runs", || {
        machine.show("tenantd.service", "NRestarts") == "1"
            && machine.show("tenantd.service", "SubState") == "running"
    });
    assert_ne!(machine.show("tenantd.service", "MainPID"), main);
    let journal = machine.run(&["journalctl", "-u", "tenantd.service"]);
    assert!(journal.contains(&format!("Failed with result '{result}'")), "{journal}");

    assert_echoes(&mut other, "after");
    assert!(std::fs::exists(&temporary).expect("a directory"), "the server's files are gone");
    let mut new = machine.connect_as("alice", "acme");
    new.open(Era::Legacy);
    assert_echoes(&mut new, "new");
    release(&mut other, &mut old, &held, "at last");
    let now = pids(machine, "--role=mux");
    // The new supervisor took over what the old one left, for its new sessions as well.
    assert_eq!(now, muxes);
    for session in [old, other, new] {
        assert_eq!(session.close().code(), Some(0));
    }
}

#[test]
fn a_reload_applies_a_changed_tenant() {
    let Some(machine) = machine(&["acme"]) else { return };
    // Without a watch on the files, so that it is the reload that does it.
    let deaf = "[Service]\nSystemCallFilter=~inotify_init inotify_init1\n";
    machine.drop_in("system", "tenantd.service", deaf);
    let mut session = machine.connect_as("alice", "acme");
    session.open(Era::Legacy);
    assert_echoes(&mut session, "granted");
    let only_root = open_tenant("").replace(", \"alice\"", "");
    machine.tenant("acme", &only_root);
    machine.run(&["systemctl", "reload", "tenantd.service"]);
    assert_eq!(session.wait().code(), Some(77), "{}", session.stderr());
    assert!(session.stderr().contains("grant"), "{}", session.stderr());
    assert_eq!(machine.show("tenantd.service", "NRestarts"), "0");
}

#[test]
fn a_broken_tenant_beside_a_good_one_is_named_and_disturbs_nobody() {
    let Some(machine) = machine(&["good"]) else { return };
    machine.tenant("broken", "[server]\ncommand = \"/nonexistent\"\n");
    machine.tenant("hopeless", "=\n");
    let mut session = machine.connect_as("alice", "good");
    session.open(Era::Legacy);
    assert_echoes(&mut session, "served");
    assert_eq!(machine.show("tenantd.service", "SubState"), "running");
    let status = machine.run(&["tenantd", "status"]);
    for tenant in ["broken", "hopeless"] {
        let place = format!("tenants.d/{tenant}.toml:");
        assert!(status.contains(&place), "{status}");
        let told = machine.lines(&format!("TENANT={tenant}"));
        assert!(told.iter().any(|line| text(line, "MESSAGE").contains(&place)), "{told:?}");
    }
}

#[test]
fn the_unit_gives_its_control_group_into_our_hands() {
    let Some(machine) = machine(&["acme"]) else { return };
    machine.run(&["tenantd", "status"]);
    for (property, value) in
        [("Delegate", "yes"), ("OOMPolicy", "continue"), ("TasksMax", "infinity")]
    {
        assert_eq!(machine.show("tenantd.service", property), value, "{property}");
    }
    // A leaf for the supervisor, as a daemon with delegated groups must have one: systemd leaves it alone.
    let group = "/sys/fs/cgroup/system.slice/tenantd.service";
    let main = machine.show("tenantd.service", "MainPID");
    let leaf = format!("mkdir {group}/supervisor && echo {main} > {group}/supervisor/cgroup.procs");
    machine.run(&["sh", "-c", &leaf]);
    machine.run(&["systemctl", "daemon-reload"]);
    let mut session = machine.connect("acme");
    session.open(Era::Legacy);
    let ours = machine.processes("/system.slice/tenantd.service/supervisor");
    assert!(ours.iter().any(|held| held.name == "tenantd"));
    drop(session);
    machine.run(&["systemctl", "restart", "tenantd.service"]);
    let mut session = machine.connect("acme");
    session.open(Era::Legacy);
    assert_echoes(&mut session, "after a restart");
}
