//! A supervisor whose secrets are in encrypted files, and what a test asks of its servers.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use nix::unistd::{Uid, geteuid};
use serde_json::{Value, json};

use crate::support::{Home, Session, own, puppet_tenant, said, tenantd};

/// Tenants on the puppet, with encrypted files as their store.
pub(crate) fn keep_in_files(home: &Home, system: bool) {
    home.settings("[credentials]\nstore = \"encrypted-file\"\n");
    let state = home.directory("state");
    if system {
        // As the supervisor makes it: servers pass through it to what is theirs.
        fs::set_permissions(&state, Permissions::from_mode(0o711)).expect("chmod");
    }
    let key = state.join("tenantd.key");
    fs::write(&key, [7; 32]).expect("written");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("chmod");
    if !system {
        own(&key);
    }
}

/// The puppet's file, with these `[[credential]]`s, each `name = ..., ...` in lines.
pub(crate) fn with(credentials: &[&str], server: &str) -> String {
    let tables: String =
        credentials.iter().map(|lines| format!("[[credential]]\n{lines}\n")).collect();
    format!("{}{tables}", puppet_tenant(&[], server))
}

fn fed(mut command: Command, value: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    child.stdin.take().expect("a pipe").write_all(value).expect("written");
    child.wait_with_output().expect("ended")
}

/// Sets a secret as the user of the tests.
#[track_caller]
pub(crate) fn set(home: &Home, words: &[&str], value: &[u8]) {
    let command = home.command(&[&["credential", "set"], words].concat());
    let output = fed(command, value);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// As root in system mode.
#[track_caller]
pub(crate) fn set_as_root(home: &Home, words: &[&str], value: &[u8]) {
    let mut command = Command::new(tenantd());
    command.args(["credential", "set", "--system"]).args(words).current_dir("/");
    command.env("TENANTD_HOME", home.path());
    let output = fed(command, value);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a line of shell says in the server's sandbox.
pub(crate) fn shell(session: &mut Session, script: &str) -> String {
    let answer = session.call("run", json!({"program": ["sh", "-c", script], "input": ""}));
    let ran: Value = serde_json::from_str(said(&answer)).expect("JSON");
    assert_eq!(ran["error"], Value::Null, "{ran}");
    format!("{}{}", ran["stdout"].as_str().expect("text"), ran["stderr"].as_str().expect("text"))
}

/// Whether this test can look into others' processes.
pub(crate) fn is_root() -> bool {
    let root = geteuid() == Uid::from_raw(0);
    assert!(root || std::env::var_os("CI").is_none(), "in CI nothing is skipped: run it as root");
    if !root {
        eprintln!("SKIPPED: only root can look into every process");
    }
    root
}
