//! The tenant's server log: what its servers wrote to stderr, and what the mux has to say of them.
//!
//! Lines are `TIME SERVER text`, time in RFC 3339 UTC. Bounded: a line by its framer, lines by a rate,
//! the file by a size, after which the supervisor is asked for a new one. Control characters are
//! escaped, so that a server cannot speak to the terminal of whoever reads it.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use crate::names::ServerName;
use crate::sys;

/// The longest line that is kept, bytes.
pub(super) const LINE: usize = 8 * 1024;
/// How large one file grows, bytes.
const SIZE: u64 = 4 * 1024 * 1024;
/// Lines in a second, on average.
const RATE: f64 = 200.0;
/// Lines at once.
const BURST: f64 = 2000.0;

/// The log and its bounds.
#[derive(Debug)]
pub(super) struct ServerLog {
    file: File,
    size: u64,
    tokens: f64,
    filled: Instant,
    suppressed: u64,
    asked: bool,
}

impl ServerLog {
    pub(super) fn new(file: File, now: Instant) -> Self {
        let size = sys::file_size(&file).unwrap_or(0);
        Self { file, size, tokens: BURST, filled: now, suppressed: 0, asked: false }
    }

    /// A new file took the place of the full one.
    pub(super) fn rotate(&mut self, file: File) {
        self.size = sys::file_size(&file).unwrap_or(0);
        self.file = file;
        self.asked = false;
    }

    /// Asks for a new file once more: whoever was asked is gone.
    pub(super) fn ask_again(&mut self) {
        self.asked = false;
    }

    /// Writes a line. Returns true once when the file is full.
    pub(super) fn write(&mut self, server: &ServerName, text: &[u8], now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + passed * RATE).min(BURST);
        self.filled = now;
        if self.tokens < 1.0 || self.size > 2 * SIZE {
            self.suppressed += 1;
            return self.wants_a_new_file();
        }
        self.tokens -= 1.0;
        let time = jiff::Timestamp::now();
        let mut line = String::new();
        if self.suppressed > 0 {
            line = format!("{time:.3} {server} tenantd: {} lines suppressed\n", self.suppressed);
            self.suppressed = 0;
        }
        line.push_str(&format!("{time:.3} {server} {}\n", printable(text)));
        // A full disk loses log lines, never calls.
        if self.file.write_all(line.as_bytes()).is_ok() {
            self.size += line.len() as u64;
        }
        self.wants_a_new_file()
    }

    fn wants_a_new_file(&mut self) -> bool {
        self.size > SIZE && !std::mem::replace(&mut self.asked, true)
    }
}

fn printable(text: &[u8]) -> String {
    let mut line = String::with_capacity(text.len());
    for character in String::from_utf8_lossy(text).chars() {
        if character.is_control() && character != '\t' {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_full_log_asks_once_and_again_when_told_to() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        let now = Instant::now();
        let mut log = ServerLog::new(path.reopen().expect("a file"), now);
        let name = ServerName::main();
        let mut flood = || (0..2000).filter(|_| log.write(&name, &[b'x'; LINE], now)).count();
        assert_eq!(flood(), 1);
        assert_eq!(flood(), 0);
        log.ask_again();
        assert!(log.write(&name, b"more", now));
    }

    #[test]
    fn a_flood_is_bounded_and_counted_and_cannot_reach_the_terminal() {
        let path = tempfile::NamedTempFile::new().expect("a file");
        let now = Instant::now();
        let file = path.reopen().expect("a file");
        let mut log = ServerLog::new(file, now);
        let name = ServerName::main();
        for _ in 0..10_000 {
            log.write(&name, b"\x1b[31mred", now);
        }
        log.write(&name, b"later", now + Duration::from_secs(1));
        let text = std::fs::read_to_string(path.path()).expect("text");
        assert!(text.lines().count() <= 2002 && !text.contains('\x1b'));
        assert!(text.contains("8000 lines suppressed") && text.contains(" main later"), "{text}");
    }
}
