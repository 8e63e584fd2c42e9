//! Replacing the supervisor by the program that is on disk now, in the same process: an upgrade that
//! nobody notices.
//!
//! ```text
//! asked --> TRYING: does it say its version? --no--> refused, all goes on
//!              | yes
//!              v
//!           QUIETING: doors closed, clients queue at the sockets --a thread hangs--> refused, doors open
//!              | nobody is on the way
//!              v
//!           GOING: the asker is answered --> execve(2), with both sockets --fails--> doors open
//! ```
//!
//! Muxes and servers live on, and the new program takes them over as a successor would. They stay
//! children of this process, whose number, notify socket and standing with systemd do not change.

use std::ffi::{CString, OsString};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use super::doors::Spare;
use super::house::House;
use super::message::{Message, Reply};
use super::spawn::{Born, kill};
use super::status::answer;
use crate::control::{ControlError, ReplacedReply};
use crate::policy::reason::quoted;
use crate::sys;

/// How long the program may take to say its version.
const SAYS_WITHIN: Duration = Duration::from_secs(5);
/// The most that it says, bytes.
const SAYS_AT_MOST: u64 = 256;
/// How long those who were let in may take.
const QUIET_WITHIN: Duration = Duration::from_secs(2);
/// How long control connections that ask nothing are waited for.
const SHORT_TALKS: Duration = Duration::from_millis(300);
/// How often it is looked whether it is quiet.
const LOOK: Duration = Duration::from_millis(5);
/// How long the answer to who asked, and the last line of the log, may take to be written.
const LAST_WORD: Duration = Duration::from_millis(50);

/// How far a replacement has come.
#[derive(Debug, Default)]
pub(super) enum Replacing {
    #[default]
    No,
    Trying(Reply<ReplacedReply>),
    Quieting {
        since: Instant,
        to: String,
        asker: Reply<ReplacedReply>,
    },
    Going {
        at: Instant,
    },
}

/// Who is still at the doors.
#[derive(Debug, Clone, Copy)]
pub(super) struct AtTheDoors {
    /// Whether nobody is at the session door.
    pub(super) quiet: bool,
    /// Control connections; the asker's is one of them.
    pub(super) talks: u32,
}

impl House {
    /// Somebody wants the supervisor replaced.
    pub(super) fn replace(&mut self, user: &str, asker: Reply<ReplacedReply>) {
        if self.stopping.is_some() || !matches!(self.replacing, Replacing::No) {
            let reason = "the supervisor is stopping or being replaced already".to_owned();
            return answer(asker, Err(ControlError::Failed { reason }));
        }
        tracing::info!(%user, program = %self.binary.path().display(), "to be replaced");
        let (born, said) = match self.binary.try_out() {
            Ok(tried) => tried,
            Err(error) => return answer(asker, Err(self.bad_program(&error.to_string()))),
        };
        self.replacing = Replacing::Trying(asker);
        let house = self.handle.clone();
        tokio::task::spawn_local(async move {
            let tried = version(born, said).await;
            // Without a loop there is nobody to tell.
            let _ = house.say(Message::Tried(tried)).await;
        });
    }

    /// The program on disk has said its version, or failed.
    pub(super) fn tried(&mut self, tried: Result<String, String>) {
        let Replacing::Trying(asker) = std::mem::take(&mut self.replacing) else { return };
        match tried {
            Ok(_) if self.stopping.is_some() => {}
            Ok(to) => self.replacing = Replacing::Quieting { since: Instant::now(), to, asker },
            Err(why) => answer(asker, Err(self.bad_program(&why))),
        }
    }

    fn bad_program(&self, why: &str) -> ControlError {
        let program = self.binary.path().display();
        tracing::error!("{program} does not work and replaces nothing: {why}");
        let reason = format!(
            "{program} does not work: {why}; the supervisor that runs goes on (install a program for \
             which {program} --version works)"
        );
        ControlError::Failed { reason }
    }

    /// Whether the doors are to be closed for it.
    pub(super) fn is_quieting(&self) -> bool {
        matches!(self.replacing, Replacing::Quieting { .. } | Replacing::Going { .. })
    }

    /// When to look again.
    pub(super) fn replaces_at(&self, now: Instant) -> Option<Instant> {
        match &self.replacing {
            Replacing::No | Replacing::Trying(_) => None,
            Replacing::Quieting { .. } => Some(now + LOOK),
            Replacing::Going { at } => Some(*at),
        }
    }

    /// Goes on with a replacement. Whether the time has come.
    pub(super) fn may_go(&mut self, doors: AtTheDoors, now: Instant) -> bool {
        let since = match &self.replacing {
            Replacing::No | Replacing::Trying(_) => return false,
            Replacing::Going { at } => return now >= *at,
            Replacing::Quieting { since, .. } => *since,
        };
        let waited = now.saturating_duration_since(since);
        let sent = self.cells.values().all(|cell| cell.on_the_way.is_empty());
        let silent = doors.talks <= 1 || waited >= SHORT_TALKS;
        if waited < QUIET_WITHIN && !(doors.quiet && sent && silent) {
            return false;
        }
        match stuck_thread() {
            None => self.say_goodbye(now),
            Some(thread) if waited >= QUIET_WITHIN => self.refuse_to_go(&thread),
            Some(_) => {}
        }
        false
    }

