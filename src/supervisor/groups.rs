//! The control groups of the tenants that are in use: opened before a mux, bounded as quotas change, removed
//! when nobody is left in them.
//!
//! ```text
//! start_cell: open --> bounded --quota changed--> busy (a thread) --> bounded
//!                         \                          \--refused--> tried again at each round, shown
//!                          \--mux and keepers gone--> removed
//! ```
//!
//! A lower limit on memory may wait for the kernel to reclaim, so changes are made off the loop, one at a
//! time for each tenant. The rest is a few file writes.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::adopt::Found;
use super::child::data_directory;
use super::house::House;
use super::keepers::pid_of;
use super::message::Message;
use crate::config::tenant::{Layer, Server};
use crate::names::TenantId;
use crate::sandbox::cgroup::{Bounds, CgroupError, Cgroups, Place};
use crate::sys;

/// What the mux of a tenant gets whose file was never good, so that no server runs in it.
const HELD_MUX: Bounds =
    Bounds { memory: Some(256 << 20), cpus: Some(1.0), processes: Some(64), io: None };
/// How long the last processes of a group may take to die, and the kernel to notice.
const EMPTIES: Duration = Duration::from_secs(3);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a start waits for what it kills, and an end.
const CLEARS: Duration = Duration::from_secs(1);

/// The groups and what each of them was given.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) cgroups: Arc<Cgroups>,
    held: BTreeMap<TenantId, Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// None where an earlier supervisor gave them.
    bounds: Option<Bounds>,
    busy: bool,
    problem: Option<String>,
}

impl Groups {
    pub(super) fn new(cgroups: Cgroups) -> Self {
        Self { cgroups: Arc::new(cgroups), held: BTreeMap::new() }
    }

    /// The driver, for people.
    pub(super) fn described(&self) -> String {
        match self.cgroups.strength() {
            Ok(driver) => driver.to_owned(),
            Err(why) => format!("none: {why}"),
        }
    }
}

impl House {
    /// Makes the groups of a tenant that is started, and says where its mux is to be.
    pub(super) fn open_groups(&mut self, id: &TenantId) -> Result<Vec<PathBuf>, CgroupError> {
        let bounds = self.registry.get(id).map_or(HELD_MUX, |tenant| Bounds::of(&tenant.quota));
        if self.groups.cgroups.open(id, &bounds)? {
            // Its disk is looked for off the loop.
            let bounds = Some(Bounds { io: None, ..bounds });
            self.groups.held.insert(id.clone(), Held { bounds, ..Held::default() });
        }
        Ok(self.groups.cgroups.mux(id))
    }

    /// Gives a tenant the bounds that hold now, if it has others.
    pub(super) fn rebound(&mut self, id: &TenantId) {
        let Some(tenant) = self.registry.get(id).filter(|_| self.groups.cgroups.hold()) else {
            return;
        };
        let bounds = Bounds::of(&tenant.quota);
        let data = data_directory(&self.options.layout, tenant);
        let held = self.groups.held.entry(id.clone()).or_default();
        if held.busy || held.bounds == Some(bounds) {
            return;
        }
        held.busy = true;
        let (cgroups, tenant, house) =
            (self.groups.cgroups.clone(), id.clone(), self.handle.clone());
        tokio::task::spawn_local(async move {
            let whose = tenant.clone();
            let work = tokio::task::spawn_blocking(move || cgroups.bound(&whose, &bounds, &data));
            let refused = match work.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            // Without a loop there is nobody to tell.
            let _ = house.say(Message::Bounded { tenant, bounds, refused }).await;
        });
    }

    /// The kernel took new bounds, or refused some of them: then they are tried again.
    pub(super) fn bounded(&mut self, id: &TenantId, bounds: Bounds, refused: Option<String>) {
        let Some(held) = self.groups.held.get_mut(id) else { return };
        held.busy = false;
        held.bounds = refused.is_none().then_some(bounds);
        if let Some(why) = refused.as_ref().filter(|why| held.problem.as_ref() != Some(why)) {
            tracing::error!(tenant = %id, "a quota does not hold: {why}");
        }
        held.problem = refused;
        // It may have changed again meanwhile. What was refused waits for the next round.
        if held.problem.is_none() {
            self.rebound(id);
        }
    }

    /// What of a tenant's quota does not hold.
    pub(super) fn unbounded(&self, id: &TenantId) -> Option<String> {
        let why = self.groups.held.get(id)?.problem.as_ref()?;
        Some(format!("a quota does not hold: {why}"))
    }

