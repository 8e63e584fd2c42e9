//! Devices: disks, terminals, tunnels, the kernel's log.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::attempt::{Attempt, deed, reached};
use super::{Probe, probe};
use crate::sys::{Argument, attempt};

pub(super) const PROBES: &[Probe] = &[
    probe("devices.disk", "a disk is opened", "open", |_| {
        any(&["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/xvda", "/dev/dm-0", "/dev/loop0"])
    }),
    probe("devices.loop-control", "a file is made a disk", "open", |_| any(&["/dev/loop-control"])),
    probe("devices.fuse", "a file system of its own can be served", "open", |_| {
        any(&["/dev/fuse"])
    }),
    probe("devices.tun", "a network interface can be made", "open", |_| any(&["/dev/net/tun"])),
    probe("devices.kvm", "virtual machines can be made", "open", |_| any(&["/dev/kvm"])),
    probe("devices.terminals", "terminals can be made", "open", |_| {
        any(&["/dev/ptmx", "/dev/pts/ptmx"])
    }),
    probe("devices.terminal", "the terminal of whoever started it is opened", "open", |_| {
        any(&["/dev/tty"])
    }),
    probe("devices.kernel-log", "the kernel's log is opened", "open", |_| any(&["/dev/kmsg"])),
    probe("devices.memory", "the machine's memory is opened", "open", |_| {
        any(&["/dev/mem", "/dev/kmem", "/proc/kcore"])
    }),
    probe("devices.made", "a device file is made", "mknod", |_| {
        let path = std::env::temp_dir().join(format!("probe-device-{}", std::process::id()));
        let made = mknod(&path, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(1, 3));
        let _ = std::fs::remove_file(&path);
        deed(made)
    }),
    probe("devices.typed-input", "input is put into a terminal", "ioctl TIOCSTI", |_| {
        ioctl(nix::libc::TIOCSTI)
    }),
    probe("devices.console", "the console's selection is pasted", "ioctl TIOCLINUX", |_| {
        ioctl(nix::libc::TIOCLINUX)
    }),
];

/// Open where one of them can be opened; closed again at once.
fn any(paths: &[&str]) -> Attempt {
    let mut last = Attempt::blocked("ENOENT");
    for path in paths {
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
        last = deed(OpenOptions::new().read(true).custom_flags(flags).open(path));
        if last.outcome == super::Outcome::Open {
            return Attempt::open(*path);
        }
    }
    last
}

/// On standard input, which is no terminal: a filter refuses the request before anybody looks at that.
fn ioctl(request: nix::libc::Ioctl) -> Attempt {
    let request = i32::try_from(request).unwrap_or_default();
    let arguments = [Argument::Number(0), Argument::Number(request), Argument::Bytes(b" \0")];
    reached(attempt(nix::libc::SYS_ioctl, &arguments))
}
