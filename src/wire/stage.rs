//! What the stage is told of one server and its sandbox, and what the keeper says of it afterwards.
//!
//! The supervisor writes a [`StagePlan`]; the stage applies it, layer by layer, and starts nothing where a
//! layer of [`StagePlan::require`] cannot be had.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Identity;
use crate::config::tenant::Layer;

/// What the stage needs to become a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagePlan {
    /// [`super::VERSION`] of the writer.
    pub wire: u32,
    /// The program, absolute, by the name that the configuration gives it.
    pub command: String,
    /// Its arguments, without argv\[0\].
    pub args: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// The data directory, absolute; what is bound there must be the directory of the descriptor that came
    /// along.
    pub data: String,
    /// Its HOME, absolute: private to the tenant, writable.
    pub home: String,
    /// Who it becomes (system mode).
    pub identity: Option<Identity>,
    /// Who its keeper becomes (system mode): the user of its mux, with the right to end it.
    pub keeper: Option<Identity>,
    /// How namespaces are made.
    pub backend: Backend,
    /// Layers without which it does not start.
    pub require: Vec<Layer>,
    /// What of the file system it sees beside the system's own programs and libraries.
    pub view: View,
    /// What it reaches.
    pub network: Network,
    /// Bounds of each of its processes.
    pub limits: Limits,
    /// Its cgroup.
    pub seat: Option<Seat>,
    /// Its secrets, by the names of credentials: where each goes. The values come on the hand-over socket
    /// ([`super::credential::Handed`]), all of them before the stage is born.
    #[serde(default)]
    pub secrets: BTreeMap<String, Vec<Place>>,
}

/// Where a server finds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Place {
    /// In this variable of its environment.
    Env(String),
    /// In this file of [`CREDENTIALS`].
    File(String),
}

/// Where a server's secrets lie as files: `$CREDENTIALS_DIRECTORY`.
pub const CREDENTIALS: &str = "/run/credentials";

/// How a stage comes to namespaces of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// It makes a user namespace (user_namespaces(7)), after it has become who it is to be.
    UserNamespace,
    /// It enters a user namespace that bubblewrap makes for it, where only programs that the host names may
    /// make one.
    Bubblewrap,
    /// It has the capabilities already and gives them up on the way (system mode).
    Root,
    /// It can have none.
    None,
}

impl Backend {
    /// The name as printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserNamespace => "user namespace",
            Self::Bubblewrap => "user namespace by bubblewrap",
            Self::Root => "namespaces as root",
            Self::None => "no namespaces",
        }
    }
}

/// What a server sees of the file system, by the names that it has outside. Every path is absolute and
/// without links when the plan is written; one that leads through a link since then is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct View {
    /// Files and directories that it may read and execute.
    pub read: Vec<String>,
    /// Files and directories that it may also change.
    pub write: Vec<String>,
    /// Symbolic links that are made in its root, by name: what they say.
    pub links: BTreeMap<String, String>,
    /// The size of its /tmp, bytes.
    pub tmp_bytes: u64,
    /// Whether programs in the data directory may be executed.
    pub data_exec: bool,
    /// The owner of an existing data directory of a person's: files keep and get this uid and gid on disk
    /// (idmapped mount, mount_setattr(2)), while the server sees its own.
    pub data_owner: Option<Owner>,
    /// Whether it may write in that directory also without such a mount, by its groups.
    pub data_shared: bool,
}

/// Who a file belongs to on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The uid.
    pub uid: u32,
    /// The gid.
    pub gid: u32,
}

/// What a server reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Network {
    /// Its own loopback interface.
    None,
    /// What the host reaches.
    Host,
    /// What egress dials for it.
    Allow {
        /// Exact hosts: a name has an address of its own on the loopback interface, 127.64.0.N, and its
        /// line in /etc/hosts; an address is itself there. Each has a listener for each port.
        hosts: Vec<Doorway>,
        /// Whether there is a CONNECT proxy on 127.0.0.1:3128.
        proxy: bool,
    },
}

/// One exact host of an allowlist, inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doorway {
    /// Its name, as the server asks for it.
    pub host: String,
    /// Where it is found inside: of 127.64.0.0/16 for a name, itself for an address.
    pub address: IpAddr,
    /// The ports that are open.
    pub ports: Vec<u16>,
}

/// Bounds of each process (getrlimit(2)); `None` leaves what there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// RLIMIT_NOFILE, descriptors.
    pub open_files: Option<u64>,
    /// RLIMIT_DATA, bytes.
    pub data_bytes: Option<u64>,
    /// RLIMIT_FSIZE, bytes: the largest file; what is over it gets EFBIG (SIGXFSZ is ignored).
    #[serde(default)]
    pub file_bytes: Option<u64>,
    /// RLIMIT_NPROC, tasks of this uid in its user namespace; where no cgroup counts them.
    pub processes: Option<u64>,
}

/// A server's place in the tenant's cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seat {
    /// The `cgroup.procs` (v1: one for each hierarchy) that it writes itself into.
    pub procs: Vec<String>,
    /// The file that counts kills for want of memory: `memory.events`, v1 `memory.oom_control`.
    pub memory_events: Option<String>,
    /// The file that counts refused forks: `pids.events`.
    pub pids_events: Option<String>,
}

/// Mux to keeper, on the lifeline: ask the server's main process to end (SIGTERM to its group).
/// The end of the lifeline kills the server and every descendant (SIGKILL).
pub const KEEPER_TERM: &[u8] = b"term";

/// Keeper to mux, on the lifeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case", deny_unknown_fields)]
pub enum KeeperWord {
    /// The server runs: what holds it, and what could not be had and was not required.
    Confined {
        /// Layers that hold.
        held: Vec<Layer>,
        /// Layers that do not, and why.
        missing: Vec<Missing>,
    },
    /// A limit of its cgroup was met; the server runs on.
    Limited {
        /// What, for people: `a new process was refused (quota.processes)`.
        what: String,
    },
    /// The server could not be started. The last word, as are those below.
    NotStarted {
        /// What is wrong and what to do.
        reason: String,
        /// Whether trying again without a change is pointless.
        permanent: bool,
    },
    /// The server exited with this code.
    Exited {
        /// 0 to 255.
        code: i32,
    },
    /// The server was ended by this signal.
    Signalled {
        /// The signal's name, as in signal(7).
        signal: String,
    },
    /// The kernel ended it for want of memory.
    OutOfMemory,
}

/// A layer that could not be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// Which.
    pub layer: Layer,
    /// Why, and what to do about it.
    pub why: String,
}
