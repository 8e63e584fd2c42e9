//! One thing that is wrong in a configuration file, and what to write instead.
//!
//! A problem holds no reference to the text that it is about: it can be kept, sent and shown.

use std::fmt;
use std::path::Path;

use serde::Serialize;

use crate::names::TenantId;

/// Something wrong: `tenants.d/acme.toml:7:10: what is wrong; what to write instead`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file, seen from the configuration directory.
    pub file: String,
    /// Line, from 1; 0 where the problem is the file as a whole.
    pub line: u32,
    /// Column in characters, from 1; 0 where the problem is the file as a whole.
    pub column: u32,
    /// What is wrong.
    pub what: String,
    /// What to write or do instead.
    pub cure: String,
    /// The tenant that it keeps from being loaded; none where it is about no single tenant.
    pub tenant: Option<TenantId>,
}

impl Problem {
    /// A problem with a file as a whole.
    pub(super) fn whole(
        file: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        let (file, what, cure) = (file.into(), what.into(), cure.into());
        Self { file, line: 0, column: 0, what, cure, tenant: None }
    }

    /// The same, as a problem of one tenant.
    pub(super) fn of(mut self, tenant: &TenantId) -> Self {
        self.tenant = Some(tenant.clone());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}", self.what)?;
        if !self.cure.is_empty() {
            write!(f, "; {}", self.cure)?;
        }
        Ok(())
    }
}

/// `text` fit to be quoted in one line: printable and short.
///
/// A file can be written by somebody other than the person who reads the message, and a terminal obeys
/// what it is shown.
pub(super) fn quotable(text: &str) -> String {
    /// Characters: enough to find the place, few enough for one line.
    const MOST: usize = 60;
    let mut quoted: String = text.chars().take(MOST).map(printable).collect();
    if text.chars().nth(MOST).is_some() {
        quoted.push_str("...");
    }
    quoted
}

/// A path of the machine's, whole and fit for one line: it is there to be copied.
pub(super) fn shown(path: &Path) -> String {
    path.to_string_lossy().chars().map(printable).collect()
}

fn printable(c: char) -> String {
    if c.is_control() || is_invisible(c) { c.escape_unicode().to_string() } else { c.into() }
}

/// Characters that change how the rest of a line is shown: bidirectional controls, joiners, BOM.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_place_what_and_cure() {
        let mut problem = Problem::whole("tenants.d/acme.toml", "it is empty", "write [server]");
        assert_eq!(problem.to_string(), "tenants.d/acme.toml: it is empty; write [server]");
        (problem.line, problem.column) = (7, 10);
        assert_eq!(problem.to_string(), "tenants.d/acme.toml:7:10: it is empty; write [server]");
    }

    #[test]
    fn what_is_quoted_cannot_speak_to_the_terminal() {
        let quoted = quotable("\u{1b}[2J\u{202e}abc");
        assert_eq!(quoted, "\\u{1b}[2J\\u{202e}abc");
        assert!(quotable(&"x".repeat(1000)).len() < 70);
    }
}
