//! A legacy client on a modern server: what it is told, what its requests wear, what is kept for it.

use serde_json::{Value, json};

use super::Desk;
use crate::config::tenant::Share;
use crate::mux::outbox::{ChildId, End};
use crate::names::SessionId;

pub(super) const ABLE: &str =
    r#"{"elicitation":{},"tasks":{"list":{}},"sampling":{"t":0.70},"roots":{}}"#;
pub(super) const OFFER: &str = r#"{"tools":{"listChanged":true,"x":1.0e2},"logging":{},"resources":{"subscribe":true,"listChanged":false},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

impl Desk {
    /// A modern server that was started answers its probe with these capabilities.
    pub(super) fn discovered(&mut self, offer: &str) -> ChildId {
        let child = self.start();
        let probe = self.server_heard(child).remove(0);
        assert_eq!(probe["method"], "server/discover");
        self.give(child, &probe, &format!(
            r#"{{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{offer},"ttlMs":0,"cacheScope":"private","_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"s","version":"1"}}}}}}"#
        ));
        child
    }

    /// A legacy session on a modern server, with what its first listen was.
    pub(super) fn greeted(&mut self, id: u64, able: &str, offer: &str) -> (SessionId, ChildId) {
        let session = self.open(id, 1000);
        self.client(session, &format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"2025-11-25","capabilities":{able},"clientInfo":{{"name":"c{id}","version":"1"}}}}}}"#
        ));
        self.acts();
        let child = match self.exchange.ready_child(session) {
            Some(child) => child,
            None => self.discovered(offer),
        };
        assert_eq!(self.client_heard(session)[0]["result"]["serverInfo"]["name"], "s");
        self.client(session, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        (session, child)
    }

    /// As [`Desk::greeted`], its subscription acknowledged.
    pub(super) fn upward(&mut self, id: u64) -> (SessionId, ChildId) {
        let (session, child) = self.greeted(id, ABLE, OFFER);
        let listen = self.server_heard(child).pop().expect("a listen");
        self.acknowledge(child, &listen);
        (session, child)
    }

    /// The server's result of a request that it heard.
    pub(super) fn give(&mut self, child: ChildId, request: &Value, result: &str) {
        self.server(
            child,
            &format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, request["id"]),
        );
    }

    /// The server agrees to a listen as it was asked.
    pub(super) fn acknowledge(&mut self, child: ChildId, listen: &Value) {
        assert_eq!(listen["method"], "subscriptions/listen", "{listen}");
        self.server(
            child,
            &tagged(
                "subscriptions/acknowledged",
                &listen["id"],
                json!({"notifications": listen["params"]["notifications"]}),
            ),
        );
    }

    /// The one request that the server heard.
    pub(super) fn only(&mut self, child: ChildId) -> Value {
        let mut heard = self.server_heard(child);
        assert_eq!(heard.len(), 1, "{heard:?}");
        heard.remove(0)
    }

    /// What the only answer that a session heard says: its error's code, or nothing where it is a result.
    pub(super) fn code(&mut self, session: SessionId, id: &Value) -> Option<i64> {
        let heard = self.client_heard(session);
        assert_eq!(heard.len(), 1, "{heard:?}");
        assert_eq!(heard[0]["id"], *id);
        heard[0]["error"]["code"].as_i64()
    }
}

/// A notification of a subscription.
pub(super) fn tagged(method: &str, id: &Value, mut params: Value) -> String {
    params["_meta"] = json!({"io.modelcontextprotocol/subscriptionId": id});
    json!({"jsonrpc": "2.0", "method": format!("notifications/{method}"), "params": params})
        .to_string()
}

