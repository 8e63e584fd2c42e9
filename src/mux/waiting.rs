//! Requests that wait for a server which is starting or pauses for a moment: kept in each session's order,
//! at most as long as a start may take, then given to the server or answered.

use std::time::{Duration, Instant};

use super::exchange::Exchange;
use super::flight::timed_out;
use super::request::{Request, reread};
use super::session::{SlotKey, Waiting};
use super::start::Readiness;
use super::timers::Timer;
use crate::lifecycle::{Cause, Phase};
use crate::mcp::era::{self, Era};
use crate::mcp::error::{Code, Failure};
use crate::names::SessionId;
use crate::wire::Ailment;

impl Exchange {
    /// A request cannot go to the server now: it waits, or is answered from what is remembered.
    pub(super) fn wait(&mut self, id: SessionId, request: &Request<'_>, now: Instant) {
        if self.answer_from_memory(id, request) {
            return;
        }
        let (again, turn) = (self.resending, self.queues_for(id));
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.waiting.is_empty() && !session.replaying {
            session.waits_since = now;
        }
        // What is looked at again was let in before.
        if turn.is_some() || session.replaying {
            session.queue(request.line, again);
        } else if !session.wait(request.line, again) {
            let why = "the server is starting and too much waits for it already";
            let failure = Failure::new(Code::TooMany, "starting", why);
            return self.refuse(id, Some(request.raw_id()), &failure);
        }
        if let Some(child) = turn {
            self.stand_in_line(id, child);
        }
        self.set_patience(id);
    }

