//! The exchange: every session and child of one tenant, and the rules between them.
//!
//! One value, owned by the mux's single thread, pure: it takes lines and events with the time, and
//! leaves bytes and acts in its [`Outbox`]. It opens nothing, waits for nothing and reads no clock. Its
//! rules are told in the files beside: `client` and `replies` (what a client sends), `server` and
//! `notices` (what a server sends), `asks` (a server's own requests), `flight` (requests in flight),
//! `cross` (eras that differ), `start` (handshakes), `finish` (ends).

use std::collections::HashMap;
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::child::{Child, Slot};
use super::client::Passing;
use super::cross::seal::Seal;
use super::memory::Knowledge;
use super::outbox::{Act, ChildId, End, Outbox};
use super::session::{Session, SlotKey};
use super::storage::Storage;
use super::timers::{Timer, Timers};
use crate::lifecycle::Phase;
use crate::mcp::error::Failure;
use crate::names::{ServerName, SessionId};
use crate::wire::{Farewell, Holder, MuxPlan, ServerPlan};

/// The longest line that any server gets, bytes. TypeScript servers die of a buffer over 10 MiB, and
/// theirs holds a chunk of the next line (64 KiB) beside ours.
pub(super) const LONGEST_LINE: usize = 10 * 1024 * 1024 - 128 * 1024;
/// How much may wait for a client before it is closed as too slow, bytes: one longest line and as much
/// again.
const SESSION_BACKLOG: usize = 2 * LONGEST_LINE;

/// What happened since the start.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counters {
    pub(super) calls: u64,
    pub(super) refused: u64,
    pub(super) dropped: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) plan: MuxPlan,
    pub(super) sessions: FxHashMap<SessionId, Session>,
    pub(super) slots: HashMap<SlotKey, Slot>,
    pub(super) children: FxHashMap<ChildId, Child>,
    pub(super) out: Outbox,
    pub(super) timers: Timers,
    pub(super) counters: Counters,
    pub(super) next_child: ChildId,
    /// What programs answered to their last handshake.
    pub(super) known: Knowledge,
    /// What binds a `requestState` of ours to whom it was given.
    pub(super) seal: Seal,
    /// What the pauses of the next slot are drawn from.
    seed: u64,
    /// Set while the mux is on its way out: what clients are told.
    pub(super) draining: Option<Farewell>,
    /// Whether there is room for more.
    pub(super) storage: Storage,
    /// Since when there is no supervisor.
    pub(super) alone: Option<Instant>,
    /// The line that is handed on was sent to a server before, which died.
    pub(super) resending: bool,
    /// How the request that is being passed on came here; none for what is sent again for another reason.
    pub(super) passing: Option<Passing>,
    /// The time of the event that is being handled.
    pub(super) now: Instant,
}

impl Exchange {
    /// `entropy` is what pauses are drawn from and what this exchange seals with: random, nobody else's.
    /// `known` is what an exchange before this one learned.
    pub(super) fn new(plan: MuxPlan, known: Knowledge, entropy: [u8; 32], now: Instant) -> Self {
        let seed = entropy.iter().fold(0_u64, |seed, byte| seed.rotate_left(8) ^ u64::from(*byte));
        Self {
            plan,
            now,
            sessions: FxHashMap::default(),
            slots: HashMap::new(),
            children: FxHashMap::default(),
            out: Outbox::default(),
            timers: Timers::default(),
            counters: Counters::default(),
            next_child: 1,
            known,
            seal: Seal::new(entropy),
            seed,
            draining: None,
            storage: Storage::default(),
            alone: None,
            resending: false,
            passing: None,
        }
    }

    /// The longest line from a client or server.
    pub(super) fn line_limit(&self) -> usize {
        let own = self.plan.message_size.or(u64::MAX);
        usize::try_from(own).unwrap_or(usize::MAX).min(LONGEST_LINE)
    }

    /// A new session.
    pub(super) fn open(
        &mut self,
        id: SessionId,
        server: ServerName,
        holder: Holder,
        strict: bool,
        now: Instant,
    ) {
        self.now = now;
        let farewell = match self.server_plan(&server) {
            Some(plan) if self.draining.is_none() => {
                let share = plan.share;
                let session = Session::new(id, server, share, holder, strict, &self.plan, now);
                let key = session.slot.clone();
                self.slot(&key).sessions.insert(id);
                self.timers.clear_all(|timer| *timer == Timer::Idle(key.clone()));
                self.sessions.insert(id, session);
                let ailment = self.held(&key.server).cloned().or_else(|| self.broken(&key));
                if let Some(ailment) = ailment.filter(|_| strict) {
                    let farewell = Farewell { reason: ailment.message, code: ailment.code };
                    self.close_session(id, farewell);
                }
                return;
            }
            Some(_) => self.draining.clone(),
            None => Some(Farewell {
                reason: format!("{} has no server \"{server}\" any more", self.plan.tenant),
                code: 78,
            }),
        };
        if let Some(farewell) = farewell {
            self.out.act(Act::CloseSession { session: id, farewell });
        }
    }

