//! Modern clients on legacy servers: raw sessions on the puppet. Real ones are in `tests/pairings`.

use serde_json::{Value, json};

use crate::support::{Era, Home, MODERN, Session, Supervisor, puppet_tenant, said};

/// `_meta` of a request whose client can be asked for everything.
fn able() -> Value {
    json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}, "roots": {}}})
}

/// A tenant `acme` on the puppet.
fn home(environment: &[(&str, &str)], server: &str) -> Home {
    let home = Home::new();
    home.tenant("acme", &puppet_tenant(environment, server));
    home
}

fn open(supervisor: &Supervisor<'_>, era: Era) -> Session {
    let mut session = supervisor.connect("acme");
    let answer = session.open(era);
    assert!(answer.get("error").is_none(), "{answer}");
    session
}

fn asking(method: &str, params: &Value) -> Value {
    let arguments = json!({"method": method, "params": params});
    json!({"name": "ask", "arguments": arguments, "_meta": able()})
}

/// The retry of a request: the same with answers, and the state that came with the questions.
fn answered(request: &Value, asked: &Value, answers: Value) -> Value {
    let mut retry = request.clone();
    retry["inputResponses"] = answers;
    retry["requestState"] = asked["requestState"].clone();
    retry
}

#[test]
fn a_modern_client_sees_a_modern_server() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = supervisor.connect("acme");
    let found = session.discover()["result"].clone();
    assert_eq!(found["supportedVersions"], json!([MODERN]));
    assert_eq!(found["instructions"], "Does what it is told.");
    assert_eq!(found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "puppet");
    assert!(found["capabilities"].get("tasks").is_none(), "{found}");
    let tools = session.result("tools/list", json!({}));
    assert_eq!((&tools["resultType"], &tools["ttlMs"]), (&json!("complete"), &json!(0)));
    let echo = session.call("echo", json!({"text": "x"}));
    assert_eq!((said(&echo), &echo["resultType"]), ("x", &json!("complete")));
    assert!(echo.get("ttlMs").is_none(), "{echo}");
    let meta: Value =
        serde_json::from_str(said(&session.call("context", json!({})))).expect("JSON");
    assert_eq!(
        meta.as_object().expect("an object").keys().collect::<Vec<_>>(),
        ["io.tenantd/context"]
    );
    session.send(r#"{"jsonrpc":"2.0","id":"p","method":"tools/call","params":{"name":"progress","arguments":{"steps":2},"_meta":{"progressToken":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#);
    assert_eq!(session.recv_json()["params"]["progressToken"], "t");
    assert_eq!(session.recv_json()["params"]["progress"], 2);
    assert_eq!(session.recv_json()["id"], "p");
    let old = json!({"_meta": {"io.modelcontextprotocol/protocolVersion": "2027-01-01"}});
    let error = session.request("tools/list", old)["error"].clone();
    assert_eq!((&error["code"], &error["data"]["supported"]), (&json!(-32022), &json!([MODERN])));
    assert_eq!(session.request("ping", json!({}))["error"]["code"], -32601);
    supervisor.stop();
}

