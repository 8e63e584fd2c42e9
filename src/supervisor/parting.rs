//! Where connections of strangers are closed: never on the supervisor's loop, never on an accept thread.
//!
//! Closing a connection drops the descriptors that were sent and not received, and that can block for
//! as long as their sender likes (SO_LINGER, a FUSE flush). So each uid that needs it has one closing
//! thread with a queue: a hostile uid waits for itself.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Closing needs hardly any stack.
const STACK: usize = 64 * 1024;
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

    /// Closes `connection` of `uid`, soon and elsewhere. Only where the uid has filled its whole queue
    /// with connections that do not close does it happen here.
    pub(super) fn close(&self, uid: u32, connection: OwnedFd) {
        let mut queues = lock(&self.queues);
        let queue = queues.entry(uid).or_default();
        if queue.waiting.len() >= self.most {
            drop(queues);
            drop(connection);
            return;
        }
        queue.waiting.push_back(connection);
        if !queue.attended {
            queue.attended = self.attend(uid);
        }
    }

    fn attend(&self, uid: u32) -> bool {
        let queues = self.queues.clone();
        let thread = std::thread::Builder::new().name("parting".into()).stack_size(STACK);
        // Where no thread can be made the queue stays and the next connection tries again.
        thread
            .spawn(move || {
                while let Some(connection) = next(&queues, uid) {
                    drop(connection)
                }
            })
            .is_ok()
    }
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
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_handed_in_is_closed_elsewhere() {
        let (near, mut far) = UnixStream::pair().expect("a pair");
        Parting::new().close(1, near.into());
        assert_eq!(far.read(&mut [0]).expect("end of file"), 0);
    }
}
