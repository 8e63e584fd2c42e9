//! Handing a secret over at the session door.
//!
//! It goes as a sealed descriptor, never in the request; whose it is the kernel tells the supervisor.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt;

use super::door::{self, Choice, exchange, log_of, reach, unavailable};
use crate::names::TenantId;
use crate::paths::Layout;
use crate::wire::credential::Source;
use crate::wire::{Answer, Refusal, Request};

/// How long the supervisor may take: its store has 30 s, in which a person may have to unlock it, and it
/// says itself 12 s later that it is busy.
const PATIENCE: Duration = Duration::from_secs(45);

/// Which secret is to be kept.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Keeping<'a> {
    pub(in crate::cli) tenant: &'a TenantId,
    pub(in crate::cli) name: &'a str,
    /// Where it was taken from.
    pub(in crate::cli) source: Source,
    /// Whether there must be one already.
    pub(in crate::cli) rotate: bool,
}

/// It is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Kept {
    /// Whose it is, where each user has one of their own.
    pub(in crate::cli) user: Option<String>,
    /// Whether another one was there.
    pub(in crate::cli) replaced: bool,
}

/// Has the supervisor that knows the tenant keep this secret, a sealed memfd
/// ([`crate::post::seal_secret`]).
///
/// # Errors
/// A [`Refusal`] to be shown as it is.
pub(in crate::cli) fn keep(
    choice: Choice,
    keeping: Keeping<'_>,
    secret: BorrowedFd<'_>,
) -> Result<Kept, Refusal> {
    door::first(choice, Some(keeping.tenant.as_str()), |layout| ask(layout, keeping, secret))
}

fn ask(layout: &Layout, keeping: Keeping<'_>, secret: BorrowedFd<'_>) -> Result<Kept, Refusal> {
    let socket = reach(layout, Some(keeping.tenant.as_str()))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))
        .map_err(|error| unavailable(format!("cannot use the supervisor's socket: {error}")))?;
    let request = Request::SetCredential {
        tenant: keeping.tenant.to_string(),
        name: keeping.name.to_owned(),
        source: keeping.source,
        rotate: keeping.rotate,
    };
    match exchange(&socket, &request, &[secret.as_fd()]) {
        Ok(Answer::Kept { user, replaced, .. }) => Ok(Kept { user, replaced }),
        Ok(Answer::Refused(refusal)) => Err(refusal),
        Ok(_) => Err(unavailable("the supervisor gave another answer".to_owned())),
        Err(error) => Err(unavailable(format!(
            "it is not known whether {} was stored: the supervisor at {} did not answer: {error} (see \
             tenantd credential list {}; its log is {})",
            keeping.name,
            layout.session_socket().display(),
            keeping.tenant,
            log_of(layout)
        ))),
    }
}
