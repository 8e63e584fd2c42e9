//! Finds the muxes that an earlier supervisor left running: connects to each cell socket, asks who is
//! there, and takes down what it says. What becomes of it is decided in `heirs`.
//!
//! Each socket has a thread of its own, because a mux may hang, and because what it sends is suspect: it
//! parses its tenant's data. A descriptor that is none of those asked for is closed on that thread, where
//! it may take as long as its sender likes. All of them together have [`WITHIN`].
//!
//! ```text
//! connect --uid--> Adopt --pid, from the kernel--> Hello --pidfd--> Inventory ... last --> Found
//!    \ refused: the mux is gone, its files are cleared
//!     \ no answer, another wire version, a lie: left alone; without a supervisor it drains
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;

use super::cell::Made;
use super::inventory::{Ear, Inventory, wait};
use super::line::{self, CellFiles};
use crate::auth::uids::Uids;
use crate::names::TenantId;
use crate::paths::{Layout, Mode};
use crate::post;
use crate::sys;
use crate::wire::{ChildLine, FromMux, SessionLine, ToMux, VERSION};

/// How long all muxes together may take to be found.
const WITHIN: Duration = Duration::from_secs(2);
/// A thread that asks parses JSON.
const STACK: usize = 512 * 1024;

/// A mux that was found, and what it has.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) made: Made,
    /// Of the plan that it has.
    pub(super) start_digest: String,
    pub(super) files: CellFiles,
    /// Whether it is on its way out.
    pub(super) draining: bool,
    pub(super) sessions: Vec<SessionLine>,
    /// Its children, with their keepers' pidfds.
    pub(super) children: Vec<(ChildLine, OwnedFd)>,
    /// What else it said meanwhile, in order.
    pub(super) said: Vec<FromMux>,
}

/// Why a mux is not taken over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Strange {
    #[error("it does not answer (it is left alone, and leaves by itself after orphan_timeout)")]
    Silent,
    #[error(
        "it speaks wire version {0}, not {VERSION} (it finishes what it has; new sessions get a new one)"
    )]
    OtherVersion(u32),
    #[error("it closed the connection")]
    Closed,
    #[error("uid {0} listens or answers there")]
    Uid(u32),
    #[error("it says that it is {0}'s, and was made for another tenant")]
    Tenant(TenantId),
    #[error("it is not in its tenant's control group")]
    Elsewhere,
    #[error("it said what no mux says: {0}")]
    Nonsense(String),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for Strange {
    fn from(error: Errno) -> Self {
        Self::Io(error.into())
    }
}

/// Where threads put what they found, until nobody waits any more.
type Hall = Arc<Mutex<Option<Finds>>>;

#[derive(Debug, Default)]
struct Finds {
    found: Vec<Found>,
    /// The cells of which nothing more is expected: their mux is gone, or a liar.
    over: BTreeSet<u64>,
}

/// A search under way.
#[derive(Debug)]
pub(super) struct Search {
    hall: Hall,
    /// Whose cells they are.
    asked: BTreeMap<u64, TenantId>,
    /// At its end when every thread has put down what it found.
    threads: Receiver<()>,
    until: Instant,
}

impl Search {
    /// Asks at every cell socket. Only by the supervisor that holds the lock.
    pub(super) fn start(layout: &Layout, uids: &Uids) -> Self {
        let until = Instant::now() + WITHIN;
        let hall: Hall = Arc::new(Mutex::new(Some(Finds::default())));
        let mut asked = BTreeMap::new();
        let (working, threads) = sync_channel(0);
        for (number, socket) in sockets(layout) {
            asked.extend(CellFiles::tenant(&socket).map(|tenant| (number, tenant)));
            let (hall, working) = (hall.clone(), working.clone());
            let uid = mux_uid(&socket, layout, uids);
            let thread = std::thread::Builder::new().name("adopt".into()).stack_size(STACK);
            let spawned = thread.spawn(move || {
                visit(number, socket, uid, &hall, until);
                drop(working);
            });
            if let Err(error) = spawned {
                tracing::error!(cell = number, "cannot ask who is there: {error}");
            }
        }
        Self { hall, asked, threads, until }
    }

