//! The servers of one tenant and their connections.
//!
//! ```text
//! control socket --Serve--> one task a server --Opened--> one task a listener --accept--> one a connection
//!                                   \--its doors socket ends: all of its tasks end
//! ```
//!
//! When the control socket has ended and the last server is gone, so is this process.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, SendFlags, sockopt};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::allow::{Allowlist, Host};
use super::budget::{Budget, CONNECTIONS, Place};
use super::dial::{Dialer, NoWay};
use super::inject::{self, Injector, Means, Target};
use super::log::{Entry, Log, Verdict};
use super::relay::{End, relay};
use super::{LISTENERS_MAX, proxy};
use crate::names::ServerName;
use crate::post::{self, PostError};
use crate::wire::CELL_DATAGRAM;
use crate::wire::egress::{FromEgress, Listener, Opened, ToEgress, Way};

/// How long nothing is taken when descriptors have run out.
const SHORT_OF: Duration = Duration::from_millis(100);

/// What all servers of the tenant share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dialer: Dialer,
    pub(super) budget: Rc<Budget>,
    pub(super) log: Rc<Log>,
    /// Which credentials of which servers were refused by their hosts, until the supervisor is told.
    refused: RefCell<BTreeSet<(ServerName, String)>>,
    asked: Notify,
}

impl Shared {
    /// A host did not accept a credential: the supervisor is asked for another value.
    pub(super) fn refused(&self, server: &ServerName, credential: &str) {
        self.refused.borrow_mut().insert((server.clone(), credential.to_owned()));
        self.asked.notify_one();
    }
}

/// Serves until the supervisor and every server are gone.
pub(super) async fn serve(control: AsyncFd<OwnedFd>, shared: Rc<Shared>) {
    let (mut servers, mut control) = (JoinSet::new(), Some(control));
    let mut buffer = vec![0; CELL_DATAGRAM];
    while control.is_some() || !servers.is_empty() {
        tokio::select! {
            heard = hear(control.as_ref(), &mut buffer) => match heard {
                Ok((message, descriptors)) => {
                    if let Err(error) = obey(message, descriptors, &shared, &mut servers) {
                        complain(&format!("what the supervisor said: {error}"));
                    }
                }
                Err(_) => control = None,
            },
            () = shared.log.full.notified() => {
                if let Some(control) = &control {
                    // A supervisor that is behind is asked by a later line.
                    let _ = post::send(control.get_ref(), &FromEgress::LogFull, &[], SendFlags::DONTWAIT);
                }
            }
            () = shared.asked.notified() => {
                for (server, credential) in shared.refused.take() {
                    let Some(control) = &control else { continue };
                    let refused = FromEgress::Refused { server, credential };
                    // Who is told later waits in vain, and asks again.
                    let _ = post::send(control.get_ref(), &refused, &[], SendFlags::DONTWAIT);
                }
            }
            Some(_) = servers.join_next(), if !servers.is_empty() => {}
        }
    }
}

/// To stderr, which is the tenant's log of its servers.
pub(super) fn complain(what: &str) {
    use std::io::Write as _;
    // Nobody else could be told.
    let _ = writeln!(io::stderr(), "tenantd egress: {what}");
}

/// The next message; never one without a socket.
pub(super) async fn hear<T: serde::de::DeserializeOwned>(
    socket: Option<&AsyncFd<OwnedFd>>,
    buffer: &mut [u8],
) -> Result<(T, Vec<OwnedFd>), PostError> {
    let Some(socket) = socket else { return std::future::pending().await };
    loop {
        let mut ready = socket.readable().await?;
        match post::receive(socket.get_ref(), buffer, RecvFlags::DONTWAIT) {
            Err(PostError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                ready.clear_ready()
            }
            heard => return heard,
        }
    }
}

