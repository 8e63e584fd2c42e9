//! The supervisor that a client starts without a user manager: one, with nothing of its client in it.

use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::io::{FdFlags, fcntl_setfd};

use crate::support::{DEADLINE, Held, Person};
use crate::{assert_works, person};

fn many_at_once_start_one(count: usize, logged_in: bool) {
    let Some(person) = person() else { return };
    if logged_in {
        person.log_in();
    }
    let mut sessions: Vec<_> = (0..count).map(|_| person.connect("acme")).collect();
    sessions.iter_mut().for_each(assert_works);
    let one = person.supervisor();
    let others = person.supervisors().into_iter().filter(|held| held.pid != one.pid);
    for other in others.collect::<Vec<_>>() {
        assert!(other.ends_within(DEADLINE), "a second supervisor stays");
    }
    for session in sessions {
        assert_eq!(session.close().code(), Some(0));
    }
}

#[test]
fn two_clients_at_once_start_one_supervisor_and_both_get_a_session() {
    many_at_once_start_one(2, true);
}

#[test]
fn ten_clients_at_once_start_one_supervisor_and_all_get_a_session() {
    many_at_once_start_one(10, true);
}

#[test]
fn ten_clients_at_once_start_one_supervisor_without_a_login() {
    many_at_once_start_one(10, false);
}

fn link(held: &Held, what: &str) -> PathBuf {
    fs::read_link(format!("/proc/{}/{what}", held.pid)).unwrap_or_else(|e| panic!("{what}: {e}"))
}

fn start_log(person: &Person) -> PathBuf {
    person.home().join(".local/state/tenantd/start.log")
}

#[test]
fn the_supervisor_has_nothing_of_its_client() {
    let Some(person) = person() else { return };
    person.log_in();
    let mut command = person.command(&["connect", "acme"]);
    command.env("CANARY", "of-the-client").env("LD_LIBRARY_PATH", "/canary").env("HOME", "/canary");
    command.current_dir(person.directory("work"));
    let mut session = person.spawn(command);
    assert_works(&mut session);
    let supervisor = person.supervisor();
    let environment = fs::read(format!("/proc/{}/environ", supervisor.pid)).expect("environ");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    assert_eq!(environment, "PATH=/usr/local/bin:/usr/bin:/bin\0");
    assert_eq!(link(&supervisor, "cwd"), PathBuf::from("/"));
    assert_eq!(link(&supervisor, "fd/0"), PathBuf::from("/dev/null"));
    assert_eq!(link(&supervisor, "fd/1"), PathBuf::from("/dev/null"));
    assert_eq!(link(&supervisor, "fd/2"), start_log(&person));
    let session_of = |pid: u32| nix::unistd::getsid(Some(nix::unistd::Pid::from_raw(pid as i32)));
    assert_ne!(session_of(supervisor.pid), session_of(session.pid()));
}

#[test]
fn what_a_client_leaks_to_its_server_is_not_kept_open() {
    let Some(person) = person() else { return };
    person.log_in();
    let (mut read, write) = std::io::pipe().expect("a pipe");
    fcntl_setfd(&write, FdFlags::empty()).expect("left open for all children");
    let number = write.as_raw_fd();
    let mut session = person.connect("acme");
    let leaked = fs::read_link(format!("/proc/{}/fd/{number}", session.pid()));
    assert!(leaked.is_ok_and(|link| link.to_string_lossy().starts_with("pipe:")), "no leak");
    drop(OwnedFd::from(write));
    assert_works(&mut session);
    let _runs = person.supervisor();
    assert_eq!(session.close().code(), Some(0));
    assert!(crate::support::readable(&read, std::time::Instant::now() + DEADLINE), "kept open");
    assert_eq!(read.read(&mut [0]).expect("the end"), 0);
}

#[test]
fn the_log_of_starts_does_not_grow_without_bound() {
    let Some(person) = person() else { return };
    let log = person.directory(".local/state/tenantd").join("start.log");
    for (before, kept) in [(1_000, true), (1_000_000, false)] {
        fs::write(&log, "x".repeat(before)).expect("written");
        std::os::unix::fs::chown(&log, Some(person.uid()), Some(person.uid())).expect("chown");
        let mut session = person.connect("acme");
        assert_works(&mut session);
        let size = fs::metadata(&log).expect("it is there").len();
        assert_eq!(size >= 1_000, kept, "{size} bytes of {before}");
        assert!(size < 70_000, "{size}");
        session.close();
        let supervisor = person.supervisor();
        assert!(person.output(&["stop", "--user"]).status.success());
        assert!(supervisor.ends_within(DEADLINE));
    }
}
