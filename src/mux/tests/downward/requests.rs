//! Requests and results, discovery, eras that change on one connection.

use serde_json::json;

use super::super::{HELLO, META};
use super::*;
use crate::config::tenant::Share;

#[test]
fn discovery_is_made_of_the_servers_own_words() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, _) = desk.first(1, 1000, &request("\"d\"", "server/discover", "", "{}", ""));
    assert_eq!(
        desk.line(End::Session(a)),
        r#"{"jsonrpc":"2.0","id":"d","result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"logging":{},"x":1.0e2},"instructions":"do \u0061","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"s","version":"\u0031"}},"ttlMs":0,"cacheScope":"private"}}"#
    );
}

#[test]
fn discovery_is_remembered_while_the_server_starts() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.exchange.child_ended(child, "it exited", false, desk.now);
    desk.pass(super::super::PAUSE);
    desk.client(a, &request("1", "tools/list", "", "{}", ""));
    let next = desk.start();
    desk.client(a, &request("2", "server/discover", "", "{}", ""));
    assert_eq!(desk.one_line(a)["result"]["instructions"], "do a");
    desk.client(a, &request("3", "server/discover", "", "1", ""));
    assert_eq!(desk.one_line(a)["error"]["code"], -32602);
    assert_eq!(desk.server_heard(next)[0]["method"], "initialize");
}

