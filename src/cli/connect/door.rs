//! The client side of the session door.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::names::{ServerName, SessionId, TenantId};
use crate::wire::Refusal;

/// Which supervisor to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The user's, then the system's.
    Any,
    /// The user's.
    User,
    /// The system's.
    System,
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its server.
    pub server: ServerName,
    /// Our end of the lifeline.
    pub lifeline: OwnedFd,
}

/// Opens a session.
///
/// # Errors
/// [`Refusal`] if no supervisor opens it.
pub fn open(
    _choice: Choice,
    _target: Option<&str>,
    _strict: bool,
    _stdin: BorrowedFd<'_>,
    _stdout: BorrowedFd<'_>,
) -> Result<Session, Refusal> {
    Err(Refusal {
        message: "no session door yet".into(),
        code: 69,
        reason: "unavailable".into(),
        elsewhere: false,
    })
}
