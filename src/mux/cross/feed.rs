//! What a legacy session hears of a modern server: one upstream `subscriptions/listen` of its own.

use std::time::Instant;

use crate::mcp::envelope::Envelope;
use crate::mux::exchange::Exchange;
use crate::mux::outbox::ChildId;
use crate::mux::session::Session;
use crate::names::SessionId;

/// A legacy session's upstream subscription.
#[derive(Debug, Default)]
pub(in crate::mux) struct Feed(());

impl Exchange {
    /// A new modern child gets the upstream subscriptions of its legacy sessions.
    pub(in crate::mux) fn renew_feeds(&mut self, _child: ChildId) {}

    /// It is time to ask for an upstream subscription again.
    pub(in crate::mux) fn renew_feed(&mut self, _session: SessionId, _now: Instant) {}

    /// A notification of an upstream subscription, which has the id `id` at the child.
    pub(in crate::mux) fn tell_feed(
        &mut self,
        _child: ChildId,
        _session: SessionId,
        _id: u64,
        _line: &[u8],
        _envelope: &Envelope<'_>,
        _method: &str,
    ) {
    }

    /// The server has ended an upstream subscription, or refused it.
    pub(in crate::mux) fn feed_ended(
        &mut self,
        _child: ChildId,
        _session: SessionId,
        _answer: &Envelope<'_>,
        _now: Instant,
    ) {
    }

    /// A session is over: its upstream subscription ends at the child.
    pub(in crate::mux) fn end_feed(&mut self, _child: ChildId, _session: &Session) {}
}
