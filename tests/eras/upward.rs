//! A legacy client on a modern server.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{
    Era, Home, Packages, Session, Setup, SideBySide, Way, assert_same, puppet_tenant, said,
    tenant_with,
};

const URI: &str = "puppet://one";

fn home(variables: &[(&str, &str)], server: &str) -> Home {
    let home = Home::new();
    let variables: Vec<_> =
        [("PUPPET_ERA", "modern")].into_iter().chain(variables.iter().copied()).collect();
    home.tenant("acme", &puppet_tenant(&variables, server));
    home
}

/// A legacy session that can be asked for everything.
fn open(home: &Home) -> Session {
    let mut session = home.connect("acme");
    session.initialize(json!({"elicitation": {}, "sampling": {}, "roots": {}, "tasks": {}}));
    session
}

/// What the server has heard so far, each message.
fn seen(session: &mut Session) -> Vec<Value> {
    let lines = session.call("seen", json!({}));
    let lines: Vec<String> = serde_json::from_str(said(&lines)).expect("JSON");
    lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The filters of the listens that the server has heard.
fn filters(session: &mut Session) -> Vec<Value> {
    let seen = seen(session);
    let listens = seen.iter().filter(|line| line["method"] == "subscriptions/listen");
    listens.map(|line| line["params"]["notifications"].clone()).collect()
}

/// Looks again and again, each time a whole round trip, until it is so.
fn until(session: &mut Session, wanted: impl Fn(&mut Session) -> bool) {
    let deadline = std::time::Instant::now() + crate::support::DEADLINE;
    while !wanted(session) {
        assert!(std::time::Instant::now() < deadline, "it never came to be so");
    }
}

fn reply(session: &mut Session, question: &Value, result: Value) {
    session.send_json(&json!({"jsonrpc": "2.0", "id": question["id"], "result": result}));
}

#[test]
fn the_handshake_says_what_the_server_offers_in_the_clients_revision() {
    for share in ["tenant", "session"] {
        let home = home(&[], &format!("share = \"{share}\""));
        let supervisor = home.start();
        let mut session = home.connect("acme");
        let hello = session.initialize(json!({}))["result"].take();
        assert_eq!(hello["protocolVersion"], "2025-11-25", "{share}");
        assert_eq!(hello["serverInfo"]["name"], "puppet");
        assert_eq!(
            hello["capabilities"],
            json!({
                "tools": {"listChanged": true},
                "resources": {"subscribe": true, "listChanged": true},
                "prompts": {},
                "logging": {},
            })
        );
        let list = session.result("tools/list", json!({}));
        assert!(list["tools"].as_array().is_some_and(|tools| tools.len() > 20));
        let modern = ["resultType", "ttlMs", "cacheScope"];
        assert!(modern.iter().all(|key| list.get(key).is_none()), "{list}");
        supervisor.stop();
    }
}

#[test]
fn each_request_carries_its_own_sessions_envelope() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut able = open(&home);
    let mut unable = home.connect("acme");
    unable.initialize(json!({}));
    let meta = |session: &mut Session| -> Value {
        serde_json::from_str(said(&session.call("context", json!({})))).expect("JSON")
    };
    let (of_able, of_unable) = (meta(&mut able), meta(&mut unable));
    let capabilities = "io.modelcontextprotocol/clientCapabilities";
    assert_eq!(of_able[capabilities], json!({"elicitation": {}, "sampling": {}, "roots": {}}));
    assert_eq!(of_unable[capabilities], json!({}));
    assert_eq!(of_unable["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(of_unable["io.modelcontextprotocol/clientInfo"]["name"], "raw");
    let session = |meta: &Value| meta["io.tenantd/context"]["session"].clone();
    assert!(session(&of_able).is_string() && session(&of_able) != session(&of_unable));
    supervisor.stop();
}

#[test]
fn a_log_level_is_said_with_each_request_and_its_messages_reach_who_set_it() {
    let home = home(&[], "");
    let supervisor = home.start();
    let (mut loud, mut quiet) = (open(&home), open(&home));
    let log = |session: &mut Session, level: &str| -> String {
        said(&session.call("log", json!({"level": level, "data": level}))).to_owned()
    };
    assert_eq!(log(&mut loud, "notice"), "info", "what a client that never said gets");
    loud.recv_method("notifications/message");
    loud.result("logging/setLevel", json!({"level": "debug"}));
    quiet.result("logging/setLevel", json!({"level": "error"}));
    assert_eq!(log(&mut loud, "debug"), "debug");
    assert_eq!(loud.recv_method("notifications/message")["params"]["data"], "debug");
    assert_eq!(log(&mut quiet, "notice"), "error");
    assert!(quiet.aside.is_empty() && loud.aside.is_empty(), "{:?} {:?}", quiet.aside, loud.aside);
    let wrong = quiet.request("logging/setLevel", json!({"level": "loud"}));
    assert_eq!(wrong["error"]["code"], -32602);
    supervisor.stop();
}

#[test]
fn list_changes_and_updates_come_as_a_legacy_server_sends_them() {
    let home = home(&[], "");
    let supervisor = home.start();
    let (mut a, mut b) = (open(&home), open(&home));
    for session in [&mut a, &mut b] {
        until(session, |session| filters(session).len() == 2);
    }
    a.result("resources/subscribe", json!({"uri": URI}));
    b.call("changed", json!({"name": "fresh"}));
    b.call("touch", json!({"uri": URI}));
    b.call("touch", json!({"uri": "puppet://two"}));
    let changed =
        json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {}});
    let updated = json!({"jsonrpc": "2.0", "method": "notifications/resources/updated", "params": {"uri": URI}});
    assert_eq!(a.recv_method("notifications/tools/list_changed"), changed);
    assert_eq!(a.recv_method("notifications/resources/updated"), updated);
    assert_eq!(b.recv_method("notifications/tools/list_changed"), changed);
    a.result("resources/unsubscribe", json!({"uri": URI}));
    b.call("touch", json!({"uri": URI}));
    a.call("echo", json!({"text": "after"}));
    assert!(a.aside.is_empty() && b.aside.is_empty(), "{:?} {:?}", a.aside, b.aside);
    supervisor.stop();
}

