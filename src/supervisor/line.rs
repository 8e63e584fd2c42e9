//! The connection to one mux: made anew or taken over, heard and written by two tasks of its own.
//!
//! The loop never waits for a mux: what it sends is delivered here, what is heard here is told to it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::message::{CellNews, Handle, Message};
use crate::names::TenantId;
use crate::sys;
use crate::wire::{CELL_DATAGRAM, FromMux, ToMux};

/// How long a mux may take to introduce itself.
const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// How long a mux may leave a message lying.
const DRAINS_WITHIN: Duration = Duration::from_secs(5);
/// Messages that nobody asked it for which a mux may send at once before it has to wait.
const BURST: u32 = 256;
/// How long [`BURST`] messages take at least: a mux that shouts waits for itself.
const BURST_TAKES: Duration = Duration::from_millis(250);
/// Connections that may wait to be accepted by a mux: supervisors come one at a time.
const BACKLOG: i32 = 4;

/// A message with its descriptors.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) what: ToMux,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// The files of a cell: its socket `<n>.sock`, and `<n>.tenant`, in which the supervisor that made it
/// wrote whose it is, so that no mux can pass for another tenant's. Its drop removes them.
#[derive(Debug)]
pub(super) struct CellFiles {
    socket: PathBuf,
    stay: bool,
}

impl CellFiles {
    /// Takes care of the files that are there.
    pub(super) fn found(socket: PathBuf) -> Self {
        Self { socket, stay: false }
    }

    /// The socket.
    pub(super) fn path(&self) -> &Path {
        &self.socket
    }

    /// Leaves them where they are.
    pub(super) fn leave(mut self) {
        self.stay = true;
    }

    /// Whose cell it is, as its supervisor wrote.
    pub(super) fn tenant(socket: &Path) -> Option<TenantId> {
        let text = std::fs::read_to_string(note(socket)).ok()?;
        TenantId::parse(text.trim_end()).ok()
    }

    fn make(socket: PathBuf, tenant: &TenantId) -> io::Result<Self> {
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(note(&socket))?;
        let files = Self::found(socket);
        writeln!(file, "{tenant}")?;
        Ok(files)
    }
}

impl Drop for CellFiles {
    fn drop(&mut self) {
        if self.stay {
            return;
        }
        // What stays is deserted, and cleared by the next supervisor.
        let _ = std::fs::remove_file(&self.socket);
        let _ = std::fs::remove_file(note(&self.socket));
    }
}

fn note(socket: &Path) -> PathBuf {
    socket.with_extension("tenant")
}

/// A listening cell socket for a mux of `tenant`.
pub(super) fn listen(path: PathBuf, tenant: &TenantId) -> io::Result<(OwnedFd, CellFiles)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let files = CellFiles::make(path, tenant)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(files.path())?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((socket, files))
}

/// A connection to a mux, which says nothing before it is adopted.
pub(super) fn connect(path: &Path) -> Result<OwnedFd, rustix::io::Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// What the two tasks of a cell hold.
#[derive(Debug)]
pub(super) struct Line {
    line: AsyncFd<OwnedFd>,
    pidfd: AsyncFd<OwnedFd>,
    tenant: TenantId,
    cell: u64,
    house: Handle,
    /// What it may say without being slowed: answers to what it was given.
    due: AtomicU32,
}

/// Answers that are remembered as due; a mux that saves them up can shout so much at once.
const DUE_MAX: u32 = 4096;

impl Line {
    /// It was given something that it will answer, now or when that ends.
    pub(super) fn is_due(&self, answers: u32) {
        let more = |due: u32| Some(due.saturating_add(answers).min(DUE_MAX));
        let _ = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether what it says was due.
    fn was_due(&self) -> bool {
        let less = |due: u32| due.checked_sub(1);
        self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    /// Of the connection and the mux's pidfd.
    pub(super) fn new(
        line: &OwnedFd,
        pidfd: &OwnedFd,
        tenant: TenantId,
        cell: u64,
        house: Handle,
    ) -> io::Result<Arc<Self>> {
        let line = sys::watch(line.try_clone()?)?;
        let pidfd = sys::watch(pidfd.try_clone()?)?;
        Ok(Arc::new(Self { line, pidfd, tenant, cell, house, due: AtomicU32::new(0) }))
    }

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

/// Hears the mux until it is dead. `greeted` where it has introduced itself already.
pub(super) async fn hear(wire: Arc<Line>, mut greeted: bool) {
    let mut buffer = vec![0; CELL_DATAGRAM];
    let mut talking = true;
    let hello = tokio::time::sleep(HELLO_WITHIN);
    let mut hello = std::pin::pin!(hello);
    let (mut said, mut since) = (0, Instant::now());
    loop {
        tokio::select! {
            biased;
            heard = wire.receive(&mut buffer), if talking => match heard {
                Ok(message) => {
                    greeted = true;
                    wire.news(CellNews::Said(Box::new(message))).await;
                    if wire.was_due() {
                        continue;
                    }
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
pub(super) async fn deliver(wire: Arc<Line>, mut parcels: mpsc::Receiver<Parcel>) {
    while let Some(parcel) = parcels.recv().await {
        let sent = tokio::time::timeout(DRAINS_WITHIN, wire.deliver(&parcel)).await;
        let broken = match sent {
            // One now, and one when that ends.
            Ok(Ok(())) => {
                wire.is_due(2);
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it left a message lying for 5 seconds".to_owned(),
        };
        return wire.news(CellNews::Broken(broken)).await;
    }
}
