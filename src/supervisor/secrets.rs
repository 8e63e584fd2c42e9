//! The secrets of the tenants as the supervisor manages them: kept, forgotten and told of, never seen.
//!
//! A secret arrives as a sealed descriptor and leaves as one, to the credential role, which alone opens a
//! store. The deeds of one tenant stand in line, so that two roles never write to one store at once:
//!
//! ```text
//! waiting --its turn--> at work (the role) --done--> index written, asker told --> the next
//! ```

mod told;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::credentials::{self, Outcome};
use super::house::{House, unix_now};
use super::index::{FACTS_MAX, Fact, Index};
use super::message::{Message, Reply};
use super::renewals::Renewals;
use super::status::{admin_only, answer, unknown};
use crate::auth::Principal;
use crate::config::tenant::Store;
use crate::control::{ControlError, RemovedReply};
use crate::names::TenantId;
use crate::paths::Mode;
use crate::policy::Asker;
use crate::policy::reason::{CONFIGURATION, USAGE, refusal};
use crate::policy::secret::{Denied, Keys};
use crate::wire::credential::{Account, Deed, Source, Trouble};
use crate::wire::{Answer, Identity, Refusal};

pub(super) use work::{RemoveWish, SecretNews, SetAsk, Work};
use work::{told as tell, trouble_refusal, unavailable};

/// How long the store may take: a person may have to unlock it meanwhile.
pub(super) const SECRET_TAKES: Duration = Duration::from_secs(30);
/// How many deeds of one tenant may wait. A store takes milliseconds, and a uid has eight seats at the door.
const LINE: usize = 32;

/// What the loop knows of all secrets.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    indexes: BTreeMap<TenantId, Index>,
    lines: BTreeMap<TenantId, Line>,
    pub(super) renewals: Renewals,
}

/// The deeds of one tenant.
#[derive(Debug, Default)]
struct Line {
    busy: bool,
    waiting: VecDeque<Work>,
}

impl House {
    /// Has a secret kept, where it is the asker's to set.
    pub(super) fn set_secret(&mut self, ask: SetAsk) {
        match self.may_set(&ask) {
            Ok(account) => {
                let tenant = ask.tenant.clone();
                self.line_up(&tenant, Work::Keep { ask, account });
            }
            Err(refused) => tell(&ask.reply, Err(refused)),
        }
    }

    fn may_set(&mut self, ask: &SetAsk) -> Result<Account, Refusal> {
        if self.stopping.is_some() {
            return Err(unavailable("this supervisor is stopping (try again)", "stopping"));
        }
        if ask.source == Source::Found {
            return Err(refusal("a secret that is set was not found", USAGE, "bad-request", false));
        }
        let owner = self.owns(ask.principal.uid);
        let asker = Asker { principal: &ask.principal, ids: &ask.ids, owner };
        let admin = asker.is_admin(&self.settings().admins);
        let keys = self.keys(&ask.tenant, &asker, admin);
        let account = keys.and_then(|keys| keys.account(&ask.name)).map_err(|no| no.refusal())?;
        let index = self.index(&ask.tenant);
        let is_new = index.get(&account).is_none();
        if ask.rotate && is_new && index.damage.is_none() {
            let (tenant, name) = (&ask.tenant, &ask.name);
            let said = format!(
                "{name} of {tenant} is not set, so there is nothing to rotate (tenantd credential set {tenant} \
                 {name})"
            );
            return Err(refusal(&said, CONFIGURATION, "not-set", false));
        }
        if is_new && index.facts().len() >= FACTS_MAX {
            let said = format!("{} has {FACTS_MAX} secrets, which is the most", ask.tenant);
            return Err(unavailable(&said, "too-many"));
        }
        Ok(account)
    }

