//! The keeper: the parent of one server, or of pid 1 of its namespaces; its witness and its executioner.
//!
//! It holds one end of the lifeline; the other end exists in the mux alone. Word `term` asks the server
//! to end; the lifeline's end, and the server's own end, kill every descendant. As child subreaper it
//! inherits whatever daemonised, so that nothing slips out below it. It reads nothing that a tenant
//! wrote but that one word's length, and its last act is to say how the server ended.
//!
//! ```text
//!            word "term": SIGTERM to the server's group
//!   WATCHING ---------------------------------------> WATCHING
//!      |  lifeline ends, or the server ends
//!      v
//!   KILLING: SIGKILL to every child until there is none --> last word, exit
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SIGCHLD, SIGKILL, SIGTERM, SigSet, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::net::{RecvFlags, SendFlags};

use super::cgroup;
use super::offspring::children;
use crate::post;
use crate::sys;
use crate::wire::stage::{KEEPER_TERM, KeeperWord, Seat};

/// How long a server without its egress may run on: longer than a supervisor lets its calls be drained.
const WITHOUT_EGRESS: Duration = Duration::from_secs(30);

/// Whom a keeper keeps.
pub(super) enum Kept {
    /// The server itself, its child.
    Server(Pid),
    /// Pid 1 of the server's namespaces, and the leash on which it says how the server ended.
    Init(Pid, OwnedFd),
}

impl Kept {
    fn pid(&self) -> Pid {
        match self {
            Self::Server(pid) | Self::Init(pid, _) => *pid,
        }
    }

    /// Asks the server to end.
    fn terminate(&self) {
        // It may be gone already; its end is seen as a child's death.
        let _ = match self {
            Self::Server(server) => killpg(*server, SIGTERM),
            Self::Init(init, _) => kill(*init, SIGTERM),
        };
    }

    /// What pid 1 said before its own end, which says nothing.
    fn said(&self) -> Option<KeeperWord> {
        let Self::Init(_, leash) = self else { return None };
        post::receive(leash, &mut [0; 1024], RecvFlags::DONTWAIT).ok().map(|(word, _)| word)
    }
}

/// What a keeper watches beside its lifeline.
pub(super) struct Watch {
    /// Children's deaths as a descriptor, from before the fork on: none is missed.
    deaths: SignalFd,
    /// The limits of the server's control group, from before it is in it.
    limits: cgroup::Watch,
}

impl Watch {
    /// Blocks SIGCHLD and watches for it, and for limits where the server has a seat in a control group.
    pub(super) fn new(seat: Option<&Seat>) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(SIGCHLD);
        mask.thread_block()?;
        let deaths = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let limits = seat.map_or_else(|| Ok(cgroup::Watch::none()), cgroup::Watch::open)?;
        Ok(Self { deaths, limits })
    }

    /// Keeps it until it or the lifeline ends; returns when no descendant is left. `doors` is held for its
    /// life: the other end is its egress.
    pub(super) fn keep(mut self, lifeline: &OwnedFd, kept: &Kept, doors: Option<OwnedFd>) {
        let (mut ended, mut exit) = (None, Exit::new(doors));
        while ended.is_none() {
            match self.wait(lifeline, &mut exit) {
                Turn::Child => ended = reap(kept.pid()),
                Turn::Term => kept.terminate(),
                Turn::NoWayOut => {
                    say(lifeline, &no_way_out());
                    break;
                }
                Turn::LifelineEnded => break,
                Turn::Limit => {}
            }
            if let Some(word) = self.limits.news(Instant::now()) {
                say(lifeline, &word);
            }
        }
        let ended = kill_everything(kept.pid()).or(ended);
        if let Some(word) = kept.said().or(ended) {
            say(lifeline, &self.judged(word));
        }
    }

    /// The last word, with what the control group knows of it: the kernel does not say whom it killed why.
    fn judged(&mut self, word: KeeperWord) -> KeeperWord {
        match &word {
            KeeperWord::Signalled { signal }
                if signal == SIGKILL.as_str() && self.limits.out_of_memory(Instant::now()) =>
            {
                KeeperWord::OutOfMemory
            }
            _ => word,
        }
    }

    fn wait(&self, lifeline: &OwnedFd, exit: &mut Exit) -> Turn {
        let mut ready = vec![
            PollFd::new(lifeline.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.deaths.as_fd(), PollFlags::POLLIN),
        ];
        // As kernfs wakes.
        let limits = self.limits.descriptors();
        ready.extend(limits.map(|limit| PollFd::new(limit, PollFlags::POLLPRI)));
        let doors = exit.doors.as_ref().map(|_| ready.len());
        // Nothing is read there; its end is told in any case.
        ready.extend(exit.doors.as_ref().map(|it| PollFd::new(it.as_fd(), PollFlags::empty())));
        let patience = [self.limits.patience(), exit.left()].into_iter().flatten().min();
        let patience = patience.and_then(|time| PollTimeout::try_from(time).ok());
        match poll(&mut ready, patience.unwrap_or(PollTimeout::NONE)) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Without poll the keeper is blind: end the server rather than leave it unwatched.
            Err(_) => return Turn::LifelineEnded,
        }
        let is_ready = |at: usize| ready.get(at).is_some_and(|polled| polled.any() == Some(true));
        let (said, died, no_exit) = (is_ready(0), is_ready(1), doors.is_some_and(is_ready));
        if no_exit {
            exit.closed();
        }
        match (said, died) {
            (true, _) => word(lifeline),
            (_, true) => self.drain(),
            _ if exit.is_over() => Turn::NoWayOut,
            _ => Turn::Limit,
        }
    }

    fn drain(&self) -> Turn {
        while let Ok(Some(_)) = self.deaths.read_signal() {}
        Turn::Child
    }
}

