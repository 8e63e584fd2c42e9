//! How much a file brings along: the prefix that it was installed into, if that is one and not too wide.
//!
//! `/x/bin/NAME` was installed into `/x` where `/x` looks like a prefix; anything else comes alone. What
//! is everybody's, or a person's whole home, is never brought along.

use std::path::{Path, PathBuf};

use super::super::host::real;

/// What every sandbox shows: the system's programs and libraries. `/opt` is none of it.
const BASE: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Links that belong to it (update-alternatives(1)).
const ALTERNATIVES: &str = "/etc/alternatives";
/// Stores in which each package lies apart and refers to others by whole paths: code only, for
/// everybody to read. One package needs others that only its machine code names, so the store comes whole.
const STORES: [&str; 2] = ["/nix/store", "/gnu/store"];
/// What a prefix has beside its `bin`.
const SIGNS: [&str; 5] = ["lib", "lib64", "libexec", "include", "share"];
/// Homebrew's programs lie in the Cellar of its prefix and load each other's libraries through `opt`.
const CELLAR: &str = "Cellar";
const CELLAR_NEEDS: [&str; 4] = [CELLAR, "opt", "lib", "bin"];

/// Directories of the machine that hold more than one thing.
const WIDE: [&str; 21] = [
    "/",
    "/home",
    "/root",
    "/etc",
    "/var",
    "/var/lib",
    "/var/tmp",
    "/var/home",
    "/var/opt",
    "/run",
    "/tmp",
    "/opt",
    "/srv",
    "/mnt",
    "/media",
    "/boot",
    "/dev",
    "/proc",
    "/sys",
    "/nix",
    "/snap",
];
/// Directories of a home that hold more than one thing.
const WIDE_AT_HOME: [&str; 10] = [
    ".cache",
    ".local",
    ".local/bin",
    ".local/lib",
    ".local/share",
    ".local/state",
    "Desktop",
    "Documents",
    "Downloads",
    "snap",
];
/// Directories of a home that hold what no server should see, not even a part of it.
const CLOSED_AT_HOME: [&str; 4] = [".config", ".ssh", ".gnupg", ".mozilla"];

/// Whether every sandbox shows this anyhow.
pub(in crate::config) fn is_base(path: &Path) -> bool {
    BASE.iter().any(|base| path.starts_with(base)) || path.starts_with(ALTERNATIVES)
}

/// Whether `path` (links followed) holds so much that nothing may bring it along.
pub(in crate::config) fn is_wide(home: Option<&Path>, path: &Path) -> bool {
    let somebodys =
        ["/home", "/var/home"].iter().any(|homes| path.parent() == Some(homes.as_ref()));
    let at_home = |home: &Path| {
        home.starts_with(path)
            || WIDE_AT_HOME.iter().any(|wide| path == home.join(wide))
            || CLOSED_AT_HOME.iter().any(|closed| path.starts_with(home.join(closed)))
    };
    somebodys
        || WIDE.iter().any(|wide| path == Path::new(wide))
        || home.is_some_and(|home| at_home(home) || at_home(&real(home)))
}

/// What the file `path` (links followed) brings along: itself at least.
pub(super) fn of(home: Option<&Path>, path: &Path) -> Vec<PathBuf> {
    if let Some(store) = STORES.iter().find(|store| path.starts_with(store)) {
        return vec![PathBuf::from(store)];
    }
    if let Some(prefix) = cellar(path) {
        let parts = CELLAR_NEEDS.iter().map(|part| prefix.join(part));
        return parts.filter(|part| part.is_dir()).collect();
    }
    let bin = path.parent().filter(|bin| bin.ends_with("bin") || bin.ends_with("sbin"));
    let prefix = bin.and_then(Path::parent).filter(|prefix| !is_wide(home, prefix));
    let prefix = prefix.filter(|prefix| SIGNS.iter().any(|sign| prefix.join(sign).is_dir()));
    vec![prefix.unwrap_or(path).to_owned()]
}

fn cellar(path: &Path) -> Option<&Path> {
    let cellar = path.ancestors().find(|above| above.file_name().is_some_and(|n| n == CELLAR))?;
    cellar.parent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_own_is_shown_anyhow_and_opt_is_not() {
        for path in ["/usr", "/usr/local/bin/x", "/bin/sh", "/lib64/ld.so", "/etc/alternatives/js"]
        {
            assert!(is_base(Path::new(path)), "{path}");
        }
        for path in ["/opt/x", "/usrlocal", "/etc/passwd", "/home/a/usr/bin/x", "/libfoo"] {
            assert!(!is_base(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn what_is_everybodys_or_a_whole_home_is_wide() {
        let home = Some(Path::new("/home/alice"));
        for path in [
            "/",
            "/home",
            "/home/alice",
            "/home/bob",
            "/root",
            "/etc",
            "/var",
            "/run",
            "/tmp",
            "/opt",
            "/home/alice/.local",
            "/home/alice/.local/share",
            "/home/alice/.config",
            "/home/alice/.ssh/keys",
        ] {
            assert!(is_wide(home, Path::new(path)), "{path}");
        }
        for path in ["/opt/acme", "/home/alice/work", "/home/alice/.local/share/uv/python/3.12"] {
            assert!(!is_wide(home, Path::new(path)), "{path}");
        }
        // Where a home lies elsewhere, what is above it is wide as well.
        assert!(is_wide(Some(Path::new("/data/people/eve")), Path::new("/data/people")));
    }

    #[test]
    fn a_program_brings_its_prefix_along_only_where_there_is_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        let make = |path: &str| std::fs::create_dir_all(root.join(path)).expect("mkdir");
        for path in ["node/bin", "node/lib", "go/bin", "go/src", ".local/bin", ".local/share"] {
            make(path);
        }
        let of = |path: &str| of(Some(&root), &root.join(path));
        assert_eq!(of("node/bin/node"), [root.join("node")]);
        assert_eq!(of("go/bin/tool"), [root.join("go/bin/tool")]);
        // ~/.local is a prefix by its looks, and holds keyrings.
        assert_eq!(of(".local/bin/tool"), [root.join(".local/bin/tool")]);
        assert_eq!(of("tool"), [root.join("tool")]);
        let store = super::of(None, Path::new("/nix/store/abc-node-22/bin/node"));
        assert_eq!(store, [Path::new("/nix/store")]);
    }

    #[test]
    fn homebrew_brings_what_its_programs_load() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        for path in ["brew/Cellar/node/22/bin", "brew/opt", "brew/var/db"] {
            std::fs::create_dir_all(root.join(path)).expect("mkdir");
        }
        let found = of(None, &root.join("brew/Cellar/node/22/bin/node"));
        assert_eq!(found, [root.join("brew/Cellar"), root.join("brew/opt")]);
    }
}
