//! Starting the user supervisor for the first client, so that it survives that client.
//!
//! Through the user manager where there is one (its socket unit, else a transient unit); else a
//! launcher process makes a session of its own, starts the supervisor with a clean environment and ends:
//! then the supervisor has no tie to the client's process tree.
//! Two clients at once may start two; the lock lets one live, and both clients find it.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::manager;
use crate::paths::{HOME_VARIABLE, Layout, RUNTIME_VARIABLE};
use crate::sys;

/// How long a supervisor may take to listen.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long between two looks at its socket.
pub(super) const LOOK: Duration = Duration::from_millis(5);
/// Where programs are looked for, whatever the client's environment says.
pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// What earlier starts may have left in the log of starts, bytes: it is begun anew above that.
const LOG_MAX: u64 = 64 * 1024;
/// The hidden role of the launcher.
const ROLE: &str = "--role=launch";

/// Starts the user supervisor and waits until `connect` finds it.
///
/// # Errors
/// One line that says what went wrong and where to look.
pub(super) fn user_supervisor<T>(
    layout: &Layout,
    connect: impl Fn() -> Option<T>,
) -> Result<T, String> {
    if !overridden()
        && manager::start_supervisor()
        && let Some(found) = wait_for(&connect, || false)
    {
        return Ok(found);
    }
    let log = start_log(layout).map_err(|error| {
        format!("cannot write the supervisor's log below {}: {error}", layout.log.display())
    })?;
    let launch =
        || launch(&log, &connect).map_err(|error| format!("cannot start the supervisor: {error}"));
    // The first may have left because of another supervisor, which has ended since.
    let found = match launch()? {
        Launched::Failed => launch()?,
        launched => launched,
    };
    match found {
        Launched::Found(found) => Ok(found),
        Launched::Failed | Launched::Silent => Err(did_not_start(&log)),
    }
}

enum Launched<T> {
    Found(T),
    /// It ended, and no other one listens.
    Failed,
    /// It runs and does not listen.
    Silent,
}

fn launch<T>(log: &Path, connect: impl Fn() -> Option<T>) -> io::Result<Launched<T>> {
    let said = spawn_launcher(log)?.wait_with_output()?.stdout;
    let supervisor = said.utf8_chunks().next().map_or(Err(Errno::SRCH), |said| hold(said.valid()));
    let has_ended = || match &supervisor {
        Ok(pidfd) => ended(pidfd),
        // A client's own sandbox may know no pidfd: then time alone tells.
        Err(error) => *error == Errno::SRCH,
    };
    Ok(match wait_for(connect, has_ended) {
        Some(found) => Launched::Found(found),
        None if has_ended() => Launched::Failed,
        None => Launched::Silent,
    })
}

/// Takes hold of the process with this number; no number is that of nobody.
fn hold(number: &str) -> Result<OwnedFd, Errno> {
    let pid = number.trim().parse().ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    pidfd_open(pid, PidfdFlags::empty())
}

fn ended(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO)
        .is_ok_and(|count| count > 0)
}

fn overridden() -> bool {
    [HOME_VARIABLE, RUNTIME_VARIABLE]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

fn wait_for<T>(connect: impl Fn() -> Option<T>, mut failed: impl FnMut() -> bool) -> Option<T> {
    let mut until = Instant::now() + PATIENCE;
    let mut has_failed = false;
    loop {
        if let Some(found) = connect() {
            return Some(found);
        }
        // The one that lost the race for the lock has failed as well; then another one listens soon.
        if !has_failed && failed() {
            has_failed = true;
            until = Instant::now() + Duration::from_secs(1);
        }
        if Instant::now() > until {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

fn start_log(layout: &Layout) -> io::Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(&layout.log)?;
    Ok(layout.log.join("start.log"))
}

fn spawn_launcher(log: &Path) -> io::Result<Child> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(log)?;
    if log.metadata()?.len() > LOG_MAX {
        log.set_len(0)?;
    }
    clean(Command::new(std::env::current_exe()?).arg(ROLE))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
}

/// Nothing of the client's environment but the two overrides.
fn clean(command: &mut Command) -> &mut Command {
    command.env_clear().current_dir("/").env("PATH", PATH);
    for name in [HOME_VARIABLE, RUNTIME_VARIABLE] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn did_not_start(log: &Path) -> String {
    let mut tail = String::new();
    if let Ok(mut file) = std::fs::File::open(log) {
        // What cannot be read is as good as nothing said.
        let _ = file.read_to_string(&mut tail);
    }
    let last = tail.lines().next_back().unwrap_or("it said nothing");
    let last: String = last.chars().take(160).flat_map(char::escape_debug).collect();
    format!("the user supervisor did not start: {last} (see {})", log.display())
}

/// The launcher's entry: a session of its own, the supervisor as its child, whose number it says; and an end
/// at once, so that who looks through its client's descendants finds no supervisor even while that starts.
pub fn main() -> ExitCode {
    // A launcher that leads its group already is in a session of its own.
    let _ = nix::unistd::setsid();
    // What a client leaks to its servers would stay open for as long as the supervisor lives.
    if sys::close_from(3).is_err() {
        return ExitCode::FAILURE;
    }
    let Ok(own) = std::env::current_exe() else { return ExitCode::FAILURE };
    let supervisor = clean(Command::new(own).args(["serve", "--user"]))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let Ok(supervisor) = supervisor else { return ExitCode::FAILURE };
    match writeln!(io::stdout(), "{}", supervisor.id()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
