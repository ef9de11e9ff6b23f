//! Signs what we send as Standard Webhooks say (specification 1.0.0): HMAC-SHA256 over id, time and
//! body, in base64, one signature for each live signing secret. And judges such a signature, as a
//! receiver does.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::time::{DAY, MINUTE, Millis, SECOND};

/// How a secret is known for what it is.
const PREFIX: &str = "whsec_";
/// How long the secret before goes on signing after a rotation, unless the caller says otherwise.
pub const OVERLAP: Millis = DAY;
pub const MAX_OVERLAP: Millis = 7 * DAY;
/// Secrets of an endpoint that sign at once; of more, the oldest ends.
pub const MAX_LIVE: usize = 3;
/// A receiver takes no time that is further from its own, either way.
pub const TOLERANCE: Millis = 5 * MINUTE;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningSecret {
    /// As the receiver was told it.
    pub secret: String,
    pub created_at: Millis,
    /// It signs until then; absent means until the next rotation.
    pub ends_at: Option<Millis>,
}

/// A log or a panic must not tell it.
impl std::fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningSecret").field("hint", &self.hint()).finish_non_exhaustive()
    }
}

impl SigningSecret {
    pub fn new(random: [u8; 32], now: Millis) -> Self {
        Self { secret: format!("{PREFIX}{}", STANDARD.encode(random)), created_at: now, ends_at: None }
    }

    pub fn is_live(&self, now: Millis) -> bool {
        self.ends_at.is_none_or(|at| now < at)
    }

    /// The last four letters.
    pub fn hint(&self) -> &str {
        self.secret.get(self.secret.len().saturating_sub(4)..).unwrap_or_default()
    }

    fn key(&self) -> Vec<u8> {
        let text = self.secret.strip_prefix(PREFIX).unwrap_or(&self.secret);
        STANDARD.decode(text).unwrap_or_else(|_| text.as_bytes().to_vec())
    }
}

/// Whether a caller's own secret may sign: of the form and length the specification asks for.
pub fn is_secret(text: &str) -> bool {
    let key = text.strip_prefix(PREFIX).and_then(|text| STANDARD.decode(text).ok());
    key.is_some_and(|key| (24..=64).contains(&key.len()))
}

/// In with the new: those that were live go on for `overlap`, what is over is forgotten.
pub fn rotate(secrets: &mut Vec<SigningSecret>, new: SigningSecret, overlap: Millis, now: Millis) {
    let end = now.saturating_add(overlap);
    for secret in secrets.iter_mut() {
        secret.ends_at = Some(secret.ends_at.map_or(end, |at| at.min(end)));
    }
    secrets.retain(|secret| secret.is_live(now));
    secrets.push(new);
    let over = secrets.len().saturating_sub(MAX_LIVE);
    secrets.drain(..over);
}

/// The value of `webhook-signature`: a signature for each secret that is live, the newest first.
pub fn sign(secrets: &[SigningSecret], id: &str, at: Millis, body: &[u8]) -> String {
    let live = secrets.iter().rev().filter(|secret| secret.is_live(at));
    let signed = live.map(|secret| format!("v1,{}", STANDARD.encode(mac(&secret.key(), id, at, body))));
    signed.collect::<Vec<_>>().join(" ")
}

/// The value of `webhook-timestamp`.
pub fn timestamp(at: Millis) -> String {
    at.div_euclid(1_000).to_string()
}

/// What a receiver with this secret makes of a delivery, or why it refuses it. `header` gives a
/// header's value by lower-case name.
pub fn verify<'h>(
    secret: &SigningSecret,
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    now: Millis,
) -> Result<(), &'static str> {
    let all = (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
    let (Some(id), Some(at), Some(signatures)) = all else { return Err("a header is missing") };
    let at = at.parse::<i64>().map_err(|_| "the time is no number")?.saturating_mul(SECOND);
    if now.abs_diff(at) > TOLERANCE.unsigned_abs() {
        return Err("the time is too far from now");
    }
    let expected = mac(&secret.key(), id, at, body);
    let right = |one: &str| {
        let claimed = one.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
        claimed.is_some_and(|claimed| expected.ct_eq(&claimed).into())
    };
    if signatures.split(' ').any(right) { Ok(()) } else { Err("no signature is made with this secret") }
}

