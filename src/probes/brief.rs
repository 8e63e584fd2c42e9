//! What a probe is told of those whom it tries to reach. Everything is optional: what is not told is not
//! tried, and the account says so.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What there is to find.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Brief {
    /// The data directory of the tenant in whose sandbox it runs.
    pub data: Option<String>,
    /// The other tenant.
    pub other: Neighbour,
    /// tenantd's own directories.
    pub house: House,
    /// Processes outside: `supervisor`, and of the other tenant `mux`, `keeper`, `server`.
    pub processes: BTreeMap<String, Known>,
    /// Pathname sockets outside: `session`, `control`, `cell`, `bus`, `private`, `public`.
    pub sockets: BTreeMap<String, String>,
    /// The control groups that hold the server.
    pub groups: Groups,
    /// Objects that the kernel keeps by name.
    pub objects: Objects,
    /// A file outside that is this uid's own, or everybody's.
    pub outside: Option<String>,
    /// A directory outside that is this uid's own: a person's home.
    pub person: Option<String>,
    /// A text that stands in the environment or the arguments of a process outside.
    pub secret: Option<String>,
    /// The host's namespaces, by name: `net:[4026531833]` and so on (namespaces(7)).
    pub namespaces: BTreeMap<String, String>,
    /// How many processes the tenant may have; without it no limit is claimed.
    pub processes_max: Option<u32>,
    /// How much memory one process may have, bytes; without it no limit of a process's own is claimed.
    pub memory_max: Option<u64>,
    /// How many descriptors one process may have.
    pub open_files_max: Option<u32>,
    /// The size of /tmp, bytes.
    pub tmp_bytes: Option<u64>,
    /// Whether programs in the data directory may be executed.
    pub data_exec: bool,
    /// Whether the server shares the host's network.
    pub host_network: bool,
}

/// The other tenant's places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Neighbour {
    /// Its id, which is the name of its own directory.
    pub id: Option<String>,
    /// Its data directory.
    pub data: Option<String>,
    /// Its servers' HOME.
    pub home: Option<String>,
    /// A file of its own.
    pub file: Option<String>,
}

/// tenantd's own directories.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct House {
    /// Of the sockets.
    pub runtime: Option<String>,
    /// Of `tenantd.toml`.
    pub config: Option<String>,
    /// Of the tenants' own directories.
    pub state: Option<String>,
    /// Of the logs.
    pub log: Option<String>,
}

/// The control groups that hold the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Groups {
    /// How many processes they allow; nothing where no limit is said to be held by a group.
    pub processes: Option<u32>,
    /// Their directories on the host, in each hierarchy: those of the tenant's mux, and those above.
    pub places: Vec<String>,
}

/// A process outside. In another pid namespace its number may be another process's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its number outside.
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: when it started, in ticks since the machine did.
    pub started: u64,
}

/// What the kernel keeps by name or number, and TCP and UDP ports of the host's loopback interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Objects {
    /// Somebody listens there, on 127.0.0.1.
    pub tcp: Option<u16>,
    /// Somebody is bound there, on 127.0.0.1.
    pub udp: Option<u16>,
    /// A stream socket listens by this name in the abstract namespace (unix(7)).
    pub abstract_socket: Option<String>,
    /// A shared memory segment, a semaphore set and a message queue (sysvipc(7)).
    pub sysv: Option<i32>,
    /// A queue (mq_overview(7)), without its slash.
    pub mqueue: Option<String>,
    /// A file of /dev/shm.
    pub shm: Option<String>,
    /// A key of type `user` in the user keyring (user-keyring(7)).
    pub key: Option<String>,
}

/// A process as a brief names it; `None` where there is none.
pub fn identify(pid: i32) -> Option<Known> {
    Some(Known { pid, started: started(pid)? })
}

/// The name in field 2 may hold spaces and parentheses (proc(5)).
pub(super) fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}
