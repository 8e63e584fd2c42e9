//! The directories that a server works in, in system mode: its home and its data, made by root for the uid of
//! the server, and never handed over where they are somebody else's.
//!
//! Every directory is opened once, without following a link anywhere, judged by what is open, and passed on as
//! that descriptor. Runs off the loop: a file system that a person chose may hang.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid as UnistdGid, Uid as UnistdUid, setfsgid, setfsuid};
use rustix::fs::{Access, AtFlags, CWD, Dir, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use crate::sys::find::{Links, find};
use crate::wire::Identity;
use crate::wire::stage::Owner;

/// A directory of the tenant's alone.
const PRIVATE: Mode = Mode::RWXU;
/// A directory that leads to such ones.
const PASSABLE: Mode = Mode::RWXU.union(Mode::XGRP).union(Mode::XOTH);

/// Why a server cannot have its directories.
#[derive(Debug, thiserror::Error)]
pub enum EstateError {
    /// It cannot be made or opened.
    #[error("cannot use the directory {0}: {1} (it must be a real directory)")]
    Directory(PathBuf, #[source] io::Error),
    /// A part of the path is a link, which somebody could turn.
    #[error("{path} leads through a symbolic link{real}", real = real(.path))]
    Link {
        /// As written.
        path: PathBuf,
    },
    /// It is another tenant's.
    #[error("{0} belongs to uid {1}, which is another tenant's (choose another directory)")]
    Others(PathBuf, u32),
    /// Made by nobody whose files can be lent, and the server may not write there.
    #[error(
        "{path} belongs to {owner}, and the server's uid {uid} may not write there (chown -R {uid}:{uid} {path}, or name a group that may write there in sandbox.groups)"
    )]
    NotIts {
        /// Which.
        path: PathBuf,
        /// Who has it.
        owner: &'static str,
        /// Who should.
        uid: u32,
    },
}

fn real(path: &Path) -> String {
    match path.canonicalize() {
        Ok(real) => format!(" (write {})", real.display()),
        Err(_) => String::new(),
    }
}

/// A directory that a server will have.
#[derive(Debug)]
pub struct Ground {
    /// Open.
    pub directory: OwnedFd,
    /// Whose it stays, where it is a person's.
    pub owner: Option<Owner>,
    /// Whether the server may write there as it is: by its uid or by its groups.
    pub shared: bool,
}

impl Ground {
    /// One that is the server's own.
    pub(super) fn its(directory: OwnedFd) -> Self {
        Self { directory, owner: None, shared: true }
    }
}

/// Whose directories are looked at.
#[derive(Debug)]
pub struct Estate<'a> {
    /// The server.
    pub identity: &'a Identity,
    /// First and last uid of all tenants.
    pub range: (u32, u32),
}

