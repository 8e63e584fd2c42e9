//! Requests of a modern client on a legacy server that wait for their retry, because the server has asked
//! the client something.
//!
//! ```text
//!   client          mux                    server
//!     | -- call ---> | ------- call -------> |
//!     |              | <------ asks -------- |   the call stays open, held here
//!     | <- input_required, requestState      |
//!     | -- retry --> | ------ answers -----> |   the call is the retry's now
//!     | <- result -- | <------ result ------ |
//! ```
//!
//! A held call belongs to a user, not to a connection: the retry may come on another one. Whatever is
//! wrong with a retry, it hears the same, and what is held is not disturbed by it.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::downward::{complete, renumber, wanted_level};
use super::seal::{Claim, digest};
use super::waiting_calls::{HeldCall, Kept, Question};
use crate::mcp::envelope::{Envelope, text};
use crate::mcp::era;
use crate::mcp::error::{Code, Failure};
use crate::mcp::method::Method;
use crate::mcp::splice::{Splice, raw_members};
use crate::mux::abilities::{Abilities, needed};
use crate::mux::exchange::Exchange;
use crate::mux::flight::{LONGEST_REQUEST, Resumed};
use crate::mux::outbox::{ChildId, End};
use crate::mux::request::Request;
use crate::mux::server::Answer;
use crate::mux::timers::Timer;
use crate::names::SessionId;

/// How long a call waits for its retry: a person may be away for a while.
const HELD_FOR: Duration = LONGEST_REQUEST;
/// Calls of one user that wait at once: more than anybody has questions open.
const OF_ONE_USER: usize = 64;
/// Calls that wait at one child at once.
const OF_ONE_CHILD: usize = 256;

impl Exchange {
    /// A server asks the client of a call in flight for something: the client gets that as its result, and
    /// the call waits for the retry.
    pub(in crate::mux) fn hold_call(
        &mut self,
        child: ChildId,
        (session, id): (SessionId, u64),
        question: Question,
    ) {
        let Some(uid) = self.sessions.get(&session).map(|session| session.holder.uid) else {
            return;
        };
        let of_user = |call: &&HeldCall| call.uid == uid;
        let all = self.children.values().flat_map(|child| child.held.calls.values());
        let too_many = all.filter(of_user).count() >= OF_ONE_USER;
        let Some(at) = self.children.get_mut(&child) else { return };
        if self.draining.is_some() || at.stopping {
            return self.refuse_question(child, &question, stopping());
        }
        let full = at.held.calls.len() >= OF_ONE_CHILD || !at.held.has_room(question.bytes());
        if too_many || full {
            return self.refuse_question(child, &question, unanswered());
        }
        let able = at.pending.get(&id).map(|pending| pending.able).unwrap_or_default();
        let expires = self.now + HELD_FOR;
        let call = HeldCall::new((uid, session), (id, able), question, expires);
        let held = at.held.insert(call);
        self.timers.set(expires, Timer::Held(child, held));
        if let Some(raw_id) = self.hold(child, id, held) {
            self.ask_for_input(child, held, session, &raw_id);
        }
        self.close_if_done(session);
    }

    /// A server asks something more while a call waits: the next retry hears it.
    pub(in crate::mux) fn queue_question(&mut self, child: ChildId, held: u64, question: Question) {
        let Some(at) = self.children.get_mut(&child) else { return };
        let room = at.held.has_room(question.bytes());
        let call = at.held.calls.get_mut(&held).filter(|call| room && call.has_room());
        match call {
            Some(call) => call.add(question),
            None => self.refuse_question(child, &question, unanswered()),
        }
    }

    fn refuse_question(&mut self, child: ChildId, question: &Question, failure: Failure) {
        self.refuse_child(child, &question.raw_id, &failure);
    }

