//! Requests of a legacy client for which a modern server wants input first (2026-07-28, basic/patterns/mrtr).
//!
//! A modern server does not ask: it answers that it needs input, and forgets. Here that answer becomes
//! the requests that a legacy client knows, and the client's own line goes to the server again with what
//! it answered, under the client's own id, as often as the server wants more. To the client it is one
//! request. Between two rounds nothing of it is at the server, so a server may die meanwhile.

use std::rc::Rc;
use std::time::Instant;

use rustc_hash::FxHashMap;
use serde_json::value::RawValue;

use super::input::{Question, Required, refused, resent};
use crate::mcp::envelope::{Envelope, members};
use crate::mcp::error::{Code, Failure};
use crate::mux::abilities::needed;
use crate::mux::child::{Owner, Pending};
use crate::mux::exchange::{Exchange, LONGEST_LINE};
use crate::mux::flight::LONGEST_REQUEST;
use crate::mux::outbox::ChildId;
use crate::mux::request::{Request, reread};
use crate::mux::server::Answer;
use crate::mux::session::{Ask, Asker, Raw, Session};
use crate::mux::timers::Timer;
use crate::names::SessionId;

/// How often a server may want input for one request: no form has more pages, and a server that always
/// wants more is stopped.
const ROUNDS: u32 = 32;
/// How many requests of one session may wait for input at once.
pub(in crate::mux) const OPEN: usize = 64;
/// What one session may keep for requests that may have to be sent again, bytes, at the server and again
/// while its client is asked: one longest line and as much again.
pub(in crate::mux) const KEPT: usize = 2 * LONGEST_LINE;
/// A line up to this length is kept in any case, bytes: as many as may be in flight come to 16 MiB.
const SHORT: usize = 4096;

/// The requests of one session that wait for its client's answers, by the client's id.
#[derive(Debug, Default)]
pub(in crate::mux) struct Rounds {
    open: FxHashMap<Raw, Round>,
    /// An alarm is set: one for all of them, since most are over long before.
    armed: bool,
}

/// One of them.
#[derive(Debug)]
struct Round {
    /// The client's own line.
    line: Rc<[u8]>,
    /// The server's raw `requestState`.
    state: Option<Box<RawValue>>,
    inputs: Vec<Input>,
    /// How often the server has wanted input for it.
    number: u32,
    until: Instant,
}

/// What the client was asked.
#[derive(Debug)]
struct Input {
    key: Box<str>,
    /// Our id of the question.
    ask: u64,
    answer: Option<Box<RawValue>>,
}

impl Rounds {
    /// Whether none is open.
    pub(in crate::mux) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether the client's request with this id is one of them.
    pub(in crate::mux) fn has(&self, raw_id: &[u8]) -> bool {
        self.open.contains_key(raw_id)
    }

    /// The client's ids of those that are open.
    pub(in crate::mux) fn open(&self) -> impl Iterator<Item = &Raw> {
        self.open.keys()
    }

    /// How many bytes they keep.
    pub(in crate::mux) fn bytes(&self) -> usize {
        self.open.values().map(Round::bytes).sum()
    }
}

impl Round {
    fn bytes(&self) -> usize {
        let raw = |raw: &Option<Box<RawValue>>| raw.as_ref().map_or(0, |raw| raw.get().len());
        let inputs = self.inputs.iter().map(|input| input.key.len() + raw(&input.answer));
        self.line.len() + raw(&self.state) + inputs.sum::<usize>()
    }

    /// The request again, with what the client answered.
    fn resent(&self) -> Option<Vec<u8>> {
        let inputs = self.inputs.iter();
        let answered: Vec<_> =
            inputs.map(|it| Some((&*it.key, it.answer.as_deref()?))).collect::<Option<_>>()?;
        resent(&self.line, &answered, self.state.as_deref())
    }
}

impl Exchange {
    /// Whether a request can be kept for another round.
    pub(super) fn can_keep(&self, id: SessionId, child: ChildId, request: &Request<'_>) -> bool {
        let length = request.line.len();
        let (Some(session), Some(child)) = (self.sessions.get(&id), self.children.get(&child))
        else {
            return false;
        };
        let kept = || {
            let pending = session.in_flight.values().filter_map(|ours| child.pending.get(ours));
            pending.filter_map(|pending| Some(pending.kept.as_ref()?.len())).sum::<usize>()
        };
        length <= SHORT || length + kept() <= KEPT
    }

