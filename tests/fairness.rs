//! A session that sends more than its server takes, or does not read what it asked for: its neighbours go
//! on, and it pays for itself.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::time::Instant;

use serde_json::{Value, json};
use support::{DEADLINE, Era, Held, Home, Session, Supervisor, puppet, puppet_tenant, tenant};

fn open(supervisor: &Supervisor<'_>, target: &str) -> Session {
    let mut session = supervisor.connect(target);
    session.open(Era::Legacy);
    session
}

fn echo(session: &mut Session) {
    let result = session.call("echo", json!({"text": "well"}));
    assert_eq!(result["content"][0]["text"], "well", "{result}");
}

fn nap(ms: u64) -> Value {
    json!({"name": "nap", "arguments": {"ms": ms}})
}

/// How many lines the server has read, now that it has come to this call.
fn lines_read(session: &mut Session) -> usize {
    let answer = session.result("tools/call", nap(0));
    answer["content"][0]["text"].as_str().and_then(|text| text.parse().ok()).expect("a number")
}

/// A tenant with two servers.
fn two_servers() -> String {
    let server = |name: &str| format!("[servers.{name}]\ncommand = {:?}\n", puppet());
    format!("{}{}", server("stuck"), server("well"))
}

#[test]
fn a_flood_does_not_hold_up_a_polite_neighbour() {
    let home = Home::new();
    home.tenant("acme", &puppet_tenant(&[], ""));
    let supervisor = home.start();
    let (mut greedy, mut polite) = (open(&supervisor, "acme"), open(&supervisor, "acme"));
    let flood: Vec<_> = (0..2000).map(|_| greedy.ask("tools/call", nap(2))).collect();
    let before = lines_read(&mut polite);
    let after = lines_read(&mut polite);
    // What lies in the server's pipe (64 KiB) and one grant (32 KiB) stand before it, at some 280 bytes
    // a line; without turns it is most of the flood.
    assert!(after - before < 600, "{} lines stood before one", after - before);
    assert!(after < 1900, "the flood was over: {after}");
    for id in &flood {
        assert!(greedy.answer(id)["result"].is_object());
    }
    supervisor.stop();
}

#[test]
fn a_server_that_stops_reading_holds_up_its_own_calls_and_nothing_else() {
    let home = Home::new();
    home.tenant("acme", &two_servers());
    let supervisor = home.start();
    let (mut a, mut b) = (open(&supervisor, "acme/stuck"), open(&supervisor, "acme/stuck"));
    let mut well = open(&supervisor, "acme/well");
    a.call("deaf", json!({}));
    for _ in 0..1500 {
        a.ask("tools/call", nap(0));
    }
    let waits = b.ask("tools/call", nap(0));
    for session in [&mut a, &mut b] {
        session.result("ping", json!({}));
    }
    echo(&mut well);
    b.notify("notifications/cancelled", json!({"requestId": waits}));
    assert!(b.close().success(), "nothing was owed to it any more");
    a.kill();
    echo(&mut well);
    supervisor.stop();
}

/// The lines are few and long, so that no answer ever has to wait for room: that would wake its client up too.
#[test]
fn the_end_of_a_server_that_stopped_reading_lets_its_clients_go_on() {
    let home = Home::new();
    let program = home.path().join("server");
    std::fs::copy(puppet(), &program).expect("copied");
    home.tenant("acme", &tenant(&program, &[]));
    let supervisor = home.start();
    let mut a = open(&supervisor, "acme");
    let running = |tenant: &Value| !tenant["servers"][0]["children"][0]["pid"].is_null();
    let status = home.tenant_status("acme", running);
    let pid = status["servers"][0]["children"][0]["pid"].as_u64().expect("a pid");
    let server = Held::of(u32::try_from(pid).expect("a pid")).expect("it runs");
    a.call("deaf", json!({}));
    // More than lies in the server's pipe (64 KiB) and is read on for it (256 KiB), with a rest that its
    // own pipe (64 KiB) holds.
    let long = json!({"name": "echo", "arguments": {"text": "x".repeat(50_000)}});
    for _ in 0..8 {
        a.ask("tools/call", long.clone());
    }
    let rest: Vec<_> = (0..600).map(|_| a.ask("tools/call", nap(0))).collect();
    std::fs::remove_file(&program).expect("removed");
    server.kill();
    let answer = a.answer(rest.last().expect("many"));
    assert!(answer["error"].is_object(), "no server will have it: {answer}");
    supervisor.stop();
}

#[test]
fn a_session_that_does_not_read_is_told_why_it_is_closed_while_its_neighbour_goes_on() {
    let home = Home::new();
    home.tenant("acme", &puppet_tenant(&[], ""));
    let supervisor = home.start();
    let (mut deaf, mut other) = (open(&supervisor, "acme"), open(&supervisor, "acme"));
    for _ in 0..40 {
        deaf.ask("tools/call", json!({"name": "long", "arguments": {"bytes": 1_000_000}}));
    }
    let began = Instant::now();
    while !deaf.stderr().contains("the client does not read its messages") {
        assert!(began.elapsed() < DEADLINE, "it was not closed: {}", deaf.stderr());
        echo(&mut other);
    }
    supervisor.stop();
}
