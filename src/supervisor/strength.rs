//! What this machine can do to confine a server: found out by confining one, at start and when asked.
//!
//! The real stage runs `/bin/true` with everything and requires nothing; what it reports is what holds. Where
//! it cannot make namespaces one way the next way is tried. No sysctl is read and no version compared.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::RecvFlags;

use super::spawn::{Binary, Born, kill};
use crate::config::tenant::Layer;
use crate::post::{self, PostError};
use crate::sandbox::cgroup::Cgroups;
use crate::sys;
use crate::wire::stage::{Backend, KeeperWord, Limits, Missing, Network, StagePlan, View};
use crate::wire::{self, Birth, Identity};

/// How long one try may take; it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is run.
const PROGRAM: &str = "/bin/true";
/// A directory that every system has and everybody may enter; nothing is written to it.
const DATA: &str = "/usr/share";

/// Every layer, in the order in which they are shown.
pub const ALL: [Layer; 4] = [Layer::Namespaces, Layer::Landlock, Layer::Seccomp, Layer::Cgroup];

/// What holds on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strength {
    /// How namespaces are made.
    pub backend: Backend,
    /// Layers that hold.
    pub held: Vec<Layer>,
    /// Layers that do not, and why.
    pub missing: Vec<Missing>,
}

impl Strength {
    /// Nothing holds, for this reason.
    fn none(why: &str) -> Self {
        let missing = ALL.map(|layer| Missing { layer, why: why.to_owned() });
        Self { backend: Backend::None, held: Vec::new(), missing: missing.into() }
    }

    /// With what the supervisor knows of control groups: the stage that was tried had no seat in one.
    pub(super) fn with(mut self, cgroups: &Cgroups) -> Self {
        self.missing.retain(|missing| missing.layer != Layer::Cgroup);
        match cgroups.strength() {
            Ok(_) => self.held.push(Layer::Cgroup),
            Err(why) => self.missing.push(Missing { layer: Layer::Cgroup, why }),
        }
        self.held.sort_unstable();
        self
    }
}

/// Finds out. `identity` is whom a server would become (system mode).
pub(super) fn find(binary: &Binary, identity: Option<&Identity>) -> Strength {
    // Whom no host keeps from making namespaces needs nobody to make them.
    let other = if nix::unistd::geteuid().is_root() { Backend::Root } else { Backend::Bubblewrap };
    let mut refused: Vec<String> = Vec::new();
    for backend in [Backend::UserNamespace, other] {
        match attempt(binary, backend, identity) {
            Ok(strength) => return strength,
            Err(why) => refused.push(format!("{}: {why}", backend.as_str())),
        }
    }
    let why = refused.join("; ");
    let found = attempt(binary, Backend::None, identity);
    let mut strength = found.unwrap_or_else(|why| Strength::none(&why));
    // Its own words for this layer know nothing of what was tried before.
    for missing in strength.missing.iter_mut().filter(|it| it.layer == Layer::Namespaces) {
        missing.why.clone_from(&why);
    }
    strength
}

fn attempt(
    binary: &Binary,
    backend: Backend,
    identity: Option<&Identity>,
) -> Result<Strength, String> {
    let (born, lifeline) = birth(binary, plan(backend, identity)).map_err(|e| e.to_string())?;
    let until = Instant::now() + PATIENCE;
    let mut confined = None;
    let judged = loop {
        match hear(&lifeline, until) {
            Ok(KeeperWord::Confined { held, missing }) => confined = Some((held, missing)),
            Ok(KeeperWord::Limited { .. }) => {}
            Ok(KeeperWord::Exited { code: 0 }) => break Ok(()),
            Ok(KeeperWord::NotStarted { reason, .. }) => break Err(reason),
            Ok(other) => break Err(format!("{PROGRAM} did not run well in it: {other:?}")),
            Err(error) => break Err(error.to_string()),
        }
    };
    end(binary, &born);
    judged?;
    let (held, missing) = confined.ok_or("the stage said nothing of its layers")?;
    Ok(Strength { backend, held, missing })
}

fn plan(backend: Backend, identity: Option<&Identity>) -> StagePlan {
    StagePlan {
        wire: wire::VERSION,
        command: PROGRAM.to_owned(),
        args: Vec::new(),
        env: BTreeMap::new(),
        data: DATA.to_owned(),
        home: DATA.to_owned(),
        identity: identity.cloned(),
        keeper: None,
        backend,
        require: Vec::new(),
        view: View { tmp_bytes: 1024 * 1024, ..View::default() },
        network: Network::None,
        limits: Limits::default(),
        seat: None,
        secrets: BTreeMap::new(),
    }
}

/// Starts the stage as for a server, with nothing to read and nobody to listen.
fn birth(binary: &Binary, plan: StagePlan) -> io::Result<(Born, OwnedFd)> {
    let plan = post::seal(&plan).map_err(io::Error::other)?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let data = File::open(DATA)?;
    let (lifeline, leash) = sys::seqpacket_pair()?;
    let fds =
        [plan.as_fd(), null.as_fd(), null.as_fd(), null.as_fd(), lifeline.as_fd(), data.as_fd()];
    let born = binary.start(&Birth::Stage, &fds, &null, &[])?;
    Ok((born, leash))
}

fn hear(lifeline: &OwnedFd, until: Instant) -> Result<KeeperWord, PostError> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut ready = [PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut ready, timeout) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            Ok(_) => break,
            // A process of the try before this one has ended: no reason to judge this one.
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
    }
    let mut buffer = [0; 16 * 1024];
    post::receive(lifeline, &mut buffer, RecvFlags::DONTWAIT).map(|(word, _)| word)
}

/// Buries the keeper: nobody else does before the loop turns.
fn end(binary: &Binary, born: &Born) {
    kill(&born.pidfd);
    let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(born.pid), None);
    binary.forget(born.pid);
}
