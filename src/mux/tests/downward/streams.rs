//! `subscriptions/listen` on a legacy server.

use super::super::discovery;
use super::*;
use crate::config::tenant::Share;
use crate::wire::{Ailment, Farewell};

const UPDATED: &str = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{ "uri":"f:///a/b","n":1.0 }}"#;

/// What the server was asked about its resources: method, uri and id.
fn asked(desk: &mut Desk, child: ChildId) -> Vec<(String, String, String)> {
    let heard = desk.server_heard(child);
    let mut of = Vec::new();
    for line in heard {
        let method =
            line["method"].as_str().unwrap_or_default().trim_start_matches("resources/").to_owned();
        let uri = line["params"]["uri"].as_str().unwrap_or_default().to_owned();
        of.push((method, uri, line["id"].to_string()));
    }
    of.retain(|(method, ..)| method.ends_with("subscribe"));
    of
}

fn both(asked: &[(String, String, String)]) -> Vec<(&str, &str)> {
    asked.iter().map(|(method, uri, _)| (method.as_str(), uri.as_str())).collect()
}

#[test]
fn a_stream_is_acknowledged_with_what_the_server_gives_and_nothing_comes_before() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    let filter = r#"{"toolsListChanged":true,"promptsListChanged":true,"resourceSubscriptions":["f:///a","x:no","f:///a"]}"#;
    desk.heard(End::Child(child));
    desk.client(a, &listen("123456789012345678901", filter));
    let open = asked(&mut desk, child);
    assert_eq!(both(&open), [("subscribe", "f:///a"), ("subscribe", "x:no")]);
    desk.server(child, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    desk.answers(child, &open[0].2, "{}");
    desk.server(child, UPDATED);
    desk.is_silent(a);
    let refusal =
        format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":1,"message":"no"}}}}"#, open[1].2);
    desk.server(child, &refusal);
    assert_eq!(
        desk.line(End::Session(a)),
        r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{"toolsListChanged":true,"resourceSubscriptions":["f:///a"]},"_meta":{"io.modelcontextprotocol/subscriptionId":123456789012345678901}}}"#
    );
    desk.server(child, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    desk.server(child, r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#);
    desk.server(child, UPDATED);
    desk.server(child, &UPDATED.replace("f:///a/b", "f:///ab"));
    desk.server(child, &UPDATED.replace(r#""n":1.0"#, r#""_meta":{"k":1.0}"#));
    desk.server(
        child,
        &UPDATED.replace(
            r#""n":1.0"#,
            r#""_meta":{"io.modelcontextprotocol/subscriptionId":"theirs"}"#,
        ),
    );
    let tag = r#""io.modelcontextprotocol/subscriptionId":123456789012345678901"#;
    assert_eq!(
        desk.heard(End::Session(a)),
        [
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{{"_meta":{{{tag}}}}}}}"#
            ),
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{ "uri":"f:///a/b","n":1.0 ,"_meta":{{{tag}}}}}}}"#
            ),
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{ "uri":"f:///a/b","_meta":{{"k":1.0,{tag}}} }}}}"#
            ),
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{ "uri":"f:///a/b","_meta":{{{tag}}} }}}}"#
            ),
        ]
    );
}

