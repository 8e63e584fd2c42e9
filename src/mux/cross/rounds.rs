//! Requests of a legacy client for which a modern server wants input first.

use crate::mcp::envelope::Envelope;
use crate::mux::exchange::Exchange;
use crate::names::SessionId;

/// The requests of one session that wait for its client's answers.
#[derive(Debug, Default)]
pub(in crate::mux) struct Rounds(());

impl Rounds {
    /// Whether none is open.
    pub(in crate::mux) fn is_empty(&self) -> bool {
        true
    }

    /// Whether the client's request with this id is one of them.
    pub(in crate::mux) fn has(&self, _raw_id: &[u8]) -> bool {
        false
    }
}

impl Exchange {
    /// The client has answered one of the questions for a request of its own.
    pub(in crate::mux) fn round_answered(
        &mut self,
        _session: SessionId,
        _request: &[u8],
        _key: &str,
        _answer: &Envelope<'_>,
    ) {
    }

    /// The client does not want its request any more: whether it was one that waits for input.
    pub(in crate::mux) fn cancel_round(&mut self, _session: SessionId, _raw_id: &[u8]) -> bool {
        false
    }
}
