//! The guard against the whole corpus: what must never be reached, in every spelling a URL allows,
//! and what must stay reachable.

use std::net::IpAddr;

use self::addresses::{CRAFTED, SPECIAL, SPELLINGS, words};
use super::{Guard, MAX_URL_CHARS, Network};

#[path = "../../../tests/support/addresses.rs"]
mod addresses;

/// What applications really use.
const PUBLIC: &str = "
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1
    169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.1 192.0.3.1 192.167.255.255 192.169.0.0
    198.17.255.255 198.20.0.0 223.255.255.255 2606:4700::1111 2a00:1450:4001::200e 2001:4860:4860::8888
    64:ff9b::8.8.8.8 ::ffff:8.8.8.8
";

fn in_url(ip: &str) -> String {
    if ip.contains(':') { format!("http://[{ip}]:8080/hook") } else { format!("https://{ip}/hook?a=b") }
}

#[test]
fn nothing_of_the_corpus_is_let_through() {
    let guard = Guard::default();
    for ip in words(SPECIAL) {
        let address: IpAddr = ip.parse().unwrap();
        assert!(guard.check(address).is_err(), "{ip}");
        assert!(guard.url(&in_url(ip)).is_err(), "{ip} in a URL");
    }
    for host in words(SPELLINGS) {
        for url in [format!("http://{host}/"), format!("https://{host}:8443/hook?x=1")] {
            let judged = guard.url(&url);
            assert!(judged.is_err(), "{url} was taken for {judged:?}");
        }
    }
    for url in CRAFTED {
        assert!(guard.url(url).is_err(), "{url}");
    }
    assert!(words(SPECIAL).count() + words(SPELLINGS).count() + CRAFTED.len() >= 200);
}

#[test]
fn public_addresses_and_names_pass() {
    let guard = Guard::default();
    for ip in words(PUBLIC) {
        let address: IpAddr = ip.parse().unwrap();
        assert_eq!(guard.check(address), Ok(()), "{ip}");
        assert!(guard.url(&in_url(ip)).is_ok(), "{ip}");
    }
    // A name is judged by its addresses, when it is called.
    for url in [
        "https://example.com/hook",
        "http://internal/",
        "https://xn--bcher-kva.example/",
        "https://bücher.example",
    ] {
        assert!(guard.url(url).is_ok(), "{url}");
    }
}

#[test]
fn every_prefix_has_two_sides() {
    let network = |text: &str| Network::parse(text).unwrap();
    let inside = |text: &str, ip: &str| network(text).contains(ip.parse().unwrap());
    assert!(inside("10.0.0.0/8", "10.255.255.255") && !inside("10.0.0.0/8", "11.0.0.0"));
    assert!(inside("127.0.0.1", "127.0.0.1") && !inside("127.0.0.1", "127.0.0.2"));
    assert!(inside("0.0.0.0/0", "255.255.255.255") && !inside("0.0.0.0/0", "::1"));
    assert!(inside("fd00::/8", "fdff::1") && !inside("fd00::/8", "fc00::1"));
    assert!(inside("::/0", "ff02::1") && inside("::1", "::1") && !inside("::1", "::2"));
    for bad in
        ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10/8", "/8", "10.0.0.0/-1", "localhost", "10.0.0.0/8/8"]
    {
        assert_eq!(Network::parse(bad), None, "{bad}");
    }
}

#[test]
fn only_listed_networks_are_let_through() {
    let guard = Guard::new(["127.0.0.0/8", "10.1.0.0/16"].map(|text| Network::parse(text).unwrap()).to_vec());
    for url in
        ["http://127.0.0.1:3000/", "http://2130706433/", "http://localhost/", "http://[::ffff:127.0.0.1]/"]
    {
        assert!(guard.url(url).is_ok(), "{url}");
    }
    assert!(guard.url("http://10.1.2.3/").is_ok());
    for url in ["http://10.2.0.1/", "http://[::1]/", "http://169.254.169.254/", "http://192.168.1.1/"] {
        assert!(guard.url(url).is_err(), "{url}");
    }
}

#[test]
fn a_refusal_says_what_and_what_to_do() {
    let why = Guard::default().url("http://0xa9fea9fe/latest").unwrap_err();
    assert!(why.contains("169.254.169.254, which is link-local") && why.contains("--allow-private"), "{why}");
    let long = |n: usize| format!("https://example.com/{}", "a".repeat(n - "https://example.com/".len()));
    assert!(Guard::default().url(&long(MAX_URL_CHARS)).is_ok());
    assert!(Guard::default().url(&long(MAX_URL_CHARS + 1)).is_err());
}
