//! What a client sends: checked, bound to its session, changed by splices, passed on.
//!
//! A request leaves with an id of ours, a token of ours and our context; everything else leaves as it
//! came. What belongs to the connection and not to the server (`initialize`, `ping`) is answered here.

use std::rc::Rc;
use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::abilities::Abilities;
use super::cache::Wanted;
use super::child::{Kind, Pending};
use super::cross::handshake;
use super::dress::{Suit, bad, bad_id, dress, too_large};
use super::exchange::{Exchange, LONGEST_LINE};
use super::finish::stopping;
use super::flight::owned_by;
use super::lists::List;
use super::outbox::{ChildId, End};
use super::request::{Request, look};
use super::session::{Greeting, IN_FLIGHT, Placard};
use super::start::Readiness;
use crate::mcp::envelope::{
    CURSOR, Envelope, LONGEST_ID, Message, good_id, may_have, members, text,
};
use crate::mcp::era::{self, Era, level_rank};
use crate::mcp::error::{Code, Failure};
use crate::mcp::line::Line;
use crate::mcp::method::Method;
use crate::mcp::splice::Splice;
use crate::names::SessionId;

/// How a request goes to its server.
pub(super) struct Way<'a> {
    pub(super) kind: Kind,
    pub(super) suit: Suit<'a>,
    /// The least severe log level that it asks for.
    pub(super) log: Option<u8>,
    /// What its client can be asked for on its account, where the request itself says so.
    pub(super) able: Abilities,
    /// It may have to be sent again.
    pub(super) keep: bool,
}

/// How a client's request came to be passed on.
#[derive(Debug, Default)]
pub(super) struct Passing {
    /// It was sent to a server that died: it counts already, and is not sent a third time.
    again: bool,
    /// Its answer may be given again.
    wanted: Option<Wanted>,
}

impl Way<'_> {
    /// To a server of the request's own era.
    pub(super) fn straight(kind: Kind, request: &Request<'_>) -> Self {
        let log = request.meta.log_level.and_then(text).and_then(|level| level_rank(&level));
        Self { kind, suit: Suit::AsItCame, log, able: Abilities::default(), keep: false }
    }
}

impl Exchange {
    /// A line of a client's.
    pub(super) fn client_line(&mut self, session: SessionId, line: Line<'_>, now: Instant) {
        self.now = now;
        match line {
            Line::Whole(line) => self.client_message(session, line, now),
            // It may have been closed by a line of the same chunk.
            Line::TooLong(head) if self.sessions.contains_key(&session) => {
                let id = head.id.filter(|id| head.has_method && is_id(id));
                let failure = too_large(self.line_limit());
                self.refuse(session, id.as_deref(), &failure);
            }
            Line::TooLong(_) => {}
        }
    }

