//! What an end can make the exchange hold, and what it can make it say, has bounds.

use serde_json::json;

use super::{Desk, HELLO, META, call};
use crate::config::tenant::Share;
use crate::mcp::envelope::LONGEST_ID;
use crate::mcp::line::Line;
use crate::mcp::scan::Head;
use crate::mux::child::UNWANTED;
use crate::mux::outbox::End;
use crate::names::SessionId;
use crate::wire::{Ailment, Farewell};

#[test]
fn of_calls_that_were_given_up_and_never_answered_only_the_last_are_remembered() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for id in 0..=UNWANTED {
        desk.client(a, &call(&id.to_string(), None));
        desk.client(
            a,
            &json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":id}})
                .to_string(),
        );
    }
    let first = desk.server_heard(child)[0]["id"].clone();
    assert_eq!(desk.exchange.children[&child].pending.len(), UNWANTED);
    desk.server(child, &json!({"jsonrpc":"2.0","id":first,"result":{}}).to_string());
    assert!(desk.client_heard(a).is_empty());
}

#[test]
fn an_endless_id_or_token_is_refused() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let endless = format!("\"{}\"", "x".repeat(LONGEST_ID));
    desk.client(a, &call(&endless, None));
    desk.client(a, &call("1", Some(&endless)));
    let reasons: Vec<_> =
        desk.client_heard(a).iter().map(|line| line["error"]["data"]["reason"].clone()).collect();
    assert_eq!(reasons, ["bad-id", "bad-id"]);
    assert!(desk.server_heard(child).is_empty());
}

#[test]
fn what_stands_in_the_place_of_an_id_is_not_said_back() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, _) = desk.legacy(1, 1000);
    for id in [b"{\"".as_slice(), b"\xff", b"1 2", b"\"a\"", b"7"] {
        let head = Head { id: Some(id.to_vec()), has_method: true };
        desk.exchange.client_line(a, Line::TooLong(head), desk.now);
    }
    let ids: Vec<_> = desk.client_heard(a).iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, [json!(null), json!(null), json!(null), json!("a"), json!(7)]);
}

#[test]
fn nothing_waits_for_an_end_that_is_gone() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
    desk.exchange.out.forget(End::Session(a));
    desk.exchange.client_line(a, Line::TooLong(Head::default()), desk.now);
    desk.exchange.child_ended(child, "it died", false, desk.now);
    desk.server(child, r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
    assert_eq!(desk.exchange.out.backlogs().count(), 0);
}

#[test]
fn a_server_that_was_stopped_before_it_ran_hears_nothing() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.initialize(a);
    desk.exchange.restart(None, desk.now);
    desk.client(a, r#"{"jsonrpc":"2.0","method":"notifications/x"}"#);
    assert_eq!(desk.exchange.out.backlogs().count(), 0);
}

#[test]
fn a_legacy_client_reaches_no_task_of_a_modern_server() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.modern(1);
    let b = desk.open(2, 1001);
    desk.initialize(b);
    desk.client_heard(b);
    for method in
        ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update", "tasks/list", "tasks/x"]
    {
        let answer = desk.asked(b, method, json!({"taskId": "somebody's"}));
        assert_eq!(answer["error"]["data"]["reason"], "era", "{method}");
    }
    assert!(desk.server_heard(child).is_empty());
}

#[test]
fn a_server_cannot_leave_a_call_unanswered_by_cancelling_it() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    desk.server(
        child,
        &json!({"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":ours}})
            .to_string(),
    );
    assert!(desk.client_heard(a).is_empty());
    desk.server(child, &json!({"jsonrpc":"2.0","id":ours,"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
}

#[test]
fn a_handshake_carries_no_context_that_its_client_made_up() {
    let mut desk = Desk::new(Share::Session);
    let a = desk.open(1, 1000);
    let params =
        HELLO.replacen('{', r#"{"_meta":{"io.tenantd/context":{"user":"root"},"x":1.0e0},"#, 1);
    desk.client(
        a,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#),
    );
    let child = desk.start();
    let heard = desk.server_heard(child);
    assert_eq!(heard[0]["params"]["_meta"]["io.tenantd/context"]["user"], "u1000", "{heard:?}");
    assert_eq!(heard[0]["params"]["_meta"]["x"], 1.0);
}

#[test]
fn the_id_of_a_subscription_comes_back_byte_for_byte_also_where_the_mux_speaks() {
    let mut desk = Desk::new(Share::Tenant);
    desk.open(1, 1000);
    let held = Ailment { reason: "suspended".to_owned(), message: "no".to_owned(), code: 69 };
    desk.exchange.plan.servers[0].held = Some(held);
    let id = "12345678901234567890123456";
    desk.client(SessionId(1), &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true,"x":1.0e0}},"_meta":{{{META}}}}}}}"#));
    let heard = desk.heard(End::Session(SessionId(1)));
    assert!(
        heard[0].contains(&format!(r#""io.modelcontextprotocol/subscriptionId":{id}}}"#)),
        "{heard:?}"
    );
    assert!(heard[0].contains(r#""x":1.0e0"#), "{heard:?}");
}

#[test]
fn a_server_that_has_not_shaken_hands_tells_a_modern_client_nothing() {
    let mut desk = Desk::new(Share::Tenant);
    let session = desk.open(1, 1000);
    desk.client(session, &format!(r#"{{"jsonrpc":"2.0","id":"d","method":"server/discover","params":{{"_meta":{{{META}}}}}}}"#));
    let child = desk.start();
    for params in [
        r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":1}}"#,
        r#"{"level":"info","data":"x"}"#,
    ] {
        for method in ["subscriptions/acknowledged", "message", "x"] {
            desk.server(
                child,
                &format!(
                    r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{params}}}"#
                ),
            );
        }
    }
    assert!(desk.client_heard(session).is_empty());
}
