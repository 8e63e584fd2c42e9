//! How starts, requests, sessions and children come to their end.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Desk, HELLO, call, plan};
use crate::config::tenant::Share;
use crate::mux::exchange::LONGEST_LINE;
use crate::mux::outbox::{Act, End};
use crate::mux::session::IN_FLIGHT;
use crate::wire::Farewell;

#[test]
fn a_silent_server_is_taken_for_legacy_after_two_seconds_and_given_up_after_nine() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.client(
        a,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
    );
    let child = desk.start();
    assert_eq!(desk.server_heard(child)[0]["method"], "server/discover");
    desk.exchange.tick(desk.now + Duration::from_secs(2));
    assert_eq!(desk.server_heard(child)[0]["method"], "initialize");
    desk.exchange.tick(desk.now + Duration::from_secs(9));
    let heard = desk.client_heard(a);
    assert_eq!(
        (&heard[0]["id"], &heard[0]["result"]["serverInfo"]["name"]),
        (&json!(0), &json!("tenantd"))
    );
    assert!(!desk.exchange.children.contains_key(&child), "given up");
}

#[test]
fn a_late_answer_times_out_and_progress_puts_it_off() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", Some("\"t\"")));
    let ours = desk.server_heard(child)[0]["id"].clone();
    desk.now += Duration::from_secs(500);
    desk.server(child, &json!({"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":ours,"progress":1}}).to_string());
    desk.heard(End::Session(a));
    desk.exchange.tick(desk.now + Duration::from_secs(599));
    assert!(desk.client_heard(a).is_empty());
    desk.exchange.tick(desk.now + Duration::from_secs(600));
    assert_eq!(desk.client_heard(a)[0]["error"]["code"], 408);
    assert_eq!(desk.server_heard(child)[0]["method"], "notifications/cancelled");
}

#[test]
fn a_session_of_its_own_has_a_child_of_its_own_with_its_own_handshake() {
    let mut desk = Desk::new(Share::Session);
    let a = desk.open(1, 1000);
    desk.client(
        a,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
    );
    let child = desk.start();
    let hello = desk.server_heard(child).remove(0);
    assert_eq!(hello["method"], "initialize");
    assert_eq!(hello["params"], serde_json::from_str::<Value>(HELLO).expect("JSON"));
    let b = desk.open(2, 1000);
    desk.client(
        b,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
    );
    assert_ne!(desk.start(), child);
}

#[test]
fn a_client_whose_input_ended_still_gets_its_answers() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    desk.acts();
    desk.exchange.client_ended(a, desk.now);
    assert!(!desk.acts().iter().any(|act| matches!(act, Act::CloseSession { .. })));
    desk.server(child, &json!({"jsonrpc":"2.0","id":ours,"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::CloseSession { .. })));
}

#[test]
fn requests_in_flight_are_bounded_and_an_answer_makes_room() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for id in 0..=IN_FLIGHT {
        desk.client(a, &call(&id.to_string(), None));
    }
    assert_eq!(desk.client_heard(a)[0]["error"]["code"], 429);
    let calls = desk.server_heard(child);
    assert_eq!(calls.len(), IN_FLIGHT);
    desk.server(child, &json!({"jsonrpc":"2.0","id":calls[0]["id"],"result":{}}).to_string());
    desk.client(a, &call("\"next\"", None));
    assert_eq!(desk.server_heard(child).len(), 1);
}

#[test]
fn a_client_that_says_everything_at_once_and_ends_gets_every_answer() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.client(
        a,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
    );
    desk.client(a, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    desk.client(a, &call("1", None));
    desk.exchange.client_ended(a, desk.now);
    let child = desk.start();
    let call = desk.shake(child).pop().expect("the call");
    assert_eq!(desk.client_heard(a)[0]["id"], 0);
    desk.server(child, &json!({"jsonrpc":"2.0","id":call["id"],"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::CloseSession { .. })));
}

#[test]
fn a_drain_waits_for_calls_in_flight_and_refuses_new_ones() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    let farewell = Farewell { reason: "stopping".to_owned(), code: 69 };
    desk.exchange.drain(farewell, Duration::from_secs(5), desk.now);
    desk.client(a, &call("2", None));
    assert_eq!(desk.client_heard(a)[0]["error"]["data"]["reason"], "stopping");
    desk.server(child, &json!({"jsonrpc":"2.0","id":ours,"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
    let acts = desk.acts();
    assert!(acts.iter().any(|act| matches!(act, Act::CloseSession { .. })));
    assert!(acts.iter().any(|act| matches!(act, Act::StopChild { .. })));
}

#[test]
fn a_server_that_asks_and_does_not_read_costs_a_bounded_memory() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.legacy(1, 1000);
    let id = "x".repeat(4000);
    let most = 2 * LONGEST_LINE + 8192;
    for _ in 0..6000 {
        desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"ping"}}"#));
    }
    let waiting = desk.exchange.out.backlog(End::Child(child));
    assert!(waiting > LONGEST_LINE && waiting <= most, "{waiting}");
    assert!(desk.exchange.counters.dropped > 0);
    desk.server_heard(child);
    desk.server(child, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert_eq!(desk.server_heard(child).len(), 1);
}

#[test]
fn a_client_that_never_answers_is_not_asked_without_end() {
    let mut desk = Desk::new(Share::Session);
    let (a, child) = desk.legacy(1, 1000);
    desk.client_heard(a);
    for id in 0..1025 {
        let ask = r#""method":"sampling/createMessage","params":{}"#;
        desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{id},{ask}}}"#));
    }
    assert_eq!(desk.client_heard(a).len(), 1024);
    let refused = desk.server_heard(child);
    let refused = refused.last().expect("an answer");
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(1024), &json!(429)));
}

