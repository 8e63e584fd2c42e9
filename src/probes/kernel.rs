//! Mounts, and the parts of the kernel in which escapes have been found: none of them is for a server.

use nix::libc::{
    SYS_bpf, SYS_fanotify_init, SYS_fsopen, SYS_io_uring_setup, SYS_memfd_secret, SYS_open_tree,
    SYS_perf_event_open, SYS_personality, SYS_userfaultfd,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::StatVfsMountFlags;

use super::attempt::{Attempt, deed, reached};
use super::{Probe, probe};
use crate::sys::{Argument, X32_GETPID, attempt};

pub(super) const PROBES: &[Probe] = &[
    probe("kernel.mount", "a file system is mounted", "mount", |_| {
        let none = None::<&str>;
        deed(mount(Some("probe"), "/tmp", Some("tmpfs"), MsFlags::MS_RDONLY, none))
    }),
    probe("kernel.remount", "a read-only file system is made writable", "mount MS_REMOUNT", |_| {
        let none = None::<&str>;
        deed(mount(none, "/usr", none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND, none))
    }),
    probe("kernel.proc-writable", "/proc is mounted to be written to", "statvfs", |_| {
        writable("/proc")
    }),
    probe("kernel.root-writable", "the root is mounted to be written to", "statvfs", |_| {
        writable("/")
    }),
    probe("kernel.programs-writable", "/usr is mounted to be written to", "statvfs", |_| {
        writable("/usr")
    }),
    probe("kernel.programs-trusted", "set-user-ID programs of /usr count", "statvfs", |_| {
        lacks("/usr", StatVfsMountFlags::NOSUID)
    }),
    probe("kernel.devices-trusted", "device nodes in /tmp would be opened", "statvfs", |_| {
        lacks("/tmp", StatVfsMountFlags::NODEV)
    }),
    probe("kernel.unmount", "a file system is unmounted", "umount2", |_| {
        // With this flag the first call only asks (umount2(2)).
        reached(umount2("/proc", MntFlags::MNT_EXPIRE))
    }),
    probe("kernel.file-system-opened", "a file system is prepared", "fsopen", |_| {
        deed(attempt(SYS_fsopen, &[Argument::Bytes(b"tmpfs\0"), Argument::Number(0)]))
    }),
    probe("kernel.tree-copied", "a mount is copied", "open_tree OPEN_TREE_CLONE", |_| {
        let path =
            [Argument::Number(nix::libc::AT_FDCWD), Argument::Bytes(b"/\0"), Argument::Number(1)];
        deed(attempt(SYS_open_tree, &path))
    }),
    probe("kernel.root-changed", "another root is taken", "chroot", |_| {
        deed(nix::unistd::chroot("/tmp"))
    }),
    probe("kernel.root-pivoted", "another root is taken", "pivot_root", |_| {
        // To itself, which is refused for what it is wherever one may try.
        reached(nix::unistd::pivot_root("/", "/"))
    }),
    probe("kernel.bpf", "a program is loaded into the kernel", "bpf BPF_MAP_CREATE", |_| {
        // An array of one: type, size of its key and value, entries.
        let map: Vec<u8> = [2_u32, 4, 4, 1].into_iter().flat_map(u32::to_ne_bytes).collect();
        deed(attempt(SYS_bpf, &[Argument::Number(0), Argument::Bytes(&map), Argument::Number(16)]))
    }),
    probe("kernel.perf", "the machine is measured", "perf_event_open", |_| {
        // PERF_TYPE_SOFTWARE, its size, PERF_COUNT_SW_CPU_CLOCK; user mode alone (bits 5 and 6).
        let mut event = [0_u8; 64];
        event[..4].copy_from_slice(&1_u32.to_ne_bytes());
        event[4..8].copy_from_slice(&64_u32.to_ne_bytes());
        event[40..48].copy_from_slice(&0x60_u64.to_ne_bytes());
        let rest = [0, -1, -1, 0].map(Argument::Number);
        let [pid, cpu, group, flags] = rest;
        deed(attempt(SYS_perf_event_open, &[Argument::Bytes(&event), pid, cpu, group, flags]))
    }),
    probe("kernel.page-faults", "page faults are handled in user space", "userfaultfd", |_| {
        let user_mode_only = 1; // linux/userfaultfd.h: what nobody needs a privilege for
        let flags = nix::libc::O_CLOEXEC | user_mode_only;
        deed(attempt(SYS_userfaultfd, &[Argument::Number(flags)]))
    }),
    probe("kernel.io-uring", "calls are made past the filter", "io_uring_setup", |_| {
        deed(attempt(SYS_io_uring_setup, &[Argument::Number(1), Argument::Bytes(&[0; 120])]))
    }),
    probe("kernel.secret-memory", "memory is hidden from the kernel", "memfd_secret", |_| {
        deed(attempt(SYS_memfd_secret, &[Argument::Number(0)]))
    }),
    probe("kernel.fanotify", "accesses to files are watched", "fanotify_init", |_| {
        // FAN_REPORT_FID: what is open to everybody since Linux 5.13.
        deed(attempt(SYS_fanotify_init, &[Argument::Number(0x200), Argument::Number(0)]))
    }),
    probe("kernel.personality", "randomised addresses are given up", "personality", |_| {
        deed(attempt(SYS_personality, &[Argument::Number(nix::libc::ADDR_NO_RANDOMIZE)]))
    }),
    probe("kernel.x32", "a call is made by its x32 number", "getpid", |_| x32()),
];

fn writable(path: &str) -> Attempt {
    lacks(path, StatVfsMountFlags::RDONLY)
}

/// Whether the file system that is mounted there is mounted without this.
pub(super) fn lacks(path: &str, flag: StatVfsMountFlags) -> Attempt {
    match rustix::fs::statvfs(path) {
        Ok(stat) => Attempt::open_if(!stat.f_flag.contains(flag), format!("{:?}", stat.f_flag)),
        Err(error) => deed(Err::<(), _>(error)),
    }
}

fn x32() -> Attempt {
    if cfg!(target_arch = "x86_64") {
        deed(attempt(X32_GETPID, &[]))
    } else {
        Attempt::blocked("there is no x32 on this machine")
    }
}
