//! A server's secrets as files: a file system in memory that pid 1 of its namespaces writes and the server
//! reads.
//!
//! Both have the same uid and the same mounts. What the server finds at [`CREDENTIALS`] is a read-only mount.
//! The writable one of the same file system is attached nowhere: pid 1 alone holds a descriptor of it, and is
//! no process that the server could look into. So a later value can take a file's place in one step while the
//! server runs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{MountAttrFlags, OpenTreeFlags, UnmountFlags};

use super::files;
use crate::sandbox::tree;
use crate::sys;
use crate::wire::credential::SECRET_MAX;
use crate::wire::stage::{CREDENTIALS, StagePlan};

/// What a file is called until it takes its place. No credential's file begins with a dot.
const NEW: &str = ".new";

/// The directory, through the mount that can be written.
pub(in crate::sandbox) struct Vault(OwnedFd);

impl Vault {
    /// Makes it and attaches the server's view of it; nothing where the plan asks for no file. Its root must
    /// be there by now, and this process still have its capabilities.
    ///
    /// # Errors
    /// As fsmount(2), open_tree(2), mount_setattr(2) and move_mount(2).
    pub(in crate::sandbox) fn open(plan: &StagePlan) -> io::Result<Option<Self>> {
        let count = files(plan).count() as u64;
        if count == 0 {
            return Ok(None);
        }
        let owner = plan.identity.as_ref().map(|identity| (identity.uid, identity.gid));
        // One more is there while it takes another one's place.
        let mount = tree::private_memory((count + 1) * SECRET_MAX, owner)?;
        // A mount can be copied only where it is attached.
        tree::attach(&mount, place()?.as_fd())?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let theirs = rustix::mount::open_tree(&mount, c"", flags | OpenTreeFlags::AT_EMPTY_PATH)?;
        sys::set_mount_attributes(&theirs, MountAttrFlags::MOUNT_ATTR_RDONLY, false, None)?;
        rustix::mount::unmount(CREDENTIALS, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        tree::attach(&theirs, place()?.as_fd())?;
        Ok(Some(Self(mount)))
    }

    /// Puts a value into its file, in one step: a reader finds the old one or the new one.
    ///
    /// # Errors
    /// As open(2), write(2) and rename(2).
    pub(in crate::sandbox) fn put(&self, file: &str, value: &[u8]) -> io::Result<()> {
        let written =
            self.write(value).and_then(|()| Ok(rustix::fs::renameat(&self.0, NEW, &self.0, file)?));
        if written.is_err() {
            // One that stayed would be in the way of the next.
            let _ = rustix::fs::unlinkat(&self.0, NEW, AtFlags::empty());
        }
        written
    }

    fn write(&self, value: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::from_raw_mode(0o400);
        let file = rustix::fs::openat(&self.0, NEW, flags | OFlags::CLOEXEC, mode)?;
        let mut left = value;
        while !left.is_empty() {
            left = left.get(rustix::io::write(&file, left)?..).unwrap_or_default();
        }
        Ok(())
    }
}

fn place() -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(CREDENTIALS, flags, Mode::empty())
}
