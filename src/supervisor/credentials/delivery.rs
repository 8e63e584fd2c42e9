//! Secrets on their way to servers: which a server is given, that they wait for it before it starts, and what
//! follows when one changes.
//!
//! ```text
//!   start wanted --> the role hands over --all there--> the stage takes them, the server runs
//!                        | one is not: the start is refused, with what to do
//!   one changed  --> running, as a file: handed over live
//!                    running, in the environment, or with no way to it: drained and started anew
//!                    refused before: tried again
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::{Fetch, not_ready};
use crate::config::tenant::{Credential, Delivery, Scope, Server, Tenant};
use crate::names::{ServerName, TenantId};
use crate::supervisor::child::{NotReady, Prepared};
use crate::supervisor::house::House;
use crate::supervisor::message::{CellNews, Message};
use crate::supervisor::secrets::SecretNews;
use crate::wire::credential::{Account, Trouble};
use crate::wire::stage::Place;
use crate::wire::{Holder, Identity, ToMux};

/// The longest that a start waits for its secrets: a person may have to unlock the store meanwhile.
pub(in crate::supervisor) const WITHIN: Duration = Duration::from_secs(25);

/// A running child that has secrets.
#[derive(Debug)]
pub(in crate::supervisor) struct Receiver {
    pub(in crate::supervisor) server: ServerName,
    /// Whose it is, where it is one user's.
    pub(in crate::supervisor) user: Option<String>,
    /// That user, as who a store of theirs is opened.
    person: Option<Identity>,
    /// Where later values go; none where another supervisor started it.
    way: Option<OwnedFd>,
}

impl Receiver {
    /// A child that was found running.
    pub(in crate::supervisor) fn found(server: ServerName, user: Option<String>) -> Self {
        Self { server, user, person: None, way: None }
    }

    /// As who a store of its user's is opened.
    pub(super) fn person(&self) -> Option<&Identity> {
        self.person.as_ref()
    }

    /// Where later values go.
    pub(super) fn way(&self) -> Option<&OwnedFd> {
        self.way.as_ref()
    }

    /// Whether it may have this secret.
    fn has(&self, server: &ServerName, account: &Account) -> bool {
        let theirs = account.user.is_none() || self.user == account.user;
        self.server == *server && theirs
    }
}

/// Who holds a server's secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::supervisor) enum To {
    /// The server itself.
    Server,
    /// Egress, for its requests.
    Egress,
}

/// The credentials of a server that go there.
pub(super) fn sent<'a>(
    tenant: &'a Tenant,
    server: &'a ServerName,
    to: To,
) -> impl Iterator<Item = &'a Credential> {
    let fits = move |credential: &&Credential| {
        let injected = matches!(credential.delivery, Delivery::Inject { .. });
        credential.servers.contains(server) && injected == (to == To::Egress)
    };
    tenant.credentials.iter().filter(fits)
}

/// The credentials that a server itself is given.
fn given<'a>(tenant: &'a Tenant, server: &'a ServerName) -> impl Iterator<Item = &'a Credential> {
    sent(tenant, server, To::Server)
}

/// Where a server finds its secrets, by their names.
pub(in crate::supervisor) fn places(
    tenant: &Tenant,
    server: &Server,
) -> BTreeMap<String, Vec<Place>> {
    let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for credential in given(tenant, &server.name) {
        let place = match &credential.delivery {
            Delivery::Env(variable) => Place::Env(variable.clone()),
            Delivery::File(file) => Place::File(file.clone()),
            Delivery::Inject { .. } => continue,
        };
        places.entry(credential.name.clone()).or_default().push(place);
    }
    places
}

/// The secrets of a server that go there, for who it is started for.
fn wanted(tenant: &Tenant, server: &Server, holder: Option<&Holder>, to: To) -> BTreeSet<Account> {
    let user = |credential: &Credential| match credential.scope {
        Scope::Tenant => None,
        Scope::User => holder.map(|holder| holder.user.clone()),
    };
    sent(tenant, &server.name, to)
        .map(|credential| Account { name: credential.name.clone(), user: user(credential) })
        .collect()
}

fn person(holder: &Holder) -> Identity {
    Identity { uid: holder.uid, gid: holder.gid, groups: holder.groups.clone() }
}

impl House {
    /// Has those of a server's secrets that go there handed over before it starts; nothing where none does.
    ///
    /// # Errors
    /// [`NotReady`], with what to do.
    pub(in crate::supervisor) fn fetch_for(
        &self,
        tenant: &Tenant,
        server: &Server,
        holder: Option<&Holder>,
        to: To,
    ) -> Result<Option<Fetch>, NotReady> {
        let accounts = wanted(tenant, server, holder, to);
        let scoped = sent(tenant, &server.name, to).find(|its| its.scope == Scope::User);
        if let (Some(credential), None) = (scoped, holder) {
            let why =
                format!("{} is each user's own, and nobody's child is started", credential.name);
            return Err(not_ready(&tenant.id, None, Trouble::Refused, &why));
        }
        if accounts.is_empty() {
            return Ok(None);
        }
        let theirs = accounts.iter().any(|account| account.user.is_some());
        let person = holder.filter(|_| theirs).map(person);
        let within = WITHIN.min(server.start_timeout);
        let accounts = accounts.into_iter().map(|one| self.asked(&tenant.id, one, false)).collect();
        self.fetch(&tenant.id, person.as_ref(), accounts, within).map(Some)
    }

