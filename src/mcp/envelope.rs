//! The envelope of one JSON-RPC message, borrowed from its line.
//!
//! `serde_json::value::RawValue` keeps every value's bytes; keys are compared after unescaping, and a
//! repeated key of the envelope is an error, so that no peer can read another message than we do.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// One message's members; a member that is `null` is present.
#[derive(Debug, Default, Deserialize)]
pub struct Envelope<'a> {
    /// The request id.
    #[serde(borrow, default, deserialize_with = "present")]
    pub id: Option<&'a RawValue>,
    /// The method, still escaped.
    #[serde(borrow, default, deserialize_with = "present")]
    pub method: Option<&'a RawValue>,
    /// The parameters.
    #[serde(borrow, default, deserialize_with = "present")]
    pub params: Option<&'a RawValue>,
    /// The result.
    #[serde(borrow, default, deserialize_with = "present")]
    pub result: Option<&'a RawValue>,
    /// The error.
    #[serde(borrow, default, deserialize_with = "present")]
    pub error: Option<&'a RawValue>,
}

/// What a message is.
#[derive(Debug)]
pub enum Message<'a> {
    /// Wants an answer.
    Request {
        /// Its id, still to be checked by [`good_id`].
        id: &'a RawValue,
        /// Its method.
        method: Cow<'a, str>,
    },
    /// Wants none.
    Notification {
        /// Its method.
        method: Cow<'a, str>,
    },
    /// Answers a request.
    Response {
        /// The id of the request.
        id: &'a RawValue,
    },
}

/// Why a line is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not one JSON object, or a member twice.
    #[error("the line is not one JSON-RPC message")]
    NotJson,
    /// A JSON array.
    #[error("JSON-RPC batches are not part of MCP since 2025-06-18; send one message a line")]
    Batch,
    /// An object without the members of a message.
    #[error("the message is neither a request, nor a notification, nor a response")]
    Shape,
}

impl<'a> Envelope<'a> {
    /// Reads the envelope of a line (without its newline).
    ///
    /// # Errors
    /// [`Malformed`] where the line is no single JSON object.
    pub fn read(line: &'a [u8]) -> Result<Self, Malformed> {
        match line.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => Err(Malformed::Batch),
            Some(b'{') => {
                // Looked at as text once, not again for each value in it.
                let text = std::str::from_utf8(line).map_err(|_| Malformed::NotJson)?;
                serde_json::from_str(text).map_err(|_| Malformed::NotJson)
            }
            _ => Err(Malformed::NotJson),
        }
    }

    /// What the message is.
    ///
    /// # Errors
    /// [`Malformed::Shape`].
    pub fn message(&self) -> Result<Message<'a>, Malformed> {
        match (self.method, self.id) {
            (Some(method), id) => {
                let method = text(method).ok_or(Malformed::Shape)?;
                Ok(match id {
                    Some(id) => Message::Request { id, method },
                    None => Message::Notification { method },
                })
            }
            (None, Some(id)) if self.result.is_some() || self.error.is_some() => {
                Ok(Message::Response { id })
            }
            _ => Err(Malformed::Shape),
        }
    }
}

