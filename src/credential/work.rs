//! The deed: with the store open, one account after the other.
//!
//! Each account goes its own way: what is wrong with one is said of it, and the next is tried. Only a store that
//! cannot be opened at all is wrong for all of them.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use rustix::net::SendFlags;
use zeroize::Zeroizing;

use super::login::Logins;
use super::oauth::Document;
use super::role::say;
use super::{Opened, StoreError, open};
use crate::names::TenantId;
use crate::post::{self, PostError};
use crate::wire::credential::{
    Account, CredentialPlan, Deed, FromCredential, Handed, SECRET_MAX, Trouble, Wanted,
};

/// A secret as it is handed over.
pub(super) struct Current {
    /// Its value.
    pub(super) value: Zeroizing<Vec<u8>>,
    /// When it expires, seconds since the epoch.
    pub(super) expires: Option<i64>,
}

/// Does the deed and says how it went. `given` are the descriptors that the deed names, `lock` is there where it is
/// about logins, `until` is when the process ends, whatever it is doing.
pub(super) fn work(
    plan: &CredentialPlan,
    given: Vec<OwnedFd>,
    lock: Option<&File>,
    says: &SyncSender<FromCredential>,
    until: Instant,
) {
    let done = open(&plan.store, &plan.tenant).and_then(|store| {
        let (store, tenant) = (store.as_ref(), &plan.tenant);
        let logins = lock.map(|lock| Logins { store, tenant, lock, until });
        let each = Each { store, tenant, logins, says };
        each.act(&plan.deed, given)
    });
    if let Err(error) = done {
        each_failed(says, None, error);
    }
    say(says, FromCredential::Done);
}

fn each_failed(says: &SyncSender<FromCredential>, account: Option<Account>, error: StoreError) {
    let StoreError { trouble, reason } = error;
    say(says, FromCredential::Failed { account, trouble, reason });
}

/// The store, and whom to tell.
struct Each<'a> {
    store: &'a dyn Opened,
    tenant: &'a TenantId,
    logins: Option<Logins<'a>>,
    says: &'a SyncSender<FromCredential>,
}

impl Each<'_> {
    fn act(&self, deed: &Deed, given: Vec<OwnedFd>) -> Result<(), StoreError> {
        match deed {
            Deed::HandOver { accounts } => {
                let [to] = post::exactly(given).map_err(odd)?;
                for wanted in accounts {
                    self.tell(&wanted.account, self.hand_over(wanted, &to));
                }
            }
            Deed::Keep { account } => {
                let [value] = post::exactly(given).map_err(odd)?;
                self.tell(account, self.keep(account, value));
            }
            Deed::Forget { accounts } => {
                for account in accounts {
                    self.tell(account, self.store.remove(account).map(|()| None));
                }
            }
            Deed::Logout { accounts } => {
                for wanted in accounts {
                    self.tell(&wanted.account, self.log_out(wanted).map(|()| None));
                }
            }
        }
        Ok(())
    }

    fn tell(&self, account: &Account, done: Result<Option<i64>, StoreError>) {
        let account = account.clone();
        match done {
            Ok(expires) => say(self.says, FromCredential::Did { account, expires }),
            Err(error) => each_failed(self.says, Some(account), error),
        }
    }

    fn hand_over(&self, wanted: &Wanted, to: &OwnedFd) -> Result<Option<i64>, StoreError> {
        let Current { value, expires } = self.current(wanted)?;
        let handed = Handed { name: wanted.account.name.clone(), expires };
        let value = post::seal_secret(&value).map_err(|error| match error {
            PostError::TooLarge(_) => too_large(),
            error => odd(error),
        })?;
        // Nobody reads there yet: what does not fit never will.
        post::send(to, &handed, &[value.as_fd()], SendFlags::DONTWAIT).map_err(odd)?;
        Ok(expires)
    }

    fn current(&self, wanted: &Wanted) -> Result<Current, StoreError> {
        if let (Some(login), Some(logins)) = (&wanted.login, &self.logins) {
            return logins.current(&wanted.account, login, wanted.renew);
        }
        let value =
            self.store.get(&wanted.account)?.ok_or_else(|| self.missing(&wanted.account))?;
        if Document::parse(&value).is_ok() {
            return Err(self.no_plain_secret(&wanted.account));
        }
        Ok(Current { value, expires: None })
    }

    /// What is stored is a login, which is nobody's to have whole.
    fn no_plain_secret(&self, account: &Account) -> StoreError {
        let (tenant, name) = (self.tenant, &account.name);
        let why = format!(
            "{name} is a login, and {tenant} has no [oauth.{name}] (add it, or set another value: tenantd credential \
             set {tenant} {name})"
        );
        StoreError::new(Trouble::Refused, why)
    }

    /// Keeps it; says when it expires, where it is a login that says so.
    fn keep(&self, account: &Account, value: OwnedFd) -> Result<Option<i64>, StoreError> {
        let value = post::unseal_secret(value).map_err(|_| too_large())?;
        self.store.set(account, &value)?;
        Ok(Document::parse(&value).ok().and_then(|document| document.expires_at))
    }

    fn log_out(&self, wanted: &Wanted) -> Result<(), StoreError> {
        match (&wanted.login, &self.logins) {
            (Some(login), Some(logins)) => logins.end(&wanted.account, login),
            _ => self.store.remove(&wanted.account),
        }
    }

    fn missing(&self, account: &Account) -> StoreError {
        let (tenant, name) = (self.tenant, &account.name);
        let why = format!("{name} was never set (tenantd credential set {tenant} {name})");
        StoreError::new(Trouble::Missing, why)
    }
}

fn too_large() -> StoreError {
    let why = format!("a secret is at most {} KiB", SECRET_MAX / 1024);
    StoreError::new(Trouble::Refused, why)
}

/// What the supervisor gave does not fit the deed, or nobody takes what is handed over.
fn odd(error: PostError) -> StoreError {
    StoreError::new(Trouble::Refused, format!("the secret cannot be handed over: {error}"))
}
