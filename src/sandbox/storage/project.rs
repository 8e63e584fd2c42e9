//! A tenant's own project on a file system that limits projects (ext4 and XFS, mounted with `prjquota`):
//! the kernel itself counts and refuses what is over the limit, file by file, with no tool of anybody's.
//!
//! The project's number is the uid that is the tenant's alone, so that it is never another's. Only an
//! unlimited user (CAP_SYS_ADMIN) gives files to projects and limits to those, and a server in a user
//! namespace cannot take its files out again (EINVAL).
//!
//! The top directories are given last: one that is the project's says that all below it is.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::io::Errno;

use super::walk::{self, DEEPEST};
use crate::sys::{self, Project};

/// Why the kernel does not count.
#[derive(Debug, thiserror::Error)]
pub enum NoProject {
    /// No uid of its own: user mode.
    #[error("a tenant without a uid of its own has no project")]
    NoNumber,
    /// data and home are apart.
    #[error("its data and its home are on different file systems")]
    Apart,
    /// The file system does not limit projects.
    #[error(
        "the file system limits no projects (ext4: tune2fs -O quota,project; mount with prjquota)"
    )]
    Unlimited,
    /// Some of it is another project's.
    #[error("a file of it belongs to project {0} already")]
    Taken(u32),
    /// It was in use when it should have been given to its project; at its next start it is.
    #[error("it was not given to its project yet (restart its servers)")]
    NotYet,
    /// The tree cannot be walked.
    #[error(transparent)]
    Unseen(#[from] walk::Unseen),
    /// The kernel refused.
    #[error("the kernel refuses: {0}")]
    Refused(#[from] std::io::Error),
}

/// A project on one file system.
#[derive(Debug)]
pub(super) struct Quota<'a> {
    tops: &'a [OwnedFd],
    id: u32,
}

impl<'a> Quota<'a> {
    /// The project `id` over these directories, if their file system limits projects.
    pub(super) fn over(tops: &'a [OwnedFd], id: Option<u32>) -> Result<Self, NoProject> {
        let id = id.filter(|id| *id != 0).ok_or(NoProject::NoNumber)?;
        let device = |top: &OwnedFd| fstat(top).map(|stat| stat.st_dev);
        let devices = tops.iter().map(device).collect::<Result<Vec<_>, _>>();
        let devices = devices.map_err(std::io::Error::from)?;
        if devices.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(NoProject::Apart);
        }
        match tops.first() {
            Some(top) if sys::limits_projects(top) => Ok(Self { tops, id }),
            _ => Err(NoProject::Unlimited),
        }
    }

    /// Whether everything was given to it.
    pub(super) fn is_settled(&self) -> Result<(), NoProject> {
        let given = |top: &OwnedFd| Ok(sys::project(top)? == self.inheriting());
        match self.tops.iter().map(given).collect::<Result<Vec<bool>, std::io::Error>>()? {
            all if all.iter().all(|given| *given) => Ok(()),
            _ => Err(NoProject::NotYet),
        }
    }

    fn inheriting(&self) -> Project {
        Project { id: self.id, inherits: true }
    }

    /// Gives everything to the project that is not its own yet. Nobody may write there meanwhile.
    pub(super) fn settle(&self) -> Result<(), NoProject> {
        for top in self.tops {
            if sys::project(top)? == self.inheriting() {
                continue;
            }
            self.check(sys::project(top)?)?;
            self.give_below(top)?;
            sys::set_project(top, self.inheriting())?;
        }
        Ok(())
    }

    /// Sets the limit (0 is none) unless it is that already, and says what is used.
    pub(super) fn limit(&self, bytes: u64) -> Result<u64, NoProject> {
        let top = self.tops.first().ok_or(NoProject::Unlimited)?;
        let now = sys::project_use(top, self.id)?;
        if now.limit / 1024 != bytes / 1024 {
            sys::limit_project(top, self.id, bytes)?;
        }
        Ok(now.used)
    }

    fn check(&self, project: Project) -> Result<(), NoProject> {
        if [0, self.id].contains(&project.id) { Ok(()) } else { Err(NoProject::Taken(project.id)) }
    }

    fn give_below(&self, top: &OwnedFd) -> Result<(), NoProject> {
        let failed = walk::Unseen::Failed;
        let mount = walk::mount(top).map_err(failed)?;
        let top = walk::open_below(top, c".", mount).map_err(failed)?;
        let mut levels = vec![Dir::new(top).map_err(failed)?];
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.read() else {
                levels.pop();
                continue;
            };
            let entry = entry.map_err(failed)?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            let within = level.fd().map_err(failed)?;
            if let Some(below) = self.give(within, entry.file_name(), mount)? {
                if levels.len() >= DEEPEST {
                    return Err(walk::Unseen::TooDeep.into());
                }
                levels.push(Dir::new(below).map_err(failed)?);
            }
        }
        Ok(())
    }

    /// Gives one entry; a directory is given back, to be gone into.
    fn give(
        &self,
        within: impl AsFd + Copy,
        name: &std::ffi::CStr,
        mount: u64,
    ) -> Result<Option<OwnedFd>, NoProject> {
        let stat = match statat(within, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(walk::Unseen::Failed(error).into()),
        };
        // Nothing but files and directories has a project; a device that stood in the place of a file
        // would be opened without waiting, and closed.
        let flags =
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let (opened, inherits) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => (walk::open_below(within, name, mount), true),
            FileType::RegularFile => (openat(within, name, flags, Mode::empty()), false),
            _ => return Ok(None),
        };
        let opened = match opened {
            Ok(opened) => opened,
            // Removed a moment ago, or another mount's.
            Err(Errno::NOENT | Errno::XDEV) => return Ok(None),
            Err(error) => return Err(walk::Unseen::Failed(error).into()),
        };
        let now = sys::project(&opened)?;
        self.check(now)?;
        let wanted = Project { id: self.id, inherits };
        if now != wanted {
            sys::set_project(&opened, wanted)?;
        }
        Ok(inherits.then_some(opened))
    }
}
