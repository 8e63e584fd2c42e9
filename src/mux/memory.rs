//! What servers answered to their last handshake, by the fingerprint of their program: so that a client is
//! greeted at once while its server starts, and no server is probed twice.
//!
//! A file that outlives the mux, one JSON line for each thing learned; the last one counts. It was opened
//! by the supervisor, who never reads it. What does not parse is not remembered.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::mcp::era::Era;

/// The longest handshake that is remembered, bytes.
const LONGEST: usize = 64 * 1024;
/// How many programs are; beyond this no more are learned.
const MOST: usize = 256;
/// How much of the file is read, bytes; the supervisor keeps it shorter.
const READ: u64 = 2 * 1024 * 1024;

/// What a program answered.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) era: Era,
    /// The raw result of its `initialize` or `server/discover`.
    pub(super) handshake: Box<RawValue>,
}

/// Programs by their fingerprint.
pub(super) type Knowledge = HashMap<String, Known>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    program: String,
    modern: bool,
    #[serde(borrow)]
    handshake: &'a RawValue,
}

/// The file.
#[derive(Debug)]
pub(super) struct Memory(File);

impl Memory {
    /// Takes the file over and reads what is in it.
    pub(super) fn read(file: File) -> (Self, Knowledge) {
        let mut known = Knowledge::new();
        let lines = BufReader::new(Read::take(&file, READ)).split(b'\n');
        // An unreadable file is one that holds nothing.
        for line in lines.map_while(Result::ok) {
            if let Ok(line) = serde_json::from_slice::<Line<'_>>(&line) {
                let era = if line.modern { Era::Modern } else { Era::Legacy };
                learn(&mut known, line.program, era, line.handshake);
            }
        }
        (Self(file), known)
    }

    /// Writes down what was learned.
    pub(super) fn write(&mut self, program: &str, known: &Known) {
        let line = Line {
            program: program.to_owned(),
            modern: known.era == Era::Modern,
            handshake: &known.handshake,
        };
        let Ok(mut bytes) = serde_json::to_vec(&line) else { return };
        bytes.push(b'\n');
        // A full disk costs the memory, never a call.
        let _ = self.0.write_all(&bytes);
    }
}

/// Takes something in; says whether that was news.
pub(super) fn learn(
    known: &mut Knowledge,
    program: String,
    era: Era,
    handshake: &RawValue,
) -> bool {
    let same = known
        .get(&program)
        .is_some_and(|old| old.era == era && old.handshake.get() == handshake.get());
    let fits = known.len() < MOST || known.contains_key(&program);
    if same || !fits || handshake.get().len() > LONGEST || program.is_empty() {
        return false;
    }
    known.insert(program, Known { era, handshake: handshake.to_owned() });
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn what_was_learned_is_there_for_the_next_mux_and_the_last_word_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || {
            let mut options = File::options();
            options.read(true).append(true).create(true).open(dir.path().join("m")).expect("opened")
        };
        let (mut memory, mut known) = Memory::read(open());
        for (era, text) in [(Era::Legacy, r#"{"a":1}"#), (Era::Modern, r#"{ "b" : 1.0e2 }"#)] {
            assert!(learn(&mut known, "p".to_owned(), era, &raw(text)));
            memory.write("p", &known["p"]);
        }
        open().write_all(b"{garbage\n{\"program\":\"q\"}\n\xff\n").expect("written");
        let (_, known) = Memory::read(open());
        assert_eq!(known.len(), 1);
        assert_eq!(known["p"].handshake.get(), r#"{ "b" : 1.0e2 }"#);
        assert_eq!(known["p"].era, Era::Modern);
    }

    #[test]
    fn what_is_known_is_no_news_and_what_is_too_much_is_not_kept() {
        let mut known = Knowledge::new();
        assert!(learn(&mut known, "p".to_owned(), Era::Legacy, &raw("{}")));
        assert!(!learn(&mut known, "p".to_owned(), Era::Legacy, &raw("{}")));
        let huge = format!("\"{}\"", "x".repeat(LONGEST));
        assert!(!learn(&mut known, "q".to_owned(), Era::Legacy, &raw(&huge)));
        assert!(!learn(&mut known, String::new(), Era::Legacy, &raw("{}")));
        for n in 0..2 * MOST {
            learn(&mut known, n.to_string(), Era::Legacy, &raw("{}"));
        }
        assert_eq!(known.len(), MOST);
    }
}
