//! The unsafe file: every call that the type system cannot check, each behind a function that is safe
//! to call, and the few safe ones that several rooms share (datagrams with descriptors).
//!
//! Nothing here decides anything.

#![allow(unsafe_code)]

pub mod find;

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

/// Sets a variable of this process's environment, for a library that takes it from nowhere else.
///
/// # Errors
/// If this process has more than one thread, any of which could be reading it.
pub fn set_variable_single_threaded(name: &str, value: &str) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("refusing to change what several threads may be reading"));
    }
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: there is one thread, so nobody reads the environment meanwhile.
    #[expect(clippy::disallowed_methods, reason = "looked for threads right before")]
    unsafe {
        std::env::set_var(name, value);
    }
    Ok(())
}

/// Keeps other processes of this uid from reading this one's memory, environment and descriptors, and
/// keeps it out of core dumps (PR_SET_DUMPABLE 0, prctl(2)). Every role's first act.
///
/// # Errors
/// As prctl(2).
pub fn become_undumpable() -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

/// A file's project (struct fsxattr, ioctl_xfs_fsgetxattr(2)): whose quota its blocks count for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Project {
    /// 0 is nobody's.
    pub id: u32,
    /// Whether what is made in this directory belongs to it too.
    pub inherits: bool,
}

/// include/uapi/linux/fs.h: `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Default)]
struct Fsxattr {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

/// `FS_XFLAG_PROJINHERIT`
const PROJECT_INHERIT: u32 = 0x200;

fn fsxattr(file: BorrowedFd<'_>) -> io::Result<Fsxattr> {
    const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f; // _IOR('X', 31, struct fsxattr)
    let mut attributes = Fsxattr::default();
    // SAFETY: the kernel writes one such struct, which lives through the call.
    let done =
        unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut attributes) };
    if done == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

/// The project of a file or directory.
///
/// # Errors
/// ENOTTY or EOPNOTSUPP where the file system has none.
pub fn project(file: impl AsFd) -> io::Result<Project> {
    let attributes = fsxattr(file.as_fd())?;
    Ok(Project { id: attributes.project, inherits: attributes.flags & PROJECT_INHERIT != 0 })
}

