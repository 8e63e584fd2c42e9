//! The hosts outside: connections by HTTPS, kept for the next request.
//!
//! One connection for all requests where the host speaks HTTP/2, one for each request at a time where it
//! speaks HTTP/1.1. A connection is made to the host that the configuration names, by the same judged
//! resolution as all others, and is of use only when its certificate is that host's.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::body::Outgoing;
use crate::egress::allow::{Host, Reach};
use crate::egress::dial::{Dialer, NoWay};

/// How long the handshake of TLS may take.
const TLS_WITHIN: Duration = Duration::from_secs(15);
/// How long a connection that nobody uses is kept: hosts keep theirs for a minute or more.
const IDLE: Duration = Duration::from_secs(50);
/// The most of them to one host.
const IDLE_MAX: usize = 16;
/// The longest head of an answer, bytes.
pub(super) const HEAD_MAX: u32 = 64 * 1024;
/// The most fields of an answer's head.
const FIELDS_MAX: usize = 200;
/// A host that is silent for so long in the middle of something is asked whether it is there.
const PING_AFTER: Duration = Duration::from_secs(60);
const PING_WITHIN: Duration = Duration::from_secs(20);
/// How much of an answer may wait for a slow reader, bytes: for each stream, and for all of a connection.
const WINDOW: u32 = 256 * 1024;
const WINDOW_ALL: u32 = 1024 * 1024;

/// Why a host was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    #[error(transparent)]
    NoWay(#[from] NoWay),
    /// Not who the configuration names.
    #[error("its certificate is refused: {0}")]
    Certificate(rustls::Error),
    /// The handshake failed otherwise.
    #[error("no TLS with it: {0}")]
    Tls(io::Error),
    /// The handshake took too long.
    #[error("no TLS with it in time")]
    TlsLate,
    /// Neither protocol was agreed upon.
    #[error("no HTTP with it: {0}")]
    Http(#[from] hyper::Error),
}

/// Runs what hyper's connections need on this thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        drop(tokio::task::spawn_local(async move { drop(future.await) }));
    }
}

/// A connection to send one request on.
#[derive(Debug)]
pub(super) enum Sender {
    One(http1::SendRequest<Outgoing>),
    Two(http2::SendRequest<Outgoing>),
}

/// A connection, and where it came from.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) sender: Sender,
    /// Whether it served a request before: then the host may just have closed it.
    pub(super) used: bool,
    pub(super) address: std::net::SocketAddr,
}

/// One that waits for the next request.
#[derive(Debug)]
struct Waiting {
    sender: http1::SendRequest<Outgoing>,
    since: Instant,
    address: std::net::SocketAddr,
}

/// One host outside and the connections to it.
#[derive(Debug)]
pub(super) struct Upstream {
    host: Host,
    port: u16,
    reach: Reach,
    name: ServerName<'static>,
    tls: Arc<ClientConfig>,
    one: RefCell<Vec<Waiting>>,
    two: RefCell<Option<(http2::SendRequest<Outgoing>, std::net::SocketAddr)>>,
    /// Whether it is known to speak HTTP/1.1: then connections are made side by side.
    speaks_one: Cell<bool>,
    /// Held while a connection is made that many may share.
    making: tokio::sync::Mutex<()>,
}

impl Upstream {
    /// Nothing where the host can be no name of a certificate.
    pub(super) fn new(
        host: Host,
        port: u16,
        reach: Reach,
        tls: Arc<ClientConfig>,
    ) -> Option<Rc<Self>> {
        let name = ServerName::try_from(host.to_string()).ok()?;
        let (one, two) = (RefCell::default(), RefCell::default());
        let (speaks_one, making) = (Cell::new(false), tokio::sync::Mutex::new(()));
        Some(Rc::new(Self { host, port, reach, name, tls, one, two, speaks_one, making }))
    }

