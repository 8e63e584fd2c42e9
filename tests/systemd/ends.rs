//! How the system's service ends: everything that it started ends with it, and every session hears why.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::machine::Machine;
use crate::service::{assert_echoes, machine, open_tenant};
use crate::support::{Era, Held, Session};

/// How long everything may outlive the word that ends it.
const GONE: Duration = Duration::from_secs(5);
/// What a session exits with whose supervisor stops.
const UNAVAILABLE: i32 = 69;

/// A machine with a tenant that ends when it is told to, and one whose servers never do: deaf to the end of
/// their input and to SIGTERM, with a grandchild in a session of its own. One session of each, with a call
/// in flight.
fn busy() -> Option<(Machine, [Session; 2], Vec<Held>)> {
    let machine = machine(&["acme"])?;
    machine.tenant("stubborn", &open_tenant("PUPPET_STUBBORN = \"1\""));
    let sessions = ["acme", "stubborn"].map(|tenant| {
        let mut session = machine.connect_as("alice", tenant);
        session.open(Era::Legacy);
        assert_echoes(&mut session, tenant);
        session
    });
    let [mut good, mut stubborn] = sessions;
    stubborn.call("grandchild", json!({}));
    good.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    stubborn.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    // Answered in order: both calls are with their servers by then.
    assert_echoes(&mut good, "in flight");
    assert_echoes(&mut stubborn, "in flight");
    let held = machine.service();
    // Supervisor, two muxes, two keepers, two servers, a grandchild.
    assert!(held.len() >= 8, "{}", held.len());
    Some((machine, [good, stubborn], held))
}

fn assert_all_ended(sessions: [Session; 2], held: &[Held], since: Instant) {
    for mut session in sessions {
        assert_eq!(session.wait().code(), Some(UNAVAILABLE), "{}", session.stderr());
        assert!(session.stderr().contains("tenantd is stopping"), "{}", session.stderr());
    }
    for process in held {
        let left = GONE.saturating_sub(since.elapsed());
        assert!(process.ends_within(left), "{} ({}) lives", process.pid, process.name);
    }
}

#[test]
fn a_stop_ends_every_session_with_a_reason_and_leaves_nothing() {
    let Some((machine, sessions, held)) = busy() else { return };
    let since = Instant::now();
    machine.run(&["systemctl", "stop", "tenantd.service"]);
    assert!(since.elapsed() < GONE, "{:?}", since.elapsed());
    assert_all_ended(sessions, &held, since);
    assert_eq!(machine.service().len(), 0);
    assert_eq!(machine.show("tenantd.service", "Result"), "success");
}

#[test]
fn a_restart_ends_every_session_with_a_reason_and_serves_new_ones() {
    let Some((machine, sessions, held)) = busy() else { return };
    let since = Instant::now();
    machine.run(&["systemctl", "restart", "tenantd.service"]);
    assert_all_ended(sessions, &held, since);
    assert_eq!(machine.service().len(), 1, "a new supervisor, and nothing else");
    let mut session = machine.connect_as("alice", "acme");
    session.open(Era::Legacy);
    assert_echoes(&mut session, "new");
    assert_eq!(session.close().code(), Some(0));
}

#[test]
fn a_stop_of_a_supervisor_that_hangs_leaves_nothing_either() {
    // As one that hangs, it does not heed the word, and so tells nobody to end.
    stops_without_a_word("SIGWINCH", "timeout");
}

#[test]
fn a_stop_of_a_supervisor_that_dies_of_it_leaves_nothing_either() {
    stops_without_a_word("SIGKILL", "signal");
}

/// Stops a supervisor by another signal than SIGTERM.
fn stops_without_a_word(signal: &str, result: &str) {
    let Some((machine, sessions, held)) = busy() else { return };
    let lines = format!("[Service]\nKillSignal={signal}\nTimeoutStopSec=2s\n");
    machine.drop_in("system", "tenantd.service", &lines);
    machine.run(&["systemctl", "stop", "tenantd.service"]);
    assert_eq!(machine.show("tenantd.service", "ActiveState"), "failed");
    assert_eq!(machine.show("tenantd.service", "Result"), result);
    for process in &held {
        assert!(
            process.ends_within(Duration::from_secs(1)),
            "{} ({}) lives",
            process.pid,
            process.name
        );
    }
    for mut session in sessions {
        assert_eq!(session.wait().code(), Some(UNAVAILABLE), "{}", session.stderr());
    }
    // The doors are still open.
    let mut session = machine.connect_as("alice", "acme");
    session.open(Era::Legacy);
    assert_echoes(&mut session, "served again");
}
