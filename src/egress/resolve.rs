//! Names to addresses, anew for each connection: /etc/hosts first, then the name servers of
//! /etc/resolv.conf, as a small stub resolver does.
//!
//! Not getaddrinfo(3): it needs threads, and loads whatever modules nsswitch.conf names into the process
//! that strangers talk to. `domain` reads what name servers write in safe code and needs UDP, TCP and
//! those two files only. Nothing is remembered here beyond the files themselves, which are read again
//! where they have changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use domain::base::name::{Name, RelativeName};
use domain::resolv::StubResolver;
use domain::resolv::stub::conf::ResolvConf;

/// The names that this machine gives addresses itself (hosts(5)).
const HOSTS: &str = "/etc/hosts";
/// Where the name servers are (resolv.conf(5)).
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How much of the table of hosts is read, bytes: a blocklist of half a million names.
const HOSTS_MAX: u64 = 16 << 20;
/// How long name servers may take together: two of them, twice, at the usual second or two.
const WITHIN: Duration = Duration::from_secs(8);
/// How many addresses of a name are looked at.
const ADDRESSES_MAX: usize = 16;

/// Tells one version of a file from the next.
type Seen = Option<(u64, i64, i64, u64)>;

/// Why a name has no addresses.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unresolved {
    /// Nobody knows it.
    #[error("the name has no address")]
    Unknown,
    /// No name server answered.
    #[error("the name was not resolved: {0}")]
    Failed(String),
}

/// The two files, as they were when they were read.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    hosts_seen: Seen,
    hosts: BTreeMap<String, Vec<IpAddr>>,
    servers_seen: Seen,
    servers: Option<Rc<StubResolver>>,
}

impl Resolver {
    /// What this machine itself says of a name, and who is to be asked where it says nothing.
    pub(super) fn look(&mut self, name: &str) -> Result<Vec<IpAddr>, Rc<StubResolver>> {
        let hosts = seen(HOSTS);
        if hosts != self.hosts_seen {
            (self.hosts_seen, self.hosts) = (hosts, hosts_of(&read(HOSTS)));
        }
        if let Some(addresses) = self.hosts.get(name) {
            return Ok(addresses.clone());
        }
        // Never asked of anybody else (RFC 6761).
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let servers = seen(RESOLV_CONF);
        if servers != self.servers_seen {
            (self.servers_seen, self.servers) = (servers, None);
        }
        let fresh = || Rc::new(StubResolver::from_conf(ResolvConf::default()));
        Err(self.servers.get_or_insert_with(fresh).clone())
    }
}

/// Asks the name servers.
pub(super) async fn ask(servers: &StubResolver, name: &str) -> Result<Vec<IpAddr>, Unresolved> {
    let asked = async {
        // A name with a dot is a whole one: the search list is for what people type, and would let its
        // domains answer for strangers' names.
        let found = if name.contains('.') {
            let name =
                Name::<Vec<u8>>::from_chars(name.chars()).map_err(|_| Unresolved::Unknown)?;
            servers.lookup_host(name).await
        } else {
            let name = RelativeName::<Vec<u8>>::from_chars(name.chars());
            servers.search_host(name.map_err(|_| Unresolved::Unknown)?).await
        };
        let found = found.map_err(|error| Unresolved::Failed(error.to_string()))?;
        Ok(found.iter().take(ADDRESSES_MAX).collect::<Vec<_>>())
    };
    let late = |_| Unresolved::Failed("no name server answered in time".to_owned());
    let found = tokio::time::timeout(WITHIN, asked).await.map_err(late)??;
    if found.is_empty() { Err(Unresolved::Unknown) } else { Ok(found) }
}

fn seen(path: &str) -> Seen {
    let meta = fs::metadata(path).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}

fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(Path::new(path)) {
        // What could not be read names nobody.
        let _ = file.take(HOSTS_MAX).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hosts_of(text: &str) -> BTreeMap<String, Vec<IpAddr>> {
    let mut hosts: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
            continue;
        };
        for name in words {
            let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
            let addresses = hosts.entry(name).or_default();
            if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_hosts_is_read_as_the_system_reads_it() {
        let text = "# comment\n127.0.0.1\tlocalhost\n10.1.2.3 db.acme.lan DB # the database\n\
                    fd00::3 db.acme.lan.\nnonsense here\n10.1.2.3 db.acme.lan\n10.9.9.9\n";
        let hosts = hosts_of(text);
        let db: Vec<IpAddr> = ["10.1.2.3", "fd00::3"].map(|a| a.parse().expect("one")).to_vec();
        assert_eq!(hosts.get("db.acme.lan"), Some(&db));
        assert_eq!(hosts.get("db").map(Vec::len), Some(1));
        assert_eq!(hosts.len(), 3, "{hosts:?}");
    }

    #[test]
    fn localhost_is_this_machine_whatever_a_name_server_says() {
        let mut resolver = Resolver::default();
        let addresses = resolver.look("anything.localhost").expect("known here");
        assert!(addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }
}
