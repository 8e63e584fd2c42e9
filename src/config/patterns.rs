//! The shapes of the small texts in a file: patterns, names of users, environment variables, hosts.
//!
//! Pure; each function says whether a text has the shape, the caller says where it stood.

use std::net::{IpAddr, Ipv6Addr};

use globset::Glob;

use super::tenant::Destination;

/// The longest pattern, bytes: a glob becomes an automaton.
const PATTERN_MAX: usize = 512;

/// Why `text` is not a glob pattern.
pub(super) fn pattern_fault(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("it is empty".to_owned());
    }
    if text.len() > PATTERN_MAX {
        return Some(format!("it is longer than {PATTERN_MAX} bytes"));
    }
    Glob::new(text).err().map(|error| error.kind().to_string())
}

/// Whether `text` can be the name of a user or group, or an id in digits.
pub(super) fn is_principal(text: &str) -> bool {
    let plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, ':' | ',' | '/');
    !text.is_empty()
        && text.len() <= 256
        && !text.starts_with(['-', '@'])
        && text.chars().all(plain)
}

/// Whether `text` can be the name of an environment variable.
pub(super) fn is_variable(text: &str) -> bool {
    let mut bytes = text.bytes();
    matches!(bytes.next(), Some(b'A'..=b'Z' | b'a'..=b'z' | b'_'))
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.len() <= 256
}

/// Whether tenantd itself gives the environment variable `text` its value.
pub(super) fn is_reserved(text: &str) -> bool {
    text.starts_with("TENANTD_") || text == "CREDENTIALS_DIRECTORY"
}

/// Whether `text` is a word of letters, digits and `_ - . :`, beginning with a letter or digit: a
/// permission, the name of a credential, a file name.
pub(super) fn is_word(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b':');
    text.len() <= 64
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(good)
}

/// Whether `text` can name a feature: it becomes `TENANTD_FEATURE_...` without two becoming one.
pub(super) fn is_feature(text: &str) -> bool {
    text.len() <= 64
        && matches!(text.as_bytes().first(), Some(b'a'..=b'z'))
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Whether `text` is the name of an HTTP header (RFC 9110, token).
pub(super) fn is_header(text: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(token)
}

/// A host with its port: `name:port`, `address:port`, `[v6]:port`, `*.suffix:port`.
pub(super) fn destination(text: &str) -> Option<Destination> {
    let (host, port) = text.rsplit_once(':')?;
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|port: &u16| digits && *port > 0)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        // One of IPv4 in IPv6's clothes is one of IPv4.
        Some(v6) => v6.parse::<Ipv6Addr>().ok()?.to_canonical().to_string(),
        None if is_host(host.strip_prefix("*.").unwrap_or(host)) => host.to_ascii_lowercase(),
        None => return None,
    };
    Some(Destination { host, port })
}

/// Why an address is not that of one host that can be reached from a sandbox.
pub(super) fn no_host(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("it means \"this network\""),
        IpAddr::V4(v4) if v4.octets()[..2] == [127, 64] => Some("inside it stands for a name"),
        IpAddr::V4(v4) if v4.is_broadcast() || v4.is_multicast() => Some("it means many"),
        IpAddr::V6(v6) if v6.is_unspecified() => Some("it means \"any\""),
        IpAddr::V6(v6) if v6.is_multicast() => Some("it means many"),
        _ => None,
    }
}

/// Whether `text` is a host name (RFC 1123) or an IPv4 address.
pub fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Digits and dots alone must be an address: "10.0.0" is neither a name nor one.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if numeric {
        return text.parse::<std::net::Ipv4Addr>().is_ok();
    }
    text.len() <= 253 && text.split('.').all(label)
}

/// The longest address, bytes: what servers and browsers take without complaint.
const ADDRESS_MAX: usize = 2048;

