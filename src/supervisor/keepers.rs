//! The children of the muxes: started when a mux asks, and their keepers held to their end.
//!
//! A keeper ends by its lifeline, with all its descendants, when its mux lets it go or dies. One that does
//! not (somebody stopped it) is killed here, and what is below it first.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::kill;
use rustix::process::{Signal, pidfd_send_signal};

use super::birth::{Delivered, birth};
use super::cell::{Cell, Phase};
use super::child::{self, Means, NotReady, Prepared};
use super::credentials::{self, To};
use super::house::{House, unix_now};
use super::logs;
use super::message::{CellNews, Message};
use crate::names::{ServerName, TenantId};
use crate::sandbox::cgroup::Place;
use crate::sandbox::running_below;
use crate::sys;
use crate::wire::{Holder, ToMux};

/// How long a keeper has to end by itself, so that it is gone within a second.
const ENDS_WITHIN: Duration = Duration::from_millis(800);
/// How often what is below a keeper is looked for: what forks while it is killed.
const ROUNDS: usize = 64;

impl House {
    /// How a child of this tenant's is made now.
    pub(super) fn means(&self, tenant: &TenantId) -> Result<Means, String> {
        Ok(Means {
            layout: self.options.layout.clone(),
            owner: self.owner.1.clone(),
            backend: self.strength.backend,
            bounded: self.groups.cgroups.hold(),
            standing: self.standing(tenant)?,
            ca_file: self.settings().egress.ca_file.clone(),
        })
    }

    /// A mux asks for a child.
    pub(super) fn start_child(
        &mut self,
        tenant: &TenantId,
        child: u64,
        server: &ServerName,
        holder: Option<Holder>,
    ) {
        let wanted = self
            .startable(tenant, server)
            .and_then(|(configured, server)| Ok((configured, server, self.means(tenant)?)));
        let Some(cell) = self.cells.get_mut(tenant) else { return };
        let refuse = |cell: &mut Cell, reason: &str, permanent| {
            let reason = reason.to_owned();
            cell.send(ToMux::NotStarted { child, reason, permanent }, Vec::new());
        };
        let (configured, server, means) = match wanted {
            Ok(wanted) => wanted,
            Err(reason) => return refuse(cell, &reason, true),
        };
        if !matches!(cell.phase, Phase::Ready) {
            return refuse(cell, "the tenant is being stopped", false);
        }
        if cell.children.len() >= cell.most_children() || cell.children.contains_key(&child) {
            return refuse(cell, "all children that max_children allows are there", false);
        }
        cell.children.insert(child, None);
        let (number, house) = (cell.number, self.handle.clone());
        let user = holder.as_ref().map(|holder| holder.user.as_str());
        self.history.started(tenant, (number, child), &server.name, user, unix_now());
        let fetches = [To::Server, To::Egress]
            .map(|to| self.fetch_for(&configured, &server, holder.as_ref(), to));
        // The data directory may be on a file system that hangs: not on the loop.
        tokio::task::spawn_local(async move {
            let (tenant, name) = (configured.id.clone(), server.name.clone());
            let work = tokio::task::spawn_blocking(move || {
                child::prepare(&means, &configured, &server, holder.as_ref())
            });
            let prepared = match work.await {
                Ok(Ok(prepared)) => Ok(Box::new(prepared)),
                Ok(Err(error)) => Err(error.into()),
                Err(error) => Err(std::io::Error::other(error).into()),
            };
            let prepared = credentials::provided(prepared, fetches).await;
            let news = CellNews::Prepared { child, server: name, prepared };
            // Without a loop there is nobody to tell.
            let _ = house.say(Message::Cell { tenant, cell: number, news }).await;
        });
    }

    /// A child's directories are ready, or not.
    pub(super) fn prepared(
        &mut self,
        tenant: &TenantId,
        child: u64,
        server: &ServerName,
        prepared: Result<Box<Prepared>, NotReady>,
    ) {
        if let Ok(Some(handover)) = prepared.as_ref().map(|prepared| &prepared.handover) {
            self.secrets_met(tenant, &handover.met);
        }
        let Some(number) = self.cells.get(tenant).map(|cell| cell.number) else { return };
        let (cgroups, place) = (self.groups.cgroups.clone(), Place(number, child));
        let mut received = (None, [None, None]);
        let started = prepared.and_then(|mut prepared| {
            let born = self.birth(tenant, place, &mut prepared)?;
            let ways = [prepared.handover, prepared.injected];
            received = (prepared.holder, ways.map(|way| Some(way?.writes)));
            Ok(born)
        });
        let Some(cell) = self.cells.get_mut(tenant) else { return };
        match started {
            Ok((delivered, keeper)) => {
                cell.children.insert(child, Some(Arc::new(keeper)));
                tracing::info!(%tenant, %server, pid = delivered.born.pid, "a server was started");
                let (pid, program) = (delivered.born.pid, delivered.program.clone());
                self.history.runs(tenant, (cell.number, child), pid);
                cell.send(ToMux::Started { child, pid, program }, delivered.into_descriptors());
                let (holder, ways) = received;
                self.received(tenant, child, server, holder.as_ref(), ways);
            }
            Err(NotReady { reason, permanent }) => {
                tracing::error!(%tenant, %server, "a server was not started: {reason}");
                cell.children.remove(&child);
                // A stage that was not started is not in it.
                cgroups.remove_server(tenant, place);
                self.history.ended(tenant, (cell.number, child), &reason, unix_now());
                cell.send(ToMux::NotStarted { child, reason, permanent }, Vec::new());
            }
        }
    }
}

