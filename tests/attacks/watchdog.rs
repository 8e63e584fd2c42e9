//! The watchdog of systemd is fed from the loop itself: throughout an attack, and not while it hangs.

use nix::sys::ptrace;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::*;
use crate::support::{Weapon, as_test_user, threads, wait_until};

/// WATCHDOG_USEC: what systemd would allow between two signs of life.
const ALLOWED: Duration = Duration::from_secs(2);
const ENVIRONMENT: [&str; 2] = ["env", "WATCHDOG_USEC=2000000"];

impl Arena<'_> {
    /// Waits for a sign of life.
    #[track_caller]
    fn assert_fed(&self) {
        let until = Instant::now() + ALLOWED;
        while let Some(word) = self.supervisor.next_word(until - Instant::now().min(until)) {
            if word.lines().any(|line| line == "WATCHDOG=1") {
                return;
            }
        }
        panic!("no sign of life within {ALLOWED:?}: systemd would kill it");
    }

    /// Takes what was said, then fails if there is a sign of life all the same.
    #[track_caller]
    fn assert_not_fed(&self) {
        while self.supervisor.next_word(Duration::ZERO).is_some() {}
        let word = self.supervisor.next_word(ALLOWED);
        assert!(word.is_none(), "it hangs and says {word:?}");
    }
}

#[test]
fn the_watchdog_is_fed_throughout_an_attack() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &ENVIRONMENT);
    let weapons: Vec<_> = (0..SEATS).map(|_| Weapon::new()).collect();
    let pulse = arena.pulse();
    let _thrown: Vec<_> = arena.surprised(&pulse, || {
        arena.as_attacker(|| {
            let throw = |weapon: Weapon| {
                let connection = knock(&arena.session_door());
                send_with(&connection, OPEN, &[weapon.as_fd()], MsgFlags::empty()).expect("sent");
                (connection, weapon.thrown(true))
            };
            weapons.into_iter().map(throw).collect()
        })
    });
    wait_until("the weapons hang", || threads(arena.supervisor.pid(), "door") == SEATS);
    let _silent = arena.silent(500);
    for _ in 0..4 {
        arena.assert_fed();
    }
    pulse.stop("an attack under a watchdog");
    arena.supervisor.stop();
}

/// A process that is stopped whole.
#[test]
fn a_supervisor_that_is_stopped_does_not_feed_the_watchdog() {
    let home = Home::new();
    let mut command = std::process::Command::new(tenantd());
    command.args(["serve", "--user"]).current_dir("/");
    command.env("TENANTD_HOME", home.path()).env("WATCHDOG_USEC", "2000000");
    as_test_user(&mut command).stdin(std::process::Stdio::null());
    let supervisor = home.launch(command);
    let arena = Arena { home: &home, attacker: 0, supervisor };
    arena.assert_fed();
    while_stopped(arena.supervisor.pid(), || arena.assert_not_fed());
    arena.assert_fed();
    arena.supervisor.stop();
}

/// Only the thread of the loop is stopped; those of the doors live and would feed it, were it theirs.
#[test]
fn a_loop_that_hangs_does_not_feed_the_watchdog() {
    let Some(attacker) = attacker() else { return };
    let home = home(attacker);
    let arena = Arena::new(&home, attacker, &ENVIRONMENT);
    arena.assert_fed();
    let thread = Pid::from_raw(i32::try_from(arena.supervisor.pid()).expect("a pid"));
    ptrace::seize(thread, ptrace::Options::empty()).expect("root may");
    ptrace::interrupt(thread).expect("stopped");
    waitid(Id::Pid(thread), WaitPidFlag::WSTOPPED | WaitPidFlag::__WALL).expect("it is stopped");
    let asks = arena.throw(br#"{"do":"ask","target":"acme"}"#, &[]);
    arena.assert_not_fed();
    assert_eq!(threads(arena.supervisor.pid(), "door"), 1, "the doors live");
    ptrace::detach(thread, None).expect("it goes on");
    assert_eq!(crate::support::door_answer(&asks).expect("an answer")["is"], "known");
    arena.assert_fed();
    arena.supervisor.stop();
}
