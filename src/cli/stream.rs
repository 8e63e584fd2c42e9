//! Lines over two pipes with a deadline: no read or write of it can hang, and no line grows without end.
//!
//! It knows nothing of what a line says. The lifeline is read once, when the other side has hung up, for
//! the reason that it left there.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::failure::{DONE, FAILED, Failure, UNAVAILABLE};
use super::print;
use crate::wire::{FAREWELL_MAX, Farewell};

/// The longest line that is read. The mux bounds messages far below; this holds where it does not.
const LINE: usize = 64 * 1024 * 1024;
/// How much is read at once.
const CHUNK: usize = 64 * 1024;
/// How long a reason may take to arrive after the end; it was sent before.
const FAREWELL_WITHIN: Duration = Duration::from_millis(500);

/// Why there are no more lines.
#[derive(Debug)]
pub(super) enum Lost {
    /// The other side is gone; the reason, if it left one.
    Closed(Option<Farewell>),
    /// It did not answer in time.
    Late,
    /// It answered what is not MCP, or a line without end.
    Garbage,
    /// The pipe failed.
    Io(io::Error),
}

impl From<Lost> for Failure {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Closed(Some(Farewell { reason, code })) if !reason.is_empty() => {
                let code = if code == DONE { FAILED } else { code };
                Self::new(code, print::cut(&reason, 600))
            }
            Lost::Closed(_) => Self::unavailable(
                "the session ended without an answer (see why: tenantd logs TENANT, tenantd status)",
            ),
            Lost::Late => Self::unavailable(
                "no answer in time (see what it does: tenantd logs TENANT, or wait longer with --timeout)",
            ),
            Lost::Garbage => Self::new(FAILED, "the answer is not MCP (see tenantd logs TENANT)"),
            Lost::Io(error) => Self::new(UNAVAILABLE, format!("the session failed: {error}")),
        }
    }
}

/// The two pipes of a session.
pub(super) struct Lines {
    to: std::fs::File,
    from: std::fs::File,
    lifeline: Option<std::fs::File>,
    /// What came and is not yet a line.
    rest: Vec<u8>,
    /// How much of `rest` is known to hold no line end.
    searched: usize,
}

impl Lines {
    pub(super) fn new(to: OwnedFd, from: OwnedFd, lifeline: Option<OwnedFd>) -> io::Result<Self> {
        // Ours alone: each end of a pipe is an open file description of its own.
        let flags = fcntl_getfl(&to)?;
        fcntl_setfl(&to, flags | OFlags::NONBLOCK)?;
        let lifeline = lifeline.map(std::fs::File::from);
        Ok(Self { to: to.into(), from: from.into(), lifeline, rest: Vec::new(), searched: 0 })
    }

    /// Writes one line. While the other side does not read, what it writes is taken in, so that neither
    /// waits for the other for ever.
    pub(super) fn send(&mut self, line: &str, until: Instant) -> Result<(), Lost> {
        let mut bytes = Vec::with_capacity(line.len() + 1);
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            match self.to.write(left) {
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.make_room(until)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(self.closed());
                }
                Err(error) => return Err(Lost::Io(error)),
            }
        }
        Ok(())
    }

    /// The next line.
    pub(super) fn receive(&mut self, until: Instant) -> Result<String, Lost> {
        loop {
            if let Some(line) = self.take_line()? {
                return Ok(line);
            }
            let ready = wait(&[(self.from.as_fd(), PollFlags::POLLIN)], until)?;
            if !ready[0] {
                return Err(Lost::Late);
            }
            if !self.fill()? {
                return Err(self.closed());
            }
        }
    }

    fn take_line(&mut self) -> Result<Option<String>, Lost> {
        let Some(end) = memchr::memchr(b'\n', &self.rest[self.searched..]) else {
            self.searched = self.rest.len();
            return if self.searched > LINE { Err(Lost::Garbage) } else { Ok(None) };
        };
        let line: Vec<u8> = self.rest.drain(..=self.searched + end).collect();
        self.searched = 0;
        String::from_utf8(line).map(Some).map_err(|_| Lost::Garbage)
    }

    /// Reads what is there; `false` at the end.
    fn fill(&mut self) -> Result<bool, Lost> {
        let before = self.rest.len();
        if before > LINE + CHUNK {
            return Err(Lost::Garbage);
        }
        self.rest.resize(before + CHUNK, 0);
        let read = self.from.read(&mut self.rest[before..]);
        self.rest.truncate(before + read.as_ref().map_or(0, |read| *read));
        match read {
            Ok(read) => Ok(read > 0),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(Lost::Io(error)),
        }
    }

    fn make_room(&mut self, until: Instant) -> Result<(), Lost> {
        let both = [(self.to.as_fd(), PollFlags::POLLOUT), (self.from.as_fd(), PollFlags::POLLIN)];
        match wait(&both, until)?[..] {
            [true, _] => Ok(()),
            [_, true] => match self.fill()? {
                true => Ok(()),
                false => Err(self.closed()),
            },
            _ => Err(Lost::Late),
        }
    }

    /// The end, with the reason that the other side left on the lifeline.
    fn closed(&mut self) -> Lost {
        let Some(lifeline) = &self.lifeline else { return Lost::Closed(None) };
        let until = Instant::now() + FAREWELL_WITHIN;
        let mut bytes = Vec::new();
        let mut chunk = [0; FAREWELL_MAX];
        let mut source = lifeline;
        while bytes.len() < FAREWELL_MAX && !bytes.ends_with(b"\n") {
            if !matches!(wait(&[(source.as_fd(), PollFlags::POLLIN)], until).as_deref(), Ok([true]))
            {
                break;
            }
            match source.read(&mut chunk) {
                Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
                _ => break,
            }
        }
        Lost::Closed(serde_json::from_slice(&bytes).ok())
    }
}

