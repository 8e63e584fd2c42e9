//! A legacy client's requests to a modern server: the envelope put on from its own handshake, results
//! without what its revision does not know.

use std::time::Instant;

use serde_json::value::RawValue;

use super::handshake::modern_members;
use crate::mcp::envelope::{self, members};
use crate::mcp::era::Era;
use crate::mcp::error::{Code, Failure};
use crate::mcp::splice::{Splice, member_ranges};
use crate::mux::abilities::Abilities;
use crate::mux::child::{Kind, Pending};
use crate::mux::client::Way;
use crate::mux::dress::Suit;
use crate::mux::exchange::Exchange;
use crate::mux::outbox::ChildId;
use crate::mux::request::Request;
use crate::mux::server::Answer;
use crate::names::SessionId;

impl Exchange {
    /// A legacy client's request to a modern server.
    pub(in crate::mux) fn pass_upward(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) {
        let method = request.method;
        match method {
            "logging/setLevel" => self.answer_empty(session, request.raw_id()),
            "resources/subscribe"
            | "resources/unsubscribe"
            | "tasks/get"
            | "tasks/result"
            | "tasks/list"
            | "tasks/cancel" => {
                let failure = does_not_cross(method, Era::Legacy, Era::Modern);
                self.refuse(session, Some(request.raw_id()), &failure);
            }
            _ => {
                let Some(from) = self.sessions.get(&session) else { return };
                let more = modern_members(from);
                let suit = Suit::Modern(&more);
                let able = Abilities::default();
                let way = Way { kind: Kind::Plain, suit, log: None, able, keep: false };
                self.forward(session, child, request, way, now);
            }
        }
    }

    /// A modern server's answer to a legacy client.
    pub(in crate::mux) fn answer_upward(
        &mut self,
        _child: ChildId,
        _session: SessionId,
        _pending: &Pending,
        result: &RawValue,
        splice: &mut Splice<'_>,
    ) -> Answer {
        if needs_input(result) {
            return Answer::Refuse(Failure::new(
                Code::Denied,
                "era",
                "the server asks for input in a way that this client's revision cannot give",
            ));
        }
        strip_result(splice, result);
        Answer::Give
    }
}

/// Takes the modern members off a result.
fn strip_result(splice: &mut Splice<'_>, result: &RawValue) {
    const MODERN_ONLY: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
    if !result.get().starts_with('{') {
        return;
    }
    let start = splice.range(result).start;
    for range in member_ranges(result.get(), |key| MODERN_ONLY.contains(&key)) {
        splice.remove(start + range.start..start + range.end);
    }
}

/// Whether a modern result asks the client for input.
fn needs_input(result: &RawValue) -> bool {
    #[derive(serde::Deserialize)]
    struct Typed<'a> {
        #[serde(borrow, default, rename = "resultType")]
        kind: Option<&'a RawValue>,
    }
    envelope::may_have(result, &envelope::INPUT_REQUIRED)
        && members::<Typed<'_>>(result)
            .is_ok_and(|typed| typed.kind.is_some_and(|kind| kind.get() == "\"input_required\""))
}

fn does_not_cross(method: &str, from: Era, to: Era) -> Failure {
    Failure::new(
        Code::Malformed,
        "era",
        format!(
            "{method} of a {} client cannot be carried to this {} server",
            from.as_str(),
            to.as_str()
        ),
    )
}
