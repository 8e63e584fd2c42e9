//! What muxes are told as files, times and machines change: the plan that holds now, and which servers
//! it holds back; and the end of what is no longer served.
//!
//! ```text
//!             cause appears, servers run             sessions connect again
//!   serving -----------------------------> draining -----------------------> waiting (all held)
//!      ^                                                                        |
//!      +------------------- cause gone: the plan without it --------------------+
//! ```
//!
//! A mux in which nothing can run is never drained for that: its sessions wait there.

use std::sync::Arc;

use super::cell::{Cell, Phase};
use super::house::{House, unix_now};
use super::plan;
use crate::config::Problem;
use crate::config::tenant::{Server, Tenant};
use crate::names::{ServerName, TenantId};
use crate::policy::reason::UNAVAILABLE;
use crate::policy::{self, Moment, Reason};
use crate::post;
use crate::wire::{MuxPlan, ToMux};

impl House {
    /// Looks at every mux: ends what is no longer served, gives the rest the plan that holds now.
    pub(super) fn attend(&mut self) {
        self.history.keep(|tenant| self.registry.has(tenant));
        let all: Vec<TenantId> = self.cells.keys().cloned().collect();
        all.iter().for_each(|tenant| self.attend_to(tenant, None));
    }

    /// Looks at the mux of one tenant; `server` is what its next session is for.
    pub(super) fn attend_to(&mut self, id: &TenantId, server: Option<&ServerName>) {
        self.rebound(id);
        if let Some(reason) = self.ends(id) {
            return self.drain(id, &reason);
        }
        let Some(plan) = self.plan_of(id, server) else { return };
        let tenant = self.registry.get(id).cloned();
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if let Some(cell) = self.cells.get_mut(id) {
            cell.configure(tenant, plan, ticket);
        }
    }

    /// Why a tenant's mux is not to go on.
    fn ends(&self, id: &TenantId) -> Option<String> {
        if self.registry.has_surely_not(id) {
            return Some("the tenant was removed".to_owned());
        }
        let serves = self.cells.get(id).is_some_and(|cell| !cell.is_held());
        let tenant = self.registry.get(id).filter(|_| serves)?;
        policy::served(tenant, unix_now()).err().map(|reason| reason.to_string())
    }

    /// The plan that holds now for a tenant; none where it has no file.
    pub(super) fn plan_of(&self, id: &TenantId, server: Option<&ServerName>) -> Option<MuxPlan> {
        let (settings, uid) = (self.settings(), self.owner.0);
        if let Some(tenant) = self.registry.get(id) {
            return Some(plan::of(tenant, settings, uid, self.moment(id)));
        }
        let ailment = broken(id, self.registry.broken_one(id)?).ailment();
        // What runs by a good plan of before goes on by it.
        if self.cells.get(id).is_some_and(|cell| cell.given.is_none()) {
            return None;
        }
        // Those that it has stay: sessions wait for them.
        let named = self.cells.get(id).into_iter().flat_map(Cell::servers);
        let servers = named.chain(server).cloned().collect();
        Some(plan::of_broken(id, servers, &ailment, settings, uid))
    }

    /// The server of a mux's tenant, if it may run. A mux is told what is held, and does not decide.
    pub(super) fn startable(
        &self,
        id: &TenantId,
        server: &ServerName,
    ) -> Result<(Arc<Tenant>, Server), String> {
        if let Some(problems) = self.registry.broken_one(id) {
            return Err(broken(id, problems).ailment().message);
        }
        let tenant = self.cells.get(id).and_then(|cell| cell.tenant.clone());
        let found = tenant.and_then(|tenant| Some((tenant.server(server)?.clone(), tenant)));
        let (server, tenant) =
            found.ok_or("there is no such server in the configuration any more")?;
        if let Some(why) = self.unbounded_but_required(id, &server) {
            return Err(why);
        }
        match policy::runs(&tenant, &server, self.moment(id)) {
            Ok(()) => Ok((tenant, server)),
            Err(reason) => Err(reason.ailment().message),
        }
    }

    /// What is true now, for the policy.
    pub(super) fn moment(&self, tenant: &TenantId) -> Moment<'_> {
        let open = self.cells.get(tenant).map_or(0, |cell| cell.sessions.len());
        Moment {
            now: unix_now(),
            open_sessions: u32::try_from(open).unwrap_or(u32::MAX),
            layers: &self.strength.held,
            strict: false,
        }
    }

    fn drain(&mut self, tenant: &TenantId, reason: &str) {
        let within = self.settings().drain;
        if let Some(cell) = self.cells.get_mut(tenant)
            && cell.phase != Phase::Leaving
        {
            cell.drain(reason, UNAVAILABLE, within);
        }
    }
}

impl Cell {
    /// Gives it a plan, unless it has it. Nothing is passed to it until it has answered `ticket`.
    pub(super) fn configure(&mut self, tenant: Option<Arc<Tenant>>, plan: MuxPlan, ticket: u64) {
        self.tenant = tenant;
        if self.given.as_ref() == Some(&plan)
            || !matches!(self.phase, Phase::Starting | Phase::Ready)
        {
            return;
        }
        match post::seal(&plan) {
            Ok(memfd) => {
                self.send(ToMux::Configure, vec![memfd]);
                self.send(ToMux::Status { ticket }, Vec::new());
                self.settling = Some(ticket);
                self.given = Some(plan);
            }
            Err(error) => {
                tracing::error!(tenant = %self.id, "the new configuration cannot be passed on: {error}");
            }
        }
    }

    /// Whether it has introduced itself and has the plan that it was given last.
    pub(super) fn is_ready(&self) -> bool {
        self.phase == Phase::Ready && self.settling.is_none()
    }

    /// Whether nothing can run in it, so that its sessions wait.
    pub(super) fn is_held(&self) -> bool {
        match &self.given {
            Some(plan) => plan.servers.iter().all(|server| server.held.is_some()),
            None => self.children.is_empty(),
        }
    }

    /// The servers that its plan names.
    pub(super) fn servers(&self) -> impl Iterator<Item = &ServerName> {
        self.given.iter().flat_map(|plan| &plan.servers).map(|server| &server.name)
    }
}

/// That a tenant's file was never good.
pub(super) fn broken(tenant: &TenantId, problems: &[Problem]) -> Reason {
    let first = problems.first();
    let problem = first.map_or_else(|| "see tenantd check".to_owned(), ToString::to_string);
    Reason::Broken { tenant: tenant.clone(), problem }
}
