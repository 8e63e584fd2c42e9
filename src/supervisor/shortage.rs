//! What the doors do when this process or the machine has no descriptors left: give up one that was kept
//! for this, accept a connection with it, and turn that away. Otherwise those who knock would wait, and
//! the listener would be ready for ever.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;

/// How long to wait before the next connection is turned away: whoever holds the descriptors needs time
/// to give them back.
pub(super) const BREATH: Duration = Duration::from_millis(100);

/// Whether accept(2) failed for want of descriptors or memory.
pub(super) fn is_shortage(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}

/// A descriptor that is kept to be given up.
#[derive(Debug)]
pub(super) struct Spare(Option<OwnedFd>);

impl Spare {
    pub(super) fn new() -> Self {
        Self(open())
    }

    /// Gives it up and accepts one connection in its place.
    pub(super) fn accept(
        &mut self,
        accept: impl FnOnce() -> Result<OwnedFd, Errno>,
    ) -> Option<OwnedFd> {
        self.0 = None;
        accept().ok()
    }

    /// Takes another one, if it was given up and there is one.
    pub(super) fn renew(&mut self) {
        if self.0.is_none() {
            self.0 = open();
        }
    }
}

fn open() -> Option<OwnedFd> {
    let opened: io::Result<_> = std::fs::File::open("/dev/null");
    opened.ok().map(OwnedFd::from)
}
