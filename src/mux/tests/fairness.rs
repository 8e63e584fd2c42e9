//! Turns at a server that does not keep up, and what goes on meanwhile.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Desk, call};
use crate::config::tenant::Share;
use crate::mux::outbox::{ChildId, End};
use crate::names::SessionId;
use crate::wire::Farewell;

/// Two sessions of a server whose pipe is full.
fn full() -> (Desk, SessionId, SessionId, ChildId) {
    let mut desk = Desk::new(Share::Tenant);
    let (a, child) = desk.legacy(1, 1000);
    let (b, _) = desk.legacy(2, 1001);
    desk.exchange.child_full(child);
    (desk, a, b, child)
}

fn marked(id: u64, mark: &str) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": mark}})
        .to_string()
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().filter_map(|line| line["params"]["name"].as_str()).collect()
}

#[test]
fn a_flood_delays_its_neighbour_by_a_turn_and_not_by_the_flood() {
    let (mut desk, greedy, polite, child) = full();
    for id in 0..3000 {
        desk.client(greedy, &marked(id, "greedy"));
    }
    desk.client(polite, &marked(1, "polite"));
    assert!(desk.heard(End::Child(child)).is_empty(), "a full pipe gets nothing more");
    let line = marked(0, "greedy").len();
    desk.exchange.child_has_room(child, desk.now);
    let heard = desk.server_heard(child);
    let before = names(&heard).iter().position(|name| *name == "polite").expect("its turn");
    assert!((1..=4096 / line + 1).contains(&before), "{before}");
    // The rest comes in its order as the server takes it, and all of it.
    let mut count = heard.len();
    for _ in 0..200 {
        desk.exchange.child_has_room(child, desk.now);
        count += desk.server_heard(child).len();
    }
    assert_eq!(count, 3001);
}

#[test]
fn long_lines_get_as_many_bytes_as_short_ones() {
    let (mut desk, long, short, child) = full();
    let much = "x".repeat(16 * 1024);
    for id in 0..20 {
        desk.client(long, &marked(id, &much));
    }
    for id in 0..2000 {
        desk.client(short, &marked(id, "s"));
    }
    let (mut of_long, mut of_short) = (0, 0);
    for _ in 0..4 {
        desk.exchange.child_has_room(child, desk.now);
        for name in names(&desk.server_heard(child)) {
            if name == "s" { of_short += marked(100, "s").len() } else { of_long += name.len() }
        }
    }
    let most = of_long.max(of_short);
    assert!(most - of_long.min(of_short) < 2 * 16 * 1024 + 4096, "{of_long} {of_short}");
    assert!(of_long > 0 && of_short > 0);
}

#[test]
fn every_session_waits_in_its_own_order_whatever_it_sends() {
    let (mut desk, a, _, child) = full();
    desk.client(a, &marked(1, "one"));
    desk.client(a, r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"name":"two"}}"#);
    desk.client(a, &marked(3, "three"));
    desk.exchange.child_has_room(child, desk.now);
    // It is empty again: straight there.
    desk.client(a, &marked(4, "four"));
    assert_eq!(names(&desk.server_heard(child)), ["one", "two", "three", "four"]);
}

