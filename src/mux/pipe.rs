//! Non-blocking reads and writes on what the supervisor handed over.
//!
//! A pipe is a description of our own (reopened by the supervisor) and has O_NONBLOCK; a socket is
//! shared with its client, who could clear any flag of it, so every call on one says MSG_DONTWAIT. What
//! descriptors a client sends through it are received and not dropped here, and it is closed elsewhere.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use super::parting;
use crate::sys;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Which calls a descriptor takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Pipe,
    Socket,
}

fn sort(fd: impl AsFd) -> io::Result<Sort> {
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode);
    Ok(if kind == rustix::fs::FileType::Socket { Sort::Socket } else { Sort::Pipe })
}

/// A descriptor that the runtime watches, until its drop closes it: a socket elsewhere.
#[derive(Debug)]
pub(super) struct Watched {
    fd: Option<AsyncFd<OwnedFd>>,
    sort: Sort,
}

impl Watched {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let sort = sort(&fd)?;
        if sort == Sort::Socket {
            // A byte out of band that is passed over by a read is dropped by it, with its descriptors.
            rustix::net::sockopt::set_socket_oobinline(&fd, true)?;
        }
        Ok(Self { fd: Some(sys::watch(fd)?), sort })
    }

    pub(super) fn get(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        self.fd.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            match self.sort {
                Sort::Pipe => drop(fd),
                Sort::Socket => parting::close(fd.into_inner()),
            }
        }
    }
}

/// The most descriptors that one message can bring (SCM_MAX_FD of the kernel, unix(7)).
const RIGHTS_MAX: usize = 253;

/// Reads once. Descriptors that came with it are received, all of them, because what does not fit is
/// dropped here and that can block; they are closed elsewhere.
fn receive(socket: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RIGHTS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = recvmsg(socket, &mut [io::IoSliceMut::new(buffer)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptors.for_each(parting::close_unread);
        }
    }
    Ok(got.bytes)
}

/// What a read or write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// So many bytes.
    Some(usize),
    /// Nothing now.
    Blocked,
    /// Nothing ever again.
    Over,
}

/// Where bytes come from.
#[derive(Debug)]
pub(super) struct Input(Watched);

impl Input {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(Watched::new(fd)?))
    }

    /// Waits until there may be something, then reads once with `read`.
    pub(super) async fn turn(&self, read: impl FnOnce(&Self) -> (Turn, usize)) -> Turn {
        let Ok(fd) = self.0.get() else { return Turn::Over };
        let Ok(mut ready) = fd.readable().await else { return Turn::Over };
        let (turn, room) = read(self);
        // A pipe that gave less than asked for is empty (epoll(7), edge-triggered): no second read.
        let emptied = matches!(turn, Turn::Some(got) if got < room) && self.0.sort == Sort::Pipe;
        if emptied || turn == Turn::Blocked {
            ready.clear_ready();
        }
        turn
    }

    /// Reads once.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Turn {
        let Ok(fd) = self.0.get() else { return Turn::Over };
        let got = match self.0.sort {
            Sort::Pipe => rustix::io::read(fd, &mut *buffer),
            Sort::Socket => receive(fd, buffer),
        };
        match got {
            Ok(0) => Turn::Over,
            Ok(got) => Turn::Some(got),
            Err(error) => blocked_or_over(error),
        }
    }
}

fn blocked_or_over(error: Errno) -> Turn {
    match error {
        Errno::AGAIN | Errno::INTR => Turn::Blocked,
        _ => Turn::Over,
    }
}

/// Where bytes go.
#[derive(Debug)]
pub(super) struct Output {
    watched: Watched,
    /// The last write found no room; the writer task waits for it.
    pub(super) blocked: Cell<bool>,
    /// Wakes the writer task.
    pub(super) wake: Notify,
}

impl Output {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let watched = Watched::new(fd)?;
        Ok(Self { watched, blocked: Cell::new(false), wake: Notify::new() })
    }

    /// Writes once.
    pub(super) fn write(&self, bytes: &[u8]) -> Turn {
        let Ok(fd) = self.watched.get() else { return Turn::Over };
        let done = match self.watched.sort {
            Sort::Pipe => rustix::io::write(fd, bytes),
            Sort::Socket => rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        };
        match done {
            Ok(done) => Turn::Some(done),
            Err(error) => blocked_or_over(error),
        }
    }

    /// Waits for room, then lets `write` use it; it says whether there is none left.
    pub(super) async fn turn(&self, write: impl FnOnce() -> Turn) -> Turn {
        let Ok(fd) = self.watched.get() else { return Turn::Over };
        let Ok(mut ready) = fd.writable().await else { return Turn::Over };
        let turn = write();
        if turn == Turn::Blocked {
            ready.clear_ready();
        }
        turn
    }
}
