//! serde's words, turned into a sentence that says what is wrong and what to write instead.
//!
//! serde and toml report mistakes in a few fixed forms ("unknown field `x`, expected one of ...",
//! "invalid type: integer `3`, expected a string"); our own scalars add ", for example ...". Pure.

/// What is known about the place of an error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot<'a> {
    /// The key that holds the value.
    pub(super) key: &'a str,
    /// The value as written, where it may be shown and fits a line.
    pub(super) value: Option<&'a str>,
    /// Whether the value is one of a list.
    pub(super) element: bool,
}

/// A sentence about an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Explained {
    pub(super) what: String,
    pub(super) cure: String,
    /// The known key that an unknown one is near to.
    pub(super) meant: Option<String>,
}

/// Explains serde's `message` about `spot`.
pub(super) fn explain(message: &str, spot: Spot<'_>) -> Explained {
    // The text before the last ", expected " may quote the file; what follows is serde's and ours.
    let (head, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    if head.starts_with("unknown field") {
        return unknown_key(spot.key, &names(expected));
    }
    let (what, cure) = if head.starts_with("unknown variant") {
        (spot.is_not("known"), format!("write {}", list(&names(expected))))
    } else if let Some((kind, example)) = expected.split_once(", for example ") {
        (spot.is_not(kind), spot.example(example))
    } else if head.starts_with("invalid") {
        wrong_type(expected, spot)
    } else if message.contains("overflowed") {
        (spot.is_not("a number that fits"), "write a smaller one".to_owned())
    } else if message == "wanted string or table" {
        wrong_type("a string", spot)
    } else {
        (format!("{}: {message}", spot.key), "see docs/configuration.md".to_owned())
    };
    Explained { what, cure, meant: None }
}

/// Explains a message of the TOML parser.
pub(super) fn explain_syntax(message: &str) -> Explained {
    let (what, cure) = match message.split_once(", expected ") {
        Some(("string values must be quoted", _)) => {
            ("text without quotes", "put it in quotes".into())
        }
        Some((what, expected)) => (what, format!("expected {expected}")),
        None if message == "duplicate key" => {
            ("this key or section is there already", "keep one of them".into())
        }
        None => (message, "correct the line".into()),
    };
    Explained { what: format!("not TOML: {what}"), cure, meant: None }
}

fn wrong_type(expected: &str, spot: Spot<'_>) -> (String, String) {
    match expected {
        "a string" => (spot.is_not("text"), "put it in quotes".to_owned()),
        "a boolean" => (spot.is_not("true or false"), spot.example("true")),
        "a sequence" => (spot.is_not("a list"), spot.example("[\"one\", \"two\"]")),
        "a TOML datetime" => (spot.is_not("a moment"), spot.example("2026-12-31T23:59:59Z")),
        "u32" | "u64" | "i64" => (spot.is_not("a whole number"), spot.example("1000")),
        _ => (spot.is_not("a table"), format!("write a section [{}]", spot.key)),
    }
}

impl Spot<'_> {
    fn is_not(&self, kind: &str) -> String {
        match (self.value, self.element) {
            (Some(value), false) => format!("{} = {value} is not {kind}", self.key),
            (Some(value), true) => format!("{value} in {} is not {kind}", self.key),
            (None, false) => format!("{} is not {kind}", self.key),
            (None, true) => format!("an entry of {} is not {kind}", self.key),
        }
    }

    fn example(&self, example: &str) -> String {
        if self.element {
            format!("write for example {example}")
        } else {
            format!("write for example {} = {example}", self.key)
        }
    }
}

/// An unknown key, and the known one that was probably meant.
fn unknown_key(key: &str, known: &[&str]) -> Explained {
    let meant = nearest(key, known);
    let cure = match meant {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("known here: {}", known.join(", ")),
    };
    let key = super::problem::quotable(key);
    Explained { what: format!("unknown key \"{key}\""), cure, meant: meant.map(str::to_owned) }
}

/// The names in backticks of serde's list.
fn names(expected: &str) -> Vec<&str> {
    expected.split('`').skip(1).step_by(2).collect()
}

/// `"a", "b" or "c"`.
fn list(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The one of `known` that `text` was probably meant to be.
pub(super) fn nearest<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    // Longer than any name of ours cannot be near to one, and the distance is quadratic.
    if text.len() > 64 {
        return None;
    }
    let text = text.to_ascii_lowercase().replace('-', "_");
    let most = 1 + text.len() / 5;
    known
        .iter()
        .map(|name| (distance(&text, &name.replace('-', "_")), *name))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, name)| name)
}

/// How many insertions, deletions, replacements and swaps of neighbours lead from `a` to `b`
/// (the optimal string alignment distance).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(message: &str, key: &str, value: &str) -> String {
        let explained = explain(message, Spot { key, value: Some(value), element: false });
        format!("{}; {}", explained.what, explained.cure)
    }

    #[test]
    fn an_error_says_what_to_write_instead() {
        assert_eq!(
            said(
                "invalid value: string \"lots\", expected a size, for example \"512MiB\"",
                "memory",
                "\"lots\""
            ),
            "memory = \"lots\" is not a size; write for example memory = \"512MiB\""
        );
        assert_eq!(
            said("unknown variant `x`, expected one of `a`, `b`, `c`", "status", "\"x\""),
            "status = \"x\" is not known; write \"a\", \"b\" or \"c\""
        );
        assert_eq!(
            said("invalid type: integer `3`, expected a string", "name", "3"),
            "name = 3 is not text; put it in quotes"
        );
    }

    #[test]
    fn what_the_file_quotes_is_not_taken_for_serdes_words() {
        let evil = "invalid type: string \", expected a boolean\", expected a sequence";
        assert!(said(evil, "args", "x").contains("is not a list"));
    }

    #[test]
    fn a_near_miss_is_named_and_a_far_one_is_not() {
        let known = ["command", "args", "env", "idle_timeout"];
        assert_eq!(nearest("comand", &known), Some("command"));
        assert_eq!(nearest("idle-timeout", &known), Some("idle_timeout"));
        assert_eq!(nearest("agrs", &known), Some("args"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"a".repeat(1 << 16), &known), None);
    }
}
