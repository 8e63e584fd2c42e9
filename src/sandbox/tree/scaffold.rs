//! How a server's root is made: `new` beside `old` in a file system of memory, until the process turns
//! from one to the other (pivot_root(2)).
//!
//! ```text
//!   before            raise()            enter()
//!   /  (outside)      /     (memory)     /  (what was /new)
//!                     /old  (outside)
//!                     /new  (memory)
//! ```
//!
//! Everything is found by descriptors from `old` and `new` and without following a link
//! ([`sys::find`]): a path that is a link by now was another one when the plan was written.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::Access;
use super::pieces::{NAMES, Piece};
use crate::sys;
use crate::sys::find::{Links, find};

/// A directory that every system has, to put the scaffold on.
const BASE: &str = "/usr";

/// What no mount of a server's has, whatever else it has.
const PLAIN: MountAttrFlags =
    MountAttrFlags::MOUNT_ATTR_NOSUID.union(MountAttrFlags::MOUNT_ATTR_NODEV);
const READ_ONLY: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_RDONLY;
const NO_EXEC: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOEXEC;

/// Both roots, while one becomes the other.
pub(super) struct Scaffold {
    old: OwnedFd,
    new: OwnedFd,
}

impl Scaffold {
    /// Makes the new root, empty, and keeps the old one in reach. Every mount of this namespace becomes
    /// private: nothing that is done here is seen outside.
    pub(super) fn raise() -> io::Result<Self> {
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), BASE, Some("tmpfs"), flags, Some("mode=755,size=64k"))?;
        nix::unistd::chdir(BASE)?;
        for name in ["old", "new"] {
            rustix::fs::mkdir(name, Mode::from_raw_mode(0o755))?;
        }
        nix::unistd::pivot_root(".", "old")?;
        nix::unistd::chdir("/")?;
        let root = memory(NAMES, 0o755)?;
        attach(&root, open(rustix::fs::CWD, Path::new("new"))?.as_fd())?;
        Ok(Self {
            old: open(rustix::fs::CWD, Path::new("old"))?,
            new: open(rustix::fs::CWD, Path::new("new"))?,
        })
    }

    /// The root of outside.
    pub(super) fn old(&self) -> BorrowedFd<'_> {
        self.old.as_fd()
    }

    /// Makes one piece.
    pub(super) fn place(&self, path: &Path, piece: &Piece) -> io::Result<()> {
        let path = path.strip_prefix("/").map_err(|_| Errno::INVAL)?;
        match piece {
            Piece::Bind { access, must_be } => self.bind(path, attributes(*access), *must_be),
            Piece::Device => self.bind(path, MountAttrFlags::MOUNT_ATTR_NOSUID | NO_EXEC, None),
            Piece::Memory { bytes, mode, .. } => {
                attach(&memory(*bytes, *mode)?, self.directory(path)?.as_fd())
            }
            Piece::Processes => attach(&processes()?, self.directory(path)?.as_fd()),
            Piece::Hidden => self.hide(path),
            Piece::Directory { .. } => Ok(self.directory(path).map(drop)?),
            Piece::Link(target) => self.link(path, target),
            Piece::File(bytes) => self.file(path, bytes),
        }
    }

    /// Hangs a mount that is attached nowhere yet in the place of a piece.
    pub(super) fn hang(&self, path: &Path, piece: &Piece, mount: &OwnedFd) -> io::Result<()> {
        let path = path.strip_prefix("/").map_err(|_| Errno::INVAL)?;
        let access = piece.access().ok_or_else(|| io::Error::other("is nothing to write in"))?;
        sys::set_mount_attributes(mount, attributes(access), true, None)?;
        let place = self.directory(path).map_err(|error| link_or(error, "cannot be made"))?;
        attach(mount, place.as_fd())
    }

    /// Binds what has this path outside, with all that is mounted below it.
    fn bind(
        &self,
        path: &Path,
        attributes: MountAttrFlags,
        must_be: Option<(u64, u64)>,
    ) -> io::Result<()> {
        let source =
            open(&self.old, path).map_err(|error| link_or(error, "is not there any more"))?;
        let stat = rustix::fs::fstat(&source)?;
        if must_be.is_some_and(|it| it != (stat.st_dev, stat.st_ino)) {
            return Err(io::Error::other("is another directory than it was a moment ago"));
        }
        let target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(path),
            _ => self.placeholder(path),
        };
        let target = target.map_err(|error| link_or(error, "cannot be made"))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let flags = flags | OpenTreeFlags::AT_EMPTY_PATH | OpenTreeFlags::AT_RECURSIVE;
        let tree = rustix::mount::open_tree(&source, c"", flags)?;
        sys::set_mount_attributes(&tree, attributes, true, None)?;
        attach(&tree, target.as_fd())
    }

    /// Puts a device before it, on a mount where no device can be opened (EACCES, mount(2), MS_NODEV).
    fn hide(&self, path: &Path) -> io::Result<()> {
        let target = match open(&self.new, path) {
            Ok(target) => target,
            // A kernel that has no such thing shows nothing of it.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let source = open(&self.old, Path::new("dev/null"))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let flags = flags | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = rustix::mount::open_tree(&source, c"", flags)?;
        sys::set_mount_attributes(&tree, PLAIN | READ_ONLY | NO_EXEC, false, None)?;
        attach(&tree, target.as_fd())
    }

    /// The directory with this path inside, made with those above it where they are not there.
    fn directory(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        match open(&self.new, path) {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let (parent, name) = (self.parent(path)?, last(path)?);
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // Within what is bound read-only it cannot be.
            Err(Errno::ROFS | Errno::ACCESS) => return Err(Errno::NOENT),
            Err(error) => return Err(error),
        }
        open(&parent, name)
    }

    /// The directory that this path is in.
    fn parent(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        self.directory(path.parent().unwrap_or(Path::new("")))
    }

    /// A file to mount another one on.
    fn placeholder(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        let (parent, name) = (self.parent(path)?, last(path)?);
        match open(&parent, name) {
            Err(Errno::NOENT) => write(&parent, name, &[])?,
            found => return found,
        }
        open(&parent, name)
    }

    fn file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        Ok(write(&self.parent(path)?, last(path)?, bytes)?)
    }

    fn link(&self, path: &Path, target: &str) -> io::Result<()> {
        let parent = match self.parent(path) {
            // Its directory is a link itself, through which it is found as it is outside.
            Err(Errno::LOOP) => return Ok(()),
            parent => parent?,
        };
        match rustix::fs::symlinkat(target, parent, last(path)?) {
            // It lies within what is bound, where it is as it is outside.
            Ok(()) | Err(Errno::EXIST | Errno::ROFS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the new root the root, read-only, and lets the old one go.
    pub(super) fn enter(self) -> io::Result<()> {
        sys::set_mount_attributes(&self.new, PLAIN | READ_ONLY, false, None)?;
        nix::unistd::fchdir(&self.new)?;
        drop(self.old);
        umount2("/old", MntFlags::MNT_DETACH)?;
        nix::unistd::pivot_root(".", ".")?;
        rustix::mount::unmount(".", UnmountFlags::DETACH)?;
        Ok(nix::unistd::chdir("/")?)
    }
}

fn attributes(access: Access) -> MountAttrFlags {
    let mut attributes = PLAIN;
    attributes.set(READ_ONLY, !access.write);
    attributes.set(NO_EXEC, !access.execute);
    attributes
}

fn open(at: impl AsFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    find(at, path, Links::Refuse, OFlags::PATH)
}

/// What ELOOP and ENOENT mean here.
fn link_or(error: Errno, missing: &str) -> io::Error {
    match error {
        Errno::LOOP => io::Error::new(
            io::ErrorKind::NotFound,
            "leads through a symbolic link now (it did not when it was looked up; reload)",
        ),
        Errno::NOENT => io::Error::new(io::ErrorKind::NotFound, missing.to_owned()),
        error => error.into(),
    }
}

fn last(path: &Path) -> rustix::io::Result<&Path> {
    // Only the root has none.
    path.file_name().map(Path::new).ok_or(Errno::INVAL)
}

fn write(at: &OwnedFd, name: &Path, bytes: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o644))?;
    let mut left = bytes;
    while !left.is_empty() {
        left = left.get(rustix::io::write(&file, left)?..).unwrap_or_default();
    }
    Ok(())
}