    /// The server wants input before it answers.
    pub(super) fn open_round(
        &mut self,
        child: ChildId,
        id: SessionId,
        pending: &Pending,
        result: &RawValue,
    ) -> Answer {
        if pending.cancelled {
            return Answer::Later;
        }
        match self.start_round(child, id, pending, result) {
            Ok(()) => Answer::Later,
            Err(failure) => Answer::Refuse(failure),
        }
    }

    fn start_round(
        &mut self,
        child: ChildId,
        id: SessionId,
        pending: &Pending,
        result: &RawValue,
    ) -> Result<(), Failure> {
        let Owner::Session { raw_id, .. } = &pending.owner else {
            return Err(refused("nobody asked"));
        };
        if !pending.method.may_need_input() {
            return Err(refused("it must not for this method"));
        }
        let number = pending.rounds + 1;
        if number > ROUNDS {
            return Err(refused(&format!("it has had it {ROUNDS} times")));
        }
        let Some(line) = pending.kept.clone() else {
            return Err(refused("the request is too large to be sent again with it"));
        };
        let required = Required::read(result)?;
        let state = required.state.map(ToOwned::to_owned);
        let until = self.now + LONGEST_REQUEST;
        let mut round = Round { line, state, inputs: Vec::new(), number, until };
        if required.questions.is_empty() {
            self.resend(id, raw_id, &round);
            return Ok(());
        }
        let session = self.sessions.get_mut(&id).ok_or_else(|| refused("the client is gone"))?;
        can_answer(session, &required.questions)?;
        if session.rounds.open.len() >= OPEN || session.rounds.bytes() + round.bytes() > KEPT {
            return Err(too_many());
        }
        let lines = put(session, child, raw_id, &mut round, &required.questions)?;
        session.rounds.open.insert(raw_id.clone(), round);
        if !std::mem::replace(&mut session.rounds.armed, true) {
            self.timers.set(until, Timer::Rounds(id));
        }
        for line in lines {
            self.send(id, |out| out.extend_from_slice(&line));
        }
        Ok(())
    }

    /// The client has answered one of the questions for a request of its own.
    pub(in crate::mux) fn round_answered(
        &mut self,
        id: SessionId,
        request: &[u8],
        key: &str,
        answer: &Envelope<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let room = KEPT.saturating_sub(session.rounds.bytes());
        let Some(round) = session.rounds.open.get_mut(request) else { return };
        let (Some(input), Some(result), None) =
            (round.inputs.iter_mut().find(|it| *it.key == *key), answer.result, answer.error)
        else {
            let failure = declined(key, answer.error);
            return self.end_round(id, request, Some(&failure));
        };
        if result.get().len() > room {
            return self.end_round(id, request, Some(&too_many()));
        }
        input.answer = Some(result.to_owned());
        if round.inputs.iter().any(|input| input.answer.is_none()) {
            return;
        }
        if let Some((raw_id, round)) = session.rounds.open.remove_entry(request) {
            self.resend(id, &raw_id, &round);
            self.close_if_done(id);
        }
    }

    /// Sends a request again, with what its server wants.
    fn resend(&mut self, id: SessionId, raw_id: &[u8], round: &Round) {
        let Some(line) = round.resent() else { return };
        if let Some(session) = self.sessions.get_mut(&id) {
            // It is counted again where it goes: to its client it is one call.
            session.calls = session.calls.saturating_sub(1);
            self.counters.calls = self.counters.calls.saturating_sub(1);
        }
        reread(&line, |request| self.pass_or_wait(id, request, self.now));
        // One that has to wait for a server counts anew: deaths have pauses of their own.
        let Some(session) = self.sessions.get(&id) else { return };
        let Some(ours) = session.in_flight.get(raw_id) else { return };
        let child = session.child.and_then(|child| self.children.get_mut(&child));
        if let Some(pending) = child.and_then(|child| child.pending.get_mut(ours)) {
            pending.rounds = round.number;
            // What was answered before is not said again.
            pending.kept = Some(round.line.clone());
        }
    }

    /// The client does not want its request any more: whether it was one that waits for input.
    pub(in crate::mux) fn cancel_round(&mut self, id: SessionId, raw_id: &[u8]) -> bool {
        let open = self.sessions.get(&id).is_some_and(|session| session.rounds.has(raw_id));
        if open {
            self.end_round(id, raw_id, None);
        }
        open
    }

