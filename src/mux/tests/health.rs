//! Looks at servers that nobody calls.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Desk, call};
use crate::config::tenant::Share;
use crate::mux::health::EVERY;
use crate::mux::outbox::ChildId;

fn answer(desk: &mut Desk, child: ChildId, asked: &Value) {
    desk.server(child, &json!({"jsonrpc": "2.0", "id": asked["id"], "result": {}}).to_string());
}

#[test]
fn a_server_that_answered_once_and_falls_silent_is_replaced() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.legacy(1, 1000);
    desk.pass(EVERY);
    assert!(desk.server_heard(child).is_empty(), "the handshake was a sign of life");
    desk.pass(EVERY);
    let ping = desk.server_heard(child).remove(0);
    assert_eq!(ping["method"], "ping");
    answer(&mut desk, child, &ping);
    desk.pass(EVERY);
    assert_eq!(desk.server_heard(child).len(), 1);
    desk.pass(Duration::from_secs(29));
    assert!(desk.exchange.children.contains_key(&child));
    desk.pass(Duration::from_secs(1));
    assert!(!desk.exchange.children.contains_key(&child));
}

#[test]
fn a_modern_server_is_asked_what_it_is() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.modern(1);
    desk.pass(EVERY);
    desk.pass(EVERY);
    assert_eq!(desk.server_heard(child)[0]["method"], "server/discover");
}

#[test]
fn calls_that_flow_or_wait_are_proof_enough() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for id in 1..10 {
        desk.client(a, &call(&id.to_string(), None));
        let asked = desk.server_heard(child).remove(0);
        assert_eq!(asked["method"], "tools/call");
        answer(&mut desk, child, &asked);
        desk.pass(EVERY);
    }
    desk.client(a, &call("99", None));
    desk.server_heard(child);
    for _ in 0..9 {
        desk.pass(EVERY);
        assert!(desk.server_heard(child).is_empty(), "a long call is not disturbed");
    }
}

#[test]
fn a_server_that_never_answered_a_look_is_left_alone() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.legacy(1, 1000);
    for _ in 0..20 {
        desk.pass(EVERY);
    }
    assert!(desk.exchange.children.contains_key(&child));
    assert_eq!(desk.server_heard(child).len(), 1, "asked once");
}