    /// What was found, and the tenants whose mux did not answer or speaks another version: it may still
    /// finish what it has. Waits at most [`WITHIN`] from the start; what comes later is left alone.
    pub(super) fn finish(mut self) -> (Vec<Found>, BTreeSet<TenantId>) {
        let left = self.until.saturating_duration_since(Instant::now());
        if self.threads.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("not every mux that an earlier supervisor left has answered");
        }
        let Finds { mut found, over } = lock(&self.hall).take().unwrap_or_default();
        found.sort_by_key(|found| found.made.number);
        self.asked.retain(|number, _| {
            !over.contains(number) && found.iter().all(|found| found.made.number != *number)
        });
        (found, self.asked.into_values().collect())
    }
}

/// No code panics between two changes, so the list is whole even in a poisoned lock.
fn lock(hall: &Hall) -> MutexGuard<'_, Option<Finds>> {
    hall.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The cell sockets that are there; notes without one are removed.
fn sockets(layout: &Layout) -> Vec<(u64, PathBuf)> {
    let entries = std::fs::read_dir(layout.cells()).into_iter().flatten().flatten();
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let kind = path.extension().and_then(|kind| kind.to_str());
        match (number, kind) {
            (Some(number), Some("sock")) => found.push((number, path)),
            (Some(_), Some("tenant")) if !path.with_extension("sock").exists() => {
                // What stays is written anew by the next mux of that number.
                let _ = std::fs::remove_file(&path);
            }
            _ => {}
        }
    }
    found
}

/// Who a mux at this socket must be: in system mode the mux of the tenant whose cell it is, and nobody else.
fn mux_uid(socket: &Path, layout: &Layout, uids: &Uids) -> Option<u32> {
    match layout.mode {
        Mode::User => Some(nix::unistd::geteuid().as_raw()),
        Mode::System => uids.known(&CellFiles::tenant(socket)?).map(|its| its.mux),
    }
}

fn visit(number: u64, socket: PathBuf, uid: Option<u32>, hall: &Hall, until: Instant) {
    let connection = match line::connect(&socket) {
        Ok(connection) => connection,
        // Nobody listens there any more.
        Err(Errno::CONNREFUSED) => {
            is_over(number, hall);
            return drop(CellFiles::found(socket));
        }
        Err(error) => return left_alone(number, &error.into()),
    };
    match ask(number, &socket, connection, uid, until) {
        Ok(found) => {
            let mut hall = lock(hall);
            match hall.as_mut() {
                Some(all) => all.found.push(found),
                None => {
                    // Not under the lock: closing its connection may take long.
                    drop(hall);
                    found.leave(&Strange::Silent);
                }
            }
        }
        Err(error) => {
            if !matches!(error, Strange::Silent | Strange::OtherVersion(_) | Strange::Io(_)) {
                is_over(number, hall);
            }
            left_alone(number, &error);
        }
    }
}

fn is_over(cell: u64, hall: &Hall) {
    if let Some(finds) = lock(hall).as_mut() {
        finds.over.insert(cell);
    }
}

fn left_alone(cell: u64, why: &Strange) {
    tracing::warn!(cell, "a mux is not taken over: {why}");
}

impl Found {
    /// Nobody takes it: its files stay with it.
    pub(super) fn leave(self, why: &Strange) {
        left_alone(self.made.number, why);
        self.files.leave();
    }
}

/// The part of Hello that every version has.
#[derive(Deserialize)]
struct AnyHello {
    say: String,
    wire: u32,
}

