//! What a client sends: checked, bound to its session, changed by splices, passed on.
//!
//! A request leaves with an id of ours, a token of ours and our context; everything else leaves as it
//! came. What belongs to the connection and not to the server (`initialize`, `ping`) is answered here.

use std::time::Instant;

use serde_json::value::RawValue;

use super::child::{Kind, Pending};
use super::cross;
use super::dress::{bad, bad_id, dress, needs_params, too_large};
use super::exchange::{Exchange, LONGEST_LINE, owned_by};
use super::outbox::{ChildId, End};
use super::session::{Greeting, IN_FLIGHT, Placard};
use super::start::Readiness;
use crate::mcp::envelope::{
    Envelope, LONGEST_ID, META, Malformed, Message, Meta, Params, good_id, may_have, members,
    our_id,
};
use crate::mcp::era::{self, Era};
use crate::mcp::error::{Code, Failure};
use crate::mcp::line::Line;
use crate::mcp::splice::Splice;
use crate::names::SessionId;

/// A request on its way: the line and what was found in it.
pub(super) struct Request<'a> {
    pub(super) line: &'a [u8],
    pub(super) envelope: &'a Envelope<'a>,
    pub(super) id: &'a RawValue,
    pub(super) method: &'a str,
    pub(super) params: Params<'a>,
    pub(super) meta: Meta<'a>,
}

impl Request<'_> {
    pub(super) fn raw_id(&self) -> &[u8] {
        self.id.get().as_bytes()
    }

    /// The era of the message itself.
    pub(super) fn era(&self) -> Era {
        if self.is_modern() { Era::Modern } else { Era::Legacy }
    }

    /// Whether the message itself is of the modern era.
    pub(super) fn is_modern(&self) -> bool {
        self.meta.protocol_version.is_some() || self.method == "server/discover"
    }
}

