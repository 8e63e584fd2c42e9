//! What a server's handshake says, in the words of either era: `initialize` from discovery and back.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::mcp::envelope::{self, Params, members};
use crate::mcp::era::{
    self, Era, META_CAPABILITIES, META_CLIENT, META_LOG, META_SERVER, META_VERSION, MODERN,
    NEWEST_LEGACY,
};
use crate::mcp::splice::{Splice, is_empty_object, member_ranges, raw_members, without_members};
use crate::mux::child::Child;
use crate::mux::dress::Worn;
use crate::mux::session::Session;

/// The extension whose results are handles: a legacy client knows neither them nor its methods.
const TASKS: &str = "io.modelcontextprotocol/tasks";

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
    Offer::of(handshake).lists
}

/// What of a server's handshake decides how a legacy session is served by a modern server.
#[derive(Debug, Default)]
pub(in crate::mux) struct Offer {
    /// The lists whose changes it tells.
    pub(in crate::mux) lists: Vec<&'static str>,
    /// It tells changes of single resources.
    pub(in crate::mux) resources: bool,
    /// It sends log messages.
    pub(in crate::mux) logs: bool,
}

impl Offer {
    pub(in crate::mux) fn of(handshake: &RawValue) -> Self {
        let raw = Handshake::of(handshake).capabilities;
        let all: Value =
            raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        let changes = |list: &&str| all[*list]["listChanged"] == true;
        Self {
            lists: ["tools", "resources", "prompts"].into_iter().filter(changes).collect(),
            resources: all["resources"]["subscribe"] == true,
            logs: all.get("logging").is_some(),
        }
    }
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
        && let Some(theirs) = envelope::text(version)
        && (!session.has_own_child() || session.introduction.is_some())
    {
        let ours = era::negotiate(&asked, &theirs);
        splice.replace(version, Value::from(ours).to_string().into_bytes());
    }
    let mut out = Vec::new();
    splice.write(&mut out);
    Some(out)
}

