//! A login as it is stored: one JSON document under the account's name.
//!
//! It holds all that a renewal needs, so that nothing has to be found anew while a token runs out. Where its
//! secrets are sent to is part of it: a changed configuration cannot lead them to another server.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::metadata::Server;
use super::token::Granted;
use crate::wire::credential::LoginPlan;

/// The version of this shape.
const VERSION: u32 = 1;

/// A login.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// The version of this shape, for a later program.
    pub version: u32,
    /// What servers are called with.
    pub access_token: Zeroizing<String>,
    /// What the next one is got with; none where the server gives none.
    pub refresh_token: Option<Zeroizing<String>>,
    /// When this access token was asked for, by this machine's clock, seconds since the epoch.
    pub obtained_at: i64,
    /// When it ends, by this machine's clock, where the server says so.
    pub expires_at: Option<i64>,
    /// The scopes that it has, as the server says.
    pub scope: Option<String>,
    /// Whose it is.
    pub issuer: Option<String>,
    /// Where it is renewed, and nowhere else.
    pub token_endpoint: String,
    /// Where it is revoked.
    pub revocation_endpoint: Option<String>,
    /// What it is for (RFC 8707).
    pub resource: Option<String>,
    /// As which client.
    pub client: Registration,
}

/// How tenantd is known to an authorization server.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The client's id.
    pub client_id: String,
    /// Its secret, for a server that wants one even of programs that cannot keep it from their user.
    pub client_secret: Option<Zeroizing<String>>,
    /// How the secret is shown.
    pub secret_method: SecretMethod,
}

/// How a client with a secret says who it is (RFC 6749, section 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretMethod {
    /// By HTTP Basic.
    #[default]
    Basic,
    /// In the form.
    Post,
}

impl Registration {
    /// A client with its id, and the secret that belongs to it, if any.
    pub fn new(server: &Server, client_id: &str, secret: Option<Zeroizing<String>>) -> Self {
        let has = |name: &str| server.secret_methods.iter().any(|method| method == name);
        let post = has("client_secret_post") && !has("client_secret_basic");
        Self {
            client_id: client_id.to_owned(),
            client_secret: secret,
            secret_method: if post { SecretMethod::Post } else { SecretMethod::Basic },
        }
    }
}

impl Document {
    /// The login that begins with `granted`.
    pub fn new(server: &Server, plan: &LoginPlan, client: Registration, granted: Granted) -> Self {
        let asked = (!plan.scopes.is_empty()).then(|| plan.scopes.join(" "));
        Self {
            version: VERSION,
            expires_at: granted.expires_at(),
            access_token: granted.access_token,
            refresh_token: granted.refresh_token,
            obtained_at: granted.at,
            // Left out by the server it is what was asked for (RFC 6749, section 5.1).
            scope: granted.scope.or(asked),
            issuer: server.issuer.clone(),
            token_endpoint: server.token_endpoint.clone(),
            revocation_endpoint: server.revocation_endpoint.clone(),
            resource: plan.resource.clone(),
            client,
        }
    }

    /// The same login with what a renewal brought. A server that sends no new refresh token leaves the old one
    /// valid (RFC 6749, section 6).
    #[must_use]
    pub fn renewed(&self, granted: Granted) -> Self {
        Self {
            expires_at: granted.expires_at(),
            access_token: granted.access_token,
            refresh_token: granted.refresh_token.or_else(|| self.refresh_token.clone()),
            obtained_at: granted.at,
            scope: granted.scope.or_else(|| self.scope.clone()),
            ..self.clone()
        }
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// Where it is no login of this version; the message quotes nothing of it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        // serde_json's own words may quote a value.
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|_| "what is stored is no login of this version of tenantd".to_owned())?;
        if document.version != VERSION {
            return Err(format!("what is stored is a login of version {}", document.version));
        }
        Ok(document)
    }

    /// As it is stored.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // Room for every text twice over (escapes), so that it does not grow and leave copies behind.
        let tokens = self.access_token.len() + self.refresh_token.as_ref().map_or(0, |t| t.len());
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * tokens + 32 * 1024));
        // Fails only for maps whose keys are not text, and this holds none.
        let _ = serde_json::to_writer(&mut *bytes, self);
        bytes
    }

    /// Whether it is a login at the server, as the client and for the resource that the plan means.
    pub fn belongs_to(&self, plan: &LoginPlan) -> bool {
        let same_server = match (&plan.issuer, &self.issuer) {
            (Some(wanted), Some(own)) => wanted == own,
            (None, None) => plan.endpoints.get("token_endpoint") == Some(&self.token_endpoint),
            _ => false,
        };
        let same_client = plan.client_id.as_ref().is_none_or(|id| *id == self.client.client_id);
        same_server && same_client && plan.resource == self.resource
    }
}

// Secrets are not for logs: these say what there is and nothing of it.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document")
            .field("issuer", &self.issuer)
            .field("token_endpoint", &self.token_endpoint)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}
