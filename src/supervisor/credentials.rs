//! The credential role from the supervisor's side: started for one deed, heard until it is done, ended.
//!
//! No secret passes through here. What the role reads it writes to a socket whose other end goes to who needs
//! it; what it is to keep comes as a sealed descriptor from the session door. The supervisor reads who, how it
//! went, and until when: [`FromCredential`].

mod delivery;
mod injection;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::RecvFlags;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

use super::child::NotReady;
use super::house::House;
use super::spawn::{Binary, Born, kill};
use crate::config::tenant::{Settings, Store};
use crate::credential::key;
use crate::names::TenantId;
use crate::paths::{Layout, Mode};
use crate::policy::reason::one_line;
use crate::post::{self, PostError};
use crate::sys;
use crate::wire::credential::{
    Account, CredentialPlan, Deed, FromCredential, StorePlan, Trouble, Wanted,
};
use crate::wire::{self, Birth, Identity};

pub(super) use delivery::{Receiver, To, WITHIN, has_files, places, provided};

/// How much longer than its plan says a role is waited for: it ends itself in time and says why.
const GRACE: Duration = Duration::from_secs(1);
/// The longest line of a role's, bytes: an account and a sentence for people.
const LINE: usize = 8 * 1024;

/// A role at work. Dropped before its end it is killed.
#[derive(Debug)]
pub(super) struct Run {
    born: Born,
    control: OwnedFd,
    until: Instant,
    /// Whether it may be renewing a login.
    may_renew: bool,
    /// How many lines it may say before it is done: one for each account, one for the store, one more.
    lines: usize,
}

/// How a deed went.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What was done, and until when each holds, seconds since the epoch.
    pub(super) did: Vec<(Account, Option<i64>)>,
    /// What was not; without an account where it is the store itself.
    pub(super) failed: Vec<(Option<Account>, Trouble, String)>,
}

