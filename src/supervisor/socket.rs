//! One connection of the control API as zlink sees it: bounded in size and time, and without descriptors.
//!
//! zlink's own socket takes messages of up to 100 MB and every descriptor that comes. Where the kernel
//! cannot refuse descriptors (SO_PASSRIGHTS, Linux 6.16) each read looks first (MSG_PEEK drops no last
//! reference) and takes only what it saw, so that nothing of a stranger's is ever dropped here; the
//! connection itself is closed elsewhere.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::unix::AsyncFd;
use tokio::time::{timeout, timeout_at};
use zlink::connection::PassedCredentials;
use zlink::connection::socket::{ReadHalf, ReadResult, Socket, WriteHalf};

use super::parting::Parting;
use super::seats::Seat;
use crate::sys;

/// The largest message, bytes.
pub(super) const MESSAGE_MAX: usize = 64 * 1024;
/// How long a connection may be silent between its messages.
const IDLE: Duration = Duration::from_secs(60);
/// How long it may take to say its first message, and each of them from its first byte to its last.
const MESSAGE_WITHIN: Duration = Duration::from_secs(5);
/// How long a peer may leave an answer lying.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket of the control door. What was sent to it and not received is dropped where it is closed: with
/// this it goes to be closed elsewhere.
#[derive(Debug)]
pub(super) struct Guarded {
    socket: Option<AsyncFd<OwnedFd>>,
    parting: Parting,
    uid: u32,
}

impl Guarded {
    /// `socket` must not block; its closing is on `uid`.
    pub(super) fn new(socket: OwnedFd, uid: u32, parting: Parting) -> io::Result<Self> {
        Ok(Self { socket: Some(sys::watch(socket)?), parting, uid })
    }