    /// Why a server that requires control groups may not start now.
    pub(super) fn unbounded_but_required(&self, id: &TenantId, server: &Server) -> Option<String> {
        server.sandbox.require.contains(&Layer::Cgroup).then(|| self.unbounded(id))?
    }

    /// A child has gone: so will its group, when its keeper has ended.
    pub(super) fn leave_group(&self, id: &TenantId, place: Place, keeper: Option<Arc<OwnedFd>>) {
        let (cgroups, id) = (self.groups.cgroups.clone(), id.clone());
        if cgroups.hold() {
            tokio::task::spawn_local(async move {
                all_ended(keeper).await;
                until(|| cgroups.remove_server(&id, place)).await;
            });
        }
    }

    /// A mux has gone: so will its tenant's groups when its keepers have ended, unless another mux is in
    /// them by then.
    pub(super) fn leave_groups(&mut self, id: &TenantId, children: Vec<(Place, Arc<OwnedFd>)>) {
        let (cgroups, tenant) = (self.groups.cgroups.clone(), id.clone());
        if !cgroups.hold() {
            return;
        }
        if !self.all_cells().any(|cell| cell.id == *id) {
            self.groups.held.remove(id);
        }
        tokio::task::spawn_local(async move {
            let (places, keepers): (Vec<_>, Vec<_>) = children.into_iter().unzip();
            all_ended(keepers).await;
            for place in places {
                until(|| cgroups.remove_server(&tenant, place)).await;
            }
            // Where a new mux is there already this stays without effect.
            until(|| cgroups.remove(&tenant)).await;
        });
    }

    /// Whether a mux and its keepers are where this tenant's are: what it says of itself is not enough.
    pub(super) fn is_seated(&self, found: &Found) -> bool {
        let (cgroups, id) = (&self.groups.cgroups, &found.made.id);
        let seated = |pid| cgroups.holds(id, pid);
        let keepers = || found.children.iter().filter_map(|(_, keeper)| pid_of(keeper));
        // -1 is one that has ended.
        !cgroups.hold() || (seated(found.made.pid) && keepers().all(|pid| pid == -1 || seated(pid)))
    }

    /// Ends what an earlier supervisor left in groups of tenants whose mux was not taken over; a mux in
    /// `spared` still finishes what it has.
    pub(super) fn reconcile(&mut self, spared: &BTreeSet<TenantId>) {
        let taken: BTreeSet<_> = self.all_cells().map(|cell| cell.id.clone()).collect();
        let cgroups = self.groups.cgroups.clone();
        let children = self.all_cells().flat_map(|cell| {
            cell.children.keys().map(|child| (cell.id.clone(), Place(cell.number, *child)))
        });
        let children: BTreeSet<_> = children.collect();
        for tenant in taken.difference(spared) {
            let places = cgroups.servers(tenant).into_iter();
            // Of children that ended while nobody looked.
            for place in places.filter(|place| !children.contains(&(tenant.clone(), *place))) {
                cleared(|| cgroups.remove_server(tenant, place));
            }
        }
        let abandoned =
            cgroups.tenants().into_iter().filter(|id| !taken.contains(id) && !spared.contains(id));
        for tenant in abandoned {
            tracing::warn!(%tenant, "what an earlier tenantd left of it is killed");
            if !cleared(|| cgroups.clear(&tenant)) {
                tracing::error!(%tenant, "what was left of it does not die");
            }
        }
    }

    /// The end: no group of ours stays.
    pub(super) fn clear_groups(&self) {
        let cgroups = &self.groups.cgroups;
        for tenant in cgroups.tenants() {
            if !cleared(|| cgroups.clear(&tenant)) {
                tracing::error!(%tenant, "its control group cannot be removed");
            }
        }
        cgroups.leave();
    }
}

async fn all_ended(keepers: impl IntoIterator<Item = Arc<OwnedFd>>) {
    let until = tokio::time::Instant::now() + EMPTIES;
    for keeper in keepers {
        // One that cannot be watched is killed with its group.
        if let Ok(watched) = keeper.try_clone().and_then(sys::watch) {
            let _ = tokio::time::timeout_at(until, watched.readable()).await;
        }
    }
}

async fn until(mut done: impl FnMut() -> bool) {
    let until = Instant::now() + EMPTIES;
    while !done() && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
}

/// As [`until`], where nothing else is to be done meanwhile.
fn cleared(mut done: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + CLEARS;
    loop {
        match done() {
            true => return true,
            false if Instant::now() >= until => return false,
            false => std::thread::sleep(LOOK),
        }
    }
}
