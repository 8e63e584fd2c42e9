//! Sessions whose server cannot run: they stay, are told, and hear of the cure.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Desk, META, PAUSE, discovery, plan};
use crate::config::tenant::Share;
use crate::mcp::era::Era;
use crate::mux::exchange::Exchange;
use crate::mux::memory::{Knowledge, learn};
use crate::mux::outbox::{Act, ChildId, End};
use crate::names::{ServerName, SessionId};
use crate::wire::{Ailment, Holder};

fn methods(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["method"].as_str()).collect()
}

fn tool_names(answer: &Value) -> Vec<&str> {
    let tools = answer["result"]["tools"].as_array().expect("tools");
    tools.iter().filter_map(|tool| tool["name"].as_str()).collect()
}

/// A session whose server died five times before it said anything.
fn in_a_crash_loop() -> (Desk, SessionId) {
    let mut desk = Desk::new(Share::Tenant);
    let a = SessionId(1);
    let holder = Holder { permissions: vec!["admin".to_owned()], ..desk.holder(1000) };
    desk.exchange.open(a, ServerName::main(), holder, false, desk.now);
    desk.initialize(a);
    for death in 1..=5 {
        assert!(desk.client_heard(a).is_empty(), "it waits while trying may help ({death})");
        desk.fall();
        if death < 5 {
            desk.pass(PAUSE / 2);
        }
    }
    (desk, a)
}

#[test]
fn a_crash_loop_keeps_the_session_and_one_tool_says_why() {
    let (mut desk, a) = in_a_crash_loop();
    let greeting = desk.client_heard(a).remove(0);
    assert_eq!(greeting["result"]["capabilities"]["tools"]["listChanged"], true, "{greeting}");
    assert_eq!(greeting["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(tool_names(&desk.asked(a, "tools/list", json!({}))), ["tenantd_status"]);
    assert_eq!(desk.asked(a, "resources/list", json!({}))["result"]["resources"], json!([]));
    let said = desk.asked(a, "tools/call", json!({"name": "tenantd_status", "arguments": {}}));
    let text = said["result"]["content"][0]["text"].as_str().expect("text");
    assert!(text.contains("it exited with code 3") && text.contains("acme/main"), "{text}");
    assert!(text.contains(r"cannot\u{1b}[31m open"), "{text}");
    let b = desk.open(2, 1001);
    let said = desk.asked(b, "tools/call", json!({"name": "tenantd_status"})).to_string();
    assert!(!said.contains("open"), "who is no admin reads no server's words: {said}");
    let refused = desk.asked(a, "tools/call", json!({"name": "other"}));
    assert_eq!(refused["error"]["code"], 503, "{refused}");
    assert_eq!(refused["error"]["data"]["reason"], "crash-loop");
    assert!(refused["error"]["data"]["retryAfterMs"].as_u64().is_some_and(|ms| ms > 1000));
}

#[test]
fn a_crash_loop_is_tried_again_on_its_own_and_the_cure_is_told() {
    let (mut desk, a) = in_a_crash_loop();
    desk.client_heard(a);
    desk.client(a, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    desk.pass(Duration::from_secs(10));
    let child = desk.start();
    desk.shake(child);
    assert_eq!(methods(&desk.client_heard(a)), ["notifications/tools/list_changed"]);
    let well = desk.asked(a, "tools/call", json!({"name": "tenantd_status"}));
    assert!(well["result"]["content"][0]["text"].as_str().expect("text").contains("available"));
    // The server has no prompts; the handshake of ours said that there might be.
    assert_eq!(desk.asked(a, "prompts/list", json!({}))["result"]["prompts"], json!([]));
    desk.client(a, r#"{"jsonrpc":"2.0","id":9,"method":"tools/list"}"#);
    assert_eq!(methods(&desk.server_heard(child)), ["tools/list"]);
}

#[test]
fn a_missing_program_is_told_at_once_and_not_tried_again_until_something_changes() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.initialize(a);
    let child = desk.start();
    desk.exchange.child_ended(child, "/x does not exist", true, desk.now);
    assert_eq!(desk.client_heard(a)[0]["result"]["serverInfo"]["name"], "tenantd");
    for _ in 0..100 {
        desk.pass(Duration::from_secs(600));
    }
    assert!(!desk.acts().iter().any(|act| matches!(act, Act::Ask { .. })));
    desk.exchange.configure(plan(Share::Tenant), desk.now);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::Ask { .. })));
}

