//! What only an administrator may do, and whether the process could come to be one.

use nix::libc::{
    SYS_acct, SYS_clock_settime, SYS_delete_module, SYS_finit_module, SYS_kexec_load, SYS_quotactl,
    SYS_reboot, SYS_sethostname, SYS_settimeofday, SYS_swapon, SYS_syslog,
};
use nix::unistd::{Gid, Uid};

use super::attempt::{Attempt, deed, reached};
use super::{Probe, probe};
use crate::sys::{Argument, attempt};

pub(super) const PROBES: &[Probe] = &[
    probe("privileges.capabilities", "it has capabilities", "read /proc/self/status", |_| {
        let held = ["CapPrm:", "CapEff:", "CapAmb:", "CapInh:"].map(status);
        let some = held.iter().flatten().find(|set| set.chars().any(|digit| digit != '0'));
        match some {
            Some(set) => Attempt::open(set.clone()),
            None => Attempt::open_if(held.contains(&None), "none"),
        }
    }),
    probe("privileges.bounding", "capabilities could come back", "read /proc/self/status", |_| {
        let set = status("CapBnd:").unwrap_or_default();
        Attempt::open_if(set.chars().any(|digit| digit != '0'), set)
    }),
    probe("privileges.gained", "an execve can bring privileges", "read /proc/self/status", |_| {
        let no_new = status("NoNewPrivs:").unwrap_or_default();
        Attempt::open_if(no_new != "1", format!("NoNewPrivs {no_new}"))
    }),
    probe(
        "privileges.filter",
        "no filter looks at its system calls",
        "read /proc/self/status",
        |_| {
            let mode = status("Seccomp:").unwrap_or_default();
            Attempt::open_if(mode != "2", format!("Seccomp {mode}"))
        },
    ),
    probe("privileges.landlock", "no Landlock rules look at its paths", "readdir /", |_| {
        // Its root is its own and nothing hides it but these rules, which do not name it.
        deed(std::fs::read_dir("/"))
    }),
    probe("privileges.root", "it becomes root", "setuid", |_| {
        match nix::unistd::getuid().is_root() {
            // Without a capability it is a user like any other, and this probe says nothing.
            true => Attempt::failed("it has root's number, with or without a sandbox"),
            false => deed(nix::unistd::setuid(Uid::from_raw(0))),
        }
    }),
    probe("privileges.root-group", "it becomes root's group", "setgid", |_| {
        match nix::unistd::getgid().as_raw() {
            0 => Attempt::failed("it has the number of root's group, with or without a sandbox"),
            _ => deed(nix::unistd::setgid(Gid::from_raw(0))),
        }
    }),
    probe("privileges.groups", "it joins a group", "setgroups", |_| {
        deed(nix::unistd::setgroups(&[Gid::from_raw(6)]))
    }),
    probe("privileges.clock", "the clock is set", "clock_settime", |_| {
        let time: Vec<u8> = now().into_iter().flat_map(i64::to_ne_bytes).collect();
        deed(attempt(SYS_clock_settime, &[Argument::Number(0), Argument::Bytes(&time)]))
    }),
    probe("privileges.time", "the time zone of the kernel is set", "settimeofday", |_| {
        let zone = [0_u8; 8];
        deed(attempt(SYS_settimeofday, &[Argument::Number(0), Argument::Bytes(&zone)]))
    }),
    probe("privileges.name", "the host's name is set", "sethostname", |_| {
        let name = nix::unistd::gethostname().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let length = i32::try_from(name.len()).unwrap_or_default();
        deed(attempt(
            SYS_sethostname,
            &[Argument::Bytes(name.as_bytes()), Argument::Number(length)],
        ))
    }),
    probe("privileges.module", "a module is loaded into the kernel", "finit_module", |_| {
        let arguments = [Argument::Number(-1), Argument::Bytes(&[0]), Argument::Number(0)];
        reached(attempt(SYS_finit_module, &arguments))
    }),
    probe(
        "privileges.module-removed",
        "a module is removed from the kernel",
        "delete_module",
        |_| {
            let name = Argument::Bytes(b"tenantd-probe-of-no-module\0");
            reached(attempt(SYS_delete_module, &[name, Argument::Number(nix::libc::O_NONBLOCK)]))
        },
    ),
    probe("privileges.kernel", "another kernel is loaded", "kexec_load", |_| {
        // A flag that is none: refused for that where one may try.
        let none = Argument::Number(0);
        reached(attempt(SYS_kexec_load, &[none, none, none, Argument::Number(0x7fff)]))
    }),
    probe("privileges.reboot", "the machine is restarted", "reboot", |_| {
        // Without the magic numbers nothing happens.
        reached(attempt(SYS_reboot, &[Argument::Number(0); 4]))
    }),
    probe("privileges.swap", "memory is swapped to a file", "swapon", |_| {
        reached(attempt(SYS_swapon, &[Argument::Bytes(b"/dev/null/none\0"), Argument::Number(0)]))
    }),
    probe("privileges.accounting", "every process of the host is noted", "acct", |_| {
        reached(attempt(SYS_acct, &[Argument::Bytes(b"/dev/null/none\0")]))
    }),
    probe("privileges.quota", "quotas are changed", "quotactl", |_| {
        // Q_SYNC of a device that there is none of.
        let command = 0x0080_0001 << 8;
        let device = Argument::Bytes(b"/dev/null/none\0");
        deed(attempt(SYS_quotactl, &[Argument::Number(command), device, Argument::Number(0)]))
    }),
    probe("privileges.kernel-log", "the kernel's log is read", "syslog", |_| {
        // SYSLOG_ACTION_SIZE_UNREAD, which copies nothing.
        deed(attempt(SYS_syslog, &[Argument::Number(9)]))
    }),
    probe(
        "privileges.last-to-die",
        "it is the last to be ended for want of memory",
        "write oom_score_adj",
        |_| deed(std::fs::write("/proc/self/oom_score_adj", "-1000")),
    ),
    probe("privileges.first-in-line", "it runs before everybody", "setpriority", |_| {
        deed(rustix::process::setpriority_process(None, -20))
    }),
];

/// The time as it is: setting it changes next to nothing.
fn now() -> [i64; 2] {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    [i64::try_from(now.as_secs()).unwrap_or_default(), i64::from(now.subsec_nanos())]
}

/// One line of /proc/self/status.
fn status(key: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix(key))?.trim().to_owned())
}
