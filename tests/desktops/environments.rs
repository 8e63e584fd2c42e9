//! Environments as clients leave them: nearly none, a snap's, WSLg's, another HOME; and a runtime directory
//! that somebody else has prepared.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;

use crate::support::Person;
use crate::{assert_works, person, refused};

/// The variables that a client sets beside PATH.
fn environments(person: &Person) -> Vec<Vec<(&'static str, PathBuf)>> {
    let snap = person.directory("snap/claude-desktop/1");
    let other = person.directory("other");
    vec![
        vec![],
        vec![
            ("XDG_RUNTIME_DIR", person.run().join("snap.claude-desktop")),
            ("HOME", snap.clone()),
            ("XDG_CONFIG_HOME", snap.join(".config")),
            ("XDG_DATA_HOME", snap),
        ],
        vec![("XDG_RUNTIME_DIR", "/mnt/wslg/runtime-dir".into()), ("HOME", person.home().into())],
        vec![("HOME", other.clone()), ("XDG_STATE_HOME", other)],
        vec![("HOME", "/nonexistent".into()), ("TMPDIR", "/nonexistent".into())],
        vec![("HOME", PathBuf::new()), ("XDG_RUNTIME_DIR", PathBuf::new())],
        vec![("TENANTD_HOME", PathBuf::new()), ("TENANTD_RUNTIME", PathBuf::new())],
    ]
}

/// Each of the environments may be that of the first client, which starts the supervisor, or of a later one.
fn all_reach_one(person: &Person, first: usize) {
    let all = environments(person);
    let mut supervisor = None;
    for step in 0..all.len() {
        let environment = &all[(first + step) % all.len()];
        let mut command = person.command(&["connect", "acme"]);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut session = person.spawn(command);
        assert_works(&mut session);
        let found = person.supervisor().pid;
        assert_eq!(*supervisor.get_or_insert(found), found, "{environment:?}");
        assert_eq!(session.close().code(), Some(0), "{environment:?}");
    }
    assert_eq!(person.supervisors().len(), 1);
}

#[test]
fn every_environment_reaches_the_same_supervisor() {
    let Some(person) = person() else { return };
    person.log_in();
    all_reach_one(&person, 0);
    assert!(person.run().join("tenantd/session.sock").exists());
    assert!(!person.fallback().exists(), "a second place was used");
}

#[test]
fn every_environment_reaches_the_same_supervisor_without_a_login() {
    let Some(person) = person() else { return };
    all_reach_one(&person, 0);
    let meta = fs::metadata(person.fallback()).expect("it is there");
    assert_eq!(meta.permissions().mode() & 0o777, 0o700);
}

#[test]
fn whichever_environment_comes_first_starts_the_same_supervisor() {
    for first in 1..4 {
        let Some(person) = person() else { return };
        person.log_in();
        all_reach_one(&person, first);
    }
}

#[test]
fn a_login_directory_that_others_can_enter_is_not_used() {
    let Some(person) = person() else { return };
    person.log_in();
    fs::set_permissions(person.run(), fs::Permissions::from_mode(0o755)).expect("chmod");
    assert_works(&mut person.connect("acme"));
    assert!(person.fallback().join("session.sock").exists());
    assert!(!person.run().join("tenantd").exists());
}

/// Prepares `/tmp/tenantd-UID` as an attacker would and tries it.
fn assert_distrusted(prepare: impl Fn(&Person), words: &[&str]) {
    let Some(person) = person() else { return };
    prepare(&person);
    let (message, code) = refused(person.connect("acme"));
    assert_eq!(code, Some(69), "{message}");
    let place = person.fallback().display().to_string();
    for word in words.iter().chain(&[&*place, "TENANTD_RUNTIME"]) {
        assert!(message.contains(word), "{word}: {message}");
    }
    let status = person.status().expect_err("somebody else's sockets were believed");
    assert!(status.contains(&place), "{status}");
    assert!(person.supervisors().is_empty());
    // Who has no tenant here is not stopped by it: the system's supervisor may know the tenant.
    let (message, _) = refused(person.connect("globex"));
    assert!(!message.contains("no tenant"), "{message}");
    let _ = fs::remove_file(person.fallback()).or_else(|_| fs::remove_dir_all(person.fallback()));
}

#[test]
fn a_runtime_directory_of_somebody_else_is_refused() {
    let prepare = |person: &Person| {
        fs::create_dir(person.fallback()).expect("made");
        fs::set_permissions(person.fallback(), fs::Permissions::from_mode(0o755)).expect("chmod");
        chown(person.fallback(), Some(65_533), Some(65_533)).expect("chown");
    };
    assert_distrusted(prepare, &["belongs to somebody else"]);
}

#[test]
fn a_runtime_directory_that_is_a_link_is_refused() {
    let prepare = |person: &Person| {
        symlink(person.directory("elsewhere"), person.fallback()).expect("a link");
    };
    assert_distrusted(prepare, &["is no directory"]);
}

#[test]
fn a_runtime_directory_that_others_can_write_is_refused() {
    let prepare = |person: &Person| {
        fs::create_dir(person.fallback()).expect("made");
        person.make_own(&person.fallback());
        fs::set_permissions(person.fallback(), fs::Permissions::from_mode(0o777)).expect("chmod");
    };
    assert_distrusted(prepare, &["written by others", "chmod 0700"]);
}
