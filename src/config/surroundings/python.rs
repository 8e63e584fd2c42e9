//! What a program of Python needs: its virtual environment, the installation that it was made from, and
//! the places that their `site-packages` point to.
//!
//! CPython looks for `pyvenv.cfg` beside its executable or one above, by the name that it was started by;
//! without one, for its library beside the executable's real place.

use std::path::{Path, PathBuf};

use super::super::host::Wrong;
use super::super::problem::shown;
use super::interpreter::Kind;
use super::prefix;
use super::search::{self, Search};
use super::trail::Trail;

const SETTINGS: &str = "pyvenv.cfg";
/// What is read of a settings file, a `.pth` file or a finder of an editable package, bytes.
const SETTINGS_MAX: u64 = 4096;
const PTH_MAX: u64 = 16 * 1024;
const FINDER_MAX: u64 = 64 * 1024;
/// Entries of one `site-packages` looked through, and lines or quoted paths taken from one file.
const ENTRIES_MAX: usize = 10_000;
const PLACES_MAX: usize = 64;
/// What setuptools calls the finder of an editable package.
const FINDER: &str = "__editable__";

/// Whether the program at the end of `trail` is an interpreter of Python.
pub(super) fn is_python(trail: &Trail) -> bool {
    trail.names.iter().chain([&trail.real]).any(|name| Kind::of(name) == Some(Kind::Python))
}

/// An interpreter, by all names that it is found by.
pub(super) fn interpreter(search: &mut Search<'_>, trail: &Trail) -> Result<(), Wrong> {
    let root = environment(trail);
    if let Some(root) = &root {
        let root = search.walk(root)?.real;
        search.take(&root)?;
        base(search, &root, trail)?;
        packages(search, &root)?;
    }
    installation(search, &trail.real)
}

/// The virtual environment that an interpreter belongs to.
fn environment(trail: &Trail) -> Option<PathBuf> {
    let beside = trail.places();
    let mut places = beside.flat_map(|bin| [bin.parent(), Some(bin)]).flatten();
    places.find(|dir| dir.join(SETTINGS).is_file()).map(Path::to_owned)
}

/// The installation that the environment in `root` was made from.
fn base(search: &mut Search<'_>, root: &Path, trail: &Trail) -> Result<(), Wrong> {
    let settings = search::text(&root.join(SETTINGS), SETTINGS_MAX);
    let home = settings.lines().filter_map(|line| line.split_once('=')).find_map(|(key, value)| {
        key.trim().eq_ignore_ascii_case("home").then(|| PathBuf::from(value.trim()))
    });
    let Some(home) = home.filter(|home| home.is_absolute()) else { return Ok(()) };
    let own = [trail.real.file_name(), trail.names[0].file_name()];
    let names = own.into_iter().flatten().chain(["python3".as_ref(), "python".as_ref()]);
    let program = names.map(|name| home.join(name)).find(|path| path.is_file());
    let Some(program) = program else {
        let what = format!(
            "the virtual environment {} was made from {}, where there is no Python any more",
            shown(root),
            shown(&home)
        );
        return Err(Wrong::new(what, "make it anew, and install the server into it again"));
    };
    let program = search.walk(&program)?.real;
    installation(search, &program)
}

/// The installation that the interpreter `real` (links followed) is of.
fn installation(search: &mut Search<'_>, real: &Path) -> Result<(), Wrong> {
    if prefix::is_base(real) {
        return Ok(());
    }
    search.take_with_prefix(real)?;
    match prefix::of(search.home, real).first() {
        Some(prefix) if prefix.is_dir() => packages(search, &prefix.clone()),
        _ => Ok(()),
    }
}

/// A script that is run by the interpreter at the end of `by`.
pub(super) fn script(search: &mut Search<'_>, script: &Trail, by: &Trail) -> Result<(), Wrong> {
    if prefix::is_base(&script.real) {
        return Ok(());
    }
    // In a virtual environment, or in the interpreter's own prefix, it is there already.
    if !search.has(&script.real) {
        search.take_with_prefix(&script.real)?;
        modules_beside(search, &script.real)?;
    }
    if environment(by).is_some() {
        return Ok(());
    }
    users_packages(search, script, by)
}