    /// Sets the alarm for how long a session's lines may wait, where there is none.
    pub(super) fn set_patience(&mut self, id: SessionId) {
        let limit = self.patience(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(limit) = limit
            && !std::mem::replace(&mut session.timed, true)
        {
            self.timers.set(session.waits_since + limit, Timer::Patience(id));
        }
    }

    /// How long a session's lines may wait: for a start as long as one may take, for their turn as long as
    /// an answer may.
    fn patience(&self, id: SessionId) -> Option<Duration> {
        match self.queues_for(id) {
            Some(child) => self.request_limit(child),
            None => Some(self.start_limit(id)),
        }
    }

    /// The server of these sessions is gone: what waited for their turn waits for the next one now.
    pub(super) fn wait_for_next(&mut self, key: &SlotKey, now: Instant) {
        let sessions = self.slots.get(key).map(|slot| slot.sessions.clone()).unwrap_or_default();
        for id in sessions {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            session.in_line = false;
            if session.waiting.is_empty() {
                continue;
            }
            session.waits_since = now;
            session.timed = false;
            self.timers.clear_all(|timer| *timer == Timer::Patience(id));
            self.set_patience(id);
        }
    }

    /// Hands a line on that has waited.
    pub(super) fn hand_on(&mut self, session: SessionId, line: &Waiting) {
        self.resending = line.again;
        self.client_message(session, &line.bytes, self.now);
        self.resending = false;
    }

    fn start_limit(&self, id: SessionId) -> Duration {
        let server = self.sessions.get(&id).and_then(|s| self.server_plan(&s.slot.server));
        Duration::from_millis(server.map_or(9000, |server| server.start_timeout_ms))
    }

    /// While a server starts whose last handshake is known, its clients get that.
    fn answer_from_memory(&mut self, id: SessionId, request: &Request<'_>) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        let child = self.slots.get(&session.slot).and_then(|slot| slot.child);
        let Some(child) = child.filter(|child| {
            self.children.get(child).is_some_and(|c| c.alive && c.handshake.is_some())
        }) else {
            return false;
        };
        let era = self.children.get(&child).and_then(|child| child.era);
        match (request.method, era) {
            // A child of its own sees its own handshake, and so does its client.
            ("initialize", _) if request.is_handshake() && !session.has_own_child() => {
                self.answer_initialize(id, child, request.id);
            }
            ("server/discover", Some(Era::Legacy)) if !session.has_own_child() => {
                self.answer_discover(id, child, request);
            }
            ("server/discover", Some(Era::Modern)) => {
                let known = self.children.get(&child).and_then(|child| child.handshake.as_deref());
                let known = known.map_or("{}", |known| known.get()).as_bytes();
                let line = era::result(request.raw_id(), known);
                self.send(id, |out| out.extend_from_slice(&line));
            }
            _ => return false,
        }
        true
    }

    /// Somebody who waits for a slot's server.
    pub(super) fn waiter(&self, key: &SlotKey) -> Option<SessionId> {
        let waits = |id: &&SessionId| {
            self.sessions.get(*id).is_some_and(|session| !session.waiting.is_empty())
        };
        self.slots.get(key)?.sessions.iter().find(waits).copied()
    }

    /// Everything that waits for a slot's server is looked at again: it goes on, waits on, or is answered.
    pub(super) fn replay_waiting(&mut self, key: &SlotKey, now: Instant) {
        self.now = now;
        self.each_waiting(key, Self::hand_on);
    }

    /// Tells everyone who waits for a slot's server that it does not come.
    pub(super) fn fail_waiting(&mut self, key: &SlotKey, failure: &Failure) {
        self.each_waiting(key, |exchange, session, line| {
            reread(&line.bytes, |request| {
                exchange.refuse(session, Some(request.raw_id()), failure);
            });
        });
    }

    /// Takes every line that waits for a slot's server, in each session's order.
    fn each_waiting(&mut self, key: &SlotKey, each: impl Fn(&mut Self, SessionId, &Waiting)) {
        let slot = self.slots.get(key);
        let sessions: Vec<_> =
            slot.map(|slot| slot.sessions.iter().copied().collect()).unwrap_or_default();
        for id in sessions {
            self.each_waiting_of(id, &each);
        }
    }

    fn each_waiting_of(&mut self, id: SessionId, each: impl Fn(&mut Self, SessionId, &Waiting)) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let lines = session.take_waiting();
        if lines.is_empty() {
            return;
        }
        session.replaying = true;
        for line in lines {
            each(self, id, &line);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.replaying = false;
        if session.waiting.is_empty() {
            session.timed = false;
            self.timers.clear_all(|timer| *timer == Timer::Patience(id));
        }
        self.close_if_done(id);
    }

    /// Strict sessions do not wait for another try.
    pub(super) fn fail_strict(&mut self, key: &SlotKey, failure: &Failure) {
        let sessions = self.slots.get(key).map(|slot| slot.sessions.clone()).unwrap_or_default();
        for id in sessions {
            if self.sessions.get(&id).is_some_and(|session| session.strict) {
                let ailment = super::ailing::ailment_of(failure);
                self.answer_waiting(id, &ailment);
            }
        }
    }

    /// Answers whatever of a session waits for its server, which does not come.
    fn answer_waiting(&mut self, id: SessionId, ailment: &Ailment) {
        self.each_waiting_of(id, |exchange, session, line| {
            reread(&line.bytes, |request| exchange.answer_ailing(session, request, ailment));
        });
    }

    /// A session has waited as long as a start may take.
    pub(super) fn patience_over(&mut self, id: SessionId, now: Instant) {
        let limit = self.patience(id);
        let turn = self.queues_for(id).is_some();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.timed = false;
        if session.waiting.is_empty() {
            return;
        }
        if limit.is_none_or(|limit| session.waits_since + limit > now) {
            return self.set_patience(id);
        }
        let key = session.slot.clone();
        if turn {
            return self.each_waiting_of(id, |exchange, session, line| {
                reread(&line.bytes, |request| {
                    exchange.refuse(session, Some(request.raw_id()), &timed_out());
                });
            });
        }
        let stopping = self.slots.get(&key).is_some_and(|s| s.lifecycle.phase() == Phase::Stopping);
        if stopping {
            // A server that finishes before its restart: the start has not begun.
            session.waits_since = now;
            return self.set_patience(id);
        }
        let ailment = self.late(&key);
        self.answer_waiting(id, &ailment);
    }

    /// A pause is over.
    pub(super) fn retry(&mut self, key: &SlotKey, now: Instant) {
        if self.draining.is_some() {
            return;
        }
        if self.is_always(key) {
            self.keep_running(key, now);
        } else if self.waiter(key).is_some() || self.is_watched(key) {
            let _ = self.want_slot(key, now);
        }
        self.replay_waiting(key, now);
    }

    /// Wants a slot's child; where it is in a crash loop, wants it again when the pause is over.
    pub(super) fn keep_running(&mut self, key: &SlotKey, now: Instant) {
        if self.draining.is_some() {
            return;
        }
        if let Readiness::Ailing(_) = self.want_slot(key, now)
            && let Some(Phase::Paused { until, cause: Cause::CrashLoop }) =
                self.slots.get(key).map(|slot| slot.lifecycle.phase())
            && until > now
        {
            self.timers.set(until, Timer::Retry(key.clone()));
        }
    }
}
