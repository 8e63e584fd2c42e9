//! The exchange under whatever order of events: each answer reaches exactly its asker, once, byte for byte.
//!
//! A model beside the exchange says who is owed what. Sessions of both eras come and go on a server of
//! either era, with ids and tokens that collide on purpose; the server answers in any order, reports
//! progress, and dies. After every step each session must have heard what the model says, and no more.

use proptest::prelude::*;

use super::*;
use crate::mcp::era::Era;
use crate::wire::Farewell;

/// How many sessions there may be at a time.
const SESSIONS: usize = 4;
/// Ids and tokens as clients write them: several of them one number or one text to a careless reader.
const RAW: [&str; 7] =
    ["0", "1", "\"1\"", "-1", "123456789012345678901234567890", r#""a\u0062""#, r#""\ud83d""#];

#[derive(Debug, Clone)]
enum Step {
    Open { session: usize, modern: bool },
    Close { session: usize },
    Call { session: usize, id: usize, token: Option<usize> },
    Answer { nth: usize, error: bool },
    Progress { nth: usize },
    Cancel { session: usize, id: usize },
    Death,
}

fn step() -> impl Strategy<Value = Step> {
    let session = 0..SESSIONS;
    let id = 0..RAW.len();
    prop_oneof![
        2 => (session.clone(), any::<bool>()).prop_map(|(session, modern)| Step::Open { session, modern }),
        1 => session.clone().prop_map(|session| Step::Close { session }),
        8 => (session.clone(), id.clone(), prop::option::of(id.clone()))
            .prop_map(|(session, id, token)| Step::Call { session, id, token }),
        6 => (0..8_usize, any::<bool>()).prop_map(|(nth, error)| Step::Answer { nth, error }),
        3 => (0..8_usize).prop_map(|nth| Step::Progress { nth }),
        2 => (session, id).prop_map(|(session, id)| Step::Cancel { session, id }),
        1 => Just(Step::Death),
    ]
}

/// A call that a server has, as the model knows it.
#[derive(Debug, Clone)]
struct Call {
    /// What the server calls it, and its token.
    at_server: (Value, Value),
    mark: String,
    asker: SessionId,
    id: &'static str,
    token: Option<&'static str>,
    cancelled: bool,
}

/// The exchange, and what must be true of it.
struct World {
    desk: Desk,
    server: Era,
    child: ChildId,
    sessions: [Option<(SessionId, Era)>; SESSIONS],
    calls: Vec<Call>,
    serial: u64,
}

impl World {
    fn new(server: Era) -> Self {
        let desk = Desk::new(Share::Tenant);
        Self { desk, server, child: 0, sessions: [None; SESSIONS], calls: Vec::new(), serial: 0 }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Open { session, modern } => self.open(session, modern),
            Step::Close { session } => self.close(session),
            Step::Call { session, id, token } => {
                self.call(session, RAW[id], token.map(|token| RAW[token]))
            }
            Step::Answer { nth, error } => self.answer(nth, error),
            Step::Progress { nth } => self.progress(nth),
            Step::Cancel { session, id } => self.cancel(session, RAW[id]),
            Step::Death => self.death(),
        }
    }

    fn open(&mut self, number: usize, modern: bool) -> Result<(), TestCaseError> {
        if self.sessions[number].is_some() {
            return Ok(());
        }
        self.serial += 1;
        let session = self.desk.open(self.serial, 1000 + u32::try_from(number).expect("small"));
        let era = if modern { Era::Modern } else { Era::Legacy };
        self.sessions[number] = Some((session, era));
        if era == Era::Legacy {
            self.desk.initialize(session);
            self.serve();
            let heard = self.desk.client_heard(session);
            prop_assert_eq!(&heard[0]["result"]["serverInfo"]["name"], "s");
            let done = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
            self.desk.client(session, done);
        }
        self.nobody_hears()
    }

    fn close(&mut self, number: usize) -> Result<(), TestCaseError> {
        let Some((session, _)) = self.sessions[number].take() else { return Ok(()) };
        self.desk.exchange.close_session(session, Farewell { reason: String::new(), code: 0 });
        self.nobody_hears()
    }

    /// Starts the server where it is asked for, greets it, and takes what it hears of calls.
    fn serve(&mut self) {
        self.desk.acts();
        if !self.desk.asked.is_empty() {
            self.child = self.desk.start();
        }
        // The handshake may take a probe, an `initialize`, and then the calls that waited.
        for _ in 0..3 {
            for line in self.desk.server_heard(self.child) {
                self.serve_one(&line);
            }
        }
    }

    fn serve_one(&mut self, line: &Value) {
        let (id, params) = (&line["id"], &line["params"]);
        let answer = match (line["method"].as_str(), self.server) {
            (Some("server/discover"), Era::Modern) => discovery(id),
            (Some("server/discover"), Era::Legacy) => {
                json!({"jsonrpc":"2.0","id":id,"error":{"code":-32601,"message":"?"}}).to_string()
            }
            (Some("initialize"), Era::Legacy) => json!({"jsonrpc":"2.0","id":id,"result":{
                "protocolVersion":"2025-11-25","capabilities":{"tools":{}},
                "serverInfo":{"name":"s","version":"1"}}})
            .to_string(),
            (Some("tools/call"), _) => {
                let mark = params["name"].as_str().expect("a name");
                let call = self.calls.iter_mut().find(|call| call.mark == mark);
                let call = call.expect("a call that somebody made");
                assert!(call.at_server.0.is_null(), "a call came twice");
                call.at_server = (id.clone(), params["_meta"]["progressToken"].clone());
                return;
            }
            _ => return,
        };
        self.desk.server(self.child, &answer);
    }

    fn call(
        &mut self,
        number: usize,
        id: &'static str,
        token: Option<&'static str>,
    ) -> Result<(), TestCaseError> {
        let Some((session, era)) = self.sessions[number] else { return Ok(()) };
        self.serial += 1;
        let mark = format!("m{}", self.serial);
        let envelope = if era == Era::Modern { META } else { "" };
        let token_member = token.map(|token| format!(r#""progressToken":{token}"#));
        let meta = [envelope, token_member.as_deref().unwrap_or_default()];
        let meta: Vec<_> = meta.into_iter().filter(|part| !part.is_empty()).collect();
        self.desk.client(
            session,
            &format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{mark}","_meta":{{{}}}}}}}"#,
                meta.join(",")
            ),
        );
        if self.has_open(session, id) {
            let heard = self.desk.heard(End::Session(session));
            let start = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":409"#);
            prop_assert!(heard.len() == 1 && heard[0].starts_with(&start), "{:?}", heard);
            return self.nobody_hears();
        }
        let at_server = (Value::Null, Value::Null);
        self.calls.push(Call { at_server, mark, asker: session, id, token, cancelled: false });
        self.serve();
        let call = self.calls.last().expect("it was pushed");
        prop_assert!(!call.at_server.0.is_null(), "the server did not hear the call");
        prop_assert_eq!(call.at_server.1.is_null(), token.is_none());
        self.nobody_hears()
    }

    fn has_open(&self, session: SessionId, id: &str) -> bool {
        let same = |call: &&Call| call.asker == session && call.id == id && !call.cancelled;
        self.calls.iter().any(|call| same(&call))
    }

    fn is_there(&self, session: SessionId) -> bool {
        self.sessions.iter().flatten().any(|(id, _)| *id == session)
    }

    /// An answer goes to its asker with its own id; of a call that was given up only while the id is free.
    fn answer(&mut self, nth: usize, error: bool) -> Result<(), TestCaseError> {
        if self.calls.is_empty() {
            return Ok(());
        }
        let call = self.calls.remove(nth % self.calls.len());
        let (id, mark) = (&call.at_server.0, &call.mark);
        // Odd on purpose: whatever is not ours to change has to come back like this.
        let odd = format!(r#""n":1.0e2 , "u":"\ud83d","mark": "{mark}""#);
        let result = match self.server {
            Era::Modern => format!(r#"{{"resultType":"complete",{odd}}}"#),
            Era::Legacy => format!("{{{odd}}}"),
        };
        let body = if error {
            format!(r#""error":{{"code":-32000,"message":"no","data":{{{odd}}}}}"#)
        } else {
            format!(r#""result":{result}"#)
        };
        self.desk.server(self.child, &format!(r#"{{"jsonrpc":"2.0","id":{id},{body}}}"#));
        let reused = call.cancelled && self.has_open(call.asker, call.id);
        if self.is_there(call.asker) && !reused {
            let heard = self.desk.heard(End::Session(call.asker));
            prop_assert_eq!(heard.len(), 1, "{:?} of {:?}", heard, call);
            let start = format!(r#"{{"jsonrpc":"2.0","id":{},"#, call.id);
            prop_assert!(heard[0].starts_with(&start), "{} of {:?}", heard[0], call);
            prop_assert!(heard[0].contains(&odd), "{} of {:?}", heard[0], call);
            if error || self.era(call.asker) == Some(self.server) {
                prop_assert_eq!(&heard[0], &format!("{start}{body}}}"));
            } else {
                let modern = self.era(call.asker) == Some(Era::Modern);
                prop_assert_eq!(heard[0].contains(r#""resultType":"complete""#), modern);
            }
        }
        self.nobody_hears()
    }

    fn era(&self, session: SessionId) -> Option<Era> {
        self.sessions.iter().flatten().find(|(id, _)| *id == session).map(|(_, era)| *era)
    }

    fn progress(&mut self, nth: usize) -> Result<(), TestCaseError> {
        if self.calls.is_empty() {
            return Ok(());
        }
        let call = self.calls[nth % self.calls.len()].clone();
        let Some(token) = call.token else { return Ok(()) };
        let line = |token: &str| {
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":1.0e0,"progressToken":{token}}}}}"#
            )
        };
        self.desk.server(self.child, &line(&call.at_server.1.to_string()));
        if self.is_there(call.asker) {
            let heard = self.desk.heard(End::Session(call.asker));
            prop_assert_eq!(heard, vec![line(token)]);
        }
        self.nobody_hears()
    }

    /// The server hears of it under its own id; only where it was this session's to cancel.
    fn cancel(&mut self, number: usize, id: &'static str) -> Result<(), TestCaseError> {
        let Some((session, _)) = self.sessions[number] else { return Ok(()) };
        self.desk.server_heard(self.child);
        self.desk.client(
            session,
            &format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            ),
        );
        let mut expected = Vec::new();
        for call in &mut self.calls {
            if call.asker == session && call.id == id && !call.cancelled {
                call.cancelled = true;
                expected.push(call.at_server.0.clone());
            }
        }
        let heard = self.desk.server_heard(self.child);
        let heard: Vec<_> = heard.iter().map(|line| line["params"]["requestId"].clone()).collect();
        prop_assert_eq!(heard, expected);
        self.nobody_hears()
    }

    /// Who waits is told with its own id; nobody else hears anything but that lists may have changed.
    fn death(&mut self) -> Result<(), TestCaseError> {
        if self.desk.exchange.children.is_empty() {
            return Ok(());
        }
        self.desk.exchange.child_ended(self.child, "it died", false, self.desk.now);
        let calls = std::mem::take(&mut self.calls);
        for (session, _) in self.sessions.iter().flatten() {
            let heard = self.desk.heard(End::Session(*session));
            let mut heard: Vec<_> =
                heard.into_iter().filter(|line| !line.contains("list_changed")).collect();
            for call in calls.iter().filter(|call| call.asker == *session && !call.cancelled) {
                let start = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{{"code":503"#, call.id);
                let at = heard.iter().position(|line| line.starts_with(&start));
                prop_assert!(at.is_some(), "{:?} was not told: {:?}", call, heard);
                heard.remove(at.expect("just looked"));
            }
            prop_assert!(heard.is_empty(), "{:?}", heard);
        }
        // Longer than any pause.
        self.desk.now += Duration::from_secs(400);
        Ok(())
    }

    /// Whatever was to be heard has been taken: more is somebody else's.
    fn nobody_hears(&mut self) -> Result<(), TestCaseError> {
        for (session, _) in self.sessions.iter().flatten() {
            let heard = self.desk.heard(End::Session(*session));
            prop_assert!(heard.is_empty(), "session {} heard {:?}", session, heard);
        }
        Ok(())
    }
}

fn run(server: Era, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(server);
    for step in steps {
        world.take(step)?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn every_answer_of_a_legacy_server_reaches_exactly_its_asker(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        run(Era::Legacy, &steps)?;
    }

    #[test]
    fn every_answer_of_a_modern_server_reaches_exactly_its_asker(
        steps in prop::collection::vec(step(), 1..80)
    ) {
        run(Era::Modern, &steps)?;
    }
}