#[test]
fn a_server_that_dies_in_service_tells_its_sessions_when_it_is_lost() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.exchange.child_ended(child, "it died", false, desk.now);
    desk.client(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    for _ in 0..4 {
        assert!(desk.client_heard(a).is_empty());
        // More than any of these pauses (2 s), less than its share of what a start may take (9 s).
        desk.pass(PAUSE * 7 / 10);
        desk.fall();
    }
    let heard = desk.client_heard(a);
    assert_eq!(methods(&heard), ["notifications/tools/list_changed"], "{heard:?}");
    assert_eq!(tool_names(heard.last().expect("an answer")), ["tenantd_status"]);
}

#[test]
fn a_strict_session_ends_with_the_reason_at_the_first_failure() {
    let mut desk = Desk::new(Share::Tenant);
    let holder = desk.holder(1000);
    desk.exchange.open(SessionId(1), ServerName::main(), holder, true, desk.now);
    desk.initialize(SessionId(1));
    desk.fall();
    assert_eq!(desk.client_heard(SessionId(1))[0]["error"]["code"], 503);
    let closed = desk.acts().into_iter().find_map(|act| match act {
        Act::CloseSession { farewell, .. } => Some(farewell),
        _ => None,
    });
    let farewell = closed.expect("closed");
    assert!(farewell.code == 69 && farewell.reason.contains("code 3"), "{farewell:?}");
}

fn held() -> Ailment {
    let (reason, message) = ("suspended".to_owned(), "acme is suspended".to_owned());
    Ailment { reason, message, code: 69 }
}

#[test]
fn a_held_server_is_stopped_told_and_started_when_it_is_let_go() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let mut changed = plan(Share::Tenant);
    changed.servers[0].held = Some(held());
    desk.exchange.configure(changed, desk.now);
    assert_eq!(methods(&desk.client_heard(a)), ["notifications/tools/list_changed"]);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::StopChild { .. })));
    desk.exchange.child_ended(child, "it ended", false, desk.now);
    assert_eq!(tool_names(&desk.asked(a, "tools/list", json!({}))), ["tenantd_status"]);
    assert!(!desk.acts().iter().any(|act| matches!(act, Act::Ask { .. })));
    desk.exchange.configure(plan(Share::Tenant), desk.now);
    let child = desk.start();
    desk.shake(child);
    assert_eq!(methods(&desk.client_heard(a)), ["notifications/tools/list_changed"]);
}

#[test]
fn a_session_that_only_waited_gets_whatever_server_there_is_then() {
    let mut desk = Desk::new(Share::Tenant);
    let mut changed = plan(Share::Tenant);
    changed.servers[0].held = Some(held());
    desk.exchange.configure(changed, desk.now);
    let a = desk.open(1, 1000);
    desk.initialize(a);
    desk.client_heard(a);
    desk.exchange.configure(plan(Share::Session), desk.now);
    let child = desk.start();
    desk.shake(child);
    assert_eq!(methods(&desk.client_heard(a)), ["notifications/tools/list_changed"]);
    assert_eq!(desk.exchange.slots.len(), 1, "the slot of before is gone");
    desk.exchange.configure(plan(Share::Tenant), desk.now);
    assert!(!desk.exchange.sessions.contains_key(&a), "it had a server of its own");
}

