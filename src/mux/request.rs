//! A client's request on its way: its line, and what was found in it.

use serde_json::value::RawValue;

use crate::mcp::envelope::{Envelope, Malformed, Message, Meta, Params, members};
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
    let Ok((params, meta)) = look_inside(envelope.params) else { return };
    with(&Request { line, envelope: &envelope, id, method: &method, params, meta });
}

/// The parameters and the `_meta` that routing depends on.
pub(super) fn look_inside(params: Option<&RawValue>) -> Result<(Params<'_>, Meta<'_>), Malformed> {
    let params: Params<'_> = params.map(members).transpose()?.unwrap_or_default();
    let meta: Meta<'_> = params.meta.map(members).transpose()?.unwrap_or_default();
    Ok((params, meta))
}
