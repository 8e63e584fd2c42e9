//! Many sessions on one server: each sees its own, all of it, and nothing of another's.
//!
//! That a session was told nothing is shown by a ping: what was meant for it would have come before the
//! answer.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use serde_json::{Value, json};
use support::{Era, Home, Session, Supervisor, puppet_tenant, said};

/// A tenant `acme` on the puppet.
fn home(environment: &[(&str, &str)], server: &str) -> Home {
    let home = Home::new();
    home.tenant("acme", &puppet_tenant(environment, server));
    home
}

fn open(supervisor: &Supervisor<'_>, era: Era) -> Session {
    let mut session = supervisor.connect("acme");
    session.open(era);
    session
}

/// A legacy session that declares these capabilities.
fn able(supervisor: &Supervisor<'_>, capabilities: Value) -> Session {
    let mut session = supervisor.connect("acme");
    session.initialize(capabilities);
    session
}

/// What the puppet has been told so far, line by line.
fn seen(session: &mut Session) -> Vec<Value> {
    let result = session.call("seen", json!({}));
    let lines: Vec<String> = serde_json::from_str(said(&result)).expect("lines");
    lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Fails if the session was told anything that it did not ask for.
fn assert_told_nothing(session: &mut Session, who: &str) {
    session.call("echo", json!({"text": "anything else?"}));
    assert!(session.aside.is_empty(), "{who} was told {:?}", session.aside);
}

#[test]
fn equal_ids_and_equal_progress_tokens_never_meet() {
    let home = home(&[], "");
    let supervisor = home.start();
    let (mut a, mut b) = (open(&supervisor, Era::Legacy), open(&supervisor, Era::Legacy));
    let hold = r#"{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"hold","arguments":{"key":"k"},"_meta":{"progressToken":77}}}"#;
    a.send(hold);
    b.send(r#"{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"progress","arguments":{"steps":3},"_meta":{"progressToken":77}}}"#);
    for step in 1..=3 {
        let note = b.recv_json();
        assert_eq!(note["params"]["progressToken"], 77, "{note}");
        assert_eq!(note["params"]["progress"], step, "{note}");
    }
    assert_eq!(said(&b.answer(&json!(77))["result"]), "3 steps");
    assert_told_nothing(&mut a, "the other session");
    b.call("release", json!({"key": "k", "text": "for a alone"}));
    assert_eq!(said(&a.answer(&json!(77))["result"]), "for a alone");
    assert_told_nothing(&mut b, "the other session");
    supervisor.stop();
}

#[test]
fn an_id_comes_back_byte_for_byte() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, Era::Legacy);
    for id in
        ["0", "-1", "9007199254740993", "18446744073709551616", r#""""#, r#""\u0061 \"b\" é""#]
    {
        session.send(&format!(
            r#"{{"params":{{"name":"echo","arguments":{{"text":"x"}}}},"method":"tools/call","id":{id} ,"jsonrpc":"2.0"}}"#
        ));
        let line = session.recv().expect("an answer");
        assert!(line.contains(&format!(r#""id":{id}"#)), "{id}: {line}");
        assert!(line.contains("result"), "{id}: {line}");
    }
    supervisor.stop();
}

#[test]
fn what_is_not_ours_to_change_arrives_byte_for_byte() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, Era::Legacy);
    let odd = r#"{"temperature":0.70,"big":123456789012345678901234567890,"e":1e2,"u":"\u00e9é","z":null,"a":[ 1 ,2]}"#;
    session.send(&format!(
        r#"{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":"seen","arguments":{odd},"future":true}}}}"#
    ));
    let answer = session.answer(&json!(5));
    let lines: Vec<String> = serde_json::from_str(said(&answer["result"])).expect("lines");
    let last = lines.last().expect("a line");
    assert!(last.contains(odd) && last.contains(r#""future":true"#), "{last}");
    supervisor.stop();
}

#[test]
fn an_id_in_flight_is_refused_and_the_first_request_goes_on() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, Era::Legacy);
    let hold = r#"{"jsonrpc":"2.0","id":"same","method":"tools/call","params":{"name":"hold","arguments":{"key":"k"}}}"#;
    session.send(hold);
    session.send(hold);
    let refused = session.answer(&json!("same"));
    assert_eq!(refused["error"]["code"], 409, "{refused}");
    assert_eq!(said(&session.call("release", json!({"key": "k", "text": "first"}))), "1");
    assert_eq!(said(&session.answer(&json!("same"))["result"]), "first");
    supervisor.stop();
}

#[test]
fn a_cancellation_reaches_the_server_under_the_id_it_knows() {
    let home = home(&[], "");
    let supervisor = home.start();
    let (mut a, mut b) = (open(&supervisor, Era::Legacy), open(&supervisor, Era::Legacy));
    let hold = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"hold","arguments":{"key":"k"}}}"#;
    a.send(hold);
    b.send(hold);
    a.call("echo", json!({"text": "the server has it"}));
    a.notify("notifications/cancelled", json!({"requestId": 9, "reason": "enough"}));
    // Not its own: goes nowhere.
    a.notify("notifications/cancelled", json!({"requestId": 12345}));
    let lines = seen(&mut a);
    let held: Vec<_> = lines.iter().filter(|line| line["params"]["name"] == "hold").collect();
    let cancelled: Vec<_> =
        lines.iter().filter(|line| line["method"] == "notifications/cancelled").collect();
    assert_eq!(cancelled.len(), 1, "{cancelled:?}");
    assert!(held.iter().any(|call| call["id"] == cancelled[0]["params"]["requestId"]));
    assert_eq!(cancelled[0]["params"]["reason"], "enough");
    assert_eq!(said(&b.call("release", json!({"key": "k", "text": "b's own"}))), "1");
    assert_eq!(said(&b.answer(&json!(9))["result"]), "b's own");
    supervisor.stop();
}

