//! `tenantd demo`, as a newcomer runs it: it tells the truth, behaves, and leaves nothing behind.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::{as_test_user, tenantd, working_below};
use tempfile::TempDir;

/// A directory for the demo's temporary home, writable for whoever runs it.
fn place() -> TempDir {
    let place = tempfile::Builder::new().prefix("td-").tempdir_in("/tmp").expect("a directory");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o1777)).expect("chmod");
    place
}

fn demo(place: &Path) -> Command {
    let mut command = Command::new(tenantd());
    command.arg("demo").env("TMPDIR", place).env_remove("TENANTD_HOME").current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    as_test_user(&mut command);
    command
}

#[track_caller]
fn nothing_is_left(place: &Path) {
    let left: Vec<_> = fs::read_dir(place).expect("read").collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    let running: Vec<String> = working_below(place).into_iter().map(|held| held.name).collect();
    assert!(running.is_empty(), "still running: {running:?}");
}

#[test]
fn every_step_holds_and_what_is_missing_stands_first() {
    let place = place();
    let output = demo(place.path()).output().expect("it runs");
    let transcript = String::from_utf8(output.stdout).expect("UTF-8");
    let complaints = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!((output.status.code(), complaints.as_str()), (Some(0), ""), "{transcript}");
    let (before, acts) = transcript.split_once("\n1. ").expect("a first act");
    let around = acts.lines().find(|line| line.contains("around it: ")).expect("a sandbox");
    for layer in ["namespaces", "landlock", "seccomp", "cgroup"] {
        let missing = before.contains(&format!("NOT ISOLATED: {layer}: "));
        assert_ne!(around.contains(layer), missing, "{layer}: {transcript}");
    }
    assert!(!acts.contains("NOT ISOLATED"), "{transcript}");
    assert!(!transcript.contains("FAILED") && transcript.contains("exit code 77"), "{transcript}");
    for wall in [
        "around it: namespaces, landlock, seccomp",
        "acme/data/launch.md: No such file or directory",
        "kill: No such process",
        "session.sock': No such file or directory",
        "interfaces: lo,",
        "Permission denied",
    ] {
        assert!(transcript.contains(wall), "{wall}: {transcript}");
    }
    nothing_is_left(place.path());
}

#[test]
fn ctrl_c_in_the_middle_leaves_nothing() {
    for before in ["1. ", "3. ", "5. "] {
        let place = place();
        let mut child = demo(place.path()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while !line.starts_with(before) {
            line.clear();
            assert_ne!(lines.read_line(&mut line).expect("UTF-8"), 0, "it never came to {before}");
        }
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, Signal::SIGINT).expect("signalled");
        let mut rest = String::new();
        lines.read_to_string(&mut rest).expect("UTF-8");
        assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest}");
        nothing_is_left(place.path());
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_demo_and_leaves_nothing() {
    let place = place();
    let mut child = demo(place.path()).spawn().expect("it runs");
    drop(child.stdout.take());
    child.wait().expect("it ends");
    nothing_is_left(place.path());
}
