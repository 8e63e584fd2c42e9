//! What an allowlist is inside a sandbox: addresses, ports, the lines of its environment. Pure.
//!
//! A name gets an address of 127.64.0.0/16 and keeps it as long as the list is the same; an address is
//! itself there; `localhost` is the host's own, found where a program looks for it. The names by which hosts
//! are reached under a credential come after those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use crate::config::inject;
use crate::config::tenant::{
    Credential, Delivery, Destination, Network as Configured, Server, Tenant,
};
use crate::sandbox::doors::PROXY;
use crate::wire::egress::{Injection, Way};
use crate::wire::stage::{Doorway, Network};

/// The port of a name that leads out under a credential, and the one that it leads to.
const INSIDE: u16 = 80;
const OUTSIDE: u16 = 443;

/// What a server reaches, as its stage makes it.
pub(super) fn network(tenant: &Tenant, server: &Server) -> Network {
    match &server.sandbox.network {
        Configured::None => Network::None,
        Configured::Host => Network::Host,
        Configured::Allow(destinations) => {
            let proxy = destinations.iter().any(is_wildcard);
            let injections = injections(tenant, server);
            let names = injections.iter().flat_map(|injection| injection.doors.keys().cloned());
            Network::Allow { hosts: doorways(destinations, names), proxy }
        }
    }
}

/// What egress is told of a server; nothing where it has no need of egress.
pub(super) fn way(tenant: &Tenant, server: &Server) -> Option<Way> {
    match &server.sandbox.network {
        Configured::Allow(allowed) => {
            let inject = injections(tenant, server);
            Some(Way { server: server.name.clone(), allowed: allowed.clone(), inject })
        }
        Configured::None | Configured::Host => None,
    }
}

/// The credentials that egress puts into a server's requests.
fn injections(tenant: &Tenant, server: &Server) -> Vec<Injection> {
    let one = |credential: &Credential| {
        let Delivery::Inject { hosts, header, format } = &credential.delivery else { return None };
        let names = inject::names(&credential.name, hosts).into_iter();
        let to = |host: &str| Destination { host: host.to_owned(), port: OUTSIDE };
        Some(Injection {
            credential: credential.name.clone(),
            doors: names.map(|(name, host)| (name, to(host))).collect(),
            header: header.clone(),
            format: format.clone(),
        })
    };
    let its = tenant.credentials.iter().filter(|its| its.servers.contains(&server.name));
    its.filter_map(one).collect()
}

/// How a server's network is shown.
pub(super) fn shown(server: &Server) -> String {
    match &server.sandbox.network {
        Configured::None => "none".to_owned(),
        Configured::Host => "host".to_owned(),
        Configured::Allow(allowed) => {
            let one = |to: &Destination| match to.host.contains(':') {
                true => format!("[{}]:{}", to.host, to.port),
                false => format!("{}:{}", to.host, to.port),
            };
            allowed.iter().map(one).collect::<Vec<_>>().join(" ")
        }
    }
}

fn is_wildcard(destination: &Destination) -> bool {
    destination.host.starts_with('*')
}

fn doorways(destinations: &[Destination], injected: impl Iterator<Item = String>) -> Vec<Doorway> {
    let mut ports: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
    for exact in destinations.iter().filter(|destination| !is_wildcard(destination)) {
        ports.entry(&exact.host).or_default().insert(exact.port);
    }
    // Programs go to an exact host by its address, not by the proxy, whichever port they want.
    for wildcard in destinations.iter().filter(|destination| is_wildcard(destination)) {
        let suffix = wildcard.host.trim_start_matches('*');
        for (_, ports) in ports.iter_mut().filter(|(host, _)| host.ends_with(suffix)) {
            ports.insert(wildcard.port);
        }
    }
    let (mut next, mut taken, mut doorways) = (0, BTreeSet::new(), Vec::new());
    for (host, ports) in ports {
        for address in addresses(host, &mut next) {
            // "localhost" and "127.0.0.1" are the same inside as well.
            let free = |port: &u16| taken.insert((address, *port));
            let ports: Vec<u16> = ports.iter().copied().filter(free).collect();
            if !ports.is_empty() {
                doorways.push(Doorway { host: host.to_owned(), address, ports });
            }
        }
    }
    for host in injected {
        let address = addresses(&host, &mut next);
        let door = |address| Doorway { host: host.clone(), address, ports: vec![INSIDE] };
        doorways.extend(address.into_iter().map(door));
    }
    doorways
}

fn addresses(host: &str, next: &mut u16) -> Vec<IpAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return vec![address.to_canonical()];
    }
    if host == "localhost" {
        return vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    *next += 1;
    let [high, low] = next.to_be_bytes();
    vec![Ipv4Addr::new(127, 64, high, low).into()]
}

/// What tells programs of the proxy for wildcards, and of whom they reach without it.
pub(super) fn environment(network: &Network) -> BTreeMap<String, String> {
    let Network::Allow { hosts, proxy: true } = network else { return BTreeMap::new() };
    let proxy = format!("http://{PROXY}");
    let mut without = vec!["localhost", "127.0.0.1", "::1"];
    without.extend(hosts.iter().map(|doorway| doorway.host.as_str()).filter(|h| *h != "localhost"));
    let without = without.join(",");
    let mut env = BTreeMap::from([("NODE_USE_ENV_PROXY".to_owned(), "1".to_owned())]);
    for name in ["HTTPS_PROXY", "HTTP_PROXY"] {
        env.insert(name.to_owned(), proxy.clone());
        env.insert(name.to_lowercase(), proxy.clone());
    }
    env.insert("NO_PROXY".to_owned(), without.clone());
    env.insert("no_proxy".to_owned(), without);
    env
}

