//! The token endpoint: a code or a refresh token goes in, an access token comes out (RFC 6749, sections 4.1.3,
//! 5 and 6; RFC 8707).

use serde::Deserialize;
use zeroize::Zeroizing;

use super::OauthError;
use super::document::{Document, Registration, SecretMethod};
use super::http::{Answer, Client};
use super::metadata::Server;

/// The longest token, bytes: larger ones fit into no header of the servers that they are for.
const TOKEN_MAX: usize = 16 * 1024;
/// The longest life that is believed, seconds: ten years.
const LIFE_MAX: i64 = 10 * 365 * 24 * 3600;
/// A difference between two clocks that people are told of, seconds.
const SKEW_TOLD: i64 = 120;

/// What a token endpoint gave.
pub struct Granted {
    /// The access token: printable ASCII without spaces (RFC 6750, section 2.1), so that it fits any header.
    pub access_token: Zeroizing<String>,
    /// The next refresh token, where one came.
    pub refresh_token: Option<Zeroizing<String>>,
    /// How long the access token lives from `at` on, seconds, where the server says so.
    pub expires_in: Option<i64>,
    /// Its scopes, where the server says so.
    pub scope: Option<String>,
    /// When the request was sent, by this machine's clock: the token is not older, whatever the server's clock
    /// says. Seconds since the epoch.
    pub at: i64,
}

impl Granted {
    /// When the access token ends, by this machine's clock.
    pub(super) fn expires_at(&self) -> Option<i64> {
        self.expires_in.map(|seconds| self.at.saturating_add(seconds))
    }
}

#[derive(Deserialize)]
struct Success {
    access_token: Zeroizing<String>,
    token_type: String,
    #[serde(default)]
    refresh_token: Option<Zeroizing<String>>,
    #[serde(default)]
    expires_in: Option<Seconds>,
    #[serde(default)]
    scope: Option<String>,
}

/// A number of seconds; some servers write it as text.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Seconds {
    Number(f64),
    Text(String),
}

#[derive(Deserialize)]
struct Failure {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

/// Exchanges the code of an authorization for the first tokens.
///
/// # Errors
/// [`OauthError`].
pub async fn exchange(
    client: &Client,
    server: &Server,
    registration: &Registration,
    (code, verifier, redirect_uri): (&str, &str, &str),
    resource: Option<&str>,
) -> Result<Granted, OauthError> {
    let mut pairs = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", redirect_uri),
        ("code_verifier", verifier),
    ];
    pairs.extend(resource.map(|resource| ("resource", resource)));
    grant(client, &server.token_endpoint, registration, pairs).await
}

