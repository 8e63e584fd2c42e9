//! No descriptor left: the doors turn connections away, and serve as before when there are some again.

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

use super::flood::Over;
use super::*;
use crate::support::{
    become_user, open_descriptors, readable, wait_for_few_descriptors, wait_until,
};

/// The descriptors of the supervisor: enough to serve, not enough for the chairs of one user.
const FEW: &str = "--nofile=64:64";
const FEW_COUNT: usize = 64;

fn turned_away(arena: &Arena<'_>, door: &str) -> bool {
    let log = std::fs::read_dir(arena.home.path().join("log")).expect("a log").flatten();
    let says = format!("the {door} door turns a connection away");
    log.map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default())
        .any(|text| text.contains(&says))
        || arena.supervisor.log().contains(&says)
}

/// Those who wait hold the descriptors, and their time passes though others keep knocking.
#[test]
fn without_descriptors_the_session_door_turns_away_and_then_serves_as_before() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &["prlimit", FEW]);
    let pid = arena.supervisor.pid();
    let before = open_descriptors(pid);
    let pulse = arena.pulse();
    pulse.feel(1);
    let begun = Instant::now();
    let silent = arena.silent(SEATS + CHAIRS);
    wait_until("it is short", || turned_away(&arena, "session"));
    // Who finds no descriptor is told so, long before the time of those who wait is over.
    wait_until("somebody is answered", || silent.iter().any(|door| readable(door, Instant::now())));
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    pulse.feel(50);
    // Not served while there is no descriptor, and served as soon as there is: the time of the silent ones
    // ends, whoever keeps knocking.
    let since = Instant::now();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            become_user(attacker, attacker);
            while !over.load(Ordering::Relaxed) {
                drop(knock(&arena.session_door()));
            }
        });
        let _over = Over(&over);
        wait_until("it serves again", || {
            let answer = as_user(OTHER, OTHER, || open(&arena.session_door()));
            answer["is"] == "open"
        });
    });
    eprintln!("served again after {:?}", since.elapsed());
    pulse.stop("no descriptor left at the session door");
    drop(silent);
    wait_for_few_descriptors(pid, before);
    arena.assert_serves();
    arena.supervisor.stop();
}

#[test]
fn without_descriptors_the_control_door_turns_away_and_then_serves_as_before() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &["prlimit", FEW]);
    let pid = arena.supervisor.pid();
    let before = open_descriptors(pid);
    let pulse = arena.pulse();
    pulse.feel(1);
    // Those at the session door hold what there is; those at the control door find nothing.
    let silent = arena.silent(FEW_COUNT - before);
    wait_until("it is short", || open_descriptors(pid) >= FEW_COUNT - 1);
    let mut more: Vec<UnixStream> = Vec::new();
    wait_until("it turns away", || {
        more.extend(arena.as_attacker(|| UnixStream::connect(arena.control_door()).ok()));
        turned_away(&arena, "control")
    });
    pulse.feel(50);
    drop((silent, more));
    // The pulse still has its connection, and the supervisor a pidfd of who asks.
    wait_for_few_descriptors(pid, before + 2);
    pulse.stop("no descriptor left at the control door");
    let mut status = std::process::Command::new(tenantd());
    status.args(["status", "--system", "--json"]).env("TENANTD_HOME", home.path());
    let status = as_user(OTHER, OTHER, || status.output().expect("started"));
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    arena.assert_serves();
    arena.supervisor.stop();
}
