//! The exchange's alarms: a set ordered by time. No clock of its own.

use std::collections::BTreeSet;
use std::time::Instant;

use super::outbox::ChildId;
use super::session::SlotKey;
use crate::names::SessionId;

/// What an alarm is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// Some request's answer is late.
    Requests(ChildId),
    /// A probe's answer is late.
    Probe(ChildId),
    /// A start is late.
    Start(ChildId),
    /// A pause is over and somebody waits.
    Retry(SlotKey),
    /// A session has waited for its server as long as a start may take.
    Patience(SessionId),
    /// A child is looked at, or its answer to that is due.
    Health(ChildId),
    /// The upstream subscription of a legacy session is asked for again.
    Feed(SessionId),
    /// A session's client may have been asked for input long enough.
    Rounds(SessionId),
    /// A request that is held open for its retry has waited long enough.
    Held(ChildId, u64),
    /// A child without sessions has lived long enough.
    Idle(SlotKey),
    /// A session whose input ended has waited long enough.
    Linger(SessionId),
    /// A child that is to be stopped has had its time for calls in flight.
    Stop(ChildId),
    /// The drain is over.
    Drain,
}

/// Alarms by time.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Instant, Timer)>);

impl Timers {
    /// Sets an alarm.
    pub(super) fn set(&mut self, at: Instant, timer: Timer) {
        self.0.insert((at, timer));
    }

    /// Takes every alarm of that kind back.
    pub(super) fn clear_all(&mut self, which: impl Fn(&Timer) -> bool) {
        self.0.retain(|(_, timer)| !which(timer));
    }

    /// When the next alarm is.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// The next alarm that is due.
    pub(super) fn due(&mut self, now: Instant) -> Option<Timer> {
        if self.next()? <= now { self.0.pop_first().map(|(_, timer)| timer) } else { None }
    }
}
