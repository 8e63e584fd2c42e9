//! What is in flight when a server dies: sent once more where that is safe, answered where it is not.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Desk, META, PAUSE, call, discovery};
use crate::config::tenant::Share;
use crate::mux::outbox::ChildId;
use crate::names::SessionId;
use crate::wire::Farewell;

/// What the server of these tests says of its tools.
const TOOLS: &str = r#"{"tools":[
    {"name":"t","annotations":{"readOnlyHint":true}},
    {"name":"i","annotations":{"readOnlyHint":false,"idempotentHint":true}},
    {"name":"unsafe","annotations":{"readOnlyHint":false}},
    {"name":"odd","annotations":{"readOnlyHint":"true","idempotentHint":1}},
    {"name":"silent"}]}"#;

fn list(desk: &mut Desk, session: SessionId, child: ChildId, tools: &str) {
    desk.client(session, r#"{"jsonrpc":"2.0","id":"list","method":"tools/list"}"#);
    let asked = desk.server_heard(child).remove(0);
    desk.answer(child, &asked, &tools.replace('\n', " "));
    assert_eq!(desk.client_heard(session)[0]["id"], "list");
}

/// A session whose server has told what its tools are.
fn desk() -> (Desk, SessionId, ChildId) {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    list(&mut desk, a, child, TOOLS);
    (desk, a, child)
}

fn call_of(id: u32, tool: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool}})
        .to_string()
}

fn ids(lines: &[Value]) -> Vec<&Value> {
    lines.iter().map(|line| &line["id"]).collect()
}

fn calls(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["params"]["name"].as_str()).collect()
}

