//! Servers that die, hang, shout or lie: the sessions see a clear error, and only those concerned.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Era, Held, Home, Session, Supervisor, left_after, puppet_tenant, said, tenant};

/// The tenants `acme`, on a puppet as told, and `globex`, on a good one that must not notice anything.
fn home(environment: &[(&str, &str)], server: &str) -> Home {
    let home = Home::new();
    home.tenant("acme", &puppet_tenant(environment, server));
    home.tenant("globex", &puppet_tenant(&[], ""));
    home
}

fn open(supervisor: &Supervisor<'_>, tenant: &str) -> Session {
    let mut session = supervisor.connect(tenant);
    session.open(Era::Legacy);
    session
}

fn echo(session: &mut Session) {
    assert_eq!(said(&session.call("echo", json!({"text": "well"}))), "well");
}

fn environment(session: &mut Session) -> Value {
    serde_json::from_str(said(&session.call("environment", json!({})))).expect("JSON")
}

/// Which process a session's server is: what no other one is called.
fn process(session: &mut Session) -> Value {
    environment(session)["process"].take()
}

fn grandchild(home: &Home, session: &mut Session) -> Held {
    let number = said(&session.call("grandchild", json!({}))).parse().expect("a pid");
    home.process("acme", number)
}

#[test]
fn a_dying_server_disturbs_nobody_else_and_is_started_again() {
    let home = home(&[], "");
    let supervisor = home.start();
    let (mut a, mut b) = (open(&supervisor, "acme"), open(&supervisor, "acme"));
    let mut other = open(&supervisor, "globex");
    let untouched = process(&mut other);
    let hold = json!({"name": "hold", "arguments": {"key": "k"}});
    let (of_a, of_b) = (a.ask("tools/call", hold.clone()), b.ask("tools/call", hold));
    a.call("echo", json!({"text": "the server has both"}));
    b.call("echo", json!({"text": "the server has both"}));
    let died = process(&mut a);
    let server = home.server("acme");
    let killed = Instant::now();
    server.kill();
    for (session, id) in [(&mut a, &of_a), (&mut b, &of_b)] {
        let answer = session.answer(id);
        assert_eq!(answer["error"]["code"], 503, "{answer}");
        assert_eq!(answer["error"]["data"]["tenant"], "acme", "{answer}");
    }
    // 100 ms is the promise; a loaded machine gets some grace.
    assert!(killed.elapsed() < Duration::from_millis(500), "{:?}", killed.elapsed());
    echo(&mut a);
    echo(&mut b);
    assert_ne!(process(&mut a), died);
    assert_eq!(process(&mut other), untouched);
    supervisor.stop();
}

#[test]
fn after_a_restart_subscriptions_are_renewed_and_a_list_that_differs_called_changed() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    session.result("resources/subscribe", json!({"uri": "puppet://one"}));
    session.call("changed", json!({"name": "gone with this process"}));
    session.recv_method("notifications/tools/list_changed");
    for list in ["tools/list", "prompts/list"] {
        session.result(list, json!({}));
    }
    home.server("acme").kill();
    // Asked at the old server or the new one, it is answered by one.
    session.result("tools/list", json!({}));
    session.recv_method("notifications/tools/list_changed");
    assert_eq!(said(&session.call("touch", json!({"uri": "puppet://one"}))), "1");
    session.recv_method("notifications/resources/updated");
    assert!(session.aside.is_empty(), "its prompts are the same: {:?}", session.aside);
    supervisor.stop();
}

#[test]
fn garbage_on_stdout_reaches_nobody() {
    let home = home(&[("PUPPET_START", "garbage")], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    for line in ["not json", "[]", "{}", "null", r#"{"jsonrpc":"2.0","id":99999,"result":{}}"#] {
        session.call("raw", json!({"line": line}));
    }
    session.call("twice", json!({}));
    echo(&mut session);
    assert!(session.aside.is_empty(), "{:?}", session.aside);
    supervisor.stop();
}

#[test]
fn a_line_too_long_is_an_error_and_the_session_goes_on() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    let answer =
        session.request("tools/call", json!({"name": "long", "arguments": {"bytes": 20_000_000}}));
    assert_eq!(answer["error"]["code"], 413, "{answer}");
    session.call("endless", json!({"bytes": 50_000_000}));
    echo(&mut session);
    supervisor.stop();
}

