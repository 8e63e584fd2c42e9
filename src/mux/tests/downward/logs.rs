//! One log level for all, and messages that do not say which request they are about.

use super::*;
use crate::config::tenant::Share;
use crate::mux::outbox::Act;

fn told(level: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"level":"{level}","data":1.0}}}}"#
    )
}

fn loud(id: &str, level: &str) -> String {
    let more = format!(r#","io.modelcontextprotocol/logLevel":"{level}""#);
    request(id, "tools/call", r#""name":"t""#, "{}", &more)
}

fn levels(desk: &mut Desk, child: ChildId) -> Vec<String> {
    let heard = desk.server_heard(child);
    let set = heard.iter().filter(|line| line["method"] == "logging/setLevel");
    set.map(|line| line["params"]["level"].as_str().expect("a level").to_owned()).collect()
}

fn logged(desk: &mut Desk) -> usize {
    desk.acts()
        .iter()
        .filter(|act| matches!(act, Act::Log { text, .. } if text.contains("log message")))
        .count()
}

#[test]
fn a_server_is_told_a_more_verbose_level_before_the_request_that_wants_it() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.heard(End::Child(child));
    desk.client(a, &loud("1", "warning"));
    let heard = desk.server_heard(child);
    let methods: Vec<_> = heard.iter().map(|line| line["method"].as_str()).collect();
    assert_eq!(methods, [Some("logging/setLevel"), Some("tools/call")]);
    assert_eq!(heard[0]["params"]["level"], "warning");
    desk.client(a, &loud("2", "error"));
    assert_eq!(levels(&mut desk, child), Vec::<String>::new());
    desk.client(a, &loud("3", "debug"));
    assert_eq!(levels(&mut desk, child), ["debug"]);
}

#[test]
fn legacy_sessions_keep_what_they_hear() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    let (b, _) =
        desk.first(2, 1001, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#);
    let set = |level: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":9,"method":"logging/setLevel","params":{{"level":"{level}"}}}}"#
        )
    };
    desk.client(b, &set("info"));
    let id = desk.passed(child);
    desk.answers(child, &id, "{}");
    desk.client(a, &loud("1", "error"));
    assert_eq!(levels(&mut desk, child), Vec::<String>::new());
    desk.client(a, &loud("2", "debug"));
    assert_eq!(levels(&mut desk, child), ["debug"]);
    // What is in flight is not made quieter by a neighbour; each hears its own level.
    desk.client(b, &set("alert"));
    assert_eq!(levels(&mut desk, child), Vec::<String>::new());
    // A restarted server is told again.
    desk.exchange.child_ended(child, "it exited", false, desk.now);
    desk.pass(super::super::PAUSE);
    desk.client(a, &loud("3", "error"));
    let next = desk.start();
    desk.greet(next);
    assert_eq!(levels(&mut desk, next), ["alert", "error"]);
}

#[test]
fn a_legacy_session_that_set_no_level_hears_no_less_than_before() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.first(2, 1001, r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#);
    desk.client(a, &loud("1", "error"));
    assert_eq!(levels(&mut desk, child), ["debug"]);
}

#[test]
fn a_message_goes_only_where_all_that_is_in_flight_asked_for_it() {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    desk.server(child, &told("emergency"));
    desk.is_silent(a);
    desk.client(a, &loud("1", "warning"));
    desk.acts();
    desk.server(child, &told("info"));
    desk.is_silent(a);
    assert_eq!(logged(&mut desk), 1);
    desk.server(child, &told("error"));
    assert_eq!(desk.line(End::Session(a)), told("error"));
    // Another request of its that asked for none: it could be about that.
    desk.client(a, &call("2"));
    desk.server(child, &told("error"));
    desk.is_silent(a);
    // Or of somebody else.
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.crossed(1, 1000);
    let (b, _) = desk.crossed(2, 1001);
    desk.client(a, &loud("1", "debug"));
    desk.client(b, &loud("1", "debug"));
    desk.server(child, &told("error"));
    desk.is_silent(a);
    desk.is_silent(b);
}

#[test]
fn a_server_without_logging_is_told_no_level() {
    let mut desk = Desk::new(Share::Tenant);
    let (_, child) = desk.legacy(1, 1000);
    let (a, _) = desk.first(2, 1001, &request("0", "server/discover", "", "{}", ""));
    desk.heard(End::Child(child));
    desk.client(a, &loud("1", "debug"));
    assert_eq!(levels(&mut desk, child), Vec::<String>::new());
}
