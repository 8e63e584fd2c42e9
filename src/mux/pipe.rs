//! Non-blocking reads and writes on what the supervisor handed over.
//!
//! A pipe is a description of our own (reopened by the supervisor) and has O_NONBLOCK; a socket is
//! shared with its client, who could clear any flag of it, so every call on one says MSG_DONTWAIT.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::sys;
use rustix::net::{RecvFlags, SendFlags};
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
pub(super) struct Input {
    fd: AsyncFd<OwnedFd>,
    sort: Sort,
}

impl Input {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let sort = sort(&fd)?;
        Ok(Self { fd: sys::watch(fd)?, sort })
    }

    /// Waits until there may be something, then reads once with `read`.
    pub(super) async fn turn(&self, read: impl FnOnce(&Self) -> (Turn, usize)) -> Turn {
        let Ok(mut ready) = self.fd.readable().await else { return Turn::Over };
        let (turn, room) = read(self);
        // A pipe that gave less than asked for is empty (epoll(7), edge-triggered): no second read.
        let emptied = matches!(turn, Turn::Some(got) if got < room) && self.sort == Sort::Pipe;
        if emptied || turn == Turn::Blocked {
            ready.clear_ready();
        }
        turn
    }

    /// Reads once.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Turn {
        let got = match self.sort {
            Sort::Pipe => rustix::io::read(&self.fd, &mut *buffer),
            Sort::Socket => {
                rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::DONTWAIT).map(|(got, _)| got)
            }
        };
        match got {
            Ok(0) => Turn::Over,
            Ok(got) => Turn::Some(got),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Turn::Blocked,
            Err(_) => Turn::Over,
        }
    }
}

/// Where bytes go.
#[derive(Debug)]
pub(super) struct Output {
    fd: AsyncFd<OwnedFd>,
    sort: Sort,
    /// The last write found no room; the writer task waits for it.
    pub(super) blocked: Cell<bool>,
    /// Wakes the writer task.
    pub(super) wake: Notify,
}

impl Output {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        let sort = sort(&fd)?;
        let fd = sys::watch(fd)?;
        Ok(Self { fd, sort, blocked: Cell::new(false), wake: Notify::new() })
    }

    /// Writes once.
    pub(super) fn write(&self, bytes: &[u8]) -> Turn {
        let done = match self.sort {
            Sort::Pipe => rustix::io::write(&self.fd, bytes),
            Sort::Socket => {
                rustix::net::send(&self.fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
        };
        match done {
            Ok(done) => Turn::Some(done),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Turn::Blocked,
            Err(_) => Turn::Over,
        }
    }

    /// Waits for room, then lets `write` use it; it says whether there is none left.
    pub(super) async fn turn(&self, write: impl FnOnce() -> Turn) -> Turn {
        let Ok(mut ready) = self.fd.writable().await else { return Turn::Over };
        let turn = write();
        if turn == Turn::Blocked {
            ready.clear_ready();
        }
        turn
    }
}
