//! Ids: a prefix and 26 characters that sort by time. Opaque to callers.
//!
//! The random part comes in as an argument; nothing here rolls dice.

use super::time::Millis;

pub const JOB: &str = "job_";
pub const GROUP: &str = "grp_";
pub const EVENT: &str = "evt_";
pub const RECEIPT: &str = "rcp_";
pub const ENDPOINT: &str = "ep_";
pub const DELIVERY: &str = "dlv_";
pub const REPLAY: &str = "rpl_";
pub const AUDIT: &str = "aud_";
pub const API_KEY: &str = "key_";
pub const SECRET: &str = "whs_";
pub const REQUEST: &str = "req_";

/// Letters and digits after the prefix: a 48-bit time and 80 random bits, base 32.
const LENGTH: usize = 26;

pub fn new(prefix: &str, now: Millis, random: [u8; 16]) -> String {
    let ms = u64::try_from(now).unwrap_or(0);
    let id = ulid::Ulid::from_parts(ms, u128::from_be_bytes(random)).to_string();
    format!("{prefix}{}", id.to_ascii_lowercase())
}

/// Whether `text` has the shape of an id with this prefix.
pub fn has_shape(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == LENGTH && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// When an id with this prefix was made.
pub fn time_of(prefix: &str, text: &str) -> Option<Millis> {
    let made = ulid::Ulid::from_string(text.strip_prefix(prefix)?).ok()?;
    i64::try_from(made.timestamp_ms()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_know_their_prefix() {
        let early = new(JOB, 1_000, [255; 16]);
        let late = new(JOB, 1_001, [0; 16]);
        assert!(early < late);
        assert!(has_shape(JOB, &early));
        assert!(!has_shape(EVENT, &early));
        assert!(!has_shape(JOB, "job_short"));
        assert_eq!(time_of(JOB, &late), Some(1_001));
        assert_eq!((time_of(EVENT, &late), time_of(JOB, "job_short")), (None, None));
    }
}
