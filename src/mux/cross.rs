//! Where a session and its server speak different eras: what can be carried over, exactly, and what
//! gets a clear error.
//!
//! A legacy client on a modern server gets its handshake from discovery, and the modern envelope is put
//! into each of its requests; results lose what its revision does not know. Subscriptions, tasks and
//! requests for input do not cross, and a modern client on a legacy server is told to shake hands.

use std::time::Instant;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::child::{Child, Kind};
use super::client::Request;
use super::exchange::Exchange;
use super::outbox::ChildId;
use super::session::Session;
use crate::mcp::envelope::{self, Params, members};
use crate::mcp::era::{
    self, Era, META_CAPABILITIES, META_CLIENT, META_VERSION, MODERN, NEWEST_LEGACY,
};
use crate::mcp::error::{Code, Failure};
use crate::mcp::splice::{Splice, member_ranges};
use crate::names::SessionId;

/// What a handshake of either era tells.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Handshake<'a> {
    #[serde(borrow, rename = "protocolVersion")]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    capabilities: Option<&'a RawValue>,
    #[serde(borrow, rename = "serverInfo")]
    server_info: Option<&'a RawValue>,
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DiscoverMeta<'a> {
    // META_SERVER
    #[serde(borrow, rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Option<&'a RawValue>,
}

impl<'a> Handshake<'a> {
    fn of(raw: &'a RawValue) -> Self {
        members(raw).unwrap_or_default()
    }

    fn server_info(&self) -> Option<&'a RawValue> {
        let meta = || members::<DiscoverMeta<'a>>(self.meta?).ok()?.server_info;
        self.server_info.or_else(meta)
    }
}

/// What a server calls itself, from its handshake.
pub(super) fn server_version(handshake: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Info {
        name: String,
        #[serde(default)]
        version: String,
    }
    let info: Info = members(Handshake::of(handshake).server_info()?).ok()?;
    Some(format!("{} {}", info.name, info.version).trim().chars().take(80).collect())
}

/// Which lists a server has said that it tells changes of.
pub(super) fn lists_that_change(handshake: &RawValue) -> Vec<&'static str> {
    let raw = Handshake::of(handshake).capabilities;
    let capabilities = raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let changes =
        |list: &&str| capabilities.as_ref().is_some_and(|all| all[*list]["listChanged"] == true);
    ["tools", "resources", "prompts"].into_iter().filter(changes).collect()
}

/// Whether a server has said that it has tools, resources or prompts.
pub(super) fn has(handshake: &RawValue, kind: &str) -> bool {
    let raw = Handshake::of(handshake).capabilities;
    let capabilities = raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    capabilities.is_some_and(|all| all.get(kind).is_some())
}

/// The result of `initialize` for a session: the child's own, with the revision that this client would
/// have got, or made from discovery.
pub(super) fn initialize_result(session: &Session, child: &Child) -> Option<Vec<u8>> {
    let handshake = child.handshake.as_deref()?;
    let hello: Params<'_> = members(session.hello.as_deref()?).ok()?;
    let asked = hello.protocol_version.and_then(envelope::text).unwrap_or_default();
    let found = Handshake::of(handshake);
    if child.era == Some(Era::Modern) {
        return Some(from_discovery(&found, era::negotiate(&asked, NEWEST_LEGACY)));
    }
    let line = handshake.get().as_bytes();
    let mut splice = Splice::of(line);
    if let Some(version) = found.version
        && !session.has_own_child()
    {
        let theirs = envelope::text(version)?;
        let ours = era::negotiate(&asked, &theirs);
        splice.replace(version, Value::from(ours).to_string().into_bytes());
    }
    let mut out = Vec::new();
    splice.write(&mut out);
    Some(out)
}

fn from_discovery(found: &Handshake<'_>, version: &str) -> Vec<u8> {
    let raw = |value: Option<&RawValue>, other: &str| {
        value.map_or_else(|| other.to_owned(), |value| value.get().to_owned())
    };
    let mut result = format!(
        r#"{{"protocolVersion":{},"capabilities":{},"serverInfo":{}"#,
        Value::from(version),
        raw(found.capabilities, "{}"),
        raw(found.server_info(), r#"{"name":"","version":""}"#),
    );
    if let Some(instructions) = found.instructions {
        result.push_str(r#","instructions":"#);
        result.push_str(instructions.get());
    }
    result.push('}');
    result.into_bytes()
}

/// The members that a legacy session's requests get for a modern server.
fn modern_members(session: &Session) -> String {
    let hello = session.hello.as_deref().and_then(|raw| members::<Params<'_>>(raw).ok());
    let raw = |value: Option<&RawValue>| value.map_or("{}", RawValue::get).to_owned();
    let (client, capabilities) =
        hello.map_or_else(|| (raw(None), raw(None)), |h| (raw(h.client_info), raw(h.capabilities)));
    format!(
        r#""{META_VERSION}":"{MODERN}","{META_CLIENT}":{client},"{META_CAPABILITIES}":{capabilities}"#
    )
}

/// What takes the modern members off a result for a legacy client.
pub(super) fn strip_result(splice: &mut Splice<'_>, result: &RawValue) {
    const MODERN_ONLY: [&str; 3] = ["resultType", "ttlMs", "cacheScope"];
    if !result.get().starts_with('{') {
        return;
    }
    let start = splice.range(result).start;
    for range in member_ranges(result.get(), |key| MODERN_ONLY.contains(&key)) {
        splice.remove(start + range.start..start + range.end);
    }
}

/// Whether a modern result asks the client for input, which a legacy client cannot give here.
pub(super) fn needs_input(result: &RawValue) -> bool {
    #[derive(Deserialize)]
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

impl Exchange {
    /// A legacy client's request to a modern server.
    pub(super) fn pass_to_modern(
        &mut self,
        session: SessionId,
        child: ChildId,
        request: &Request<'_>,
        now: Instant,
    ) {
        let method = request.method;
        match method {
            "logging/setLevel" => self.answer_empty(session, request.raw_id()),
            "resources/subscribe" | "resources/unsubscribe" => {
                let failure = does_not_cross(method, Era::Legacy, Era::Modern);
                self.refuse(session, Some(request.raw_id()), &failure);
            }
            // Whatever it is called: a task is its owner's, and nobody has one across the eras.
            _ if method.starts_with("tasks/") => {
                let failure = does_not_cross(method, Era::Legacy, Era::Modern);
                self.refuse(session, Some(request.raw_id()), &failure);
            }
            _ => {
                let Some(from) = self.sessions.get(&session) else { return };
                let more = modern_members(from);
                self.forward(session, child, request, Kind::Plain, &more, now);
            }
        }
    }

    /// A modern client's request to a legacy server: one that tries `server/discover` first takes the
    /// error for what it says, and sends `initialize` (2026-07-28, basic/transports/stdio).
    pub(super) fn refuse_modern(&mut self, session: SessionId, request: &Request<'_>) {
        let failure = Failure::new(
            Code::Malformed,
            "era",
            format!("this server speaks MCP up to {NEWEST_LEGACY}: send initialize"),
        );
        self.refuse(session, Some(request.raw_id()), &failure);
    }
}
