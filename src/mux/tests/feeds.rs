//! What a legacy client hears of a modern server: subscriptions of its own, asked for, heard, renewed.

use std::time::Duration;

use serde_json::{Value, json};

use super::Desk;
use super::upward::{ABLE, OFFER, ask, tagged};
use crate::config::tenant::Share;
use crate::mcp::line::Line;
use crate::mcp::scan::Head;
use crate::mux::outbox::{Act, ChildId, End};
use crate::names::SessionId;
use crate::wire::Farewell;

const CHANGED: &str =
    r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{}}"#;

fn subscribe(desk: &mut Desk, session: SessionId, id: u64, uri: &str) {
    desk.client(session, &ask(json!(id), "resources/subscribe", json!({"uri": uri})));
}

fn unsubscribe(desk: &mut Desk, session: SessionId, id: u64, uri: &str) {
    desk.client(session, &ask(json!(id), "resources/unsubscribe", json!({"uri": uri})));
}

/// The resources that a listen asks for.
fn uris(listen: &Value) -> &Value {
    assert_eq!(listen["method"], "subscriptions/listen", "{listen}");
    &listen["params"]["notifications"]["resourceSubscriptions"]
}

/// A session that is subscribed to `uri`, and the listen that it is heard by.
fn subscribed(desk: &mut Desk, id: u64, uri: &str) -> (SessionId, ChildId, Value) {
    let (session, child) = desk.upward(id);
    subscribe(desk, session, 1, uri);
    let listen = desk.only(child);
    desk.acknowledge(child, &listen);
    assert_eq!(desk.code(session, &json!(1)), None);
    desk.server_heard(child);
    (session, child, listen)
}

#[test]
fn each_session_hears_of_lists_by_a_subscription_of_its_own() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.greeted(1, ABLE, OFFER);
    let first = desk.only(child);
    let meta = &first["params"]["_meta"];
    assert_eq!(first["params"]["notifications"], json!({"toolsListChanged": true}));
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "c1");
    assert_eq!(meta["io.tenantd/context"]["session"], a.to_string());
    // What comes before its acknowledgement is not of it.
    desk.server(child, &tagged("tools/list_changed", &first["id"], json!({})));
    assert!(desk.client_heard(a).is_empty());
    desk.acknowledge(child, &first);
    let (b, _) = desk.upward(2);
    desk.server(child, &tagged("tools/list_changed", &first["id"], json!({})));
    assert_eq!(desk.heard(End::Session(a)), [CHANGED]);
    assert!(desk.client_heard(b).is_empty() && desk.server_heard(child).is_empty());
}

