//! The exchange: every session and child of one tenant, and the rules between them.
//!
//! One value, owned by the mux's single thread, pure: it takes lines and events with the time, and
//! leaves bytes and acts in its [`Outbox`]. It opens nothing, waits for nothing and reads no clock. Its
//! rules are told in the files beside: `client` (what a client sends), `server` (what a server
//! sends), `asks` (a server's own requests), `start` (handshakes), `finish` (ends).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::child::{Child, Kind, Owner, Pending, Slot, UNWANTED};
use super::memory::Knowledge;
use super::outbox::{Act, ChildId, End, Outbox};
use super::session::{Raw, Session, SlotKey};
use super::timers::{Timer, Timers};
use crate::config::tenant::Limit;
use crate::lifecycle::Phase;
use crate::mcp::error::{Code, Failure};
use crate::names::{ServerName, SessionId};
use crate::wire::{Farewell, Holder, MuxPlan, ServerPlan};

/// The longest line that any server gets, bytes. TypeScript servers die of a buffer over 10 MiB, and
/// theirs holds a chunk of the next line (64 KiB) beside ours.
pub(super) const LONGEST_LINE: usize = 10 * 1024 * 1024 - 128 * 1024;
/// How much may wait for a client before it is closed as too slow, bytes: one longest line and as much
/// again.
const SESSION_BACKLOG: usize = 2 * LONGEST_LINE;
/// How long progress can put off a request's time limit.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);

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
    /// What the pauses of the next slot are drawn from.
    seed: u64,
    /// Set while the mux is on its way out: what clients are told.
    pub(super) draining: Option<Farewell>,
    /// Since when there is no supervisor.
    pub(super) alone: Option<Instant>,
    /// The time of the event that is being handled.
    pub(super) now: Instant,
}

