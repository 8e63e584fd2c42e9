//! What the exchange tells about itself: lists for `status` and for an adopting supervisor.

use std::time::Instant;

use super::child::Slot;
use super::exchange::Exchange;
use super::session::{Session, SlotKey, Whose};
use crate::lifecycle::Phase;
use crate::wire::{ChildLine, MuxStatus, SessionLine};

impl Exchange {
    /// Everything, for a person to read.
    pub(super) fn status(&self, now: Instant) -> MuxStatus {
        MuxStatus {
            sessions: self.session_lines(now),
            children: self.child_lines(now),
            calls: self.counters.calls,
            refused: self.counters.refused,
            dropped: self.counters.dropped,
        }
    }

    pub(super) fn session_lines(&self, now: Instant) -> Vec<SessionLine> {
        let mut lines: Vec<_> =
            self.sessions.values().map(|session| session_line(session, now)).collect();
        lines.sort_by_key(|line| line.session);
        lines
    }

    pub(super) fn child_lines(&self, now: Instant) -> Vec<ChildLine> {
        let mut lines: Vec<_> =
            self.slots.iter().map(|(key, slot)| self.child_line_of(key, slot, now)).collect();
        lines.sort_by(|a, b| (&a.server, &a.user, a.child).cmp(&(&b.server, &b.user, b.child)));
        lines
    }

    fn child_line_of(&self, key: &SlotKey, slot: &Slot, now: Instant) -> ChildLine {
        let child = slot.child.and_then(|id| self.children.get(&id));
        let holder = slot.sessions.first().and_then(|id| self.sessions.get(id));
        let user = match key.whose {
            Whose::Tenant => None,
            Whose::User(uid) => {
                Some(holder.map_or_else(|| uid.to_string(), |s| s.holder.user.clone()))
            }
            Whose::Session(session) => Some(session.to_string()),
        };
        ChildLine {
            child: slot.child.unwrap_or_default(),
            server: key.server.clone(),
            user,
            state: state(slot).to_owned(),
            era: child.and_then(|child| child.era).map(|era| era.as_str().to_owned()),
            version: child.and_then(|child| child.version.clone()),
            sessions: u32::try_from(slot.sessions.len()).unwrap_or(u32::MAX),
            starts: slot.starts,
            last: slot.last.clone(),
            age_s: child.map_or(0, |child| now.duration_since(child.started).as_secs()),
        }
    }
}

fn state(slot: &Slot) -> &'static str {
    match slot.lifecycle.phase() {
        Phase::Asked | Phase::Shaking => "starting",
        Phase::Running { .. } => "running",
        Phase::Stopping => "stopping",
        Phase::Paused { .. } if slot.broken => "failed",
        Phase::Paused { .. } => "waiting",
        Phase::Idle => "idle",
    }
}

fn session_line(session: &Session, now: Instant) -> SessionLine {
    SessionLine {
        session: session.id,
        server: session.slot.server.clone(),
        uid: session.holder.uid,
        user: session.holder.user.clone(),
        client: session.client.clone(),
        era: session.era.map(|era| era.as_str().to_owned()),
        in_flight: u32::try_from(session.in_flight.len()).unwrap_or(u32::MAX),
        calls: session.calls,
        age_s: now.duration_since(session.opened).as_secs(),
    }
}
