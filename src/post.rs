//! How the papers of [`crate::wire`] travel: one JSON document a datagram, plans in sealed memfds.
//!
//! The only place that turns them into bytes and back. Blocks or not as its caller says by the flags.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys;
use crate::wire::{self, Birth};

/// The largest plan, bytes: far above what a configuration file (at most 1 MiB) can ask for.
const PLAN_MAX: u64 = 16 * 1024 * 1024;

/// Why a message or plan could not be sent or read.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The connection failed; `WouldBlock` where it was not to block.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// The datagram or its descriptors did not fit.
    #[error("a datagram was larger than {0} bytes or had too many descriptors")]
    TooLarge(usize),
    /// It is no message of this version.
    #[error("not a message of wire version {version}: {0}", version = wire::VERSION)]
    Shape(#[from] serde_json::Error),
    /// It came with other descriptors than it needs.
    #[error("a message came with {0} descriptors")]
    Descriptors(usize),
}

/// Sends one message.
///
/// # Errors
/// [`PostError::Io`], also `WouldBlock` with `SendFlags::DONTWAIT`; [`PostError::TooLarge`].
pub fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> Result<(), PostError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > wire::CELL_DATAGRAM {
        return Err(PostError::TooLarge(wire::CELL_DATAGRAM));
    }
    Ok(sys::send_datagram(socket, &bytes, descriptors, flags)?)
}

/// Receives one message of at most `buffer.len()` bytes.
///
/// # Errors
/// [`PostError`]; `Io(WouldBlock)` with `RecvFlags::DONTWAIT` where there is none.
pub fn receive<T: DeserializeOwned>(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> Result<(T, Vec<OwnedFd>), PostError> {
    let datagram = sys::receive_datagram(socket, buffer, flags)?;
    if datagram.truncated {
        return Err(PostError::TooLarge(buffer.len()));
    }
    if datagram.bytes == 0 {
        return Err(PostError::Closed);
    }
    let message = serde_json::from_slice(buffer.get(..datagram.bytes).unwrap_or_default())?;
    Ok((message, datagram.descriptors))
}

/// Exactly `N` descriptors.
///
/// # Errors
/// [`PostError::Descriptors`] with another number.
pub fn exactly<const N: usize>(descriptors: Vec<OwnedFd>) -> Result<[OwnedFd; N], PostError> {
    descriptors.try_into().map_err(|others: Vec<OwnedFd>| PostError::Descriptors(others.len()))
}

/// A plan as a descriptor to send.
///
/// # Errors
/// As memfd_create(2) and write(2).
pub fn seal(plan: &impl Serialize) -> Result<OwnedFd, PostError> {
    Ok(sys::sealed_memfd("plan", &serde_json::to_vec(plan)?)?)
}

/// The plan in a descriptor that was received.
///
/// # Errors
/// [`PostError`] if it is not sealed, too large, or of another shape.
pub fn unseal<T: DeserializeOwned>(plan: OwnedFd) -> Result<T, PostError> {
    Ok(serde_json::from_slice(&sys::read_sealed(plan, PLAN_MAX)?)?)
}

/// What a role was born with: the datagram that waits on descriptor 0.
///
/// # Errors
/// [`PostError`] if this process was not started as a role.
pub fn birth() -> Result<(Birth, Vec<OwnedFd>), PostError> {
    let mut buffer = [0; 256];
    receive(io::stdin(), &mut buffer, RecvFlags::empty())
}