    /// Removes a secret from the store, where it is the asker's to remove.
    pub(super) fn remove_secret(
        &mut self,
        asker: &Asker<'_>,
        admin: bool,
        wish: &RemoveWish,
        reply: Reply<RemovedReply>,
    ) {
        let Ok(tenant) = TenantId::parse(&wish.tenant) else {
            return answer(reply, Err(unknown(&wish.tenant)));
        };
        match self.removable(&tenant, asker, admin, wish) {
            Ok(accounts) => {
                let asker = identity(asker.principal);
                self.line_up(&tenant, Work::Forget { accounts, asker, reply });
            }
            Err(denied) => answer(reply, Err(control_error(denied))),
        }
    }

    /// The accounts that a wish means. What the file no longer names is removed by what is known of it.
    fn removable(
        &mut self,
        tenant: &TenantId,
        asker: &Asker<'_>,
        admin: bool,
        wish: &RemoveWish,
    ) -> Result<Vec<Account>, Denied> {
        let left: Vec<Account> = self.index(tenant).accounts(&wish.name).collect();
        let keys = self.keys(tenant, asker, admin)?;
        let own = asker.principal.user.as_str();
        let name = wish.name.clone();
        if let Some(user) = wish.user.as_deref().filter(|user| *user != own) {
            let account = Account { name, user: Some(user.to_owned()) };
            let (mode, store) = (self.options.layout.mode, self.settings().store);
            return match (keys.admin, mode, store) {
                (false, ..) => Err(Denied::Another { tenant: tenant.clone(), name: account.name }),
                (true, Mode::System, Store::SecretService) => {
                    Err(Denied::Theirs { name: account.name, user: user.to_owned() })
                }
                (true, ..) => Ok(vec![account]),
            };
        }
        match keys.account(&wish.name) {
            Err(Denied::Unnamed { .. }) if !left.is_empty() => {
                let mine = |one: &Account| keys.admin || one.user.as_deref() == Some(own);
                let mine: Vec<_> = left.into_iter().filter(mine).collect();
                if mine.is_empty() {
                    keys.account(&wish.name).map(|one| vec![one])
                } else {
                    Ok(mine)
                }
            }
            account => account.map(|one| vec![one]),
        }
    }

