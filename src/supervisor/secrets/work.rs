//! A deed on a tenant's secrets while it waits and while it is at work, and how it is refused.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use super::SECRET_TAKES;
use crate::auth::{Ids, Principal};
use crate::control::{ControlError, LoggedOutReply, RemovedReply};
use crate::names::TenantId;
use crate::policy::reason::{CONFIGURATION, UNAVAILABLE, refusal};
use crate::supervisor::child::NotReady;
use crate::supervisor::credentials::Outcome;
use crate::supervisor::message::Reply;
use crate::supervisor::status::answer;
use crate::wire::credential::{Account, Source, Trouble, Wanted};
use crate::wire::{Answer, Identity, Refusal};

/// Somebody hands over a secret to be kept.
#[derive(Debug)]
pub(in crate::supervisor) struct SetAsk {
    pub(in crate::supervisor) principal: Principal,
    pub(in crate::supervisor) ids: Arc<Ids>,
    pub(in crate::supervisor) tenant: TenantId,
    pub(in crate::supervisor) name: String,
    /// Where the client took it from.
    pub(in crate::supervisor) source: Source,
    /// Whether there must be one already.
    pub(in crate::supervisor) rotate: bool,
    /// Sealed, and never read here.
    pub(in crate::supervisor) secret: OwnedFd,
    /// After this nobody waits for the answer.
    pub(in crate::supervisor) deadline: Instant,
    /// Has room for the one answer, so the loop never waits.
    pub(in crate::supervisor) reply: SyncSender<Result<Answer, Refusal>>,
}

/// Somebody wants a secret removed.
#[derive(Debug)]
pub(in crate::supervisor) struct RemoveWish {
    pub(in crate::supervisor) tenant: String,
    pub(in crate::supervisor) name: String,
    /// Whose, where it is not the asker's own.
    pub(in crate::supervisor) user: Option<String>,
}

/// What came of a deed.
#[derive(Debug)]
pub(in crate::supervisor) enum SecretNews {
    /// The role has ended.
    Done(Box<Work>, Outcome),
    /// The index was written, or why not.
    Written(Result<(), String>),
    /// The token of a login is to be renewed; with the number of its timer.
    Due(Account, u64),
    /// The role handed these over, until then.
    Met(Vec<(Account, Option<i64>)>),
    /// What came of a renewal: until when the next token holds, or why there is none.
    Renewed(Account, Result<Option<i64>, NotReady>),
}

/// A deed on the secrets of one tenant, in line or at work.
#[derive(Debug)]
pub(in crate::supervisor) enum Work {
    /// Keep this.
    Keep { ask: SetAsk, account: Account },
    /// Forget these.
    Forget { accounts: Vec<Account>, asker: Identity, reply: Reply<RemovedReply> },
    /// End this login.
    Logout { wanted: Wanted, asker: Identity, reply: Reply<LoggedOutReply> },
    /// Write down what was learnt by the way.
    Note,
}

impl Work {
    /// Whether nobody waits for it any more.
    pub(super) fn is_late(&self) -> bool {
        match self {
            Self::Keep { ask, .. } => ask.deadline < Instant::now() + SECRET_TAKES,
            Self::Forget { reply, .. } => reply.is_closed(),
            Self::Logout { reply, .. } => reply.is_closed(),
            Self::Note => false,
        }
    }

    pub(super) fn refuse(self, why: &str) {
        match self {
            Self::Keep { ask, .. } => told(&ask.reply, Err(unavailable(why, "busy"))),
            Self::Forget { reply, .. } => {
                answer(reply, Err(ControlError::Failed { reason: why.to_owned() }));
            }
            Self::Logout { reply, .. } => {
                answer(reply, Err(ControlError::Failed { reason: why.to_owned() }));
            }
            Self::Note => {}
        }
    }

    pub(super) fn fail(self, tenant: &TenantId, trouble: Trouble, why: &str) {
        match self {
            Self::Keep { ask, .. } => {
                told(&ask.reply, Err(trouble_refusal(tenant, &ask.name, trouble, why)));
            }
            Self::Forget { reply, .. } => {
                let (trouble, reason) = (trouble.as_str().to_owned(), why.to_owned());
                answer(reply, Err(ControlError::StoreFailed { trouble, reason }));
            }
            Self::Logout { reply, .. } => {
                let (trouble, reason) = (trouble.as_str().to_owned(), why.to_owned());
                answer(reply, Err(ControlError::StoreFailed { trouble, reason }));
            }
            Self::Note => {}
        }
    }
}

pub(super) fn told(reply: &SyncSender<Result<Answer, Refusal>>, what: Result<Answer, Refusal>) {
    // Who no longer waits needs no answer.
    let _ = reply.try_send(what);
}

pub(super) fn unavailable(message: &str, word: &str) -> Refusal {
    refusal(message, UNAVAILABLE, word, false)
}

pub(super) fn trouble_refusal(
    tenant: &TenantId,
    name: &str,
    trouble: Trouble,
    why: &str,
) -> Refusal {
    let code = if trouble == Trouble::NoStore { CONFIGURATION } else { UNAVAILABLE };
    refusal(&format!("{name} of {tenant} was not stored: {why}"), code, trouble.as_str(), false)
}
