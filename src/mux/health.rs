//! Whether a server that nobody calls still answers: asked once a minute where nothing was asked of it
//! since, so that calls that flow are the proof and cost nothing.
//!
//! Legacy servers get `ping` (2025-11-25, basic/utilities/ping), modern ones `server/discover`; any
//! response will do. A server that never answered one is not judged by it: some ignore what they do not
//! know. One that did and falls silent is replaced.

use std::time::{Duration, Instant};

use super::child::Kind;
use super::exchange::Exchange;
use super::outbox::{ChildId, End};
use super::timers::Timer;
use crate::mcp::era::{self, Era};

/// How often a server is looked at.
pub(super) const EVERY: Duration = Duration::from_secs(60);
/// How long it has to answer.
const WITHIN: Duration = Duration::from_secs(30);

/// What is known of a child's health.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Health {
    /// Its next request id at the last look: another one means that calls flowed.
    seen: u64,
    /// It has answered a check before.
    answers: bool,
    /// A check is under way.
    asked: bool,
    /// A first check stayed unanswered: no more are made.
    deaf: bool,
}

impl Exchange {
    /// A child is ready: from now on it is looked at.
    pub(super) fn watch_health(&mut self, child: ChildId, now: Instant) {
        self.timers.renew(now + EVERY, Timer::Health(child));
    }

    /// It is time to look at a child, or a check came due.
    pub(super) fn look_at(&mut self, id: ChildId, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        if child.stopping || child.health.deaf {
            return;
        }
        if child.health.asked {
            return self.unanswered(id, now);
        }
        let idle = child.next_id == child.health.seen && !child.has_calls();
        child.health.seen = child.next_id;
        if !idle {
            return self.watch_health(id, now);
        }
        let ours = child.take_id();
        child.health.seen = child.next_id;
        child.health.asked = true;
        let line = match child.era {
            Some(Era::Modern) => era::discover_request(ours),
            _ => era::request(ours, "ping", &serde_json::json!({})),
        };
        self.send_own(id, ours, Kind::Health, &line, now);
        self.timers.set(now + WITHIN, Timer::Health(id));
    }

    /// A child has answered a check.
    pub(super) fn is_healthy(&mut self, id: ChildId, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.health.answers = true;
        child.health.asked = false;
        self.timers.clear_all(|timer| *timer == Timer::Health(id));
        self.watch_health(id, now);
    }

    fn unanswered(&mut self, id: ChildId, now: Instant) {
        let Some(child) = self.children.get_mut(&id) else { return };
        // Calls that were answered meanwhile, or that wait, say more than the check: their own limit holds.
        if child.has_calls() || child.next_id != child.health.seen {
            child.health.asked = false;
            return self.watch_health(id, now);
        }
        if !child.health.answers {
            child.health.deaf = true;
            return;
        }
        let why = format!("it did not answer a health check within {} s", WITHIN.as_secs());
        let server = child.slot.server.clone();
        self.log(&server, &format!("tenantd: the server is stopped: {why}"));
        self.out.forget(End::Child(id));
        self.child_ended(id, &why, false, now);
    }
}
