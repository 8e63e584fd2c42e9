//! The authorization request and what the browser brings back: PKCE (RFC 7636, S256), `state`, and the
//! issuer's name (RFC 9207).

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::document::Registration;
use super::metadata::Server;
use super::{OauthError, form};
use crate::wire::credential::LoginPlan;

/// Random bytes of a verifier and of a state: 256 bits, 43 characters.
const RANDOM: usize = 32;

/// One login through a browser.
pub struct Attempt {
    url: String,
    state: Zeroizing<String>,
    verifier: Zeroizing<String>,
    redirect_uri: String,
    issuer: Option<String>,
    iss_needed: bool,
}

/// What a browser brought to the redirect address.
pub enum Returned {
    /// The code.
    Code(Zeroizing<String>),
    /// Not the answer to this request: another page's or program's doing. The answer may still come.
    Stray,
}

impl Attempt {
    /// Begins a login whose answer comes to `redirect_uri`.
    ///
    /// # Errors
    /// [`OauthError::Setup`] where the server has no place to log in.
    pub fn new(
        server: &Server,
        plan: &LoginPlan,
        client: &Registration,
        redirect_uri: String,
    ) -> Result<Self, OauthError> {
        let Some(endpoint) = &server.authorization_endpoint else {
            let what = "the server has no authorization endpoint (log in with --device)";
            return Err(OauthError::Setup(what.into()));
        };
        let (state, verifier) = (random()?, random()?);
        let challenge = challenge(&verifier);
        let scopes = plan.scopes.join(" ");
        let mut pairs = vec![
            ("response_type", "code"),
            ("client_id", &client.client_id),
            ("redirect_uri", &redirect_uri),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        if !scopes.is_empty() {
            pairs.push(("scope", &scopes));
        }
        // OpenID Connect gives a refresh token only with the person's consent (Core 1.0, section 11).
        if plan.scopes.iter().any(|scope| scope == "offline_access") {
            pairs.push(("prompt", "consent"));
        }
        pairs.extend(plan.resource.as_deref().map(|resource| ("resource", resource)));
        let url = form::with_query(endpoint, &pairs);
        let (issuer, iss_needed) = (server.issuer.clone(), server.says_iss);
        Ok(Self { url, state, verifier, redirect_uri, issuer, iss_needed })
    }

    /// Where the person logs in.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What the token endpoint wants beside the code.
    pub fn proof(&self) -> (&str, &str) {
        (&self.verifier, &self.redirect_uri)
    }

    /// Judges the query with which the browser came back.
    ///
    /// # Errors
    /// [`OauthError`] where the answer is to this request and is not a code.
    pub fn judge(&self, query: &str) -> Result<Returned, OauthError> {
        let Some(pairs) = form::decode(query) else { return Ok(Returned::Stray) };
        let of = |name: &str| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| &**value);
        // State first: what does not know it was not sent for us, and decides nothing.
        if of("state") != Some(self.state.as_str()) {
            return Ok(Returned::Stray);
        }
        let twice = ["state", "code", "iss", "error"]
            .into_iter()
            .any(|name| pairs.iter().filter(|(key, _)| key == name).count() > 1);
        if twice {
            return Err(OauthError::Garbled("the browser brought an answer twice".into()));
        }
        self.check_issuer(of("iss"))?;
        if let Some(error) = of("error") {
            return Err(OauthError::refused(error, of("error_description")));
        }
        match of("code") {
            Some(code) if !code.is_empty() => Ok(Returned::Code(Zeroizing::new(code.to_owned()))),
            _ => Err(OauthError::Garbled("the browser brought neither a code nor an error".into())),
        }
    }

    /// RFC 9207, section 2.4: another server's answer must not reach this one's token endpoint.
    fn check_issuer(&self, iss: Option<&str>) -> Result<(), OauthError> {
        match (iss, &self.issuer) {
            (Some(iss), Some(issuer)) if iss != issuer => {
                let iss = super::quoted(iss);
                let what = format!("the answer comes from \"{iss}\", not from \"{issuer}\"");
                Err(OauthError::Garbled(what))
            }
            (None, _) if self.iss_needed => {
                let what =
                    "the answer does not say which server it comes from, and this one always does";
                Err(OauthError::Garbled(what.into()))
            }
            _ => Ok(()),
        }
    }
}

