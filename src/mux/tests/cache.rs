//! Results that a modern server allows to be given again: to whom, for how long, and not after a change.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Desk, META};
use crate::config::tenant::Share;
use crate::mux::outbox::{ChildId, End};
use crate::names::SessionId;

fn ask(id: &str, method: &str, more: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"_meta":{{{META}}}{more}}}}}"#
    )
}

fn result(ttl: &str, scope: &str) -> String {
    format!(
        r#"{{ "resultType":"complete","ttlMs":{ttl} , "cacheScope":"{scope}","tools":[{{"n":1.0e2}}]}}"#
    )
}

/// A modern session of uid 1000, one of uid 1001, and their server.
fn desk() -> (Desk, SessionId, SessionId, ChildId) {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.modern(1);
    let b = desk.open(2, 1001);
    (desk, a, b, child)
}

/// Sends a request that its server has to answer.
fn miss(desk: &mut Desk, session: SessionId, child: ChildId, line: &str, result: &str) {
    desk.client(session, line);
    let asked = desk.server_heard(child);
    assert_eq!(asked.len(), 1, "a request for the server: {line}");
    desk.answer(child, &asked[0], result);
    assert_eq!(desk.client_heard(session).len(), 1);
}

/// Sends a request that is answered at once; gives the raw answer.
fn hit(desk: &mut Desk, session: SessionId, child: ChildId, line: &str) -> String {
    desk.client(session, line);
    assert!(desk.server_heard(child).is_empty(), "its server was asked: {line}");
    desk.heard(End::Session(session)).pop().expect("an answer")
}

fn asks_the_server(desk: &mut Desk, session: SessionId, child: ChildId, line: &str) -> bool {
    desk.client(session, line);
    let asked = desk.server_heard(child);
    // Its answer may never be given again, so that the next question is asked too.
    asked.iter().for_each(|asked| desk.answer(child, asked, "{}"));
    desk.client_heard(session);
    !asked.is_empty()
}

