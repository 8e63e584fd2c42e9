//! A user namespace by bubblewrap, for a host whose AppArmor gives capabilities in one only to programs that
//! it names (Ubuntu: `bwrap-userns-restrict`).
//!
//! ```text
//!   leader --spawn--> bwrap --clone--> tenantd --role=namespace
//!     |                                   |  opens /proc/self/ns/user, hands it out on descriptor 0, ends
//!     |<----------------------------------'
//!   setns(2): every capability there, as the namespace's owner has (user_namespaces(7))
//! ```
//!
//! That profile takes the capabilities from whatever bubblewrap executes, so nothing of the stage runs inside.
//! Only the namespace is taken from there: the other ones, the tree and every layer after them are made as
//! they are everywhere. When the leader goes on, bubblewrap and what it started have ended; a leader that is
//! killed before leaves nothing behind that waits for anybody.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::sched::{CloneFlags, setns};
use nix::unistd;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::{RecvFlags, SendFlags};

use crate::sys;

/// Where systems have it. No PATH is asked: whoever sets one would choose the program.
const PLACES: [&str; 4] =
    ["/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap", "/run/current-system/sw/bin/bwrap"];

/// Its whole command line, in which nothing is of a tenant's. Without --uid and --gid it maps the one user and
/// group that it runs as to themselves. Descriptor 1 is this very program.
const ARGUMENTS: [&str; 8] = [
    "--unshare-user",
    "--die-with-parent",
    "--dev-bind",
    "/",
    "/",
    "--",
    "/proc/self/fd/1",
    "--role=namespace",
];

/// What the one datagram says; what matters is the descriptor with it.
const HANDED: &[u8] = b"user";

/// The most that is read of what bubblewrap says, bytes: it is for people, in one line.
const SAID_MAX: u64 = 512;

/// Enters a user namespace that bubblewrap makes for this process alone.
///
/// # Errors
/// Without a bubblewrap that can be trusted, and where it cannot make one either: with what it said.
pub(super) fn enter() -> io::Result<()> {
    let before = (unistd::getuid(), unistd::getgid());
    let namespace = made_by(program(&PLACES)?)?;
    setns(&namespace, CloneFlags::CLONE_NEWUSER).map_err(|error| {
        io::Error::other(format!("the user namespace of bubblewrap cannot be entered: {error}"))
    })?;
    // Who is not mapped is somebody else inside, and so would be what the server owns.
    if (unistd::getuid(), unistd::getgid()) != before {
        return Err(io::Error::other("the user namespace of bubblewrap maps other users"));
    }
    Ok(())
}

/// The first of these that is there. It must be root's alone to change, and its own user's to run.
fn program<'a>(places: &[&'a str]) -> io::Result<&'a Path> {
    let there = |place: &&'a str| Some((Path::new(*place), std::fs::metadata(place).ok()?));
    let Some((path, it)) = places.iter().find_map(there) else {
        return Err(io::Error::other(
            "bubblewrap is not installed (type: sudo apt-get install bubblewrap)",
        ));
    };
    let refused = |why: &str| Err(io::Error::other(format!("{} {why}", path.display())));
    let mode = Mode::from_raw_mode(it.mode());
    if FileType::from_raw_mode(it.mode()) != FileType::RegularFile {
        return refused("is no program");
    }
    if it.uid() != 0 || mode.intersects(Mode::WGRP | Mode::WOTH) {
        return refused("can be changed by others than root, and is not used");
    }
    if mode.contains(Mode::SUID) {
        // Then what it makes is root's, and not for its user to enter.
        return refused("is setuid, which gives no user namespace to its user (chmod u-s)");
    }
    Ok(path)
}

/// Has this program make one.
fn made_by(bubblewrap: &Path) -> io::Result<OwnedFd> {
    let own = rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let (near, far) = sys::seqpacket_pair()?;
    let (said, says) = io::pipe()?;
    let mut child = Command::new(bubblewrap)
        .args(ARGUMENTS)
        .env_clear()
        .stdin(Stdio::from(far))
        .stdout(Stdio::from(own))
        .stderr(Stdio::from(OwnedFd::from(says)))
        .spawn()?;
    let mut words = Vec::new();
    // Ends when it and what it started have ended.
    let heard = said.take(SAID_MAX).read_to_end(&mut words);
    let ended = child.wait()?;
    heard?;
    let handed = sys::receive_datagram(&near, &mut [0; HANDED.len()], RecvFlags::DONTWAIT);
    let handed = handed.map(|datagram| datagram.descriptors).unwrap_or_default();
    match <[OwnedFd; 1]>::try_from(handed) {
        Ok([namespace]) if ended.success() => Ok(namespace),
        _ => {
            let words = String::from_utf8_lossy(&words);
            let line = words.lines().next().unwrap_or("it said nothing").escape_debug();
            Err(io::Error::other(format!("bubblewrap made no user namespace ({ended}): {line}")))
        }
    }
}

/// The role that bubblewrap starts: hands out the user namespace that it is in.
pub fn hand_out() -> ExitCode {
    let undumpable = sys::become_undumpable();
    let handed = undumpable.and_then(|()| File::open("/proc/self/ns/user")).and_then(|namespace| {
        sys::send_datagram(io::stdin(), HANDED, &[namespace.as_fd()], SendFlags::DONTWAIT)
    });
    // Whoever waits for it sees that nothing came.
    handed.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn refusal(places: &[&str]) -> String {
        program(places).expect_err("refused").to_string()
    }

    #[test]
    fn only_a_program_that_is_roots_alone_is_used() {
        assert!(refusal(&[]).contains("apt-get install bubblewrap"));
        assert!(refusal(&["/nonexistent/bwrap"]).contains("apt-get install bubblewrap"));
        assert_eq!(
            program(&["/nonexistent/bwrap", "/bin/true"]).expect("it"),
            Path::new("/bin/true")
        );
        assert!(refusal(&["/dev/null"]).contains("is no program"));
        let file = tempfile::NamedTempFile::new().expect("a file");
        let place = file.path().to_str().expect("text");
        let mode = |mode| {
            let set = std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode));
            set.expect("chmod");
        };
        for writable in [0o775, 0o757] {
            mode(writable);
            assert!(refusal(&[place, "/bin/true"]).contains("by others than root"), "{writable:o}");
        }
        mode(0o755);
        match unistd::geteuid().is_root() {
            true => assert!(program(&[place]).is_ok()),
            false => assert!(refusal(&[place]).contains("by others than root")),
        }
        if unistd::geteuid().is_root() {
            mode(0o4755);
            assert!(refusal(&[place]).contains("is setuid"));
        }
    }
}
