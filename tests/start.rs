//! A supervisor that nobody started by hand: the first client does, and what that client is told where it
//! cannot.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use support::{
    DEADLINE, Era, Held, Home, Session, descendants, documents_tenant, tenant_out_of_reach,
};

/// The binary with the environment that a desktop client leaves it.
fn bare(home: &Home, arguments: &[&str]) -> Command {
    let mut command = home.command(arguments);
    command.env_clear().env("PATH", "/usr/bin").env("TENANTD_HOME", home.path());
    command
}

fn connect(home: &Home, target: &str) -> Session {
    Session::spawn(bare(home, &["connect", target]))
}

/// The supervisor that a client started: stopped at the end, and looked after by its own pid.
struct Started<'a> {
    home: &'a Home,
    held: Held,
}

/// The pid of the supervisor that serves this home.
fn serving(home: &Home) -> u32 {
    let pid = home.status()["supervisor"]["pid"].as_u64();
    pid.and_then(|pid| u32::try_from(pid).ok()).expect("a pid")
}

impl<'a> Started<'a> {
    fn find(home: &'a Home) -> Self {
        Self { home, held: Held::of(serving(home)).expect("it runs") }
    }

    fn stop(self) {
        let output = self.home.run(&["stop"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(self.held.ends_within(DEADLINE), "it said stopped and runs");
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        let _ = self.home.run(&["stop"]);
        self.held.kill();
    }
}

/// A client that would rather fail than wait.
fn strict(home: &Home, target: &str) -> Session {
    Session::spawn(bare(home, &["connect", "--strict", target]))
}

/// What a client shows of a refusal: the error of `initialize`; then the exit code and stderr.
fn refused(mut session: Session) -> (Value, Option<i32>, String) {
    let error = session.initialize(json!({}))["error"].take();
    session.hang_up();
    let code = session.wait().code();
    (error, code, session.stderr())
}

/// One refusal, told three times: to the client, to the person, to the shell.
#[track_caller]
fn assert_refused(session: Session, code: i32, words: &[&str]) {
    let (error, exit, stderr) = refused(session);
    let message = error["message"].as_str().unwrap_or_else(|| panic!("no message: {error}"));
    assert_eq!(exit, Some(code), "{message}");
    assert!(message.len() < 320, "{message}");
    for word in words {
        assert!(message.contains(word) && stderr.contains(word), "{word}: {message}; {stderr}");
    }
}

fn is_serving(home: &Home) -> bool {
    home.run(&["status"]).status.code() != Some(69)
}

#[test]
fn the_first_client_starts_the_supervisor() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let mut session = connect(&home, "acme");
    session.open(Era::Modern);
    let started = Started::find(&home);
    assert_eq!(session.call("echo", json!({"text": "up"}))["content"][0]["text"], "up");
    assert_eq!(session.close().code(), Some(0));
    let mut second = connect(&home, "acme");
    second.open(Era::Modern);
    second.close();
    assert_eq!(serving(&home), started.held.pid, "the second found the first's");
    started.stop();
}

fn many_at_once_start_one(count: usize) {
    // Whatever they start and leave becomes ours, where it can be counted.
    nix::sys::prctl::set_child_subreaper(true).expect("a subreaper");
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let mut sessions: Vec<_> = (0..count).map(|_| connect(&home, "acme")).collect();
    for session in &mut sessions {
        session.open(Era::Modern);
    }
    let started = Started::find(&home);
    let tenant = home.tenant_status("acme", |_| true);
    assert_eq!(tenant["sessions"].as_array().map(Vec::len), Some(count), "{tenant}");
    let serves = |held: &Held| {
        let line = std::fs::read(format!("/proc/{}/cmdline", held.pid)).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"serve")
    };
    for other in descendants(std::process::id()).iter().filter(|held| serves(held)) {
        let it = other.pid == started.held.pid;
        assert!(it || other.ends_within(DEADLINE), "a second supervisor stays");
    }
    for session in sessions {
        assert_eq!(session.close().code(), Some(0));
    }
    started.stop();
}

