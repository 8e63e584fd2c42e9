//! The supervisor: authenticates, admits, starts and restarts, watches the configuration, answers the
//! control API. Never sees MCP bytes, secrets or file contents.
//!
//! ```text
//! session.sock -> porter (thread) -> door threads --asks--> house (the loop) --cells--> muxes
//!                                        \--descriptors, after a yes--------------------^
//! tenantd.sock -> counter (task) --> one zlink server each --asks--> house
//! ```
//!
//! The [`house::House`] owns all state and runs on one thread; the rest asks it and waits for tickets.

mod adopt;
mod api;
mod attend;
mod authorities;
mod birth;
mod cell;
mod child;
mod credentials;
mod door;
mod doors;
mod doorway;
mod egress;
mod entrance;
pub mod estate;
mod ground;
mod groups;
mod hand;
mod heirs;
mod history;
mod house;
pub mod identities;
mod index;
mod inventory;
mod journal;
mod keepers;
mod line;
mod listen;
mod log;
mod logins;
mod logs;
mod memory;
mod message;
mod missing;
mod notify;
mod open;
mod parting;
mod pause;
mod plan;
mod probe;
mod reload;
mod renewals;
mod replace;
mod run;
mod sealed;
mod seats;
mod secrets;
mod shortage;
mod socket;
mod spawn;
mod status;
mod stop;
mod storage;
mod strength;
mod watch;
mod ways;
mod why;

use std::io;
use std::time::Duration;

pub use doors::DoorsError;
pub use ground::GroundError;
pub use strength::{ALL as LAYERS, Strength};

use crate::config::tenant::{Limit, Settings};
use crate::paths::{Layout, Mode};
use crate::sandbox::cgroup::Cgroups;

/// The threads of the blocking pool: configuration, names, directories of tenants, each of which may
/// hang on a file system or directory server of its own.
const BLOCKING_THREADS: usize = 32;
/// Their stack: other people's NSS modules run on it.
const BLOCKING_STACK: usize = 512 * 1024;
/// How long an idle one stays.
const BLOCKING_STAYS: Duration = Duration::from_secs(2);
/// How long the end waits for threads that hang.
const BLOCKING_LEAVES: Duration = Duration::from_millis(100);

/// What this machine can do to confine a server, by confining a trivial program now.
///
/// # Errors
/// If this program cannot be opened to be started again.
pub fn strength(layout: &Layout) -> io::Result<Strength> {
    let cgroups = Cgroups::find(&layout.state);
    let strength = strength::find(&spawn::Binary::open()?, None).with(&cgroups);
    cgroups.leave();
    Ok(strength)
}

/// How to serve.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is.
    pub layout: Layout,
    /// Leave when there was no session for so long; without one, as the settings say.
    pub idle_exit: Option<Limit<Duration>>,
}

/// Why the supervisor does not run.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Directories and lock.
    #[error(transparent)]
    Ground(#[from] GroundError),
    /// Sockets.
    #[error(transparent)]
    Doors(#[from] DoorsError),
    /// The operational log.
    #[error("cannot write the log in {0}: {1}")]
    Log(std::path::PathBuf, String),
    /// The system refused something else.
    #[error("cannot {deed}: {source}")]
    System {
        /// What.
        deed: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn cannot(deed: &'static str) -> impl FnOnce(io::Error) -> SupervisorError {
    move |source| SupervisorError::System { deed, source }
}

/// Serves until it is told to stop, or leaves for want of work.
///
/// # Errors
/// [`SupervisorError`] if it cannot start.
pub fn serve(options: Options) -> Result<(), SupervisorError> {
    crate::sys::become_undumpable()
        .map_err(cannot("keep other processes from reading this one"))?;
    nix::sys::prctl::set_child_subreaper(true)
        .map_err(io::Error::from)
        .map_err(cannot("become the reaper of what is started"))?;
    // What must be open to others is opened by name.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    raise_descriptor_limit();
    std::env::set_current_dir("/").map_err(cannot("change to /"))?;
    let lock = ground::prepare(&options.layout)?;
    let doors = doors::Doors::open(&options.layout)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_stack_size(BLOCKING_STACK)
        .thread_keep_alive(BLOCKING_STAYS)
        .build()
        .map_err(cannot("start the runtime"))?;
    let tasks = tokio::task::LocalSet::new();
    let served = tasks.block_on(&runtime, run::run(options, doors));
    drop(tasks);
    runtime.shutdown_timeout(BLOCKING_LEAVES);
    drop(lock);
    served
}

/// Every session takes a few descriptors for a moment; the soft limit is for programs that use select.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Without it there are fewer seats before descriptors run out, which the doors survive.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// What holds where `tenantd.toml` was never good: the documented defaults.
fn fallback(mode: Mode) -> Settings {
    Settings {
        admins: Vec::new(),
        uid_range: (1_900_000_000, 1_900_065_535),
        idle_exit: Limit::At(Duration::from_secs(15 * 60)),
        orphan_timeout: Duration::from_secs(30),
        drain: Duration::from_secs(5),
        log_level: "info".to_owned(),
        log_retention: 7,
        egress: crate::config::tenant::Egress::default(),
        store: crate::config::tenant::Store::default_of(mode),
        not_enforced: Vec::new(),
    }
}
