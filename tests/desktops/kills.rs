//! Clients that end, and take everything with them that they can find: the process group, the session, every
//! descendant.

use std::fs;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{DEADLINE, Held, Person, Session, descendants, tenantd};
use crate::{assert_echoes, assert_works, person};

/// Numbers of /proc/PID/stat (proc(5)) after the name: state is the first.
fn stat(pid: u32, field: usize) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(')')?.1.split_whitespace().nth(field)?.parse().ok()
}

/// Every process whose number in this field is `value`.
fn all_with(person: &Person, field: usize, value: u32) -> Vec<Held> {
    let mut all = person.processes();
    all.retain(|held| stat(held.pid, field) == Some(value));
    all
}

/// A client is a shell that waits for its server, which leads a session of its own.
fn client(person: &Person) -> Session {
    let mut command = person.program("/usr/bin/setsid");
    command.args(["sh", "-c", "\"$@\"; true", "client"]).arg(tenantd());
    command.args(["connect", "acme"]);
    person.spawn(command)
}

fn survives(kill_tree: impl Fn(&Person, &Session)) {
    let Some(person) = person() else { return };
    person.log_in();
    let mut doomed = client(&person);
    assert_works(&mut doomed);
    let supervisor = person.supervisor();
    let mut other = person.connect("acme");
    assert_works(&mut other);
    kill_tree(&person, &doomed);
    doomed.wait();
    assert_eq!(person.supervisor().pid, supervisor.pid, "it did not survive its first client");
    assert_echoes(&mut other);
    assert_works(&mut person.connect("acme"));
}

#[test]
fn the_supervisor_survives_the_kill_of_its_client_s_process_group() {
    survives(|person, client| {
        let group = stat(client.pid(), 2).expect("a group");
        let pid = Pid::from_raw(-i32::try_from(group).expect("a pid"));
        assert!(all_with(person, 2, group).len() >= 2, "no tree");
        kill(pid, Signal::SIGKILL).expect("killed");
    });
}

#[test]
fn the_supervisor_survives_the_kill_of_its_client_s_session() {
    survives(|person, client| {
        let session = stat(client.pid(), 3).expect("a session");
        let all = all_with(person, 3, session);
        assert!(all.len() >= 2, "no tree");
        all.iter().for_each(Held::kill);
    });
}

#[test]
fn the_supervisor_survives_the_kill_of_every_descendant_of_its_client() {
    survives(|_, client| {
        let all = descendants(client.pid());
        assert!(!all.is_empty(), "no tree");
        all.iter().for_each(Held::kill);
        Held::of(client.pid()).expect("it runs").kill();
    });
}

/// While a supervisor starts it is a descendant of the client that started it. Another client that counted
/// on it starts its own.
#[test]
fn a_client_that_is_killed_while_it_starts_the_supervisor_takes_no_other_client_along() {
    for _ in 0..4 {
        let Some(person) = person() else { return };
        person.log_in();
        let doomed = client(&person);
        let mut other = person.connect("acme");
        let until = Instant::now() + DEADLINE;
        while person.supervisors().is_empty() {
            assert!(Instant::now() < until, "nobody starts one");
        }
        descendants(doomed.pid()).iter().for_each(Held::kill);
        doomed.kill();
        assert_works(&mut other);
        assert_works(&mut person.connect("acme"));
    }
}
