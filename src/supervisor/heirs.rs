//! What an earlier supervisor left: the muxes that were found become cells of this one, and learn what
//! changed meanwhile.
//!
//! A found mux goes on with the plan that it has until its tenant's file is read and good; then it gets
//! what differs, as a change would give it. A tenant without a file is drained. Where two muxes say that
//! they are one tenant's, the one with sessions stays.

use std::time::Instant;

use super::adopt::{Found, Strange};
use super::cell::{Cell, GRACE, Phase};
use super::house::House;
use super::message::CellNews;
use crate::names::TenantId;
use crate::policy::reason::UNAVAILABLE;
use crate::wire::FromMux;

/// How far ahead of our own ids those of a found session are believed: they are made from the time.
const AHEAD: u64 = 1 << 40;

impl House {
    /// Takes over what was found. Returns what the muxes said meanwhile, to be heard when the
    /// configuration is read.
    pub(super) fn inherit(&mut self, found: Vec<Found>) -> Vec<(TenantId, FromMux)> {
        let mut said = Vec::new();
        for mut found in found {
            if !self.is_seated(&found) {
                found.leave(&Strange::Elsewhere);
                continue;
            }
            let id = found.made.id.clone();
            let words = std::mem::take(&mut found.said);
            let (pid, number) = (found.made.pid, found.made.number);
            match Cell::adopt(found, self.handle.clone()) {
                Ok(cell) => {
                    let (sessions, children) = (cell.sessions.len(), cell.children.len());
                    tracing::info!(tenant = %id, pid, sessions, children, "a mux was taken over");
                    self.take_over(cell);
                    if self.cells.get(&id).is_some_and(|cell| cell.number == number) {
                        said.extend(words.into_iter().map(|word| (id.clone(), word)));
                    }
                }
                Err(error) => {
                    tracing::error!(tenant = %id, pid, "cannot take the mux over: {error}")
                }
            }
        }
        said
    }

    fn take_over(&mut self, cell: Cell) {
        let last = cell.sessions.keys().next_back().map_or(0, |session| session.0);
        if last < self.next_session.saturating_add(AHEAD) {
            self.next_session = self.next_session.max(last);
        }
        let Some(before) = self.cells.remove(&cell.id) else {
            self.cells.insert(cell.id.clone(), cell);
            return;
        };
        // The newer one is the later of the two: they come in the order of their numbers.
        let rank =
            |cell: &Cell| (cell.phase == Phase::Ready, !cell.sessions.is_empty(), cell.number);
        let (stays, mut goes) =
            if rank(&before) > rank(&cell) { (before, cell) } else { (cell, before) };
        tracing::warn!(tenant = %stays.id, pid = goes.pid, "a second mux of the tenant is drained");
        let within = self.settings().drain;
        goes.drain("tenantd moved this tenant; connect again", UNAVAILABLE, within);
        self.others.push(goes);
        self.cells.insert(stays.id.clone(), stays);
    }

    /// The settings are read: a mux that was draining when it was found has no more than its drain left.
    pub(super) fn bound_drains(&mut self) {
        let overdue = Instant::now() + self.settings().drain + GRACE;
        for cell in self.cells.values_mut().chain(&mut self.others) {
            if cell.phase == Phase::Draining {
                cell.overdue = cell.overdue.or(Some(overdue));
            }
        }
    }

    /// A mux beside the tenant's own: nothing that it says matters any more but its end.
    pub(super) fn on_other(&mut self, number: u64, news: &CellNews) {
        let Some(at) = self.others.iter().position(|cell| cell.number == number) else { return };
        match news {
            CellNews::Gone => {
                let mut cell = self.others.swap_remove(at);
                self.bid_farewell(&mut cell);
            }
            CellNews::Broken(_) => super::spawn::kill(&self.others[at].pidfd),
            CellNews::Said(_)
            | CellNews::Prepared { .. }
            | CellNews::Renewed { .. }
            | CellNews::NotRenewed { .. } => {}
        }
    }

    /// The tenant's file is good, and its mux was just given the plan of it: servers that were started
    /// with what no longer holds start anew.
    pub(super) fn catch_up(&mut self, tenant: &TenantId) {
        let Some(new) = self.registry.get(tenant).map(|new| new.start_digest.clone()) else {
            return;
        };
        let inherited = self.cells.get_mut(tenant).and_then(|cell| cell.inherited.take());
        if inherited.is_some_and(|old| old != new) {
            tracing::info!(%tenant, "the tenant changed while there was no supervisor");
            self.restart_servers(tenant);
        }
    }
}
