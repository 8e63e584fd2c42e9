//! What a server's command needs around it, found at load: interpreter, virtual environment, packages,
//! prefix, and every symbolic link on the way.
//!
//! A server is executed by the name as written, for Python finds its virtual environment and Node its
//! packages by names that are not resolved. In a root of its own no link exists but those that are made
//! there, so each one that was followed is part of the answer.
//!
//! ```text
//! ~/.local/bin/mcp-git -> ../share/uv/tools/mcp-git/bin/mcp-git          (link)
//!     #!~/.local/share/uv/tools/mcp-git/bin/python                        (script: its interpreter)
//!         -> ~/.local/share/uv/python/cpython-3.12-linux/bin/python3.12   (link; pyvenv.cfg beside it)
//!             ~/.local/share/uv/python/cpython-3.12.3-linux               (prefix)
//! ```
//!
//! Looks and never runs: names, links, directories, the first bytes of a file. The work is bounded, the
//! answer never holds a place as wide as a home directory, and nothing that a tenant can write is looked
//! at. Whether a tenant may read what was found is the caller's to judge.

mod elf;
mod interpreter;
mod node;
mod prefix;
mod python;
mod readable;
mod script;
mod search;
mod shell;
mod shim;
mod trail;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::host::{Host, Wrong};

pub(super) use prefix::{is_base, is_wide};
pub(super) use readable::{Access, unreadable};
pub use trail::links_to;

/// What a server's command needs around it, beside the system's own programs and libraries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Needs {
    /// Files and directories that it reads: real paths, none below another.
    pub read: Vec<PathBuf>,
    /// Symbolic links met on the way that lie in none of these, by their real place: what they say.
    pub links: BTreeMap<PathBuf, PathBuf>,
    /// Directories in front of its PATH.
    pub path: Vec<PathBuf>,
    /// Variables without which it does not find its packages; its own `env` wins.
    pub env: BTreeMap<String, String>,
}

impl Needs {
    /// Leaves out what the sandbox shows anyhow: the system's directories, and what lies below `shown`
    /// or below another path that is read.
    pub(super) fn reduce(&mut self, shown: &[PathBuf]) {
        self.read.sort();
        self.read.dedup();
        let below_shown = |path: &Path| shown.iter().any(|above| path.starts_with(above));
        let all = std::mem::take(&mut self.read);
        for path in all {
            let below = self.read.last().is_some_and(|above| path.starts_with(above));
            if !(below || prefix::is_base(&path) || below_shown(&path)) {
                self.read.push(path);
            }
        }
        let read = &self.read;
        self.links.retain(|place, _| {
            !prefix::is_base(place)
                && !below_shown(place)
                && !read.iter().any(|above| place.starts_with(above))
        });
    }
}

/// A command as a tenant file has it, after it was resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    /// Absolute, by the name as written.
    pub(super) command: PathBuf,
    /// Placeholders not expanded.
    pub(super) args: Vec<String>,
    /// `PATH` of its own environment.
    pub(super) path: Option<String>,
    /// Directories that its own environment names for the loading of libraries.
    pub(super) libraries: Vec<PathBuf>,
    /// What a tenant can write, links followed: nothing there is looked at.
    pub(super) shut: Vec<PathBuf>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) needs: Needs,
    /// The real files that are executed or read as programs, wherever they are.
    pub(super) programs: BTreeMap<PathBuf, Access>,
}

/// What was found for each command of one load: thousands of tenants may run the same one.
#[derive(Debug, Default)]
pub(super) struct Known(RefCell<BTreeMap<Asked, Result<Found, Wrong>>>);

impl Known {
    /// What the command needs, or why that cannot be had.
    pub(super) fn find(&self, host: &Host, asked: Asked) -> Result<Found, Wrong> {
        if let Some(known) = self.0.borrow().get(&asked) {
            return known.clone();
        }
        let found = search::find(host, &asked);
        self.0.borrow_mut().insert(asked, found.clone());
        found
    }
}