/// A request of a client's.
pub(super) fn ask(id: Value, method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

#[test]
fn a_client_is_told_what_the_server_offers_but_for_tasks() {
    let mut desk = Desk::new(Share::Tenant);
    let session = desk.open(1, 1000);
    desk.initialize(session);
    desk.discovered(OFFER);
    let heard = desk.heard(End::Session(session));
    let capabilities = r#""capabilities":{"tools":{"listChanged":true,"x":1.0e2},"logging":{},"resources":{"subscribe":true,"listChanged":false}},"#;
    assert!(heard[0].contains(capabilities), "{heard:?}");
}

#[test]
fn a_request_wears_its_own_clients_envelope() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.upward(1);
    let (b, _) = desk.upward(2);
    for (session, name) in [(a, "c1"), (b, "c2")] {
        desk.client(session, &ask(json!(1), "tools/list", json!({})));
        let heard = desk.heard(End::Child(child)).remove(0);
        let able = r#""io.modelcontextprotocol/clientCapabilities":{"elicitation":{},"sampling":{"t":0.70},"roots":{}}"#;
        assert!(heard.contains(able), "{heard}");
        let heard: Value = serde_json::from_str(&heard).expect("JSON");
        let meta = &heard["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], name);
        assert_eq!(meta["io.tenantd/context"]["session"], session.to_string());
    }
}

#[test]
fn an_envelope_that_a_legacy_client_wrote_itself_is_replaced_once() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    let forged = r#""io.modelcontextprotocol/clientCapabilities":{"forged":1},"io.modelcontextprotocol/client\u0049nfo":2,"io.modelcontextprotocol/logLevel":"debug""#;
    desk.client(
        session,
        &format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{{forged}}}}}}}"#
        ),
    );
    let heard = desk.heard(End::Child(child)).remove(0);
    assert!(!heard.contains("forged"), "{heard}");
    for key in ["clientCapabilities", "client\\u0049nfo", "logLevel", "protocolVersion"] {
        assert_eq!(heard.matches(&format!("modelcontextprotocol/{key}\"")).count(), 1, "{key}");
    }
    let heard: Value = serde_json::from_str(&heard).expect("JSON");
    assert_eq!(heard["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"], "c1");
    assert_eq!(heard["params"]["_meta"]["io.modelcontextprotocol/logLevel"], "info");
}

#[test]
fn a_log_level_is_kept_here_and_said_with_each_request() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.upward(1);
    let (b, _) = desk.upward(2);
    desk.client(a, &ask(json!(1), "logging/setLevel", json!({"level": "warning"})));
    assert_eq!(desk.code(a, &json!(1)), None);
    for level in [json!("loud"), json!(4), Value::Null] {
        desk.client(a, &ask(json!(2), "logging/setLevel", json!({"level": level})));
        assert_eq!(desk.code(a, &json!(2)), Some(-32602), "{level}");
    }
    assert!(desk.server_heard(child).is_empty());
    let mut called = Vec::new();
    for (session, level) in [(a, "warning"), (b, "info")] {
        desk.client(session, &ask(json!(3), "tools/call", json!({"name": "t"})));
        let call = desk.only(child);
        assert_eq!(call["params"]["_meta"]["io.modelcontextprotocol/logLevel"], level);
        called.push(call);
    }
    let log = |level: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}","data":1.0}}}}"#
        )
    };
    // Two that both asked: neither may hear what can be the other's.
    desk.server(child, &log("error"));
    assert!(desk.client_heard(a).is_empty() && desk.client_heard(b).is_empty());
    desk.give(child, &called[1], "{}");
    desk.heard(End::Session(b));
    desk.server(child, &log("notice"));
    desk.server(child, &log("error"));
    assert_eq!(desk.heard(End::Session(a)), [log("error")]);
    assert!(desk.client_heard(b).is_empty());
}

#[test]
fn a_server_without_logging_is_asked_for_none() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.greeted(1, ABLE, r#"{"tools":{}}"#);
    assert!(desk.server_heard(child).is_empty(), "there is nothing to listen for");
    desk.client(session, &ask(json!(1), "logging/setLevel", json!({"level": "info"})));
    assert_eq!(desk.code(session, &json!(1)), Some(-32601));
    desk.client(session, &ask(json!(2), "tools/list", json!({})));
    let meta = &desk.only(child)["params"]["_meta"];
    assert!(meta.get("io.modelcontextprotocol/logLevel").is_none(), "{meta}");
}

#[test]
fn a_log_level_outlives_the_server() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    desk.client(session, &ask(json!(1), "logging/setLevel", json!({"level": "alert"})));
    desk.heard(End::Session(session));
    desk.exchange.child_ended(child, "it died", false, desk.now);
    desk.client(session, &ask(json!(2), "tools/list", json!({})));
    let next = desk.discovered(OFFER);
    let heard = desk.server_heard(next);
    let list = heard.iter().find(|line| line["method"] == "tools/list").expect("the request");
    assert_eq!(list["params"]["_meta"]["io.modelcontextprotocol/logLevel"], "alert");
}