    /// Answers a call, or its retry, with all that is asked for it.
    fn ask_for_input(&mut self, child: ChildId, held: u64, session: SessionId, raw_id: &[u8]) {
        let Some(at) = self.children.get_mut(&child) else { return };
        let Some(call) = at.held.calls.get_mut(&held) else { return };
        let Some(pending) = at.pending.get(&call.id) else { return };
        call.round += 1;
        call.home = session;
        call.expires = self.now + HELD_FOR;
        let Some(digest) = pending.digest else { return };
        let method = pending.method;
        let claim = Claim { uid: call.uid, child, held, round: call.round, method, digest };
        let mut result = r#"{"resultType":"input_required","inputRequests":{"#.to_owned();
        for (number, question) in call.questions.iter().enumerate() {
            if number > 0 {
                result.push(',');
            }
            question.write(&mut result);
        }
        result.push_str(&format!(r#"}},"requestState":"{}"}}"#, self.seal.state(&claim)));
        let line = era::result(raw_id, result.as_bytes());
        self.send(session, |out| out.extend_from_slice(&line));
    }

    /// A retry: what it answers goes to the server, and the call is its own if nothing else is asked.
    pub(super) fn take_up(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) {
        let Some(held) = self.find_held(session, child, request, now) else {
            return self.refuse(session, Some(request.raw_id()), &unknown_state());
        };
        self.pass_answers(child, held, request);
        let able = Abilities::declared(request.meta.client_capabilities);
        self.refuse_what_nobody_can(child, held, able);
        let Some(at) = self.children.get_mut(&child) else { return };
        let Some(call) = at.held.calls.get_mut(&held) else { return };
        if let Some(kept) = call.answer.take() {
            self.drop_held(child, held, "the server has answered already");
            return self.give_kept(session, request, kept);
        }
        if !call.questions.is_empty() {
            call.able = able;
            return self.ask_for_input(child, held, session, request.raw_id());
        }
        let id = call.id;
        at.held.calls.remove(&held);
        self.timers.clear_all(|timer| *timer == Timer::Held(child, held));
        let log = wanted_level(request);
        self.raise_level(child, log, now);
        let token = request.meta.progress_token.map(|token| token.get().as_bytes().into());
        let raw_id = request.raw_id().into();
        self.resume(child, id, Resumed { session, raw_id, token, log, able }, now);
    }

    /// The call that a retry is for: of its own user, the same request, asked for last with that state.
    fn find_held(
        &self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) -> Option<u64> {
        let state = request.params.request_state.and_then(text)?;
        let uid = self.sessions.get(&session)?.holder.uid;
        let digest = digest(request.envelope.params);
        let method = Method::of(request.method);
        let calls = &self.children.get(&child)?.held.calls;
        let is_it = |(held, call): &(&u64, &HeldCall)| {
            let (held, round) = (**held, call.round);
            let claim = Claim { uid, child, held, round, method, digest };
            call.expires > now && self.seal.fits(&claim, &state)
        };
        calls.iter().find(is_it).map(|(held, _)| *held)
    }

    /// Gives a server what a retry answers to its questions, as it was written.
    fn pass_answers(&mut self, child: ChildId, held: u64, request: &Request<'_>) {
        let responses = request.params.input_responses.map_or("", RawValue::get);
        if !responses.starts_with('{') {
            return;
        }
        for (key, answer) in raw_members(responses) {
            // What is no result is none of what was asked for: it is asked for again.
            if !answer.starts_with('{') {
                continue;
            }
            let Some(at) = self.children.get_mut(&child) else { return };
            let Some(call) = at.held.calls.get_mut(&held) else { return };
            if let Some(at) = call.questions.iter().position(|question| question.key == key) {
                let question = call.questions.remove(at);
                let line = era::result(&question.raw_id, answer.as_bytes());
                self.out.push(End::Child(child), &line);
            }
        }
    }

    /// A retry may say of its client less than the request before it did.
    fn refuse_what_nobody_can(&mut self, child: ChildId, held: u64, able: Abilities) {
        let Some(at) = self.children.get_mut(&child) else { return };
        let Some(call) = at.held.calls.get_mut(&held) else { return };
        let can = |it: &Question| needed(&it.method).is_some_and(|needs| able.has(needs));
        let (kept, refused): (Vec<_>, Vec<_>) =
            std::mem::take(&mut call.questions).into_iter().partition(can);
        call.questions = kept;
        let failure =
            Failure::new(Code::Denied, "no-client", "the client cannot be asked for that");
        for question in refused {
            self.refuse_question(child, &question, failure.clone());
        }
    }

    fn give_kept(&mut self, session: SessionId, request: &Request<'_>, kept: Kept) {
        let line = match kept {
            Kept::Failure(failure) => {
                return self.refuse(session, Some(request.raw_id()), &failure);
            }
            Kept::Line(line) => line,
        };
        let Ok(envelope) = Envelope::read(&line) else { return };
        let mut splice = Splice::of(&line);
        if let Some(id) = envelope.id {
            splice.replace(id, request.raw_id().to_vec());
        }
        if let Some(error) = envelope.error {
            renumber(Method::of(request.method), error, &mut splice);
        }
        if let Some(result) = envelope.result {
            let given = complete(Method::of(request.method), result, &mut splice);
            debug_assert!(matches!(given, Answer::Give));
        }
        self.send(session, |out| splice.write(out));
        self.close_if_done(session);
    }

    /// The server has answered a request that waits for its retry.
    pub(in crate::mux) fn held_answered(&mut self, child: ChildId, held: u64, line: &[u8]) {
        let Some(at) = self.children.get_mut(&child) else { return };
        let room = at.held.has_room(line.len());
        if let Some(call) = at.held.calls.get_mut(&held) {
            call.answer = Some(match room {
                true => Kept::Line(line.into()),
                false => Kept::Failure(not_kept()),
            });
        }
    }

    /// The server's answer to a request that waits for its retry cannot be had.
    pub(in crate::mux) fn held_failed(&mut self, child: ChildId, held: u64, failure: Failure) {
        let calls = self.children.get_mut(&child).map(|child| &mut child.held.calls);
        if let Some(call) = calls.and_then(|calls| calls.get_mut(&held)) {
            call.answer = Some(Kept::Failure(failure));
        }
    }

    /// A retry has not come, or came and was asked for more.
    pub(in crate::mux) fn held_too_long(&mut self, child: ChildId, held: u64, now: Instant) {
        let call = self.children.get(&child).and_then(|child| child.held.calls.get(&held));
        match call.map(|call| call.expires) {
            Some(expires) if expires > now => self.timers.set(expires, Timer::Held(child, held)),
            Some(_) => self.drop_held(child, held, "the client has not answered"),
            None => {}
        }
    }

    /// Every call that waits at a child is given up.
    pub(in crate::mux) fn drop_all_held(&mut self, child: ChildId, why: &str) {
        let held =
            self.children.get(&child).map(|child| child.held.calls.keys().copied().collect());
        let held: Vec<_> = held.unwrap_or_default();
        held.into_iter().for_each(|held| self.drop_held(child, held, why));
    }

    /// A call is not waited for any more: the server is told, whatever it still asks or does.
    fn drop_held(&mut self, child: ChildId, held: u64, why: &str) {
        let at = self.children.get_mut(&child);
        let Some(call) = at.and_then(|child| child.held.calls.remove(&held)) else { return };
        self.timers.clear_all(|timer| *timer == Timer::Held(child, held));
        for question in &call.questions {
            let failure = Failure::new(Code::Denied, "unanswered", why);
            self.refuse_question(child, question, failure);
        }
        if self.settle(child, call.id).is_some() {
            self.send_cancel(child, call.id, why);
        }
    }

    /// The server takes back what it asked: whether that was for a request that waits for its retry.
    pub(in crate::mux) fn held_cancelled(&mut self, child: ChildId, raw_id: &[u8]) -> bool {
        let Some(at) = self.children.get_mut(&child) else { return false };
        let asks = |call: &&mut HeldCall| call.questions.iter().any(|it| *it.raw_id == *raw_id);
        let call = at.held.calls.values_mut().find(asks);
        call.map(|call| call.questions.retain(|it| *it.raw_id != *raw_id)).is_some()
    }
}

/// What every retry hears whose state is not the last one of a call of its user's that waits.
fn unknown_state() -> Failure {
    Failure::new(
        Code::Malformed,
        "request-state",
        "nothing waits for this requestState (any more): call again without it",
    )
}

fn unanswered() -> Failure {
    let said = "too much waits for answers of this client already";
    Failure::new(Code::TooMany, "unanswered", said)
}

fn not_kept() -> Failure {
    let said = "the server answered while it waited for the client, and too much is kept already";
    Failure::new(Code::TooMany, "not-kept", said)
}

fn stopping() -> Failure {
    Failure::new(Code::Unavailable, "stopping", "the server is being stopped")
}
