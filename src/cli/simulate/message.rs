//! A message on its way: the request's bytes, signed as HeyGen signs, or as a forger would.

use std::io::Write;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::payloads::Template;
use crate::clock::Clock;
use crate::domain::signature;

const AGENT: &str = concat!("reelhook-simulate/", env!("CARGO_PKG_VERSION"));

/// The header that carries the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Header {
    Signature,
    HeygenSignature,
    XHeygenSignature,
}

impl Header {
    fn name(self) -> &'static str {
        match self {
            Self::Signature => "signature",
            Self::HeygenSignature => "heygen-signature",
            Self::XHeygenSignature => "x-heygen-signature",
        }
    }
}

/// The lines of every request to this host and path, up to those about the body.
pub fn head(host: &str, path: &str) -> Vec<u8> {
    let kind = "content-type: application/json";
    format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{kind}\r\nuser-agent: {AGENT}\r\n").into_bytes()
}

/// What makes a request out of a message's number.
pub struct Maker {
    pub templates: Vec<Template>,
    /// None sends without a signature.
    pub secret: Option<String>,
    pub header: Header,
    /// The request's lines that are always the same; see `head`.
    pub head: Vec<u8>,
    /// Part of each number, so that two runs differ.
    pub run: u32,
    pub clock: Clock,
}

impl Maker {
    pub fn template(&self, message: u64) -> &Template {
        let nth = usize::try_from(message % self.templates.len() as u64).unwrap_or(0);
        &self.templates[nth]
    }

    fn number(&self, message: u64) -> [u8; 16] {
        let mut number = [0; 16];
        // Sixteen digits fit: eight of the run, eight of the message.
        let _ = write!(&mut number[..], "{:08x}{:08x}", self.run, message & 0xffff_ffff);
        number
    }

    pub fn body(&self, message: u64, to: &mut Vec<u8>) {
        to.clear();
        self.template(message).write(&self.number(message), to);
    }

    /// Headers besides the usual ones, as lines.
    fn seal(&self, message: u64, body: &[u8]) -> Vec<(&'static str, String)> {
        let Some(secret) = &self.secret else { return vec![] };
        let mut lines = vec![(self.header.name(), signature::sign(secret, body))];
        if self.header == Header::HeygenSignature {
            // The documentation of mid 2026 has these two beside it.
            let number = self.number(message);
            lines.push((signature::TIMESTAMP_HEADER, self.clock.now().div_euclid(1_000).to_string()));
            lines.push(("heygen-event-id", format!("sim-{}", String::from_utf8_lossy(&number))));
        }
        lines
    }

    /// The whole request as bytes, for a bare connection.
    pub fn request(&self, message: u64, body: &mut Vec<u8>, to: &mut Vec<u8>) {
        self.body(message, body);
        to.clear();
        to.extend_from_slice(&self.head);
        // Writing to memory does not fail.
        for (name, value) in self.seal(message, body) {
            let _ = write!(to, "{name}: {value}\r\n");
        }
        let _ = write!(to, "content-length: {}\r\n\r\n", body.len());
        to.extend_from_slice(body);
    }

    /// The same for a full client.
    pub fn parts(&self, message: u64) -> (HeaderMap, Bytes) {
        let mut body = vec![];
        self.body(message, &mut body);
        let mut headers = crate::net::headers([("content-type", "application/json"), ("user-agent", AGENT)]);
        for (name, value) in self.seal(message, &body) {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        (headers, Bytes::from(body))
    }
}