impl Estate<'_> {
    /// The directory of this name in a tenant's own directory: made where there is none, its alone.
    ///
    /// # Errors
    /// [`EstateError`].
    pub fn own(&self, tenant: &Path, name: &str) -> Result<OwnedFd, EstateError> {
        let path = tenant.join(name);
        let failed = |errno: Errno| EstateError::Directory(path.clone(), errno.into());
        let above = pass(tenant).map_err(failed)?;
        made(rustix::fs::mkdirat(&above, name, PRIVATE)).map_err(failed)?;
        let directory = enter(above.as_fd(), Path::new(name)).map_err(failed)?;
        let stat = rustix::fs::fstat(&directory).map_err(failed)?;
        if stat.st_uid != self.identity.uid {
            // Also one that a crash left between its making and its giving away.
            if stat.st_uid != 0 || !is_empty(&directory).map_err(failed)? {
                return Err(self.not_its(path, &stat));
            }
            self.give(&directory).map_err(failed)?;
        }
        rustix::fs::fchmod(&directory, PRIVATE).map_err(failed)?;
        Ok(directory)
    }

    /// The directory that a tenant's file names: made where there is none, for the server, or for the person
    /// in whose directory it is.
    ///
    /// # Errors
    /// [`EstateError`].
    pub fn lent(&self, path: &Path) -> Result<Ground, EstateError> {
        match self.look(path)? {
            Some(ground) => Ok(ground),
            None => {
                let failed = |errno| self.failed(path, errno);
                let made = self.make(path, PRIVATE).map_err(failed)?;
                self.judge(path, made)
            }
        }
    }

    /// As [`Self::lent`], but nothing is made: there may be none yet.
    ///
    /// # Errors
    /// [`EstateError`].
    pub fn look(&self, path: &Path) -> Result<Option<Ground>, EstateError> {
        match enter_whole(path) {
            Ok(directory) => self.judge(path, directory).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed(path, errno)),
        }
    }

    fn failed(&self, path: &Path, errno: Errno) -> EstateError {
        match errno {
            Errno::LOOP => EstateError::Link { path: path.to_owned() },
            errno => EstateError::Directory(path.to_owned(), errno.into()),
        }
    }

    fn judge(&self, path: &Path, directory: OwnedFd) -> Result<Ground, EstateError> {
        let failed = |error| EstateError::Directory(path.to_owned(), error);
        let stat = rustix::fs::fstat(&directory).map_err(|errno| failed(errno.into()))?;
        let (uid, gid) = (stat.st_uid, stat.st_gid);
        let reserved = self.range.0..=self.range.1;
        if uid == self.identity.uid {
            return Ok(Ground::its(directory));
        }
        if reserved.contains(&uid) {
            return Err(EstateError::Others(path.to_owned(), uid));
        }
        let shared = may_write(directory.as_fd(), self.identity).map_err(failed)?;
        // Root lends nothing: what a server makes there would be root's.
        if uid != 0 && gid != 0 && !reserved.contains(&gid) {
            return Ok(Ground { directory, owner: Some(Owner { uid, gid }), shared });
        }
        if shared {
            return Ok(Ground::its(directory));
        }
        Err(self.not_its(path.to_owned(), &stat))
    }

    fn not_its(&self, path: PathBuf, stat: &Stat) -> EstateError {
        let (uid, owner) = (self.identity.uid, stat.st_uid);
        if owner != 0 && (self.range.0..=self.range.1).contains(&owner) {
            return EstateError::Others(path, owner);
        }
        let owner = match (owner, stat.st_gid) {
            (0, _) => "root",
            (_, 0) => "root's group",
            _ => "somebody else",
        };
        EstateError::NotIts { path, owner, uid }
    }

    /// Makes a directory and those that lead there. In a person's directory it is theirs.
    fn make(&self, path: &Path, mode: Mode) -> rustix::io::Result<OwnedFd> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT);
        };
        let above = match enter_whole(above) {
            Err(Errno::NOENT) => self.make(above, PASSABLE)?,
            above => above?,
        };
        made(rustix::fs::mkdirat(&above, name, mode))?;
        let directory = enter(above.as_fd(), Path::new(name))?;
        let (new, around) = (rustix::fs::fstat(&directory)?, rustix::fs::fstat(&above)?);
        if new.st_uid == 0 && is_empty(&directory)? {
            if around.st_uid != 0 {
                give(&directory, around.st_uid, around.st_gid)?;
            } else if mode == PRIVATE {
                self.give(&directory)?;
            }
            rustix::fs::fchmod(&directory, mode)?;
        }
        Ok(directory)
    }

    fn give(&self, directory: &OwnedFd) -> rustix::io::Result<()> {
        give(directory, self.identity.uid, self.identity.gid)
    }
}

fn give(directory: &OwnedFd, uid: u32, gid: u32) -> rustix::io::Result<()> {
    rustix::fs::fchown(directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
}

/// A directory of root's that leads to tenants' own: made where there is none, and passable.
fn pass(path: &Path) -> rustix::io::Result<OwnedFd> {
    made(rustix::fs::mkdirat(CWD, path, PASSABLE))?;
    let directory = enter_whole(path)?;
    if rustix::fs::fstat(&directory)?.st_uid != 0 {
        return Err(Errno::PERM);
    }
    rustix::fs::fchmod(&directory, PASSABLE)?;
    Ok(directory)
}

/// That it is there already is as good.
fn made(made: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match made {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// Opens a directory, by its absolute path.
fn enter_whole(path: &Path) -> rustix::io::Result<OwnedFd> {
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    enter(root.as_fd(), path)
}

/// Opens a directory without following a link in any part of its path.
fn enter(from: BorrowedFd<'_>, path: &Path) -> rustix::io::Result<OwnedFd> {
    find(from, path, Links::Refuse, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn is_empty(directory: &OwnedFd) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether this user may read, write and enter a directory, as the kernel says. Asked on a thread that looks
/// at files as that user does, and at nothing else: whoever may signal the user may not signal us.
fn may_write(directory: BorrowedFd<'_>, user: &Identity) -> io::Result<bool> {
    std::thread::scope(|scope| {
        let look = || {
            let groups: Vec<_> =
                user.groups.iter().map(|gid| rustix::thread::Gid::from_raw(*gid)).collect();
            rustix::thread::set_thread_groups(&groups)?;
            setfsgid(UnistdGid::from_raw(user.gid));
            setfsuid(UnistdUid::from_raw(user.uid));
            let all = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
            match rustix::fs::accessat(directory, c".", all, AtFlags::EACCESS) {
                Ok(()) => Ok(true),
                Err(Errno::ACCESS | Errno::ROFS | Errno::PERM) => Ok(false),
                Err(errno) => Err(errno.into()),
            }
        };
        let thread = std::thread::Builder::new().name("access".into()).spawn_scoped(scope, look)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread died")))
    })
}

#[cfg(test)]
mod tests;
