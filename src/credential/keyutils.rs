//! Secrets in the kernel's keyring (keyrings(7)): nothing on disk, and nothing left after a reboot.
//!
//! A key hangs in the session's keyring and in the user's persistent one, which forgets after three days without
//! use (persistent-keyring(7)).

use std::collections::HashMap;
use std::sync::Arc;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};
use linux_keyutils::{KeyRing, KeyRingIdentifier};
use linux_keyutils_keyring_store::Store;

use super::entries::Entries;
use super::{SERVICE, StoreError, stored_as};
use crate::names::TenantId;
use crate::wire::credential::{Account, Trouble};

/// The kernel's keyring.
pub(super) struct Keyring {
    store: Arc<Store>,
    tenant: TenantId,
}

impl Keyring {
    /// Opens the session's.
    ///
    /// # Errors
    /// `NoStore` where this process is in no session of its own: what it would find is a keyring that says "no such
    /// key" to every question and takes none.
    pub(super) fn open(tenant: &TenantId) -> Result<Self, StoreError> {
        let id = |which| KeyRing::from_special_id(which, false).and_then(|ring| ring.metadata());
        let no_store = |what: &str| {
            let way =
                "start tenantd by systemd, with KeyringMode=private, or within keyctl session";
            StoreError::new(Trouble::NoStore, format!("{what} ({way})"))
        };
        let session = id(KeyRingIdentifier::Session)
            .map_err(|_| no_store("the kernel has no session keyring for tenantd"))?;
        if session.get_description().starts_with("_uid_ses.") {
            return Err(no_store("tenantd is in no session with a keyring of its own"));
        }
        let store = Store::new_with_configuration(&HashMap::from([("service_no_divider", "true")]));
        Ok(Self { store: store.map_err(|error| trouble(&error))?, tenant: tenant.clone() })
    }
}

impl Entries for Keyring {
    fn entry(&self, account: &Account) -> Result<Entry, StoreError> {
        let name = stored_as(&self.tenant, account)?;
        self.store.build(SERVICE, &name, None).map_err(|error| trouble(&error))
    }

    fn trouble(error: &Error) -> StoreError {
        trouble(error)
    }
}

fn trouble(error: &Error) -> StoreError {
    let why = match error {
        Error::NoStorageAccess(_) => "the kernel's keyring refused access".to_owned(),
        // The words of errors with a value in them are never shown.
        Error::PlatformFailure(why) => format!(
            "the kernel's keyring refused: {why} (a user's share may be full: /proc/key-users, keyrings(7))"
        ),
        _ => "the kernel's keyring refused the secret (it takes 1 to 32767 bytes)".to_owned(),
    };
    StoreError::new(Trouble::Refused, why)
}
