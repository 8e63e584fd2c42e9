//! What hangs in the place of a server that cannot run: a handshake of ours, one tool that says what is
//! wrong, empty lists. Pure: JSON text for either era, no state.

use serde_json::{Value, json};

use crate::mcp::era::{self, Era, META_SERVER, MODERN, NEWEST_LEGACY};

/// The one tool of a server that cannot run.
pub(super) const STATUS_TOOL: &str = "tenantd_status";

/// What is wrong, for whom it concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    /// `TENANT/SERVER`.
    pub(super) place: String,
    /// For machines.
    pub(super) reason: String,
    /// What is wrong and what to do.
    pub(super) message: String,
    /// When it is tried again, milliseconds from now, where it is on its own.
    pub(super) retry_after_ms: Option<u64>,
    /// The last lines that the server wrote to stderr.
    pub(super) stderr: Vec<String>,
}

impl Notice {
    fn headline(&self) -> String {
        format!("{} is not available: {}", self.place, self.message)
    }
}

/// Every list may change when the server comes: a client that is told asks for them again.
fn capabilities() -> Value {
    let changes = json!({"listChanged": true});
    json!({"tools": changes, "resources": changes, "prompts": changes})
}

fn instructions(notice: &Notice) -> String {
    format!("{}. The tool {STATUS_TOOL} says how it is now.", notice.headline())
}

/// The result of a legacy `initialize` that asked for the revision `asked`.
pub(super) fn initialize(asked: &str, notice: &Notice) -> Value {
    json!({
        "protocolVersion": era::negotiate(asked, NEWEST_LEGACY),
        "capabilities": capabilities(),
        "serverInfo": era::identity(),
        "instructions": instructions(notice),
    })
}

/// The result of `server/discover`; nobody may keep it.
pub(super) fn discovery(notice: &Notice) -> Value {
    finished(json!({
        "supportedVersions": [MODERN],
        "capabilities": capabilities(),
        "_meta": {META_SERVER: era::identity()},
        "instructions": instructions(notice),
    }))
}

/// The result of `tools/list`.
pub(super) fn tools(of: Era, notice: &Notice) -> Value {
    let tool = json!({
        "name": STATUS_TOOL,
        "title": format!("Why {} has no tools now", notice.place),
        "description": format!("{}. Says how it is now and what to do.", notice.headline()),
        "inputSchema": {"type": "object", "additionalProperties": false},
        "annotations": {"readOnlyHint": true},
    });
    in_era(of, json!({"tools": [tool]}))
}

/// Whether a method lists something other than tools.
pub(super) fn lists(method: &str) -> bool {
    empty_list(Era::Legacy, method).is_some()
}

/// The empty result of another list, or `None` for a method that lists nothing.
pub(super) fn empty_list(of: Era, method: &str) -> Option<Value> {
    let key = match method {
        "resources/list" => "resources",
        "resources/templates/list" => "resourceTemplates",
        "prompts/list" => "prompts",
        _ => return None,
    };
    Some(in_era(of, json!({key: []})))
}

/// The result of a call of [`STATUS_TOOL`] while something is wrong.
pub(super) fn trouble(of: Era, notice: &Notice) -> Value {
    let mut text = notice.headline();
    if let Some(ms) = notice.retry_after_ms {
        text.push_str(&format!("\nIt is tried again in {} s.", ms.div_ceil(1000)));
    }
    if !notice.stderr.is_empty() {
        text.push_str("\nThe last lines of its stderr:\n");
        text.push_str(&notice.stderr.join("\n"));
    }
    said(of, &text)
}

/// The result of a call of [`STATUS_TOOL`] when nothing is wrong any more.
pub(super) fn all_is_well(of: Era, place: &str) -> Value {
    said(of, &format!("{place} is available. List its tools again."))
}

fn said(of: Era, text: &str) -> Value {
    let mut result = json!({"content": [{"type": "text", "text": text}], "isError": false});
    if of == Era::Modern {
        result["resultType"] = "complete".into();
    }
    result
}

fn in_era(of: Era, result: Value) -> Value {
    if of == Era::Modern { finished(result) } else { result }
}

/// A modern result that nobody may keep (2026-07-28, server/utilities/caching).
fn finished(mut result: Value) -> Value {
    result["resultType"] = "complete".into();
    result["ttlMs"] = 0.into();
    result["cacheScope"] = "private".into();
    result
}
