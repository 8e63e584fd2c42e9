//! The directory of one tenant's documents: the only file of this server that touches the disk.
//!
//! A document is a regular file directly in the directory. Everything is opened beneath the one
//! descriptor taken at start and never through a link, so a planted symbolic link, FIFO or device is
//! refused, not followed. Never writes a document in place.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::name::DocumentName;
use super::save;

/// The largest document, bytes: with every letter escaped it still fits a 4 MiB message.
pub(super) const DOCUMENT_MAX: usize = 512 * 1024;
/// The most directory entries that are looked at, so that one listing stays within some 10 MiB.
const ENTRIES_MAX: usize = 100_000;

/// Why something could not be done with a document.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// There is none of this name.
    #[error("there is no document \"{0}\" (list_documents shows those that there are)")]
    Missing(DocumentName),
    /// It is a link, a directory, a pipe or a device.
    #[error("\"{0}\" is not a regular file and is left alone (remove it from the data directory)")]
    NotRegular(DocumentName),
    /// It is not UTF-8.
    #[error("\"{0}\" is not UTF-8 text (only text can be read here)")]
    NotText(DocumentName),
    /// It is too large.
    #[error("\"{name}\" has {bytes} bytes, more than the {DOCUMENT_MAX} of a document (split it)")]
    TooLarge {
        /// Which.
        name: DocumentName,
        /// How large.
        bytes: u64,
    },
    /// The directory holds too much.
    #[error("the data directory has more than {ENTRIES_MAX} entries (move some of them elsewhere)")]
    TooMany,
    /// The system refused.
    #[error("cannot {deed}: {source}")]
    Io {
        /// What was to be done.
        deed: String,
        /// What the system says.
        source: io::Error,
    },
}

/// What a listing tells about one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name.
    pub(super) name: DocumentName,
    /// Its size.
    pub(super) bytes: u64,
    /// When it was last saved, Unix seconds.
    pub(super) modified: i64,
}

/// One tenant's documents.
#[derive(Debug)]
pub(super) struct Store {
    directory: OwnedFd,
}

