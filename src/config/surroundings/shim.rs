//! Programs that stand for others and choose when they start: shims of version managers, and snaps.
//!
//! What they choose depends on a home, a directory and variables that a sandbox has not, so the real
//! program has to be named.

use std::path::{Path, PathBuf};

use super::super::host::Wrong;
use super::super::problem::shown;
use super::search;
use super::trail::Trail;

/// Programs that act by the name that they are called by, and how they tell what they stand for.
const MULTICALL: [(&str, &str); 3] =
    [("mise", "mise which"), ("volta-shim", "volta which"), ("asdf", "asdf which")];
/// Directories of versions that are looked through for the cure.
const VERSIONS_MAX: usize = 64;

/// Why the program at the end of `trail` cannot be used, if it stands for another.
pub(super) fn refuse(trail: &Trail) -> Result<(), Wrong> {
    let Some(name) = trail.names.first().and_then(|name| name.file_name()?.to_str()) else {
        return Ok(());
    };
    let last = trail.real.file_name().and_then(|name| name.to_str()).unwrap_or(name);
    if last == "snap" && name != last {
        let what = format!("{name} is a snap, and snaps cannot be started inside a sandbox");
        return Err(Wrong::new(what, "install it in another way, and write its path"));
    }
    for place in trail.names.iter().chain([&trail.real]) {
        let Some(root) = place.parent().filter(|dir| dir.ends_with("shims")) else { continue };
        let root = root.parent().unwrap_or(root);
        let cure = match candidate(root, name) {
            Some(program) => format!("write the program itself: {}", shown(&program)),
            None => format!("write the path that \"{} which {name}\" prints", manager(root)),
        };
        return Err(stands_for(place, cure));
    }
    match MULTICALL.iter().find(|(program, _)| *program == last && name != last) {
        Some((_, which)) => {
            let cure = format!("write the path that \"{which} {name}\" prints");
            Err(stands_for(&trail.names[0], cure))
        }
        None => Ok(()),
    }
}

fn stands_for(place: &Path, cure: String) -> Wrong {
    let what = format!("{} is a shim, which chooses a version when it starts", shown(place));
    Wrong::new(what, cure)
}

fn manager(root: &Path) -> String {
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.trim_start_matches('.').to_owned()
}

/// The program that a shim would choose with nothing else said: of the manager's default version, else
/// of the last one that has it.
fn candidate(root: &Path, name: &str) -> Option<PathBuf> {
    let program = |version: &Path| Some(version.join("bin").join(name)).filter(|p| p.is_file());
    let version = search::text(&root.join("version"), 256);
    let default =
        version.lines().next().map(str::trim).filter(|v| !v.is_empty() && !v.contains('/'));
    if let Some(found) = default.and_then(|v| program(&root.join("versions").join(v))) {
        return Some(found);
    }
    let tools = directories(&root.join("installs"));
    let mut versions: Vec<PathBuf> = tools.iter().flat_map(|tool| directories(tool)).collect();
    versions.extend(directories(&root.join("versions")));
    versions.sort();
    versions.iter().rev().find_map(|version| program(version))
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).take(VERSIONS_MAX).collect()
}