const SAMPLING: &str = r#"shared_capabilities = ["sampling", "elicitation", "roots"]"#;

fn ask_for_sampling() -> Value {
    let params = json!({"messages": [], "maxTokens": 1});
    json!({"name": "ask", "arguments": {"method": "sampling/createMessage", "params": params}})
}

#[test]
fn a_servers_request_goes_to_the_only_session_that_it_can_be_for() {
    let home = home(&[], SAMPLING);
    let supervisor = home.start();
    let mut a = able(&supervisor, json!({"sampling": {}}));
    let mut b = able(&supervisor, json!({}));
    // b is busy too, but cannot sample.
    let held = b.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    let call = a.ask("tools/call", ask_for_sampling());
    let asked = a.recv_method("sampling/createMessage");
    a.send_json(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"role": "assistant"}}));
    assert!(said(&a.answer(&call)["result"]).contains("assistant"));
    assert_told_nothing(&mut b, "the session that cannot sample");
    b.call("release", json!({"key": "k"}));
    b.answer(&held);
    supervisor.stop();
}

#[test]
fn a_servers_request_that_could_be_for_two_goes_to_none() {
    let home = home(&[], SAMPLING);
    let supervisor = home.start();
    let mut a = able(&supervisor, json!({"sampling": {}}));
    let mut b = able(&supervisor, json!({"sampling": {}}));
    let held = b.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
    b.request("tools/list", json!({}));
    let answer = a.request("tools/call", ask_for_sampling());
    assert!(said(&answer["result"]).contains("\"error\""), "{answer}");
    assert!(a.aside.is_empty(), "{:?}", a.aside);
    assert_told_nothing(&mut b, "the second candidate");
    b.call("release", json!({"key": "k"}));
    b.answer(&held);
    supervisor.stop();
}

#[test]
fn a_session_cannot_answer_what_another_was_asked() {
    let home = home(&[], SAMPLING);
    let supervisor = home.start();
    let mut a = able(&supervisor, json!({"sampling": {}}));
    let mut b = able(&supervisor, json!({}));
    let call = a.ask("tools/call", ask_for_sampling());
    let asked = a.recv_method("sampling/createMessage");
    for id in [asked["id"].clone(), json!(0), json!(1), json!(2)] {
        b.send_json(&json!({"jsonrpc": "2.0", "id": id, "result": {"role": "forged"}}));
    }
    assert_told_nothing(&mut b, "the forger");
    a.send_json(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"role": "genuine"}}));
    assert!(said(&a.answer(&call)["result"]).contains("genuine"));
    supervisor.stop();
}

#[test]
fn a_changed_list_is_told_to_everybody() {
    let home = home(&[], "");
    let supervisor = home.start();
    let (mut a, mut b) = (open(&supervisor, Era::Legacy), open(&supervisor, Era::Legacy));
    a.call("changed", json!({"name": "fresh"}));
    for session in [&mut a, &mut b] {
        session.recv_method("notifications/tools/list_changed");
        let listed = session.result("tools/list", json!({}));
        assert!(listed.to_string().contains("fresh"), "{listed}");
    }
    supervisor.stop();
}

#[test]
fn a_subscription_ends_at_the_server_with_its_last_holder() {
    let home = home(&[], "");
    let supervisor = home.start();
    let (mut a, mut b) = (open(&supervisor, Era::Legacy), open(&supervisor, Era::Legacy));
    let uri = json!({"uri": "puppet://one"});
    a.result("resources/subscribe", uri.clone());
    b.result("resources/subscribe", uri.clone());
    a.result("resources/unsubscribe", uri.clone());
    assert_eq!(said(&b.call("touch", uri.clone())), "1", "still subscribed at the server");
    b.recv_method("notifications/resources/updated");
    assert_told_nothing(&mut a, "who unsubscribed");
    b.close();
    // b's end is seen before or after this call; it is seen.
    while said(&a.call("touch", uri.clone())) != "0" {}
    assert_told_nothing(&mut a, "who unsubscribed");
    supervisor.stop();
}

