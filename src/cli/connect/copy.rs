//! Stdin and stdout as the door takes them: a pipe of ours or a stream socket as it is, anything else (a
//! terminal, a file, another user's pipe) replaced by a pipe that a thread copies.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::JoinHandle;

use rustix::fs::{FileType, OFlags};
use rustix::net::{AddressFamily, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};

/// One direction.
enum Side {
    /// Handed over as it is.
    Own(OwnedFd),
    /// A pipe's end to hand over, its other end, and what that is copied from or to.
    Copied { hand_over: OwnedFd, keep: OwnedFd, real: OwnedFd },
}

impl Side {
    fn hand_over(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) | Self::Copied { hand_over: fd, .. } => fd.as_fd(),
        }
    }
}

/// Both directions, before the session is open.
pub(super) struct Bridge {
    stdin: Side,
    stdout: Side,
}

/// The threads that copy.
pub(super) struct Copied {
    stdout: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Looks at stdin and stdout.
    pub(super) fn build() -> io::Result<Self> {
        let (real_in, real_out) = super::own_stdio()?;
        let stdin = if fits(&real_in, OFlags::WRONLY) {
            Side::Own(real_in)
        } else {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            Side::Copied { hand_over: read, keep: write, real: real_in }
        };
        let stdout = if fits(&real_out, OFlags::RDONLY) {
            Side::Own(real_out)
        } else {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            Side::Copied { hand_over: write, keep: read, real: real_out }
        };
        Ok(Self { stdin, stdout })
    }

    pub(super) fn stdin(&self) -> BorrowedFd<'_> {
        self.stdin.hand_over()
    }

    pub(super) fn stdout(&self) -> BorrowedFd<'_> {
        self.stdout.hand_over()
    }

    /// The descriptors are with the mux: lets go of them, and copies where it must.
    pub(super) fn start(self) -> Copied {
        // Without /dev/null the client would not see the end of stdout before this process ends.
        let _ = super::let_go();
        if let Side::Copied { keep, real, .. } = self.stdin {
            std::thread::spawn(move || copy(real, keep));
        }
        let stdout = match self.stdout {
            Side::Copied { keep, real, .. } => Some(std::thread::spawn(move || copy(keep, real))),
            Side::Own(_) => None,
        };
        Copied { stdout }
    }
}

impl Copied {
    /// Waits until everything that the mux wrote has arrived.
    pub(super) fn finish(self) {
        if let Some(thread) = self.stdout {
            // It ends with the pipe, which the mux has closed.
            let _ = thread.join();
        }
    }
}

fn copy(from: OwnedFd, to: OwnedFd) {
    // Either side's end is the end of the copy.
    let _ = io::copy(&mut File::from(from), &mut File::from(to));
}

/// Whether the door takes this descriptor for a use that must not be open as `never` alone.
fn fits(fd: &OwnedFd, never: OFlags) -> bool {
    let Ok(stat) = rustix::fs::fstat(fd) else { return false };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => {
            let link = rustix::fs::readlink(own_link(fd), Vec::new());
            let anonymous = link.is_ok_and(|link| link.as_bytes().starts_with(b"pipe:["));
            let mode = rustix::fs::fcntl_getfl(fd).map(|flags| flags & OFlags::ACCMODE);
            // The supervisor opens it anew, which the kernel allows to the pipe's owner (after sudo -u
            // it is somebody else's).
            let ours = stat.st_uid == nix::unistd::geteuid().as_raw();
            anonymous && ours && mode.is_ok_and(|mode| mode != never)
        }
        FileType::Socket => {
            use rustix::net::sockopt;
            sockopt::socket_domain(fd).is_ok_and(|domain| domain == AddressFamily::UNIX)
                && sockopt::socket_type(fd).is_ok_and(|kind| kind == SocketType::STREAM)
        }
        _ => false,
    }
}

fn own_link(fd: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}
