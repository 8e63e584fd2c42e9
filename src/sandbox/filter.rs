//! The filter of system calls (seccomp(2)): what no MCP server needs and an attacker would use.
//!
//! A list of what is denied, not of what is allowed: node, CPython and whatever comes next run unchanged,
//! and the rest of the sandbox does not rest on it. Most calls fail with EPERM. Two fail with ENOSYS, so that
//! libraries take the older call whose arguments a filter can see: clone3(2) and openat2(2).

use std::io;

use nix::libc::{self, c_int, c_long};

use super::program::{Refusal, Refusals, Test, compile};
use crate::wire::stage::Network;

/// Denied whatever the arguments.
const NEVER: &[c_long] = &[
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_process_madvise,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Keys of the user and of the session.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Large parts of the kernel behind one call.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_lookup_dcookie,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    // Files by number instead of by name, and who may write how much.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_nfsservctl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    // Another personality changes what the rest of this list means; memory that the kernel itself cannot
    // read is not counted.
    libc::SYS_personality,
    libc::SYS_memfd_secret,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
];

/// Denied where there are no namespaces to keep others out of reach (facts of kernels before Landlock's
/// later versions): what other processes of this user would notice.
const NEVER_WITHOUT_NAMESPACES: &[c_long] = &[
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    libc::SYS_inotify_add_watch,
    libc::SYS_setpriority,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    libc::SYS_ioprio_set,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_mrelease,
];

/// Not there, as far as a library can tell.
const ABSENT: &[c_long] = &[libc::SYS_clone3, libc::SYS_openat2];

/// fchmodat2(2), Linux 6.6; not in every libc.
const SYS_FCHMODAT2: c_long = 452;
/// FS_IOC_FSSETXATTR (linux/fs.h): sets a file's project, which its quota is counted by.
const FS_IOC_FSSETXATTR: c_int = 0x401c_5820;
/// Set-user-ID and set-group-ID (inode(7)): programs for others to run.
const SET_ID: [u32; 2] = [libc::S_ISUID, libc::S_ISGID];
/// Flags of open(2) with which it makes a file: O_CREAT, and the bit of O_TMPFILE that is not O_DIRECTORY.
const CREATING: [u32; 2] = [
    libc::O_CREAT.cast_unsigned(),
    libc::O_TMPFILE.cast_unsigned() & !libc::O_DIRECTORY.cast_unsigned(),
];

/// What is around the filter, and so need not be denied by it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around<'a> {
    /// Whether there are namespaces.
    pub(super) namespaces: bool,
    pub(super) network: &'a Network,
}

/// Applies the filter to this thread and all that it starts. The last step before execve(2).
///
/// # Errors
/// As seccomp(2); EINVAL where the kernel has no filters.
pub(super) fn apply(around: Around<'_>) -> io::Result<()> {
    seccompiler::apply_filter(&compile(&refusals(around))).map_err(io::Error::other)
}

fn refusals(around: Around<'_>) -> Refusals {
    let always = |error| move |call: &c_long| (*call, Refusal { error, when: Vec::new() });
    let mut all: Refusals = NEVER.iter().map(always(libc::EPERM)).collect();
    all.extend(ABSENT.iter().map(always(libc::ENOSYS)));
    if !around.namespaces {
        all.extend(NEVER_WITHOUT_NAMESPACES.iter().map(always(libc::EPERM)));
    }
    let mut deny = |call, when| all.insert(call, Refusal { error: libc::EPERM, when });
    deny(libc::SYS_socket, sockets(around));
    deny(libc::SYS_socketpair, sockets(Around { network: &Network::Host, ..around }));
    deny(libc::SYS_clone, new_namespaces());
    let requests = [libc::TIOCSTI as c_int, libc::TIOCLINUX as c_int, FS_IOC_FSSETXATTR];
    let request = |request: c_int| vec![Test::Is(1, request.cast_unsigned())];
    deny(libc::SYS_ioctl, requests.map(request).into());
    for (call, when) in modes() {
        deny(call, when);
    }
    all
}

/// Every family of sockets but those that are left: each of the others is a part of the kernel of its own,
/// and AF_VSOCK leads out of every namespace.
fn sockets(around: Around<'_>) -> Vec<Vec<Test>> {
    if !around.namespaces && *around.network != Network::Host {
        // Nothing else would keep it from sockets of others, by name or by address.
        return Vec::new();
    }
    let left = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    vec![left.map(|family| Test::IsNot(0, family.cast_unsigned())).into()]
}

/// clone(2) that makes a namespace.
fn new_namespaces() -> Vec<Vec<Test>> {
    let flags = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    flags.map(|flag| vec![Test::Has(0, flag.cast_unsigned())]).into()
}

/// Files that others would run as this user, however their mode is given.
fn modes() -> impl Iterator<Item = (c_long, Vec<Vec<Test>>)> {
    // Which argument is the mode; of what opens files also which one says whether the mode counts: that of an
    // open that makes nothing is whatever the register held.
    let calls = [
        (libc::SYS_fchmod, 1, None),
        (libc::SYS_fchmodat, 2, None),
        (SYS_FCHMODAT2, 2, None),
        (libc::SYS_openat, 3, Some(2)),
        (libc::SYS_mknodat, 2, None),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_chmod, 1, None),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, 2, Some(1)),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_creat, 1, None),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_mknod, 1, None),
    ];
    calls.into_iter().map(|(call, mode, flags)| {
        let set_id = SET_ID.map(|bit| Test::Has(mode, bit));
        let when = match flags {
            None => set_id.map(|set_id| vec![set_id]).into(),
            Some(flags) => set_id
                .into_iter()
                .flat_map(|set_id| CREATING.map(|bit| vec![set_id, Test::Has(flags, bit)]))
                .collect(),
        };
        (call, when)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::sys::{X32_GETPID, attempt};

    const DEED: &str = "TENANTD_TEST_DEED";

    /// Run by the test below in a process of its own, which keeps the filter.
    #[test]
    fn the_deed() {
        if std::env::var_os(DEED).is_none() {
            return;
        }
        // Of filters that refuse with an error number the last one gives it (seccomp(2)): without ours the
        // number is this one, and not that of a kernel without x32.
        let mut other = compile(&Refusals::new());
        other[5].k = libc::SECCOMP_RET_ERRNO | libc::EXDEV.cast_unsigned();
        seccompiler::apply_filter(&other).expect("a filter");
        super::apply(Around { namespaces: true, network: &Network::None }).expect("a filter");
        let refused = attempt(X32_GETPID, &[]).expect_err("it is refused");
        assert_eq!(refused.raw_os_error(), Some(libc::ENOSYS));
    }

    #[test]
    fn a_call_by_its_x32_number_is_refused_by_us_and_not_for_want_of_it() {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "sandbox::filter::tests::the_deed"]).env(DEED, "x32");
        assert!(command.output().expect("started").status.success());
    }
}