fn obey(
    message: ToEgress,
    descriptors: Vec<OwnedFd>,
    shared: &Rc<Shared>,
    servers: &mut JoinSet<()>,
) -> Result<(), PostError> {
    match message {
        ToEgress::Serve => {
            let mut descriptors = descriptors;
            let more = descriptors.split_off(descriptors.len().min(2));
            let [way, doors] = post::exactly(descriptors)?;
            let way: Way = post::unseal(way)?;
            let means = match way.inject.is_empty() {
                true => post::exactly::<0>(more).map(|[]| None)?,
                false => {
                    let [secrets, authorities] = post::exactly(more)?;
                    Some(Means { secrets: heard(secrets)?, authorities })
                }
            };
            servers.spawn_local(attend(way, heard(doors)?, means, shared.clone()));
        }
        ToEgress::Log => {
            let [file] = post::exactly(descriptors)?;
            shared.log.rotate(File::from(file));
        }
    }
    Ok(())
}

/// A socket that messages are heard on.
fn heard(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    crate::sys::watch(socket)
}

/// One server's way out.
#[derive(Debug)]
struct Exit {
    server: ServerName,
    allowed: Allowlist,
    injector: Option<Rc<Injector>>,
    shared: Rc<Shared>,
}

/// Takes a server's listeners until its doors socket ends; what belongs to it ends with it.
async fn attend(way: Way, doors: AsyncFd<OwnedFd>, means: Option<Means>, shared: Rc<Shared>) {
    let (mut listening, mut count) = (JoinSet::new(), 0);
    let allowed = Allowlist::new(&way.allowed);
    let injector = means.and_then(|Means { secrets, authorities }| {
        let made = Injector::new(&way, &allowed, authorities, shared.clone());
        // Its names lead nowhere then.
        let made = made.inspect_err(|error| complain(&format!("no injection: {error}"))).ok()?;
        listening.spawn_local(made.clone().attend(secrets));
        Some(made)
    });
    let exit = Rc::new(Exit { allowed, injector, server: way.server, shared });
    let mut buffer = vec![0; CELL_DATAGRAM];
    // Anything else than its listeners is as good as its end.
    while let Ok((Opened { listeners }, descriptors)) = hear(Some(&doors), &mut buffer).await {
        count += listeners.len();
        if listeners.len() != descriptors.len() || count > LISTENERS_MAX {
            break;
        }
        for (listener, socket) in listeners.into_iter().zip(descriptors) {
            // One that the allowlist does not know is closed unheard.
            if let (Some(door), Ok(socket)) = (exit.door(&listener), listening_socket(socket)) {
                listening.spawn_local(take(exit.clone(), door, socket));
            }
        }
    }
}

/// Where the connections of a listener lead; said by each of them where it is the proxy.
#[derive(Debug, Clone)]
enum Door {
    To(Host, u16),
    Proxy,
    Inject(Rc<Injector>, Rc<Target>),
}

impl Exit {
    fn door(&self, listener: &Listener) -> Option<Door> {
        match listener {
            Listener::Proxy => Some(Door::Proxy),
            Listener::Door { host, port } => {
                if let Some(door) = self.injection(host, *port) {
                    return Some(door);
                }
                let host = Host::parse(host)?;
                self.allowed.reach(&host, *port)?;
                Some(Door::To(host, *port))
            }
        }
    }

    fn injection(&self, name: &str, port: u16) -> Option<Door> {
        let injector = self.injector.as_ref().filter(|_| port == inject::PORT)?;
        Some(Door::Inject(injector.clone(), injector.door(name)?))
    }

    /// The line of a connection that is not taken.
    fn entry(&self, door: &Door) -> Entry {
        let mut entry = Entry::new(&self.shared.log, &self.server);
        match door {
            Door::To(host, port) => entry.to = Some((host.to_string(), *port)),
            Door::Inject(_, target) => target.note(&mut entry),
            Door::Proxy => {}
        }
        entry
    }
}

fn listening_socket(socket: OwnedFd) -> io::Result<TcpListener> {
    if !sockopt::socket_acceptconn(&socket)? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::io::ioctl_fionbio(&socket, true)?;
    TcpListener::from_std(socket.into())
}

