//! The errors that tenantd itself answers with, and how they look on the wire.
//!
//! Codes are positive, outside every range that JSON-RPC and MCP reserve, so that none can be taken for
//! an error of the server's (2026-07-28, basic/index#error-codes). Only where tenantd speaks for a server
//! of the other era does it use the codes that the client's revision prescribes.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::names::TenantId;

/// What went wrong, by the number that a person may know from elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The message is malformed or out of place.
    Malformed = 400,
    /// The asker may not.
    Denied = 403,
    /// The server did not answer in time.
    TimedOut = 408,
    /// The request id is in flight already.
    Duplicate = 409,
    /// The message is too large.
    TooLarge = 413,
    /// Too many at once.
    TooMany = 429,
    /// The server is not to be had.
    Unavailable = 503,
    /// The tenant stores all it may.
    Full = 507,
    /// JSON-RPC's: no such method in the revision that the request is of.
    MethodNotFound = -32601,
    /// JSON-RPC's: the request lacks what its revision requires.
    InvalidParams = -32602,
    /// MCP's: the request needs a capability that its client did not declare.
    MissingCapability = -32021,
    /// MCP's: a revision that is not spoken here.
    UnsupportedVersion = -32022,
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The code.
    pub code: Code,
    /// For machines: a short word.
    pub reason: Cow<'static, str>,
    /// For people: the deed, the thing and the way out.
    pub message: String,
    /// When it may work, milliseconds from now.
    pub retry_after_ms: Option<u64>,
    /// More members of `data`, as JSON text (`"key":value,...`), where a specification wants them.
    pub more: Option<String>,
}

impl Failure {
    /// An error without a time to come back.
    pub fn new(
        code: Code,
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            retry_after_ms: None,
            more: None,
        }
    }

    /// With more members of `data`: `"key":value,...`.
    #[must_use]
    pub fn with(mut self, more: String) -> Self {
        self.more = Some(more);
        self
    }

    /// The response line, without newline. Without an id the member is left out: MCP's schemas have no
    /// null id.
    pub fn line(&self, id: Option<&[u8]>, tenant: &TenantId) -> Vec<u8> {
        let mut body = String::with_capacity(160 + self.message.len());
        // Writing to a String cannot fail.
        let _ = write!(
            body,
            r#""error":{{"code":{},"message":{},"data":{{"tenant":"{tenant}","reason":{}"#,
            self.code as i32,
            serde_json::Value::from(self.message.as_str()),
            serde_json::Value::from(&*self.reason)
        );
        if let Some(retry) = self.retry_after_ms {
            let _ = write!(body, r#","retryAfterMs":{retry}"#);
        }
        if let Some(more) = &self.more {
            body.push(',');
            body.push_str(more);
        }
        body.push_str("}}}");
        let mut line = br#"{"jsonrpc":"2.0","#.to_vec();
        if let Some(id) = id {
            line.extend_from_slice(br#""id":"#);
            line.extend_from_slice(id);
            line.push(b',');
        }
        line.extend_from_slice(body.as_bytes());
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_line_is_json_and_keeps_the_id() {
        let acme = TenantId::parse("acme").expect("a name");
        let failure = Failure {
            retry_after_ms: Some(50),
            ..Failure::new(Code::Unavailable, "server-died", "it \"died\"\nbadly")
        };
        let line = failure.line(Some(b"\"a b\""), &acme);
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(value["id"], "a b");
        assert_eq!(value["error"]["code"], 503);
        assert_eq!(value["error"]["data"]["retryAfterMs"], 50);
        assert_eq!(value["error"]["message"], "it \"died\"\nbadly");
        let line = failure.line(None, &acme);
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert!(value.get("id").is_none());
    }
}
