//! Secrets that egress holds: renewed when a host refuses one.
//!
//! Who asks is egress, which strangers talk to: what it asks for is a configured credential of a server that it
//! serves, renewed once in a while, and the answer goes to egress alone.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::Run;
use super::delivery::{To, sent};
use crate::config::tenant::Scope;
use crate::names::{ServerName, TenantId};
use crate::supervisor::house::House;
use crate::supervisor::message::{CellNews, Message};
use crate::supervisor::secrets::SecretNews;
use crate::wire::credential::Account;

/// How often one secret is renewed for egress, at most.
const EVERY: Duration = Duration::from_secs(30);
/// How long one renewal may take: as long as a request waits for it.
const WITHIN: Duration = Duration::from_secs(20);

impl House {
    /// A host did not accept a credential of a server's: it is renewed, or read again where it is a plain value.
    pub(in crate::supervisor) fn credential_refused(
        &mut self,
        tenant: &TenantId,
        server: &ServerName,
        name: &str,
    ) {
        let now = Instant::now();
        self.egresses.renewals.retain(|_, at| *at + EVERY > now);
        let Some(configured) = self.registry.get(tenant).cloned() else { return };
        let mut its = sent(&configured, server, To::Egress);
        let Some(credential) = its.find(|its| its.name == name) else { return };
        let Some(cell) = self.cells.get(tenant) else { return };
        let mut children: BTreeMap<Account, u64> = BTreeMap::new();
        for (child, its) in cell.injected.iter().filter(|(_, its)| its.server == *server) {
            let user = its.user.clone().filter(|_| credential.scope == Scope::User);
            children.entry(Account { name: name.to_owned(), user }).or_insert(*child);
        }
        let number = cell.number;
        for (account, child) in children {
            let key = (tenant.clone(), account.clone());
            if self.egresses.renewals.contains_key(&key) {
                continue;
            }
            tracing::info!(%tenant, %server, "a host refused the credential {name}: it is renewed");
            match self.renewal(tenant, child, &account) {
                Some(Ok(run)) => {
                    self.egresses.renewals.insert(key, now);
                    let at = (tenant.clone(), number, child);
                    tokio::task::spawn_local(finish(run, account, at, self.handle.clone()));
                }
                Some(Err(reason)) => {
                    tracing::warn!(%tenant, %server, "the credential {name} was not renewed: {reason}");
                }
                None => {}
            }
        }
    }

    fn renewal(
        &self,
        tenant: &TenantId,
        child: u64,
        account: &Account,
    ) -> Option<Result<Run, String>> {
        let its = self.cells.get(tenant)?.injected.get(&child)?;
        let wanted = vec![self.asked(tenant, account.clone(), true)];
        let run = self.hand_over(tenant, its.person(), wanted, WITHIN, its.way()?.as_fd());
        Some(run.map_err(|error| error.reason))
    }

    /// A secret was renewed for one child: the others that use it have the new value too.
    pub(in crate::supervisor) fn renewed(
        &mut self,
        tenant: &TenantId,
        renewed: u64,
        account: &Account,
    ) {
        let Some(configured) = self.registry.get(tenant).cloned() else { return };
        for server in &configured.servers {
            if sent(&configured, &server.name, To::Egress).any(|its| its.name == account.name) {
                self.renew(tenant, &server.name, account, Some(To::Egress), Some(renewed));
            }
        }
    }
}

async fn finish(
    run: Run,
    account: Account,
    (tenant, cell, child): (TenantId, u64, u64),
    house: crate::supervisor::message::Handle,
) {
    let outcome = run.finish().await;
    if let Some((_, _, reason)) = outcome.failed.first() {
        tracing::warn!(%tenant, "the credential {} was not renewed: {reason}", account.name);
        return;
    }
    // Without a loop there is nobody to tell.
    let news = SecretNews::Met(outcome.did);
    let _ = house.say(Message::Secret { tenant: tenant.clone(), news }).await;
    let news = CellNews::Renewed { child, account };
    let _ = house.say(Message::Cell { tenant, cell, news }).await;
}
