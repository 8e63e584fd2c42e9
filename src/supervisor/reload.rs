//! A changed configuration: read off the loop, taken in, and given to what runs.
//!
//! One reading at a time. Who asks during one gets the answer of the next, which has surely seen their
//! change.

use tokio::sync::oneshot;

use super::house::House;
use super::identities;
use super::message::{Message, Reply};
use crate::auth::uids::{Care, Uids};
use crate::config::load::{Loaded, load};
use crate::control::ReloadReply;
use crate::names::TenantId;
use crate::registry::ChangeKind;
use crate::wire::ToMux;

/// Who waits for a reading. Each waiting question is a control connection, which are counted.
#[derive(Debug, Default)]
pub(super) struct Reloading {
    running: bool,
    again: bool,
    now: Vec<Reply<ReloadReply>>,
    next: Vec<Reply<ReloadReply>>,
}

impl House {
    /// Reads the configuration again, and tells `asker` what that changed.
    pub(super) fn reload(&mut self, asker: Option<Reply<ReloadReply>>) {
        if self.reloading.running {
            self.reloading.again = true;
            self.reloading.next.extend(asker);
            return;
        }
        self.reloading.running = true;
        self.reloading.now.extend(asker);
        let (layout, house) = (self.options.layout.clone(), self.handle.clone());
        let range = self.settings().uid_range;
        let (done, loaded) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let mut loaded = load(&layout);
            let uids = identities::given(&layout, &mut loaded, range, Care::Reload);
            done.send(Box::new((loaded, uids)))
        });
        tokio::task::spawn_local(async move {
            if let Ok(loaded) = loaded.await {
                let _ = house.say(Message::Loaded(loaded)).await;
            }
        });
    }

    /// The reading is done.
    pub(super) fn loaded(&mut self, (loaded, uids): (Loaded, Uids)) {
        self.reloading.again |= self.watch.renew();
        self.uids = uids;
        let reply = self.take_in(loaded);
        for asker in std::mem::take(&mut self.reloading.now) {
            // Who no longer waits needs no answer.
            let _ = asker.send(Ok(reply.clone()));
        }
        self.reloading.running = false;
        self.reloading.now = std::mem::take(&mut self.reloading.next);
        if std::mem::take(&mut self.reloading.again) {
            self.reload(None);
        }
    }

    /// Takes a reading into the registry and acts on what changed.
    pub(super) fn take_in(&mut self, loaded: Loaded) -> ReloadReply {
        let changes = self.registry.apply(loaded);
        for problem in &changes.problems {
            let tenant = problem.tenant.as_ref().map(tracing::field::display);
            tracing::warn!(tenant, "configuration: {problem}");
        }
        self.settled();
        self.attend();
        for (tenant, kind) in &changes.changed {
            tracing::info!(%tenant, "the tenant's configuration changed");
            if *kind == ChangeKind::Restart {
                self.restart_servers(tenant);
            }
        }
        for tenant in &changes.removed {
            tracing::info!(%tenant, "the tenant was removed");
        }
        for tenant in &changes.added {
            self.catch_up(tenant);
        }
        if self.stopping.is_none() {
            self.start_always();
        }
        let names = |ids: &[TenantId]| ids.iter().map(ToString::to_string).collect();
        let changed: Vec<_> = changes.changed.iter().map(|(id, _)| id.clone()).collect();
        ReloadReply {
            added: names(&changes.added),
            changed: names(&changed),
            removed: names(&changes.removed),
            problems: changes.problems.iter().map(ToString::to_string).collect(),
        }
    }

    /// Lets every server of a tenant finish and start anew; sessions live on.
    pub(super) fn restart_servers(&mut self, tenant: &TenantId) {
        if let Some(cell) = self.cells.get_mut(tenant) {
            cell.send(ToMux::Restart { server: None }, Vec::new());
        }
    }
}