#[test]
fn a_modern_session_of_a_held_server_discovers_lists_and_listens() {
    let mut desk = Desk::new(Share::Tenant);
    let mut changed = plan(Share::Tenant);
    changed.servers[0].held = Some(held());
    desk.exchange.configure(changed, desk.now);
    let a = desk.open(1, 1000);
    let meta: Value = serde_json::from_str(&format!("{{{META}}}")).expect("JSON");
    let found = desk.asked(a, "server/discover", json!({"_meta": meta}));
    assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]), "{found}");
    assert_eq!(found["result"]["ttlMs"], 0);
    let listed = desk.asked(a, "tools/list", json!({"_meta": meta}));
    assert_eq!(listed["result"]["resultType"], "complete");
    let wanted = json!({"_meta": meta, "notifications": {"toolsListChanged": true}});
    let held = desk.asked(a, "subscriptions/listen", wanted);
    assert_eq!(held["method"], "notifications/subscriptions/acknowledged", "{held}");
    desk.exchange.configure(plan(Share::Tenant), desk.now);
    let child = desk.start();
    let probe = desk.server_heard(child).remove(0);
    desk.server(child, &discovery(&probe["id"]));
    let listen = desk.server_heard(child).remove(0);
    assert_eq!(listen["method"], "subscriptions/listen");
    acknowledge(&mut desk, child, &listen["id"]);
    let heard = desk.client_heard(a);
    assert_eq!(methods(&heard), ["notifications/tools/list_changed"], "{heard:?}");
    let id = &heard[0]["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
    assert_eq!(id, "q");
}

fn acknowledge(desk: &mut Desk, child: ChildId, id: &Value) {
    let method = "notifications/subscriptions/acknowledged";
    let meta = json!({"io.modelcontextprotocol/subscriptionId": id});
    let line = json!({"jsonrpc": "2.0", "method": method, "params": {"_meta": meta}});
    desk.server(child, &line.to_string());
}

#[test]
fn a_modern_subscription_outlives_its_server_and_is_acknowledged_once() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.modern(1);
    let meta: Value = serde_json::from_str(&format!("{{{META}}}")).expect("JSON");
    let listen = json!({"jsonrpc": "2.0", "id": "sub", "method": "subscriptions/listen",
        "params": {"_meta": meta, "notifications": {"toolsListChanged": true}}});
    desk.client(a, &listen.to_string());
    let id = desk.server_heard(child)[0]["id"].clone();
    acknowledge(&mut desk, child, &id);
    assert_eq!(desk.client_heard(a).len(), 1);
    desk.exchange.child_ended(child, "it died", false, desk.now);
    assert!(desk.client_heard(a).is_empty(), "a subscription is no call that could fail");
    desk.client(
        a,
        &json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {"_meta": meta}})
            .to_string(),
    );
    let child = desk.start();
    let probe = desk.server_heard(child).remove(0);
    desk.server(child, &discovery(&probe["id"]));
    let heard = desk.server_heard(child);
    assert_eq!(methods(&heard), ["subscriptions/listen", "tools/list"]);
    acknowledge(&mut desk, child, &heard[0]["id"]);
    assert!(desk.client_heard(a).is_empty(), "it was acknowledged before");
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "sub"}});
    desk.client(a, &cancel.to_string());
    assert_eq!(desk.server_heard(child)[0]["params"]["requestId"], heard[0]["id"]);
    assert!(desk.exchange.sessions[&a].listens.is_empty());
}

