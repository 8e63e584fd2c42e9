//! What the control API tells of secrets and logins: never a value.

use serde::{Deserialize, Serialize};
use zlink::introspect;

/// One secret of a tenant, without its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct CredentialLine {
    /// The tenant.
    pub tenant: String,
    /// Its name in the tenant's file.
    pub name: String,
    /// `tenant`, or `user` where each user has one of their own.
    pub scope: String,
    /// Whose it is, where each user has one of their own.
    pub user: Option<String>,
    /// Whether it is set.
    pub set: bool,
    /// `set`, `import`, `login`, or `found` (in the store, how it came there is not known).
    pub source: Option<String>,
    /// When it was stored, seconds since the epoch.
    pub stored_at: Option<i64>,
    /// When it expires, seconds since the epoch, where that is known.
    pub expires: Option<i64>,
    /// The servers that get it.
    pub servers: Vec<String>,
    /// How: `env NAME`, `file NAME`, `inject HOST`.
    pub delivery: Vec<String>,
    /// Whether the tenant's file names it; else nobody gets it.
    pub named: bool,
    /// The command that mends what is amiss: sets what is not set, removes what nobody gets.
    pub cure: Option<String>,
}

/// Reply of `ListCredentials`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct CredentialsReply {
    /// Those that the asker may see, by tenant and name.
    pub credentials: Vec<CredentialLine>,
    /// What is wrong with this list.
    pub problems: Vec<String>,
}

/// Reply of `RemoveCredential`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct RemovedReply {
    /// Whose they were: one for each, nothing for the tenant's own.
    pub removed: Vec<Option<String>>,
}

/// One endpoint of an authorization server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::CustomType)]
pub struct LoginEndpoint {
    /// Its name in RFC 8414, such as `token_endpoint`.
    pub name: String,
    /// Its address.
    pub url: String,
}

/// Reply of `Login`: where the asker logs in, and as whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct LoginReply {
    /// The authorization server.
    pub issuer: Option<String>,
    /// Endpoints that win over what is found from the issuer.
    pub endpoints: Vec<LoginEndpoint>,
    /// The client, where it is registered by hand.
    pub client_id: Option<String>,
    /// Whether that client has a secret.
    pub client_secret: bool,
    /// Scopes to ask for.
    pub scopes: Vec<String>,
    /// What the token is for.
    pub resource: Option<String>,
    /// The house's own authorities for TLS.
    pub ca_file: Option<String>,
    /// Whose login it is, where each user has one of their own.
    pub user: Option<String>,
}

/// Reply of `Logout`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, introspect::Type)]
pub struct LoggedOutReply {
    /// Whether there was a login.
    pub was: bool,
    /// Why its server could not be told, if it could not; the tokens are forgotten here in any case.
    pub problem: Option<String>,
}
