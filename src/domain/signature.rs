//! Judges the signature of a webhook over its raw bytes.
//!
//! HeyGen signs with hex HMAC-SHA256 of the body, keyed by the endpoint's secret as a string, in
//! the header `signature`; other spellings are in circulation (docs/heygen.md, Signature). Nothing here
//! parses the body, and every comparison takes the same time whatever the bytes.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::time::{MINUTE, Millis, SECOND};

/// Headers that may carry the signature, in the order they are tried.
pub const HEADERS: [&str; 3] = ["signature", "heygen-signature", "x-heygen-signature"];
/// Seconds since the epoch; checked only when present, since it is not part of what is signed.
pub const TIMESTAMP_HEADER: &str = "heygen-timestamp";
/// How far such a time may be off, either way.
pub const TIMESTAMP_TOLERANCE: Millis = 5 * MINUTE;

/// Why a delivery is not signed by a live secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsigned {
    /// None of the known headers is there.
    NoHeader,
    /// A header is there but holds no 64 hex digits.
    NotHex,
    /// Well formed, but made with another secret or over other bytes.
    NoMatch,
    /// The signature is right, but the time beside it is not within five minutes of ours.
    BadTimestamp,
}

impl Unsigned {
    pub const ALL: [Self; 4] = [Self::NoHeader, Self::NotHex, Self::NoMatch, Self::BadTimestamp];

    pub fn name(self) -> &'static str {
        match self {
            Self::NoHeader => "no_signature",
            Self::NotHex => "signature_not_hex",
            Self::NoMatch => "signature_mismatch",
            Self::BadTimestamp => "timestamp_off",
        }
    }

    /// In words for people.
    pub fn explain(self) -> &'static str {
        match self {
            Self::NoHeader => "there is no signature, heygen-signature or x-heygen-signature header",
            Self::NotHex => "the signature is not 64 hex digits",
            Self::NoMatch => "the signature was made with another secret or over other bytes",
            Self::BadTimestamp => "heygen-timestamp is no time in seconds, or more than five minutes off",
        }
    }
}

/// Hex HMAC-SHA256 of `body` under `secret`, as HeyGen sends it.
pub fn sign(secret: &str, body: &[u8]) -> String {
    hex::encode(mac(secret, body))
}

fn mac(secret: &str, body: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length; the error type exists only for other MACs.
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
    mac.update(body);
    mac.finalize().into_bytes().into()
}

/// The position in `secrets` of the one that signed `body`, or why none did.
///
/// `header` gives a header's value by lower-case name.
pub fn verify<'h>(
    body: &[u8],
    header: impl Fn(&str) -> Option<&'h str>,
    secrets: &[String],
    now: Millis,
) -> Result<usize, Unsigned> {
    let mut worst = Unsigned::NoHeader;
    let macs: Vec<[u8; 32]> = if HEADERS.iter().any(|name| header(name).is_some()) {
        secrets.iter().map(|secret| mac(secret, body)).collect()
    } else {
        return Err(worst);
    };
    for value in HEADERS.iter().filter_map(|name| header(name)) {
        let Some(claimed) = decode(value) else {
            if worst == Unsigned::NoHeader {
                worst = Unsigned::NotHex;
            }
            continue;
        };
        if let Some(found) = macs.iter().position(|mac| mac.ct_eq(&claimed).into()) {
            return match header(TIMESTAMP_HEADER) {
                Some(stamp) if !is_near(stamp, now) => Err(Unsigned::BadTimestamp),
                _ => Ok(found),
            };
        }
        worst = Unsigned::NoMatch;
    }
    Err(worst)
}

/// The 32 bytes of a signature header: 64 hex digits of either case, after an optional `sha256=`.
pub fn decode(value: &str) -> Option<[u8; 32]> {
    let value = value.trim();
    let digits = value.strip_prefix("sha256=").unwrap_or(value);
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

fn is_near(stamp: &str, now: Millis) -> bool {
    stamp
        .trim()
        .parse::<i64>()
        .ok()
        .and_then(|s| s.checked_mul(SECOND))
        .is_some_and(|at| now.abs_diff(at) <= TIMESTAMP_TOLERANCE.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_795_255_200_000;

    fn judge(pairs: &[(&str, &str)], secrets: &[&str]) -> Result<usize, Unsigned> {
        let secrets: Vec<String> = secrets.iter().map(|s| (*s).to_owned()).collect();
        let header = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
        verify(b"{}", header, &secrets, NOW)
    }

    #[test]
    fn a_known_vector() {
        // Printed by: printf '{}' | openssl dgst -sha256 -hmac whsec_test
        let expected = "46bdc2a2e83964bd2695acc6a1f97162d8bafc135a071aa5cd5c99aae5481440";
        assert_eq!(sign("whsec_test", b"{}"), expected);
    }

    #[test]
    fn every_header_case_and_prefix_is_honoured() {
        let hex = sign("new", b"{}");
        for name in HEADERS {
            assert_eq!(judge(&[(name, &hex)], &["old", "new"]), Ok(1));
            assert_eq!(judge(&[(name, &hex.to_uppercase())], &["new"]), Ok(0));
            assert_eq!(judge(&[(name, &format!("sha256={hex}"))], &["new"]), Ok(0));
        }
    }

    #[test]
    fn a_wrong_header_does_not_hide_a_right_one() {
        let hex = sign("s", b"{}");
        assert_eq!(judge(&[("signature", "nonsense"), ("x-heygen-signature", &hex)], &["s"]), Ok(0));
    }

    #[test]
    fn refusals_say_why() {
        let other = sign("other", b"{}");
        assert_eq!(judge(&[], &["s"]), Err(Unsigned::NoHeader));
        assert_eq!(judge(&[("signature", "abc")], &["s"]), Err(Unsigned::NotHex));
        assert_eq!(judge(&[("signature", &other)], &["s"]), Err(Unsigned::NoMatch));
        assert_eq!(judge(&[("signature", &other)], &[]), Err(Unsigned::NoMatch));
        let short = &other[..62];
        assert_eq!(judge(&[("signature", short)], &["other"]), Err(Unsigned::NotHex));
    }

    #[test]
    fn a_timestamp_counts_only_when_present() {
        let hex = sign("s", b"{}");
        let at = |ms: Millis| (ms / 1_000).to_string();
        let edge = at(NOW - TIMESTAMP_TOLERANCE);
        let beyond = at(NOW - TIMESTAMP_TOLERANCE - 1_000);
        assert_eq!(judge(&[("signature", &hex), (TIMESTAMP_HEADER, &edge)], &["s"]), Ok(0));
        let off = Err(Unsigned::BadTimestamp);
        assert_eq!(judge(&[("signature", &hex), (TIMESTAMP_HEADER, &beyond)], &["s"]), off);
        assert_eq!(judge(&[("signature", &hex), (TIMESTAMP_HEADER, "soon")], &["s"]), off);
    }
}
