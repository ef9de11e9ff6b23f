//! Who is asking: the address of the peer, believed through trusted proxies only, and whether it
//! can be anybody but this machine's own user.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::{Extensions, HeaderMap, Uri, header};

use super::Http;

/// Headers a proxy adds. A request that has one did not come straight from this machine.
const FORWARDED: [&str; 5] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/// The address of whoever sent the request.
pub fn remote(http: &Http, extensions: &Extensions, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip();
    if !http.settings.trusted_proxies.contains(&peer) {
        return Some(peer);
    }
    // The last entry that is not a trusted proxy is the one the nearest of them saw.
    let forwarded = headers.get("x-forwarded-for").and_then(|v| v.to_str().ok()).unwrap_or("");
    let mut hops = forwarded.rsplit(',').filter_map(|hop| hop.trim().parse::<IpAddr>().ok());
    Some(hops.find(|ip| !http.settings.trusted_proxies.contains(ip)).unwrap_or(peer))
}

/// Whether a request can only come from a program of this machine, and not from a web page in its
/// browser: peer, Host and Origin are loopback and nothing was forwarded.
pub fn is_local(extensions: &Extensions, headers: &HeaderMap, uri: &Uri) -> bool {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().is_some_and(|c| c.0.ip().is_loopback());
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let host = text(header::HOST).or_else(|| uri.authority().map(|a| a.as_str()));
    let origin_ok = match headers.get(header::ORIGIN) {
        None => true,
        Some(origin) => origin
            .to_str()
            .ok()
            .and_then(|o| o.split_once("://"))
            .is_some_and(|(_, host)| is_loopback_host(host)),
    };
    peer && host.is_some_and(is_loopback_host)
        && origin_ok
        && !FORWARDED.iter().any(|name| headers.contains_key(*name))
}

fn is_loopback_host(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_local() {
        for yes in ["localhost", "localhost:8000", "127.0.0.1:80", "[::1]:8000", "[::1]", "127.1.2.3"] {
            assert!(is_loopback_host(yes), "{yes}");
        }
        for no in ["example.com", "localhost.example.com", "10.0.0.1:80", "127.0.0.1.nip.io", ""] {
            assert!(!is_loopback_host(no), "{no}");
        }
    }
}
