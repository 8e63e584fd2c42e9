//! What hostile users bring to the doors: descriptors whose last close blocks, and who they are.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use rustix::net::sockopt;
use rustix::thread::{Gid, Uid};

/// How long closing a weapon takes: longer than any test looks.
const LINGER: Duration = Duration::from_secs(120);
/// A receive window that is full at once, bytes.
const WINDOW: usize = 4096;

/// A TCP socket whose last close blocks: SO_LINGER, unsent data, and a peer that reads nothing.
pub(crate) struct Weapon {
    socket: TcpStream,
    peer: TcpStream,
}

/// Keeps a weapon that is on its way loaded; its drop lets whoever closes it go on.
pub(crate) struct Fuse {
    _peer: TcpStream,
}

impl Weapon {
    pub(crate) fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        sockopt::set_socket_recv_buffer_size(&listener, WINDOW).expect("a small window");
        let socket = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (peer, _) = listener.accept().expect("accepted");
        socket.set_nonblocking(true).expect("set");
        let chunk = [b'x'; 64 * 1024];
        while std::io::Write::write(&mut &socket, &chunk).is_ok() {}
        sockopt::set_socket_linger(&socket, Some(LINGER)).expect("set");
        Self { socket, peer }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Closes our own reference, which is the last one unless it was sent.
    pub(crate) fn thrown(self, sent: bool) -> Option<Fuse> {
        if !sent {
            sockopt::set_socket_linger(&self.socket, None).expect("set");
        }
        sent.then_some(Fuse { _peer: self.peer })
    }
}

/// Sends bytes with as many descriptors as the kernel takes (253, unix(7)), beyond what a client of
/// tenantd ever sends.
pub(crate) fn send_with(
    socket: impl AsFd,
    bytes: &[u8],
    with: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> nix::Result<usize> {
    let numbers: Vec<_> = with.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let rights = if with.is_empty() { &[] } else { &rights[..] };
    let bytes = [std::io::IoSlice::new(bytes)];
    let flags = flags | MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &bytes, rights, flags, None)
}

/// Does something on a thread that is this user and nobody else: what the kernel notes of a connection
/// or a pipe is who made it.
pub(crate) fn as_user<T: Send>(uid: u32, gid: u32, deed: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            become_user(uid, gid);
            deed()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Makes this thread another user's.
pub(crate) fn become_user(uid: u32, gid: u32) {
    rustix::thread::set_thread_groups(&[]).expect("groups");
    rustix::thread::set_thread_gid(Gid::from_raw(gid)).expect("gid");
    rustix::thread::set_thread_uid(Uid::from_raw(uid)).expect("uid");
}

/// How many threads of a process have this name (proc(5), `/proc/PID/task/TID/comm`).
pub(crate) fn threads(pid: u32, name: &str) -> usize {
    tasks(pid, "comm").iter().filter(|comm| comm.trim_end() == name).count()
}

/// How many descriptors a process has open.
pub(crate) fn open_descriptors(pid: u32) -> usize {
    std::fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")).expect("root").count()
}

/// Does something while every thread of a process is stopped, so that what it is sent is there, and our
/// own copies are gone, before it can look.
pub(crate) fn while_stopped<T>(pid: u32, deed: impl FnOnce() -> T) -> T {
    let number = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    kill(number, Signal::SIGSTOP).expect("stopped");
    wait_until("it is stopped", || tasks(pid, "stat").iter().all(|stat| is_stopped(stat)));
    let done = deed();
    kill(number, Signal::SIGCONT).expect("it goes on");
    done
}

/// `T` or `t` in /proc/PID/task/TID/stat: `pid (name) state ...`.
fn is_stopped(stat: &str) -> bool {
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('T' | 't'))
}

/// One file of every thread of a process (proc(5)).
fn tasks(pid: u32, file: &str) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    let read = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join(file)).ok()
    };
    tasks.filter_map(read).collect()
}

/// Waits until a process has no more descriptors open than this; says which there are at the deadline.
#[track_caller]
pub(crate) fn wait_for_few_descriptors(pid: u32, most: usize) {
    let until = std::time::Instant::now() + super::DEADLINE;
    while open_descriptors(pid) > most {
        if std::time::Instant::now() > until {
            let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("root").flatten();
            let links: Vec<_> = fds.map(|fd| std::fs::read_link(fd.path())).collect();
            panic!("more than {most} descriptors: {links:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until something is so; fails at the deadline.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + super::DEADLINE;
    while !so() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
