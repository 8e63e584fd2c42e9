//! Secrets in an encrypted file, one for each tenant: for machines without a keyring.
//!
//! The file is oo7's (GNOME Keyring's format for one application: AES-128-CBC with HMAC-SHA256, names as MACs).
//! The other one there is, db-keystore, brings a whole database engine and its synchronisation for a few secrets; oo7
//! some twenty small crates beside those that the Secret Service needs anyway.
//!
//! oo7 0.6 looks for no other writer, and hears nothing of a write that fails (tokio's `sync_all` does not say it): on a
//! full disk it puts half a file in the place of a whole one. So writers are kept apart here, by a lock; they write to a
//! copy, which takes the file's place only after it was read back; and what a killed one left is swept up. A file in which
//! anything is wrong is never written to.
//!
//! ```text
//! <state>/secrets/            0700
//!   acme/                     0700
//!     keyring                 0600, replaced by rename(2)
//!     lock                    0600, held while it is replaced (flock(2))
//! ```

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oo7::Secret;
use oo7::file::UnlockedKeyring;
use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use super::{Opened, SERVICE, StoreError, key, stored_as};
use crate::names::TenantId;
use crate::wire::credential::{Account, Trouble};

/// An account's name in the store.
type Attributes = [(&'static str, String); 1];

/// How oo7 begins the name of a file that is to replace another.
const UNFINISHED: &str = ".tmpkeyring";
/// The copy that is to take the file's place; its name too is swept up.
const NEXT: &str = ".tmpkeyring.next";
/// The largest file that is read, bytes: more than two hundred secrets of the largest size.
const FILE_MAX: u64 = 16 * 1024 * 1024;
/// The attribute that tells one secret from another.
const ACCOUNT: &str = "account";

/// One tenant's file.
pub(super) struct File {
    place: PathBuf,
    tenant: TenantId,
    secret: Zeroizing<[u8; key::LENGTH]>,
    /// For the words that people read.
    key: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl File {
    /// Opens the one below `directory`, which need not be there yet.
    ///
    /// # Errors
    /// As [`key::of`].
    pub(super) fn open(
        directory: &Path,
        key: &Path,
        tenant: &TenantId,
    ) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        Ok(Self {
            place: directory.join(tenant.as_str()),
            tenant: tenant.clone(),
            secret: key::of(tenant, key)?,
            key: key.to_owned(),
            runtime: runtime.map_err(|error| refused(format!("no runtime: {error}")))?,
        })
    }

    fn path(&self) -> PathBuf {
        self.place.join("keyring")
    }

    /// The keyring in this file, all of which can be read; an empty one where there is no file.
    fn load(&self, path: &Path) -> Result<UnlockedKeyring, StoreError> {
        look_at(path).map_err(|error| self.unreadable(&error))?;
        let secret = Secret::blob(self.secret.as_slice());
        self.runtime.block_on(async {
            let keyring = UnlockedKeyring::load(path, secret).await;
            let keyring = keyring.map_err(|error| self.cannot("read", &error))?;
            let items = keyring.items().await.map_err(|error| self.cannot("read", &error))?;
            if items.iter().any(Result::is_err) { Err(self.damaged()) } else { Ok(keyring) }
        })
    }

    fn look_up(
        &self,
        keyring: &UnlockedKeyring,
        attributes: &Attributes,
    ) -> Result<Option<Secret>, StoreError> {
        let found = self.runtime.block_on(keyring.lookup_item(attributes));
        let found = found.map_err(|error| self.cannot("read", &error))?;
        Ok(found.map(|item| item.as_unlocked().secret()))
    }

    /// Gives an account another value, or none; alone, and for good.
    fn change(&self, attributes: &Attributes, value: Option<&Secret>) -> Result<(), StoreError> {
        let cannot = |error: io::Error| refused(format!("{}: {error}", self.place.display()));
        make_private(&self.place).map_err(cannot)?;
        let lock = open_lock(&self.place.join("lock")).map_err(cannot)?;
        while let Err(error) = flock(&lock, FlockOperation::LockExclusive) {
            if error != rustix::io::Errno::INTR {
                return Err(cannot(error.into()));
            }
        }
        sweep(&self.place);
        let next = self.place.join(NEXT);
        let written = self.write(&next, attributes, value).and_then(|()| {
            let replaced = fs::File::open(&next).and_then(|next| next.sync_all());
            let replaced = replaced.and_then(|()| fs::rename(&next, self.path()));
            // The new name is only there for good once the directory is.
            replaced.and_then(|()| fs::File::open(&self.place)?.sync_all()).map_err(cannot)
        });
        sweep(&self.place);
        written
    }

    /// Writes what is to be there to another file, and reads it back.
    fn write(
        &self,
        next: &Path,
        attributes: &Attributes,
        value: Option<&Secret>,
    ) -> Result<(), StoreError> {
        // What cannot be read is not gone beyond.
        let before = self.load(&self.path())?;
        match fs::copy(self.path(), next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(refused(format!("cannot write {}: {error}", next.display())));
            }
            _ => {}
        }
        let had = self.look_up(&before, attributes)?.is_some();
        let keyring = self.load(next)?;
        let count = self.runtime.block_on(async {
            match value {
                Some(value) => {
                    let made = keyring.create_item(SERVICE, attributes, value.clone(), true).await;
                    made.map(drop)
                }
                None => keyring.delete(attributes).await,
            }
            .map_err(|error| self.cannot("write", &error))?;
            let before = before.n_items().await;
            Ok(before - usize::from(had) + usize::from(value.is_some()))
        })?;
        let written = self.load(next).and_then(|written| {
            let whole = self.runtime.block_on(written.n_items()) == count;
            Ok(whole && self.look_up(&written, attributes)?.as_ref() == value)
        });
        match written {
            Ok(true) => Ok(()),
            _ => Err(refused(format!(
                "{} could not be written whole and is as it was (the disk may be full: make room)",
                self.path().display()
            ))),
        }
    }

    fn attributes(&self, account: &Account) -> Result<Attributes, StoreError> {
        Ok([(ACCOUNT, stored_as(&self.tenant, account)?)])
    }

    fn cannot(&self, verb: &str, error: &oo7::file::Error) -> StoreError {
        use oo7::file::Error;
        match error {
            Error::Io(error) => {
                let shown = self.path();
                refused(format!("cannot {verb} {}: {error}", shown.display()))
            }
            Error::IncorrectSecret => refused(format!(
                "{} was not written with the key in {} (put the key back that it was written with; or move the file \
                 away and set the tenant's secrets again)",
                self.path().display(),
                self.key.display()
            )),
            _ => self.damaged(),
        }
    }

    fn unreadable(&self, error: &io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::InvalidData => self.damaged(),
            _ => refused(format!("cannot read {}: {error}", self.path().display())),
        }
    }

    fn damaged(&self) -> StoreError {
        refused(format!(
            "{} is damaged and was left as it is (put a copy of it back; or move it away and set the tenant's \
             secrets again)",
            self.path().display()
        ))
    }
}