#[test]
fn a_public_result_is_given_to_everybody_byte_for_byte_with_what_is_left_of_its_time() {
    let (mut desk, a, b, child) = desk();
    let list = ask("1", "tools/list", "");
    miss(&mut desk, a, child, &list, &result("5000", "public"));
    let calls = desk.exchange.counters.calls;
    desk.pass(Duration::from_millis(1500));
    let want = r#"{"jsonrpc":"2.0","id":"x","result":{ "resultType":"complete","ttlMs":3500 , "cacheScope":"public","tools":[{"n":1.0e2}]}}"#;
    let with_token =
        ask("\"x\"", "tools/list", "").replace("\"_meta\":{", "\"_meta\":{\"progressToken\":1,");
    assert_eq!(hit(&mut desk, b, child, &with_token), want);
    assert_eq!(desk.exchange.counters.calls, calls + 1, "it counts as any other");
    desk.pass(Duration::from_millis(3499));
    assert!(hit(&mut desk, a, child, &list).contains(r#""ttlMs":1 "#));
    desk.pass(Duration::from_millis(1));
    assert!(asks_the_server(&mut desk, a, child, &list), "never with nothing left");
}

#[test]
fn a_private_result_stays_with_its_principal_and_so_does_one_of_no_scope() {
    for scope in ["private", "shared", "PUBLIC"] {
        let (mut desk, a, b, child) = desk();
        let list = ask("1", "tools/list", "");
        miss(&mut desk, a, child, &list, &result("5000", scope));
        assert!(asks_the_server(&mut desk, b, child, &list), "{scope}");
        let other = desk.open(3, 1000);
        hit(&mut desk, other, child, &list);
    }
    let (mut desk, a, b, child) = desk();
    let list = ask("1", "tools/list", "");
    miss(&mut desk, a, child, &list, r#"{"resultType":"complete","ttlMs":5000,"tools":[]}"#);
    assert!(asks_the_server(&mut desk, b, child, &list));
    hit(&mut desk, a, child, &list);
}

#[test]
fn a_legacy_session_gets_it_without_what_its_revision_does_not_know() {
    let (mut desk, a, _, child) = desk();
    miss(&mut desk, a, child, &ask("1", "tools/list", ""), &result("5000", "public"));
    let legacy = desk.open(3, 1002);
    desk.initialize(legacy);
    desk.client_heard(legacy);
    let line = r#"{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{}}"#;
    let answer = hit(&mut desk, legacy, child, line);
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 7, "result": {"tools": [{"n": 100.0}]}}));
    // What a legacy session asked for is as good for a modern one.
    desk.client(legacy, r#"{"jsonrpc":"2.0","id":8,"method":"prompts/list"}"#);
    let asked = desk.server_heard(child);
    desk.answer(child, &asked[0], &result("5000", "public"));
    hit(&mut desk, a, child, &ask("2", "prompts/list", ""));
}

#[test]
fn what_is_no_plain_count_of_milliseconds_is_not_kept() {
    for ttl in ["0", "-5", "1e3", "1.0", "\"1000\"", "null", "[]", "18446744073709551616"] {
        let (mut desk, a, _, child) = desk();
        let list = ask("1", "tools/list", "");
        miss(&mut desk, a, child, &list, &result(ttl, "public"));
        assert!(asks_the_server(&mut desk, a, child, &list), "{ttl}");
    }
    // The longest that can be said is not believed for ever.
    let (mut desk, a, _, child) = desk();
    let list = ask("1", "tools/list", "");
    miss(&mut desk, a, child, &list, &result("18446744073709551615", "public"));
    desk.now += Duration::from_secs(24 * 3600 - 1);
    hit(&mut desk, a, child, &list);
    desk.now += Duration::from_secs(1);
    assert!(asks_the_server(&mut desk, a, child, &list));
}

#[test]
fn only_complete_results_of_questions_without_input_are_kept() {
    let list = ask("1", "tools/list", "");
    for other in [
        r#"{"resultType":"input_required","ttlMs":5000,"cacheScope":"public"}"#,
        r#"{"ttlMs":5000,"cacheScope":"public","tools":[]}"#,
        r#"{"resultType":"complete","ttlMs":5000,"ttlMs":5000,"tools":[]}"#,
        r#"{"resultType":"complete","ttlMs":5000,"requestState":"s"}"#,
        "[]",
    ] {
        let (mut desk, a, _, child) = desk();
        miss(&mut desk, a, child, &list, other);
        assert!(asks_the_server(&mut desk, a, child, &list), "{other}");
    }
    let (mut desk, a, _, child) = desk();
    let read = ask("1", "resources/read", r#","uri":"a:b","inputResponses":{}"#);
    miss(&mut desk, a, child, &read, &result("5000", "public"));
    assert!(asks_the_server(&mut desk, a, child, &read), "an answer to an answer");
    let call = ask("1", "tools/call", r#","name":"t""#);
    miss(&mut desk, a, child, &call, &result("5000", "public"));
    assert!(asks_the_server(&mut desk, a, child, &call), "a call is no question");
    desk.client(a, &list);
    let asked = desk.server_heard(child).remove(0);
    let error = json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": 1, "message": "", "ttlMs": 5000}});
    desk.server(child, &error.to_string());
    desk.client_heard(a);
    assert!(asks_the_server(&mut desk, a, child, &list), "an error");
}

#[test]
fn other_parameters_are_another_question() {
    let (mut desk, a, _, child) = desk();
    let page = |cursor: &str| ask("1", "tools/list", &format!(r#","cursor":{cursor}"#));
    miss(&mut desk, a, child, &page("\"x\""), &result("5000", "public"));
    hit(&mut desk, a, child, &page("\"x\""));
    for other in [page("\"y\""), page("\"\""), ask("1", "tools/list", "")] {
        assert!(asks_the_server(&mut desk, a, child, &other), "{other}");
    }
}

/// A server's own notification, on nobody's subscription.
fn note(desk: &mut Desk, child: ChildId, method: &str, params: &str) {
    desk.server(
        child,
        &format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{params}}}"#),
    );
}

#[test]
fn a_change_of_a_list_is_the_end_of_it_and_of_no_other() {
    let (mut desk, a, _, child) = desk();
    let (tools, prompts) = (ask("1", "tools/list", ""), ask("1", "prompts/list", ""));
    miss(&mut desk, a, child, &tools, &result("5000", "public"));
    miss(&mut desk, a, child, &prompts, &result("5000", "public"));
    note(&mut desk, child, "tools/list_changed", "{}");
    hit(&mut desk, a, child, &prompts);
    assert!(asks_the_server(&mut desk, a, child, &tools));
    note(
        &mut desk,
        child,
        "prompts/list_changed",
        r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":99}}"#,
    );
    assert!(asks_the_server(&mut desk, a, child, &prompts), "on whichever subscription");
}

#[test]
fn an_answer_that_was_on_its_way_during_a_change_is_not_kept() {
    let (mut desk, a, _, child) = desk();
    let list = ask("1", "tools/list", "");
    desk.client(a, &list);
    let asked = desk.server_heard(child).remove(0);
    note(&mut desk, child, "tools/list_changed", "{}");
    desk.answer(child, &asked, &result("5000", "public"));
    desk.client_heard(a);
    assert!(asks_the_server(&mut desk, a, child, &list));
}

#[test]
fn an_update_ends_what_it_is_about_and_what_that_is_part_of() {
    let (mut desk, a, _, child) = desk();
    let read = |uri: &str| ask("1", "resources/read", &format!(r#","uri":"{uri}""#));
    for uri in ["file:///a", "file:///a/b", "file:///c"] {
        miss(&mut desk, a, child, &read(uri), &result("5000", "public"));
    }
    note(&mut desk, child, "resources/updated", r#"{"uri":"file:///a/b"}"#);
    hit(&mut desk, a, child, &read("file:///c"));
    assert!(asks_the_server(&mut desk, a, child, &read("file:///a/b")));
    assert!(asks_the_server(&mut desk, a, child, &read("file:///a")));
    note(&mut desk, child, "resources/updated", r#"{"uri":7}"#);
    assert!(asks_the_server(&mut desk, a, child, &read("file:///c")), "who knows which");
}

#[test]
fn the_next_server_is_asked_anew() {
    let (mut desk, a, _, child) = desk();
    let list = ask("1", "tools/list", "");
    miss(&mut desk, a, child, &list, &result("5000", "public"));
    desk.kill(child);
    desk.client(a, &list);
    let child = desk.start();
    let probe = desk.server_heard(child).remove(0);
    desk.server(child, &super::discovery(&probe["id"]));
    assert_eq!(desk.server_heard(child)[0]["method"], "tools/list");
}

#[test]
fn a_legacy_servers_results_are_never_kept() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for id in 1..3 {
        desk.client(a, &format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#));
        let asked = desk.server_heard(child);
        assert_eq!(asked.len(), 1);
        desk.answer(child, &asked[0], &result("5000", "public"));
    }
}

#[test]
fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
    let (mut desk, a, _, child) = desk();
    desk.exchange.plan.message_size = crate::config::tenant::Limit::Unlimited;
    let read = |n: usize| ask("1", "resources/read", &format!(r#","uri":"n:{n}""#));
    let long = |size: usize| {
        result("5000", "public").replace("[{", &format!("[{{\"x\":\"{}\",", "x".repeat(size)))
    };
    miss(&mut desk, a, child, &read(0), &long(300 * 1024));
    assert!(asks_the_server(&mut desk, a, child, &read(0)), "too long");
    for n in 1..=300 {
        miss(&mut desk, a, child, &read(n), &result("5000", "public"));
    }
    assert!(asks_the_server(&mut desk, a, child, &read(44)));
    hit(&mut desk, a, child, &read(45));
    for n in 400..440 {
        miss(&mut desk, a, child, &read(n), &long(200 * 1024));
    }
    assert!(asks_the_server(&mut desk, a, child, &read(300)));
    assert!(asks_the_server(&mut desk, a, child, &read(419)), "4 MiB hold twenty of these");
    hit(&mut desk, a, child, &read(420));
}

#[test]
fn a_request_of_another_revision_hears_what_its_server_says_of_that() {
    let (mut desk, a, _, child) = desk();
    miss(&mut desk, a, child, &ask("1", "tools/list", ""), &result("60000", "public"));
    hit(&mut desk, a, child, &ask("1", "tools/list", ""));
    let other = ask("1", "tools/list", "").replace("2026-07-28", "2099-01-01");
    assert!(asks_the_server(&mut desk, a, child, &other));
    let none = r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#;
    miss(&mut desk, a, child, &ask("1", "server/discover", ""), &result("60000", "public"));
    assert!(asks_the_server(&mut desk, a, child, none));
}
