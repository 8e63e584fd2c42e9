//! What happened last in a play: told on stderr where it fails, so that a reproducer explains itself.

use std::collections::VecDeque;
use std::fmt::Write as _;

use crate::mux::outbox::End;

/// How many events are told.
const LAST: usize = 60;
/// How much of each line is, bytes.
const QUOTE: usize = 700;

/// One event.
#[derive(Debug)]
enum Event {
    /// An end said a line.
    Said(End, Vec<u8>),
    /// An end got a line.
    Got(End, Vec<u8>),
    /// Something else.
    Other(String),
}

/// The last events of a play.
#[derive(Debug, Default)]
pub(super) struct Story(VecDeque<Event>);

impl Story {
    pub(super) fn said(&mut self, end: End, line: &[u8]) {
        self.add(Event::Said(end, quoted(line)));
    }

    pub(super) fn got(&mut self, end: End, line: &[u8]) {
        self.add(Event::Got(end, quoted(line)));
    }

    pub(super) fn happened(&mut self, what: String) {
        self.add(Event::Other(what));
    }

    fn add(&mut self, event: Event) {
        if self.0.len() >= LAST {
            self.0.pop_front();
        }
        self.0.push_back(event);
    }
}

fn quoted(line: &[u8]) -> Vec<u8> {
    line[..line.len().min(QUOTE)].to_vec()
}

impl Drop for Story {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let mut told = String::from("what happened last:\n");
        for event in &self.0 {
            // Writing to a String cannot fail.
            let _ = match event {
                Event::Said(end, line) => writeln!(told, "  {end:?} says {}", line.escape_ascii()),
                Event::Got(end, line) => writeln!(told, "  {end:?} gets {}", line.escape_ascii()),
                Event::Other(what) => writeln!(told, "  {what}"),
            };
        }
        eprintln!("{told}");
    }
}
