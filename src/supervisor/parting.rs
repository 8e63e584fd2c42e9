//! Where connections of strangers are closed: never on the supervisor's loop, never on an accept thread.
//!
//! Closing a connection drops the descriptors that were sent and not received, and that can block for
//! as long as their sender likes (SO_LINGER, a FUSE flush). So each uid that needs it has one closing
//! thread with a queue: a hostile uid waits for itself. What does not fit into its queue goes to a process
//! that ends at once: closing never waits in a process that ends (inet_release() in the kernel does not
//! linger there, and nothing is flushed that was never received).
//!
//! What was sent is received first: closing a connection with something unread takes our answer from
//! its peer (ECONNRESET before the data).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{RecvFlags, SendFlags};

use crate::sys;

/// Closing needs hardly any stack.
const STACK: usize = 64 * 1024;
/// How much of what was sent is received; who sends more gets no answer.
const UNREAD_MAX: usize = 16;
/// The share of our descriptors that one uid's connections may hold while they wait to be closed.
const SHARE: u64 = 8;
/// The most connections of one uid that wait, where descriptors are plenty. The kernel lets a user
/// have no more descriptors in flight than its own RLIMIT_NOFILE, so few get here.
const WAITING_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<OwnedFd>,
    attended: bool,
}

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Parting {
    queues: Arc<Mutex<BTreeMap<u32, Queue>>>,
    most: usize,
}

impl Parting {
    pub(super) fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let share = usize::try_from(limit.unwrap_or(u64::MAX) / SHARE).unwrap_or(WAITING_MAX);
        Self { queues: Arc::default(), most: share.clamp(16, WAITING_MAX) }
    }

    /// Closes `connection` of `uid`, soon and elsewhere, never here.
    pub(super) fn close(&self, uid: u32, connection: OwnedFd) {
        if self.queue(uid, VecDeque::from([connection])) <= self.most {
            return;
        }
        let mut surplus = self.latest(uid);
        if let Err(error) = abandon(&mut surplus) {
            tracing::warn!(uid, "connections that do not close are kept for now: {error}");
        }
        // What could not be given away waits with the rest: too many is better than a door that hangs.
        if !surplus.is_empty() {
            self.queue(uid, surplus);
        }
    }

    /// Queues connections; says how many wait.
    fn queue(&self, uid: u32, mut connections: VecDeque<OwnedFd>) -> usize {
        let mut queues = lock(&self.queues);
        let queue = queues.entry(uid).or_default();
        queue.waiting.append(&mut connections);
        let waiting = queue.waiting.len();
        if !queue.attended {
            queue.attended = self.attend(uid);
        }
        waiting
    }

    /// Takes back what came last, half of what may wait.
    fn latest(&self, uid: u32) -> VecDeque<OwnedFd> {
        let mut queues = lock(&self.queues);
        let Some(queue) = queues.get_mut(&uid) else { return VecDeque::new() };
        let from = queue.waiting.len().min(self.most / 2);
        queue.waiting.split_off(from)
    }

    fn attend(&self, uid: u32) -> bool {
        let queues = self.queues.clone();
        let thread = std::thread::Builder::new().name("parting".into()).stack_size(STACK);
        let work = move || {
            while let Some(connection) = next(&queues, uid) {
                farewell(&connection);
            }
        };
        // Where no thread can be made the queue stays and the next connection tries again.
        thread.spawn(work).is_ok()
    }
}

/// Receives what was sent, and drops it.
fn farewell(connection: &OwnedFd) {
    let mut buffer = [0; 4096];
    for _ in 0..UNREAD_MAX {
        match sys::receive_datagram(connection, &mut buffer, RecvFlags::DONTWAIT) {
            Ok(got) if got.bytes > 0 => {}
            _ => return,
        }
    }
}

/// Gives connections to a process that ends without having received them, as many as it takes. Each is
/// sent before it is closed here, so that this close is not the last.
fn abandon(connections: &mut VecDeque<OwnedFd>) -> io::Result<()> {
    let (wait, waits) = sys::seqpacket_pair()?;
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    // Our own program in a role that waits for its birth, and ends when that does not come.
    let spawned = Command::new("/proc/self/exe")
        .arg("--role=mux")
        .env_clear()
        .stdin(Stdio::from(waits))
        .stdout(Stdio::from(OwnedFd::from(far)))
        .stderr(Stdio::null())
        .spawn();
    // The loop buries it, like every child.
    spawned?;
    let mut kept = VecDeque::new();
    for connection in connections.drain(..) {
        let with = [connection.as_fd()];
        if sys::send_datagram(&near, b"x", &with, SendFlags::DONTWAIT).is_err() {
            kept.push_back(connection);
        }
    }
    *connections = kept;
    drop(wait);
    Ok(())
}

fn next(queues: &Mutex<BTreeMap<u32, Queue>>, uid: u32) -> Option<OwnedFd> {
    let mut queues = lock(queues);
    let connection = queues.get_mut(&uid)?.waiting.pop_front();
    if connection.is_none() {
        queues.remove(&uid);
    }
    connection
}

/// No code panics between two changes, so the queues are whole even in a poisoned lock.
fn lock(queues: &Mutex<BTreeMap<u32, Queue>>) -> MutexGuard<'_, BTreeMap<u32, Queue>> {
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags};
    use rustix::net::SendFlags;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_last_answer_reaches_a_peer_that_was_never_read() {
        let (near, far) = sys::seqpacket_pair().expect("a pair");
        sys::send_datagram(&far, b"please", &[], SendFlags::empty()).expect("sent");
        sys::send_datagram(&near, b"no", &[], SendFlags::empty()).expect("sent");
        let (parting, mut buffer) = (Parting::new(), [0; 8]);
        parting.close(1, near);
        rustix::event::poll(&mut [PollFd::new(&far, PollFlags::HUP)], None).expect("closed");
        let got = sys::receive_datagram(&far, &mut buffer, RecvFlags::empty()).expect("an answer");
        assert_eq!(&buffer[..got.bytes], b"no");
    }

    #[test]
    fn what_is_handed_in_is_closed_elsewhere() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        Parting::new().close(1, near.into());
        assert_eq!(far.read(&mut [0]).expect("end of file"), 0);
    }
}
