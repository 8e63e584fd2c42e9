//! The mux confines itself: before it reads the first byte of a client's or a server's it can do nothing
//! any more but read, write, wait, take and pass descriptors, and exit.
//!
//! Two layers, in this order: Landlock (landlock(7)) takes away every file and, where the kernel can,
//! every TCP port, abstract socket and signal; then seccomp (seccomp(2)), on all of its threads at once,
//! leaves the calls of [`allowlist`] and [`only_so`]; any other ends the process with SIGSYS. Its threads
//! exist before: one that starts later would die of its first call.

use std::io;

use nix::libc::{self, c_int};
use seccompiler::{BackendError, SeccompRule};

use crate::sandbox::allowlist::{self, OnlySo, is};

/// That files were taken away first: there is no other way to the filter.
#[derive(Debug)]
pub(super) struct Fileless {
    /// Whether the kernel has Landlock: else the filter alone keeps them away.
    #[cfg_attr(not(test), allow(dead_code, reason = "told to tests only"))]
    landlock: bool,
}

/// Takes away whatever has a name, where the kernel has Landlock.
///
/// # Errors
/// As landlock_restrict_self(2).
pub(super) fn from_files() -> io::Result<Fileless> {
    crate::sandbox::restrict_to_nothing().map(|landlock| Fileless { landlock })
}

/// Takes away every call but those that work on what is open already.
///
/// # Errors
/// As seccomp(2); EINVAL where the kernel has no filters.
pub(super) fn to_its_descriptors(_: &Fileless) -> io::Result<()> {
    allowlist::leave(&[libc::SYS_fdatasync], only_so().map_err(io::Error::other)?)
}

/// What may be called with some arguments only.
fn only_so() -> Result<Vec<OnlySo>, BackendError> {
    let option = |name: c_int| SeccompRule::new(vec![is(1, libc::SOL_SOCKET)?, is(2, name)?]);
    Ok(vec![
        // Who the supervisor is.
        (libc::SYS_getsockopt, vec![option(libc::SO_PEERCRED)?]),
        // What a client's socket brings out of band stays in line.
        (libc::SYS_setsockopt, vec![option(libc::SO_OOBINLINE)?]),
        allowlist::fcntl(&[libc::F_GETFD, libc::F_GET_SEALS, libc::F_DUPFD_CLOEXEC])?,
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
        if deed == "file" && !landlock.landlock {
            assert!(std::env::var_os("CI").is_none(), "this kernel has no Landlock");
            return eprintln!("SKIPPED: this kernel has no Landlock");
        }
        if deed == "file" {
            let kind = std::fs::File::open("/dev/null").map_err(|error| error.kind());
            assert_eq!(kind.err(), Some(std::io::ErrorKind::PermissionDenied));
            return;
        }
        super::to_its_descriptors(&landlock).expect("a filter");
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
