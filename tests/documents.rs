//! `tenantd builtin documents` itself, over stdio, as a client of either era meets it.

#![allow(missing_docs, reason = "a test binary has no API")]

mod support;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::{Era, Home, Session, documents};

/// A data directory, owned by who runs the server.
struct Data {
    _home: Home,
    path: PathBuf,
}

impl Data {
    fn new() -> Self {
        let home = Home::new();
        Self { path: home.directory("data"), _home: home }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// A server on a directory of its own, its session open.
fn open(era: Era) -> (Data, Session) {
    let data = Data::new();
    let session = serve(data.path(), era);
    (data, session)
}

fn serve(data: &Path, era: Era) -> Session {
    let mut session = Session::spawn(documents(data));
    session.open(era);
    session
}

fn text(result: &Value) -> &str {
    assert_eq!(result["isError"], json!(false), "{result}");
    result["content"][0]["text"].as_str().expect("a text")
}

fn tool_error(result: &Value) -> &str {
    assert_eq!(result["isError"], json!(true), "{result}");
    result["content"][0]["text"].as_str().expect("a text")
}

fn admin(permissions: &[&str]) -> Value {
    json!({"io.tenantd/context": {"tenant": "acme", "permissions": permissions}})
}

#[test]
fn both_eras_get_their_greeting_and_the_same_tools() {
    let (_data, mut legacy) = open(Era::Legacy);
    let (_data, mut modern) = open(Era::Modern);
    let names = |session: &mut Session| -> Vec<String> {
        let mut listed = session.result("tools/list", json!({}));
        let tools = listed["tools"].take();
        let tools = tools.as_array().expect("tools").iter();
        tools.map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    };
    let names = (names(&mut legacy), names(&mut modern));
    assert_eq!(names.0, names.1);
    let expected = [
        "admin_purge",
        "echo",
        "export_report",
        "get_document",
        "list_documents",
        "save_document",
        "search_documents",
    ];
    assert_eq!(names.0, expected, "sorted by name");
}

#[test]
fn a_legacy_client_sees_no_field_of_the_modern_era() {
    let (_data, mut session) = open(Era::Legacy);
    let result = session.call("echo", json!({"text": "hello"}));
    assert_eq!(result.get("resultType"), None);
    assert_eq!(session.result("tools/list", json!({})).get("ttlMs"), None);
}

#[test]
fn a_modern_client_discovers_the_server() {
    let data = Data::new();
    let mut session = Session::spawn(documents(data.path()));
    let result = session.discover()["result"].take();
    assert_eq!(result["resultType"], json!("complete"), "{result}");
    let versions = result["supportedVersions"].as_array().expect("versions");
    assert!(versions.contains(&json!(support::MODERN)), "{result}");
    assert!(result["capabilities"]["tools"].is_object(), "{result}");
}

#[test]
fn a_client_may_try_discovery_and_then_shake_hands() {
    let data = Data::new();
    let mut session = Session::spawn(documents(data.path()));
    session.send(
        r#"{"jsonrpc":"2.0","id":"probe","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"raw","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}"#,
    );
    assert_eq!(session.recv_json()["id"], json!("probe"));
    let answer = session.initialize(json!({}));
    assert_eq!(answer["result"]["protocolVersion"], json!(support::LEGACY), "{answer}");
    assert_eq!(text(&session.call("echo", json!({"text": "hi"}))), "hi");
}

#[test]
fn a_saved_document_comes_back_byte_for_byte() {
    for era in [Era::Legacy, Era::Modern] {
        let (data, mut session) = open(era);
        let written = "first line\r\nÜmläut \u{1f600} \"quoted\" \\ \u{7}\n\n";
        let saved = session.call("save_document", json!({"name": "a b.md", "text": written}));
        let shown = json!({"name": "a b.md", "bytes": written.len(), "replaced": false});
        assert_eq!(saved["structuredContent"], shown, "{era:?}");
        let got = session.call("get_document", json!({"name": "a b.md"}));
        assert_eq!(text(&got), written);
        let on_disk = std::fs::read_to_string(data.path().join("a b.md")).expect("on disk");
        assert_eq!(on_disk, written);
    }
}

#[test]
fn listing_is_sorted_and_paged() {
    let (_data, mut session) = open(Era::Modern);
    for name in ["c", "a", "b"] {
        session.call("save_document", json!({"name": name, "text": name}));
    }
    let names = |listing: &Value| -> Vec<String> {
        let documents = listing["structuredContent"]["documents"].as_array().expect("documents");
        documents.iter().map(|doc| doc["name"].as_str().expect("a name").to_owned()).collect()
    };
    let first = session.call("list_documents", json!({"limit": 2}));
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["structuredContent"]["total"], json!(3));
    assert_eq!(first["structuredContent"]["next"], json!("b"));
    let rest = session.call("list_documents", json!({"limit": 2, "after": "b"}));
    assert_eq!(names(&rest), ["c"]);
    assert_eq!(rest["structuredContent"].get("next"), None);
}

#[test]
fn search_finds_a_phrase_in_any_case() {
    let (_data, mut session) = open(Era::Legacy);
    session.call("save_document", json!({"name": "offer", "text": "The Offer. An OFFER!"}));
    session.call("save_document", json!({"name": "other", "text": "nothing here"}));
    let found = session.call("search_documents", json!({"query": "offer"}));
    let expected = json!({
        "matches": [{"name": "offer", "count": 2, "snippet": "The Offer. An OFFER!"}],
        "searched": 2,
        "unreadable": [],
    });
    assert_eq!(found["structuredContent"], expected);
    let nothing = session.call("search_documents", json!({"query": "  "}));
    assert!(tool_error(&nothing).contains("query"));
}

#[test]
fn search_goes_on_where_a_page_ended() {
    let (_data, mut session) = open(Era::Modern);
    for name in ["a", "b", "c"] {
        session.call("save_document", json!({"name": name, "text": "hit"}));
    }
    let first = session.call("search_documents", json!({"query": "hit", "limit": 2}));
    assert_eq!(first["structuredContent"]["next"], json!("b"));
    let rest = session.call("search_documents", json!({"query": "hit", "limit": 2, "after": "b"}));
    assert_eq!(rest["structuredContent"]["matches"][0]["name"], json!("c"));
    assert_eq!(rest["structuredContent"].get("next"), None);
}

#[test]
fn a_name_that_is_a_path_is_refused_with_the_rule() {
    let data = Data::new();
    std::fs::write(data.path().with_file_name("outside.txt"), "secret").expect("written");
    let mut session = serve(data.path(), Era::Modern);
    for name in ["../outside.txt", "/etc/passwd", ".ssh", "a/b", ""] {
        let result = session.call("get_document", json!({"name": name}));
        assert!(tool_error(&result).contains("is not a document name"), "{result}");
    }
}

#[test]
fn a_planted_link_leads_nowhere() {
    let (data, mut session) = open(Era::Modern);
    symlink("/etc/passwd", data.path().join("innocent.md")).expect("planted");
    for tool in ["get_document", "save_document"] {
        let result = session.call(tool, json!({"name": "innocent.md", "text": "x"}));
        assert!(tool_error(&result).contains("not a regular file"), "{result}");
    }
    let searched = session.call("search_documents", json!({"query": "root"}));
    assert_eq!(searched["structuredContent"]["matches"], json!([]));
}

#[test]
fn only_an_admin_may_purge() {
    let (data, mut session) = open(Era::Modern);
    session.call("save_document", json!({"name": "a", "text": "x"}));
    for meta in [json!({}), admin(&["audit"])] {
        let params = json!({"name": "admin_purge", "arguments": {}, "_meta": meta});
        let refused = session.result("tools/call", params);
        assert!(tool_error(&refused).contains("permission \"admin\""), "{refused}");
    }
    assert!(data.path().join("a").exists());
    let params = json!({"name": "admin_purge", "arguments": {}, "_meta": admin(&["admin"])});
    let done = session.result("tools/call", params);
    assert_eq!(done["structuredContent"], json!({"removed": 1}));
    assert!(!data.path().join("a").exists());
}

#[test]
fn a_report_names_every_document() {
    let (_data, mut session) = open(Era::Legacy);
    session.call("save_document", json!({"name": "a.md", "text": "one two three"}));
    let markdown = session.call("export_report", json!({}));
    assert!(text(&markdown).contains("| a.md | 13 | 1 | 3 |"), "{markdown}");
    let csv = session.call("export_report", json!({"format": "csv"}));
    assert!(text(&csv).starts_with("name,bytes,lines,words,modified\r\na.md,13,1,3,"), "{csv}");
}

#[test]
fn every_tool_says_what_it_does_to_the_world() {
    let (_data, mut session) = open(Era::Modern);
    let listed = session.result("tools/list", json!({}));
    for tool in listed["tools"].as_array().expect("tools") {
        let hints = &tool["annotations"];
        let writes = matches!(tool["name"].as_str(), Some("save_document" | "admin_purge"));
        assert_eq!(hints["readOnlyHint"], json!(!writes), "{tool}");
        assert_eq!(hints["destructiveHint"], json!(writes), "{tool}");
        assert_eq!(hints["idempotentHint"], json!(true), "{tool}");
        assert_eq!(hints["openWorldHint"], json!(false), "{tool}");
        assert_eq!(tool["inputSchema"]["type"], json!("object"), "{tool}");
    }
}

#[test]
fn it_ends_with_its_input() {
    let (_data, session) = open(Era::Legacy);
    assert!(session.close().success());
    let data = Data::new();
    assert!(Session::spawn(documents(data.path())).close().success(), "nobody said a word");
}

#[test]
fn a_directory_that_is_not_there_is_said_at_once() {
    let mut session = Session::spawn(documents("/nonexistent".as_ref()));
    assert!(!session.wait().success());
    assert!(session.stderr().contains("/nonexistent"), "{}", session.stderr());
    assert!(session.stderr().contains("TENANTD_DATA_DIR"), "{}", session.stderr());
}
