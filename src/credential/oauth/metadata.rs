//! What an authorization server says of itself: RFC 8414 and OpenID Connect Discovery 1.0.
//!
//! What is configured wins over what is found. Every endpoint must be one that secrets may be sent to, and
//! the server must call itself by the very issuer that was asked for: else somebody else's document would
//! decide where codes and tokens go (RFC 8414, section 3.3).

use serde::Deserialize;

use super::OauthError;
use super::http::Client;
use crate::config::is_endpoint;
use crate::wire::credential::LoginPlan;

/// An authorization server, as far as a client needs to know it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Its issuer; without one there is no `iss` to check.
    pub issuer: Option<String>,
    /// Where a person logs in.
    pub authorization_endpoint: Option<String>,
    /// Where tokens are given out.
    pub token_endpoint: String,
    /// Where the device grant begins.
    pub device_authorization_endpoint: Option<String>,
    /// Where tokens are taken back.
    pub revocation_endpoint: Option<String>,
    /// Where clients register themselves.
    pub registration_endpoint: Option<String>,
    /// Whether it names itself in every answer to an authorization request (RFC 9207): one without is forged.
    pub says_iss: bool,
    /// Whether a client's id may be the address of its metadata document.
    pub reads_client_documents: bool,
    /// How clients with a secret say who they are; empty is RFC 8414's default, HTTP Basic.
    pub secret_methods: Vec<String>,
}

/// The document, as far as it is of interest; what else it holds is passed over.
#[derive(Debug, Default, Deserialize)]
struct Found {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
    revocation_endpoint: Option<String>,
    registration_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    client_id_metadata_document_supported: bool,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

impl Server {
    /// The server that the plan names: asked for what it is, where the plan has an issuer.
    ///
    /// # Errors
    /// [`OauthError`].
    pub async fn discover(client: &Client, plan: &LoginPlan) -> Result<Self, OauthError> {
        let found = match &plan.issuer {
            Some(issuer) => Some(find(client, issuer).await?),
            None => None,
        };
        Self::of(plan, found)
    }

