//! How the value of a setting is read: what is right, or what is wrong with it, in words that go on
//! after "--slots is `many`, but". Whose value it is and where it came from is said by those who ask.

use std::net::IpAddr;

use super::Address;
use super::shown::is_key_value;
use crate::domain::guard::{Guard, Network};

pub fn number(text: &str, least: i64, most: i64) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ => Err(format!("it must be a whole number from {least} to {most}")),
    }
}

pub fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("it must be true or false".to_owned()),
    }
}

/// An address of a server: only where it is, and nothing a path can follow badly.
pub fn web_url(text: &str) -> Result<url::Url, String> {
    let is_web = |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    let url = url::Url::parse(text).ok().filter(is_web);
    let url = url.ok_or("it must begin with http:// or https:// and name a host")?;
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
        return Err("it may hold no user, no `?` and no `#`".to_owned());
    }
    Ok(url)
}

pub fn base_url(text: &str) -> Result<String, String> {
    web_url(text).map(|_| text.trim_end_matches('/').to_owned())
}

pub fn database(text: &str) -> Result<Address, String> {
    if is_key_value(text) {
        return Err("keys and values such as host= are not read; write \
                    postgres://USER:PASSWORD@HOST:PORT/DATABASE, or sqlite:FILE for a file of such a name"
            .to_owned());
    }
    match Address::parse(text) {
        Address::Sqlite(path) if path.as_os_str().is_empty() || path.to_string_lossy().contains("://") => {
            Err("it must be a file, or an address that begins with postgres://".to_owned())
        }
        Address::Postgres(url) => super::postgres::read(&url).map(|_| Address::Postgres(url)),
        address @ Address::Sqlite(_) => Ok(address),
    }
}

pub fn header_text(text: &str) -> Result<String, String> {
    if text.trim().is_empty() || text.chars().any(|c| !c.is_ascii_graphic()) {
        return Err("no key has blanks or other than ASCII characters".to_owned());
    }
    Ok(text.to_owned())
}

pub fn secrets(text: &str) -> Result<Vec<String>, String> {
    let mut all: Vec<String> = vec![];
    for secret in text.split(',').map(str::trim) {
        if secret.is_empty() {
            return Err("one of the secrets between the commas is empty".to_owned());
        }
        // Two variables may hold the same.
        if !all.iter().any(|known| known == secret) {
            all.push(secret.to_owned());
        }
    }
    Ok(all)
}

pub fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let parse = |t: &str| t.trim().parse().map_err(|_| format!("`{}` is no IP address", t.trim()));
    text.split(',').map(parse).collect()
}

pub fn guard(text: &str) -> Result<Guard, String> {
    let parse = |t: &str| {
        let network = Network::parse(t.trim());
        network.ok_or_else(|| format!("`{}` is no network such as 10.0.0.0/8, and no IP address", t.trim()))
    };
    text.split(',').map(parse).collect::<Result<Vec<_>, _>>().map(Guard::new)
}

pub fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    // The parser would take a mistyped level for the name of a module, and log nothing.
    let is_level = |word: &str| LEVELS.iter().any(|level| word.trim().eq_ignore_ascii_case(level));
    if let Some(word) = text.split(',').find(|word| !word.contains('=') && !is_level(word)) {
        return Err(format!("`{}` is no level; levels are {}", word.trim(), LEVELS.join(", ")));
    }
    match text.parse::<tracing_subscriber::EnvFilter>() {
        Ok(_) => Ok(text.to_owned()),
        Err(e) => Err(e.to_string()),
    }
}
