//! Other processes: to see, to read, to signal, to slow down, to take descriptors from.

use std::io::IoSliceMut;
use std::path::{Path, PathBuf};

use nix::sys::ptrace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use rustix::process::PidfdFlags;

use super::attempt::{Attempt, deed, reached, with};
use super::brief::started;
use super::run::Scene;
use super::{Probe, probe};
use crate::sys::{Argument, attempt};

pub(super) const PROBES: &[Probe] = &[
    probe(
        "processes.supervisor-seen",
        "the supervisor's command line is read",
        "open cmdline",
        |s| file(s, "supervisor", "cmdline"),
    ),
    probe(
        "processes.supervisor-environment",
        "the supervisor's environment is read",
        "open environ",
        |s| file(s, "supervisor", "environ"),
    ),
    probe("processes.supervisor-memory", "the supervisor's memory is opened", "open mem", |s| {
        file(s, "supervisor", "mem")
    }),
    probe(
        "processes.supervisor-descriptors",
        "the supervisor's descriptors are listed",
        "readdir fd",
        |s| directory(s, "supervisor", "fd"),
    ),
    probe(
        "processes.supervisor-root",
        "the supervisor's file system is entered",
        "readdir root",
        |s| directory(s, "supervisor", "root/"),
    ),
    probe("processes.supervisor-signalled", "the supervisor can be signalled", "kill", |s| {
        signal(s, "supervisor")
    }),
    probe("processes.supervisor-held", "a handle of the supervisor is taken", "pidfd_open", |s| {
        held(s, "supervisor")
    }),
    probe("processes.supervisor-slowed", "the supervisor's priority is set", "setpriority", |s| {
        priority(s, "supervisor")
    }),
    probe("processes.supervisor-limited", "the supervisor's limits are read", "prlimit", |s| {
        limits(s, "supervisor")
    }),
    probe(
        "processes.supervisor-moved",
        "the supervisor's processors are chosen",
        "sched_setaffinity",
        |s| affinity(s, "supervisor"),
    ),
    probe("processes.mux-seen", "the other mux's command line is read", "open cmdline", |s| {
        file(s, "mux", "cmdline")
    }),
    probe(
        "processes.mux-environment",
        "the other mux's environment is read",
        "open environ",
        |s| file(s, "mux", "environ"),
    ),
    probe("processes.mux-memory", "the other mux's memory is opened", "open mem", |s| {
        file(s, "mux", "mem")
    }),
    probe(
        "processes.mux-descriptors",
        "the other mux's descriptors are listed",
        "readdir fd",
        |s| directory(s, "mux", "fd"),
    ),
    probe("processes.mux-signalled", "the other mux can be signalled", "kill", |s| {
        signal(s, "mux")
    }),
    probe(
        "processes.keeper-seen",
        "the other keeper's command line is read",
        "open cmdline",
        |s| file(s, "keeper", "cmdline"),
    ),
    probe("processes.keeper-memory", "the other keeper's memory is opened", "open mem", |s| {
        file(s, "keeper", "mem")
    }),
    probe("processes.keeper-signalled", "the other keeper can be signalled", "kill", |s| {
        signal(s, "keeper")
    }),
    probe(
        "processes.server-seen",
        "the other server's command line is read",
        "open cmdline",
        |s| file(s, "server", "cmdline"),
    ),
    probe(
        "processes.server-environment",
        "the other server's environment is read",
        "open environ",
        |s| file(s, "server", "environ"),
    ),
    probe("processes.server-memory", "the other server's memory is opened", "open mem", |s| {
        file(s, "server", "mem")
    }),
    probe("processes.server-maps", "the other server's memory is mapped out", "open maps", |s| {
        file(s, "server", "maps")
    }),
    probe(
        "processes.server-descriptors",
        "the other server's descriptors are listed",
        "readdir fd",
        |s| directory(s, "server", "fd"),
    ),
    probe(
        "processes.server-root",
        "the other server's file system is entered",
        "readdir root",
        |s| directory(s, "server", "root/"),
    ),
    probe(
        "processes.server-directory",
        "the other server's working directory is entered",
        "readdir cwd",
        |s| directory(s, "server", "cwd/"),
    ),
    probe("processes.server-traced", "the other server is traced", "ptrace", |s| {
        of(s, "server", |pid| deed(ptrace::seize(Pid::from_raw(pid), ptrace::Options::empty())))
    }),
    probe("processes.server-read", "the other server's memory is read", "process_vm_readv", |s| {
        remote(s, "server")
    }),
    probe("processes.server-signalled", "the other server can be signalled", "kill", |s| {
        signal(s, "server")
    }),
    probe("processes.server-held", "a handle of the other server is taken", "pidfd_open", |s| {
        held(s, "server")
    }),
    probe(
        "processes.server-robbed",
        "a descriptor of the other server is taken",
        "pidfd_getfd",
        |s| robbed(s, "server"),
    ),
    probe("processes.server-slowed", "the other server's priority is set", "setpriority", |s| {
        priority(s, "server")
    }),
    probe("processes.server-limited", "the other server's limits are read", "prlimit", |s| {
        limits(s, "server")
    }),
    probe(
        "processes.server-moved",
        "the other server's processors are chosen",
        "sched_setaffinity",
        |s| affinity(s, "server"),
    ),
    probe(
        "processes.server-compared",
        "the other server's descriptors are compared with its own",
        "kcmp",
        |s| {
            of(s, "server", |pid| {
                let numbers =
                    [std::process::id().cast_signed(), pid, 0, 0, 0].map(Argument::Number);
                reached(attempt(nix::libc::SYS_kcmp, &numbers))
            })
        },
    ),
    probe("processes.init-environment", "process 1's environment is read", "open environ", |_| {
        deed(std::fs::File::open("/proc/1/environ"))
    }),
    probe("processes.init-root", "process 1's file system is entered", "readdir root", |_| {
        deed(std::fs::read_dir("/proc/1/root/"))
    }),
    probe("processes.init-memory", "process 1's memory is opened", "open mem", |_| {
        deed(std::fs::File::open("/proc/1/mem"))
    }),
    probe("processes.init-privileged", "process 1 has capabilities", "open status", |_| {
        match std::fs::read_to_string("/proc/1/status") {
            Ok(status) => privileged(&status),
            Err(error) => deed(Err::<(), _>(error)),
        }
    }),
    probe(
        "processes.secrets",
        "a secret of another process is found",
        "open environ, cmdline",
        secrets,
    ),
];

