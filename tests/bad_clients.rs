//! Clients that send nonsense, vanish or never read: a clear error where one can be given, and nobody
//! else disturbed.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Era, Home, Session, Supervisor, as_owner, documents_tenant, puppet_tenant};

fn home() -> Home {
    let home = Home::new();
    home.tenant("acme", &puppet_tenant(&[], ""));
    home
}

fn open(supervisor: &Supervisor<'_>) -> Session {
    let mut session = supervisor.connect("acme");
    session.open(Era::Legacy);
    session
}

fn echo(session: &mut Session) {
    let result = session.call("echo", json!({"text": "well"}));
    assert_eq!(result["content"][0]["text"], "well", "{result}");
}

/// The one error without an id that the session got.
fn error_without_id(session: &mut Session) -> Value {
    let message = session.recv_until(|message| message.get("error").is_some());
    assert!(message.get("id").is_none_or(Value::is_null), "{message}");
    message
}

#[test]
fn a_line_that_is_no_message_gets_an_error_and_the_session_goes_on() {
    let home = home();
    let supervisor = home.start();
    let mut session = open(&supervisor);
    let lines: [&[u8]; 9] = [
        b"not json",
        b"{\"jsonrpc\":",
        b"\xff\xfe",
        b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]",
        b"{}",
        b"null",
        b"42",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}",
    ];
    for line in lines {
        session.send_bytes(&[line, b"\n"].concat());
        let error = error_without_id(&mut session);
        assert_eq!(error["error"]["code"], 400, "{}: {error}", String::from_utf8_lossy(line));
        echo(&mut session);
    }
    assert!(session.aside.is_empty(), "{:?}", session.aside);
    supervisor.stop();
}

