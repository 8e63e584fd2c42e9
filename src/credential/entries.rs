//! A store of keyring-core's, whichever: what a tenant's secret is called there, and what its errors mean, is all that
//! differs.

use keyring_core::{Entry, Error};
use zeroize::Zeroizing;

use super::{Opened, StoreError};
use crate::wire::credential::Account;

/// A store whose secrets are entries.
pub(super) trait Entries {
    /// The entry of one, there or not.
    ///
    /// # Errors
    /// Where it cannot have one.
    fn entry(&self, account: &Account) -> Result<Entry, StoreError>;

    /// What an error means for people. The words of errors with a value in them are never shown.
    fn trouble(error: &Error) -> StoreError;
}

impl<Store: Entries> Opened for Store {
    fn get(&self, account: &Account) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        match self.entry(account)?.get_secret() {
            Ok(value) => Ok(Some(Zeroizing::new(value))),
            Err(Error::NoEntry) => Ok(None),
            Err(error) => Err(Self::trouble(&error)),
        }
    }

    fn set(&self, account: &Account, value: &[u8]) -> Result<(), StoreError> {
        self.entry(account)?.set_secret(value).map_err(|error| Self::trouble(&error))
    }

    fn remove(&self, account: &Account) -> Result<(), StoreError> {
        match self.entry(account)?.delete_credential() {
            Ok(()) | Err(Error::NoEntry) => Ok(()),
            Err(error) => Err(Self::trouble(&error)),
        }
    }
}
