//! What a document may be called: one component, plain to read, never hidden.
//!
//! The name comes from a model's tool call, so it is treated as hostile. Parsing is the only way to a
//! [`DocumentName`], and a [`DocumentName`] can never leave the directory.

use std::fmt;

/// The longest name, bytes; leaves room below NAME_MAX (255).
pub(super) const NAME_MAX: usize = 128;

/// Why a text is not a document name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a document name: write 1 to {NAME_MAX} bytes of letters, digits, spaces, \".\", \"_\" and \
     \"-\", starting with a letter or digit and not ending with a space, for example \"notes.md\""
)]
pub(super) struct BadDocumentName(String);

/// The name of one document, safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DocumentName(Box<str>);

impl DocumentName {
    /// Parses the name.
    pub(super) fn parse(text: &str) -> Result<Self, BadDocumentName> {
        let good = text.len() <= NAME_MAX
            && text.starts_with(char::is_alphanumeric)
            && !text.ends_with(' ')
            && text.chars().all(|c| c.is_alphanumeric() || matches!(c, ' ' | '.' | '_' | '-'));
        if good { Ok(Self(text.into())) } else { Err(BadDocumentName(shown(text))) }
    }

    /// The name as text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The start of a hostile text, printable.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_names() {
        for good in ["a", "notes.md", "2026-11 offer_v2.txt", "Übersicht.md", "会議.txt", "a..b"]
        {
            assert_eq!(DocumentName::parse(good).expect(good).as_str(), good);
        }
    }

    #[test]
    fn a_name_never_leaves_the_directory_and_is_never_hidden() {
        let long = "a".repeat(NAME_MAX + 1);
        let bad = [
            "",
            ".",
            "..",
            ".hidden",
            "/etc/passwd",
            "../globex",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb",
            " a",
            "a ",
            "-rf",
            "a\u{202e}b",
            "a\u{200b}b",
            "~",
            "a:b",
            &long,
        ];
        for bad in bad {
            assert!(DocumentName::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn a_bad_name_is_quoted_short_and_printable() {
        let error = DocumentName::parse(&"\u{1b}[2J".repeat(500)).expect_err("bad").to_string();
        assert!(!error.contains('\u{1b}') && error.len() < 800, "{error}");
    }
}
