//! The control API: our own accept loop, one zlink server for each connection, and the service itself.
//!
//! A handler knows who asks and nothing else: it posts its question to the loop and awaits a ticket.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use tokio::sync::oneshot;
use zlink::{ReadyListener, Server};

use super::logins::LoginWish;
use super::message::{ControlAsk, ControlWhat, Handle, Message, Reply};
use super::parting::Parting;
use super::probe::ProbeWish;
use super::seats::{Ledger, Room, Seat};
use super::secrets::RemoveWish;
use super::shortage::{BREATH, Spare, is_shortage};
use super::socket::{Bounded, Guarded};
use crate::auth::{Directory, Ids, Nobodies, Principal, identify};
use crate::control::{
    ChildStatus, ControlError, CredentialLine, CredentialsReply, ListReply, LoggedOutReply,
    LoginEndpoint, LoginReply, ProbeReply, RefusalLine, ReloadReply, RemovedReply, ReplacedReply,
    ServerStatus, SessionStatus, StartLine, StatusReply, StderrLines, SupervisorStatus, TenantLine,
    TenantReply, TenantStatus, WhyReply,
};
use crate::sys;

/// Connections at a time: a person's commands are short.
pub(super) const SEATS: Room = Room { each: 16, all: 128 };
/// How long a handler waits for the loop; a stop waits for a whole drain.
const TICKET: Duration = Duration::from_secs(60);

/// What the accept loop needs.
pub(super) struct Counter {
    pub(super) house: Handle,
    pub(super) directory: Directory,
    pub(super) nobodies: Arc<Mutex<Nobodies>>,
    pub(super) parting: Parting,
    /// Its connections.
    pub(super) seats: Ledger,
}

impl Counter {
    /// Accepts until it is aborted.
    pub(super) async fn run(self, listener: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        // Connections inherit it; where the kernel cannot, the socket type looks for itself.
        sys::refuse_descriptors(&listener);
        let listener = Guarded::new(listener, u32::MAX, self.parting.clone())?;
        let mut spare = Spare::new();
        loop {
            let mut ready = listener.get()?.readable().await?;
            match ready.try_io(|listener| Ok(accept(listener.get_ref())?)) {
                Ok(Ok(connection)) => self.receive(connection),
                Ok(Err(error)) if Errno::from_io_error(&error).is_some_and(is_shortage) => {
                    tracing::warn!("no descriptor left: the control door turns a connection away");
                    let accepted =
                        spare.accept(|| accept(listener.get().map_err(|_| Errno::BADF)?.get_ref()));
                    if let Some(connection) = accepted {
                        self.turn_away(connection);
                    }
                    tokio::time::sleep(BREATH).await;
                }
                Ok(Err(_)) | Err(_) => {}
            }
            spare.renew();
        }
    }

    fn receive(&self, connection: OwnedFd) {
        let uid = sys::peer_credentials(&connection).map_or(u32::MAX, |peer| peer.uid);
        let Some(seat) = self.seats.take(uid) else { return self.turn_away(connection) };
        let (house, directory) = (self.house.clone(), self.directory.clone());
        let (nobodies, parting) = (self.nobodies.clone(), self.parting.clone());
        tokio::task::spawn_local(async move {
            let nobodies = *nobodies.lock().unwrap_or_else(PoisonError::into_inner);
            // Names may take long to look up; the connection comes back in any case.
            let known = tokio::task::spawn_blocking(move || {
                let who = identify(&connection, &nobodies, &directory);
                (connection, who.map(|who| (who, directory.ids())))
            });
            let Ok((connection, who)) = known.await else { return };
            match who {
                Ok((principal, ids)) => {
                    serve(house, principal, ids, connection, seat, parting).await
                }
                Err(error) => {
                    tracing::warn!("a control connection was refused: {error}");
                    parting.close(uid, connection);
                }
            }
        });
    }

    fn turn_away(&self, connection: OwnedFd) {
        let uid = sys::peer_credentials(&connection).map_or(u32::MAX, |peer| peer.uid);
        self.parting.close(uid, connection);
    }
}

