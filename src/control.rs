//! The control API `io.tenantd.Supervisor` as both ends see it: its types, errors and client.
//!
//! Varlink (varlink.org) over `tenantd.sock`. The supervisor implements it, the CLI is a client and has
//! no other way in. What a type holds may be shown to whoever the method lets ask.

mod past;
mod secrets;

use serde::{Deserialize, Serialize};
use zlink::introspect;

pub use past::{RefusalLine, StartLine, StderrLines};
pub use secrets::{
    CredentialLine, CredentialsReply, LoggedOutReply, LoginEndpoint, LoginReply, RemovedReply,
};

/// The Varlink interface.
pub const INTERFACE: &str = "io.tenantd.Supervisor";

/// The supervisor itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct SupervisorStatus {
    /// tenantd's version.
    pub version: String,
    /// `system` or `user`.
    pub mode: String,
    /// Its process id.
    pub pid: i64,
    /// Seconds since it started.
    pub uptime_s: i64,
    /// Another one after each start, also where the process id is the same.
    pub instance: String,
    /// The configuration directory.
    pub config: String,
    /// The directory of the tenants' own directories.
    pub state: String,
    /// The directory of the logs.
    pub log: String,
    /// What holds `quota.memory`, `cpus` and `processes` of a tenant as a whole: `cgroup v2`, `cgroup v1`, or
    /// `none: ` and why.
    pub limits: String,
    /// Sandbox layers that do not hold here, each with why and the cure; empty where all hold.
    pub not_isolated: Vec<String>,
    /// Fields that some file sets and this version does not enforce, as `file: field`.
    pub not_enforced: Vec<String>,
    /// Problems of the configuration, as `file:line:column: what is wrong; what to write instead`.
    pub problems: Vec<String>,
}

/// One tenant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct TenantStatus {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// `active`, `suspended`, `trial until ...`, `trial over`, `broken`.
    pub status: String,
    /// Its data directory.
    pub data: String,
    /// The digest of the configuration that runs.
    pub digest: String,
    /// Its problems: a broken file beside a running last good version, a refused start.
    pub problems: Vec<String>,
    /// Layers that hold, by name.
    pub layers: Vec<String>,
    /// Layers that do not.
    pub missing_layers: Vec<String>,
    /// What it stores, where it is in use and limited.
    pub storage: Option<StorageStatus>,
    /// The mux's process id, where it is in use.
    pub mux_pid: Option<i64>,
    /// The process id of its egress, where a server with an allowlist runs.
    pub egress_pid: Option<i64>,
    /// Seconds since its egress died, within the last hour: the servers that used it were started anew.
    pub egress_died_s: Option<i64>,
    /// Its servers and their children.
    pub servers: Vec<ServerStatus>,
    /// Its sessions.
    pub sessions: Vec<SessionStatus>,
    /// Calls answered since the mux started.
    pub calls: i64,
    /// Errors of our own since the mux started.
    pub refused: i64,
    /// Lines that were dropped since the mux started.
    pub dropped: i64,
}

/// What a tenant stores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct StorageStatus {
    /// `project quota` (the kernel holds the limit) or `watcher` (we do, by looking).
    pub method: String,
    /// Bytes on disk, in its data directory and its home.
    pub used: i64,
    /// `quota.storage`, bytes.
    pub limit: i64,
    /// Whether calls that may write are refused.
    pub full: bool,
    /// Why it cannot be counted whole.
    pub problem: Option<String>,
    /// Why the kernel does not hold the limit.
    pub why_watched: Option<String>,
}

/// One server of a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct ServerStatus {
    /// Its name.
    pub name: String,
    /// The program that was found.
    pub command: String,
    /// `tenant`, `user` or `session`.
    pub share: String,
    /// What it reaches: `none`, `host` (whatever the host does), or its allowlist.
    pub network: String,
    /// Why it may not run now, and what to do: its sessions wait.
    pub held: Option<String>,
    /// Its children.
    pub children: Vec<ChildStatus>,
}