#[test]
fn a_child_without_sessions_is_stopped_after_its_idle_timeout() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, _) = desk.legacy(1, 1000);
    desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
    desk.acts();
    desk.exchange.tick(desk.now + Duration::from_secs(599));
    assert!(desk.acts().is_empty());
    desk.exchange.tick(desk.now + Duration::from_secs(600));
    assert!(desk.acts().iter().any(|act| matches!(act, Act::StopChild { .. })));
}

#[test]
fn a_changed_plan_keeps_the_sessions_that_still_have_their_server() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let mut changed = plan(Share::Tenant);
    changed.features.insert("beta".to_owned(), true);
    desk.exchange.configure(changed, desk.now);
    desk.exchange.restart(None, desk.now);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::StopChild { .. })));
    desk.client(a, &call("1", None));
    desk.exchange.child_ended(child, "it exited with code 0", false, desk.now);
    let next = desk.start();
    let heard = desk.shake(next);
    let heard = heard.iter().find(|line| line["method"] == "tools/call").expect("the call");
    assert_eq!(heard["params"]["_meta"]["io.tenantd/context"]["features"]["beta"], true);
    desk.exchange.configure(plan(Share::Session), desk.now);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::CloseSession { .. })));
}

#[test]
fn a_server_that_always_runs_needs_no_session_and_comes_back_after_its_pause() {
    let mut desk = Desk::new(Share::Tenant);
    desk.exchange.plan.servers[0].always = true;
    desk.exchange.start_always(desk.now);
    for _ in 0..3 {
        let child = desk.start();
        desk.shake(child);
        desk.exchange.tick(desk.now + Duration::from_secs(3600));
        assert!(!desk.acts().iter().any(|act| matches!(act, Act::StopChild { .. })));
        desk.exchange.child_ended(child, "it died", false, desk.now);
        desk.now += Duration::from_secs(60);
        desk.exchange.tick(desk.now);
    }
    assert_eq!(desk.start(), 4);
}

#[test]
fn a_handshake_is_answered_whatever_either_side_leaves_out() {
    let bare = r#"{"jsonrpc":"2.0","id":0,"method":"initialize"}"#;
    let mut desk = Desk::new(Share::Tenant);
    let fresh = desk.open(1, 1000);
    let (modern, _) = desk.modern(2);
    for session in [fresh, modern] {
        desk.client(session, bare);
        let heard = desk.client_heard(session);
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!((&heard[0]["id"], &heard[0]["error"]["code"]), (&json!(0), &json!(-32602)));
    }
    // A server's revision that is no text is for the client to judge.
    let mut desk = Desk::new(Share::Tenant);
    let session = desk.open(1, 1000);
    desk.initialize(session);
    let child = desk.start();
    let probe = desk.server_heard(child).remove(0);
    let no =
        json!({"jsonrpc": "2.0", "id": probe["id"], "error": {"code": -32601, "message": "?"}});
    desk.server(child, &no.to_string());
    let hello = desk.server_heard(child).remove(0);
    desk.answer(child, &hello, r#"{"protocolVersion":5,"capabilities":{}}"#);
    let heard = desk.client_heard(session);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["result"]["protocolVersion"], 5);
}