/// Reads a kept line of a client's again, where it is a request.
pub(super) fn reread(line: &[u8], with: impl FnOnce(&Request<'_>)) {
    let Ok(envelope) = Envelope::read(line) else { return };
    let Ok(Message::Request { id, method }) = envelope.message() else { return };
    let Ok((params, meta)) = look_inside(envelope.params) else { return };
    with(&Request { line, envelope: &envelope, id, method: &method, params, meta });
}

/// Whether what stands in the place of an id is one: nobody has read the line that it was found in.
fn is_id(found: &[u8]) -> bool {
    serde_json::from_slice::<&RawValue>(found).is_ok_and(good_id)
}

/// The parameters and the `_meta` that routing depends on.
pub(super) fn look_inside(params: Option<&RawValue>) -> Result<(Params<'_>, Meta<'_>), Malformed> {
    let params: Params<'_> = params.map(members).transpose()?.unwrap_or_default();
    let meta: Meta<'_> = params.meta.map(members).transpose()?.unwrap_or_default();
    Ok((params, meta))
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
            Ok(Message::Response { id }) => self.client_response(session, line, id),
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
        let looked = match envelope.params {
            // What is no object has no place for a context, and is looked at to be refused.
            Some(params)
                if params.get().starts_with('{')
                    && !needs_params(method)
                    && !may_have(params, &META) =>
            {
                Ok(Default::default())
            }
            params => look_inside(params),
        };
        let (params, meta) = match looked {
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
        if session.in_flight.contains_key(request.raw_id()) {
            return Some(Failure::new(
                Code::Duplicate,
                "duplicate-id",
                "a request with this id is still in flight (use another id)",
            ));
        }
        if request.method == "initialize" {
            if let Some(params) = request.envelope.params {
                session.greet(params, request.params.client_info);
                session.learn_capabilities(request.params.capabilities);
            }
        } else if request.is_modern() {
            session.era = Some(Era::Modern);
            if session.client.is_none() {
                session.learn_client(request.meta.client_info);
            }
        } else if session.hello.is_none() && request.method != "ping" {
            return Some(Failure::new(
                Code::Malformed,
                "no-handshake",
                "the first request of a session is initialize or server/discover",
            ));
        }
        None
    }

    fn pass_or_wait(&mut self, session: SessionId, request: &Request<'_>, now: Instant) {
        let Some(asker) = self.sessions.get(&session) else { return };
        if asker.placard != Placard::None && self.answer_placard(session, request, now) {
            return;
        }
        let Some(asker) = self.sessions.get(&session) else { return };
        let readiness = match self.serving_child(asker) {
            _ if !asker.waiting.is_empty() => Readiness::Wait,
            Some(child) => Readiness::Ready(child),
            None => self.want(session, now),
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
        if request.method == "initialize" {
            return self.answer_initialize(session, child, request.id);
        }
        if request.is_modern() && era == Some(Era::Legacy) {
            return self.refuse_modern(session, request);
        }
        if !request.is_modern() && era == Some(Era::Modern) {
            return self.pass_to_modern(session, child, request, now);
        }
        match self.special(session, child, request) {
            Special::Pass(kind) => self.forward(session, child, request, kind, "", now),
            Special::Answer => self.answer_empty(session, request.raw_id()),
            Special::Refuse(failure) => self.refuse(session, Some(request.raw_id()), &failure),
        }
    }

    /// An empty result.
    pub(super) fn answer_empty(&mut self, session: SessionId, raw_id: &[u8]) {
        let answer = era::result(raw_id, b"{}");
        self.send(session, |out| out.extend_from_slice(&answer));
    }

    /// Sends a request to the child under an id of ours. `members` go into its `_meta` beside the
    /// context.
    pub(super) fn forward(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        kind: Kind,
        more: &str,
        now: Instant,
    ) {
        let (Some(holder), Some(to)) = (self.sessions.get(&session), self.children.get_mut(&child))
        else {
            return;
        };
        let id = to.take_id();
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(id);
        let mut splice = Splice::of(request.line);
        let token = dress(&mut splice, request, digits, &holder.context, more);
        if splice.length() > LONGEST_LINE {
            return self.refuse(session, Some(request.raw_id()), &too_large(LONGEST_LINE));
        }
        self.out.line(End::Child(child), |out| splice.write(out));
        let pending = Pending {
            owner: owned_by(session, request.raw_id()),
            kind,
            token,
            wants_log: request.meta.log_level.is_some(),
            born: now,
            deadline: None,
            cancelled: false,
        };
        if pending.kind == Kind::Listen {
            self.note_listen(session, request.raw_id(), request.line);
        }
        self.track(child, id, pending);
    }

    fn client_notification(
        &mut self,
        session: SessionId,
        line: &[u8],
        envelope: &Envelope<'_>,
        method: &str,
    ) {
        match method {
            "notifications/initialized" => {}
            "notifications/cancelled" => self.client_cancels(session, line, envelope),
            "notifications/progress" => self.client_progress(session, line, envelope),
            "notifications/roots/list_changed" if !self.roots_are_its_own(session) => {}
            _ => {
                if let Some(child) = self.ready_child(session) {
                    self.out.push(End::Child(child), line);
                }
            }
        }
    }

    /// Whether a change of this session's roots is the server's business.
    fn roots_are_its_own(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|session| {
            let shared = self.slots.get(&session.slot).is_some_and(|slot| slot.sessions.len() > 1);
            session.has_own_child() || !shared
        })
    }

    fn client_cancels(&mut self, session: SessionId, line: &[u8], envelope: &Envelope<'_>) {
        let Ok((params, _)) = look_inside(envelope.params) else { return };
        let Some(request) = params.request_id else { return };
        if self.sessions.get(&session).is_some_and(|s| !s.waiting.is_empty()) {
            return self.cancel_waiting(session, request);
        }
        let raw = request.get().as_bytes();
        self.forget_listen(session, raw);
        let Some(child) = self.ready_child(session) else { return };
        // Only a request of its own; after this its id is free again.
        let Some(id) = self.sessions.get_mut(&session).and_then(|s| s.in_flight.remove(raw)) else {
            return;
        };
        if let Some(pending) = self.children.get_mut(&child).and_then(|c| c.pending.get_mut(&id)) {
            pending.cancelled = true;
        }
        self.forget_in_time(child, id);
        let mut splice = Splice::of(line);
        splice.replace(request, id.to_string().into_bytes());
        self.out.line(End::Child(child), |out| splice.write(out));
        self.close_if_done(session);
    }

    /// A request that still waits for the server is simply forgotten, as if it had been cancelled there.
    fn cancel_waiting(&mut self, session: SessionId, request: &RawValue) {
        let Some(session) = self.sessions.get_mut(&session) else { return };
        let is_it = |line: &[u8]| {
            let envelope = Envelope::read(line).ok();
            let id = envelope.as_ref().and_then(|envelope| envelope.id);
            id.is_some_and(|id| id.get() == request.get())
                && !envelope.is_some_and(|e| {
                    e.method.is_some_and(|method| method.get() == "\"initialize\"")
                })
        };
        let kept: Vec<_> = session.take_waiting().into_iter().filter(|line| !is_it(line)).collect();
        for line in kept {
            session.wait(&line);
        }
    }

    /// Progress on what the server asked this client: the token is the server's own.
    fn client_progress(&mut self, session: SessionId, line: &[u8], envelope: &Envelope<'_>) {
        let Ok((params, _)) = look_inside(envelope.params) else { return };
        let Some(token) = params.progress_token else { return };
        let asked = self.sessions.get(&session).and_then(|session| {
            let token = token.get().as_bytes();
            session.asks.values().find(|ask| ask.token.as_deref() == Some(token))
        });
        if let Some(child) = asked.map(|ask| ask.child) {
            self.out.push(End::Child(child), line);
        }
    }

    fn client_response(&mut self, session: SessionId, line: &[u8], id: &RawValue) {
        let ask = our_id(id).and_then(|id| self.sessions.get_mut(&session)?.asks.remove(&id));
        let Some(ask) = ask else {
            let server = self.sessions.get(&session).map(|s| s.slot.server.clone());
            if let Some(server) = server {
                self.drop_line(&server, "a client's response that no server asked for");
            }
            return;
        };
        let mut splice = Splice::of(line);
        splice.replace(id, &*ask.raw_id);
        if self.children.contains_key(&ask.child) {
            self.out.line(End::Child(ask.child), |out| splice.write(out));
        }
    }

    /// Answers `initialize` from the child's own handshake.
    pub(super) fn answer_initialize(&mut self, session: SessionId, child: ChildId, id: &RawValue) {
        let Some(to) = self.sessions.get_mut(&session) else { return };
        let Some(from) = self.children.get(&child) else { return };
        let Some(result) = cross::initialize_result(to, from) else { return };
        to.greeting = Greeting::Done;
        let answer = era::result(id.get().as_bytes(), &result);
        self.send(session, |out| out.extend_from_slice(&answer));
        self.close_if_done(session);
    }
}

/// What a method needs beside passing it on.
pub(super) enum Special {
    Pass(Kind),
    Answer,
    Refuse(Failure),
}