impl House {
    /// Starts a child; with it comes its keeper.
    pub(super) fn birth(
        &mut self,
        tenant: &TenantId,
        place: Place,
        prepared: &mut Prepared,
    ) -> io::Result<(Delivered, OwnedFd)> {
        let cgroups = self.groups.cgroups.clone();
        let seat = cgroups.server(tenant, place, &prepared.bounds);
        prepared.seat = seat.map_err(io::Error::other)?;
        let log = logs::open(&self.options.layout, tenant, logs::SERVERS)?;
        let doors = match prepared.way() {
            Some(way) => {
                Some(self.way_out(tenant, (place.0, place.1), way, &prepared.for_egress())?)
            }
            None => None,
        };
        let delivered = birth(&self.binary, prepared, doors, &log, &cgroups.mux(tenant))?;
        // Without it the keeper could not be held to its end: it loses its lifeline here.
        let keeper = delivered.born.pidfd.try_clone()?;
        Ok((delivered, keeper))
    }

    /// A mux has gone: its keepers follow, and what they were in.
    pub(super) fn bid_farewell(&mut self, cell: &mut Cell) {
        let number = cell.number;
        let children = std::mem::take(&mut cell.children).into_iter();
        let held = children.filter_map(|(child, keeper)| Some((Place(number, child), keeper?)));
        let held: Vec<_> = held.collect();
        self.see_off(held.iter().map(|(_, keeper)| keeper.clone()));
        self.leave_groups(&cell.id, held);
    }

    /// Makes sure that keepers are gone within a second.
    pub(super) fn see_off(&mut self, keepers: impl IntoIterator<Item = Arc<OwnedFd>>) {
        self.parted.retain(|keeper| keeper.strong_count() > 0);
        for keeper in keepers {
            self.parted.push(Arc::downgrade(&keeper));
            tokio::task::spawn_local(watch_to_its_end(keeper));
        }
    }

    /// Every keeper that may still be there.
    pub(super) fn take_keepers(&mut self) -> Vec<Arc<OwnedFd>> {
        let cells = self.cells.values_mut().chain(&mut self.others);
        let with_mux = cells.flat_map(|cell| std::mem::take(&mut cell.children).into_values());
        let mut keepers: Vec<_> = with_mux.flatten().collect();
        keepers.extend(self.parted.drain(..).filter_map(|keeper| keeper.upgrade()));
        keepers
    }
}

async fn watch_to_its_end(keeper: Arc<OwnedFd>) {
    match ended(&keeper).await {
        Ok(true) => return,
        Ok(false) => tracing::warn!("a server's keeper did not end in time and is killed"),
        Err(error) => tracing::warn!("a server's keeper cannot be watched and is killed: {error}"),
    }
    // It reads /proc, which is not for the loop; nobody waits for it.
    drop(tokio::task::spawn_blocking(move || kill_tree(&keeper)));
}

/// Whether it ends in time.
async fn ended(keeper: &OwnedFd) -> io::Result<bool> {
    let watched = sys::watch(keeper.try_clone()?)?;
    Ok(tokio::time::timeout(ENDS_WITHIN, watched.readable()).await.is_ok())
}

/// Kills a keeper. Its descendants first: without it they would be strangers' children.
pub(super) fn kill_tree(keeper: &OwnedFd) {
    // It forks no more and buries nobody: what it has lost stays its child.
    let _ = pidfd_send_signal(keeper, Signal::STOP);
    if let Some(pid) = pid_of(keeper).filter(|pid| *pid > 1) {
        for _ in 0..ROUNDS {
            let below = running_below(nix::unistd::Pid::from_raw(pid));
            if below.is_empty() {
                break;
            }
            for pid in below {
                // What has ended already is as good.
                let _ = kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
    super::spawn::kill(keeper);
}

/// The process of a pidfd (pidfd_open(2): `Pid` of /proc/self/fdinfo); -1 where it has ended, `None` where
/// the descriptor is no pidfd.
pub(super) fn pid_of(pidfd: &OwnedFd) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:"))?.trim().parse().ok()
}
