//! What a server with secrets writes to stderr, on its way to the log: each secret is replaced by
//! `[redacted: NAME]`. Holds a bounded part of it and never waits.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::Value;
use crate::redact::Forms;

/// The shortest secret that is looked for, bytes: a shorter one is in every other text.
const LEAST: usize = 6;
/// How many values of one name are looked for: the last ones, which old requests may still speak of.
const VALUES: usize = 4;
/// What is read at once, bytes.
const PIECE: usize = 8 * 1024;
/// How many pieces are passed on before there is a look at other things.
const PIECES: usize = 16;
/// How much of a server that has ended is still passed on, bytes: what the largest pipe holds (pipe(7)).
const LEFT: usize = 1024 * 1024;
/// How long the log has to take that.
const WITHIN: Duration = Duration::from_millis(200);

/// The way between a server and its log.
pub(super) struct Stderr {
    from: OwnedFd,
    to: OwnedFd,
    text: Text,
    /// What the log did not take yet.
    left: Vec<u8>,
}

/// What came of a turn.
enum Turn {
    More,
    Waits,
    Over,
}

impl Stderr {
    /// What is read `from` goes `to`, which nobody else writes to: neither blocks from here on.
    pub(super) fn new(from: OwnedFd, to: OwnedFd) -> io::Result<Self> {
        for end in [&from, &to] {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        Ok(Self { from, to, text: Text::default(), left: Vec::new() })
    }

    /// Looks for this value as well.
    pub(super) fn know(&mut self, name: &str, value: &Value) {
        self.text.know(name, value);
    }

    /// What it waits for.
    pub(super) fn polled(&self) -> PollFd<'_> {
        match self.left.is_empty() {
            true => PollFd::new(self.from.as_fd(), PollFlags::POLLIN),
            false => PollFd::new(self.to.as_fd(), PollFlags::POLLOUT),
        }
    }

    /// Passes on what there is, as far as the log takes it. False where one of the two has gone.
    pub(super) fn pass(&mut self) -> bool {
        for _ in 0..PIECES {
            match self.turn() {
                Turn::More => {}
                Turn::Waits => return true,
                Turn::Over => return false,
            }
        }
        true
    }

    fn turn(&mut self) -> Turn {
        match self.flush() {
            Turn::More => {}
            other => return other,
        }
        let mut piece = Zeroizing::new([0; PIECE]);
        match rustix::io::read(&self.from, piece.as_mut_slice()) {
            Ok(0) => {
                self.left = self.text.finish();
                self.flush();
                Turn::Over
            }
            Ok(count) => {
                self.left = self.text.pass(piece.get(..count).unwrap_or_default());
                Turn::More
            }
            Err(Errno::INTR) => Turn::More,
            Err(Errno::AGAIN) => Turn::Waits,
            Err(_) => Turn::Over,
        }
    }

    /// Gives the log what it takes.
    fn flush(&mut self) -> Turn {
        while !self.left.is_empty() {
            match rustix::io::write(&self.to, &self.left) {
                Ok(count) => drop(self.left.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Turn::Waits,
                Err(_) => return Turn::Over,
            }
        }
        Turn::More
    }

    /// The server has ended: the rest of what it wrote.
    pub(super) fn finish(mut self) {
        let until = Instant::now() + WITHIN;
        for _ in 0..LEFT / PIECE {
            match self.turn() {
                Turn::More => {}
                Turn::Waits if self.left.is_empty() => break,
                Turn::Waits if self.waits(until) => {}
                Turn::Waits | Turn::Over => return,
            }
        }
        self.left.extend(self.text.finish());
        while matches!(self.flush(), Turn::Waits) && self.waits(until) {}
    }

    /// Whether the log takes more in time.
    fn waits(&self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut polled = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
        poll(&mut polled, left).is_ok_and(|ready| ready > 0)
    }
}

/// A text that goes through in pieces. Pure.
#[derive(Default)]
struct Text {
    /// The last few values of each name, in all their forms; the newest last.
    known: Vec<(String, Forms)>,
    /// What may be the beginning of one.
    held: Zeroizing<Vec<u8>>,
    /// How many of the held bytes belong to one that is replaced already.
    replaced: usize,
}

impl Text {
    fn know(&mut self, name: &str, value: &Value) {
        let of_it = self.known.iter().filter(|(known, _)| known == name).count();
        if of_it >= VALUES {
            let oldest = self.known.iter().position(|(known, _)| known == name);
            oldest.map(|at| self.known.remove(at));
        }
        self.known.push((name.to_owned(), Forms::at_least(LEAST, &[value.as_slice()])));
    }