#[test]
fn subscriptions_and_the_log_level_outlive_the_server() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&home);
    session.result("resources/subscribe", json!({"uri": URI}));
    session.result("logging/setLevel", json!({"level": "alert"}));
    let died = session.request("tools/call", json!({"name": "die", "arguments": {"code": 3}}));
    assert_eq!(died["error"]["code"], 503, "{died}");
    assert_eq!(said(&session.call("log", json!({"level": "alert", "data": 1}))), "alert");
    until(&mut session, |session| {
        filters(session).last().is_some_and(|last| last["resourceSubscriptions"] == json!([URI]))
    });
    session.call("touch", json!({"uri": URI}));
    let updated = session.recv_method("notifications/resources/updated");
    assert_eq!(updated["params"], json!({"uri": URI}));
    supervisor.stop();
}

#[test]
fn a_subscription_that_the_server_ends_is_asked_for_again() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&home);
    session.result("resources/subscribe", json!({"uri": URI}));
    assert_eq!(said(&session.call("finish", json!({}))), "1");
    let before = filters(&mut session).len();
    until(&mut session, |session| filters(session).len() > before);
    session.call("touch", json!({"uri": URI}));
    session.recv_method("notifications/resources/updated");
    supervisor.stop();
}

#[test]
fn a_server_without_subscriptions_says_so_and_serves_the_rest() {
    let home = home(&[("PUPPET_LISTEN", "none")], "");
    let supervisor = home.start();
    let mut session = open(&home);
    let refused = session.request("resources/subscribe", json!({"uri": URI}));
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
    assert_eq!(said(&session.call("echo", json!({"text": "here"}))), "here");
    supervisor.stop();
}

#[test]
fn a_server_that_ends_every_subscription_is_not_asked_at_its_pace() {
    let home = home(&[("PUPPET_LISTEN", "short")], "");
    let supervisor = home.start();
    let mut session = open(&home);
    // The first, and the one after the first pause: a second has passed.
    until(&mut session, |session| filters(session).len() >= 2);
    assert!(filters(&mut session).len() <= 3);
    supervisor.stop();
}

