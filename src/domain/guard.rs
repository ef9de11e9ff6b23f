//! The address guard: which places a stranger may make us call. Public addresses, and the private
//! networks an operator lists; nothing else of this machine, its network or its cloud.
//!
//! Judges addresses and URLs. It never looks up a name: `net` does, and asks here for each address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// A longer address is nobody's endpoint.
pub const MAX_URL_CHARS: usize = 2_000;

/// IPv4 that is no public host: IANA's registry of special-purpose addresses, as of November 2026,
/// without the few entries that are reachable for everybody.
const SPECIAL_V4: [(Ipv4Addr, u8, &str); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "this network"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "shared by a carrier"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "reserved for protocols"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "for documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "a 6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "for benchmarks"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "for documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "for documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(255, 255, 255, 255), 32, "broadcast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

/// IPv6 that is no public host, though it is among the global unicast addresses (2000::/3); outside
/// of those nothing is public.
const SPECIAL_V6: [(Ipv6Addr, u8, &str); 5] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "a Teredo tunnel"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "reserved for protocols"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "for documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "a 6to4 tunnel"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "for documentation"),
];

/// The same outside of 2000::/3, only to call it by its name.
const OTHER_V6: [(Ipv6Addr, u8, &str); 6] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, "private"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
    (Ipv6Addr::UNSPECIFIED, 0, "reserved"),
];

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or one address.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().ok()?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        Some(Self { base, bits: bits.unwrap_or(most) }).filter(|network| network.bits <= most)
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => v4_in(ip, base, self.bits),
            (IpAddr::V6(base), IpAddr::V6(ip)) => v6_in(ip, base, self.bits),
            _ => false,
        }
    }
}

fn v4_in(ip: Ipv4Addr, base: Ipv4Addr, bits: u8) -> bool {
    let differ = u32::from(ip) ^ u32::from(base);
    differ.checked_shr(32 - u32::from(bits)).unwrap_or(0) == 0
}

fn v6_in(ip: Ipv6Addr, base: Ipv6Addr, bits: u8) -> bool {
    let differ = u128::from(ip) ^ u128::from(base);
    differ.checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
}

/// Lets public addresses pass, and those of listed networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    private: Vec<Network>,
}

impl Guard {
    pub fn new(private: Vec<Network>) -> Self {
        Self { private }
    }

    /// Whether this address may be connected to; else what it is.
    pub fn check(&self, ip: IpAddr) -> Result<(), &'static str> {
        let ip = ip.to_canonical();
        if self.private.iter().any(|network| network.contains(ip)) {
            return Ok(());
        }
        special(ip).map_or(Ok(()), Err)
    }

    /// The URL as it will be called, or what is wrong with it, in words that go on after its name. A
    /// name's addresses are judged when it is called, and only then.
    pub fn url(&self, text: &str) -> Result<Url, String> {
        if text.chars().count() > MAX_URL_CHARS {
            return Err(format!("must have at most {MAX_URL_CHARS} characters"));
        }
        let is_web = |url: &Url| matches!(url.scheme(), "http" | "https");
        let url = Url::parse(text).ok().filter(is_web);
        let url = url.ok_or("must be an absolute URL that begins with https:// or http://")?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must not hold a user or a password; every call is signed instead".to_owned());
        }
        if url.fragment().is_some() {
            return Err("must not hold a `#`".to_owned());
        }
        let judged = match url.host() {
            Some(Host::Ipv4(ip)) => self.check(ip.into()),
            Some(Host::Ipv6(ip)) => self.check(ip.into()),
            Some(Host::Domain(name)) if is_localhost(name) => {
                let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
                let open = loopback.iter().any(|ip| self.check(*ip).is_ok());
                if open { Ok(()) } else { Err("loopback") }
            }
            Some(Host::Domain(_)) => Ok(()),
            None => return Err("must name a host".to_owned()),
        };
        match judged {
            Ok(()) => Ok(url),
            Err(what) => {
                let host = url.host_str().unwrap_or_default();
                Err(format!("leads to {}", refusal(host, what)))
            }
        }
    }
}

/// Why an address is not called, and who could change that.
pub fn refusal(address: &str, what: &str) -> String {
    format!(
        "{address}, which is {what}, no public address; --allow-private lists networks that may be called"
    )
}

/// Whether it is one of this machine's own names.
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

/// What an address is, if it is not public. `ip` is canonical: an IPv4 address is no IPv6 one.
fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => {
            SPECIAL_V4.iter().find(|(base, bits, _)| v4_in(ip, *base, *bits)).map(|(.., what)| *what)
        }
        IpAddr::V6(ip) => special_v6(ip),
    }
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let inside = |all: &'static [(Ipv6Addr, u8, &str)]| {
        all.iter().find(|(base, bits, _)| v6_in(ip, *base, *bits)).map(|(.., what)| *what)
    };
    // A network without IPv4 reaches every IPv4 host by this prefix (RFC 6052), so what counts is
    // the host inside.
    if v6_in(ip, Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96) {
        return special(IpAddr::V4(last_four(ip)));
    }
    if !v6_in(ip, Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3) {
        return inside(&OTHER_V6);
    }
    // ISATAP (RFC 5214): whatever the network before it, the packet goes to the IPv4 host inside.
    let [.., a, b, _, _] = ip.segments();
    if matches!(a, 0 | 0x200) && b == 0x5efe {
        return Some("an ISATAP tunnel");
    }
    inside(&SPECIAL_V6)
}

fn last_four(ip: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = ip.octets();
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests;
