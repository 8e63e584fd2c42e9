//! Who is at the door: a [`Principal`] as the kernel tells it, never as the client says it.
//!
//! Owned by the threads that attend a connection, never by the supervisor's loop: a name lookup (NSS)
//! can hang for as long as some directory server likes. This room decides only who can be nobody here
//! (the overflow uid, our own servers); what a principal may do is decided in `policy`.

mod directory;
mod survey;
pub mod uids;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

pub use directory::{Directory, Ids, Names};
pub use survey::Survey;

use crate::sys;

/// What the kernel shows for a uid that the peer's user namespace does not map, where
/// `/proc/sys/kernel/overflowuid` cannot be read (kernel/sys.c, DEFAULT_OVERFLOWUID).
const DEFAULT_OVERFLOW_UID: u32 = 65534;
/// The most supplementary groups that are looked at; a peer with more is refused, not cut short.
const GROUPS_MAX: usize = 4096;

/// An authenticated peer, as it was at connect().
#[derive(Debug, Clone)]
pub struct Principal {
    /// Its uid.
    pub uid: u32,
    /// Its gid.
    pub gid: u32,
    /// Its user name, or the uid in digits where it has none.
    pub user: String,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// The process itself, where the kernel can tell (Linux 6.5); for watching, never for deciding.
    pub pidfd: Option<Arc<OwnedFd>>,
}

/// Why a peer is nobody here.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The kernel would not tell.
    #[error("cannot tell who is asking: {0}")]
    Unknown(#[from] io::Error),
    /// Every unmapped user namespace looks like this uid.
    #[error(
        "uid {0} is the kernel's overflow uid, which any unmapped user namespace shows (connect from \
         outside the container, or map your uid into it)"
    )]
    Overflow(u32),
    /// One of the uids that tenants' servers run as.
    #[error("uid {0} belongs to a tenant's own processes, which may not open sessions")]
    Reserved(u32),
    /// More groups than anybody has.
    #[error("uid {0} is in more than {GROUPS_MAX} groups (use an account with fewer)")]
    TooManyGroups(u32),
}

/// The uids that are refused whoever they claim to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nobodies {
    /// The kernel's overflow uid.
    pub overflow: u32,
    /// First and last uid of the tenants' own processes, in system mode.
    pub reserved: Option<(u32, u32)>,
}

impl Nobodies {
    /// Those of this machine.
    pub fn here(reserved: Option<(u32, u32)>) -> Self {
        let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(DEFAULT_OVERFLOW_UID);
        Self { overflow, reserved }
    }

    /// Refuses a uid that is nobody.
    ///
    /// # Errors
    /// [`AuthError::Overflow`] and [`AuthError::Reserved`].
    pub fn check(&self, uid: u32) -> Result<(), AuthError> {
        if uid == self.overflow {
            return Err(AuthError::Overflow(uid));
        }
        match self.reserved {
            Some((first, last)) if (first..=last).contains(&uid) => Err(AuthError::Reserved(uid)),
            _ => Ok(()),
        }
    }
}

/// Who is at the other end of `socket`. May block for as long as [`Directory`] waits for a name.
///
/// # Errors
/// [`AuthError`], each of them final.
pub fn identify(
    socket: impl AsFd,
    nobodies: &Nobodies,
    directory: &Directory,
) -> Result<Principal, AuthError> {
    let peer = sys::peer_credentials(&socket)?;
    nobodies.check(peer.uid)?;
    let groups = sys::peer_groups(&socket)?;
    if groups.len() > GROUPS_MAX {
        return Err(AuthError::TooManyGroups(peer.uid));
    }
    let pidfd = sys::peer_pidfd(&socket)?.map(Arc::new);
    let user = directory.user(peer.uid);
    Ok(Principal { uid: peer.uid, gid: peer.gid, user, groups, pidfd })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overflow_uid_and_the_tenants_own_uids_are_nobody() {
        let nobodies = Nobodies { overflow: 65534, reserved: Some((1000, 1002)) };
        assert!(matches!(nobodies.check(65534), Err(AuthError::Overflow(_))));
        for uid in 1000..=1002 {
            assert!(matches!(nobodies.check(uid), Err(AuthError::Reserved(_))), "{uid}");
        }
        assert!(nobodies.check(999).is_ok() && nobodies.check(0).is_ok());
    }

    #[test]
    fn a_peer_is_known_by_what_the_kernel_says() {
        let (near, _far) = sys::seqpacket_pair().expect("a pair");
        let directory = Directory::start().expect("a thread");
        let nobodies = Nobodies { overflow: 65534, reserved: None };
        let who = identify(&near, &nobodies, &directory).expect("a principal");
        let me = nix::unistd::geteuid();
        assert_eq!(who.uid, me.as_raw());
        let name = nix::unistd::User::from_uid(me).expect("passwd").map(|user| user.name);
        assert_eq!(who.user, name.unwrap_or_else(|| me.to_string()));
    }
}
