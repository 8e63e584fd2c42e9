//! One mux process as the loop knows it: its connection, its sessions, its children.
//!
//! ```text
//! Starting --Hello--> Ready --MayLeave, nothing on its way--> Leaving --gone--> (no cell)
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

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::message::{CellNews, Handle, Message, OpenAsk};
use super::spawn::{Binary, kill};
use crate::auth::Principal;
use crate::config::tenant::Tenant;
use crate::names::{ServerName, SessionId, TenantId};
use crate::post;
use crate::sys;
use crate::wire::{Birth, CELL_DATAGRAM, FromMux, MuxPlan, MuxStatus, ToMux};

/// Messages to one mux that may wait: each child and session causes a few.
const OUTBOX: usize = 256;
/// How long a mux may take to introduce itself.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long after its drain, or after it was let go, a mux may live.
pub(super) const GRACE: Duration = Duration::from_secs(4);
/// How long a mux may leave a message lying.
const DRAINS_WITHIN: Duration = Duration::from_secs(5);
/// Messages that a mux may send at once before it has to wait.
const BURST: u32 = 256;
/// How long [`BURST`] messages take at least: a mux that shouts waits for itself.
const BURST_TAKES: Duration = Duration::from_millis(250);
/// Connections that may wait to be accepted by a mux: supervisors come one at a time.
const BACKLOG: i32 = 4;

/// Where a mux is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Ready,
    Leaving,
    Draining,
}

/// A message with its descriptors.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) what: ToMux,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// A session as the supervisor knows it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) principal: Principal,
    pub(super) server: ServerName,
    pub(super) permissions: Vec<String>,
}

/// Somebody who waits for a mux's status, and the parts that have come.
#[derive(Debug)]
struct Asking {
    tell: oneshot::Sender<MuxStatus>,
    heard: MuxStatus,
}

/// The file of a cell socket; its drop removes it.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // What stays is deserted, and cleared by the next supervisor.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// One mux.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) number: u64,
    pub(super) pid: i32,
    pub(super) pidfd: Arc<OwnedFd>,
    pub(super) line: Arc<OwnedFd>,
    pub(super) phase: Phase,
    pub(super) born: Instant,
    /// When it must be gone, once it was told to go.
    pub(super) overdue: Option<Instant>,
    pub(super) id: TenantId,
    /// What it was configured with last; none while the tenant's file was never good.
    pub(super) tenant: Option<Arc<Tenant>>,
    /// The plan that it was given last; none where no supervisor that still knows it gave one.
    pub(super) given: Option<MuxPlan>,
    /// Answered when it has that plan: before, it could take a session for what it no longer is.
    pub(super) settling: Option<u64>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    /// Sessions that a door thread is sending.
    pub(super) on_the_way: BTreeSet<SessionId>,
    /// It has said so, and something was on its way.
    pub(super) may_leave: bool,
    /// Who waits for this cell to be ready, or to be gone; each has a seat of the door.
    pub(super) waiting: Vec<OpenAsk>,
    /// The children that it asked for and that have not gone.
    pub(super) children: BTreeSet<u64>,
    tickets: BTreeMap<u64, Asking>,
    outbox: mpsc::Sender<Parcel>,
    tasks: [JoinHandle<()>; 2],
    _socket: SocketFile,
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
    pub(super) socket: PathBuf,
    pub(super) log: File,
    pub(super) memory: File,
    pub(super) binary: &'a Binary,
    pub(super) house: Handle,
}