impl Opened for File {
    fn get(&self, account: &Account) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let found = self.look_up(&self.load(&self.path())?, &self.attributes(account)?)?;
        Ok(found.map(|secret| Zeroizing::new(secret.as_bytes().to_vec())))
    }

    fn set(&self, account: &Account, value: &[u8]) -> Result<(), StoreError> {
        self.change(&self.attributes(account)?, Some(&Secret::blob(value)))
    }

    fn remove(&self, account: &Account) -> Result<(), StoreError> {
        let attributes = self.attributes(account)?;
        if self.path().exists() { self.change(&attributes, None) } else { Ok(()) }
    }
}

fn refused(why: String) -> StoreError {
    StoreError::new(Trouble::Refused, why)
}

/// Makes the directory and the one above it, private, and looks whether they are.
fn make_private(place: &Path) -> io::Result<()> {
    for place in place.parent().into_iter().chain([place]) {
        match fs::DirBuilder::new().mode(0o700).create(place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let about = fs::symlink_metadata(place)?;
        if !about.is_dir() || about.mode() & 0o077 != 0 {
            let what = format!("{} is no private directory (chmod 0700)", place.display());
            return Err(io::Error::other(what));
        }
    }
    Ok(())
}

fn open_lock(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(nix::libc::O_NOFOLLOW).open(path)
}

/// Removes what a writer that was killed, or had no room, left unfinished. Only under the lock.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
            // It is in nobody's way but the room's.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Looks at what oo7 would believe without a check: the salt and the work factor of the key. A bit of those turned
/// would have it work for an hour, or on a key of nothing.
fn look_at(path: &Path) -> io::Result<()> {
    /// The magic of a GNOME keyring, version 1.0, then in GVariant's way of writing (little endian): the size of the
    /// salt, the salt, the rounds of PBKDF2.
    const MAGIC: &[u8] = b"GnomeKeyring\n\r\0\n\x01\0";
    const SALT: u32 = 32;
    const ROUNDS: u32 = 100_000;
    let mut options = fs::File::options();
    options.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let about = file.metadata()?;
    let mut head = [0; MAGIC.len() + 4 + SALT as usize + 4];
    let whole = (&file).take(head.len() as u64).read(&mut head)? == head.len();
    let number = |at: usize| head.get(at..at + 4).and_then(|four| four.try_into().ok());
    let salt = number(MAGIC.len()).map(u32::from_le_bytes);
    let rounds = number(head.len() - 4).map(u32::from_le_bytes);
    let sound = head.starts_with(MAGIC) && salt == Some(SALT) && rounds == Some(ROUNDS);
    if whole && sound && about.is_file() && about.len() <= FILE_MAX {
        return Ok(());
    }
    Err(io::ErrorKind::InvalidData.into())
}
