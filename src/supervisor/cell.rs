//! One mux process as the loop knows it: its connection, its sessions, its children.
//!
//! ```text
//! Starting --Hello--> Ready --MayLeave, nothing on its way--> Leaving --gone--> (no cell)
//!     adopted ---------^
//!     \                 \-------drain (changed, removed, stopping)--> Draining --gone--> (no cell)
//!      \--gone--> (no cell, a growing pause)
//! ```
//!
//! The loop never waits for a mux: what it sends goes through a bounded outbox and a task of this cell's
//! own. A mux that does not take its messages is killed; it alone pays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::adopt::Found;
use super::credentials::Receiver;
use super::line::{self, CellFiles, Line, Parcel};
use super::message::{Handle, OpenAsk};
use super::spawn::{Binary, kill};
use super::storage::Stored;
use crate::auth::Principal;
use crate::config::tenant::Tenant;
use crate::names::{ServerName, SessionId, TenantId};
use crate::post;
use crate::sys;
use crate::wire::{Birth, Identity, MuxPlan, MuxStatus, SessionLine, ToMux};

/// Messages to one mux that may wait: each child and session causes a few.
const OUTBOX: usize = 256;
/// How long after its drain, or after it was let go, a mux may live.
pub(super) const GRACE: Duration = Duration::from_secs(4);

/// Where a mux is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Ready,
    Leaving,
    Draining,
}

/// A session as the supervisor knows it.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) principal: Principal,
    pub(super) server: ServerName,
    pub(super) permissions: Vec<String>,
}

impl Session {
    /// As a mux tells of it.
    fn of(line: SessionLine) -> Self {
        let holder = line.holder;
        let (uid, gid) = (holder.uid, holder.gid);
        let principal =
            Principal { uid, gid, user: holder.user, groups: holder.groups, pidfd: None };
        Self { principal, server: line.server, permissions: holder.permissions }
    }
}

/// A mux, however it came to be ours.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) number: u64,
    pub(super) id: TenantId,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) connection: OwnedFd,
}

/// Somebody who waits for a mux's status, and the parts that have come.
#[derive(Debug)]
struct Asking {
    tell: oneshot::Sender<MuxStatus>,
    heard: MuxStatus,
}

/// One mux.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) number: u64,
    /// Whose it is.
    pub(super) id: TenantId,
    pub(super) pid: i32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) line: Arc<OwnedFd>,
    pub(super) phase: Phase,
    pub(super) born: Instant,
    /// When it must be gone, once it was told to go.
    pub(super) overdue: Option<Instant>,
    /// What it was configured with last; none while the tenant's file was never good.
    pub(super) tenant: Option<Arc<Tenant>>,
    /// The plan that it was given last; none where no supervisor that still knows it gave one.
    pub(super) given: Option<MuxPlan>,
    /// The start digest of an earlier supervisor's plan; none once it is given one here.
    pub(super) inherited: Option<String>,
    /// Answered when it has that plan: before, it could take a session for what it no longer is.
    pub(super) settling: Option<u64>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Sessions that a door thread is sending.
    pub(super) on_the_way: BTreeSet<SessionId>,
    /// It has said so, and something was on its way.
    pub(super) may_leave: bool,
    /// Who waits for this cell to be ready, or to be gone; each has a seat of the door.
    pub(super) waiting: Vec<OpenAsk>,
    /// The children that it asked for and that have not gone, with their keepers as soon as they run.
    pub(super) children: BTreeMap<u64, Option<Arc<OwnedFd>>>,
    /// Those of them that have secrets, or may.
    pub(super) receivers: BTreeMap<u64, Receiver>,
    /// Those for whose requests egress has secrets, or may.
    pub(super) injected: BTreeMap<u64, Receiver>,
    /// What its tenant stores.
    pub(super) stored: Stored,
    tickets: BTreeMap<u64, Asking>,
    outbox: mpsc::Sender<Parcel>,
    /// What its two tasks hold.
    pub(super) wire: Arc<Line>,
    tasks: [JoinHandle<()>; 2],
    _files: CellFiles,
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What a cell is started with.
pub(super) struct Seed<'a> {
    pub(super) number: u64,
    pub(super) tenant: Option<Arc<Tenant>>,
    pub(super) plan: MuxPlan,
    /// Who it becomes (system mode).
    pub(super) identity: Option<Identity>,
    pub(super) socket: PathBuf,
    pub(super) log: File,
    pub(super) memory: File,
    pub(super) binary: &'a Binary,
    /// Its control group.
    pub(super) seat: Vec<PathBuf>,
    pub(super) house: Handle,
}

impl Cell {
    /// Starts a mux and connects to it as any later supervisor would.
    pub(super) fn start(seed: Seed<'_>) -> io::Result<Self> {
        let Seed { number, tenant, plan, identity, socket, log, memory, binary, seat, house } =
            seed;
        let (listener, files) = line::listen(socket, &plan.tenant)?;
        // Who it is is settled at its birth: no later plan says it.
        let birth = MuxPlan { identity, ..plan.clone() };
        let sealed = post::seal(&birth).map_err(io::Error::other)?;
        let given = [sealed.as_fd(), listener.as_fd(), log.as_fd(), memory.as_fd()];
        let born = binary.start(&Birth::Mux, &given, &log, &seat)?;
        let connection = line::connect(files.path()).inspect_err(|_| kill(&born.pidfd))?;
        // A mux that starts has no descriptor to give; dropping one could take long.
        sys::refuse_descriptors(&connection);
        let id = plan.tenant.clone();
        let made = Made { number, id, pid: born.pid, pidfd: born.pidfd, connection };
        let mut cell = Self::of(made, files, false, house)?;
        (cell.tenant, cell.given) = (tenant, Some(plan));
        cell.send(ToMux::Adopt { wire: crate::wire::VERSION }, Vec::new());
        Ok(cell)
    }

