//! Programs: what can be executed that should not, and set-user-ID bits, which would let a server leave a
//! program behind for others to run.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{Mode, SFlag, mknod};
use rustix::fs::StatVfsMountFlags;

use super::attempt::{Attempt, with, word};
use super::kernel::lacks;
use super::run::Scene;
use super::{Probe, probe};
use crate::sys::{Argument, attempt};

/// Programs that are set-user-ID root on most systems, and wait for their input when run without arguments.
const SET_USER_ID: [&str; 5] =
    ["/usr/bin/su", "/bin/su", "/usr/bin/passwd", "/usr/bin/newgrp", "/usr/bin/chsh"];

/// How long such a program may take to come to that.
const SETTLES: Duration = Duration::from_secs(2);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(1);

pub(super) const PROBES: &[Probe] = &[
    probe("programs.data", "a program in the data directory is executed", "execve", |s| {
        if s.brief.data_exec {
            return Attempt::failed("the tenant's file allows it (sandbox.data_exec)");
        }
        with(s.brief.data.as_deref(), "the data directory", |data| executed(Path::new(data)))
    }),
    probe("programs.tmp", "a program in /tmp is executed", "execve", |_| {
        executed(Path::new("/tmp"))
    }),
    probe("programs.shm", "a program in /dev/shm is executed", "execve", |_| {
        executed(Path::new("/dev/shm"))
    }),
    probe(
        "programs.data-mounted",
        "the data directory is mounted so that programs may be executed",
        "statvfs",
        |s| {
            if s.brief.data_exec {
                return Attempt::failed("the tenant's file allows it (sandbox.data_exec)");
            }
            with(s.brief.data.as_deref(), "the data directory", |data| {
                lacks(data, StatVfsMountFlags::NOEXEC)
            })
        },
    ),
    probe(
        "programs.data-trusted",
        "set-user-ID programs in the data directory count",
        "statvfs",
        |s| {
            with(s.brief.data.as_deref(), "the data directory", |data| {
                lacks(data, StatVfsMountFlags::NOSUID)
            })
        },
    ),
    probe("programs.memfd", "a program in memory is executed", "memfd_create, execve", |_| {
        in_memory()
    }),
    probe("programs.set-user-id", "a set-user-ID program runs as root", "execve", |_| {
        set_user_id()
    }),
    probe("programs.mark-chmod", "a file is made set-user-ID", "chmod", |s| {
        marked(s, 0o4000, |file| {
            std::fs::write(file, "")?;
            std::fs::set_permissions(file, Permissions::from_mode(0o4700))
        })
    }),
    probe("programs.mark-group", "a file is made set-group-ID", "fchmod", |s| {
        marked(s, 0o2000, |file| {
            File::create(file)?.set_permissions(Permissions::from_mode(0o2710))
        })
    }),
    probe("programs.mark-fchmodat", "a file is made set-user-ID", "fchmodat2", |s| {
        marked(s, 0o4000, |file| {
            std::fs::write(file, "")?;
            let path = nul(file);
            let arguments = [
                Argument::Number(nix::libc::AT_FDCWD),
                Argument::Bytes(&path),
                Argument::Number(0o4700),
                Argument::Number(0),
            ];
            attempt(nix::libc::SYS_fchmodat2, &arguments).map(drop)
        })
    }),
    probe("programs.mark-open", "a set-user-ID file is made", "open", |s| {
        marked(s, 0o4000, |file| {
            File::options().write(true).create_new(true).mode(0o4700).open(file).map(drop)
        })
    }),
    probe("programs.mark-openat2", "a set-user-ID file is made", "openat2", |s| {
        marked(s, 0o4000, |file| {
            // struct open_how: flags, mode, resolve (openat2(2)).
            let flags = u64::from(
                (nix::libc::O_CREAT | nix::libc::O_EXCL | nix::libc::O_WRONLY).unsigned_abs(),
            );
            let how: Vec<u8> = [flags, 0o4700, 0].into_iter().flat_map(u64::to_ne_bytes).collect();
            let path = nul(file);
            let arguments = [
                Argument::Number(nix::libc::AT_FDCWD),
                Argument::Bytes(&path),
                Argument::Bytes(&how),
                Argument::Number(24),
            ];
            attempt(nix::libc::SYS_openat2, &arguments).map(drop)
        })
    }),
    probe("programs.mark-mknod", "a set-user-ID file is made", "mknod", |s| {
        marked(s, 0o4000, |file| Ok(mknod(file, SFlag::S_IFREG, Mode::S_ISUID | Mode::S_IRWXU, 0)?))
    }),
];

