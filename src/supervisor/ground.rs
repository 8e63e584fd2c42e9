//! The ground that a supervisor stands on: its directories and the lock that makes it the only one.
//!
//! Makes what is missing with the right mode and refuses what somebody else could have prepared.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::paths::{Layout, Mode};

/// How long the lock of a supervisor that is just leaving is waited for.
const WAIT: Duration = Duration::from_secs(2);
/// How long that of a supervisor that is dead: a child of it that has not become its own program yet holds
/// copies of all its descriptors, and on a loaded machine execve(2) takes its time.
const WAIT_FOR_CHILDREN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Why there is no ground to stand on.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// A directory cannot be made or used.
    #[error("cannot use the directory {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The runtime directory could have been prepared by somebody else.
    #[error(
        "the runtime directory {path} {what} (remove it, or set TENANTD_RUNTIME to a directory of your own)"
    )]
    Unsafe {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is one supervisor already.
    #[error("another supervisor{by} already works on {path} (use it, or stop it with tenantd stop{or})",
        by = .pid.map_or_else(String::new, |pid| format!(" (pid {pid})")),
        or = .pid.map_or_else(String::new, |pid| format!("; if its sockets are gone: kill {pid}")))]
    Locked {
        /// The state directory.
        path: PathBuf,
        /// Its process, if it said.
        pid: Option<i32>,
    },
}

/// The lock of a state directory; held as long as this lives.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code, reason = "held, not used")] File);

/// Makes the directories and takes the lock.
pub(super) fn prepare(layout: &Layout) -> Result<Lock, GroundError> {
    let system = layout.mode == Mode::System;
    // In system mode others pass through to what is theirs; identity decides at the sockets.
    let passable = if system { 0o711 } else { 0o700 };
    make(&layout.state, passable)?;
    make(&layout.state.join("tenants"), passable)?;
    make(&layout.log, 0o700)?;
    prepare_runtime(layout)?;
    let lock = lock(layout)?;
    Ok(lock)
}

/// Makes the runtime directory, at first and where it has vanished (a logout, a cleaner of `/tmp`).
pub(super) fn prepare_runtime(layout: &Layout) -> Result<(), GroundError> {
    make(&layout.runtime, if layout.mode == Mode::System { 0o755 } else { 0o700 })?;
    check_runtime(layout)?;
    make(&layout.cells(), 0o700)
}

/// How a file in a private directory, which is made where there is none, is opened for appending; a link
/// in its place is refused.
pub(super) fn appending(directory: &Path) -> io::Result<std::fs::OpenOptions> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut options = File::options();
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    Ok(options)
}

/// Makes a directory, with its parents, of exactly this mode. One that is there stays as it is.
fn make(path: &Path, mode: u32) -> Result<(), GroundError> {
    let failed = |source| GroundError::Directory { path: path.to_owned(), source };
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed)?;
    // The umask has taken from it what it must not.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
}

fn check_runtime(layout: &Layout) -> Result<(), GroundError> {
    let path = &layout.runtime;
    let meta = path
        .symlink_metadata()
        .map_err(|source| GroundError::Directory { path: path.clone(), source })?;
    let open = if layout.mode == Mode::System { 0o022 } else { 0o077 };
    let what = if !meta.is_dir() {
        "is not a directory of its own"
    } else if meta.uid() != nix::unistd::geteuid().as_raw() {
        "belongs to somebody else"
    } else if meta.mode() & open != 0 {
        "is open to others"
    } else {
        return Ok(());
    };
    Err(GroundError::Unsafe { path: path.clone(), what })
}

fn lock(layout: &Layout) -> Result<Lock, GroundError> {
    let path = layout.lock();
    let failed = |source| GroundError::Directory { path: layout.state.clone(), source };
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.custom_flags(libc::O_NOFOLLOW).open(&path).map_err(failed)?;
    let since = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let pid = holder(&mut file);
                // Its sockets are in the same hands as the lock: what is connected to them may be nobody.
                let dead = pid.is_some_and(has_ended);
                let wait = if dead { WAIT_FOR_CHILDREN } else { WAIT };
                if since.elapsed() >= wait || (!dead && answers(layout)) {
                    return Err(GroundError::Locked { path: layout.state.clone(), pid });
                }
                std::thread::sleep(LOOK);
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(Lock(file))
}

/// Whether the holder of the lock is at work, and not about to leave.
fn answers(layout: &Layout) -> bool {
    std::os::unix::net::UnixStream::connect(layout.control_socket()).is_ok()
}

/// Whether there is no such process any more, or only its exit status.
fn has_ended(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return false };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Err(error) => error == rustix::io::Errno::SRCH,
        Ok(pidfd) => {
            let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
            poll(&mut polled, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
        }
    }
}

fn holder(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::WaitPidFlag;

    use super::*;

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::rooted(Mode::User, dir.path());
        (dir, layout)
    }

    #[test]
    fn the_second_supervisor_is_told_who_the_first_is() {
        let (_dir, layout) = layout();
        let lock = prepare(&layout).expect("the first");
        let _answers =
            std::os::unix::net::UnixListener::bind(layout.control_socket()).expect("bound");
        let error = prepare(&layout).expect_err("the second").to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(lock);
        prepare(&layout).expect("after the first has gone");
    }

    /// The lock and the control socket of a supervisor, which this process says it is.
    fn held_by(layout: &Layout, pid: u32) -> (Lock, std::os::unix::net::UnixListener) {
        let lock = prepare(layout).expect("the first");
        std::fs::write(layout.lock(), format!("{pid}\n")).expect("written");
        let listener = std::os::unix::net::UnixListener::bind(layout.control_socket());
        (lock, listener.expect("bound"))
    }

    #[test]
    fn what_a_child_of_a_dead_supervisor_still_holds_is_waited_for() {
        // One that is buried, and one whose exit status nobody has fetched yet.
        for buried in [true, false] {
            let (_dir, layout) = layout();
            let mut dead = std::process::Command::new("true").spawn().expect("started");
            let pid = dead.id();
            if buried {
                dead.wait().expect("buried");
            } else {
                let id = nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid.cast_signed()));
                let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
                nix::sys::wait::waitid(id, ended).expect("ended");
            }
            // A child that has not become its program yet has the lock and the sockets, and serves nobody.
            let held = held_by(&layout, pid);
            let child = std::thread::spawn(move || {
                std::thread::sleep(5 * LOOK);
                drop(held);
            });
            prepare(&layout).expect("the next one");
            child.join().expect("the child");
            dead.wait().expect("buried");
        }
    }

    #[test]
    fn what_is_made_is_private() {
        let (_dir, layout) = layout();
        prepare(&layout).expect("prepared");
        for path in [&layout.runtime, &layout.state, &layout.log, &layout.cells()] {
            let mode = std::fs::metadata(path).expect("there").mode();
            assert_eq!(mode & 0o777, 0o700, "{}", path.display());
        }
    }

    #[test]
    fn a_runtime_directory_that_others_could_have_prepared_is_refused() {
        let (dir, layout) = layout();
        std::fs::create_dir(&layout.runtime).expect("made");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&layout.runtime, open).expect("opened");
        let error = prepare(&layout).expect_err("open").to_string();
        assert!(error.contains("open to others"), "{error}");
        std::fs::remove_dir(&layout.runtime).expect("removed");
        std::os::unix::fs::symlink(dir.path(), &layout.runtime).expect("a link");
        let error = prepare(&layout).expect_err("a link").to_string();
        assert!(error.contains("not a directory of its own"), "{error}");
    }
}