enum Turn {
    Child,
    Term,
    NoWayOut,
    LifelineEnded,
    /// A limit was met, or nothing happened.
    Limit,
}

/// A server's way to the network, which its egress may lose. A supervisor starts such a server anew when its
/// calls are done; where none does in time, it is ended here.
struct Exit {
    doors: Option<OwnedFd>,
    patience: Option<Instant>,
}

impl Exit {
    fn new(doors: Option<OwnedFd>) -> Self {
        Self { doors, patience: None }
    }

    /// The other end is gone.
    fn closed(&mut self) {
        self.doors = None;
        self.patience = Some(Instant::now() + WITHOUT_EGRESS);
    }

    /// How long to wait, rounded up.
    fn left(&self) -> Option<Duration> {
        let left = self.patience?.saturating_duration_since(Instant::now());
        Some(left + Duration::from_millis(1))
    }

    /// Whether patience has run out: said once.
    fn is_over(&mut self) -> bool {
        self.patience.take_if(|until| *until <= Instant::now()).is_some()
    }
}

fn no_way_out() -> KeeperWord {
    let what = "its way to the network is gone (its egress died), so it was ended".to_owned();
    KeeperWord::Limited { what }
}

fn word(lifeline: &OwnedFd) -> Turn {
    let mut buffer = [0; 16];
    match sys::receive_datagram(lifeline, &mut buffer, RecvFlags::DONTWAIT) {
        Ok(got) if buffer.get(..got.bytes) == Some(KEEPER_TERM) => Turn::Term,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Turn::Child,
        // End of the lifeline, or a word that nobody should have said.
        _ => Turn::LifelineEnded,
    }
}

/// Buries whoever is dead; says how the server ended if it was among them.
pub(super) fn reap(server: Pid) -> Option<KeeperWord> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(status) => ended = how_it_ended(status, server).or(ended),
        }
    }
}

fn how_it_ended(status: WaitStatus, server: Pid) -> Option<KeeperWord> {
    match status {
        WaitStatus::Exited(pid, code) if pid == server => Some(KeeperWord::Exited { code }),
        WaitStatus::Signaled(pid, signal, _) if pid == server => {
            Some(KeeperWord::Signalled { signal: signal.as_str().to_owned() })
        }
        _ => None,
    }
}

/// Kills children until there are none: each death hands its own children up to this process.
pub(super) fn kill_everything(server: Pid) -> Option<KeeperWord> {
    let mut ended = None;
    loop {
        for child in children() {
            // Dead already is as good.
            let _ = kill(child, SIGKILL);
        }
        match waitpid(None, None) {
            Ok(status) => ended = how_it_ended(status, server).or(ended),
            Err(Errno::EINTR) => {}
            Err(_) => return ended,
        }
    }
}

/// The keeper's last word.
pub(super) fn say(lifeline: &OwnedFd, word: &KeeperWord) {
    // The mux may be gone; then nobody waits for it.
    let _ = post::send(lifeline, word, &[], SendFlags::DONTWAIT);
}
