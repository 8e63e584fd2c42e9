//! Shell scripts that start something else, of the kinds that installers write.
//!
//! pnpm and npm write `exec node "$basedir/.../index.js"`; pip and uv write an `exec` of the interpreter where
//! its path is too long for a first line. Any other shell script comes alone, with its prefix.

use std::path::{Path, PathBuf};

use super::super::host::Wrong;
use super::node;
use super::search::{self, Search};
use super::trail::Trail;

/// How much of a wrapper is read, bytes: they have some 20 lines.
const WRAPPER_MAX: u64 = 8192;
/// Files that a wrapper names.
const NAMED_MAX: usize = 16;
const BASE: &str = "\"$basedir/";
const EXEC: &str = "'''exec' ";

/// A script of a shell, and what it starts.
pub(super) fn script(search: &mut Search<'_>, trail: &Trail) -> Result<(), Wrong> {
    search.take_with_prefix(&trail.real)?;
    let text = search::text(&trail.real, WRAPPER_MAX);
    if let Some(python) = long_line(&text, trail) {
        let by = search.program(&python, 1)?;
        return super::python::script(search, trail, &by);
    }
    // `$basedir` is the directory of the name that it was called by.
    let Some(base) = trail.names.first().and_then(|name| name.parent()).map(Path::to_owned) else {
        return Ok(());
    };
    let mut node = false;
    for (at, _) in text.match_indices(BASE).take(NAMED_MAX) {
        let Some((named, _)) = text[at + BASE.len()..].split_once('"') else { continue };
        let path = base.join(named);
        if named.ends_with("node") || !path.is_file() {
            continue;
        }
        let target = search.walk(&path)?;
        node::package(search, &target.real)?;
        node = true;
    }
    if node {
        let program = search.seek("node", trail)?;
        search.program(&program, 1)?;
    }
    Ok(())
}

/// The interpreter of a script whose second line is `'''exec' INTERPRETER "$0" "$@"`.
fn long_line(text: &str, trail: &Trail) -> Option<PathBuf> {
    let exec = text.lines().nth(1)?.strip_prefix(EXEC)?;
    if exec.starts_with("\"$(dirname") {
        // uv, where an environment may be moved: beside the script itself.
        let name = exec.rsplit_once("/'")?.1.split_once('\'')?.0;
        return trail.real.parent().map(|bin| bin.join(name));
    }
    let path = match exec.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?.0,
        None => exec.split_whitespace().next()?,
    };
    Some(PathBuf::from(path)).filter(|path| path.is_absolute())
}
