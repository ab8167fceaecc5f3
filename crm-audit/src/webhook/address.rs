//! Where webhooks may go: `https`, to addresses that anybody on the Internet could ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crm_core::value::HttpUrl;
use url::Host;

/// Why nothing is sent to an address. No message repeats the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// The scheme is not `https`.
    #[error("webhooks are sent by https only")]
    NotHttps,
    /// The address is not one that can be asked.
    #[error("the address has no host that could be asked")]
    NoHost,
    /// The host is, or resolves to, an address that is not public.
    #[error("webhooks are sent to public addresses only")]
    NotPublic,
}

impl Refused {
    /// A stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotHttps => "not_https",
            Self::NoHost => "no_host",
            Self::NotPublic => "not_public",
        }
    }
}

/// What a transport has to resolve and to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Destination {
    /// The host: a domain name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Destination {
    /// Takes an address apart and refuses what can be told without resolving the name.
    ///
    /// ```
    /// use crm_audit::webhook::{Destination, Refused};
    /// use crm_core::value::{HttpUrl, TextValue};
    ///
    /// let to = |url| Destination::of(&HttpUrl::parse(url).unwrap());
    /// assert_eq!(to("https://hooks.example.com/crm").unwrap().port, 443);
    /// assert_eq!(to("http://hooks.example.com/crm"), Err(Refused::NotHttps));
    /// assert_eq!(to("https://169.254.169.254/latest"), Err(Refused::NotPublic));
    /// ```
    ///
    /// # Errors
    /// [`Refused`].
    pub fn of(url: &HttpUrl) -> Result<Self, Refused> {
        let parsed = url.as_url().map_err(|_| Refused::NoHost)?;
        if parsed.scheme() != "https" {
            return Err(Refused::NotHttps);
        }
        let port = parsed.port_or_known_default().ok_or(Refused::NoHost)?;
        let (host, address) = match parsed.host().ok_or(Refused::NoHost)? {
            // As the address spells it, or a transport that is told what it resolved to would not know it again.
            Host::Domain(name) => (name.to_ascii_lowercase(), None),
            Host::Ipv4(address) => (address.to_string(), Some(IpAddr::V4(address))),
            Host::Ipv6(address) => (address.to_string(), Some(IpAddr::V6(address))),
        };
        if address.is_some_and(|address| !is_public(address)) || is_local_name(&host) {
            return Err(Refused::NotPublic);
        }
        if host.trim_end_matches('.').is_empty() || port == 0 {
            return Err(Refused::NoHost);
        }
        Ok(Self { host, port })
    }

    /// The first of the addresses that a name resolved to, if all of them are public: a name that
    /// also leads inside is not to be trusted with the others.
    ///
    /// # Errors
    /// [`Refused::NotPublic`]; [`Refused::NoHost`] where there is no address.
    pub fn checked(addresses: &[IpAddr]) -> Result<IpAddr, Refused> {
        if addresses.iter().any(|address| !is_public(*address)) {
            return Err(Refused::NotPublic);
        }
        addresses.first().copied().ok_or(Refused::NoHost)
    }
}

/// Names that mean this machine or this network wherever they are asked (RFC 6761, RFC 6762, RFC
/// 8375, RFC 9476).
fn is_local_name(host: &str) -> bool {
    const LOCAL: [&str; 6] = [
        "localhost",
        "local",
        "internal",
        "home.arpa",
        "localdomain",
        "alt",
    ];
    let host = host.trim_end_matches('.');
    LOCAL.into_iter().any(|name| {
        let rest = host.strip_suffix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// Whether an address is one of the public Internet, by the registries of special addresses
/// (RFC 6890): not private, shared, of this machine or this link, not for documentation, tests or
/// many receivers, and no other way to write such an address.
///
/// Of IPv6, only global unicast (2000::/3) counts, and of the prefixes that hold an IPv4 address only
/// that of NAT64 (RFC 6052), by the address in it; mapped addresses, 6to4 and Teredo never do.
///
/// ```
/// use crm_audit::webhook::is_public;
///
/// assert!(is_public("93.184.215.14".parse().unwrap()));
/// for inside in ["10.0.0.1", "100.64.0.1", "169.254.169.254", "::1", "::ffff:93.184.215.14", "fd00:ec2::254"] {
///     assert!(!is_public(inside.parse().unwrap()));
/// }
/// ```
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Addresses and the lengths of their prefixes.
const SPECIAL_V4: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network, RFC 791
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private, RFC 1918
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared by carriers, RFC 6598
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // this machine, RFC 1122
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // this link, and what clouds tell of a machine, RFC 3927
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private, RFC 1918
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // protocols, RFC 6890
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation, RFC 5737
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112, RFC 7535
    (Ipv4Addr::new(192, 52, 193, 0), 24), // AMT, RFC 7450
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // relays of 6to4, RFC 7526
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private, RFC 1918
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks, RFC 2544
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation, RFC 5737
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation, RFC 5737
    (Ipv4Addr::new(224, 0, 0, 0), 3),     // many receivers, reserved, broadcast, RFC 1112
];

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    let is_in =
        |(prefix, length): &(Ipv4Addr, u32)| (bits ^ prefix.to_bits()) >> (32 - length) == 0;
    !SPECIAL_V4.iter().any(is_in)
}

/// NAT64: the last 32 bits are an IPv4 address (RFC 6052).
const NAT64: (Ipv6Addr, u32) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Global unicast, RFC 4291.
const GLOBAL: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What is special within global unicast.
const SPECIAL_V6: [(Ipv6Addr, u32); 5] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // protocols, Teredo, ORCHID, RFC 2928
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation, RFC 3849
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16), // 6to4, RFC 3056
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48), // AS112, RFC 7534
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation, RFC 9637
];

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    let is_in =
        |(prefix, length): &(Ipv6Addr, u32)| (bits ^ prefix.to_bits()) >> (128 - length) == 0;
    if is_in(&NAT64) {
        return is_public_v4(Ipv4Addr::from_bits((bits & 0xFFFF_FFFF) as u32));
    }
    is_in(&GLOBAL) && !SPECIAL_V6.iter().any(is_in)
}

