//! What a stranger hands over at the session door: exactly three descriptors, each looked at before use.
//!
//! Runs on a door thread alone, because dropping any of them can block. A pipe is opened anew through
//! /proc/self/fd, so that what the mux gets is a description of its own that no client can change; a
//! socket has no such thing, so there the mux relies on no flag.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// What a descriptor is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Stdin,
    Stdout,
    Lifeline,
}

impl Use {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Lifeline => "lifeline",
        }
    }
}

/// Why the descriptors are not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandError {
    /// Not three.
    #[error("a session is opened with 3 descriptors (stdin, stdout, lifeline), not {0}")]
    Count(usize),
    /// Neither pipe nor socket, or not the one that is needed.
    #[error(
        "{0} is {1}; only an anonymous pipe or a connected unix stream socket can be handed over"
    )]
    Kind(&'static str, &'static str),
    /// The lifeline is no socket.
    #[error("lifeline is {0}; it must be one end of a unix stream socket pair")]
    Lifeline(&'static str),
    /// A read end given as stdout, or a write end as stdin.
    #[error("{0} is the {1} end of a pipe (hand over the other end)")]
    WrongEnd(&'static str, &'static str),
    /// The system refused.
    #[error("{0} cannot be opened anew: {1} (hand over a pipe that your user made)")]
    Reopen(&'static str, #[source] io::Error),
}

/// The descriptors that are passed on.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) lifeline: OwnedFd,
}

impl Hand {
    /// Looks at what came.
    pub(super) fn check(descriptors: Vec<OwnedFd>) -> Result<Self, HandError> {
        let count = descriptors.len();
        let three: Result<[OwnedFd; 3], _> = descriptors.try_into();
        let [stdin, stdout, lifeline] = three.map_err(|_| HandError::Count(count))?;
        Ok(Self {
            stdin: check(stdin, Use::Stdin)?,
            stdout: check(stdout, Use::Stdout)?,
            lifeline: check(lifeline, Use::Lifeline)?,
        })
    }

    /// In the order of the wire.
    pub(super) fn borrow(&self) -> [BorrowedFd<'_>; 3] {
        [self.stdin.as_fd(), self.stdout.as_fd(), self.lifeline.as_fd()]
    }
}

fn check(fd: OwnedFd, role: Use) -> Result<OwnedFd, HandError> {
    match kind(&fd) {
        Kind::Socket => Ok(fd),
        Kind::Other(what) if role == Use::Lifeline => Err(HandError::Lifeline(what)),
        Kind::Pipe if role == Use::Lifeline => Err(HandError::Lifeline("a pipe")),
        Kind::Pipe => reopen(&fd, role),
        Kind::Other(what) => Err(HandError::Kind(role.as_str(), what)),
    }
}

enum Kind {
    Pipe,
    Socket,
    Other(&'static str),
}

fn kind(fd: &OwnedFd) -> Kind {
    let Ok(stat) = rustix::fs::fstat(fd) else { return Kind::Other("not readable") };
    if rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::PATH)) {
        return Kind::Other("a path that is not opened (O_PATH)");
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo if is_anonymous_pipe(fd) => Kind::Pipe,
        FileType::Fifo => Kind::Other("a named pipe (FIFO)"),
        FileType::Socket if is_connected_stream(fd) => Kind::Socket,
        FileType::Socket => Kind::Other("another kind of socket"),
        FileType::RegularFile => Kind::Other("a regular file"),
        FileType::Directory => Kind::Other("a directory"),
        FileType::CharacterDevice if std::io::IsTerminal::is_terminal(fd) => {
            Kind::Other("a terminal")
        }
        FileType::CharacterDevice => Kind::Other("a device"),
        _ => Kind::Other("something else"),
    }
}

