//! Runs the table: each probe in a process of its own, so that one that is killed, hangs or changes itself
//! changes no other's answer. Single-threaded for all its life.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::attempt::{Attempt, Outcome};
use super::brief::Brief;
use super::{Probe, all};
use crate::sys::{self, Forked};

/// The longest brief, bytes.
const BRIEF: u64 = 64 * 1024;
/// How long one probe may take: each is a few system calls, some start a program.
const WITHIN: Duration = Duration::from_secs(5);
/// Descriptors that are looked for at the start: those above were not leaked by accident.
const DESCRIPTORS: i32 = 4096;

/// What every probe sees.
pub(super) struct Scene<'a> {
    pub(super) brief: &'a Brief,
    /// Descriptors beyond the standard three that were open at the start.
    pub(super) inherited: Vec<i32>,
}

/// What came of all probes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// The uid as the probes saw it.
    pub uid: u32,
    /// The gid.
    pub gid: u32,
    /// In the order of the table.
    pub findings: Vec<Finding>,
}

/// What came of one probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// As in the table.
    pub id: String,
    /// As in the table.
    pub group: String,
    /// As in the table.
    pub title: String,
    /// As in the table.
    pub attempt: String,
    /// What became of it.
    pub outcome: Outcome,
    /// The kernel's word.
    pub detail: String,
}

/// The role's entry.
pub fn main() -> ExitCode {
    let inherited = (3..DESCRIPTORS).filter(|fd| sys::borrow_if_open(*fd).is_some()).collect();
    let Some(brief) = read() else { return ExitCode::FAILURE };
    let scene = Scene { brief: &brief, inherited };
    let mut findings = Vec::new();
    for probe in all() {
        match one(probe, &scene) {
            Side::Tried => return ExitCode::SUCCESS,
            Side::Heard(attempt) => findings.push(finding(probe, attempt)),
        }
    }
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let account = Account { uid, gid, findings };
    match serde_json::to_vec(&account) {
        Ok(bytes) if io::stdout().write_all(&bytes).is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn read() -> Option<Brief> {
    let mut text = String::new();
    io::stdin().lock().take(BRIEF).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn finding(probe: &Probe, attempt: Attempt) -> Finding {
    Finding {
        id: probe.id.to_owned(),
        group: probe.group().to_owned(),
        title: probe.title.to_owned(),
        attempt: probe.attempt.to_owned(),
        outcome: attempt.outcome,
        detail: attempt.detail,
    }
}

/// Who comes back from a probe.
enum Side {
    /// The process that tried it: nothing is left for it to do.
    Tried,
    /// The one that goes on.
    Heard(Attempt),
}

fn one(probe: &Probe, scene: &Scene<'_>) -> Side {
    match start(probe, scene) {
        Ok(side) => side,
        Err(error) => Side::Heard(Attempt::failed(format!("no process for it: {error}"))),
    }
}

fn start(probe: &Probe, scene: &Scene<'_>) -> io::Result<Side> {
    let (hears, says) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match sys::fork_single_threaded()? {
        Forked::Child => {
            drop(hears);
            let attempt = (probe.run)(scene);
            let bytes = serde_json::to_vec(&attempt).unwrap_or_default();
            // Who hears nothing says that nothing came.
            let _ = rustix::io::write(&says, &bytes);
            Ok(Side::Tried)
        }
        Forked::Parent(child) => {
            drop(says);
            Ok(Side::Heard(hear(hears, child)))
        }
    }
}

/// A probe's answer. What it started may hold the pipe, so that the answer ends with its own bytes.
fn hear(pipe: OwnedFd, child: Pid) -> Attempt {
    let until = Instant::now() + WITHIN;
    let mut bytes = Vec::new();
    while until > Instant::now() && readable(&pipe, until) {
        let mut room = [0; 4096];
        match rustix::io::read(&pipe, &mut room) {
            Ok(0) | Err(_) => break,
            Ok(count) => bytes.extend_from_slice(room.get(..count).unwrap_or_default()),
        }
        if let Ok(attempt) = serde_json::from_slice(&bytes) {
            bury(child, until);
            return attempt;
        }
    }
    match bury(child, until) {
        // What the filter ends with a signal is as blocked as can be.
        Some(WaitStatus::Signaled(_, Signal::SIGSYS, _)) => Attempt::blocked("SIGSYS"),
        Some(WaitStatus::Signaled(_, signal, _)) => {
            Attempt::failed(format!("its process was ended by {signal}"))
        }
        Some(_) => Attempt::failed("its process said nothing"),
        None => Attempt::failed("no answer in time"),
    }
}

fn readable(pipe: &OwnedFd, until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
    let mut ready = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    poll(&mut ready, left).is_ok_and(|count| count > 0)
}

/// Waits for the end of a probe's process; ends it where it does not end by itself.
fn bury(child: Pid, until: Instant) -> Option<WaitStatus> {
    let left = until.saturating_duration_since(Instant::now());
    let ended = rustix::process::Pid::from_raw(child.as_raw())
        .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok())
        .is_none_or(|pidfd| readable(&pidfd, Instant::now() + left));
    if !ended {
        let _ = kill(child, Signal::SIGKILL);
    }
    let status = waitpid(child, None).ok();
    status.filter(|_| ended)
}