fn accept(listener: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

async fn serve(
    house: Handle,
    principal: Principal,
    ids: Arc<Ids>,
    connection: OwnedFd,
    seat: Seat,
    parting: Parting,
) {
    let uid = principal.uid;
    let socket = match Bounded::new(connection, uid, seat, parting) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(uid, "a control connection failed: {error}"),
    };
    let service = Service { house, principal, ids };
    // How a client's connection ends is the client's business.
    if let Err(error) = Server::new(ReadyListener::new(socket), service).run().await {
        tracing::debug!(uid, "a control connection ended: {error}");
    }
}

/// The service of one connection.
struct Service {
    house: Handle,
    principal: Principal,
    ids: Arc<Ids>,
}

impl Service {
    async fn ask<T>(&self, what: impl FnOnce(Reply<T>) -> ControlWhat) -> Result<T, ControlError> {
        let (reply, ticket) = oneshot::channel();
        let (principal, ids) = (self.principal.clone(), self.ids.clone());
        let ask = ControlAsk { principal, ids, what: what(reply) };
        let gone = |_| ControlError::Failed { reason: "the supervisor is stopping".to_owned() };
        self.house.say(Message::Control(Box::new(ask))).await.map_err(gone)?;
        let late = || ControlError::Failed { reason: "the supervisor does not answer".to_owned() };
        let answer = tokio::time::timeout(TICKET, ticket).await.map_err(|_| late())?;
        answer.map_err(|_| late())?
    }
}

#[zlink::service(
    interface = "io.tenantd.Supervisor",
    vendor = "tenantd",
    product = "tenantd",
    version = env!("CARGO_PKG_VERSION"),
    url = "https://github.com/tenantd/tenantd",
    types = [SupervisorStatus, TenantStatus, ServerStatus, ChildStatus, SessionStatus, TenantLine, RefusalLine, StartLine, StderrLines, CredentialLine, LoginEndpoint]
)]
impl Service {
    async fn status(&self) -> Result<StatusReply, ControlError> {
        self.ask(ControlWhat::Status).await
    }

    async fn list_tenants(&self) -> Result<ListReply, ControlError> {
        self.ask(ControlWhat::List).await
    }

    async fn get_tenant(&self, tenant: String) -> Result<TenantReply, ControlError> {
        self.ask(|reply| ControlWhat::Get(tenant, reply)).await
    }

    async fn why(&self, tenant: String) -> Result<WhyReply, ControlError> {
        self.ask(|reply| ControlWhat::Why(tenant, reply)).await
    }

    async fn reload(&self) -> Result<ReloadReply, ControlError> {
        self.ask(ControlWhat::Reload).await
    }

    async fn restart_server(
        &self,
        tenant: String,
        server: Option<String>,
    ) -> Result<(), ControlError> {
        self.ask(|reply| ControlWhat::Restart(tenant, server, reply)).await
    }

    async fn restart_supervisor(&self) -> Result<ReplacedReply, ControlError> {
        self.ask(ControlWhat::Replace).await
    }

    async fn probe_tenant(
        &self,
        tenant: String,
        server: Option<String>,
        brief: String,
    ) -> Result<ProbeReply, ControlError> {
        let wish = ProbeWish { tenant, server, brief };
        self.ask(|reply| ControlWhat::Probe(wish, reply)).await
    }

    async fn list_credentials(
        &self,
        tenant: Option<String>,
    ) -> Result<CredentialsReply, ControlError> {
        self.ask(|reply| ControlWhat::Credentials(tenant, reply)).await
    }

    async fn remove_credential(
        &self,
        tenant: String,
        name: String,
        user: Option<String>,
    ) -> Result<RemovedReply, ControlError> {
        let wish = RemoveWish { tenant, name, user };
        self.ask(|reply| ControlWhat::RemoveCredential(wish, reply)).await
    }

    async fn login(&self, tenant: String, name: String) -> Result<LoginReply, ControlError> {
        self.ask(|reply| ControlWhat::Login(tenant, name, LoginWish::Describe(reply))).await
    }

    async fn logout(&self, tenant: String, name: String) -> Result<LoggedOutReply, ControlError> {
        self.ask(|reply| ControlWhat::Login(tenant, name, LoginWish::End(reply))).await
    }

    async fn stop(&self) -> Result<(), ControlError> {
        self.ask(ControlWhat::Stop).await
    }
}
