//! Secrets in the Secret Service of a user's session: GNOME Keyring, KWallet, KeePassXC.
//!
//! The bus is the one in this process's environment. Nothing here has a limit of time: a service may wait for a
//! person, and the role as a whole has one.

use std::collections::HashMap;
use std::sync::Arc;

use keyring_core::api::CredentialStoreApi;
use keyring_core::{Entry, Error};
use zbus_secret_service_keyring_store::Store;

use super::entries::Entries;
use super::{SERVICE, StoreError, stored_as};
use crate::names::TenantId;
use crate::wire::credential::{Account, Trouble};

/// A session with the service.
pub(super) struct Session {
    store: Arc<Store>,
    tenant: TenantId,
}

impl Session {
    /// Connects to the bus and to the service on it.
    ///
    /// # Errors
    /// `NoStore` where there is neither.
    pub(super) fn open(tenant: &TenantId) -> Result<Self, StoreError> {
        let store = Store::new().map_err(|error| trouble(&error))?;
        Ok(Self { store, tenant: tenant.clone() })
    }
}

impl Entries for Session {
    fn entry(&self, account: &Account) -> Result<Entry, StoreError> {
        let name = stored_as(&self.tenant, account)?;
        // What a person sees in the list of their keyring.
        let label = format!("tenantd: {}", name.trim_start_matches("tenant/"));
        let label = HashMap::from([("label", label.as_str())]);
        self.store.build(SERVICE, &name, Some(&label)).map_err(|error| trouble(&error))
    }

    fn trouble(error: &Error) -> StoreError {
        trouble(error)
    }
}

/// What an error means for people. The words of errors with a value in them are never shown.
fn trouble(error: &Error) -> StoreError {
    let (Error::NoStorageAccess(cause) | Error::PlatformFailure(cause)) = error else {
        let why = match error {
            Error::Ambiguous(_) => "the keyring has two secrets of this name (remove one there)",
            _ => "the keyring refused the secret",
        };
        return StoreError::new(Trouble::Refused, why);
    };
    match cause.downcast_ref::<secret_service::Error>() {
        Some(cause) => of_service(cause),
        None => StoreError::new(Trouble::Refused, format!("the keyring refused: {cause}")),
    }
}

fn of_service(error: &secret_service::Error) -> StoreError {
    use secret_service::Error;
    let locked = "the keyring is locked (unlock it: log in to the desktop, or open it with its password in the \
                  desktop's keyring manager)";
    let (trouble, why) = match error {
        Error::Locked | Error::Prompt | Error::PromptDisconnected => {
            (Trouble::Locked, locked.into())
        }
        Error::NoResult => {
            let why = "the keyring service has no default keyring (make one in the desktop's keyring manager)";
            (Trouble::NoStore, why.into())
        }
        Error::Unavailable => (Trouble::NoStore, nobody("no keyring service, or no session bus")),
        Error::Zbus(error) => of_bus(error, locked),
        Error::ZbusFdo(zbus::fdo::Error::ZBus(error)) => of_bus(error, locked),
        Error::ZbusFdo(error) => of_name(&error.to_string(), "", locked),
        other => (Trouble::Refused, format!("the keyring refused: {other}")),
    };
    StoreError::new(trouble, why)
}

fn of_bus(error: &zbus::Error, locked: &str) -> (Trouble, String) {
    match error {
        zbus::Error::MethodError(name, _, _) => of_name(name.as_str(), name.as_str(), locked),
        zbus::Error::FDO(error) => of_name(&error.to_string(), "", locked),
        // All of these are said while one connects.
        zbus::Error::Address(_)
        | zbus::Error::Connection(..)
        | zbus::Error::InputOutput(_)
        | zbus::Error::Handshake(_)
        | zbus::Error::Unsupported => (Trouble::NoStore, nobody(&error.to_string())),
        other => (Trouble::Refused, format!("the keyring refused: {other}")),
    }
}

/// An error by its name on the bus (Secret Service API, section 15; D-Bus Specification).
fn of_name(words: &str, name: &str, locked: &str) -> (Trouble, String) {
    const NO_SERVICE: [&str; 5] =
        ["ServiceUnknown", "NameHasNoOwner", "Spawn.", "Disconnected", "NoReply"];
    if name.ends_with(".IsLocked") {
        return (Trouble::Locked, locked.to_owned());
    }
    if NO_SERVICE.iter().any(|part| words.contains(part)) {
        return (Trouble::NoStore, nobody(words));
    }
    (Trouble::Refused, format!("the keyring refused: {words}"))
}

fn nobody(what: &str) -> String {
    format!(
        "there is no keyring here: {what} (log in to a desktop with GNOME Keyring, KWallet or KeePassXC; without one: \
         store = \"encrypted-file\" in [credentials] of tenantd.toml)"
    )
}
