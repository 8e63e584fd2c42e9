//! What runs: a tenant and the main settings after defaults, template and file were merged and checked.
//!
//! These types hold only what was meant, never what was written: sizes are bytes, durations are
//! `Duration`, a command is a real file. They are made by `config::load` alone.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::settings::{Egress, Settings, Store};
pub use super::surroundings::Needs;
use crate::names::{ServerName, TenantId};

/// A count or size that may be without bound; written `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit<T> {
    /// At most this.
    At(T),
    /// No bound of ours.
    Unlimited,
}

impl<T: Copy + PartialOrd> Limit<T> {
    /// Whether `value` is within the limit.
    pub fn allows(&self, value: T) -> bool {
        match self {
            Self::At(most) => value <= *most,
            Self::Unlimited => true,
        }
    }

    /// The bound, or `other` where there is none.
    pub fn or(&self, other: T) -> T {
        match self {
            Self::At(most) => *most,
            Self::Unlimited => other,
        }
    }
}

/// `status` of a tenant file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Served.
    Active,
    /// Refused until resumed.
    Suspended,
    /// Served until the moment given (Unix seconds), then refused.
    Trial {
        /// End of the trial, seconds since the epoch.
        until: i64,
    },
}

/// How many children a server has: `share`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Share {
    /// One child for the tenant.
    Tenant,
    /// One child for each user.
    User,
    /// One child for each session.
    Session,
}

/// When a server starts: `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Start {
    /// With its first request.
    OnDemand,
    /// With its tenant.
    Always,
}

/// What a shared legacy server may ask its clients for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum SharedCapability {
    /// `elicitation/create`
    Elicitation,
    /// `sampling/createMessage`
    Sampling,
    /// `roots/list`
    Roots,
}

/// One server of a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Its name; `main` for `[server]`.
    pub name: ServerName,
    /// Whether `connect TENANT` without a server means this one.
    pub default: bool,
    /// The program, a real file found at load.
    pub command: PathBuf,
    /// Arguments, placeholders not yet expanded.
    pub args: Vec<String>,
    /// Environment of its own, placeholders not yet expanded.
    pub env: BTreeMap<String, String>,
    /// How many children.
    pub share: Share,
    /// The most children with `share` user or session.
    pub max_children: u32,
    /// When it starts.
    pub start: Start,
    /// How long a child without sessions lives on.
    pub idle_timeout: Limit<Duration>,
    /// How long a request may take; progress resets it, up to an hour.
    pub request_timeout: Limit<Duration>,
    /// How long a start may take until the handshake is done.
    pub start_timeout: Duration,
    /// What it may ask a client for while shared.
    pub shared_capabilities: Vec<SharedCapability>,
    /// SHA-256 that the executable must have, lower-case hexadecimal.
    pub sha256: Option<String>,
    /// `[sandbox]` with this server's own keys put over it.
    pub sandbox: Sandbox,
    /// What the command needs around it, found at load.
    pub needs: Needs,
}

/// `[sandbox]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sandbox {
    /// What it may reach.
    pub network: Network,
    /// Extra read-only paths, links followed.
    pub read: Vec<PathBuf>,
    /// Extra writable paths, links followed.
    pub write: Vec<PathBuf>,
    /// Size of /tmp, bytes.
    pub tmp: u64,
    /// Whether programs in the data directory may be executed.
    pub data_exec: bool,
    /// Supplementary groups (system mode).
    pub groups: Vec<String>,
    /// Layers without which the tenant does not start.
    pub require: Vec<Layer>,
}

/// `sandbox.network`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Network {
    /// An empty namespace.
    None,
    /// The host's network, asked for by name.
    Host,
    /// These destinations and no others.
    Allow(Vec<Destination>),
}

/// One entry of a network allowlist.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Destination {
    /// An exact host name or address, or `*.` and a suffix.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A layer of the sandbox that can be required.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum Layer {
    /// User, mount, pid, net, ipc, uts and cgroup namespaces.
    Namespaces,
    /// Landlock.
    Landlock,
    /// The system call filter.
    Seccomp,
    /// Resource limits by cgroup.
    Cgroup,
}

impl Layer {
    /// The name as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Cgroup => "cgroup",
        }
    }
}