#[test]
fn what_only_a_legacy_server_knows_is_not_sent() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    for method in ["roots/list_changed", "initialized"] {
        desk.client(
            session,
            &json!({"jsonrpc": "2.0", "method": format!("notifications/{method}")}).to_string(),
        );
    }
    for method in
        ["tasks/get", "tasks/list", "tasks/result", "tasks/cancel", "subscriptions/listen"]
    {
        desk.client(session, &ask(json!(1), method, json!({"taskId": "1", "notifications": {}})));
        assert_eq!(desk.code(session, &json!(1)), Some(-32601), "{method}");
    }
    assert!(desk.server_heard(child).is_empty());
    desk.client(session, &ask(json!(2), "tools/call", json!({"name": "t", "task": {"ttl": 1}})));
    let call = desk.only(child);
    desk.client(
        session,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#,
    );
    let cancelled = desk.only(child);
    assert_eq!(cancelled["params"]["requestId"], call["id"]);
}

#[test]
fn a_result_loses_what_its_clients_revision_does_not_know_and_nothing_else() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    for (modern, legacy) in [
        (r#"{"resultType":"complete"}"#, "{}"),
        (
            r#"{ "a":[1.0] ,"resultType":"complete","ttlMs":0,"b":{"ttlMs":1},"cacheScope":"public"}"#,
            r#"{ "a":[1.0] ,"b":{"ttlMs":1}}"#,
        ),
        (
            r#"{"content":[],"structuredContent":{"resultType":"input_required"}}"#,
            r#"{"content":[],"structuredContent":{"resultType":"input_required"}}"#,
        ),
        (r#"[1]"#, "[1]"),
    ] {
        desk.client(session, &ask(json!(1), "tools/call", json!({"name": "t"})));
        let call = desk.only(child);
        desk.give(child, &call, modern);
        assert_eq!(
            desk.heard(End::Session(session)),
            [format!(r#"{{"jsonrpc":"2.0","id":1,"result":{legacy}}}"#)]
        );
    }
    desk.client(session, &ask(json!(1), "tools/call", json!({"name": "t"})));
    let call = desk.only(child);
    let error = r#"{"code":-32021,"message":"m","data":{"requiredCapabilities":{"x":{}}}}"#;
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, call["id"]));
    assert_eq!(
        desk.heard(End::Session(session)),
        [format!(r#"{{"jsonrpc":"2.0","id":1,"error":{error}}}"#)]
    );
}

#[test]
fn a_handle_that_a_client_cannot_use_is_refused() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    desk.client(session, &ask(json!(1), "tools/call", json!({"name": "t"})));
    let call = desk.only(child);
    desk.give(child, &call, r#"{"taskId":"T","result\u0054ype":"task"}"#);
    assert_eq!(desk.code(session, &json!(1)), Some(403));
}

#[test]
fn a_session_of_its_own_finds_a_server_that_knows_no_handshake() {
    for code in [-32022, -32601, -32602] {
        let mut desk = Desk::new(Share::Session);
        let session = desk.open(1, 1000);
        desk.initialize(session);
        let child = desk.start();
        let hello = desk.only(child);
        assert_eq!(hello["method"], "initialize");
        let refused =
            json!({"jsonrpc": "2.0", "id": hello["id"], "error": {"code": code, "message": "?"}});
        desk.server(child, &refused.to_string());
        let probe = desk.only(child);
        assert_eq!(probe["method"], "server/discover", "{code}");
        desk.server(child, &super::discovery(&probe["id"]));
        assert_eq!(desk.client_heard(session)[0]["result"]["serverInfo"]["name"], "s");
        desk.client(session, &ask(json!(1), "tools/list", json!({})));
        let meta = &desk.only(child)["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    }
}

#[test]
fn a_server_that_refuses_both_handshakes_is_given_up() {
    let mut desk = Desk::new(Share::Session);
    let session = desk.open(1, 1000);
    desk.initialize(session);
    let child = desk.start();
    for _ in 0..8 {
        for line in desk.server_heard(child) {
            let refused = json!({"jsonrpc": "2.0", "id": line["id"], "error": {"code": -32022, "message": "?"}});
            desk.server(child, &refused.to_string());
        }
    }
    assert!(!desk.exchange.children.contains_key(&child), "asked for ever");
}
