//! The unsafe file: every call that the type system cannot check, each behind a function that is safe
//! to call, and the few safe ones that several rooms share (datagrams with descriptors).
//!
//! Nothing here decides anything.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use tokio::io::unix::AsyncFd;

/// The most descriptors beside one datagram.
pub const DESCRIPTORS: usize = 16;

/// The credentials that the kernel keeps of a connected peer (unix(7), SO_PEERCRED): those at connect().
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Process id in our pid namespace; 0 for a peer in another one.
    pub pid: i32,
    /// Effective uid.
    pub uid: u32,
    /// Effective gid.
    pub gid: u32,
}

/// SO_PEERCRED.
///
/// # Errors
/// As getsockopt(2).
pub fn peer_credentials(socket: impl AsFd) -> io::Result<PeerCredentials> {
    let ucred = nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials)?;
    Ok(PeerCredentials { pid: ucred.pid(), uid: ucred.uid(), gid: ucred.gid() })
}

/// SO_PEERGROUPS: the peer's supplementary groups at connect() (Linux 4.13).
///
/// # Errors
/// As getsockopt(2).
pub fn peer_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    // NGROUPS_MAX is 65536; the kernel says ERANGE and the length where ours is too short.
    let mut groups = vec![0_u32; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or(0);
        // SAFETY: the buffer is `bytes` long and lives through the call; any bytes are valid gids.
        let done = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<u32>();
        if done == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// SO_PEERPIDFD: a pidfd of the peer (Linux 6.5); `None` where the kernel has none to give.
///
/// # Errors
/// As getsockopt(2), but for ENOPROTOOPT, ESRCH and EINVAL.
pub fn peer_pidfd(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    const SO_PEERPIDFD: libc::c_int = 77; // asm-generic/socket.h; not in every libc
    let mut fd: RawFd = -1;
    let mut bytes = size_of::<RawFd>() as libc::socklen_t;
    // SAFETY: the kernel writes one int into `fd`, which is as large as `bytes` says.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut bytes,
        )
    };
    if done == 0 && fd >= 0 {
        // SAFETY: the kernel has just installed this descriptor for us (close-on-exec); nobody else has it.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOPROTOOPT | libc::ESRCH | libc::EINVAL) => Ok(None),
        _ => Err(error),
    }
}

/// SO_PASSRIGHTS=0: the kernel refuses descriptors sent to this socket (Linux 6.16).
/// Returns whether it will.
pub fn refuse_descriptors(socket: impl AsFd) -> bool {
    const SO_PASSRIGHTS: libc::c_int = 83; // asm-generic/socket.h; not in every libc
    let off: libc::c_int = 0;
    // SAFETY: the value is one int that lives through the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    done == 0
}

/// Takes a descriptor that systemd passed (sd_listen_fds(3)), once, at start, before any thread.
///
/// # Errors
/// EBADF if it is not open.
pub fn take_listen_fd(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD reads a flag of a number; it is harmless for any number.
    if fd < 3 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, above the standard three, and handed to us by the protocol; the caller takes
    // each number once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor from `first` up, also those that nobody here knows of (close_range(2)).
///
/// # Errors
/// As close_range(2).
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: only called by a role that is about to become another program and owns no descriptor
    // object above `first`; closing a number is otherwise memory-safe.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Moves `keep` to the number `place` (close-on-exec) and closes everything above it.
///
/// # Errors
/// As dup3(2) and close_range(2).
pub fn place_and_close_rest(keep: BorrowedFd<'_>, place: RawFd) -> io::Result<()> {
    // SAFETY: as for `close_from`; whatever had the number `place` is given up by the role that calls.
    if unsafe { libc::dup3(keep.as_raw_fd(), place, libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    close_from(u32::try_from(place).unwrap_or(0) + 1)
}

/// The descriptor with this number, if it is open.
pub fn borrow_if_open(fd: RawFd) -> Option<BorrowedFd<'static>> {
    // SAFETY: F_GETFD reads a flag of a number; it is harmless for any number.
    let open = fd >= 0 && unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
    // SAFETY: it is open now; the one caller is a forked stage about to end, which closes nothing more.
    open.then(|| unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Which side of a fork this is.
pub enum Forked {
    /// The parent, with the child's pid.
    Parent(nix::unistd::Pid),
    /// The child.
    Child,
}

/// fork(2), for the stage, which is single-threaded for all its life.
///
/// # Errors
/// As fork(2); also if this process has more than one thread, where a fork is not safe.
pub fn fork_single_threaded() -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("refusing to fork a process with several threads"));
    }
    // SAFETY: there is one thread, so no lock can be held by another one in the child.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Forked::Parent(child)),
        nix::unistd::ForkResult::Child => Ok(Forked::Child),
    }
}

