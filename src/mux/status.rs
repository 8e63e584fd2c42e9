//! What the exchange tells about itself: lists for `status` and for an adopting supervisor.

use std::time::Instant;

use super::child::Slot;
use super::exchange::Exchange;
use super::session::{Session, SlotKey, Whose};
use crate::lifecycle::{Cause, Phase};
use crate::sys::DESCRIPTORS;
use crate::wire::{CELL_DATAGRAM, ChildLine, MuxStatus, SessionLine};

impl Exchange {
    /// Everything, for a person to read, in parts.
    pub(super) fn status(&self, now: Instant) -> Vec<MuxStatus> {
        parts(self.session_lines(now), self.child_lines(now))
            .into_iter()
            .map(|(sessions, children)| MuxStatus {
                sessions,
                children,
                calls: self.counters.calls,
                refused: self.counters.refused,
                dropped: self.counters.dropped,
            })
            .collect()
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
            pid: child.and_then(|child| child.pid),
            user,
            state: self.state(key, slot).to_owned(),
            era: child.and_then(|child| child.era).map(|era| era.as_str().to_owned()),
            version: child.and_then(|child| child.version.clone()),
            sessions: u32::try_from(slot.sessions.len()).unwrap_or(u32::MAX),
            starts: slot.starts,
            last: slot.last.clone(),
            limit: slot.limit.clone(),
            stderr: slot.stderr.iter().cloned().collect(),
            age_s: child.map_or(0, |child| now.duration_since(child.started).as_secs()),
        }
    }

    fn state(&self, key: &SlotKey, slot: &Slot) -> &'static str {
        match slot.lifecycle.phase() {
            Phase::Stopping => "stopping",
            _ if self.held(&key.server).is_some() => "held",
            Phase::Asked | Phase::Shaking => "starting",
            Phase::Running { .. } => "running",
            Phase::Paused { cause: Cause::Crash, .. } => "waiting",
            Phase::Paused { cause: Cause::CrashLoop, .. } => "crash-loop",
            Phase::Paused { cause: Cause::Permanent, .. } => "failed",
            Phase::Idle => "idle",
        }
    }
}

fn session_line(session: &Session, now: Instant) -> SessionLine {
    SessionLine {
        session: session.id,
        server: session.slot.server.clone(),
        holder: session.holder.clone(),
        client: session.client.clone(),
        era: session.era.map(|era| era.as_str().to_owned()),
        in_flight: u32::try_from(session.in_flight.len()).unwrap_or(u32::MAX),
        calls: session.calls,
        age_s: now.duration_since(session.opened).as_secs(),
    }
}

/// Some sessions and children, as many as go into one datagram.
pub(super) type Part = (Vec<SessionLine>, Vec<ChildLine>);

/// The lists cut into parts, each of which fits into a datagram of the cell beside its envelope, with no
/// more children than descriptors can go with one. There is always one part.
pub(super) fn parts(sessions: Vec<SessionLine>, children: Vec<ChildLine>) -> Vec<Part> {
    const ROOM: usize = CELL_DATAGRAM / 2;
    let mut done = Vec::new();
    let (mut part, mut used) = (Part::default(), 0);
    for session in sessions {
        let size = size_of(&session);
        if used + size > ROOM {
            done.push(std::mem::take(&mut part));
            used = 0;
        }
        used += size;
        part.0.push(session);
    }
    for child in children {
        let size = size_of(&child);
        if used + size > ROOM || part.1.len() >= DESCRIPTORS {
            done.push(std::mem::take(&mut part));
            used = 0;
        }
        used += size;
        part.1.push(child);
    }
    done.push(part);
    done
}

fn size_of(line: &impl serde::Serialize) -> usize {
    // Fails only for maps whose keys are not text: there is none.
    serde_json::to_vec(line).map_or(0, |bytes| bytes.len() + 1)
}
