//! The supervisor's loop: owns every piece of state, hears [`Message`]s, acts at once, never waits.
//!
//! It never touches a descriptor of a stranger, never sees MCP bytes, and never blocks on a file
//! system that a tenant can choose.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::cell::{Cell, Phase, Seed};
use super::egress::Egresses;
use super::groups::Groups;
use super::history::History;
use super::identities::alone;
use super::message::{CellNews, Handle, Message, OpenAsk, Returned};
use super::pause::Pause;
use super::spawn::{Binary, kill};
use super::strength::Strength;
use super::watch::Watch;
use super::{Options, logs, memory};
use crate::auth::uids::Uids;
use crate::auth::{Directory, Ids, Names, Nobodies};
use crate::config::tenant::{Settings, Start, Tenant};
use crate::names::{ServerName, TenantId};
use crate::policy::reason::{NO_PERMISSION, one_line};
use crate::policy::{self, Asker};
use crate::registry::Registry;
use crate::sandbox::cgroup::Place;
use crate::wire::{FromMux, ToMux};

/// What the loop owns.
pub(super) struct House {
    pub(super) options: Options,
    /// The user that this supervisor runs as.
    pub(super) owner: (u32, String),
    pub(super) started: Instant,
    pub(super) registry: Registry,
    /// What holds while there never were good settings.
    pub(super) fallback: Settings,
    pub(super) directory: Directory,
    pub(super) nobodies: Arc<Mutex<Nobodies>>,
    /// Who the tenants' processes run as, since the configuration was last read.
    pub(super) uids: Uids,
    pub(super) binary: Binary,
    pub(super) groups: Groups,
    /// What confines a server on this machine.
    pub(super) strength: Strength,
    pub(super) watch: Watch,
    pub(super) handle: Handle,
    pub(super) slips: mpsc::Sender<Returned>,
    pub(super) cells: BTreeMap<TenantId, Cell>,
    /// Muxes beside those of `cells`, for the same tenants: they were found, and drain.
    pub(super) others: Vec<Cell>,
    /// Keepers without a mux, until they have ended.
    pub(super) parted: Vec<Weak<OwnedFd>>,
    pub(super) pauses: BTreeMap<TenantId, Pause>,
    pub(super) history: History,
    pub(super) egresses: Egresses,
    /// Whose turn it is to look for what a server misses.
    pub(super) looks: Arc<tokio::sync::Semaphore>,
    /// Who waits for a short pause to end; each has a seat of the door.
    pub(super) patient: Vec<OpenAsk>,
    pub(super) next_session: u64,
    pub(super) next_cell: u64,
    pub(super) next_ticket: u64,
    pub(super) reloading: super::reload::Reloading,
    pub(super) stopping: Option<super::stop::Stopping>,
    /// Tells this run of a supervisor from others of the same process.
    pub(super) instance: String,
    pub(super) replacing: super::replace::Replacing,
    pub(super) probing: super::probe::Probing,
    pub(super) secrets: super::secrets::Secrets,
}

impl House {
    pub(super) fn on(&mut self, message: Message) {
        match message {
            Message::Open(ask) => self.open(*ask),
            Message::Set(ask) => self.set_secret(*ask),
            Message::Secret { tenant, news } => self.on_secret(&tenant, news),
            Message::Control(ask) => self.control(*ask),
            Message::Cell { tenant, cell, news } => self.on_cell(&tenant, cell, news),
            Message::Egress { tenant, number, news } => self.on_egress(&tenant, number, news),
            Message::Changed => self.reload(None),
            Message::Loaded(loaded) => self.loaded(*loaded),
            Message::Bounded { tenant, bounds, refused } => self.bounded(&tenant, bounds, refused),
            Message::Named(ids) => self.check_grants(&ids),
            Message::Tried(tried) => self.tried(tried),
            Message::Looked(look) => self.looked(*look),
            Message::Probe(run) => self.probe_prepared(*run),
        }
        self.release_egresses();
    }