impl Store {
    /// Opens the directory and removes what a crash left half-written in it.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open = || -> io::Result<OwnedFd> {
            let directory = rustix::fs::open(path, flags, Mode::empty())?;
            save::tidy(&directory)?;
            Ok(directory)
        };
        Ok(Self { directory: open().map_err(failed("open the data directory"))? })
    }

    /// Every document's name, sorted.
    pub(super) fn names(&self) -> Result<Vec<DocumentName>, StoreError> {
        let entries = rustix::fs::Dir::read_from(&self.directory);
        let mut names = Vec::new();
        for (count, entry) in entries.map_err(failed("list the documents"))?.enumerate() {
            if count >= ENTRIES_MAX {
                return Err(StoreError::TooMany);
            }
            let entry = entry.map_err(failed("list the documents"))?;
            let name =
                entry.file_name().to_str().ok().and_then(|name| DocumentName::parse(name).ok());
            let Some(name) = name else { continue };
            let regular = match entry.file_type() {
                FileType::RegularFile => true,
                FileType::Unknown => matches!(self.entry(&name), Ok(Some(_))),
                _ => false,
            };
            if regular {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// What there is to tell about a document; `None` if there is none of this name.
    pub(super) fn entry(&self, name: &DocumentName) -> Result<Option<Entry>, StoreError> {
        let stat = rustix::fs::statat(&self.directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        let stat = match stat {
            Ok(stat) => stat,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(failed(format!("look at \"{name}\""))(error)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StoreError::NotRegular(name.clone()));
        }
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(Some(Entry { name: name.clone(), bytes, modified: stat.st_mtime }))
    }

    /// A document's text.
    pub(super) fn read(&self, name: &DocumentName) -> Result<String, StoreError> {
        let file = self.open_document(name)?;
        let failed = |error| failed(format!("read \"{name}\""))(error);
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(StoreError::NotRegular(name.clone()));
        }
        let mut bytes =
            Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0).min(DOCUMENT_MAX));
        // One byte more than allowed, so that a file that grows while it is read is noticed.
        file.take(DOCUMENT_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > DOCUMENT_MAX {
            let bytes = meta.len().max(bytes.len() as u64);
            return Err(StoreError::TooLarge { name: name.clone(), bytes });
        }
        String::from_utf8(bytes).map_err(|_| StoreError::NotText(name.clone()))
    }

    /// A name is one component, so it leads out of the directory only as a link, which is not followed.
    /// Nonblocking, so that a FIFO in a document's place cannot hold the server up.
    fn open_document(&self, name: &DocumentName) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
        match rustix::fs::openat(&self.directory, name.as_str(), flags, Mode::empty()) {
            Ok(file) => Ok(file.into()),
            Err(rustix::io::Errno::NOENT) => Err(StoreError::Missing(name.clone())),
            Err(rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => {
                Err(StoreError::NotRegular(name.clone()))
            }
            Err(error) => Err(failed(format!("open \"{name}\""))(error)),
        }
    }

    /// Saves a document, wholly or not at all; returns whether there was one of this name before.
    pub(super) fn save(&self, name: &DocumentName, text: &str) -> Result<bool, StoreError> {
        if text.len() > DOCUMENT_MAX {
            return Err(StoreError::TooLarge { name: name.clone(), bytes: text.len() as u64 });
        }
        let replaced = self.entry(name)?.is_some();
        save::replace(&self.directory, name.as_str(), text.as_bytes())
            .map_err(|error| StoreError::Io { deed: format!("save \"{name}\""), source: error })?;
        Ok(replaced)
    }

    /// Removes a document; returns whether there was one.
    pub(super) fn remove(&self, name: &DocumentName) -> Result<bool, StoreError> {
        if self.entry(name)?.is_none() {
            return Ok(false);
        }
        rustix::fs::unlinkat(&self.directory, name.as_str(), AtFlags::empty())
            .map_err(failed(format!("remove \"{name}\"")))?;
        Ok(true)
    }
}

fn failed<E: Into<io::Error>>(deed: impl Into<String>) -> impl FnOnce(E) -> StoreError {
    let deed = deed.into();
    move |error| StoreError::Io { deed, source: error.into() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path()).expect("a store");
        (dir, store)
    }

    fn name(text: &str) -> DocumentName {
        DocumentName::parse(text).expect("a name")
    }

    #[test]
    fn what_was_saved_is_listed_and_read_back() {
        let (_dir, store) = store();
        assert!(!store.save(&name("b.md"), "zwei").expect("saved"));
        assert!(!store.save(&name("a.md"), "eins").expect("saved"));
        assert!(store.save(&name("a.md"), "eins!").expect("saved"));
        assert_eq!(store.names().expect("listed"), [name("a.md"), name("b.md")]);
        assert_eq!(store.read(&name("a.md")).expect("read"), "eins!");
        assert_eq!(store.entry(&name("a.md")).expect("seen").expect("there").bytes, 5);
        assert!(store.remove(&name("a.md")).expect("removed"));
        assert!(!store.remove(&name("a.md")).expect("gone already"));
        assert!(matches!(store.read(&name("a.md")), Err(StoreError::Missing(_))));
    }

    #[test]
    fn a_planted_link_is_neither_listed_nor_read_nor_written_nor_removed() {
        let (dir, store) = store();
        let outside = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(outside.path(), "secret").expect("written");
        symlink(outside.path(), dir.path().join("link.md")).expect("planted");
        let link = name("link.md");
        assert!(store.names().expect("listed").is_empty());
        assert!(matches!(store.read(&link), Err(StoreError::NotRegular(_))));
        assert!(matches!(store.save(&link, "x"), Err(StoreError::NotRegular(_))));
        assert!(matches!(store.remove(&link), Err(StoreError::NotRegular(_))));
        assert_eq!(std::fs::read_to_string(outside.path()).expect("read"), "secret");
    }

    #[test]
    fn a_pipe_in_a_documents_place_holds_nobody_up() {
        let (dir, store) = store();
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert!(matches!(store.read(&name("pipe")), Err(StoreError::NotRegular(_))));
    }

    #[test]
    fn a_directory_is_no_document() {
        let (dir, store) = store();
        std::fs::create_dir(dir.path().join("sub")).expect("made");
        assert!(store.names().expect("listed").is_empty());
        assert!(matches!(store.read(&name("sub")), Err(StoreError::NotRegular(_))));
    }

    #[test]
    fn too_large_and_not_text_are_said() {
        let (dir, store) = store();
        let large = "x".repeat(DOCUMENT_MAX + 1);
        assert!(matches!(store.save(&name("a"), &large), Err(StoreError::TooLarge { .. })));
        store.save(&name("a"), &large[1..]).expect("the largest fits");
        std::fs::write(dir.path().join("b"), large).expect("written");
        assert!(matches!(store.read(&name("b")), Err(StoreError::TooLarge { .. })));
        std::fs::write(dir.path().join("c"), b"\xff").expect("written");
        assert!(matches!(store.read(&name("c")), Err(StoreError::NotText(_))));
    }

    #[test]
    fn a_missing_directory_is_said() {
        let error = Store::open(Path::new("/nonexistent")).expect_err("nothing there").to_string();
        assert!(error.contains("cannot open the data directory"), "{error}");
    }
}
