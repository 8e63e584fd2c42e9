//! What a tenant file says, key by key: the mirror of `tenants.d/*.toml` and `templates.d/*.toml`.
//!
//! Every key is optional here: what is missing is a question for `meant`. The comments of the fields are
//! the descriptions of `tenantd schema`; `docs/configuration.md` is held against it by a test. These
//! types decide nothing.

mod oauth;
mod server;
mod settings;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{At, Bound, Cores, Count, Size};

pub(super) use oauth::OauthTable;
pub(super) use server::{NetworkWord, SandboxTable, ServerTable};
pub(super) use settings::{EgressTable, HooksTable, LogTable, MainFile, SinkWord, StoreWord};

type Texts = Vec<At<String>>;

/// A tenant of tenantd: the file tenants.d/ID.toml, whose stem is the tenant's id.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantFile {
    /// Name for people. Default: the id.
    pub(super) name: Option<At<String>>,
    /// Whether the tenant is served.
    #[schemars(extend("default" = "active"))]
    pub(super) status: Option<At<StatusWord>>,
    /// End of the trial: a moment with its offset, such as 2026-12-31T23:59:59Z. Needs status = "trial".
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub(super) trial_until: Option<At<toml::value::Datetime>>,
    /// Template: the stem of a file in templates.d. This file wins over it key by key.
    pub(super) template: Option<At<String>>,
    /// Data directory: an absolute path, or one below ~/ in user mode. Default: a directory of the tenant's own.
    pub(super) data: Option<At<String>>,
    /// The tenant's only server; short for [servers.main].
    pub(super) server: Option<At<ServerTable>>,
    /// Several servers by name, instead of [server].
    #[serde(default)]
    pub(super) servers: BTreeMap<At<String>, At<ServerTable>>,
    /// Who may use the tenant, and what of it. Nobody has access unless a grant says so.
    pub(super) grant: Option<Vec<At<GrantTable>>>,
    /// Which tools there are.
    pub(super) tools: Option<At<ToolsTable>>,
    /// How much the tenant may use, all its servers together.
    pub(super) quota: Option<At<QuotaTable>>,
    /// What the servers may reach.
    pub(super) sandbox: Option<At<SandboxTable>>,
    /// Secrets from the keyring and how they reach a server.
    pub(super) credential: Option<Vec<At<CredentialTable>>>,
    /// Logins at authorization servers, by name; a [[credential]] of the same name is the access token.
    #[serde(default)]
    pub(super) oauth: BTreeMap<At<String>, At<OauthTable>>,
    /// Feature switches: names of a-z, 0-9 and "_", each true or false.
    #[serde(default)]
    pub(super) features: BTreeMap<At<String>, At<bool>>,
}

/// Whether a tenant is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum StatusWord {
    /// It is.
    Active,
    /// Refused until resumed.
    Suspended,
    /// Until trial_until, then refused.
    Trial,
}

/// Who may use the tenant, and what of it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Grant")]
pub(super) struct GrantTable {
    /// User names, or uids in digits.
    #[schemars(extend("default" = []))]
    pub(super) users: Option<Texts>,
    /// Group names, or gids in digits.
    #[schemars(extend("default" = []))]
    pub(super) groups: Option<Texts>,
    /// Servers that the grant is for. Default: all.
    pub(super) servers: Option<Texts>,
    /// Permissions; "admin" satisfies every requirement.
    #[schemars(extend("default" = []))]
    pub(super) permissions: Option<Texts>,
    /// Patterns of tools that may be used; [] is none. Default: all.
    pub(super) tools: Option<Texts>,
    /// Patterns of tools that may not; they win.
    #[schemars(extend("default" = []))]
    pub(super) deny_tools: Option<Texts>,
    /// Patterns of resource URIs that may be read; [] is none. Default: all.
    pub(super) resources: Option<Texts>,
    /// Patterns of resource URIs that may not; they win.
    #[schemars(extend("default" = []))]
    pub(super) deny_resources: Option<Texts>,
    /// Patterns of prompts that may be used; [] is none. Default: all.
    pub(super) prompts: Option<Texts>,
    /// Patterns of prompts that may not; they win.
    #[schemars(extend("default" = []))]
    pub(super) deny_prompts: Option<Texts>,
}

