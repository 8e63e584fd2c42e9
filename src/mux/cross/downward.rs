//! A modern client's requests to a legacy server: the envelope taken off, results completed with what
//! every modern result has.

use std::time::Instant;

use serde_json::value::RawValue;

use crate::mcp::era::NEWEST_LEGACY;
use crate::mcp::error::{Code, Failure};
use crate::mcp::method::Method;
use crate::mcp::splice::Splice;
use crate::mux::exchange::Exchange;
use crate::mux::outbox::ChildId;
use crate::mux::request::Request;
use crate::mux::server::Answer;
use crate::names::SessionId;

impl Exchange {
    /// A modern client's request to a legacy server.
    pub(in crate::mux) fn pass_downward(
        &mut self,
        session: SessionId,
        _child: ChildId,
        request: &Request<'_>,
        _now: Instant,
    ) {
        self.refuse_modern(session, request);
    }

    /// A modern client's request to a legacy server: one that tries `server/discover` first takes the
    /// error for what it says, and sends `initialize` (2026-07-28, basic/transports/stdio).
    pub(in crate::mux) fn refuse_modern(&mut self, session: SessionId, request: &Request<'_>) {
        let failure = Failure::new(
            Code::Malformed,
            "era",
            format!("this server speaks MCP up to {NEWEST_LEGACY}: send initialize"),
        );
        self.refuse(session, Some(request.raw_id()), &failure);
    }
}

/// A legacy server's result, completed for a modern client.
pub(in crate::mux) fn complete(
    _method: Method,
    _result: &RawValue,
    _splice: &mut Splice<'_>,
) -> Answer {
    Answer::Give
}