    /// A child runs that has secrets; later values go these ways, to itself and to egress.
    pub(in crate::supervisor) fn received(
        &mut self,
        tenant: &TenantId,
        child: u64,
        server: &ServerName,
        holder: Option<&Holder>,
        ways: [Option<OwnedFd>; 2],
    ) {
        let Some(cell) = self.cells.get_mut(tenant) else { return };
        let [itself, egress] = ways.map(|way| {
            let user = holder.map(|holder| holder.user.clone());
            let (server, person) = (server.clone(), holder.map(person));
            way.map(|way| Receiver { server, user, person, way: Some(way) })
        });
        cell.receivers.extend(itself.map(|itself| (child, itself)));
        cell.injected.extend(egress.map(|egress| (child, egress)));
    }

    /// A secret was set, renewed or removed: servers that have it get what is there now, those that wait for it
    /// start.
    pub(in crate::supervisor) fn credential_changed(
        &mut self,
        tenant: &TenantId,
        account: &Account,
    ) {
        let Some(configured) = self.registry.get(tenant).cloned() else { return };
        for server in &configured.servers {
            let its = given(&configured, &server.name).filter(|its| its.name == account.name);
            let ways: Vec<_> = its.map(|its| &its.delivery).collect();
            if !ways.is_empty() {
                let live = ways.iter().all(|way| matches!(way, Delivery::File(_)));
                self.renew(tenant, &server.name, account, live.then_some(To::Server), None);
            }
            if sent(&configured, &server.name, To::Egress).any(|its| its.name == account.name) {
                self.renew(tenant, &server.name, account, Some(To::Egress), None);
            }
        }
    }

    /// Hands a later value over to who of a server's children has it, but one of them; starts them anew where
    /// it cannot be.
    pub(super) fn renew(
        &mut self,
        tenant: &TenantId,
        server: &ServerName,
        account: &Account,
        live: Option<To>,
        but: Option<u64>,
    ) {
        let Some(cell) = self.cells.get(tenant) else { return };
        let number = cell.number;
        let all = if live == Some(To::Egress) { &cell.injected } else { &cell.receivers };
        let have =
            all.iter().filter(|(child, its)| Some(**child) != but && its.has(server, account));
        let (mut children, mut runs) = (Vec::new(), Vec::new());
        for (child, its) in have {
            let accounts = vec![self.asked(tenant, account.clone(), false)];
            let run = its.way.as_ref().filter(|_| live.is_some()).map(|way| {
                self.hand_over(tenant, its.person.as_ref(), accounts, WITHIN, way.as_fd())
            });
            match run {
                Some(Ok(run)) => runs.push((*child, run)),
                Some(Err(error)) => {
                    tracing::error!(%tenant, %server, "a credential cannot be handed over: {}", error.reason);
                    children.push(*child);
                }
                None => children.push(*child),
            }
        }
        self.start_anew(tenant, server, children);
        for (child, run) in runs {
            let (house, tenant, server) = (self.handle.clone(), tenant.clone(), server.clone());
            tokio::task::spawn_local(async move {
                let outcome = run.finish().await;
                // Without a loop there is nobody to tell.
                let _ = match outcome.failed.into_iter().next() {
                    Some((_, _, reason)) => {
                        let news = CellNews::NotRenewed { child, server, reason };
                        house.say(Message::Cell { tenant, cell: number, news }).await
                    }
                    None => {
                        let news = SecretNews::Met(outcome.did);
                        house.say(Message::Secret { tenant, news }).await
                    }
                };
            });
        }
    }

    /// As who the store is opened for those who run with this secret, where that matters; nothing where nobody
    /// does.
    pub(in crate::supervisor) fn runs_with(
        &self,
        tenant: &TenantId,
        account: &Account,
    ) -> Option<Option<Identity>> {
        let configured = self.registry.get(tenant)?;
        let cell = self.cells.get(tenant)?;
        let holds = |its: &&Receiver| {
            let named =
                |one: &Credential| one.name == account.name && one.servers.contains(&its.server);
            configured.credentials.iter().any(named) && its.has(&its.server, account)
        };
        let receiver = cell.receivers.values().chain(cell.injected.values()).find(holds)?;
        Some(receiver.person.clone().filter(|_| account.user.is_some()))
    }

    /// Starts these children of a server anew, drained, and tries again what waits.
    fn start_anew(&mut self, tenant: &TenantId, server: &ServerName, children: Vec<u64>) {
        if let Some(cell) = self.cells.get_mut(tenant) {
            cell.send(ToMux::Renew { server: server.clone(), children }, Vec::new());
        }
    }

    /// A later value did not reach a running child: it does not go on with the old one.
    pub(in crate::supervisor) fn not_renewed(
        &mut self,
        tenant: &TenantId,
        child: u64,
        server: &ServerName,
        reason: &str,
    ) {
        tracing::warn!(%tenant, %server, "a credential was not handed over, the server is started anew: {reason}");
        self.start_anew(tenant, server, vec![child]);
    }
}

/// What can be started, with its secrets waiting.
pub(in crate::supervisor) async fn provided(
    prepared: Result<Box<Prepared>, NotReady>,
    [itself, egress]: [Result<Option<Fetch>, NotReady>; 2],
) -> Result<Box<Prepared>, NotReady> {
    let mut prepared = prepared?;
    let (itself, egress) = (itself?, egress?);
    if let Some(fetch) = itself {
        prepared.handover = Some(fetch.finish().await?);
    }
    if let Some(fetch) = egress {
        prepared.injected = Some(fetch.finish().await?);
    }
    Ok(prepared)
}

/// Whether some of them are files.
pub(in crate::supervisor) fn has_files(tenant: &Tenant, server: &Server) -> bool {
    given(tenant, &server.name).any(|its| matches!(its.delivery, Delivery::File(_)))
}