    /// A session is with its mux, or will never be.
    pub(super) fn returned(&mut self, slip: &Returned) {
        let Some(cell) = self.cell(&slip.tenant, slip.cell) else { return };
        cell.on_the_way.remove(&slip.session);
        if slip.sent {
            // What the mux said before it got this session no longer holds.
            cell.may_leave = false;
        } else {
            cell.sessions.remove(&slip.session);
            cell.leave_if_idle();
        }
    }

    /// Every mux, also those that only have to end.
    pub(super) fn all_cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.values().chain(&self.others)
    }

    /// Kills the muxes that should be gone by now.
    pub(super) fn kill_overdue(&mut self, now: Instant) {
        self.cells.values_mut().chain(&mut self.others).for_each(|cell| cell.kill_if_overdue(now));
    }

    /// The last good settings.
    pub(super) fn settings(&self) -> &Settings {
        self.registry.settings().map_or(&self.fallback, Arc::as_ref)
    }

    /// Whether somebody owns this supervisor: then no grant is needed.
    pub(super) fn owns(&self, uid: u32) -> bool {
        self.options.layout.mode == crate::paths::Mode::User && uid == self.owner.0
    }

    /// The cell, if it is still the same one.
    fn cell(&mut self, tenant: &TenantId, number: u64) -> Option<&mut Cell> {
        self.cells.get_mut(tenant).filter(|cell| cell.number == number)
    }

    fn on_cell(&mut self, tenant: &TenantId, number: u64, news: CellNews) {
        if self.cell(tenant, number).is_none() {
            return self.on_other(number, &news);
        }
        match news {
            CellNews::Said(said) => self.on_mux(tenant, *said),
            CellNews::Gone => self.gone(tenant),
            CellNews::Prepared { child, server, prepared } => {
                self.prepared(tenant, child, &server, prepared);
            }
            CellNews::Renewed { child, account } => self.renewed(tenant, child, &account),
            CellNews::NotRenewed { child, server, reason } => {
                self.not_renewed(tenant, child, &server, &reason);
            }
            CellNews::Broken(why) => {
                if let Some(cell) = self.cells.get(tenant) {
                    let expected = matches!(cell.phase, Phase::Leaving | Phase::Draining);
                    if !expected {
                        // Most likely it is dead and its pidfd says so next.
                        tracing::warn!(%tenant, "the mux cannot be talked to: {why}");
                        kill(&cell.pidfd);
                    }
                }
            }
        }
    }

    /// A mux said something.
    pub(super) fn on_mux(&mut self, tenant: &TenantId, said: FromMux) {
        let Some(cell) = self.cells.get_mut(tenant) else { return };
        match said {
            FromMux::Hello { wire, tenant: its, .. } => self.hello(tenant, wire, &its),
            FromMux::Start { child, server, holder } => {
                self.start_child(tenant, child, &server, holder)
            }
            FromMux::Gone { child, server, reason } => {
                cell.receivers.remove(&child);
                cell.injected.remove(&child);
                let keeper = cell.children.remove(&child).flatten();
                let number = cell.number;
                self.history.ended(tenant, (number, child), &reason, unix_now());
                self.leave_group(tenant, Place(number, child), keeper.clone());
                self.see_off(keeper);
                tracing::info!(%tenant, %server, "a server ended: {}", one_line(&reason));
            }
            FromMux::Limited { server, what, .. } => {
                tracing::warn!(%tenant, %server, "a limit was met: {}", one_line(&what));
            }
            FromMux::Closed { session, reason } => {
                cell.sessions.remove(&session);
                let reason = if reason.is_empty() { "the client left" } else { &reason };
                tracing::info!(%tenant, %session, "a session ended: {}", one_line(reason));
            }
            FromMux::Status { ticket, status, last } => {
                cell.told(ticket, status, last);
                self.seat_waiting(tenant);
            }
            FromMux::Inventory { .. } => {}
            FromMux::LogFull => self.rotate(tenant),
            FromMux::MayLeave => {
                cell.may_leave = !cell.on_the_way.is_empty() || cell.sessions.is_empty();
                cell.leave_if_idle();
            }
        }
    }

    fn hello(&mut self, tenant: &TenantId, wire: u32, its: &TenantId) {
        let Some(cell) = self.cells.get_mut(tenant) else { return };
        if wire != crate::wire::VERSION || its != tenant {
            tracing::error!(%tenant, "the mux introduced itself as {its}, version {wire}, and is killed");
            return kill(&cell.pidfd);
        }
        if cell.phase != Phase::Starting {
            return;
        }
        cell.phase = Phase::Ready;
        self.seat_waiting(tenant);
    }

    /// Asks again for those who waited for a mux to be ready.
    fn seat_waiting(&mut self, tenant: &TenantId) {
        let Some(cell) = self.cells.get_mut(tenant).filter(|cell| cell.is_ready()) else { return };
        let waiting = std::mem::take(&mut cell.waiting);
        waiting.into_iter().for_each(|ask| self.open(ask));
    }

    /// The mux has ended: so have its sessions. Who waited for that is asked again.
    fn gone(&mut self, tenant: &TenantId) {
        let Some(mut cell) = self.cells.remove(tenant) else { return };
        let expected = matches!(cell.phase, Phase::Leaving | Phase::Draining);
        let waiting = std::mem::take(&mut cell.waiting);
        self.history.all_ended(tenant, cell.number, unix_now());
        self.bid_farewell(&mut cell);
        if expected {
            tracing::info!(%tenant, "the mux has left");
        } else {
            tracing::error!(%tenant, sessions = cell.sessions.len(), "the mux has died");
            let pause = self.pauses.entry(tenant.clone()).or_default();
            pause.died(cell.born, Instant::now());
        }
        waiting.into_iter().for_each(|ask| self.open(ask));
        if self.stopping.is_none() {
            self.start_always();
        }
    }

    /// Starts the mux of a tenant; `server` is what its first session is for.
    pub(super) fn start_cell(
        &mut self,
        id: &TenantId,
        server: Option<&ServerName>,
    ) -> std::io::Result<()> {
        let plan = self.plan_of(id, server).ok_or(std::io::ErrorKind::NotFound)?;
        let identities = self.identities(id).map_err(std::io::Error::other)?;
        let seat = self.open_groups(id).map_err(std::io::Error::other)?;
        let (number, socket) = self.free_cell();
        let seed = Seed {
            number,
            tenant: self.registry.get(id).cloned(),
            plan,
            identity: identities.map(|its| alone(its.mux)),
            socket,
            log: logs::open(&self.options.layout, id, logs::SERVERS)?,
            memory: memory::open(&self.options.layout, id)?,
            binary: &self.binary,
            seat,
            house: self.handle.clone(),
        };
        let cell = Cell::start(seed)?;
        tracing::info!(tenant = %id, pid = cell.pid, "a mux was started");
        self.cells.insert(id.clone(), cell);
        self.rebound(id);
        Ok(())
    }

    /// A number whose socket is not a mux's of a supervisor before us.
    fn free_cell(&mut self) -> (u64, std::path::PathBuf) {
        loop {
            self.next_cell += 1;
            let socket = self.options.layout.cells().join(format!("{}.sock", self.next_cell));
            if !socket.exists() {
                return (self.next_cell, socket);
            }
        }
    }

    /// When something that starts with its tenant and died may be tried again.
    pub(super) fn retry_at(&self, now: Instant) -> Option<Instant> {
        let waits = |id: &TenantId| self.registry.get(id).is_some_and(|t| self.starts_by_itself(t));
        let left = self.pauses.iter().filter_map(|(id, pause)| {
            pause.left(now).filter(|_| !self.cells.contains_key(id) && waits(id))
        });
        // Whose pause it is does not matter: who asks too early waits on.
        let ends = self.pauses.values().filter_map(|pause| pause.left(now)).min();
        let patient = (!self.patient.is_empty()).then(|| ends.unwrap_or_default());
        left.chain(patient).min().map(|left| now + left)
    }

    /// Starts what starts with its tenant.
    pub(super) fn start_always(&mut self) {
        let now = Instant::now();
        let wanted: Vec<_> =
            self.registry.iter().filter(|t| self.starts_by_itself(t)).cloned().collect();
        for tenant in wanted {
            let id = &tenant.id;
            let paused = self.pauses.get(id).is_some_and(|pause| pause.left(now).is_some());
            if paused || self.cells.contains_key(id) {
                continue;
            }
            if let Err(error) = self.start_cell(id, None) {
                tracing::error!(tenant = %id, "cannot start: {error}");
                self.pauses.entry(id.clone()).or_default().died(now, now);
            }
        }
    }

    fn starts_by_itself(&self, tenant: &Tenant) -> bool {
        let moment = self.moment(&tenant.id);
        let runs = |server| policy::runs(tenant, server, moment).is_ok();
        tenant.servers.iter().any(|server| server.start == Start::Always && runs(server))
    }

    fn rotate(&mut self, tenant: &TenantId) {
        let Some(cell) = self.cells.get_mut(tenant) else { return };
        match logs::rotate(&self.options.layout, tenant, logs::SERVERS) {
            Ok(log) => cell.send(ToMux::Log, vec![log.into()]),
            Err(error) => tracing::error!(%tenant, "the server log cannot be rotated: {error}"),
        }
    }

    /// Ends sessions whose holder lost the grant, or a permission of it.
    fn check_grants(&mut self, ids: &Ids) {
        let mode = self.options.layout.mode;
        let owner_uid = self.owner.0;
        for cell in self.cells.values_mut() {
            // Of a tenant whose file is broken nobody knows the grants: what they gave stays.
            let Some(tenant) = cell.tenant.clone() else { continue };
            let lost = |session: &super::cell::Session| {
                let principal = &session.principal;
                let owner = mode == crate::paths::Mode::User && principal.uid == owner_uid;
                let access = Asker { principal, ids, owner }.access(&tenant);
                access.is_none_or(|access| {
                    let keeps = |had: &String| access.permissions.contains(had);
                    !access.reaches(&session.server) || !session.permissions.iter().all(keeps)
                })
            };
            let closing: Vec<_> =
                cell.sessions.iter().filter(|(_, s)| lost(s)).map(|(id, _)| *id).collect();
            for session in closing {
                let reason = "your grant for this tenant was taken back".to_owned();
                let code = NO_PERMISSION;
                cell.send(ToMux::Close { session, reason, code }, Vec::new());
            }
        }
    }

    /// What follows from settings and tenants as they are now: the names to look up, who is nobody.
    pub(super) fn settled(&mut self) {
        let mut names = Names::default();
        for tenant in self.registry.iter() {
            for grant in &tenant.grants {
                grant.users.iter().for_each(|user| names.user(user));
                grant.groups.iter().for_each(|group| names.group(group));
            }
            let shared = tenant.servers.iter().flat_map(|server| &server.sandbox.groups);
            shared.for_each(|group| names.group(group));
        }
        for admin in &self.settings().admins {
            match admin.strip_prefix('@') {
                Some(group) => names.group(group),
                None => names.user(admin),
            }
        }
        self.directory.want(names);
        let system = self.options.layout.mode == crate::paths::Mode::System;
        let reserved = system.then_some(self.settings().uid_range);
        *self.nobodies.lock().unwrap_or_else(PoisonError::into_inner) = Nobodies::here(reserved);
        let (directory, house) = (self.directory.clone(), self.handle.clone());
        tokio::task::spawn_local(async move {
            if let Ok(ids) = tokio::task::spawn_blocking(move || directory.ids()).await {
                // Without a loop there is nobody to tell.
                let _ = house.say(Message::Named(ids)).await;
            }
        });
    }

    /// When the supervisor leaves for want of work: only one that a user's client started.
    pub(super) fn idle_exit(&self) -> Option<Duration> {
        use crate::config::tenant::Limit;
        let by_default = (self.options.layout.mode == crate::paths::Mode::User)
            .then(|| self.settings().idle_exit);
        match self.options.idle_exit.or(by_default)? {
            Limit::At(after) => Some(after),
            Limit::Unlimited => None,
        }
    }
}

/// Seconds since the epoch.
pub(super) fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