#[test]
fn a_gigabyte_without_a_line_end_ends_the_server_and_costs_no_memory() {
    let home = Home::new();
    home.tenant("acme", &tenant(Path::new("/usr/bin/head"), &["-c", "1G", "/dev/zero"]));
    home.tenant("globex", &puppet_tenant(&[], ""));
    let supervisor = home.start();
    let mut session = supervisor.connect("acme");
    let answer = session.initialize(json!({}));
    assert_eq!(answer["result"]["serverInfo"]["name"], "tenantd", "{answer}");
    let mux = home.tenant_status("acme", |tenant| tenant["mux_pid"].is_u64())["mux_pid"].clone();
    let peak = std::fs::read_to_string(format!("/proc/{mux}/status")).expect("it lives");
    let peak = peak.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak").trim();
    let peak: u64 = peak.trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 100_000, "the mux came to hold {peak} kB");
    echo(&mut open(&supervisor, "globex"));
    supervisor.stop();
}

#[test]
fn a_server_that_exits_at_once_keeps_its_session_and_says_why() {
    let home = home(&[("PUPPET_START", "exit")], "");
    let supervisor = home.start();
    let mut session = supervisor.connect("acme");
    let answer = session.initialize(json!({}));
    assert_eq!(answer["result"]["serverInfo"]["name"], "tenantd", "{answer}");
    assert_eq!(tools(&mut session), ["tenantd_status"]);
    let why = session.call("tenantd_status", json!({}));
    for part in ["acme/main", "exited with code 3", "puppet: told to exit at once"] {
        assert!(said(&why).contains(part), "{part}: {why}");
    }
    let refused = session.request("tools/call", json!({"name": "echo", "arguments": {}}));
    assert_eq!(refused["error"]["code"], 503, "{refused}");
    echo(&mut open(&supervisor, "globex"));
    supervisor.stop();
}

/// A file where the server of acme sees it too: in its data directory.
fn in_data(home: &Home, name: &str) -> PathBuf {
    home.directory("state/tenants/acme/data");
    home.file(&format!("state/tenants/acme/data/{name}"), "")
}

fn tools(session: &mut Session) -> Vec<String> {
    let listed = session.result("tools/list", json!({}));
    let tools = listed["tools"].as_array().expect("tools");
    tools.iter().filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_crash_loop_ends_by_itself_and_the_session_hears_of_it() {
    let home = Home::new();
    let obstacle = in_data(&home, "obstacle");
    let told = obstacle.display().to_string();
    home.tenant("acme", &puppet_tenant(&[("PUPPET_EXIT_FILE", &told)], ""));
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    assert_eq!(tools(&mut session), ["tenantd_status"]);
    home.tenant_status("acme", |tenant| {
        tenant["servers"][0]["children"][0]["state"] == "crash-loop"
    });
    std::fs::remove_file(&obstacle).expect("removed");
    session.recv_method("notifications/tools/list_changed");
    assert!(tools(&mut session).contains(&"echo".to_owned()));
    echo(&mut session);
    supervisor.stop();
}

#[test]
fn a_strict_session_ends_with_the_reason_and_its_exit_code() {
    let home = home(&[("PUPPET_START", "exit")], "");
    let supervisor = home.start();
    let mut session = Session::spawn(home.command(&["connect", "--strict", "acme"]));
    let client = json!({"name": "test", "version": "1"});
    let hello = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    let answer = session.request("initialize", hello);
    assert_eq!(answer["error"]["code"], 503, "{answer}");
    assert_eq!(session.wait().code(), Some(69));
    assert!(session.stderr().contains("exited with code 3"), "{}", session.stderr());
    supervisor.stop();
}

#[test]
fn a_server_that_was_met_before_greets_its_client_while_it_starts() {
    for era in ["legacy", "modern"] {
        let home = Home::new();
        let wait = home.data("acme").join("wait");
        let told = wait.display().to_string();
        let variables = [("PUPPET_WAIT_FILE", told.as_str()), ("PUPPET_ERA", era)];
        home.tenant("acme", &puppet_tenant(&variables, ""));
        let supervisor = home.start();
        let met = supervisor.connect("acme").open(Era::Legacy);
        supervisor.stop();
        in_data(&home, "wait");
        let supervisor = home.start();
        let mut session = supervisor.connect("acme");
        assert_eq!(session.open(Era::Legacy), met, "{era}: greeted before the server is there");
        let id = session.ask("tools/call", json!({"name": "echo", "arguments": {"text": "well"}}));
        std::fs::remove_file(&wait).expect("removed");
        assert_eq!(said(&session.answer(&id)["result"]), "well");
        supervisor.stop();
    }
}

#[test]
fn a_server_that_never_answers_is_given_up_after_its_start_timeout() {
    for how in ["mute", "deaf"] {
        let home = home(&[("PUPPET_START", how)], "start_timeout = \"1s\"");
        let supervisor = home.start();
        let mut session = supervisor.connect("acme");
        let answer = session.initialize(json!({}));
        assert_eq!(answer["result"]["serverInfo"]["name"], "tenantd", "{how}: {answer}");
        let why = session.call("tenantd_status", json!({}));
        assert!(said(&why).contains("start"), "{how}: {why}");
        supervisor.stop();
    }
}

#[test]
fn a_probe_that_stays_unanswered_means_legacy() {
    let home = home(&[("PUPPET_PROBE", "silent")], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    echo(&mut session);
    supervisor.stop();
}

#[test]
fn a_server_that_closes_stdout_and_lives_on_is_replaced() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    let before = home.server("acme");
    let answer = session.request("tools/call", json!({"name": "close_stdout", "arguments": {}}));
    assert_eq!(answer["error"]["code"], 503, "{answer}");
    assert!(before.ends_within(support::DEADLINE));
    echo(&mut session);
    supervisor.stop();
}

#[test]
fn a_server_that_never_reads_gets_errors_by_the_request_timeout() {
    let home = home(&[], "request_timeout = \"1s\"");
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    session.call("deaf", json!({}));
    let answer = session.request("tools/call", json!({"name": "echo", "arguments": {"text": "x"}}));
    assert_eq!(answer["error"]["code"], 408, "{answer}");
    echo(&mut open(&supervisor, "globex"));
    supervisor.stop();
}

#[test]
fn a_flood_on_stderr_goes_to_the_log_and_never_to_a_session() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    session.call("flood_stderr", json!({"lines": 100_000}));
    echo(&mut session);
    assert!(session.aside.is_empty(), "{:?}", session.aside);
    assert!(!session.stderr().contains("flood"), "{}", session.stderr());
    supervisor.stop();
    let logged = lines_in(&home.path().join("log"), "line ");
    assert!(logged > 0 && logged < 50_000, "{logged} lines of the flood were logged");
}