#[test]
fn the_last_one_to_lose_interest_ends_it_at_the_server_whatever_its_era() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    let (b, _) = desk.crossed(2, 1001);
    let (c, _) =
        desk.first(3, 1002, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#);
    for session in [a, b, c] {
        desk.heard(End::Session(session));
    }
    desk.heard(End::Child(child));
    let filter = r#"{"resourceSubscriptions":["f:///a"]}"#;
    desk.client(a, &listen("1", filter));
    desk.client(b, &listen("1", filter));
    let open = asked(&mut desk, child);
    assert_eq!(both(&open), [("subscribe", "f:///a")], "once for both");
    desk.answers(child, &open[0].2, "{}");
    assert_eq!(desk.one_line(a)["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(desk.one_line(b)["method"], "notifications/subscriptions/acknowledged");
    // One more of the same session, acknowledged at once.
    desk.client(a, &listen("2", filter));
    assert_eq!(desk.one_line(a)["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 2);
    let legacy = |method: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"resources/{method}","params":{{"uri":"f:///a"}}}}"#
        )
    };
    desk.client(c, &legacy("subscribe"));
    let id = desk.passed(child);
    desk.answers(child, &id, "{}");
    desk.server(child, UPDATED);
    assert_eq!((desk.client_heard(a).len(), desk.client_heard(b).len()), (2, 1));
    assert_eq!(desk.client_heard(c).len(), 2);
    let cancel = |id: u8| {
        format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
        )
    };
    desk.client(a, &cancel(1));
    desk.client(a, &cancel(2));
    desk.exchange.close_session(b, Farewell { reason: String::new(), code: 0 });
    assert_eq!(asked(&mut desk, child), [], "the legacy client holds it");
    desk.client(a, &listen("1", filter));
    desk.client_heard(a);
    desk.client(c, &legacy("unsubscribe"));
    assert_eq!(desk.client_heard(c).len(), 1);
    assert_eq!(asked(&mut desk, child), [], "the modern client holds it");
    desk.client(a, &cancel(1));
    assert_eq!(both(&asked(&mut desk, child)), [("unsubscribe", "f:///a")]);
    desk.server(child, UPDATED);
    desk.is_silent(a);
}

