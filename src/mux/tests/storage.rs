//! A tenant that stores all it may: what still passes, and what has to wait.

use serde_json::{Value, json};

use super::*;
use crate::mux::storage::PASSES;

const LIMIT: u64 = 1000;

/// A tool list as a server says it: reading, deleting or saving, and one that says nothing of itself.
const TOOLS: &str = r#"{"tools":[
    {"name":"get","annotations":{"readOnlyHint":true,"destructiveHint":true}},
    {"name":"delete","annotations":{"readOnlyHint":false,"destructiveHint":true}},
    {"name":"save","annotations":{"destructiveHint":true}},
    {"name":"add","annotations":{"destructiveHint":false}},
    {"name":"plain"}]}"#;

fn tools() -> String {
    TOOLS.replace('\n', "")
}

impl Desk {
    fn looked(&mut self, used: u64, full: bool) {
        self.exchange.storage(used, LIMIT, full, self.now);
    }

    /// Calls a tool: what the client hears at once, if it is an error of ours, else nothing.
    fn calls(&mut self, session: SessionId, child: ChildId, tool: &str) -> Option<Value> {
        let params = json!({"name": tool});
        let line = json!({"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": params});
        self.client(session, &line.to_string());
        let (mut client, server) = (self.client_heard(session), self.server_heard(child));
        match server.iter().find(|line| line["method"] == "tools/call") {
            Some(asked) => {
                assert_eq!(client, Vec::<Value>::new());
                self.answer(child, asked, "{}");
                assert_eq!(self.client_heard(session)[0]["result"], json!({}));
                None
            }
            None => Some(client.remove(0)["error"].take()),
        }
    }

    fn passes(&mut self, session: SessionId, child: ChildId, tool: &str) -> bool {
        self.calls(session, child, tool).is_none()
    }

    /// A session whose server's tools were listed.
    fn listed(&mut self) -> (SessionId, ChildId) {
        let (session, child) = self.legacy(1, 1000);
        self.client(session, r#"{"jsonrpc":"2.0","id":"l","method":"tools/list"}"#);
        let asked = self.server_heard(child).remove(0);
        self.answer(child, &asked, &tools());
        self.client_heard(session);
        (session, child)
    }
}

#[test]
fn a_full_tenant_reads_and_deletes_and_the_rest_hears_507() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.listed();
    assert!(desk.passes(session, child, "add"));
    desk.looked(LIMIT, true);
    assert!(desk.passes(session, child, "get") && desk.passes(session, child, "delete"));
    for tool in ["add", "plain", "unheard"] {
        let error = desk.calls(session, child, tool).expect("refused");
        assert_eq!(error["code"], 507, "{tool}");
        assert_eq!(error["data"]["reason"], "storage");
        assert_eq!(error["data"]["tenant"], "acme");
        assert!(error["data"].get("retryAfterMs").is_none(), "nobody knows when: {error}");
        let message = error["message"].as_str().expect("a text");
        assert!(message.contains("1000 of 1000 bytes") && message.contains("free"), "{message}");
    }
    desk.looked(LIMIT - 1, false);
    assert!(desk.passes(session, child, "plain"), "there is room again");
}

#[test]
fn what_is_no_call_of_a_tool_passes_when_full() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.listed();
    desk.looked(LIMIT, true);
    for method in ["tools/list", "resources/read", "prompts/get", "resources/list"] {
        let line = json!({"jsonrpc": "2.0", "id": method, "method": method, "params": {}});
        desk.client(session, &line.to_string());
        assert_eq!(desk.server_heard(child)[0]["method"], method);
    }
}

#[test]
fn a_destructive_tool_that_the_tenant_grows_after_waits_and_others_do_not() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.listed();
    desk.looked(LIMIT, true);
    assert!(desk.passes(session, child, "save"), "nobody knows yet what it does");
    desk.looked(LIMIT + 7, true);
    let error = desk.calls(session, child, "save").expect("refused");
    assert_eq!(error["code"], 507);
    assert_eq!(error["data"]["retryAfterMs"], 300_000);
    assert!(desk.passes(session, child, "delete"), "it was not called since");
    desk.looked(LIMIT + 3, true);
    desk.looked(LIMIT + 3, true);
    assert!(desk.passes(session, child, "delete"), "less, or as much, is no growth");
    desk.pass(Duration::from_secs(299));
    assert!(!desk.passes(session, child, "save"));
    desk.pass(Duration::from_secs(1));
    desk.looked(LIMIT + 3, true);
    assert!(desk.passes(session, child, "save"), "it may try again");
}

#[test]
fn what_is_written_late_is_seen_by_the_look_after_the_next() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.listed();
    desk.looked(LIMIT, true);
    assert!(desk.passes(session, child, "save"));
    desk.looked(LIMIT, true);
    desk.looked(LIMIT + 1, true);
    assert!(!desk.passes(session, child, "save"));
}

#[test]
fn only_so_many_destructive_calls_pass_between_two_looks() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.listed();
    desk.looked(LIMIT, true);
    for _ in 0..PASSES {
        assert!(desk.passes(session, child, "delete"));
    }
    let error = desk.calls(session, child, "delete").expect("refused");
    assert_eq!((&error["code"], &error["data"]["retryAfterMs"]), (&json!(507), &json!(2000)));
    assert!(desk.passes(session, child, "get"), "reading is not counted");
    desk.looked(LIMIT, true);
    assert!(desk.passes(session, child, "delete"));
}

#[test]
fn a_server_whose_tools_nobody_listed_is_asked_once_and_then_read() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.legacy(1, 1000);
    desk.looked(LIMIT, true);
    let asked = desk.server_heard(child).remove(0);
    assert_eq!(asked["method"], "tools/list");
    let error = desk.calls(session, child, "get").expect("refused");
    assert_eq!((&error["code"], &error["data"]["retryAfterMs"]), (&json!(507), &json!(2000)));
    desk.looked(LIMIT, true);
    assert_eq!(desk.server_heard(child), Vec::<Value>::new(), "once");
    desk.answer(child, &asked, &tools());
    assert_eq!(desk.client_heard(session), Vec::<Value>::new(), "the answer is ours");
    assert!(desk.passes(session, child, "get") && desk.passes(session, child, "delete"));
    assert!(!desk.passes(session, child, "plain"));
}

#[test]
fn a_modern_server_that_starts_while_its_tenant_is_full_is_asked_too() {
    let mut desk = Desk::new(Share::Tenant);
    desk.looked(LIMIT, true);
    let session = desk.open(1, 1000);
    desk.client(session, &format!(r#"{{"jsonrpc":"2.0","id":"d","method":"server/discover","params":{{"_meta":{{{META}}}}}}}"#));
    let child = desk.start();
    let probe = desk.server_heard(child).remove(0);
    desk.server(child, &discovery(&probe["id"]));
    let asked = desk.server_heard(child);
    let list =
        asked.iter().find(|line| line["method"] == "tools/list").expect("asked for its tools");
    assert!(list["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"].is_string());
}