impl Cell {
    /// Starts a mux and connects to it as any later supervisor would.
    pub(super) fn start(seed: Seed<'_>) -> io::Result<Self> {
        let Seed { number, tenant, plan, socket, log, memory, binary, house } = seed;
        let (listener, socket) = listen(socket)?;
        let sealed = post::seal(&plan).map_err(io::Error::other)?;
        let given = [sealed.as_fd(), listener.as_fd(), log.as_fd(), memory.as_fd()];
        let born = binary.start(&Birth::Mux, &given, &log)?;
        let line = connect(&socket.0).inspect_err(|_| kill(&born.pidfd))?;
        let (line, pidfd) = (Arc::new(line), Arc::new(born.pidfd));
        let (outbox, parcels) = mpsc::channel(OUTBOX);
        let wire = Wire {
            line: sys::watch(line.try_clone()?)?,
            pidfd: sys::watch(pidfd.try_clone()?)?,
            tenant: plan.tenant.clone(),
            cell: number,
            house,
        };
        let wire = Arc::new(wire);
        let tasks = [
            tokio::task::spawn_local(hear(wire.clone())),
            tokio::task::spawn_local(deliver(wire, parcels)),
        ];
        let mut cell = Self {
            number,
            pid: born.pid,
            pidfd,
            line,
            phase: Phase::Starting,
            born: Instant::now(),
            overdue: None,
            id: plan.tenant.clone(),
            tenant,
            given: Some(plan),
            settling: None,
            sessions: BTreeMap::new(),
            on_the_way: BTreeSet::new(),
            may_leave: false,
            waiting: Vec::new(),
            children: BTreeSet::new(),
            tickets: BTreeMap::new(),
            outbox,
            tasks,
            _socket: socket,
        };
        cell.send(ToMux::Adopt { wire: crate::wire::VERSION }, Vec::new());
        Ok(cell)
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

fn listen(path: PathBuf) -> io::Result<(OwnedFd, SocketFile)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
    let file = SocketFile(path);
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((socket, file))
}

fn connect(path: &std::path::Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    // A mux of this version has no descriptor to give; dropping one could take long.
    sys::refuse_descriptors(&socket);
    Ok(socket)
}

/// What the two tasks of a cell hold.
struct Wire {
    line: AsyncFd<OwnedFd>,
    pidfd: AsyncFd<OwnedFd>,
    tenant: TenantId,
    cell: u64,
    house: Handle,
}

impl Wire {
    async fn news(&self, news: CellNews) {
        let message = Message::Cell { tenant: self.tenant.clone(), cell: self.cell, news };
        // Without a loop there is nobody to tell.
        let _ = self.house.say(message).await;
    }

    async fn receive(&self, buffer: &mut [u8]) -> io::Result<FromMux> {
        loop {
            let mut ready = self.line.readable().await?;
            let tried = ready
                .try_io(|line| sys::receive_datagram(line.get_ref(), buffer, RecvFlags::DONTWAIT));
            let Ok(got) = tried else { continue };
            let got = got?;
            if got.bytes == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if got.truncated || !got.descriptors.is_empty() {
                return Err(io::Error::other("a datagram too large, or with descriptors"));
            }
            return Ok(serde_json::from_slice(buffer.get(..got.bytes).unwrap_or_default())?);
        }
    }

    async fn deliver(&self, parcel: &Parcel) -> io::Result<()> {
        let bytes = serde_json::to_vec(&parcel.what)?;
        let descriptors: Vec<_> = parcel.descriptors.iter().map(AsFd::as_fd).collect();
        loop {
            let mut ready = self.line.writable().await?;
            let tried = ready.try_io(|line| {
                sys::send_datagram(line.get_ref(), &bytes, &descriptors, SendFlags::DONTWAIT)
            });
            if let Ok(sent) = tried {
                return sent;
            }
        }
    }
}

/// Hears the mux until it is dead.
async fn hear(wire: Arc<Wire>) {
    let mut buffer = vec![0; CELL_DATAGRAM];
    let mut talking = true;
    let hello = tokio::time::sleep(HELLO_WITHIN);
    let (mut hello, mut greeted) = (std::pin::pin!(hello), false);
    let (mut said, mut since) = (0, Instant::now());
    loop {
        tokio::select! {
            biased;
            heard = wire.receive(&mut buffer), if talking => match heard {
                Ok(message) => {
                    greeted = true;
                    wire.news(CellNews::Said(Box::new(message))).await;
                }
                Err(error) => {
                    talking = false;
                    wire.news(CellNews::Broken(error.to_string())).await;
                }
            },
            _ = wire.pidfd.readable() => return wire.news(CellNews::Gone).await,
            () = &mut hello, if !greeted => {
                greeted = true;
                wire.news(CellNews::Broken("it did not introduce itself".to_owned())).await;
            }
        }
        said += 1;
        if said >= BURST {
            tokio::time::sleep(BURST_TAKES.saturating_sub(since.elapsed())).await;
            (said, since) = (0, Instant::now());
        }
    }
}

/// Delivers what the loop sends.
async fn deliver(wire: Arc<Wire>, mut parcels: mpsc::Receiver<Parcel>) {
    while let Some(parcel) = parcels.recv().await {
        let sent = tokio::time::timeout(DRAINS_WITHIN, wire.deliver(&parcel)).await;
        let broken = match sent {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it left a message lying for 5 seconds".to_owned(),
        };
        return wire.news(CellNews::Broken(broken)).await;
    }
}