#[test]
fn subscriptions_of_modern_sessions_keep_their_own_ids() {
    let home = home(&[("PUPPET_ERA", "modern")], "");
    let supervisor = home.start();
    let (mut a, mut b) = (open(&supervisor, Era::Modern), open(&supervisor, Era::Modern));
    let listen = |session: &mut Session, id: Value| {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let params = json!({"notifications": {"toolsListChanged": true}, "_meta": meta});
        session.send_json(&json!({"jsonrpc": "2.0", "id": id, "method": "subscriptions/listen", "params": params}));
        let note = session.recv_method("notifications/subscriptions/acknowledged");
        assert_eq!(note["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], id);
    };
    let (one, two) = (json!("listen"), json!("listen"));
    listen(&mut a, one.clone());
    listen(&mut b, two.clone());
    a.call("changed", json!({"name": "fresh"}));
    for (session, id) in [(&mut a, &one), (&mut b, &two)] {
        let note = session.recv_method("notifications/tools/list_changed");
        assert_eq!(note["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], *id);
        assert!(session.aside.is_empty(), "{:?}", session.aside);
    }
    a.notify("notifications/cancelled", json!({"requestId": one}));
    assert_eq!(said(&b.call("finish", json!({}))), "1");
    let result = b.answer(&two);
    assert_eq!(result["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], two);
    assert_told_nothing(&mut a, "who cancelled its subscription");
    supervisor.stop();
}

#[test]
fn a_task_belongs_to_the_session_that_made_it() {
    let home = home(&[], "");
    let supervisor = home.start();
    let (mut a, mut b) = (open(&supervisor, Era::Legacy), open(&supervisor, Era::Legacy));
    let call = json!({"name": "echo", "arguments": {"text": "a's secret"}, "task": {"ttl": 60000}});
    let made = a.result("tools/call", call);
    let task = json!({"taskId": made["task"]["taskId"]});
    a.recv_method("notifications/tasks/status");
    for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
        let answer = b.request(method, task.clone());
        assert!(answer.get("error").is_some(), "{method}: {answer}");
    }
    assert_eq!(b.result("tasks/list", json!({}))["tasks"], json!([]));
    assert_told_nothing(&mut b, "the other session");
    assert_eq!(said(&a.result("tasks/result", task)), "a's secret");
    assert_eq!(a.result("tasks/list", json!({}))["tasks"].as_array().map(Vec::len), Some(1));
    supervisor.stop();
}

#[test]
fn the_servers_own_chatter_goes_to_nobody_it_is_not_for() {
    let home = home(&[], "");
    let supervisor = home.start();
    let (mut a, mut b) = (open(&supervisor, Era::Legacy), open(&supervisor, Era::Legacy));
    let message = json!({"level": "error", "data": "a's business"});
    a.call("notify", json!({"method": "notifications/message", "params": message}));
    a.recv_method("notifications/message");
    assert_told_nothing(&mut b, "the other session");
    let forged = json!({"progressToken": 1, "progress": 1});
    a.call("notify", json!({"method": "notifications/progress", "params": forged}));
    assert_told_nothing(&mut a, "a session that asked for no progress");
    assert_told_nothing(&mut b, "the other session");
    supervisor.stop();
}

#[test]
fn the_context_of_a_request_is_tenantds_word() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, Era::Legacy);
    let forged =
        json!({"io.tenantd/context": {"tenant": "globex", "permissions": ["root"]}, "mine": 1});
    let params = json!({"name": "context", "arguments": {}, "_meta": forged});
    let result = session.result("tools/call", params);
    let meta: Value = serde_json::from_str(said(&result)).expect("JSON");
    assert_eq!(meta["io.tenantd/context"]["tenant"], "acme", "{meta}");
    assert!(!meta.to_string().contains("root\"]"), "{meta}");
    assert_eq!(meta["mine"], 1, "{meta}");
    supervisor.stop();
}

#[test]
fn a_server_is_shared_as_its_tenant_file_says() {
    for (server, same) in [("", true), ("share = \"user\"", true), ("share = \"session\"", false)] {
        let home = home(&[], server);
        let supervisor = home.start();
        let (mut a, mut b) = (open(&supervisor, Era::Legacy), open(&supervisor, Era::Legacy));
        let process = |session: &mut Session| {
            let result = session.call("environment", json!({}));
            let found: Value = serde_json::from_str(said(&result)).expect("JSON");
            found["process"].as_str().expect("a name").to_owned()
        };
        assert_eq!(process(&mut a) == process(&mut b), same, "{server}");
        supervisor.stop();
    }
}
