//! How things end: a session, a child, the whole exchange. Whoever waits is told, with its own id.

use std::time::{Duration, Instant};

use super::child::{Child, Kind, Owner, Shake};
use super::exchange::Exchange;
use super::outbox::{Act, ChildId, End};
use super::request::reread;
use super::session::{Ask, Asker, Session, SlotKey};
use super::timers::Timer;
use crate::config::tenant::Limit;
use crate::lifecycle::{Effect, Event};
use crate::mcp::era::Era;
use crate::mcp::error::{Code, Failure};
use crate::names::{ServerName, SessionId};
use crate::wire::Farewell;

/// How long a server has to end on its own after its stdin closed, and again after SIGTERM.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

impl Exchange {
    /// A client's input ended: it gets what is owed to it, then its session closes.
    pub(super) fn client_ended(&mut self, id: SessionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.ended = true;
        self.now = now;
        let server = self.plan.servers.iter().find(|s| s.name == session.slot.server);
        let start = server.map_or(0, |server| server.start_timeout_ms);
        // What it asked for may first have to wait for its server.
        let linger = Duration::from_millis(self.plan.drain_ms.saturating_add(start));
        self.timers.set(now + linger, Timer::Linger(id));
        self.end_rounds(id);
        self.close_if_done(id);
    }