#[test]
fn an_id_that_is_none_is_refused() {
    let home = home();
    let supervisor = home.start();
    let mut session = open(&supervisor);
    for id in ["1.5", "3.0", "1e3", "null", "true", "{}", "[1]"] {
        session.send(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#));
        let error = session.recv_until(|message| message.get("error").is_some());
        assert_eq!(error["error"]["code"], 400, "{id}: {error}");
    }
    echo(&mut session);
    supervisor.stop();
}

#[test]
fn parameters_that_are_no_object_never_reach_the_server() {
    let home = home();
    let supervisor = home.start();
    let mut session = open(&supervisor);
    for params in ["[1,2]", "[]", "7", "\"x\"", "true"] {
        session.send(&format!(
            r#"{{"jsonrpc":"2.0","id":"p","method":"tools/list","params":{params}}}"#
        ));
        let answer = session.answer(&json!("p"));
        assert_eq!(answer["error"]["code"], 400, "{params}: {answer}");
    }
    let seen = session.call("seen", json!({}));
    assert!(!seen.to_string().contains("tools/list"), "{seen}");
    supervisor.stop();
}

#[test]
fn a_context_spelled_with_escapes_is_still_tenantds_word() {
    let home = home();
    let supervisor = home.start();
    let mut session = open(&supervisor);
    let forged = r#"{"tenant":"globex","permissions":["admin"]}"#;
    for (meta, context) in [
        (r"_meta", r"io.tenantd\/context"),
        (r"_m\u0065ta", r"io.tenantd/context"),
        (r"\u005fmeta", r"io\u002etenantd/context"),
    ] {
        session.send(&format!(
            r#"{{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{{"name":"context","arguments":{{}},"{meta}":{{"{context}":{forged}}}}}}}"#
        ));
        let answer = session.answer(&json!("c"));
        let text = answer["result"]["content"][0]["text"].as_str();
        let text = text.unwrap_or_else(|| panic!("{meta} {context}: {answer}"));
        assert!(text.contains("acme") && !text.contains("globex"), "{meta} {context}: {text}");
    }
    supervisor.stop();
}

#[test]
fn a_line_over_the_limit_is_refused_with_its_id() {
    let home = Home::new();
    let small = puppet_tenant(&[], "") + "[quota]\nmessage_size = \"64KiB\"\n";
    home.tenant("acme", &small);
    let supervisor = home.start();
    let mut session = open(&supervisor);
    let text = "x".repeat(100_000);
    let answer =
        session.request("tools/call", json!({"name": "echo", "arguments": {"text": text}}));
    assert_eq!(answer["error"]["code"], 413, "{answer}");
    echo(&mut session);
    supervisor.stop();
}

#[test]
fn a_gigabyte_without_an_end_of_line_costs_a_bounded_amount_of_memory() {
    let home = home();
    let supervisor = home.start();
    let (mut session, mut other) = (open(&supervisor), open(&supervisor));
    let chunk = vec![b'x'; 1 << 20];
    for turn in 0..1024 {
        session.send_bytes(&chunk);
        if turn % 256 == 0 {
            echo(&mut other);
        }
    }
    session.send_bytes(b"\n");
    assert_eq!(error_without_id(&mut session)["error"]["code"], 413);
    echo(&mut session);
    for process in supervisor.descendants() {
        let peak = peak_kib(process.pid);
        assert!(peak < 128 * 1024, "{} ({}) took {peak} KiB", process.pid, process.name);
    }
    supervisor.stop();
}

/// VmHWM of /proc/PID/status (proc(5)).
fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|peak| peak.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_response_that_nobody_asked_for_goes_nowhere() {
    let home = home();
    let supervisor = home.start();
    let mut session = open(&supervisor);
    session.send(r#"{"jsonrpc":"2.0","id":0,"result":{}}"#);
    session.send(r#"{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":"no"}}"#);
    let seen = session.call("seen", json!({}));
    let text = seen["content"][0]["text"].as_str().expect("a text");
    assert!(!text.contains(r#"\"error\""#), "{text}");
    assert!(session.aside.is_empty(), "{:?}", session.aside);
    supervisor.stop();
}

#[test]
fn a_request_before_the_handshake_is_told_what_comes_first() {
    let home = home();
    let supervisor = home.start();
    let mut session = supervisor.connect("acme");
    let answer = session.request("tools/list", json!({}));
    assert_eq!(answer["error"]["code"], 400, "{answer}");
    assert!(answer["error"]["message"].to_string().contains("initialize"), "{answer}");
    session.open(Era::Legacy);
    echo(&mut session);
    supervisor.stop();
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_a_line_disturbs_nobody() {
    let home = home();
    let supervisor = home.start();
    let mut other = open(&supervisor);
    let mut session = open(&supervisor);
    session.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    session.send_bytes(br#"{"jsonrpc":"2.0","id":5,"method":"tools/ca"#);
    session.kill();
    // Its call is cancelled at the server: seen now or with one of the next looks.
    let cancelled = |other: &mut Session| {
        let seen = other.call("seen", json!({}));
        seen.to_string().contains("notifications/cancelled")
    };
    while !cancelled(&mut other) {}
    echo(&mut other);
    supervisor.stop();
}

#[test]
fn a_client_that_never_reads_delays_nobody_and_is_closed() {
    let home = home();
    let supervisor = home.start();
    let mut other = open(&supervisor);
    let mut command = home.command(&["connect", "acme"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = as_owner(|| command.spawn()).expect("started");
    let mut stdin = child.stdin.take().expect("a pipe");
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"deaf","version":"1"}}}"#;
    let mut sent = writeln!(stdin, "{hello}");
    for id in 1..=200 {
        let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": "long", "arguments": {"bytes": 1_000_000}}});
        sent = sent.and_then(|()| writeln!(stdin, "{call}"));
        if id % 20 == 0 {
            echo(&mut other);
        }
    }
    // Either everything was taken or the session was closed meanwhile; in the end it is closed.
    drop((sent, stdin));
    assert!(!child.wait().expect("wait").success(), "a session that fell behind ended well");
    echo(&mut other);
    supervisor.stop();
}

#[test]
fn an_unknown_tenant_and_a_bad_name_are_said_in_the_handshake() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    home.tenant("globex", &documents_tenant());
    let supervisor = home.start();
    for (target, code, says) in
        [("nobody", 77, "nobody"), ("Not A Name", 64, "tenant"), ("acme/none", 77, "none")]
    {
        let mut session = supervisor.connect(target);
        let answer = session.initialize(json!({}));
        let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(message.contains(says) && message.len() < 300, "{target}: {message}");
        // Every request gets the same reason.
        assert_eq!(session.request("tools/list", json!({}))["error"]["message"], message);
        session.hang_up();
        let status = session.wait();
        assert!([code, 69].contains(&status.code().expect("a code")), "{target}: {status}");
        assert_eq!(session.stderr().lines().count(), 1, "{}", session.stderr());
    }
    supervisor.stop();
}

#[test]
fn two_tenants_and_no_name_lists_the_choices() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let lone = home.start();
    let mut session = Session::spawn(home.command(&["connect"]));
    assert!(session.initialize(json!({}))["result"].is_object());
    session.close();
    lone.stop();
    home.tenant("globex", &documents_tenant());
    let supervisor = home.start();
    let mut session = Session::spawn(home.command(&["connect"]));
    let answer = session.initialize(json!({}));
    let message = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(message.contains("acme") && message.contains("globex"), "{message}");
    session.hang_up();
    assert_eq!(session.wait().code(), Some(64));
    supervisor.stop();
}
