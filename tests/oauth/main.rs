//! The OAuth 2.1 client, held against a real authorization server (`oidc-provider` of npm) and a real browser.

#![allow(missing_docs, reason = "a test binary has no API")]

mod bad_servers;
mod browser;
mod device;
mod killed;
mod provider;
mod renewals;
#[path = "../support/mod.rs"]
mod support;
mod whole;

use std::collections::BTreeMap;

use tenantd::credential::oauth::OauthError;
use tenantd::wire::credential::LoginPlan;

/// What is configured for a login at `issuer`.
fn plan(issuer: &str) -> LoginPlan {
    LoginPlan {
        issuer: Some(issuer.to_owned()),
        endpoints: BTreeMap::new(),
        client_id: Some("by-hand".to_owned()),
        scopes: vec!["openid".to_owned(), "offline_access".to_owned()],
        resource: None,
        ca_file: None,
    }
}

/// The value, or a failure of the test with the error's words.
fn good<T>(result: Result<T, OauthError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// The error.
fn bad<T>(result: Result<T, OauthError>) -> OauthError {
    result.err().expect("an error")
}
