//! The egress of each tenant that has a server with an allowlist: started with the first such server, told
//! of each further one, let go with the last.
//!
//! ```text
//! (none) --a server starts--> at work --its last server has gone--> let go: its control socket is closed
//!    ^                           |
//!    +--it died: its servers are started anew, and the next of them brings another--+
//! ```
//!
//! What an earlier supervisor started dials on for the servers that it has, and ends with them; it is not
//! taken over, and new servers get one of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use rustix::net::{RecvFlags, SendFlags};
use tokio::task::JoinHandle;

use super::house::{House, unix_now};
use super::message::{EgressNews, Handle, Message};
use super::pause::Pause;
use super::spawn::{Born, kill};
use super::{identities, logs};
use crate::names::{ServerName, TenantId};
use crate::post::{self, PostError};
use crate::sys;
use crate::wire::credential::Account;
use crate::wire::egress::{EgressPlan, FromEgress, ToEgress, Way};
use crate::wire::{self, Birth, ToMux};

/// How long a death is told in `status`, seconds.
const TOLD: i64 = 60 * 60;

/// A child, by its cell and its number there.
type Child = (u64, u64);

/// One egress process.
#[derive(Debug)]
struct Egress {
    number: u64,
    born: Instant,
    pid: i32,
    pidfd: Arc<OwnedFd>,
    control: Arc<OwnedFd>,
    /// Whom it dials for.
    serves: BTreeMap<Child, ServerName>,
    watch: JoinHandle<()>,
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Those of all tenants.
#[derive(Debug, Default)]
pub(super) struct Egresses {
    of: BTreeMap<TenantId, Egress>,
    /// When one died last, seconds since the epoch.
    died: BTreeMap<TenantId, i64>,
    pauses: BTreeMap<TenantId, Pause>,
    /// When a credential was renewed last because its host had refused it.
    pub(super) renewals: BTreeMap<(TenantId, Account), Instant>,
    next: u64,
}

impl Egresses {
    /// The process of a tenant's.
    pub(super) fn pid(&self, tenant: &TenantId) -> Option<i32> {
        self.of.get(tenant).map(|egress| egress.pid)
    }

    /// How long ago it died, seconds, where that was lately.
    pub(super) fn died_ago(&self, tenant: &TenantId, now: i64) -> Option<i64> {
        self.died.get(tenant).map(|at| now - at).filter(|ago| *ago < TOLD)
    }
}

impl House {
    /// The socket on which the stage of this child hands its listeners to the tenant's egress. `more` is what
    /// egress is given beside its way ([`ToEgress::Serve`]).
    pub(super) fn way_out(
        &mut self,
        tenant: &TenantId,
        child: Child,
        way: &Way,
        more: &[BorrowedFd<'_>],
    ) -> io::Result<OwnedFd> {
        match self.told_of(tenant, child, way, more) {
            // It has died and nobody has said so yet.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.egress_died(tenant);
                self.told_of(tenant, child, way, more)
            }
            told => told,
        }
    }

