//! What is said to the supervisor's loop, and the handle that says it.
//!
//! Every verb returns a ticket or nothing; nobody but the loop touches its state.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::child::{NotReady, Prepared};
use super::logins::LoginWish;
use super::probe::{ProbeWish, Run};
use super::secrets::{RemoveWish, SecretNews, SetAsk};
use super::storage::Look;
use crate::auth::uids::Uids;
use crate::auth::{Ids, Principal};
use crate::config::load::Loaded;
use crate::control::{
    ControlError, CredentialsReply, ListReply, ProbeReply, ReloadReply, RemovedReply,
    ReplacedReply, StatusReply, TenantReply, WhyReply,
};
use crate::names::{ServerName, SessionId, Target, TenantId};
use crate::sandbox::cgroup::Bounds;
use crate::wire::credential::Account;
use crate::wire::{FromMux, Refusal, ToMux};

/// Messages that wait for the loop: one for each seat of the session door.
pub(super) const INBOX: usize = 256;
/// Slips on their way back: each stands for a door thread, so they never fill it.
pub(super) const SLIPS: usize = 512;

/// Somebody wants a session.
#[derive(Debug)]
pub(super) struct OpenAsk {
    pub(super) principal: Principal,
    pub(super) ids: Arc<Ids>,
    pub(super) target: Target,
    pub(super) wish: Wish,
    /// After this nobody waits for the answer.
    pub(super) deadline: Instant,
    /// Has room for the one answer, so the loop never waits.
    pub(super) reply: SyncSender<Admission>,
}

/// What somebody wants of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// To hear whether it is known.
    Known,
    /// A session; a strict one is refused at once where it could wait for a cure.
    Session { strict: bool },
}

/// The answer to [`OpenAsk`].
#[derive(Debug)]
pub(super) enum Admission {
    Refused(Refusal),
    Known,
    Pass(Box<Pass>),
}

/// Leave to send a client's descriptors to a mux.
#[derive(Debug)]
pub(super) struct Pass {
    /// The connection to the mux.
    pub(super) line: Arc<OwnedFd>,
    /// What to send.
    pub(super) open: ToMux,
    pub(super) tenant: TenantId,
    pub(super) server: ServerName,
    pub(super) session: SessionId,
    pub(super) slip: Slip,
}

/// A session on its way to a mux. Says by its drop how that ended, so that the mux is not let go while
/// something is on its way, and so that a session that never arrived is not counted.
#[derive(Debug)]
pub(super) struct Slip {
    pub(super) back: mpsc::Sender<Returned>,
    pub(super) returned: Returned,
}

/// See [`Slip`].
#[derive(Debug, Clone)]
pub(super) struct Returned {
    pub(super) tenant: TenantId,
    pub(super) cell: u64,
    pub(super) session: SessionId,
    pub(super) sent: bool,
}

impl Slip {
    /// The descriptors are with the mux.
    pub(super) fn sent(mut self) {
        self.returned.sent = true;
    }
}

impl Drop for Slip {
    fn drop(&mut self) {
        // Fails only where the loop has ended.
        let _ = self.back.try_send(self.returned.clone());
    }
}

/// What happened to a cell.
#[derive(Debug)]
pub(super) enum CellNews {
    /// The mux said something.
    Said(Box<FromMux>),
    /// Its process has ended.
    Gone,
    /// It cannot be talked to: what it said or did.
    Broken(String),
    /// A child's directories are ready, or not.
    Prepared { child: u64, server: ServerName, prepared: Result<Box<Prepared>, NotReady> },
    /// A secret that a host had refused was renewed for one child.
    Renewed { child: u64, account: Account },
    /// A later value of a secret did not reach a running child.
    NotRenewed { child: u64, server: ServerName, reason: String },
}

/// What happened to an egress.
#[derive(Debug, Clone)]
pub(super) enum EgressNews {
    /// Its log is full.
    LogFull,
    /// A host did not accept a credential of a server's.
    Refused { server: ServerName, credential: String },
    /// It has ended, or cannot be talked to.
    Gone,
}

/// A question from the control API.
#[derive(Debug)]
pub(super) struct ControlAsk {
    pub(super) principal: Principal,
    pub(super) ids: Arc<Ids>,
    pub(super) what: ControlWhat,
}

/// A ticket's other half.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ControlError>>;

/// The methods of the control API.
#[derive(Debug)]
pub(super) enum ControlWhat {
    Status(Reply<StatusReply>),
    List(Reply<ListReply>),
    Get(String, Reply<TenantReply>),
    Why(String, Reply<WhyReply>),
    Reload(Reply<ReloadReply>),
    Restart(String, Option<String>, Reply<()>),
    Replace(Reply<ReplacedReply>),
    Stop(Reply<()>),
    Probe(ProbeWish, Reply<ProbeReply>),
    Credentials(Option<String>, Reply<CredentialsReply>),
    RemoveCredential(RemoveWish, Reply<RemovedReply>),
    /// About a login of a tenant's.
    Login(String, String, LoginWish),
}

/// Everything that the loop hears.
#[derive(Debug)]
pub(super) enum Message {
    Open(Box<OpenAsk>),
    /// Somebody hands over a secret.
    Set(Box<SetAsk>),
    /// Something came of a deed on a tenant's secrets.
    Secret {
        tenant: TenantId,
        news: SecretNews,
    },
    Control(Box<ControlAsk>),
    Cell {
        tenant: TenantId,
        cell: u64,
        news: CellNews,
    },
    Egress {
        tenant: TenantId,
        number: u64,
        news: EgressNews,
    },
    /// A file of the configuration changed.
    Changed,
    /// The configuration was read.
    Loaded(Box<(Loaded, Uids)>),
    /// The program on disk said its version, or why it is none.
    Tried(Result<String, String>),
    /// How much a tenant stores was looked at.
    Looked(Box<Look>),
    /// A tenant's control group was given these bounds, or why not all of them.
    Bounded {
        tenant: TenantId,
        bounds: Bounds,
        refused: Option<String>,
    },
    /// Names in grants were looked up anew.
    Named(Arc<Ids>),
    /// A run of the escape probes is prepared, or not.
    Probe(Box<Run>),
}

/// The loop is gone or going.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoopEnded;

/// How the loop is spoken to; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    inbox: mpsc::Sender<Message>,
}

impl Handle {
    pub(super) fn new() -> (Self, mpsc::Receiver<Message>) {
        let (inbox, messages) = mpsc::channel(INBOX);
        (Self { inbox }, messages)
    }

    /// From a door thread: waits while the loop is behind.
    pub(super) fn open(&self, ask: OpenAsk) -> Result<(), LoopEnded> {
        self.inbox.blocking_send(Message::Open(Box::new(ask))).map_err(|_| LoopEnded)
    }

    /// From a door thread: waits while the loop is behind.
    pub(super) fn set(&self, ask: SetAsk) -> Result<(), LoopEnded> {
        self.inbox.blocking_send(Message::Set(Box::new(ask))).map_err(|_| LoopEnded)
    }

    /// From a task.
    pub(super) async fn say(&self, message: Message) -> Result<(), LoopEnded> {
        self.inbox.send(message).await.map_err(|_| LoopEnded)
    }
}