    fn say_goodbye(&mut self, now: Instant) {
        let going = Replacing::Going { at: now + LAST_WORD };
        if let Replacing::Quieting { to, asker, .. } = std::mem::replace(&mut self.replacing, going)
        {
            let from = env!("CARGO_PKG_VERSION").to_owned();
            tracing::info!(%from, %to, "the supervisor is replaced");
            answer(asker, Ok(ReplacedReply { from, to }));
        }
    }

    /// The end of a program waits for each of its threads (execve(2)), also for one that hangs.
    fn refuse_to_go(&mut self, thread: &str) {
        let Replacing::Quieting { asker, .. } = std::mem::take(&mut self.replacing) else { return };
        let reason = format!(
            "a thread ({thread}) hangs in the kernel, on a file system or a client's descriptor that \
             does not answer; the supervisor goes on (try again when that is mended)"
        );
        tracing::error!("not replaced: {reason}");
        answer(asker, Err(ControlError::Failed { reason }));
    }

    /// Becomes the program on disk. Returns only where that fails; then all goes on.
    pub(super) fn become_next(&mut self, spare: &Spare, names: [&str; 2]) {
        // An orphan that is left would look like a mux to the next program.
        self.bury();
        let error = match next(self.binary.path(), names) {
            Ok((program, arguments, environment)) => {
                let held = held_back();
                // A signal that comes in between is the next program's.
                let _ = held.thread_block();
                let passed = [spare.session.as_fd(), spare.control.as_fd()];
                let error = sys::become_program(&program, &arguments, &environment, &passed);
                let _ = held.thread_unblock();
                error
            }
            Err(error) => error,
        };
        tracing::error!("not replaced: {}: {error}", self.binary.path().display());
        self.replacing = Replacing::No;
    }
}

/// The signals that end a program which does not catch them yet.
pub(super) fn held_back() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

async fn version(born: Born, said: io::PipeReader) -> Result<String, String> {
    let read = move || {
        let mut text = String::new();
        said.take(SAYS_AT_MOST).read_to_string(&mut text).map(|_| text)
    };
    let reading = tokio::task::spawn_blocking(read);
    let text = tokio::time::timeout(SAYS_WITHIN, reading).await;
    // It has nothing more to do, whether it said something or not.
    kill(&born.pidfd);
    let text = match text {
        Err(_) => return Err(format!("it said nothing within {} s", SAYS_WITHIN.as_secs())),
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(Err(error))) => return Err(format!("it said no text: {error}")),
        Ok(Ok(Ok(text))) => text,
    };
    let version = text.strip_prefix("tenantd ").map(str::trim_end).filter(|text| !text.is_empty());
    let version = version.map(str::to_owned);
    version.ok_or_else(|| format!("asked for its version it said {}", quoted(&text)))
}

type Start = (CString, Vec<CString>, Vec<CString>);

/// How the next program is started: as we were, with both sockets (sd_listen_fds(3)).
fn next(program: &Path, names: [&str; 2]) -> io::Result<Start> {
    let text = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::other);
    let arguments = std::env::args_os().map(text).collect::<io::Result<_>>()?;
    let replaced = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
    let kept = std::env::vars_os().filter(|(name, _)| !replaced.iter().any(|other| name == other));
    let pair = |(mut pair, value): (OsString, OsString)| {
        pair.push("=");
        pair.push(value);
        text(pair)
    };
    let mut environment: Vec<_> = kept.map(pair).collect::<io::Result<_>>()?;
    let sockets = [
        format!("LISTEN_PID={}", std::process::id()),
        format!("LISTEN_FDS={}", names.len()),
        format!("LISTEN_FDNAMES={}", names.join(":")),
    ];
    for variable in sockets {
        environment.push(CString::new(variable)?);
    }
    Ok((text(program.as_os_str().to_owned())?, arguments, environment))
}

/// A thread of ours that no signal reaches (state D, proc(5)), by name.
fn stuck_thread() -> Option<String> {
    std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten().find_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (start, rest) = stat.rsplit_once(')')?;
        let stuck = rest.trim_start().starts_with('D');
        stuck.then(|| start.split_once('(').map_or(start, |(_, name)| name).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_program_gets_our_arguments_and_environment_and_both_sockets() {
        let (program, arguments, environment) =
            next(Path::new("/opt/tenantd"), ["session", "control"]).expect("no NUL");
        assert_eq!(program.as_bytes(), b"/opt/tenantd");
        assert_eq!(arguments.len(), std::env::args_os().count());
        let has =
            |wanted: &str| environment.iter().any(|pair| pair.as_bytes() == wanted.as_bytes());
        assert!(has(&format!("LISTEN_PID={}", std::process::id())) && has("LISTEN_FDS=2"));
        assert!(has("LISTEN_FDNAMES=session:control"));
        assert_eq!(environment.len(), std::env::vars_os().count() + 3);
    }
}
