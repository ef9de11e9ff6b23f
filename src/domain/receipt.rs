//! Receipts: one inbound webhook as it arrived, or as HeyGen's event log had it.

use sha2::{Digest, Sha256};

use super::time::Millis;

/// What the door made of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Made with a live webhook secret over exactly these bytes.
    Signed,
    /// Came to a job's own unguessable address without a signature. A hint, never an act.
    Unsigned,
    /// Kept as a sample only; never read for meaning.
    Refused,
    /// Read in upstream's event log, because no webhook told of it.
    Logged,
}

impl Verdict {
    pub const ALL: [Self; 4] = [Self::Signed, Self::Unsigned, Self::Refused, Self::Logged];

    pub fn name(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Unsigned => "unsigned",
            Self::Refused => "refused",
            Self::Logged => "logged",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verdict| verdict.name() == name)
    }
}

/// The most unsigned receipts kept for one job; further ones are answered 200 and counted.
pub const MAX_UNSIGNED_PER_JOB: i64 = 20;
/// The most refused deliveries kept as samples, newest last; all are counted.
pub const MAX_REFUSED_KEPT: i64 = 100;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub id: String,
    pub received_at: Millis,
    pub verdict: Verdict,
    /// The job whose own address was used.
    pub job_address: Option<String>,
    /// The live secret that signed it, or why none did.
    pub signed_by: Option<String>,
    pub path: String,
    pub remote: Option<String>,
    /// Chosen headers as a JSON object; the rest carries nothing about the event.
    pub headers: String,
    /// Exactly the bytes that arrived.
    pub body: Vec<u8>,
    pub note: Note,
}

/// What a receipt was taken to mean; empty until it was applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Note {
    pub applied_at: Option<Millis>,
    pub event_type: Option<String>,
    pub job_id: Option<String>,
    /// The upstream id it waits under while no job has it.
    pub parked_under: Option<String>,
    /// The other upstream id it names, if it names two.
    pub parked_also: Option<String>,
    /// What it did, or why it did nothing.
    pub meaning: Option<String>,
    /// The version of `heygen/wire` that read it.
    pub wire_version: Option<i64>,
}

impl Receipt {
    pub fn dedup_key(&self) -> [u8; 16] {
        dedup_key(self.verdict, self.job_address.as_deref(), &self.body)
    }
}

/// What makes two receipts the same: verdict, job address and bytes. Headers outside the signature
/// have no part in it, and an unsigned copy can never swallow a signed one.
///
/// Half of a SHA-256: two different receipts share it with a chance of 2^-64 after 2^32 of them.
pub fn dedup_key(verdict: Verdict, job_address: Option<&str>, body: &[u8]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(verdict.name());
    hash.update([0]);
    hash.update(job_address.unwrap_or(""));
    hash.update([0]);
    hash.update(body);
    let whole: [u8; 32] = hash.finalize().into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_verdict_address_and_bytes_count() {
        let key = dedup_key(Verdict::Signed, None, b"a");
        assert_eq!(key, dedup_key(Verdict::Signed, None, b"a"));
        assert_ne!(key, dedup_key(Verdict::Unsigned, None, b"a"));
        assert_ne!(key, dedup_key(Verdict::Signed, Some("job_1"), b"a"));
        assert_ne!(key, dedup_key(Verdict::Signed, None, b"b"));
        assert_ne!(dedup_key(Verdict::Signed, Some("a"), b"b"), dedup_key(Verdict::Signed, Some(""), b"ab"));
    }
}