/// Gets the next access token, and in most cases the next refresh token with it.
///
/// # Errors
/// [`OauthError`]; `invalid_grant` where the login is over.
pub async fn refresh(client: &Client, document: &Document) -> Result<Granted, OauthError> {
    let Some(token) = &document.refresh_token else {
        return Err(OauthError::Setup("the server gave no refresh token".into()));
    };
    let mut pairs = vec![("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
    pairs.extend(document.resource.as_deref().map(|resource| ("resource", resource)));
    grant(client, &document.token_endpoint, &document.client, pairs).await
}

/// One request at a token endpoint.
pub(super) async fn grant(
    client: &Client,
    endpoint: &str,
    registration: &Registration,
    pairs: Vec<(&str, &str)>,
) -> Result<Granted, OauthError> {
    let at = jiff::Timestamp::now().as_second();
    let answer = as_client(client, endpoint, registration, pairs).await?;
    granted(&answer, at)
}

/// Posts a form, with what says which client it is.
pub(super) async fn as_client(
    client: &Client,
    endpoint: &str,
    registration: &Registration,
    mut pairs: Vec<(&str, &str)>,
) -> Result<Answer, OauthError> {
    let id = registration.client_id.as_str();
    let secret = registration.client_secret.as_ref().map(|secret| secret.as_str());
    let basic = match (secret, registration.secret_method) {
        (Some(secret), SecretMethod::Basic) => Some((id, secret)),
        (secret, _) => {
            pairs.push(("client_id", id));
            pairs.extend(secret.map(|secret| ("client_secret", secret)));
            None
        }
    };
    client.form(endpoint, &pairs, basic).await
}

/// What an answer of a token endpoint gives.
fn granted(answer: &Answer, at: i64) -> Result<Granted, OauthError> {
    refusal(answer)?;
    let success: Success = serde_json::from_slice(&answer.body)
        .map_err(|_| OauthError::Garbled("the server's answer holds no token".into()))?;
    if !success.token_type.eq_ignore_ascii_case("bearer") {
        let kind = super::quoted(&success.token_type);
        return Err(OauthError::Garbled(format!("the server gave a token of type \"{kind}\"")));
    }
    let mut tokens = std::iter::once(&success.access_token).chain(&success.refresh_token);
    if !tokens.all(|token| is_token(token)) {
        let what = "the server gave a token that fits into no header";
        return Err(OauthError::Garbled(what.into()));
    }
    Ok(Granted {
        access_token: success.access_token,
        refresh_token: success.refresh_token,
        expires_in: success.expires_in.and_then(|seconds| life(&seconds)),
        scope: success.scope.map(|scope| super::quoted(&scope)),
        at,
    })
}

fn is_token(token: &str) -> bool {
    (1..=TOKEN_MAX).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whole seconds; zero and less are taken at their word: the token is used once and then renewed.
pub(super) fn life(seconds: &Seconds) -> Option<i64> {
    let seconds: f64 = match seconds {
        Seconds::Number(number) => *number,
        Seconds::Text(text) => text.parse().ok()?,
    };
    // A cast of a float saturates, and what is no number becomes 0.
    Some((seconds as i64).clamp(0, LIFE_MAX))
}

/// Refuses an answer that says no. An `error` counts whatever the status: some send it with 200.
pub(super) fn refusal(answer: &Answer) -> Result<(), OauthError> {
    let status = answer.status;
    if status >= 500 || status == 429 || status == 408 {
        return Err(OauthError::Unreachable(format!("the server answered with status {status}")));
    }
    if let Ok(failure) = serde_json::from_slice::<Failure>(&answer.body) {
        let said = failure.error_description.unwrap_or_default();
        let now = jiff::Timestamp::now().as_second();
        let skew = answer.date.map_or(0, |date| now.saturating_sub(date).saturating_abs());
        let told = if skew > SKEW_TOLD {
            format!("{said}; this machine's clock differs from the server's by {skew} s")
        } else {
            said
        };
        let told = Some(told.as_str()).filter(|told| !told.is_empty());
        return Err(OauthError::refused(&failure.error, told));
    }
    match status {
        200..300 => Ok(()),
        300..400 => {
            let what = "the server sends elsewhere, where no secret follows";
            Err(OauthError::Garbled(what.into()))
        }
        _ => Err(OauthError::Garbled(format!("the server answered with status {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &str) -> Result<Granted, OauthError> {
        let body = Zeroizing::new(body.as_bytes().to_vec());
        granted(&Answer { status, date: None, body }, 1000)
    }

    #[test]
    fn a_token_is_taken_with_the_life_that_the_server_gives_it() {
        let lives = [("3600", 3600), ("\"3600\"", 3600), ("1.5", 1), ("-5", 0), ("1e99", LIFE_MAX)];
        for (written, meant) in lives {
            let body =
                format!(r#"{{"access_token":"a","token_type":"bearer","expires_in":{written}}}"#);
            let granted = answered(200, &body).expect("a token");
            assert_eq!((granted.expires_in, granted.at), (Some(meant), 1000), "{written}");
        }
        let body = r#"{"access_token":"a","token_type":"Bearer","expires_in":null}"#;
        assert_eq!(answered(200, body).expect("a token").expires_in, None);
    }

    #[test]
    fn what_is_no_token_for_a_header_is_refused() {
        for body in [
            "",
            "<html>",
            r#"{"token_type":"bearer"}"#,
            r#"{"access_token":"","token_type":"bearer"}"#,
            r#"{"access_token":"a\r\nX: y","token_type":"bearer"}"#,
            r#"{"access_token":"a b","token_type":"bearer"}"#,
            r#"{"access_token":"a","token_type":"DPoP"}"#,
            r#"{"access_token":"a","token_type":"bearer","refresh_token":"\u0000"}"#,
        ] {
            assert!(matches!(answered(200, body), Err(OauthError::Garbled(_))), "{body}");
        }
    }

    #[test]
    fn a_no_is_told_apart_from_trouble() {
        let no = r#"{"error":"invalid_grant","error_description":"gone\u001b[2J"}"#;
        for status in [200, 400, 401] {
            let error = answered(status, no).err().expect("refused");
            assert!(error.is("invalid_grant"), "{error}");
            assert!(!error.to_string().contains('\u{1b}'), "{error}");
        }
        for status in [500, 503, 429] {
            assert!(matches!(answered(status, no), Err(OauthError::Unreachable(_))));
        }
        for status in [302, 404] {
            assert!(matches!(answered(status, ""), Err(OauthError::Garbled(_))));
        }
    }
}
