//! What a client's request wears on its way to the server, and what is said to a message that may not
//! go there. Pure: splices and errors, no state.

use super::client::Request;
use super::exchange::LONGEST_LINE;
use super::session::Raw;
use crate::mcp::envelope::{LONGEST_ID, Malformed};
use crate::mcp::error::{Code, Failure};
use crate::mcp::splice::Splice;

/// Puts our id, token, context and `more` members into a request; gives the client's token back.
pub(super) fn dress<'a>(
    splice: &mut Splice<'a>,
    request: &Request<'_>,
    id: &'a str,
    context: &'a str,
    more: &'a str,
) -> Option<Raw> {
    splice.replace(request.id, id.as_bytes());
    let token = request.meta.progress_token.map(|token| {
        splice.replace(token, id.as_bytes());
        Raw::from(token.get().as_bytes())
    });
    let context = match request.meta.context {
        // What a client put there is replaced in its place.
        Some(theirs) => {
            splice.replace(theirs, context_value(context).as_bytes());
            ""
        }
        None => context,
    };
    let members = [context, more];
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

/// The value of the member that a context is.
pub(super) fn context_value(context: &str) -> &str {
    context.split_once(':').map_or("null", |(_, value)| value)
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
    Failure::new(
        Code::Malformed,
        "bad-id",
        format!(
            "a request id is a string or an integer, never null, and like a progress token not longer \
             than {LONGEST_ID} bytes"
        ),
    )
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