#[test]
fn a_session_of_a_full_server_can_ping_cancel_and_close() {
    let (mut desk, a, b, child) = full();
    desk.exchange.child_has_room(child, desk.now);
    desk.client(a, &marked(1, "in flight"));
    let ours = desk.server_heard(child)[0]["id"].clone();
    desk.exchange.child_full(child);
    desk.client(a, &marked(2, "waits"));
    desk.client(a, &marked(3, "waits too"));
    desk.client(a, r#"{"jsonrpc":"2.0","id":9,"method":"ping"}"#);
    assert_eq!(desk.client_heard(a)[0]["id"], 9);
    for id in [1, 2] {
        let params = json!({"requestId": id});
        desk.client(
            a,
            &json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
                .to_string(),
        );
    }
    assert_eq!(desk.server_heard(child)[0]["params"]["requestId"], ours);
    desk.client(b, &marked(1, "of the other"));
    let bye = crate::wire::Farewell { reason: String::new(), code: 0 };
    desk.exchange.close_session(b, bye);
    desk.exchange.child_has_room(child, desk.now);
    assert_eq!(names(&desk.server_heard(child)), ["waits too"]);
}

#[test]
fn an_answer_to_the_server_waits_like_a_request_and_arrives_once() {
    let (mut desk, a, _, child) = full();
    desk.exchange.child_has_room(child, desk.now);
    desk.client(a, &call("1", None));
    desk.server_heard(child);
    desk.server(
        child,
        r#"{"jsonrpc":"2.0","id":"s","method":"sampling/createMessage","params":{}}"#,
    );
    let asked = desk.client_heard(a).remove(0);
    desk.exchange.child_full(child);
    let answer = json!({"jsonrpc": "2.0", "id": asked["id"], "result": {"n": 1}});
    desk.client(a, &answer.to_string());
    assert!(desk.server_heard(child).is_empty());
    desk.exchange.child_has_room(child, desk.now);
    let heard = desk.server_heard(child);
    assert_eq!((heard.len(), &heard[0]["id"]), (1, &json!("s")));
}

#[test]
fn a_turn_that_never_comes_times_out_like_an_answer() {
    let (mut desk, a, b, child) = full();
    desk.client(a, &marked(1, "x"));
    desk.pass(Duration::from_secs(599));
    assert!(desk.client_heard(a).is_empty());
    // Whoever is handed on at all waits anew.
    desk.exchange.child_has_room(child, desk.now);
    desk.exchange.child_full(child);
    desk.client(a, &marked(2, "y"));
    desk.client(b, &marked(2, "z"));
    desk.pass(Duration::from_secs(599));
    assert!(desk.client_heard(b).is_empty());
    desk.pass(Duration::from_secs(1));
    let heard = desk.client_heard(b);
    assert_eq!((&heard[0]["id"], &heard[0]["error"]["code"]), (&json!(2), &json!(408)));
}

#[test]
fn the_death_of_a_full_server_sends_what_waited_to_the_next_one() {
    let (mut desk, a, _, child) = full();
    for id in 0..300 {
        desk.client(a, &marked(id, "waits"));
    }
    desk.kill(child);
    assert!(desk.client_heard(a).is_empty(), "the server never had it");
    let child = desk.start();
    assert_eq!(names(&desk.shake(child)).len(), 300);
    let (mut desk, a, _, child) = full();
    desk.client(a, &marked(1, "waits"));
    desk.kill(child);
    desk.pass(Duration::from_secs(9));
    assert_eq!(
        desk.client_heard(a)[0]["error"]["data"]["reason"],
        "starting",
        "no longer than a start"
    );
}

#[test]
fn a_session_that_waits_is_not_read_on_without_end() {
    let (mut desk, a, b, _) = full();
    for id in 0..1000 {
        desk.client(a, &marked(id, "waits"));
    }
    assert!(desk.exchange.backlog(a) > 50_000);
    assert_eq!(desk.exchange.backlog(b), 0, "its neighbour is read as before");
}

#[test]
fn what_waits_for_a_start_is_not_behind_a_client() {
    let mut desk = Desk::new(Share::Tenant);
    let a = desk.open(1, 1000);
    desk.initialize(a);
    desk.client(a, &marked(1, "waits"));
    assert_eq!(desk.exchange.backlog(a), 0, "it has a bound of its own");
}

#[test]
fn what_a_session_left_of_its_turns_is_not_saved_up() {
    let (mut desk, greedy, polite, child) = full();
    for id in 0..100 {
        desk.exchange.child_full(child);
        desk.client(greedy, &marked(id, "greedy"));
        desk.exchange.child_has_room(child, desk.now);
    }
    assert_eq!(desk.server_heard(child).len(), 100);
    desk.exchange.child_full(child);
    for id in 1000..1500 {
        desk.client(greedy, &marked(id, "greedy"));
    }
    desk.client(polite, &marked(1, "polite"));
    desk.exchange.child_has_room(child, desk.now);
    let heard = desk.server_heard(child);
    let before = names(&heard).iter().position(|name| *name == "polite").expect("its turn");
    assert!(before <= 4096 / marked(1000, "greedy").len(), "{before}");
}

#[test]
fn a_session_whose_turns_come_waits_anew_for_the_next_one() {
    let (mut desk, a, _, child) = full();
    for id in 0..1000 {
        desk.client(a, &marked(id, "x"));
    }
    desk.pass(Duration::from_secs(599));
    desk.exchange.child_has_room(child, desk.now);
    desk.exchange.child_full(child);
    assert!((1..1000).contains(&desk.server_heard(child).len()));
    desk.pass(Duration::from_secs(599));
    assert!(desk.client_heard(a).is_empty());
}

#[test]
fn what_comes_late_stays_behind_what_waits_although_there_is_room_again() {
    let (mut desk, a, _, child) = full();
    for id in 0..1000 {
        desk.client(a, &marked(id, "x"));
    }
    desk.exchange.child_has_room(child, desk.now);
    desk.client(a, r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"name":"late"}}"#);
    desk.client(a, &marked(1000, "last"));
    let mut heard = desk.server_heard(child);
    while desk.exchange.give_turns(child, desk.now) {
        heard.append(&mut desk.server_heard(child));
    }
    assert_eq!(heard.len(), 1002);
    assert_eq!(names(&heard[1000..]), ["late", "last"]);
    assert!(desk.client_heard(a).is_empty(), "nothing was refused");
}