    /// Ends a session: its calls are cancelled at the server, what it held is given back.
    pub(super) fn close_session(&mut self, id: SessionId, farewell: Farewell) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.timers.clear_all(|timer| {
            matches!(timer, Timer::Linger(it) | Timer::Patience(it)
                | Timer::Feed(it) | Timer::Rounds(it) if *it == id)
        });
        if let Some(slot) = self.slots.get_mut(&session.slot) {
            slot.sessions.remove(&id);
        }
        if let Some(child) = self.slots.get(&session.slot).and_then(|slot| slot.child) {
            self.let_go(child, &session);
        }
        if session.in_line {
            self.leave_line(id, &session.slot);
        }
        self.arm_idle(&session.slot, self.now);
        self.out.act(Act::CloseSession { session: id, farewell });
    }

    /// What a child must hear when a session of its is over.
    fn let_go(&mut self, child: ChildId, session: &Session) {
        for ours in session.in_flight.values() {
            if let Some(pending) = self.settle(child, *ours) {
                debug_assert!(matches!(pending.owner, Owner::Session { .. }));
                self.send_cancel(child, *ours, "the client is gone");
            }
        }
        for ask in session.asks.values().filter(|ask| ask.child == child) {
            let failure = Failure::new(Code::Denied, "client-gone", "the client is gone");
            if let Asker::Server { raw_id, .. } = &ask.asker {
                self.refuse_child(child, raw_id, &failure);
            }
        }
        if let Some(child) = self.children.get_mut(&child) {
            child.elicitations.retain(|_, asked| *asked != session.id);
            if session.in_line {
                child.turns.retain(|waiting| *waiting != session.id);
            }
        }
        for uri in &session.subscriptions {
            self.release(child, uri);
        }
        if session.has_own_child() {
            self.drop_all_held(child, "the client is gone");
        }
        self.end_streams(child, session);
        self.end_feed(child, session);
    }

    /// Nobody of this session holds a subscription any more: the last one ends it at the server.
    pub(super) fn release(&mut self, child: ChildId, uri: &str) {
        let legacy = |child: &Child| child.shake == Shake::Done && child.era == Some(Era::Legacy);
        let subscribed = self.children.get(&child).is_some_and(legacy);
        if subscribed && !self.is_held(child, None, uri) {
            let params = serde_json::json!({"uri": uri});
            self.own_request(child, "resources/unsubscribe", &params, self.now);
        }
    }

    /// A child could not be started, or is not what it should be.
    pub(super) fn give_up(&mut self, id: ChildId, why: &str, now: Instant) {
        let Some(child) = self.children.get(&id) else { return };
        if child.shake == Shake::Done {
            return;
        }
        self.log(&child.slot.server.clone(), &format!("tenantd: the server is stopped: {why}"));
        self.end_child(id);
        self.child_ended(id, why, false, now);
    }

    /// A running child met a limit.
    pub(super) fn child_limited(&mut self, id: ChildId, what: &str) {
        let key = self.children.get(&id).map(|child| child.slot.clone());
        if let Some(slot) = key.and_then(|key| self.slots.get_mut(&key)) {
            slot.limit = Some(what.to_owned());
        }
    }

    /// A child and all its descendants are gone, or were never there.
    pub(super) fn child_ended(&mut self, id: ChildId, why: &str, permanent: bool, now: Instant) {
        self.now = now;
        let Some(mut child) = self.children.remove(&id) else { return };
        self.timers.clear_all(|timer| {
            matches!(timer, Timer::Requests(c) | Timer::Probe(c) | Timer::Start(c)
                | Timer::Stop(c) | Timer::Health(c) | Timer::Held(c, _) if *c == id)
        });
        self.out.forget(End::Child(id));
        let server = child.slot.server.clone();
        self.out.act(Act::ForgetChild { child: id, server, reason: why.to_owned() });
        let key = child.slot.clone();
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.child = None;
            slot.last = Some(why.to_owned());
            slot.cache.clear();
            if child.shake == Shake::Probing {
                slot.died_probing = true;
            }
            // What an exit says of the command line holds only where it never served.
            let permanent = permanent && child.shake != Shake::Done;
            slot.lifecycle.on(Event::Died { permanent }, now);
        }
        let (reason, what) = match child.shake {
            Shake::Done => ("server-died", "is gone"),
            _ => ("not-started", "did not start"),
        };
        let message = format!("the server of {}/{} {what}: {why}", self.plan.tenant, key.server);
        let failure = Failure::new(Code::Unavailable, reason, message);
        self.orphan_all(&mut child, &failure);
        if child.shake == Shake::Done {
            self.wait_for_next(&key, now);
        }
        self.lose_feeds(id, &key, &failure);
        self.take_asks_back(id);
        if self.broken(&key).is_some() && !self.is_watched(&key) {
            self.tell_of_onset(&key);
        }
        if child.shake != Shake::Done {
            self.fail_strict(&key, &failure);
        }
        self.retry(&key, now);
        self.forget_if_unused(&key);
    }

    /// Lets go of a slot whose child is gone and that nobody uses.
    pub(super) fn forget_if_unused(&mut self, key: &SlotKey) {
        let unused = self.slots.get(key).is_some_and(|slot| slot.sessions.is_empty());
        if unused && !self.is_always(key) {
            self.slots.remove(key);
        }
    }

    /// Whoever waits for an answer of a child that is gone is told; a subscription goes to the next one, and
    /// so does what may be sent once more.
    fn orphan_all(&mut self, child: &mut Child, failure: &Failure) {
        let mut lost: Vec<_> = child.pending.drain().collect();
        // In the order in which they were sent.
        lost.sort_unstable_by_key(|(id, _)| *id);
        self.send_again(&mut lost);
        for (_, pending) in lost {
            if let (Kind::Compare(list, _), Some(slot)) =
                (&pending.kind, self.slots.get_mut(&child.slot))
            {
                slot.lists.doubt(*list);
            }
            let Owner::Session { session, raw_id } = pending.owner else { continue };
            if pending.kind == Kind::Listen && !pending.cancelled {
                let kept = self.sessions.get_mut(&session).is_some_and(|session| {
                    session.in_flight.remove(&raw_id);
                    session.listens.iter().any(|listen| listen.raw_id == raw_id)
                });
                if kept {
                    continue;
                }
            }
            self.orphan(session, &raw_id, pending.cancelled, failure);
        }
    }

    fn orphan(&mut self, id: SessionId, raw_id: &[u8], cancelled: bool, failure: &Failure) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.in_flight.remove(raw_id);
        }
        if !cancelled {
            self.refuse(id, Some(raw_id), failure);
        }
        self.close_if_done(id);
    }

    /// Clients need not answer what a dead server asked.
    fn take_asks_back(&mut self, child: ChildId) {
        let mut open = Vec::new();
        for session in self.sessions.values_mut() {
            let of_it = |ask: &Ask| {
                // What a modern server wants it wants of whoever serves the retry.
                ask.child == child && matches!(ask.asker, Asker::Server { .. })
            };
            let asked: Vec<u64> =
                session.asks.iter().filter(|(_, ask)| of_it(ask)).map(|(id, _)| *id).collect();
            for ask in asked {
                session.asks.remove(&ask);
                open.push((session.id, ask));
            }
        }
        for (session, ask) in open {
            let params = serde_json::json!({"requestId": ask, "reason": "the server died"});
            let line = crate::mcp::era::notification("notifications/cancelled", Some(&params));
            self.send(session, |out| out.extend_from_slice(&line));
        }
    }

    /// Lets a child finish what is in flight, then ends it; the next call starts it again.
    pub(super) fn restart(&mut self, server: Option<&ServerName>, now: Instant) {
        self.try_again(server, now);
        self.start_anew(|child| server.is_none_or(|server| child.slot.server == *server), now);
    }

    /// As [`Self::restart`], of these children of a server alone.
    pub(super) fn renew(&mut self, server: &ServerName, children: &[ChildId], now: Instant) {
        self.try_again(Some(server), now);
        let its = |child: &Child| child.slot.server == *server && children.contains(&child.id);
        self.start_anew(its, now);
    }

    fn start_anew(&mut self, of: impl Fn(&Child) -> bool, now: Instant) {
        let drain = Duration::from_millis(self.plan.drain_ms);
        let which: Vec<_> = self
            .children
            .values()
            .filter(|child| of(child))
            .map(|child| (child.id, child.is_idle()))
            .collect();
        for (id, idle) in which {
            self.hold_slot(id, now);
            if idle {
                self.end_child(id);
            } else {
                self.timers.set(now + drain, Timer::Stop(id));
            }
        }
    }

    /// What was given up is tried again, where somebody waits for it.
    pub(super) fn try_again(&mut self, server: Option<&ServerName>, now: Instant) {
        let concerned = self.slots.keys().filter(|key| server.is_none_or(|it| key.server == *it));
        for key in concerned.cloned().collect::<Vec<_>>() {
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.lifecycle.on(Event::Changed, now);
            }
            self.retry(&key, now);
        }
    }

    /// From now on calls wait for the next child.
    fn hold_slot(&mut self, id: ChildId, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.stopping = true;
        let key = child.slot.clone();
        // Their retries would find another child.
        self.drop_all_held(id, "the server is being restarted");
        if let Some(slot) = self.slots.get_mut(&key) {
            let effect = slot.lifecycle.on(Event::Stop, now);
            debug_assert!(matches!(effect, Effect::End | Effect::None));
        }
    }

    /// Starts the end of a child: stdin closed, SIGTERM, SIGKILL, each after [`PATIENCE`].
    pub(super) fn end_child(&mut self, id: ChildId) {
        if let Some(child) = self.children.get_mut(&id) {
            child.stopping = true;
            if child.alive {
                self.out.act(Act::StopChild { child: id, patience: PATIENCE });
            }
        }
    }

    /// Sets the alarm for a child that no session uses.
    pub(super) fn arm_idle(&mut self, key: &SlotKey, now: Instant) {
        let Some(slot) = self.slots.get(key) else { return };
        let Some(plan) = self.server_plan(&key.server) else { return };
        if !slot.sessions.is_empty() || self.is_always(key) {
            return;
        }
        let Limit::At(ms) = plan.idle_timeout_ms else { return };
        // Nobody but its own session ever uses a session's child again.
        let own = matches!(key.whose, super::session::Whose::Session(_));
        let after = if own { Duration::ZERO } else { Duration::from_millis(ms) };
        self.timers.renew(now + after, Timer::Idle(key.clone()));
    }

    pub(super) fn idle(&mut self, key: &SlotKey, now: Instant) {
        let child = self.slots.get(key).filter(|slot| slot.sessions.is_empty()).map(|s| s.child);
        match child {
            Some(Some(child)) => {
                // Somebody may come back for what waits there.
                let until = self.children.get(&child).and_then(|child| child.held.until());
                if let Some(until) = until.filter(|until| *until > now) {
                    return self.timers.set(until, Timer::Idle(key.clone()));
                }
                self.hold_slot(child, now);
                self.end_child(child);
            }
            Some(None) => {
                self.slots.remove(key);
            }
            None => {}
        }
    }

    /// No new calls; those in flight have a while; then every session hears the farewell.
    pub(super) fn drain(&mut self, farewell: Farewell, within: Duration, now: Instant) {
        if self.draining.is_none() {
            self.timers.set(now + within, Timer::Drain);
        }
        self.now = now;
        self.draining = Some(farewell);
        let failure = stopping();
        let slots: Vec<_> = self.slots.keys().cloned().collect();
        for slot in slots {
            self.fail_waiting(&slot, &failure);
        }
        let children: Vec<_> = self.children.keys().copied().collect();
        for child in children {
            self.drop_all_held(child, "tenantd is stopping");
        }
        self.finish_if_drained();
    }

    /// Whether nothing is in flight any more; then the drain need not wait longer.
    pub(super) fn finish_if_drained(&mut self) {
        let owed = self.sessions.values().any(Session::is_owed);
        if self.draining.is_some() && !owed {
            self.drain_over();
        }
    }

    pub(super) fn drain_over(&mut self) {
        let Some(farewell) = self.draining.clone() else { return };
        self.timers.clear_all(|timer| *timer == Timer::Drain);
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.finish_streams(session);
            self.refuse_in_flight(session);
            self.close_session(session, farewell.clone());
        }
        // Also those that were to finish something before a restart: nobody waits for it any more.
        let children: Vec<_> = self.children.keys().copied().collect();
        for child in children {
            self.end_child(child);
        }
        // A child that was asked for and has not come will find nobody.
        self.children.retain(|_, child| child.alive);
    }

    /// What the drain did not wait for is answered all the same.
    fn refuse_in_flight(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let waiting = session.take_waiting();
        let rounds = session.rounds.open().chain(session.feed.waiting());
        let open: Vec<_> = session.in_flight.keys().chain(rounds).cloned().collect();
        for raw_id in open {
            self.refuse(id, Some(&raw_id), &stopping());
        }
        for line in waiting {
            reread(&line.bytes, |request| self.refuse(id, Some(request.raw_id()), &stopping()));
        }
    }

    /// Whether there is neither session nor child.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.children.is_empty()
    }

    pub(super) fn log(&mut self, server: &ServerName, text: &str) {
        self.out.act(Act::Log { server: server.clone(), text: text.to_owned() });
    }
}

/// What is said to requests once the mux is on its way out.
pub(super) fn stopping() -> Failure {
    Failure::new(Code::Unavailable, "stopping", "tenantd is stopping")
}
