//! Starts every other role by executing this very binary again, and sends it what it is born with.
//!
//! posix_spawn semantics (no `pre_exec`), an empty environment, an argv that says nothing but the role,
//! and a descriptor of the binary from our own start, so that an upgrade on disk mixes no versions.
//! Called on the loop's thread alone: it lives as long as the process, and it is the one that reaps, so
//! a pid cannot be taken by another process before its pidfd is held.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::net::SendFlags;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::sys;
use crate::wire::Birth;

/// Our own binary, as it was at our start, and the processes that are known to come from it.
#[derive(Debug)]
pub(super) struct Binary {
    program: OwnedFd,
    /// Where it was; another one may be there by now.
    path: PathBuf,
    /// What was our child before we started anything, and what we started since.
    known: RefCell<BTreeSet<i32>>,
}

/// A process that was just started.
#[derive(Debug)]
pub(super) struct Born {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
}

impl Binary {
    /// Opens it (O_PATH).
    pub(super) fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let program = rustix::fs::open("/proc/self/exe", flags, Mode::empty())?;
        let path = without_mark(std::env::current_exe()?);
        let known = crate::sandbox::children().into_iter().map(nix::unistd::Pid::as_raw).collect();
        Ok(Self { program, path, known: RefCell::new(known) })
    }

    /// Where it was at our start, and where an upgrade puts the next one.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the program that is there now for its version. What it says comes on the pipe.
    pub(super) fn try_out(&self) -> io::Result<(Born, io::PipeReader)> {
        let (said, says) = io::pipe()?;
        let child = Command::new(&self.path)
            .arg("--version")
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::from(OwnedFd::from(says)))
            .stderr(Stdio::null())
            .spawn()?;
        Ok((self.born(child.id())?, said))
    }

    /// Takes hold of a child that was just started.
    fn born(&self, pid: u32) -> io::Result<Born> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        self.known.borrow_mut().insert(pid);
        let known = Pid::from_raw(pid).ok_or_else(|| io::Error::other("pid 0"))?;
        Ok(Born { pid, pidfd: pidfd_open(known, PidfdFlags::empty())? })
    }

    /// Whether this child of ours was started by us: others are orphans of what we started.
    pub(super) fn knows(&self, pid: i32) -> bool {
        self.known.borrow().contains(&pid)
    }

    /// A child was buried: its number may come to mean another process.
    pub(super) fn forget(&self, pid: i32) {
        self.known.borrow_mut().remove(&pid);
    }

    /// Starts a role in its control group, each of whose `seat` files takes its number: before it is told
    /// anything. What it writes to stderr before it has anything better goes to `log`.
    pub(super) fn start(
        &self,
        birth: &Birth,
        descriptors: &[BorrowedFd<'_>],
        log: &File,
        seat: &[PathBuf],
    ) -> io::Result<Born> {
        let (near, far) = sys::seqpacket_pair()?;
        let role = match birth {
            Birth::Mux => "--role=mux",
            Birth::Stage => "--role=stage",
            Birth::Egress => "--role=egress",
            Birth::Credential => "--role=credential",
        };
        let child = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()))
            .arg0("tenantd")
            .arg(role)
            .env_clear()
            // A backtrace opens files, which no role may.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::from(far))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log.try_clone()?))
            .spawn()?;
        let born = self.born(child.id())?;
        let bytes = serde_json::to_vec(birth)?;
        let told = sit_down(born.pid, seat)
            .and_then(|()| sys::send_datagram(&near, &bytes, descriptors, SendFlags::DONTWAIT));
        if let Err(error) = told {
            kill(&born.pidfd);
            return Err(error);
        }
        Ok(born)
    }
}

/// Moves a process that waits for its birth. It starts where the supervisor is.
fn sit_down(pid: i32, seat: &[PathBuf]) -> io::Result<()> {
    seat.iter().try_for_each(|procs| {
        std::fs::write(procs, pid.to_string()).map_err(|error| {
            io::Error::other(format!("{} takes no process: {error}", procs.display()))
        })
    })
}

/// The kernel marks the path of a program whose file was removed or replaced (proc(5), /proc/PID/exe).
fn without_mark(path: PathBuf) -> PathBuf {
    let text = path.as_os_str().as_bytes();
    match text.strip_suffix(b" (deleted)") {
        Some(before) if !path.exists() => PathBuf::from(OsStr::from_bytes(before)),
        _ => path,
    }
}

/// SIGKILL.
pub(super) fn kill(pidfd: &OwnedFd) {
    // A process that has ended already is as dead as wished.
    let _ = pidfd_send_signal(pidfd, Signal::KILL);
}