/// Members of `params` that some method's routing depends on.
#[derive(Debug, Default, Deserialize)]
pub struct Params<'a> {
    /// `_meta`
    #[serde(borrow, default, rename = "_meta", deserialize_with = "present")]
    pub meta: Option<&'a RawValue>,
    /// `notifications/progress`
    #[serde(borrow, default, rename = "progressToken", deserialize_with = "present")]
    pub progress_token: Option<&'a RawValue>,
    /// `notifications/cancelled`
    #[serde(borrow, default, rename = "requestId", deserialize_with = "present")]
    pub request_id: Option<&'a RawValue>,
    /// `resources/subscribe`, `resources/unsubscribe`, `notifications/resources/updated`
    #[serde(borrow, default, deserialize_with = "present")]
    pub uri: Option<&'a RawValue>,
    /// `logging/setLevel`, `notifications/message`
    #[serde(borrow, default, deserialize_with = "present")]
    pub level: Option<&'a RawValue>,
    /// `tasks/*`, `notifications/tasks/status`
    #[serde(borrow, default, rename = "taskId", deserialize_with = "present")]
    pub task_id: Option<&'a RawValue>,
    /// `elicitation/create`, `notifications/elicitation/complete`
    #[serde(borrow, default, rename = "elicitationId", deserialize_with = "present")]
    pub elicitation_id: Option<&'a RawValue>,
    /// `initialize`
    #[serde(borrow, default, rename = "protocolVersion", deserialize_with = "present")]
    pub protocol_version: Option<&'a RawValue>,
    /// `initialize`
    #[serde(borrow, default, deserialize_with = "present")]
    pub capabilities: Option<&'a RawValue>,
    /// `initialize`
    #[serde(borrow, default, rename = "clientInfo", deserialize_with = "present")]
    pub client_info: Option<&'a RawValue>,
    /// A modern retry: the answers to what was asked.
    #[serde(borrow, default, rename = "inputResponses", deserialize_with = "present")]
    pub input_responses: Option<&'a RawValue>,
    /// A modern retry: what came with the question.
    #[serde(borrow, default, rename = "requestState", deserialize_with = "present")]
    pub request_state: Option<&'a RawValue>,
}

/// Members of `_meta` that routing depends on.
#[derive(Debug, Default, Deserialize)]
pub struct Meta<'a> {
    /// The token that progress notifications will carry.
    #[serde(borrow, default, rename = "progressToken", deserialize_with = "present")]
    pub progress_token: Option<&'a RawValue>,
    /// The modern era's mark.
    #[serde(
        borrow,
        default,
        rename = "io.modelcontextprotocol/protocolVersion",
        deserialize_with = "present"
    )]
    pub protocol_version: Option<&'a RawValue>,
    /// Who the modern client says it is.
    #[serde(
        borrow,
        default,
        rename = "io.modelcontextprotocol/clientInfo",
        deserialize_with = "present"
    )]
    pub client_info: Option<&'a RawValue>,
    /// What the modern client can be asked for.
    #[serde(
        borrow,
        default,
        rename = "io.modelcontextprotocol/clientCapabilities",
        deserialize_with = "present"
    )]
    pub client_capabilities: Option<&'a RawValue>,
    /// The modern client's wish for log messages.
    #[serde(
        borrow,
        default,
        rename = "io.modelcontextprotocol/logLevel",
        deserialize_with = "present"
    )]
    pub log_level: Option<&'a RawValue>,
    /// The `subscriptions/listen` request that a message belongs to.
    #[serde(
        borrow,
        default,
        rename = "io.modelcontextprotocol/subscriptionId",
        deserialize_with = "present"
    )]
    pub subscription_id: Option<&'a RawValue>,
    /// The task that a message belongs to.
    #[serde(
        borrow,
        default,
        rename = "io.modelcontextprotocol/related-task",
        deserialize_with = "present"
    )]
    pub related_task: Option<&'a RawValue>,
    /// Our own context; whatever a client puts here is replaced.
    #[serde(borrow, default, rename = "io.tenantd/context", deserialize_with = "present")]
    pub context: Option<&'a RawValue>,
}

/// Reads chosen members of a raw object.
///
/// # Errors
/// [`Malformed::Shape`] if it is no object or one of those members comes twice.
pub fn members<'a, T: Deserialize<'a>>(object: &'a RawValue) -> Result<T, Malformed> {
    if !object.get().starts_with('{') {
        return Err(Malformed::Shape);
    }
    serde_json::from_str(object.get()).map_err(|_| Malformed::Shape)
}

