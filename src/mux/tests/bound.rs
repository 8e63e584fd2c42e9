//! Handles that outlive a call: tasks and request states, each for those who were given it.

use serde_json::{Value, json};

use super::{Desk, META, discovery};
use crate::config::tenant::Share;
use crate::mux::child::Slot;
use crate::mux::outbox::{ChildId, End};
use crate::names::SessionId;

/// A request of a client that knows the extension of tasks.
fn ask(id: u64, method: &str, more: &str) -> String {
    let tasks = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    let meta =
        META.replace(r#"clientCapabilities":{}"#, &format!(r#"clientCapabilities":{tasks}"#));
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"_meta":{{{meta}}}{more}}}}}"#
    )
}

/// A modern server that makes tasks, and its first session, of uid 1000.
fn desk(share: Share) -> (Desk, SessionId, ChildId) {
    let mut desk = Desk::new(share);
    let a = desk.open(1, 1000);
    desk.client(a, &ask(0, "tools/list", ""));
    let child = start(&mut desk);
    desk.server_heard(child);
    (desk, a, child)
}

fn start(desk: &mut Desk) -> ChildId {
    let child = desk.start();
    let probe = desk.server_heard(child).remove(0);
    assert_eq!(probe["method"], "server/discover");
    desk.server(
        child,
        &discovery(&probe["id"]).replace(r#""tools":{}"#, r#""tools":{},"tasks":{}"#),
    );
    child
}

/// Whether a request reaches the server; if not, it is refused with this code.
fn reaches(desk: &mut Desk, session: SessionId, child: ChildId, line: &str) -> Result<(), Value> {
    desk.client(session, line);
    if desk.server_heard(child).len() == 1 {
        return Ok(());
    }
    let heard = desk.client_heard(session);
    assert_eq!(heard.len(), 1, "{heard:?}");
    Err(heard[0]["error"]["code"].clone())
}

#[test]
fn a_modern_task_is_its_users_also_at_the_next_server() {
    let (mut desk, a, child) = desk(Share::Tenant);
    desk.client(a, &ask(1, "tools/call", r#","name":"t""#));
    let asked = desk.server_heard(child).remove(0);
    desk.answer(child, &asked, r#"{"resultType":"task","taskId":"task-1"}"#);
    desk.client_heard(a);
    desk.kill(child);
    let (same, other) = (desk.open(2, 1000), desk.open(3, 1001));
    let get = |id| ask(id, "tasks/get", r#","taskId":"task-1""#);
    desk.client(same, &get(1));
    let child = start(&mut desk);
    assert_eq!(desk.server_heard(child).pop().expect("asked")["method"], "tasks/get");
    // The extension's words for a task that there is not, and for one that is somebody else's.
    assert_eq!(reaches(&mut desk, other, child, &get(1)), Err(json!(-32602)));
    let unknown = ask(2, "tasks/get", r#","taskId":"task-2""#);
    assert_eq!(reaches(&mut desk, same, child, &unknown), Err(json!(-32602)));
}

#[test]
fn a_question_about_a_task_that_its_server_died_over_goes_to_the_next_one() {
    let (mut desk, a, child) = desk(Share::Tenant);
    desk.client(a, &ask(1, "tools/call", r#","name":"t""#));
    let asked = desk.server_heard(child).remove(0);
    desk.answer(child, &asked, r#"{"resultType":"task","taskId":"task-1"}"#);
    desk.client_heard(a);
    for (id, method) in [(2, "tasks/get"), (3, "tasks/cancel")] {
        assert_eq!(reaches(&mut desk, a, child, &ask(id, method, r#","taskId":"task-1""#)), Ok(()));
    }
    desk.kill(child);
    let heard = desk.client_heard(a);
    assert_eq!((heard.len(), &heard[0]["id"]), (1, &json!(3)), "a deed is not done twice");
    let child = start(&mut desk);
    let again = desk.server_heard(child).pop().expect("asked");
    assert_eq!(
        (&again["method"], &again["params"]["taskId"]),
        (&json!("tasks/get"), &json!("task-1"))
    );
}

/// The server gives a state to a session, in a result that asks for input.
fn give(desk: &mut Desk, session: SessionId, child: ChildId, state: &str) {
    desk.client(session, &ask(1, "tools/call", r#","name":"t""#));
    let asked = desk.server_heard(child).remove(0);
    let result = format!(
        r#"{{"resultType":"input_required","requestState" : {state} ,"inputRequests":{{}}}}"#
    );
    desk.answer(child, &asked, &result);
    let heard = desk.heard(End::Session(session));
    assert!(heard[0].contains(&result), "byte for byte: {heard:?}");
}

fn bring(state: &str) -> String {
    ask(2, "tools/call", &format!(r#","name":"t","inputResponses":{{}},"requestState":{state}"#))
}

#[test]
fn a_request_state_is_only_taken_from_whom_it_was_given_to() {
    let (mut desk, a, child) = desk(Share::Tenant);
    give(&mut desk, a, child, r#""st\u00e9""#);
    let (same, other) = (desk.open(2, 1000), desk.open(3, 1001));
    assert_eq!(reaches(&mut desk, other, child, &bring("\"sté\"")), Err(json!(403)));
    assert_eq!(reaches(&mut desk, other, child, &bring("\"unknown\"")), Err(json!(403)));
    assert_eq!(reaches(&mut desk, a, child, &bring("\"st\"")), Err(json!(403)));
    assert_eq!(reaches(&mut desk, a, child, &bring("\"sté\"")), Ok(()), "whatever its escapes");
    assert_eq!(reaches(&mut desk, same, child, &bring(r#""st\u00e9""#)), Ok(()));
    let twice =
        bring("\"sté\"").replace("\"requestState\"", "\"requestState\":\"x\",\"requestState\"");
    desk.client(other, &twice);
    assert!(desk.server_heard(child).is_empty(), "two states are none");
    assert_eq!(desk.client_heard(other)[0]["error"]["code"], 400);
}

#[test]
fn only_who_was_asked_for_input_was_given_a_state() {
    let (mut desk, a, child) = desk(Share::Tenant);
    let wants = r#"{"resultType":"input_required","requestState":"s","inputRequests":{}}"#;
    // A result that is complete, and a method that may not want input.
    let complete = wants.replace("input_required", "complete");
    let call = ask(1, "tools/call", r#","name":"t""#);
    for (line, result) in [(&call, &*complete), (&ask(1, "tools/list", ""), wants)] {
        desk.client(a, line);
        let asked = desk.server_heard(child).remove(0);
        desk.answer(child, &asked, result);
        desk.client_heard(a);
        assert_eq!(reaches(&mut desk, a, child, &bring("\"s\"")), Err(json!(403)), "{line}");
    }
    // The state of a legacy session's round is its user's like any other, and nobody else's.
    let legacy = desk.open(2, 1000);
    desk.initialize(legacy);
    desk.client_heard(legacy);
    desk.client(legacy, &super::call("1", None));
    let asked = desk.server_heard(child).remove(0);
    desk.answer(child, &asked, wants);
    desk.server_heard(child);
    let other = desk.open(3, 1001);
    assert_eq!(reaches(&mut desk, other, child, &bring("\"s\"")), Err(json!(403)));
    assert_eq!(reaches(&mut desk, a, child, &bring("\"s\"")), Ok(()));
    let same = desk.open(4, 1000);
    assert_eq!(reaches(&mut desk, same, child, &bring("null")), Ok(()), "no state at all");
}

#[test]
fn a_request_state_is_known_at_the_next_server_too() {
    let (mut desk, a, child) = desk(Share::Tenant);
    give(&mut desk, a, child, "\"s\"");
    desk.kill(child);
    desk.client(a, &bring("\"s\""));
    let child = start(&mut desk);
    let brought = desk.server_heard(child).pop().expect("the call");
    assert_eq!(brought["params"]["requestState"], "s");
}

#[test]
fn where_one_principal_is_alone_with_a_server_its_states_are_the_servers_business() {
    for share in [Share::User, Share::Session] {
        let (mut desk, a, child) = desk(share);
        assert_eq!(reaches(&mut desk, a, child, &bring("\"anything\"")), Ok(()), "{share:?}");
        give(&mut desk, a, child, "\"s\"");
        let state = serde_json::value::to_raw_value("s").expect("JSON");
        let remembered = |slot: &Slot| slot.states.was_given(&state, 1000);
        assert!(!desk.exchange.slots.values().any(remembered), "{share:?}: nobody asks for it");
    }
}

#[test]
fn what_only_looks_like_a_state_passes() {
    let (mut desk, a, child) = desk(Share::Tenant);
    let argument = ask(3, "tools/call", r#","name":"t","arguments":{"requestState":"mine"}"#);
    assert_eq!(reaches(&mut desk, a, child, &argument), Ok(()));
    let other = ask(4, "tasks/list", r#","requestState":"no such thing here""#);
    assert_eq!(reaches(&mut desk, a, child, &other), Ok(()));
    let seen: Value = json!(desk.client_heard(a));
    assert_eq!(seen, json!([]));
}

#[test]
fn a_legacy_client_brings_no_state_that_another_user_was_given() {
    let (mut desk, a, child) = desk(Share::Tenant);
    give(&mut desk, a, child, "\"s\"");
    let (same, other) = (desk.open(2, 1000), desk.open(3, 1001));
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","inputResponses":{},"requestState":"s"}}"#;
    for (session, reached) in [(other, Err(json!(403))), (same, Ok(()))] {
        desk.initialize(session);
        assert_eq!(desk.client_heard(session)[0]["id"], 0);
        desk.server_heard(child);
        assert_eq!(reaches(&mut desk, session, child, call), reached, "{session:?}");
    }
}
