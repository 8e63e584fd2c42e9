//! The two eras of MCP and their handshakes, as this program itself speaks them.
//!
//! *Legacy* is every revision up to 2025-11-25: an `initialize` handshake for the connection. *Modern*
//! is 2026-07-28 and later: each request carries its metadata, `server/discover` tells what there is.

use serde_json::{Value, json};

use crate::config::tenant::SharedCapability;

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Era {
    /// Up to 2025-11-25.
    Legacy,
    /// From 2026-07-28 on.
    Modern,
}

impl Era {
    /// The name as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}

/// The newest modern revision.
pub const MODERN: &str = "2026-07-28";
/// The legacy revisions, oldest first.
pub const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];
/// The newest legacy revision.
pub const NEWEST_LEGACY: &str = LEGACY[LEGACY.len() - 1];

/// `_meta` key of the revision, in every modern request.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// `_meta` key of the client's name and version.
pub const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
/// `_meta` key of the client's capabilities.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// `_meta` key of the least severe log level that a modern request asks for.
pub const META_LOG: &str = "io.modelcontextprotocol/logLevel";
/// `_meta` key of the `subscriptions/listen` request that a message belongs to.
pub const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
/// `_meta` key of the server's name and version, in the result of `server/discover`.
pub const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";
/// `_meta` key of what tenantd tells the server about a request.
pub const META_CONTEXT: &str = "io.tenantd/context";

/// MCP's error for a revision that a modern server does not speak.
pub const UNSUPPORTED_VERSION: i64 = -32022;

/// The revision that a server which chose `server` for us would have chosen for a client that asks for
/// `asked`: the client's own where both know it and it is no newer, else the server's.
pub fn negotiate<'a>(asked: &'a str, server: &'a str) -> &'a str {
    let rank = |version: &str| LEGACY.iter().position(|known| *known == version);
    match (rank(asked), rank(server)) {
        (Some(asks), Some(has)) if asks <= has => asked,
        _ => server,
    }
}

/// How this program introduces itself to clients and servers.
pub fn identity() -> Value {
    json!({"name": "tenantd", "version": env!("CARGO_PKG_VERSION")})
}

/// The probe: a `server/discover` request of our own.
pub fn discover_request(id: u64) -> Vec<u8> {
    modern_request(id, "server/discover")
}

/// A modern request of our own that needs no parameters.
pub fn modern_request(id: u64, method: &str) -> Vec<u8> {
    let params = json!({"_meta": {
        META_VERSION: MODERN, META_CLIENT: identity(), META_CAPABILITIES: {},
    }});
    request(id, method, &params)
}

/// An `initialize` request of our own, declaring what the configuration lets a shared server ask for.
pub fn initialize_request(id: u64, shared: &[SharedCapability]) -> Vec<u8> {
    let mut capabilities = serde_json::Map::new();
    for capability in shared {
        let key = match capability {
            SharedCapability::Elicitation => "elicitation",
            SharedCapability::Sampling => "sampling",
            SharedCapability::Roots => "roots",
        };
        capabilities.insert(key.to_owned(), json!({}));
    }
    let params = json!({
        "protocolVersion": NEWEST_LEGACY, "capabilities": capabilities, "clientInfo": identity(),
    });
    request(id, "initialize", &params)
}

/// Any request of our own.
pub fn request(id: u64, method: &str, params: &Value) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string().into_bytes()
}

/// Any notification of our own.
pub fn notification(method: &str, params: Option<&Value>) -> Vec<u8> {
    let line = match params {
        Some(params) => json!({"jsonrpc": "2.0", "method": method, "params": params}),
        None => json!({"jsonrpc": "2.0", "method": method}),
    };
    line.to_string().into_bytes()
}

/// The answer to a request, its id and result as raw JSON.
pub fn result(raw_id: &[u8], result: &[u8]) -> Vec<u8> {
    [br#"{"jsonrpc":"2.0","id":"#, raw_id, br#","result":"#, result, b"}"].concat()
}

/// The log levels of MCP (RFC 5424), most verbose first.
const LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// How verbose a level is: 0 is the most verbose; `None` for no level.
pub fn level_rank(level: &str) -> Option<u8> {
    LEVELS.iter().position(|known| *known == level).and_then(|rank| u8::try_from(rank).ok())
}

/// The name of a level.
pub fn level_name(rank: u8) -> Option<&'static str> {
    LEVELS.get(usize::from(rank)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_the_revision_that_a_direct_connection_would_have_given() {
        for (asked, server, want) in [
            ("2025-11-25", "2025-11-25", "2025-11-25"),
            ("2024-11-05", "2025-11-25", "2024-11-05"),
            ("2025-11-25", "2024-11-05", "2024-11-05"),
            ("1.0.0", "2025-06-18", "2025-06-18"),
            ("2026-07-28", "2025-11-25", "2025-11-25"),
        ] {
            assert_eq!(negotiate(asked, server), want, "{asked} of {server}");
        }
    }
}
