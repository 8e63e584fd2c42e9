//! The stage: one process that receives a plan, and from which the tenant's server comes.
//!
//! ```text
//!   stage --fork--> leader --fork--> pid 1 of the namespaces --fork--> the server
//!     |                |
//!   becomes the      makes the namespaces,
//!   keeper           says who pid 1 is, ends
//! ```
//!
//! The steps, in order; none can be taken back:
//!
//! 1. first in line where memory is short, and not dumpable: nobody of this uid reads the plan from memory
//! 2. the plan and its descriptors arrive on the birth socket
//! 3. a session of its own and child subreaper: a server that daemonises stays below this process
//! 4. fork: the parent becomes the [`keeper`](super::keeper), the child goes on
//! 5. the cgroup, the data directory ([`idmap`](super::idmap)), the tenant's user, the namespaces
//!    ([`enter`](super::enter))
//! 6. fork: pid 1 of the namespaces, [`init`](super::init), makes the root and enters it
//! 7. fork: the last steps of [`server`](super::server), then execve with exactly the environment of the plan
//!
//! Without namespaces step 6 is left out; where the server has secrets, the leader stays beside it for what
//! pid 1 does with them. Why a step failed travels to the keeper through a pipe that execve
//! closes.

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::sys::signal::{SIGKILL, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{self, Pid};
use rustix::net::{RecvFlags, SendFlags};

use super::failure::{self, Failure};
use super::keeper::{self, Kept};
use super::offspring::children;
use super::secrets::{self, Secrets};
use super::server::become_server;
use super::{cgroup, enter, idmap, init, tree};
use crate::config::tenant::Layer;
use crate::post::{self, PostError};
use crate::sys::{self, Forked};
use crate::wire::stage::{Backend, KeeperWord, Network, StagePlan};
use crate::wire::{self, Birth};

/// Descriptors of every birth of a stage; its plan says which come after them.
const FEWEST: usize = 6;

/// What the stage was given.
pub(super) struct Given {
    pub(super) plan: StagePlan,
    pub(super) stdin: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) data: OwnedFd,
    /// Where egress takes listeners.
    pub(super) doors: Option<OwnedFd>,
    /// Where its secrets wait, and later ones come.
    pub(super) handover: Option<OwnedFd>,
    /// Its secrets, once they are taken from there.
    pub(super) secrets: Secrets,
    /// The data directory as a mount to attach, where this process was root and is to become somebody else.
    pub(super) lent: Option<OwnedFd>,
}

/// The role's entry.
pub fn main() -> ExitCode {
    cgroup::stand_back(cgroup::Rank::Server);
    if sys::become_undumpable().is_err() {
        return ExitCode::FAILURE;
    }
    let Ok((given, lifeline)) = receive() else { return ExitCode::FAILURE };
    let mut lifeline = Some(lifeline);
    match run(given, &mut lifeline) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let reason = format!("cannot start the server: {error}");
            let word = KeeperWord::NotStarted { reason, permanent: false };
            if let Some(lifeline) = lifeline {
                keeper::say(&lifeline, &word);
            }
            ExitCode::FAILURE
        }
    }
}

fn receive() -> Result<(Given, OwnedFd), PostError> {
    let (birth, mut descriptors) = post::birth()?;
    if birth != Birth::Stage {
        return Err(PostError::Descriptors(descriptors.len()));
    }
    let more = descriptors.split_off(FEWEST.min(descriptors.len()));
    let [plan, stdin, stdout, stderr, lifeline, data] = post::exactly(descriptors)?;
    let plan: StagePlan = post::unseal(plan)?;
    let (count, mut more) = (more.len(), more.into_iter());
    let connects = matches!(plan.network, Network::Allow { .. });
    let doors = if connects { more.next() } else { None };
    let handover = if plan.secrets.is_empty() { None } else { more.next() };
    if more.next().is_some() {
        return Err(PostError::Descriptors(FEWEST + count));
    }
    let (secrets, lent) = (Secrets::default(), None);
    let given = Given { plan, stdin, stdout, stderr, data, doors, handover, secrets, lent };
    Ok((given, lifeline))
}