/// Whether it holds a capability, or could come to hold one by an execve(2).
fn privileged(status: &str) -> Attempt {
    let keys = ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:", "CapBnd:"];
    let of = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let held = keys.iter().find(|key| of(key).is_none_or(|set| set.contains(|c| c != '0')));
    match (held, of("NoNewPrivs:")) {
        (Some(key), _) => Attempt::open(format!("{key} {}", of(key).unwrap_or("unknown"))),
        (None, Some("1")) => Attempt::blocked("none"),
        (None, other) => Attempt::open(format!("NoNewPrivs: {}", other.unwrap_or("unknown"))),
    }
}

/// Does something to a process outside, if its number means that process here.
fn of(s: &Scene<'_>, name: &str, attempt: impl FnOnce(i32) -> Attempt) -> Attempt {
    with(s.brief.processes.get(name), &format!("the {name}"), |known| match started(known.pid) {
        Some(when) if when != known.started => {
            Attempt::blocked("that number is another process here")
        }
        _ => attempt(known.pid),
    })
}

fn proc(pid: i32, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

fn file(s: &Scene<'_>, name: &str, file: &str) -> Attempt {
    of(s, name, |pid| deed(std::fs::File::open(proc(pid, file))))
}

fn directory(s: &Scene<'_>, name: &str, directory: &str) -> Attempt {
    of(s, name, |pid| deed(std::fs::read_dir(proc(pid, directory))))
}

/// Signal 0 asks whether one may, and sends nothing (kill(2)).
fn signal(s: &Scene<'_>, name: &str) -> Attempt {
    of(s, name, |pid| deed(nix::sys::signal::kill(Pid::from_raw(pid), None)))
}

fn handle(pid: i32) -> Result<std::os::fd::OwnedFd, rustix::io::Errno> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(rustix::io::Errno::INVAL)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty())
}

fn held(s: &Scene<'_>, name: &str) -> Attempt {
    of(s, name, |pid| deed(handle(pid)))
}

/// Its standard input: closed with this process.
fn robbed(s: &Scene<'_>, name: &str) -> Attempt {
    use std::os::fd::AsRawFd as _;
    of(s, name, |pid| match handle(pid) {
        Ok(held) => {
            let numbers = [held.as_raw_fd(), 0, 0].map(Argument::Number);
            deed(attempt(nix::libc::SYS_pidfd_getfd, &numbers))
        }
        Err(error) => deed(Err::<(), _>(error)),
    })
}

/// As it is, so that nothing changes.
fn priority(s: &Scene<'_>, name: &str) -> Attempt {
    of(s, name, |pid| {
        let pid = rustix::process::Pid::from_raw(pid);
        let same = rustix::process::getpriority_process(pid);
        deed(same.and_then(|same| rustix::process::setpriority_process(pid, same)))
    })
}

fn affinity(s: &Scene<'_>, name: &str) -> Attempt {
    of(s, name, |pid| {
        let pid = rustix::process::Pid::from_raw(pid);
        let same = rustix::thread::sched_getaffinity(pid);
        deed(same.and_then(|same| rustix::thread::sched_setaffinity(pid, &same)))
    })
}

fn limits(s: &Scene<'_>, name: &str) -> Attempt {
    of(s, name, |pid| {
        let resource = i32::try_from(nix::libc::RLIMIT_NOFILE).unwrap_or_default();
        let arguments = [
            Argument::Number(pid),
            Argument::Number(resource),
            Argument::Number(0),
            Argument::Bytes(&[0; 16]),
        ];
        deed(attempt(nix::libc::SYS_prlimit64, &arguments))
    })
}

/// From address 0, where nothing is: EFAULT says that the kernel looked there.
fn remote(s: &Scene<'_>, name: &str) -> Attempt {
    of(s, name, |pid| {
        let mut room = [0; 8];
        let here = &mut [IoSliceMut::new(&mut room)];
        reached(process_vm_readv(Pid::from_raw(pid), here, &[RemoteIoVec { base: 0, len: 8 }]))
    })
}

/// In what every process shows of itself.
fn secrets(s: &Scene<'_>) -> Attempt {
    with(s.brief.secret.as_deref(), "a secret", |secret| {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut processes = 0;
        for pid in entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            processes += 1;
            let shown = ["environ", "cmdline"].map(|name| std::fs::read(proc(pid, name)));
            let found = |bytes: &Vec<u8>| memchr::memmem::find(bytes, secret.as_bytes()).is_some();
            if shown.iter().flatten().any(found) {
                return Attempt::open(format!("process {pid} shows it"));
            }
        }
        Attempt::blocked(format!("not in any of {processes} processes"))
    })
}
