//! Bytes both ways between two connections, as they come, unread.
//!
//! Each direction has one buffer and reads on when that is written, so a slow reader slows its writer
//! and nothing piles up here. The end of one direction is passed on as such, and the other goes on.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The buffer of one direction, bytes: two for each of 256 connections are 8 MiB.
const BUFFER: usize = 16 * 1024;
/// How long a connection may be silent both ways: databases keep theirs open between calls. Peers that
/// are gone are found by keepalive.
const IDLE: Duration = Duration::from_secs(2 * 60 * 60);
/// How long it may be silent when one direction has ended.
const HALF_IDLE: Duration = Duration::from_secs(5 * 60);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// Both directions came to their end.
    Closed,
    /// Nothing came for too long.
    Idle,
    /// One of the two broke it.
    Broken(io::Error),
}

/// What went through, also when nobody waits for the end.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// From the server to its destination, bytes.
    pub(super) sent: Cell<u64>,
    /// Back, bytes.
    pub(super) received: Cell<u64>,
}

/// Relays until both directions have ended, or one breaks. `early` is what came already: from the server,
/// and from its destination.
pub(super) async fn relay(
    inner: &mut TcpStream,
    outer: &mut TcpStream,
    early: (&[u8], &[u8]),
    traffic: &Traffic,
) -> End {
    let (last, open) = (Cell::new(Instant::now()), Cell::new(2_u8));
    let (mut in_read, mut in_write) = inner.split();
    let (mut out_read, mut out_write) = outer.split();
    let up = pump(&mut in_read, &mut out_write, early.0, (&traffic.sent, &last, &open));
    let down = pump(&mut out_read, &mut in_write, early.1, (&traffic.received, &last, &open));
    let both = async { tokio::try_join!(up, down) };
    tokio::select! {
        ended = both => match ended {
            Ok(_) => End::Closed,
            Err(error) => End::Broken(error),
        },
        () = silence(&last, &open) => End::Idle,
    }
}

type Gauges<'a> = (&'a Cell<u64>, &'a Cell<Instant>, &'a Cell<u8>);

async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    early: &[u8],
    (count, last, open): Gauges<'_>,
) -> io::Result<()> {
    let told = |bytes: usize| {
        count.set(count.get() + bytes as u64);
        last.set(Instant::now());
    };
    to.write_all(early).await?;
    told(early.len());
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        to.write_all(bytes).await?;
        told(read);
    }
    open.set(open.get() - 1);
    last.set(Instant::now());
    // A peer that is gone for good has nothing to be told, and ends the other direction by itself.
    match to.shutdown().await {
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(error),
        _ => Ok(()),
    }
}

async fn silence(last: &Cell<Instant>, open: &Cell<u8>) {
    loop {
        let most = if open.get() < 2 { HALF_IDLE } else { IDLE };
        if last.get().elapsed() >= most {
            return;
        }
        // The limit may shrink while it is waited for, so never longer than the smaller one.
        tokio::time::sleep_until((last.get() + most).min(Instant::now() + HALF_IDLE).into()).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        (near.expect("connected"), far.expect("accepted").0)
    }

    /// Relays between a program and its destination while they do something.
    fn relayed<T>(deed: impl AsyncFnOnce(TcpStream, TcpStream) -> T) -> (T, End, u64, u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let ((program, mut inner), (destination, mut outer)) = (pair().await, pair().await);
            let traffic = Traffic::default();
            let early: (&[u8], &[u8]) = (b"early ", b"");
            let (end, done) = tokio::join!(
                relay(&mut inner, &mut outer, early, &traffic),
                deed(program, destination)
            );
            (done, end, traffic.sent.get(), traffic.received.get())
        })
    }

    #[test]
    fn an_end_goes_on_as_an_end_and_the_other_direction_stays_open() {
        let (heard, end, sent, received) = relayed(async |mut program, mut destination| {
            program.write_all(b"question").await.expect("written");
            program.shutdown().await.expect("half closed");
            let mut question = Vec::new();
            destination.read_to_end(&mut question).await.expect("up to its end");
            destination.write_all(b"an answer after it").await.expect("written");
            drop(destination);
            let mut answer = Vec::new();
            program.read_to_end(&mut answer).await.expect("up to its end");
            (question, answer)
        });
        assert_eq!(heard, (b"early question".to_vec(), b"an answer after it".to_vec()));
        assert!(matches!(end, End::Closed), "{end:?}");
        assert_eq!((sent, received), (14, 18));
    }

    #[test]
    fn who_does_not_read_is_not_written_for() {
        let (written, ..) = relayed(async |program, mut destination| {
            let mut written = 0_u64;
            // Until nothing more is taken: the buffers of two connections of the kernel's, and ours.
            loop {
                let more = destination.write(&[7; 64 * 1024]);
                match tokio::time::timeout(Duration::from_secs(2), more).await {
                    Ok(bytes) => written += bytes.expect("written") as u64,
                    Err(_) => break,
                }
            }
            drop((program, destination));
            written
        });
        assert!(written < 64 << 20, "{written} bytes were taken for who does not read");
    }
}
