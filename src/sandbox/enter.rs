//! Into the namespaces: from a process like any other to one that has nothing of the host but what its
//! tree will hold.
//!
//! The order matters. The cgroup first, while its files are in reach; with user namespaces then the
//! tenant's own user, so that nothing of root is left when the namespaces are made; without them the
//! user comes last ([`Backend::Root`]), because making a root needs what root may.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{self, Gid, Uid};
use rustix::thread::CapabilitySet;

use super::bubblewrap;
use super::failure::Failure;
use crate::config::tenant::Layer;
use crate::sys;
use crate::wire::Identity;
use crate::wire::stage::{Backend, Network, Seat, StagePlan};

/// Joins the cgroup that the supervisor made for this server. What is started from here on is in it.
pub(super) fn take_seat(seat: &Seat) -> Result<(), Failure> {
    for path in &seat.procs {
        let join = std::fs::write(path, "0");
        join.map_err(|error| Failure::new(format!("cannot join {path}"), error).of(Layer::Cgroup))?;
    }
    Ok(())
}

/// Becomes another user for good (credentials(7)): real, effective and saved ids, and all groups.
pub(super) fn become_user(identity: &Identity) -> io::Result<()> {
    sys::become_user(identity.uid, identity.gid, &identity.groups, CapabilitySet::empty())
}

/// Becomes the keeper's user (system mode): of root nothing is left but the right to end what it keeps.
pub(super) fn become_keeper(identity: &Identity) -> io::Result<()> {
    let Identity { uid, gid, groups } = identity;
    limit_capabilities(CapabilitySet::KILL);
    sys::become_user(*uid, *gid, groups, CapabilitySet::KILL)?;
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// Takes all others out of the bounding set, as far as this process may.
pub(super) fn limit_capabilities(keep: CapabilitySet) {
    for one in CapabilitySet::all().difference(keep).iter() {
        // Those that this kernel does not know cannot be held either.
        let _ = rustix::thread::remove_capability_from_bounding_set(one);
    }
}

/// Makes the namespaces; the next fork is pid 1 of the new pid namespace.
pub(super) fn namespaces(plan: &StagePlan) -> Result<(), Failure> {
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    flags.set(CloneFlags::CLONE_NEWNET, plan.network != Network::Host);
    flags.set(CloneFlags::CLONE_NEWUSER, plan.backend == Backend::UserNamespace);
    let (uid, gid) = (unistd::getuid(), unistd::getgid());
    let failed = |error| Failure::new("cannot make namespaces", error).of(Layer::Namespaces);
    if plan.backend == Backend::Bubblewrap {
        bubblewrap::enter().map_err(failed)?;
    }
    let before = mounts().map_err(failed)?;
    unshare(flags).map_err(|error| failed(error.into()))?;
    if mounts().map_err(failed)? == before {
        // The root that is made next would be everybody's.
        return Err(failed(io::Error::other("the mounts are still those of the host")));
    }
    if plan.backend == Backend::UserNamespace {
        map(uid, gid).map_err(failed)?;
    }
    Ok(())
}

/// Which mount namespace this process is in (namespaces(7)).
fn mounts() -> io::Result<(u64, u64)> {
    let namespace = std::fs::metadata("/proc/self/ns/mnt")?;
    Ok((namespace.dev(), namespace.ino()))
}

/// Maps the one user and group to themselves (user_namespaces(7)): every file and path means inside what
/// it means outside.
fn map(uid: Uid, gid: Gid) -> io::Result<()> {
    // The files of an undumpable process belong to root, who is somebody else here.
    nix::sys::prctl::set_dumpable(true)?;
    let mapped = std::fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")))
        .and_then(|()| std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")));
    sys::become_undumpable()?;
    mapped
}

/// Gives up every capability, now and for whatever is executed (capabilities(7)).
pub(super) fn drop_capabilities() -> io::Result<()> {
    limit_capabilities(CapabilitySet::empty());
    sys::give_up_capabilities()
}

/// No user namespace can be made below this one. The filter of system calls says the same; this holds for
/// what the filter's authors did not think of. Then nothing of /proc can be written any more: a part of
/// /proc/sys is the whole machine's, and asks for uid 0 alone, not for a capability.
pub(super) fn close_proc(backend: Backend) -> Result<(), Failure> {
    // Without a user namespace of our own the number would be the machine's.
    if matches!(backend, Backend::UserNamespace | Backend::Bubblewrap) {
        // A kernel without the file has no such namespaces to make.
        let _ = std::fs::write("/proc/sys/user/max_user_namespaces", "0");
    }
    let proc = std::fs::File::open("/proc").map_err(Failure::during("open /proc"))?;
    let read_only = rustix::mount::MountAttrFlags::MOUNT_ATTR_RDONLY;
    let closed = sys::set_mount_attributes(&proc, read_only, true, None);
    closed.map_err(Failure::during("make /proc read-only"))
}

/// The name of this host, as the server sees it.
pub(super) fn name_host(plan: &StagePlan) -> Result<(), Failure> {
    let name = plan.env.get("TENANTD_TENANT").map_or("tenant", String::as_str);
    match unistd::sethostname(name) {
        // A unit with ProtectHostname= forbids it. Then the server sees the machine's name, and no more.
        Ok(()) | Err(nix::errno::Errno::EPERM) => Ok(()),
        Err(error) => Err(Failure::during("name the host")(error)),
    }
}

/// Reads nothing, writes nowhere: what a role holds as its standard descriptors while it only waits.
pub(super) fn detach_stdio() -> io::Result<()> {
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let null = OwnedFd::from(null);
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}
