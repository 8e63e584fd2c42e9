//! Calls that wait for a retry, and what ends the wait.

use std::time::Duration;

use super::asked::{HOUR, ends_well, held, is_unknown, question, retry, state};
use super::*;
use crate::config::tenant::Share;
use crate::wire::Farewell;

#[test]
fn a_call_whose_retry_never_comes_is_cleared_away() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, state) = held(&mut desk, 1, 1000);
    desk.heard(End::Child(child));
    // Longer than any request may take: while it waits, no limit runs.
    desk.pass(HOUR - Duration::from_secs(1));
    let others = desk.server_heard(child);
    assert!(others.iter().all(|line| line["method"] == "ping"), "{others:?}");
    desk.pass(Duration::from_secs(1));
    let heard = desk.server_heard(child);
    let refusal = heard.iter().find(|line| line["id"] == "q").expect("an answer");
    assert_eq!(refusal["error"]["data"]["reason"], "unanswered");
    let cancel = heard.iter().find(|line| line["method"] == "notifications/cancelled");
    assert_eq!(cancel.expect("a cancellation")["params"]["requestId"].to_string(), upstream);
    desk.is_silent(a);
    desk.client(a, &retry("2", &state, r#"{"1":{}}"#));
    is_unknown(&mut desk, a);
}

#[test]
fn each_round_has_its_own_hour() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, first) = held(&mut desk, 1, 1000);
    let answer_pings = |desk: &mut Desk| {
        for line in desk.server_heard(child) {
            assert_ne!(line["method"], "notifications/cancelled");
            if line["method"] == "ping" {
                desk.answers(child, &line["id"].to_string(), "{}");
            }
        }
    };
    for _ in 0..40 {
        desk.pass(Duration::from_secs(60));
        answer_pings(&mut desk);
    }
    desk.client(a, &retry("2", &first, "{}"));
    let second = state(&desk.one_line(a));
    for _ in 0..40 {
        desk.pass(Duration::from_secs(60));
        answer_pings(&mut desk);
    }
    ends_well(&mut desk, a, child, &upstream, &second);
}

#[test]
fn a_retry_has_its_own_time() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, state) = held(&mut desk, 1, 1000);
    // Nothing in flight for so long would be a server that hangs; it answers our pings.
    let answer_pings = |desk: &mut Desk| {
        for line in desk.server_heard(child) {
            if line["method"] == "ping" {
                desk.answers(child, &line["id"].to_string(), "{}");
            }
        }
    };
    for _ in 0..30 {
        desk.pass(Duration::from_secs(60));
        answer_pings(&mut desk);
    }
    desk.client(a, &retry("2", &state, r#"{"1":{}}"#));
    desk.pass(Duration::from_secs(500));
    answer_pings(&mut desk);
    desk.is_silent(a);
    desk.pass(Duration::from_secs(101));
    assert_eq!(desk.one_line(a)["error"]["code"], 408);
    let heard = desk.server_heard(child);
    let upstream: Value = serde_json::from_str(&upstream).expect("a number");
    assert!(heard.iter().any(|line| line["params"]["requestId"] == upstream));
}

#[test]
fn the_death_of_the_server_ends_what_waited_there() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, _, state) = held(&mut desk, 1, 1000);
    desk.exchange.child_ended(child, "it exited", false, desk.now);
    desk.is_silent(a);
    desk.pass(super::super::PAUSE);
    desk.client(a, &retry("2", &state, r#"{"1":{}}"#));
    let next = desk.start();
    desk.greet(next);
    is_unknown(&mut desk, a);
    desk.pass(2 * HOUR);
}

#[test]
fn nobody_holds_calls_without_end() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    for number in 0..64 {
        desk.client(a, &call(&number.to_string()));
        desk.server(child, &question(&number.to_string(), "roots/list"));
        assert_eq!(desk.one_line(a)["result"]["resultType"], "input_required");
    }
    desk.client(a, &call("64"));
    desk.heard(End::Child(child));
    desk.server(child, &question("64", "roots/list"));
    assert_eq!(desk.server_heard(child)[0]["error"]["code"], 429);
    desk.is_silent(a);
    // Nor are more questions than that kept for one call.
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, _, state) = held(&mut desk, 1, 1000);
    desk.heard(End::Child(child));
    for number in 0..20 {
        desk.server(child, &question(&number.to_string(), "roots/list"));
    }
    assert_eq!(desk.server_heard(child).len(), 5);
    desk.client(a, &retry("2", &state, "{}"));
    assert_eq!(
        desk.one_line(a)["result"]["inputRequests"].as_object().map(serde_json::Map::len),
        Some(16)
    );
}

#[test]
fn a_server_that_is_to_stop_does_not_wait_for_retries() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, state) = held(&mut desk, 1, 1000);
    desk.heard(End::Child(child));
    desk.acts();
    desk.exchange.restart(None, desk.now);
    let heard = desk.server_heard(child);
    assert_eq!(heard[0]["id"], "q");
    assert_eq!(heard[1]["params"]["requestId"].to_string(), upstream);
    let acts = desk.acts();
    assert!(acts.iter().any(|act| matches!(act, crate::mux::outbox::Act::StopChild { .. })));
    desk.client(a, &retry("2", &state, r#"{"1":{}}"#));
    desk.is_silent(a);
    // The same where everything ends: nobody waits for a person then.
    let mut desk = Desk::new(Share::Tenant);
    let (_, child, _, _) = held(&mut desk, 1, 1000);
    desk.heard(End::Child(child));
    let farewell = Farewell { reason: "bye".to_owned(), code: 0 };
    desk.exchange.drain(farewell, HOUR, desk.now);
    assert_eq!(desk.server_heard(child).len(), 2);
    assert!(desk.exchange.sessions.is_empty(), "nothing is owed to anybody");
}

#[test]
fn an_idle_server_is_kept_as_long_as_somebody_may_come_back() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, state) = held(&mut desk, 1, 1000);
    desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
    desk.acts();
    let stops = |desk: &mut Desk| {
        let acts = desk.acts();
        acts.iter().any(|act| matches!(act, crate::mux::outbox::Act::StopChild { .. }))
    };
    for _ in 0..15 {
        desk.pass(Duration::from_secs(60));
        for line in desk.server_heard(child) {
            if line["method"] == "ping" {
                desk.answers(child, &line["id"].to_string(), "{}");
            }
        }
    }
    assert!(!stops(&mut desk), "idle_timeout is ten minutes");
    let (b, _) = desk.crossed(2, 1000);
    ends_well(&mut desk, b, child, &upstream, &state);
    desk.exchange.close_session(b, Farewell { reason: String::new(), code: 0 });
    desk.pass(Duration::from_secs(600));
    assert!(stops(&mut desk));
}

#[test]
fn a_server_that_is_to_stop_may_not_ask_any_more() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.client(a, &super::call("1"));
    let upstream = desk.passed(child);
    desk.exchange.restart(None, desk.now);
    desk.server(child, &question("1", "roots/list"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "stopping");
    let farewell = Farewell { reason: "bye".to_owned(), code: 0 };
    desk.exchange.drain(farewell, HOUR, desk.now);
    desk.server(child, &question("2", "roots/list"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "stopping");
    // What it was asked before it still answers.
    desk.answers(child, &upstream, "{}");
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
}
