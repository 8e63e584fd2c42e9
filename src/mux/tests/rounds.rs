//! A modern server that wants input, and the legacy client that is asked for it.

use std::time::Duration;

use serde_json::{Value, json};

use super::Desk;
use super::upward::{OFFER, ask};
use crate::config::tenant::Share;
use crate::mux::outbox::{Act, ChildId, End};
use crate::names::SessionId;
use crate::wire::Farewell;

pub(super) const NAME: &str =
    r#"{"method":"elicitation/create","params":{"message":"Your name?","t":0.70}}"#;
const ROOTS: &str = r#"{"params":{"_meta":{}},"method":"roots\/list"}"#;
const MODEL: &str = r#"{"method":"sampling/createMessage","params":{"temperature":0.70}}"#;

pub(super) fn required(inputs: &[(&str, &str)], state: Option<&str>) -> String {
    let each: Vec<_> =
        inputs.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
    let state = state.map_or(String::new(), |state| format!(r#","requestState":{state}"#));
    format!(r#"{{"resultType":"input_required","inputRequests":{{{}}}{state}}}"#, each.join(","))
}

/// A call that the server wants input for; what the client is asked.
fn asked(
    desk: &mut Desk,
    (session, child): (SessionId, ChildId),
    id: &Value,
    inputs: &[(&str, &str)],
) -> Vec<Value> {
    desk.client(session, &ask(id.clone(), "tools/call", json!({"name": "t"})));
    let call = desk.only(child);
    desk.give(child, &call, &required(inputs, Some("\"s\"")));
    desk.client_heard(session)
}

fn reply(desk: &mut Desk, session: SessionId, question: &Value, result: &str) {
    let line = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, question["id"]);
    desk.client(session, &line);
}

#[test]
fn the_client_is_asked_in_its_own_words_and_the_retry_brings_what_it_said() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    let line = r#"{"jsonrpc":"2.0","id":"\u0061","method":"tools/call","params":{ "name":"t","x":1.0e2,"_meta":{"progressToken":"p"}}}"#;
    desk.client(session, line);
    let first = desk.only(child);
    let state = r#""\u00e9 \"as it is\"""#;
    desk.give(child, &first, &required(&[("z", NAME), ("a", ROOTS), ("m", MODEL)], Some(state)));
    let heard = desk.heard(End::Session(session));
    assert_eq!(
        heard,
        [
            r#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"message":"Your name?","t":0.70}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"roots/list","params":{"_meta":{}}}"#,
            r#"{"jsonrpc":"2.0","id":2,"method":"sampling/createMessage","params":{"temperature":0.70}}"#,
        ]
    );
    assert!(desk.server_heard(child).is_empty());
    // In another order than they were asked.
    desk.client(session, r#"{"jsonrpc":"2.0","id":2,"result":{"model": "m", "n":1.0}}"#);
    desk.client(
        session,
        r#"{"id":0,"result":{"action":"accept","content":{"u":"\ud83d"}},"jsonrpc":"2.0"}"#,
    );
    assert!(desk.server_heard(child).is_empty());
    desk.client(session, r#"{"jsonrpc":"2.0","result":{ },"id":1}"#);
    let again = desk.heard(End::Child(child)).remove(0);
    let added = format!(
        r#""inputResponses":{{"z":{{"action":"accept","content":{{"u":"\ud83d"}}}},"a":{{ }},"m":{{"model": "m", "n":1.0}}}},"requestState":{state}"#
    );
    assert!(again.contains(&added), "{again}");
    let id = first["id"].as_u64().expect("ours") + 1;
    assert!(again.starts_with(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{ "name":"t","x":1.0e2,"_meta":{{"progressToken":{id},"#)), "{again}");
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{id},"progress":1}}}}"#));
    assert_eq!(desk.client_heard(session)[0]["params"]["progressToken"], "p");
    desk.give(child, &json!({"id": id}), r#"{"resultType":"complete","content":[]}"#);
    assert_eq!(
        desk.heard(End::Session(session)),
        [r#"{"jsonrpc":"2.0","id":"\u0061","result":{"content":[]}}"#]
    );
    assert_eq!(desk.exchange.sessions[&session].calls, 1);
    assert_eq!(desk.exchange.counters.calls, 1);
}

#[test]
fn prompts_and_resources_may_want_input_and_nothing_else() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    for (method, code) in
        [("prompts/get", None), ("resources/read", None), ("tools/list", Some(403))]
    {
        desk.client(session, &ask(json!(7), method, json!({"uri": "x:/1"})));
        let request = desk.only(child);
        desk.give(child, &request, &required(&[("n", NAME)], None));
        if let Some(code) = code {
            assert_eq!(desk.code(session, &json!(7)), Some(code), "{method}");
            continue;
        }
        let question = desk.client_heard(session).remove(0);
        reply(&mut desk, session, &question, "{}");
        let again = desk.only(child);
        assert_eq!(again["method"], method);
        assert_eq!(again["params"]["inputResponses"], json!({"n": {}}));
        assert!(again["params"].get("requestState").is_none());
        desk.give(child, &again, "{}");
        desk.heard(End::Session(session));
    }
}

#[test]
fn a_state_alone_is_sent_back_at_once() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    desk.client(session, r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"inputResponses":{},"name":"t"}}"#);
    let first = desk.only(child);
    desk.give(child, &first, r#"{"resultType":"input_required","requestState":"s"}"#);
    let again = desk.only(child);
    assert_eq!(again["params"]["requestState"], "s");
    assert!(again["params"].get("inputResponses").is_none(), "{again}");
    assert_ne!(again["id"], first["id"]);
    assert!(desk.client_heard(session).is_empty());
}

#[test]
fn a_server_that_always_wants_more_is_stopped() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    desk.client(session, &ask(json!(1), "tools/call", json!({})));
    for _ in 0..32 {
        let call = desk.only(child);
        desk.give(child, &call, r#"{"resultType":"input_required","requestState":"s"}"#);
    }
    assert!(desk.client_heard(session).is_empty());
    let call = desk.only(child);
    desk.give(child, &call, r#"{"resultType":"input_required","requestState":"s"}"#);
    assert_eq!(desk.code(session, &json!(1)), Some(403));
    assert!(desk.server_heard(child).is_empty());
    assert_eq!(desk.exchange.counters.calls, 1);
}

#[test]
fn a_client_that_lacks_a_capability_is_not_asked_and_hears_which() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.greeted(1, r#"{"roots":{}}"#, OFFER);
    desk.server_heard(child);
    desk.client(session, &ask(json!(1), "tools/call", json!({})));
    let call = desk.only(child);
    desk.give(
        child,
        &call,
        &required(&[("r", ROOTS), ("n", NAME), ("m", MODEL), ("o", NAME)], None),
    );
    let heard = desk.client_heard(session);
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0]["error"]["code"], -32021);
    let needs = json!({"elicitation": {}, "sampling": {}});
    assert_eq!(heard[0]["error"]["data"]["requiredCapabilities"], needs);
}

#[test]
fn what_no_client_is_asked_is_refused() {
    let mut desk = Desk::new(Share::Tenant);
    let at = desk.upward(1);
    for method in ["ping", "tools/call", "notifications/cancelled", "elicitation/create "] {
        let request = format!(r#"{{"method":"{method}"}}"#);
        let heard = asked(&mut desk, at, &json!(1), &[("n", NAME), ("x", &request)]);
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0]["error"]["data"]["reason"], "input", "{method}");
    }
}

#[test]
fn two_sessions_with_equal_ids_answer_each_for_itself() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.upward(1);
    let (b, _) = desk.upward(2);
    let of_a = asked(&mut desk, (a, child), &json!(1), &[("n", NAME)]).remove(0);
    let of_b = asked(&mut desk, (b, child), &json!(1), &[("n", NAME)]).remove(0);
    assert_eq!(of_a["id"], of_b["id"]);
    reply(&mut desk, b, &of_b, r#"{"who":"b"}"#);
    let again = desk.only(child);
    assert_eq!(again["params"]["inputResponses"]["n"]["who"], "b");
    assert_eq!(again["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"], "c2");
    // A second answer, and one to a question that only the other was asked.
    reply(&mut desk, b, &of_b, r#"{"who":"b"}"#);
    reply(&mut desk, b, &json!({"id": 1}), r#"{"who":"b"}"#);
    assert!(desk.server_heard(child).is_empty());
    desk.give(child, &again, "{}");
    assert_eq!(desk.code(b, &json!(1)), None);
    reply(&mut desk, a, &of_a, r#"{"who":"a"}"#);
    assert_eq!(desk.only(child)["params"]["inputResponses"]["n"]["who"], "a");
    assert!(desk.client_heard(a).is_empty());
}

#[test]
fn an_id_is_in_use_while_its_client_is_asked() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    let question = asked(&mut desk, (session, child), &json!(1), &[("n", NAME)]).remove(0);
    desk.client(session, &ask(json!(1), "tools/call", json!({})));
    assert_eq!(desk.code(session, &json!(1)), Some(409));
    reply(&mut desk, session, &question, "{}");
    assert_eq!(desk.only(child)["params"]["name"], "t");
}

#[test]
fn a_client_that_answers_with_an_error_ends_its_request() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    let heard = asked(&mut desk, (session, child), &json!(1), &[("n", NAME), ("m", MODEL)]);
    let error = json!({"code": -1, "message": "no model today"});
    desk.client(
        session,
        &json!({"jsonrpc": "2.0", "id": heard[1]["id"], "error": error}).to_string(),
    );
    let after = desk.client_heard(session);
    assert_eq!(after[0]["params"]["requestId"], heard[0]["id"], "the other question is taken back");
    assert_eq!(after[1]["id"], 1);
    assert!(after[1]["error"]["message"].as_str().expect("text").contains("no model today"));
    reply(&mut desk, session, &heard[0], "{}");
    assert!(desk.server_heard(child).is_empty() && desk.client_heard(session).is_empty());
}

#[test]
fn a_request_that_is_cancelled_in_a_round_is_over() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    let question = asked(&mut desk, (session, child), &json!(1), &[("n", NAME)]).remove(0);
    desk.client(
        session,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    );
    let back = desk.client_heard(session);
    assert_eq!((back.len(), &back[0]["params"]["requestId"]), (1, &question["id"]));
    reply(&mut desk, session, &question, "{}");
    assert!(desk.server_heard(child).is_empty() && desk.client_heard(session).is_empty());
    // Its id is free, and a late wish for input after a cancellation asks nobody.
    desk.client(session, &ask(json!(1), "tools/call", json!({})));
    let call = desk.only(child);
    desk.client(
        session,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    );
    desk.server_heard(child);
    desk.give(child, &call, &required(&[("n", NAME)], None));
    assert!(desk.client_heard(session).is_empty());
}

#[test]
fn a_round_outlives_the_server() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    let question = asked(&mut desk, (session, child), &json!(1), &[("n", NAME)]).remove(0);
    desk.exchange.child_ended(child, "it died", false, desk.now);
    assert!(desk.client_heard(session).is_empty(), "the client notices nothing");
    reply(&mut desk, session, &question, r#"{"x":1.0}"#);
    let next = desk.discovered(OFFER);
    let heard = desk.server_heard(next);
    let again = heard.iter().find(|line| line["method"] == "tools/call").expect("the retry");
    assert_eq!(again["params"]["inputResponses"], json!({"n": {"x": 1.0}}));
    assert_eq!(again["params"]["requestState"], "s");
    desk.give(next, again, "{}");
    let answers: Vec<_> = desk
        .client_heard(session)
        .into_iter()
        .filter(|line| line.get("method").is_none())
        .collect();
    assert_eq!((answers.len(), &answers[0]["id"]), (1, &json!(1)));
}

#[test]
fn a_person_has_an_hour_and_holds_nobody_else_up() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    let question = asked(&mut desk, (session, child), &json!(1), &[("n", NAME)]).remove(0);
    desk.client(session, &ask(json!(2), "tools/call", json!({})));
    desk.pass(Duration::from_secs(600));
    assert_eq!(desk.code(session, &json!(2)), Some(408), "its own limit holds");
    desk.pass(Duration::from_secs(2999));
    assert!(desk.client_heard(session).is_empty());
    desk.pass(Duration::from_secs(1));
    let heard = desk.client_heard(session);
    assert_eq!(heard[0]["params"]["requestId"], question["id"]);
    assert_eq!(heard[1]["error"]["code"], 408);
    let _ = child;
}

#[test]
fn a_client_that_says_nothing_more_is_not_waited_for() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    desk.client(session, &ask(json!(2), "tools/call", json!({})));
    let other = desk.only(child);
    asked(&mut desk, (session, child), &json!(1), &[("n", NAME)]);
    desk.exchange.client_ended(session, desk.now);
    let heard = desk.client_heard(session);
    assert_eq!((&heard[1]["id"], &heard[1]["error"]["code"]), (&json!(1), &json!(403)));
    desk.give(child, &other, &required(&[("n", NAME)], None));
    assert_eq!(desk.code(session, &json!(2)), Some(403));
    assert!(desk.acts().iter().any(|act| matches!(act, Act::CloseSession { .. })));
}

