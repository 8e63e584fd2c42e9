//! What the machine lends to a configuration: the home directory, this program, and what a written path
//! means here.
//!
//! Looks things up once per load; opens and changes nothing.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::problem::quotable;
use crate::paths::{Layout, Mode};

/// The machine as one load sees it.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) mode: Mode,
    /// From passwd, not from the environment: clients start with hardly any.
    pub(super) home: Option<PathBuf>,
    /// This very program.
    pub(super) program: Option<PathBuf>,
}

/// What is wrong with a value, and the cure; the place is the caller's to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) cure: String,
}

impl Wrong {
    pub(super) fn new(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { what: what.into(), cure: cure.into() }
    }
}

impl Host {
    /// This machine.
    pub(super) fn this(layout: &Layout) -> Self {
        // A question to NSS, which may ask the network: only where the answer is of use.
        let user = (layout.mode == Mode::User)
            .then(|| nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten());
        let home = user.flatten().map(|user| user.dir).filter(|home| home.is_absolute());
        let program = std::env::current_exe().ok().map(undeleted);
        Self { mode: layout.mode, home, program }
    }

    /// The path that `text`, the value of `key`, means: absolute, without `.` and doubled separators.
    pub(super) fn path(&self, key: &str, text: &str) -> Result<PathBuf, Wrong> {
        let quoted = quotable(text);
        let whole = match text.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => self.below_home(key, rest)?,
            _ => PathBuf::from(text),
        };
        if !whole.is_absolute() {
            let cure = match self.mode {
                Mode::User => "write the whole path, or one that begins with ~/",
                Mode::System => "write the whole path",
            };
            return Err(Wrong::new(format!("{key} = \"{quoted}\" is not an absolute path"), cure));
        }
        if text.chars().any(char::is_control) {
            let what = format!("{key} = \"{quoted}\" holds a control character");
            return Err(Wrong::new(what, "write the path without it"));
        }
        let climbs = whole.components().any(|part| part == Component::ParentDir);
        if climbs {
            let what = format!("{key} = \"{quoted}\" climbs by \"..\"");
            return Err(Wrong::new(what, "write the path that is meant"));
        }
        Ok(whole.components().collect())
    }

    fn below_home(&self, key: &str, rest: &str) -> Result<PathBuf, Wrong> {
        match (&self.home, self.mode) {
            (Some(home), Mode::User) => Ok(home.join(rest.trim_start_matches('/'))),
            (None, Mode::User) => Err(Wrong::new(
                format!("{key} begins with ~, and this user has no home directory in passwd"),
                "write the whole path",
            )),
            (_, Mode::System) => Err(Wrong::new(
                format!("{key} begins with ~, which is nobody's home in system mode"),
                "write the whole path",
            )),
        }
    }
}

/// The path of a program that may have been replaced while it runs: the kernel then adds " (deleted)".
fn undeleted(path: PathBuf) -> PathBuf {
    const MARK: &[u8] = b" (deleted)";
    if path.exists() {
        return path;
    }
    let bytes = path.into_os_string().into_vec();
    let bytes = bytes.strip_suffix(MARK).unwrap_or(&bytes);
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// `path` with every symbolic link of the part that exists followed; the rest is appended as it is.
pub(super) fn real(path: &Path) -> PathBuf {
    path.ancestors()
        .find_map(|ancestor| Some((ancestor, ancestor.canonicalize().ok()?)))
        .and_then(|(ancestor, real)| Some(real.join(path.strip_prefix(ancestor).ok()?)))
        // `join("")` leaves a separator at the end; components do not.
        .map_or_else(|| path.to_owned(), |joined| joined.components().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(mode: Mode) -> Host {
        Host { mode, home: Some("/home/alice".into()), program: None }
    }

    #[test]
    fn a_tilde_is_the_owners_home_in_user_mode_alone() {
        let user = host(Mode::User);
        assert_eq!(user.path("data", "~/Acme"), Ok("/home/alice/Acme".into()));
        assert_eq!(user.path("data", "~"), Ok("/home/alice".into()));
        assert!(user.path("data", "~bob/Acme").is_err());
        assert!(host(Mode::System).path("data", "~/Acme").is_err());
    }

    #[test]
    fn a_path_is_absolute_and_goes_down() {
        let host = host(Mode::System);
        assert_eq!(host.path("data", "/srv//acme/./x/"), Ok("/srv/acme/x".into()));
        for bad in ["", "acme", "./acme", "/srv/../etc", "/a\0b", "/a\nb"] {
            assert!(host.path("data", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_replaced_program_is_found_where_it_was() {
        assert_eq!(
            undeleted("/nonexistent/tenantd (deleted)".into()),
            Path::new("/nonexistent/tenantd")
        );
    }

    #[test]
    fn links_are_followed_as_far_as_there_is_something() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        std::fs::create_dir(root.join("real")).expect("mkdir");
        std::os::unix::fs::symlink("real", root.join("link")).expect("symlink");
        assert_eq!(real(&root.join("link/new/dir")), root.join("real/new/dir"));
        assert_eq!(real(&root.join("real")), root.join("real"));
    }
}