/// One child of a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct ChildStatus {
    /// `starting`, `running`, `stopping`, `idle`, `waiting` (for its next start), `crash-loop`, `failed`
    /// (trying again needs a change), `held` (not to run now).
    pub state: String,
    /// The process id of its keeper, while it runs.
    pub pid: Option<i64>,
    /// Whose it is, where `share` is user or session.
    pub user: Option<String>,
    /// `legacy` or `modern`, once known.
    pub era: Option<String>,
    /// What the server calls itself.
    pub version: Option<String>,
    /// Sessions attached.
    pub sessions: i64,
    /// Starts so far.
    pub starts: i64,
    /// How it ended last, or why it does not run.
    pub last: Option<String>,
    /// The limit of its control group that it met last.
    pub limit: Option<String>,
    /// Seconds since it was started.
    pub age_s: i64,
}

/// One client session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct SessionStatus {
    /// Its id.
    pub id: String,
    /// Its server.
    pub server: String,
    /// The user.
    pub user: String,
    /// The uid.
    pub uid: i64,
    /// What the client calls itself; self-reported.
    pub client: Option<String>,
    /// `legacy` or `modern`, once known.
    pub era: Option<String>,
    /// Whether it waits for its server to be cured.
    pub waits: bool,
    /// Calls in flight.
    pub in_flight: i64,
    /// Calls so far.
    pub calls: i64,
    /// Seconds since it was opened.
    pub age_s: i64,
}

/// A tenant as an ordinary user may see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct TenantLine {
    /// Its id.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// As in [`TenantStatus`].
    pub status: String,
    /// The servers that the asker may use.
    pub servers: Vec<String>,
}

/// Reply of `Status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct StatusReply {
    /// The supervisor.
    pub supervisor: SupervisorStatus,
    /// Every tenant that the asker may see.
    pub tenants: Vec<TenantStatus>,
}

/// Reply of `ListTenants`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct ListReply {
    /// The tenants that the asker may use.
    pub tenants: Vec<TenantLine>,
}

/// Reply of `GetTenant`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct TenantReply {
    /// The tenant.
    pub tenant: TenantStatus,
}

/// Reply of `Why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct WhyReply {
    /// The tenant.
    pub tenant: TenantStatus,
    /// What keeps it from its sessions now; empty where nothing does.
    pub keeps: Vec<String>,
    /// What to do, one line.
    pub cure: String,
    /// The last refusals, oldest first; to who is no admin only their own.
    pub refusals: Vec<RefusalLine>,
    /// The last starts, oldest first; to who is no admin only those that are theirs or the tenant's.
    pub starts: Vec<StartLine>,
    /// What its children wrote last; for admins.
    pub stderr: Vec<StderrLines>,
}

/// Reply of `Reload`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct ReloadReply {
    /// Ids of tenants that are new.
    pub added: Vec<String>,
    /// Ids of tenants that changed.
    pub changed: Vec<String>,
    /// Ids of tenants that are gone.
    pub removed: Vec<String>,
    /// Problems, as in [`SupervisorStatus`]; a tenant with one keeps its last good version.
    pub problems: Vec<String>,
}

/// Reply of `RestartSupervisor`: the program on disk runs, and takes over as soon as this is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct ReplacedReply {
    /// The version that runs.
    pub from: String,
    /// The version that takes over.
    pub to: String,
}

/// Reply of `ProbeTenant`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct ProbeReply {
    /// The server in whose sandbox they ran.
    pub server: String,
    /// The layers that held, by name.
    pub held: Vec<String>,
    /// The layers that did not, each with why and the cure.
    pub missing: Vec<String>,
    /// What the probes say, one JSON document.
    pub account: String,
}

