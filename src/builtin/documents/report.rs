//! A summary of the documents, as Markdown or CSV.
//!
//! Pure: rows in, text out.

use std::fmt::Write as _;

/// What the summary says about one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Its name.
    pub(super) name: String,
    /// Its size.
    pub(super) bytes: u64,
    /// Its lines.
    pub(super) lines: u64,
    /// Its words.
    pub(super) words: u64,
    /// When it was last saved, RFC 3339.
    pub(super) modified: String,
}

impl Row {
    /// Counts a document's lines and words.
    pub(super) fn of(name: String, modified: String, text: &str) -> Self {
        Self {
            name,
            bytes: text.len() as u64,
            lines: text.lines().count() as u64,
            words: text.split_whitespace().count() as u64,
            modified,
        }
    }
}

/// How the summary is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// A table for people.
    #[default]
    Markdown,
    /// Comma-separated values (RFC 4180).
    Csv,
}

/// The summary; `left_out` counts the documents that it does not show.
pub(super) fn render(format: Format, rows: &[Row], left_out: u64) -> String {
    match format {
        Format::Markdown => markdown(rows, left_out),
        Format::Csv => csv(rows),
    }
}

fn markdown(rows: &[Row], left_out: u64) -> String {
    let mut text = String::from(
        "# Documents\n\n| name | bytes | lines | words | modified |\n|---|---:|---:|---:|---|\n",
    );
    for Row { name, bytes, lines, words, modified } in rows {
        let _ = writeln!(text, "| {name} | {bytes} | {lines} | {words} | {modified} |");
    }
    let bytes: u64 = rows.iter().map(|row| row.bytes).sum();
    let words: u64 = rows.iter().map(|row| row.words).sum();
    let _ = writeln!(text, "\n{} documents, {bytes} bytes, {words} words.", rows.len());
    if left_out > 0 {
        let _ = writeln!(text, "{left_out} more are not shown.");
    }
    text
}

/// A document name holds no quote, comma or line break and starts with a letter or digit, so that no
/// cell needs quoting and no spreadsheet takes one for a formula.
fn csv(rows: &[Row]) -> String {
    let mut text = String::from("name,bytes,lines,words,modified\r\n");
    for Row { name, bytes, lines, words, modified } in rows {
        let _ = write!(text, "{name},{bytes},{lines},{words},{modified}\r\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        vec![
            Row::of("a.md".into(), "2026-01-02T03:04:05Z".into(), "one two\nthree\n"),
            Row::of("b.md".into(), "2026-01-02T03:04:06Z".into(), ""),
        ]
    }

    #[test]
    fn a_markdown_report_counts_and_sums() {
        let text = render(Format::Markdown, &rows(), 3);
        assert!(text.contains("| a.md | 14 | 2 | 3 | 2026-01-02T03:04:05Z |"), "{text}");
        assert!(text.contains("2 documents, 14 bytes, 3 words."), "{text}");
        assert!(text.contains("3 more are not shown."), "{text}");
    }

    #[test]
    fn a_csv_report_has_one_line_for_each_document() {
        let text = render(Format::Csv, &rows(), 0);
        assert_eq!(
            text,
            "name,bytes,lines,words,modified\r\na.md,14,2,3,2026-01-02T03:04:05Z\r\nb.md,0,0,0,2026-01-02T03:04:06Z\r\n"
        );
    }
}
