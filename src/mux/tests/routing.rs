//! Each answer, notification and request to the one end it is for, byte for byte.

use serde_json::{Value, json};

use super::{Desk, HELLO, META, RESULT, call};
use crate::config::tenant::Share;
use crate::mux::outbox::End;
use crate::wire::Farewell;

#[test]
fn equal_ids_and_tokens_of_two_clients_never_meet() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1001);
    desk.client(a, &call("1", Some("7")));
    desk.client(b, &call("1", Some("7")));
    let calls = desk.server_heard(child);
    let (first, second) = (&calls[0], &calls[1]);
    assert_ne!(first["id"], second["id"]);
    let token = &second["params"]["_meta"]["progressToken"];
    assert_ne!(&first["params"]["_meta"]["progressToken"], token);
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":0.5}}}}"#));
    assert!(desk.client_heard(a).is_empty());
    assert_eq!(desk.client_heard(b)[0]["params"]["progressToken"], 7);
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{RESULT}}}"#, second["id"]));
    assert!(desk.client_heard(a).is_empty());
    let answer = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{RESULT}}}"#);
    assert_eq!(desk.heard(End::Session(b)), [answer]);
}

#[test]
fn an_id_comes_back_byte_for_byte() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for id in ["12345678901234567890123", r#""a\u0062 \"c\"""#, "-1", "\"\""] {
        desk.client(a, &call(id, None));
        let ours = desk.server_heard(child)[0]["id"].clone();
        assert!(ours.is_u64());
        desk.server(child, &format!(r#"{{"id":{ours},"result":{{}},"jsonrpc":"2.0"}}"#));
        assert_eq!(
            desk.heard(End::Session(a)),
            [format!(r#"{{"id":{id},"result":{{}},"jsonrpc":"2.0"}}"#)]
        );
    }
}

#[test]
fn an_id_in_flight_is_refused_and_the_first_call_keeps_its_answer() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    desk.client(a, &call("1", None));
    let calls = desk.server_heard(child);
    assert_eq!(calls.len(), 1);
    assert_eq!(desk.client_heard(a)[0]["error"]["code"], 409);
    desk.server(child, &json!({"jsonrpc":"2.0","id":calls[0]["id"],"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 1);
}

#[test]
fn ids_that_are_none_are_refused_by_name() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for id in ["null", "1.5", "1e2", "true", "{}"] {
        desk.client(a, &call(id, None));
        assert_eq!(desk.client_heard(a)[0]["error"]["code"], 400, "{id}");
    }
    for line in [
        "nonsense",
        "[]",
        "[{\"id\":1}]",
        "{}",
        "{\"id\":1}",
        "{\"id\":1,\"id\":2,\"method\":\"x\"}",
    ] {
        desk.client(a, line);
        assert_eq!(desk.client_heard(a)[0]["error"]["code"], 400, "{line}");
    }
    assert!(desk.server_heard(child).is_empty());
}

#[test]
fn a_client_cancels_only_what_is_its_own() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1000);
    desk.client(a, &call("5", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}"#;
    desk.client(b, cancel);
    assert!(desk.server_heard(child).is_empty());
    desk.client(a, cancel);
    assert_eq!(desk.server_heard(child)[0]["params"]["requestId"], ours);
    desk.client(a, cancel);
    assert!(desk.server_heard(child).is_empty());
}

#[test]
fn a_servers_request_goes_to_the_only_client_it_can_be_for() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1000);
    let ask = r#"{"jsonrpc":"2.0","id":0,"method":"sampling/createMessage","params":{"t":0.7}}"#;
    desk.server(child, ask);
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "no-client");
    desk.client(a, &call("1", None));
    desk.heard(End::Child(child));
    desk.server(child, ask);
    assert!(desk.client_heard(b).is_empty());
    let heard = desk.heard(End::Session(a));
    assert_eq!(heard, [ask]);
    // Only its own client can answer, and only once.
    let answer = r#"{"jsonrpc":"2.0","id":0,"result":{"model":"m"}}"#;
    desk.client(b, answer);
    assert!(desk.server_heard(child).is_empty());
    desk.client(a, answer);
    desk.client(a, answer);
    assert_eq!(desk.heard(End::Child(child)), [answer]);
    desk.client(b, &call("1", None));
    desk.heard(End::Child(child));
    desk.server(child, ask);
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "ambiguous");
    assert!(desk.client_heard(a).is_empty() && desk.client_heard(b).is_empty());
}

