//! The two listening sockets: from systemd by name, else bound here.
//!
//! Binding goes through a name beside the real one and a rename, under the lock: a socket file that is
//! there always has somebody who listens, or is stale and replaced at once. Files can vanish under a
//! supervisor that runs: [`SocketFiles::presence`] notices.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use crate::paths::{Layout, Mode};
use crate::sys;

/// Connections that may wait to be accepted, as in `systemd/tenantd.socket`: both doors accept at once.
const BACKLOG: i32 = 128;

/// Why there are no doors.
#[derive(Debug, thiserror::Error)]
pub enum DoorsError {
    /// systemd passed something else.
    #[error(
        "systemd passed a socket named {name} that is not {expected} (see the unit tenantd.socket)"
    )]
    Passed {
        /// Its FileDescriptorName.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// systemd passed one socket without the other.
    #[error("systemd passed only one of the two sockets (see the unit tenantd.socket)")]
    Half,
    /// A socket cannot be bound.
    #[error("cannot listen at {path}: {source}")]
    Bind {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What systemd passed cannot be taken.
    #[error("cannot take the sockets that systemd passed: {0}")]
    Taken(#[from] io::Error),
}

/// The sockets.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) session: OwnedFd,
    pub(super) control: OwnedFd,
    /// What must be removed at the end: nothing of what systemd holds.
    pub(super) files: SocketFiles,
}

/// Copies of both sockets, to be passed on to the next program in this process.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) session: OwnedFd,
    pub(super) control: OwnedFd,
}

impl Spare {
    /// Further copies.
    pub(super) fn again(&self) -> io::Result<Self> {
        Ok(Self { session: self.session.try_clone()?, control: self.control.try_clone()? })
    }
}

/// The names under which a supervisor passes sockets of its own on to the next one, which then removes
/// their files at its end.
const OWN: [&str; 2] = ["session-own", "control-own"];
/// As `systemd/tenantd.socket` names them.
const PASSED: [&str; 2] = ["session", "control"];

/// Socket files of our own; their drop removes them. Dropped while the lock is held.
#[derive(Debug)]
pub(super) struct SocketFiles(Vec<Bound>);

/// A socket file that was made here, known by its identity: what has taken its place is not ours.
#[derive(Debug)]
struct Bound {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

impl Bound {
    fn of(path: PathBuf) -> Self {
        Self { identity: identity(&path), path }
    }
}

/// What has become of the socket files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Clients find them, or they are systemd's and none of ours.
    There,
    /// At least one is gone, and nothing is in its place.
    Gone,
    /// Something else is in the place of one: whoever put it there serves now.
    Taken,
}

