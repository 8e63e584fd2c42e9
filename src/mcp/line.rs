//! Lines out of chunks (the stdio transport's framing), bounded in memory.
//!
//! A line that grows over the limit is not kept: its bytes run through a [`Scanner`](super::scan),
//! which remembers only the id and the method, so that whoever waits for it can be told.

use super::scan::{Head, Scanner};

/// What the framer found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A whole line without its newline (and without a carriage return before it); never empty.
    Whole(&'a [u8]),
    /// A line over the limit, of which this is left.
    TooLong(Head),
}

/// Collects one side's bytes into lines of at most `limit` bytes.
#[derive(Debug)]
pub struct Framer {
    limit: usize,
    partial: Vec<u8>,
    skipping: Option<Box<Scanner>>,
}

/// What an idle framer keeps allocated at most, bytes.
const KEEP: usize = 64 * 1024;

impl Framer {
    /// A framer for lines of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, partial: Vec::new(), skipping: None }
    }

    /// Another limit, from the next line on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes a chunk and hands out every line that it ends.
    pub fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(Line<'_>)) {
        while let Some(end) = memchr::memchr(b'\n', chunk) {
            let (line, rest) = chunk.split_at(end);
            chunk = rest.get(1..).unwrap_or_default();
            self.end_line(line, &mut each);
        }
        self.hold(chunk);
    }

    fn end_line(&mut self, tail: &[u8], each: &mut impl FnMut(Line<'_>)) {
        if let Some(mut scanner) = self.skipping.take() {
            scanner.feed(tail);
            each(Line::TooLong(scanner.finish()));
        } else if self.partial.len() + tail.len() > self.limit {
            self.hold(tail);
            if let Some(scanner) = self.skipping.take() {
                each(Line::TooLong(scanner.finish()));
            }
        } else if self.partial.is_empty() {
            whole(tail, each);
        } else {
            self.partial.extend_from_slice(tail);
            whole(&self.partial, each);
            self.forget();
        }
    }

    fn hold(&mut self, bytes: &[u8]) {
        if let Some(scanner) = &mut self.skipping {
            scanner.feed(bytes);
        } else if self.partial.len() + bytes.len() > self.limit {
            let mut scanner = Box::new(Scanner::default());
            scanner.feed(&self.partial);
            scanner.feed(bytes);
            self.skipping = Some(scanner);
            self.forget();
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }

    /// How much of an unfinished line is kept, bytes.
    #[cfg(any(test, fuzzing))]
    pub fn held(&self) -> usize {
        self.partial.len()
    }

    fn forget(&mut self) {
        self.partial.clear();
        self.partial.shrink_to(KEEP);
    }
}

fn whole(line: &[u8], each: &mut impl FnMut(Line<'_>)) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if !line.iter().all(u8::is_ascii_whitespace) {
        each(Line::Whole(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(limit: usize, chunks: &[&[u8]]) -> Vec<String> {
        let mut framer = Framer::new(limit);
        let mut lines = Vec::new();
        for chunk in chunks {
            framer.feed(chunk, |line| {
                lines.push(match line {
                    Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                    Line::TooLong(head) => format!("too long: {:?}", head.id),
                });
            });
        }
        lines
    }

    #[test]
    fn lines_come_out_whole_however_they_were_cut() {
        let text = b"one\ntwo\r\n\n  \nthree\nrest";
        for cut in 0..text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(lines(64, &[head, tail]), ["one", "two", "three"], "cut at {cut}");
        }
    }

    #[test]
    fn a_line_over_the_limit_leaves_its_id_and_the_next_line_is_whole() {
        let text = br#"{"result":"xxxxxxxxxxxxxxxxxxxxxxxx","id":7}
ok
"#;
        for cut in 0..text.len() {
            let (head, tail) = text.split_at(cut);
            assert_eq!(lines(20, &[head, tail]), ["too long: Some([55])", "ok"], "cut at {cut}");
        }
    }

    #[test]
    fn a_changed_limit_holds_from_the_next_line_on() {
        let mut framer = Framer::new(4);
        let mut whole = Vec::new();
        for limit in [4, 8] {
            framer.set_limit(limit);
            framer.feed(b"sixsix\n", |line| whole.push(matches!(line, Line::Whole(_))));
        }
        assert_eq!(whole, [false, true]);
    }

    #[test]
    fn a_line_without_end_costs_no_memory() {
        let mut framer = Framer::new(1000);
        for _ in 0..1000 {
            framer.feed(&[b'x'; 4096], |_| panic!("no line ended"));
        }
        assert!(framer.partial.capacity() <= KEEP && framer.skipping.is_some());
    }
}
