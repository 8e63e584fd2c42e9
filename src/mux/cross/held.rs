//! Requests of a modern client on a legacy server that wait for their retry, because the server has asked
//! the client something.

use std::time::Instant;

use crate::mcp::envelope::Envelope;
use crate::mux::child::Pending;
use crate::mux::exchange::Exchange;
use crate::mux::outbox::ChildId;

impl Exchange {
    /// The server has answered a request that waits for its retry.
    pub(in crate::mux) fn held_answered(
        &mut self,
        _child: ChildId,
        _held: u64,
        _pending: &Pending,
        _answer: &Envelope<'_>,
    ) {
    }

    /// A retry has not come.
    pub(in crate::mux) fn held_too_long(&mut self, _child: ChildId, _held: u64, _now: Instant) {}

    /// The server takes back what it asked: whether that was for a request that waits for its retry.
    pub(in crate::mux) fn held_cancelled(&mut self, _child: ChildId, _raw_id: &[u8]) -> bool {
        false
    }
}