#[test]
fn a_stream_goes_on_at_the_next_server_without_a_second_acknowledgement() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.client(
        a,
        &listen("\"s\"", r#"{"toolsListChanged":true,"resourceSubscriptions":["f:///a"]}"#),
    );
    let open = asked(&mut desk, child);
    desk.answers(child, &open[0].2, "{}");
    desk.client_heard(a);
    desk.exchange.child_ended(child, "it exited", false, desk.now);
    desk.is_silent(a);
    desk.pass(super::super::PAUSE);
    desk.client(a, &request("1", "tools/list", "", "{}", ""));
    let next = desk.start();
    desk.greet(next);
    // It has listed nothing that could be another now.
    desk.is_silent(a);
    let again = asked(&mut desk, next);
    assert_eq!(both(&again), [("subscribe", "f:///a")]);
    desk.answers(next, &again[0].2, "{}");
    desk.server(next, UPDATED);
    assert_eq!(desk.one_line(a)["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "s");
    // The id is taken, until it is given back.
    desk.client(a, &listen("\"s\"", "{}"));
    assert_eq!(desk.one_line(a)["error"]["data"]["reason"], "duplicate-id");
}

#[test]
fn a_stream_that_was_not_acknowledged_when_its_server_died_is_later() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.client(a, &listen("1", r#"{"resourceSubscriptions":["f:///a"]}"#));
    desk.exchange.child_ended(child, "it exited", false, desk.now);
    desk.is_silent(a);
    desk.pass(super::super::PAUSE);
    desk.client(a, &request("2", "tools/list", "", "{}", ""));
    let next = desk.start();
    desk.greet(next);
    desk.is_silent(a);
    let open = asked(&mut desk, next);
    desk.answers(next, &open[0].2, "{}");
    assert_eq!(desk.one_line(a)["method"], "notifications/subscriptions/acknowledged");
}

#[test]
fn a_server_that_changes_its_era_keeps_its_listeners() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.client(a, &listen("\"s\"", r#"{"toolsListChanged":true}"#));
    assert_eq!(desk.one_line(a)["method"], "notifications/subscriptions/acknowledged");
    desk.exchange.child_ended(child, "it exited", false, desk.now);
    desk.pass(super::super::PAUSE);
    desk.client(a, &request("1", "tools/list", "", "{}", ""));
    desk.acts();
    // Another program: it is probed, and modern.
    let next = desk.asked.pop().expect("a child was asked for");
    desk.exchange.child_started(next, 1, "upgraded".to_owned(), desk.now);
    let probe = desk.server_heard(next).remove(0);
    desk.server(next, &discovery(&probe["id"]));
    let heard = desk.server_heard(next);
    let upstream =
        heard.iter().find(|line| line["method"] == "subscriptions/listen").expect("renewed");
    let tag = json!({"_meta": {"io.modelcontextprotocol/subscriptionId": upstream["id"]}});
    let told = |method: &str| json!({"jsonrpc":"2.0","method":method,"params":tag}).to_string();
    desk.server(next, &told("notifications/subscriptions/acknowledged"));
    desk.server(next, &told("notifications/tools/list_changed"));
    assert_eq!(desk.one_line(a)["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "s");
    // And back again.
    desk.exchange.child_ended(next, "it exited", false, desk.now);
    desk.client_heard(a);
    desk.pass(super::super::PAUSE);
    desk.client(a, &request("2", "tools/list", "", "{}", ""));
    let last = desk.start();
    desk.greet(last);
    desk.client_heard(a);
    desk.server(last, r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    assert_eq!(desk.one_line(a)["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], "s");
}

#[test]
fn a_stream_that_we_end_gets_its_result() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, _) = desk.crossed(1, 1000);
    desk.client(a, &listen("\"s\"", "{}"));
    desk.client_heard(a);
    let farewell = Farewell { reason: "bye".to_owned(), code: 0 };
    desk.exchange.drain(farewell, std::time::Duration::from_secs(1), desk.now);
    assert_eq!(
        desk.line(End::Session(a)),
        r#"{"jsonrpc":"2.0","id":"s","result":{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":"s"}}}"#
    );
}

#[test]
fn a_client_can_not_subscribe_without_end() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, _) = desk.crossed(1, 1000);
    desk.client(a, &listen("1", "7"));
    assert_eq!(desk.one_line(a)["error"]["code"], -32602);
    for number in 0..32 {
        desk.client(a, &listen(&number.to_string(), "{}"));
        assert_eq!(desk.one_line(a)["method"], "notifications/subscriptions/acknowledged");
    }
    desk.client(a, &listen("32", "{}"));
    assert_eq!(desk.one_line(a)["error"]["code"], 429);
    // Nor make a mute server cost more and more.
    let (b, _) = desk.crossed(2, 1000);
    let mut refused = 0;
    for round in 0..100 {
        let uris: Vec<String> = (0..100).map(|number| format!("x:{round}/{number}")).collect();
        desk.client(b, &listen("1", &json!({"resourceSubscriptions": uris}).to_string()));
        desk.client(
            b,
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        );
        refused += desk.client_heard(b).len();
    }
    assert!(refused > 0, "8192 of 20000");
}

#[test]
fn a_session_that_ends_gives_back_what_it_alone_subscribed_to() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.crossed(2, 1001);
    desk.client(a, &listen("1", r#"{"resourceSubscriptions":["f:///a"]}"#));
    desk.heard(End::Child(child));
    let gone = || Farewell { reason: String::new(), code: 0 };
    desk.exchange.close_session(a, gone());
    assert_eq!(both(&asked(&mut desk, child)), [("unsubscribe", "f:///a")]);
    // A server that has not shaken hands yet has nothing to give back.
    let (c, _) = desk.crossed(3, 1000);
    desk.client(c, &listen("1", r#"{"resourceSubscriptions":["f:///a"]}"#));
    desk.exchange.child_ended(child, "it exited", false, desk.now);
    desk.pass(super::super::PAUSE);
    desk.client(c, &request("2", "tools/list", "", "{}", ""));
    let next = desk.start();
    desk.exchange.close_session(c, gone());
    let heard = desk.server_heard(next);
    assert_eq!((heard.len(), &heard[0]["method"]), (1, &json!("initialize")));
}

#[test]
fn a_stream_hears_of_no_trouble_before_it_is_acknowledged() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    let filter = r#"{"toolsListChanged":true,"resourceSubscriptions":["f:///a"]}"#;
    desk.client(a, &listen("1", filter));
    let (b, _) = desk.crossed(2, 1001);
    desk.client(b, &listen("1", r#"{"toolsListChanged":true}"#));
    desk.client_heard(b);
    desk.heard(End::Child(child));
    let mut plan = super::super::plan(Share::Tenant);
    let (reason, message) = ("held".to_owned(), "held back".to_owned());
    plan.servers[0].held = Some(Ailment { reason, message, code: 78 });
    desk.exchange.configure(plan, desk.now);
    assert_eq!(desk.one_line(b)["method"], "notifications/tools/list_changed");
    desk.is_silent(a);
}