/// Takes the connections of one listener.
async fn take(exit: Rc<Exit>, door: Door, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next(), if !connections.is_empty() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                exit.shared.budget.turn().await;
                match exit.shared.budget.place() {
                    Some(place) => {
                        connections.spawn_local(serve_one(
                            exit.clone(),
                            door.clone(),
                            stream,
                            place,
                        ));
                    }
                    None => {
                        reset(&stream);
                        let why = format!("the tenant has {CONNECTIONS} connections open");
                        exit.entry(&door).end(Verdict::Denied, why);
                    }
                }
            }
            // Its program went again before it was taken.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(SHORT_OF).await,
        }
    }
}

/// One connection, from its first byte to its last.
async fn serve_one(exit: Rc<Exit>, door: Door, inner: TcpStream, place: Place) {
    // Small answers leave at once, as they came.
    let _ = inner.set_nodelay(true);
    match door {
        Door::Inject(injector, target) => inject::serve(injector, target, inner).await,
        Door::To(host, port) => connect(exit, Some((host, port)), inner).await,
        Door::Proxy => connect(exit, None, inner).await,
    }
    drop(place);
}

/// A connection that is passed on as it is, to where its listener leads or to where it asks to go.
async fn connect(exit: Rc<Exit>, to: Option<(Host, u16)>, mut inner: TcpStream) {
    let asked = to.is_none();
    let mut entry = Entry::new(&exit.shared.log, &exit.server);
    let (host, port, early) = match to {
        Some((host, port)) => (host, port, Vec::new()),
        None => match proxy::request(&mut inner).await {
            Ok(wanted) => (wanted.host, wanted.port, wanted.early),
            Err(wrong) => {
                proxy::refuse(&mut inner, wrong.status(), &wrong.to_string()).await;
                return entry.end(Verdict::Denied, wrong.to_string());
            }
        },
    };
    entry.to = Some((host.to_string(), port));
    let Some(reach) = exit.allowed.reach(&host, port) else {
        let why = format!("{host}:{port} is not in sandbox.network of this server");
        proxy::refuse(&mut inner, "403 Forbidden", &why).await;
        return entry.end(Verdict::Denied, why);
    };
    let dialled = match exit.shared.dialer.dial(&host, port, reach).await {
        Ok(dialled) => dialled,
        Err(error) => {
            let why = error.to_string();
            if asked {
                proxy::refuse(&mut inner, status(&error), &format!("{host}:{port}: {why}")).await;
            } else {
                reset(&inner);
            }
            let verdict = if error.is_refusal() { Verdict::Denied } else { Verdict::Failed };
            return entry.end(verdict, why);
        }
    };
    let (mut outer, answered) = (dialled.stream, dialled.early);
    entry.address = Some(dialled.address);
    if asked && proxy::accept(&mut inner).await.is_err() {
        return entry.end(Verdict::Failed, "the server went while its destination was dialled");
    }
    (entry.verdict, entry.why) = (Verdict::Allowed, "its server ended".to_owned());
    let end = relay(&mut inner, &mut outer, (&early, &answered), &entry.traffic).await;
    let why = match end {
        End::Closed => "closed".to_owned(),
        End::Idle => "nothing came for too long".to_owned(),
        End::Broken(error) => {
            // What broke on one side breaks on the other.
            reset(&inner);
            reset(&outer);
            error.to_string()
        }
    };
    entry.end(Verdict::Allowed, why);
}

/// The status that says why there is no connection (RFC 9110, section 15).
fn status(error: &NoWay) -> &'static str {
    match error {
        error if error.is_refusal() => "403 Forbidden",
        NoWay::TimedOut => "504 Gateway Timeout",
        _ => "502 Bad Gateway",
    }
}

/// Makes the close that follows a reset: its peer is to see an error, not an end.
fn reset(stream: &TcpStream) {
    // Then it sees an end.
    let _ = sockopt::set_socket_linger(stream, Some(Duration::ZERO));
}

/// What all servers of a tenant share.
pub(super) fn shared(dialer: Dialer, log: Log) -> Rc<Shared> {
    let (budget, log) = (Budget::new(Instant::now()), Rc::new(log));
    let (refused, asked) = (RefCell::default(), Notify::new());
    Rc::new(Shared { dialer, budget, log, refused, asked })
}