    pub(super) fn client_message(&mut self, session: SessionId, line: &[u8], now: Instant) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        let envelope = match Envelope::read(line) {
            Ok(envelope) => envelope,
            Err(malformed) => return self.refuse(session, None, &bad(malformed)),
        };
        match envelope.message() {
            Ok(Message::Request { id, method }) => {
                self.client_request(session, line, &envelope, id, &method, now);
            }
            Ok(Message::Notification { method }) => {
                self.client_notification(session, line, &envelope, &method);
            }
            Ok(Message::Response { id }) => {
                self.client_response(session, line, &envelope, id);
            }
            Err(malformed) => self.refuse(session, None, &bad(malformed)),
        }
    }

    fn client_request(
        &mut self,
        session: SessionId,
        line: &[u8],
        envelope: &Envelope<'_>,
        id: &RawValue,
        method: &str,
        now: Instant,
    ) {
        if !good_id(id) {
            let echo = Some(id.get()).filter(|id| *id != "null").map(str::as_bytes);
            return self.refuse(session, echo, &bad_id());
        }
        let raw_id = id.get().as_bytes();
        if let Some(farewell) = &self.draining {
            let failure = Failure::new(Code::Unavailable, "stopping", farewell.reason.clone());
            return self.refuse(session, Some(raw_id), &failure);
        }
        let (params, meta) = match look(method, envelope.params) {
            Ok((_, meta)) if meta.progress_token.is_some_and(|it| it.get().len() > LONGEST_ID) => {
                return self.refuse(session, Some(raw_id), &bad_id());
            }
            Ok(found) => found,
            Err(malformed) => return self.refuse(session, Some(raw_id), &bad(malformed)),
        };
        let request = Request { line, envelope, id, method, params, meta };
        if let Some(failure) = self.place(session, &request) {
            return self.refuse(session, Some(raw_id), &failure);
        }
        if method == "ping" && !request.is_modern() {
            return self.answer_empty(session, raw_id);
        }
        self.pass_or_wait(session, &request, now);
    }

    /// Notes the session's era and what its client says of itself; refuses what has no place.
    fn place(&mut self, id: SessionId, request: &Request<'_>) -> Option<Failure> {
        let session = self.sessions.get_mut(&id)?;
        if session.in_flight.len() >= IN_FLIGHT {
            return Some(Failure::new(
                Code::TooMany,
                "in-flight",
                format!(
                    "{IN_FLIGHT} requests of this session are in flight already (wait for one)"
                ),
            ));
        }
        if session.has_open(request.raw_id()) {
            return Some(Failure::new(
                Code::Duplicate,
                "duplicate-id",
                "a request with this id is still in flight (use another id)",
            ));
        }
        if request.is_handshake() {
            // There would be nothing to answer it with.
            let Some(params) = request.envelope.params else { return Some(no_introduction()) };
            session.greet(params, request.params.client_info);
            session.able = Abilities::declared(request.params.capabilities);
        } else if request.is_modern() {
            session.era = Some(Era::Modern);
            if session.client.is_none() {
                session.learn_client(request.meta.client_info);
            }
            if session.has_own_child() && session.introduction.is_none() {
                let said = (request.meta.client_info, request.meta.client_capabilities);
                session.introduction = Some(handshake::introduction(said.0, said.1).into());
            }
        } else if session.hello.is_some() {
            session.era = Some(Era::Legacy);
        } else if request.method != "ping" {
            return Some(no_handshake(session.era));
        }
        None
    }

    /// Gives a request to its server, now or as soon as it can take it.
    pub(super) fn pass_or_wait(&mut self, session: SessionId, request: &Request<'_>, now: Instant) {
        let Some(asker) = self.sessions.get(&session) else { return };
        if asker.placard != Placard::None && self.answer_placard(session, request, now) {
            return;
        }
        let Some(asker) = self.sessions.get(&session) else { return };
        let readiness = match self.serving_child(asker) {
            _ if !asker.waiting.is_empty() => Readiness::Wait,
            Some(child) => Readiness::Ready(child),
            // What a round brings back may come while nothing is started any more.
            None if self.draining.is_some() => Readiness::Refuse(stopping()),
            None => self.want(session, now),
        };
        let readiness = match readiness {
            Readiness::Ready(child) if self.is_full(child) => Readiness::Wait,
            readiness => readiness,
        };
        match readiness {
            Readiness::Ready(child) => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.child = Some(child);
                }
                self.pass(session, child, request, now);
            }
            Readiness::Wait => self.wait(session, request, now),
            Readiness::Refuse(failure) => self.refuse(session, Some(request.raw_id()), &failure),
            Readiness::Ailing(ailment) => self.answer_ailing(session, request, &ailment),
        }
    }

    fn pass(&mut self, session: SessionId, child: ChildId, request: &Request<'_>, now: Instant) {
        let era = self.children.get(&child).and_then(|child| child.era);
        if request.is_handshake() {
            return self.answer_initialize(session, child, request.id);
        }
        if let Some(failure) = self.no_room(session, child, request, now) {
            return self.refuse(session, Some(request.raw_id()), &failure);
        }
        let mut passing = Passing { again: self.resending, wanted: None };
        if era == Some(Era::Modern) && Method::of(request.method).is_cacheable() {
            match self.answer_again(session, child, request, now) {
                Ok(()) => return,
                Err(wanted) => passing.wanted = wanted,
            }
        }
        self.passing = Some(passing);
        self.pass_between(session, child, request, now);
        self.passing = None;
    }

    fn pass_between(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) {
        let era = self.children.get(&child).and_then(|child| child.era);
        match (request.era(), era) {
            (Era::Legacy, Some(Era::Modern)) => self.pass_upward(session, child, request, now),
            (Era::Modern, Some(Era::Legacy)) => self.pass_downward(session, child, request, now),
            _ => self.pass_straight(session, child, request, now),
        }
    }

    fn pass_straight(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) {
        if request.is_modern()
            && let Some(failure) = self.foreign_state(session, child, request)
        {
            return self.refuse(session, Some(request.raw_id()), &failure);
        }
        match self.special(session, child, request) {
            Special::Pass(kind) => {
                self.forward(session, child, request, Way::straight(kind, request), now);
            }
            Special::Answer => self.answer_empty(session, request.raw_id()),
            Special::Refuse(failure) => self.refuse(session, Some(request.raw_id()), &failure),
        }
    }

    /// An empty result.
    pub(super) fn answer_empty(&mut self, session: SessionId, raw_id: &[u8]) {
        let answer = era::result(raw_id, b"{}");
        self.send(session, |out| out.extend_from_slice(&answer));
    }

    /// Sends a request to the child under an id of ours.
    pub(super) fn forward(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        way: Way<'_>,
        now: Instant,
    ) {
        let passing = self.passing.take();
        let method = Method::of(request.method);
        let again = match &passing {
            Some(Passing { again: false, .. }) => {
                self.keep_for_again(session, child, request, method)
            }
            _ => None,
        };
        let (Some(holder), Some(to)) = (self.sessions.get(&session), self.children.get_mut(&child))
        else {
            return;
        };
        let id = to.take_id();
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(id);
        let mut splice = Splice::of(request.line);
        let token = dress(&mut splice, request, digits, &holder.context, way.suit);
        let (counted, wanted) = passing.map_or((false, None), |it| (it.again, it.wanted));
        if splice.length() > LONGEST_LINE {
            return self.refuse(session, Some(request.raw_id()), &too_large(LONGEST_LINE));
        }
        self.out.line(End::Child(child), |out| splice.write(out));
        let pending = Pending {
            owner: owned_by(session, request.raw_id()),
            kind: way.kind,
            era: request.era(),
            method,
            token,
            log: way.log,
            able: way.able,
            kept: way.keep.then(|| Rc::from(request.line)),
            again,
            wanted,
            first_page: List::of(method).is_some() && asks_first_page(request),
            digest: None,
            born: now,
            deadline: None,
            cancelled: false,
            rounds: 0,
        };
        if pending.kind == Kind::Listen {
            self.note_listen(session, request.raw_id(), request.line);
        }
        self.track(child, id, pending);
        if !counted {
            self.count_call(session);
        }
    }

    /// Answers `initialize` from the child's own handshake.
    pub(super) fn answer_initialize(&mut self, session: SessionId, child: ChildId, id: &RawValue) {
        let Some(to) = self.sessions.get_mut(&session) else { return };
        let Some(from) = self.children.get(&child) else { return };
        let Some(result) = handshake::initialize_result(to, from) else { return };
        to.greeting = Greeting::Done;
        let answer = era::result(id.get().as_bytes(), &result);
        self.send(session, |out| out.extend_from_slice(&answer));
        self.tend_feed(session, self.now);
        self.close_if_done(session);
    }
}

