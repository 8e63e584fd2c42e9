//! What clients hear of a list after their server's death: only that it is another one now.

use serde_json::{Value, json};

use super::{Desk, META, discovery};
use crate::config::tenant::Share;
use crate::mux::outbox::ChildId;
use crate::names::SessionId;

const ONE: &str = r#"{"tools":[{"name":"a", "n":1.0e2},{"name":"b"}]}"#;
/// Other space between, other words around: the same elements.
const SAME: &str = r#"{"_meta":{}, "tools":[{"name":"a", "n":1.0e2} , {"name":"b"}]}"#;

fn changing() -> Value {
    json!({"tools": {"listChanged": true}, "prompts": {"listChanged": true}})
}

/// A session that has listed what its first server had.
fn listed(capabilities: Value, tools: &str) -> (Desk, SessionId, ChildId) {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.initialize(a);
    let child = desk.start();
    desk.shake_with(child, capabilities);
    desk.client(a, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let asked = desk.server_heard(child).pop().expect("the request");
    assert_eq!(asked["method"], "tools/list");
    desk.answer(child, &asked, tools);
    desk.client_heard(a);
    (desk, a, child)
}

/// The server dies and the next one shakes hands; what it hears beside that.
fn next(desk: &mut Desk, child: ChildId, capabilities: Value) -> (ChildId, Vec<Value>) {
    desk.kill(child);
    desk.client(SessionId(1), r#"{"jsonrpc":"2.0","id":2,"method":"completion/complete"}"#);
    desk.pass(super::PAUSE);
    let child = desk.start();
    let heard = desk.shake_with(child, capabilities);
    let own = |line: &Value| line["method"].as_str().is_some_and(|m| m.ends_with("/list"));
    (child, heard.into_iter().filter(own).collect())
}

fn told(desk: &mut Desk, session: SessionId) -> Vec<String> {
    let heard = desk.client_heard(session);
    heard.iter().filter_map(|line| line["method"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_list_that_is_the_same_is_not_told_and_one_that_differs_is() {
    let (mut desk, a, child) = listed(changing(), ONE);
    let (child, asked) = next(&mut desk, child, changing());
    assert_eq!(asked.len(), 1, "only what was listed is asked for: {asked:?}");
    desk.answer(child, &asked[0], SAME);
    assert!(told(&mut desk, a).is_empty());
    for other in [r#"{"tools":[{"name":"a", "n":1.0e2}]}"#, r#"{"tools":[]}"#, "null"] {
        let (mut desk, a, child) = listed(changing(), ONE);
        let (child, asked) = next(&mut desk, child, changing());
        desk.answer(child, &asked[0], other);
        assert_eq!(told(&mut desk, a), ["notifications/tools/list_changed"], "{other}");
    }
}

#[test]
fn what_nobody_has_listed_or_was_promised_is_neither_asked_for_nor_told() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (_, asked) = next(&mut desk, child, changing());
    assert!(asked.is_empty(), "{asked:?}");
    assert!(told(&mut desk, a).is_empty());
    let silent = json!({"tools": {}});
    let (mut desk, a, child) = listed(silent.clone(), ONE);
    let (_, asked) = next(&mut desk, child, silent);
    assert!(asked.is_empty(), "{asked:?}");
    assert!(told(&mut desk, a).is_empty());
}

#[test]
fn a_list_of_many_pages_or_of_none_any_more_is_told_without_asking() {
    let many = r#"{"tools":[{"name":"a"}],"nextCursor":""}"#;
    for (first, then) in [(many, changing()), (ONE, json!({"prompts": {"listChanged": true}}))] {
        let (mut desk, a, child) = listed(changing(), first);
        let (_, asked) = next(&mut desk, child, then);
        assert!(asked.is_empty(), "{asked:?}");
        assert_eq!(told(&mut desk, a), ["notifications/tools/list_changed"], "{first}");
    }
}

#[test]
fn a_later_page_says_nothing_of_the_first() {
    let (mut desk, a, child) = listed(changing(), ONE);
    let page = r#"{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{"c\u0075rsor":"x"}}"#;
    desk.client(a, page);
    let asked = desk.server_heard(child).remove(0);
    desk.answer(child, &asked, r#"{"tools":[{"name":"z"}]}"#);
    let (child, asked) = next(&mut desk, child, changing());
    desk.client_heard(a);
    desk.answer(child, &asked[0], ONE);
    assert!(told(&mut desk, a).is_empty());
}

#[test]
fn what_the_next_server_has_is_what_the_one_after_it_is_held_against() {
    let (mut desk, a, child) = listed(changing(), ONE);
    let other = r#"{"tools":[{"name":"other"}]}"#;
    let (child, asked) = next(&mut desk, child, changing());
    desk.answer(child, &asked[0], other);
    assert_eq!(told(&mut desk, a), ["notifications/tools/list_changed"]);
    let (child, asked) = next(&mut desk, child, changing());
    desk.answer(child, &asked[0], other);
    assert!(told(&mut desk, a).is_empty());
}

#[test]
fn lists_of_other_elements_differ_also_where_their_text_is_the_same() {
    let (mut desk, a, child) = listed(changing(), r#"{"tools":[1,23]}"#);
    let (child, asked) = next(&mut desk, child, changing());
    desk.answer(child, &asked[0], r#"{"tools":[12,3]}"#);
    assert_eq!(told(&mut desk, a), ["notifications/tools/list_changed"]);
}

#[test]
fn a_server_that_promises_more_than_the_one_before_it_is_compared() {
    let (mut desk, a, child) = listed(json!({"tools": {}}), ONE);
    let (child, asked) = next(&mut desk, child, changing());
    desk.answer(child, &asked[0], r#"{"tools":[]}"#);
    assert_eq!(told(&mut desk, a), ["notifications/tools/list_changed"]);
}

#[test]
fn a_comparison_that_a_death_cut_off_is_a_change() {
    let (mut desk, a, child) = listed(changing(), ONE);
    let (child, asked) = next(&mut desk, child, changing());
    assert_eq!(asked.len(), 1);
    let (_, asked) = next(&mut desk, child, changing());
    assert!(asked.is_empty(), "nobody knows what was seen meanwhile: {asked:?}");
    assert_eq!(told(&mut desk, a), ["notifications/tools/list_changed"]);
}

#[test]
fn a_server_that_refuses_to_list_again_has_changed() {
    let (mut desk, a, child) = listed(changing(), ONE);
    let (child, asked) = next(&mut desk, child, changing());
    let refusal =
        json!({"jsonrpc": "2.0", "id": asked[0]["id"], "error": {"code": -1, "message": "no"}});
    desk.server(child, &refusal.to_string());
    assert_eq!(told(&mut desk, a), ["notifications/tools/list_changed"]);
}

fn changing_discovery(id: &Value) -> String {
    discovery(id).replace(r#""tools":{}"#, r#""tools":{"listChanged":true}"#)
}

#[test]
fn a_modern_subscription_hears_of_it_and_who_did_not_ask_does_not() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, b) = (desk.open(1, 1000), desk.open(2, 1000));
    let ask = |id: u64, method: &str, more: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"_meta":{{{META}}}{more}}}}}"#
        )
    };
    desk.client(a, &ask(1, "tools/list", ""));
    let child = desk.start();
    let probe = desk.server_heard(child).remove(0);
    desk.server(child, &changing_discovery(&probe["id"]));
    let asked = desk.server_heard(child).remove(0);
    desk.answer(child, &asked, ONE);
    desk.client(
        a,
        &ask(2, "subscriptions/listen", r#","notifications":{"toolsListChanged":true}"#),
    );
    desk.client(
        b,
        &ask(2, "subscriptions/listen", r#","notifications":{"promptsListChanged":true}"#),
    );
    for listen in desk.server_heard(child) {
        let meta = json!({"io.modelcontextprotocol/subscriptionId": listen["id"]});
        let method = "notifications/subscriptions/acknowledged";
        let line = json!({"jsonrpc": "2.0", "method": method, "params": {"_meta": meta}});
        desk.server(child, &line.to_string());
    }
    desk.client_heard(b);
    desk.client_heard(a);
    desk.kill(child);
    desk.client(a, &ask(3, "prompts/list", ""));
    let child = desk.start();
    let initial = desk.server_heard(child).remove(0);
    desk.server(child, &changing_discovery(&initial["id"]));
    let heard = desk.server_heard(child);
    let compare = heard.iter().find(|line| line["method"] == "tools/list").expect("asked");
    assert_eq!(compare["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    desk.answer(child, compare, r#"{"resultType":"complete","tools":[]}"#);
    let heard = desk.client_heard(a);
    let id = &heard[0]["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
    assert_eq!((heard.len(), id), (1, &json!(2)), "{heard:?}");
    assert!(desk.client_heard(b).is_empty());
}
