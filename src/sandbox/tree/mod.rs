//! The file system that a server sees: a root in memory, in which everything has the name that it has
//! outside.
//!
//! [`pieces`] says what there is, without looking at more than names; [`scaffold`] makes it, with
//! descriptors instead of paths wherever somebody else could change a path meanwhile. Runs in pid 1 of the
//! new namespaces, which has capabilities there and nowhere else. [`Access`] is what Landlock grants
//! afterwards, from the same list: the two cannot disagree.

mod pieces;
mod scaffold;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::failure::Failure;
use crate::wire::stage::StagePlan;
pub(super) use pieces::READ;
use scaffold::Scaffold;
pub(super) use scaffold::{attach, private_memory};

/// What a server may do with a path and what is below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access {
    pub(super) write: bool,
    pub(super) execute: bool,
}

/// Builds the tree and makes it the root of this process. Returns what may be done where.
/// `lent` is the data directory where it was made ready to be attached.
pub(super) fn build(
    plan: &StagePlan,
    data: &OwnedFd,
    lent: Option<&OwnedFd>,
) -> Result<Vec<(PathBuf, Access)>, Failure> {
    let scaffold = Scaffold::raise().map_err(Failure::during("make a new root"))?;
    let pieces = pieces::of(plan, data, scaffold.old()).map_err(Failure::during("look around"))?;
    for (path, piece) in &pieces {
        let named = |error: std::io::Error| match error.kind() {
            // As long as nobody puts it back.
            std::io::ErrorKind::NotFound => Failure::final_one(format!(
                "{} {error} (put it there, or correct the tenant's file)",
                path.display()
            )),
            _ => Failure::new(format!("{} in its root", path.display()), error),
        };
        let placed = match lent.filter(|_| path.as_os_str() == plan.data.as_str()) {
            Some(mount) => scaffold.hang(path, piece, mount),
            None => scaffold.place(path, piece),
        };
        placed.map_err(named)?;
    }
    scaffold.enter().map_err(Failure::during("enter its root"))?;
    let access = |(path, piece): (PathBuf, pieces::Piece)| Some((path, piece.access()?));
    Ok(without_repeats(pieces.into_iter().filter_map(access).collect()))
}

/// Without what is granted again below: a rule of Landlock's covers everything beneath its path.
fn without_repeats(granted: Vec<(PathBuf, Access)>) -> Vec<(PathBuf, Access)> {
    let mut kept: Vec<(PathBuf, Access)> = Vec::new();
    for (path, access) in granted {
        let above = kept.iter().any(|(over, has)| *has == access && path.starts_with(over));
        if !above {
            kept.push((path, access));
        }
    }
    kept
}

/// What Landlock grants where there are no namespaces, and so no tree: of the host's own files what would
/// have been in it, and nothing of what it would have had for itself.
pub(super) fn granted_outside(
    plan: &StagePlan,
    data: &OwnedFd,
) -> Result<Vec<(PathBuf, Access)>, Failure> {
    let failed = Failure::during("look around");
    let look = || {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        let root = rustix::fs::open("/", flags, rustix::fs::Mode::empty())?;
        pieces::of(plan, data, std::os::fd::AsFd::as_fd(&root))
    };
    let own = PathBuf::from(format!("/proc/{}", std::process::id()));
    let outside = |(path, piece): (PathBuf, pieces::Piece)| match piece {
        pieces::Piece::Processes => Some((own.clone(), piece.access()?)),
        pieces::Piece::Memory { .. } | pieces::Piece::Directory { .. } => None,
        piece => Some((path, piece.access()?)),
    };
    let granted = look().map_err(failed)?.into_iter().filter_map(outside);
    Ok(granted.filter(|(path, _)| path.exists()).collect())
}