impl SocketFiles {
    /// Whether they are systemd's, and nothing here is ours to look after.
    pub(super) fn are_systemds(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks for them where clients look now: in `layout`.
    pub(super) fn presence(&self, layout: &Layout) -> Presence {
        if self.are_systemds() {
            return Presence::There;
        }
        let looks = [layout.session_socket(), layout.control_socket()].map(|path| {
            match (identity(&path), self.0.iter().find(|bound| bound.path == path)) {
                (None, _) => Presence::Gone,
                (there, Some(bound)) if bound.identity == there => Presence::There,
                _ => Presence::Taken,
            }
        });
        let worst = [Presence::Taken, Presence::Gone];
        worst.into_iter().find(|look| looks.contains(look)).unwrap_or(Presence::There)
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.symlink_metadata().ok().map(|meta| (meta.dev(), meta.ino()))
}

impl SocketFiles {
    /// Those that are there: an earlier supervisor in this process made them.
    fn of(layout: &Layout) -> Self {
        Self([layout.session_socket(), layout.control_socket()].map(Bound::of).into())
    }

    /// The names of both sockets for the next program (sd_listen_fds(3), LISTEN_FDNAMES).
    pub(super) fn names(&self) -> [&'static str; 2] {
        if self.0.is_empty() { PASSED } else { OWN }
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for bound in self.0.iter().filter(|bound| identity(&bound.path) == bound.identity) {
            // What stays is stale, and replaced by the next supervisor.
            let _ = std::fs::remove_file(&bound.path);
        }
    }
}

impl Doors {
    /// Takes or binds them. Before any thread exists.
    pub(super) fn open(layout: &Layout) -> Result<Self, DoorsError> {
        match passed(layout)? {
            Some(doors) => Ok(doors),
            None => Self::bind(layout),
        }
    }

    /// Binds them. Any that are there lose their names.
    pub(super) fn bind(layout: &Layout) -> Result<Self, DoorsError> {
        let mode = if layout.mode == Mode::System { 0o666 } else { 0o600 };
        let (session, control) = (layout.session_socket(), layout.control_socket());
        let session_door = bind(&session, SocketType::SEQPACKET, mode)?;
        // Should the second fail, the first leaves nothing behind.
        let mut files = SocketFiles(vec![Bound::of(session)]);
        let control_door = bind(&control, SocketType::STREAM, mode)?;
        files.0.push(Bound::of(control));
        Ok(Self { session: session_door, control: control_door, files })
    }

    /// Copies of both.
    pub(super) fn spare(&self) -> io::Result<Spare> {
        Ok(Spare { session: self.session.try_clone()?, control: self.control.try_clone()? })
    }
}

fn passed(layout: &Layout) -> Result<Option<Doors>, DoorsError> {
    let (mut session, mut control) = (None, None);
    let mut own = false;
    for (fd, name) in sd_notify::listen_fds_with_names()? {
        let fd = sys::take_listen_fd(fd)?;
        own |= OWN.contains(&name.as_str());
        match role(&name, &fd) {
            Some(Role::Session) => session = Some(listens(fd, name, SocketType::SEQPACKET)?),
            Some(Role::Control) => control = Some(listens(fd, name, SocketType::STREAM)?),
            None => {}
        }
    }
    match (session, control) {
        (Some(session), Some(control)) => {
            let files = if own { SocketFiles::of(layout) } else { SocketFiles(Vec::new()) };
            Ok(Some(Doors { session, control, files }))
        }
        (None, None) => Ok(None),
        _ => Err(DoorsError::Half),
    }
}

enum Role {
    Session,
    Control,
}

/// What a passed socket is for. A unit of its own can name each; one unit for both has one name for
/// both (systemd.socket(5), FileDescriptorName), and there the kind tells.
fn role(name: &str, fd: &OwnedFd) -> Option<Role> {
    match name {
        "session" | "session-own" => Some(Role::Session),
        "control" | "control-own" => Some(Role::Control),
        "tenantd" | "tenantd.socket" => match sockopt::socket_type(fd) {
            Ok(SocketType::SEQPACKET) => Some(Role::Session),
            _ => Some(Role::Control),
        },
        _ => None,
    }
}

fn listens(fd: OwnedFd, name: String, kind: SocketType) -> Result<OwnedFd, DoorsError> {
    let good = sockopt::socket_domain(&fd) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&fd) == Ok(kind)
        && sockopt::socket_acceptconn(&fd) == Ok(true);
    if good {
        return Ok(fd);
    }
    let expected = if kind == SocketType::STREAM {
        "a listening unix stream socket (ListenStream=)"
    } else {
        "a listening unix packet socket (ListenSequentialPacket=)"
    };
    Err(DoorsError::Passed { name, expected })
}

fn bind(path: &Path, kind: SocketType, mode: u32) -> Result<OwnedFd, DoorsError> {
    let bound = try_bind(path, kind, mode);
    bound.map_err(|source| DoorsError::Bind { path: path.to_owned(), source })
}

fn try_bind(path: &Path, kind: SocketType, mode: u32) -> io::Result<OwnedFd> {
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&beside)?)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode))?;
    rustix::net::listen(&socket, BACKLOG)?;
    std::fs::rename(&beside, path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_replaced_and_ours_are_removed_at_the_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Mode::User, dir.path());
        std::fs::create_dir(&layout.runtime).expect("made");
        std::fs::write(layout.control_socket(), "stale").expect("written");
        let doors = Doors::open(&layout).expect("open");
        std::os::unix::net::UnixStream::connect(layout.control_socket()).expect("connected");
        let mode = std::fs::metadata(layout.session_socket()).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(doors);
        assert!(!layout.control_socket().exists() && !layout.session_socket().exists());
    }

    #[test]
    fn a_vanished_socket_is_noticed_and_what_took_its_place_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Mode::User, dir.path());
        std::fs::create_dir(&layout.runtime).expect("made");
        let doors = Doors::open(&layout).expect("open");
        assert_eq!(doors.files.presence(&layout), Presence::There);
        let moved = Layout { runtime: dir.path().join("elsewhere"), ..layout.clone() };
        assert_eq!(doors.files.presence(&moved), Presence::Gone);
        std::fs::remove_file(layout.session_socket()).expect("removed");
        assert_eq!(doors.files.presence(&layout), Presence::Gone);
        let others = Doors::bind(&layout).expect("bound");
        assert_eq!(doors.files.presence(&layout), Presence::Taken);
        drop(doors);
        assert_eq!(others.files.presence(&layout), Presence::There);
        assert_eq!(SocketFiles(Vec::new()).presence(&moved), Presence::There);
    }

    #[test]
    fn a_socket_of_the_wrong_kind_is_refused() {
        let (near, _far) = sys::seqpacket_pair().expect("a pair");
        let error = listens(near, "control".into(), SocketType::STREAM).expect_err("refused");
        assert!(error.to_string().contains("ListenStream"), "{error}");
    }
}
