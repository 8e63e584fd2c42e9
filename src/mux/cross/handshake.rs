//! What a server's handshake says, in the words of either era: `initialize` from discovery and back.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::mcp::envelope::{self, Params, members};
use crate::mcp::era::{
    self, Era, META_CAPABILITIES, META_CLIENT, META_VERSION, MODERN, NEWEST_LEGACY,
};
use crate::mcp::splice::Splice;
use crate::mux::child::Child;
use crate::mux::session::Session;

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
pub(in crate::mux) fn server_version(handshake: &RawValue) -> Option<String> {
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
pub(in crate::mux) fn lists_that_change(handshake: &RawValue) -> Vec<&'static str> {
    let raw = Handshake::of(handshake).capabilities;
    let capabilities = raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let changes =
        |list: &&str| capabilities.as_ref().is_some_and(|all| all[*list]["listChanged"] == true);
    ["tools", "resources", "prompts"].into_iter().filter(changes).collect()
}

/// Whether a server has said that it has tools, resources or prompts.
pub(in crate::mux) fn has(handshake: &RawValue, kind: &str) -> bool {
    let raw = Handshake::of(handshake).capabilities;
    let capabilities = raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    capabilities.is_some_and(|all| all.get(kind).is_some())
}

/// The result of `initialize` for a session: the child's own, with the revision that this client would
/// have got, or made from discovery.
pub(in crate::mux) fn initialize_result(session: &Session, child: &Child) -> Option<Vec<u8>> {
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
pub(super) fn modern_members(session: &Session) -> String {
    let hello = session.hello.as_deref().and_then(|raw| members::<Params<'_>>(raw).ok());
    let raw = |value: Option<&RawValue>| value.map_or("{}", RawValue::get).to_owned();
    let (client, capabilities) =
        hello.map_or_else(|| (raw(None), raw(None)), |h| (raw(h.client_info), raw(h.capabilities)));
    format!(
        r#""{META_VERSION}":"{MODERN}","{META_CLIENT}":{client},"{META_CAPABILITIES}":{capabilities}"#
    )
}
