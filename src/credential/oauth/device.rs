//! The device grant (RFC 8628): a person confirms a short code in a browser anywhere, this machine asks until
//! it is done.

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::OauthError;
use super::document::Registration;
use super::http::Client;
use super::metadata::Server;
use super::token::{self, Granted, Seconds};
use crate::config::is_endpoint;
use crate::wire::credential::LoginPlan;

/// How long to wait between two questions where the server does not say (section 3.2), and how much longer
/// once it says that this is too fast (section 3.5).
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest pause between two questions, however often the server slows us down.
const INTERVAL_MAX: Duration = Duration::from_secs(60);
/// The longest time that a person is waited for.
const LIFE_MAX: Duration = Duration::from_secs(30 * 60);
/// The longest user code that is shown, characters.
const CODE_MAX: usize = 64;

/// A login that waits for a person.
pub struct Codes {
    device_code: Zeroizing<String>,
    /// What the person types, or compares.
    pub user_code: String,
    /// Where.
    pub verification_uri: String,
    /// The same with the code in it.
    pub verification_uri_complete: Option<String>,
    interval: Duration,
    until: Instant,
}

#[derive(Deserialize)]
struct Begun {
    device_code: Zeroizing<String>,
    user_code: String,
    // Some servers that are older than the standard say "url".
    #[serde(alias = "verification_url")]
    verification_uri: String,
    #[serde(alias = "verification_url_complete")]
    verification_uri_complete: Option<String>,
    expires_in: Seconds,
    interval: Option<Seconds>,
}

impl Codes {
    /// Asks for a code.
    ///
    /// # Errors
    /// [`OauthError`]; `Setup` where the server does not know this grant.
    pub async fn begin(
        client: &Client,
        server: &Server,
        plan: &LoginPlan,
        registration: &Registration,
    ) -> Result<Self, OauthError> {
        let Some(endpoint) = &server.device_authorization_endpoint else {
            let what =
                "the server does not offer a login by a code (log in on a machine with a browser)";
            return Err(OauthError::Setup(what.into()));
        };
        let scopes = plan.scopes.join(" ");
        let mut pairs = Vec::new();
        if !scopes.is_empty() {
            pairs.push(("scope", scopes.as_str()));
        }
        pairs.extend(plan.resource.as_deref().map(|resource| ("resource", resource)));
        let answer = token::as_client(client, endpoint, registration, pairs).await?;
        token::refusal(&answer)?;
        let begun: Begun = serde_json::from_slice(&answer.body)
            .map_err(|_| OauthError::Garbled("the server's answer holds no device code".into()))?;
        Self::of(begun)
    }

    fn of(begun: Begun) -> Result<Self, OauthError> {
        let length = begun.user_code.chars().count();
        let plain = (1..=CODE_MAX).contains(&length)
            && begun.user_code.chars().all(|c| !c.is_control() && !super::is_invisible(c));
        let complete = begun.verification_uri_complete.as_deref();
        if !plain || !is_endpoint(&begun.verification_uri) || !complete.is_none_or(is_endpoint) {
            let what = "the server's code or its address cannot be shown to a person";
            return Err(OauthError::Garbled(what.into()));
        }
        let seconds = |seconds: &Seconds| {
            let whole = token::life(seconds).and_then(|seconds| u64::try_from(seconds).ok());
            Duration::from_secs(whole.unwrap_or(0))
        };
        let life = seconds(&begun.expires_in).min(LIFE_MAX);
        let interval = begun.interval.as_ref().map_or(INTERVAL, seconds);
        Ok(Self {
            device_code: begun.device_code,
            user_code: begun.user_code,
            verification_uri: begun.verification_uri,
            verification_uri_complete: begun.verification_uri_complete,
            // A server that says 0 would be asked in a circle.
            interval: interval.clamp(Duration::from_secs(1), INTERVAL_MAX),
            until: Instant::now() + life,
        })
    }

    /// Asks until the person is done, says no, or is too late.
    ///
    /// # Errors
    /// [`OauthError`]: `access_denied`, `TimedOut`, and what a token endpoint may answer.
    pub async fn wait(
        &self,
        client: &Client,
        server: &Server,
        registration: &Registration,
    ) -> Result<Granted, OauthError> {
        let mut interval = self.interval;
        loop {
            if Instant::now() + interval > self.until {
                return Err(OauthError::TimedOut);
            }
            tokio::time::sleep(interval).await;
            let pairs = vec![
                ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
                ("device_code", self.device_code.as_str()),
            ];
            match token::grant(client, &server.token_endpoint, registration, pairs).await {
                Err(error) if error.is("authorization_pending") => {}
                Err(error) if error.is("slow_down") => interval += INTERVAL,
                // What hangs is given more time with each question (section 3.5).
                Err(OauthError::Unreachable(_)) => interval *= 2,
                Err(error) if error.is("expired_token") => return Err(OauthError::TimedOut),
                other => return other,
            }
            interval = interval.min(INTERVAL_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(uri: &str, code: &str) -> Result<Codes, OauthError> {
        let text = format!(
            r#"{{"device_code":"d","user_code":"{code}","verification_url":"{uri}","expires_in":60,"interval":0}}"#
        );
        Codes::of(serde_json::from_str(&text).expect("an answer"))
    }

    #[test]
    fn what_a_person_is_shown_is_fit_to_be_shown() {
        let codes = begun("https://as.example/device", "ABCD-EFGH").expect("codes");
        assert_eq!(codes.verification_uri, "https://as.example/device");
        assert_eq!(codes.interval, Duration::from_secs(1));
        assert!(begun("javascript:alert(1)", "ABCD").is_err());
        assert!(begun("https://as.example/", "").is_err());
        assert!(begun("https://as.example/", "A\\u001b[2J").is_err());
        assert!(begun("https://as.example/", &"A".repeat(65)).is_err());
    }
}
