//! A supervisor that is killed and has no successor: what it started serves on for a while, says what it
//! cannot do, and leaves with a reason. It never stands in the way of a supervisor that comes late.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::{DEADLINE, Era, Held, Home, documents_tenant, left_after, tenant_with, tenantd};

#[test]
fn a_mux_that_nobody_adopts_leaves_with_a_reason_and_takes_its_servers_along() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    home.settings("orphan_timeout = \"1s\"\n");
    let first = home.start();
    let mut session = first.connect("acme");
    session.open(Era::Modern);
    let echo = |text: &str| json!({ "text": text });
    session.call("echo", echo("before"));
    let family = first.descendants();
    assert_eq!(family.len(), 4, "a mux, a keeper, pid 1 of the sandbox, a server");
    let since = Instant::now();
    first.kill();
    assert_eq!(session.call("echo", echo("alone"))["content"][0]["text"], "alone");
    assert_eq!(session.wait().code(), Some(69));
    assert!(since.elapsed() >= Duration::from_secs(1), "{:?}", since.elapsed());
    assert!(session.stderr().contains("supervisor is gone"), "{}", session.stderr());
    assert!(left_after(family, Duration::from_secs(4)).is_empty());

    let second = home.start();
    let mut new = second.connect("acme");
    new.open(Era::Modern);
    assert_eq!(new.call("echo", echo("new"))["content"][0]["text"], "new");
    drop(new);
    second.stop();
}

#[test]
fn a_server_that_starts_with_its_tenant_and_dies_while_nobody_can_start_it_comes_back_with_the_next_one()
 {
    let home = Home::new();
    home.tenant("acme", &tenant_with(tenantd(), &["builtin", "documents"], "start = \"always\""));
    let first = home.start();
    let mut session = first.connect("acme");
    session.open(Era::Modern);
    let status = home.tenant_status("acme", |s| s["servers"][0]["children"][0]["pid"].is_u64());
    let keeper = status["servers"][0]["children"][0]["pid"].as_u64().expect("a keeper");
    let keeper = Held::of(u32::try_from(keeper).expect("a pid")).expect("a keeper");
    first.kill();
    // So long that no successor is waited for any more.
    assert!(!keeper.ends_within(Duration::from_millis(3500)));
    keeper.kill();
    assert!(keeper.ends_within(DEADLINE));
    let asked = json!({"name": "echo", "arguments": {"text": "down"}});
    for _ in 0..3 {
        assert_eq!(session.request("tools/call", asked.clone())["error"]["code"], 503);
    }
    let second = home.start();
    home.tenant_status("acme", |s| s["servers"][0]["children"][0]["state"] == "running");
    session.call("echo", json!({"text": "up"}));
    second.stop();
}

#[test]
fn while_there_is_no_supervisor_a_dead_server_is_said_to_be_down_and_starts_with_the_next_one() {
    let home = Home::new();
    home.tenant("acme", &documents_tenant());
    let first = home.start();
    let mut session = first.connect("acme");
    session.open(Era::Modern);
    let echo = |text: &str| json!({ "text": text });
    session.call("echo", echo("before"));
    let status = home.tenant_status("acme", |_| true);
    let keeper = status["servers"][0]["children"][0]["pid"].as_u64().expect("a keeper");
    first.kill();
    let keeper = Held::of(u32::try_from(keeper).expect("a pid")).expect("a keeper");
    keeper.kill();
    assert!(keeper.ends_within(DEADLINE));
    let asked = json!({"name": "echo", "arguments": echo("down")});
    let mut error = session.request("tools/call", asked.clone())["error"].take();
    if error["data"]["reason"] == "server-died" {
        // It was asked before its death was known. Now some seconds pass: a successor may be coming.
        error = session.request("tools/call", asked.clone())["error"].take();
    }
    assert_eq!(error["code"], 503, "{error}");
    assert!(error["message"].to_string().contains("systemctl start tenantd"), "{error}");
    let since = Instant::now();
    let error = session.request("tools/call", asked)["error"].take();
    assert_eq!(error["code"], 503, "{error}");
    assert!(since.elapsed() < Duration::from_secs(1), "the second is told at once");
    let second = home.start();
    assert_eq!(session.call("echo", echo("up"))["content"][0]["text"], "up");
    second.stop();
}