#[test]
fn input_is_asked_for_as_a_legacy_server_asks_and_goes_back_untouched() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&home);
    let sampling =
        json!({"method": "sampling/createMessage", "params": {"messages": [], "temperature": 0.7}});
    let asks = json!([
        {"r": {"method": "roots/list"}, "m": sampling},
        null,
        {"n": {"method": "elicitation/create", "params": {"message": "Your name?"}}},
    ]);
    let cases = [
        ("tools/call", json!({"name": "input", "arguments": {"asks": asks}})),
        ("prompts/get", json!({"name": "hello", "arguments": {"asks": asks}})),
    ];
    for (method, params) in cases {
        let id = session.ask(method, params);
        let (roots, model) = (session.recv_json(), session.recv_json());
        assert_eq!(
            (&roots["method"], &model["method"]),
            (&json!("roots/list"), &json!("sampling/createMessage"))
        );
        assert_eq!(model["params"], sampling["params"]);
        reply(&mut session, &model, json!({"model": "m"}));
        reply(&mut session, &roots, json!({"roots": []}));
        let name = session.recv_json();
        assert_eq!(name["params"]["message"], "Your name?", "{name}");
        reply(&mut session, &name, json!({"action": "accept", "content": {"name": "Zoë"}}));
        let answer = session.answer(&id);
        let got = answer["result"]["content"][0]["text"].as_str().expect("text");
        let got: Value = serde_json::from_str(got).expect("JSON");
        let responses = json!({"n": {"action": "accept", "content": {"name": "Zoë"}}});
        assert_eq!(got, json!({"responses": responses, "state": "state é \"as it is\" 3"}));
    }
    let first =
        seen(&mut session).into_iter().find(|line| line["params"].get("inputResponses").is_some());
    let first = first.expect("a retry");
    assert_eq!(first["params"]["inputResponses"], json!({"r": {"roots": []}, "m": {"model": "m"}}));
    let id = session.ask("resources/read", json!({"uri": "puppet://asking"}));
    let name = session.recv_method("elicitation/create");
    reply(&mut session, &name, json!({"action": "decline"}));
    assert!(session.answer(&id)["result"]["contents"][0]["text"].is_string());
    supervisor.stop();
}

#[test]
fn a_server_may_die_while_its_client_is_asked() {
    let home = home(&[], "");
    let supervisor = home.start();
    let (mut asked, mut other) = (open(&home), open(&home));
    let id = asked.ask("tools/call", json!({"name": "input", "arguments": {}}));
    let question = asked.recv_method("elicitation/create");
    other.request("tools/call", json!({"name": "die", "arguments": {"code": 3}}));
    reply(&mut asked, &question, json!({"action": "accept", "content": {}}));
    let answer = asked.answer(&id);
    assert!(said(&answer["result"]).contains("accept"), "{answer}");
    supervisor.stop();
}

#[test]
fn a_client_is_asked_only_for_what_it_declared() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = home.connect("acme");
    session.initialize(json!({"sampling": {}}));
    let answer = session.request("tools/call", json!({"name": "input", "arguments": {}}));
    assert_eq!(answer["error"]["code"], -32021, "{answer}");
    assert_eq!(answer["error"]["data"]["requiredCapabilities"], json!({"elicitation": {}}));
    assert!(session.aside.is_empty(), "{:?}", session.aside);
    supervisor.stop();
}

#[test]
fn a_client_that_ends_while_it_is_asked_is_answered_and_gone() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut session = open(&home);
    let id = session.ask("tools/call", json!({"name": "input", "arguments": {}}));
    session.recv_method("elicitation/create");
    session.hang_up();
    assert_eq!(session.answer(&id)["error"]["code"], 403);
    assert_eq!(session.wait().code(), Some(0));
    supervisor.stop();
}

#[test]
fn what_a_person_says_while_others_work_reaches_the_one_call_that_it_is_for() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut sessions: Vec<_> = (0..4).map(|_| open(&home)).collect();
    let mut asked = BTreeMap::new();
    for (number, session) in sessions.iter_mut().enumerate() {
        let id = session.ask("tools/call", json!({"name": "input", "arguments": {}}));
        asked.insert(number, (id, session.recv_method("elicitation/create")));
    }
    for (number, session) in sessions.iter_mut().enumerate().rev() {
        let (id, question) = &asked[&number];
        reply(session, question, json!({"action": "accept", "content": {"who": number}}));
        let answer = session.answer(id);
        assert!(said(&answer["result"]).contains(&format!("\"who\":{number}")), "{answer}");
    }
    supervisor.stop();
}