#[test]
fn a_notification_loses_its_tag_and_nothing_else() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child, listen) = subscribed(&mut desk, 1, "x:/1");
    let id = &listen["id"];
    let tag = format!(r#""io.modelcontextprotocol/subscription\u0049d":{id}"#);
    for (params, left) in [
        (format!(r#"{{"_meta":{{{tag}}},"uri":"x:/1"}}"#), r#"{"uri":"x:/1"}"#),
        (format!(r#"{{"uri":"x:\/1" , "_meta":{{ {tag} }} }}"#), r#"{"uri":"x:\/1"  }"#),
        (
            format!(r#"{{"_meta":{{"a":1.0, {tag},"b":[ ]}},"uri":"x:/1"}}"#),
            r#"{"_meta":{"a":1.0,"b":[ ]},"uri":"x:/1"}"#,
        ),
    ] {
        let line = |params: &str| {
            format!(
                r#"{{"method":"notifications/resources/updated","params":{params},"jsonrpc":"2.0"}}"#
            )
        };
        desk.server(child, &line(&params));
        assert_eq!(desk.heard(End::Session(session)), [line(left)]);
    }
}

#[test]
fn a_subscription_is_answered_when_the_server_agrees_to_it() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    subscribe(&mut desk, session, 1, "x:/1");
    let listen = desk.only(child);
    assert_eq!(*uris(&listen), json!(["x:/1"]));
    assert!(desk.client_heard(session).is_empty());
    // The same id again is refused while it waits.
    subscribe(&mut desk, session, 1, "x:/1");
    assert_eq!(desk.code(session, &json!(1)), Some(409));
    desk.acknowledge(child, &listen);
    assert_eq!(desk.code(session, &json!(1)), None);
    let cancelled = desk.only(child);
    assert_eq!(cancelled["method"], "notifications/cancelled");
    assert_ne!(cancelled["params"]["requestId"], listen["id"], "the old one ends, not the new");
    // Said twice it is no news.
    subscribe(&mut desk, session, 2, "x:/1");
    assert_eq!(desk.code(session, &json!(2)), None);
    assert!(desk.server_heard(child).is_empty());
}

#[test]
fn a_resource_that_the_server_does_not_agree_to_is_refused_and_not_asked_for_again() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    subscribe(&mut desk, session, 1, "x:/1");
    let listen = desk.only(child);
    let agreed = json!({"notifications": {"toolsListChanged": true}});
    desk.server(child, &tagged("subscriptions/acknowledged", &listen["id"], agreed));
    assert_eq!(desk.code(session, &json!(1)), Some(-32602));
    let after = desk.server_heard(child);
    assert!(after.iter().all(|line| line["method"] == "notifications/cancelled"), "{after:?}");
    desk.server(child, &tagged("resources/updated", &listen["id"], json!({"uri": "x:/1"})));
    assert!(desk.client_heard(session).is_empty());
}

#[test]
fn a_server_that_tells_no_changes_of_resources_says_so() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.greeted(1, ABLE, r#"{"resources":{}}"#);
    subscribe(&mut desk, session, 1, "x:/1");
    assert_eq!(desk.code(session, &json!(1)), Some(-32601));
    assert!(desk.server_heard(child).is_empty());
}

#[test]
fn while_one_subscription_follows_another_each_change_comes_once() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child, old) = subscribed(&mut desk, 1, "x:/1");
    subscribe(&mut desk, session, 2, "x:/2");
    let new = desk.only(child);
    let both = |desk: &mut Desk| {
        for id in [&old["id"], &new["id"]] {
            desk.server(child, &tagged("tools/list_changed", id, json!({})));
            desk.server(child, &tagged("resources/updated", id, json!({"uri": "x:/1"})));
        }
        desk.client_heard(session).iter().filter(|line| line.get("method").is_some()).count()
    };
    assert_eq!(both(&mut desk), 2);
    desk.acknowledge(child, &new);
    desk.heard(End::Session(session));
    assert_eq!(both(&mut desk), 2);
    desk.server(child, &tagged("resources/updated", &new["id"], json!({"uri": "x:/3"})));
    assert!(desk.client_heard(session).is_empty(), "nobody asked for this");
}

#[test]
fn wishes_that_come_together_go_together() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    for id in 1..=5 {
        subscribe(&mut desk, session, id, &format!("x:/{id}"));
    }
    let first = desk.only(child);
    assert_eq!(*uris(&first), json!(["x:/1"]));
    desk.acknowledge(child, &first);
    assert_eq!(desk.code(session, &json!(1)), None);
    let heard = desk.server_heard(child);
    let second = heard.iter().find(|line| line["method"] == "subscriptions/listen").expect("one");
    assert_eq!(*uris(second), json!(["x:/1", "x:/2", "x:/3", "x:/4", "x:/5"]));
    desk.acknowledge(child, second);
    let ids: Vec<_> = desk.client_heard(session).iter().map(|line| line["id"].clone()).collect();
    assert_eq!(json!(ids), json!([2, 3, 4, 5]));
}

#[test]
fn a_subscription_given_up_before_it_held_leaves_nothing_behind() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    subscribe(&mut desk, session, 1, "x:/1");
    let first = desk.only(child);
    unsubscribe(&mut desk, session, 2, "x:/1");
    let ids: Vec<_> = desk.client_heard(session).iter().map(|line| line["id"].clone()).collect();
    assert_eq!(json!(ids), json!([1, 2]));
    desk.acknowledge(child, &first);
    desk.server(child, &tagged("resources/updated", &first["id"], json!({"uri": "x:/1"})));
    assert!(desk.client_heard(session).is_empty());
    let heard = desk.server_heard(child);
    let second = heard.iter().find(|line| line["method"] == "subscriptions/listen").expect("one");
    assert_eq!(*uris(second), Value::Null);
    // And one that its client cancels is not answered.
    desk.acknowledge(child, second);
    desk.server_heard(child);
    subscribe(&mut desk, session, 3, "x:/3");
    desk.client(
        session,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}"#,
    );
    let third = desk.only(child);
    desk.acknowledge(child, &third);
    assert!(desk.client_heard(session).is_empty());
}