/// How many lines that hold `text` the files below a directory have.
fn lines_in(directory: &Path, text: &str) -> usize {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let count = |path: PathBuf| match path.is_dir() {
        true => lines_in(&path, text),
        false => {
            let bytes = std::fs::read(&path).expect("a file");
            String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(text)).count()
        }
    };
    entries.map(|entry| count(entry.expect("an entry").path())).sum()
}

#[test]
fn a_server_that_exits_while_a_grandchild_holds_its_pipes_is_gone_at_once() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    let grandchild = grandchild(&home, &mut session);
    let held = session.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    let server = home.server("acme");
    let killed = Instant::now();
    server.kill();
    assert_eq!(session.answer(&held)["error"]["code"], 503);
    // 100 ms is the promise; a loaded machine gets some grace.
    assert!(killed.elapsed() < Duration::from_millis(500), "{:?}", killed.elapsed());
    assert!(grandchild.ends_within(Duration::from_secs(1)), "the grandchild lives on");
    echo(&mut session);
    supervisor.stop();
}

#[test]
fn nothing_is_left_of_a_server_that_ignores_every_wish() {
    let home = home(&[("PUPPET_STUBBORN", "1")], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    let family = vec![home.server("acme"), grandchild(&home, &mut session)];
    supervisor.stop();
    assert_eq!(left_after(family, Duration::ZERO), Vec::<String>::new());
}

#[test]
fn a_server_starts_clean() {
    let home = home(&[("GIVEN", "by the tenant file")], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, "acme");
    let found = environment(&mut session);
    assert_eq!(found["env"]["GIVEN"], "by the tenant file");
    assert_eq!(found["env"]["TENANTD_TENANT"], "acme");
    assert_eq!(found["env"]["TENANTD_DATA_DIR"], found["cwd"]);
    assert_eq!(found["cwd"], json!(home.data("acme")));
    for foreign in ["TENANTD_HOME", "NOTIFY_SOCKET", "CARGO_MANIFEST_DIR", "LISTEN_FDS"] {
        assert!(found["env"].get(foreign).is_none(), "{foreign} was inherited");
    }
    // The fourth is the one that lists them.
    assert_eq!(found["descriptors"], json!(["0", "1", "2", "3"]));
    supervisor.stop();
}
