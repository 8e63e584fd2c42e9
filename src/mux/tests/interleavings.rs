//! The exchange under whatever order and whatever bytes: properties that hold for all of them.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Call { session: usize, id: u8 },
    Answer { nth: usize },
    Cancel { session: usize, id: u8 },
    Death,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3_usize, 0..4_u8).prop_map(|(session, id)| Step::Call { session, id }),
        4 => (0..8_usize).prop_map(|nth| Step::Answer { nth }),
        1 => (0..3_usize, 0..4_u8).prop_map(|(session, id)| Step::Cancel { session, id }),
        1 => Just(Step::Death),
    ]
}

/// Messages with a piece cut out or put in, and bytes that are none.
fn line() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&str; 12] = [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":1}}}"#,
        r#"{"jsonrpc":"2.0","id":"a","method":"resources/subscribe","params":{"uri":"x:/"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{"task":{"taskId":"T"}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":2}}"#,
        r#"{"jsonrpc":"2.0","id":0,"method":"elicitation/create","params":{"elicitationId":"e"}}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"tasks/list","params":[]}"#,
        r#"{"jsonrpc":"2.0","id":3,"method":"initialize","params":{"capabilities":7}}"#,
        r#"{"jsonrpc":"2.0","id":4,"method":"server/discover"}"#,
        r#"{"jsonrpc":"2.0","id":5,"method":"logging/setLevel","params":{"level":"debug"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":1}}"#,
    ];
    let cut = (prop::sample::select(&PIECES[..]), 0..200_usize, 0..20_usize, any::<[u8; 3]>());
    let cut = cut.prop_map(|(piece, at, less, more)| {
        let mut bytes = piece.as_bytes().to_vec();
        let at = at % bytes.len();
        let end = (at + less).min(bytes.len());
        bytes.splice(at..end, more);
        bytes
    });
    let whole = prop::sample::select(&PIECES[..]).prop_map(|piece| piece.as_bytes().to_vec());
    prop_oneof![3 => whole, 3 => cut, 1 => prop::collection::vec(any::<u8>(), 0..80)]
}

proptest! {
    /// No line of either side ends the mux, and whatever it says is one JSON message a line.
    #[test]
    fn no_line_of_either_side_does_harm(lines in prop::collection::vec((0..3_usize, line()), 1..60)) {
        let mut desk = Desk::new(Share::Tenant);
        let (a, child) = desk.legacy(1, 1000);
        let (b, _) = desk.legacy(2, 1001);
        for (from, line) in lines {
            match from {
                0 => desk.exchange.client_line(a, Line::Whole(&line), desk.now),
                1 => desk.exchange.client_line(b, Line::Whole(&line), desk.now),
                _ => desk.exchange.child_line(child, Line::Whole(&line), desk.now),
            }
            for end in [End::Session(a), End::Session(b), End::Child(child)] {
                for line in desk.heard(end) {
                    let envelope = crate::mcp::envelope::Envelope::read(line.as_bytes());
                    prop_assert!(envelope.is_ok(), "{line}");
                }
            }
        }
    }
}

proptest! {
    /// Whatever happens in whatever order: an answer reaches its asker alone, with its own id and
    /// its own bytes, and every call that was not cancelled is answered exactly once.
    #[test]
    fn every_answer_reaches_exactly_its_asker(steps in prop::collection::vec(step(), 1..60)) {
        let mut desk = Desk::new(Share::Tenant);
        let mut sessions = Vec::new();
        let mut child = 0;
        for id in 0..3 {
            let (session, own) = desk.legacy(id, 1000);
            (child, _) = (own, sessions.push(session));
        }
        // What the server was asked: our id, and who asked what.
        let mut at_server: Vec<(Value, String)> = Vec::new();
        let mut serial = 0;
        let mut owed: BTreeMap<(usize, u8), String> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Call { session, id } => {
                    serial += 1;
                    let mark = format!("m{serial}");
                    desk.client(sessions[session], &format!(
                        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{mark}"}}}}"#
                    ));
                    if owed.contains_key(&(session, id)) {
                        let heard = desk.client_heard(sessions[session]);
                        prop_assert_eq!(&heard[0]["error"]["code"], &json!(409));
                        continue;
                    }
                    owed.insert((session, id), mark.clone());
                    let mut heard = Vec::new();
                    if desk.exchange.ready_child(sessions[session]).is_none() {
                        child = desk.start();
                        heard = desk.shake(child);
                    }
                    heard.extend(desk.server_heard(child));
                    for line in heard {
                        if line["method"] == "tools/call" {
                            let mark = line["params"]["name"].as_str().expect("a name");
                            at_server.push((line["id"].clone(), mark.to_owned()));
                        }
                    }
                }
                Step::Answer { nth } if !at_server.is_empty() => {
                    let (id, mark) = at_server.remove(nth % at_server.len());
                    desk.server(child, &format!(
                        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"mark": "{mark}"}}}}"#
                    ));
                    for (number, session) in sessions.iter().enumerate() {
                        for line in desk.heard(End::Session(*session)) {
                            let value: Value = serde_json::from_str(&line).expect("JSON");
                            let own = u8::try_from(value["id"].as_u64().expect("an id")).expect("small");
                            let want = format!(r#"{{"jsonrpc":"2.0","id":{own},"result":{{"mark": "{mark}"}}}}"#);
                            prop_assert_eq!(&line, &want);
                            // A cancelled call may still be answered; a live one is owed this.
                            if let Some(due) = owed.get(&(number, own)) {
                                prop_assert_eq!(due, &mark);
                                owed.remove(&(number, own));
                            }
                        }
                    }
                }
                Step::Answer { .. } => {}
                Step::Cancel { session, id } => {
                    desk.client(sessions[session], &format!(
                        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
                    ));
                    owed.remove(&(session, id));
                    desk.server_heard(child);
                }
                Step::Death => {
                    desk.exchange.child_ended(child, "it died", false, desk.now);
                    at_server.clear();
                    for (number, session) in sessions.iter().enumerate() {
                        for line in desk.client_heard(*session) {
                            // Of many deaths in a row the sessions are told: their lists are gone.
                            if line["method"] == "notifications/tools/list_changed" {
                                continue;
                            }
                            let own = u8::try_from(line["id"].as_u64().expect("an id")).expect("small");
                            prop_assert!(owed.remove(&(number, own)).is_some());
                            prop_assert_eq!(&line["error"]["code"], &json!(503));
                        }
                    }
                    prop_assert!(owed.is_empty());
                    // Longer than any pause.
                    desk.now += Duration::from_secs(400);
                }
            }
        }
    }
}