    /// A connection for one request, a kept one where there is one.
    pub(super) async fn line(&self, dialer: &Dialer, fresh: bool) -> Result<Line, Unreached> {
        if let Some(line) = self.kept(fresh) {
            return Ok(line);
        }
        if self.speaks_one.get() {
            return self.make(dialer).await;
        }
        let _making = self.making.lock().await;
        match self.kept(fresh) {
            Some(line) => Ok(line),
            None => self.make(dialer).await,
        }
    }

    fn kept(&self, fresh: bool) -> Option<Line> {
        let mut two = self.two.borrow_mut();
        if let Some((sender, address)) = two.as_ref() {
            if sender.is_ready() {
                let sender = Sender::Two(sender.clone());
                return Some(Line { sender, used: true, address: *address });
            }
            *two = None;
        }
        if fresh {
            return None;
        }
        let mut one = self.one.borrow_mut();
        while let Some(Waiting { sender, since, address }) = one.pop() {
            if sender.is_ready() && since.elapsed() < IDLE {
                return Some(Line { sender: Sender::One(sender), used: true, address });
            }
        }
        None
    }

    /// Keeps a connection for the next request, once the answer to this one has been read.
    pub(super) fn keep(
        self: &Rc<Self>,
        mut sender: http1::SendRequest<Outgoing>,
        address: std::net::SocketAddr,
    ) {
        let this = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            if sender.ready().await.is_err() {
                return;
            }
            let Some(this) = this.upgrade() else { return };
            let mut one = this.one.borrow_mut();
            one.retain(|waiting| waiting.since.elapsed() < IDLE && !waiting.sender.is_closed());
            if one.len() < IDLE_MAX {
                one.push(Waiting { sender, since: Instant::now(), address });
            }
        });
    }

    /// Closes what nobody has used for long; never ends.
    pub(super) async fn tend(self: Rc<Self>) {
        loop {
            tokio::time::sleep(IDLE / 2).await;
            self.one.borrow_mut().retain(|waiting| waiting.since.elapsed() < IDLE);
            self.two.borrow_mut().take_if(|(sender, _)| sender.is_closed());
        }
    }

    async fn make(&self, dialer: &Dialer) -> Result<Line, Unreached> {
        let dialled = dialer.dial(&self.host, self.port, self.reach).await?;
        if !dialled.early.is_empty() {
            let early = io::Error::new(io::ErrorKind::InvalidData, "it spoke before it was asked");
            return Err(Unreached::Tls(early));
        }
        let (address, stream) = (dialled.address, self.secured(dialled.stream).await?);
        let two = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        self.speaks_one.set(!two);
        let stream = TokioIo::new(stream);
        let sender = if two {
            let mut builder = http2::Builder::new(Local);
            builder.timer(TokioTimer::new());
            builder.initial_stream_window_size(WINDOW).initial_connection_window_size(WINDOW_ALL);
            builder.keep_alive_interval(PING_AFTER).keep_alive_timeout(PING_WITHIN);
            builder.max_header_list_size(HEAD_MAX);
            let (sender, connection) = builder.handshake(stream).await?;
            Local.execute(connection);
            self.two.replace(Some((sender.clone(), address)));
            Sender::Two(sender)
        } else {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(HEAD_MAX as usize).max_headers(FIELDS_MAX);
            let (sender, connection) = builder.handshake(stream).await?;
            Local.execute(connection);
            Sender::One(sender)
        };
        Ok(Line { sender, used: false, address })
    }

    async fn secured(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, Unreached> {
        let connector = TlsConnector::from(self.tls.clone());
        let secured = connector.connect(self.name.clone(), stream);
        let secured = tokio::time::timeout(TLS_WITHIN, secured).await;
        secured.map_err(|_| Unreached::TlsLate)?.map_err(|error| {
            let own = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match own {
                Some(refused @ rustls::Error::InvalidCertificate(_)) => {
                    Unreached::Certificate(refused.clone())
                }
                _ => Unreached::Tls(error),
            }
        })
    }
}