    /// What may go on, now that this piece has come.
    fn pass(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let end = self.known.iter().map(|(_, forms)| forms.beginning(&self.held)).min();
        self.until(end.unwrap_or(self.held.len()))
    }

    /// What is held back to the end.
    fn finish(&mut self) -> Vec<u8> {
        self.until(self.held.len())
    }

    /// The text before `end`, without secrets; what comes after is held.
    fn until(&mut self, end: usize) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.held);
        let mut found: Vec<(usize, usize, &str)> = Vec::new();
        for (name, forms) in &self.known {
            let places = forms.found(&bytes);
            found.extend(places.into_iter().map(|(from, to)| (from, to, name.as_str())));
        }
        found.sort_unstable();
        let mut text = Vec::with_capacity(end);
        let mut at = self.replaced;
        for (from, to, name) in found.into_iter().filter(|(from, _, _)| *from < end) {
            if from >= at {
                text.extend_from_slice(bytes.get(at..from).unwrap_or_default());
                text.extend_from_slice(format!("[redacted: {name}]").as_bytes());
            }
            at = at.max(to);
        }
        text.extend_from_slice(bytes.get(at.min(end)..end).unwrap_or_default());
        self.replaced = at.saturating_sub(end);
        self.held = Zeroizing::new(bytes.get(end..).unwrap_or_default().to_vec());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &[u8] = b"ghp_s3cr3t/of+Acme==";

    fn text(secrets: &[(&str, &[u8])]) -> Text {
        let mut text = Text::default();
        for (name, value) in secrets {
            text.know(name, &Zeroizing::new(value.to_vec()));
        }
        text
    }

    fn through(mut text: Text, pieces: &[&[u8]]) -> String {
        let mut all: Vec<u8> = pieces.iter().flat_map(|piece| text.pass(piece)).collect();
        all.extend(text.finish());
        String::from_utf8(all).expect("UTF-8")
    }

    #[test]
    fn a_secret_is_replaced_by_its_name_wherever_it_is_cut() {
        let line = [b"Authorization: Bearer ".as_slice(), TOKEN, b" sent\n"].concat();
        for cut in 0..line.len() {
            let (one, other) = line.split_at(cut);
            let said = through(text(&[("token", TOKEN)]), &[one, other]);
            assert_eq!(said, "Authorization: Bearer [redacted: token] sent\n", "{cut}");
        }
        let bytes: Vec<&[u8]> = line.chunks(1).collect();
        let said = through(text(&[("token", TOKEN)]), &bytes);
        assert_eq!(said, "Authorization: Bearer [redacted: token] sent\n");
    }

    #[test]
    fn its_encodings_are_replaced_as_well() {
        // printf 'ghp_s3cr3t/of+Acme==' | base64, and as encodeURIComponent writes it.
        let line: &[u8] = b"a Z2hwX3MzY3IzdC9vZitBY21lPT0= b ghp_s3cr3t%2Fof%2BAcme%3D%3D c";
        let said = through(text(&[("token", TOKEN)]), &[line]);
        assert!(!said.contains("Z2hwX3Mz") && !said.contains("ghp_"), "{said}");
        assert_eq!(said.matches("[redacted: token]").count(), 2, "{said}");
    }

    #[test]
    fn secrets_within_each_other_and_side_by_side_leave_nothing() {
        let secrets: [(&str, &[u8]); 3] =
            [("long", b"abcdefghij"), ("tail", b"ghijklmno"), ("head", b"abcdef")];
        let said = through(text(&secrets), &[b"<abcdefghijklmno>", b"<abcdefabcde", b"fghij>"]);
        let plain: String = said.replace("[redacted: long]", "");
        let plain = plain.replace("[redacted: tail]", "").replace("[redacted: head]", "");
        assert_eq!(plain, "<><>", "{said}");
    }

    #[test]
    fn what_only_begins_like_a_secret_goes_on_as_it_is() {
        let said = through(text(&[("token", TOKEN)]), &[b"ghp_s3", b"cr3t is no secret ", b"ghp_"]);
        assert_eq!(said, "ghp_s3cr3t is no secret ghp_");
        assert_eq!(through(text(&[("pin", b"12345")]), &[b"12345"]), "12345");
    }

    #[test]
    fn the_last_values_of_a_name_are_known_and_no_more() {
        let mut text = Text::default();
        let value = |at: usize| Zeroizing::new(format!("value-number-{at}").into_bytes());
        (0..VALUES + 1).for_each(|at| text.know("token", &value(at)));
        assert_eq!(text.known.len(), VALUES);
        let said = through(text, &[b"value-number-1, value-number-4, value-number-0"]);
        assert_eq!(said, "[redacted: token], [redacted: token], value-number-0");
    }
}
