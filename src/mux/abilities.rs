//! What a client can be asked for while a request of its is in flight: a set of three.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::config::tenant::SharedCapability;
use crate::mcp::envelope::members;

/// Capabilities that a client has declared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Abilities(u8);

impl Abilities {
    /// What a raw `capabilities` object declares; nothing where it is none.
    pub(super) fn declared(capabilities: Option<&RawValue>) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Declared<'a> {
            #[serde(borrow)]
            elicitation: Option<&'a RawValue>,
            #[serde(borrow)]
            sampling: Option<&'a RawValue>,
            #[serde(borrow)]
            roots: Option<&'a RawValue>,
        }
        let declared: Declared<'_> =
            capabilities.and_then(|raw| members(raw).ok()).unwrap_or_default();
        let each = [
            (SharedCapability::Elicitation, declared.elicitation),
            (SharedCapability::Sampling, declared.sampling),
            (SharedCapability::Roots, declared.roots),
        ];
        let held = each.into_iter().filter(|(_, value)| value.is_some());
        Self(held.fold(0, |all, (one, _)| all | bit(one)))
    }

    /// Whether one is among them.
    pub(super) fn has(self, one: SharedCapability) -> bool {
        self.0 & bit(one) != 0
    }
}

/// Whether a modern request's raw capabilities declare the extension of tasks.
pub(super) fn knows_tasks(capabilities: Option<&RawValue>) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Declared<'a> {
        #[serde(borrow)]
        extensions: Option<&'a RawValue>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Extensions<'a> {
        #[serde(borrow, rename = "io.modelcontextprotocol/tasks")]
        tasks: Option<&'a RawValue>,
    }
    let declared: Declared<'_> = capabilities.and_then(|raw| members(raw).ok()).unwrap_or_default();
    let extensions: Extensions<'_> =
        declared.extensions.and_then(|raw| members(raw).ok()).unwrap_or_default();
    extensions.tasks.is_some()
}

fn bit(one: SharedCapability) -> u8 {
    match one {
        SharedCapability::Elicitation => 1,
        SharedCapability::Sampling => 2,
        SharedCapability::Roots => 4,
    }
}

/// What a client must have declared for a server to ask it this; `None` for what no client is asked.
pub(super) fn needed(method: &str) -> Option<SharedCapability> {
    match method {
        "elicitation/create" => Some(SharedCapability::Elicitation),
        "sampling/createMessage" => Some(SharedCapability::Sampling),
        "roots/list" => Some(SharedCapability::Roots),
        _ => None,
    }
}
