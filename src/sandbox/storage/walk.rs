//! How much a directory tree holds, counted by looking at every file of it.
//!
//! Whoever lives in the tree works against the count: it goes by single names, follows no link, leaves neither
//! the tree nor its mount (statx(2), STATX_MNT_ID; not openat2(2), which RestrictSUIDSGID= of a unit takes
//! away), holds one descriptor and one buffer for each level and nothing for each entry, and
//! ends as soon as it has seen enough. What it cannot look into is no excuse: see [`Unseen`].

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, Stat, StatxFlags, fstat, openat, statat, statx,
};
use rustix::io::Errno;

/// The deepest tree that is counted, levels: one descriptor each. Programs that name files by their whole
/// path reach some 2000, real ones have a few dozen.
pub(super) const DEEPEST: usize = 256;
/// What any entry costs at least, bytes: an inode, which no file system gives for nothing. Bounds the number
/// of files, and with it how long a walk takes.
const ENTRY: u64 = 512;
/// How many files with several names are remembered, so that each is counted once; of more, every name
/// counts. 16 bytes each.
const LINKED: usize = 1 << 20;

/// Why nobody knows how much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// A tree made to be too deep.
    #[error("directories are nested deeper than {DEEPEST} levels")]
    TooDeep,
    /// A directory that only its owner, whom we count, can have closed to us.
    #[error("a directory in it cannot be read (chmod u+rx)")]
    Closed,
    /// The file system failed.
    #[error("the file system answers {0}")]
    Failed(Errno),
}

/// Counts trees, each file of them once.
#[derive(Debug)]
pub struct Walk {
    /// Device and inode of files that have several names.
    linked: HashSet<(u64, u64)>,
    /// Enough was seen.
    stop_at: u64,
    bytes: u64,
    /// The mount of the tree that is walked.
    mount: u64,
    me: u32,
}

impl Walk {
    /// A count that ends at `stop_at` bytes: then there is at least so much.
    pub fn until(stop_at: u64) -> Self {
        let me = rustix::process::geteuid().as_raw();
        Self { linked: HashSet::new(), stop_at, bytes: 0, mount: 0, me }
    }

    /// Bytes on disk so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a tree: blocks that are taken on disk, not lengths (a sparse file is as large as what is in it).
    ///
    /// # Errors
    /// [`Unseen`] where part of it cannot be counted.
    pub fn add(&mut self, top: OwnedFd) -> Result<(), Unseen> {
        self.count(&fstat(&top).map_err(Unseen::Failed)?);
        self.mount = mount(&top).map_err(Unseen::Failed)?;
        let mut levels = vec![Dir::new(top).map_err(Unseen::Failed)?];
        while let Some(level) = levels.last_mut() {
            if self.bytes >= self.stop_at {
                return Ok(());
            }
            let entry = match level.read() {
                None => {
                    levels.pop();
                    continue;
                }
                Some(entry) => entry.map_err(Unseen::Failed)?,
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let within = level.fd().map_err(Unseen::Failed)?;
            if let Some(below) = self.entry(within, name)? {
                if levels.len() >= DEEPEST {
                    return Err(Unseen::TooDeep);
                }
                levels.push(below);
            }
        }
        Ok(())
    }

    /// Counts one entry; a directory of the tree is given back, to be gone into.
    fn entry(&mut self, within: impl AsFd + Copy, name: &CStr) -> Result<Option<Dir>, Unseen> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = match statat(within, name, flags) {
            Ok(stat) => stat,
            // It was removed a moment ago.
            Err(Errno::NOENT) => return Ok(None),
            // A directory whose names can be read and nothing more.
            Err(Errno::ACCESS) => return self.closed(&fstat(within).map_err(Unseen::Failed)?),
            Err(error) => return Err(Unseen::Failed(error)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            self.count(&stat);
            return Ok(None);
        }
        match open_below(within, name, self.mount) {
            Ok(below) => {
                self.count(&stat);
                Dir::new(below).map(Some).map_err(Unseen::Failed)
            }
            // Removed or replaced a moment ago; or the root of another mount, which is none of its own.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
            Err(Errno::ACCESS) => {
                self.count(&stat);
                self.closed(&stat)
            }
            Err(error) => Err(Unseen::Failed(error)),
        }
    }

    /// What is behind a directory that we may not look into: nothing, where it is somebody else's, which
    /// whoever is counted here cannot fill either.
    fn closed(&self, directory: &Stat) -> Result<Option<Dir>, Unseen> {
        if directory.st_uid == self.me || self.me == 0 { Err(Unseen::Closed) } else { Ok(None) }
    }

    fn count(&mut self, stat: &Stat) {
        if stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            let known = (stat.st_dev, stat.st_ino);
            if self.linked.len() < LINKED && !self.linked.insert(known) {
                return;
            }
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512).max(ENTRY));
    }
}

/// Opens a directory by its name in another one of this mount: no link, no other mount, whatever it has
/// become meanwhile.
pub(super) fn open_below(within: impl AsFd, name: &CStr, on: u64) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let untraced = openat(&within, name, flags | OFlags::NOATIME, Mode::empty());
    let below = untraced.or_else(|error| match error {
        // Only an owner may look without a trace.
        Errno::PERM => openat(&within, name, flags, Mode::empty()),
        error => Err(error),
    })?;
    if mount(&below)? == on { Ok(below) } else { Err(Errno::XDEV) }
}

/// The mount that a file was opened through: another one for each bind (Linux 5.8).
pub(super) fn mount(file: impl AsFd) -> Result<u64, Errno> {
    Ok(statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id)
}

/// Opens the directory at a path of the configuration's; none where there is nothing yet.
///
/// # Errors
/// As open(2), ELOOP or ENOTDIR where it is a link or no directory.
pub fn open_top(path: &std::path::Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(top) => Ok(Some(top)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
