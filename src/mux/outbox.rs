//! What is to be written, and what else is to be done: the exchange's whole effect on the world.
//!
//! The exchange appends here and never waits; the driver empties it. Bounds are the exchange's to keep:
//! it asks [`Outbox::backlog`] and closes or pauses who lags.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::names::{ServerName, SessionId};
use crate::wire::{Farewell, Holder};

/// A child's number, unique for the life of the mux.
pub(super) type ChildId = u64;

/// Somebody that bytes go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// A client's stdout.
    Session(SessionId),
    /// A server's stdin.
    Child(ChildId),
}

/// Something to do beside writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Ask the supervisor for a child.
    Ask { child: ChildId, server: ServerName, holder: Option<Holder> },
    /// Write what is queued, say the farewell on the lifeline, close everything of the session.
    CloseSession { session: SessionId, farewell: Farewell },
    /// Close the server's stdin, then ask its keeper for SIGTERM, then have it killed.
    StopChild { child: ChildId, patience: Duration },
    /// A child's descriptors can be dropped.
    ForgetChild { child: ChildId, server: ServerName, reason: String },
    /// What a program answered to its handshake is news: to be remembered.
    Remember { program: String },
    /// A line for the server log.
    Log { server: ServerName, text: String },
}

/// Bytes that wait for one end.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    written: usize,
}

/// What an idle queue keeps allocated at most, bytes.
const KEEP: usize = 64 * 1024;

impl Queue {
    /// What is to be written next.
    pub(super) fn front(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// `count` bytes of the front are written.
    pub(super) fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
            self.written = 0;
        } else if self.written > KEEP {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }
}

/// Everything that waits for the driver.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queues: FxHashMap<End, Queue>,
    dirty: Vec<End>,
    acts: VecDeque<Act>,
}

impl Outbox {
    /// The bytes that `line` writes become one line for `end`. Says how many bytes wait for it now.
    pub(super) fn line(&mut self, end: End, line: impl FnOnce(&mut Vec<u8>)) -> usize {
        let queue = self.queues.entry(end).or_default();
        line(&mut queue.bytes);
        queue.bytes.push(b'\n');
        let waits = queue.front().len();
        // Almost always the same end as before, or one of very few.
        if !self.dirty.contains(&end) {
            self.dirty.push(end);
        }
        waits
    }

    /// A finished line for `end`.
    pub(super) fn push(&mut self, end: End, line: &[u8]) {
        self.line(end, |out| out.extend_from_slice(line));
    }

    /// Something to do.
    pub(super) fn act(&mut self, act: Act) {
        self.acts.push_back(act);
    }

    /// The next thing to do.
    pub(super) fn next_act(&mut self) -> Option<Act> {
        self.acts.pop_front()
    }

    /// The next end that got lines since it was last taken.
    pub(super) fn next_dirty(&mut self) -> Option<End> {
        self.dirty.pop()
    }

    /// The queue of an end, if it has one.
    pub(super) fn queue(&mut self, end: End) -> Option<&mut Queue> {
        self.queues.get_mut(&end)
    }

    /// How many bytes wait for an end.
    pub(super) fn backlog(&self, end: End) -> usize {
        self.queues.get(&end).map_or(0, |queue| queue.front().len())
    }

    /// The bytes that wait for an end.
    #[cfg(any(test, fuzzing))]
    pub(super) fn waiting(&self, end: End) -> &[u8] {
        self.queues.get(&end).map_or(&[], Queue::front)
    }

    /// How many bytes wait for each end.
    #[cfg(any(test, fuzzing))]
    pub(super) fn backlogs(&self) -> impl Iterator<Item = (End, usize)> {
        self.queues.iter().map(|(end, queue)| (*end, queue.front().len()))
    }

    /// Whether nothing waits, for anybody.
    pub(super) fn is_idle(&self) -> bool {
        self.acts.is_empty() && self.queues.values().all(|queue| queue.front().is_empty())
    }

    /// Forgets an end with all that waits for it.
    pub(super) fn forget(&mut self, end: End) {
        self.queues.remove(&end);
        self.dirty.retain(|dirty| *dirty != end);
    }
}
