//! The accept thread of the session door. Takes connections and gives each a seat and a thread.
//!
//! Never reads from a connection and never closes one: both can block, and everybody waits here.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags};

use super::door::Attendant;
use super::parting::Parting;
use super::seats::{Ledger, Room};
use crate::policy::reason::{UNAVAILABLE, refusal};
use crate::sys;
use crate::wire::Answer;

/// Connections that are attended at a time: a desktop client opens one for each tenant.
const SEATS: Room = Room { each: 8, all: 256 };
/// A door thread parses 4 KiB, asks, and sends one datagram.
const DOOR_STACK: usize = 128 * 1024;
/// How long to wait where this process or the machine has no descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// The running accept thread; its drop ends it.
#[derive(Debug)]
pub(super) struct Porter {
    _open: PipeWriter,
}

impl Porter {
    /// Starts accepting on `listener`.
    pub(super) fn start(listener: OwnedFd, attendant: Attendant) -> io::Result<Self> {
        // Between poll and accept another process with this socket (systemd) may be faster.
        rustix::io::ioctl_fionbio(&listener, true)?;
        let (closed, open) = io::pipe()?;
        let parting = attendant.parting.clone();
        let hall = Hall { listener, attendant, parting, seats: Ledger::new(SEATS), spare: spare() };
        let thread = std::thread::Builder::new().name("porter".into()).stack_size(DOOR_STACK);
        thread.spawn(move || hall.run(&closed))?;
        Ok(Self { _open: open })
    }
}

struct Hall {
    listener: OwnedFd,
    attendant: Attendant,
    parting: Parting,
    seats: Ledger,
    /// Given up to accept, and so to get rid of, a connection when no other descriptor is left.
    spare: Option<OwnedFd>,
}

impl Hall {
    fn run(mut self, closed: &PipeReader) {
        while wait(&self.listener, closed) {
            match self.accept() {
                Ok(connection) => self.receive(connection),
                Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => self.shed(),
                Err(error) => {
                    tracing::error!("the session door cannot accept: {error}");
                    std::thread::sleep(BREATH);
                }
            }
        }
    }

    fn accept(&self) -> Result<OwnedFd, Errno> {
        rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC)
    }

    fn receive(&mut self, connection: OwnedFd) {
        if self.spare.is_none() {
            self.spare = spare();
        }
        // Without credentials there is nobody to answer; uid -1 (nobody can have it) pays for it.
        let uid = sys::peer_credentials(&connection).map_or(u32::MAX, |peer| peer.uid);
        let Some(seat) = self.seats.take(uid) else {
            return self.turn_away(uid, connection);
        };
        let attendant = self.attendant.clone();
        let kept = std::sync::Arc::new(std::sync::Mutex::new(Some(connection)));
        let given = kept.clone();
        let thread = std::thread::Builder::new().name("door".into()).stack_size(DOOR_STACK);
        let started = thread.spawn(move || {
            // The seat is freed last: after everything that the stranger sent is closed.
            let _seat = seat;
            if let Some(connection) = take(&given) {
                attendant.attend(connection);
            }
        });
        if started.is_err()
            && let Some(connection) = take(&kept)
        {
            self.turn_away(uid, connection);
        }
    }

    fn turn_away(&self, uid: u32, connection: OwnedFd) {
        let message = "too many sessions are being opened at this moment (try again)";
        let answer = Answer::Refused(refusal(message, UNAVAILABLE, "busy", false));
        let bytes = serde_json::to_vec(&answer).unwrap_or_default();
        // Who is gone gets no answer.
        let _ = sys::send_datagram(&connection, &bytes, &[], SendFlags::DONTWAIT);
        self.parting.close(uid, connection);
    }

    fn shed(&mut self) {
        tracing::warn!("no descriptor left: the session door turns a connection away");
        self.spare = None;
        if let Ok(connection) = self.accept() {
            let uid = sys::peer_credentials(&connection).map_or(u32::MAX, |peer| peer.uid);
            self.turn_away(uid, connection);
        }
        std::thread::sleep(BREATH);
        self.spare = spare();
    }
}

fn take(kept: &std::sync::Mutex<Option<OwnedFd>>) -> Option<OwnedFd> {
    kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

fn spare() -> Option<OwnedFd> {
    std::fs::File::open("/dev/null").ok().map(OwnedFd::from)
}

/// Waits for a connection; `false` once the door is closed.
fn wait(listener: &OwnedFd, closed: &PipeReader) -> bool {
    let mut both = [PollFd::new(listener, PollFlags::IN), PollFd::new(closed, PollFlags::IN)];
    loop {
        match poll(&mut both, None) {
            Ok(_) => return both[1].revents().is_empty(),
            Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!("the session door cannot wait: {error}");
                return false;
            }
        }
    }
}
