//! Finds a file below a directory, with links refused or kept below it: openat2(2) with RESOLVE_NO_SYMLINKS or
//! RESOLVE_IN_ROOT, and where that call is not to be had the same part by part. A filter that looks at modes
//! cannot see into it and so takes it away: systemd's RestrictSUIDSGID= does.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// Links on one way before it is taken for a circle (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// What a symbolic link on the way means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// Somebody could have turned it: ELOOP.
    Refuse,
    /// It leads where it would if the directory that is started from were the root.
    Follow,
}

/// Opens what has this path below `root`, as `flags` say (close-on-exec). Nothing above `root` is reached.
///
/// # Errors
/// As openat(2); ELOOP for a link, EINVAL for `..` where links are refused.
pub fn find(root: impl AsFd, path: &Path, links: Links, flags: OFlags) -> Result<OwnedFd> {
    match at_once(root.as_fd(), path, links, flags) {
        // A filter has it, or a rename went on meanwhile.
        Err(Errno::NOSYS | Errno::PERM | Errno::AGAIN) => by_parts(root, path, links, flags),
        found => found,
    }
}

fn at_once(root: BorrowedFd<'_>, path: &Path, links: Links, flags: OFlags) -> Result<OwnedFd> {
    let resolve = match links {
        Links::Follow => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        Links::Refuse if path.components().any(|part| part == Component::ParentDir) => {
            return Err(Errno::INVAL);
        }
        Links::Refuse => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
    };
    let below = path.strip_prefix("/").unwrap_or(path);
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    rustix::fs::openat2(root, below, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn by_parts(root: impl AsFd, path: &Path, links: Links, flags: OFlags) -> Result<OwnedFd> {
    let (way, flags) = (OFlags::PATH | OFlags::CLOEXEC, flags | OFlags::CLOEXEC);
    let mut at = vec![rustix::fs::openat(root, c".", way, Mode::empty())?];
    let mut left = parts(path);
    let mut followed = 0;
    while let (Some(part), Some(here)) = (left.pop(), at.last()) {
        if part == ".." {
            if links == Links::Refuse {
                return Err(Errno::INVAL);
            }
            at.truncate(at.len().saturating_sub(1).max(1));
            continue;
        }
        let next = rustix::fs::openat(here, &part, way | OFlags::NOFOLLOW, Mode::empty())?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&next)?.st_mode);
        if kind == FileType::Symlink {
            followed += 1;
            if links == Links::Refuse || followed > LINKS_MAX {
                return Err(Errno::LOOP);
            }
            let target = rustix::fs::readlinkat(&next, c"", Vec::new())?.into_bytes();
            let target = OsString::from_vec(target);
            if Path::new(&target).is_absolute() {
                at.truncate(1);
            }
            left.extend(parts(Path::new(&target)));
        } else if left.is_empty() && kind != FileType::Directory && !flags.contains(OFlags::PATH) {
            // A link that took its place since is refused.
            return rustix::fs::openat(here, &part, flags | OFlags::NOFOLLOW, Mode::empty());
        } else {
            at.push(next);
        }
    }
    let found = at.pop().ok_or(Errno::NOENT)?;
    if flags.contains(OFlags::PATH) {
        return Ok(found);
    }
    rustix::fs::openat(&found, c".", flags, Mode::empty())
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The same by both ways.
    fn read(root: &Path, path: &str, links: Links) -> Result<String> {
        let root = std::fs::File::open(root).expect("it is there");
        let parts = by_parts(&root, Path::new(path), links, OFlags::RDONLY);
        let file = find(&root, Path::new(path), links, OFlags::RDONLY);
        assert_eq!(parts.err(), file.as_ref().err().copied(), "{path}");
        let file = file?;
        let mut text = String::new();
        std::fs::File::from(file).read_to_string(&mut text).expect("read");
        Ok(text)
    }

    #[test]
    fn links_are_refused_or_lead_nowhere_above_the_root() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc")).expect("made");
        std::fs::create_dir_all(root.join("run/real")).expect("made");
        std::fs::write(root.join("run/real/file"), "inside").expect("written");
        std::fs::write(dir.path().join("file"), "outside").expect("written");
        symlink("../run/real/file", root.join("etc/relative")).expect("a link");
        symlink("/run/alias/file", root.join("etc/absolute")).expect("a link");
        symlink("real", root.join("run/alias")).expect("a link");
        symlink("../../../../file", root.join("etc/climbs")).expect("a link");
        symlink("circle", root.join("etc/circle")).expect("a link");
        assert_eq!(read(&root, "/run/real/file", Links::Refuse).as_deref(), Ok("inside"));
        for path in ["etc/relative", "etc/absolute", "run/alias/file", "../root/run/real/file"] {
            assert_eq!(read(&root, path, Links::Follow).is_ok(), !path.starts_with(".."), "{path}");
            let refused = read(&root, path, Links::Refuse).expect_err(path);
            assert!(matches!(refused, Errno::LOOP | Errno::INVAL), "{path}: {refused}");
        }
        assert_eq!(read(&root, "etc/climbs", Links::Follow), Err(Errno::NOENT));
        assert_eq!(read(&root, "etc/circle", Links::Follow), Err(Errno::LOOP));
        assert_eq!(read(&root, "run/real/file/x", Links::Refuse), Err(Errno::NOTDIR));
        // A directory, and the root itself.
        let root = std::fs::File::open(&root).expect("it is there");
        for (path, flags) in [("", OFlags::PATH), ("run", OFlags::RDONLY), ("", OFlags::RDONLY)] {
            find(&root, Path::new(path), Links::Refuse, flags).expect(path);
            by_parts(&root, Path::new(path), Links::Refuse, flags).expect(path);
        }
    }
}
