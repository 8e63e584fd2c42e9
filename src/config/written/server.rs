//! What a file says of one server and of the sandbox. These types decide nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};

use super::Texts;
use crate::config::scalar::{At, Bound, Count, Period, Size};
use crate::config::tenant::{Layer, Share, SharedCapability, Start};

/// One MCP server, run as a child for this tenant alone.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Server")]
pub(in crate::config) struct ServerTable {
    /// Program: an absolute path, one below ~/ in user mode, or a bare name; "tenantd" is this program itself.
    pub(in crate::config) command: Option<At<String>>,
    /// Arguments; {tenant}, {name}, {data} and {user} expand.
    #[schemars(extend("default" = []))]
    pub(in crate::config) args: Option<Texts>,
    /// Environment of its own, beside a short allowlist; placeholders expand as in args.
    #[serde(default)]
    pub(in crate::config) env: BTreeMap<At<String>, At<String>>,
    /// One child for the tenant, for each user or for each session.
    #[schemars(extend("default" = "tenant"))]
    pub(in crate::config) share: Option<At<Share>>,
    /// Most children with share "user" or "session".
    #[schemars(extend("default" = 8))]
    pub(in crate::config) max_children: Option<At<Count>>,
    /// Whether it starts with its first request or with its tenant.
    #[schemars(extend("default" = "on-demand"))]
    pub(in crate::config) start: Option<At<Start>>,
    /// How long a child without sessions lives on (duration).
    #[schemars(extend("default" = "10m"))]
    pub(in crate::config) idle_timeout: Option<At<Bound<Period>>>,
    /// How long a request may take (duration); progress resets it, up to an hour.
    #[schemars(extend("default" = "10m"))]
    pub(in crate::config) request_timeout: Option<At<Bound<Period>>>,
    /// How long a start may take until the handshake is done (duration).
    #[schemars(extend("default" = "9s"))]
    pub(in crate::config) start_timeout: Option<At<Period>>,
    /// What a shared legacy server may ask its clients for.
    #[schemars(extend("default" = []))]
    pub(in crate::config) shared_capabilities: Option<Vec<At<SharedCapability>>>,
    /// SHA-256 that the program must have, 64 hexadecimal digits.
    pub(in crate::config) sha256: Option<At<String>>,
    /// Whether a session that names no server gets this one.
    #[schemars(extend("default" = false))]
    pub(in crate::config) default: Option<At<bool>>,
    /// Keys that replace those of the tenant's [sandbox] for this server.
    pub(in crate::config) sandbox: Option<At<SandboxTable>>,
}

/// What a server may reach.
#[derive(Debug, Default, Clone, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Sandbox")]
pub(in crate::config) struct SandboxTable {
    /// Nothing, the host's network, or a list of "host:port" with a name, an address or a "*.suffix".
    #[schemars(extend("default" = "none"))]
    pub(in crate::config) network: Option<At<NetworkWord>>,
    /// Extra paths that it may read.
    #[schemars(extend("default" = []))]
    pub(in crate::config) read: Option<Texts>,
    /// Extra paths that it may write.
    #[schemars(extend("default" = []))]
    pub(in crate::config) write: Option<Texts>,
    /// Size of /tmp, bytes.
    #[schemars(extend("default" = "64MiB"))]
    pub(in crate::config) tmp: Option<At<Size>>,
    /// Whether programs in the data directory may be executed.
    #[schemars(extend("default" = false))]
    pub(in crate::config) data_exec: Option<At<bool>>,
    /// Supplementary groups, for folders that people share (system mode).
    #[schemars(extend("default" = []))]
    pub(in crate::config) groups: Option<At<Texts>>,
    /// Layers without which the tenant does not start. Default: namespaces, landlock, seccomp; in system mode also cgroup.
    pub(in crate::config) require: Option<Vec<At<Layer>>>,
}

impl SandboxTable {
    /// This table where it says something, `base` where it does not.
    pub(in crate::config) fn over(self, base: &Self) -> Self {
        Self {
            network: self.network.or_else(|| base.network.clone()),
            read: self.read.or_else(|| base.read.clone()),
            write: self.write.or_else(|| base.write.clone()),
            tmp: self.tmp.or_else(|| base.tmp.clone()),
            data_exec: self.data_exec.or_else(|| base.data_exec.clone()),
            groups: self.groups.or_else(|| base.groups.clone()),
            require: self.require.or_else(|| base.require.clone()),
        }
    }
}

/// `sandbox.network` as written.
#[derive(Debug, Clone)]
pub(in crate::config) enum NetworkWord {
    None,
    Host,
    Allow(Texts),
}

impl<'de> Deserialize<'de> for NetworkWord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NetworkVisitor)
    }
}

struct NetworkVisitor;

impl<'de> Visitor<'de> for NetworkVisitor {
    type Value = NetworkWord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            r#""none", "host" or a list of "host:port", for example ["api.github.com:443"]"#,
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<NetworkWord, E> {
        match text {
            "none" => Ok(NetworkWord::None),
            "host" => Ok(NetworkWord::Host),
            _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<NetworkWord, A::Error> {
        let mut allowed = Texts::new();
        while let Some(entry) = entries.next_element()? {
            allowed.push(entry);
        }
        Ok(NetworkWord::Allow(allowed))
    }
}

impl JsonSchema for NetworkWord {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "enum": ["none", "host"] },
            { "type": "array", "items": { "type": "string", "pattern": "^.+:[0-9]{1,5}$" } },
        ]})
    }
}
