//! A name followed to its end, as the kernel would follow it (path_resolution(7)), only that every link is
//! written down.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::super::host::Wrong;
use super::super::problem::shown;
use super::Asked;
use super::search::Search;
use crate::paths::Mode as Way;

/// Names looked at for one command: a project of a thousand linked packages stays below it.
const LOOKS_MAX: u32 = 20_000;
/// Links of one name, as many as the kernel follows (MAXSYMLINKS).
const LINKS_MAX: u32 = 40;
/// Where the kernel keeps what is no file of anybody's.
const PSEUDO: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Where a name leads.
#[derive(Debug, Clone)]
pub(super) struct Trail {
    /// The name as given, and then each link at its end by its real place, the last one first followed.
    pub(super) names: Vec<PathBuf>,
    /// Where it leads.
    pub(super) real: PathBuf,
}

impl Trail {
    /// The directories that it passes through, by the names that they have on the way.
    pub(super) fn places(&self) -> impl Iterator<Item = &Path> {
        self.names.iter().chain([&self.real]).filter_map(|name| name.parent())
    }
}

/// The links on the way to `path`, as far as it exists.
pub fn links_to(path: &Path) -> BTreeMap<PathBuf, PathBuf> {
    let asked = Asked::default();
    let mut search = Search::new(None, Way::User, &asked);
    let _ = path.ancestors().find(|above| search.walk(above).is_ok());
    search.needs.links
}

impl Search<'_> {
    /// Follows a name to its end, every link written down.
    pub(super) fn walk(&mut self, name: &Path) -> Result<Trail, Wrong> {
        let mut names = vec![name.to_owned()];
        let mut links = BTreeMap::new();
        let mut at = PathBuf::from("/");
        let mut rest: Vec<OsString> = parts(name);
        let mut followed = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let meta = self.look(&next).map_err(|error| lost(name, &next, &error))?;
            if !meta.is_symlink() {
                at = next;
                continue;
            }
            followed += 1;
            if followed > LINKS_MAX {
                let what = format!("{} leads through more than {LINKS_MAX} links", shown(name));
                return Err(Wrong::new(what, "they may go round in a circle: correct them"));
            }
            let says = next.read_link().map_err(|error| lost(name, &next, &error))?;
            if rest.is_empty() {
                names.push(next.clone());
            }
            if says.is_absolute() {
                at = PathBuf::from("/");
            }
            rest.extend(parts(&says));
            links.insert(next, says);
        }
        self.needs.links.extend(links);
        Ok(Trail { names, real: at })
    }

    /// What is at `path`, no link followed; counted.
    fn look(&mut self, path: &Path) -> io::Result<Metadata> {
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            return Err(io::Error::other(format!(
                "more than {LOOKS_MAX} names were followed before"
            )));
        }
        if self.is_shut(path) {
            return Err(io::Error::other(
                "the tenant can write there, and what it runs is not looked for in such a place",
            ));
        }
        if PSEUDO.iter().any(|pseudo| path.starts_with(pseudo)) {
            return Err(io::Error::other("no program is installed there"));
        }
        path.symlink_metadata()
    }

    /// Whether a tenant can write there.
    pub(super) fn is_shut(&self, path: &Path) -> bool {
        self.asked.shut.iter().any(|shut| path.starts_with(shut))
    }
}

/// The components of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

fn lost(name: &Path, at: &Path, error: &io::Error) -> Wrong {
    let way = if name == at { String::new() } else { format!(" at {}", shown(at)) };
    let cure = "install it somewhere else, or correct the link or name that leads there";
    Wrong::new(format!("{} cannot be followed{way}: {error}", shown(name)), cure)
}
