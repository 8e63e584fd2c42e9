//! Limits: whether they can be raised, and whether those that are claimed hold.

use std::os::fd::{AsFd as _, OwnedFd};

use nix::fcntl::{FallocateFlags, OFlag, fallocate, open};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;

use super::attempt::{Attempt, deed, with, word};
use super::{Probe, probe};
use crate::sys::{self, Forked};

/// How far beyond a limit of processes is tried; a server may have some already, its limit counts them.
const BEYOND: u32 = 8;
/// The largest limit of processes that is tried: each costs a fork.
pub(super) const PROCESSES: u32 = 2048;
/// The largest limit of descriptors that is tried.
const DESCRIPTORS: u32 = 1 << 16;
/// How far beyond its size /tmp is filled, bytes.
const MORE: u64 = 1 << 20;
/// The largest /tmp that is tried to be filled, bytes.
const TMP: u64 = 4 << 30;
/// What everybody may lock in memory, bytes: the kernel's default (MLOCK_LIMIT).
const LOCKED: u64 = 8 << 20;

pub(super) const PROBES: &[Probe] =
    &[
        probe("limits.core", "core dumps are switched on", "setrlimit RLIMIT_CORE", |_| {
            let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap_or_default();
            let raised = setrlimit(Resource::RLIMIT_CORE, 1 << 20, hard.max(1 << 20));
            deed(raised)
        }),
        probe(
            "limits.descriptors-raised",
            "the limit of descriptors is raised",
            "setrlimit RLIMIT_NOFILE",
            |_| {
                let raised = getrlimit(Resource::RLIMIT_NOFILE)
                    .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard + 1, hard + 1));
                deed(raised)
            },
        ),
        probe("limits.locked", "much memory is locked", "getrlimit RLIMIT_MEMLOCK", |_| {
            match getrlimit(Resource::RLIMIT_MEMLOCK) {
                Ok((_, hard)) => Attempt::open_if(hard > LOCKED, format!("{hard} bytes")),
                Err(error) => Attempt::failed(word(&error.into())),
            }
        }),
        probe("limits.descriptors", "more descriptors are opened than allowed", "dup", |s| {
            let most = s.brief.open_files_max.filter(|most| *most <= DESCRIPTORS);
            with(most, "the limit of descriptors", descriptors)
        }),
        probe("limits.processes", "more processes are started than allowed", "fork", |s| {
            let most = s.brief.processes_max.filter(|most| *most <= PROCESSES);
            with(most, "the limit of processes", processes)
        }),
        probe("limits.memory", "one process takes more memory than allowed", "mmap", |s| {
            with(s.brief.memory_max, "a limit of a process's own memory", memory)
        }),
        probe("limits.tmp", "/tmp is filled beyond its size", "fallocate", |s| {
            with(s.brief.tmp_bytes.filter(|bytes| *bytes <= TMP), "the size of /tmp", tmp)
        }),
    ];

/// All are closed with the probe's process.
fn descriptors(most: u32) -> Attempt {
    let mut held: Vec<OwnedFd> = Vec::new();
    let stdin = std::io::stdin();
    while held.len() <= most as usize {
        match stdin.as_fd().try_clone_to_owned() {
            Ok(copy) => held.push(copy),
            Err(error) => {
                return Attempt::blocked(format!("{} after {}", word(&error), held.len()));
            }
        }
    }
    Attempt::open(format!("{} are open", held.len()))
}

/// Starts processes that wait, until one is refused; then all end with the pipe that they wait at.
pub(super) fn processes(most: u32) -> Attempt {
    let Ok((waits, ends)) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) else {
        return Attempt::failed("no pipe");
    };
    let mut started = 0;
    let mut refused = None;
    while started < most + BEYOND && refused.is_none() {
        match sys::fork_single_threaded() {
            Ok(Forked::Child) => {
                drop(ends);
                let _ = rustix::io::read(&waits, &mut [0; 1]);
                // Its word would be mixed with its parent's, so it has none.
                let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGKILL);
                return Attempt::failed("unreachable");
            }
            Ok(Forked::Parent(_)) => started += 1,
            Err(error) => refused = Some(word(&error)),
        }
    }
    drop(ends);
    while waitpid(None, None).is_ok() {}
    match refused {
        Some(error) => Attempt::blocked(format!("{error} after {started}")),
        None => Attempt::open(format!("{started} ran")),
    }
}

/// Asked for and not touched, so that nobody else goes short.
fn memory(most: u64) -> Attempt {
    let mut taken: Vec<u8> = Vec::new();
    let refused = usize::try_from(most + MORE).map(|bytes| taken.try_reserve_exact(bytes).is_err());
    match refused {
        Ok(refused) => Attempt::open_if(!refused, format!("{} bytes", taken.capacity())),
        Err(_) => Attempt::failed("the limit is too high to be tried"),
    }
}

/// A file without a name, gone with the probe's process.
fn tmp(bytes: u64) -> Attempt {
    let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let size = i64::try_from(bytes + MORE).unwrap_or(i64::MAX);
    let filled = open("/tmp", flags, Mode::S_IRUSR | Mode::S_IWUSR)
        .and_then(|file| fallocate(file, FallocateFlags::empty(), 0, size));
    deed(filled)
}
