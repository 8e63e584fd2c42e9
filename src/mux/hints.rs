//! What a server's annotations say of calls of its tools: which change nothing, which may be made twice,
//! which may destroy. By the newest word of its lists.
//!
//! They are a server's word about itself, and only ever make a call easier for its own tenant.

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mcp::envelope::{members, text};

/// How many tools of one server are remembered.
pub(super) const TOOLS: usize = 4096;
/// The longest name that is, bytes.
const NAME: usize = 256;

/// What was said of one tool; anything but a plain `true` is no word to rely on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hint {
    /// `readOnlyHint`
    pub(super) reads: bool,
    /// `idempotentHint`
    idempotent: bool,
    /// `destructiveHint`: the default is true as well, and says nothing.
    pub(super) destroys: bool,
}

impl Hint {
    /// Whether a call may be made twice.
    fn is_safe(self) -> bool {
        self.reads || self.idempotent
    }
}

/// The tools that a server says anything of.
#[derive(Debug, Default)]
pub(super) struct Hints {
    tools: FxHashMap<Box<str>, Hint>,
    listed: bool,
}

impl Hints {
    /// Takes in what a list says of one tool.
    pub(super) fn learn(&mut self, tool: &RawValue) {
        #[derive(Deserialize)]
        struct Tool<'a> {
            #[serde(borrow)]
            name: &'a RawValue,
            #[serde(borrow, default)]
            annotations: Option<&'a RawValue>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Said<'a> {
            #[serde(borrow)]
            read_only_hint: Option<&'a RawValue>,
            #[serde(borrow)]
            idempotent_hint: Option<&'a RawValue>,
            #[serde(borrow)]
            destructive_hint: Option<&'a RawValue>,
        }
        let Ok(tool) = members::<Tool<'_>>(tool) else { return };
        let Some(name) = text(tool.name).filter(|name| name.len() <= NAME) else { return };
        let said: Said<'_> =
            tool.annotations.and_then(|hints| members(hints).ok()).unwrap_or_default();
        let is_true = |hint: Option<&RawValue>| hint.is_some_and(|hint| hint.get() == "true");
        let hint = Hint {
            reads: is_true(said.read_only_hint),
            idempotent: is_true(said.idempotent_hint),
            destroys: is_true(said.destructive_hint),
        };
        if hint == Hint::default() {
            self.tools.remove(name.as_ref());
        } else if self.tools.len() < TOOLS || self.tools.contains_key(name.as_ref()) {
            self.tools.insert(name.into(), hint);
        }
    }

    /// A list of its tools was read.
    pub(super) fn was_read(&mut self) {
        self.listed = true;
    }

    /// Whether any list of its tools was read.
    pub(super) fn is_known(&self) -> bool {
        self.listed
    }

    /// Whether no tool may be called twice.
    pub(super) fn none_is_safe(&self) -> bool {
        !self.tools.values().any(|hint| hint.is_safe())
    }

    /// How many there are.
    #[cfg(any(test, fuzzing))]
    pub(super) fn len(&self) -> usize {
        self.tools.len()
    }

    /// Whether a call of this tool may be made twice.
    pub(super) fn is_safe(&self, name: &str) -> bool {
        self.of(name).is_safe()
    }

    /// What is known of a tool.
    pub(super) fn of(&self, name: &str) -> Hint {
        self.tools.get(name).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(hints: &mut Hints, name: &str, annotations: &str) {
        let tool = format!(r#"{{"name":"{name}","annotations":{annotations}}}"#);
        hints.learn(&RawValue::from_string(tool).expect("JSON"));
    }

    #[test]
    fn so_many_tools_with_such_long_names_are_remembered_and_no_more() {
        let mut hints = Hints::default();
        for (length, known) in [(NAME, true), (NAME + 1, false)] {
            let name = "n".repeat(length);
            learn(&mut hints, &name, r#"{"idempotentHint":true}"#);
            assert_eq!(hints.is_safe(&name), known, "{length}");
        }
        for n in 0..TOOLS {
            learn(&mut hints, &n.to_string(), r#"{"idempotentHint":true}"#);
        }
        assert_eq!(hints.len(), TOOLS);
        learn(&mut hints, "0", r#"{"destructiveHint":true}"#);
        assert!(!hints.is_safe("0"), "the newest word counts, also when there is no more room");
    }

    #[test]
    fn only_a_plain_word_counts() {
        let mut hints = Hints::default();
        let none = Hint::default();
        for (said, hint) in [
            (r#"{"readOnlyHint":true}"#, Hint { reads: true, ..none }),
            (r#"{"readOnlyHint":"true"}"#, none),
            (r#"{"destructiveHint":true,"readOnlyHint":false}"#, Hint { destroys: true, ..none }),
            (r#"{"destructiveHint":false}"#, none),
            (r#"{"readOnlyHint":true,"readOnlyHint":true}"#, none),
            ("{}", none),
            ("7", none),
        ] {
            learn(&mut hints, "t", said);
            assert_eq!(hints.of("t"), hint, "{said}");
        }
    }
}