/// Starts the role. `descriptors` are those that the plan's deed names.
///
/// # Errors
/// As [`Binary::start`], memfd_create(2) and socketpair(2).
pub(super) fn start(
    binary: &Binary,
    plan: &CredentialPlan,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Run> {
    // What it says before it has a plan would be a panic's words, of which nobody knows what is in them.
    let nowhere = File::options().write(true).open("/dev/null")?;
    let paper = post::seal(plan).map_err(io::Error::other)?;
    let (control, far) = sys::seqpacket_pair()?;
    let mut with = vec![paper.as_fd(), far.as_fd()];
    with.extend(descriptors);
    let born = binary.start(&Birth::Credential, &with, &nowhere, &[])?;
    let until = Instant::now() + Duration::from_millis(plan.within_ms) + GRACE;
    let may_renew = match &plan.deed {
        Deed::HandOver { accounts } => accounts.iter().any(|wanted| wanted.login.is_some()),
        Deed::Keep { .. } | Deed::Forget { .. } | Deed::Logout { .. } => false,
    };
    Ok(Run { born, control, until, may_renew, lines: accounts(&plan.deed) + 2 })
}

fn accounts(deed: &Deed) -> usize {
    match deed {
        Deed::HandOver { accounts } | Deed::Logout { accounts } => accounts.len(),
        Deed::Forget { accounts } => accounts.len(),
        Deed::Keep { .. } => 1,
    }
}

impl Run {
    /// Hears it until it is done, or until its time is over; then it is no more.
    pub(super) async fn finish(self) -> Outcome {
        let mut outcome = Outcome::default();
        let heard = timeout_at(self.until, self.hear(&mut outcome)).await;
        let (trouble, why) = match heard {
            Ok(Ok(())) => return outcome,
            Ok(Err(Deaf::Ended)) => {
                (Trouble::Refused, "the store's process ended before it was done".to_owned())
            }
            Ok(Err(Deaf::Strange(error))) => {
                (Trouble::Refused, format!("the store's process cannot be understood: {error}"))
            }
            Err(_) => (Trouble::TimedOut, "the store did not answer in time".to_owned()),
        };
        outcome.failed.push((None, trouble, why));
        outcome
    }

    async fn hear(&self, outcome: &mut Outcome) -> Result<(), Deaf> {
        let control = sys::watch(self.control.try_clone().map_err(Deaf::strange)?);
        let control = control.map_err(Deaf::strange)?;
        for _ in 0..self.lines {
            match self.line(&control).await? {
                FromCredential::Did { account, expires } => outcome.did.push((account, expires)),
                FromCredential::Failed { account, trouble, reason } => {
                    outcome.failed.push((account, trouble, one_line(&reason)));
                }
                FromCredential::Done => return Ok(()),
            }
        }
        Err(Deaf::strange("it says more than it was asked"))
    }

    async fn line(&self, control: &AsyncFd<OwnedFd>) -> Result<FromCredential, Deaf> {
        let mut buffer = [0; LINE];
        loop {
            let mut ready = control.readable().await.map_err(Deaf::strange)?;
            match post::receive(control.get_ref(), &mut buffer, RecvFlags::DONTWAIT) {
                Ok((line, _)) => return Ok(line),
                Err(PostError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                Err(PostError::Closed) => return Err(Deaf::Ended),
                Err(PostError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(Deaf::Ended);
                }
                Err(error) => return Err(Deaf::strange(error)),
            }
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Its deed is done, or nobody waits for it any more. The loop buries it. One that may have the next token
        // of a login in its hands has the time that it was given: a server gives it once.
        if !self.may_renew || Instant::now() >= self.until {
            kill(&self.born.pidfd);
        }
    }
}

/// Why nothing more is heard of a role.
enum Deaf {
    Ended,
    Strange(String),
}

impl Deaf {
    fn strange(error: impl ToString) -> Self {
        Self::Strange(error.to_string())
    }
}

/// Where a tenant's secrets are. `person` is whose store it is in system mode, where a store is a person's.
///
/// # Errors
/// [`Trouble::NoStore`] and what to do, where there can be none.
pub(super) fn store_plan(
    layout: &Layout,
    settings: &Settings,
    person: Option<u32>,
) -> Result<StorePlan, (Trouble, String)> {
    Ok(match (settings.store, layout.mode) {
        (Store::EncryptedFile, _) => {
            StorePlan::EncryptedFile { directory: layout.secrets(), key: key::file(layout) }
        }
        (Store::Keyutils, _) => StorePlan::Keyutils,
        (Store::SecretService, Mode::System) if person.is_none() => {
            let why = "a keyring belongs to a person, and this secret to the tenant (scope = \"user\" in its \
                       [[credential]], or store = \"encrypted-file\" in [credentials] of tenantd.toml)";
            return Err((Trouble::NoStore, why.to_owned()));
        }
        (Store::SecretService, _) => StorePlan::SecretService { bus: bus(person) },
    })
}

/// The bus of a person's session: our own in user mode, where the user manager said which, else where logind
/// puts it.
fn bus(person: Option<u32>) -> String {
    let told = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|told| !told.is_empty());
    let usual = |uid| format!("unix:path=/run/user/{uid}/bus");
    match person {
        None => told.unwrap_or_else(|| usual(nix::unistd::geteuid().as_raw())),
        Some(uid) => usual(uid),
    }
}

impl House {
    /// The plan of a deed for this tenant. `person` is whose deed it is, where that matters: in system mode a
    /// store of a person's is opened as that person.
    ///
    /// # Errors
    /// As [`store_plan`].
    pub(super) fn credential_plan(
        &self,
        tenant: &TenantId,
        person: Option<&Identity>,
        deed: Deed,
        within: Duration,
    ) -> Result<CredentialPlan, (Trouble, String)> {
        let layout = &self.options.layout;
        let person = person.filter(|_| layout.mode == Mode::System);
        let store = store_plan(layout, self.settings(), person.map(|person| person.uid))?;
        let theirs = matches!(store, StorePlan::SecretService { .. });
        Ok(CredentialPlan {
            wire: wire::VERSION,
            tenant: tenant.clone(),
            store,
            // Root's own store is opened as root.
            identity: person.filter(|person| theirs && person.uid != 0).cloned(),
            deed,
            lock: layout.renewals(tenant),
            within_ms: u64::try_from(within.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Starts to hand secrets over: each waits as a [`Handed`](crate::wire::credential::Handed) in the queue of
    /// a socket, for whoever is given its reading end.
    ///
    /// # Errors
    /// [`NotReady`], with what to do.
    pub(super) fn fetch(
        &self,
        tenant: &TenantId,
        person: Option<&Identity>,
        accounts: Vec<Wanted>,
        within: Duration,
    ) -> Result<Fetch, NotReady> {
        let (reads, writes) = sys::seqpacket_pair()?;
        let run = self.hand_over(tenant, person, accounts.clone(), within, writes.as_fd())?;
        let handover = Handover { reads, writes, met: Vec::new() };
        Ok(Fetch { run, handover, tenant: tenant.clone(), accounts })
    }

    /// Has the role write these to a hand-over socket that is there.
    ///
    /// # Errors
    /// [`NotReady`], with what to do.
    pub(super) fn hand_over(
        &self,
        tenant: &TenantId,
        person: Option<&Identity>,
        accounts: Vec<Wanted>,
        within: Duration,
        to: BorrowedFd<'_>,
    ) -> Result<Run, NotReady> {
        let deed = Deed::HandOver { accounts };
        let plan = self.credential_plan(tenant, person, deed, within);
        let plan = plan.map_err(|(trouble, why)| not_ready(tenant, None, trouble, &why))?;
        Ok(start(&self.binary, &plan, &[to])?)
    }
}

/// Both ends of the way of secrets to who needs them.
#[derive(Debug)]
pub(super) struct Handover {
    /// Where they wait: for the stage, or for egress.
    pub(super) reads: OwnedFd,
    /// Held to hand later values over. Nothing is ever read from it.
    pub(super) writes: OwnedFd,
    /// What was in the store, and until when it holds.
    pub(super) met: Vec<(Account, Option<i64>)>,
}

/// Secrets on their way into the queue of a socket.
#[derive(Debug)]
pub(super) struct Fetch {
    run: Run,
    handover: Handover,
    tenant: TenantId,
    accounts: Vec<Wanted>,
}

impl Fetch {
    /// The socket in which all of them wait.
    ///
    /// # Errors
    /// [`NotReady`] where one is not there: a start without it is no start.
    pub(super) async fn finish(self) -> Result<Handover, NotReady> {
        let Self { run, handover, tenant, accounts } = self;
        let outcome = run.finish().await;
        if let Some((account, trouble, why)) = outcome.failed.first() {
            let wanted = account
                .as_ref()
                .and_then(|failed| accounts.iter().find(|wanted| wanted.account == *failed));
            return Err(not_ready(&tenant, wanted, *trouble, why));
        }
        let there = |wanted: &&Wanted| outcome.did.iter().any(|(did, _)| *did == wanted.account);
        match accounts.iter().find(|wanted| !there(wanted)) {
            None => Ok(Handover { met: outcome.did, ..handover }),
            Some(wanted) => {
                let why = "the store's process said nothing of it";
                Err(not_ready(&tenant, Some(wanted), Trouble::Refused, why))
            }
        }
    }
}

/// That a secret is not there, and what to do.
fn not_ready(tenant: &TenantId, of: Option<&Wanted>, trouble: Trouble, why: &str) -> NotReady {
    let reason = match (of, trouble) {
        (Some(of), Trouble::Missing | Trouble::LoginOver) => {
            let name = &of.account.name;
            match (&of.login, trouble) {
                (None, _) => {
                    format!(
                        "the credential {name} is not set (tenantd credential set {tenant} {name})"
                    )
                }
                (Some(_), Trouble::Missing) => {
                    format!("nobody has logged in to {name} yet (tenantd login {tenant} {name})")
                }
                (Some(_), _) => {
                    format!("the login to {name} is over: {why} (tenantd login {tenant} {name})")
                }
            }
        }
        (Some(of), _) => format!("the credential {} cannot be had: {why}", of.account.name),
        (None, _) => format!("its credentials cannot be had: {why}"),
    };
    // A store may be unlocked, a server be reachable again, without anybody telling us.
    let by_itself = matches!(trouble, Trouble::Locked) || !trouble.needs_a_person();
    NotReady { reason: one_line(&reason), permanent: !by_itself }
}
