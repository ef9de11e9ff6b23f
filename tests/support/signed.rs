//! Signatures of Standard Webhooks as a receiver makes them to compare, written a second time: what signs
//! in `src` is not asked whether it did it right.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::Sha256;

/// The text of a header; empty when it is not there.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// How many of its signatures are made with this secret, as the specification has it.
pub fn signed_with(headers: &HeaderMap, body: &Bytes, secret: &str) -> usize {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").expect("a secret")).expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
    mac.update(
        format!("{}.{}.", header(headers, "webhook-id"), header(headers, "webhook-timestamp")).as_bytes(),
    );
    mac.update(body);
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    header(headers, "webhook-signature").split(' ').filter(|signature| *signature == expected).count()
}
