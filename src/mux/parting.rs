//! Where the sockets of clients are closed: never on the thread that serves every session.
//!
//! What a client sent to a socket and nobody received is dropped with it, and dropping a descriptor can
//! block for as long as its sender likes (SO_LINGER). The threads are there before the first session is:
//! a mux makes none later. Those sockets that hold something unread are closed by one of their own, so
//! that others do not wait for them.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use rustix::net::RecvFlags;

/// Closing needs hardly any stack.
const STACK: usize = 64 * 1024;

/// Who closes. Unbounded: what waits is open descriptors, of which a process has a bounded number.
struct Closers {
    clean: Sender<OwnedFd>,
    unread: Sender<OwnedFd>,
}

static CLOSERS: OnceLock<Closers> = OnceLock::new();

/// Starts the threads, once, and waits until they run: what a thread calls at its start is forbidden soon.
pub(super) fn start() -> io::Result<()> {
    let closers = Closers { clean: closer("clean")?, unread: closer("unread")? };
    // Who comes second finds the first.
    let _ = CLOSERS.set(closers);
    Ok(())
}

fn closer(name: &str) -> io::Result<Sender<OwnedFd>> {
    let (sender, sockets) = channel::<OwnedFd>();
    let thread = std::thread::Builder::new().name(name.into()).stack_size(STACK);
    let (ready, runs) = channel();
    thread.spawn(move || {
        // A message is its first allocation too, and the heap that it gets for that.
        let _ = ready.send(());
        sockets.into_iter().for_each(drop);
    })?;
    runs.recv().map_err(io::Error::other)?;
    Ok(sender)
}

/// Closes a socket, soon and elsewhere.
pub(super) fn close(socket: OwnedFd) {
    let Some(closers) = CLOSERS.get() else { return };
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let unread = rustix::net::recv(&socket, &mut [0_u8; 1][..], flags);
    let closer = match unread {
        Ok((1.., _)) => &closers.unread,
        _ => &closers.clean,
    };
    // The threads live as long as the process.
    let _ = closer.send(socket);
}

/// Closes what a client sent beside its bytes: nobody wants it.
pub(super) fn close_unread(descriptor: OwnedFd) {
    if let Some(closers) = CLOSERS.get() {
        // As above.
        let _ = closers.unread.send(descriptor);
    }
}
