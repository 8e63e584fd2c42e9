//! What `tenantd.toml` says. These types decide nothing.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{TenantFile, Texts};
use crate::config::scalar::{At, Bound, Count, Period, Size};

/// The main configuration of tenantd: tenantd.toml, beside tenants.d. Every key is optional.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct MainFile {
    /// Any section of a tenant file, for every tenant; template and tenant file win over it key by key.
    pub(in crate::config) defaults: Option<At<TenantFile>>,
    /// Users, and groups with a leading "@", that may use the admin commands.
    #[schemars(extend("default" = []))]
    pub(in crate::config) admins: Option<Texts>,
    /// First and last uid for the tenants' own uids (system mode).
    #[schemars(extend("default" = [1_900_000_000_u32, 1_900_065_535_u32]))]
    pub(in crate::config) uid_range: Option<At<Vec<u32>>>,
    /// How long a user-mode supervisor without sessions lives on (duration).
    #[schemars(extend("default" = "15m"))]
    pub(in crate::config) idle_exit: Option<At<Bound<Period>>>,
    /// How long a tenant's sessions live on without a supervisor (duration).
    #[schemars(extend("default" = "30s"))]
    pub(in crate::config) orphan_timeout: Option<At<Period>>,
    /// How long a stop waits for calls in flight (duration).
    #[schemars(extend("default" = "5s"))]
    pub(in crate::config) drain: Option<At<Period>>,
    /// Where secrets are kept.
    pub(in crate::config) credentials: Option<At<CredentialsTable>>,
    /// The record of every call.
    pub(in crate::config) audit: Option<At<AuditTable>>,
    /// Figures for monitoring.
    pub(in crate::config) metrics: Option<At<MetricsTable>>,
    /// The way out for tenants with a network allowlist.
    pub(in crate::config) egress: Option<At<EgressTable>>,
    /// The operational log.
    pub(in crate::config) log: Option<At<LogTable>>,
    /// Commands that are run when a tenant comes or goes.
    pub(in crate::config) hooks: Option<At<HooksTable>>,
}

/// Where secrets are kept.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Credentials")]
pub(in crate::config) struct CredentialsTable {
    /// The store. Default: secret-service in user mode, encrypted-file in system mode.
    pub(in crate::config) store: Option<At<StoreWord>>,
}

/// A store of secrets.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(in crate::config) enum StoreWord {
    /// The desktop's keyring: GNOME Keyring, KWallet, KeePassXC.
    SecretService,
    /// A file of tenantd's own, its key from systemd.
    EncryptedFile,
    /// The kernel's keyring, which forgets at reboot.
    Keyutils,
}

/// The record of every call.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Audit")]
pub(in crate::config) struct AuditTable {
    /// What a record survives: a crash of a process, or a loss of power.
    #[schemars(extend("default" = "process"))]
    #[expect(dead_code, reason = "checked by being read; nothing acts on it yet")]
    pub(in crate::config) durability: Option<At<DurabilityWord>>,
    /// What is kept of a call's arguments.
    #[schemars(extend("default" = "digest"))]
    #[expect(dead_code, reason = "checked by being read; nothing acts on it yet")]
    pub(in crate::config) arguments: Option<At<ArgumentsWord>>,
    /// Size at which a segment is closed, bytes.
    #[schemars(extend("default" = "64MiB"))]
    #[expect(dead_code, reason = "checked by being read; nothing acts on it yet")]
    pub(in crate::config) segment_size: Option<At<Size>>,
    /// How long segments are kept (duration).
    #[schemars(extend("default" = "unlimited"))]
    #[expect(dead_code, reason = "checked by being read; nothing acts on it yet")]
    pub(in crate::config) retention: Option<At<Bound<Period>>>,
    /// Where records go besides the file: "journald", "syslog", { command = ["/path", "argument"] }.
    #[schemars(extend("default" = []))]
    pub(in crate::config) sinks: Option<Vec<At<SinkWord>>>,
}

/// What an audit record survives.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(in crate::config) enum DurabilityWord {
    /// A crash of any process of ours.
    Process,
    /// A loss of power: it is on the disk before the answer leaves.
    Power,
}

/// What is kept of a call's arguments.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(in crate::config) enum ArgumentsWord {
    /// Their digest.
    Digest,
    /// The arguments with secrets masked.
    Masked,
    /// Nothing.
    None,
}

/// Where audit records go besides the file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(in crate::config) enum SinkWord {
    /// The journal.
    Journald,
    /// The system log (RFC 5424).
    Syslog,
    /// The standard input of a command: its path and arguments.
    Command(Texts),
}

/// Figures for monitoring.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Metrics")]
pub(in crate::config) struct MetricsTable {
    /// Loopback address and port of a Prometheus listener, such as "127.0.0.1:9464". Default: none.
    pub(in crate::config) listen: Option<At<String>>,
}

/// The way out for tenants with a network allowlist.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Egress")]
pub(in crate::config) struct EgressTable {
    /// HTTP proxy of the house, such as "http://proxy.lan:3128", without user and password. Default: none.
    pub(in crate::config) upstream_proxy: Option<At<String>>,
    /// Certificates of authorities to trust besides the system's: the absolute path of a PEM file. Default: none.
    pub(in crate::config) ca_file: Option<At<String>>,
}

/// The operational log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Log")]
pub(in crate::config) struct LogTable {
    /// Level ("error", "warn", "info", "debug", "trace", "off"), or a filter such as "info,tenantd::auth=debug".
    #[schemars(extend("default" = "info"))]
    pub(in crate::config) level: Option<At<String>>,
    /// Rolled log files kept.
    #[schemars(extend("default" = 7))]
    pub(in crate::config) retention: Option<At<Count>>,
}

/// Commands that are run when a tenant comes or goes, each an absolute path and its arguments.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hooks")]
pub(in crate::config) struct HooksTable {
    /// After a tenant was added. Default: none.
    pub(in crate::config) provision: Option<At<Texts>>,
    /// After a tenant was archived. Default: none.
    pub(in crate::config) archive: Option<At<Texts>>,
    /// Before a tenant's data is removed. Default: none.
    pub(in crate::config) remove: Option<At<Texts>>,
}
