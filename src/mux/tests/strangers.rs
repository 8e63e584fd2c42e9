//! What one client or server does that it may not, or nobody expects: nobody else's messages change by it.

use std::time::Duration;

use serde_json::{Value, json};

use super::rounds::{NAME, required};
use super::upward::ask;
use super::{Desk, META, call, plan};
use crate::config::tenant::Share;
use crate::mcp::line::Line;
use crate::mcp::scan::Head;
use crate::mux::outbox::{ChildId, End};
use crate::names::SessionId;
use crate::wire::Farewell;

fn cancel(id: &Value) -> String {
    let params = json!({"requestId": id});
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string()
}

fn error_reason(heard: &[Value]) -> &Value {
    &heard[0]["error"]["data"]["reason"]
}

#[test]
fn what_a_legacy_server_takes_back_is_what_it_asked_and_never_a_call_of_the_same_number() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    let asked = desk.server_heard(child).remove(0);
    let ours = &asked["id"];
    let question =
        json!({"jsonrpc": "2.0", "id": ours, "method": "sampling/createMessage", "params": {}});
    desk.server(child, &question.to_string());
    let question = desk.client_heard(a).remove(0);
    desk.client(a, &json!({"jsonrpc": "2.0", "id": question["id"], "result": {}}).to_string());
    // It gave up what was answered meanwhile: the two have crossed.
    desk.server(child, &cancel(ours));
    assert!(desk.client_heard(a).is_empty());
    desk.answer(child, &asked, "{}");
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
}

#[test]
fn a_modern_server_ends_subscriptions_by_a_cancellation_and_no_calls() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.modern(1);
    desk.client(a, &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"t","_meta":{{{META}}}}}}}"#));
    let asked = desk.server_heard(child).remove(0);
    desk.server(child, &cancel(&asked["id"]));
    assert!(desk.client_heard(a).is_empty());
    desk.answer(child, &asked, "{}");
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
}

#[test]
fn who_is_not_subscribed_ends_nobody_elses_subscription() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1001);
    let line = |method: &str| {
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"uri": "x:/1"}}).to_string()
    };
    desk.client(a, &line("resources/subscribe"));
    let asked = desk.server_heard(child).remove(0);
    desk.answer(child, &asked, "{}");
    desk.client(b, &line("resources/unsubscribe"));
    assert!(desk.server_heard(child).is_empty(), "the server would end it for all");
    assert_eq!(desk.client_heard(b)[0]["result"], json!({}));
}

#[test]
fn a_state_of_another_user_is_refused_in_the_words_of_either_era() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.upward(1);
    desk.client(a, &ask(json!(1), "tools/call", json!({"name": "t"})));
    let asked = desk.only(child);
    desk.give(child, &asked, &required(&[("n", NAME)], Some("\"secret\"")));
    let b = desk.open(2, 1001);
    desk.initialize(b);
    desk.server_heard(child);
    desk.client_heard(b);
    let stolen = json!({"name": "t", "requestState": "secret", "inputResponses": {"n": {}}});
    desk.client(b, &ask(json!(1), "tools/call", stolen));
    assert!(desk.server_heard(child).is_empty());
    assert_eq!(error_reason(&desk.client_heard(b)), "request-state");
    // Its own client's answer brings it.
    let question = desk.client_heard(a).remove(0);
    desk.client(a, &json!({"jsonrpc": "2.0", "id": question["id"], "result": {}}).to_string());
    assert_eq!(desk.only(child)["params"]["requestState"], "secret");
}

#[test]
fn of_a_request_that_was_given_up_no_line_is_kept() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.upward(1);
    desk.client(a, &ask(json!(1), "tools/call", json!({"name": "t"})));
    desk.client(a, &cancel(&json!(1)));
    let pending = &desk.exchange.children[&child].pending;
    assert!(pending.values().any(|it| it.cancelled), "the server may still answer");
    assert!(pending.values().all(|it| it.kept.is_none()), "{pending:?}");
}