#[test]
fn the_last_subscription_ends_the_listen_where_no_list_changes() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.greeted(1, ABLE, r#"{"resources":{"subscribe":true}}"#);
    assert!(desk.server_heard(child).is_empty());
    subscribe(&mut desk, session, 1, "x:/1");
    let listen = desk.only(child);
    desk.acknowledge(child, &listen);
    unsubscribe(&mut desk, session, 2, "x:/1");
    let cancelled = desk.only(child);
    assert_eq!(cancelled["params"]["requestId"], listen["id"]);
    assert!(desk.exchange.children[&child].pending.is_empty());
}

#[test]
fn a_server_without_subscriptions_is_asked_once() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.greeted(1, ABLE, OFFER);
    let listen = desk.only(child);
    let no =
        json!({"jsonrpc": "2.0", "id": listen["id"], "error": {"code": -32601, "message": "?"}});
    desk.server(child, &no.to_string());
    desk.pass(Duration::from_secs(3600));
    assert!(desk.server_heard(child).iter().all(|line| line["method"] != "subscriptions/listen"));
    subscribe(&mut desk, session, 1, "x:/1");
    assert_eq!(desk.code(session, &json!(1)), Some(-32601));
    assert!(desk.server_heard(child).is_empty());
}

#[test]
fn a_server_that_has_too_many_subscriptions_is_asked_again() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.greeted(1, ABLE, OFFER);
    for pause in [1, 2, 4] {
        let listen = desk.only(child);
        let full = json!({"code": -32603, "message": "Subscription limit reached"});
        let full = json!({"jsonrpc": "2.0", "id": listen["id"], "error": full});
        desk.server(child, &full.to_string());
        assert!(desk.server_heard(child).is_empty());
        desk.pass(Duration::from_secs(pause));
    }
    let listen = desk.only(child);
    desk.acknowledge(child, &listen);
}

#[test]
fn a_subscription_ends_with_an_answer_that_is_too_long() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    subscribe(&mut desk, session, 1, "x:/1");
    let listen = desk.only(child);
    let head = Head { id: Some(listen["id"].to_string().into_bytes()), has_method: false };
    desk.exchange.child_line(child, Line::TooLong(head), desk.now);
    assert_eq!(desk.code(session, &json!(1)), Some(503));
    subscribe(&mut desk, session, 2, "x:/1");
    assert_eq!(*uris(&desk.only(child)), json!(["x:/1"]));
}

#[test]
fn a_resource_that_the_server_refuses_does_not_end_the_others() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child, held) = subscribed(&mut desk, 1, "x:/1");
    subscribe(&mut desk, session, 2, "bad");
    let listen = desk.only(child);
    let error = r#"{"code":-32002,"message":"no such thing"}"#;
    desk.server(child, &format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, listen["id"]));
    assert_eq!(
        desk.heard(End::Session(session)),
        [format!(r#"{{"jsonrpc":"2.0","id":2,"error":{error}}}"#)]
    );
    desk.server(child, &tagged("resources/updated", &held["id"], json!({"uri": "x:/1"})));
    assert_eq!(desk.client_heard(session).len(), 1);
    subscribe(&mut desk, session, 3, "x:/3");
    assert_eq!(*uris(&desk.only(child)), json!(["x:/1", "x:/3"]));
}

#[test]
fn a_subscription_that_the_server_ends_is_renewed_after_pauses_that_grow() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    let mut listens = Vec::new();
    let mut ends: [fn(&mut Desk, ChildId, &Value); 2] = [
        |desk, child, listen| desk.give(child, listen, r#"{"resultType":"complete"}"#),
        |desk, child, listen| {
            let params = json!({"requestId": listen["id"]});
            let line =
                json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
            desk.server(child, &line.to_string());
        },
    ];
    let first = desk.exchange.children[&child].pending.keys().max().copied().expect("the listen");
    desk.give(child, &json!({"id": first}), "{}");
    for _ in 0..600 {
        desk.pass(Duration::from_secs(1));
        for line in desk.server_heard(child) {
            if line["method"] == "subscriptions/listen" {
                desk.acknowledge(child, &line);
                ends[0](&mut desk, child, &line);
                ends.reverse();
                listens.push(line);
            }
        }
    }
    // 1 + 2 + 4 + ... + 32 s, then one a minute.
    assert!((12..=17).contains(&listens.len()), "{} in ten minutes", listens.len());
    assert!(desk.client_heard(session).is_empty());
    // One that holds for a minute is renewed at once again.
    desk.pass(Duration::from_secs(60));
    let listen =
        desk.server_heard(child).into_iter().find(|it| it["method"] == "subscriptions/listen");
    let listen = listen.expect("another");
    desk.acknowledge(child, &listen);
    desk.pass(Duration::from_secs(61));
    ends[0](&mut desk, child, &listen);
    desk.server_heard(child);
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.only(child)["method"], "subscriptions/listen");
}