#[test]
fn list_changed_reaches_every_client_and_an_update_only_its_subscribers() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1000);
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    desk.server(child, changed);
    assert_eq!(desk.heard(End::Session(a)), [changed]);
    assert_eq!(desk.heard(End::Session(b)), [changed]);
    let about = |method: &str, id: u32| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"resources/{method}","params":{{"uri":"x:/1"}}}}"#
        )
    };
    for session in [a, b] {
        desk.client(session, &about("subscribe", 1));
        let ours = desk.server_heard(child)[0]["id"].clone();
        desk.server(child, &json!({"jsonrpc":"2.0","id":ours,"result":{}}).to_string());
        desk.heard(End::Session(session));
    }
    let updated =
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:/1"}}"#;
    desk.client(a, &about("unsubscribe", 2));
    assert!(desk.server_heard(child).is_empty(), "b still holds it");
    desk.heard(End::Session(a));
    desk.server(child, updated);
    assert!(desk.heard(End::Session(a)).is_empty());
    assert_eq!(desk.heard(End::Session(b)), [updated]);
    desk.exchange.close_session(b, Farewell { reason: String::new(), code: 0 });
    assert_eq!(desk.server_heard(child)[0]["method"], "resources/unsubscribe");
}

#[test]
fn a_death_answers_every_call_with_its_own_id_and_the_next_call_starts_again() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1000);
    desk.client(a, &call("\"x\"", None));
    desk.client(b, &call("9", None));
    desk.exchange.child_ended(child, "it was ended by SIGKILL", false, desk.now);
    let heard = desk.client_heard(a);
    assert_eq!((&heard[0]["id"], &heard[0]["error"]["code"]), (&json!("x"), &json!(503)));
    assert_eq!(desk.client_heard(b)[0]["id"], 9);
    desk.client(a, &call("2", None));
    let next = desk.start();
    assert_ne!(next, child);
    let calls = desk.shake(next);
    let call = calls.iter().find(|line| line["method"] == "tools/call").expect("the call");
    desk.server(next, &json!({"jsonrpc":"2.0","id":call["id"],"result":{}}).to_string());
    assert_eq!(desk.client_heard(a)[0]["id"], 2);
}

#[test]
fn a_session_that_goes_has_its_calls_cancelled() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    desk.client(a, &call("1", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
    let heard = desk.server_heard(child);
    assert_eq!(heard[0]["method"], "notifications/cancelled");
    assert_eq!(heard[0]["params"]["requestId"], ours);
    // Its late answer is for nobody.
    desk.server(child, &json!({"jsonrpc":"2.0","id":ours,"result":{}}).to_string());
    assert_eq!(desk.exchange.counters.dropped, 1);
}

#[test]
fn tasks_belong_to_the_session_that_made_them() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1000);
    desk.client(a, &call("1", None));
    let ours = desk.server_heard(child)[0]["id"].clone();
    desk.server(
        child,
        &json!({"jsonrpc":"2.0","id":ours,"result":{"task":{"taskId":"T","status":"working"}}})
            .to_string(),
    );
    desk.heard(End::Session(a));
    let get = r#"{"jsonrpc":"2.0","id":2,"method":"tasks/get","params":{"taskId":"T"}}"#;
    desk.client(b, get);
    assert_eq!(desk.client_heard(b)[0]["error"]["data"]["reason"], "unknown-task");
    desk.client(a, get);
    assert_eq!(desk.server_heard(child).len(), 1);
    desk.client(b, r#"{"jsonrpc":"2.0","id":3,"method":"tasks/list"}"#);
    let list = desk.server_heard(child)[0]["id"].clone();
    desk.server(
        child,
        &format!(r#"{{"jsonrpc":"2.0","id":{list},"result":{{"tasks":[{{"taskId":"T"}}]}}}}"#),
    );
    assert_eq!(desk.client_heard(b)[0]["result"]["tasks"], json!([]));
    desk.server(
        child,
        r#"{"jsonrpc":"2.0","method":"notifications/tasks/status","params":{"taskId":"T"}}"#,
    );
    assert_eq!(desk.client_heard(a).len(), 1);
    assert!(desk.client_heard(b).is_empty());
}

/// Another client may be the only one with a call in flight: what names a task is not for it.
#[test]
fn what_a_server_says_of_a_task_is_for_its_maker_alone() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1001);
    desk.client(a, &call("1", None));
    let asked = desk.server_heard(child).remove(0);
    desk.answer(child, &asked, r#"{"task":{"taskId":"T","status":"working"}}"#);
    desk.heard(End::Session(a));
    desk.client(b, &call("1", None));
    desk.heard(End::Child(child));
    let of = |task: &str| json!({"io.modelcontextprotocol/related-task": {"taskId": task}});
    let tidings = |task: &str| {
        [
            ("notifications/tasks", json!({"taskId": task})),
            ("notifications/x", json!({"_meta": of(task)})),
            ("notifications/message", json!({"level": "error", "data": 1, "_meta": of(task)})),
        ]
    };
    let told = |method: &str, params: &Value| {
        json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
    };
    for (method, params) in tidings("T") {
        desk.server(child, &told(method, &params));
        assert_eq!(desk.heard(End::Session(a)), [told(method, &params)]);
    }
    for (method, params) in tidings("unknown") {
        desk.server(child, &told(method, &params));
        assert!(desk.client_heard(a).is_empty(), "{method}");
    }
    let ask = |task: &str| {
        let params = json!({"_meta": of(task)});
        let method = "sampling/createMessage";
        json!({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}).to_string()
    };
    desk.server(child, &ask("unknown"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "no-client");
    desk.server(child, &ask("T"));
    assert_eq!(desk.client_heard(a)[0]["method"], "sampling/createMessage");
    let gone = Farewell { reason: String::new(), code: 0 };
    desk.exchange.close_session(a, gone);
    desk.heard(End::Child(child));
    desk.server(child, &ask("T"));
    assert_eq!(desk.server_heard(child)[0]["error"]["data"]["reason"], "no-client");
    for (method, params) in tidings("T") {
        desk.server(child, &told(method, &params));
    }
    assert!(desk.client_heard(b).is_empty());
}

/// What a server itself would say: the errors of the specification.
#[test]
fn a_modern_request_about_tasks_gets_the_errors_of_the_extension() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.modern(1);
    let ask = |method: &str, capabilities: Value| {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
        let params = json!({"taskId": "T", "_meta": meta});
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
    };
    let tasks = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    for (method, capabilities, code) in [
        ("tasks/get", json!({}), -32021),
        ("tasks/get", tasks.clone(), -32602),
        ("tasks/result", tasks.clone(), -32601),
    ] {
        desk.client(a, &ask(method, capabilities));
        let error = &desk.client_heard(a)[0]["error"];
        assert_eq!(error["code"], code, "{method}: {error}");
        if code == -32021 {
            assert_eq!(error["data"]["requiredCapabilities"], tasks);
        }
    }
    assert!(desk.server_heard(child).is_empty());
}

