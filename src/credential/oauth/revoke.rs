//! The end of a login, told to its server (RFC 7009).

use super::OauthError;
use super::document::Document;
use super::http::Client;
use super::token;

/// Revokes both tokens; the refresh token first, since most servers end the whole login with it. `false`
/// where the server has no place for this: then the access token ends by itself.
///
/// # Errors
/// [`OauthError`] where the server could not be told, or refused.
pub async fn revoke(client: &Client, document: &Document) -> Result<bool, OauthError> {
    let Some(endpoint) = &document.revocation_endpoint else { return Ok(false) };
    let refresh = document.refresh_token.as_ref().map(|token| (token.as_str(), "refresh_token"));
    let access = (document.access_token.as_str(), "access_token");
    for (token, hint) in refresh.into_iter().chain([access]) {
        let pairs = vec![("token", token), ("token_type_hint", hint)];
        let answer = token::as_client(client, endpoint, &document.client, pairs).await?;
        match token::refusal(&answer) {
            // Tokens that a server does not keep cannot be taken back; they end by themselves.
            Err(error) if error.is("unsupported_token_type") && hint == "access_token" => {}
            told => told?,
        }
    }
    Ok(true)
}
