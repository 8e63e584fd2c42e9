//! Runtime directories that vanish under a running supervisor: a logout, a cleaner, a person with `rm`.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::{DEADLINE, Held, Home, Person, documents_tenant};
use crate::{assert_echoes, assert_works, person};

/// Whatever happened: the same supervisor serves, the old session lives, a new one opens at once.
#[track_caller]
fn assert_serves_on(person: &Person, supervisor: &Held, old: &mut crate::support::Session) {
    assert_echoes(old);
    let mut new = person.connect("acme");
    assert_works(&mut new);
    assert_eq!(person.supervisor().pid, supervisor.pid, "another one serves");
    assert_eq!(new.close().code(), Some(0));
    assert_echoes(old);
}

#[test]
fn sockets_that_vanish_are_made_anew_and_sessions_live_on() {
    let Some(person) = person() else { return };
    person.log_in();
    let runtime = person.run().join("tenantd");
    let mut session = person.connect("acme");
    assert_works(&mut session);
    let supervisor = person.supervisor();
    let vanish: [&dyn Fn(); 3] = [
        &|| fs::remove_dir_all(&runtime).expect("removed"),
        &|| fs::remove_file(runtime.join("session.sock")).expect("removed"),
        &|| fs::remove_file(runtime.join("tenantd.sock")).expect("removed"),
    ];
    for vanish in vanish {
        let since = Instant::now();
        vanish();
        person.until_exists(&runtime.join("session.sock"), true);
        person.until_exists(&runtime.join("tenantd.sock"), true);
        assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
        assert_serves_on(&person, &supervisor, &mut session);
    }
}

/// The client that comes before the supervisor has noticed waits for it: it cannot start another.
#[test]
fn a_client_that_finds_no_sockets_gets_a_session_from_the_running_supervisor() {
    let Some(person) = person() else { return };
    let mut session = person.connect("acme");
    assert_works(&mut session);
    let supervisor = person.supervisor();
    for _ in 0..3 {
        fs::remove_dir_all(person.fallback()).expect("removed");
        assert_serves_on(&person, &supervisor, &mut session);
    }
}

#[test]
fn a_login_and_a_logout_move_the_sockets_of_a_running_supervisor() {
    let Some(person) = person() else { return };
    let mut session = person.connect("acme");
    assert_works(&mut session);
    let supervisor = person.supervisor();
    assert!(person.fallback().join("session.sock").exists());
    for _ in 0..2 {
        person.log_in();
        assert_serves_on(&person, &supervisor, &mut session);
        assert!(person.run().join("tenantd/session.sock").exists());
        person.log_out();
        assert_serves_on(&person, &supervisor, &mut session);
    }
}

#[test]
fn a_place_that_somebody_else_took_meanwhile_is_not_used() {
    let Some(person) = person() else { return };
    let mut session = person.connect("acme");
    assert_works(&mut session);
    let supervisor = person.supervisor();
    fs::remove_dir_all(person.fallback()).expect("removed");
    fs::create_dir(person.fallback()).expect("made");
    let (message, _) = crate::refused(person.connect("acme"));
    assert!(message.contains("belongs to somebody else"), "{message}");
    let log = person.home().join(".local/state/tenantd");
    let deadline = Instant::now() + DEADLINE;
    while !said(&log, "belongs to somebody else") {
        assert!(Instant::now() < deadline, "the supervisor says nothing");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(fs::read_dir(person.fallback()).expect("read").next().is_none(), "it was used");
    assert_echoes(&mut session);
    // As soon as it is free again.
    fs::remove_dir(person.fallback()).expect("removed");
    assert_serves_on(&person, &supervisor, &mut session);
}

fn said(log: &std::path::Path, words: &str) -> bool {
    let files = fs::read_dir(log).expect("a log").flatten();
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).any(|text| text.contains(words))
}

#[test]
fn a_supervisor_whose_place_another_has_taken_leaves_with_its_last_session() {
    let Some(person) = person() else { return };
    let mut session = person.connect("acme");
    assert_works(&mut session);
    let supervisor = person.supervisor();
    let socket = person.fallback().join("tenantd.sock");
    let beside = person.fallback().join("other.sock");
    let _other = std::os::unix::net::UnixListener::bind(&beside).expect("bound");
    fs::rename(&beside, &socket).expect("put in its place");
    assert_echoes(&mut session);
    assert!(!supervisor.ends_within(Duration::from_secs(4)), "it left a session behind");
    assert_echoes(&mut session);
    session.close();
    assert!(supervisor.ends_within(DEADLINE), "it stays, and nobody can reach it");
    assert!(socket.exists(), "it removed what is not its own");
}

#[test]
fn the_sockets_of_a_system_supervisor_without_systemd_are_made_anew() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root runs a system supervisor");
        return;
    }
    let home = Home::system();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start_system();
    let runtime = home.path().join("run");
    fs::remove_dir_all(&runtime).expect("removed");
    let deadline = Instant::now() + DEADLINE;
    while !runtime.join("tenantd.sock").exists() {
        assert!(Instant::now() < deadline, "never made anew");
        std::thread::sleep(Duration::from_millis(20));
    }
    use std::os::unix::fs::PermissionsExt;
    let mode = |path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(runtime.clone()), 0o755);
    assert_eq!(mode(runtime.join("session.sock")), 0o666);
    supervisor.stop();
}
