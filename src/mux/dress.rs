//! What a client's request wears on its way to the server, and what is said to a message that may not
//! go there. Pure: splices and errors, no state.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::exchange::LONGEST_LINE;
use super::request::Request;
use super::session::Raw;
use crate::mcp::envelope::Malformed;
use crate::mcp::era::{META_CAPABILITIES, META_CLIENT, META_CONTEXT, META_LOG, META_VERSION};
use crate::mcp::error::{Code, Failure};
use crate::mcp::splice::{Splice, member_ranges, raw_members};

/// What a request's `_meta` becomes, beside id, token and context.
#[derive(Debug, Clone, Copy)]
pub(super) enum Suit<'a> {
    /// Nothing else changes: client and server are of one era.
    AsItCame,
    /// For a modern server: its client's envelope is put on.
    Modern(&'a Worn),
    /// For a legacy server: the modern envelope is taken away, since it rejects what it does not know.
    Legacy,
}

/// The modern envelope of a client that wears none of its own, each part as `"key":value` or empty.
#[derive(Debug, Default)]
pub(super) struct Worn {
    /// [`META_VERSION`]
    pub(super) version: String,
    /// [`META_CLIENT`]
    pub(super) client: String,
    /// [`META_CAPABILITIES`]
    pub(super) capabilities: String,
    /// [`META_LOG`]
    pub(super) log: String,
}

/// Puts our id, token and context into a request, and what its suit is; gives the client's token back.
pub(super) fn dress<'a>(
    splice: &mut Splice<'a>,
    request: &Request<'_>,
    id: &'a str,
    context: &'a str,
    suit: Suit<'a>,
) -> Option<Raw> {
    splice.replace(request.id, id.as_bytes());
    let token = request.meta.progress_token.map(|token| Raw::from(token.get().as_bytes()));
    if let (Suit::Legacy, Some(meta)) = (suit, request.params.meta) {
        splice.replace(meta, legacy_meta(meta, id, context));
        strip_retry(splice, request);
        return token;
    }
    if let Some(token) = request.meta.progress_token {
        splice.replace(token, id.as_bytes());
    }
    let mut members = [put(splice, request.meta.context, context), "", "", "", ""];
    if let Suit::Modern(worn) = suit {
        let meta = &request.meta;
        members[1] = &worn.version;
        members[2] = put(splice, meta.client_info, &worn.client);
        members[3] = put(splice, meta.client_capabilities, &worn.capabilities);
        members[4] = put(splice, meta.log_level, &worn.log);
    }
    match (request.params.meta, request.envelope.params, request.envelope.method) {
        (Some(meta), _, _) => splice.append_members(meta, "", &members, ""),
        (None, Some(params), _) => splice.append_members(params, "\"_meta\":{", &members, "}"),
        (None, None, Some(method)) => {
            splice.insert_after(method, ",\"params\":{\"_meta\":{", &members, "}}");
        }
        (None, None, None) => {}
    }
    token
}

/// Puts a member in the place of one that the client wrote itself, and leaves nothing to add; else it is
/// to be added.
fn put<'a>(splice: &mut Splice<'a>, theirs: Option<&RawValue>, member: &'a str) -> &'a str {
    // None of these keys has a colon.
    match (theirs, member.split_once(':')) {
        (Some(theirs), Some((_, value))) => {
            splice.replace(theirs, value.as_bytes());
            ""
        }
        _ => member,
    }
}

/// What only a modern retry has is nothing for a legacy server.
fn strip_retry(splice: &mut Splice<'_>, request: &Request<'_>) {
    let retry = request.params.input_responses.or(request.params.request_state);
    let (Some(params), Some(_)) = (request.envelope.params, retry) else { return };
    let start = splice.range(params).start;
    let is_retry = |key: &str| matches!(key, "inputResponses" | "requestState");
    for range in member_ranges(params.get(), is_retry) {
        splice.remove(start + range.start..start + range.end);
    }
}

/// A modern request's `_meta` as a legacy server gets it: everything but the modern envelope.
fn legacy_meta<'a>(meta: &RawValue, id: &str, context: &str) -> Cow<'a, [u8]> {
    const MODERN_ONLY: [&str; 5] =
        [META_VERSION, META_CLIENT, META_CAPABILITIES, META_LOG, META_CONTEXT];
    let mut text = String::with_capacity(meta.get().len() + context.len());
    text.push('{');
    for (key, value) in raw_members(meta.get()) {
        if MODERN_ONLY.contains(&key.as_str()) {
            continue;
        }
        let value = if key == "progressToken" { id } else { value };
        text.push_str(&format!("{}:{value},", serde_json::Value::from(key)));
    }
    text.push_str(context);
    text.push('}');
    Cow::Owned(text.into_bytes())
}

/// Methods whose parameters are looked at beside their `_meta`.
pub(super) fn needs_params(method: &str) -> bool {
    matches!(
        method,
        "initialize" | "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel"
    ) || method.starts_with("tasks/")
}

/// A message that is none.
pub(super) fn bad(malformed: Malformed) -> Failure {
    Failure::new(Code::Malformed, "malformed", malformed.to_string())
}

/// An id that nobody may use.
pub(super) fn bad_id() -> Failure {
    Failure::new(Code::Malformed, "bad-id", "a request id is a string or an integer, never null")
}

/// A message over the limit.
pub(super) fn too_large(limit: usize) -> Failure {
    Failure::new(
        Code::TooLarge,
        "too-large",
        format!(
            "the message is larger than {limit} bytes (quota.message_size, at most {LONGEST_LINE})"
        ),
    )
}
