//! A server's notifications: each to those it is for.
//!
//! One that names nobody goes to everybody only where the specification says so (list-changed); otherwise
//! to the one session that it can be meant for, or to the server log. Never guessed.

use std::time::Instant;

use serde_json::value::RawValue;

use super::asks::covers;
use super::child::{Kind, Owner};
use super::exchange::Exchange;
use super::outbox::ChildId;
use super::request::look_inside;
use super::session::{Ask, Asker, Greeting};
use crate::mcp::envelope::{Envelope, Meta, Params, our_id, text};
use crate::mcp::era::{Era, level_rank};
use crate::mcp::splice::Splice;
use crate::names::SessionId;

impl Exchange {
    pub(super) fn child_notification(
        &mut self,
        child: ChildId,
        line: &[u8],
        envelope: &Envelope<'_>,
        method: &str,
        now: Instant,
    ) {
        let Ok((params, meta)) = look_inside(envelope.params) else {
            return self.drop_from(child, "a notification whose parameters are no object");
        };
        self.forget_results(child, method, &params);
        // To a legacy server that is a member like any other.
        let modern = self.children.get(&child).is_some_and(|it| it.era == Some(Era::Modern));
        if let Some(subscription) = meta.subscription_id.filter(|_| modern) {
            return self.tell_subscriber(child, line, envelope, subscription, method);
        }
        match method {
            "notifications/progress" => self.child_progress(child, line, &params, now),
            "notifications/cancelled" => self.child_cancels(child, line, &params),
            "notifications/message" => self.child_logs(child, line, &params, &meta),
            "notifications/tools/list_changed"
            | "notifications/resources/list_changed"
            | "notifications/prompts/list_changed" => self.tell_everyone(child, line),
            "notifications/resources/updated" => self.child_updated(child, line, &params),
            "notifications/elicitation/complete" => self.child_elicited(child, line, &params),
            // Whatever it is called: what names a task is for who made it.
            _ if params.task_id.is_some() || meta.related_task.is_some() => {
                self.tell_task_owner(child, line, &params, &meta);
            }
            _ => self.tell_only_one(child, line, meta.subscription_id.is_some()),
        }
    }

    fn tell_subscriber(
        &mut self,
        child: ChildId,
        line: &[u8],
        envelope: &Envelope<'_>,
        subscription: &RawValue,
        method: &str,
    ) {
        let pending = our_id(subscription)
            .and_then(|id| self.children.get(&child)?.pending.get(&id).map(|it| (id, it)))
            .filter(|(_, pending)| !pending.cancelled);
        let (session, raw_id) = match pending
            .map(|(id, pending)| (id, pending.kind == Kind::Listen, &pending.owner))
        {
            Some((_, true, Owner::Session { session, raw_id })) => (*session, raw_id.to_vec()),
            Some((id, _, Owner::Feed(session))) => {
                return self.tell_feed(child, *session, id, line, envelope, method);
            }
            _ => {
                return self.drop_from(child, "a notification of a subscription that nobody holds");
            }
        };
        if method == "notifications/subscriptions/acknowledged"
            && !self.is_first_acknowledgement(session, &raw_id)
        {
            return;
        }
        let mut splice = Splice::of(line);
        splice.replace(subscription, raw_id);
        self.send(session, |out| splice.write(out));
    }

    fn child_progress(&mut self, child: ChildId, line: &[u8], params: &Params<'_>, now: Instant) {
        let Some(token) = params.progress_token else { return };
        let found = our_id(token).and_then(|id| {
            let pending = self.children.get_mut(&child)?.pending.get_mut(&id)?;
            // Its client has seen it begin: it does not begin a second time.
            pending.again = None;
            match (&pending.owner, &pending.token) {
                (Owner::Session { session, .. }, Some(token)) => {
                    Some((id, *session, token.to_vec()))
                }
                _ => None,
            }
        });
        let Some((id, session, theirs)) = found else {
            return self.drop_from(child, "progress that nobody asked for");
        };
        self.put_off(child, id, now);
        let mut splice = Splice::of(line);
        splice.replace(token, theirs);
        self.send(session, |out| splice.write(out));
    }

    /// A legacy server takes back what it asked a client (2025-11-25, basic/utilities/cancellation); a modern
    /// one ends a subscription (2026-07-28, basic/patterns/cancellation). Both number their requests as
    /// they like: what came too late to be taken back must not hit a call that has the same number here.
    fn child_cancels(&mut self, child: ChildId, line: &[u8], params: &Params<'_>) {
        let Some(request) = params.request_id else { return };
        let raw = request.get().as_bytes();
        let modern = self.children.get(&child).is_some_and(|it| it.era == Some(Era::Modern));
        if !modern && self.held_cancelled(child, raw) {
            return;
        }
        let found = if modern {
            match self.end_listen(child, request) {
                Some((id, Owner::Feed(session))) => return self.feed_lost(child, session, id),
                Some((_, Owner::Session { session, raw_id })) => Some((session, raw_id.to_vec())),
                _ => None,
            }
        } else {
            self.forget_ask(child, raw)
                .map(|(session, ask)| (session, ask.to_string().into_bytes()))
        };
        let Some((session, theirs)) = found else {
            return self.drop_from(child, "a cancellation of nothing that it can take back");
        };
        let mut splice = Splice::of(line);
        splice.replace(request, theirs);
        self.send(session, |out| splice.write(out));
        self.close_if_done(session);
    }

    /// Takes a subscription out of flight that has this id at its server.
    fn end_listen(&mut self, child: ChildId, request: &RawValue) -> Option<(u64, Owner)> {
        let id = our_id(request)?;
        let pending = self.children.get(&child)?.pending.get(&id)?;
        if pending.kind != Kind::Listen {
            return None;
        }
        Some((id, self.settle(child, id)?.owner))
    }

