//! The credential role: the one process that opens a store of secrets.

pub mod oauth;

use zeroize::Zeroizing;

use crate::wire::credential::{Account, Trouble};

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