/// What the two eras number differently; other errors of the server's are left as they are.
#[test]
fn a_missing_resource_has_the_number_of_the_modern_era() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.heard(End::Child(child));
    for (method, code, told) in [
        ("resources/read", "-32002", "-32602"),
        ("resources/read", "-32603", "-32603"),
        ("tools/call", "-32002", "-32002"),
    ] {
        desk.client(a, &request("1", method, r#""uri":"x:y""#, ALL, ""));
        let id = desk.server_heard(child)[0]["id"].clone();
        let error =
            |code| format!(r#""error":{{"message":"\u0061", "code": {code} ,"data":1.0e2}}"#);
        desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{id},{}}}"#, error(code)));
        let given = format!(r#"{{"jsonrpc":"2.0","id":1,{}}}"#, error(told));
        assert_eq!(desk.line(End::Session(a)), given, "{method}");
    }
}

#[test]
fn a_request_leaves_without_its_envelope_and_its_result_comes_back_complete() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.heard(End::Child(child));
    let params =
        r#""name":"t" , "n":1.0e2,"inputResponses":{"1":{}},"big":12345678901234567890123"#;
    desk.client(a, &request("\"x\"", "tools/call", params, ALL, r#","progressToken":"p","k":1.0"#));
    let sent = desk.line(End::Child(child));
    assert!(
        sent.contains(r#""name":"t" , "n":1.0e2,"big":12345678901234567890123,"_meta":{"#),
        "{sent}"
    );
    assert!(sent.contains(r#""k":1.0"#), "{sent}");
    assert!(
        !sent.contains("io.modelcontextprotocol") && !sent.contains("inputResponses"),
        "{sent}"
    );
    let heard: Value = serde_json::from_str(&sent).expect("JSON");
    assert_eq!(heard["params"]["_meta"]["progressToken"], heard["id"]);
    assert_eq!(heard["params"]["_meta"]["io.tenantd/context"]["tenant"], "acme");
    desk.answers(child, &heard["id"].to_string(), r#"{ "n":1.0e2 , "u":"\ud83d" }"#);
    let result = r#"{"jsonrpc":"2.0","id":"x","result":{ "n":1.0e2 , "u":"\ud83d" ,"resultType":"complete"}}"#;
    assert_eq!(desk.line(End::Session(a)), result);
}

#[test]
fn what_a_result_says_itself_stays_and_errors_pass() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    for (method, result, want) in [
        ("tools/list", "{}", r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private"}"#),
        (
            "resources/read",
            r#"{"ttlMs":null}"#,
            r#"{"ttlMs":null,"resultType":"complete","cacheScope":"private"}"#,
        ),
        ("prompts/get", r#"{"resultType":"odd"}"#, r#"{"resultType":"odd"}"#),
        ("x/y", "{ }", r#"{ "resultType":"complete"}"#),
        ("x/y", "[1]", "[1]"),
    ] {
        desk.client(a, &request("1", method, "", "{}", ""));
        let id = desk.passed(child);
        desk.answers(child, &id, result);
        assert_eq!(
            desk.line(End::Session(a)),
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{want}}}"#)
        );
    }
    desk.client(a, &call("2"));
    let id = desk.passed(child);
    let error = r#""error":{"code":-32042,"message":"visit","data":{"a":1.0}}}"#;
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{id},{error}"#));
    assert_eq!(desk.line(End::Session(a)), format!(r#"{{"jsonrpc":"2.0","id":2,{error}"#));
}

#[test]
fn an_envelope_that_is_not_right_hears_what_a_modern_server_says() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.heard(End::Child(child));
    let other = call("1").replace("2026-07-28", "2031-01-01");
    desk.client(a, &other);
    let error = desk.one_line(a)["error"].clone();
    assert_eq!(error["code"], -32022);
    assert_eq!(error["data"]["supported"], json!(["2026-07-28"]));
    assert_eq!(error["data"]["requested"], "2031-01-01");
    for (line, code) in [
        (call("1").replace("clientCapabilities", "clientAbilities"), -32602),
        (call("1").replace("\"2026-07-28\"", "7"), -32602),
        (r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#.to_owned(), -32602),
        (request("1", "ping", "", "{}", ""), -32601),
        (request("1", "logging/setLevel", r#""level":"info""#, "{}", ""), -32601),
        (request("1", "initialize", "", "{}", ""), -32601),
        (request("1", "resources/subscribe", r#""uri":"x:y""#, "{}", ""), -32601),
        (request("1", "resources/unsubscribe", r#""uri":"x:y""#, "{}", ""), -32601),
        (request("1", "tasks/list", "", "{}", ""), -32601),
    ] {
        desk.client(a, &line);
        assert_eq!(desk.one_line(a)["error"]["code"], code, "{line}");
    }
    assert_eq!(desk.heard(End::Child(child)), Vec::<String>::new());
}

#[test]
fn each_message_is_served_by_its_own_era_in_any_order() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.heard(End::Child(child));
    let changed = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    desk.server(child, changed);
    desk.is_silent(a);
    // It falls back.
    desk.initialize(a);
    assert_eq!(desk.one_line(a)["result"]["protocolVersion"], "2025-06-18");
    desk.client(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let id = desk.passed(child);
    desk.answers(child, &id, r#"{"tools":[]}"#);
    assert_eq!(desk.line(End::Session(a)), r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}"#);
    desk.server(child, changed);
    assert_eq!(desk.line(End::Session(a)), changed);
    let subscribe =
        r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"x:y"}}"#;
    desk.client(a, subscribe);
    let id = desk.passed(child);
    desk.answers(child, &id, "{}");
    let updated =
        r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"x:y"}}"#;
    desk.server(child, updated);
    assert_eq!(desk.heard(End::Session(a))[1], updated);
    // It changes its mind.
    let line = format!(
        r#"{{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{{"_meta":{{{META}}}}}}}"#
    );
    desk.client(a, &line);
    let id = desk.passed(child);
    desk.answers(child, &id, r#"{"tools":[]}"#);
    assert_eq!(desk.one_line(a)["result"]["resultType"], "complete");
    desk.server(child, changed);
    desk.server(child, updated);
    desk.is_silent(a);
    // And falls back without a word.
    desk.client(a, r#"{"jsonrpc":"2.0","id":3,"method":"tools/list"}"#);
    let id = desk.passed(child);
    desk.answers(child, &id, r#"{"tools":[]}"#);
    assert_eq!(desk.one_line(a)["result"], json!({"tools": []}));
}

#[test]
fn a_child_of_its_own_is_greeted_with_what_its_modern_client_says() {
    let mut desk = Desk::new(Share::Session);
    let capabilities = r#"{"extensions":{"e":{}},"sampling":{"x":1.0}}"#;
    let a = desk.open(1, 1000);
    desk.client(a, &request("1", "server/discover", "", capabilities, ""));
    let child = desk.start();
    let told = desk.greet(child);
    assert_eq!(told["capabilities"], json!({"sampling": {"x": 1.0}}));
    assert_eq!(told["clientInfo"], json!({"name": "m", "version": "1"}));
    assert_eq!(told["protocolVersion"], "2025-11-25");
    assert_eq!(desk.one_line(a)["result"]["instructions"], "do a");
    // Falling back it gets the revision that it asks for, which is not the one of that greeting.
    desk.initialize(a);
    assert_eq!(desk.one_line(a)["result"]["protocolVersion"], "2025-06-18");
    // A shared one is told what the configuration says, and its own client what it said itself.
    let mut desk = Desk::new(Share::Tenant);
    let b = desk.open(2, 1000);
    desk.client(b, &request("1", "server/discover", "", ALL, ""));
    let child = desk.start();
    assert_eq!(desk.greet(child)["capabilities"], json!({"sampling": {}}));
    let mut desk = Desk::new(Share::Session);
    let c = desk.open(3, 1000);
    desk.initialize(c);
    let child = desk.start();
    let hello: Value = serde_json::from_str(HELLO).expect("JSON");
    assert_eq!(desk.greet(child), hello);
}
