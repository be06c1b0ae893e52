//! Which network addresses may be fetched from. An import may come from somebody else: what it names must not make this machine
//! knock on doors that only this machine can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

use super::Refused;

/// Says of an address why nothing is fetched from it, as `a private address`; or nothing.
pub type Guard = fn(IpAddr) -> Option<&'static str>;

/// Leaves only addresses of the public internet.
pub fn only_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => special_v4(address),
        IpAddr::V6(address) => special_v6(address),
    }
}

/// Leaves all addresses.
pub fn anywhere(_: IpAddr) -> Option<&'static str> {
    None
}

/// The registry of special-purpose addresses (RFC 6890), as far as they are not for everybody.
fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let kind = match address.octets() {
        [0, ..] => "an unspecified address",
        [127, ..] => "a loopback address",
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "a private address",
        [100, 64..=127, ..] => "an address shared behind a carrier",
        [169, 254, ..] => "a link-local address",
        [224..=239, ..] => "a multicast address",
        [192, 0, 0 | 2, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] | [240..=255, ..] => {
            "a reserved address"
        }
        _ => return None,
    };
    Some(kind)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let kind = match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => "an unspecified address",
        [0, 0, 0, 0, 0, 0, 0, 1] => "a loopback address",
        // An IPv4 address inside: mapped, compatible, or translated (RFC 6052); and 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            return special_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
        }
        [0xfc00..=0xfdff, ..] => "a unique-local address",
        [0xfe80..=0xfebf, ..] => "a link-local address",
        [0xff00..=0xffff, ..] => "a multicast address",
        // What remains outside of 2000::/3 is for special purposes, and a part of it as well.
        [first, second, ..] if first & 0xe000 != 0x2000 || (first, second) == (0x2001, 0xdb8) => "a reserved address",
        [0x2001, 0..=0x1ff, ..] => "a reserved address",
        _ => return None,
    };
    Some(kind)
}

/// Whether an address may be fetched, as far as can be seen without looking up its name.
pub fn check(url: &Url, guard: Guard) -> Result<(), Refused> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refused::Scheme(url.scheme().to_owned()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refused::Credentials);
    }
    // The connector takes such hosts as they are, past the look-up.
    let host = url.host_str().unwrap_or_default();
    match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(address) => check_address(host, address, guard),
        Err(_) => Ok(()),
    }
}

fn check_address(host: &str, address: IpAddr, guard: Guard) -> Result<(), Refused> {
    match guard(address) {
        Some(kind) => Err(Refused::Private { host: host.to_owned(), address, kind }),
        None => Ok(()),
    }
}

/// Looks names up, and leaves out what the guard does: connections are made to nothing but its answers, so that a name that is
/// given another address between two look-ups leads nowhere.
pub struct GuardedNames(pub Guard);

impl Resolve for GuardedNames {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0;
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = allowed(name.as_str(), found, guard)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a name that may be connected to; an error if it has others only.
fn allowed(host: &str, found: Vec<SocketAddr>, guard: Guard) -> Result<Vec<SocketAddr>, Refused> {
    let mut refused = Ok(());
    let mut allowed = Vec::new();
    for address in found {
        match check_address(host, address.ip(), guard) {
            Ok(()) => allowed.push(address),
            Err(reason) => refused = Err(reason),
        }
    }
    if allowed.is_empty() { refused.map(|()| allowed) } else { Ok(allowed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(address: &str) -> Option<&'static str> {
        only_public(address.parse().unwrap())
    }

    #[test]
    fn the_public_internet_is_allowed() {
        for address in
            ["1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "193.168.0.1", "223.9.9.9"]
        {
            assert_eq!(kind(address), None, "{address}");
        }
        for address in ["2606:4700::1111", "2a00::1", "2001:4860:4860::8888", "::ffff:1.1.1.1", "64:ff9b::101:101"] {
            assert_eq!(kind(address), None, "{address}");
        }
    }

    #[test]
    fn every_special_address_is_named_for_what_it_is() {
        let of_kind = |expected: &str, addresses: &[&str]| {
            for address in addresses {
                assert_eq!(kind(address), Some(expected), "{address}");
            }
        };
        of_kind("an unspecified address", &["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"]);
        of_kind("a loopback address", &["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "::127.0.0.1"]);
        of_kind("a private address", &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "::ffff:10.0.0.1"]);
        of_kind("a private address", &["64:ff9b::a00:1", "2002:c0a8:101::1"]);
        of_kind("an address shared behind a carrier", &["100.64.0.1", "100.127.255.255", "::ffff:100.64.0.1"]);
        of_kind("a link-local address", &["169.254.169.254", "fe80::1", "febf::1", "::ffff:169.254.169.254"]);
        of_kind("a multicast address", &["224.0.0.1", "239.1.1.1", "ff02::1", "::ffff:224.0.0.1"]);
        of_kind("a unique-local address", &["fc00::1", "fdff::1", "fd00:ec2::254"]);
        of_kind("a reserved address", &["255.255.255.255", "240.0.0.1", "192.0.2.1", "198.18.0.1", "192.0.0.1"]);
        of_kind("a reserved address", &["fec0::1", "2001:db8::1", "2001::1", "100::1", "64:ff9b:1::a00:1", "4000::1"]);
    }

    #[track_caller]
    fn check_public(url: &str) -> Result<(), Refused> {
        check(&url.parse().unwrap(), only_public)
    }

    #[test]
    fn an_address_in_numbers_is_checked_however_it_is_written() {
        for url in [
            "http://127.0.0.1/a",
            "http://2130706433/",
            "https://0x7f.1:8443/",
            "http://[::1]/",
            "http://[::ffff:7f00:1]/",
        ] {
            let error = check_public(url).unwrap_err();
            assert!(matches!(error, Refused::Private { kind: "a loopback address", .. }), "{url}: {error}");
        }
        check_public("https://1.1.1.1/a.png").unwrap();
        check_public("https://shop.example/a.png").unwrap();
    }

    #[test]
    fn other_schemes_and_credentials_are_refused() {
        assert_eq!(check_public("ftp://shop.example/a.png"), Err(Refused::Scheme("ftp".into())));
        assert_eq!(check_public("file:///etc/passwd"), Err(Refused::Scheme("file".into())));
        assert_eq!(check_public("https://me@shop.example/a.png"), Err(Refused::Credentials));
        assert_eq!(check_public("https://:pw@shop.example/a.png"), Err(Refused::Credentials));
    }

    #[test]
    fn of_a_name_s_addresses_only_the_public_ones_are_left() {
        let socket = |address: &str| SocketAddr::new(address.parse().unwrap(), 0);
        let found = vec![socket("10.0.0.1"), socket("1.1.1.1")];
        assert_eq!(allowed("shop.example", found, only_public), Ok(vec![socket("1.1.1.1")]));
        let error = allowed("shop.example", vec![socket("10.0.0.1")], only_public).unwrap_err();
        assert!(error.to_string().starts_with("shop.example is a private address (10.0.0.1)"), "{error}");
        assert_eq!(allowed("shop.example", vec![socket("10.0.0.1")], anywhere), Ok(vec![socket("10.0.0.1")]));
    }
}