    /// What the asker may do with a tenant's secrets.
    pub(super) fn keys<'a>(
        &'a self,
        id: &TenantId,
        asker: &'a Asker<'a>,
        admin: bool,
    ) -> Result<Keys<'a>, Denied> {
        if let Some(problems) = self.registry.broken_one(id).filter(|_| admin) {
            return Err(Denied::Unknown(super::attend::broken(id, problems)));
        }
        Keys::of(id, self.registry.get(id).map(Arc::as_ref), asker, admin)
    }

    /// What is known of a tenant's secrets.
    pub(super) fn index(&mut self, tenant: &TenantId) -> &mut Index {
        let layout = &self.options.layout;
        let open = || Index::open(layout, tenant);
        self.secrets.indexes.entry(tenant.clone()).or_insert_with(open)
    }

    /// The role met these in the store: they are set, whatever the index said.
    pub(super) fn secrets_met(&mut self, tenant: &TenantId, met: &[(Account, Option<i64>)]) {
        for (account, expires) in met {
            self.renew_ahead(tenant, account, *expires);
        }
        let index = self.index(tenant);
        // Each of them, not only until the first that is news.
        let news = met.iter().filter(|(account, expires)| index.met(account, *expires)).count();
        if news > 0 {
            self.line_up(tenant, Work::Note);
        }
    }

    pub(super) fn line_up(&mut self, tenant: &TenantId, work: Work) {
        let line = self.secrets.lines.entry(tenant.clone()).or_default();
        // Writing once writes everything.
        let noted = matches!(work, Work::Note) && matches!(line.waiting.back(), Some(Work::Note));
        match line.waiting.len() {
            _ if noted => {}
            waiting if waiting >= LINE => work.refuse("too much is asked of the store (try again)"),
            _ => line.waiting.push_back(work),
        }
        self.next_secret(tenant);
    }

    /// Starts the next deed of a tenant.
    fn next_secret(&mut self, tenant: &TenantId) {
        loop {
            let Some(line) = self.secrets.lines.get_mut(tenant).filter(|line| !line.busy) else {
                return;
            };
            let Some(work) = line.waiting.pop_front() else {
                self.secrets.lines.remove(tenant);
                return;
            };
            line.busy = true;
            match work {
                Work::Note => return self.write_down(tenant, || {}),
                work if work.is_late() => work.refuse("the store of secrets is busy (try again)"),
                work => match self.role(tenant, &work) {
                    Ok(run) => return self.follow(tenant, work, run),
                    Err((trouble, why)) => work.fail(tenant, trouble, &why),
                },
            }
            if let Some(line) = self.secrets.lines.get_mut(tenant) {
                line.busy = false;
            }
        }
    }

    /// Hears of a role until its deed is done.
    fn follow(&self, tenant: &TenantId, work: Work, run: credentials::Run) {
        let (house, tenant) = (self.handle.clone(), tenant.clone());
        tokio::task::spawn_local(async move {
            let news = SecretNews::Done(Box::new(work), run.finish().await);
            // Without a loop there is nobody to tell.
            let _ = house.say(Message::Secret { tenant, news }).await;
        });
    }

    /// Starts the role for a deed.
    fn role(&self, tenant: &TenantId, work: &Work) -> Result<credentials::Run, (Trouble, String)> {
        let (deed, person, descriptor): (_, _, Option<BorrowedFd<'_>>) = match work {
            Work::Keep { ask, account } => {
                // A tenant's secret is in the store of whoever runs this.
                let person = account.user.as_ref().map(|_| identity(&ask.principal));
                let deed = Deed::Keep { account: account.clone() };
                (deed, person, Some(ask.secret.as_fd()))
            }
            Work::Forget { accounts, asker, .. } => {
                let person = accounts.iter().any(|one| one.user.is_some()).then(|| asker.clone());
                (Deed::Forget { accounts: accounts.clone() }, person, None)
            }
            Work::Logout { wanted, asker, .. } => {
                let person = wanted.account.user.as_ref().map(|_| asker.clone());
                (Deed::Logout { accounts: vec![wanted.clone()] }, person, None)
            }
            Work::Note => return Err((Trouble::Refused, "it is no deed".to_owned())),
        };
        let plan = self.credential_plan(tenant, person.as_ref(), deed, SECRET_TAKES)?;
        let descriptors: Vec<_> = descriptor.into_iter().collect();
        credentials::start(&self.binary, &plan, &descriptors).map_err(not_started)
    }

    /// A deed is done, or its outcome is on disk.
    pub(super) fn on_secret(&mut self, tenant: &TenantId, news: SecretNews) {
        match news {
            SecretNews::Done(work, outcome) => match *work {
                Work::Keep { ask, account } => self.kept(tenant, ask, &account, outcome),
                Work::Forget { accounts, reply, .. } => {
                    self.forgotten(tenant, &accounts, reply, outcome);
                }
                Work::Logout { wanted, reply, .. } => {
                    self.logged_out(tenant, &wanted.account, reply, outcome);
                }
                Work::Note => {}
            },
            SecretNews::Due(account, number) => self.renewal_due(tenant, &account, number),
            SecretNews::Met(met) => self.secrets_met(tenant, &met),
            SecretNews::Renewed(account, came) => self.on_renewal(tenant, &account, came),
            SecretNews::Written(written) => {
                if let Err(why) = written {
                    tracing::error!(%tenant, "the list of its credentials cannot be written: {why}");
                }
                if let Some(line) = self.secrets.lines.get_mut(tenant) {
                    line.busy = false;
                }
                self.next_secret(tenant);
            }
        }
    }

    fn kept(&mut self, tenant: &TenantId, ask: SetAsk, account: &Account, outcome: Outcome) {
        let Some((_, expires)) = outcome.did.iter().find(|(did, _)| did == account) else {
            let (trouble, why) = first(outcome);
            let said = Err(trouble_refusal(tenant, &account.name, trouble, &why));
            return self.write_down(tenant, move || tell(&ask.reply, said));
        };
        let Account { name, user } = account.clone();
        let (source, stored_at, expires) = (ask.source, Some(unix_now()), *expires);
        let replaced = self.index(tenant).put(Fact { name, user, source, stored_at, expires });
        let (by, whose) = (&ask.principal.user, account.user.as_deref());
        tracing::info!(%tenant, %by, whose, replaced, "the credential {} was set", account.name);
        self.renew_ahead(tenant, account, expires);
        self.credential_changed(tenant, account);
        let (tenant_id, user) = (tenant.clone(), account.user.clone());
        let answer = Answer::Kept { tenant: tenant_id, user, replaced };
        self.write_down(tenant, move || tell(&ask.reply, Ok(answer)));
    }

    fn forgotten(
        &mut self,
        tenant: &TenantId,
        accounts: &[Account],
        reply: Reply<RemovedReply>,
        outcome: Outcome,
    ) {
        let gone = |one: &&Account| outcome.did.iter().any(|(did, _)| did == *one);
        let gone: Vec<Account> = accounts.iter().filter(gone).cloned().collect();
        let index = self.index(tenant);
        let was = |one: &&Account| index.remove(one);
        let removed: Vec<Option<String>> =
            gone.iter().filter(was).map(|one| one.user.clone()).collect();
        for whose in &removed {
            let name = accounts.first().map_or("", |one| one.name.as_str());
            tracing::info!(%tenant, whose = whose.as_deref(), "the credential {name} was removed");
        }
        gone.iter().for_each(|one| self.credential_changed(tenant, one));
        let result = if gone.len() == accounts.len() {
            Ok(RemovedReply { removed })
        } else {
            let (trouble, why) = first(outcome);
            Err(ControlError::StoreFailed { trouble: trouble.as_str().to_owned(), reason: why })
        };
        self.write_down(tenant, move || answer(reply, result));
    }

    /// Writes what is known of a tenant's secrets, then says so: who is told that a secret is kept may rely
    /// on it. Off the loop: it waits for the disk.
    pub(super) fn write_down(&mut self, tenant: &TenantId, then: impl FnOnce() + 'static) {
        let index = self.index(tenant).clone();
        let (house, tenant) = (self.handle.clone(), tenant.clone());
        tokio::task::spawn_local(async move {
            let written = tokio::task::spawn_blocking(move || index.write()).await;
            let written = written.map_err(io::Error::other).and_then(|written| written);
            then();
            let news = SecretNews::Written(written.map_err(|error| error.to_string()));
            let _ = house.say(Message::Secret { tenant, news }).await;
        });
    }
}

