//! What a modern session hears of a legacy server: `subscriptions/listen`, answered here.

use crate::mux::exchange::Exchange;
use crate::mux::outbox::ChildId;
use crate::mux::session::Session;
use crate::names::SessionId;

impl Exchange {
    /// A new legacy child gets what the subscriptions of its modern sessions need of it.
    pub(in crate::mux) fn renew_streams(&mut self, _child: ChildId) {}

    /// A legacy server's notification of a change goes to every subscription that is for it.
    pub(in crate::mux) fn tell_streams(&mut self, _child: ChildId, _line: &[u8]) {}

    /// The client ends a subscription.
    pub(in crate::mux) fn end_stream(&mut self, _session: SessionId, _raw_id: &[u8]) {}

    /// A session is over: its subscriptions let go of what they hold at the child.
    pub(in crate::mux) fn end_streams(&mut self, _child: ChildId, _session: &Session) {}
}