/// Waits until one of them is ready or has hung up; all `false` when the time is over.
fn wait(watched: &[(BorrowedFd<'_>, PollFlags)], until: Instant) -> Result<Vec<bool>, Lost> {
    let mut polled: Vec<PollFd<'_>> =
        watched.iter().map(|(fd, events)| PollFd::new(*fd, *events)).collect();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up: the last partial millisecond must not become a busy loop.
        let left =
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut polled, left) {
            Ok(ready) if ready > 0 || Instant::now() >= until => {
                let any = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
                return Ok(polled.iter().map(any).collect());
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(Lost::Io(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipes() -> (Lines, OwnedFd, std::fs::File) {
        let (their_in, to) = nix::unistd::pipe().expect("a pipe");
        let (from, their_out) = nix::unistd::pipe().expect("a pipe");
        (Lines::new(to, from, None).expect("lines"), their_in, their_out.into())
    }

    #[test]
    fn a_reader_that_never_reads_ends_the_write_not_the_program() {
        let (mut lines, _their_in, _their_out) = pipes();
        let until = Instant::now() + Duration::from_millis(50);
        let lost = lines.send(&"x".repeat(1 << 20), until).expect_err("the pipe is full");
        assert!(matches!(lost, Lost::Late), "{lost:?}");
    }

    #[test]
    fn half_a_line_is_not_a_line_and_the_next_one_is_whole() {
        let (mut lines, _their_in, mut their_out) = pipes();
        their_out.write_all(b"one\ntw").expect("written");
        let soon = || Instant::now() + Duration::from_millis(50);
        assert_eq!(lines.receive(soon()).expect("a line").trim_end(), "one");
        assert!(matches!(lines.receive(soon()), Err(Lost::Late)));
        their_out.write_all(b"o\n").expect("written");
        assert_eq!(lines.receive(soon()).expect("a line").trim_end(), "two");
    }

    #[test]
    fn the_reason_on_the_lifeline_becomes_the_message_and_the_code() {
        let (their_in, to) = nix::unistd::pipe().expect("a pipe");
        let (from, their_out) = nix::unistd::pipe().expect("a pipe");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
        let farewell = Farewell { reason: "tenant acme was removed".into(), code: 69 };
        let line = serde_json::to_string(&farewell).expect("JSON");
        let mut theirs = theirs;
        writeln!(theirs, "{line}").expect("written");
        drop((their_in, their_out));
        let mut lines = Lines::new(to, from, Some(ours.into())).expect("lines");
        let lost = lines.receive(Instant::now() + Duration::from_secs(5)).expect_err("the end");
        let failure = Failure::from(lost);
        assert_eq!((failure.code, failure.message.as_str()), (69, "tenant acme was removed"));
    }
}
