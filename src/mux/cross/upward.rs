//! A legacy client's requests to a modern server: the envelope put on from its own handshake, results
//! without what its revision does not know.
//!
//! To the modern server each legacy session is a modern client of its own. What the older revision keeps
//! on the connection is kept here and said with each request: who asks, what it can be asked for, and its
//! log level. What changes is heard through `feed`, input is asked for in `rounds`.

use std::ops::Range;
use std::time::Instant;

use serde_json::value::RawValue;

use super::handshake::envelope_of;
use crate::mcp::envelope::text;
use crate::mcp::era::{self, level_rank};
use crate::mcp::error::{Code, Failure};
use crate::mcp::method::Method;
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

/// What a client hears of a server's log that has set no level: the server may decide (2025-11-25,
/// server/utilities/logging), and a modern one sends nothing to a request that names none.
const USUAL_LEVEL: u8 = 1;

impl Exchange {
    /// A legacy client's request to a modern server.
    pub(in crate::mux) fn pass_upward(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) {
        match request.method {
            "logging/setLevel" => self.keep_level(session, child, request),
            "resources/subscribe" => self.wish(session, child, request, now),
            "resources/unsubscribe" => self.unwish(session, request, now),
            method if !crosses(method) => {
                let failure = Failure::new(
                    Code::MethodNotFound,
                    "era",
                    format!("{method} is not part of what this server offers to this client"),
                );
                self.refuse(session, Some(request.raw_id()), &failure);
            }
            _ => match self.foreign_state(session, child, request) {
                Some(failure) => self.refuse(session, Some(request.raw_id()), &failure),
                None => self.forward_upward(session, child, request, now),
            },
        }
    }

    fn forward_upward(
        &mut self,
        id: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) {
        if let Some(failure) = self.foreign_state(id, child, request) {
            return self.refuse(id, Some(request.raw_id()), &failure);
        }
        let keep = Method::of(request.method).may_need_input() && self.can_keep(id, child, request);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let logs = session.feed.offer(child, self.children.get(&child)).logs;
        let log = logs.then(|| session.level.unwrap_or(USUAL_LEVEL));
        let worn = envelope_of(session, log.and_then(era::level_name));
        let suit = Suit::Modern(&worn);
        let way = Way { kind: Kind::Plain, suit, log, able: Abilities::default(), keep };
        self.forward(id, child, request, way, now);
    }

    /// The modern era has no level of a connection: it is said with each request from now on.
    fn keep_level(&mut self, id: SessionId, child: ChildId, request: &Request<'_>) {
        let level = request.params.level.and_then(text).and_then(|level| level_rank(&level));
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let failure = if !session.feed.offer(child, self.children.get(&child)).logs {
            Failure::new(Code::MethodNotFound, "logging", "this server sends no log messages")
        } else if let Some(level) = level {
            session.level = Some(level);
            return self.answer_empty(id, request.raw_id());
        } else {
            Failure::new(Code::InvalidParams, "level", "level is not the name of a log level")
        };
        self.refuse(id, Some(request.raw_id()), &failure);
    }

    /// A modern server's answer to a legacy client.
    pub(in crate::mux) fn answer_upward(
        &mut self,
        child: ChildId,
        session: SessionId,
        pending: &Pending,
        result: &RawValue,
        splice: &mut Splice<'_>,
    ) -> Answer {
        let text = result.get();
        let modern = modern_only(result);
        let kinds = modern.iter().filter_map(|range| kind_in(text.get(range.clone())?));
        match kinds.into_iter().find(|kind| kind != "complete").as_deref() {
            None => {
                take_away(splice, result, modern);
                Answer::Give
            }
            Some("input_required") => self.open_round(child, session, pending, result),
            Some(other) => Answer::Refuse(Failure::new(
                Code::Denied,
                "era",
                format!(
                    "the server answered with a result of the kind {:?}, which this client's \
                     revision does not have",
                    other.chars().take(80).collect::<String>()
                ),
            )),
        }
    }
}

/// The members of a result that no legacy revision has.
const MODERN_ONLY: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];

/// Where they are in a result.
fn modern_only(result: &RawValue) -> Vec<Range<usize>> {
    let text = result.get();
    let is_modern = |key: &str| MODERN_ONLY.contains(&key);
    if text.starts_with('{') { member_ranges(text, is_modern) } else { Vec::new() }
}

fn take_away(splice: &mut Splice<'_>, result: &RawValue, ranges: Vec<Range<usize>>) {
    let start = splice.range(result).start;
    for range in ranges {
        splice.remove(start + range.start..start + range.end);
    }
}

/// Makes a complete result of a modern server one of a legacy server's.
pub(in crate::mux) fn strip_result(splice: &mut Splice<'_>, result: &RawValue) {
    take_away(splice, result, modern_only(result));
}

/// Whether a method of a legacy request has its like on a modern server. Tasks have not: those of
/// 2025-11-25 are made by the client's wish, those of the extension by the server's.
fn crosses(method: &str) -> bool {
    !method.starts_with("tasks/") && method != "subscriptions/listen"
}

/// What kind of result it says it is (2026-07-28, basic/index#responses), if this one member of it, with
/// a comma before or behind, is what says that.
fn kind_in(member: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Typed {
        #[serde(rename = "resultType")]
        kind: String,
    }
    let alone = member.trim_matches(|c: char| c == ',' || c.is_ascii_whitespace());
    serde_json::from_str::<Typed>(&format!("{{{alone}}}")).ok().map(|typed| typed.kind)
}
