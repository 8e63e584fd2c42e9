//! A client's request on its way: its line, and what was found in it.

use serde_json::value::RawValue;

use super::dress::needs_params;
use crate::mcp::envelope::{Envelope, META, Malformed, Message, Meta, Params, may_have, members};
use crate::mcp::era::Era;

/// A request on its way: the line and what was found in it.
pub(super) struct Request<'a> {
    pub(super) line: &'a [u8],
    pub(super) envelope: &'a Envelope<'a>,
    pub(super) id: &'a RawValue,
    pub(super) method: &'a str,
    pub(super) params: Params<'a>,
    pub(super) meta: Meta<'a>,
}

impl Request<'_> {
    pub(super) fn raw_id(&self) -> &[u8] {
        self.id.get().as_bytes()
    }

    /// The era of the message itself.
    pub(super) fn era(&self) -> Era {
        if self.is_modern() { Era::Modern } else { Era::Legacy }
    }

    /// Whether it is the handshake. With an envelope it is a method that the modern era has removed.
    pub(super) fn is_handshake(&self) -> bool {
        self.method == "initialize" && !self.is_modern()
    }

    /// Whether the message itself is of the modern era.
    pub(super) fn is_modern(&self) -> bool {
        self.meta.protocol_version.is_some() || self.method == "server/discover"
    }
}

/// Reads a kept line of a client's again, where it is a request.
pub(super) fn reread(line: &[u8], with: impl FnOnce(&Request<'_>)) {
    let Ok(envelope) = Envelope::read(line) else { return };
    let Ok(Message::Request { id, method }) = envelope.message() else { return };
    let Ok((params, meta)) = look(&method, envelope.params) else { return };
    with(&Request { line, envelope: &envelope, id, method: &method, params, meta });
}

/// As [`look_inside`], of a request: only as far as its method needs it. What is passed on unread the first
/// time must not be refused when it is read again.
pub(super) fn look<'a>(
    method: &str,
    params: Option<&'a RawValue>,
) -> Result<(Params<'a>, Meta<'a>), Malformed> {
    match params {
        // What is no object has no place for a context, and is looked at to be refused.
        Some(params)
            if params.get().starts_with('{')
                && !needs_params(method)
                && !may_have(params, &META) =>
        {
            Ok(Default::default())
        }
        params => look_inside(params),
    }
}

/// The parameters and the `_meta` that routing depends on.
pub(super) fn look_inside(params: Option<&RawValue>) -> Result<(Params<'_>, Meta<'_>), Malformed> {
    let params: Params<'_> = params.map(members).transpose()?.unwrap_or_default();
    let meta: Meta<'_> = params.meta.map(members).transpose()?.unwrap_or_default();
    Ok((params, meta))
}