/// 256 random bits as text.
fn random() -> Result<Zeroizing<String>, OauthError> {
    let mut bytes = Zeroizing::new([0; RANDOM]);
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let flags = rustix::rand::GetRandomFlags::empty();
        filled += rustix::rand::getrandom(rest, flags)
            .map_err(|error| OauthError::Setup(format!("no random numbers: {error}")))?;
    }
    Ok(Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*bytes)))
}

/// RFC 7636, section 4.2: BASE64URL(SHA256(verifier)).
fn challenge(verifier: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn attempt(says_iss: bool) -> Attempt {
        let server = Server {
            issuer: Some("https://as.example".into()),
            authorization_endpoint: Some("https://as.example/login?tenant=x".into()),
            says_iss,
            ..Server::default()
        };
        let plan = LoginPlan {
            issuer: server.issuer.clone(),
            endpoints: BTreeMap::new(),
            client_id: None,
            scopes: vec!["a".into(), "offline_access".into()],
            resource: Some("https://api.example/".into()),
            ca_file: None,
        };
        let client = Registration::new(&server, "me", None);
        let redirect = "http://127.0.0.1:1234/callback".to_owned();
        Attempt::new(&server, &plan, &client, redirect).expect("an attempt")
    }

    #[test]
    fn the_challenge_is_the_one_of_rfc_7636_appendix_b() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[test]
    fn a_request_asks_for_all_that_protects_it_and_no_two_are_alike() {
        let (one, two) = (attempt(true), attempt(true));
        let url = one.url();
        assert!(
            url.starts_with("https://as.example/login?tenant=x&response_type=code&client_id=me&")
        );
        for part in [
            "scope=a%20offline_access",
            "prompt=consent",
            "code_challenge_method=S256",
            "resource=https%3A%2F%2Fapi.example%2F",
            "redirect_uri=http%3A%2F%2F127.0.0.1%3A1234%2Fcallback",
        ] {
            assert!(url.contains(part), "{part}: {url}");
        }
        assert!(url.contains(&challenge(&one.verifier)) && !url.contains(one.verifier.as_str()));
        assert!(one.state != two.state && one.verifier != two.verifier);
    }

    #[test]
    fn only_the_answer_to_this_request_from_this_server_is_a_code() {
        let attempt = attempt(true);
        let judge = |rest: &str| attempt.judge(&format!("state={}{rest}", *attempt.state));
        let iss = "&iss=https%3A%2F%2Fas.example";
        assert!(
            matches!(judge(&format!("&code=abc{iss}")), Ok(Returned::Code(code)) if *code == "abc")
        );
        for stray in ["", "code=abc", "state=other&code=abc", "state=%zz", "error=access_denied"] {
            assert!(matches!(attempt.judge(stray), Ok(Returned::Stray)), "{stray}");
        }
        assert!(judge(&format!("&error=access_denied{iss}")).is_err_and(|e| e.is("access_denied")));
        for wrong in [
            "&code=abc",
            "&code=abc&iss=https%3A%2F%2Fevil.example",
            "&error=access_denied&iss=https%3A%2F%2Fevil.example",
            "&code=a&code=b&iss=https%3A%2F%2Fas.example",
            "&iss=https%3A%2F%2Fas.example",
        ] {
            assert!(matches!(judge(wrong), Err(OauthError::Garbled(_))), "{wrong}");
        }
    }

    #[test]
    fn a_server_that_does_not_promise_its_name_may_leave_it_out_but_not_lie() {
        let attempt = attempt(false);
        let judge = |rest: &str| attempt.judge(&format!("state={}{rest}", *attempt.state));
        assert!(matches!(judge("&code=abc"), Ok(Returned::Code(_))));
        assert!(judge("&code=abc&iss=https%3A%2F%2Fevil.example").is_err());
    }
}
