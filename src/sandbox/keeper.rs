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

use super::offspring::children;
use crate::post;
use crate::sys;
use crate::wire::stage::{KEEPER_TERM, KeeperWord};

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

/// Children's deaths as a descriptor, from before the fork on: none is missed.
pub(super) struct Watch(SignalFd);

impl Watch {
    /// Blocks SIGCHLD and watches for it.
    pub(super) fn new() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(SIGCHLD);
        mask.thread_block()?;
        Ok(Self(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Keeps it until it or the lifeline ends; returns when no descendant is left. `doors` is held for its
    /// life: the other end is its egress.
    pub(super) fn keep(self, lifeline: &OwnedFd, kept: &Kept, doors: Option<OwnedFd>) {
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
            }
        }
        let ended = kill_everything(kept.pid()).or(ended);
        if let Some(word) = kept.said().or(ended) {
            say(lifeline, &word);
        }
    }

    fn wait(&self, lifeline: &OwnedFd, exit: &mut Exit) -> Turn {
        let mut ready = [
            PollFd::new(lifeline.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.0.as_fd(), PollFlags::POLLIN),
            // Without one the lifeline twice, once for nothing.
            PollFd::new(exit.doors.as_ref().unwrap_or(lifeline).as_fd(), PollFlags::empty()),
        ];
        let watched = if exit.doors.is_some() { 3 } else { 2 };
        let left = exit.left();
        match poll(ready.get_mut(..watched).unwrap_or_default(), left) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Without poll the keeper is blind: end the server rather than leave it unwatched.
            Err(_) => return Turn::LifelineEnded,
        }
        let (said, egress_ended) = (ready[0].any() == Some(true), ready[2].any() == Some(true));
        if said {
            return word(lifeline);
        }
        if watched == 3 && egress_ended {
            exit.closed();
        }
        if exit.is_over() { Turn::NoWayOut } else { self.drain() }
    }

    fn drain(&self) -> Turn {
        while let Ok(Some(_)) = self.0.read_signal() {}
        Turn::Child
    }
}

enum Turn {
    Child,
    Term,
    NoWayOut,
    LifelineEnded,
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
    fn left(&self) -> PollTimeout {
        let Some(until) = self.patience else { return PollTimeout::NONE };
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
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
