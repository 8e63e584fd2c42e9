//! The end: doors closed, every mux drained, and nothing of what we started left.
//!
//! ```text
//! stop --> every mux drains (`drain`, at most 2 s) --> all gone --> what is left is killed --> exit
//!                    \--2.5 s after the drain: kill-----------^
//! ```
//!
//! As a child subreaper the supervisor is the parent of whatever lost its own, so that killing our own
//! children until there is none reaches every descendant, and no pid can be another's: we alone reap.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::house::House;
use super::message::Reply;
use super::spawn;
use crate::policy::reason::UNAVAILABLE;
use crate::sandbox::children;

/// How long calls in flight are waited for at the end, at most: with a second each for the end of a
/// server's stdin and for SIGTERM, everything is gone within five.
const LONGEST_DRAIN: Duration = Duration::from_secs(2);
/// How long after that a mux may take to leave before it is killed.
const GRACE: Duration = Duration::from_millis(2500);
/// How long the last descendants may take to die of SIGKILL.
const LAST: Duration = Duration::from_millis(900);
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
        for cell in self.cells.values_mut() {
            cell.drain("tenantd is stopping", UNAVAILABLE, drain);
        }
        let deadline = Instant::now() + drain + GRACE;
        self.stopping = Some(Stopping { deadline, askers: asker.into_iter().collect() });
        patient.into_iter().for_each(|ask| self.open(ask));
    }

    /// Whether the loop may end.
    pub(super) fn is_over(&self) -> bool {
        self.stopping
            .as_ref()
            .is_some_and(|stopping| self.cells.is_empty() || stopping.deadline <= Instant::now())
    }

    /// Kills what is left, and answers who asked.
    pub(super) async fn finish(&mut self) {
        self.cells.values().for_each(|cell| spawn::kill(&cell.pidfd));
        self.cells.clear();
        let left = kill_descendants(LAST);
        if left > 0 {
            tracing::error!("{left} processes cannot be killed");
        }
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
