//! What a stranger hands over at the session door as a secret: exactly one memfd that nobody can change.
//!
//! Runs on a door thread, because dropping anything else can block. What is looked at is the descriptor, never
//! what is in it: the supervisor passes it on, and the credential role alone reads it. The order matters:
//! fcntl(2) asks the kernel, fstat(2) would ask a file system of the stranger's.

use std::os::fd::OwnedFd;

use rustix::fs::{OFlags, SealFlags};

use crate::sys;
use crate::wire::credential::SECRET_MAX;

/// Why the descriptor is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SealedError {
    /// Not one.
    #[error("a secret comes in 1 descriptor (a sealed memfd), not {0}")]
    Count(usize),
    /// Not a memfd.
    #[error("a secret comes in a memfd, and this descriptor is none")]
    NoMemfd,
    /// It could change while it is read.
    #[error(
        "the memfd with the secret is not sealed (F_SEAL_SEAL, SHRINK, GROW and WRITE; see fcntl(2))"
    )]
    NotSealed,
    /// Opened for writing only.
    #[error("the memfd with the secret cannot be read")]
    Unreadable,
    /// Nothing.
    #[error("the secret is empty")]
    Empty,
    /// Too much.
    #[error("the secret is larger than 64 KiB")]
    TooLarge,
}

/// A secret that was handed over. Its drop never waits for anybody.
#[derive(Debug)]
pub(super) struct Sealed(OwnedFd);

impl Sealed {
    /// Looks at what came.
    pub(super) fn check(descriptors: Vec<OwnedFd>) -> Result<Self, SealedError> {
        let count = descriptors.len();
        let one: Result<[OwnedFd; 1], _> = descriptors.try_into();
        let [memfd] = one.map_err(|_| SealedError::Count(count))?;
        let flags = rustix::fs::fcntl_getfl(&memfd).map_err(|_| SealedError::NoMemfd)?;
        // The kernel knows seals of memfds and of files of its own memory file systems, and of nothing else.
        let seals = rustix::fs::fcntl_get_seals(&memfd).map_err(|_| SealedError::NoMemfd)?;
        let all = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        if !seals.contains(all) {
            return Err(SealedError::NotSealed);
        }
        if flags & OFlags::RWMODE == OFlags::WRONLY {
            return Err(SealedError::Unreadable);
        }
        match sys::file_size(&memfd) {
            Err(_) => Err(SealedError::NoMemfd),
            Ok(0) => Err(SealedError::Empty),
            Ok(size) if size > SECRET_MAX => Err(SealedError::TooLarge),
            Ok(_) => Ok(Self(memfd)),
        }
    }

    /// To be passed on.
    pub(super) fn into_descriptor(self) -> OwnedFd {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::post;
    use rustix::fs::{MemfdFlags, Mode};
    use std::os::fd::AsRawFd;

    const ALL: SealFlags =
        SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

    fn memfd(size: usize, seals: SealFlags) -> OwnedFd {
        let flags = MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC;
        let memfd = rustix::fs::memfd_create("test", flags).expect("a memfd");
        rustix::fs::ftruncate(&memfd, size as u64).expect("sized");
        rustix::fs::fcntl_add_seals(&memfd, seals).expect("sealed");
        memfd
    }

    fn refusal(descriptors: Vec<OwnedFd>) -> SealedError {
        Sealed::check(descriptors).expect_err("refused")
    }

    fn again(fd: &OwnedFd, flags: OFlags) -> OwnedFd {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).expect("opened again")
    }

    #[test]
    fn what_our_client_seals_is_taken_and_not_read() {
        let secret = post::seal_secret(b"hunter2").expect("sealed");
        rustix::fs::seek(&secret, rustix::fs::SeekFrom::Start(3)).expect("seek");
        let taken = Sealed::check(vec![secret]).expect("good").into_descriptor();
        assert_eq!(rustix::fs::tell(&taken), Ok(3));
        let most = usize::try_from(SECRET_MAX).expect("fits");
        Sealed::check(vec![post::seal_secret(&vec![1; most]).expect("sealed")]).expect("good");
    }

    #[test]
    fn what_could_still_change_is_refused() {
        let resizable = SealFlags::WRITE | SealFlags::SEAL;
        for seals in [SealFlags::empty(), resizable, ALL.difference(SealFlags::WRITE)] {
            assert_eq!(refusal(vec![memfd(5, seals)]), SealedError::NotSealed, "{seals:?}");
        }
        Sealed::check(vec![memfd(5, ALL)]).expect("all of them are good");
    }

    #[test]
    fn sizes_and_numbers_are_bounded() {
        let good = || post::seal_secret(b"x").expect("sealed");
        assert_eq!(refusal(vec![]), SealedError::Count(0));
        assert_eq!(refusal(vec![good(), good()]), SealedError::Count(2));
        let sealed = |size| memfd(size, ALL);
        assert_eq!(refusal(vec![sealed(0)]), SealedError::Empty);
        assert_eq!(refusal(vec![sealed(64 * 1024 + 1)]), SealedError::TooLarge);
    }

    #[test]
    fn what_is_no_memfd_or_cannot_be_read_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = std::fs::File::create(dir.path().join("file")).expect("a file");
        let (pipe, _end) = rustix::pipe::pipe().expect("a pipe");
        let (socket, _far) = sys::seqpacket_pair().expect("a pair");
        let secret = post::seal_secret(b"x").expect("sealed");
        let path = again(&secret, OFlags::PATH);
        for bad in [file.into(), pipe, socket, path] {
            assert_eq!(refusal(vec![bad]), SealedError::NoMemfd);
        }
        let open = memfd(5, SealFlags::empty());
        let writing = again(&open, OFlags::WRONLY);
        rustix::fs::fcntl_add_seals(&open, ALL).expect("sealed");
        assert_eq!(refusal(vec![writing]), SealedError::Unreadable);
        // A file of a memory file system knows seals, and can have none.
        let shared = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
        assert_eq!(refusal(vec![shared.into_file().into()]), SealedError::NotSealed);
    }
}