/// Keeps other processes of this uid from reading this one's memory, environment and descriptors, and
/// keeps it out of core dumps (PR_SET_DUMPABLE 0, prctl(2)). Every role's first act.
///
/// # Errors
/// As prctl(2).
pub fn become_undumpable() -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// Gives every signal its default action and unblocks all, as a program expects to find them at its
/// start (the Rust runtime ignores SIGPIPE, and ignored signals survive execve(2)).
///
/// # Errors
/// As sigaction(2) and sigprocmask(2).
pub fn default_signals() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
    for each in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: SIG_DFL is no handler of ours, so nothing can run in a signal context.
        unsafe { signal(each, SigHandler::SigDfl) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Sends one datagram with descriptors (unix(7), SCM_RIGHTS); never raises SIGPIPE.
///
/// # Errors
/// As sendmsg(2); `InvalidInput` beyond [`DESCRIPTORS`].
pub fn send_datagram(
    socket: impl AsFd,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = flags | SendFlags::NOSIGNAL;
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, flags)?;
    Ok(())
}

/// One datagram as it came.
#[derive(Debug)]
pub struct Datagram {
    /// How many bytes of the buffer it filled; 0 is the end of the connection.
    pub bytes: usize,
    /// Its descriptors, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// Whether bytes or descriptors did not fit and are lost.
    pub truncated: bool,
}

/// Receives one datagram with at most [`DESCRIPTORS`] descriptors.
///
/// Dropping a descriptor that a stranger sent can block for as long as the stranger likes; so can this
/// call where it drops those that did not fit.
///
/// # Errors
/// As recvmsg(2).
pub fn receive_datagram(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Datagram> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
    let descriptors = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    let truncated = got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    Ok(Datagram { bytes: got.bytes, descriptors, truncated })
}

/// What waits in a stream socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peeked {
    /// How many bytes were copied; 0 is the end of the stream.
    pub bytes: usize,
    /// Whether descriptors came with them.
    pub descriptors: bool,
}

/// Looks at what waits in a stream socket, without taking it and without waiting. What it copies ends
/// with the first bytes that descriptors came with, so that receiving as much takes no others. Drops no
/// last reference to a descriptor, so it cannot block either.
///
/// # Errors
/// As recvmsg(2).
pub fn peek_stream(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Peeked> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut none = RecvAncillaryBuffer::default();
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut none, flags)?;
    Ok(Peeked { bytes: got.bytes, descriptors: got.flags.contains(ReturnFlags::CTRUNC) })
}

/// The size of what is open, by the plain fstat(2), which the mux's filter allows: it names no path.
///
/// # Errors
/// As fstat(2).
pub fn file_size(file: impl AsFd) -> io::Result<u64> {
    Ok(u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0))
}

/// Registers a descriptor with the runtime (epoll(7)).
///
/// # Errors
/// As epoll_ctl(2); EPERM for what cannot be watched (a regular file).
pub fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is one open descriptor for all its life, and the AsyncFd keeps it until it is
    // deregistered.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

/// Sets attributes of a mount, with `below` of everything mounted below it as well (mount_setattr(2),
/// Linux 5.12). None is taken away.
///
/// # Errors
/// As mount_setattr(2).
pub fn set_mount_attributes(
    mount: impl AsFd,
    set: rustix::mount::MountAttrFlags,
    below: bool,
) -> io::Result<()> {
    /// `struct mount_attr` of mount_setattr(2).
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    let attributes = MountAttr { set: u64::from(set.bits()), clear: 0, propagation: 0, userns: 0 };
    let flags = libc::AT_EMPTY_PATH | if below { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads the structure, whose size is given and which lives through the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A pair of connected SOCK_SEQPACKET sockets, close-on-exec.
///
/// # Errors
/// As socketpair(2).
pub fn seqpacket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Becomes another program (execve(2)): same process, `passed` as its descriptors 3, 4 and so on, and of
/// all others only the standard three. Returns only where that fails, with every descriptor as it was.
pub fn become_program(
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
    passed: &[BorrowedFd<'_>],
) -> io::Error {
    const FIRST: RawFd = 3; // SD_LISTEN_FDS_START, sd_listen_fds(3)
    let last = FIRST + RawFd::try_from(passed.len()).unwrap_or(0);
    // What stands at those numbers is put aside: the program goes on with it where execve fails.
    let aside: Vec<_> = (FIRST..last).map(|place| (place, copy_above(place, last))).collect();
    let copies: Vec<_> = passed.iter().map(|fd| copy_above(fd.as_raw_fd(), last)).collect();
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing now; it sets a flag that all of ours have anyway.
    unsafe { libc::syscall(libc::SYS_close_range, FIRST, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    let placed = aside.iter().zip(copies).try_for_each(|((place, _), copy)| {
        // SAFETY: the owner of that number finds it again below, or is gone with this program.
        let placed = unsafe { libc::dup2(copy?.as_raw_fd(), *place) };
        if placed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    });
    let become_it = || Ok(nix::unistd::execve(program, arguments, environment)?);
    let Err(error) = placed.and_then(|()| become_it());
    for (place, before) in &aside {
        match before {
            // SAFETY: puts back what its owner left there.
            Ok(before) => unsafe { libc::dup3(before.as_raw_fd(), *place, libc::O_CLOEXEC) },
            // SAFETY: nothing was there, so that nobody owns the number.
            Err(_) => unsafe { libc::close(*place) },
        };
    }
    error
}

/// A copy of a descriptor, close-on-exec, at a number of at least `above`.
fn copy_above(fd: RawFd, above: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC makes a new descriptor; it is harmless for any number.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, above) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just installed it for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

#[cfg(test)]
mod tests;