#[test]
fn a_listen_that_is_never_acknowledged_is_given_up_and_who_waits_for_it_hears_so() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child) = desk.upward(1);
    subscribe(&mut desk, session, 1, "x:/1");
    let listen = desk.only(child);
    desk.pass(Duration::from_secs(30));
    assert_eq!(desk.code(session, &json!(1)), Some(503));
    let heard = desk.server_heard(child);
    assert!(heard.iter().any(|line| line["params"]["requestId"] == listen["id"]), "{heard:?}");
}

#[test]
fn subscriptions_outlive_the_server() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, child, _) = subscribed(&mut desk, 1, "x:/1");
    subscribe(&mut desk, session, 2, "x:/2");
    desk.exchange.child_ended(child, "it died", false, desk.now);
    assert_eq!(desk.code(session, &json!(2)), Some(503), "nobody answers it now");
    desk.client(session, &ask(json!(3), "tools/list", json!({})));
    let next = desk.discovered(OFFER);
    let heard = desk.server_heard(next);
    let listen = heard.iter().find(|line| line["method"] == "subscriptions/listen").expect("one");
    assert_eq!(*uris(listen), json!(["x:/1"]));
    desk.acknowledge(next, listen);
    desk.heard(End::Session(session));
    desk.server(next, &tagged("resources/updated", &listen["id"], json!({"uri": "x:/1"})));
    assert_eq!(desk.client_heard(session)[0]["params"], json!({"uri": "x:/1"}));
}

#[test]
fn a_session_that_goes_ends_its_listen_and_only_its_own() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child, listen) = subscribed(&mut desk, 1, "x:/1");
    let (b, _, other) = subscribed(&mut desk, 2, "x:/1");
    desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
    let heard = desk.only(child);
    assert_eq!(heard["method"], "notifications/cancelled");
    assert_eq!(heard["params"]["requestId"], listen["id"]);
    desk.server(child, &tagged("resources/updated", &other["id"], json!({"uri": "x:/1"})));
    assert_eq!(desk.client_heard(b).len(), 1);
}

#[test]
fn an_open_listen_does_not_hold_up_a_restart() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, _) = desk.upward(1);
    desk.exchange.restart(None, desk.now);
    assert!(desk.acts().iter().any(|act| matches!(act, Act::StopChild { .. })));
    assert!(desk.client_heard(session).is_empty());
}

#[test]
fn subscriptions_are_bounded_in_number_and_size() {
    let mut desk = Desk::new(Share::Tenant);
    let (session, _) = desk.upward(1);
    for id in 0..1024 {
        subscribe(&mut desk, session, id, &format!("x:/{id}"));
    }
    assert!(desk.client_heard(session).is_empty());
    subscribe(&mut desk, session, 2000, "x:/more");
    assert_eq!(desk.code(session, &json!(2000)), Some(429));
    let (other, _) = desk.greeted(2, ABLE, OFFER);
    subscribe(&mut desk, other, 1, &"x".repeat(256 * 1024 + 1));
    assert_eq!(desk.code(other, &json!(1)), Some(429));
}
