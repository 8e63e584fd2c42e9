//! Standard streams that are no pipes: closed, a terminal, a file.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};

use crate::support::{DEADLINE, Lines, Person};
use crate::{assert_works, person};

const CALL: &str = "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"echo\",\
    \"arguments\":{\"text\":\"well\"},\"_meta\":{\"io.modelcontextprotocol/protocolVersion\":\"2026-07-28\",\
    \"io.modelcontextprotocol/clientInfo\":{\"name\":\"raw\",\"version\":\"1\"},\
    \"io.modelcontextprotocol/clientCapabilities\":{}}}}\n";

#[track_caller]
fn assert_answers(line: &str) {
    let answer: Value = serde_json::from_str(line.trim()).unwrap_or_else(|e| panic!("{e}: {line}"));
    assert_eq!(answer["id"], json!(7), "{line}");
    assert_eq!(answer["result"]["content"][0]["text"], "well", "{line}");
}

/// `connect acme` with this redirection of a shell.
fn redirected(person: &Person, redirection: &str) -> Command {
    let mut command = person.program("/bin/sh");
    command.arg("-c").arg(format!("exec \"$@\" {redirection}")).arg("sh");
    command.arg(crate::support::tenantd()).args(["connect", "acme"]);
    command
}

#[test]
fn a_client_that_closed_stderr_gets_a_session() {
    let Some(person) = person() else { return };
    // The first starts the supervisor, the second finds it.
    for _ in 0..2 {
        let mut session = person.spawn(redirected(&person, "2>&-"));
        assert_works(&mut session);
        assert_eq!(session.close().code(), Some(0));
    }
}

#[test]
fn a_client_that_closed_stderr_is_told_a_refusal() {
    let Some(person) = person() else { return };
    let mut command = redirected(&person, "2>&-");
    command.arg("--strict").arg("--user");
    fs::remove_file(person.home().join(".config/tenantd/tenants.d/acme.toml")).expect("gone");
    let (message, code) = crate::refused(person.spawn(command));
    assert!(message.contains("no tenant"), "{message}");
    assert_eq!(code, Some(78));
}

#[test]
fn a_client_whose_stdin_is_a_terminal_gets_a_session() {
    let Some(person) = person() else { return };
    let terminal = nix::pty::openpty(None, None).expect("a terminal");
    let mut mode = nix::sys::termios::tcgetattr(&terminal.slave).expect("its mode");
    fcntl_setfd(&terminal.master, FdFlags::CLOEXEC).expect("the client's alone");
    // As a client that drives a terminal: whole lines of any length, no echo.
    nix::sys::termios::cfmakeraw(&mut mode);
    let now = nix::sys::termios::SetArg::TCSANOW;
    nix::sys::termios::tcsetattr(&terminal.slave, now, &mode).expect("set");
    let (read, write) = std::io::pipe().expect("a pipe");
    let mut command = person.command(&["connect", "acme"]);
    command.stdin(terminal.slave).stdout(write).stderr(Stdio::null());
    let mut child = command.spawn().expect("started");
    drop(command);
    let mut master = File::from(terminal.master);
    master.write_all(CALL.as_bytes()).expect("written");
    let mut lines = Lines::new(read);
    assert_answers(&lines.next(DEADLINE).expect("an answer"));
    // The terminal hangs up: the session ends.
    drop(master);
    assert_eq!(lines.next(DEADLINE), None);
    assert!(child.wait().expect("wait").success());
}

#[test]
fn a_client_whose_stdin_and_stdout_are_files_gets_its_answers() {
    let Some(person) = person() else { return };
    let (asked, answered) = (person.home().join("asked"), person.home().join("answered"));
    fs::write(&asked, CALL).expect("written");
    let mut command = person.command(&["connect", "acme"]);
    command.stdin(File::open(&asked).expect("open")).stderr(Stdio::null());
    command.stdout(File::create(&answered).expect("made"));
    assert!(command.status().expect("started").success());
    assert_answers(&fs::read_to_string(&answered).expect("read"));
}

#[test]
fn a_client_whose_stdout_alone_is_a_file_gets_its_answers() {
    let Some(person) = person() else { return };
    let answered = person.home().join("answered");
    let mut command = person.command(&["connect", "acme"]);
    command.stdin(Stdio::piped()).stdout(File::create(&answered).expect("made"));
    let mut child = command.stderr(Stdio::null()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(CALL.as_bytes()).expect("written");
    let deadline = Instant::now() + DEADLINE;
    while !fs::read_to_string(&answered).expect("read").ends_with('\n') {
        assert!(Instant::now() < deadline, "no answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_answers(&fs::read_to_string(&answered).expect("read"));
    drop(stdin);
    assert!(child.wait().expect("wait").success());
}
