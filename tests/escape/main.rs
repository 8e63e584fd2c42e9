//! Ways out of a tenant's sandbox: every probe from inside, and the ways around that a probe cannot take: what
//! is planted for later, what is swapped during a start, what is left behind by a start that is cut short.

#![allow(missing_docs, reason = "a test binary has no API")]

#[path = "../support/mod.rs"]
mod support;

mod detours;
mod family;
mod from_inside;
mod from_outside;
mod machine;
mod report;
mod steps;

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::{Home, Session, puppet, said, tenantd};

/// A tenant on the puppet with the sandbox that everybody gets: nothing is loosened.
fn strict_tenant(sandbox: &str, rest: &str) -> String {
    let puppet = puppet();
    format!("[server]\ncommand = {puppet:?}\n[sandbox]\n{sandbox}\n{rest}")
}

/// Runs a program where the puppet is.
fn run(session: &mut Session, program: &[&str], input: &str) -> Value {
    let result = session.call("run", json!({"program": program, "input": input}));
    serde_json::from_str(said(&result)).expect("JSON")
}

/// Runs a line of shell where the puppet is; what it wrote to stdout.
fn shell(session: &mut Session, line: &str) -> String {
    let done = run(session, &["/bin/sh", "-c", line], "");
    done["stdout"].as_str().unwrap_or_else(|| panic!("{line}: {done}")).trim().to_owned()
}

/// The binary as who runs the test: root.
fn as_root(home: &Home, arguments: &[&str]) -> Output {
    let mut command = Command::new(tenantd());
    command.args(arguments).env("TENANTD_HOME", home.path()).current_dir("/");
    command.stdin(Stdio::null()).output().expect("started")
}
