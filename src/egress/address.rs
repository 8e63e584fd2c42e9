//! Which addresses are strangers' on the open internet, and which are somebody's own.
//!
//! From the registries of special-purpose addresses (RFC 6890 and its updates, IANA). What is not surely
//! public counts as private: a wildcard opens the internet, never a house. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that are not the open internet, with their lengths.
const PRIVATE_V4: [(Ipv4Addr, u32); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // carriers' (RFC 6598)
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, and the clouds' metadata
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays (RFC 7526)
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // RFC 1918
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved, and broadcast
];

/// IPv6 unicast that is given out at all (RFC 4291); everything else is private.
const GLOBAL_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// What of it is not the open internet.
const PRIVATE_V6: [(Ipv6Addr, u32); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocol assignments, Teredo
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4: an IPv4 address in disguise
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation (RFC 9637)
];
/// Translated IPv4 (RFC 6052): as public as the address that it ends with.
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address is surely a stranger's on the open internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => !PRIVATE_V4.iter().any(|network| is_in_v4(v4, *network)),
        IpAddr::V6(v6) if is_in_v6(v6, NAT64) => {
            let [.., a, b, c, d] = v6.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(v6) => {
            is_in_v6(v6, GLOBAL_V6) && !PRIVATE_V6.iter().any(|network| is_in_v6(v6, *network))
        }
    }
}

/// Whether an address means one host that can be dialled: what is not said by name (`0.0.0.0` means this
/// host) and what means many is dialled for nobody.
pub(super) fn is_one_host(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.octets()[0] != 0 && !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
    }
}

fn is_in_v4(address: Ipv4Addr, (network, length): (Ipv4Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (u32::BITS - length) == 0
}

fn is_in_v6(address: Ipv6Addr, (network, length): (Ipv6Addr, u32)) -> bool {
    (address.to_bits() ^ network.to_bits()) >> (u128::BITS - length) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().expect("an address"))
    }

    #[test]
    fn strangers_are_public_up_to_the_edge_of_every_special_network() {
        for address in ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0"] {
            assert!(public(address), "{address}");
        }
        for address in ["126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0"] {
            assert!(public(address), "{address}");
        }
        for address in ["172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0"] {
            assert!(public(address), "{address}");
        }
        for address in ["198.17.255.255", "198.20.0.0", "223.255.255.255"] {
            assert!(public(address), "{address}");
        }
        for address in ["2606:4700::1111", "2001:4860:4860::8888", "64:ff9b::8.8.8.8"] {
            assert!(public(address), "{address}");
        }
    }

    #[test]
    fn what_is_somebodys_own_is_not_public_in_any_disguise() {
        for address in ["169.254.169.254", "100.100.100.200", "fd00:ec2::254", "fe80::1", "::1"] {
            assert!(!public(address), "{address}");
        }
        for address in ["::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1", "::7f00:1"] {
            assert!(!public(address), "{address}");
        }
        for address in ["2002:0a00:0001::1", "2001:0:1::1", "64:ff9b:1::1", "::", "0.0.0.0"] {
            assert!(!public(address), "{address}");
        }
        for address in ["fec0::1", "ff02::1", "5f00::1", "4000::1", "2001:db8::1", "100::1"] {
            assert!(!public(address), "{address}");
        }
    }

    #[test]
    fn nobody_dials_what_means_no_single_host() {
        for address in ["0.0.0.0", "0.1.2.3", "224.0.0.1", "255.255.255.255", "::", "ff02::1"] {
            assert!(!is_one_host(address.parse().expect("an address")), "{address}");
        }
        for address in ["::ffff:0.0.0.0", "::ffff:224.0.0.1"] {
            assert!(!is_one_host(address.parse().expect("an address")), "{address}");
        }
        for address in ["127.0.0.1", "::1", "10.1.2.3", "fe80::1", "8.8.8.8"] {
            assert!(is_one_host(address.parse().expect("an address")), "{address}");
        }
    }

    proptest! {
        /// Every address of every special network, whatever its lower bits are, plain and mapped.
        #[test]
        fn no_address_of_a_special_network_is_public(
            which in 0..PRIVATE_V4.len(), bits: u32, v6 in 0..PRIVATE_V6.len(), low: u128,
        ) {
            let (network, length) = PRIVATE_V4[which];
            let v4 = Ipv4Addr::from_bits(network.to_bits() | (bits & (u32::MAX >> length)));
            prop_assert!(!is_public(v4.into()), "{v4}");
            prop_assert!(!is_public(v4.to_ipv6_mapped().into()), "{v4} mapped");
            let translated = Ipv6Addr::from_bits(NAT64.0.to_bits() | u128::from(v4.to_bits()));
            prop_assert!(!is_public(translated.into()), "{translated}");
            let (network, length) = PRIVATE_V6[v6];
            let v6 = Ipv6Addr::from_bits(network.to_bits() | (low & (u128::MAX >> length)));
            prop_assert!(!is_public(v6.into()), "{v6}");
        }

        /// The standard library's own judgements of single kinds agree.
        #[test]
        fn what_the_standard_library_calls_special_is_not_public(v4: u32, v6: u128) {
            let v4 = Ipv4Addr::from_bits(v4);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local();
            let special = special || v4.is_multicast() || v4.is_documentation() || v4.is_broadcast();
            prop_assert!(!(special && is_public(v4.into())), "{v4}");
            // Half of all IPv6 addresses would never be tried otherwise.
            for v6 in [v6, v6 | 0xfc << 120, v6 & !(0xffff << 112) | 0xfe80 << 112] {
                let v6 = Ipv6Addr::from_bits(v6);
                let special = v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_multicast();
                prop_assert!(!(special && is_public(v6.into())), "{v6}");
            }
        }
    }
}