#[cfg(test)]
mod tests {
    use crm_core::value::TextValue as _;
    use proptest::prelude::*;

    use super::*;

    fn public(text: &str) -> bool {
        is_public(text.parse().unwrap())
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "93.184.215.14",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "11.0.0.0",
            "126.255.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
            "2003::1",
        ] {
            assert!(public(address), "{address}");
        }
    }

    #[test]
    fn all_others_are_not() {
        for address in [
            "0.0.0.0",
            "0.1.2.3",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.170",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "::8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::8.8.8.8",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:0a00:0001::1",
            "2002:0808:0808::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!public(address), "{address}");
        }
    }

    #[test]
    fn hosts_are_told_apart_however_they_are_written() {
        let to = |url: &str| Destination::of(&HttpUrl::parse(url).unwrap());
        for inside in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:7f00:1]/",
            "https://localhost/",
            "https://LOCALHOST./",
            "https://db.internal/",
            "https://printer.local/",
            "https://a.localhost:8443/",
        ] {
            assert_eq!(to(inside), Err(Refused::NotPublic), "{inside}");
        }
        assert_eq!(to("http://8.8.8.8/"), Err(Refused::NotHttps));
        let fine = to("https://Hooks.Example.COM.:8443/a?b=c").unwrap();
        // The name is the one of the address, dot and all: transports look it up by that.
        assert_eq!(
            (fine.host.as_str(), fine.port),
            ("hooks.example.com.", 8443)
        );
        assert_eq!(to("https://notlocal.example/").map(|to| to.port), Ok(443));
    }

    #[test]
    fn one_address_inside_is_one_too_many() {
        let addresses = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        assert_eq!(Destination::checked(&[]), Err(Refused::NoHost));
        let mixed = addresses(&["8.8.8.8", "10.0.0.1"]);
        assert_eq!(Destination::checked(&mixed), Err(Refused::NotPublic));
        let fine = addresses(&["8.8.8.8", "2606:4700::1111"]);
        assert_eq!(Destination::checked(&fine), Ok(fine[0]));
    }

    proptest! {
        /// Whatever the standard library calls private, local or reserved is not public, and an
        /// address of IPv4 is as public inside of NAT64 as by itself.
        #[test]
        fn nothing_inside_is_public(bits: u32) {
            let address = Ipv4Addr::from_bits(bits);
            let is_inside = address.is_private() || address.is_loopback() || address.is_link_local()
                || address.is_broadcast() || address.is_documentation() || address.is_multicast()
                || address.is_unspecified();
            prop_assert!(!is_inside || !is_public(address.into()));
            let nat64 = Ipv6Addr::from_bits(NAT64.0.to_bits() | u128::from(bits));
            prop_assert_eq!(is_public(nat64.into()), is_public(address.into()));
            prop_assert!(!is_public(address.to_ipv6_mapped().into()));
            prop_assert!(!is_public(address.to_ipv6_compatible().into()));
        }

        #[test]
        fn nothing_inside_is_public_in_ipv6(bits: u128) {
            let address = Ipv6Addr::from_bits(bits);
            let is_inside = address.is_loopback() || address.is_multicast()
                || address.is_unique_local() || address.is_unicast_link_local();
            prop_assert!(!is_inside || !is_public(address.into()));
        }
    }
}
