//! Egress confines itself before it reads the first byte of a server's or a stranger's: it may dial, take
//! connections, read two files of names, and write its log. No program, no other file, no thread, no
//! signal, no other kind of socket.
//!
//! Landlock (landlock(7)) first, for files; then seccomp (seccomp(2)), whose refusal is the end.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::libc::{self, c_long};
use seccompiler::{BackendError, SeccompRule};

use super::resolve::RESOLV_CONF;
use crate::sandbox::allowlist::{self, OnlySo, is, masked};

/// What may be called with any arguments, beside what every role may.
const ALSO: &[c_long] = &[
    libc::SYS_readv,
    libc::SYS_lseek,
    // By name, of what Landlock lets be read; tells nothing but that it is there.
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
];

/// That files were taken away first: there is no other way to the filter.
#[derive(Debug)]
pub(super) struct Fileless {
    /// Whether the kernel has Landlock: else the filter alone keeps them away.
    #[cfg_attr(not(test), allow(dead_code, reason = "told to tests only"))]
    landlock: bool,
}

/// Leaves of all files the two of names, to be read: their directories, because both files are replaced
/// by renaming, and resolv.conf is often a link.
///
/// # Errors
/// As landlock_restrict_self(2).
pub(super) fn to_names() -> io::Result<Fileless> {
    // The newest that this program knows; of an older kernel what it has.
    const NEWEST: ABI = ABI::V6;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile.into();
    let set = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))
        .and_then(|set| set.scope(Scope::from_all(NEWEST)))
        .and_then(Ruleset::create)
        .map_err(io::Error::other)?;
    let directories = directories_of_names();
    let open = directories.iter().filter_map(|path| PathFd::new(path).ok());
    set.add_rules(open.map(|directory| Ok(PathBeneath::new(directory, read))))
        .and_then(landlock::RulesetCreated::restrict_self)
        .map(|status| Fileless { landlock: status.ruleset != RulesetStatus::NotEnforced })
        .map_err(|error: landlock::RulesetError| io::Error::other(error))
}

fn directories_of_names() -> Vec<PathBuf> {
    let mut directories = vec![PathBuf::from("/etc")];
    let linked = std::fs::canonicalize(RESOLV_CONF).ok();
    let linked = linked.as_deref().and_then(Path::parent).map(Path::to_owned);
    directories.extend(linked.filter(|directory| directory.parent().is_some()));
    directories.dedup();
    directories
}

/// Takes away every call but those that a relay needs.
///
/// # Errors
/// As seccomp(2); EINVAL where the kernel has no filters.
pub(super) fn to_its_work(_: &Fileless) -> io::Result<()> {
    allowlist::leave(ALSO, only_so().map_err(io::Error::other)?)
}

/// What may be called with some arguments only.
fn only_so() -> Result<Vec<OnlySo>, BackendError> {
    // Of the internet, stream or datagram; the rest of the second argument are flags.
    let socket = |family, kind| SeccompRule::new(vec![is(0, family)?, masked(1, 0xf, kind)?]);
    let change = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_PATH;
    Ok(vec![
        (
            libc::SYS_socket,
            vec![
                socket(libc::AF_INET, libc::SOCK_STREAM)?,
                socket(libc::AF_INET, libc::SOCK_DGRAM)?,
                socket(libc::AF_INET6, libc::SOCK_STREAM)?,
                socket(libc::AF_INET6, libc::SOCK_DGRAM)?,
            ],
        ),
        (libc::SYS_openat, vec![SeccompRule::new(vec![masked(2, change, libc::O_RDONLY)?])?]),
        // FIONBIO, asm-generic/ioctls.h
        (libc::SYS_ioctl, vec![SeccompRule::new(vec![is(1, 0x5421)?])?]),
        allowlist::fcntl(&[
            libc::F_GETFD,
            libc::F_GETFL,
            libc::F_GET_SEALS,
            libc::F_DUPFD_CLOEXEC,
        ])?,
    ])
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    const DEED: &str = "TENANTD_TEST_DEED";

    /// A process that confines itself as egress does, and then does this.
    fn after_confinement(deed: &str) -> ExitStatus {
        let program = std::env::current_exe().expect("this test");
        let mut command = Command::new(program);
        command
            .args(["--exact", "egress::confine::tests::the_deed", "--nocapture"])
            .env(DEED, deed);
        command.env("RUST_BACKTRACE", "0").output().expect("started").status
    }

    fn opens(path: &str) -> bool {
        std::fs::File::open(path).is_ok()
    }

    /// Run by the tests below, each in a process of its own.
    #[test]
    fn the_deed() {
        let Ok(deed) = std::env::var(DEED) else { return };
        nix::sys::prctl::set_no_new_privs().expect("set");
        let near = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = near.local_addr().expect("an address");
        let landlock = super::to_names().expect("restricted");
        if deed == "files" {
            if !landlock.landlock {
                assert!(std::env::var_os("CI").is_none(), "this kernel has no Landlock");
                return eprintln!("SKIPPED: this kernel has no Landlock");
            }
            assert!(opens("/etc/hosts") && opens("/etc/resolv.conf"));
            assert!(!opens("/proc/self/environ") && !opens("/usr/bin/env") && !opens("/dev/null"));
            return;
        }
        super::to_its_work(&landlock).expect("a filter");
        match deed.as_str() {
            "work" => {
                let mut dialled = std::net::TcpStream::connect(address).expect("dialled");
                drop(near.accept().expect("taken"));
                assert_eq!(dialled.read(&mut [0]).expect("its end"), 0);
                let datagrams = std::net::UdpSocket::bind("0.0.0.0:0").expect("bound");
                datagrams.connect(address).expect("connected");
                assert!(opens("/etc/hosts"));
            }
            "write" => drop(std::fs::File::options().append(true).open("/etc/hosts")),
            "unix" => drop(std::os::unix::net::UnixStream::connect("/run/nobody")),
            "netlink" => {
                use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
                drop(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), None));
            }
            "listen" => drop(std::net::TcpListener::bind("127.0.0.1:0")),
            "thread" => drop(std::thread::spawn(|| {}).join()),
            "program" => drop(Command::new("/bin/true").status()),
            "flags" => drop(fcntl(&near, FcntlArg::F_SETFL(OFlag::empty()))),
            "signal" => drop(nix::sys::signal::kill(nix::unistd::getppid(), None)),
            other => panic!("{other}?"),
        }
    }

    #[test]
    fn what_egress_does_it_may() {
        assert!(after_confinement("work").success());
    }

    #[test]
    fn of_all_files_it_reads_those_of_names_only() {
        assert!(after_confinement("files").success());
    }

    #[test]
    fn whatever_else_it_does_is_its_last_deed() {
        const SIGSYS: i32 = nix::libc::SIGSYS;
        for deed in ["write", "unix", "netlink", "listen", "thread", "program", "flags", "signal"] {
            assert_eq!(after_confinement(deed).signal(), Some(SIGSYS), "{deed}");
        }
    }
}
