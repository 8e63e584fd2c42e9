//! A person's directory for a server with a uid of its own: a mount on which the person's files look like the
//! server's, while on disk they stay, and new ones become, the person's (mount_setattr(2), MOUNT_ATTR_IDMAP).
//!
//! Made by root, of a directory that is open already, so that neither the way to it nor its modes matter to
//! the server. What comes out is attached to no place yet. It may be attached later by a process that has
//! become the server's uid and has a user and a mount namespace of its own (move_mount(2)): that is allowed
//! to whoever holds the descriptor. Other file systems mounted below the directory are not part of it.
//!
//! The kernel takes the mapping as a user namespace. A child makes one and ends; nothing else ever ran in it.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpid};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags};
use rustix::net::{RecvFlags, SendFlags};

use super::failure::Failure;
use crate::sys::{self, Forked};
use crate::wire::Identity;
use crate::wire::stage::{Owner, StagePlan};

/// A mount of `directory`, attached nowhere, on which what is `owner`'s on disk is `server`'s. What belongs to
/// `server`'s supplementary groups on disk still does; what is anybody else's is nobody's. Only for a process
/// with a single thread, and with root's privileges.
///
/// # Errors
/// `InvalidInput` for a root whose files are nobody's to lend; EINVAL, EOPNOTSUPP or ENOSYS where kernel or
/// file system cannot; ENOSPC or EPERM where there are no user namespaces.
pub fn map(directory: BorrowedFd<'_>, owner: Owner, server: &Identity) -> io::Result<OwnedFd> {
    if owner.uid == 0 || owner.gid == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let users = format!("{} {} 1\n", owner.uid, server.uid);
    let mut groups = format!("{} {} 1\n", owner.gid, server.gid);
    for group in server.groups.iter().filter(|group| **group != owner.gid) {
        groups.push_str(&format!("{group} {group} 1\n"));
    }
    let namespace = namespace(&users, &groups)?;
    let mount = copy(directory, OpenTreeFlags::empty())?;
    sys::set_mount_attributes(&mount, MountAttrFlags::empty(), false, Some(namespace.as_fd()))?;
    Ok(mount)
}

/// The data directory as a mount that is attached nowhere, made while the process is root: the way there need
/// not be open to the server's user.
pub(super) fn lend(
    plan: &StagePlan,
    data: &OwnedFd,
    server: &Identity,
) -> Result<OwnedFd, Failure> {
    let take = || copy(data.as_fd(), OpenTreeFlags::AT_RECURSIVE);
    let taken = Failure::during("take the data directory along");
    let Some(owner) = plan.view.data_owner else { return take().map_err(taken) };
    match map(data.as_fd(), owner, server) {
        Ok(mount) => Ok(mount),
        // By its groups it works there as well.
        Err(_) if plan.view.data_shared => take().map_err(taken),
        Err(error) => Err(not_lent(plan, owner, server, &error.to_string())),
    }
}

/// Without mounts of its own a server has its data as it is.
pub(super) fn as_it_is(plan: &StagePlan, server: &Identity) -> Result<(), Failure> {
    match plan.view.data_owner {
        Some(owner) if !plan.view.data_shared => {
            Err(not_lent(plan, owner, server, "there are no mount namespaces"))
        }
        _ => Ok(()),
    }
}

fn not_lent(plan: &StagePlan, owner: Owner, server: &Identity, why: &str) -> Failure {
    Failure::final_one(refusal(&plan.data, owner, server.uid, why))
}

/// That a person's directory cannot be lent to a server with this uid, and what to do.
pub fn refusal(data: &str, owner: Owner, server: u32, why: &str) -> String {
    let Owner { uid, .. } = owner;
    format!(
        "{data} belongs to uid {uid} and cannot be lent to the server here: {why} (name a group that may write \
         there in sandbox.groups, or chown -R {server}:{server} {data})"
    )
}

fn copy(directory: BorrowedFd<'_>, how: OpenTreeFlags) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let flags = flags | OpenTreeFlags::AT_EMPTY_PATH | how;
    Ok(rustix::mount::open_tree(directory, c"", flags)?)
}

/// A user namespace with these maps: "inside outside count" (user_namespaces(7)).
fn namespace(users: &str, groups: &str) -> io::Result<OwnedFd> {
    let (near, far) = sys::seqpacket_pair()?;
    match sys::fork_single_threaded()? {
        Forked::Child => {
            drop(near);
            // Nobody hears of a failure but by the silence.
            let _ = offer_namespace(&far);
            // Ends here and cleans nothing up, which is its parent's.
            let _ = kill(getpid(), Signal::SIGKILL);
            Err(io::Error::other("a killed process lives"))
        }
        Forked::Parent(child) => {
            drop(far);
            let made = take_namespace(&near, child, users, groups);
            let _ = kill(child, Signal::SIGKILL);
            waitpid(child, None)?;
            made
        }
    }
}

/// The child: sends its new namespace, or the number of an error, and waits to be ended.
fn offer_namespace(parent: &OwnedFd) -> io::Result<()> {
    let made = unshare(CloneFlags::CLONE_NEWUSER).map_err(io::Error::from).and_then(|()| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::open("/proc/self/ns/user", flags, Mode::empty())?)
    });
    let number = made.as_ref().err().and_then(io::Error::raw_os_error).unwrap_or(0);
    let descriptors: Vec<_> = made.iter().map(AsFd::as_fd).collect();
    sys::send_datagram(parent, &number.to_ne_bytes(), &descriptors, SendFlags::empty())?;
    sys::receive_datagram(parent, &mut [0; 1], RecvFlags::empty())?;
    Ok(())
}

fn take_namespace(child: &OwnedFd, pid: Pid, users: &str, groups: &str) -> io::Result<OwnedFd> {
    let mut number = [0; size_of::<i32>()];
    let got = sys::receive_datagram(child, &mut number, RecvFlags::empty())?;
    let Some(namespace) = got.descriptors.into_iter().next() else {
        return Err(match i32::from_ne_bytes(number) {
            0 => io::ErrorKind::UnexpectedEof.into(),
            number => io::Error::from_raw_os_error(number),
        });
    };
    for (file, map) in [("uid_map", users), ("gid_map", groups)] {
        // The kernel takes a map in one write.
        let path = format!("/proc/{pid}/{file}");
        OpenOptions::new().write(true).open(path)?.write_all(map.as_bytes())?;
    }
    Ok(namespace)
}