/// The result of `server/discover`, made from a legacy server's `initialize` result: its own words, but for
/// tasks, which are not carried.
pub(super) fn discovery(handshake: &RawValue) -> Vec<u8> {
    let found = Handshake::of(handshake);
    let mut result = format!(
        r#"{{"resultType":"complete","supportedVersions":["{MODERN}"],"capabilities":{}"#,
        without(found.capabilities, "tasks")
    );
    if let Some(instructions) = found.instructions {
        result.push_str(r#","instructions":"#);
        result.push_str(instructions.get());
    }
    if let Some(server) = found.server_info() {
        result.push_str(&format!(r#","_meta":{{"{META_SERVER}":{}}}"#, server.get()));
    }
    result.push_str(r#","ttlMs":0,"cacheScope":"private"}"#);
    result.into_bytes()
}

/// The `params` of an `initialize` that says of a client what its modern requests say.
pub(in crate::mux) fn introduction(
    info: Option<&RawValue>,
    capabilities: Option<&RawValue>,
) -> String {
    let capabilities = without(capabilities, "extensions");
    let info = info.map_or_else(|| era::identity().to_string(), |info| info.get().to_owned());
    format!(
        r#"{{"protocolVersion":"{NEWEST_LEGACY}","capabilities":{capabilities},"clientInfo":{info}}}"#
    )
}

/// An object's text without one member; `{}` for what is no object.
fn without(object: Option<&RawValue>, key: &str) -> String {
    let Some(object) = object.map(RawValue::get).filter(|raw| raw.starts_with('{')) else {
        return "{}".to_owned();
    };
    let mut splice = Splice::of(object.as_bytes());
    for range in member_ranges(object, |member| member == key) {
        splice.remove(range);
    }
    let mut out = Vec::new();
    splice.write(&mut out);
    // Whole members were taken away: what is left is text.
    String::from_utf8(out).unwrap_or_else(|_| "{}".to_owned())
}

/// Whether a server has said that its resources can be subscribed to.
pub(super) fn subscribes(handshake: &RawValue) -> bool {
    let raw = Handshake::of(handshake).capabilities;
    let capabilities = raw.and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    capabilities.is_some_and(|all| all["resources"]["subscribe"] == true)
}

fn from_discovery(found: &Handshake<'_>, version: &str) -> Vec<u8> {
    let raw = |value: Option<&RawValue>, other: &str| {
        value.map_or_else(|| other.to_owned(), |value| value.get().to_owned())
    };
    let mut result = format!(
        r#"{{"protocolVersion":{},"capabilities":{},"serverInfo":{}"#,
        Value::from(version),
        found.capabilities.map_or("{}".into(), |all| without_tasks(all.get())),
        raw(found.server_info(), r#"{"name":"","version":""}"#),
    );
    if let Some(instructions) = found.instructions {
        result.push_str(r#","instructions":"#);
        result.push_str(instructions.get());
    }
    result.push('}');
    result.into_bytes()
}

/// Capabilities of either side without tasks, which are not carried: those of 2025-11-25 are a
/// capability, later ones an extension, and neither has what the other would be translated to.
fn without_tasks(capabilities: &str) -> Cow<'_, str> {
    if !capabilities.starts_with('{') || !capabilities.contains("tasks") {
        // Spelled with escapes it is nobody's: both eras compare it as it is written here.
        return capabilities.into();
    }
    let mut left = without_members(capabilities, |key| key == "tasks");
    let extensions = raw_members(&left).find(|(key, _)| key == "extensions");
    let Some((_, theirs)) = extensions.filter(|(_, value)| value.starts_with('{')) else {
        return left.into();
    };
    let ours = without_members(theirs, |key| key == TASKS);
    if is_empty_object(&ours) && !is_empty_object(theirs) {
        return without_members(&left, |key| key == "extensions").into();
    }
    let start = theirs.as_ptr() as usize - left.as_ptr() as usize;
    let range = start..start + theirs.len();
    left.replace_range(range, &ours);
    left.into()
}

/// The modern envelope that a legacy session's requests wear, from its own handshake; `level` is the
/// least severe log message that it wants.
pub(super) fn envelope_of(session: &Session, level: Option<&str>) -> Worn {
    let hello = session.hello.as_deref().and_then(|raw| members::<Params<'_>>(raw).ok());
    let hello = hello.unwrap_or_default();
    let is_object = |raw: &&RawValue| raw.get().starts_with('{');
    let client = hello.client_info.filter(is_object);
    let able = hello.capabilities.filter(is_object);
    let able = able.map_or("{}".into(), |able| without_tasks(able.get()));
    Worn {
        version: format!(r#""{META_VERSION}":"{MODERN}""#),
        client: client.map_or_else(String::new, |c| format!(r#""{META_CLIENT}":{}"#, c.get())),
        capabilities: format!(r#""{META_CAPABILITIES}":{able}"#),
        log: level.map_or_else(String::new, |level| format!(r#""{META_LOG}":"{level}""#)),
    }
}

#[cfg(test)]
mod tests {
    use super::without_tasks;

    #[test]
    fn only_tasks_are_taken_out_of_capabilities() {
        let tasks = r#""io.modelcontextprotocol/tasks":{"a":[1.0]}"#;
        for (all, left) in [
            (r#"{ }"#.to_owned(), r#"{ }"#),
            (r#"{"tasks":{},"x":1.0e2}"#.to_owned(), r#"{"x":1.0e2}"#),
            (r#"{"x": 1.0e2 ,"tasks":{"list":{}}}"#.to_owned(), r#"{"x": 1.0e2 }"#),
            (format!(r#"{{"tools":{{}},"extensions":{{{tasks}}}}}"#), r#"{"tools":{}}"#),
            (
                format!(r#"{{"extensions": {{"ui":{{"t":[ ]}},{tasks}}},"z":"tasks"}}"#),
                r#"{"extensions": {"ui":{"t":[ ]}},"z":"tasks"}"#,
            ),
            (r#"{"extensions":{},"tasks":1}"#.to_owned(), r#"{"extensions":{}}"#),
            (r#"{"extensions":"tasks"}"#.to_owned(), r#"{"extensions":"tasks"}"#),
        ] {
            assert_eq!(without_tasks(&all), left, "{all}");
        }
    }
}