/// A member that messages are searched for before they are read: made once, since making the search
/// costs more than most messages are long.
#[derive(Debug)]
pub struct Key(LazyLock<Finder<'static>>);

/// `_meta`
pub static META: Key = Key(LazyLock::new(|| Finder::new("_meta")));
/// `taskId`
pub static TASK_ID: Key = Key(LazyLock::new(|| Finder::new("taskId")));
/// `inputResponses`
pub static INPUT_RESPONSES: Key = Key(LazyLock::new(|| Finder::new("inputResponses")));
/// `requestState`
pub static REQUEST_STATE: Key = Key(LazyLock::new(|| Finder::new("requestState")));
/// `cursor`
pub static CURSOR: Key = Key(LazyLock::new(|| Finder::new("cursor")));

/// Whether `object` may have a member `key`: false is certain. A key can be spelled with `\u` escapes,
/// so a backslash-u makes it possible too.
pub fn may_have(object: &RawValue, key: &Key) -> bool {
    let bytes = object.get().as_bytes();
    key.0.find(bytes).is_some()
        || memchr::memchr_iter(b'\\', bytes).any(|at| bytes.get(at + 1) == Some(&b'u'))
}

/// The text of a raw JSON string.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if quoted.contains('\\') {
        serde_json::from_str(raw.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(quoted))
    }
}

/// Whether this is an id that MCP allows: a string or an integer, never null and never a fraction.
/// Integers of any size are fine, since ours replaces them on the way and the bytes come back.
pub fn good_id(id: &RawValue) -> bool {
    let text = id.get();
    let digits = text.strip_prefix('-').unwrap_or(text);
    text.starts_with('"') || (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The number, where a raw id is one that this mux could have given: plain digits.
pub fn our_id(id: &RawValue) -> Option<u64> {
    let text = id.get();
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// Reads a member that may be missing; one that is `null` is there.
///
/// # Errors
/// Those of the deserializer.
pub fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Envelope<'_> {
        Envelope::read(line.as_bytes()).expect("an envelope")
    }

    #[test]
    fn a_null_id_is_present_and_no_good_id() {
        let envelope = read(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#);
        assert!(matches!(envelope.message(), Ok(Message::Request { .. })));
        assert!(!good_id(envelope.id.expect("an id")));
    }

    #[test]
    fn ids_are_strings_or_integers_of_any_size() {
        for (id, good) in [
            ("1", true),
            ("-7", true),
            ("123456789012345678901234567890", true),
            (r#""a""#, true),
            ("1.0", false),
            ("1e3", false),
            ("null", false),
            ("true", false),
            ("[]", false),
            ("{}", false),
        ] {
            let line = format!(r#"{{"id":{id},"method":"x"}}"#);
            assert_eq!(good_id(read(&line).id.expect("an id")), good, "{id}");
        }
    }

    #[test]
    fn an_escaped_key_is_the_same_key() {
        let envelope = read(r#"{"\u0069d":5,"m\u0065thod":"tools\/call"}"#);
        let Ok(Message::Request { id, method }) = envelope.message() else { panic!("a request") };
        assert_eq!((id.get(), method.as_ref()), ("5", "tools/call"));
    }

    #[test]
    fn a_repeated_member_is_refused() {
        let line = br#"{"id":1,"id":2,"method":"x"}"#;
        assert_eq!(Envelope::read(line).err(), Some(Malformed::NotJson));
    }

    #[test]
    fn a_batch_is_named_as_such() {
        assert_eq!(Envelope::read(b" [1]").err(), Some(Malformed::Batch));
    }

    #[test]
    fn an_escaped_meta_key_is_never_overlooked() {
        let line = r#"{"params":{"\u005fmeta":{"progressToken":1}}}"#;
        let params = read(line).params.expect("params");
        assert!(may_have(params, &META));
        let params: Params<'_> = members(params).expect("an object");
        assert!(params.meta.is_some());
    }

    #[test]
    fn only_plain_digits_can_be_an_id_of_ours() {
        for (id, ours) in [("7", Some(7)), ("07", None), ("7.0", None), ("\"7\"", None)] {
            let line = format!(r#"{{"id":{id},"result":{{}}}}"#);
            match Envelope::read(line.as_bytes()) {
                Ok(envelope) => assert_eq!(envelope.id.and_then(our_id), ours, "{id}"),
                Err(_) => assert_eq!(ours, None, "{id}"),
            }
        }
    }
}
