//! A server's death that costs its clients nothing, and questions that its server need not hear twice.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use serde_json::{Value, json};
use support::{Era, Home, Session, Supervisor, puppet_tenant, said};

/// Every kind of client on every kind of server.
const PAIRS: [(Era, &str); 4] = [
    (Era::Legacy, "legacy"),
    (Era::Legacy, "modern"),
    (Era::Modern, "legacy"),
    (Era::Modern, "modern"),
];

fn home(environment: &[(&str, &str)]) -> Home {
    let home = Home::new();
    home.tenant("acme", &puppet_tenant(environment, ""));
    home
}

fn open(supervisor: &Supervisor<'_>, era: Era) -> Session {
    let mut session = supervisor.connect("acme");
    session.open(era);
    session
}

/// How many lines the server was sent that hold a text.
fn seen(session: &mut Session, text: &str) -> usize {
    let lines = session.call("seen", json!({}));
    let lines: Vec<String> = serde_json::from_str(said(&lines)).expect("JSON");
    lines.iter().filter(|line| line.contains(text)).count()
}

#[test]
fn a_call_to_a_tool_that_its_server_calls_read_only_outlives_the_server() {
    for (era, server) in PAIRS {
        let home = home(&[("PUPPET_ERA", server)]);
        let supervisor = home.start();
        let (mut session, mut other) = (open(&supervisor, era), open(&supervisor, era));
        session.result("tools/list", json!({}));
        let unsafe_call =
            other.ask("tools/call", json!({"name": "hold", "arguments": {"key": "k"}}));
        // Answered only after the other call has reached the server.
        other.call("echo", json!({"text": "there"}));
        let answer = session.call("die_once", json!({}));
        assert_eq!(said(&answer), "alive", "{era:?} on {server}");
        let refused = other.answer(&unsafe_call);
        assert_eq!(refused["error"]["data"]["reason"], "server-died", "{era:?} on {server}");
        assert!(session.aside.is_empty(), "{era:?} on {server}: {:?}", session.aside);
        supervisor.stop();
    }
}

#[test]
fn a_call_to_a_tool_of_which_nothing_is_known_is_not_made_twice() {
    let home = home(&[]);
    let supervisor = home.start();
    let mut session = open(&supervisor, Era::Legacy);
    let answer = session.request("tools/call", json!({"name": "die_once", "arguments": {}}));
    assert_eq!(answer["error"]["code"], 503, "{answer}");
    supervisor.stop();
}

#[test]
fn a_list_that_is_the_same_after_a_death_is_not_called_changed() {
    for (era, server) in PAIRS {
        let home = home(&[("PUPPET_ERA", server)]);
        let supervisor = home.start();
        let mut session = open(&supervisor, era);
        if era == Era::Modern {
            let wanted = json!({"notifications": {"toolsListChanged": true}});
            session.ask("subscriptions/listen", wanted);
            session.recv_method("notifications/subscriptions/acknowledged");
        }
        session.result("tools/list", json!({}));
        home.server("acme").kill();
        assert_eq!(said(&session.call("echo", json!({"text": "next"}))), "next");
        // By the time of this answer the comparison is over: it was asked for first.
        assert_eq!(seen(&mut session, "tools/list"), 1, "{era:?} on {server}");
        assert!(session.aside.is_empty(), "{era:?} on {server}: {:?}", session.aside);
        supervisor.stop();
    }
}

/// Parameters of a modern client that knows the extension of tasks.
fn with_tasks(mut params: Value) -> Value {
    let able = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    params["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": able});
    params
}

#[test]
fn a_modern_task_outlives_its_server_for_the_user_who_made_it() {
    let home = home(&[("PUPPET_ERA", "modern")]);
    let supervisor = home.start();
    let mut session = open(&supervisor, Era::Modern);
    let call = json!({"name": "durable", "arguments": {"text": "done at last"}});
    let made = session.result("tools/call", with_tasks(call));
    assert_eq!((&made["resultType"], &made["status"]), (&json!("task"), &json!("working")));
    let get = with_tasks(json!({"taskId": made["taskId"]}));
    let first = home.server("acme");
    let died = first.pid;
    first.kill();
    let task = session.result("tasks/get", get.clone());
    assert_eq!((&task["taskId"], &task["status"]), (&made["taskId"], &json!("completed")));
    assert_eq!(said(&task["result"]), "done at last");
    assert_ne!(home.server("acme").pid, died, "the next server has answered");
    // A client that has restarted is a session of its own: a modern task is its user's.
    let mut restarted = open(&supervisor, Era::Modern);
    assert_eq!(restarted.result("tasks/get", get)["status"], "completed");
    // What the first server never gave to anybody, the next one is not asked for.
    let unknown = with_tasks(json!({"taskId": "task-of-nobody"}));
    let refused = session.request("tasks/get", unknown);
    assert_eq!(refused["error"]["data"]["reason"], "unknown-task", "{refused}");
    assert_eq!(seen(&mut session, "task-of-nobody"), 0);
    supervisor.stop();
}

#[test]
fn a_public_list_is_asked_for_once_and_again_when_it_has_changed() {
    let home = home(&[("PUPPET_ERA", "modern"), ("PUPPET_TTL", "3600000")]);
    let supervisor = home.start();
    let (mut modern, mut legacy) = (open(&supervisor, Era::Modern), open(&supervisor, Era::Legacy));
    let first = modern.result("tools/list", json!({}));
    assert_eq!(first["ttlMs"], 3_600_000);
    let stripped = legacy.result("tools/list", json!({}));
    assert_eq!(stripped["tools"], first["tools"]);
    assert!(stripped.get("ttlMs").is_none(), "{stripped}");
    let again = modern.result("tools/list", json!({"_meta": {"progressToken": 1}}));
    assert_eq!(again["tools"], first["tools"]);
    let left = again["ttlMs"].as_u64().expect("a time");
    assert!((1..=3_600_000).contains(&left), "{left}");
    assert_eq!(seen(&mut modern, "tools/list"), 1);
    modern.ask("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    modern.recv_method("notifications/subscriptions/acknowledged");
    legacy.call("changed", json!({"name": "fresh"}));
    for session in [&mut modern, &mut legacy] {
        let listed = session.result("tools/list", json!({})).to_string();
        assert!(listed.contains("fresh"), "{listed}");
    }
    assert_eq!(seen(&mut modern, "tools/list"), 2);
    supervisor.stop();
}