#[test]
fn a_session_that_goes_in_a_round_leaves_nothing_at_the_server() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    asked(&mut desk, (session, child), &json!(1), &[("n", NAME)]);
    desk.exchange.close_session(session, Farewell { reason: String::new(), code: 0 });
    let heard = desk.server_heard(child);
    // Its subscription alone.
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert!(desk.exchange.children[&child].pending.is_empty());
}

#[test]
fn a_drain_answers_what_waits_for_a_person() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    asked(&mut desk, (session, child), &json!(1), &[("n", NAME)]);
    let farewell = Farewell { reason: "stopping".to_owned(), code: 69 };
    desk.exchange.drain(farewell, Duration::from_secs(5), desk.now);
    assert!(desk.client_heard(session).is_empty());
    desk.pass(Duration::from_secs(5));
    assert_eq!(desk.client_heard(session)[0]["error"]["data"]["reason"], "stopping");
}

#[test]
fn rounds_are_bounded_in_number_and_size() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    for id in 0..64 {
        assert_eq!(asked(&mut desk, (session, child), &json!(id), &[("n", NAME)]).len(), 1);
    }
    let heard = asked(&mut desk, (session, child), &json!(64), &[("n", NAME)]);
    assert_eq!(heard[0]["error"]["code"], 429);
    // What is answered counts as well.
    let mut desk = Desk::new(Share::Tenant);
    desk.exchange.plan.message_size = crate::config::tenant::Limit::Unlimited;
    let at = desk.upward(1);
    let keys: Vec<String> = (0..30).map(|n| n.to_string()).collect();
    let inputs: Vec<_> = keys.iter().map(|key| (key.as_str(), NAME)).collect();
    let questions = asked(&mut desk, at, &json!(1), &inputs);
    let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(1024 * 1024));
    for question in &questions {
        reply(&mut desk, at.0, question, &large);
    }
    let heard = desk.client_heard(at.0);
    let last = heard.last().expect("an answer");
    assert_eq!((&last["id"], &last["error"]["code"]), (&json!(1), &json!(429)));
    assert!(desk.server_heard(at.1).is_empty());
}

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
