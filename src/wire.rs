//! The messages between the supervisor and what it starts, and the datagram of the session door.
//!
//! Three conversations, all over SOCK_SEQPACKET, one JSON document a datagram, descriptors beside it
//! (unix(7), SCM_RIGHTS), unknown fields refused:
//!
//! * **birth**: a role finds a socket as descriptor 0 and receives exactly one datagram on it,
//!   [`Birth`], with the role's descriptors. The first is a sealed memfd with the role's plan (so that
//!   no plan has a size limit, and none is in argv or environ).
//! * **cell**: the supervisor connects to a mux's cell socket, also at the first start: it sends
//!   [`ToMux::Adopt`], the mux answers [`FromMux::Hello`], then both send as they please. Its end is
//!   the end of that supervisor, never of the mux.
//! * **session door**: a client sends one [`Request`] with its descriptors and gets one [`Answer`].
//!
//! This room holds data only: who sends what to whom is decided above.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::tenant::{Limit, Share, SharedCapability};
use crate::names::{ServerName, SessionId, TenantId};

pub mod credential;
pub mod egress;
pub mod stage;

/// The version of everything in this file. A peer with another one drains.
pub const VERSION: u32 = 4;
/// The largest datagram of a cell, bytes.
pub const CELL_DATAGRAM: usize = 64 * 1024;
/// The largest datagram of the session door, bytes.
pub const DOOR_DATAGRAM: usize = 4 * 1024;

/// The one datagram that a role is born with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Birth {
    /// Descriptors: plan ([`MuxPlan`]), the listening cell socket, the tenant's server log (append), its
    /// memory of handshakes (read, append).
    Mux,
    /// Descriptors: plan ([`stage::StagePlan`]), stdin, stdout, stderr, lifeline, data directory; where
    /// its network is an allowlist also the socket on which egress takes the listeners; where it has
    /// secrets also the hand-over socket, in which they wait.
    Stage,
    /// Descriptors: plan ([`egress::EgressPlan`]), the control socket, the tenant's network log (append).
    Egress,
    /// Descriptors: plan ([`credential::CredentialPlan`]), the control socket, and what its deed names.
    Credential,
}

/// A user of a role's own (system mode), which it becomes for good before it reads anything from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The uid.
    pub uid: u32,
    /// The gid.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// What a mux must know of its tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuxPlan {
    /// [`VERSION`] of the writer.
    pub wire: u32,
    /// The tenant.
    pub tenant: TenantId,
    /// Its name for people.
    pub name: String,
    /// The digest of the configuration that this plan was made from.
    pub digest: String,
    /// The digest of what running servers were started with: where it differs, they are stale.
    pub start_digest: String,
    /// Its servers.
    pub servers: Vec<ServerPlan>,
    /// Its feature switches, for the context of each request.
    pub features: BTreeMap<String, bool>,
    /// The largest message either way, bytes; without a limit the mux's own bound holds.
    pub message_size: Limit<u64>,
    /// Who the mux becomes before it reads anything from outside (system mode).
    pub identity: Option<Identity>,
    /// The uid that a supervisor's connection must have.
    pub supervisor_uid: u32,
    /// How long a drain waits for calls in flight, milliseconds.
    pub drain_ms: u64,
    /// How long it lives without a supervisor, milliseconds.
    pub orphan_timeout_ms: u64,
}

/// One server in a [`MuxPlan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerPlan {
    /// Its name.
    pub name: ServerName,
    /// How many children.
    pub share: Share,
    /// The most children with `share` user or session.
    pub max_children: u32,
    /// Whether it starts with its tenant.
    pub always: bool,
    /// How long a child without sessions lives on, milliseconds.
    pub idle_timeout_ms: Limit<u64>,
    /// How long a request may take, milliseconds.
    pub request_timeout_ms: Limit<u64>,
    /// How long a start may take until the handshake is done, milliseconds.
    pub start_timeout_ms: u64,
    /// What it may ask a client for while shared.
    pub shared_capabilities: Vec<SharedCapability>,
    /// Why it may not run now, where that can be cured: its sessions stay and wait.
    pub held: Option<Ailment>,
}

/// What keeps a server from its sessions, and can be cured: they stay, and are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ailment {
    /// For machines: `suspended`, `crash-loop`, ...
    pub reason: String,
    /// What is wrong and what to do, under 300 characters, one line.
    pub message: String,
    /// The exit code of a strict shim (sysexits(3)).
    pub code: u8,
}

/// Who a session belongs to, as the supervisor authenticated it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The uid.
    pub uid: u32,
    /// The primary gid.
    pub gid: u32,
    /// The supplementary groups when it connected.
    pub groups: Vec<u32>,
    /// The user's name, or the uid in digits.
    pub user: String,
    /// What the grants give: permissions.
    pub permissions: Vec<String>,
}