/// A file system in memory (tmpfs(5)), at most one inode for each 4 KiB.
fn memory(bytes: u64, mode: u32) -> io::Result<OwnedFd> {
    let inodes = (bytes / 4096).max(1024).to_string();
    let options =
        [(c"size", bytes.to_string()), (c"nr_inodes", inodes), (c"mode", format!("{mode:o}"))];
    made(c"tmpfs", &options, PLAIN | NO_EXEC)
}

/// A file system in memory for its owner alone (of this process's user without one), of at most so many
/// bytes, each file rounded up to pages; never written to swap where the kernel lets a mount ask for that.
pub(in crate::sandbox) fn private_memory(
    bytes: u64,
    owner: Option<(u32, u32)>,
) -> io::Result<OwnedFd> {
    let mut options = vec![(c"size", bytes.to_string()), (c"mode", "700".to_owned())];
    if let Some((uid, gid)) = owner {
        options.extend([(c"uid", uid.to_string()), (c"gid", gid.to_string())]);
    }
    let wanted = rustix::mount::fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(wanted.as_fd(), key, value.as_bytes())?;
    }
    // Linux 6.4, and not in every user namespace. Without it, it is as what the server itself has in memory.
    let _ = rustix::mount::fsconfig_set_flag(wanted.as_fd(), c"noswap");
    rustix::mount::fsconfig_create(wanted.as_fd())?;
    let attributes = PLAIN | NO_EXEC;
    Ok(rustix::mount::fsmount(wanted.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn processes() -> io::Result<OwnedFd> {
    made(c"proc", &[], PLAIN | NO_EXEC)
}

fn made(
    kind: &CStr,
    options: &[(&CStr, String)],
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let wanted = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        rustix::mount::fsconfig_set_string(wanted.as_fd(), *key, value.as_bytes())?;
    }
    rustix::mount::fsconfig_create(wanted.as_fd())?;
    Ok(rustix::mount::fsmount(wanted.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Puts a mount on a place, both by their descriptors.
pub(in crate::sandbox) fn attach(mount: &OwnedFd, place: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, c"", place, c"", flags)?)
}
