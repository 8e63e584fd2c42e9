//! The heads of requests and answers on their way through. Pure.
//!
//! What belongs to one connection stays on it (RFC 9110, section 7.6.1); the framing of a message is made
//! anew on each side, from its body alone. The credential's header is put in last, so nothing that a server
//! sends can stand beside it.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request;
use hyper::{Method, Uri, Version};

use super::redact::Forms;

/// Where requests of one internal name go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The name inside: `github.tenantd.internal`.
    pub(super) inner: String,
    /// The host outside, with its port where that is not 443.
    pub(super) outer: String,
}

/// Why a request is not sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// CONNECT and TRACE.
    #[error(
        "this address takes requests for one host: no CONNECT, and no TRACE, which shows headers back"
    )]
    Method,
    /// It names somebody else.
    #[error("the request is for another host than the one that this address leads to")]
    Elsewhere,
    /// A page of somebody else's made it.
    #[error("the request comes from a web page of another origin")]
    Origin,
    /// A WebSocket or another protocol.
    #[error("this address speaks HTTP only: no WebSocket")]
    Upgrade,
    /// `*`, or no path.
    #[error("the request has no path")]
    Target,
}

impl Unfit {
    /// The status that says so (RFC 9110, section 15).
    pub(super) fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Elsewhere => 421,
            Self::Origin => 403,
            Self::Upgrade => 501,
            Self::Target => 400,
        }
    }
}

/// Whether a request may be sent on under the credential.
pub(super) fn judge(head: &request::Parts, names: &Names) -> Result<(), Unfit> {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Unfit::Method);
    }
    let ours = |authority: &str| {
        let bare = authority.strip_suffix(":80").unwrap_or(authority);
        bare.eq_ignore_ascii_case(&names.inner)
    };
    let target = head.uri.authority().is_none_or(|named| ours(named.as_str()));
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).is_some_and(ours);
    if !target || !host || hosts.next().is_some() {
        return Err(Unfit::Elsewhere);
    }
    // A browser inside that shows a stranger's page must not lend it the credential. Programs send none.
    let mut origins = head.headers.get_all(header::ORIGIN).iter();
    let own = |origin: &HeaderValue| {
        origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://")).is_some_and(ours)
    };
    if !origins.all(own) {
        return Err(Unfit::Origin);
    }
    // Others, as h2c, may be ignored (RFC 9110, section 7.8).
    let mut upgrades = head.headers.get_all(header::UPGRADE).iter();
    if upgrades.any(|value| value.as_bytes().to_ascii_lowercase().starts_with(b"websocket")) {
        return Err(Unfit::Upgrade);
    }
    if !head.uri.path().starts_with('/') {
        return Err(Unfit::Target);
    }
    Ok(())
}

/// The head of a request as it goes out, without the credential.
pub(super) fn outward(head: &request::Parts, credential: &HeaderName) -> HeaderMap {
    let mut headers = head.headers.clone();
    let trailers = headers.get_all(header::TE).iter().any(|te| has(te, b"trailers"));
    drop_connection(&mut headers);
    for name in [header::HOST, header::EXPECT, header::ORIGIN, header::REFERER] {
        headers.remove(name);
    }
    headers.remove("http2-settings");
    headers.remove(credential);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    // What is compressed could not be looked through for the secret.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

/// The target of a request as it goes out: its path alone (HTTP/1.1), or with its host (HTTP/2).
pub(super) fn target(uri: &Uri, names: &Names, version: Version) -> Option<Uri> {
    let path = uri.path_and_query()?.as_str();
    match version {
        Version::HTTP_2 => format!("https://{}{path}", names.outer).parse().ok(),
        _ => path.parse().ok(),
    }
}

/// The head of an answer as the server inside sees it.
pub(super) fn inward(headers: &mut HeaderMap, names: &Names, forms: &Forms) {
    drop_connection(headers);
    // These speak of the host outside: its sessions, its other ways in. A session that was opened with the
    // credential is as good as the credential.
    for name in [header::SET_COOKIE, header::STRICT_TRANSPORT_SECURITY, header::ALT_SVC] {
        headers.remove(name);
    }
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        rewrite(headers, &name, |text| at_home(text, names));
    }
    rewrite(headers, &header::LINK, |text| links_at_home(text, names));
    redact(headers, forms);
}

/// Puts the mark over the secret in every value.
pub(super) fn redact(headers: &mut HeaderMap, forms: &Forms) {
    for value in headers.values_mut() {
        let mut bytes = value.as_bytes().to_vec();
        if forms.redact(&mut bytes)
            && let Ok(marked) = HeaderValue::from_bytes(&bytes)
        {
            *value = marked;
        }
    }
}

/// Whether the body of an answer is as it reads: neither compressed nor in a transfer coding but chunked.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    let only = |name: HeaderName, plain: &[u8]| {
        let mut values = headers.get_all(name).iter();
        values.all(|value| {
            let mut codings = value.as_bytes().split(|byte| *byte == b',');
            codings.all(|coding| {
                let coding = coding.trim_ascii();
                coding.is_empty() || coding.eq_ignore_ascii_case(plain)
            })
        })
    };
    only(header::CONTENT_ENCODING, b"identity") && only(header::TRANSFER_ENCODING, b"chunked")
}

fn has(value: &HeaderValue, word: &[u8]) -> bool {
    value
        .as_bytes()
        .split(|byte| *byte == b',')
        .any(|one| one.trim_ascii().eq_ignore_ascii_case(word))
}

/// Takes away what is between two neighbours only.
fn drop_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    named.into_iter().for_each(|name| drop(headers.remove(name)));
    for name in [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

fn rewrite(headers: &mut HeaderMap, name: &HeaderName, with: impl Fn(&str) -> Option<String>) {
    let header::Entry::Occupied(mut entry) = headers.entry(name) else { return };
    for value in entry.iter_mut() {
        let new = value.to_str().ok().and_then(&with);
        if let Some(new) = new.and_then(|text| HeaderValue::try_from(text).ok()) {
            *value = new;
        }
    }
}

/// A URL of the host outside, by its name inside; nothing for one of anybody else's, or a relative one.
fn at_home(url: &str, names: &Names) -> Option<String> {
    let (scheme, rest) = url.split_once("//")?;
    let default = match scheme.to_ascii_lowercase().as_str() {
        "https:" | "" => ":443",
        "http:" => ":80",
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let bare = authority.strip_suffix(default).unwrap_or(authority);
    bare.eq_ignore_ascii_case(&names.outer).then(|| format!("http://{}{path}", names.inner))
}

/// The same for each `<URL>` of a Link header (RFC 8288): pages of a list are found by it.
fn links_at_home(value: &str, names: &Names) -> Option<String> {
    let mut text = String::with_capacity(value.len());
    let mut rest = value;
    while let Some((before, link)) = rest.split_once('<') {
        let (url, after) = link.split_once('>')?;
        text.push_str(before);
        text.push('<');
        text.push_str(&at_home(url, names).unwrap_or_else(|| url.to_owned()));
        text.push('>');
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
#[path = "heads_tests.rs"]
mod tests;