/// The directory of a script that lies among modules: Python looks there first (sys.path\[0\]). One that was
/// installed into a `bin` lies among programs.
fn modules_beside(search: &mut Search<'_>, script: &Path) -> Result<(), Wrong> {
    let Some(dir) = script.parent().filter(|dir| !dir.ends_with("bin")) else { return Ok(()) };
    if prefix::is_wide(search.home, dir) {
        return Ok(());
    }
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let is_module = |path: &Path| {
        let other = path != script && path.extension().is_some_and(|extension| extension == "py");
        other || path.join("__init__.py").is_file()
    };
    let among = entries.map(|entry| entry.path()).any(|path| is_module(&path));
    if among { search.take(dir) } else { Ok(()) }
}

/// What `pip install --user` made: `P/bin/NAME` with its packages in `P/lib/python3.N/site-packages`. Python
/// finds them below the home of who runs it, and a server has a home of its own.
fn users_packages(search: &mut Search<'_>, script: &Trail, by: &Trail) -> Result<(), Wrong> {
    let prefixes = script.places().filter(|bin| bin.ends_with("bin")).filter_map(Path::parent);
    let prefixes: Vec<PathBuf> = prefixes.map(Path::to_owned).collect();
    let version = by.real.file_name().and_then(|name| name.to_str()).filter(|n| n.contains('.'));
    for prefix in prefixes {
        let found = libraries(&prefix).into_iter().filter(|library| {
            version.is_none_or(|version| library.file_name().is_some_and(|name| name == version))
        });
        let found: Vec<PathBuf> = found.collect();
        if found.is_empty() || prefix::is_base(&prefix) {
            continue;
        }
        for library in found {
            let library = search.walk(&library)?.real;
            search.take(&library)?;
        }
        search.set("PYTHONUSERBASE", &prefix);
        return packages(search, &prefix);
    }
    Ok(())
}

/// The `lib/python3.N` of a prefix that hold packages.
fn libraries(prefix: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
    let pythons = entries
        .take(ENTRIES_MAX)
        .map(|entry| entry.path())
        .filter(|path| Kind::of(path) == Some(Kind::Python) && path.join("site-packages").is_dir());
    let mut pythons: Vec<PathBuf> = pythons.collect();
    pythons.sort();
    pythons
}

/// What the `site-packages` of a prefix point to: lines of `.pth` files (site module of CPython), and
/// checkouts that were installed editable.
fn packages(search: &mut Search<'_>, prefix: &Path) -> Result<(), Wrong> {
    for library in libraries(prefix) {
        let site = library.join("site-packages");
        let entries = std::fs::read_dir(&site).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.take(ENTRIES_MAX).map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            for place in points_to(&site, &file) {
                let place = search.walk(&place)?.real;
                if !search.has(&place) {
                    search.take(&place)?;
                }
            }
        }
    }
    Ok(())
}

/// The places that a file of `site` adds to the search path, as far as they exist.
fn points_to(site: &Path, file: &Path) -> Vec<PathBuf> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let places: Vec<PathBuf> = if name.ends_with(".pth") {
        let text = search::text(file, PTH_MAX);
        let lines = text.lines().map(str::trim_end).filter(|line| {
            !line.is_empty() && !["#", "import ", "import\t"].iter().any(|no| line.starts_with(no))
        });
        lines.take(PLACES_MAX).map(|line| site.join(line)).collect()
    } else if name.starts_with(FINDER) && name.ends_with(".py") {
        let text = search::text(file, FINDER_MAX);
        let mapping = text.lines().filter(|line| line.starts_with("MAPPING")).flat_map(quoted);
        mapping.filter(|word| word.starts_with('/')).take(PLACES_MAX).map(PathBuf::from).collect()
    } else {
        Vec::new()
    };
    places.into_iter().filter(|place| place.exists()).collect()
}

/// The texts in single quotes, as Python writes a dictionary of paths.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('\'').skip(1).step_by(2)
}
