//! `[oauth.NAME]` as it is written: where one logs in, as whom, and for what.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Texts;
use crate::config::scalar::At;

/// A login at an authorization server (OAuth 2.1): its issuer, or its endpoints.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Oauth")]
pub(in crate::config) struct OauthTable {
    /// The authorization server, as it calls itself: its endpoints are found from here (RFC 8414, OpenID Connect Discovery).
    pub(in crate::config) issuer: Option<At<String>>,
    /// Where a person logs in, if it is not found from the issuer.
    pub(in crate::config) authorization_endpoint: Option<At<String>>,
    /// Where tokens are given out, if it is not found from the issuer.
    pub(in crate::config) token_endpoint: Option<At<String>>,
    /// Where a login by a code on another device begins, if it is not found from the issuer.
    pub(in crate::config) device_authorization_endpoint: Option<At<String>>,
    /// Where tokens are taken back, if it is not found from the issuer.
    pub(in crate::config) revocation_endpoint: Option<At<String>>,
    /// The client that is registered there: its id, or the https URL of its metadata document. Default: tenantd registers itself where the server offers it.
    pub(in crate::config) client_id: Option<At<String>>,
    /// Whether that client has a secret: `tenantd login` asks for it, and it is kept with the login.
    #[schemars(extend("default" = false))]
    pub(in crate::config) client_secret: Option<At<bool>>,
    /// Scopes that are asked for. Default: those that the server gives by itself.
    #[schemars(extend("default" = []))]
    pub(in crate::config) scopes: Option<Texts>,
    /// What the token is for: an absolute URI that the server knows (RFC 8707).
    pub(in crate::config) resource: Option<At<String>>,
}