/// A place in a directory that is the probe's own.
fn place(directory: &Path) -> PathBuf {
    directory.join(format!("probe-program-{}", std::process::id()))
}

fn nul(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt as _;
    [path.as_os_str().as_bytes(), &[0]].concat()
}

fn executed(directory: &Path) -> Attempt {
    let path = place(directory);
    let made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(&path)
        .and_then(|mut file| file.write_all(b"#!/bin/sh\nexit 0\n"));
    if let Err(error) = made {
        return Attempt::blocked(format!("no file can be made there: {}", word(&error)));
    }
    let ran = run(&path);
    let _ = std::fs::remove_file(&path);
    ran
}

/// Open where it was executed and said that it went well.
fn run(path: &Path) -> Attempt {
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Ok(status) => Attempt::open_if(status.success(), status.to_string()),
        Err(error) => Attempt::blocked(word(&error)),
    }
}

fn in_memory() -> Attempt {
    let program =
        ["/bin/true", "/usr/bin/true"].into_iter().find_map(|path| std::fs::read(path).ok());
    with(program, "a program to copy", |program| {
        let made = memfd_create(c"probe", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from);
        let file =
            made.map(File::from).and_then(|mut file| file.write_all(&program).map(|()| file));
        match file {
            Ok(file) => run(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd()))),
            Err(error) => Attempt::blocked(word(&error)),
        }
    })
}

/// Whether the program runs with another effective uid than ours: it waits for its input meanwhile.
fn set_user_id() -> Attempt {
    let marked = |path: &&&str| {
        std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o4000 != 0)
    };
    let Some(path) = SET_USER_ID.iter().find(marked) else {
        return Attempt::blocked("there is no such program");
    };
    let mut command = Command::new(path);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Attempt::blocked(word(&error)),
    };
    let status = waiting(child.id());
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let uids: Vec<_> = uids.split_whitespace().collect();
    // It may have ended already; its real uid is ours, so that it can be ended.
    let _ = child.kill();
    let _ = child.wait();
    match uids.as_slice() {
        [real, effective, ..] => Attempt::open_if(
            real != effective,
            format!("{path}: uid {real}, effective {effective}"),
        ),
        _ => Attempt::failed(format!("{path} could not be looked at")),
    }
}

/// The status of a program when it waits for its input or has ended: execve(2) lets its parent go on before the
/// new program has the credentials that it will have.
fn waiting(pid: u32) -> String {
    let until = Instant::now() + SETTLES;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let state = status.lines().find_map(|line| line.strip_prefix("State:\t"));
        if state.is_none_or(|state| state.starts_with(['S', 'Z'])) || Instant::now() > until {
            return status;
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether a file of the server's own got the bit.
fn marked(s: &Scene<'_>, bit: u32, make: impl FnOnce(&Path) -> io::Result<()>) -> Attempt {
    with(s.brief.data.as_deref(), "the data directory", |data| {
        let path = place(Path::new(data));
        let made = make(&path);
        let mode = std::fs::metadata(&path).map(|file| file.permissions().mode());
        let _ = std::fs::remove_file(&path);
        match (made, mode) {
            (Err(error), _) => Attempt::blocked(word(&error)),
            (Ok(()), Ok(mode)) => {
                Attempt::open_if(mode & bit != 0, format!("mode {:04o}", mode & 0o7777))
            }
            (Ok(()), Err(error)) => Attempt::failed(format!("it is not there: {error}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probes::Outcome;

    #[test]
    fn without_a_sandbox_a_program_runs_and_nothing_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(executed(dir.path()).outcome, Outcome::Open);
        assert_eq!(in_memory().outcome, Outcome::Open);
        assert_eq!(std::fs::read_dir(dir.path()).expect("a directory").count(), 0);
    }
}
