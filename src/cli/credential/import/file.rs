//! The file that secrets are taken from: read once, and replaced as a whole.
//!
//! What was there is kept beside it, for its owner alone, before anything changes; the new file takes its place
//! by one rename(2), so that whatever ends us leaves the old one or the new one. Everything happens below the
//! directory that was opened first: nobody can put another one in its place meanwhile.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use zeroize::Zeroizing;

use crate::cli::failure::{FAILED, Failure};

/// The largest file that is read, bytes: a client's state can be among its configuration.
const SIZE_MAX: u64 = 16 * 1024 * 1024;
/// How many copies of earlier times may lie beside it.
const BACKUPS: usize = 100;

/// The file as it was read.
pub(super) struct Original {
    /// Without links.
    pub(super) path: PathBuf,
    pub(super) text: Zeroizing<String>,
    directory: OwnedFd,
    name: OsString,
    about: Metadata,
}

impl Original {
    /// Reads it; a link is followed first, so that what it leads to is replaced.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot read {}", path.display());
        let path = path.canonicalize().with_context(cannot)?;
        let name = path.file_name().with_context(cannot)?.to_owned();
        let parent = path.parent().with_context(cannot)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(parent, flags, Mode::empty()).with_context(cannot)?;
        let (text, about) = read(&directory, &name).with_context(cannot)?;
        Ok(Self { path, text, directory, name, about })
    }

    /// Puts another text in its place. Returns where the old one is.
    pub(super) fn replace(&self, text: &str) -> anyhow::Result<PathBuf> {
        let (now, about) = read(&self.directory, &self.name).context("cannot read it again")?;
        if *now != *self.text || about.ino() != self.about.ino() {
            let said = format!("{} was changed meanwhile and is left alone", self.path.display());
            return Err(Failure::new(FAILED, said).into());
        }
        let backup = self.backup().context("cannot keep a copy of it, so it is left alone")?;
        let new = self.beside(&format!(".tenantd-{}", std::process::id()));
        let written = self.write(&new, text, self.about.mode() & 0o7777).and_then(|()| {
            rustix::fs::renameat(&self.directory, &new, &self.directory, &self.name)?;
            Ok(rustix::fs::fsync(&self.directory)?)
        });
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&self.directory, &new, AtFlags::empty());
        }
        written.with_context(|| format!("cannot replace {}", self.path.display()))?;
        Ok(self.path.with_file_name(backup))
    }

    /// A copy of it that only its owner can read.
    fn backup(&self) -> anyhow::Result<OsString> {
        for number in 0..BACKUPS {
            let ending = if number == 0 { String::new() } else { format!(".{number}") };
            let name = self.beside(&format!(".before-tenantd{ending}"));
            match self.write(&name, &self.text, 0o600) {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let _ = rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty());
                    return Err(error.into());
                }
            }
        }
        anyhow::bail!("{BACKUPS} copies lie beside it already")
    }

    fn beside(&self, ending: &str) -> OsString {
        let mut name = self.name.clone();
        name.push(ending);
        name
    }

    /// Makes a file beside it, of the same owner, on disk when this returns.
    fn write(&self, name: &OsString, text: &str, mode: u32) -> std::io::Result<()> {
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let private = Mode::RUSR | Mode::WUSR;
        let mut file = File::from(rustix::fs::openat(&self.directory, name, flags, private)?);
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (self.about.uid(), self.about.gid()) {
            let (uid, gid) = (Uid::from_raw(self.about.uid()), Gid::from_raw(self.about.gid()));
            rustix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

fn read(directory: &OwnedFd, name: &OsString) -> anyhow::Result<(Zeroizing<String>, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
    let about = file.metadata()?;
    anyhow::ensure!(about.is_file(), "it is no regular file");
    anyhow::ensure!(about.len() <= SIZE_MAX, "it is larger than 16 MiB");
    // All the room at once: growing would leave copies behind.
    let room = usize::try_from(about.len()).unwrap_or(0) + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    let read = file.take(SIZE_MAX).read_to_string(&mut text);
    // Its words would quote nothing, but they need not be trusted with that.
    read.map_err(|error| anyhow::anyhow!("it is no text ({})", error.kind()))?;
    Ok((text, about))
}
