//! What a script of Node needs: its package, and the trees of packages that it loads from.
//!
//! Node looks a package up in `node_modules` beside the script's real place and beside each directory
//! above it. Installers put packages there as directories (npm), as links into a store beside it (pnpm)
//! or as links to a checkout (`npm link`, workspaces).

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use super::super::host::Wrong;
use super::prefix;
use super::search::Search;

const TREE: &str = "node_modules";
const MANIFEST: &str = "package.json";
/// pnpm's store of a project, and of all of its global packages.
const PNPM: &str = ".pnpm";
/// Entries of one tree that are looked through for links.
const ENTRIES_MAX: usize = 5_000;

/// Adds what the script `file` (links followed) loads.
pub(super) fn package(search: &mut Search<'_>, file: &Path) -> Result<(), Wrong> {
    if prefix::is_base(file) {
        return Ok(());
    }
    if let Some(store) = file.ancestors().filter(|above| is_store(above)).last() {
        search.take(store)?;
    }
    // The outermost tree holds what the inner ones share.
    if let Some(tree) = file.ancestors().filter(|above| above.ends_with(TREE)).last() {
        search.take(tree)?;
        return project_links(search, tree);
    }
    let root = root(search, file);
    match &root {
        Some(root) => search.take(root)?,
        None => alone(search, file)?,
    }
    let dir = root.as_deref().or(file.parent()).unwrap_or(file).to_owned();
    for tree in trees(search, &dir)? {
        project_links(search, &tree)?;
    }
    Ok(())
}

/// Adds the trees beside a directory and above it; gives where they are.
fn trees(search: &mut Search<'_>, dir: &Path) -> Result<Vec<PathBuf>, Wrong> {
    let mut trees = Vec::new();
    for tree in dir.ancestors().map(|above| above.join(TREE)).filter(|tree| tree.is_dir()) {
        let tree = search.walk(&tree)?.real;
        search.take(&tree)?;
        trees.push(tree);
    }
    Ok(trees)
}

/// The package that a file or directory is in, unless that is as wide as a home.
fn root(search: &Search<'_>, path: &Path) -> Option<PathBuf> {
    let root = path.ancestors().find(|above| above.join(MANIFEST).is_file())?;
    (!prefix::is_wide(search.home, root)).then(|| root.to_owned())
}

/// A script that lies in no package: by itself, with the manifest that says how it is read.
fn alone(search: &mut Search<'_>, file: &Path) -> Result<(), Wrong> {
    search.take_with_prefix(file)?;
    let manifest = file.with_file_name(MANIFEST);
    if !manifest.is_file() {
        return Ok(());
    }
    let manifest = search.walk(&manifest)?.real;
    search.take(&manifest)
}

/// Whether this is a store that packages of pnpm refer to each other in.
fn is_store(dir: &Path) -> bool {
    // STORE/v10/links: the store that all projects share.
    let shared = |dir: &Path| {
        let version = dir.parent().and_then(Path::file_name).and_then(OsStr::to_str);
        dir.ends_with("links") && version.is_some_and(|v| v.starts_with('v') && v.len() <= 4)
    };
    dir.ends_with(PNPM) || shared(dir)
}

/// The packages of a project's own tree that are links to somewhere else: one level, as `npm link` and
/// workspaces make them. A global tree holds whatever its owner works on: there only the link counts that
/// led to the script.
fn project_links(search: &mut Search<'_>, tree: &Path) -> Result<(), Wrong> {
    if tree.parent().is_some_and(|above| above.ends_with("lib")) {
        return Ok(());
    }
    for link in links(tree) {
        let says = link.read_link().unwrap_or_default();
        let target = lexically(link.parent().unwrap_or(tree), &says);
        if target.starts_with(tree) || !link.exists() {
            continue;
        }
        let target = search.walk(&link)?.real;
        if search.has(&target) {
            continue;
        }
        let package = root(search, &target).unwrap_or(target.clone());
        search.take(&package)?;
        trees(search, &package)?;
        if let Some(store) = target.ancestors().filter(|above| is_store(above)).last() {
            search.take(store)?;
        }
    }
    Ok(())
}

/// The links in a tree and in its scopes (`@scope/`), in no order.
fn links(tree: &Path) -> Vec<PathBuf> {
    let mut links = Vec::new();
    let mut directories = vec![tree.to_owned()];
    while let Some(dir) = directories.pop() {
        let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        for entry in entries.take(ENTRIES_MAX) {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_symlink() {
                links.push(entry.path());
            } else if kind.is_dir()
                && dir == *tree
                && entry.file_name().as_encoded_bytes()[0] == b'@'
            {
                directories.push(entry.path());
            }
        }
    }
    links.sort();
    links
}

/// Where a link's text leads from `dir`, as far as the words say.
fn lexically(dir: &Path, says: &Path) -> PathBuf {
    let mut at = dir.to_owned();
    for part in says.components() {
        match part {
            Component::RootDir | Component::Prefix(_) => at = PathBuf::from("/"),
            Component::ParentDir => {
                at.pop();
            }
            Component::Normal(name) => at.push(name),
            Component::CurDir => {}
        }
    }
    at
}
