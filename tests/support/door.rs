//! The session door as a stranger meets it: one datagram with whatever descriptors, one answer.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect,
    socket_with,
};
use serde_json::Value;

use super::session::{DEADLINE, readable};

/// A connection to a seqpacket socket.
pub(crate) fn knock(path: &Path) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let door =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).expect("socket");
    connect(&door, &SocketAddrUnix::new(path).expect("a path")).expect("connected");
    door
}

/// The answer of the door, if one comes before it closes.
pub(crate) fn door_answer(door: &OwnedFd) -> Option<Value> {
    assert!(readable(door, Instant::now() + DEADLINE), "the door says nothing");
    let mut buffer = vec![0; 8192];
    let (_, count) = rustix::net::recv(door, &mut buffer[..], RecvFlags::empty()).unwrap_or((0, 0));
    (count > 0).then(|| serde_json::from_slice(&buffer[..count]).expect("JSON"))
}

/// Asks once.
pub(crate) fn ask_door(path: &Path, asked: &[u8], with: &[OwnedFd]) -> Option<Value> {
    let door = knock(path);
    let with: Vec<BorrowedFd<'_>> = with.iter().map(AsFd::as_fd).collect();
    tenantd::sys::send_datagram(&door, asked, &with, SendFlags::empty()).expect("sent");
    door_answer(&door)
}

/// What a stranger may hand over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Thing {
    ReadEnd,
    WriteEnd,
    Socket,
    Datagrams,
    Listener,
    Inet,
    Fifo,
    RegularFile,
    Directory,
    Null,
    Memfd,
    /// A pipe that was opened by its path and not opened (O_PATH).
    PathOnly,
    /// A pipe's description that reads and writes.
    BothEnds,
    Epoll,
    Event,
    /// A stream socket that nobody is connected to.
    Unconnected,
}

impl Thing {
    /// Makes one; other ends are kept in `kept`, so that it is not at its end already.
    pub(crate) fn make(self, directory: &Path, kept: &mut Vec<OwnedFd>) -> OwnedFd {
        let (read, write) = rustix::pipe::pipe().expect("a pipe");
        let open = |path: &Path| File::options().read(true).write(true).open(path).expect("open");
        match self {
            Self::ReadEnd => keep(kept, read, write),
            Self::WriteEnd => keep(kept, write, read),
            Self::Socket => {
                let (near, far) = UnixStream::pair().expect("a pair");
                keep(kept, near.into(), far.into())
            }
            Self::Datagrams => {
                let (near, far) = std::os::unix::net::UnixDatagram::pair().expect("a pair");
                keep(kept, near.into(), far.into())
            }
            Self::Listener => {
                let path = directory.join(format!("listener-{}", kept.len()));
                std::os::unix::net::UnixListener::bind(path).expect("bound").into()
            }
            Self::Inet => std::net::UdpSocket::bind("127.0.0.1:0").expect("bound").into(),
            Self::Fifo => {
                let path = directory.join(format!("fifo-{}", kept.len()));
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("made");
                open(&path).into()
            }
            Self::RegularFile => {
                let path = directory.join("file");
                File::create(&path).expect("made");
                open(&path).into()
            }
            Self::Directory => File::open(directory).expect("open").into(),
            Self::PathOnly => reopened(&read, OFlags::PATH),
            Self::BothEnds => reopened(&read, OFlags::RDWR),
            Self::Epoll => rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC)
                .expect("made"),
            Self::Event => {
                rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).expect("made")
            }
            Self::Unconnected => {
                socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                    .expect("made")
            }
            Self::Null => open(Path::new("/dev/null")).into(),
            Self::Memfd => {
                rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd")
            }
        }
    }
}

fn reopened(fd: &OwnedFd, flags: OFlags) -> OwnedFd {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(link, flags | OFlags::CLOEXEC, rustix::fs::Mode::empty()).expect("opened anew")
}

fn keep(kept: &mut Vec<OwnedFd>, near: OwnedFd, far: OwnedFd) -> OwnedFd {
    kept.push(far);
    near
}