#[test]
fn a_legacy_session_and_a_modern_one_share_a_server() {
    let home = home(&[], "");
    let supervisor = home.start();
    let mut legacy = open(&home);
    let mut modern = home.connect("acme");
    modern.open(Era::Modern);
    let id = modern.ask("tools/call", json!({"name": "input", "arguments": {}}));
    let wanted = modern.answer(&id);
    assert_eq!(wanted["result"]["resultType"], "input_required");
    assert_eq!(said(&legacy.call("echo", json!({"text": "here"}))), "here");
    assert!(legacy.aside.is_empty(), "{:?}", legacy.aside);
    supervisor.stop();
}

#[test]
fn a_server_of_the_python_sdk_tells_a_legacy_client_what_changes() {
    let Some(packages) = Packages::find() else { return };
    let home = Home::new();
    let command = asking(&packages);
    home.tenant("acme", &tenant_with(command[0].as_ref(), &[&command[1]], ""));
    let supervisor = home.start();
    let (mut a, mut b) = (open(&home), open(&home));
    a.result("resources/subscribe", json!({"uri": "asking://news"}));
    b.result("resources/subscribe", json!({"uri": "asking://other"}));
    // Answered after all that was said before it, the acknowledgement of the list's changes too.
    assert_eq!(said(&b.call("change", json!({}))), "changed");
    let updated = a.recv_method("notifications/resources/updated");
    assert_eq!(updated["params"], json!({"uri": "asking://news"}));
    for session in [&mut a, &mut b] {
        let changed = session.recv_method("notifications/tools/list_changed");
        assert!(changed["params"].get("_meta").is_none(), "{changed}");
        session.call("plain", json!({"text": "t"}));
        assert!(session.aside.is_empty(), "{:?}", session.aside);
    }
    a.result("resources/unsubscribe", json!({"uri": "asking://news"}));
    assert_eq!(said(&b.call("change", json!({}))), "changed");
    a.recv_method("notifications/tools/list_changed");
    a.call("plain", json!({"text": "t"}));
    assert!(a.aside.is_empty(), "{:?}", a.aside);
    supervisor.stop();
}

fn asking(packages: &Packages) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/asking.py");
    vec![packages.python().to_str().expect("UTF-8").to_owned(), script.to_owned()]
}

/// The same server with the same answers, once for a modern client directly, once for a legacy one.
#[test]
fn a_server_of_the_python_sdk_asks_a_legacy_client_what_it_asks_a_modern_one() {
    let Some(packages) = Packages::find() else { return };
    let setup = Setup { command: asking(&packages), ..Setup::default() };
    let stage = SideBySide::new(&packages, setup);
    let answers = json!({"sampling": "a sampled answer", "elicitation": {"name": "Ada"}});
    let steps = json!([
        {"do": "call", "tool": "introduce", "arguments": {"greeting": "hi"}},
        {"do": "call", "tool": "plain", "arguments": {"text": "ü"}},
    ]);
    let speak = |mode: &str, way: &Way| {
        let plan = json!({"mode": mode, "answers": answers, "steps": steps}).to_string();
        way.output(packages.python_command(&plan, &way.command))
    };
    stage.reset();
    let mut direct = stage.direct(&|way| speak("2026-07-28", way)).report;
    stage.reset();
    let mut through = stage.through(&|way| speak("legacy", way)).report;
    assert_eq!(through["version"], "2025-11-25");
    for seen in [&mut direct, &mut through] {
        assert_eq!(seen["asked"].as_array().map(Vec::len), Some(2), "{seen}");
        // A modern client asks for all at once; the order is its own.
        seen["asked"].as_array_mut().expect("a list").sort_by_key(Value::to_string);
    }
    assert_same(&through["asked"], &direct["asked"], "what was asked");
    for call in [0, 1] {
        let content = |seen: &Value| seen["steps"][call]["result"]["content"].clone();
        assert_same(&content(&through), &content(&direct), "the answer");
        assert!(said(&through["steps"][call]["result"]).len() > 1, "{through}");
    }
}