/// Whether a request for a list asks for its beginning.
fn asks_first_page(request: &Request<'_>) -> bool {
    #[derive(Deserialize)]
    struct Paged<'a> {
        #[serde(borrow, default)]
        cursor: Option<&'a RawValue>,
    }
    let Some(params) = request.envelope.params.filter(|params| may_have(params, &CURSOR)) else {
        return true;
    };
    members::<Paged<'_>>(params).is_ok_and(|paged| paged.cursor.is_none())
}

/// What a method needs beside passing it on.
pub(super) enum Special {
    Pass(Kind),
    Answer,
    Refuse(Failure),
}

/// An `initialize` that tells nothing (2025-11-25, basic/lifecycle#initialization).
fn no_introduction() -> Failure {
    let said = "initialize lacks params: the revision asked for, and who asks";
    Failure::new(Code::InvalidParams, "no-params", said)
}

/// A request without the modern envelope, before any handshake. What has spoken the modern era hears what
/// a modern server says (2026-07-28, basic/index#meta).
fn no_handshake(era: Option<Era>) -> Failure {
    match era {
        Some(Era::Modern) => Failure::new(
            Code::InvalidParams,
            "no-envelope",
            format!("the request's _meta lacks {}", era::META_VERSION),
        ),
        _ => Failure::new(
            Code::Malformed,
            "no-handshake",
            "the first request of a session is initialize or server/discover",
        ),
    }
}

/// Whether what stands in the place of an id is one: nobody has read the line that it was found in.
fn is_id(found: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(found).is_ok_and(good_id)
}
