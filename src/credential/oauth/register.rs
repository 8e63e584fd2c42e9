//! A client of our own at a server that does not know us: dynamic registration (RFC 7591).

use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::OauthError;
use super::document::{Registration, SecretMethod};
use super::http::Client;
use super::metadata::Server;
use super::token;
use crate::wire::credential::LoginPlan;

#[derive(Deserialize)]
struct Registered {
    client_id: String,
    client_secret: Option<Zeroizing<String>>,
    token_endpoint_auth_method: Option<String>,
}

/// Registers tenantd as a program on a person's machine, whose answers come to `redirect_uri`.
///
/// # Errors
/// [`OauthError`]; `Setup` where the server registers nobody.
pub async fn register(
    client: &Client,
    server: &Server,
    plan: &LoginPlan,
    redirect_uri: &str,
) -> Result<Registration, OauthError> {
    let Some(endpoint) = &server.registration_endpoint else {
        let what = "the server does not register clients by itself: register one there and write its client_id";
        return Err(OauthError::Setup(what.into()));
    };
    let mut grants = vec!["authorization_code", "refresh_token"];
    if server.device_authorization_endpoint.is_some() {
        grants.push("urn:ietf:params:oauth:grant-type:device_code");
    }
    let mut request = json!({
        "client_name": "tenantd",
        "application_type": "native",
        "redirect_uris": [redirect_uri],
        "response_types": ["code"],
        "grant_types": grants,
        "token_endpoint_auth_method": "none",
    });
    if !plan.scopes.is_empty() {
        request["scope"] = plan.scopes.join(" ").into();
    }
    let answer = client.json(endpoint, request.to_string().into_bytes()).await?;
    token::refusal(&answer)?;
    let registered: Registered = serde_json::from_slice(&answer.body)
        .map_err(|_| OauthError::Garbled("the server's answer holds no client".into()))?;
    let printable = |byte: u8| (0x20..0x7f).contains(&byte);
    if registered.client_id.is_empty() || !registered.client_id.bytes().all(printable) {
        return Err(OauthError::Garbled("the server gave a client without a usable id".into()));
    }
    let post = registered.token_endpoint_auth_method.as_deref() == Some("client_secret_post");
    let public = registered.token_endpoint_auth_method.as_deref() == Some("none");
    Ok(Registration {
        client_id: registered.client_id,
        client_secret: registered.client_secret.filter(|_| !public),
        secret_method: if post { SecretMethod::Post } else { SecretMethod::Basic },
    })
}
