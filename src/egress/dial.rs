//! Connects to a destination: resolves it, judges every address, dials what was judged.
//!
//! The address that is checked is the address that is dialled, so a name server that answers differently
//! the next time (DNS rebinding) changes nothing. With a proxy of the house the proxy resolves, and what
//! can be checked here is checked by name: see [`Dialer::dial`].

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::{is_one_host, is_public};
use super::allow::{Host, Reach};
use super::proxy::{HEAD_MAX, head_end};
use super::resolve::{Resolver, Unresolved, ask};
use crate::config::tenant::Destination;

/// How long all addresses of a host have together to answer.
const DIAL_WITHIN: Duration = Duration::from_secs(15);
/// The least that one of several gets: a SYN that was lost is sent again after one second (RFC 6298).
const ADDRESS_LEAST: Duration = Duration::from_millis(2500);
/// How long names are looked for here where a proxy may know more.
const LOOK_WITHIN: Duration = Duration::from_secs(2);
/// How long the proxy of the house has for its own dialling.
const PROXY_WITHIN: Duration = Duration::from_secs(20);
/// A peer that is silent for so long is asked whether it is there, each `KEEP_EVERY`, `KEEP_PROBES` times.
const KEEP_AFTER: Duration = Duration::from_secs(60);
const KEEP_EVERY: Duration = Duration::from_secs(15);
const KEEP_PROBES: u32 = 4;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoWay {
    /// An address that the allowlist does not open.
    #[error(
        "{0} is not on the open internet, and a wildcard opens nothing else (list the host exactly)"
    )]
    Private(IpAddr),
    /// An address that means no host.
    #[error("{0} means no single host")]
    NoHost(IpAddr),
    /// No address.
    #[error(transparent)]
    Unresolved(#[from] Unresolved),
    /// Nobody answered.
    #[error("no answer in time")]
    TimedOut,
    /// It was refused on the way.
    #[error("{0}")]
    Failed(#[from] io::Error),
    /// The proxy of the house would not.
    #[error("egress.upstream_proxy: {0}")]
    Proxy(String),
}

impl NoWay {
    /// Whether it is our own refusal.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Private(_) | Self::NoHost(_))
    }
}

/// A connection to a destination.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) stream: TcpStream,
    /// What is at the other end: the host, or the proxy of the house.
    pub(super) address: SocketAddr,
    /// What it said already.
    pub(super) early: Vec<u8>,
}

/// Who dials for one tenant.
#[derive(Debug)]
pub(super) struct Dialer {
    resolver: RefCell<Resolver>,
    upstream: Option<(Host, u16)>,
}

impl Dialer {
    pub(super) fn new(upstream: Option<&Destination>) -> Self {
        let upstream = upstream.and_then(|to| Some((Host::parse(&to.host)?, to.port)));
        Self { resolver: RefCell::default(), upstream }
    }

    /// Connects to a host that is allowed as far as `reach`.
    ///
    /// With a proxy of the house, what is listed exactly and known here by private addresses alone is
    /// dialled directly, since it is the house's own; everything else goes through the proxy by name. A
    /// wildcard's name that is known here by a private address is refused all the same.
    pub(super) async fn dial(
        &self,
        host: &Host,
        port: u16,
        reach: Reach,
    ) -> Result<Dialled, NoWay> {
        let Some((proxy, proxy_port)) = &self.upstream else {
            let addresses = permitted(self.addresses(host).await?, reach)?;
            return direct(&addresses, port).await;
        };
        let known = timeout(LOOK_WITHIN, self.addresses(host)).await.unwrap_or(Ok(Vec::new()));
        let known = known.unwrap_or_default();
        let private = known.iter().copied().find(|address| !is_public(*address));
        match (reach, private) {
            (Reach::Public, Some(address)) => return Err(NoWay::Private(address)),
            (Reach::Anywhere, Some(_)) if !known.iter().copied().any(is_public) => {
                return direct(&permitted(known, reach)?, port).await;
            }
            _ => {}
        }
        // Whose address that is, the machine's owner has decided.
        let addresses = permitted(self.addresses(proxy).await?, Reach::Anywhere)?;
        let dialled = direct(&addresses, *proxy_port).await?;
        let within = timeout(PROXY_WITHIN, through(dialled, host, port)).await;
        within.unwrap_or(Err(NoWay::TimedOut))
    }