#[test]
fn too_many_subscriptions_of_a_server_that_cannot_run_are_refused() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.client(a, &format!(r#"{{"jsonrpc":"2.0","id":"d","method":"server/discover","params":{{"_meta":{{{META}}}}}}}"#));
    let child = desk.start();
    desk.exchange.child_ended(child, "no such file", true, desk.now);
    desk.client_heard(a);
    let mut heard = Vec::new();
    for id in 0..40 {
        desk.client(a, &listen(id));
        heard.extend(desk.client_heard(a));
    }
    assert_eq!(heard.len(), 40, "each is acknowledged or answered");
    assert_eq!(heard[39]["error"]["data"]["reason"], "subscriptions");
}

/// A key that is no text: whoever need not look inside passes it on as it is.
const ODD: &str =
    r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"\ud800":1,"name":"t"}}"#;

#[test]
fn a_line_that_is_passed_on_unread_is_answered_wherever_it_waits() {
    // Nobody could say whether it brings a state.
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.upward(1);
    desk.client(a, ODD);
    assert!(desk.heard(End::Child(child)).is_empty());
    assert_eq!(desk.client_heard(a)[0]["id"], 7);
    // Where it waits for a server that does not come.
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.kill(child);
    desk.client(a, ODD);
    desk.pass(Duration::from_secs(10));
    assert_eq!(desk.client_heard(a)[0]["id"], 7);
}

#[test]
fn who_is_given_another_server_stands_in_its_line_and_not_in_the_old_one() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, old) = desk.legacy(1, 1000);
    desk.exchange.child_full(old);
    let b = desk.open(2, 1001);
    desk.initialize(b);
    desk.client(b, &call("1", None));
    assert!(desk.exchange.children[&old].turns.contains(&b));
    desk.exchange.configure(plan(Share::User), desk.now);
    assert!(!desk.exchange.sessions.contains_key(&a), "it had a server before");
    assert!(desk.exchange.children[&old].turns.is_empty(), "nobody waits there any more");
    let child = desk.start();
    assert_eq!(desk.shake(child)[1]["method"], "tools/call");
    desk.server_heard(child);
    desk.exchange.child_full(child);
    desk.client(b, &call("2", None));
    desk.exchange.child_has_room(child, desk.now);
    assert_eq!(desk.server_heard(child)[0]["method"], "tools/call");
}

#[test]
fn who_leaves_leaves_the_line_too() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.legacy(1, 1000);
    for id in 2..10 {
        let (b, _) = desk.legacy(id, 1001);
        desk.exchange.child_full(child);
        desk.client(b, &call("1", None));
        let farewell = Farewell { reason: String::new(), code: 0 };
        desk.exchange.close_session(b, farewell);
        assert!(desk.exchange.children[&child].turns.is_empty());
        desk.exchange.child_has_room(child, desk.now);
    }
}

/// A round whose client answers after the drain has begun, and whose server cannot take it now.
fn late_round(desk: &mut Desk, before: impl FnOnce(&mut Desk, ChildId)) -> (SessionId, Vec<Value>) {
    let (a, child) = desk.upward(1);
    desk.client(a, &ask(json!(1), "tools/call", json!({"name": "t"})));
    let asked = desk.only(child);
    desk.give(child, &asked, &required(&[("n", NAME)], None));
    let question = desk.client_heard(a).remove(0);
    let bye = Farewell { reason: "bye".to_owned(), code: 0 };
    desk.exchange.drain(bye, Duration::from_secs(5), desk.now);
    before(desk, child);
    desk.acts();
    desk.client(a, &json!({"jsonrpc": "2.0", "id": question["id"], "result": {}}).to_string());
    let heard = desk.client_heard(a);
    (a, heard)
}