impl Exchange {
    /// `seed` is what pauses are drawn from; `known` what an exchange before this one learned.
    pub(super) fn new(plan: MuxPlan, known: Knowledge, seed: u64, now: Instant) -> Self {
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
            seed,
            draining: None,
            alone: None,
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

    /// The child that a session's bytes wait for, for the driver's back-pressure.
    pub(super) fn backlog(&self, session: SessionId) -> usize {
        let own = self.out.backlog(End::Session(session));
        let child = self.ready_child(session).map_or(0, |id| self.out.backlog(End::Child(id)));
        own.max(child)
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

    /// Puts a request in flight.
    pub(super) fn track(&mut self, child: ChildId, id: u64, mut pending: Pending) {
        if pending.kind != Kind::Listen {
            pending.deadline = self.request_limit(child).map(|limit| pending.born + limit);
        }
        if let Owner::Session { session, raw_id } = &pending.owner
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.in_flight.insert(raw_id.clone(), id);
            session.calls += 1;
            self.counters.calls += 1;
        }
        let Some(to) = self.children.get_mut(&child) else { return };
        if let Some(at) = pending.deadline {
            // One alarm for all: the limits of one child come due in the order of their setting.
            if to.limits.is_empty() {
                self.timers.set(at, Timer::Requests(child));
            }
            to.limits.push_back((at, id));
        }
        to.pending.insert(id, pending);
    }

    /// Takes a request out of flight.
    pub(super) fn settle(&mut self, child: ChildId, id: u64) -> Option<Pending> {
        let from = self.children.get_mut(&child)?;
        let pending = from.pending.remove(&id)?;
        let was_last = from.stopping && from.pending.is_empty();
        from.forget_old_limits();
        if let Owner::Session { session, raw_id } = &pending.owner
            && let Some(session) = self.sessions.get_mut(session)
            && let Some(other) = session.in_flight.remove(raw_id)
            && other != id
        {
            // Cancelled, and its id was used again: that one is still in flight.
            session.in_flight.insert(raw_id.clone(), other);
        }
        if let (Kind::Listen, Owner::Session { session, raw_id }) = (&pending.kind, &pending.owner)
        {
            self.forget_listen(*session, raw_id);
        }
        if was_last {
            self.end_child(child);
        }
        Some(pending)
    }

    /// Nobody waits for the answer to a request: it is remembered only as long as there are few of those.
    pub(super) fn forget_in_time(&mut self, child: ChildId, id: u64) {
        let Some(to) = self.children.get_mut(&child) else { return };
        to.unwanted.push_back(id);
        if to.unwanted.len() > UNWANTED
            && let Some(oldest) = to.unwanted.pop_front()
        {
            self.settle(child, oldest);
        }
    }

    /// Progress puts a request's time limit off, up to an hour.
    pub(super) fn put_off(&mut self, child: ChildId, id: u64, now: Instant) {
        let Some(limit) = self.request_limit(child) else { return };
        let pending = self.children.get_mut(&child).and_then(|child| child.pending.get_mut(&id));
        if let Some(pending) = pending
            && let Some(old) = pending.deadline
        {
            // The alarm that is set finds the new limit and waits for it.
            pending.deadline = Some((now + limit).min(pending.born + LONGEST_REQUEST).max(old));
        }
    }

    /// Whether nothing waits to be written.
    pub(super) fn out_is_idle(&self) -> bool {
        self.out.is_idle()
    }

    fn request_limit(&self, child: ChildId) -> Option<Duration> {
        let child = self.children.get(&child)?;
        match self.server_plan(&child.slot.server)?.request_timeout_ms {
            Limit::At(ms) => Some(Duration::from_millis(ms)),
            Limit::Unlimited => None,
        }
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
                Timer::Idle(slot) => self.idle(&slot, now),
                Timer::Linger(session) => {
                    self.close_session(session, Farewell { reason: String::new(), code: 0 });
                }
                Timer::Stop(child) => self.end_child(child),
                Timer::Drain => self.drain_over(),
            }
        }
    }

    /// Looks at the time limits that come due, and sets the alarm for the next.
    fn requests_due(&mut self, id: ChildId, now: Instant) {
        let mut late = Vec::new();
        let Some(child) = self.children.get_mut(&id) else { return };
        while child.limits.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, request)) = child.limits.pop_front() else { break };
            match child.pending.get(&request).and_then(|pending| pending.deadline) {
                Some(at) if at > now => child.limits.push_back((at, request)),
                Some(_) => late.push(request),
                None => {}
            }
        }
        for request in late {
            self.request_late(id, request, now);
        }
        let next = self.children.get(&id).and_then(|child| child.limits.front());
        if let Some((at, _)) = next {
            self.timers.set(*at, Timer::Requests(id));
        }
    }

    fn request_late(&mut self, child: ChildId, id: u64, now: Instant) {
        let again = self.request_limit(child).unwrap_or(LONGEST_REQUEST);
        let Some(from) = self.children.get_mut(&child) else { return };
        let Some(pending) = from.pending.get_mut(&id) else { return };
        let Owner::Session { session, raw_id } = &pending.owner else { return };
        let (session, raw_id, cancelled) = (*session, raw_id.clone(), pending.cancelled);
        // Waiting for a person does not count: the server has asked this client something.
        if self.sessions.get(&session).is_some_and(|s| s.asks.values().any(|a| a.child == child)) {
            pending.deadline = Some(now + again);
            from.limits.push_back((now + again, id));
            return;
        }
        self.settle(child, id);
        if !cancelled {
            self.send_cancel(child, id, "timed out");
            let failure = Failure::new(
                Code::TimedOut,
                "timed-out",
                "the server did not answer in time (raise server.request_timeout if it needs longer)",
            );
            self.refuse(session, Some(&raw_id), &failure);
        }
        self.close_if_done(session);
    }

    /// Tells a child that an answer is not wanted any more.
    pub(super) fn send_cancel(&mut self, child: ChildId, id: u64, reason: &str) {
        let params = serde_json::json!({"requestId": id, "reason": reason});
        let line = crate::mcp::era::notification("notifications/cancelled", Some(&params));
        self.out.push(End::Child(child), &line);
    }
}

/// The owner of a request from a client.
pub(super) fn owned_by(session: SessionId, raw_id: &[u8]) -> Owner {
    let raw_id: Raw = raw_id.into();
    Owner::Session { session, raw_id }
}