fn mac(key: &[u8], id: &str, at: Millis, body: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length; the error type exists only for other MACs.
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
    mac.update(format!("{id}.{}.", timestamp(at)).as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_614_265_330_000;

    fn secret(text: &str) -> SigningSecret {
        SigningSecret { secret: text.to_owned(), created_at: 0, ends_at: None }
    }

    #[test]
    fn a_known_vector() {
        // printf '%s' 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}' | openssl dgst \
        //   -sha256 -mac HMAC -macopt hexkey:$(echo MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw | base64 -d | xxd -p) \
        //   -binary | base64
        let secrets = [secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
        let signed = sign(&secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_receiver_takes_what_is_signed_and_nothing_else() {
        let (old, new) = (secret("whsec_QQ=="), secret("whsec_Qg=="));
        let signed = sign(&[old.clone(), new.clone()], "evt_1", NOW, b"body");
        let judge = |with: &SigningSecret, [id, at, signed]: [&str; 3], body: &[u8], now| {
            let headers = [("webhook-id", id), ("webhook-timestamp", at), ("webhook-signature", signed)];
            let header = |name: &str| {
                headers.into_iter().find(|(n, value)| *n == name && !value.is_empty()).map(|(_, value)| value)
            };
            verify(with, header, body, now).err()
        };
        let at = timestamp(NOW);
        let right = ["evt_1", &at, &signed];
        assert_eq!(judge(&old, right, b"body", NOW), None);
        assert_eq!(judge(&new, right, b"body", NOW), None, "either, while both are live");
        let unsigned = Some("no signature is made with this secret");
        assert_eq!(judge(&secret("whsec_Qw=="), right, b"body", NOW), unsigned);
        assert_eq!(judge(&new, right, b"bodY", NOW), unsigned);
        assert_eq!(judge(&new, ["evt_2", &at, &signed], b"body", NOW), unsigned);
        assert_eq!(judge(&new, ["evt_1", &timestamp(NOW + 1_000), &signed], b"body", NOW), unsigned);
        for bad in ["v1", "v1,", "v1,!", "v2,QQ==", &signed.replace("v1", "v1a")] {
            assert_eq!(judge(&new, ["evt_1", &at, bad], b"body", NOW), unsigned, "{bad}");
        }
        let missing = Some("a header is missing");
        for nth in 0..3 {
            let mut headers = right;
            headers[nth] = "";
            assert_eq!(judge(&new, headers, b"body", NOW), missing);
        }
        assert_eq!(judge(&new, ["evt_1", "now", &signed], b"body", NOW), Some("the time is no number"));
        let far = Some("the time is too far from now");
        for (off, judged) in [(0, None), (TOLERANCE, None), (TOLERANCE + 1, far)] {
            assert_eq!(judge(&new, right, b"body", NOW + off), judged);
            assert_eq!(judge(&new, right, b"body", NOW - off), judged);
        }
    }

    #[test]
    fn a_new_secret_has_32_bytes_and_tells_only_its_end() {
        let made = SigningSecret::new([7; 32], NOW);
        assert!(made.secret.starts_with("whsec_") && made.key() == [7; 32]);
        assert_eq!(made.hint(), "Bwc=");
        assert!(!format!("{made:?}").contains(&made.secret));
    }

    #[test]
    fn a_secret_of_a_callers_own_has_24_to_64_bytes() {
        let of = |bytes: usize| is_secret(&format!("whsec_{}", STANDARD.encode(vec![1; bytes])));
        assert!(!of(23) && of(24) && of(64) && !of(65));
        assert!(!is_secret(&STANDARD.encode([1; 32])) && !is_secret("whsec_no base64"));
    }

    #[test]
    fn a_rotation_overlaps_to_the_millisecond_and_is_bounded() {
        let mut secrets = vec![secret("whsec_QQ==")];
        rotate(&mut secrets, secret("whsec_Qg=="), OVERLAP, NOW);
        let count = |at| sign(&secrets, "x", at, b"").split(' ').count();
        assert_eq!((count(NOW), count(NOW + OVERLAP - 1), count(NOW + OVERLAP)), (2, 2, 1));
        let newest = sign(&secrets[1..], "x", NOW, b"");
        assert!(sign(&secrets, "x", NOW, b"").starts_with(&newest), "the newest first");

        // A second rotation does not lengthen the life of the first.
        rotate(&mut secrets, secret("whsec_Qw=="), MAX_OVERLAP, NOW + 1);
        assert_eq!(secrets[0].ends_at, Some(NOW + OVERLAP));
        rotate(&mut secrets, secret("whsec_RA=="), OVERLAP, NOW + 2);
        assert_eq!(secrets.len(), MAX_LIVE);
        rotate(&mut secrets, secret("whsec_RQ=="), 0, NOW + 3);
        assert_eq!(secrets.len(), 1, "at once, for one that leaked");
    }
}