/// What tells programs which authorities to trust; nothing where they reach nobody.
pub(super) fn trust(network: &Network, bundle: &str) -> BTreeMap<String, String> {
    if *network == Network::None {
        return BTreeMap::new();
    }
    let names = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"];
    names.into_iter().map(|name| (name.to_owned(), bundle.to_owned())).collect()
}

/// Where distributions keep the system's authorities: Debian and its kin, Fedora's, SUSE's, Alpine's.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The system's authorities, for who believes no others.
///
/// # Errors
/// As open(2), of the last place where they could be.
pub(super) fn system_authorities() -> std::io::Result<std::fs::File> {
    let mut last = std::io::ErrorKind::NotFound.into();
    for path in SYSTEM {
        match std::fs::File::open(path) {
            Ok(file) => return Ok(file),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Puts the house's authorities behind the system's, in one file that sandboxes read: some programs take
/// one file and no other. Written where it changed only, and whole or not at all.
///
/// # Errors
/// As open(2), write(2) and rename(2).
pub(super) fn bundle(ca_file: &Path, directory: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let system = SYSTEM.iter().find_map(|path| std::fs::read(path).ok());
    let mut bytes = system.unwrap_or_default();
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    bytes.extend(std::fs::read(ca_file)?);
    let path = directory.join("ca-bundle.pem");
    if std::fs::read(&path).is_ok_and(|before| before == bytes) {
        return Ok(path);
    }
    let mut fresh = tempfile::NamedTempFile::new_in(directory)?;
    std::io::Write::write_all(&mut fresh, &bytes)?;
    fresh.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    fresh.persist(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(&str, u16)]) -> Vec<Destination> {
        let entry =
            |(host, port): &(&str, u16)| Destination { host: (*host).to_owned(), port: *port };
        entries.iter().map(entry).collect()
    }

    fn none() -> std::iter::Empty<String> {
        std::iter::empty()
    }

    fn at(doorways: &[Doorway]) -> Vec<String> {
        let one =
            |doorway: &Doorway| format!("{} {} {:?}", doorway.host, doorway.address, doorway.ports);
        doorways.iter().map(one).collect()
    }

    #[test]
    fn each_name_has_an_address_and_each_address_is_itself() {
        let list = list(&[
            ("db.acme.lan", 5432),
            ("api.github.com", 443),
            ("db.acme.lan", 443),
            ("10.1.2.3", 22),
            ("fd00::5", 80),
        ]);
        let expected = [
            "10.1.2.3 10.1.2.3 [22]",
            "api.github.com 127.64.0.1 [443]",
            "db.acme.lan 127.64.0.2 [443, 5432]",
            "fd00::5 fd00::5 [80]",
        ];
        assert_eq!(at(&doorways(&list, none())), expected);
    }

    #[test]
    fn names_under_a_credential_come_after_the_others_and_need_no_proxy() {
        let list = list(&[("z.acme.lan", 443), ("*.acme.lan", 443)]);
        let names = ["gh.tenantd.internal", "a.gh.tenantd.internal"].map(str::to_owned);
        let hosts = doorways(&list, names.into_iter());
        let expected = [
            "z.acme.lan 127.64.0.1 [443]",
            "gh.tenantd.internal 127.64.0.2 [80]",
            "a.gh.tenantd.internal 127.64.0.3 [80]",
        ];
        assert_eq!(at(&hosts), expected);
        let env = environment(&Network::Allow { hosts, proxy: true });
        assert!(env["no_proxy"].ends_with(",z.acme.lan,gh.tenantd.internal,a.gh.tenantd.internal"));
    }

    #[test]
    fn localhost_is_where_programs_look_for_it_and_nothing_stands_twice() {
        let list = list(&[("localhost", 5432), ("127.0.0.1", 5432), ("127.0.0.1", 80)]);
        let expected = ["127.0.0.1 127.0.0.1 [80, 5432]", "localhost ::1 [5432]"];
        assert_eq!(at(&doorways(&list, none())), expected);
    }

    #[test]
    fn an_exact_host_below_a_wildcard_has_its_port_as_well() {
        let list = list(&[("db.acme.lan", 5432), ("*.acme.lan", 443), ("acme.lan", 80)]);
        let hosts = doorways(&list, none());
        assert_eq!(at(&hosts), ["acme.lan 127.64.0.1 [80]", "db.acme.lan 127.64.0.2 [443, 5432]"]);
        let env = environment(&Network::Allow { hosts: hosts.clone(), proxy: true });
        assert_eq!(env["https_proxy"], "http://127.0.0.1:3128");
        assert_eq!(env["NO_PROXY"], "localhost,127.0.0.1,::1,acme.lan,db.acme.lan");
        assert_eq!(environment(&Network::Allow { hosts, proxy: false }), BTreeMap::new());
    }

    #[test]
    fn the_houses_authorities_stand_behind_the_systems_in_a_file_that_others_can_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let own = dir.path().join("own.pem");
        std::fs::write(&own, "OURS\n").expect("written");
        let path = bundle(&own, dir.path()).expect("made");
        let text = std::fs::read_to_string(&path).expect("text");
        assert!(text.ends_with("OURS\n"));
        let meta = std::fs::metadata(&path).expect("there");
        assert_eq!(meta.permissions().mode() & 0o777, 0o644);
        let system = SYSTEM.iter().find_map(|path| std::fs::read_to_string(path).ok());
        assert!(text.starts_with(&system.unwrap_or_default()));
        let env = trust(&Network::Host, "/x/ca-bundle.pem");
        assert_eq!(env["SSL_CERT_FILE"], "/x/ca-bundle.pem");
        assert!(trust(&Network::None, "/x/ca-bundle.pem").is_empty());
    }
}