#[test]
fn an_answer_during_the_drain_starts_no_server_and_its_request_is_answered() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, heard) = late_round(&mut desk, Desk::kill);
    assert_eq!(error_reason(&heard), "stopping", "{heard:?}");
    assert!(desk.asked.is_empty(), "nothing is started any more");
    let mut desk = Desk::new(Share::Tenant);
    let (a, mut heard) = late_round(&mut desk, |desk, child| desk.exchange.child_full(child));
    desk.pass(Duration::from_secs(5));
    heard.extend(desk.client_heard(a));
    assert_eq!(error_reason(&heard), "stopping", "{heard:?}");
}

#[test]
fn what_is_kept_for_a_user_is_not_given_to_it_with_other_permissions() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.modern(1);
    let list = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{{META}}}}}}}"#
    );
    let given = r#"{"resultType":"complete","ttlMs":60000,"cacheScope":"private","tools":[]}"#;
    let answered = |desk: &mut Desk, session: SessionId| {
        desk.client(session, &list);
        let asked = desk.server_heard(child);
        asked.iter().for_each(|asked| desk.answer(child, asked, given));
        assert_eq!(desk.client_heard(session).len(), 1);
        asked.len()
    };
    assert_eq!((answered(&mut desk, a), answered(&mut desk, a)), (1, 0));
    let mut holder = desk.holder(1000);
    holder.permissions.push("write".to_owned());
    let b = SessionId(2);
    desk.exchange.open(b, crate::names::ServerName::main(), holder, false, desk.now);
    assert_eq!((answered(&mut desk, b), answered(&mut desk, b)), (1, 0));
    // What each request says of its tenant may be another thing now.
    desk.exchange.configure(plan(Share::Tenant), desk.now);
    assert_eq!(answered(&mut desk, a), 1);
}

#[test]
fn who_calls_and_gives_up_again_and_again_makes_nothing_grow() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1001);
    desk.client(b, &call("1", None));
    for id in 0..5000 {
        desk.client(a, &call(&id.to_string(), None));
        desk.client(a, &cancel(&json!(id)));
    }
    assert_eq!(desk.exchange.children[&child].pending.len(), 1025, "of a server that answers none");
    let heard = desk.server_heard(child);
    let (of_b, last) = (&heard[0], &heard[heard.len() - 2]);
    // A late answer still comes, and a neighbour's call is what it was.
    desk.answer(child, last, "{}");
    assert_eq!(desk.client_heard(a)[0]["id"], 4999);
    desk.answer(child, of_b, "{}");
    assert_eq!(desk.client_heard(b)[0]["id"], 1);
    // The next server counts its requests anew.
    desk.kill(child);
    desk.client(b, &call("2", None));
    let next = desk.start();
    desk.shake(next);
    for id in 0..3000 {
        desk.client(a, &call(&id.to_string(), None));
        desk.client(a, &cancel(&json!(id)));
    }
    let of_b = desk.exchange.sessions[&b].in_flight.values().next().copied().expect("in flight");
    assert!(desk.exchange.children[&next].pending.contains_key(&of_b));
}

#[test]
fn a_late_answer_is_none_to_another_request_of_that_id() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.upward(1);
    let line = ask(json!(1), "tools/call", json!({"name": "t"}));
    desk.client(a, &line);
    let first = desk.only(child);
    desk.client(a, &cancel(&json!(1)));
    desk.client(a, &line);
    let second = desk.server_heard(child).pop().expect("the second");
    desk.give(child, &second, &required(&[("n", NAME)], None));
    let question = desk.client_heard(a).remove(0);
    desk.give(child, &first, r#"{"resultType":"complete","content":["first"]}"#);
    assert!(desk.client_heard(a).is_empty(), "its client is asked for the second one");
    desk.client(a, &json!({"jsonrpc": "2.0", "id": question["id"], "result": {}}).to_string());
    // The same where the second one waits for its turn.
    let (mut desk, line) = (Desk::new(Share::Tenant), call("1", None));
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &line);
    let first = desk.server_heard(child).remove(0);
    desk.client(a, &cancel(&json!(1)));
    desk.exchange.child_full(child);
    desk.client(a, &line);
    desk.answer(child, &first, "{}");
    assert!(desk.client_heard(a).is_empty());
}

