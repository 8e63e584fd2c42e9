//! `inject` of a `[[credential]]`: to which hosts, in which header, and whether the servers that get it can
//! reach them.

use std::ops::Range;

use super::{Case, patterns};
use crate::config::inject::{DOMAIN, label, too_long};
use crate::config::problem::quotable;
use crate::config::scalar::At;
use crate::config::tenant::{Delivery, Destination, Network, Server};
use crate::config::written::InjectTable;

/// The port of HTTPS, the only one that a credential leaves by.
const HTTPS: u16 = 443;
/// Headers that a credential cannot be in: they frame a message, lead it, or are between neighbours only.
const NOT_FOR_SECRETS: [&str; 14] = [
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The delivery that a table means.
pub(super) fn delivery(case: &mut Case<'_>, path: &str, table: At<InjectTable>) -> Delivery {
    let At { span, value: table } = table;
    let hosts = table.hosts.unwrap_or_default();
    if hosts.is_empty() {
        let path = format!("{path}.inject.hosts");
        let cure = "add for example hosts = [\"api.github.com\"]";
        case.report.add_missing(&span, &path, "inject names no host", cure);
    }
    let mut exact: Vec<String> = Vec::new();
    for host in &hosts {
        if !patterns::is_host(&host.value) {
            let what = format!("\"{}\" in hosts is not an exact host name", quotable(&host.value));
            case.report.add(&host.span, what, "write for example \"api.github.com\", without port");
        }
        let lower = host.value.to_ascii_lowercase();
        if exact.contains(&lower) {
            let what = format!("\"{}\" is in hosts twice", quotable(&host.value));
            case.report.add(&host.span, what, "keep one of them");
        } else {
            exact.push(lower);
        }
    }
    if let Some(header) = &table.header {
        header_fault(case, header);
    }
    if let Some(value) = &table.value
        && (value.value.matches("{}").count() != 1 || value.value.chars().any(char::is_control))
    {
        // Not quoted: people paste the secret itself here.
        let what = "value does not hold {} exactly once, in one line";
        case.report.add(&value.span, what, "write for example value = \"Bearer {}\"");
    }
    let or = |text: Option<At<String>>, default: &str| {
        text.map_or_else(|| default.to_owned(), |text| text.value)
    };
    Delivery::Inject {
        hosts: exact,
        header: or(table.header, "Authorization"),
        format: or(table.value, "Bearer {}"),
    }
}

fn header_fault(case: &mut Case<'_>, header: &At<String>) {
    let quoted = quotable(&header.value);
    let cure = "write for example header = \"Authorization\"";
    if !patterns::is_header(&header.value) {
        case.report.add(&header.span, format!("header = \"{quoted}\" is not a header name"), cure);
    } else if NOT_FOR_SECRETS.contains(&&*header.value.to_ascii_lowercase()) {
        case.report.add(&header.span, format!("header = \"{quoted}\" cannot hold a secret"), cure);
    }
}

/// Whether a server can reach what the credential is for.
pub(super) fn reaches(
    case: &mut Case<'_>,
    span: &Range<usize>,
    (name, hosts): (&str, &[String]),
    server: &Server,
) {
    // Of what is none, enough was said.
    if hosts.iter().any(|host| !patterns::is_host(host)) {
        return;
    }
    if let Some(long) = too_long(name, hosts) {
        let what = format!("{long} is too long to be a host name");
        case.report.add(span, what, "give the credential a shorter name");
    }
    let own = &server.name;
    let lines: Vec<_> = hosts.iter().map(|host| format!("\"{host}:{HTTPS}\"")).collect();
    let allowed = match &server.sandbox.network {
        Network::Allow(allowed) => allowed.as_slice(),
        Network::None => &[],
        // It could go another way, and other users of this machine could go this one: the names are on the
        // loopback interface.
        Network::Host => {
            let what =
                format!("inject needs a network of server \"{own}\"'s own, and it has the host's");
            let cure = format!("write sandbox.network = [{}]", lines.join(", "));
            return case.report.add(span, what, cure);
        }
    };
    for host in hosts.iter().filter(|host| !allowed.iter().any(|to| opens(to, host))) {
        let what =
            format!("server \"{own}\" cannot reach {host}, to which inject sends a credential");
        case.report.add(span, what, format!("add \"{host}:{HTTPS}\" to its sandbox.network"));
    }
}

fn opens(to: &Destination, host: &str) -> bool {
    let below = to.host.strip_prefix('*').is_some_and(|suffix| {
        host.ends_with(suffix)
            && host.len() > suffix.len()
            && host.parse::<std::net::IpAddr>().is_err()
    });
    to.port == HTTPS && (to.host == host || below)
}

/// The name inside that it takes: labels may meet where names do not.
pub(super) fn taken(name: &str) -> String {
    format!("{}.{DOMAIN}", label(name))
}
