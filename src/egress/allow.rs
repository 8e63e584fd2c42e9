//! The allowlist of one server, and what it says of a destination. Pure.
//!
//! An exact entry is a promise of whoever wrote it: the name may lead anywhere, into the house as well.
//! A wildcard speaks of names that nobody listed, so it opens the open internet only.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::is_host;
use crate::config::tenant::Destination;

/// Who is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// A name, in lower case, without a dot at its end.
    Name(String),
    /// An address; one of IPv4 in IPv6's clothes is one of IPv4.
    Address(IpAddr),
}

impl Host {
    /// Reads a host as a configuration or a request writes it; an IPv6 address with or without brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse::<IpAddr>() {
            // Brackets are for IPv6 alone.
            let good = bare.is_none() || address.is_ipv6();
            return good.then(|| Self::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        is_host(name).then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// How far a connection may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// To wherever the name leads: it is listed itself.
    Anywhere,
    /// To strangers on the open internet only.
    Public,
}

/// What one server may reach.
#[derive(Debug, Default)]
pub(super) struct Allowlist {
    exact: BTreeSet<(Host, u16)>,
    /// With their dot in front.
    suffixes: BTreeSet<(String, u16)>,
}

impl Allowlist {
    /// Of the entries of a configuration; what is none reaches nothing.
    pub(super) fn new(entries: &[Destination]) -> Self {
        let mut list = Self::default();
        for Destination { host, port } in entries {
            match host.strip_prefix('*') {
                Some(suffix) if suffix.starts_with('.') => {
                    list.suffixes.insert((suffix.to_ascii_lowercase(), *port));
                }
                Some(_) => {}
                None => list.exact.extend(Host::parse(host).map(|host| (host, *port))),
            }
        }
        list
    }

    /// How far a connection to there may go; nowhere without an entry for it.
    pub(super) fn reach(&self, host: &Host, port: u16) -> Option<Reach> {
        if self.exact.contains(&(host.clone(), port)) {
            return Some(Reach::Anywhere);
        }
        let Host::Name(name) = host else { return None };
        let mut dots = name.match_indices('.').filter(|(at, _)| *at > 0);
        let fits =
            |at: usize| self.suffixes.contains(&(name.get(at..)?.to_owned(), port)).then_some(());
        dots.find_map(|(at, _)| fits(at)).map(|()| Reach::Public)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(entries: &[(&str, u16)]) -> Allowlist {
        let entry =
            |(host, port): &(&str, u16)| Destination { host: (*host).to_owned(), port: *port };
        Allowlist::new(&entries.iter().map(entry).collect::<Vec<_>>())
    }

    fn reach(list: &Allowlist, host: &str, port: u16) -> Option<Reach> {
        list.reach(&Host::parse(host).expect("a host"), port)
    }

    #[test]
    fn an_exact_entry_is_that_host_and_port_and_no_other() {
        let list = list(&[("db.acme.lan", 5432), ("10.1.2.3", 443), ("fd00::1", 22)]);
        assert_eq!(reach(&list, "DB.acme.lan.", 5432), Some(Reach::Anywhere));
        assert_eq!(reach(&list, "10.1.2.3", 443), Some(Reach::Anywhere));
        assert_eq!(reach(&list, "::ffff:10.1.2.3", 443), Some(Reach::Anywhere));
        assert_eq!(reach(&list, "[fd00:0::1]", 22), Some(Reach::Anywhere));
        for (host, port) in [("db.acme.lan", 5433), ("acme.lan", 5432), ("x.db.acme.lan", 5432)] {
            assert_eq!(reach(&list, host, port), None, "{host}:{port}");
        }
        assert_eq!(reach(&list, "10.1.2.4", 443), None);
    }

    #[test]
    fn a_wildcard_is_every_name_below_it_and_never_an_address() {
        let list = list(&[("*.example.com", 443), ("db.example.com", 443), ("*.0.0.1", 443)]);
        assert_eq!(reach(&list, "a.example.com", 443), Some(Reach::Public));
        assert_eq!(reach(&list, "a.b.example.com", 443), Some(Reach::Public));
        assert_eq!(reach(&list, "db.example.com", 443), Some(Reach::Anywhere));
        for host in ["example.com", "badexample.com", "example.com.evil.net", "127.0.0.1"] {
            assert_eq!(reach(&list, host, 443), None, "{host}");
        }
        assert_eq!(reach(&list, "a.example.com", 80), None);
    }

    #[test]
    fn what_other_programs_would_take_for_an_address_is_no_host() {
        for text in ["2130706433", "127.1", "0177.0.0.1", "1.2.3.4.5", "[10.0.0.1]", "", ".", "a b"]
        {
            assert_eq!(Host::parse(text), None, "{text}");
        }
        // A name to whoever resolves it here, and so to no address.
        assert_eq!(Host::parse("0x7f.1"), Some(Host::Name("0x7f.1".to_owned())));
    }

    proptest! {
        #[test]
        fn no_text_reaches_what_is_not_listed(text in ".{0,64}", port: u16) {
            let list = list(&[("db.acme.lan", 5432), ("*.example.com", 443)]);
            let Some(host) = Host::parse(&text) else { return Ok(()) };
            let listed = match list.reach(&host, port) {
                None => return Ok(()),
                Some(Reach::Anywhere) => host == Host::Name("db.acme.lan".into()) && port == 5432,
                Some(Reach::Public) => host.to_string().ends_with(".example.com") && port == 443,
            };
            prop_assert!(listed, "{text}:{port}");
        }
    }
}
