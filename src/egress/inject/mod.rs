//! Injection: requests that a server sends in plain HTTP to a name of its own sandbox go on by HTTPS to the
//! host that the configuration names, with a credential that the server never holds.
//!
//! ```text
//! [sandbox: GET http://github.tenantd.internal/user]--plain HTTP/1.1--> door --+ Authorization--> TLS--> api.github.com
//!                                                  <--secret redacted-- body <--------------------------
//! ```
//!
//! | file | what it does |
//! |---|---|
//! | `door` | one connection of a server: judges each request, sends it on, answers |
//! | `heads` | what of a head goes on, each way |
//! | `body` | bodies, as streams |
//! | `upstream` | connections to the hosts |
//! | `trust` | whose certificates are believed |
//! | `vault` | the secrets, as they are handed over |
//! | `refusal` | our own answers |
//!
//! The header goes to one host, by a connection whose certificate was checked for that host's name;
//! redirects are the server's to follow, and lead it to other hosts without the header.

mod body;
mod door;
mod heads;
mod refusal;
mod trust;
mod upstream;
mod vault;

pub(super) use door::serve;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use hyper::header::HeaderName;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

use super::allow::{Allowlist, Host};
use super::log::Entry;
use super::serve::Shared;
use crate::names::ServerName;
use crate::post;
use crate::redact;
use crate::wire::credential::Handed;
use crate::wire::egress::Way;

/// The port of names inside.
pub(super) const PORT: u16 = 80;
/// The largest message that comes with a secret, bytes.
const HANDED: usize = 1024;

/// What comes with a server that has injections: where its secrets arrive, and whose certificates count.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) secrets: AsyncFd<OwnedFd>,
    pub(super) authorities: OwnedFd,
}

/// What all doors of a server share.
#[derive(Debug)]
pub(super) struct Injector {
    server: ServerName,
    shared: Rc<Shared>,
    vault: vault::Vault,
    doors: BTreeMap<String, Rc<Target>>,
}

/// Where one name inside leads.
#[derive(Debug)]
pub(super) struct Target {
    credential: String,
    header: HeaderName,
    names: heads::Names,
    host: String,
    port: u16,
    upstream: Rc<upstream::Upstream>,
}

impl Injector {
    /// Of a server's way; a name whose host the allowlist does not know leads nowhere.
    ///
    /// # Errors
    /// Where there is nobody to believe.
    pub(super) fn new(
        way: &Way,
        allowed: &Allowlist,
        authorities: OwnedFd,
        shared: Rc<Shared>,
    ) -> io::Result<Rc<Self>> {
        let tls = trust::client(authorities)?;
        let (mut doors, mut hosts) = (BTreeMap::new(), BTreeMap::new());
        for injection in &way.inject {
            let Ok(header) = HeaderName::try_from(injection.header.as_str()) else { continue };
            for (inner, to) in &injection.doors {
                let Some(host) = Host::parse(&to.host) else { continue };
                let Some(reach) = allowed.reach(&host, to.port) else { continue };
                // Two credentials of one host do not share connections: hosts remember who speaks.
                let key = (injection.credential.clone(), host.clone(), to.port);
                let known = hosts.get(&key).cloned();
                let make = || upstream::Upstream::new(host, to.port, reach, tls.clone());
                let Some(upstream) = known.or_else(make) else { continue };
                hosts.insert(key, upstream.clone());
                let outer = match to.port {
                    443 => to.host.clone(),
                    port => format!("{}:{port}", to.host),
                };
                let target = Target {
                    credential: injection.credential.clone(),
                    header: header.clone(),
                    names: heads::Names { inner: inner.clone(), outer },
                    host: to.host.clone(),
                    port: to.port,
                    upstream,
                };
                doors.insert(inner.clone(), Rc::new(target));
            }
        }
        let (server, vault) = (way.server.clone(), vault::Vault::new(&way.inject));
        Ok(Rc::new(Self { server, shared, vault, doors }))
    }

    /// Where a name leads.
    pub(super) fn door(&self, name: &str) -> Option<Rc<Target>> {
        self.doors.get(name).cloned()
    }

    /// Takes secrets as they come and closes connections that nobody uses; never ends.
    pub(super) async fn attend(self: Rc<Self>, secrets: AsyncFd<OwnedFd>) {
        let mut tending: JoinSet<()> = JoinSet::new();
        for target in self.doors.values() {
            tending.spawn_local(target.upstream.clone().tend());
        }
        let mut buffer = vec![0; HANDED];
        // Its end is the supervisor's: what is here stays good.
        while let Ok((Handed { name, .. }, descriptors)) =
            super::serve::hear::<Handed>(Some(&secrets), &mut buffer).await
        {
            if let Err(error) = self.take(&name, descriptors) {
                super::serve::complain(&format!("the credential {name}: {error}"));
            }
        }
        std::future::pending().await
    }

    fn take(&self, name: &str, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let secret = post::exactly(descriptors).and_then(|[secret]| post::unseal_secret(secret));
        let secret = secret.map_err(|error| error.to_string())?;
        self.vault.take(name, secret).map_err(|error| error.to_string())
    }
}

impl Target {
    /// Says in a line of the log where it leads, and under what.
    pub(super) fn note(&self, entry: &mut Entry) {
        entry.to = Some((self.host.clone(), self.port));
        entry.credential = Some(self.credential.clone());
    }
}