pub(super) fn identity(principal: &Principal) -> Identity {
    let Principal { uid, gid, groups, .. } = principal;
    Identity { uid: *uid, gid: *gid, groups: groups.clone() }
}

fn first(outcome: Outcome) -> (Trouble, String) {
    let said = outcome.failed.into_iter().next().map(|(_, trouble, why)| (trouble, why));
    said.unwrap_or_else(|| (Trouble::Refused, "the store's process said nothing of it".to_owned()))
}

fn not_started(error: io::Error) -> (Trouble, String) {
    (Trouble::Unreachable, format!("the store's process cannot be started: {error}"))
}

pub(super) fn control_error(denied: Denied) -> ControlError {
    match denied {
        Denied::Unknown(crate::policy::Reason::UnknownTenant(tenant)) => unknown(tenant.as_str()),
        Denied::Unknown(reason) => ControlError::Failed { reason: reason.to_string() },
        Denied::Unnamed { tenant, choices } => {
            ControlError::UnknownCredential { tenant: tenant.to_string(), choices }
        }
        Denied::Shared { .. } => admin_only("RemoveCredential"),
        Denied::NoUser { .. } | Denied::Another { .. } | Denied::Theirs { .. } => {
            ControlError::NotYours { reason: denied.to_string() }
        }
    }
}
