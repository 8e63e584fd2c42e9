//! The sandbox of one server: what it may reach, and which layers it will not start without.

use std::net::IpAddr;

use super::{Case, patterns, plain};
use crate::config::inject;
use crate::config::problem::quotable;
use crate::config::scalar::At;
use crate::config::tenant::{Destination, Layer, Network, Sandbox};
use crate::config::territory::Use;
use crate::config::written::{NetworkWord, SandboxTable};
use crate::paths::Mode;

/// The most destinations of one allowlist: each exact one gets an address of 127.64.0.0/24.
const DESTINATIONS_MAX: usize = 254;
const TMP: u64 = 64 << 20;

/// The sandbox that `table` means.
pub(super) fn sandbox(case: &mut Case<'_>, key: &str, table: SandboxTable) -> Sandbox {
    Sandbox {
        network: table.network.map_or(Network::None, |network| self::network(case, network)),
        read: paths(case, &format!("{key}.read"), table.read, Use::Read),
        write: paths(case, &format!("{key}.write"), table.write, Use::Write),
        tmp: table.tmp.map_or(TMP, |tmp| tmp.value.0),
        data_exec: table.data_exec.is_some_and(|exec| exec.value),
        groups: table.groups.map(|groups| self::groups(case, groups)).unwrap_or_default(),
        require: table
            .require
            .map_or_else(|| required(case.host.mode), |layers| sorted(plain(layers))),
    }
}

/// What must hold where the file does not say.
pub fn required(mode: Mode) -> Vec<Layer> {
    let mut layers = vec![Layer::Namespaces, Layer::Landlock, Layer::Seccomp];
    // A desktop without a delegated cgroup is common; there it is shown and not fatal.
    if mode == Mode::System {
        layers.push(Layer::Cgroup);
    }
    layers
}

fn sorted(mut layers: Vec<Layer>) -> Vec<Layer> {
    layers.sort_unstable();
    layers.dedup();
    layers
}

fn network(case: &mut Case<'_>, written: At<NetworkWord>) -> Network {
    let entries = match written.value {
        NetworkWord::None => return Network::None,
        NetworkWord::Host => return Network::Host,
        NetworkWord::Allow(entries) => entries,
    };
    if entries.len() > DESTINATIONS_MAX {
        let what = format!("network has {} destinations", entries.len());
        let cure = format!(
            "write at most {DESTINATIONS_MAX}, or \"*.suffix:port\" for many of one domain"
        );
        case.report.add(&written.span, what, cure);
    }
    // An empty list reaches nothing, which is what "none" says.
    if entries.is_empty() {
        return Network::None;
    }
    let destinations: Vec<_> =
        entries.iter().filter_map(|entry| destination(case, entry)).collect();
    if destinations.iter().any(|destination| destination.host.starts_with('*'))
        && destinations.iter().any(is_the_proxys)
    {
        let what = "network has a wildcard, whose proxy is on 127.0.0.1:3128 inside";
        case.report.add(&written.span, what, "reach what listens there by another port or name");
    }
    Network::Allow(destinations)
}

/// Whether it stands inside where the proxy for wildcards does.
fn is_the_proxys(destination: &Destination) -> bool {
    destination.port == 3128 && ["localhost", "127.0.0.1"].contains(&&*destination.host)
}

fn destination(case: &mut Case<'_>, written: &At<String>) -> Option<Destination> {
    let destination = patterns::destination(&written.value);
    if destination.is_none() {
        let what = format!("\"{}\" in network is not a destination", quotable(&written.value));
        let cure =
            "write for example \"db.acme.lan:5432\", \"10.0.0.5:443\" or \"*.example.com:443\"";
        case.report.add(&written.span, what, cure);
    }
    if destination.as_ref().is_some_and(|it| inject::is_ours(&it.host)) {
        let what =
            format!("\"{}\" in network is a name of tenantd's own", quotable(&written.value));
        case.report.add(&written.span, what, "remove it: inject makes these names by itself");
    }
    let address = destination.as_ref().and_then(|it| it.host.parse::<IpAddr>().ok());
    if let Some(why) = address.and_then(patterns::no_host) {
        let what = format!("\"{}\" in network is no host: {why}", quotable(&written.value));
        case.report.add(&written.span, what, "write the name or the address of one host");
    }
    destination
}

fn paths(
    case: &mut Case<'_>,
    key: &str,
    written: Option<Vec<At<String>>>,
    how: Use,
) -> Vec<std::path::PathBuf> {
    let written = written.unwrap_or_default();
    written.iter().filter_map(|path| case.path(key, path, how)).collect()
}

fn groups(case: &mut Case<'_>, written: At<Vec<At<String>>>) -> Vec<String> {
    if case.host.mode == Mode::User && !written.value.is_empty() {
        let what = "sandbox.groups needs system mode: a user cannot give groups away";
        case.report.add(&written.span, what, "remove it");
    }
    for group in &written.value {
        let root = matches!(group.value.as_str(), "root" | "0");
        if root || !patterns::is_principal(&group.value) {
            let what =
                format!("\"{}\" in groups is not a group to give away", quotable(&group.value));
            case.report.add(&group.span, what, "write the name of a group that people share");
        }
    }
    plain(written.value)
}