/// `lifeline` stays with the keeper alone: it is taken out of what the other processes inherit, so that the
/// mux sees the keeper's end at once and nobody else can speak for it.
fn run(mut given: Given, lifeline: &mut Option<OwnedFd>) -> io::Result<()> {
    if given.plan.wire != wire::VERSION {
        return Err(io::Error::other("the supervisor speaks another wire version; restart it"));
    }
    // It was started through a descriptor, whose number would be its name.
    nix::sys::prctl::set_name(c"tenantd-keeper")?;
    unistd::setsid()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let watch = keeper::Watch::new(given.plan.seat.as_ref())?;
    let (failure, failed) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (near, far) = sys::seqpacket_pair()?;
    let own = unistd::getpid();
    match sys::fork_single_threaded()? {
        Forked::Child => {
            drop((near, failure, lifeline.take()));
            lead(given, failed, far, own);
            // Nothing may run on in this copy of the stage; there is nothing to clean up either.
            kill(unistd::getpid(), SIGKILL)?;
            Ok(())
        }
        Forked::Parent(leader) => {
            drop((failed, far));
            let Some(lifeline) = lifeline else { return Ok(()) };
            let doors = given.doors.take();
            let namespaces = given.plan.backend != Backend::None;
            let alone = !namespaces && given.plan.secrets.is_empty();
            if let Some(identity) = &given.plan.keeper {
                enter::become_keeper(identity)?;
            }
            // The keeper must not hold the server's pipes: their ends are news to the mux.
            drop(given);
            enter::detach_stdio()?;
            let mut words = failure::told(failure);
            let last = words.pop();
            let Some(word @ KeeperWord::Confined { .. }) = last else {
                keeper::say(lifeline, &last.unwrap_or_else(unsaid));
                keeper::kill_everything(leader);
                return Ok(());
            };
            keeper::say(lifeline, &word);
            let kept = if namespaces {
                Kept::Init(pid_one(&near, leader)?, near)
            } else if alone {
                Kept::Server(leader)
            } else {
                Kept::Init(leader, near)
            };
            watch.keep(lifeline, &kept, doors);
            Ok(())
        }
    }
}

/// Somebody killed a process of the start.
fn unsaid() -> KeeperWord {
    let reason = "its process was killed before the server ran".to_owned();
    KeeperWord::NotStarted { reason, permanent: false }
}

/// Steps 5 to 7, in the child of the keeper. Comes back in every process that does not become the server.
fn lead(mut given: Given, failed: OwnedFd, leash: OwnedFd, keeper: Pid) {
    match place(&mut given, keeper) {
        Err(failure) => failure::tell(&failed, &failure.word()),
        Ok(()) if given.plan.backend == Backend::None => {
            without_namespaces(given, failed, leash, keeper);
        }
        Ok(()) => match sys::fork_single_threaded() {
            Ok(Forked::Child) => init::run(given, failed, leash),
            Ok(Forked::Parent(init)) => {
                // Without it the keeper cannot send a signal; it sees the end of this pipe.
                let _ = sys::send_datagram(
                    &leash,
                    &init.as_raw().to_ne_bytes(),
                    &[],
                    SendFlags::empty(),
                );
            }
            Err(error) => {
                failure::tell(&failed, &Failure::new("cannot fork", error).word());
            }
        },
    }
}

/// Step 7 at once, or beside it as pid 1 would be.
fn without_namespaces(mut given: Given, failed: OwnedFd, leash: OwnedFd, keeper: Pid) {
    if given.plan.secrets.is_empty() {
        drop(leash);
        match tree::granted_outside(&given.plan, &given.data) {
            Ok(granted) => drop(become_server(&given, &granted, &failed, keeper)),
            Err(failure) => failure::tell(&failed, &failure.word()),
        }
        return;
    }
    match Secrets::take(&given.plan, given.handover.as_ref()) {
        Ok(secrets) => {
            given.secrets = secrets;
            init::beside(given, failed, leash);
        }
        Err(failure) => failure::tell(&failed, &failure.word()),
    }
}

/// Step 5.
fn place(given: &mut Given, keeper: Pid) -> Result<(), Failure> {
    let plan = &given.plan;
    secrets::can_be_had(plan)?;
    nix::sys::prctl::set_pdeathsig(SIGKILL).map_err(Failure::during("be tied to the keeper"))?;
    if unistd::getppid() != keeper {
        return Err(Failure::new("cannot start", io::Error::other("the keeper died")));
    }
    if let Some(seat) = &plan.seat {
        enter::take_seat(seat)?;
    }
    if let Some(identity) = &plan.identity {
        match plan.backend {
            Backend::None => idmap::as_it_is(plan, identity)?,
            _ => given.lent = Some(idmap::lend(plan, &given.data, identity)?),
        }
    }
    let early = matches!(plan.backend, Backend::UserNamespace | Backend::None);
    if let (true, Some(identity)) = (early, &plan.identity) {
        enter::become_user(identity).map_err(Failure::during("become the tenant's user"))?;
    }
    match (plan.backend, &plan.network) {
        (Backend::None, Network::Allow { .. }) => {
            let why = io::Error::other("without it sandbox.network cannot be a list");
            Err(Failure::new("the network of its own", why).of(Layer::Namespaces))
        }
        (Backend::None, _) => Ok(()),
        _ => enter::namespaces(plan),
    }
}

/// The pid that pid 1 of the namespaces has here, as its parent said it before it ended. A parent that was
/// killed said nothing, and left it to this process, which has no other child.
fn pid_one(leash: &OwnedFd, leader: Pid) -> io::Result<Pid> {
    while waitpid(leader, None) == Err(Errno::EINTR) {}
    let mut bytes = [0; 4];
    match sys::receive_datagram(leash, &mut bytes, RecvFlags::DONTWAIT) {
        Ok(got) if got.bytes == bytes.len() => Ok(Pid::from_raw(i32::from_ne_bytes(bytes))),
        _ => match *children() {
            [only] => Ok(only),
            _ => Err(io::Error::other("pid 1 of the sandbox was not named")),
        },
    }
}