#[test]
fn two_clients_at_once_start_one_supervisor() {
    many_at_once_start_one(2);
}

#[test]
fn eight_clients_at_once_start_one_supervisor() {
    many_at_once_start_one(8);
}

#[test]
fn the_supervisor_survives_the_kill_of_its_client_s_process_tree() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let mut command = bare(&home, &["connect", "acme"]);
    command.process_group(0);
    let mut session = Session::spawn(command);
    session.open(Era::Modern);
    let started = Started::find(&home);
    let family = descendants(session.pid());
    assert!(family.iter().all(|held| held.pid != started.held.pid), "it is the client's child");
    killpg(Pid::from_raw(i32::try_from(session.pid()).expect("a pid")), Signal::SIGKILL)
        .expect("killed");
    family.iter().for_each(Held::kill);
    session.wait();
    home.tenant_status("acme", |tenant| tenant["sessions"].as_array().is_some_and(Vec::is_empty));
    assert_eq!(serving(&home), started.held.pid);
    started.stop();
}

#[test]
fn without_a_tenant_file_nothing_is_started_and_the_way_out_is_named() {
    let home = Home::new();
    assert_refused(connect(&home, "acme"), 78, &["acme", "config/tenants.d/acme.toml"]);
    assert_refused(Session::spawn(bare(&home, &["connect"])), 78, &["tenants.d"]);
    assert!(!is_serving(&home), "a supervisor was started for nothing");
}

#[test]
fn a_broken_tenant_file_is_refused_with_its_place() {
    let home = Home::new();
    home.tenant("acme", "[server\ncommand = 1\n");
    assert_refused(strict(&home, "acme"), 78, &["acme", "broken", "acme.toml:1"]);
    Started::find(&home).stop();
}

#[test]
fn a_broken_tenantd_toml_is_no_obstacle_and_shown() {
    let home = Home::new();
    home.settings("drain = \"never\"\n").tenant("acme", &documents_tenant());
    let mut session = connect(&home, "acme");
    session.open(Era::Modern);
    let started = Started::find(&home);
    let problems = home.status()["supervisor"]["problems"].to_string();
    assert!(problems.contains("tenantd.toml:1"), "{problems}");
    session.close();
    started.stop();
}

#[test]
fn a_supervisor_that_cannot_start_says_why_to_the_client() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    home.file("state", "in the way");
    assert_refused(connect(&home, "acme"), 69, &["did not start", "state", "start.log"]);
}

#[test]
fn a_required_layer_that_does_not_hold_is_refused_with_its_cure() {
    let home = Home::new();
    home.tenant("acme", &tenant_out_of_reach());
    assert_refused(strict(&home, "acme"), 78, &["cgroup", "tenantd doctor"]);
    Started::find(&home).stop();
}

#[test]
fn every_refusal_has_its_exit_code() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant()).tenant("globex", &documents_tenant());
    home.tenant("asleep", &format!("status = \"suspended\"\n{}", documents_tenant()));
    let supervisor = home.start();
    assert_refused(connect(&home, "Acme"), 64, &["Acme", "is not a tenant id"]);
    assert_refused(Session::spawn(bare(&home, &["connect"])), 64, &["several tenants", "acme"]);
    assert_refused(strict(&home, "asleep"), 69, &["suspended"]);
    assert_refused(connect(&home, "nosuch"), 77, &["nosuch"]);
    assert_refused(connect(&home, "acme/nosuch"), 77, &["nosuch", "main"]);
    supervisor.stop();
}

#[test]
fn a_second_supervisor_names_the_first() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start();
    let output = home.run(&["serve", "--user"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains(&format!("pid {}", supervisor.pid())), "{said}");
    assert!(said.contains("tenantd stop"), "{said}");
    supervisor.stop();
}