/// Which tools there are, for everyone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tools")]
pub(super) struct ToolsTable {
    /// Patterns of tools that are shown; [] is none.
    #[schemars(extend("default" = ["*"]))]
    pub(super) allow: Option<Texts>,
    /// Patterns of tools that are not; they win.
    #[schemars(extend("default" = []))]
    pub(super) deny: Option<Texts>,
    /// Tool to the permission that a grant must give for it.
    #[serde(default)]
    pub(super) require: BTreeMap<At<String>, At<String>>,
    /// Whether a changed tool definition is held back until an admin approves it.
    #[schemars(extend("default" = true))]
    pub(super) pin: Option<At<bool>>,
}

/// How much the tenant may use, all its servers together.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Quota")]
pub(super) struct QuotaTable {
    /// Requests in a minute.
    #[schemars(extend("default" = 1000))]
    pub(super) requests_per_minute: Option<At<Bound<Count>>>,
    /// Requests in flight.
    #[schemars(extend("default" = 64))]
    pub(super) concurrent_requests: Option<At<Bound<Count>>>,
    /// Sessions open.
    #[schemars(extend("default" = 32))]
    pub(super) sessions: Option<At<Bound<Count>>>,
    /// Tools shown.
    #[schemars(extend("default" = 100))]
    pub(super) max_tools: Option<At<Bound<Count>>>,
    /// Resources shown.
    #[schemars(extend("default" = 1000))]
    pub(super) max_resources: Option<At<Bound<Count>>>,
    /// Stored bytes.
    #[schemars(extend("default" = "1GiB"))]
    pub(super) storage: Option<At<Bound<Size>>>,
    /// Bytes of memory.
    #[schemars(extend("default" = "1GiB"))]
    pub(super) memory: Option<At<Bound<Size>>>,
    /// Processor time in cores; 1.0 is one core.
    #[schemars(extend("default" = 1.0))]
    pub(super) cpus: Option<At<Bound<Cores>>>,
    /// Processes; threads count, as the kernel counts them.
    #[schemars(extend("default" = 512))]
    pub(super) processes: Option<At<Bound<Count>>>,
    /// Open files of one process.
    #[schemars(extend("default" = 1024))]
    pub(super) open_files: Option<At<Bound<Count>>>,
    /// Bytes of input and output in a second.
    #[schemars(extend("default" = "unlimited"))]
    pub(super) io: Option<At<Bound<Size>>>,
    /// Bytes of one message.
    #[schemars(extend("default" = "4MiB"))]
    pub(super) message_size: Option<At<Bound<Size>>>,
}

/// A secret from the keyring and how it reaches a server: exactly one of env, file and inject.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Credential")]
pub(super) struct CredentialTable {
    /// Its name in the keyring.
    pub(super) name: Option<At<String>>,
    /// Whose it is: one value for the tenant, or one for each user (with share "user" or "session").
    #[schemars(extend("default" = "tenant"))]
    pub(super) scope: Option<At<ScopeWord>>,
    /// Servers that get it. Needed where there are several. Default: the only one.
    pub(super) servers: Option<At<Texts>>,
    /// Environment variable that holds it.
    pub(super) env: Option<At<String>>,
    /// File below $CREDENTIALS_DIRECTORY that holds it.
    pub(super) file: Option<At<String>>,
    /// Put into requests on their way out; the server never holds it.
    pub(super) inject: Option<At<InjectTable>>,
}

/// Whose a credential is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum ScopeWord {
    /// One value for the tenant.
    Tenant,
    /// One value for each user.
    User,
}

/// How a credential is put into requests on their way out.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Inject")]
pub(super) struct InjectTable {
    /// Hosts whose requests get it: exact names without port.
    pub(super) hosts: Option<Texts>,
    /// Name of the header.
    #[schemars(extend("default" = "Authorization"))]
    pub(super) header: Option<At<String>>,
    /// Value of the header; {} is the secret.
    #[schemars(extend("default" = "Bearer {}"))]
    pub(super) value: Option<At<String>>,
}
