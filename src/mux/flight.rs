//! Requests in flight at a child: put there, taken out by their answer, bounded in time.

use std::time::{Duration, Instant};

use super::abilities::Abilities;
use super::child::{Kind, Owner, Pending, UNWANTED};
use super::exchange::Exchange;
use super::outbox::{ChildId, End};
use super::session::Raw;
use super::timers::Timer;
use crate::config::tenant::Limit;
use crate::mcp::error::{Code, Failure};
use crate::names::SessionId;

/// How long progress can put off a request's time limit.
pub(super) const LONGEST_REQUEST: Duration = Duration::from_secs(3600);

impl Exchange {
    /// Puts a request in flight.
    pub(super) fn track(&mut self, child: ChildId, id: u64, mut pending: Pending) {
        if pending.kind != Kind::Listen {
            pending.deadline = self.request_limit(child).map(|limit| pending.born + limit);
        }
        if let Owner::Session { session, raw_id } = &pending.owner
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.in_flight.insert(raw_id.clone(), id);
        }
        let Some(to) = self.children.get_mut(&child) else { return };
        if let Some(at) = pending.deadline
            && to.limit(at, id)
        {
            self.timers.set(at, Timer::Requests(child));
        }
        to.pending.insert(id, pending);
    }

    /// A client's request counts, once.
    pub(super) fn count_call(&mut self, session: SessionId) {
        self.counters.calls += 1;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.calls += 1;
        }
    }

    /// A request in flight waits for its client's retry: the server goes on with it, nobody waits for it,
    /// and no limit runs. Gives the id that its client gave it.
    pub(super) fn hold(&mut self, child: ChildId, id: u64, held: u64) -> Option<Raw> {
        let pending = self.children.get_mut(&child)?.pending.get_mut(&id)?;
        let Owner::Session { session, raw_id } = &pending.owner else { return None };
        let (session, raw_id) = (*session, raw_id.clone());
        pending.owner = Owner::Held(held);
        // Its client was asked something: it is not asked a second time.
        pending.again = None;
        pending.deadline = None;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.in_flight.remove(&raw_id);
        }
        Some(raw_id)
    }

    /// The retry has come: the request is its client's again, as if it were sent now.
    pub(super) fn resume(&mut self, child: ChildId, id: u64, again: Resumed, now: Instant) {
        let limit = self.request_limit(child);
        let Some(to) = self.children.get_mut(&child) else { return };
        let Some(pending) = to.pending.get_mut(&id) else { return };
        pending.owner = Owner::Session { session: again.session, raw_id: again.raw_id.clone() };
        (pending.token, pending.log, pending.able) = (again.token, again.log, again.able);
        pending.born = now;
        pending.deadline = limit.map(|limit| now + limit);
        if let Some(at) = pending.deadline
            && to.limit(at, id)
        {
            self.timers.set(at, Timer::Requests(child));
        }
        if let Some(session) = self.sessions.get_mut(&again.session) {
            session.in_flight.insert(again.raw_id, id);
        }
    }

    /// Takes a request out of flight.
    pub(super) fn settle(&mut self, child: ChildId, id: u64) -> Option<Pending> {
        let from = self.children.get_mut(&child)?;
        let pending = from.pending.remove(&id)?;
        let was_last = from.stopping && from.is_idle();
        from.forget_old_limits();
        if let Owner::Session { session, raw_id } = &pending.owner
            && let Some(session) = self.sessions.get_mut(session)
            && let Some(other) = session.in_flight.remove(raw_id)
            && other != id
        {
            // Cancelled, and its id was used again: that one is still in flight.
            session.in_flight.insert(raw_id.clone(), other);
        }
        // One that was cancelled is forgotten already, and its id may be another one's.
        if let (Kind::Listen, Owner::Session { session, raw_id }, false) =
            (&pending.kind, &pending.owner, pending.cancelled)
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

    pub(super) fn request_limit(&self, child: ChildId) -> Option<Duration> {
        let child = self.children.get(&child)?;
        match self.server_plan(&child.slot.server)?.request_timeout_ms {
            Limit::At(ms) => Some(Duration::from_millis(ms)),
            Limit::Unlimited => None,
        }
    }

    /// Looks at the time limits that come due, and sets the alarm for the next.
    pub(super) fn requests_due(&mut self, id: ChildId, now: Instant) {
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
        if self.sessions.get(&session).is_some_and(|s| s.is_asked_by(child)) {
            pending.deadline = Some(now + again);
            from.limits.push_back((now + again, id));
            return;
        }
        self.settle(child, id);
        if !cancelled {
            self.send_cancel(child, id, "timed out");
            self.refuse(session, Some(&raw_id), &timed_out());
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

/// What is said of a request whose answer does not come.
pub(super) fn timed_out() -> Failure {
    Failure::new(
        Code::TimedOut,
        "timed-out",
        "the server did not answer in time (raise server.request_timeout if it needs longer)",
    )
}

/// What a retry says anew.
pub(super) struct Resumed {
    pub(super) session: SessionId,
    pub(super) raw_id: Raw,
    pub(super) token: Option<Raw>,
    pub(super) log: Option<u8>,
    pub(super) able: Abilities,
}

/// The owner of a request from a client.
pub(super) fn owned_by(session: SessionId, raw_id: &[u8]) -> Owner {
    let raw_id: Raw = raw_id.into();
    Owner::Session { session, raw_id }
}
