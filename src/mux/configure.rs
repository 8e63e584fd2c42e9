//! A changed plan: what goes on, what is held back, whose server is another one now.

use std::time::Instant;

use super::exchange::Exchange;
use super::session::{Placard, Session};
use crate::config::tenant::Share;
use crate::names::{ServerName, SessionId};
use crate::wire::{Farewell, MuxPlan};

impl Exchange {
    /// Takes a changed plan. Sessions live on, but for those whose server is gone or shared otherwise now.
    pub(super) fn configure(&mut self, plan: MuxPlan, now: Instant) {
        self.now = now;
        let old = std::mem::replace(&mut self.plan, plan);
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.configure_session(id);
        }
        // Each request says of its tenant what the plan says.
        self.slots.values_mut().for_each(|slot| slot.cache.clear());
        self.hold_back(&old, now);
        self.try_again(None, now);
        self.start_always(now);
    }

    fn configure_session(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.configure(&self.plan);
        let server = self.plan.servers.iter().find(|s| s.name == session.slot.server);
        match server.map(|server| server.share) {
            Some(share) if session.still_shares(share) => {}
            Some(share) if has_seen_no_server(session) => self.rebind(id, share),
            _ => {
                self.finish_streams(id);
                let reason = "the tenant's servers were changed; connect again".to_owned();
                self.close_session(id, Farewell { reason, code: 69 });
            }
        }
    }

    /// Gives a session that only ever waited the slot that it would have been opened with.
    fn rebind(&mut self, id: SessionId, share: Share) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let old = session.slot.clone();
        session.bind(share);
        session.in_line = false;
        let new = session.slot.clone();
        self.leave_line(id, &old);
        if let Some(slot) = self.slots.get_mut(&old) {
            slot.sessions.remove(&id);
            if slot.sessions.is_empty() && slot.child.is_none() {
                self.slots.remove(&old);
            }
        }
        self.slot(&new).sessions.insert(id);
    }

    /// Ends the servers that may not run any more, and tells their sessions.
    fn hold_back(&mut self, old: &MuxPlan, now: Instant) {
        let was_held = |name: &ServerName| {
            old.servers.iter().any(|server| server.name == *name && server.held.is_some())
        };
        let held = self.plan.servers.iter().filter(|server| server.held.is_some());
        let new: Vec<_> = held.map(|s| s.name.clone()).filter(|name| !was_held(name)).collect();
        for server in new {
            self.restart(Some(&server), now);
            let keys: Vec<_> = self.slots.keys().filter(|k| k.server == server).cloned().collect();
            keys.iter().for_each(|key| self.tell_of_onset(key));
        }
    }
}

/// Whether a session has waited since it was opened, and so is bound to nothing yet.
fn has_seen_no_server(session: &Session) -> bool {
    session.child.is_none() && session.placard != Placard::Taken && session.in_flight.is_empty()
}