#[test]
fn a_safe_call_is_sent_once_more_in_its_order_and_its_client_sees_only_the_answer() {
    let (mut desk, a, child) = desk();
    desk.client(a, &call("1", Some("\"p\"")));
    for (id, tool) in [(2, "unsafe"), (3, "i"), (4, "odd"), (5, "silent"), (6, "never listed")] {
        desk.client(a, &call_of(id, tool));
    }
    desk.client(a, r#"{"jsonrpc":"2.0","id":7,"method":"prompts/get","params":{"name":"p"}}"#);
    desk.client(
        a,
        r#"{"jsonrpc":"2.0","id":8,"method":"logging/setLevel","params":{"level":"info"}}"#,
    );
    let before = desk.exchange.counters.calls;
    desk.kill(child);
    let heard = desk.client_heard(a);
    assert_eq!(ids(&heard), [2, 4, 5, 6, 8], "{heard:?}");
    assert!(heard.iter().all(|answer| answer["error"]["data"]["reason"] == "server-died"));
    desk.client(a, &call_of(9, "late"));
    let child = desk.start();
    let others = desk.shake(child);
    assert_eq!(calls(&others), ["t", "i", "p", "late"]);
    let again = others.iter().find(|line| line["params"]["name"] == "t").expect("the call");
    assert_eq!(again["params"]["_meta"]["progressToken"], again["id"]);
    let progress = json!({"progressToken": again["id"], "progress": 1});
    desk.server(
        child,
        &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
            .to_string(),
    );
    desk.answer(child, again, "{}");
    let heard = desk.client_heard(a);
    assert_eq!(heard[0]["params"]["progressToken"], "p");
    assert_eq!(heard[1]["id"], 1);
    assert_eq!(desk.exchange.counters.calls, before + 1, "only the late one is new");
}

#[test]
fn what_was_in_flight_goes_before_what_waited_for_its_turn() {
    let (mut desk, a, child) = desk();
    desk.client(a, &call_of(1, "t"));
    desk.exchange.child_full(child);
    desk.client(a, &call_of(2, "late"));
    desk.kill(child);
    let child = desk.start();
    assert_eq!(calls(&desk.shake(child)), ["t", "late"]);
}

#[test]
fn nothing_is_sent_a_third_time() {
    let (mut desk, a, child) = desk();
    desk.client(a, &call("1", None));
    desk.kill(child);
    let child = desk.start();
    assert_eq!(calls(&desk.shake(child)), ["t"]);
    desk.kill(child);
    let heard = desk.client_heard(a);
    assert_eq!(heard[0]["error"]["data"]["reason"], "server-died", "{heard:?}");
    // Its id is free again, and a new call is a new call.
    desk.client(a, &call("1", None));
    desk.pass(PAUSE);
    let child = desk.start();
    assert_eq!(calls(&desk.shake(child)), ["t"]);
    desk.kill(child);
    assert!(desk.client_heard(a).is_empty());
}

#[test]
fn what_its_client_has_seen_something_of_or_given_up_is_not_sent_again() {
    let (mut desk, a, child) = desk();
    desk.client(a, &call("1", Some("5")));
    desk.client(a, &call("2", None));
    let asked = desk.server_heard(child);
    let progress = json!({"progressToken": asked[0]["id"], "progress": 1});
    desk.server(
        child,
        &json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": progress})
            .to_string(),
    );
    desk.client(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#,
    );
    desk.client_heard(a);
    desk.kill(child);
    assert_eq!(ids(&desk.client_heard(a)), [1]);
    desk.client(a, &call_of(3, "t"));
    let child = desk.start();
    assert_eq!(calls(&desk.shake(child)), ["t"]);
    // A person who has answered once is not asked a second time.
    let sampling = r#"{"jsonrpc":"2.0","id":0,"method":"sampling/createMessage","params":{}}"#;
    desk.server(child, sampling);
    desk.client_heard(a);
    desk.kill(child);
    assert_eq!(desk.client_heard(a)[0]["id"], 3);
}

#[test]
fn the_newest_word_about_a_tool_counts() {
    let (mut desk, a, child) = desk();
    list(&mut desk, a, child, r#"{"tools":[{"name":"t","annotations":{"readOnlyHint":false}}]}"#);
    desk.client(a, &call_of(1, "t"));
    desk.client(a, &call_of(2, "i"));
    desk.kill(child);
    assert_eq!(ids(&desk.client_heard(a)), [1]);
}

#[test]
fn a_cancellation_between_death_and_start_is_the_end_of_it() {
    let (mut desk, a, child) = desk();
    desk.client(a, &call("1", None));
    desk.client(a, &call("2", None));
    desk.kill(child);
    desk.client(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    );
    let child = desk.start();
    let others = desk.shake(child);
    assert_eq!(calls(&others), ["t"]);
    desk.answer(child, others.last().expect("the call"), "{}");
    assert_eq!(ids(&desk.client_heard(a)), [2]);
}

#[test]
fn a_call_cancelled_at_a_server_that_is_being_stopped_is_not_sent_to_the_next() {
    let (mut desk, a, child) = desk();
    desk.client(a, &call("1", None));
    desk.exchange.restart(None, desk.now);
    desk.client(a, &call("2", None));
    desk.client(
        a,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
    );
    desk.kill(child);
    let child = desk.start();
    assert_eq!(calls(&desk.shake(child)).len(), 1);
    assert!(desk.client_heard(a).is_empty());
}

#[test]
fn equal_ids_of_two_sessions_are_sent_again_for_each() {
    let (mut desk, a, child) = desk();
    let (b, _) = desk.legacy(2, 1001);
    for session in [a, b] {
        let line = call("1", None).replace("\"name\"", &format!("\"of\":{},\"name\"", session.0));
        desk.client(session, &line);
    }
    desk.kill(child);
    let child = desk.start();
    for asked in desk.shake(child) {
        if asked["method"] == "tools/call" {
            desk.answer(child, &asked, &asked["params"]["of"].to_string());
        }
    }
    for session in [a, b] {
        let heard = desk.client_heard(session);
        assert_eq!(heard[0]["result"], session.0, "{heard:?}");
        assert_eq!((heard.len(), &heard[0]["id"]), (1, &json!(1)));
    }
}

#[test]
fn a_server_that_does_not_come_back_costs_the_usual_error_in_the_end() {
    let (mut desk, a, child) = desk();
    desk.client(a, &call("1", None));
    desk.kill(child);
    for _ in 0..4 {
        assert!(desk.client_heard(a).is_empty());
        desk.pass(PAUSE * 7 / 10);
        desk.fall();
    }
    let heard = desk.client_heard(a);
    let answer = heard.iter().find(|line| line["id"] == 1).expect("an answer");
    assert_eq!(answer["error"]["data"]["reason"], "crash-loop", "{heard:?}");
    let (mut desk, a, child) = self::desk();
    desk.client(a, &call("1", None));
    desk.kill(child);
    desk.pass(Duration::from_millis(8999));
    assert!(desk.client_heard(a).is_empty());
    desk.pass(Duration::from_millis(1));
    assert_eq!(desk.client_heard(a)[0]["error"]["data"]["reason"], "starting");
}

#[test]
fn what_is_kept_is_bounded_and_an_answer_gives_its_place_back() {
    let (mut desk, a, child) = desk();
    for id in 0..200 {
        desk.client(a, &call(&id.to_string(), None));
    }
    let asked = desk.server_heard(child);
    for line in asked.iter().take(10) {
        desk.answer(child, line, "{}");
    }
    desk.client_heard(a);
    for id in 200..210 {
        desk.client(a, &call(&id.to_string(), None));
    }
    let long = "x".repeat(600 * 1024);
    desk.client(a, &call(&format!("\"{long}\""), None));
    desk.kill(child);
    let refused = desk.client_heard(a);
    assert_eq!(refused.len(), 200 - 128 + 1, "128 lines, and none that is too long");
    let child = desk.start();
    assert_eq!(calls(&desk.shake(child)).len(), 128);
}

#[test]
fn a_legacy_call_on_a_modern_server_is_dressed_anew() {
    let mut desk = Desk::new(Share::Tenant);
    let (m, child) = desk.modern(1);
    let meta: Value = serde_json::from_str(&format!("{{{META}}}")).expect("JSON");
    let listing =
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}});
    desk.client(m, &listing.to_string());
    let asked = desk.server_heard(child).remove(0);
    desk.answer(child, &asked, &TOOLS.replace('\n', " "));
    let a = desk.open(2, 1000);
    desk.initialize(a);
    desk.client_heard(a);
    desk.client(a, &call("1", None));
    // What brings a state of the old server's is nothing for the next.
    for (id, carried) in [(2, json!({"requestState": "s"})), (3, json!({"inputResponses": {}}))] {
        let mut params = json!({"name": "t", "_meta": meta});
        params
            .as_object_mut()
            .expect("an object")
            .extend(carried.as_object().expect("one").clone());
        desk.exchange.slots.values_mut().for_each(|slot| {
            let state = serde_json::value::to_raw_value("s").expect("JSON");
            slot.states.give(&state, 1000);
        });
        desk.client(
            m,
            &json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})
                .to_string(),
        );
    }
    assert_eq!(desk.server_heard(child).len(), 3);
    desk.client_heard(m);
    desk.kill(child);
    assert_eq!(ids(&desk.client_heard(m)), [2, 3]);
    let child = desk.start();
    let probe = desk.server_heard(child).remove(0);
    desk.server(child, &discovery(&probe["id"]));
    let again = desk.server_heard(child).pop().expect("the call");
    assert_eq!(again["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    desk.answer(child, &again, r#"{"resultType":"complete","n":1}"#);
    let heard = desk.client_heard(a);
    assert_eq!((&heard[0]["id"], &heard[0]["result"]), (&json!(1), &json!({"n": 1})));
}

#[test]
fn while_tenantd_is_stopping_nothing_waits_for_another_server() {
    let (mut desk, a, child) = desk();
    desk.client(a, &call("1", None));
    let farewell = Farewell { reason: "stopping".to_owned(), code: 69 };
    desk.exchange.drain(farewell, Duration::from_secs(5), desk.now);
    desk.kill(child);
    assert_eq!(desk.client_heard(a)[0]["error"]["code"], 503);
}

#[test]
fn a_client_whose_input_has_ended_still_gets_the_error_and_the_late_answer() {
    let (mut desk, a, child) = desk();
    desk.client(a, &call("1", None));
    desk.client(a, &call_of(2, "unsafe"));
    desk.exchange.client_ended(a, desk.now);
    desk.kill(child);
    assert_eq!(ids(&desk.client_heard(a)), [2]);
    let child = desk.start();
    let asked = desk.shake(child).pop().expect("the call");
    desk.answer(child, &asked, "{}");
    assert_eq!(ids(&desk.client_heard(a)), [1]);
    assert!(!desk.exchange.sessions.contains_key(&a), "nothing more is owed to it");
}
