//! The operator's proxies: through which one a host is called, by the rules curl reads the standard
//! variables by, and which hosts are called straight. This machine itself always is.
//!
//! Never looks up a name, and never shows the user and password a proxy is told.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::guard::{Network, is_localhost};

/// One that opens tunnels when it is asked to (`CONNECT`, RFC 9110, section 9.3.6).
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// As it stands in a URL.
    host: String,
    port: u16,
    authorization: Option<String>,
}

impl Proxy {
    /// `http://USER:PASSWORD@HOST:PORT`; without a scheme it is http, without a port 80.
    pub fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "it must look like http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT";
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&text).map_err(|_| FORM)?;
        if url.scheme() != "http" {
            return Err(format!(
                "a proxy spoken to by {}:// is not supported; give one that is spoken to by http:// and takes \
                 CONNECT",
                url.scheme()
            ));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(FORM)?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(format!(
                "{FORM}; in USER and PASSWORD write %40 for @, %3A for :, %2F for /, %5C for \\, %3F for ? and %23 \
                 for #"
            ));
        }
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        let named = !url.username().is_empty() || url.password().is_some();
        let authorization = named.then(|| {
            let password = url.password().unwrap_or_default();
            let both = [&decoded(url.username())[..], b":", &decoded(password)].concat();
            format!("Basic {}", STANDARD.encode(both))
        });
        Ok(Self { host: host.to_owned(), port: url.port().unwrap_or(80), authorization })
    }

    /// What it is told with `Proxy-Authorization`.
    pub fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }
}

/// Its address, and no more.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What is called straight though there are proxies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Straight {
    everything: bool,
    networks: Vec<Network>,
    /// In small letters and without a dot at either end; each stands for all names below it, too.
    names: Vec<String>,
}

impl Straight {
    /// `example.com`, `.example.com` or `*.example.com`, which are the same, an IP address, a network, or `*`;
    /// with commas or blanks between them.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut straight = Self::default();
        for entry in text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty()) {
            let name = entry.strip_prefix("*.").or(entry.strip_prefix('.')).unwrap_or(entry);
            match (Network::parse(entry.trim_matches(['[', ']'])), Host::parse(name.trim_end_matches('.'))) {
                _ if entry == "*" => straight.everything = true,
                (Some(network), _) => straight.networks.push(network),
                (None, Ok(Host::Domain(name))) if !name.contains('*') => straight.names.push(name),
                _ => {
                    return Err(format!(
                        "`{entry}` is no name such as example.com, no IP address, no network such as 10.0.0.0/8, \
                         and not *; a port cannot be given"
                    ));
                }
            }
        }
        Ok(straight)
    }

    /// `host` as `Proxies::of` has it.
    fn has(&self, host: &str, ip: Option<IpAddr>) -> bool {
        let below = |name: &String| host.strip_suffix(&**name).is_some_and(|rest| rest.ends_with('.'));
        match ip {
            _ if self.everything => true,
            Some(ip) => self.networks.iter().any(|network| network.contains(ip)),
            None => self.names.iter().any(|name| host == name || below(name)),
        }
    }
}

/// The way out of this machine. By default there is no proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    pub http: Option<Proxy>,
    pub https: Option<Proxy>,
    pub straight: Straight,
}

impl Proxies {
    /// The one through which a host, a name or an IP address, is called; `None`: straight.
    pub fn of(&self, https: bool, host: &str) -> Option<&Proxy> {
        let proxy = if https { &self.https } else { &self.http }.as_ref()?;
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        let ip = host.parse::<IpAddr>().ok().map(|ip| ip.to_canonical());
        // To a proxy this machine's own addresses mean the proxy's machine.
        let is_here = ip.map_or_else(|| is_localhost(&host), |ip| ip.is_loopback());
        (!is_here && !self.straight.has(&host, ip)).then_some(proxy)
    }
}

impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way =
            |proxy: &Option<Proxy>| proxy.as_ref().map_or("straight".to_owned(), |p| format!("through {p}"));
        match (&self.https, &self.http) {
            (None, None) => f.write_str("none"),
            (https, http) => write!(f, "https:// {}, http:// {}", way(https), way(http)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_read_and_shown_without_its_password() {
        for (text, shown, authorization) in [
            ("http://proxy.example:3128", "http://proxy.example:3128", None),
            ("http://proxy.example/", "http://proxy.example:80", None),
            ("proxy.example:3128", "http://proxy.example:3128", None),
            ("10.1.2.3:1", "http://10.1.2.3:1", None),
            ("http://[::1]:65535", "http://[::1]:65535", None),
            // RFC 7617, section 2.
            (
                "http://Aladdin:open%20sesame@p:8080",
                "http://p:8080",
                Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            ),
            ("user:p%40ss@p:8080", "http://p:8080", Some("Basic dXNlcjpwQHNz")),
            ("http://token@p:8080", "http://p:8080", Some("Basic dG9rZW46")),
        ] {
            let proxy = Proxy::parse(text).unwrap();
            assert_eq!((&*proxy.to_string(), proxy.authorization()), (shown, authorization), "{text}");
            assert_eq!(format!("{proxy:?}"), shown);
        }
    }

    #[test]
    fn what_is_no_proxy_of_ours_is_refused_in_words() {
        for (text, words) in [
            ("", "must look like"),
            ("http://", "must look like"),
            ("http://p:65536", "must look like"),
            ("http://p:port", "must look like"),
            ("two words", "must look like"),
            ("socks5://p:1080", "socks5:// is not supported"),
            ("socks5h://u:word@p:1080", "http:// and takes CONNECT"),
            ("https://p:3128", "https:// is not supported"),
            ("http://p:3128/path", "must look like"),
            ("http://p:3128/?q", "must look like"),
            ("http://u:12/34@p:3128", "%2F for /"),
            ("http://DOMAIN\\u:word@p:3128", "%5C for \\"),
        ] {
            let why = Proxy::parse(text).unwrap_err();
            assert!(why.contains(words) && !why.contains("word@") && !why.contains("34@"), "{text}: {why}");
        }
    }

    fn proxies(straight: &str) -> Proxies {
        Proxies {
            http: Proxy::parse("plain:1").ok(),
            https: Proxy::parse("tls:2").ok(),
            straight: Straight::parse(straight).unwrap(),
        }
    }

    #[test]
    fn each_scheme_has_its_own_and_this_machine_none() {
        let both = proxies("");
        assert_eq!(both.of(false, "x.example"), both.http.as_ref());
        assert_eq!(both.of(true, "x.example"), both.https.as_ref());
        assert_eq!(both.to_string(), "https:// through http://tls:2, http:// through http://plain:1");
        let one = Proxies { https: None, ..both.clone() };
        assert_eq!((one.of(true, "x.example"), one.of(false, "x.example")), (None, one.http.as_ref()));
        for host in ["localhost", "LOCALHOST.", "app.localhost", "127.0.0.1", "127.9.9.9", "[::1]", "::1"] {
            assert_eq!(both.of(true, host), None, "{host}");
        }
        assert_eq!(both.of(true, "::ffff:127.0.0.1"), None);
        for host in ["localhost.example", "mylocalhost", "128.0.0.1", "0.0.0.0", "10.0.0.1"] {
            assert!(both.of(true, host).is_some(), "{host}");
        }
    }

    #[test]
    fn what_is_called_straight_is_told_as_curl_does() {
        for (straight, host, is_straight) in [
            ("example.com", "example.com", true),
            ("example.com", "a.b.EXAMPLE.com.", true),
            ("example.com", "notexample.com", false),
            ("example.com", "example.com.evil.example", false),
            (".example.com", "example.com", true),
            ("*.example.com", "a.example.com", true),
            ("Example.COM.", "a.example.com", true),
            ("bücher.example", "xn--bcher-kva.example", true),
            ("a_b", "a_b", true),
            ("other, example.com", "example.com", true),
            ("other example.com", "example.com", true),
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("10.0.0.0/8", "[::ffff:10.0.0.1]", true),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.8", false),
            ("2001:db8::/32", "[2001:db8::5]", true),
            ("[2001:db8::5]", "2001:db8::5", true),
            ("2001:db8::5", "2001:db8::6", false),
            ("*", "example.com", true),
            ("x,*", "192.0.2.7", true),
            ("", "example.com", false),
            (" , ", "example.com", false),
        ] {
            assert_eq!(proxies(straight).of(true, host).is_none(), is_straight, "{straight:?} {host}");
        }
        for wrong in
            ["example.com:80", "10.0.0.0/33", "169.254/16", "http://x", "10.0", "a*b", "*example.com", "."]
        {
            let why = Straight::parse(wrong).unwrap_err();
            assert!(why.starts_with(&format!("`{wrong}` is no name")), "{why}");
        }
    }
}