/// `[quota]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quota {
    /// Requests in a minute.
    pub requests_per_minute: Limit<u32>,
    /// Requests in flight.
    pub concurrent_requests: Limit<u32>,
    /// Sessions open.
    pub sessions: Limit<u32>,
    /// Tools shown.
    pub max_tools: Limit<u32>,
    /// Resources shown.
    pub max_resources: Limit<u32>,
    /// Bytes stored.
    pub storage: Limit<u64>,
    /// Bytes of memory for the tenant as a whole.
    pub memory: Limit<u64>,
    /// Processor share for the tenant as a whole; 1.0 is one core.
    pub cpus: Limit<f64>,
    /// Tasks (processes and threads) for the tenant as a whole.
    pub processes: Limit<u32>,
    /// Descriptors of one process.
    pub open_files: Limit<u32>,
    /// Bytes of input and output in a second.
    pub io: Limit<u64>,
    /// Bytes of one message.
    pub message_size: Limit<u64>,
}

/// `[[grant]]`: who may use the tenant, and what of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Grant {
    /// User names, or uids in digits.
    pub users: Vec<String>,
    /// Group names, or gids in digits.
    pub groups: Vec<String>,
    /// Servers; `None` is all.
    pub servers: Option<Vec<ServerName>>,
    /// Permissions; `admin` satisfies every requirement.
    pub permissions: Vec<String>,
    /// Tools by pattern.
    pub tools: Patterns,
    /// Resources by pattern of their URI.
    pub resources: Patterns,
    /// Prompts by pattern.
    pub prompts: Patterns,
}

/// Patterns that allow and deny; deny wins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Patterns {
    /// Allowed; `None` is all, an empty list is none.
    pub allow: Option<Vec<String>>,
    /// Denied.
    pub deny: Vec<String>,
}

/// `[tools]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tools {
    /// Allowed and denied for everyone.
    pub patterns: Patterns,
    /// Tool to the permission that it needs.
    pub require: BTreeMap<String, String>,
    /// Whether a changed definition is held back.
    pub pin: bool,
}

/// `scope` of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Scope {
    /// One value for the tenant.
    Tenant,
    /// One value for each user.
    User,
}

/// How a credential reaches the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Delivery {
    /// As this environment variable.
    Env(String),
    /// As `$CREDENTIALS_DIRECTORY/<name>`.
    File(String),
    /// Put into requests by the egress process, for these hosts.
    Inject {
        /// Hosts, as in an allowlist, without port.
        hosts: Vec<String>,
        /// The header's name.
        header: String,
        /// The header's value, with `{}` for the secret.
        format: String,
    },
}

/// `[[credential]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// Its name in the keyring.
    pub name: String,
    /// Whose it is.
    pub scope: Scope,
    /// Servers that get it; never empty.
    pub servers: Vec<ServerName>,
    /// How it is delivered.
    pub delivery: Delivery,
}

/// `[oauth.NAME]`: a login at an authorization server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Login {
    /// The issuer, from which endpoints are discovered. Without one the endpoints are complete.
    pub issuer: Option<String>,
    /// Endpoints by their names in RFC 8414; they win over what is discovered.
    pub endpoints: BTreeMap<String, String>,
    /// The client's id, where it is registered by hand.
    pub client_id: Option<String>,
    /// Whether that client has a secret, to be asked for at login.
    pub client_secret: bool,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
    /// What the token is for (RFC 8707).
    pub resource: Option<String>,
}

/// One tenant, checked and complete.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tenant {
    /// The stem of its file.
    pub id: TenantId,
    /// Its name for people.
    pub name: String,
    /// Whether it is served.
    pub status: Status,
    /// Its data directory, if the file names one.
    pub data: Option<PathBuf>,
    /// Its servers, in the order of the file; never empty.
    pub servers: Vec<Server>,
    /// Who may use it.
    pub grants: Vec<Grant>,
    /// Which tools.
    pub tools: Tools,
    /// How much.
    pub quota: Quota,
    /// Its secrets, by name.
    pub credentials: Vec<Credential>,
    /// Its logins, by name. A credential of the same name is the access token of that login.
    pub logins: BTreeMap<String, Login>,
    /// Its feature switches.
    pub features: BTreeMap<String, bool>,
    /// Dotted names of fields that the file sets and this version does not enforce yet.
    pub not_enforced: Vec<String>,
    /// BLAKE3 of the merged configuration, hexadecimal: two equal digests mean the same tenant.
    pub digest: String,
    /// BLAKE3 of what a running server was started with (command, args, env, sandbox, data,
    /// credentials): where it differs, the change needs a drained restart.
    pub start_digest: String,
}

impl Tenant {
    /// The server of that name.
    pub fn server(&self, name: &ServerName) -> Option<&Server> {
        self.servers.iter().find(|server| server.name == *name)
    }

    /// The server that a session without a name gets: the only one, or the one marked `default`.
    pub fn default_server(&self) -> Option<&Server> {
        match self.servers.as_slice() {
            [only] => Some(only),
            several => several.iter().find(|server| server.default),
        }
    }
}
