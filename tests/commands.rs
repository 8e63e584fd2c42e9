//! The commands that talk to a supervisor, on a real one: what they print, and their exit codes.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Output, Stdio};
use std::time::Instant;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};
use support::{DEADLINE, Era, Home, documents_tenant, puppet_tenant, readable, tenant, tenantd};

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ran(output: &Output) -> Ran {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

trait Runs {
    fn ran(&self, arguments: &[&str]) -> Ran;
    /// Runs what must succeed; gives back its stdout.
    fn says(&self, arguments: &[&str]) -> String;
    /// Runs what must fail with this code, these words on stderr and nothing on stdout.
    fn fails(&self, arguments: &[&str], code: i32, words: &str);
}

impl Runs for Home {
    fn ran(&self, arguments: &[&str]) -> Ran {
        ran(&self.run(arguments))
    }

    #[track_caller]
    fn says(&self, arguments: &[&str]) -> String {
        let ran = self.ran(arguments);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}: {}", ran.out);
        ran.out
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, words: &str) {
        let ran = self.ran(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), ""), "{arguments:?}: {}", ran.err);
        assert!(ran.err.starts_with("tenantd: ") && ran.err.contains(words), "{}", ran.err);
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

#[test]
fn a_call_prints_the_text_alone_and_json_prints_the_result_as_it_came() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start();
    assert_eq!(home.says(&["call", "acme", "echo", r#"{"text":"hi"}"#]), "hi\n");
    let result = json_of(&home.says(&["call", "acme/main", "echo", r#"{"text":"hi"}"#, "--json"]));
    assert_eq!(result["content"], json!([{ "type": "text", "text": "hi" }]));
    supervisor.stop();
}

#[test]
fn arguments_can_come_from_stdin_over_several_lines() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start();
    let mut command = home.command(&["call", "acme", "echo", "-"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(b"{\n  \"text\":\n  \"hi\"\n}\n").expect("written");
    drop(stdin);
    assert_eq!(ran(&child.wait_with_output().expect("ended")).out, "hi\n");
    supervisor.stop();
}

#[test]
fn the_exit_code_tells_tool_error_refusal_and_absence_apart() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    home.tenant("broken", &tenant("/bin/false".as_ref(), &[]));
    let supervisor = home.start();
    let failed = home.ran(&["call", "acme", "get_document", r#"{"name":"../globex"}"#]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.out.contains("is not a document name"), "{failed:?}");
    home.fails(&["call", "acme", "no_such_tool"], 1, "error -32602");
    home.fails(&["call", "nosuch", "echo"], 77, "nosuch");
    home.fails(&["call", "acme/nosuch", "echo"], 77, "nosuch");
    home.fails(&["call", "broken", "echo"], 69, "exited with code 1");
    supervisor.stop();
}

#[test]
fn tools_are_listed_from_a_modern_and_from_a_legacy_server() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    home.tenant("old", &puppet_tenant(&[("PUPPET_ERA", "legacy")], ""));
    let supervisor = home.start();
    let listed = home.says(&["tools", "acme"]);
    assert!(listed.starts_with("TOOL"), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with("save_document") && line.contains("text")));
    let tools = json_of(&home.says(&["tools", "acme", "--json"]));
    assert!(tools.as_array().is_some_and(|tools| tools.len() == 7), "{tools}");
    let old = json_of(&home.says(&["tools", "old", "--json"]));
    assert!(old.as_array().is_some_and(|tools| !tools.is_empty()), "{old}");
    supervisor.stop();
}

#[test]
fn status_heads_with_what_does_not_hold_and_shows_sessions_and_servers() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start();
    let mut session = supervisor.connect("acme");
    let opened = session.open(Era::Modern);
    assert!(opened.get("result").is_some(), "{opened}");
    let page = home.says(&["status"]);
    assert!(page.starts_with("NOT ISOLATED: "), "{page}");
    assert!(!page.contains('\x1b'), "colours without a terminal: {page}");
    let server = page.lines().find(|line| line.starts_with("  main")).expect("a server");
    assert!(server.contains("running") && server.contains("modern"), "{page}");
    let status = json_of(&home.says(&["status", "--json"]));
    assert_eq!(status["supervisor"]["pid"], json!(supervisor.pid()));
    assert_eq!(status["tenants"][0]["sessions"].as_array().map(Vec::len), Some(1), "{status}");
    drop(session);
    supervisor.stop();
}

#[test]
fn a_broken_file_is_78_at_reload_and_stands_in_status() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start();
    home.tenant("globex", &documents_tenant());
    assert!(home.ran(&["reload"]).code == Some(0));
    home.tenant("globex", "[server]\ncommand = 7\n");
    let reload = home.ran(&["reload", "--json"]);
    assert_eq!(reload.code, Some(78), "{reload:?}");
    let problem = json_of(&reload.out)["problems"][0].as_str().expect("a problem").to_owned();
    assert!(problem.starts_with("tenants.d/globex.toml:2:"), "{problem}");
    assert!(home.says(&["status"]).contains(&format!("problem: {problem}")));
    assert_eq!(home.says(&["call", "globex", "echo", r#"{"text":"hi"}"#]), "hi\n");
    supervisor.stop();
}

#[test]
fn a_restarted_server_is_another_process_and_the_session_goes_on() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start();
    let starts = |home: &Home| {
        let status = json_of(&home.says(&["status", "--json"]));
        status["tenants"][0]["servers"][0]["children"][0]["starts"].clone()
    };
    let mut session = supervisor.connect("acme");
    let opened = session.open(Era::Modern);
    assert!(opened.get("result").is_some(), "{opened}");
    assert_eq!(starts(&home), json!(1));
    assert!(home.says(&["restart", "acme/main"]).contains("server main of acme"));
    // The order is on its way to the mux: until it is there, the old server answers. No call fails.
    let deadline = Instant::now() + DEADLINE;
    while starts(&home) != json!(2) {
        assert!(Instant::now() < deadline, "it was not restarted");
        let answer = session.call("echo", json!({ "text": "two" }));
        assert_eq!(answer["content"][0]["text"], "two", "{answer}");
    }
    drop(session);
    home.fails(&["restart", "acme/nosuch"], 77, "tenant acme has no server");
    home.fails(&["restart", "nosuch"], 77, "nosuch");
    supervisor.stop();
}

#[test]
fn what_a_server_writes_to_stderr_is_followed_line_by_line() {
    let home = Home::new();
    let script = r"echo first >&2; printf '\033[2Jsecond\n' >&2; exec cat >/dev/null";
    home.tenant("acme", &tenant("/bin/sh".as_ref(), &["-c", script]));
    let supervisor = home.start();
    home.fails(&["logs", "acme"], 69, "has no log");
    let session = supervisor.connect("acme");
    // The server never answers; what it says stands in the log all the same.
    let mut waiting = home.command(&["call", "acme", "echo"]);
    let mut waiting = waiting.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let seen = first_log_lines(&home, 2);
    assert!(seen[0].ends_with(" main first"), "{seen:?}");
    assert!(seen[1].ends_with("second") && !seen[1].contains('\x1b'), "{seen:?}");
    let _ = waiting.kill();
    waiting.wait().expect("ended");
    drop(session);
    supervisor.stop();
}

/// The first lines of the tenant's log, as `logs -f` shows them.
fn first_log_lines(home: &Home, count: usize) -> Vec<String> {
    let directory = home.path().join("log/tenants/acme");
    let watch = Inotify::init(InitFlags::empty()).expect("inotify");
    let deadline = Instant::now() + DEADLINE;
    let something = || {
        assert!(readable(&watch, deadline), "no log: {:?}", fs::read_dir(home.path().join("log")));
        watch.read_events().expect("events");
    };
    for path in [home.path().join("log"), home.path().join("log/tenants"), directory.clone()] {
        while watch.add_watch(&path, AddWatchFlags::IN_CREATE).is_err() {
            something();
        }
    }
    while !directory.join("servers.log").exists() {
        something();
    }
    let mut command = home.command(&["logs", "acme", "-f"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let seen = lines.take(count).map(|line| line.expect("UTF-8")).collect();
    let _ = child.kill();
    child.wait().expect("ended");
    seen
}

#[test]
fn stop_returns_when_everything_is_gone() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let supervisor = home.start();
    home.says(&["call", "acme", "echo", r#"{"text":"hi"}"#]);
    let started = supervisor.descendants();
    assert!(started.len() >= 2, "mux and keeper at least");
    assert_eq!(home.says(&["stop"]), "stopped\n");
    for process in &started {
        assert!(process.ends_within(std::time::Duration::ZERO), "{} is left", process.name);
    }
    home.fails(&["status"], 69, "no supervisor listens");
    supervisor.stop();
    assert!(tenantd().exists());
}
