//! The credential role: the one process that opens a store of secrets. It is born for one tenant and one
//! deed, does it, says how it went, and ends.
//!
//! ```text
//! supervisor --birth: plan, control, ...--> [role] --get, set, remove--> [`Opened`] store
//!     ^------- one line for each account ------|---- sealed memfds ----> init of a sandbox, or egress
//! ```
//!
//! So neither D-Bus nor a secret is ever in the supervisor, and what hangs ends with this process: it has a
//! limit of time. It has no core dump, no other process of its user can look into it, and nothing of a value
//! is in what it writes for people. A store is used on a plain thread: those of D-Bus do not work within an
//! async task.

mod encrypted_file;
mod entries;
pub mod key;
mod keyutils;
mod login;
pub mod oauth;
mod role;
mod secret_service;
mod work;

use zeroize::Zeroizing;

use crate::config::tenant::Store;
use crate::names::TenantId;
use crate::wire::credential::{Account, StorePlan, Trouble};

pub use role::main;

/// The name under which stores know this program.
const SERVICE: &str = "tenantd";
/// Where a store on the bus finds it (dbus-daemon(1)).
const BUS: &str = "DBUS_SESSION_BUS_ADDRESS";

/// A store that was opened for one tenant.
pub trait Opened {
    /// The secret; nothing where it was never set.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, account: &Account) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError>;

    /// Keeps a secret, in place of one that is there. It is kept for good once this returns, and what was there
    /// is untouched where it fails.
    ///
    /// # Errors
    /// [`StoreError`].
    fn set(&self, account: &Account, value: &[u8]) -> Result<(), StoreError>;

    /// Forgets a secret; one that is not there is no error.
    ///
    /// # Errors
    /// [`StoreError`].
    fn remove(&self, account: &Account) -> Result<(), StoreError>;
}

/// Why a store did not do it.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct StoreError {
    /// Of which kind the trouble is.
    pub trouble: Trouble,
    /// What is wrong and what to do. Never a secret.
    pub reason: String,
}

impl StoreError {
    /// An error with its way out.
    pub fn new(trouble: Trouble, reason: impl Into<String>) -> Self {
        Self { trouble, reason: reason.into() }
    }
}

/// Opens the one store that the plan names, for one tenant.
///
/// # Errors
/// [`StoreError`] where there is none, or it cannot be opened.
fn open(plan: &StorePlan, tenant: &TenantId) -> Result<Box<dyn Opened>, StoreError> {
    Ok(match plan {
        StorePlan::SecretService { .. } => Box::new(secret_service::Session::open(tenant)?),
        StorePlan::EncryptedFile { directory, key } => {
            Box::new(encrypted_file::File::open(directory, key, tenant)?)
        }
        StorePlan::Keyutils => Box::new(keyutils::Keyring::open(tenant)?),
    })
}

/// The name of a secret in a store: `tenant/<id>/<name>`, or `tenant/<id>/<name>/<user>`.
///
/// # Errors
/// `Refused` where a part could be taken for two.
fn stored_as(tenant: &TenantId, account: &Account) -> Result<String, StoreError> {
    let parts = std::iter::once(&account.name).chain(&account.user);
    let whole = |part: &String| {
        !part.is_empty() && !part.contains('/') && !part.chars().any(char::is_control)
    };
    if !parts.clone().all(whole) {
        let reason = "a name or user with a \"/\" in it cannot have a secret (rename it)";
        return Err(StoreError::new(Trouble::Refused, reason));
    }
    Ok(parts.fold(format!("tenant/{tenant}"), |path, part| format!("{path}/{part}")))
}

/// What people should know of a store wherever it is shown.
pub fn remark(store: Store) -> Option<&'static str> {
    (store == Store::Keyutils).then_some(
        "the kernel's keyring forgets every secret at reboot, and some after three days without a session \
         (for secrets that stay: store = \"encrypted-file\" in [credentials] of tenantd.toml)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, user: Option<&str>) -> Account {
        Account { name: name.to_owned(), user: user.map(str::to_owned) }
    }

    #[test]
    fn no_two_accounts_have_one_name_in_a_store() {
        let acme = TenantId::parse("acme").expect("a name");
        let named = |account: &Account| stored_as(&acme, account).map_err(|error| error.trouble);
        assert_eq!(named(&account("token", None)), Ok("tenant/acme/token".to_owned()));
        let of_alice = named(&account("token", Some("alice")));
        assert_eq!(of_alice, Ok("tenant/acme/token/alice".to_owned()));
        for other in
            [account("token/alice", None), account("token", Some("")), account("a\nb", None)]
        {
            assert_eq!(named(&other), Err(Trouble::Refused));
        }
    }
}
