//! Finds a phrase in a text, whatever its case, and shows the first place.
//!
//! Pure. Both sides are lowered letter by letter, so that a position in the lowered text leads back to
//! one letter of the original.

use memchr::memmem::Finder;

/// The longest phrase, bytes.
pub(super) const PHRASE_MAX: usize = 256;
/// How many letters a snippet shows on each side of the phrase.
const AROUND: usize = 60;

/// A phrase, ready to be looked for in many texts.
pub(super) struct Phrase {
    lowered: String,
}

/// Where a phrase was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// How often, not counting overlaps.
    pub(super) count: u64,
    /// The first place with its surroundings, on one line.
    pub(super) snippet: String,
}

impl Phrase {
    /// Takes the phrase; `None` if there is nothing to look for or it is too long.
    pub(super) fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = !text.is_empty() && text.len() <= PHRASE_MAX;
        fits.then(|| Self { lowered: lower(text) })
    }

    /// Looks for the phrase in `text`.
    pub(super) fn find(&self, text: &str) -> Option<Found> {
        let lowered = lower(text);
        let finder = Finder::new(&self.lowered);
        let mut places = finder.find_iter(lowered.as_bytes());
        let first = places.next()?;
        let count = 1 + places.count() as u64;
        let start = original(text, first);
        // The last letter of the phrase, then one past it.
        let last = original(text, first + self.lowered.len() - 1);
        let end = last + text[last..].chars().next().map_or(0, char::len_utf8);
        Some(Found { count, snippet: snippet(text, start, end) })
    }
}

fn lower(text: &str) -> String {
    text.chars().flat_map(char::to_lowercase).collect()
}

/// The start of the letter of `text` that became the lowered byte `at`.
fn original(text: &str, at: usize) -> usize {
    let mut lowered = 0;
    for (start, letter) in text.char_indices() {
        lowered += letter.to_lowercase().map(char::len_utf8).sum::<usize>();
        if lowered > at {
            return start;
        }
    }
    text.len()
}

/// `text[start..end]` with some letters on each side; line breaks and control characters become spaces.
fn snippet(text: &str, start: usize, end: usize) -> String {
    let from = text[..start].char_indices().rev().take(AROUND).last().map_or(start, |(at, _)| at);
    let to = text[end..].char_indices().nth(AROUND).map_or(text.len(), |(at, _)| end + at);
    let mut line = String::new();
    if from > 0 {
        line.push('…');
    }
    line.extend(text[from..to].chars().map(|c| if c.is_control() { ' ' } else { c }));
    if to < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(phrase: &str, text: &str) -> Option<Found> {
        Phrase::new(phrase).expect("a phrase").find(text)
    }

    #[test]
    fn case_does_not_matter_and_every_place_counts() {
        let found = find("straße", "In der STRASSE? In der Straße, STRAßE.").expect("found");
        assert_eq!(found.count, 2);
        assert!(find("acme", "globex").is_none());
    }

    #[test]
    fn a_snippet_is_one_line_with_its_surroundings() {
        let text = format!("{}\nbefore\tNEEDLE after\n{}", "x".repeat(200), "y".repeat(200));
        let found = find("needle", &text).expect("found");
        assert!(found.snippet.contains(" before NEEDLE after "), "{}", found.snippet);
        assert!(found.snippet.starts_with('…') && found.snippet.ends_with('…'));
        assert!(found.snippet.chars().count() < 6 + 2 * AROUND + 3);
    }

    #[test]
    fn letters_that_grow_when_lowered_do_not_shift_the_snippet() {
        // U+0130 becomes two letters of three bytes.
        let found = find("offer", "İİİİ the OFFER").expect("found");
        assert_eq!(found.snippet, "İİİİ the OFFER");
        assert!(find("i", "İ").is_some());
    }

    #[test]
    fn nothing_and_too_much_are_no_phrase() {
        assert!(Phrase::new("  ").is_none());
        assert!(Phrase::new(&"a".repeat(PHRASE_MAX + 1)).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_found_in_itself(text in "\\PC{1,60}") {
            if let Some(phrase) = Phrase::new(&text) {
                let around = format!("a\n{text}\nb");
                prop_assert!(phrase.find(&around).is_some());
            }
        }

        #[test]
        fn no_text_breaks_the_search(phrase in "\\PC{1,4}", text in any::<String>()) {
            if let Some(phrase) = Phrase::new(&phrase) {
                let _ = phrase.find(&text);
            }
        }
    }
}
