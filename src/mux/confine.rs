//! The mux confines itself: before it reads the first byte of a client's or a server's it can do nothing
//! any more but read, write, wait, take and pass descriptors, and exit.
//!
//! Two layers, in this order: Landlock (landlock(7)) takes away every file and, where the kernel can,
//! every TCP port, abstract socket and signal; then seccomp (seccomp(2)), on all of its threads at once,
//! leaves the calls of [`ALWAYS`] and [`only_so`]; any other ends the process with SIGSYS. Its threads
//! exist before: one that starts later would die of its first call.

use std::collections::BTreeMap;
use std::io;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetStatus,
    Scope,
};
use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// What may be called with any arguments: on descriptors that are here already, or on memory.
const ALWAYS: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_fdatasync,
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

/// Takes away whatever has a name: files, and ports, sockets and processes of others. False where the kernel
/// has no Landlock (before 5.13, or not enabled): then the filter alone keeps them away.
///
/// # Errors
/// As landlock_restrict_self(2).
pub(super) fn from_files() -> io::Result<bool> {
    // The newest that this program knows; of an older kernel what it has.
    const NEWEST: ABI = ABI::V6;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|set| set.handle_access(AccessNet::from_all(NEWEST)))
        .and_then(|set| set.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map(|status| status.ruleset != RulesetStatus::NotEnforced)
        .map_err(io::Error::other)
}

/// Takes away every call but those that work on what is open already.
///
/// # Errors
/// As seccomp(2); EINVAL where the kernel has no filters.
pub(super) fn to_its_descriptors() -> io::Result<()> {
    let program = program().map_err(io::Error::other)?;
    seccompiler::apply_filter_all_threads(&program).map_err(io::Error::other)
}

fn program() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    for (call, allowed) in only_so()? {
        rules.insert(call, allowed);
    }
    let arch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
}

/// What may be called with some arguments only.
fn only_so() -> Result<Vec<(c_long, Vec<SeccompRule>)>, seccompiler::BackendError> {
    let is = |argument: u8, value: libc::c_int| {
        let value = u64::from(value.unsigned_abs());
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
    };
    // Memory that is never code.
    let not_executable = || {
        let exec = SeccompCmpOp::MaskedEq(u64::from(libc::PROT_EXEC.unsigned_abs()));
        SeccompRule::new(vec![SeccompCondition::new(2, SeccompCmpArgLen::Dword, exec, 0)?])
    };
    let option = |name| SeccompRule::new(vec![is(1, libc::SOL_SOCKET)?, is(2, name)?]);
    let command = |name| SeccompRule::new(vec![is(1, name)?]);
    Ok(vec![
        (libc::SYS_mmap, vec![not_executable()?]),
        (libc::SYS_mprotect, vec![not_executable()?]),
        // Who the supervisor is.
        (libc::SYS_getsockopt, vec![option(libc::SO_PEERCRED)?]),
        // What a client's socket brings out of band stays in line.
        (libc::SYS_setsockopt, vec![option(libc::SO_OOBINLINE)?]),
        // Never F_SETFL: an append-only log stays one.
        (
            libc::SYS_fcntl,
            vec![
                command(libc::F_GETFD)?,
                command(libc::F_GET_SEALS)?,
                command(libc::F_DUPFD_CLOEXEC)?,
            ],
        ),
    ])
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    const DEED: &str = "TENANTD_TEST_DEED";

    /// A process that confines itself as a mux does, and then does this.
    fn after_confinement(deed: &str) -> ExitStatus {
        let program = std::env::current_exe().expect("this test");
        let mut command = Command::new(program);
        command.args(["--exact", "mux::confine::tests::the_deed", "--nocapture"]).env(DEED, deed);
        command.env("RUST_BACKTRACE", "0").output().expect("started").status
    }

    /// Run by the tests below, each in a process of its own.
    #[test]
    fn the_deed() {
        let Ok(deed) = std::env::var(DEED) else { return };
        let (mut near, mut far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        nix::sys::prctl::set_no_new_privs().expect("set");
        let landlock = super::from_files().expect("restricted");
        if deed == "file" && !landlock {
            assert!(std::env::var_os("CI").is_none(), "this kernel has no Landlock");
            return eprintln!("SKIPPED: this kernel has no Landlock");
        }
        if deed == "file" {
            let kind = std::fs::File::open("/dev/null").map_err(|error| error.kind());
            assert_eq!(kind.err(), Some(std::io::ErrorKind::PermissionDenied));
            return;
        }
        super::to_its_descriptors().expect("a filter");
        match deed.as_str() {
            "work" => {
                let much = vec![7_u8; 4 * 1024 * 1024];
                near.write_all(&much[..1000]).expect("written");
                far.read_exact(&mut [0; 1000]).expect("read");
            }
            "open" => drop(std::fs::File::open("/dev/null")),
            "stat" => drop(std::fs::metadata("/")),
            "socket" => drop(std::net::TcpStream::connect("127.0.0.1:9")),
            "thread" => drop(std::thread::spawn(|| {}).join()),
            "program" => drop(Command::new("/bin/true").status()),
            "flags" => drop(fcntl(&near, FcntlArg::F_SETFL(OFlag::empty()))),
            "signal" => drop(nix::sys::signal::kill(nix::unistd::getppid(), None)),
            other => panic!("{other}?"),
        }
    }

    #[test]
    fn what_a_mux_does_it_may() {
        assert!(after_confinement("work").success());
    }

    #[test]
    fn files_are_gone_before_the_filter_is_there() {
        assert!(after_confinement("file").success());
    }

    #[test]
    fn whatever_else_it_does_is_its_last_deed() {
        const SIGSYS: i32 = nix::libc::SIGSYS;
        for deed in ["open", "stat", "socket", "thread", "program", "flags", "signal"] {
            assert_eq!(after_confinement(deed).signal(), Some(SIGSYS), "{deed}");
        }
    }
}