    fn told_of(
        &mut self,
        tenant: &TenantId,
        child: Child,
        way: &Way,
        more: &[BorrowedFd<'_>],
    ) -> io::Result<OwnedFd> {
        if !self.egresses.of.contains_key(tenant) {
            let egress = self.start_egress(tenant)?;
            self.egresses.of.insert(tenant.clone(), egress);
        }
        let Some(egress) = self.egresses.of.get_mut(tenant) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (near, far) = sys::seqpacket_pair()?;
        let way_memfd = post::seal(way).map_err(io::Error::other)?;
        let mut with = vec![way_memfd.as_fd(), near.as_fd()];
        with.extend(more);
        match post::send(&egress.control, &ToEgress::Serve, &with, SendFlags::DONTWAIT) {
            Ok(()) => {
                egress.serves.insert(child, way.server.clone());
                Ok(far)
            }
            Err(PostError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn start_egress(&mut self, tenant: &TenantId) -> io::Result<Egress> {
        let pause = self.egresses.pauses.get(tenant).and_then(|pause| pause.left(Instant::now()));
        if let Some(left) = pause {
            let why = format!("the tenant's egress keeps dying; the next try is in {left:.0?}");
            return Err(io::Error::other(why));
        }
        let own = self.identities(tenant).map_err(io::Error::other)?;
        let plan = EgressPlan {
            wire: wire::VERSION,
            tenant: tenant.clone(),
            identity: own.map(|own| identities::alone(own.egress)),
            upstream: self.settings().egress.upstream_proxy.clone(),
        };
        let plan = post::seal(&plan).map_err(io::Error::other)?;
        let layout = &self.options.layout;
        let (log, complaints) = (
            logs::open(layout, tenant, logs::NETWORK)?,
            logs::open(layout, tenant, logs::SERVERS)?,
        );
        let (control, far) = sys::seqpacket_pair()?;
        let with = [plan.as_fd(), far.as_fd(), log.as_fd()];
        let seat = self.groups.cgroups.egress(tenant);
        let Born { pid, pidfd } = self.binary.start(&Birth::Egress, &with, &complaints, &seat)?;
        self.egresses.next += 1;
        let number = self.egresses.next;
        let (pidfd, control) = (Arc::new(pidfd), Arc::new(control));
        let watched = (pidfd.clone(), control.clone());
        let watch = watch(tenant.clone(), number, watched, self.handle.clone());
        let watch = tokio::task::spawn_local(watch);
        tracing::info!(%tenant, pid, "an egress was started");
        let born = Instant::now();
        Ok(Egress { number, born, pid, pidfd, control, serves: BTreeMap::new(), watch })
    }

    /// An egress said something, or is gone.
    pub(super) fn on_egress(&mut self, tenant: &TenantId, number: u64, news: EgressNews) {
        let Some(egress) = self.egresses.of.get(tenant).filter(|it| it.number == number) else {
            return;
        };
        match news {
            EgressNews::Gone => self.egress_died(tenant),
            EgressNews::Refused { server, credential } => {
                self.credential_refused(tenant, &server, &credential);
            }
            EgressNews::LogFull => {
                let fresh = logs::rotate(&self.options.layout, tenant, logs::NETWORK);
                let told = fresh.map(|log| {
                    let with = [log.as_fd()];
                    post::send(&egress.control, &ToEgress::Log, &with, SendFlags::DONTWAIT)
                });
                if let Err(error) = told {
                    tracing::error!(%tenant, "the network log cannot be rotated: {error}");
                }
            }
        }
    }

    /// Its servers have no way out any more, and no other can be given to them while they run.
    fn egress_died(&mut self, tenant: &TenantId) {
        let Some(mut egress) = self.egresses.of.remove(tenant) else { return };
        // It may only be deaf.
        kill(&egress.pidfd);
        self.egresses.died.insert(tenant.clone(), unix_now());
        let pause = self.egresses.pauses.entry(tenant.clone()).or_default();
        pause.died(egress.born, Instant::now());
        let serves = std::mem::take(&mut egress.serves);
        tracing::error!(%tenant, servers = serves.len(), "the egress has died: its servers are started anew");
        let servers: BTreeSet<(u64, ServerName)> =
            serves.into_iter().map(|((cell, _), server)| (cell, server)).collect();
        for (number, server) in servers {
            let cells = self.cells.values_mut().chain(&mut self.others);
            for cell in cells.filter(|cell| cell.number == number) {
                cell.send(ToMux::Restart { server: Some(server.clone()) }, Vec::new());
            }
        }
    }

    /// Lets go of those whose servers have all gone.
    pub(super) fn release_egresses(&mut self) {
        if self.egresses.of.is_empty() {
            return;
        }
        let cells = self.cells.values().chain(&self.others);
        let there: BTreeSet<Child> = cells
            .flat_map(|cell| cell.children.keys().map(|child| (cell.number, *child)))
            .collect();
        self.egresses.of.retain(|_, egress| {
            egress.serves.retain(|child, _| there.contains(child));
            !egress.serves.is_empty()
        });
    }
}

/// Says what an egress says, and its end.
async fn watch(
    tenant: TenantId,
    number: u64,
    (pidfd, control): (Arc<OwnedFd>, Arc<OwnedFd>),
    house: Handle,
) {
    let listen = async |control: &OwnedFd| -> io::Result<()> {
        let control = sys::watch(control.try_clone()?)?;
        let mut buffer = [0; 1024];
        loop {
            let mut ready = control.readable().await?;
            let flags = RecvFlags::DONTWAIT;
            match post::receive::<FromEgress>(control.get_ref(), &mut buffer, flags) {
                Ok((said, _)) => {
                    let news = match said {
                        FromEgress::LogFull => EgressNews::LogFull,
                        FromEgress::Refused { server, credential } => {
                            EgressNews::Refused { server, credential }
                        }
                    };
                    let tenant = tenant.clone();
                    // Without a loop there is nobody to tell.
                    let _ = house.say(Message::Egress { tenant, number, news }).await;
                }
                Err(PostError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                // Its end, or what no egress says.
                Err(_) => return Ok(()),
            }
        }
    };
    let ended = async |pidfd: &OwnedFd| -> io::Result<()> {
        sys::watch(pidfd.try_clone()?)?.readable().await.map(drop)
    };
    tokio::select! {
        _ = listen(&control) => {}
        _ = ended(&pidfd) => {}
    }
    let _ = house.say(Message::Egress { tenant, number, news: EgressNews::Gone }).await;
}
