//! Whatever happens between a server that wants input and the clients that give it, in whatever order.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Desk;
use super::rounds::{NAME, required};
use super::upward::{OFFER, ask};
use crate::config::tenant::Share;
use crate::mux::outbox::{ChildId, End};
use crate::names::SessionId;

proptest! {
    /// Whatever a client answers, whatever the server's state and keys are: both arrive byte for byte.
    #[test]
    fn what_a_client_answers_arrives_byte_for_byte(
        keys in prop::collection::btree_set(any::<String>(), 1..6),
        answers in prop::collection::vec(answer(), 6),
        state in prop::option::of(answer()),
        spaces in "[ \t]{0,3}",
    ) {
        let mut desk = Desk::new(Share::Tenant);
        let (session, child) = desk.upward(1);
        desk.client(session, &ask(json!(1), "tools/call", json!({})));
        let call = desk.only(child);
        let inputs: Vec<_> = keys.iter().map(|key| (key.as_str(), NAME)).collect();
        desk.give(child, &call, &required(&inputs, state.as_deref()));
        let questions = desk.client_heard(session);
        prop_assert_eq!(questions.len(), keys.len());
        for (question, answer) in questions.iter().zip(&answers).rev() {
            let id = &question["id"];
            let line = format!(r#"{{"id":{id},{spaces}"result":{spaces}{answer}{spaces},"jsonrpc":"2.0"}}"#);
            desk.client(session, &line);
        }
        let again = desk.heard(End::Child(child)).remove(0);
        let each: Vec<_> =
            keys.iter().zip(&answers).map(|(key, answer)| format!("{}:{answer}", json!(key))).collect();
        let state = state.map_or(String::new(), |state| format!(r#","requestState":{state}"#));
        let wanted = format!(r#""params":{{"inputResponses":{{{}}}{state},"_meta":"#, each.join(","));
        prop_assert!(again.contains(&wanted), "{}\nlacks\n{}", again, wanted);
    }
}

/// A raw JSON value, also such as no Rust type holds.
fn answer() -> impl Strategy<Value = String> {
    let odd = prop::sample::select(vec![
        "{}".to_owned(),
        r#"{ "n": 1.0e2 , "n": -0 }"#.to_owned(),
        "123456789012345678901234567890".to_owned(),
        r#""\ud83d""#.to_owned(),
        r#"[1,{"inputResponses":{"requestState":null}}]"#.to_owned(),
    ]);
    let text =
        any::<String>().prop_map(|text| json!({"action": "accept", "content": text}).to_string());
    prop_oneof![odd, text]
}

/// What can happen next.
#[derive(Debug, Clone)]
enum Step {
    Call {
        who: usize,
        id: u8,
    },
    /// The server wants input for a call, or answers it.
    Server {
        nth: usize,
        wants: bool,
    },
    /// A client answers one of its questions, perhaps with an error.
    Client {
        who: usize,
        nth: usize,
        fails: bool,
    },
    Cancel {
        who: usize,
        id: u8,
    },
    Death,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize, 0..3_u8).prop_map(|(who, id)| Step::Call { who, id }),
        6 => (0..8_usize, any::<bool>()).prop_map(|(nth, wants)| Step::Server { nth, wants }),
        6 => (0..2_usize, 0..8_usize, prop::bool::weighted(0.1))
            .prop_map(|(who, nth, fails)| Step::Client { who, nth, fails }),
        2 => (0..2_usize, 0..3_u8).prop_map(|(who, id)| Step::Cancel { who, id }),
        1 => Just(Step::Death),
    ]
}

/// Two clients, the server, and what is owed to whom.
struct Stage {
    desk: Desk,
    sessions: [SessionId; 2],
    child: Option<ChildId>,
    /// What the server was asked and has not answered: its id there, and the mark of its call.
    at_server: Vec<(Value, String)>,
    /// The calls that are not answered: of whom, under which id, with which mark.
    owed: BTreeMap<(usize, u8), String>,
    /// What each client was asked: the id of the question, and the mark that it carries.
    questions: [Vec<(Value, String)>; 2],
    serial: usize,
}

impl Stage {
    fn new() -> Self {
        let mut desk = Desk::new(Share::Tenant);
        let (a, child) = desk.upward(1);
        let (b, _) = desk.upward(2);
        Self {
            desk,
            sessions: [a, b],
            child: Some(child),
            at_server: Vec::new(),
            owed: BTreeMap::new(),
            questions: [Vec::new(), Vec::new()],
            serial: 0,
        }
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Call { who, id } => {
                self.serial += 1;
                let mark = format!("m{}", self.serial);
                self.desk.client(
                    self.sessions[who],
                    &ask(json!(id), "tools/call", json!({"name": mark})),
                );
                match self.owed.entry((who, id)) {
                    Entry::Vacant(free) => drop(free.insert(mark)),
                    Entry::Occupied(_) => {
                        let heard = self.desk.client_heard(self.sessions[who]);
                        assert_eq!(heard[0]["error"]["code"], 409, "{heard:?}");
                    }
                }
            }
            Step::Server { nth, wants } if !self.at_server.is_empty() => {
                let (id, mark) = self.at_server.remove(nth % self.at_server.len());
                let Some(child) = self.child else { return };
                let result = if wants {
                    let name = NAME.replace("Your name?", &mark);
                    required(&[("k", &name)], Some(&json!(mark).to_string()))
                } else {
                    json!({"mark": mark}).to_string()
                };
                self.desk.give(child, &json!({"id": id}), &result);
            }
            Step::Client { who, nth, fails } if !self.questions[who].is_empty() => {
                let asked = &mut self.questions[who];
                let (id, mark) = asked.remove(nth % asked.len());
                let said = if fails { "error" } else { "result" };
                let line = json!({"jsonrpc": "2.0", "id": id, said: {"code": 1, "message": "no", "mark": mark}});
                self.desk.client(self.sessions[who], &line.to_string());
            }
            Step::Cancel { who, id } => self.cancel(who, id),
            Step::Death => {
                if let Some(child) = self.child.take() {
                    self.at_server.clear();
                    self.desk.exchange.child_ended(child, "it died", false, self.desk.now);
                    // Longer than any pause.
                    self.desk.now += Duration::from_secs(400);
                }
            }
            Step::Server { .. } | Step::Client { .. } => {}
        }
    }

    fn cancel(&mut self, who: usize, id: u8) {
        let params = json!({"requestId": id});
        let line = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
        self.desk.client(self.sessions[who], &line.to_string());
        self.owed.remove(&(who, id));
    }

    /// Hears everybody out: each line is for who hears it, and none is owed to nobody.
    fn listen(&mut self) {
        let Self { desk, child, .. } = self;
        let wanted = desk.exchange.sessions.values().any(|session| !session.waiting.is_empty());
        if child.is_none() && wanted {
            desk.exchange.tick(desk.now);
            *child = Some(desk.discovered(OFFER));
        }
        for line in child.map(|child| self.desk.server_heard(child)).unwrap_or_default() {
            let mark = line["params"]["name"].as_str().unwrap_or_default().to_owned();
            match line["method"].as_str() {
                Some("tools/call") => {
                    // Whatever a client answered stands beside the call that it was asked for.
                    let answer = &line["params"]["inputResponses"]["k"]["mark"];
                    assert!(answer.is_null() || *answer == json!(mark), "{line}");
                    assert_eq!(answer.is_null(), line["params"].get("requestState").is_none());
                    self.at_server.push((line["id"].clone(), mark));
                }
                Some("notifications/cancelled") => {
                    self.at_server.retain(|(id, _)| *id != line["params"]["requestId"]);
                }
                _ => {}
            }
        }
        for who in 0..2 {
            for line in self.desk.heard(End::Session(self.sessions[who])) {
                let line: Value = serde_json::from_str(&line).expect("JSON");
                self.hear(who, &line);
            }
        }
    }

    fn hear(&mut self, who: usize, line: &Value) {
        match line["method"].as_str() {
            Some("elicitation/create") => {
                let mark = line["params"]["message"].as_str().expect("a mark").to_owned();
                let own = self.owed.iter().any(|((of, _), owed)| *of == who && *owed == mark);
                assert!(own, "asked for a call that is not open: {line}");
                self.questions[who].push((line["id"].clone(), mark));
            }
            Some("notifications/cancelled") => {
                self.questions[who].retain(|(id, _)| *id != line["params"]["requestId"]);
            }
            Some(_) => {}
            None => {
                let id = u8::try_from(line["id"].as_u64().expect("an id")).expect("small");
                let mark = self.owed.remove(&(who, id));
                assert!(mark.is_some(), "an answer that nobody is owed: {line}");
                if let Some(given) = line["result"]["mark"].as_str() {
                    assert_eq!(mark.as_deref(), Some(given));
                }
            }
        }
    }
}

proptest! {
    /// Each call is answered once, to its own client; each question is asked of the client whose call it
    /// is for, and what that one says goes with that call, also to the next server.
    #[test]
    fn rounds_of_two_clients_never_meet(steps in prop::collection::vec(step(), 1..80)) {
        let mut stage = Stage::new();
        for step in steps {
            stage.play(step);
            stage.listen();
        }
        // Everybody says what is left to say: then nothing is owed.
        for _ in 0..100 {
            stage.play(Step::Client { who: 0, nth: 0, fails: false });
            stage.play(Step::Client { who: 1, nth: 0, fails: false });
            stage.play(Step::Server { nth: 0, wants: false });
            stage.listen();
        }
        prop_assert!(stage.owed.is_empty(), "{:?}", stage.owed);
        for session in stage.sessions {
            let session = &stage.desk.exchange.sessions[&session];
            prop_assert!(!session.is_owed() && session.asks.is_empty());
        }
    }
}