/// Supervisor to mux.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ToMux {
    /// The first datagram of a supervisor. Of every version: this one shape never changes.
    Adopt {
        /// [`VERSION`].
        wire: u32,
    },
    /// A new plan for what can change live. Descriptor: sealed memfd with a [`MuxPlan`].
    Configure,
    /// A session. Descriptors: the client's stdin (we read), stdout (we write), lifeline.
    Open {
        /// Its id.
        session: SessionId,
        /// The server that it is bound to.
        server: ServerName,
        /// Whose it is.
        holder: Holder,
        /// Whether it ends at once where it could wait for a cure.
        strict: bool,
    },
    /// The child asked for runs. Descriptors: its stdin (we write), stdout (we read), stderr (we read),
    /// lifeline, pidfd of its keeper.
    Started {
        /// As in [`FromMux::Start`].
        child: u64,
        /// The pid of its keeper, for people to see.
        pid: i32,
        /// A fingerprint of the program: what was learned of another one does not hold.
        program: String,
    },
    /// The child asked for was not started.
    NotStarted {
        /// As in [`FromMux::Start`].
        child: u64,
        /// What is wrong and what to do.
        reason: String,
        /// Whether trying again without a change is pointless.
        permanent: bool,
    },
    /// Stop the children of this server (of all without a name); the next call starts them again.
    Restart {
        /// The server.
        server: Option<ServerName>,
    },
    /// Start these children of a server anew, drained: what they were started with has changed. What could
    /// not be started of it is tried again.
    Renew {
        /// The server.
        server: ServerName,
        /// Which; none where nothing has to end.
        children: Vec<u64>,
    },
    /// End one session.
    Close {
        /// Which.
        session: SessionId,
        /// Why, for the person who sees it.
        reason: String,
        /// The exit code for the shim (sysexits(3)).
        code: u8,
    },
    /// Finish: no new calls, wait for those in flight, close every session with the reason, stop every
    /// child, exit.
    Drain {
        /// Why, for the people who see it.
        reason: String,
        /// The exit code for the shims (sysexits(3)).
        code: u8,
        /// How long to wait for calls in flight, milliseconds.
        within_ms: u64,
    },
    /// Answer with [`FromMux::Status`].
    Status {
        /// Comes back in the answer.
        ticket: u64,
    },
    /// What the tenant stores: after a look that finds it full, and when it is no longer.
    Storage {
        /// Bytes on disk.
        used: u64,
        /// `quota.storage`, bytes.
        limit: u64,
        /// Whether nothing more may be stored.
        full: bool,
    },
    /// The server log was rotated. Descriptor: the new file (append).
    Log,
    /// The answer to [`FromMux::MayLeave`] where nothing is on its way to this mux: exit now.
    Leave,
}

/// Mux to supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case", deny_unknown_fields)]
pub enum FromMux {
    /// The answer to [`ToMux::Adopt`]; [`FromMux::Inventory`] follows. Of every version `say` and
    /// `wire` are there, whatever else is.
    Hello {
        /// [`VERSION`].
        wire: u32,
        /// The tenant.
        tenant: TenantId,
        /// [`MuxPlan::digest`] of its plan.
        digest: String,
        /// [`MuxPlan::start_digest`] of its plan.
        start_digest: String,
        /// The last record of its audit log.
        audit_head: Option<String>,
        /// Whether it is on its way out, and takes no new session.
        draining: bool,
    },
    /// What a mux has, after its [`FromMux::Hello`], in as many parts as its datagrams need.
    /// Descriptors: the keepers' pidfds, in the order of `children`.
    Inventory {
        /// Sessions.
        sessions: Vec<SessionLine>,
        /// Children that run.
        children: Vec<ChildLine>,
        /// Whether this was the last part.
        last: bool,
    },
    /// A child is wanted. Answered by [`ToMux::Started`] or [`ToMux::NotStarted`].
    Start {
        /// Unique for the life of this mux.
        child: u64,
        /// Which server.
        server: ServerName,
        /// For whom, where `share` is user or session (`{user}` expands to it).
        holder: Option<Holder>,
    },
    /// A child and all its descendants are gone.
    Gone {
        /// As in [`FromMux::Start`].
        child: u64,
        /// Which server.
        server: ServerName,
        /// How it ended.
        reason: String,
    },
    /// A running child met a limit of its control group.
    Limited {
        /// As in [`FromMux::Start`].
        child: u64,
        /// Which server.
        server: ServerName,
        /// What, for people.
        what: String,
    },
    /// A session is over.
    Closed {
        /// Which.
        session: SessionId,
        /// Why.
        reason: String,
    },
    /// The answer to [`ToMux::Status`], in as many parts as its datagrams need.
    Status {
        /// From the question.
        ticket: u64,
        /// What there is: lists are parts of the whole, counters come with every part.
        status: MuxStatus,
        /// Whether this was the last part.
        last: bool,
    },
    /// The server log has reached its size: a new file, please.
    LogFull,
    /// Nothing left to do for this tenant.
    MayLeave,
}

