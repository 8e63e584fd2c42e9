//! The way to end every process of the demo from another thread.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::process::{Signal, pidfd_send_signal};

/// The processes of the demo; ringing ends them.
#[derive(Default)]
pub(super) struct Alarm(Mutex<State>);

#[derive(Default)]
struct State {
    rung: bool,
    processes: Vec<OwnedFd>,
}

impl Alarm {
    /// Adds a process. After the alarm it is ended at once, and the answer is `false`.
    pub(super) fn covers(&self, process: OwnedFd) -> bool {
        let mut state = self.lock();
        if state.rung {
            end(&process);
        }
        state.processes.push(process);
        !state.rung
    }

    /// Asks every process to end.
    pub(super) fn ring(&self) {
        let mut state = self.lock();
        state.rung = true;
        state.processes.iter().for_each(end);
    }

    /// Whether it rang.
    pub(super) fn rung(&self) -> bool {
        self.lock().rung
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // A list of processes cannot be half-changed by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(process: &OwnedFd) {
    // It may be gone already; by pidfd no other process can be meant.
    let _ = pidfd_send_signal(process, Signal::TERM);
}
