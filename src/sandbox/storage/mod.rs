//! How much a tenant stores, in its data directory and its HOME together, and who holds it to its limit.
//!
//! * **project quota**, where the tenant has a uid of its own and both directories are on one file system
//!   that limits projects: the kernel refuses each write over the limit (EDQUOT; XFS: ENOSPC), at once and
//!   exactly;
//! * **watcher** everywhere else: the trees are walked again and again, and what happens between two looks
//!   is seen by the next one. Beside it, no single file grows beyond the limit (RLIMIT_FSIZE).
//!
//! Which one holds is found by trying, at each look; [`Measure`] says it.

mod project;
#[cfg(test)]
mod tests;
mod walk;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

pub use project::NoProject;
use project::Quota;
pub use walk::{Unseen, Walk, open_top};

use crate::sys;

/// The least that can be written: a block of the file systems that have project quotas, bytes.
const BLOCK: u64 = 4096;
/// The longest time between two looks at a tenant in use.
const SELDOM: Duration = Duration::from_secs(30);
/// The shortest; and that of a full tenant, whose cure is awaited.
const OFTEN: Duration = Duration::from_secs(1);
/// How fast a server is taken to write, bytes in a second: the next look comes before it could be full.
const PACE: u64 = 32 << 20;
/// A walk may take this part of one processor's time.
const SHARE: u32 = 20;

/// Who holds a tenant to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// The kernel.
    ProjectQuota,
    /// Us, by looking.
    Watcher,
}

impl Method {
    /// The name as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProjectQuota => "project quota",
            Self::Watcher => "watcher",
        }
    }
}

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// Who holds the limit.
    pub method: Method,
    /// Bytes on disk; of a tree far over its limit, or of one that cannot be counted whole, what was seen.
    pub used: u64,
    /// Why it cannot be counted whole.
    pub unseen: Option<Unseen>,
    /// Why the kernel does not hold the limit.
    pub why_watched: Option<String>,
    /// How long it took.
    pub took: Duration,
}

impl Measure {
    /// Whether nothing more may be stored. What nobody can count is full.
    pub fn is_full(&self, limit: u64) -> bool {
        let room = limit.saturating_sub(self.used);
        self.unseen.is_some() || room == 0 || (self.method == Method::ProjectQuota && room < BLOCK)
    }

    /// How long until the next look: shorter the less room there is, so that a server at [`PACE`] is caught
    /// soon after its limit, and never so short that looking is a load.
    pub fn next_look(&self, limit: u64) -> Duration {
        let room = limit.saturating_sub(self.used);
        let lasts = Duration::from_millis(room.saturating_mul(1000) / PACE);
        lasts.min(SELDOM).max(OFTEN).max(self.took * SHARE)
    }
}

/// The directories of a tenant that count, opened; those that are not there yet hold nothing.
///
/// # Errors
/// As open(2).
pub fn open(paths: &[&Path]) -> std::io::Result<Vec<OwnedFd>> {
    paths.iter().filter_map(|path| open_top(path).transpose()).collect()
}

/// Prepares the directories for the kernel's quota before a server starts in them. Without a limit the
/// kernel only counts.
///
/// # Errors
/// [`NoProject`] where the watcher has to do.
pub fn settle(paths: &[&Path], project: Option<u32>, limit: Option<u64>) -> Result<(), NoProject> {
    let tops = open(paths)?;
    let quota = Quota::over(&tops, project)?;
    quota.settle()?;
    quota.limit(limit.unwrap_or(0))?;
    Ok(())
}

/// Looks how much is stored, and holds the kernel to the limit of now. Takes as long as the trees are
/// large: for a thread of its own.
pub fn measure(tops: Vec<OwnedFd>, project: Option<u32>, limit: u64) -> Measure {
    let started = std::time::Instant::now();
    let by_kernel = Quota::over(&tops, project).and_then(|quota| {
        quota.is_settled()?;
        quota.limit(limit)
    });
    let (method, used, unseen, why_watched) = match by_kernel {
        Ok(used) => (Method::ProjectQuota, used, None, None),
        Err(why) => {
            // How much more than twice the limit it is makes no difference.
            let mut walk = Walk::until(limit.saturating_mul(2).max(BLOCK));
            let unseen = tops.into_iter().try_for_each(|top| walk.add(top)).err();
            (Method::Watcher, walk.bytes(), unseen, Some(why.to_string()))
        }
    };
    Measure { method, used, unseen, why_watched, took: started.elapsed() }
}

/// As [`measure`], of paths, giving way to everybody else: for a thread that does nothing else.
///
/// # Errors
/// Where a directory cannot be opened.
pub fn look(paths: &[&Path], project: Option<u32>, limit: u64) -> std::io::Result<Measure> {
    sys::give_way();
    Ok(measure(open(paths)?, project, limit))
}
