//! What a mux tells an adopting supervisor, part by part, each bounded and checked.
//!
//! On the thread that asks it, as all of `adopt`: what is dropped here may take long.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::PollFlags;
use rustix::net::RecvFlags;

use super::adopt::Strange;
use super::door::ready;
use super::keepers::pid_of;
use crate::sys;
use crate::wire::{CELL_DATAGRAM, ChildLine, FromMux, SessionLine};

/// The most that a mux may say about itself, bytes: a thousand sessions are half a megabyte.
const SAYS_AT_MOST: usize = 16 * 1024 * 1024;
/// The most children of one mux: each is a descriptor of ours.
const CHILDREN_MAX: usize = 4096;

/// The connection while it is heard on this thread.
pub(super) struct Ear {
    pub(super) connection: OwnedFd,
    until: Instant,
    buffer: Vec<u8>,
    /// Bytes so far.
    heard: usize,
}

/// A datagram's bytes and descriptors.
type Heard<'a> = (&'a [u8], Vec<OwnedFd>);

/// Waits until something can be read.
pub(super) fn wait(connection: &OwnedFd, until: Instant) -> Result<(), Strange> {
    if ready(connection, PollFlags::IN, until) { Ok(()) } else { Err(Strange::Silent) }
}

impl Ear {
    /// Hears `connection` until then.
    pub(super) fn new(connection: OwnedFd, until: Instant) -> Self {
        Self { connection, until, buffer: vec![0; CELL_DATAGRAM], heard: 0 }
    }

    /// The next datagram.
    pub(super) fn bytes(&mut self) -> Result<Heard<'_>, Strange> {
        wait(&self.connection, self.until)?;
        self.take()
    }

    /// The next datagram, if there is one already.
    pub(super) fn waiting(&mut self) -> Result<Option<Heard<'_>>, Strange> {
        if !ready(&self.connection, PollFlags::IN, Instant::now()) {
            return Ok(None);
        }
        self.take().map(Some)
    }

    fn take(&mut self) -> Result<Heard<'_>, Strange> {
        let flags = RecvFlags::DONTWAIT;
        let got = sys::receive_datagram(&self.connection, &mut self.buffer, flags)?;
        if got.bytes == 0 {
            return Err(Strange::Closed);
        }
        self.heard += got.bytes;
        if got.truncated || self.heard > SAYS_AT_MOST {
            return Err(Strange::Nonsense("more than a mux has to say".to_owned()));
        }
        Ok((self.buffer.get(..got.bytes).unwrap_or_default(), got.descriptors))
    }
}

/// What a mux has, as far as it has told.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) sessions: Vec<SessionLine>,
    pub(super) children: Vec<(ChildLine, OwnedFd)>,
    pub(super) said: Vec<FromMux>,
    pub(super) whole: bool,
}

impl Inventory {
    pub(super) fn take(
        &mut self,
        message: FromMux,
        descriptors: Vec<OwnedFd>,
        uid: Option<u32>,
    ) -> Result<(), Strange> {
        let FromMux::Inventory { sessions, children, last } = message else {
            self.said.push(message);
            return Ok(());
        };
        self.sessions.extend(sessions);
        self.whole = last;
        if children.len() != descriptors.len() || self.children.len() > CHILDREN_MAX {
            return Err(Strange::Nonsense("children without pidfds".to_owned()));
        }
        for (line, pidfd) in children.into_iter().zip(descriptors) {
            if !is_keeper(&line, &pidfd, uid) {
                return Err(Strange::Nonsense("a descriptor that is not its child's".to_owned()));
            }
            self.children.push((line, pidfd));
        }
        Ok(())
    }
}

/// Whether the descriptor is a pidfd of the process that the line names and that is the mux's user's, or of
/// one that has ended.
///
/// The process is killed if it outlives its mux. A user may kill what is its own, so that nothing is lent to
/// the mux by that.
fn is_keeper(line: &ChildLine, pidfd: &OwnedFd, uid: Option<u32>) -> bool {
    match pid_of(pidfd) {
        Some(-1) => true,
        Some(pid) if pid > 1 && pid.unsigned_abs() != std::process::id() => {
            let is_its = line.pid == Some(pid) && uid.is_some() && user_of(pid) == uid;
            // Its number was its own all the while, or it has ended meanwhile.
            is_its || pid_of(pidfd) == Some(-1)
        }
        _ => false,
    }
}

/// The real uid of a process (proc(5), /proc/PID/status).
fn user_of(pid: i32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}
