//! Every process of the demo is started here, so that another thread can end them all, in order.
//!
//! Clients end first and are seen dead before a supervisor is told to stop: a `connect` that finds nobody
//! listening would start a supervisor of its own.

use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Signal, pidfd_send_signal};

use super::super::admin::{ended, open_process};

/// How long the kernel may take to end a killed client.
const DEAD_WITHIN: Duration = Duration::from_secs(5);

/// What a process is to the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// A `connect`.
    Client,
    /// A `serve`.
    Supervisor,
}

/// The processes of the demo; ringing ends them.
#[derive(Default)]
pub(super) struct Alarm(Mutex<State>);

#[derive(Default)]
struct State {
    rung: bool,
    processes: Vec<(Part, OwnedFd)>,
}

impl Alarm {
    /// Starts a process, unless the alarm rang.
    pub(super) fn start(
        &self,
        part: Part,
        command: &mut Command,
    ) -> anyhow::Result<(Child, OwnedFd)> {
        // Locked over the start: whatever runs when the alarm rings is known to it.
        let mut state = self.lock();
        if state.rung {
            bail!("interrupted");
        }
        let mut child = command.spawn().context("cannot start a process of the demo")?;
        let held = open_process(i64::from(child.id()))
            .and_then(|process| Some((process.try_clone().ok()?, process)));
        let Some((watched, process)) = held else {
            let _ = child.kill();
            let _ = child.wait();
            bail!("cannot watch a process (pidfd_open(2) needs Linux 5.3 and free descriptors)");
        };
        state.processes.push((part, watched));
        Ok((child, process))
    }

    /// Ends every process: clients at once, then supervisors by asking.
    pub(super) fn ring(&self) {
        let mut state = self.lock();
        state.rung = true;
        // By pidfd no other process can be meant; one that is gone already is no error.
        for client in state.of(Part::Client) {
            let _ = pidfd_send_signal(client, Signal::KILL);
            let _ = ended(client, DEAD_WITHIN);
        }
        for supervisor in state.of(Part::Supervisor) {
            let _ = pidfd_send_signal(supervisor, Signal::TERM);
        }
    }

    /// Whether it rang.
    pub(super) fn rung(&self) -> bool {
        self.lock().rung
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A list of processes cannot be half-changed by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&self, part: Part) -> impl Iterator<Item = &OwnedFd> {
        self.processes.iter().filter(move |(is, _)| *is == part).map(|(_, process)| process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_alarm_everything_ends_and_nothing_starts() {
        let alarm = Alarm::default();
        let mut sleeper = Command::new("sleep");
        sleeper.arg("1000");
        let (mut client, _) = alarm.start(Part::Client, &mut sleeper).expect("started");
        let (mut server, _) = alarm.start(Part::Supervisor, &mut sleeper).expect("started");
        alarm.ring();
        assert!(!client.wait().expect("reaped").success());
        assert!(!server.wait().expect("reaped").success());
        assert!(alarm.rung() && alarm.start(Part::Client, &mut sleeper).is_err());
    }
}
