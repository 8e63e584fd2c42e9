//! How much is kept of requests that may have to be sent again with what their server wants.

use serde_json::json;

use super::Desk;
use super::rounds::{NAME, reply, required};
use super::upward::ask;
use crate::config::tenant::Share;
use crate::mux::exchange::LONGEST_LINE;

#[test]
fn lines_that_wait_for_an_answer_are_kept_up_to_a_bound() {
    let mut desk = Desk::new(Share::Tenant);
    desk.exchange.plan.message_size = crate::config::tenant::Limit::Unlimited;
    let (session, child) = desk.upward(1);
    let large = "x".repeat(9 * 1024 * 1024);
    let mut calls = Vec::new();
    for id in 0..3 {
        desk.client(session, &ask(json!(id), "tools/call", json!({"x": large})));
        calls.push(json!({"id": desk.only(child)["id"]}));
    }
    desk.give(child, &calls[2], &required(&[("n", NAME)], None));
    assert_eq!(desk.code(session, &json!(2)), Some(403), "not kept, and it says so");
    desk.give(child, &calls[0], &required(&[("n", NAME)], None));
    let question = desk.client_heard(session).remove(0);
    reply(&mut desk, session, &question, "{}");
    assert_eq!(desk.only(child)["params"]["x"].as_str().map(str::len), Some(large.len()));
}

#[test]
fn a_short_line_is_kept_however_much_is_kept_already() {
    let mut desk = Desk::new(Share::Tenant);
    desk.exchange.plan.message_size = crate::config::tenant::Limit::Unlimited;
    let (session, child) = desk.upward(1);
    let longest = "x".repeat(LONGEST_LINE - 1000);
    for id in 0..2 {
        desk.client(session, &ask(json!(id), "tools/call", json!({"x": longest})));
        desk.only(child);
    }
    let inputs = [("n", NAME)];
    let short = json!({"x": "x".repeat(3000)});
    desk.client(session, &ask(json!(2), "tools/call", short));
    let call = desk.only(child);
    desk.give(child, &call, &required(&inputs, None));
    assert_eq!(desk.client_heard(session)[0]["method"], "elicitation/create");
}

#[test]
fn requests_that_wait_for_input_are_kept_up_to_a_bound() {
    let mut desk = Desk::new(Share::Tenant);
    desk.exchange.plan.message_size = crate::config::tenant::Limit::Unlimited;
    let (session, child) = desk.upward(1);
    let large = "x".repeat(9 * 1024 * 1024);
    for id in 0..3 {
        desk.client(session, &ask(json!(id), "tools/call", json!({"x": large})));
        let call = json!({"id": desk.only(child)["id"]});
        desk.give(child, &call, &required(&[("n", NAME)], None));
        let heard = desk.client_heard(session).remove(0);
        match id {
            2 => assert_eq!(heard["error"]["code"], 429),
            _ => assert_eq!(heard["method"], "elicitation/create"),
        }
    }
}