/// Gives a file or directory to a project.
///
/// # Errors
/// As [`project`]; EPERM for who may not, EINVAL in a user namespace.
pub fn set_project(file: impl AsFd, project: Project) -> io::Result<()> {
    const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820; // _IOW('X', 32, struct fsxattr)
    let mut attributes = fsxattr(file.as_fd())?;
    attributes.project = project.id;
    attributes.flags &= !PROJECT_INHERIT;
    attributes.flags |= if project.inherits { PROJECT_INHERIT } else { 0 };
    // SAFETY: the kernel reads one such struct, which lives through the call.
    let done = unsafe {
        libc::ioctl(file.as_fd().as_raw_fd(), FS_IOC_FSSETXATTR as _, &raw const attributes)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// include/uapi/linux/quota.h: `struct if_dqblk`; sizes in blocks of 1024 bytes but for `space`.
#[repr(C)]
#[derive(Debug, Default)]
struct Dqblk {
    hard: u64,
    soft: u64,
    space: u64,
    inodes_hard: u64,
    inodes_soft: u64,
    inodes: u64,
    space_time: u64,
    inodes_time: u64,
    valid: u32,
}

/// quotactl_fd(2) (Linux 5.14) for projects, on the file system that `file` is on.
fn project_quota<T>(file: BorrowedFd<'_>, command: u32, id: u32, with: &mut T) -> io::Result<()> {
    const PRJQUOTA: u32 = 2;
    let command = command << 8 | PRJQUOTA;
    // SAFETY: `with` lives through the call, and each caller gives what its command reads or writes.
    let done = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            file.as_raw_fd(),
            command,
            id,
            std::ptr::from_mut(with),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a file system refuses what is over a project's limit, and does not only count it.
pub fn limits_projects(file: impl AsFd) -> bool {
    const Q_XGETQSTAT: u32 = 0x5805; // XQM_CMD(5), include/uapi/linux/dqblk_xfs.h
    const FS_QUOTA_PDQ_ENFD: u16 = 1 << 5;
    /// `struct fs_quota_stat`, of which only the flags matter here, with room to spare.
    #[repr(C, align(8))]
    struct Stat {
        version: i8,
        flags: u16,
        rest: [u8; 252],
    }
    let mut stat = Stat { version: 0, flags: 0, rest: [0; 252] };
    project_quota(file.as_fd(), Q_XGETQSTAT, 0, &mut stat).is_ok()
        && stat.flags & FS_QUOTA_PDQ_ENFD != 0
}

/// What a project uses and may use on one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectUse {
    /// Bytes on disk.
    pub used: u64,
    /// The hard limit, bytes; 0 is none.
    pub limit: u64,
}

/// What a project uses and may use.
///
/// # Errors
/// As quotactl(2): ESRCH without project quotas, EPERM without CAP_SYS_ADMIN.
pub fn project_use(file: impl AsFd, id: u32) -> io::Result<ProjectUse> {
    const Q_GETQUOTA: u32 = 0x80_0007;
    let mut quota = Dqblk::default();
    match project_quota(file.as_fd(), Q_GETQUOTA, id, &mut quota) {
        // XFS knows nothing of a project that has neither blocks nor limits.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => other?,
    }
    Ok(ProjectUse { used: quota.space, limit: quota.hard.saturating_mul(1024) })
}

/// Limits what a project may use, bytes (rounded down to 1024); 0 is no limit.
///
/// # Errors
/// As [`project_use`].
pub fn limit_project(file: impl AsFd, id: u32, bytes: u64) -> io::Result<()> {
    const Q_SETQUOTA: u32 = 0x80_0008;
    const QIF_BLIMITS: u32 = 1;
    let hard = if bytes == 0 { 0 } else { (bytes / 1024).max(1) };
    let mut quota = Dqblk { hard, valid: QIF_BLIMITS, ..Dqblk::default() };
    project_quota(file.as_fd(), Q_SETQUOTA, id, &mut quota)
}

/// Gives way to everybody else's work: this thread alone, by processor (nice 19) and disk (idle class,
/// ioprio_set(2)). Without leave to, it works on as before.
pub fn give_way() {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IDLE: libc::c_int = 3 << 13; // IOPRIO_CLASS_IDLE
    // On Linux both mean the calling thread where the id is 0.
    let _ = rustix::process::setpriority_process(None, 19);
    // SAFETY: three plain numbers.
    unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IDLE) };
}

/// Gives up every capability that this process has (capabilities(7)); what it may regain at an execve(2) stays.
///
/// # Errors
/// As capset(2).
pub fn give_up_capabilities() -> io::Result<()> {
    let none = rustix::thread::CapabilitySet::empty();
    let sets =
        rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Becomes another user for good (setgroups(2), setresgid(2), setresuid(2)): root gives up every privilege but
/// the capabilities to keep. Looks whether it did, and is undumpable again, which the kernel undoes with a change of uid. So it undoes
/// the parent-death signal: who wants one sets it after this.
///
/// # Errors
/// As those calls; `InvalidInput` for root, `Other` where anything of before is left.
pub fn become_user(
    uid: u32,
    gid: u32,
    groups: &[u32],
    keep: rustix::thread::CapabilitySet,
) -> io::Result<()> {
    use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};
    if uid == 0 || gid == 0 || groups.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    if !keep.is_empty() {
        rustix::thread::set_keep_capabilities(true)?;
    }
    setresuid(uid, uid, uid)?;
    become_undumpable()?;
    let inheritable = rustix::thread::CapabilitySet::empty();
    let sets = rustix::thread::CapabilitySets { effective: keep, permitted: keep, inheritable };
    rustix::thread::set_capabilities(None, sets)?;
    let (uids, gids, mut now) = (getresuid()?, getresgid()?, getgroups()?);
    groups.sort_unstable_by_key(|group| group.as_raw());
    now.sort_unstable_by_key(|group| group.as_raw());
    let became = [uids.real, uids.effective, uids.saved] == [uid; 3]
        && [gids.real, gids.effective, gids.saved] == [gid; 3]
        && now == groups;
    if became && rustix::thread::capabilities(None)?.permitted == keep {
        return Ok(());
    }
    Err(io::Error::other("something of the user of before is left"))
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

/// Lets writes beyond RLIMIT_FSIZE fail with EFBIG instead of ending the process (setrlimit(2)); what is
/// ignored stays so across execve(2).
///
/// # Errors
/// As sigaction(2).
pub fn ignore_file_size_signal() -> io::Result<()> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: SIG_IGN is no handler of ours, so nothing can run in a signal context.
    unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) }?;
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
/// Linux 5.12). None is taken away. With a user namespace as `owners`, whatever is on it belongs to whom that
/// maps its owners to (MOUNT_ATTR_IDMAP); once only, and before the mount is attached anywhere.
///
/// # Errors
/// As mount_setattr(2).
pub fn set_mount_attributes(
    mount: impl AsFd,
    set: rustix::mount::MountAttrFlags,
    below: bool,
    owners: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    /// `struct mount_attr` of mount_setattr(2).
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns: u64,
    }
    const IDMAP: u64 = 0x0010_0000; // linux/mount.h, MOUNT_ATTR_IDMAP
    let set = u64::from(set.bits()) | owners.map_or(0, |_| IDMAP);
    let userns = owners.map_or(0, |fd| u64::from(fd.as_raw_fd().unsigned_abs()));
    let attributes = MountAttr { set, clear: 0, propagation: 0, userns };
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