fn listen(id: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{{"notifications":{{"toolsListChanged":true}},"_meta":{{{META}}}}}}}"#
    )
}

#[test]
fn the_late_end_of_a_subscription_is_not_the_end_of_another_one_of_that_id() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.modern(1);
    desk.client(a, &listen(1));
    let first = desk.server_heard(child).remove(0);
    desk.client(a, &cancel(&json!(1)));
    desk.client(a, &listen(1));
    desk.answer(child, &first, r#"{"resultType":"complete"}"#);
    assert!(desk.client_heard(a).is_empty());
    assert_eq!(desk.exchange.sessions[&a].listens.len(), 1, "the next server gets it too");
}

#[test]
fn a_subscription_that_no_server_holds_has_an_end_all_the_same() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.client(a, &listen(1));
    let child = desk.start();
    desk.exchange.child_ended(child, "no such file", true, desk.now);
    assert_eq!(desk.client_heard(a)[0]["method"], "notifications/subscriptions/acknowledged");
    let bye = Farewell { reason: "bye".to_owned(), code: 0 };
    desk.exchange.drain(bye, Duration::from_secs(5), desk.now);
    let heard = desk.client_heard(a);
    assert_eq!(
        (&heard[0]["id"], &heard[0]["result"]["resultType"]),
        (&json!(1), &json!("complete"))
    );
}

#[test]
fn who_leaves_ends_no_subscription_that_another_one_is_about_to_have() {
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x:/1"}}"#;
    for leaves in [true, false] {
        let mut desk = Desk::new(Share::Tenant);
        let (a, child) = desk.legacy(1, 1000);
        let (b, _) = desk.legacy(2, 1001);
        desk.client(a, subscribe);
        let asked = desk.server_heard(child).remove(0);
        desk.answer(child, &asked, "{}");
        desk.client(b, subscribe);
        let asked = desk.server_heard(child).remove(0);
        if leaves {
            desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
        } else {
            desk.client(a, &subscribe.replace("subscribe", "unsubscribe"));
        }
        assert!(desk.server_heard(child).is_empty(), "the server would forget both: {leaves}");
        desk.answer(child, &asked, "{}");
        desk.exchange.close_session(b, Farewell { reason: String::new(), code: 0 });
        assert_eq!(desk.server_heard(child)[0]["method"], "resources/unsubscribe");
    }
}

#[test]
fn an_answer_to_this_mux_that_is_too_long_is_no_agreement_and_no_silence() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    let filter = r#""notifications":{"resourceSubscriptions":["x:/1"]}"#;
    desk.client(a, &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{{filter},"_meta":{{{META}}}}}}}"#));
    let child = desk.start();
    let heard = desk.shake_with(child, json!({"resources": {"subscribe": true}}));
    let asked = heard.iter().find(|line| line["method"] == "resources/subscribe").expect("asked");
    let head = Head { id: Some(asked["id"].to_string().into_bytes()), has_method: false };
    desk.exchange.child_line(child, Line::TooLong(head), desk.now);
    let heard = desk.client_heard(a);
    assert_eq!(heard[0]["method"], "notifications/subscriptions/acknowledged", "{heard:?}");
    assert_eq!(heard[0]["params"]["notifications"], json!({}));
}

#[test]
fn an_answer_that_is_too_long_is_no_error_of_a_call_that_was_given_up() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    let first = desk.server_heard(child).remove(0);
    desk.client(a, &cancel(&json!(1)));
    desk.client(a, &call("1", None));
    let head = Head { id: Some(first["id"].to_string().into_bytes()), has_method: false };
    desk.exchange.child_line(child, Line::TooLong(head), desk.now);
    assert!(desk.client_heard(a).is_empty(), "the second call of that id goes on");
}
