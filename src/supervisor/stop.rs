//! The end: doors closed, every mux drained, and nothing of what we started left.
//!
//! ```text
//! stop --> every mux drains (`drain`, at most 2 s) --> all gone --> what is left is killed --> exit
//!                    \--2.5 s after the drain: kill-----------^
//! ```
//!
//! As a child subreaper the supervisor is the parent of whatever lost its own, so that killing our own
//! children until there is none reaches every descendant, and no pid can be another's: we alone reap.
//! Muxes and keepers that were taken over are not ours: they are ended, and waited for, by their pidfds.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::PollFlags;

use super::door::ready;
use super::house::House;
use super::message::Reply;
use super::{keepers, spawn};
use crate::policy::reason::UNAVAILABLE;
use crate::sandbox::children;

/// How long calls in flight are waited for at the end, at most: with a second each for the end of a
/// server's stdin and for SIGTERM, everything is gone within five.
const LONGEST_DRAIN: Duration = Duration::from_secs(2);
/// How long after that a mux may take to leave before it is killed.
const GRACE: Duration = Duration::from_millis(2500);
/// How long the last descendants may take to die of SIGKILL.
const LAST: Duration = Duration::from_millis(900);
/// How long keepers may take to end by their lifelines.
const LIFELINES: Duration = Duration::from_millis(300);
/// How often we look whether they have.
const LOOK: Duration = Duration::from_millis(2);
/// How long the answer to who asked for the end may take to be written.
const LAST_WORD: Duration = Duration::from_millis(50);

/// The end, once it has begun.
#[derive(Debug)]
pub(super) struct Stopping {
    /// When patience ends.
    pub(super) deadline: Instant,
    /// Who asked for it and waits.
    pub(super) askers: Vec<Reply<()>>,
}

impl House {
    /// Begins the end. The doors are closed by whoever owns them.
    pub(super) fn stop(&mut self, why: &str, asker: Option<Reply<()>>) {
        if let Some(stopping) = &mut self.stopping {
            stopping.askers.extend(asker);
            return;
        }
        let drain = self.settings().drain.min(LONGEST_DRAIN);
        tracing::info!("stopping: {why}");
        super::notify::stopping();
        // Each hears that it is stopping.
        let patient = std::mem::take(&mut self.patient);
        for cell in self.cells.values_mut().chain(&mut self.others) {
            cell.drain("tenantd is stopping", UNAVAILABLE, drain);
        }
        let deadline = Instant::now() + drain + GRACE;
        self.stopping = Some(Stopping { deadline, askers: asker.into_iter().collect() });
        patient.into_iter().for_each(|ask| self.open(ask));
    }

    /// Whether the loop may end.
    pub(super) fn is_over(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| {
            self.all_cells().next().is_none() || stopping.deadline <= Instant::now()
        })
    }

    /// Kills what is left, and answers who asked.
    pub(super) async fn finish(&mut self) {
        let until = Instant::now() + LAST;
        let mut held: Vec<_> = self.all_cells().map(|cell| cell.pidfd.clone()).collect();
        held.iter().for_each(|mux| spawn::kill(mux));
        let mut keepers = self.take_keepers();
        self.cells.clear();
        self.others.clear();
        // They end by their lifelines, and end what is theirs; what does not is killed from below.
        still_there(&mut keepers, Instant::now() + LIFELINES);
        keepers.iter().for_each(|keeper| keepers::kill_tree(keeper));
        held.append(&mut keepers);
        let mut left = kill_descendants(until.saturating_duration_since(Instant::now()));
        still_there(&mut held, until);
        left += held.len();
        if left > 0 {
            tracing::error!("{left} processes cannot be killed");
        }
        self.clear_groups();
        let askers = self.stopping.take().map(|stopping| stopping.askers).unwrap_or_default();
        if askers.is_empty() {
            return;
        }
        for asker in askers {
            // Who no longer waits needs no answer.
            let _ = asker.send(Ok(()));
        }
        tokio::time::sleep(LAST_WORD).await;
    }
}

impl House {
    /// Buries every child that has ended, and kills the orphans that came to us by that: what a server
    /// left behind when its keeper was killed. A keeper that ends by itself leaves none.
    pub(super) fn bury(&mut self) {
        reap(|pid| self.binary.forget(pid.as_raw()));
        for child in children().into_iter().filter(|child| !self.binary.knows(child.as_raw())) {
            tracing::warn!(pid = child.as_raw(), "a process without its keeper is killed");
            let _ = kill(child, Signal::SIGKILL);
        }
    }
}

/// Keeps those of the processes that have not ended by then.
fn still_there(held: &mut Vec<Arc<OwnedFd>>, until: Instant) {
    held.retain(|process| !ready(process, PollFlags::IN, until));
}

/// Buries every child that has ended. Who it was is known by its pidfd.
fn reap(mut buried: impl FnMut(Pid)) {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
        status.pid().into_iter().for_each(&mut buried);
    }
}

/// Kills our children, and theirs as they become ours. Returns how many are left.
fn kill_descendants(within: Duration) -> usize {
    let until = Instant::now() + within;
    loop {
        reap(|_| ());
        if waitpid(None, Some(WaitPidFlag::WNOHANG)) == Err(Errno::ECHILD) {
            return 0;
        }
        let children = children();
        if Instant::now() >= until {
            return children.len();
        }
        for child in children {
            // Dead already is as good.
            let _ = kill(child, Signal::SIGKILL);
        }
        std::thread::sleep(LOOK);
    }
}
