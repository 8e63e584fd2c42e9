//! What a legacy server asks of a modern client, and the retries that answer it.

use std::time::Duration;

use super::*;
use crate::config::tenant::Share;
use crate::mcp::line::Line;
use crate::mcp::scan::Head;
use crate::wire::Farewell;

pub(super) const HOUR: Duration = Duration::from_secs(3600);
/// What a server asks: odd on purpose.
const PARAMS: &str = r#"{ "message":"n\u0061me","n":1.0e2, "_meta":{"progressToken":7} }"#;

pub(super) fn question(id: &str, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{PARAMS}}}"#)
}

/// The retry of [`call`], with these answers.
pub(super) fn retry(id: &str, state: &str, responses: &str) -> String {
    let params = format!(r#""inputResponses":{responses},"name":"t","requestState":"{state}""#);
    request(id, "tools/call", &params, ALL, "")
}

pub(super) fn state(answer: &Value) -> String {
    assert_eq!(answer["result"]["resultType"], "input_required", "{answer}");
    answer["result"]["requestState"].as_str().expect("a state").to_owned()
}

/// A session whose call waits for its retry: the session, the child, the call's id there, the state.
pub(super) fn held(desk: &mut Desk, id: u64, uid: u32) -> (SessionId, ChildId, String, String) {
    let (session, child) = desk.crossed(id, uid);
    desk.client(session, &call("1"));
    let upstream = desk.passed(child);
    desk.server(child, &question("\"q\"", "elicitation/create"));
    let state = state(&desk.one_line(session));
    (session, child, upstream, state)
}

pub(super) fn is_unknown(desk: &mut Desk, session: SessionId) {
    let error = desk.one_line(session)["error"].clone();
    assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(400), &json!("request-state")));
}

