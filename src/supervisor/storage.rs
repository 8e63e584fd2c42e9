//! Looks at what each tenant in use stores, and tells its mux while that is too much.
//!
//! One thread for each look, which gives way to everybody: a file system that hangs holds up the looks at
//! its own tenant and no others. The loop only decides when.
//!
//! ```text
//!   due --thread--> looking --Stored--> waiting (Measure::next_look) --> due
//!    ^                                     |
//!    +-- quota.storage changed, mux new ---+
//! ```

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::cell::{Cell, Phase};
use super::child::data_directory;
use super::house::House;
use super::message::{Handle, Message};
use crate::config::tenant::Limit;
use crate::control::StorageStatus;
use crate::names::TenantId;
use crate::paths::Mode;
use crate::sandbox::storage::{self, Measure};
use crate::wire::ToMux;

/// How many looks go on at the same time: more would only share the processors that work is done on.
const AT_ONCE: usize = 2;
/// A look that takes so long hangs, and does not count for [`AT_ONCE`].
const HANGS: Duration = Duration::from_secs(10);
/// When a look that failed is tried again.
const AGAIN: Duration = Duration::from_secs(10);
/// The stack of a looking thread, bytes: it recurses nowhere.
const STACK: usize = 256 * 1024;

/// What is known of a tenant's storage while it has a mux.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// When the next look is due; at once where there was none.
    due: Option<Instant>,
    /// Since when somebody looks.
    looking: Option<Instant>,
    /// The limit that the last look was for.
    limit: Option<u64>,
    last: Option<Result<Measure, String>>,
    /// The mux was told that there is no room.
    told: bool,
}

/// The end of a look.
#[derive(Debug)]
pub(super) struct Look {
    tenant: TenantId,
    cell: u64,
    limit: u64,
    found: Result<Measure, String>,
}

impl House {
    /// When the next look is due.
    pub(super) fn looks_at(&self, now: Instant) -> Option<Instant> {
        let due = self.cells.values().filter(|cell| cell.limit().is_some());
        let due = due.filter(|cell| cell.stored.looking.is_none() && cell.is_ready());
        let next = due.map(|cell| cell.stored.due.unwrap_or(now)).min()?;
        // Those that wait for a free thread are looked for when one is.
        (self.looking(now) < AT_ONCE).then_some(next)
    }

    fn looking(&self, now: Instant) -> usize {
        let since = self.cells.values().filter_map(|cell| cell.stored.looking);
        since.filter(|since| now.saturating_duration_since(*since) < HANGS).count()
    }

    /// Starts the looks that are due.
    pub(super) fn look_at_storage(&mut self, now: Instant) {
        let mut free = AT_ONCE.saturating_sub(self.looking(now));
        let layout = self.options.layout.clone();
        let system = layout.mode == Mode::System;
        for (id, cell) in &mut self.cells {
            let (Some(tenant), Some(limit)) = (cell.tenant.clone(), cell.limit()) else {
                cell.unlimit();
                continue;
            };
            if cell.stored.limit.is_some_and(|old| old != limit) {
                cell.stored.due = None;
            }
            let due = cell.stored.due.is_none_or(|due| due <= now);
            if free == 0 || !due || !cell.is_ready() || cell.stored.looking.is_some() {
                continue;
            }
            free -= 1;
            cell.stored.looking = Some(now);
            let paths = vec![data_directory(&layout, &tenant), layout.tenant_home(id)];
            // Its number among the projects of a file system: the uid that is its servers' alone.
            let uids = system.then(|| self.uids.of(id).ok()).flatten();
            let project = uids.map(|its| its.server);
            let look = Work { tenant: id.clone(), cell: cell.number, limit, paths, project };
            look.start(self.handle.clone());
        }
    }

    /// A look has ended.
    pub(super) fn looked(&mut self, look: Look) {
        let now = Instant::now();
        let cell = self.cells.get_mut(&look.tenant).filter(|cell| cell.number == look.cell);
        let Some(cell) = cell else { return };
        let stored = &mut cell.stored;
        stored.looking = None;
        stored.limit = Some(look.limit);
        let wait = look.found.as_ref().map_or(AGAIN, |measure| measure.next_look(look.limit));
        stored.due = Some(now + wait);
        cell.tell(look.found, look.limit);
    }
}

impl Cell {
    /// The limit of its tenant.
    fn limit(&self) -> Option<u64> {
        match self.tenant.as_ref()?.quota.storage {
            Limit::At(limit) => Some(limit),
            Limit::Unlimited => None,
        }
    }

    /// The limit was taken away.
    fn unlimit(&mut self) {
        let told = std::mem::take(&mut self.stored).told;
        if told && self.phase == Phase::Ready {
            self.send(ToMux::Storage { used: 0, limit: u64::MAX, full: false }, Vec::new());
        }
    }

    fn tell(&mut self, found: Result<Measure, String>, limit: u64) {
        let (id, first) = (&self.id, self.stored.last.is_none());
        match &found {
            Ok(measure) => {
                let (used, full) = (measure.used, measure.is_full(limit));
                if full && !self.stored.told {
                    tracing::warn!(tenant = %id, used, limit, "its storage is full: calls that may write are refused");
                } else if !full && self.stored.told {
                    tracing::info!(tenant = %id, used, limit, "its storage has room again");
                }
                // A mux that another supervisor left may have been told otherwise.
                if full || self.stored.told || first {
                    self.send(ToMux::Storage { used, limit, full }, Vec::new());
                }
                self.stored.told = full;
            }
            Err(why) if self.stored.last.as_ref() != Some(&found) => {
                tracing::error!(tenant = %id, "what it stores cannot be counted: {why}");
            }
            Err(_) => {}
        }
        self.stored.last = Some(found);
    }

    /// For `status`.
    pub(super) fn storage_status(&self) -> Option<StorageStatus> {
        let (limit, last) = (self.stored.limit?, self.stored.last.as_ref()?);
        let signed = super::status::signed;
        Some(match last {
            Ok(measure) => StorageStatus {
                method: measure.method.as_str().to_owned(),
                used: signed(measure.used),
                limit: signed(limit),
                full: measure.is_full(limit),
                problem: measure.unseen.map(|unseen| unseen.to_string()),
                why_watched: measure.why_watched.clone(),
            },
            Err(why) => StorageStatus {
                method: storage::Method::Watcher.as_str().to_owned(),
                used: 0,
                limit: signed(limit),
                full: self.stored.told,
                problem: Some(why.clone()),
                why_watched: None,
            },
        })
    }
}

/// One look to come.
struct Work {
    tenant: TenantId,
    cell: u64,
    limit: u64,
    paths: Vec<PathBuf>,
    project: Option<u32>,
}

impl Work {
    /// Looks, on a thread of its own, and tells the loop.
    fn start(self, house: Handle) {
        let Self { tenant, cell, limit, paths, project } = self;
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = move || {
            let paths: Vec<_> = paths.iter().map(PathBuf::as_path).collect();
            let found = storage::look(&paths, project, limit).map_err(|error| error.to_string());
            // Without a loop there is nobody to tell.
            let _ = tell.send(found);
        };
        let thread = std::thread::Builder::new().name("storage".to_owned()).stack_size(STACK);
        let started = thread.spawn(work);
        tokio::task::spawn_local(async move {
            let found = match started {
                Ok(_) => told.await.unwrap_or_else(|_| Err("the count broke off".to_owned())),
                Err(error) => Err(error.to_string()),
            };
            let _ = house.say(Message::Looked(Box::new(Look { tenant, cell, limit, found }))).await;
        });
    }
}