/// Whether `text` is an address that secrets may be sent to: https, or http to this machine itself; without
/// user, password and fragment.
pub fn is_endpoint(text: &str) -> bool {
    let (secure, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (true, rest),
        (None, Some(rest)) => (false, rest),
        (None, None) => return false,
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = bare.map_or_else(|| host.parse().ok(), |v6| v6.parse().ok().map(IpAddr::V6));
    let known = if bare.is_some() { address.is_some() } else { is_host(host) };
    let numbered = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let here = host == "localhost" || address.is_some_and(|address: IpAddr| address.is_loopback());
    is_uri_text(text) && known && numbered && (secure || here)
}

/// Whether `text` is a URI with a scheme and without fragment (RFC 3986, section 4.3).
pub(super) fn is_absolute_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(letter);
    named && !rest.is_empty() && is_uri_text(text)
}

/// Whether every byte may stand in a URI without fragment.
fn is_uri_text(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&b);
    text.len() <= ADDRESS_MAX && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_a_host_and_a_port() {
        let of = |text| destination(text).map(|d| (d.host, d.port));
        assert_eq!(of("API.github.com:443"), Some(("api.github.com".into(), 443)));
        assert_eq!(of("*.example.com:443"), Some(("*.example.com".into(), 443)));
        assert_eq!(of("10.0.0.1:5432"), Some(("10.0.0.1".into(), 5432)));
        assert_eq!(of("[::1]:80"), Some(("::1".into(), 80)));
        assert_eq!(of("[::ffff:10.0.0.1]:80"), Some(("10.0.0.1".into(), 80)));
        for bad in [
            "",
            ":",
            "a",
            "a:",
            ":1",
            "a:0",
            "a:65536",
            "a:+1",
            "*:443",
            "*.:443",
            "a.*.b:1",
            "::1:80",
            "10.0.0:1",
            "[x]:1",
            "a b:1",
            "http://a:1",
            "-a:1",
            "a..b:1",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn small_texts_have_their_shapes() {
        assert!(is_principal("alice") && is_principal("1000") && is_principal("DOM\\alice.b@x"));
        assert!(!is_principal("") && !is_principal("a b") && !is_principal("@staff"));
        assert!(
            is_variable("LOG_LEVEL")
                && !is_variable("1A")
                && !is_variable("A=B")
                && !is_variable("")
        );
        assert!(is_reserved("TENANTD_X") && !is_reserved("LOG"));
        assert!(is_feature("beta_search") && !is_feature("Beta") && !is_feature("beta-search"));
        assert!(is_word("github-token") && !is_word(".hidden") && !is_word("a/b"));
        assert!(is_header("X-Api-Key") && !is_header("X Api"));
        assert_eq!(pattern_fault("export_*"), None);
        assert!(pattern_fault("[").is_some() && pattern_fault("").is_some());
    }

    #[test]
    fn a_secret_is_sent_by_https_or_nowhere_but_to_this_machine() {
        for good in [
            "https://login.example.com",
            "https://login.example.com:8443/a/b?c=d",
            "https://[2001:db8::1]/token",
            "http://127.0.0.1:8080/token",
            "http://[::1]:1/",
            "http://localhost:3000",
        ] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in [
            "",
            "https://",
            "login.example.com",
            "http://login.example.com/",
            "http://10.0.0.1/",
            "http://127.0.0.1.example.com/",
            "http://localhost@example.com/",
            "https://user:secret@example.com/",
            "https://example.com/#top",
            "https://example.com:0/",
            "https://example.com:x/",
            "https://exam ple.com/",
            "https://[::1/",
            "file:///etc/passwd",
        ] {
            assert!(!is_endpoint(bad), "{bad}");
        }
        assert!(is_absolute_uri("urn:example:api") && is_absolute_uri("https://a.b/c?d"));
        assert!(
            !is_absolute_uri("/a") && !is_absolute_uri("https://a/#b") && !is_absolute_uri("a:")
        );
    }
}