/// Asks one mux who it is and what it has.
fn ask(
    number: u64,
    socket: &Path,
    connection: OwnedFd,
    mux_uid: Option<u32>,
    until: Instant,
) -> Result<Found, Strange> {
    // The credentials are those of who called listen(2) (unix(7), SO_PEERCRED): of the supervisor that
    // made it, whose uid is ours.
    let uid = sys::peer_credentials(&connection)?.uid;
    let ours = nix::unistd::geteuid().as_raw();
    if uid != ours {
        return Err(Strange::Uid(uid));
    }
    // Before anything is said, so that the kernel signs the first answer (unix(7), SO_PASSCRED).
    sockopt::set_socket_passcred(&connection, true)?;
    let adopt = ToMux::Adopt { wire: VERSION };
    post::send(&connection, &adopt, &[], SendFlags::DONTWAIT).map_err(io::Error::other)?;
    wait(&connection, until)?;
    let signed = signature(&connection)?;
    sockopt::set_socket_passcred(&connection, false)?;
    let mut ear = Ear::new(connection, until);
    let (hello, descriptors) = ear.bytes()?;
    if !descriptors.is_empty() {
        return Err(Strange::Nonsense("a Hello with descriptors".to_owned()));
    }
    let (id, start_digest, draining) = greeting(hello)?;
    if CellFiles::tenant(socket).as_ref() != Some(&id) {
        return Err(Strange::Tenant(id));
    }
    let (pid, pidfd) = hold(signed, mux_uid, &ear.connection)?;
    let mut inventory = Inventory::default();
    while !inventory.whole {
        let (bytes, descriptors) = ear.bytes()?;
        inventory.take(message(bytes)?, descriptors, mux_uid)?;
    }
    // From here on the kernel refuses descriptors; what was sent before is still closed here.
    sys::refuse_descriptors(&ear.connection);
    while let Some((bytes, _)) = ear.waiting()? {
        inventory.said.push(message(bytes)?);
    }
    let Inventory { sessions, children, said, .. } = inventory;
    let files = CellFiles::found(socket.to_owned());
    let made = Made { number, id, pid, pidfd, connection: ear.connection };
    Ok(Found { made, start_digest, files, draining, sessions, children, said })
}

/// Who sent what waits, as the kernel says (unix(7), SCM_CREDENTIALS). Looks only: no descriptor of it is
/// taken, and none is dropped for good.
fn signature(connection: &OwnedFd) -> Result<UnixCredentials, Strange> {
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(UnixCredentials);
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let got = recvmsg::<()>(connection.as_raw_fd(), &mut slices, Some(&mut space), flags)
        .map_err(io::Error::from)?;
    if got.bytes == 0 {
        return Err(Strange::Closed);
    }
    let signed = got.cmsgs().map_err(io::Error::from)?.find_map(|message| match message {
        ControlMessageOwned::ScmCredentials(who) => Some(who),
        _ => None,
    });
    signed.ok_or_else(|| Strange::Nonsense("the kernel does not say who it is".to_owned()))
}

/// Takes hold of the process that signed. Its number is still its own if it still holds the connection
/// then.
fn hold(
    signed: UnixCredentials,
    mux_uid: Option<u32>,
    connection: &OwnedFd,
) -> Result<(i32, OwnedFd), Strange> {
    if Some(signed.uid()) != mux_uid {
        return Err(Strange::Uid(signed.uid()));
    }
    let number = Pid::from_raw(signed.pid()).filter(|pid| !pid.is_init());
    let number = number.ok_or_else(|| Strange::Nonsense("it is no process here".to_owned()))?;
    let pidfd = pidfd_open(number, PidfdFlags::empty())?;
    let mut polled = [PollFd::new(connection, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    if polled[0].revents().contains(PollFlags::HUP) {
        return Err(Strange::Closed);
    }
    Ok((signed.pid(), pidfd))
}

fn greeting(bytes: &[u8]) -> Result<(TenantId, String, bool), Strange> {
    let any: AnyHello = serde_json::from_slice(bytes).map_err(nonsense)?;
    if any.say != "hello" {
        return Err(Strange::Nonsense(any.say.chars().take(40).collect()));
    }
    if any.wire != VERSION {
        return Err(Strange::OtherVersion(any.wire));
    }
    match message(bytes)? {
        FromMux::Hello { tenant, start_digest, draining, .. } => {
            Ok((tenant, start_digest, draining))
        }
        _ => Err(Strange::Nonsense("no Hello".to_owned())),
    }
}

pub(super) fn message(bytes: &[u8]) -> Result<FromMux, Strange> {
    serde_json::from_slice(bytes).map_err(nonsense)
}

fn nonsense(error: serde_json::Error) -> Strange {
    Strange::Nonsense(crate::policy::reason::quoted(&error.to_string()))
}
