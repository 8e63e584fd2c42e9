//! Whether a user who owns nothing and is in a few groups at most can read a file (system mode).
//!
//! By the mode bits of every directory on the way; access control lists are not looked at, and where they
//! allow more, the file has to be opened by mode as well.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What is done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Access {
    /// It is read; a directory is searched, too.
    Read,
    /// The kernel loads it.
    Execute,
    /// The kernel reads its first line, and an interpreter the rest.
    ExecuteScript,
}

impl Access {
    /// The bits of a mode that this needs.
    fn bits(self, meta: &Metadata) -> u32 {
        match self {
            Self::Read if meta.is_dir() => 0o5,
            Self::Read => 0o4,
            Self::Execute => 0o1,
            Self::ExecuteScript => 0o5,
        }
    }
}

/// The first part of `path` (links followed) that shuts such a user out; `gids` are the user's groups.
pub(in crate::config) fn unreadable(path: &Path, access: Access, gids: &[u32]) -> Option<PathBuf> {
    let mut above: Vec<&Path> = path.ancestors().collect();
    above.reverse();
    let shut = above.into_iter().find(|part| {
        let Ok(meta) = part.metadata() else { return true };
        let wanted = if *part == path { access.bits(&meta) } else { 0o1 };
        // The group's bits alone count for who is in the group, also where others may do more.
        let mine = if gids.contains(&meta.gid()) { meta.mode() >> 3 } else { meta.mode() };
        mine & wanted != wanted
    });
    shut.map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn who_owns_nothing_reads_what_every_directory_lets_through() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("a path");
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
        };
        let (inner, file) = (root.join("inner"), root.join("inner/file"));
        fs::create_dir(&inner).expect("mkdir");
        fs::write(&file, "").expect("a file");
        let gid = fs::metadata(&file).expect("there").gid();
        mode(&root, 0o711);
        mode(&inner, 0o711);
        mode(&file, 0o644);
        assert_eq!(unreadable(&file, Access::Read, &[]), None);
        assert_eq!(unreadable(&file, Access::Execute, &[]), Some(file.clone()));
        assert_eq!(unreadable(&inner, Access::Read, &[]), Some(inner.clone()));
        mode(&root, 0o700);
        assert_eq!(unreadable(&file, Access::Read, &[]), Some(root.clone()));
        mode(&root, 0o710);
        assert_eq!(unreadable(&file, Access::Read, &[]), Some(root.clone()));
        assert_eq!(unreadable(&file, Access::Read, &[gid]), None);
        // A group's member is shut out by the group's bits.
        mode(&file, 0o604);
        assert_eq!(unreadable(&file, Access::Read, &[]), Some(root.clone()));
        assert_eq!(unreadable(&file, Access::Read, &[gid]), Some(file));
    }
}
