//! What egress is told, what a sandbox hands to it, and what it says itself.
//!
//! Two conversations. The **control socket** is the supervisor's: [`ToEgress`] and [`FromEgress`]; its end
//! means that nothing new comes, and the servers that are there keep their ways. The **doors socket** is
//! one server's: its other end goes to the stage, whose init sends [`Opened`] with listening sockets of
//! the new network namespace and whose keeper then holds it; its end is the end of that server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Identity;
use crate::config::tenant::Destination;
use crate::names::{ServerName, TenantId};

/// What egress must know of its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressPlan {
    /// [`super::VERSION`] of the writer.
    pub wire: u32,
    /// The tenant.
    pub tenant: TenantId,
    /// Who it becomes before it reads anything from outside (system mode).
    pub identity: Option<Identity>,
    /// The HTTP proxy of the house, through which what is not the house's own is reached.
    pub upstream: Option<Destination>,
}

/// What one server may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// The server.
    pub server: ServerName,
    /// Its allowlist.
    pub allowed: Vec<Destination>,
    /// The credentials that are put into its requests on their way out.
    pub inject: Vec<Injection>,
}

/// A credential that a server never holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// Its name, as in [`Handed`](super::credential::Handed).
    pub credential: String,
    /// The names that lead out under it, found inside at port 80, each with the one host that it leads to by
    /// HTTPS. The allowlist must open that host.
    pub doors: BTreeMap<String, Destination>,
    /// The header that is added, and replaces the server's own.
    pub header: String,
    /// Its value, with one `{}` for the secret.
    pub format: String,
}

/// Supervisor to egress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToEgress {
    /// A server is about to start. Descriptors: sealed memfd with its [`Way`], its doors socket; and where
    /// its way injects, the reading end of its hand-over socket and the bundle of authorities that its hosts'
    /// certificates are checked by (PEM).
    Serve,
    /// The log was rotated. Descriptor: the new file (append).
    Log,
}

/// Egress to supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromEgress {
    /// The log has reached its size: a new file, please.
    LogFull,
    /// A host answered 401 to a credential: another value, please, at this server's hand-over socket. Never
    /// twice in a minute.
    Refused {
        /// The server.
        server: ServerName,
        /// The credential's name.
        credential: String,
    },
}

/// Stage to egress: sockets that listen inside, in the order of the descriptors beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// What each of them is for.
    pub listeners: Vec<Listener>,
}

/// What a socket that listens inside is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Listener {
    /// Each connection is one to this host and port.
    Door {
        /// An exact host.
        host: String,
        /// Its port.
        port: u16,
    },
    /// Each connection says in a CONNECT request where it wants to go.
    Proxy,
}
