//! How the papers of [`crate::wire`] travel: one JSON document a datagram, plans in sealed memfds.
//!
//! The only place that turns them into bytes and back. Blocks or not as its caller says by the flags.

use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::sys;
use crate::wire::credential::SECRET_MAX;
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
    Ok(sealed_memfd("plan", &serde_json::to_vec(plan)?)?)
}

/// The plan in a descriptor that was received.
///
/// # Errors
/// [`PostError`] if it is not sealed, too large, or of another shape.
pub fn unseal<T: DeserializeOwned>(plan: OwnedFd) -> Result<T, PostError> {
    Ok(serde_json::from_slice(&read_sealed(plan, PLAN_MAX)?)?)
}

/// A secret as a descriptor to send, of at most [`SECRET_MAX`] bytes.
///
/// # Errors
/// [`PostError::TooLarge`]; as memfd_create(2) and write(2).
pub fn seal_secret(secret: &[u8]) -> Result<OwnedFd, PostError> {
    if secret.len() as u64 > SECRET_MAX {
        return Err(PostError::TooLarge(SECRET_MAX as usize));
    }
    Ok(sealed_memfd("secret", secret)?)
}

/// The secret in a descriptor that was received; its memory is zeroed when it is dropped.
///
/// # Errors
/// [`PostError`] if it is not sealed or too large.
pub fn unseal_secret(secret: OwnedFd) -> Result<Zeroizing<Vec<u8>>, PostError> {
    Ok(Zeroizing::new(read_sealed(secret, SECRET_MAX)?))
}

/// A memfd with `bytes` that nobody can change any more (memfd_create(2), F_ADD_SEALS in fcntl(2)).
///
/// # Errors
/// As memfd_create(2), write(2) and fcntl(2).
fn sealed_memfd(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let memfd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(memfd);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// Reads a sealed memfd whole.
///
/// # Errors
/// `InvalidData` if it is not sealed against every change or larger than `most` bytes; as read(2).
fn read_sealed(memfd: OwnedFd, most: u64) -> io::Result<Vec<u8>> {
    use rustix::fs::SealFlags;
    let sealed = rustix::fs::fcntl_get_seals(&memfd)?;
    let length = sys::file_size(&memfd)?;
    if !sealed.contains(SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW) || length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    let mut read = 0;
    // At its place, whatever the position of the description is: the sender has the same one.
    while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pread(&memfd, rest, read as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => read += count,
        }
    }
    Ok(bytes)
}

/// What a role was born with: the datagram that waits on descriptor 0.
///
/// # Errors
/// [`PostError`] if this process was not started as a role.
pub fn birth() -> Result<(Birth, Vec<OwnedFd>), PostError> {
    let mut buffer = [0; 256];
    receive(io::stdin(), &mut buffer, RecvFlags::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_out_as_it_went_in() {
        let plan = seal(&vec!["one", "two"]).expect("sealed");
        assert_eq!(unseal::<Vec<String>>(plan).expect("a plan"), ["one", "two"]);
    }

    #[test]
    fn a_plan_that_could_still_change_is_refused() {
        let flags = rustix::fs::MemfdFlags::ALLOW_SEALING;
        let memfd = rustix::fs::memfd_create("open", flags).expect("a memfd");
        assert!(unseal::<()>(memfd).is_err());
    }

    #[test]
    fn a_secret_travels_sealed_and_within_its_size() {
        let secret = seal_secret(b"hunter2").expect("sealed");
        assert!(rustix::io::pwrite(&secret, b"x", 0).is_err());
        assert_eq!(unseal_secret(secret).expect("read").as_slice(), b"hunter2");
        let large = vec![0; usize::try_from(SECRET_MAX).expect("fits") + 1];
        assert!(matches!(seal_secret(&large), Err(PostError::TooLarge(_))));
    }
}
