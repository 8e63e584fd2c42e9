//! A modern client's requests to a legacy server: the envelope taken off, results completed with what
//! every modern result has.
//!
//! `server/discover` is answered here from the server's own `initialize` result, and
//! `subscriptions/listen` in `streams`; what a server asks its client meanwhile is in `held`. Two things
//! are not carried. Tasks (2025-11-25) are not offered: the modern era has them as an extension of other
//! methods. The error -32042, by which a legacy server asks for a visit to a URL, passes as it is: it
//! asks for a retry that only a person can tell the time of.

use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::handshake;
use super::seal;
use crate::mcp::envelope::{members, present, text};
use crate::mcp::era::{self, Era, META_CAPABILITIES, META_VERSION, MODERN, level_rank};
use crate::mcp::error::{Code, Failure};
use crate::mcp::method::Method;
use crate::mcp::splice::Splice;
use crate::mux::abilities::Abilities;
use crate::mux::child::{Child, Kind, Owner};
use crate::mux::client::Way;
use crate::mux::dress::Suit;
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
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) {
        if let Some(failure) = misplaced(request) {
            return self.refuse(session, Some(request.raw_id()), &failure);
        }
        match request.method {
            "server/discover" => self.answer_discover(session, child, request),
            "subscriptions/listen" => self.open_stream(session, child, request),
            _ if is_retry(request) => self.take_up(session, child, request, now),
            _ => self.send_down(session, child, request, now),
        }
    }

    fn send_down(&mut self, id: SessionId, to: ChildId, request: &Request<'_>, now: Instant) {
        let able = Abilities::declared(request.meta.client_capabilities);
        let log = wanted_level(request);
        self.raise_level(to, log, now);
        let way = Way { kind: Kind::Plain, suit: Suit::Legacy, log, able, keep: false };
        self.forward(id, to, request, way, now);
        if !Method::of(request.method).may_need_input() || able == Abilities::default() {
            return;
        }
        // It may be asked for something, and then its retry must be known again.
        let ours = self.sessions.get(&id).and_then(|s| s.in_flight.get(request.raw_id()).copied());
        let child = self.children.get_mut(&to);
        if let Some(pending) = child.zip(ours).and_then(|(c, ours)| c.pending.get_mut(&ours)) {
            pending.digest = Some(seal::digest(request.envelope.params));
        }
    }

    /// Answers `server/discover` from the handshake of a legacy server.
    pub(in crate::mux) fn answer_discover(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
    ) {
        if let Some(failure) = misplaced(request) {
            return self.refuse(session, Some(request.raw_id()), &failure);
        }
        let Some(child) = self.children.get(&child) else { return };
        let Some(handshake) = child.handshake.as_deref() else { return };
        let line = era::result(request.raw_id(), &handshake::discovery(handshake));
        self.send(session, |out| out.extend_from_slice(&line));
    }

    /// A legacy server has one level for all: it is told a more verbose one before a request that wants it.
    pub(super) fn raise_level(&mut self, id: ChildId, wanted: Option<u8>, now: Instant) {
        let (Some(wanted), Some(child)) = (wanted, self.children.get(&id)) else { return };
        let logs = |child: &Child| {
            child.handshake.as_deref().is_some_and(|raw| handshake::has(raw, "logging"))
        };
        if child.level.is_some_and(|told| told <= wanted) || !logs(child) {
            return;
        }
        let sessions = self.attached(id).into_iter().filter_map(|id| self.sessions.get(&id));
        // A legacy session that set no level hears what its server likes: it shall not hear less now.
        let others = sessions.filter(|s| s.era == Some(Era::Legacy)).map(|s| s.level.unwrap_or(0));
        let level = others.min().map_or(wanted, |least| least.min(wanted));
        self.tell_level(id, level, now);
    }

    /// Tells a legacy server the least severe level that anybody wants.
    pub(in crate::mux) fn tell_level(&mut self, id: ChildId, level: u8, now: Instant) {
        let Some(name) = era::level_name(level) else { return };
        if let Some(child) = self.children.get_mut(&id) {
            child.level = Some(level);
        }
        self.own_request(id, "logging/setLevel", &serde_json::json!({"level": name}), now);
    }

    /// The most verbose level that a modern request in flight at this child has asked for.
    pub(in crate::mux) fn level_in_flight(&self, child: ChildId) -> Option<u8> {
        let pending = self.children.get(&child)?.pending.values();
        pending.filter(|pending| !pending.cancelled).filter_map(|pending| pending.log).min()
    }

    /// Whether a modern session wants a legacy server's log message: only where every request of its that
    /// is in flight asked for that level, since the message does not say which one it is about.
    pub(in crate::mux) fn wants_log(&self, id: ChildId, reader: SessionId, level: u8) -> bool {
        let Some(child) = self.children.get(&id) else { return false };
        let mut own = child.pending.values().filter(|pending| !pending.cancelled).filter(
            |pending| matches!(pending.owner, Owner::Session { session, .. } if session == reader),
        );
        let wants = |log: Option<u8>| log.is_some_and(|least| level >= least);
        let waits = child.held.has_any_of(reader);
        !waits && own.next().is_some_and(|first| wants(first.log)) && own.all(|it| wants(it.log))
    }
}