#[test]
fn no_turn_is_given_at_a_server_that_is_full_or_being_stopped() {
    let (mut desk, a, _, child) = full();
    desk.client(a, &marked(1, "waits"));
    assert!(!desk.exchange.give_turns(child, desk.now));
    desk.exchange.restart(None, desk.now);
    desk.exchange.child_has_room(child, desk.now);
    assert!(names(&desk.server_heard(child)).is_empty());
    desk.kill(child);
    let child = desk.start();
    assert_eq!(names(&desk.shake(child)), ["waits"]);
}

#[test]
fn a_session_whose_input_has_ended_closes_when_its_last_line_had_its_turn() {
    let (mut desk, a, _, child) = full();
    desk.client(a, r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"name":"last"}}"#);
    desk.exchange.client_ended(a, desk.now);
    assert!(desk.exchange.sessions.contains_key(&a));
    desk.exchange.child_has_room(child, desk.now);
    assert_eq!(names(&desk.server_heard(child)), ["last"]);
    assert!(!desk.exchange.sessions.contains_key(&a));
}

#[test]
fn a_session_whose_input_has_ended_gets_its_whole_turn() {
    let mut desk = Desk::new(Share::Session);
    let (a, child) = desk.legacy(1, 1000);
    desk.exchange.child_full(child);
    // Answered as soon as it is handed on, when nothing else is owed but what is behind it.
    desk.initialize(a);
    desk.client(a, &marked(2, "last"));
    desk.exchange.client_ended(a, desk.now);
    desk.exchange.child_has_room(child, desk.now);
    assert_eq!(names(&desk.server_heard(child)), ["last"]);
}

#[test]
fn who_leaves_leaves_the_line_too() {
    let (mut desk, a, b, child) = full();
    desk.client(a, &marked(1, "a"));
    desk.client(b, &marked(1, "b"));
    assert_eq!(desk.exchange.children[&child].turns.len(), 2);
    desk.exchange.close_session(a, Farewell { reason: String::new(), code: 0 });
    assert_eq!(desk.exchange.children[&child].turns, [b]);
}
