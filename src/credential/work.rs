//! The deed: with the store open, one account after the other.
//!
//! Each account goes its own way: what is wrong with one is said of it, and the next is tried. Only a store that
//! cannot be opened at all is wrong for all of them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use rustix::net::SendFlags;
use zeroize::Zeroizing;

use super::oauth::{self, Client, Document};
use super::role::say;
use super::{Opened, StoreError, open};
use crate::names::TenantId;
use crate::post::{self, PostError};
use crate::wire::credential::{
    Account, CredentialPlan, Deed, FromCredential, Handed, LoginPlan, SECRET_MAX, Trouble, Wanted,
};

/// A secret as it is handed over.
pub(super) struct Current {
    /// Its value.
    pub(super) value: Zeroizing<Vec<u8>>,
    /// When it expires, seconds since the epoch.
    pub(super) expires: Option<i64>,
}

/// Does the deed and says how it went. `given` are the descriptors that the deed names.
/// `until` is when the process ends, whatever it is doing.
pub(super) fn work(
    plan: &CredentialPlan,
    given: Vec<OwnedFd>,
    says: &SyncSender<FromCredential>,
    until: Instant,
) {
    let done = open(&plan.store, &plan.tenant).and_then(|store| {
        let each = Each { store: store.as_ref(), tenant: &plan.tenant, says, until };
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
    says: &'a SyncSender<FromCredential>,
    until: Instant,
}

impl Each<'_> {
    fn act(&self, deed: &Deed, given: Vec<OwnedFd>) -> Result<(), StoreError> {
        match deed {
            Deed::HandOver { accounts } => {
                let mut given = given.into_iter();
                let (Some(to), lock) = (given.next(), given.next()) else {
                    return Err(odd(PostError::Descriptors(0)));
                };
                for wanted in accounts {
                    self.tell(&wanted.account, self.hand_over(wanted, &to, lock.as_ref()));
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
                let lock = given.into_iter().next();
                for wanted in accounts {
                    self.tell(&wanted.account, self.log_out(wanted, lock.as_ref()).map(|()| None));
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

    fn hand_over(
        &self,
        wanted: &Wanted,
        to: &OwnedFd,
        lock: Option<&OwnedFd>,
    ) -> Result<Option<i64>, StoreError> {
        let Current { value, expires } = self.current(wanted, lock)?;
        let handed = Handed { name: wanted.account.name.clone(), expires };
        let value = post::seal_secret(&value).map_err(|error| match error {
            PostError::TooLarge(_) => too_large(),
            error => odd(error),
        })?;
        // Nobody reads there yet: what does not fit never will.
        post::send(to, &handed, &[value.as_fd()], SendFlags::DONTWAIT).map_err(odd)?;
        Ok(expires)
    }

    fn current(&self, wanted: &Wanted, lock: Option<&OwnedFd>) -> Result<Current, StoreError> {
        if let Some(plan) = &wanted.login {
            let login = self.login(&wanted.account, plan, lock)?;
            let client = Client::new(plan.ca_file.as_deref());
            let document = login.ready(&client, wanted.renew)?;
            let value = Zeroizing::new(document.access_token.as_bytes().to_vec());
            return Ok(Current { value, expires: document.expires_at });
        }
        let value =
            self.store.get(&wanted.account)?.ok_or_else(|| self.missing(&wanted.account))?;
        if Document::parse(&value).is_ok() {
            let name = &wanted.account.name;
            let why = format!(
                "{name} is a login, and its refresh token is nobody's to have (write an [oauth.{name}], or set \
                 another value: tenantd credential set {} {name})",
                self.tenant
            );
            return Err(StoreError::new(Trouble::Refused, why));
        }
        Ok(Current { value, expires: None })
    }

    fn login<'b>(
        &'b self,
        account: &'b Account,
        plan: &'b LoginPlan,
        lock: Option<&'b OwnedFd>,
    ) -> Result<oauth::Login<'b>, StoreError> {
        let lock = lock.ok_or_else(|| odd(PostError::Descriptors(1)))?.as_fd();
        let (store, tenant, until) = (self.store, self.tenant, self.until);
        Ok(oauth::Login { store, tenant, account, plan, lock, until })
    }

    /// Keeps it; says when it expires, where it is a login that says so.
    fn keep(&self, account: &Account, value: OwnedFd) -> Result<Option<i64>, StoreError> {
        let value = post::unseal_secret(value).map_err(|_| too_large())?;
        self.store.set(account, &value)?;
        Ok(Document::parse(&value).ok().and_then(|document| document.expires_at))
    }

    fn log_out(&self, wanted: &Wanted, lock: Option<&OwnedFd>) -> Result<(), StoreError> {
        let Some(plan) = &wanted.login else { return self.store.remove(&wanted.account) };
        let client = Client::new(plan.ca_file.as_deref());
        if let Some(why) = self.login(&wanted.account, plan, lock)?.end(&client)? {
            // Said before that it is gone, and not in its stead.
            each_failed(
                self.says,
                Some(wanted.account.clone()),
                StoreError::new(Trouble::Unreachable, why),
            );
        }
        Ok(())
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