    /// A child wrote a line to stderr.
    pub(super) fn heard_stderr(&mut self, child: ChildId, line: &[u8]) {
        let slot = self.children.get(&child).map(|child| child.slot.clone());
        if let Some(slot) = slot.and_then(|key| self.slots.get_mut(&key)) {
            slot.heard_stderr(line);
        }
    }

    /// The slot of a key, made where there is none.
    pub(super) fn slot(&mut self, key: &SlotKey) -> &mut Slot {
        // Any number will do that differs from slot to slot.
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let seed = self.seed;
        self.slots.entry(key.clone()).or_insert_with(|| Slot::new(seed))
    }

    pub(super) fn server_plan(&self, name: &ServerName) -> Option<&ServerPlan> {
        self.plan.servers.iter().find(|server| server.name == *name)
    }

    /// The child that a session's requests go to, if it answers.
    pub(super) fn ready_child(&self, session: SessionId) -> Option<ChildId> {
        let slot = self.slots.get(&self.sessions.get(&session)?.slot)?;
        match slot.lifecycle.phase() {
            // One that was stopped before its handshake hears nothing.
            Phase::Running { .. } | Phase::Stopping => {
                slot.child.filter(|child| self.children.get(child).is_some_and(Child::has_shaken))
            }
            _ => None,
        }
    }

    /// The child that a session's request can go to at once.
    pub(super) fn serving_child(&self, session: &Session) -> Option<ChildId> {
        let child = session.child?;
        self.children.get(&child).is_some_and(Child::serves).then_some(child)
    }

    /// Whether a child's pipe takes nothing now.
    pub(super) fn is_full(&self, child: ChildId) -> bool {
        self.children.get(&child).is_some_and(|child| child.full)
    }

    /// How much lies before or behind a client, for the driver's back-pressure.
    pub(super) fn backlog(&self, session: SessionId) -> usize {
        let own = self.out.backlog(End::Session(session));
        // What waits for a start has a bound of its own, and is refused beyond it.
        let behind = self.sessions.get(&session).filter(|session| session.in_line);
        own.max(behind.map_or(0, Session::waiting_bytes))
    }

    /// Sends a line to a client; one that does not read is closed.
    pub(super) fn send(&mut self, session: SessionId, line: impl FnOnce(&mut Vec<u8>)) {
        let end = End::Session(session);
        if self.out.line(end, line) > SESSION_BACKLOG {
            let reason = "the client does not read its messages".to_owned();
            // Nothing that is queued can be delivered in time.
            self.out.forget(end);
            self.close_session(session, Farewell { reason, code: 69 });
        }
    }

    /// Answers a client's request (or, without an id, its line) with an error of ours.
    pub(super) fn refuse(&mut self, session: SessionId, id: Option<&[u8]>, failure: &Failure) {
        self.counters.refused += 1;
        let line = failure.line(id, &self.plan.tenant);
        self.send(session, |out| out.extend_from_slice(&line));
    }

    /// A line that can be neither delivered nor answered.
    pub(super) fn drop_line(&mut self, server: &ServerName, why: &str) {
        self.counters.dropped += 1;
        let text = format!("tenantd: dropped a line: {why}");
        self.out.act(Act::Log { server: server.clone(), text });
    }

    /// Whether nothing waits to be written.
    pub(super) fn out_is_idle(&self) -> bool {
        self.out.is_idle()
    }

    /// A session whose input ended closes with its last answer.
    pub(super) fn close_if_done(&mut self, session: SessionId) {
        let done = self.sessions.get(&session).is_some_and(|s| s.ended && !s.is_owed());
        if done {
            self.close_session(session, Farewell { reason: String::new(), code: 0 });
        }
        if self.draining.is_some() {
            self.finish_if_drained();
        }
    }

    /// The next moment at which [`Self::tick`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        self.now = now;
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Requests(child) => self.requests_due(child, now),
                Timer::Probe(child) => self.probe_late(child, now),
                Timer::Start(child) => self.start_late(child, now),
                Timer::Retry(slot) => self.retry(&slot, now),
                Timer::Patience(session) => self.patience_over(session, now),
                Timer::Health(child) => self.look_at(child, now),
                Timer::Feed(session) => self.renew_feed(session, now),
                Timer::Rounds(session) => self.rounds_due(session, now),
                Timer::Held(child, held) => self.held_too_long(child, held, now),
                Timer::Idle(slot) => self.idle(&slot, now),
                Timer::Linger(session) => {
                    self.close_session(session, Farewell { reason: String::new(), code: 0 });
                }
                Timer::Stop(child) => self.end_child(child),
                Timer::Drain => self.drain_over(),
            }
        }
    }
}
