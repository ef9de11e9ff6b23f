//! HMAC-SHA256 as HeyGen uses it: the secret's own bytes as the key, the answer in lower-case hex.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub fn hex_hmac(secret: &[u8], body: &[u8]) -> String {
    // A key of any length is allowed, so this never is the empty string.
    Hmac::<Sha256>::new_from_slice(secret)
        .map(|mac| hex::encode(mac.chain_update(body).finalize().into_bytes()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_agrees_with_rfc_4231() {
        assert_eq!(
            hex_hmac(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