fn link(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A FIFO has a pipe's size too; only the link tells a name in a file system from none.
fn is_anonymous_pipe(fd: &OwnedFd) -> bool {
    rustix::pipe::fcntl_getpipe_size(fd).is_ok()
        && rustix::fs::readlink(link(fd), Vec::new())
            .is_ok_and(|target| target.as_bytes().starts_with(b"pipe:["))
}

fn is_connected_stream(fd: &OwnedFd) -> bool {
    sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(fd) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(fd) == Ok(false)
        && rustix::net::getpeername(fd).is_ok()
}

fn reopen(fd: &OwnedFd, role: Use) -> Result<OwnedFd, HandError> {
    let name = role.as_str();
    let failed = |error: rustix::io::Errno| HandError::Reopen(name, error.into());
    let mode = rustix::fs::fcntl_getfl(fd).map_err(failed)? & OFlags::RWMODE;
    let (wanted, wrong, is) = match role {
        Use::Stdin => (OFlags::RDONLY, OFlags::WRONLY, "write"),
        _ => (OFlags::WRONLY, OFlags::RDONLY, "read"),
    };
    if mode == wrong {
        return Err(HandError::WrongEnd(name, is));
    }
    let flags = wanted | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(link(fd), flags, Mode::empty()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe().expect("a pipe")
    }

    fn socket() -> (OwnedFd, OwnedFd) {
        let (near, far) = UnixStream::pair().expect("a pair");
        (near.into(), far.into())
    }

    fn refusal(descriptors: Vec<OwnedFd>) -> String {
        Hand::check(descriptors).expect_err("refused").to_string()
    }

    #[test]
    fn pipes_are_opened_anew_and_sockets_taken_as_they_are() {
        let ((read, mut _feed), (mut _drain, write), (near, _far)) = (pipe(), pipe(), socket());
        let kept = rustix::io::dup(&read).expect("dup");
        let hand = Hand::check(vec![read, write, near]).expect("good");
        rustix::fs::fcntl_setfl(&kept, OFlags::empty()).expect("a client may change its own flags");
        for fd in [&hand.stdin, &hand.stdout] {
            let flags = rustix::fs::fcntl_getfl(fd).expect("flags");
            assert!(flags.contains(OFlags::NONBLOCK), "the mux's description is its own");
        }
        let ((a, _a), (b, _b), (c, _c)) = (socket(), socket(), socket());
        Hand::check(vec![a, b, c]).expect("sockets are good too");
    }

    #[test]
    fn two_or_four_descriptors_are_refused() {
        for count in [0, 2, 4] {
            let many = (0..count).map(|_| socket().0).collect();
            assert!(refusal(many).contains(&format!("not {count}")));
        }
    }

    #[test]
    fn the_wrong_end_of_a_pipe_is_refused_by_name() {
        let ((read, _w), (other_read, _ow), (near, _far)) = (pipe(), pipe(), socket());
        assert!(refusal(vec![read, other_read, near]).contains("stdout is the read end"));
        let ((_r, write), (_or, other), (near, _far)) = (pipe(), pipe(), socket());
        assert!(refusal(vec![write, other, near]).contains("stdin is the write end"));
    }

    #[test]
    fn files_fifos_listeners_and_datagram_sockets_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a fifo");
        let file = std::fs::File::create(dir.path().join("file")).expect("a file");
        let named = std::fs::File::options().read(true).write(true).open(&fifo).expect("opened");
        let listener = UnixListener::bind(dir.path().join("socket")).expect("bound");
        let (packets, _other) = crate::sys::seqpacket_pair().expect("a pair");
        let cases: [(OwnedFd, &str); 4] = [
            (file.into(), "regular file"),
            (named.into(), "FIFO"),
            (listener.into(), "kind of socket"),
            (packets, "kind of socket"),
        ];
        for (bad, word) in cases {
            let ((out, _o), (near, _far)) = (socket(), socket());
            let said = refusal(vec![bad, out, near]);
            assert!(said.starts_with("stdin is") && said.contains(word), "{said}");
        }
    }

    #[test]
    fn a_lifeline_is_a_socket() {
        let ((a, _a), (b, _b), (read, _w)) = (socket(), socket(), pipe());
        assert!(refusal(vec![a, b, read]).contains("lifeline is a pipe"));
    }
}