/// `initialize` with an envelope is a method that the modern era has removed: the server says so.
#[test]
fn a_handshake_in_an_envelope_is_no_handshake() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.modern(1);
    let params = format!(r#"{{"_meta":{{{META}}}}}"#);
    desk.client(
        a,
        &format!(r#"{{"jsonrpc":"2.0","id":1,"method":"initialize","params":{params}}}"#),
    );
    assert_eq!(desk.server_heard(child)[0]["method"], "initialize");
    assert!(desk.client_heard(a).is_empty());
}

#[test]
fn a_context_of_the_clients_own_is_replaced() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    for meta in
        [r#""io.tenantd/context":{"permissions":["admin"]}"#, r#""\u0069o.tenantd/context":1"#, ""]
    {
        desk.client(a, &format!(r#"{{"jsonrpc":"2.0","id":"{}","method":"tools/call","params":{{"_meta":{{{meta}}}}}}}"#, meta.len()));
        let heard = desk.server_heard(child);
        let context = &heard[0]["params"]["_meta"]["io.tenantd/context"];
        assert_eq!(context["user"], "u1000");
        assert_eq!(context["permissions"], json!([]));
    }
}

#[test]
fn a_modern_subscription_is_known_by_the_clients_own_id() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.modern(1);
    let (b, _) = desk.modern(2);
    for session in [a, b] {
        desk.client(session, &format!(r#"{{"jsonrpc":"2.0","id":"sub","method":"subscriptions/listen","params":{{"_meta":{{{META}}},"notifications":{{"toolsListChanged":true}}}}}}"#));
    }
    let listens = desk.server_heard(child);
    let id = &listens[1]["id"];
    let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{{meta}}}}}"#));
    desk.server(
        child,
        &format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete",{meta}}}}}"#),
    );
    assert!(desk.client_heard(a).is_empty());
    for line in desk.client_heard(b) {
        let meta = if line["params"].is_object() { &line["params"] } else { &line["result"] };
        assert_eq!(meta["_meta"]["io.modelcontextprotocol/subscriptionId"], "sub");
    }
}

#[test]
fn a_legacy_client_on_a_modern_server_gets_its_handshake_and_bare_results() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.modern(1);
    let a = desk.open(3, 1000);
    desk.client(
        a,
        &format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{HELLO}}}"#),
    );
    let heard = desk.client_heard(a);
    assert_eq!(heard[0]["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(heard[0]["result"]["serverInfo"]["name"], "s");
    desk.client(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let list = desk.server_heard(child).remove(0);
    let meta = &list["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "test");
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"resultType":"complete","tools":[],"ttlMs":0,"cacheScope":"private"}}}}"#, list["id"]));
    assert_eq!(desk.heard(End::Session(a)), [r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#]);
}