#[test]
fn to_an_older_client_a_subscription_of_the_newer_era_is_a_request_like_any_other() {
    let listen = r#"{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["x:/1"]}}}"#;
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, listen);
    assert_eq!(methods(&desk.server_heard(child)), ["subscriptions/listen"]);
    desk.kill(child);
    let heard = desk.client_heard(a);
    assert_eq!((&heard[0]["id"], &heard[0]["error"]["code"]), (&json!(7), &json!(503)));
    // No server that comes is asked for it.
    desk.pass(PAUSE);
    desk.client(a, &json!({"jsonrpc": "2.0", "id": 8, "method": "tools/list"}).to_string());
    let child = desk.start();
    let heard = desk.shake_with(child, json!({"tools": {}, "resources": {"subscribe": true}}));
    assert!(!methods(&heard).contains(&"resources/subscribe"), "{heard:?}");
    assert!(desk.client_heard(a).is_empty());
    // Nor is it kept where there is no server.
    let (mut desk, a) = in_a_crash_loop();
    desk.client_heard(a);
    desk.client(a, listen);
    let heard = desk.client_heard(a);
    assert_eq!((&heard[0]["id"], &heard[0]["error"]["code"]), (&json!(7), &json!(503)));
}

#[test]
fn a_known_server_greets_its_client_while_it_starts() {
    let mut known = Knowledge::new();
    let handshake = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"0.9"}}"#;
    let handshake = serde_json::value::RawValue::from_string(handshake.to_owned()).expect("JSON");
    learn(&mut known, "program".to_owned(), Era::Legacy, &handshake);
    let mut desk = Desk::new(Share::Tenant);
    desk.exchange = Exchange::new(plan(Share::Tenant), known, [7; 32], desk.now);
    let a = desk.open(1, 1000);
    desk.initialize(a);
    assert!(desk.client_heard(a).is_empty());
    let child = desk.start();
    let heard = desk.client_heard(a);
    assert_eq!(heard[0]["result"]["serverInfo"]["version"], "0.9", "{heard:?}");
    let asked = desk.server_heard(child);
    assert_eq!(methods(&asked), ["initialize"], "what it speaks is known: no probe");
    let id = &asked[0]["id"];
    desk.server(
        child,
        &json!({"jsonrpc":"2.0","id":id,"result":{"protocolVersion":"2025-11-25",
        "capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1.0"}}})
        .to_string(),
    );
    assert!(desk.client_heard(a).is_empty(), "another version, but nobody has listed anything yet");
    assert!(desk.acts().iter().any(|act| matches!(act, Act::Remember { .. })));
}

#[test]
fn who_has_waited_as_long_as_a_start_may_take_is_greeted_all_the_same() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.pass(Duration::from_secs(1));
    let b = desk.open(2, 1000);
    desk.initialize(a);
    desk.initialize(b);
    let child = desk.start();
    desk.pass(Duration::from_millis(8999));
    assert!(desk.client_heard(a).is_empty());
    desk.exchange.timers.clear_all(|timer| *timer == crate::mux::timers::Timer::Start(child));
    desk.pass(Duration::from_millis(1));
    assert_eq!(desk.client_heard(a)[0]["result"]["serverInfo"]["name"], "tenantd");
    assert_eq!(tool_names(&desk.asked(a, "tools/list", json!({}))), ["tenantd_status"]);
    desk.shake(child);
    assert_eq!(methods(&desk.client_heard(a)), ["notifications/tools/list_changed"]);
}

#[test]
fn without_a_supervisor_a_start_waits_a_while_and_the_server_is_not_blamed() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.exchange.supervisor_gone(desk.now);
    desk.exchange.child_ended(child, "it died", false, desk.now);
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    desk.client(a, list);
    desk.pass(Duration::from_millis(2999));
    assert!(desk.client_heard(a).is_empty(), "the next one may come");
    desk.pass(Duration::from_millis(1));
    assert_eq!(desk.client_heard(a)[0]["error"]["data"]["reason"], "no-supervisor");
    for _ in 0..10 {
        desk.client(a, list);
        assert_eq!(desk.client_heard(a)[0]["error"]["data"]["reason"], "no-supervisor");
    }
    desk.acts();
    desk.exchange.supervisor_came(desk.now);
    desk.client(a, list);
    let child = desk.start();
    assert_eq!(methods(&desk.shake(child)), ["notifications/initialized", "tools/list"]);
    assert!(desk.heard(End::Session(a)).is_empty());
}
