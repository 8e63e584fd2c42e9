//! The accept thread of the session door. Takes connections and gives each a seat and a thread.
//!
//! A client that opens ten tenants at once has more connections than seats: the rest wait for a moment,
//! a bounded number of each uid. Never reads from a connection and never closes one: both can block, and
//! everybody waits here.

use std::collections::VecDeque;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags};

use super::door::Attendant;
use super::parting::Parting;
use super::seats::{Ledger, Room, Seat};
use super::shortage::{BREATH, Spare, is_shortage};
use crate::policy::reason::{UNAVAILABLE, refusal};
use crate::sys;
use crate::wire::Answer;

/// Connections that are attended at a time: a desktop client opens one for each tenant.
const SEATS: Room = Room { each: 8, all: 256 };
/// A door thread parses 4 KiB, asks, and sends one datagram.
const DOOR_STACK: usize = 128 * 1024;
/// Connections that wait for a seat: those of one uid, and all of them.
const WAITING: Room = Room { each: 64, all: 1024 };
/// How long they wait.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked whether a seat is free while somebody waits.
const LOOK: Duration = Duration::from_millis(5);

/// The running accept thread; its drop ends it.
#[derive(Debug)]
pub(super) struct Porter {
    _open: PipeWriter,
    seats: Ledger,
    thread: JoinHandle<()>,
}

/// An accept thread that was told to end.
#[derive(Debug)]
pub(super) struct Closed {
    seats: Ledger,
    thread: JoinHandle<()>,
}

impl Closed {
    /// Whether everybody who was let in has gone.
    pub(super) fn is_empty(&self) -> bool {
        self.thread.is_finished() && self.seats.taken() == 0
    }
}

impl Porter {
    /// Starts accepting on `listener`.
    pub(super) fn start(listener: OwnedFd, attendant: Attendant) -> io::Result<Self> {
        // Between poll and accept another process with this socket (systemd) may be faster.
        rustix::io::ioctl_fionbio(&listener, true)?;
        let (closed, open) = io::pipe()?;
        let parting = attendant.parting.clone();
        let seats = Ledger::new(SEATS);
        let hall = Hall {
            listener,
            attendant,
            parting,
            seats: seats.clone(),
            chairs: Ledger::new(WAITING),
            waiting: VecDeque::new(),
            spare: Spare::new(),
        };
        let thread = std::thread::Builder::new().name("porter".into()).stack_size(DOOR_STACK);
        let thread = thread.spawn(move || hall.run(&closed))?;
        Ok(Self { _open: open, seats, thread })
    }

    /// Lets nobody in any more. Who waits is still attended.
    pub(super) fn close(self) -> Closed {
        Closed { seats: self.seats, thread: self.thread }
    }
}

/// A connection without a seat.
struct Waiting {
    uid: u32,
    since: Instant,
    connection: OwnedFd,
    _chair: Seat,
}

struct Hall {
    listener: OwnedFd,
    attendant: Attendant,
    parting: Parting,
    seats: Ledger,
    chairs: Ledger,
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
    spare: Spare,
}

impl Hall {
    fn run(mut self, closed: &PipeReader) {
        loop {
            let pause = (!self.waiting.is_empty()).then_some(LOOK);
            match wait(&self.listener, closed, pause) {
                Woken::Closed => return self.seat_the_rest(),
                Woken::Pause => self.seat_waiting(),
                Woken::Knock => self.answer_knock(),
            }
        }
    }

    /// Who was let in gets an answer.
    fn seat_the_rest(mut self) {
        while !self.waiting.is_empty() {
            std::thread::sleep(LOOK);
            self.seat_waiting();
        }
    }

    fn answer_knock(&mut self) {
        match accept(&self.listener) {
            Ok(connection) => self.receive(connection),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) if is_shortage(error) => self.shed(),
            Err(error) => {
                tracing::error!("the session door cannot accept: {error}");
                std::thread::sleep(BREATH);
            }
        }
    }

    /// Gives free seats to those who wait, in turn; who waited too long is turned away.
    fn seat_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            if let Some(seat) = self.seats.take(waiting.uid) {
                self.attend(waiting.uid, seat, waiting.connection);
            } else if waiting.since.elapsed() >= PATIENCE {
                self.turn_away(waiting.uid, waiting.connection);
            } else {
                self.waiting.push_back(waiting);
            }
        }
    }

    fn receive(&mut self, connection: OwnedFd) {
        self.spare.renew();
        // Without credentials there is nobody to answer; uid -1 (nobody can have it) pays for it.
        let uid = sys::peer_credentials(&connection).map_or(u32::MAX, |peer| peer.uid);
        self.seat_waiting();
        let behind = self.waiting.iter().any(|waiting| waiting.uid == uid);
        match self.seats.take(uid).filter(|_| !behind) {
            Some(seat) => self.attend(uid, seat, connection),
            None => match self.chairs.take(uid) {
                Some(_chair) => {
                    let since = Instant::now();
                    self.waiting.push_back(Waiting { uid, since, connection, _chair });
                }
                None => self.turn_away(uid, connection),
            },
        }
    }

    fn attend(&self, uid: u32, seat: Seat, connection: OwnedFd) {
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
        let listener = &self.listener;
        if let Some(connection) = self.spare.accept(|| accept(listener)) {
            let uid = sys::peer_credentials(&connection).map_or(u32::MAX, |peer| peer.uid);
            self.turn_away(uid, connection);
        }
        // Those who wait hold descriptors too, and their time passes.
        self.seat_waiting();
        std::thread::sleep(BREATH);
        self.spare.renew();
    }
}

fn take(kept: &std::sync::Mutex<Option<OwnedFd>>) -> Option<OwnedFd> {
    kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
}

fn accept(listener: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::net::accept_with(listener, SocketFlags::CLOEXEC)
}

enum Woken {
    Knock,
    Pause,
    Closed,
}

/// Waits for a connection, no longer than `pause`.
fn wait(listener: &OwnedFd, closed: &PipeReader, pause: Option<Duration>) -> Woken {
    let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
    let mut both = [PollFd::new(listener, PollFlags::IN), PollFd::new(closed, PollFlags::IN)];
    loop {
        match poll(&mut both, pause.as_ref()) {
            Ok(0) => return Woken::Pause,
            Ok(_) if both[1].revents().is_empty() => return Woken::Knock,
            Ok(_) => return Woken::Closed,
            Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!("the session door cannot wait: {error}");
                return Woken::Closed;
            }
        }
    }
}

#[cfg(test)]
mod tests;
