//! The filter of system calls for roles of ours that work on descriptors they hold, the mux and egress: a list
//! of what is left, where a server's [`filter`](super::filter) is one of what is denied. Anything else ends the
//! process with SIGSYS.

use std::collections::BTreeMap;
use std::io;

use nix::libc::{self, c_int, c_long};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};

/// A call with the arguments that it may have; any one of the rules is enough.
pub type OnlySo = (c_long, Vec<SeccompRule>);

/// What every such role may call with any arguments: on descriptors that are here already, or on memory.
const ALWAYS: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_accept4,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_getrandom,
    // Where the kernel has no clock that can be read without a call.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// Takes away every call, on all threads, but those of every such role, `also`, and `only_so`.
///
/// # Errors
/// As seccomp(2); EINVAL where the kernel has no filters.
pub fn leave(also: &[c_long], only_so: Vec<OnlySo>) -> io::Result<()> {
    let program = program(also, only_so).map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)
}

fn program(also: &[c_long], only_so: Vec<OnlySo>) -> Result<BpfProgram, BackendError> {
    let any = ALWAYS.iter().chain(also).map(|call| (*call, Vec::new()));
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = any.collect();
    // Memory that is never code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![masked(2, libc::PROT_EXEC, 0)?])?]);
    }
    rules.extend(only_so);
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
}

/// That an argument has this value.
///
/// # Errors
/// For an argument beyond the sixth.
pub fn is(argument: u8, value: c_int) -> Result<SeccompCondition, BackendError> {
    let value = value.cast_unsigned().into();
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// That these bits of an argument have this value.
///
/// # Errors
/// For an argument beyond the sixth.
pub fn masked(argument: u8, mask: c_int, value: c_int) -> Result<SeccompCondition, BackendError> {
    let mask = SeccompCmpOp::MaskedEq(mask.cast_unsigned().into());
    let value = value.cast_unsigned().into();
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, mask, value)
}

/// fcntl(2) with these commands. Never F_SETFL: an append-only log stays one.
///
/// # Errors
/// None that a list of commands can cause.
pub fn fcntl(commands: &[c_int]) -> Result<OnlySo, BackendError> {
    let rules = commands.iter().map(|command| SeccompRule::new(vec![is(1, *command)?]));
    Ok((libc::SYS_fcntl, rules.collect::<Result<_, _>>()?))
}
