//! Thousands of connections of one user, while another opens sessions.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use crate::support::{become_user, open_descriptors, threads, wait_until};

/// Connections of the attacker.
const MANY: usize = 2000;
/// What the supervisor needs for itself, and the sessions of the bystander take for a moment.
const OWN: usize = 64;
/// Threads of the bystander's at a time.
const FEW: usize = 4;
/// Connections of one user at a time at the control door.
const CONTROL_SEATS: usize = 16;

/// The test itself needs a descriptor for each connection.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("raised");
}

/// Ends the flood, also where the test fails.
pub(crate) struct Over<'a>(pub(crate) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Two thousand connections held open, made while the other user opens sessions; `seats` is what the
/// attacker may hold at a time.
fn flood(arena: &Arena<'_>, seats: usize, connect: impl Fn() -> OwnedFd + Sync) {
    raise_descriptor_limit();
    let pid = arena.supervisor.pid();
    let before = open_descriptors(pid);
    let (held, over) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let end = Over(&over);
        scope.spawn(|| {
            become_user(arena.attacker, arena.attacker);
            let all: Vec<_> =
                (0..MANY).map(|_| (connect(), held.fetch_add(1, Ordering::Relaxed))).collect();
            wait_until("the flood is over", || over.load(Ordering::Relaxed));
            drop(all);
        });
        let mut opened = 0;
        while opened < 20 || held.load(Ordering::Relaxed) < MANY as u64 {
            arena.assert_opens(OTHER);
            opened += 1;
            // The bystander's last ones may not have ended quite.
            assert!(threads(pid, "door") <= seats + FEW, "more than its seats");
        }
        // All are still held by the attacker; the supervisor has closed those that it has no room for.
        let most = before + seats + CHAIRS + OWN;
        wait_until("who is turned away is closed", || open_descriptors(pid) <= most);
        drop(end);
    });
}

#[test]
fn two_thousand_silent_connections_at_the_session_door_hold_up_nobody() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &[]);
    let pulse = arena.pulse();
    flood(&arena, SEATS, || knock(&arena.session_door()));
    pulse.stop("2,000 silent connections at the session door");
    arena.assert_serves();
    arena.supervisor.stop();
}

#[test]
fn two_thousand_silent_connections_at_the_control_door_hold_up_nobody() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &[]);
    let pulse = arena.pulse();
    flood(&arena, CONTROL_SEATS, || {
        std::os::unix::net::UnixStream::connect(arena.control_door()).expect("connected").into()
    });
    // As the bystander too, and on a connection of its own.
    let since = Instant::now();
    let mut status = std::process::Command::new(tenantd());
    status.args(["status", "--system", "--json"]).env("TENANTD_HOME", home.path());
    let status = as_user(OTHER, OTHER, || status.output().expect("started"));
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    assert!(since.elapsed() < PROMPT, "{:?}", since.elapsed());
    pulse.stop("2,000 silent connections at the control door");
    arena.assert_serves();
    arena.supervisor.stop();
}

/// Requests without end from eight threads at once, each on a new connection.
#[test]
fn a_user_who_asks_without_end_holds_up_nobody() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    // Sessions are opened here faster than their ends are told.
    let unlimited = "[quota]\nsessions = \"unlimited\"\n";
    let acme = granted(&documents_tenant(), &[attacker, OTHER]);
    home.tenant("acme", &format!("{acme}{unlimited}"));
    let arena = Arena::new(&home, attacker, &[]);
    let pulse = arena.pulse();
    let (over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _over = Over(&over);
        for _ in 0..SEATS {
            scope.spawn(|| {
                become_user(attacker, attacker);
                while !over.load(Ordering::Relaxed) {
                    ask_door(&arena.session_door(), br#"{"do":"ask","target":"acme"}"#, &[]);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        while asked.load(Ordering::Relaxed) < MANY as u64 {
            arena.assert_opens(OTHER);
        }
    });
    pulse.stop("2,000 questions at once");
    arena.assert_serves();
    arena.supervisor.stop();
}