    pub(super) fn get(&self) -> io::Result<&AsyncFd<OwnedFd>> {
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.parting.close(self.uid, socket.into_inner());
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub(super) struct Bounded {
    line: Arc<Line>,
    patience: Patience,
}

/// How long a connection may be silent, and how long a message may take.
#[derive(Debug, Clone, Copy)]
struct Patience {
    idle: Duration,
    message: Duration,
}

/// What both halves hold.
#[derive(Debug)]
struct Line {
    connection: Guarded,
    _seat: Seat,
}

impl Bounded {
    /// `connection` must not block.
    pub(super) fn new(
        connection: OwnedFd,
        uid: u32,
        seat: Seat,
        parting: Parting,
    ) -> io::Result<Self> {
        let connection = Guarded::new(connection, uid, parting)?;
        // A byte out of band is passed over by a look and dropped by a read, with its descriptors; in
        // line it is a byte like any other.
        rustix::net::sockopt::set_socket_oobinline(connection.get()?, true)?;
        let patience = Patience { idle: IDLE, message: MESSAGE_WITHIN };
        Ok(Self { line: Arc::new(Line { connection, _seat: seat }), patience })
    }
}

impl Socket for Bounded {
    type ReadHalf = Reading;
    type WriteHalf = Writing;

    fn split(self) -> (Reading, Writing) {
        let due = Some(Instant::now() + self.patience.message);
        let (line, patience) = (self.line.clone(), self.patience);
        (Reading { line, patience, due, unfinished: 0 }, Writing(self.line))
    }
}

/// The half that reads.
#[derive(Debug)]
pub(super) struct Reading {
    line: Arc<Line>,
    patience: Patience,
    /// When the first message, or the one that has begun, must be whole.
    due: Option<Instant>,
    /// Bytes since the end of the last message.
    unfinished: usize,
}

impl ReadHalf for Reading {
    async fn read(&mut self, buffer: &mut [u8]) -> zlink::Result<ReadResult> {
        let until = self.due.unwrap_or_else(|| Instant::now() + self.patience.idle);
        let received = receive(self.line.connection.get()?, buffer);
        let received = timeout_at(until.into(), received).await;
        let bytes = received.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let end = memchr::memrchr(0, buffer.get(..bytes).unwrap_or_default());
        self.unfinished = end.map_or(self.unfinished + bytes, |end| bytes - end - 1);
        let afresh = || Instant::now() + self.patience.message;
        self.due = match end {
            _ if self.unfinished == 0 => None,
            Some(_) => Some(afresh()),
            None => self.due.or_else(|| Some(afresh())),
        };
        if self.unfinished > MESSAGE_MAX {
            return Err(zlink::Error::BufferOverflow);
        }
        Ok(ReadResult::new(bytes))
    }
}

async fn receive(connection: &AsyncFd<OwnedFd>, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        let mut ready = connection.readable().await?;
        if let Ok(done) = ready.try_io(|connection| take(connection.get_ref(), buffer)) {
            return done;
        }
    }
}

/// Takes what is there, unless descriptors came with it.
fn take(connection: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let seen = sys::peek_stream(connection, buffer)?;
    if seen.descriptors {
        return Err(io::Error::other("this door takes no descriptors"));
    }
    let buffer = buffer.get_mut(..seen.bytes).unwrap_or_default();
    if buffer.is_empty() {
        return Ok(0);
    }
    let (bytes, _) = rustix::net::recv(connection, buffer, RecvFlags::DONTWAIT)?;
    Ok(bytes)
}

/// The half that writes.
#[derive(Debug)]
pub(super) struct Writing(Arc<Line>);

impl WriteHalf for Writing {
    async fn write(
        &mut self,
        bytes: &[u8],
        descriptors: &[impl std::os::fd::AsFd],
        _credentials: Option<&PassedCredentials>,
    ) -> zlink::Result<()> {
        if !descriptors.is_empty() {
            return Err(io::Error::other("this door gives no descriptors").into());
        }
        let sent = timeout(PATIENCE, send(self.0.connection.get()?, bytes)).await;
        Ok(sent.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??)
    }
}

async fn send(connection: &AsyncFd<OwnedFd>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let mut ready = connection.writable().await?;
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let tried =
            ready.try_io(|connection| Ok(rustix::net::send(connection.get_ref(), bytes, flags)?));
        if let Ok(sent) = tried {
            bytes = bytes.get(sent?..).unwrap_or_default();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::seats::{Ledger, Room};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    fn bounded() -> (Reading, Writing, UnixStream) {
        let (near, far) = UnixStream::pair().expect("a pair");
        near.set_nonblocking(true).expect("set");
        let seat = Ledger::new(Room { each: 1, all: 1 }).take(0).expect("a seat");
        let socket = Bounded::new(near.into(), 0, seat, Parting::new()).expect("registered");
        let (reading, writing) = socket.split();
        (reading, writing, far)
    }

    async fn read_all(reading: &mut Reading) -> zlink::Result<()> {
        let mut buffer = vec![0; 4096];
        while reading.read(&mut buffer).await?.bytes_read() > 0 {}
        Ok(())
    }

    #[tokio::test]
    async fn a_message_over_64_kib_ends_the_connection() {
        let (mut reading, _writing, mut far) = bounded();
        let sender = std::thread::spawn(move || {
            // The connection may be closed in the middle of it.
            let _ = std::io::Write::write_all(&mut far, &vec![b'x'; 70 * 1024]);
        });
        let error = read_all(&mut reading).await.expect_err("too large");
        assert!(matches!(error, zlink::Error::BufferOverflow), "{error}");
        drop((reading, _writing));
        sender.join().expect("ended");
    }

    #[tokio::test]
    async fn many_small_messages_are_no_large_one() {
        let (mut reading, _writing, mut far) = bounded();
        let sender = std::thread::spawn(move || {
            let message = [vec![b'x'; 1023], vec![0]].concat();
            (0..100).for_each(|_| std::io::Write::write_all(&mut far, &message).expect("sent"));
        });
        read_all(&mut reading).await.expect("all of them");
        sender.join().expect("ended");
    }

    #[tokio::test]
    async fn descriptors_are_seen_and_not_taken() {
        let (mut reading, _writing, far) = bounded();
        let (pipe, _end) = std::io::pipe().expect("a pipe");
        sys::send_datagram(&far, b"hello\0", &[pipe.as_fd()], SendFlags::empty()).expect("sent");
        let error = reading.read(&mut [0; 64]).await.expect_err("refused").to_string();
        assert!(error.contains("no descriptors"), "{error}");
    }

    #[tokio::test]
    async fn descriptors_out_of_band_are_seen_too() {
        use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
        let (mut reading, _writing, far) = bounded();
        let (pipe, _end) = std::io::pipe().expect("a pipe");
        let fds = [std::os::fd::AsRawFd::as_raw_fd(&pipe)];
        let rights = [ControlMessage::ScmRights(&fds)];
        let bytes = [io::IoSlice::new(b"x")];
        let to = std::os::fd::AsRawFd::as_raw_fd(&far);
        sendmsg::<()>(to, &bytes, &rights, MsgFlags::MSG_OOB, None).expect("sent");
        let error = reading.read(&mut [0; 64]).await.expect_err("refused").to_string();
        assert!(error.contains("no descriptors"), "{error}");
    }

    fn is_timeout(error: &zlink::Error) -> bool {
        matches!(error, zlink::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
    }

    #[tokio::test]
    async fn a_silent_connection_is_not_kept() {
        let (mut reading, _writing, mut far) = bounded();
        reading.patience.idle = Duration::from_millis(20);
        std::io::Write::write_all(&mut far, b"one\0").expect("sent");
        reading.read(&mut [0; 64]).await.expect("a message");
        let error = reading.read(&mut [0; 64]).await.expect_err("idle");
        assert!(is_timeout(&error), "{error}");
    }

    #[tokio::test]
    async fn a_message_that_trickles_in_is_not_waited_for() {
        let (mut reading, _writing, mut far) = bounded();
        // What has begun is due then, however often more of it comes.
        reading.due = Some(Instant::now() + Duration::from_millis(100));
        let trickle = std::thread::spawn(move || {
            // Until the connection is closed.
            while std::io::Write::write_all(&mut far, b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let error = read_all(&mut reading).await.expect_err("too slow");
        assert!(is_timeout(&error), "{error}");
        drop((reading, _writing));
        trickle.join().expect("ended");
    }
}