pub(super) fn ends_well(
    desk: &mut Desk,
    session: SessionId,
    child: ChildId,
    upstream: &str,
    state: &str,
) {
    desk.heard(End::Child(child));
    desk.client(session, &retry("\"r\"", state, r#"{"1":{"ok":1.0}}"#));
    assert_eq!(desk.line(End::Child(child)), r#"{"jsonrpc":"2.0","id":"q","result":{"ok":1.0}}"#);
    desk.is_silent(session);
    desk.answers(child, upstream, "{}");
    assert_eq!(
        desk.line(End::Session(session)),
        r#"{"jsonrpc":"2.0","id":"r","result":{"resultType":"complete"}}"#
    );
}

#[test]
fn a_question_is_the_answer_to_the_call_and_the_retry_answers_it() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.client(a, &call("1"));
    let upstream = desk.passed(child);
    desk.server(child, &question("\"q\"", "elicitation/create"));
    let line = desk.line(End::Session(a));
    let start = format!(
        r#"{{"jsonrpc":"2.0","id":1,"result":{{"resultType":"input_required","inputRequests":{{"1":{{"method":"elicitation/create","params":{PARAMS}}}}},"requestState":""#
    );
    assert!(line.starts_with(&start), "{line}");
    let state = state(&serde_json::from_str(&line).expect("JSON"));
    ends_well(&mut desk, a, child, &upstream, &state);
    // All is as before: the same again is another call, with another state.
    desk.client(a, &call("1"));
    let upstream = desk.passed(child);
    desk.server(child, &question("\"q\"", "elicitation/create"));
    let other = super::asked::state(&desk.one_line(a));
    assert_ne!(other, state);
    ends_well(&mut desk, a, child, &upstream, &other);
}

#[test]
fn every_method_that_may_ask_can_be_retried_and_no_other() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    for (method, params) in [("prompts/get", r#""name":"p""#), ("resources/read", r#""uri":"x:y""#)]
    {
        desk.client(a, &request("1", method, params, ALL, ""));
        let upstream = desk.passed(child);
        desk.server(child, &question("\"q\"", "roots/list"));
        let state = state(&desk.one_line(a));
        let more =
            format!(r#"{params},"requestState":"{state}","inputResponses":{{"1":{{"roots":[]}}}}"#);
        desk.client(a, &request("2", method, &more, ALL, ""));
        assert_eq!(
            desk.line(End::Child(child)),
            r#"{"jsonrpc":"2.0","id":"q","result":{"roots":[]}}"#
        );
        desk.answers(child, &upstream, "{}");
        assert_eq!(desk.one_line(a)["id"], 2);
    }
    desk.client(a, &request("1", "tools/list", "", ALL, ""));
    desk.heard(End::Child(child));
    desk.server(child, &question("\"q\"", "roots/list"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "no-client");
    desk.is_silent(a);
}

#[test]
fn a_state_is_good_for_its_user_its_request_and_once() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, state) = held(&mut desk, 1, 1000);
    let (b, _, _, other) = {
        // The other user's call waits at the same server: hers is in no way his.
        let (b, child) = desk.crossed(2, 1001);
        desk.client(b, &call("1"));
        let upstream = desk.passed(child);
        // His call is able too: only hers is in flight and his is held, so that is refused.
        desk.server(child, &question("\"w\"", "elicitation/create"));
        assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "ambiguous");
        desk.is_silent(b);
        (b, child, upstream, "0".repeat(64))
    };
    desk.client(b, &retry("2", &state, r#"{"1":{}}"#));
    is_unknown(&mut desk, b);
    desk.client(a, &retry("2", &other, r#"{"1":{}}"#));
    is_unknown(&mut desk, a);
    for wrong in ["", "a.b.c", &state.to_uppercase(), &state[1..]] {
        desk.client(a, &retry("2", wrong, r#"{"1":{}}"#));
        is_unknown(&mut desk, a);
    }
    let changed = retry("2", &state, r#"{"1":{}}"#).replace(r#""name":"t""#, r#""name":"u""#);
    desk.client(a, &changed);
    is_unknown(&mut desk, a);
    let method = retry("2", &state, r#"{"1":{}}"#).replace("tools/call", "prompts/get");
    desk.client(a, &method);
    is_unknown(&mut desk, a);
    let number = retry("2", &state, "{}").replace(&format!("\"{state}\""), "7");
    desk.client(a, &number);
    is_unknown(&mut desk, a);
    assert_eq!(desk.heard(End::Child(child)), Vec::<String>::new(), "nothing reached the server");
    // None of that has disturbed it, and another connection of the same user will do.
    let (c, _) = desk.crossed(3, 1000);
    ends_well(&mut desk, c, child, &upstream, &state);
    desk.client(a, &retry("3", &state, r#"{"1":{}}"#));
    is_unknown(&mut desk, a);
}

#[test]
fn what_is_still_open_is_asked_again_and_only_the_newest_state_counts() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, first) = held(&mut desk, 1, 1000);
    desk.heard(End::Child(child));
    // More is asked while the call waits: the next retry hears it.
    desk.server(child, &question("8", "sampling/createMessage"));
    desk.is_silent(a);
    desk.client(a, &retry("2", &first, r#"{"1":"no result","2":{"early":1},"9":{}}"#));
    let answer = desk.one_line(a);
    assert_eq!(answer["id"], 2);
    let asked = answer["result"]["inputRequests"].as_object().expect("requests");
    assert_eq!(asked.keys().collect::<Vec<_>>(), ["1"], "what was answered early is answered");
    assert_eq!(desk.line(End::Child(child)), r#"{"jsonrpc":"2.0","id":8,"result":{"early":1}}"#);
    let second = state(&answer);
    desk.client(a, &retry("3", &first, r#"{"1":{}}"#));
    is_unknown(&mut desk, a);
    ends_well(&mut desk, a, child, &upstream, &second);
}

#[test]
fn an_answer_that_came_first_waits_for_the_retry() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, state) = held(&mut desk, 1, 1000);
    desk.heard(End::Child(child));
    desk.answers(child, &upstream, r#"{ "n":1.0e2 }"#);
    desk.is_silent(a);
    desk.client(a, &retry("\"r\"", &state, "{}"));
    assert_eq!(
        desk.line(End::Session(a)),
        r#"{"jsonrpc":"2.0","id":"r","result":{ "n":1.0e2 ,"resultType":"complete"}}"#
    );
    let heard = desk.server_heard(child);
    assert_eq!((heard.len(), &heard[0]["id"]), (1, &json!("q")));
    assert_eq!(heard[0]["error"]["data"]["reason"], "unanswered");
    desk.client(a, &retry("2", &state, "{}"));
    is_unknown(&mut desk, a);
    // Also one that is too large to be had.
    let (a, child, upstream, state) = held(&mut desk, 2, 1000);
    let head = Head { id: Some(upstream.into_bytes()), has_method: false };
    desk.exchange.child_line(child, Line::TooLong(head), desk.now);
    desk.client(a, &retry("2", &state, r#"{"1":{}}"#));
    assert_eq!(desk.one_line(a)["error"]["code"], 413);
}

#[test]
fn a_question_for_two_sessions_is_refused_whatever_their_eras() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    let (b, _) = desk.crossed(2, 1000);
    let hello = format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{ALL}}}}}"#
    );
    let (c, _) = desk.first(3, 1001, &hello);
    desk.heard(End::Session(c));
    desk.client(a, &call("1"));
    desk.client(b, &call("1"));
    desk.heard(End::Child(child));
    desk.server(child, &question("1", "sampling/createMessage"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "ambiguous");
    desk.exchange.close_session(b, Farewell { reason: String::new(), code: 0 });
    desk.client(c, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
    desk.heard(End::Child(child));
    desk.server(child, &question("1", "sampling/createMessage"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "ambiguous");
    desk.is_silent(a);
    desk.is_silent(c);
}

#[test]
fn each_client_is_asked_what_it_can_by_its_own_era() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    let hello =
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":{"roots":{}}}}"#;
    let (b, _) = desk.first(2, 1001, hello);
    desk.heard(End::Session(b));
    desk.client(a, &request("1", "tools/call", r#""name":"t""#, r#"{"elicitation":{}}"#, ""));
    desk.client(b, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#);
    desk.heard(End::Child(child));
    desk.server(child, &question("1", "roots/list"));
    assert_eq!(desk.one_line(b)["method"], "roots/list");
    desk.is_silent(a);
    desk.server(child, &question("2", "elicitation/create"));
    assert_eq!(desk.one_line(a)["result"]["resultType"], "input_required");
    desk.is_silent(b);
    desk.server(child, &question("3", "sampling/createMessage"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "no-client");
}

#[test]
fn a_child_of_its_own_asks_its_modern_session_or_nobody() {
    let mut desk = Desk::new(Share::Session);
    let (a, child) = desk.crossed(1, 1000);
    desk.heard(End::Child(child));
    desk.server(child, &question("1", "roots/list"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "no-client");
    desk.client(a, &call("1"));
    let upstream = desk.passed(child);
    desk.server(child, &question("\"q\"", "roots/list"));
    let state = state(&desk.one_line(a));
    ends_well(&mut desk, a, child, &upstream, &state);
    // What waits there goes with its session.
    desk.client(a, &call("2"));
    let upstream = desk.passed(child);
    desk.server(child, &question("\"q\"", "roots/list"));
    desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
    let heard = desk.server_heard(child);
    assert_eq!(heard[0]["error"]["data"]["reason"], "unanswered");
    assert_eq!(heard[1]["params"]["requestId"].to_string(), upstream);
}

#[test]
fn a_server_may_take_its_question_back() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, state) = held(&mut desk, 1, 1000);
    desk.server(
        child,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"q"}}"#,
    );
    desk.is_silent(a);
    desk.heard(End::Child(child));
    desk.client(a, &retry("2", &state, r#"{"1":{}}"#));
    assert_eq!(desk.heard(End::Child(child)), Vec::<String>::new());
    desk.answers(child, &upstream, "{}");
    assert_eq!(desk.one_line(a)["id"], 2);
}

#[test]
fn a_client_may_give_up_before_and_after_the_question() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, state) = held(&mut desk, 1, 1000);
    desk.heard(End::Child(child));
    // Its call is answered: there is nothing to cancel, and what is held is not touched.
    let cancel = |id: u8| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        )
    };
    desk.client(a, &cancel(1));
    assert_eq!(desk.heard(End::Child(child)), Vec::<String>::new());
    desk.client(a, &retry("2", &state, r#"{"1":{}}"#));
    desk.heard(End::Child(child));
    desk.client(a, &cancel(2));
    assert_eq!(desk.server_heard(child)[0]["params"]["requestId"].to_string(), upstream);
    // What it asks for a call that was given up is for nobody.
    desk.server(child, &question("5", "roots/list"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "no-client");
    desk.is_silent(a);
}

#[test]
fn progress_after_the_retry_has_its_token() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.client(a, &request("1", "tools/call", r#""name":"t""#, ALL, r#","progressToken":"old""#));
    let upstream = desk.passed(child);
    desk.server(child, &question("\"q\"", "roots/list"));
    let state = state(&desk.one_line(a));
    let progress = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{upstream},"progress":1}}}}"#
    );
    desk.server(child, &progress);
    desk.is_silent(a);
    let params = format!(r#""name":"t","requestState":"{state}","inputResponses":{{"1":{{}}}}"#);
    desk.client(a, &request("2", "tools/call", &params, ALL, r#","progressToken":"new""#));
    desk.server(child, &progress);
    assert_eq!(desk.one_line(a)["params"]["progressToken"], "new");
}

#[test]
fn a_retry_that_can_less_is_not_asked_for_more() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, upstream, state) = held(&mut desk, 1, 1000);
    desk.server(child, &question("8", "sampling/createMessage"));
    desk.heard(End::Child(child));
    let line = retry("2", &state, r#"{"1":{}}"#).replace(ALL, r#"{"elicitation":{}}"#);
    desk.client(a, &line);
    desk.is_silent(a);
    let heard = desk.server_heard(child);
    assert_eq!(heard[1]["error"]["data"]["reason"], "no-client");
    desk.answers(child, &upstream, "{}");
    assert_eq!(desk.one_line(a)["id"], 2);
}

#[test]
fn a_call_that_waits_keeps_what_is_said_meanwhile_from_others() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, ..) = held(&mut desk, 1, 1000);
    let (b, _) = desk.crossed(2, 1001);
    let log = r#","io.modelcontextprotocol/logLevel":"debug""#;
    let loud = request("5", "tools/call", r#""name":"t""#, "{}", log);
    let said =
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"error","data":1}}"#;
    let odd = r#"{"jsonrpc":"2.0","method":"notifications/odd"}"#;
    desk.client(b, &loud);
    desk.server(child, said);
    desk.server(child, odd);
    desk.is_silent(b);
    // Nor is it said to its own client on account of a request that it may not be about.
    desk.exchange.close_session(b, Farewell { reason: String::new(), code: 0 });
    desk.client(a, &loud);
    desk.server(child, said);
    desk.is_silent(a);
    // One that is gone is nobody to talk to.
    desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
    desk.server(child, odd);
    assert!(desk.exchange.out.queue(End::Session(a)).is_none_or(|queue| queue.front().is_empty()));
}

#[test]
fn a_modern_client_that_asks_nothing_is_told_nothing() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    let odd = r#"{"jsonrpc":"2.0","method":"notifications/odd"}"#;
    desk.server(child, odd);
    desk.is_silent(a);
    desk.client(a, &call("1"));
    desk.server(child, odd);
    assert_eq!(desk.line(End::Session(a)), odd);
}

#[test]
fn the_oldest_call_that_can_be_asked_is_the_one_that_is() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.client(a, &request("\"unable\"", "tools/call", r#""name":"t""#, "{}", ""));
    for number in 0..20 {
        desk.client(a, &call(&number.to_string()));
    }
    for number in 0..20 {
        desk.server(child, &question(&number.to_string(), "roots/list"));
        assert_eq!(desk.one_line(a)["id"], number);
    }
}

#[test]
fn a_call_that_waits_can_be_asked_for_what_its_last_retry_said() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, _, first) = held(&mut desk, 1, 1000);
    desk.heard(End::Child(child));
    let less = retry("2", &first, "{}").replace(ALL, r#"{"elicitation":{}}"#);
    desk.client(a, &less);
    assert_eq!(desk.one_line(a)["result"]["resultType"], "input_required");
    desk.server(child, &question("8", "sampling/createMessage"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "no-client");
}