    /// Ends a request between two rounds: what the client is still asked is taken back.
    fn end_round(&mut self, id: SessionId, raw_id: &[u8], failure: Option<&Failure>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(round) = session.rounds.open.remove(raw_id) else { return };
        let asks = round.inputs.iter().map(|input| input.ask);
        let open: Vec<u64> = asks.filter(|ask| session.asks.remove(ask).is_some()).collect();
        for ask in open {
            let params = serde_json::json!({"requestId": ask, "reason": "its request is over"});
            let line = crate::mcp::era::notification("notifications/cancelled", Some(&params));
            self.send(id, |out| out.extend_from_slice(&line));
        }
        if let Some(failure) = failure {
            self.refuse(id, Some(raw_id), failure);
        }
        self.close_if_done(id);
    }

    /// The client says nothing any more: no question of its requests will be answered.
    pub(in crate::mux) fn end_rounds(&mut self, id: SessionId) {
        self.end_those(id, &refused("the client's input has ended"), |_| true);
    }

    /// Nobody is asked for longer than a request may take.
    pub(in crate::mux) fn rounds_due(&mut self, id: SessionId, now: Instant) {
        let late = Failure::new(
            Code::TimedOut,
            "timed-out",
            "the client did not give the input that the server wants in time",
        );
        self.end_those(id, &late, |round| round.until <= now);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let next = session.rounds.open.values().map(|round| round.until).min();
        session.rounds.armed = next.is_some();
        if let Some(next) = next {
            self.timers.set(next, Timer::Rounds(id));
        }
    }

    fn end_those(&mut self, id: SessionId, failure: &Failure, which: impl Fn(&Round) -> bool) {
        let Some(session) = self.sessions.get(&id) else { return };
        let rounds = session.rounds.open.iter().filter(|(_, round)| which(round));
        let over: Vec<Raw> = rounds.map(|(raw_id, _)| raw_id.clone()).collect();
        for raw_id in over {
            self.end_round(id, &raw_id, Some(failure));
        }
    }
}

/// Notes each question with an id of ours; gives the requests that the client gets.
fn put(
    session: &mut Session,
    child: ChildId,
    raw_id: &Raw,
    round: &mut Round,
    questions: &[Question<'_>],
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut lines = Vec::new();
    for question in questions {
        let key = question.key.as_str();
        let asker = Asker::Round { request: raw_id.clone(), key: key.into() };
        let Some(ask) = session.ask(Ask { child, asker }) else {
            round.inputs.iter().for_each(|input| drop(session.asks.remove(&input.ask)));
            return Err(too_many());
        };
        round.inputs.push(Input { key: key.into(), ask, answer: None });
        lines.push(question.line(ask));
    }
    Ok(lines)
}

/// Whether a client can be asked all of that; what it lacks, in the specification's words.
fn can_answer(session: &Session, questions: &[Question<'_>]) -> Result<(), Failure> {
    let mut lacks: Vec<&str> = Vec::new();
    for question in questions {
        let Some(needs) = needed(&question.method) else {
            return Err(refused("no client is asked for that"));
        };
        let name = question.method.split('/').next().unwrap_or_default();
        if !session.able.has(needs) && !lacks.contains(&name) {
            lacks.push(name);
        }
    }
    if session.ended {
        return Err(refused("the client's input has ended"));
    }
    if lacks.is_empty() {
        return Ok(());
    }
    let required = lacks.iter().map(|name| format!("\"{name}\":{{}}")).collect::<Vec<_>>();
    let said = format!("the request needs a capability of its client: {}", lacks.join(", "));
    Err(Failure::new(Code::MissingCapability, "capability", said)
        .with(format!("\"requiredCapabilities\":{{{}}}", required.join(","))))
}

/// There is no place for an error among the answers that a server gets.
fn declined(key: &str, error: Option<&RawValue>) -> Failure {
    #[derive(serde::Deserialize)]
    struct Said {
        message: String,
    }
    let said = error.and_then(|error| members::<Said>(error).ok()).map(|said| said.message);
    let said: String = said.unwrap_or_default().chars().take(300).collect();
    let key: String = key.chars().take(80).collect();
    refused(&format!("the client answered {key:?} with an error: {said}"))
}

fn too_many() -> Failure {
    Failure::new(
        Code::TooMany,
        "input",
        "too much of this session waits for its client's input already",
    )
}
