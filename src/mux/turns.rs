//! Fair turns at a server that does not keep up.
//!
//! While its pipe takes everything, a line goes straight there. Once the pipe is full, lines wait in their
//! own session's queue, and when there is room again the sessions that wait take turns (deficit round
//! robin, by bytes): a flood delays its neighbours by a turn, never by the flood. What needs no server
//! (`ping`, a cancellation) is answered meanwhile. How much one session may have waiting the driver bounds,
//! by not reading on.

use std::time::Instant;

use super::exchange::Exchange;
use super::outbox::{ChildId, End};
use super::session::SlotKey;
use crate::names::SessionId;

/// What a session may send in one turn, bytes; what it does not use of it is kept for its next turn, so
/// that long lines get as many bytes as short ones.
const QUANTUM: usize = 4 * 1024;
/// How much is taken out of the queues before the pipe is tried again, bytes: enough that each wake-up of
/// a writer is worth it, little enough that what comes late is not far behind.
const GRANT: usize = 32 * 1024;

impl Exchange {
    /// A server's pipe takes nothing more now.
    pub(super) fn child_full(&mut self, child: ChildId) {
        if let Some(child) = self.children.get_mut(&child) {
            child.full = true;
        }
    }

    /// A server's pipe has taken everything.
    pub(super) fn child_has_room(&mut self, id: ChildId, now: Instant) {
        if let Some(child) = self.children.get_mut(&id) {
            child.full = false;
        }
        self.give_turns(id, now);
    }

    /// Lets those that wait for a server take turns; says whether anybody did.
    pub(super) fn give_turns(&mut self, id: ChildId, now: Instant) -> bool {
        let mut given = false;
        while let Some(next) = self.next_turn(id) {
            self.now = now;
            self.take_turn(next, id, now);
            given = true;
        }
        given
    }

    fn next_turn(&mut self, id: ChildId) -> Option<SessionId> {
        let child = self.children.get_mut(&id)?;
        if child.turns.is_empty() || child.full || !child.serves() {
            return None;
        }
        if self.out.backlog(End::Child(id)) >= GRANT {
            return None;
        }
        child.turns.pop_front()
    }

    fn take_turn(&mut self, id: SessionId, child: ChildId, now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.in_line = false;
        session.waits_since = now;
        let mut budget = session.deficit + QUANTUM;
        let mut lines = session.take_waiting();
        session.replaying = true;
        while lines.front().is_some_and(|line| line.bytes.len() <= budget) {
            let Some(line) = lines.pop_front() else { break };
            budget -= line.bytes.len();
            self.hand_on(id, &line);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.replaying = false;
        session.wait_on(lines);
        if session.waiting.is_empty() {
            session.deficit = 0;
        } else {
            session.deficit = budget;
            self.stand_in_line(id, child);
        }
        self.close_if_done(id);
    }

    /// A session has lines for a server that is full.
    pub(super) fn stand_in_line(&mut self, id: SessionId, child: ChildId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(child) = self.children.get_mut(&child) else { return };
        if !std::mem::replace(&mut session.in_line, true) {
            child.turns.push_back(id);
        }
    }

    /// A session does not wait for this slot's server any more.
    pub(super) fn leave_line(&mut self, id: SessionId, key: &SlotKey) {
        let child = self.slots.get(key).and_then(|slot| slot.child);
        if let Some(child) = child.and_then(|child| self.children.get_mut(&child)) {
            child.turns.retain(|waits| *waits != id);
        }
    }

    /// The server that a session has to wait for because of what is before it, if it runs.
    pub(super) fn queues_for(&self, id: SessionId) -> Option<ChildId> {
        let session = self.sessions.get(&id)?;
        let child = self.ready_child(id)?;
        let server = self.children.get(&child).filter(|child| child.serves())?;
        // While its lines are handed on it stands before all others.
        let queues = server.full || (!session.waiting.is_empty() && !session.replaying);
        queues.then_some(child)
    }

    /// Keeps a line that is no request in its session's order, if it has to wait; says whether it has.
    pub(super) fn queue_behind(&mut self, id: SessionId, line: &[u8]) -> bool {
        let Some(child) = self.queues_for(id) else { return false };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.queue(line, self.resending);
        }
        self.stand_in_line(id, child);
        true
    }
}
