//! A server child comes to be: its pipes, its lifeline, its stage.
//!
//! On the loop, which is the one that starts processes ([`spawn`](super::spawn)). Nothing here is kept.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use super::child::Prepared;
use super::spawn::{Binary, Born};
use crate::post;
use crate::sys;
use crate::wire::Birth;
use crate::wire::stage::StagePlan;

/// A started child, with what the mux gets of it.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) born: Born,
    pub(super) program: String,
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
    lifeline: OwnedFd,
}

impl Delivered {
    /// Stdin, stdout, stderr and lifeline, for who talks to the child without a mux.
    pub(super) fn into_ends(self) -> [OwnedFd; 4] {
        [self.stdin, self.stdout, self.stderr, self.lifeline]
    }

    /// In the order of [`ToMux::Started`](crate::wire::ToMux::Started).
    pub(super) fn into_descriptors(self) -> Vec<OwnedFd> {
        vec![self.stdin, self.stdout, self.stderr, self.lifeline, self.born.pidfd]
    }
}

/// Starts the stage, which begins where the mux is: there its keeper stays. `doors` is where egress takes
/// listeners. The server's ends block, as programs expect; the mux's ends do not.
pub(super) fn birth(
    binary: &Binary,
    prepared: &Prepared,
    doors: Option<OwnedFd>,
    log: &File,
    mux: &[PathBuf],
) -> io::Result<Delivered> {
    let plan = StagePlan { seat: prepared.seat.clone(), ..prepared.plan.clone() };
    let plan = post::seal(&plan).map_err(io::Error::other)?;
    let (stdin, feed) = pipe()?;
    let (stdout, out) = pipe()?;
    let (stderr, err) = pipe()?;
    let (lifeline, leash) = sys::seqpacket_pair()?;
    for ours in [&feed, &stdout, &stderr, &leash] {
        rustix::io::ioctl_fionbio(ours, true)?;
    }
    let mut theirs = vec![
        plan.as_fd(),
        stdin.as_fd(),
        out.as_fd(),
        err.as_fd(),
        lifeline.as_fd(),
        prepared.data.as_fd(),
    ];
    theirs.extend(doors.as_ref().map(AsFd::as_fd));
    theirs.extend(prepared.handover.as_ref().map(|handover| handover.reads.as_fd()));
    let born = binary.start(&Birth::Stage, &theirs, log, mux)?;
    let program = prepared.program.clone();
    Ok(Delivered { born, program, stdin: feed, stdout, stderr, lifeline: leash })
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}
