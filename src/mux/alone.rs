//! While no supervisor is there: sessions go on, and what is to be started waits a while for the next one.
//!
//! Nothing of that counts as a failure of a server: a slot whose start nobody could make is as if it had
//! never been wanted.

use std::time::{Duration, Instant};

use super::exchange::Exchange;
use super::outbox::{Act, ChildId};
use super::session::Whose;
use super::timers::Timer;
use crate::lifecycle::Event;
use crate::mcp::error::{Code, Failure};

/// How long after the end of a supervisor a start waits for the next one: a service manager restarts it
/// within a fraction of that, and adoption takes two seconds at most.
const NEXT_WITHIN: Duration = Duration::from_secs(3);

impl Exchange {
    /// The supervisor is gone.
    pub(super) fn supervisor_gone(&mut self, now: Instant) {
        self.alone = Some(now);
    }

    /// A supervisor is there: what was asked for and has not come is asked for again.
    pub(super) fn supervisor_came(&mut self, now: Instant) {
        self.now = now;
        self.alone = None;
        let asked = self.children.values().filter(|child| !child.alive);
        let mut asked: Vec<_> = asked.map(|child| (child.id, child.stopping)).collect();
        asked.sort_unstable();
        for (id, stopping) in asked {
            if stopping {
                // It was not to run any more: who waits gets the one after it.
                self.child_ended(id, "it was stopped before it ran", false, now);
            } else {
                self.ask_again(id, now);
            }
        }
        self.start_always(now);
        // What is watched for a cure was not tried meanwhile.
        let watched: Vec<_> =
            self.slots.keys().filter(|key| self.is_watched(key)).cloned().collect();
        watched.iter().for_each(|key| self.retry(key, now));
    }

    /// Whether nobody is there to start anything, and it was long enough waited for somebody.
    pub(super) fn is_abandoned(&self, now: Instant) -> bool {
        self.alone.is_some_and(|since| now.saturating_duration_since(since) >= NEXT_WITHIN)
    }

    /// How long a start that was asked for now may take, where it could take `usual`.
    fn start_patience(&self, usual: Duration, now: Instant) -> Duration {
        let left = self.alone.map(|since| (since + NEXT_WITHIN).saturating_duration_since(now));
        left.map_or(usual, |left| left.min(usual))
    }

    /// Asks for a child that does not run yet.
    pub(super) fn ask_again(&mut self, id: ChildId, now: Instant) {
        let Some(key) = self.children.get(&id).map(|child| child.slot.clone()) else { return };
        let timeout = self.server_plan(&key.server).map_or(9000, |server| server.start_timeout_ms);
        let timeout = self.start_patience(Duration::from_millis(timeout), now);
        let Some(slot) = self.slots.get(&key) else { return };
        let first = slot.sessions.first().and_then(|session| self.sessions.get(session));
        let holder = match key.whose {
            Whose::Tenant => None,
            Whose::User(_) | Whose::Session(_) => first.map(|session| session.holder.clone()),
        };
        self.timers.clear_all(|timer| *timer == Timer::Start(id));
        self.timers.set(now + timeout, Timer::Start(id));
        self.out.act(Act::Ask { child: id, server: key.server, holder });
    }

    /// A start took too long, or nobody is there to make it.
    pub(super) fn start_late(&mut self, id: ChildId, now: Instant) {
        if self.alone.is_some() && self.children.get(&id).is_some_and(|child| !child.alive) {
            return self.take_back(id, now);
        }
        self.give_up(id, "it did not finish the handshake in time (server.start_timeout)", now);
    }

    /// A start that nobody could make is late: whoever waits for it is told what to do.
    fn take_back(&mut self, id: ChildId, now: Instant) {
        self.now = now;
        let Some(child) = self.children.remove(&id) else { return };
        self.timers
            .clear_all(|timer| matches!(timer, Timer::Start(c) | Timer::Stop(c) if *c == id));
        let key = child.slot;
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.child = None;
            slot.starts = slot.starts.saturating_sub(1);
            slot.lifecycle.on(Event::Unattended, now);
        }
        self.fail_waiting(&key, &nobody());
        self.forget_if_unused(&key);
    }
}

/// What a call hears whose server nobody can start.
pub(super) fn nobody() -> Failure {
    Failure::new(
        Code::Unavailable,
        "no-supervisor",
        "the server is down, and so is tenantd's supervisor, which starts it (systemctl start \
         tenantd; a user's own: tenantd connect starts it)",
    )
}
