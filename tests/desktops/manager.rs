//! The user manager as a client meets it, without one: programs in the place of `systemctl` and
//! `systemd-run` that note what they were asked, refuse, or never answer.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};

use crate::support::Person;
use crate::{assert_works, person};

/// A person with a user manager that can be asked: both programs are this script, in this thread's mount
/// namespace alone. They note each question, with their whole environment.
fn managed(script: &str) -> Option<(Person, PathBuf)> {
    let person = person()?;
    person.log_in();
    fs::create_dir(person.run().join("systemd")).expect("made");
    person.make_own(&person.run().join("systemd"));
    let _listener = std::os::unix::net::UnixListener::bind(person.run().join("systemd/private"));
    let asked = person.home().join("asked");
    fs::write(&asked, "").expect("made");
    person.make_own(&asked);
    let program = person.home().join("manager");
    let note =
        format!("echo \"${{0##*/}} $* [$(env | sort | tr '\\n' ' ')]\" >> {}", asked.display());
    fs::write(&program, format!("#!/bin/sh\n{note}\n{script}\n")).expect("written");
    fs::set_permissions(&program, Permissions::from_mode(0o755)).expect("chmod");
    for name in ["systemctl", "systemd-run"] {
        let place = PathBuf::from("/usr/bin").join(name);
        assert!(place.exists(), "{} is missing", place.display());
        let none = None::<&str>;
        mount(Some(&program), &place, none, MsFlags::MS_BIND, none).expect("bound");
    }
    Some((person, asked))
}

fn lines(asked: &PathBuf) -> Vec<String> {
    fs::read_to_string(asked).expect("read").lines().map(str::to_owned).collect()
}

#[test]
fn a_user_manager_that_does_not_answer_delays_a_client_by_a_bounded_time() {
    let Some((person, asked)) = managed("exec sleep 600") else { return };
    let since = Instant::now();
    assert_works(&mut person.connect("acme"));
    // Clients give up after ten seconds.
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    let asked = lines(&asked);
    assert_eq!(asked.len(), 1, "who does not answer is not asked again: {asked:?}");
    let _runs = person.supervisor();
    let left = person.processes();
    assert!(!left.iter().any(|held| held.name == "sleep"), "its program was left behind");
}

#[test]
fn a_user_manager_that_refuses_is_asked_for_each_way_and_then_done_without() {
    let Some((person, asked)) = managed("exit 1") else { return };
    let mut command = person.command(&["connect", "acme"]);
    command.env("CANARY", "of-the-client").env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/canary");
    command.env("XDG_RUNTIME_DIR", "/canary");
    assert_works(&mut person.spawn(command));
    let asked = lines(&asked);
    let run = format!("XDG_RUNTIME_DIR={}", person.run().display());
    let ways =
        ["systemctl --user start tenantd.socket", "systemd-run --user", "systemctl --user start"];
    assert_eq!(asked.len(), ways.len(), "{asked:?}");
    for (asked, way) in asked.iter().zip(ways) {
        assert!(asked.starts_with(way), "{way}: {asked}");
        assert!(asked.contains(&run) && !asked.to_lowercase().contains("canary"), "{asked}");
    }
    assert!(asked[1].contains("serve --user"), "{asked:?}");
}

#[test]
fn an_override_of_the_paths_goes_past_the_user_manager() {
    let Some((person, asked)) = managed("exit 1") else { return };
    let mut command = person.command(&["connect", "acme"]);
    command.env("TENANTD_RUNTIME", person.directory("run"));
    assert_works(&mut person.spawn(command));
    assert_eq!(lines(&asked), Vec::<String>::new());
    assert!(person.home().join("run/session.sock").exists());
    let mut stop = person.command(&["stop", "--user"]);
    assert!(
        stop.env("TENANTD_RUNTIME", person.home().join("run")).status().expect("run").success()
    );
}
