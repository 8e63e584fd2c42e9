//! One step of a plan, and what must come of it.

use serde_json::{Value, json};

use crate::table::Capability;

/// A step that shows a capability to work, by a value that only this server could have given.
pub(crate) struct Proof {
    pub(crate) of: Capability,
    /// As `tests/clients/session.py` has it.
    pub(crate) step: Value,
    shows: Vec<(&'static str, Shown)>,
}

/// What is at a place of the outcome.
enum Shown {
    Is(Value),
    Has(String),
    /// A list without members, or the error of a server that knows no such list.
    Nothing,
}

/// JSON-RPC 2.0: method not found.
const NO_SUCH_METHOD: i64 = -32601;

impl Proof {
    fn new(of: Capability, step: Value) -> Self {
        Self { of, step, shows: Vec::new() }
    }

    /// A list of names.
    pub(crate) fn list(of: Capability, what: &str) -> Self {
        Self::new(of, json!({"do": "list", "what": what}))
    }

    /// The list of what the server has none of.
    pub(crate) fn none(of: Capability) -> Option<Self> {
        let (what, place) = match of {
            Capability::Resources => ("resources", "/resources"),
            Capability::Prompts => ("prompts", "/prompts"),
            _ => return None,
        };
        let mut proof = Self::list(of, what);
        proof.shows.push((place, Shown::Nothing));
        Some(proof)
    }

    pub(crate) fn call(tool: &str, arguments: Value) -> Self {
        let step = json!({"do": "call", "tool": tool, "arguments": arguments});
        Self::new(Capability::Tools, step)
    }

    pub(crate) fn read(uri: &str) -> Self {
        Self::new(Capability::Resources, json!({"do": "read", "uri": uri}))
    }

    pub(crate) fn prompt(name: &str, arguments: Value) -> Self {
        let step = json!({"do": "prompt", "name": name, "arguments": arguments});
        Self::new(Capability::Prompts, step)
    }

    /// A call that takes `count` steps and tells of each.
    pub(crate) fn progress(tool: &str, arguments: Value, count: usize) -> Self {
        let step = json!({"do": "call", "tool": tool, "arguments": arguments, "progress": count});
        let steps: Vec<_> = (1..=count).map(|step| json!([step, count])).collect();
        Self::new(Capability::Progress, step).is("/progress", json!(steps))
    }

    /// A call in which the server asks for input.
    pub(crate) fn asks(of: Capability, tool: &str, arguments: Value) -> Self {
        Self { of, ..Self::call(tool, arguments) }
    }

    /// A subscription, and a call that changes what is subscribed to.
    pub(crate) fn subscribe(uri: &str, tool: &str, arguments: Value) -> Self {
        let step = json!({"do": "subscribe", "uri": uri, "tool": tool, "arguments": arguments});
        Self::new(Capability::Subscriptions, step).is("/updated", json!(uri))
    }

    /// A call that is cancelled at its first progress.
    pub(crate) fn cancel(tool: &str, arguments: Value, told: String) -> Self {
        let step = json!({"do": "cancel", "tool": tool, "arguments": arguments, "told": told});
        Self::new(Capability::Cancellation, step).is("/cancelled", json!(true))
    }

    /// For [`Proof::cancel`]: the FIFO that holds the call open, which is moved to `place` first.
    pub(crate) fn held_by(mut self, gate: String, place: Option<String>) -> Self {
        self.step["gate"] = json!(gate);
        if let Some(place) = place {
            self.step["in_place_of"] = json!(place);
        }
        self
    }

    /// The value at this place (a JSON pointer) of the outcome.
    pub(crate) fn is(mut self, place: &'static str, value: Value) -> Self {
        self.shows.push((place, Shown::Is(value)));
        self
    }

    /// A part of the text at this place.
    pub(crate) fn has(mut self, place: &'static str, part: &str) -> Self {
        self.shows.push((place, Shown::Has(part.to_owned())));
        self
    }

    /// A part of the text that a call returned.
    pub(crate) fn says(self, part: &str) -> Self {
        self.has("/result/content/0/text", part)
    }

    /// Fails unless the outcome shows it.
    pub(crate) fn check(&self, outcome: &Value) {
        for (place, shown) in &self.shows {
            let found = outcome.pointer(place).unwrap_or(&Value::Null);
            let holds = match shown {
                Shown::Is(value) => equal(found, value),
                Shown::Has(part) => found.as_str().is_some_and(|text| text.contains(part)),
                Shown::Nothing => *found == json!([]) || outcome["error"]["code"] == NO_SUCH_METHOD,
            };
            let wanted = match shown {
                Shown::Is(value) => value.to_string(),
                Shown::Has(part) => format!("...{part}..."),
                Shown::Nothing => "empty".to_owned(),
            };
            assert!(holds, "{:?} {}: {place} of {outcome} is not {wanted}", self.of, self.step);
        }
    }
}

/// Whether two values are equal, numbers by what they are worth: clients read `1` as `1.0`.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| equal(l, r))
        }
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        _ => left == right,
    }
}
