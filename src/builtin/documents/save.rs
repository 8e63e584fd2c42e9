//! The atomic write: a reader sees the old document or the new one, also across a crash.
//!
//! The text goes into a hidden file of the same directory, is flushed, and takes the document's name
//! by rename(2), which replaces a name and never follows it. The directory is flushed last.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, Mode, OFlags};

/// How every half-written file's name begins and ends; no document name can.
const PREFIX: &str = ".save-";
const SUFFIX: &str = ".tmp";
/// How old a half-written file must be to count as left behind by a crash: longer than any save takes.
const LEFT_BEHIND: Duration = Duration::from_secs(60 * 60);

/// A half-written file; dropping it before it got its name removes it.
struct HalfWritten<'a> {
    directory: &'a OwnedFd,
    name: String,
}

impl Drop for HalfWritten<'_> {
    fn drop(&mut self) {
        // After the rename there is nothing of this name, which is what is wanted.
        let _ = rustix::fs::unlinkat(self.directory, &self.name, AtFlags::empty());
    }
}

/// Gives `name` in `directory` the content `bytes`, wholly or not at all.
pub(super) fn replace(directory: &OwnedFd, name: &str, bytes: &[u8]) -> io::Result<()> {
    let (half, mut file) = create(directory)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    rustix::fs::renameat(directory, &half.name, directory, name)?;
    rustix::fs::fsync(directory)?;
    Ok(())
}

fn create(directory: &OwnedFd) -> io::Result<(HalfWritten<'_>, File)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}{SUFFIX}", std::process::id());
        // EXCL follows no link in the last component, and there is only one.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        match rustix::fs::openat(directory, &name, flags, mode) {
            Ok(file) => return Ok((HalfWritten { directory, name }, file.into())),
            // Left behind by a namesake in another pid namespace: take the next number.
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes what a crash left behind; another server of the same directory may be saving right now, so
/// only what is old goes.
pub(super) fn tidy(directory: &OwnedFd) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) && is_old(directory, &name) {
            // What cannot be removed is hidden, and tried again at the next start.
            let _ = rustix::fs::unlinkat(directory, name.as_ref(), AtFlags::empty());
        }
    }
    Ok(())
}

fn is_old(directory: &OwnedFd, name: &str) -> bool {
    let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return false;
    };
    let Ok(modified) = u64::try_from(stat.st_mtime) else { return true };
    let age =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(modified));
    age.is_ok_and(|age| age > LEFT_BEHIND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().expect("a directory");
        let fd = File::open(dir.path()).expect("open").into();
        (dir, fd)
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(dir.path()).expect("a directory");
        entries
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
            .collect()
    }

    #[test]
    fn a_save_replaces_the_whole_text_and_leaves_nothing_else() {
        let (dir, fd) = directory();
        replace(&fd, "a.md", b"a long first version").expect("saved");
        replace(&fd, "a.md", b"short").expect("saved");
        assert_eq!(std::fs::read(dir.path().join("a.md")).expect("read"), b"short");
        assert_eq!(names(&dir), ["a.md"]);
    }

    #[test]
    fn a_save_that_fails_keeps_the_old_state() {
        let (dir, fd) = directory();
        std::fs::create_dir(dir.path().join("a.md")).expect("a directory in the way");
        replace(&fd, "a.md", b"text").expect_err("a directory cannot be replaced by a file");
        assert_eq!(names(&dir), ["a.md"]);
    }

    #[test]
    fn only_old_leftovers_are_tidied() {
        let (dir, fd) = directory();
        let old = dir.path().join(".save-1-0.tmp");
        let file = File::create(&old).expect("created");
        file.set_modified(SystemTime::now() - 2 * LEFT_BEHIND).expect("aged");
        std::fs::write(dir.path().join(".save-2-0.tmp"), "in flight").expect("written");
        std::fs::write(dir.path().join("kept.tmp"), "a document").expect("written");
        tidy(&fd).expect("tidied");
        let mut left = names(&dir);
        left.sort();
        assert_eq!(left, [".save-2-0.tmp", "kept.tmp"]);
    }
}