/// The least severe level that a request asks for.
pub(super) fn wanted_level(request: &Request<'_>) -> Option<u8> {
    request.meta.log_level.and_then(text).and_then(|level| level_rank(&level))
}

/// Whether it is the retry of a request that asked for input.
fn is_retry(request: &Request<'_>) -> bool {
    request.params.request_state.is_some() && Method::of(request.method).may_need_input()
}

/// What a modern server says to a request whose envelope is not right (2026-07-28, basic/index#meta), or
/// whose method its revision does not have.
pub(in crate::mux) fn misplaced(request: &Request<'_>) -> Option<Failure> {
    let Some(version) = request.meta.protocol_version else {
        return Some(lacks(META_VERSION));
    };
    let Some(asked) = text(version) else {
        return Some(lacks(META_VERSION));
    };
    if asked != MODERN {
        let said = format!("the revision {asked:?} is not spoken here (2026-07-28 is)");
        let supported = Value::from(vec![MODERN]);
        let data = format!(r#""supported":{supported},"requested":{version}"#);
        return Some(Failure::new(Code::UnsupportedVersion, "version", said).with(data));
    }
    if !request.meta.client_capabilities.is_some_and(|raw| raw.get().starts_with('{')) {
        return Some(lacks(META_CAPABILITIES));
    }
    is_gone(request.method).then(|| {
        let said = format!("{MODERN} has no method {:?}", request.method);
        Failure::new(Code::MethodNotFound, "no-method", said)
    })
}

fn lacks(key: &str) -> Failure {
    let said = format!("the request's _meta lacks {key}");
    Failure::new(Code::InvalidParams, "no-envelope", said)
}

/// Methods that the modern era has not any more.
fn is_gone(method: &str) -> bool {
    matches!(
        method,
        "initialize"
            | "ping"
            | "logging/setLevel"
            | "resources/subscribe"
            | "resources/unsubscribe"
    ) || method.starts_with("tasks/")
}

/// A legacy server's error for a modern client: that there is no such resource has another number there
/// (2026-07-28, server/resources#error-handling).
pub(in crate::mux) fn renumber(method: Method, error: &RawValue, splice: &mut Splice<'_>) {
    #[derive(Deserialize)]
    struct Has<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        code: Option<&'a RawValue>,
    }
    let code = members::<Has<'_>>(error).ok().and_then(|has| has.code);
    if let Some(code) = code.filter(|code| method == Method::Read && code.get() == "-32002") {
        splice.replace(code, &b"-32602"[..]);
    }
}

/// A legacy server's result, completed for a modern client.
pub(in crate::mux) fn complete(
    method: Method,
    result: &RawValue,
    splice: &mut Splice<'_>,
) -> Answer {
    #[derive(Deserialize)]
    struct Has<'a> {
        #[serde(borrow, default, rename = "resultType", deserialize_with = "present")]
        kind: Option<&'a RawValue>,
        #[serde(borrow, default, rename = "ttlMs", deserialize_with = "present")]
        ttl: Option<&'a RawValue>,
        #[serde(borrow, default, rename = "cacheScope", deserialize_with = "present")]
        scope: Option<&'a RawValue>,
    }
    // What is no object, or says something twice, is left as it is: nothing could make it right.
    let Ok(has) = members::<Has<'_>>(result) else { return Answer::Give };
    let missing = |there: Option<&RawValue>, member| if there.is_some() { "" } else { member };
    let cacheable = |there, member| if method.is_cacheable() { missing(there, member) } else { "" };
    let more = [
        missing(has.kind, r#""resultType":"complete""#),
        cacheable(has.ttl, r#""ttlMs":0"#),
        cacheable(has.scope, r#""cacheScope":"private""#),
    ];
    splice.append_members(result, "", &more, "");
    Answer::Give
}