/// One session in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionLine {
    /// Its id.
    pub session: SessionId,
    /// Its server.
    pub server: ServerName,
    /// Whose it is.
    pub holder: Holder,
    /// What the client calls itself; self-reported.
    pub client: Option<String>,
    /// `legacy`, `modern`, or nothing before the first message.
    pub era: Option<String>,
    /// Calls in flight.
    pub in_flight: u32,
    /// Calls so far.
    pub calls: u64,
    /// Seconds since it was opened.
    pub age_s: u64,
}

/// One child in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChildLine {
    /// As in [`FromMux::Start`].
    pub child: u64,
    /// Its server.
    pub server: ServerName,
    /// The pid of its keeper, where it runs.
    pub pid: Option<i32>,
    /// Whose it is, where `share` is user or session.
    pub user: Option<String>,
    /// `starting`, `running`, `stopping`, `idle`, `waiting` (for its next start), `crash-loop`, `failed`
    /// (trying again needs a change), `held` (not to run now).
    pub state: String,
    /// `legacy` or `modern`, once known.
    pub era: Option<String>,
    /// What the server calls itself.
    pub version: Option<String>,
    /// Sessions attached.
    pub sessions: u32,
    /// Starts so far.
    pub starts: u64,
    /// Why it is not running, or how it ended last.
    pub last: Option<String>,
    /// The limit of its control group that it met last.
    pub limit: Option<String>,
    /// The last lines that it wrote to stderr, oldest first, each short.
    pub stderr: Vec<String>,
    /// Seconds since it was started.
    pub age_s: u64,
}

/// What a mux tells about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MuxStatus {
    /// Its sessions.
    pub sessions: Vec<SessionLine>,
    /// Its children.
    pub children: Vec<ChildLine>,
    /// Calls answered since it started.
    pub calls: u64,
    /// Errors of our own since it started.
    pub refused: u64,
    /// Lines dropped because nobody could be told: garbage, answers nobody asked for.
    pub dropped: u64,
}

/// Client to the session door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Open a session. Descriptors: stdin (read), stdout (write), lifeline (a stream socket).
    Open {
        /// `TENANT[/SERVER]`, or nothing for the only one.
        target: Option<String>,
        /// Fail at once where the session could wait for a cure.
        strict: bool,
    },
    /// Would a session be opened, or refused for another reason than not knowing the tenant? No
    /// descriptors.
    Ask {
        /// As in [`Request::Open`].
        target: Option<String>,
    },
    /// Keep this secret. Descriptor: a sealed memfd with it ([`crate::post::seal_secret`]). Who asks is whose it
    /// is, where each user has one of their own.
    SetCredential {
        /// The tenant.
        tenant: String,
        /// Its name in the tenant's file.
        name: String,
        /// Where the client took it from.
        source: credential::Source,
        /// Refuse where there is none to be replaced.
        rotate: bool,
    },
}

/// The session door's one answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// The descriptors are with the mux.
    Open {
        /// The session.
        session: SessionId,
        /// The tenant.
        tenant: TenantId,
        /// The server.
        server: ServerName,
    },
    /// The tenant is known here to who asks.
    Known,
    /// The secret is in the store.
    Kept {
        /// The tenant.
        tenant: TenantId,
        /// Whose it is, where each user has one of their own.
        user: Option<String>,
        /// Whether another one was there.
        replaced: bool,
    },
    /// Not opened.
    Refused(Refusal),
}

/// A final refusal, fit to be shown to a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// What is wrong and what to do, under 300 characters, one line.
    pub message: String,
    /// The shim's exit code (sysexits(3)): 64, 69, 77 or 78.
    pub code: u8,
    /// For machines: `unknown-tenant`, `suspended`, ...
    pub reason: String,
    /// Whether another supervisor may know better: it does not know the tenant.
    pub elsewhere: bool,
}

/// What the mux writes on a session's lifeline before it closes it: one JSON line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Farewell {
    /// Why, for the person who sees it; empty where the client itself went.
    pub reason: String,
    /// The shim's exit code.
    pub code: u8,
}

/// The most bytes of a [`Farewell`] line: 300 characters, each of them escaped, fit.
pub const FAREWELL_MAX: usize = 2048;
