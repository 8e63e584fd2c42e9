//! The calls that wait at one legacy server for their retry: data and small questions, no rules.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::mcp::error::Failure;
use crate::mux::abilities::{Abilities, needed};
use crate::mux::exchange::LONGEST_LINE;
use crate::mux::session::Raw;
use crate::names::SessionId;

/// Questions that one call may have open.
pub(in crate::mux) const QUESTIONS: usize = 16;
/// What is kept for the calls that wait at one child, bytes: questions and answers.
pub(in crate::mux) const BYTES: usize = 4 * LONGEST_LINE;

/// The calls that wait at one child.
#[derive(Debug, Default)]
pub(in crate::mux) struct HeldCalls {
    pub(super) calls: BTreeMap<u64, HeldCall>,
    next: u64,
}

/// A call that waits for its retry.
#[derive(Debug)]
pub(super) struct HeldCall {
    pub(super) uid: u32,
    /// The session that it was last asked on.
    pub(super) home: SessionId,
    /// Its id at the server.
    pub(super) id: u64,
    /// What its client can be asked for.
    pub(super) able: Abilities,
    pub(super) round: u64,
    pub(super) expires: Instant,
    pub(super) questions: Vec<Question>,
    next_key: u64,
    /// What the server has answered meanwhile.
    pub(super) answer: Option<Kept>,
}

/// What a server asks for a call.
#[derive(Debug)]
pub(in crate::mux) struct Question {
    pub(super) key: String,
    pub(super) raw_id: Raw,
    pub(super) method: Box<str>,
    params: Option<Box<str>>,
}

/// An answer that waits.
#[derive(Debug)]
pub(super) enum Kept {
    Line(Box<[u8]>),
    Failure(Failure),
}

impl Question {
    /// A server's request.
    pub(in crate::mux) fn new(raw_id: &[u8], method: &str, params: Option<&RawValue>) -> Self {
        let params = params.map(|params| params.get().into());
        Self { key: String::new(), raw_id: raw_id.into(), method: method.into(), params }
    }

    pub(super) fn bytes(&self) -> usize {
        self.raw_id.len() + self.method.len() + self.params.as_deref().map_or(0, str::len)
    }

    /// Writes it as a member of `inputRequests`.
    pub(super) fn write(&self, out: &mut String) {
        out.push_str(&format!(r#""{}":{{"method":{}"#, self.key, Value::from(&*self.method)));
        if let Some(params) = &self.params {
            out.push_str(r#","params":"#);
            out.push_str(params);
        }
        out.push('}');
    }
}

impl HeldCall {
    /// A call of that user's in flight on that session, with what the server asks for it.
    pub(super) fn new(
        (uid, home): (u32, SessionId),
        (id, able): (u64, Abilities),
        mut question: Question,
        expires: Instant,
    ) -> Self {
        question.key = "1".to_owned();
        let questions = vec![question];
        Self { uid, home, id, able, round: 0, expires, questions, next_key: 2, answer: None }
    }

    fn bytes(&self) -> usize {
        let kept = match &self.answer {
            Some(Kept::Line(line)) => line.len(),
            Some(Kept::Failure(_)) | None => 0,
        };
        kept + self.questions.iter().map(Question::bytes).sum::<usize>()
    }

    /// Whether one more may be asked for it.
    pub(super) fn has_room(&self) -> bool {
        self.questions.len() < QUESTIONS
    }

    /// Adds a question, under a key of its own.
    pub(super) fn add(&mut self, mut question: Question) {
        question.key = self.next_key.to_string();
        self.next_key += 1;
        self.questions.push(question);
    }
}

impl HeldCalls {
    /// How many there are, the most questions of one, and how many bytes are kept.
    #[cfg(any(test, fuzzing))]
    pub(in crate::mux) fn size(&self) -> (usize, usize, usize) {
        let questions = self.calls.values().map(|call| call.questions.len()).max();
        let bytes = self.calls.values().map(HeldCall::bytes).sum();
        (self.calls.len(), questions.unwrap_or_default(), bytes)
    }

    /// When the last of them will have waited long enough.
    pub(in crate::mux) fn until(&self) -> Option<Instant> {
        self.calls.values().map(|call| call.expires).max()
    }

    /// The session that a call was last asked on, which may be over.
    pub(in crate::mux) fn home(&self, held: u64) -> Option<SessionId> {
        self.calls.get(&held).map(|call| call.home)
    }

    /// Whether the server still works on a call that was last asked on this session.
    pub(in crate::mux) fn has_any_of(&self, session: SessionId) -> bool {
        self.open().any(|(_, call)| call.home == session)
    }

    /// The calls whose clients can be asked for that: their number, and whose they are.
    pub(in crate::mux) fn able(&self, method: &str) -> Vec<(u64, SessionId)> {
        let able = |call: &HeldCall| needed(method).is_some_and(|needs| call.able.has(needs));
        self.open().filter(|(_, call)| able(call)).map(|(held, call)| (*held, call.home)).collect()
    }

    /// Those that the server has not answered.
    fn open(&self) -> impl Iterator<Item = (&u64, &HeldCall)> {
        self.calls.iter().filter(|(_, call)| call.answer.is_none())
    }

    /// Takes a call in; gives its number.
    pub(super) fn insert(&mut self, call: HeldCall) -> u64 {
        let held = self.next;
        self.next += 1;
        self.calls.insert(held, call);
        held
    }

    /// Whether so much more may be kept.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        bytes + self.calls.values().map(HeldCall::bytes).sum::<usize>() <= BYTES
    }
}
