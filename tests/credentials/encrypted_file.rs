//! The encrypted file: what is kept is there again, and for nobody else.

use std::fs::{self, File};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tenantd::wire::credential::{StorePlan, Trouble};

use crate::role::{Stage, account, of_user, trouble};

/// A directory of encrypted files, and their key.
pub(crate) struct Place {
    root: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { root: tempfile::tempdir().expect("a directory") };
        place.write_key(&[7; 32]);
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn write_key(&self, key: &[u8]) {
        let path = self.path().join("key");
        fs::write(&path, key).expect("written");
        fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("set");
    }

    pub(crate) fn stage(&self) -> Stage {
        Stage::new(StorePlan::EncryptedFile {
            directory: self.path().join("secrets"),
            key: self.path().join("key"),
        })
    }

    /// The directory of one tenant.
    pub(crate) fn of(&self, tenant: &str) -> PathBuf {
        self.path().join("secrets").join(tenant)
    }

    pub(crate) fn file(&self, tenant: &str) -> PathBuf {
        self.of(tenant).join("keyring")
    }

    /// Holds the lock of a tenant's file.
    pub(crate) fn hold(&self, tenant: &str) -> File {
        let mut options = File::options();
        let lock = options.write(true).create(true).truncate(false).mode(0o600);
        let lock = lock.open(self.of(tenant).join("lock")).expect("opened");
        flock(&lock, FlockOperation::NonBlockingLockExclusive).expect("free");
        lock
    }

    /// Gives all of it to a user.
    pub(crate) fn give(&self, uid: u32, gid: u32) {
        give(self.path(), uid, gid);
    }
}

fn give(path: &Path, uid: u32, gid: u32) {
    chown(path, Some(uid), Some(gid)).expect("given");
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("listed") {
            give(&entry.expect("listed").path(), uid, gid);
        }
    }
}

#[test]
fn a_secret_is_there_again_until_it_is_forgotten() {
    let place = Place::new();
    let stage = place.stage();
    let value = b"planted\0value\xff\n";
    assert_eq!(trouble(stage.read("acme", &account("token"))), Trouble::Missing);
    assert_eq!(stage.keep("acme", &account("token"), value), Ok(()));
    assert_eq!(stage.keep("acme", &of_user("token", "alice"), b"alice's own"), Ok(()));
    assert_eq!(stage.read("acme", &account("token")), Ok(value.to_vec()));
    assert_eq!(stage.keep("acme", &account("token"), b"another"), Ok(()));
    assert_eq!(stage.read("acme", &account("token")), Ok(b"another".to_vec()));
    assert_eq!(stage.forget("acme", &account("token")), Ok(()));
    assert_eq!(stage.forget("acme", &account("token")), Ok(()));
    assert_eq!(trouble(stage.read("acme", &account("token"))), Trouble::Missing);
    assert_eq!(stage.read("acme", &of_user("token", "alice")), Ok(b"alice's own".to_vec()));
}

#[test]
fn nothing_on_disk_can_be_read_by_others_or_shows_a_value() {
    let place = Place::new();
    place.stage().keep("acme", &account("token"), b"planted-value").expect("kept");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&place.path().join("secrets")), 0o700);
    assert_eq!(mode(&place.of("acme")), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(place.of("acme")).expect("listed") {
        let path = entry.expect("listed").path();
        assert_eq!(mode(&path), 0o600);
        let bytes = fs::read(&path).expect("read");
        for planted in [&b"planted"[..], b"token"] {
            assert!(!bytes.windows(planted.len()).any(|part| part == planted), "{path:?}");
        }
        names.push(path.file_name().expect("a name").to_owned());
    }
    names.sort();
    assert_eq!(names, ["keyring", "lock"]);
}

#[test]
fn a_store_of_the_largest_secrets_holds_and_one_more_byte_is_refused_before_it() {
    let place = Place::new();
    let most = usize::try_from(tenantd::wire::credential::SECRET_MAX).expect("fits");
    let value: Vec<u8> = (0..most).map(|at| (at % 251) as u8).collect();
    place.stage().keep("acme", &account("token"), &value).expect("kept");
    assert_eq!(place.stage().read("acme", &account("token")), Ok(value));
}

#[test]
fn without_a_key_there_is_no_store_and_the_words_say_how_to_make_one() {
    let place = Place::new();
    fs::remove_file(place.path().join("key")).expect("removed");
    let (kind, reason) =
        place.stage().keep("acme", &account("token"), b"value").expect_err("no key");
    assert_eq!(kind, Trouble::NoStore);
    assert!(reason.contains("tenantd credential init"), "{reason}");
    assert!(!place.path().join("secrets").exists());
}

#[test]
fn another_key_opens_nothing_and_changes_nothing() {
    let place = Place::new();
    place.stage().keep("acme", &account("token"), b"value").expect("kept");
    let before = fs::read(place.file("acme")).expect("there");
    place.write_key(&[8; 32]);
    assert_eq!(trouble(place.stage().read("acme", &account("token"))), Trouble::Refused);
    assert_eq!(trouble(place.stage().keep("acme", &account("token"), b"new")), Trouble::Refused);
    assert_eq!(trouble(place.stage().forget("acme", &account("token"))), Trouble::Refused);
    assert_eq!(fs::read(place.file("acme")).expect("there"), before);
    place.write_key(&[7; 32]);
    assert_eq!(place.stage().read("acme", &account("token")), Ok(b"value".to_vec()));
}

#[test]
fn one_tenants_file_is_closed_to_the_key_of_another() {
    let place = Place::new();
    place.stage().keep("acme", &account("token"), b"acme's").expect("kept");
    place.stage().keep("globex", &account("token"), b"globex's").expect("kept");
    fs::copy(place.file("acme"), place.file("globex")).expect("copied");
    assert_eq!(trouble(place.stage().read("globex", &account("token"))), Trouble::Refused);
    assert_eq!(place.stage().read("acme", &account("token")), Ok(b"acme's".to_vec()));
}

#[test]
fn a_link_in_the_place_of_the_file_or_of_the_directory_is_refused() {
    let place = Place::new();
    place.stage().keep("acme", &account("token"), b"value").expect("kept");
    fs::create_dir_all(place.of("globex")).expect("made");
    std::os::unix::fs::symlink(place.file("acme"), place.file("globex")).expect("linked");
    let (kind, _) = place.stage().read("globex", &account("token")).expect_err("a link");
    assert_eq!(kind, Trouble::Refused);
    std::os::unix::fs::symlink(place.of("acme"), place.of("initech")).expect("linked");
    let (kind, _) = place.stage().keep("initech", &account("x"), b"v").expect_err("a link");
    assert_eq!(kind, Trouble::Refused);
}
