//! `[oauth.NAME]`: where one logs in, as whom, and for what.
//!
//! Addresses are checked for their shape alone; who answers there is found out at the login.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{Case, patterns};
use crate::config::problem::quotable;
use crate::config::scalar::At;
use crate::config::tenant::Login;
use crate::config::written::OauthTable;

/// The logins by name.
pub(super) fn logins(
    case: &mut Case<'_>,
    written: BTreeMap<At<String>, At<OauthTable>>,
) -> BTreeMap<String, Login> {
    let mut logins = BTreeMap::new();
    for (name, table) in written {
        if !patterns::is_word(&name.value) {
            let what = format!("\"{}\" cannot be the name of a login", quotable(&name.value));
            let cure = "write the name of its [[credential]], such as [oauth.github]";
            case.report.add(&name.span, what, cure);
        }
        let login = login(case, &name.value, table);
        logins.insert(name.value, login);
    }
    logins
}

fn login(case: &mut Case<'_>, name: &str, table: At<OauthTable>) -> Login {
    let At { span, value: table } = table;
    let endpoints = [
        ("authorization_endpoint", table.authorization_endpoint),
        ("token_endpoint", table.token_endpoint),
        ("device_authorization_endpoint", table.device_authorization_endpoint),
        ("revocation_endpoint", table.revocation_endpoint),
    ];
    let endpoints: BTreeMap<String, String> = endpoints
        .into_iter()
        .filter_map(|(key, written)| Some((key.to_owned(), address(case, key, written)?)))
        .collect();
    let client_secret = table.client_secret.as_ref().is_some_and(|asked| asked.value);
    if let Some(asked) = table.client_secret.filter(|asked| asked.value)
        && table.client_id.is_none()
    {
        let what = "client_secret = true without a client_id: whose secret is it?";
        case.report.add(&asked.span, what, "add the client_id that the server gave you");
    }
    let issuer = issuer(case, table.issuer);
    if issuer.is_none() {
        complete(case, &span, name, &endpoints, table.client_id.is_some());
    }
    Login {
        issuer,
        endpoints,
        client_id: client_id(case, table.client_id),
        client_secret,
        scopes: scopes(case, table.scopes.unwrap_or_default()),
        resource: resource(case, table.resource),
    }
}

/// An https URL, or http to this machine itself.
fn address(case: &mut Case<'_>, key: &str, written: Option<At<String>>) -> Option<String> {
    let written = written?;
    if !patterns::is_endpoint(&written.value) {
        // Not quoted: an address may carry a password.
        let what = format!("{key} is not the address of an endpoint");
        let cure = format!("write for example {key} = \"https://login.example.com/oauth\"");
        case.report.add(&written.span, what, cure);
    }
    Some(written.value)
}

/// RFC 8414, section 2: a URL without query and fragment.
fn issuer(case: &mut Case<'_>, written: Option<At<String>>) -> Option<String> {
    let written = written?;
    if !patterns::is_endpoint(&written.value) || written.value.contains('?') {
        let what = "issuer is not the address of an authorization server";
        let cure = "write it as the server does, such as issuer = \"https://login.example.com\"";
        case.report.add(&written.span, what, cure);
    }
    Some(written.value)
}

/// Without an issuer nothing can be found: what a login needs must be written.
fn complete(
    case: &mut Case<'_>,
    span: &Range<usize>,
    name: &str,
    endpoints: &BTreeMap<String, String>,
    has_client: bool,
) {
    let has = |key: &str| endpoints.contains_key(key);
    let missing = if endpoints.is_empty() {
        (
            "issuer",
            "does not say where one logs in",
            "add for example issuer = \"https://login.example.com\"",
        )
    } else if !has("token_endpoint") {
        ("token_endpoint", "has neither issuer nor token_endpoint", "add one of them")
    } else if !has("authorization_endpoint") && !has("device_authorization_endpoint") {
        (
            "authorization_endpoint",
            "does not say where one logs in",
            "add issuer, authorization_endpoint or device_authorization_endpoint",
        )
    } else if !has_client {
        ("client_id", "has neither issuer nor client_id", "add the id that the server gave you")
    } else {
        return;
    };
    let (key, what, cure) = missing;
    case.report.add_missing(
        span,
        &format!("oauth.{name}.{key}"),
        format!("[oauth.{}] {what}", quotable(name)),
        cure,
    );
}

/// RFC 6749, appendix A.1: printable ASCII.
fn client_id(case: &mut Case<'_>, written: Option<At<String>>) -> Option<String> {
    let written = written?;
    let id = &written.value;
    if id.is_empty() || !id.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        let what = format!("client_id = \"{}\" is not a client's id", quotable(id));
        case.report.add(&written.span, what, "write it as the server gave it to you");
    }
    Some(written.value)
}

/// RFC 6749, section 3.3: no space, quote or backslash.
fn scopes(case: &mut Case<'_>, written: Vec<At<String>>) -> Vec<String> {
    let shaped = |byte: u8| (0x21..0x7f).contains(&byte) && !matches!(byte, b'"' | b'\\');
    for scope in &written {
        if scope.value.is_empty() || !scope.value.bytes().all(shaped) {
            let what = format!("\"{}\" in scopes is not a scope", quotable(&scope.value));
            case.report.add(&scope.span, what, "write each by itself: [\"repo\", \"read:user\"]");
        }
    }
    super::plain(written)
}

/// RFC 8707, section 2: an absolute URI without fragment.
fn resource(case: &mut Case<'_>, written: Option<At<String>>) -> Option<String> {
    let written = written?;
    if !patterns::is_absolute_uri(&written.value) {
        let what = format!("resource = \"{}\" is not an absolute URI", quotable(&written.value));
        let cure = "write for example resource = \"https://mcp.example.com\"";
        case.report.add(&written.span, what, cure);
    }
    Some(written.value)
}