    async fn addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Unresolved> {
        let name = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(name) => name,
        };
        let known = self.resolver.borrow_mut().look(name);
        match known {
            Ok(addresses) => Ok(addresses),
            Err(servers) => ask(&servers, name).await,
        }
    }
}

/// The addresses that may be dialled, as they are dialled.
fn permitted(addresses: Vec<IpAddr>, reach: Reach) -> Result<Vec<IpAddr>, NoWay> {
    let addresses: Vec<_> = addresses.iter().map(IpAddr::to_canonical).collect();
    let may = |address: &IpAddr| match reach {
        Reach::Anywhere => is_one_host(*address),
        Reach::Public => is_public(*address),
    };
    match addresses.iter().copied().find(|address| !may(address)) {
        Some(address) if !addresses.iter().any(may) => Err(match reach {
            Reach::Anywhere => NoWay::NoHost(address),
            Reach::Public => NoWay::Private(address),
        }),
        _ => Ok(addresses.into_iter().filter(may).collect()),
    }
}

/// Dials one address after the other, each with its share of the time.
async fn direct(addresses: &[IpAddr], port: u16) -> Result<Dialled, NoWay> {
    let until = Instant::now() + DIAL_WITHIN;
    let mut why = NoWay::TimedOut;
    for (at, address) in addresses.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
        let share = (left / others).max(ADDRESS_LEAST).min(left);
        let address = SocketAddr::new(*address, port);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                settle(&stream)?;
                return Ok(Dialled { stream, address, early: Vec::new() });
            }
            Ok(Err(error)) => why = error.into(),
            Err(_) => why = NoWay::TimedOut,
        }
    }
    Err(why)
}

/// What every connection of ours is set to.
fn settle(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEP_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_EVERY)?;
    Ok(sockopt::set_tcp_keepcnt(stream, KEEP_PROBES)?)
}

/// Asks a proxy to connect (RFC 9110, section 9.3.6).
async fn through(mut dialled: Dialled, host: &Host, port: u16) -> Result<Dialled, NoWay> {
    let host = match host {
        Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        host => host.to_string(),
    };
    let ask = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    dialled.stream.write_all(ask.as_bytes()).await?;
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head_end(&head) {
            break end;
        }
        if head.len() > HEAD_MAX {
            return Err(NoWay::Proxy("its answer is too long".to_owned()));
        }
        if dialled.stream.read_buf(&mut head).await? == 0 {
            return Err(NoWay::Proxy("it closed the connection without an answer".to_owned()));
        }
    };
    dialled.early = head.split_off(end);
    let status =
        status_of(&head).ok_or_else(|| NoWay::Proxy("it does not speak HTTP".to_owned()))?;
    if (200..300).contains(&status) {
        return Ok(dialled);
    }
    Err(NoWay::Proxy(format!("it answered {status}")))
}

/// The status of an answer (RFC 9112, section 4).
fn status_of(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let digits = rest.get(2..5).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let spaced = rest.get(1) == Some(&b' ') && matches!(rest.get(5), None | Some(b' '));
    spaced.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn of_mixed_answers_a_wildcard_dials_the_public_ones_only() {
        let mixed = addresses(&["10.0.0.1", "1.1.1.1", "::ffff:127.0.0.1", "fd00::1"]);
        assert_eq!(permitted(mixed, Reach::Public).expect("one"), addresses(&["1.1.1.1"]));
        let own = addresses(&["169.254.169.254", "::ffff:10.0.0.1"]);
        let refused = permitted(own.clone(), Reach::Public).expect_err("all private");
        assert!(refused.is_refusal() && refused.to_string().contains("169.254.169.254"));
        let dialled = permitted(own, Reach::Anywhere).expect("listed exactly");
        assert_eq!(dialled, addresses(&["169.254.169.254", "10.0.0.1"]));
        let nobody = permitted(addresses(&["0.0.0.0", "::"]), Reach::Anywhere);
        assert!(nobody.expect_err("no host").is_refusal());
    }

    #[test]
    fn an_answer_of_a_proxy_has_a_status_or_is_none() {
        assert_eq!(status_of(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status_of(b"HTTP/1.0 407\r\n\r\n"), Some(407));
        for text in
            ["", "HTTP/1.1", "HTTP/1.1 20", "HTTP/1.1 2000 x\r\n", "SSH-2.0-x\r\n", "HTTP/2 200"]
        {
            assert_eq!(status_of(text.as_bytes()), None, "{text}");
        }
    }
}