    /// Takes back what a server asked under that id of its: whom, and the id that the client got.
    fn forget_ask(&mut self, child: ChildId, raw: &[u8]) -> Option<(SessionId, u64)> {
        self.sessions.values_mut().find_map(|session| {
            let is_it = |ask: &Ask| {
                let Asker::Server { raw_id, .. } = &ask.asker else { return false };
                ask.child == child && **raw_id == *raw
            };
            let id = session.asks.iter().find(|(_, ask)| is_it(ask)).map(|(id, _)| *id)?;
            session.asks.remove(&id);
            Some((session.id, id))
        })
    }

    /// A log message goes to the one session that it can be about, else to the server log.
    fn child_logs(&mut self, child: ChildId, line: &[u8], params: &Params<'_>, meta: &Meta<'_>) {
        let level = params.level.and_then(text).and_then(|level| level_rank(&level));
        let reader = match self.children.get(&child) {
            _ if meta.related_task.is_some() => {
                let owner = self.related_owner(child, meta).map(|owner| owner.session);
                owner.filter(|owner| self.sessions.contains_key(owner))
            }
            Some(modern) if modern.era == Some(Era::Modern) => modern.log_reader(),
            _ => self.one_candidate(child),
        };
        let is_modern = |id: &SessionId| {
            self.sessions.get(id).is_some_and(|session| session.era == Some(Era::Modern))
        };
        let modern = self.children.get(&child).is_some_and(|it| it.era == Some(Era::Modern));
        match reader {
            Some(session) if !modern && is_modern(&session) => {
                match level.is_some_and(|level| self.wants_log(child, session, level)) {
                    true => self.send(session, |out| out.extend_from_slice(line)),
                    false => self.log_message(child, line),
                }
            }
            Some(session) => {
                let wanted = self.sessions.get(&session).is_some_and(|session| {
                    session.level.zip(level).is_none_or(|(least, level)| level >= least)
                });
                if wanted {
                    self.send(session, |out| out.extend_from_slice(line));
                }
            }
            None => self.log_message(child, line),
        }
    }

    fn log_message(&mut self, child: ChildId, line: &[u8]) {
        if let Some(server) = self.children.get(&child).map(|child| child.slot.server.clone()) {
            let head = line.get(..line.len().min(4096)).unwrap_or_default();
            let text = format!("log message: {}", String::from_utf8_lossy(head));
            self.out.act(super::outbox::Act::Log { server, text });
        }
    }

    /// The only session that something without an address can be meant for: the only one with a request
    /// in flight, or, with none in flight, the only one there is.
    pub(super) fn one_candidate(&self, child: ChildId) -> Option<SessionId> {
        let child = self.children.get(&child)?;
        let busy = child.busy();
        let attached = &self.slots.get(&child.slot)?.sessions;
        let among = if busy.is_empty() { attached } else { &busy };
        match (among.first(), among.len()) {
            // One that is gone may have left a call there that goes on.
            (Some(only), 1) if attached.contains(only) => Some(*only),
            _ => None,
        }
    }

    /// `tagged`: the server has put a subscription on it.
    fn tell_only_one(&mut self, child: ChildId, line: &[u8], tagged: bool) {
        let told = |session: &SessionId| self.may_be_told(child, *session, tagged);
        match self.one_candidate(child).filter(told) {
            Some(session) => self.send(session, |out| out.extend_from_slice(line)),
            None => self.drop_from(child, "a notification that could be for several clients"),
        }
    }

    /// A modern client hears what is about a request of its, and what it subscribed to: nothing else, and
    /// nothing that a server puts a subscription on which cannot know it: a legacy one, or one that has not
    /// shaken hands.
    fn may_be_told(&self, child: ChildId, session: SessionId, tagged: bool) -> bool {
        let Some(it) = self.sessions.get(&session) else { return false };
        let modern = self.children.get(&child).is_some_and(|child| child.era == Some(Era::Modern));
        modern || it.era != Some(Era::Modern) || !(tagged || it.in_flight.is_empty())
    }

    /// List-changed: every legacy client of this child hears it, after its handshake.
    pub(super) fn tell_everyone(&mut self, child: ChildId, line: &[u8]) {
        self.tell_streams(child, line);
        for session in self.attached(child) {
            let greeted = self.sessions.get(&session).is_some_and(|session| {
                session.greeting == Greeting::Done && session.era == Some(Era::Legacy)
            });
            if greeted {
                self.send(session, |out| out.extend_from_slice(line));
            }
        }
    }

    fn child_updated(&mut self, child: ChildId, line: &[u8], params: &Params<'_>) {
        let Some(uri) = params.uri.and_then(text) else { return };
        self.tell_streams(child, line);
        for session in self.attached(child) {
            let holds = self.sessions.get(&session).is_some_and(|session| {
                session.era == Some(Era::Legacy)
                    && session.subscriptions.iter().any(|held| covers(held, &uri))
            });
            if holds {
                self.send(session, |out| out.extend_from_slice(line));
            }
        }
    }

    fn child_elicited(&mut self, child: ChildId, line: &[u8], params: &Params<'_>) {
        let asked = params
            .elicitation_id
            .and_then(text)
            .and_then(|id| self.children.get_mut(&child)?.elicitations.remove(id.as_ref()));
        match asked {
            Some(session) => self.send(session, |out| out.extend_from_slice(line)),
            None => self.drop_from(child, "the end of an elicitation that nobody was asked for"),
        }
    }
}