/// What a method can refuse with.
#[derive(Debug, Clone, PartialEq, zlink::ReplyError, introspect::ReplyError)]
#[zlink(interface = "io.tenantd.Supervisor")]
pub enum ControlError {
    /// No such tenant, or none that the asker may know of.
    UnknownTenant {
        /// As asked.
        tenant: String,
    },
    /// No such server of that tenant.
    UnknownServer {
        /// As asked.
        tenant: String,
        /// As asked.
        server: String,
    },
    /// The method needs an admin.
    AdminOnly {
        /// The method.
        method: String,
        /// How to become one.
        cure: String,
    },
    /// The tenant has no such credential that the asker could have to do with.
    UnknownCredential {
        /// The tenant.
        tenant: String,
        /// Those that it has.
        choices: Vec<String>,
    },
    /// Each user has one of their own, and the asker none.
    NotYours {
        /// What it is about and what to do.
        reason: String,
    },
    /// The store of secrets could not do it.
    StoreFailed {
        /// `locked`, `no-store`, `refused`, `timed-out`, ...
        trouble: String,
        /// What failed and what to do.
        reason: String,
    },
    /// The supervisor is stopping, or could not do it.
    Failed {
        /// What failed and what to do.
        reason: String,
    },
}

/// The client. Its methods are those of the interface.
#[zlink::proxy("io.tenantd.Supervisor")]
pub trait Control {
    /// Everything that the asker may see.
    async fn status(&mut self) -> zlink::Result<Result<StatusReply, ControlError>>;
    /// The tenants that the asker may use.
    async fn list_tenants(&mut self) -> zlink::Result<Result<ListReply, ControlError>>;
    /// One tenant.
    async fn get_tenant(
        &mut self,
        tenant: &str,
    ) -> zlink::Result<Result<TenantReply, ControlError>>;
    /// Why a tenant does not serve, or did not.
    async fn why(&mut self, tenant: &str) -> zlink::Result<Result<WhyReply, ControlError>>;
    /// Reads the configuration again (admin).
    async fn reload(&mut self) -> zlink::Result<Result<ReloadReply, ControlError>>;
    /// Restarts the children of a server, of all servers without a name (admin).
    async fn restart_server(
        &mut self,
        tenant: &str,
        server: Option<&str>,
    ) -> zlink::Result<Result<(), ControlError>>;
    /// Replaces the supervisor by the program that is on disk now; sessions and servers go on (admin).
    async fn restart_supervisor(&mut self) -> zlink::Result<Result<ReplacedReply, ControlError>>;
    /// Runs the escape probes in a sandbox as a server of the tenant has it (admin). `brief` is what they
    /// are told, JSON.
    async fn probe_tenant(
        &mut self,
        tenant: &str,
        server: Option<&str>,
        brief: &str,
    ) -> zlink::Result<Result<ProbeReply, ControlError>>;
    /// The secrets of a tenant, of every one without a name, and whether they are set. Never a value.
    async fn list_credentials(
        &mut self,
        tenant: Option<&str>,
    ) -> zlink::Result<Result<CredentialsReply, ControlError>>;
    /// Removes a secret from the store: the asker's own, or the tenant's (admin). With `user` that user's
    /// (admin).
    async fn remove_credential(
        &mut self,
        tenant: &str,
        name: &str,
        user: Option<&str>,
    ) -> zlink::Result<Result<RemovedReply, ControlError>>;
    /// Where the asker logs in for a credential of a tenant's: their own, or the tenant's (admin).
    async fn login(
        &mut self,
        tenant: &str,
        name: &str,
    ) -> zlink::Result<Result<LoginReply, ControlError>>;
    /// Ends a login at its server, and forgets it here in any case.
    async fn logout(
        &mut self,
        tenant: &str,
        name: &str,
    ) -> zlink::Result<Result<LoggedOutReply, ControlError>>;
    /// Stops the supervisor and all that it started (admin).
    async fn stop(&mut self) -> zlink::Result<Result<(), ControlError>>;
}
