//! How the commands speak to a person: bounded, printable, aligned, coloured only where it is wanted.
//!
//! Names and texts of servers and clients are written by strangers; a terminal obeys escape sequences.
//! So nothing of theirs reaches a terminal here but through [`word`] or [`text`]. This room holds no
//! state and reads nothing but the two facts that decide on colour.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest foreign word in a table, characters.
const WORD: usize = 60;

/// A foreign word on one line: control and bidirectional characters escaped, cut with an ellipsis.
pub(super) fn word(foreign: &str) -> String {
    cut(foreign, WORD)
}

/// As [`word`], with another bound.
pub(super) fn cut(foreign: &str, most: usize) -> String {
    let mut out = String::new();
    for (count, c) in foreign.chars().enumerate() {
        if count == most {
            out.push('…');
            break;
        }
        push(&mut out, c);
    }
    out
}

/// Foreign text of several lines: line ends and tabs stay, every other control character is escaped.
pub(super) fn text(foreign: &str) -> String {
    let mut out = String::with_capacity(foreign.len());
    for c in foreign.chars() {
        if matches!(c, '\n' | '\t') { out.push(c) } else { push(&mut out, c) }
    }
    out
}

fn push(out: &mut String, c: char) {
    if c.is_control() || reorders(c) {
        let _ = write!(out, "{}", c.escape_unicode());
    } else {
        out.push(c);
    }
}

/// Characters that make a line look like another one (Unicode UAX #9 and zero-width joiners).
fn reorders(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Seconds as a person says them: `7s`, `12m`, `3h 5m`, `2d 4h`.
pub(super) fn age(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// Seconds since the epoch.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

/// `1 session`, `2 sessions`.
pub(super) fn count(number: i64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Rows under a heading, each column as wide as its widest cell, two blanks between.
pub(super) fn table(indent: usize, heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let heading: Vec<String> = heading.iter().map(|&cell| cell.to_owned()).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let mut line = " ".repeat(indent);
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Colours, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paint(bool);

impl Paint {
    /// Colours if stdout is a terminal and the person does not object (no-color.org).
    pub(super) fn of_stdout() -> Self {
        let objects = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self(std::io::stdout().is_terminal() && !objects)
    }

    /// No colours.
    #[cfg(test)]
    pub(super) fn plain() -> Self {
        Self(false)
    }

    /// What must not be overlooked.
    pub(super) fn alarm(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// What deserves a look.
    pub(super) fn notice(self, text: &str) -> String {
        self.wrap("33", text)
    }

    /// What is well.
    pub(super) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// A heading.
    pub(super) fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_cannot_drive_the_terminal() {
        let hostile = "a\x1b[2J\u{202e}\u{9b}\nb";
        let shown = word(hostile);
        assert!(!shown.chars().any(|c| c.is_control() || reorders(c)), "{shown:?}");
        assert!(shown.starts_with('a') && shown.ends_with('b'));
        assert_eq!(word(&"x".repeat(1000)).chars().count(), WORD + 1);
        assert_eq!(text("a\tb\nc\r"), "a\tb\nc\\u{d}");
    }

    #[test]
    fn columns_are_aligned_and_lines_have_no_tail() {
        let rows =
            vec![vec!["a".to_owned(), String::new()], vec!["long".to_owned(), "x".to_owned()]];
        assert_eq!(table(1, &["A", "B"], &rows), " A     B\n a\n long  x\n");
    }

    #[test]
    fn an_age_is_said_as_a_person_says_it() {
        let said: Vec<String> = [-1, 59, 60, 3_661, 90_000].into_iter().map(age).collect();
        assert_eq!(said, ["0s", "59s", "1m", "1h 1m", "1d 1h"]);
        assert_eq!(count(1, "session"), "1 session");
    }
}
