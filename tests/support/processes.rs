//! Who descends from whom, so that a test can say that nothing was left behind.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::session::readable;

/// A process held by a pidfd: its number cannot come to mean another one.
pub(crate) struct Held {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pidfd: OwnedFd,
}

impl Held {
    /// Takes hold of a process; `None` if it is gone.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).ok()?;
        Some(Self { pid, name: stat(pid)?.1, pidfd })
    }

    /// Whether the process ends within this time.
    pub(crate) fn ends_within(&self, within: Duration) -> bool {
        readable(&self.pidfd, Instant::now() + within)
    }

    /// Sends SIGKILL.
    pub(crate) fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }
}

/// Parent and name of a process, from /proc/PID/stat (proc(5)): `pid (name) state parent ...`.
fn stat(pid: u32) -> Option<(u32, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, rest) = text.rsplit_once(')')?;
    let name = start.split_once('(')?.1.to_owned();
    Some((rest.split_whitespace().nth(1)?.parse().ok()?, name))
}

fn pids() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Every descendant of a process, each held.
pub(crate) fn descendants(of: u32) -> Vec<Held> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for pid in pids() {
        if let Some((parent, _)) = stat(pid) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![of];
    while let Some(pid) = next.pop() {
        let born = children.remove(&pid).unwrap_or_default();
        found.extend(born.iter().filter_map(|pid| Held::of(*pid)));
        next.extend(born);
    }
    found
}

/// The process below `ancestor` that a server inside a pid namespace calls by this number, of itself or of
/// a child. One namespace must be below: in each of several there may be one (pid_namespaces(7)).
pub(crate) fn known_inside_as(number: u32, ancestor: u32) -> Option<Held> {
    let is_it = |held: &Held| numbers(held.pid).is_some_and(|numbers| numbers == (1, number));
    descendants(ancestor).into_iter().find(is_it)
}

/// How many pid namespaces below ours a process is in, and its number in the innermost: the line `NSpid` of
/// /proc/PID/status (proc_pid_status(5)), outermost first.
fn numbers(pid: u32) -> Option<(usize, u32)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let numbers: Vec<u32> = line.split_whitespace().filter_map(|one| one.parse().ok()).collect();
    Some((numbers.len().checked_sub(1)?, *numbers.last()?))
}

/// Every process whose working directory or environment names a path at or below `root`.
pub(crate) fn working_below(root: &Path) -> Vec<Held> {
    let text = root.to_str().expect("a path of UTF-8").as_bytes();
    let below = |pid: &u32| {
        let here = std::fs::read_link(format!("/proc/{pid}/cwd"));
        let named = std::fs::read(format!("/proc/{pid}/environ"));
        here.is_ok_and(|path| path.starts_with(root))
            || named.is_ok_and(|bytes| memchr::memmem::find(&bytes, text).is_some())
    };
    let others = pids().into_iter().filter(|pid| *pid != std::process::id());
    others.filter(below).filter_map(Held::of).collect()
}

/// Says which of the processes still live after this time; kills them.
pub(crate) fn left_after(held: Vec<Held>, within: Duration) -> Vec<String> {
    let deadline = Instant::now() + within;
    let left = |process: &Held| !readable(&process.pidfd, deadline);
    let stubborn: Vec<_> = held.into_iter().filter(left).collect();
    stubborn.iter().for_each(Held::kill);
    stubborn.iter().map(|process| format!("{} ({})", process.pid, process.name)).collect()
}
