//! The key of the encrypted files: where it is, and what is made of it for one tenant.
//!
//! One key for all tenants, from which each one's own is derived: whoever has a tenant's has no other's, and
//! cannot find the one that it came from. The service manager gives it (systemd.exec(5), LoadCredential=,
//! decrypted for the service alone, with the machine's key or its TPM); elsewhere it is a file that
//! `tenantd credential init` made.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::StoreError;
use crate::names::TenantId;
use crate::paths::Layout;
use crate::wire::credential::Trouble;

/// What the service manager calls it.
pub const NAME: &str = "tenantd.key";
/// The length of a key that is made, and the least of one that is given, bytes.
pub const LENGTH: usize = 32;
/// The longest that is read, bytes.
const LENGTH_MAX: usize = 4096;
/// What a derived key is for (BLAKE3, section 2.1: a context is unique to a program and a purpose).
const CONTEXT: &str = "tenantd 2026-11-22 encrypted-file secrets of tenant ";

/// The file that holds the key: the service manager's where it gave one to this process, else the one in the
/// state directory, whether it is there or not.
pub fn file(layout: &Layout) -> PathBuf {
    let given = std::env::var_os("CREDENTIALS_DIRECTORY").map(|place| Path::new(&place).join(NAME));
    given.filter(|given| given.exists()).unwrap_or_else(|| layout.secrets_key())
}

/// The key of one tenant.
///
/// # Errors
/// `NoStore` where there is no key; `Refused` where it is none that can be trusted.
pub(super) fn of(tenant: &TenantId, key: &Path) -> Result<Zeroizing<[u8; LENGTH]>, StoreError> {
    let key = read(key)?;
    Ok(Zeroizing::new(blake3::derive_key(&format!("{CONTEXT}{tenant}"), &key)))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let shown = path.display();
    let refused = |why: String| StoreError::new(Trouble::Refused, why);
    let mut options = std::fs::File::options();
    options.read(true).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    let file = options.open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::new(
            Trouble::NoStore,
            format!("there is no key for the encrypted file: {shown} (tenantd credential init makes one)"),
        ),
        _ => refused(format!("the key {shown} cannot be read: {error}")),
    })?;
    let about = file.metadata().map_err(|error| refused(format!("the key {shown}: {error}")))?;
    if !about.is_file() || about.mode() & 0o077 != 0 {
        return Err(refused(format!("the key {shown} can be read by others (chmod 0600 {shown})")));
    }
    // All the room that it can need: a buffer that grows leaves copies behind.
    let mut key = Zeroizing::new(Vec::with_capacity(LENGTH_MAX + 1));
    let read = file.take(LENGTH_MAX as u64 + 1).read_to_end(&mut key);
    read.map_err(|error| refused(format!("the key {shown} cannot be read: {error}")))?;
    if key.len() < LENGTH || key.len() > LENGTH_MAX {
        let why = format!(
            "the key {shown} is damaged: it has {} bytes, not {LENGTH} to {LENGTH_MAX} (put the one that was there \
             back)",
            key.len()
        );
        return Err(refused(why));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::parse(name).expect("a name")
    }

    fn written(bytes: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join(NAME);
        std::fs::write(&path, bytes).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set");
        (place, path)
    }

    #[test]
    fn each_tenant_has_a_key_of_its_own_and_always_the_same() {
        let (_place, path) = written(&[7; LENGTH], 0o600);
        let acme = of(&tenant("acme"), &path).expect("a key");
        assert_eq!(acme, of(&tenant("acme"), &path).expect("a key"));
        assert_ne!(acme, of(&tenant("globex"), &path).expect("a key"));
        assert_ne!(acme.as_slice(), [7; LENGTH]);
    }

    #[test]
    fn a_key_that_is_missing_short_or_open_to_others_is_none() {
        let trouble = |path: &Path| of(&tenant("acme"), path).map_err(|error| error.trouble);
        let (place, short) = written(&[7; LENGTH - 1], 0o600);
        assert_eq!(trouble(&short), Err(Trouble::Refused));
        assert_eq!(trouble(&place.path().join("none")), Err(Trouble::NoStore));
        for mode in [0o640, 0o604] {
            let (_place, open) = written(&[7; LENGTH], mode);
            assert_eq!(trouble(&open), Err(Trouble::Refused), "{mode:o}");
        }
    }

    #[test]
    fn a_link_is_no_key() {
        let (place, path) = written(&[7; LENGTH], 0o600);
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        assert_eq!(read(&link).map_err(|error| error.trouble), Err(Trouble::Refused));
    }
}