    /// Takes over a mux that another supervisor started, with all that it has.
    pub(super) fn adopt(found: Found, house: Handle) -> io::Result<Self> {
        let Found { made, start_digest, files, draining, sessions, children, .. } = found;
        let mut cell = Self::of(made, files, true, house)?;
        cell.inherited = Some(start_digest);
        cell.phase = Phase::Ready;
        if draining {
            // How long it has left is known with the settings.
            cell.phase = Phase::Draining;
        }
        cell.sessions =
            sessions.into_iter().map(|line| (line.session, Session::of(line))).collect();
        for (line, keeper) in children {
            let found = Receiver::found(line.server.clone(), line.user.clone());
            cell.injected.insert(line.child, found);
            cell.receivers.insert(line.child, Receiver::found(line.server, line.user));
            cell.children.insert(line.child, Some(Arc::new(keeper)));
        }
        Ok(cell)
    }

    fn of(made: Made, files: CellFiles, greeted: bool, house: Handle) -> io::Result<Self> {
        let Made { number, id, pid, pidfd, connection } = made;
        let (outbox, parcels) = mpsc::channel(OUTBOX);
        let line = Line::new(&connection, &pidfd, id.clone(), number, house)?;
        let tasks = [
            tokio::task::spawn_local(line::hear(line.clone(), greeted)),
            tokio::task::spawn_local(line::deliver(line.clone(), parcels)),
        ];
        Ok(Self {
            number,
            id,
            pid,
            pidfd: Arc::new(pidfd),
            line: Arc::new(connection),
            phase: Phase::Starting,
            born: Instant::now(),
            overdue: None,
            tenant: None,
            given: None,
            inherited: None,
            settling: None,
            sessions: BTreeMap::new(),
            on_the_way: BTreeSet::new(),
            may_leave: false,
            waiting: Vec::new(),
            children: BTreeMap::new(),
            receivers: BTreeMap::new(),
            injected: BTreeMap::new(),
            stored: Stored::default(),
            tickets: BTreeMap::new(),
            outbox,
            wire: line,
            tasks,
            _files: files,
        })
    }

    /// Sends soon. A mux whose outbox is full is killed; its death is noticed like any other.
    pub(super) fn send(&mut self, what: ToMux, descriptors: Vec<OwnedFd>) {
        if self.outbox.try_send(Parcel { what, descriptors }).is_err() {
            tracing::error!(tenant = %self.id, "the mux takes no messages and is killed");
            kill(&self.pidfd);
        }
    }

    /// Asks it how it is.
    pub(super) fn ask_status(&mut self, ticket: u64) -> oneshot::Receiver<MuxStatus> {
        let (tell, told) = oneshot::channel();
        self.tickets.retain(|_, waiting| !waiting.tell.is_closed());
        self.tickets.insert(ticket, Asking { tell, heard: MuxStatus::default() });
        self.send(ToMux::Status { ticket }, Vec::new());
        told
    }

    /// A part of its answer.
    pub(super) fn told(&mut self, ticket: u64, mut part: MuxStatus, last: bool) {
        if last && self.settling == Some(ticket) {
            self.settling = None;
        }
        let Some(mut asking) = self.tickets.remove(&ticket) else { return };
        part.sessions.splice(..0, std::mem::take(&mut asking.heard.sessions));
        part.children.splice(..0, std::mem::take(&mut asking.heard.children));
        if last {
            // Who no longer waits needs no answer.
            let _ = asking.tell.send(part);
        } else {
            self.tickets.insert(ticket, Asking { heard: part, ..asking });
        }
    }

    /// Ends it in good order.
    pub(super) fn drain(&mut self, reason: &str, code: u8, within: Duration) {
        if self.phase == Phase::Draining {
            return;
        }
        self.phase = Phase::Draining;
        self.overdue = Some(Instant::now() + within + GRACE);
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.send(ToMux::Drain { reason: reason.to_owned(), code, within_ms }, Vec::new());
    }

    /// Lets it go if it said that it may and nothing is on its way or there.
    pub(super) fn leave_if_idle(&mut self) {
        let idle = self.sessions.is_empty() && self.on_the_way.is_empty();
        if self.may_leave && idle && self.phase == Phase::Ready {
            self.phase = Phase::Leaving;
            self.overdue = Some(Instant::now() + GRACE);
            self.send(ToMux::Leave, Vec::new());
        }
    }

    /// Kills it if it should be gone by now.
    pub(super) fn kill_if_overdue(&mut self, now: Instant) {
        if self.overdue.is_some_and(|overdue| now >= overdue) {
            tracing::warn!(tenant = %self.id, "the mux did not end in time and is killed");
            kill(&self.pidfd);
            self.overdue = None;
        }
    }

    /// The most children that it can have: more is not asked for by a sound mux.
    pub(super) fn most_children(&self) -> usize {
        let servers = self.given.iter().flat_map(|plan| &plan.servers);
        servers.map(|server| server.max_children.max(1) as usize).sum()
    }
}