/// An argument of [`attempt`].
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    /// A flag, a size, a process, a descriptor, or no pointer (0).
    Number(i32),
    /// A text with its NUL, or a structure. What the kernel writes there is lost.
    Bytes(&'a [u8]),
}

/// x32's getpid(2): another table of system calls beside the one that a filter may have in mind.
pub const X32_GETPID: libc::c_long = 0x4000_0000 + 39;

/// The calls of [`attempt`]: none of them maps, unmaps or shares memory of this process, starts a thread, or
/// takes a structure that points to others.
const ATTEMPTS: &[libc::c_long] = &[
    X32_GETPID,
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_fchmodat2,
    libc::SYS_finit_module,
    libc::SYS_fsopen,
    libc::SYS_io_uring_setup,
    libc::SYS_ioctl,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_memfd_secret,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_openat2,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_prlimit64,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_shmctl,
    libc::SYS_shmget,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
];

/// Makes a system call that a sandbox should refuse, to see whether it does, or what it should not find.
/// Only those of a short list.
///
/// # Errors
/// As the call; `InvalidInput` for one that is not in the list, or a structure of more than 4 KiB.
pub fn attempt(call: libc::c_long, arguments: &[Argument<'_>]) -> io::Result<libc::c_long> {
    // More than any structure of these calls, so that the kernel neither reads nor writes beyond it.
    const PAGE: usize = 4096;
    let mut pages = [[0_u8; PAGE]; 6];
    let mut words: [libc::c_long; 6] = [0; 6];
    if !ATTEMPTS.contains(&call) || arguments.len() > words.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for ((argument, page), word) in arguments.iter().zip(&mut pages).zip(&mut words) {
        *word = match argument {
            Argument::Number(number) => libc::c_long::from(*number),
            Argument::Bytes(bytes) => {
                let room = page.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
                room.copy_from_slice(bytes);
                page.as_mut_ptr() as libc::c_long
            }
        };
    }
    let [a, b, c, d, e, f] = words;
    // SAFETY: a call of the list touches only memory that an argument points to: a whole page of ours that
    // lives through the call. A number is no pointer: 32 bits reach no memory of a program that is loaded
    // at an address of the kernel's choice.
    let done = unsafe { libc::syscall(call, a, b, c, d, e, f) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(done) }
}

/// Makes a child in a user namespace of its own, by clone3(2) or else clone(2); the child ends at once.
///
/// # Errors
/// As these; also if this process has more than one thread.
pub fn clone_into_user_namespace(by_clone3: bool) -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("refusing to fork a process with several threads"));
    }
    let flags = libc::CLONE_NEWUSER;
    // struct clone_args, as of its first version (linux/sched.h): flags, three pointers, the exit signal,
    // stack, its size, tls. No stack and no CLONE_VM make it a fork(2).
    let mut arguments = [0_u64; 8];
    arguments[0] = flags as u64;
    arguments[4] = libc::SIGCHLD as u64;
    // SAFETY: without CLONE_VM the child has memory of its own, and the only thread is copied with it.
    let child = unsafe {
        if by_clone3 {
            libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments))
        } else {
            libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0)
        }
    };
    match child {
        ..0 => Err(io::Error::last_os_error()),
        // SAFETY: the child runs nothing of this process any more, handlers and buffers included.
        0 => unsafe { libc::_exit(0) },
        _ => {
            nix::sys::wait::waitpid(None, None)?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