#[test]
fn both_kinds_of_clients_share_one_legacy_server() {
    let home = home(&[], "shared_capabilities = [\"sampling\", \"elicitation\", \"roots\"]");
    let supervisor = home.start();
    let mut modern = open(&supervisor, Era::Modern);
    let mut legacy = supervisor.connect("acme");
    legacy.initialize(json!({"roots": {}}));
    let process = |session: &mut Session| {
        let found: Value =
            serde_json::from_str(said(&session.call("environment", json!({})))).expect("JSON");
        found["process"].as_str().expect("a name").to_owned()
    };
    assert_eq!(process(&mut modern), process(&mut legacy));
    // What changes is told in each one's own way.
    let listening = modern.ask(
        "subscriptions/listen",
        json!({"notifications": {
        "toolsListChanged": true, "resourceSubscriptions": ["puppet://one"]}}),
    );
    let tag = |message: &Value| {
        message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone()
    };
    let acknowledged = modern.recv_json();
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(tag(&acknowledged), listening);
    assert_eq!(
        acknowledged["params"]["notifications"]["resourceSubscriptions"],
        json!(["puppet://one"])
    );
    legacy.call("changed", json!({"name": "extra"}));
    assert_eq!(tag(&modern.recv_method("notifications/tools/list_changed")), listening);
    let told = legacy.recv_method("notifications/tools/list_changed");
    assert_eq!(tag(&told), Value::Null);
    legacy.call("touch", json!({"uri": "puppet://one"}));
    assert_eq!(tag(&modern.recv_method("notifications/resources/updated")), listening);
    legacy.call("echo", json!({"text": "x"}));
    assert!(legacy.aside.is_empty(), "{:?}", legacy.aside);
    // A question for both of them is for nobody.
    let hold = json!({"name": "hold", "arguments": {"key": "k"}, "_meta": able()});
    let held = modern.ask("tools/call", hold);
    let refused = legacy.call("ask", json!({"method": "roots/list", "params": {}}));
    assert!(said(&refused).contains("ambiguous"), "{refused}");
    let asked = legacy.ask("tools/call", json!({"name": "ask", "arguments": {"method": "sampling/createMessage", "params": {"n": 1}}}));
    let question = modern.answer(&held)["result"].clone();
    assert_eq!(question["inputRequests"]["1"]["params"], json!({"n": 1}));
    let hold = json!({"name": "hold", "arguments": {"key": "k"}, "_meta": able()});
    let held = modern.ask("tools/call", answered(&hold, &question, json!({"1": {"role": "x"}})));
    assert!(said(&legacy.answer(&asked)["result"]).contains(r#""role":"x""#));
    legacy.call("release", json!({"key": "k", "text": "for the retry"}));
    assert_eq!(said(&modern.answer(&held)["result"]), "for the retry");
    modern.notify("notifications/cancelled", json!({"requestId": listening}));
    modern.call("echo", json!({"text": "x"}));
    assert_eq!(said(&legacy.call("touch", json!({"uri": "puppet://one"}))), "0");
    supervisor.stop();
}

#[test]
fn a_question_is_answered_by_a_retry_also_on_another_connection() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut first = open(&supervisor, Era::Modern);
    let params = json!({"message": "name?", "n": 1.5});
    let call = asking("elicitation/create", &params);
    let asked = first.result("tools/call", call.clone());
    assert_eq!(asked["resultType"], "input_required");
    assert_eq!(
        asked["inputRequests"],
        json!({"1": {"method": "elicitation/create", "params": params}})
    );
    first.close();
    let mut second = open(&supervisor, Era::Modern);
    let mut forged = answered(&call, &asked, json!({"1": {}}));
    forged["requestState"] =
        json!(asked["requestState"].as_str().expect("a state").replace('a', "b"));
    let error = second.request("tools/call", forged)["error"].clone();
    assert_eq!(error["data"]["reason"], "request-state");
    let retry = answered(&call, &asked, json!({"1": {"action": "decline"}}));
    let done = second.result("tools/call", retry.clone());
    assert!(said(&done).contains(r#""result":{"action":"decline"}"#), "{done}");
    assert_eq!(second.request("tools/call", retry)["error"], error, "a state is good for once");
    // A server that is gone has nothing that waits.
    let asked = second.result("tools/call", call.clone());
    second.request("tools/call", json!({"name": "die", "arguments": {}}));
    let late = second.request("tools/call", answered(&call, &asked, json!({"1": {}})));
    assert_eq!(late["error"], error);
    supervisor.stop();
}

#[test]
fn a_probe_then_a_handshake_then_a_modern_request_are_all_served() {
    let home = home(&[], "share = \"session\"");
    let supervisor = home.start();
    let mut session = supervisor.connect("acme");
    let envelope = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"roots":{},"extensions":{"x":{}}}}"#;
    session.send(&format!(
        r#"{{"jsonrpc":"2.0","id":"probe","method":"server/discover","params":{{{envelope}}}}}"#
    ));
    assert_eq!(session.recv_json()["result"]["resultType"], "complete");
    assert_eq!(session.initialize(json!({}))["result"]["serverInfo"]["name"], "puppet");
    assert!(session.result("tools/list", json!({})).get("resultType").is_none());
    let lines: Vec<String> =
        serde_json::from_str(said(&session.call("seen", json!({})))).expect("lines");
    let greeting = lines.iter().find(|line| line.contains("initialize")).expect("a handshake");
    let greeting: Value = serde_json::from_str(greeting).expect("JSON");
    assert_eq!(greeting["params"]["capabilities"], json!({"roots": {}}));
    session.send(&format!(
        r#"{{"jsonrpc":"2.0","id":"m","method":"tools/list","params":{{{envelope}}}}}"#
    ));
    assert_eq!(session.recv_json()["result"]["resultType"], "complete");
    supervisor.stop();
}

#[test]
fn a_stream_lives_longer_than_its_server_and_ends_with_a_result() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, Era::Modern);
    let filter = json!({"toolsListChanged": true, "resourceSubscriptions": ["puppet://one"]});
    let listening = session.ask("subscriptions/listen", json!({"notifications": filter}));
    session.recv_method("notifications/subscriptions/acknowledged");
    session.request("tools/call", json!({"name": "die", "arguments": {}}));
    assert_eq!(said(&session.call("touch", json!({"uri": "puppet://one"}))), "1");
    // Nobody has listed anything, so no list can differ at the next server.
    let updated = session.recv_method("notifications/resources/updated");
    assert_eq!(updated["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], listening);
    assert!(session.aside.is_empty(), "{:?}", session.aside);
    supervisor.stop();
    let closing = session.answer(&listening);
    let tag = json!({"io.modelcontextprotocol/subscriptionId": listening});
    assert_eq!(closing["result"], json!({"resultType": "complete", "_meta": tag}));
}

#[test]
fn log_messages_come_to_the_request_that_asked_for_them() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&supervisor, Era::Modern);
    let notify = |level: &str| {
        let params = json!({"level": level, "data": "said"});
        let arguments = json!({"method": "notifications/message", "params": params});
        json!({"name": "notify", "arguments": arguments})
    };
    let mut loud = notify("info");
    loud["_meta"] = json!({"io.modelcontextprotocol/logLevel": "info"});
    let id = session.ask("tools/call", loud);
    assert_eq!(session.recv_json()["params"]["data"], "said");
    session.answer(&id);
    session.result("tools/call", notify("emergency"));
    assert!(session.aside.is_empty(), "{:?}", session.aside);
    let seen = session.call("seen", json!({}));
    assert!(said(&seen).contains("logging/setLevel"), "{seen}");
    supervisor.stop();
}