    fn of(plan: &LoginPlan, found: Option<Found>) -> Result<Self, OauthError> {
        let found = found.unwrap_or_default();
        if let Some(methods) = &found.code_challenge_methods_supported
            && !methods.iter().any(|method| method == "S256")
        {
            let what =
                "the server does not know PKCE with S256, without which a login can be stolen";
            return Err(OauthError::Setup(what.to_owned()));
        }
        let endpoint = |key: &str, found: Option<String>| {
            let endpoint = plan.endpoints.get(key).cloned().or(found);
            match endpoint {
                Some(endpoint) if !is_endpoint(&endpoint) => {
                    let what =
                        format!("the server's {key} is no address that secrets may be sent to");
                    Err(OauthError::Garbled(what))
                }
                endpoint => Ok(endpoint),
            }
        };
        let token = endpoint("token_endpoint", found.token_endpoint)?;
        Ok(Self {
            issuer: plan.issuer.clone(),
            authorization_endpoint: endpoint(
                "authorization_endpoint",
                found.authorization_endpoint,
            )?,
            token_endpoint: token
                .ok_or_else(|| OauthError::Garbled("the server names no token_endpoint".into()))?,
            device_authorization_endpoint: endpoint(
                "device_authorization_endpoint",
                found.device_authorization_endpoint,
            )?,
            revocation_endpoint: endpoint("revocation_endpoint", found.revocation_endpoint)?,
            registration_endpoint: endpoint("registration_endpoint", found.registration_endpoint)?,
            says_iss: found.authorization_response_iss_parameter_supported,
            reads_client_documents: found.client_id_metadata_document_supported,
            secret_methods: found.token_endpoint_auth_methods_supported,
        })
    }
}

/// Asks at each place where the document may be.
async fn find(client: &Client, issuer: &str) -> Result<Found, OauthError> {
    let mut first = None;
    for url in places(issuer) {
        let answer = client.get(&url).await?;
        match answer.status {
            200 => {}
            // The server is there and has trouble: what another place says now is not the last word.
            500.. | 429 => {
                let what = format!("{url} answered with status {}", answer.status);
                return Err(OauthError::Unreachable(what));
            }
            status => {
                first.get_or_insert_with(|| format!("{url} answered with status {status}"));
                continue;
            }
        }
        let found: Found = match serde_json::from_slice(&answer.body) {
            Ok(found) => found,
            Err(_) => {
                // A page for people, where the server has something else at this place.
                first.get_or_insert_with(|| format!("{url} is not a metadata document"));
                continue;
            }
        };
        if found.issuer != issuer {
            let says = super::quoted(&found.issuer);
            let what = format!("{url} calls its issuer \"{says}\", not \"{issuer}\"");
            return Err(OauthError::Setup(format!(
                "{what}; write issuer as the server does, if it is the right one"
            )));
        }
        return Ok(found);
    }
    let what = first.unwrap_or_default();
    Err(OauthError::Setup(format!("{issuer} has no metadata ({what}); name its endpoints instead")))
}

/// Where the document may be: RFC 8414 puts the well-known part behind the host, and before the issuer's own
/// path; OpenID Connect puts it at the end.
fn places(issuer: &str) -> Vec<String> {
    let host_at = issuer.find("://").map_or(0, |at| at + 3);
    let after = issuer.get(host_at..).unwrap_or_default();
    let path_at = after.find('/').map_or(issuer.len(), |at| host_at + at);
    let (host, path) = issuer.split_at(path_at);
    let path = path.trim_end_matches('/');
    let mut places = vec![
        format!("{host}/.well-known/oauth-authorization-server{path}"),
        format!("{host}/.well-known/openid-configuration{path}"),
    ];
    if !path.is_empty() {
        places.push(format!("{host}{path}/.well-known/openid-configuration"));
    }
    places
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn plan() -> LoginPlan {
        LoginPlan {
            issuer: Some("https://a.example/t".into()),
            endpoints: BTreeMap::new(),
            client_id: None,
            scopes: Vec::new(),
            resource: None,
            ca_file: None,
        }
    }

    #[test]
    fn the_document_is_looked_for_where_either_standard_puts_it() {
        assert_eq!(
            places("https://a.example/t/"),
            [
                "https://a.example/.well-known/oauth-authorization-server/t",
                "https://a.example/.well-known/openid-configuration/t",
                "https://a.example/t/.well-known/openid-configuration",
            ]
        );
        let root = [
            "https://a.example/.well-known/oauth-authorization-server",
            "https://a.example/.well-known/openid-configuration",
        ];
        assert_eq!(places("https://a.example"), root);
        assert_eq!(places("https://a.example/"), root);
    }

    #[test]
    fn what_is_written_wins_over_what_is_found() {
        let mut plan = plan();
        plan.endpoints.insert("revocation_endpoint".into(), "https://b.example/r".into());
        let found = Found {
            token_endpoint: Some("https://a.example/token".into()),
            revocation_endpoint: Some("https://a.example/r".into()),
            ..Found::default()
        };
        let server = Server::of(&plan, Some(found)).expect("a server");
        assert_eq!(server.revocation_endpoint.as_deref(), Some("https://b.example/r"));
        assert_eq!(server.token_endpoint, "https://a.example/token");
    }

    #[test]
    fn a_server_that_would_have_secrets_in_the_clear_or_without_pkce_is_refused() {
        let clear = Found { token_endpoint: Some("http://a.example/t".into()), ..Found::default() };
        assert!(matches!(Server::of(&plan(), Some(clear)), Err(OauthError::Garbled(_))));
        let plain = Found {
            token_endpoint: Some("https://a.example/t".into()),
            code_challenge_methods_supported: Some(vec!["plain".into()]),
            ..Found::default()
        };
        assert!(matches!(Server::of(&plan(), Some(plain)), Err(OauthError::Setup(_))));
    }
}
