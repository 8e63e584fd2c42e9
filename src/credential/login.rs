//! The token of a login as a secret like others: renewed where it has to be before it is handed over, ended at its
//! server before it is forgotten.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use zeroize::Zeroizing;

use super::oauth::{Client, Login};
use super::work::Current;
use super::{Opened, StoreError};
use crate::names::TenantId;
use crate::wire::credential::{Account, LoginPlan, Trouble};

/// The logins of a tenant, in the store that holds them.
pub(super) struct Logins<'a> {
    pub(super) store: &'a dyn Opened,
    pub(super) tenant: &'a TenantId,
    /// What every refresher of this tenant's locks.
    pub(super) lock: &'a File,
    /// When this process ends, whatever it is doing.
    pub(super) until: Instant,
}

impl Logins<'_> {
    fn of<'a>(&'a self, account: &'a Account, plan: &'a LoginPlan) -> Login<'a> {
        let Self { store, tenant, lock, until } = *self;
        Login { store, tenant, account, plan, lock: lock.as_fd(), until }
    }

    /// Its access token with life left in it.
    ///
    /// # Errors
    /// As [`Login::ready`].
    pub(super) fn current(
        &self,
        account: &Account,
        plan: &LoginPlan,
        renew: bool,
    ) -> Result<Current, StoreError> {
        let client = Client::new(plan.ca_file.as_deref());
        let document = self.of(account, plan).ready(&client, renew)?;
        let value = Zeroizing::new(document.access_token.as_bytes().to_vec());
        Ok(Current { value, expires: document.expires_at })
    }

    /// Ends it at its server and forgets it; forgets it in any case.
    ///
    /// # Errors
    /// [`StoreError`]; `Unreachable` where it was forgotten here and the server could not be told.
    pub(super) fn end(&self, account: &Account, plan: &LoginPlan) -> Result<(), StoreError> {
        let client = Client::new(plan.ca_file.as_deref());
        match self.of(account, plan).end(&client)? {
            None => Ok(()),
            Some(why) => Err(not_told(&why)),
        }
    }
}

fn not_told(why: &str) -> StoreError {
    let what = format!(
        "it was forgotten here, but its server was not told: {why} (end it on the server's own page, or wait until it \
         expires)"
    );
    StoreError::new(Trouble::Unreachable, what)
}

/// The file that refreshers of a tenant lock, made where it is not there.
///
/// # Errors
/// As mkdir(2) and open(2).
pub(super) fn lock(path: &Path) -> std::io::Result<File> {
    if let Some(place) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(place)?;
    }
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(nix::libc::O_NOFOLLOW).open(path)
}
