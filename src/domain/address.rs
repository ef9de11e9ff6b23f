//! What only we can make for a single job: its webhook address, and link tokens, by which a browser may see it for a
//! few minutes.
//!
//! Nothing is stored for them, so a crash cannot lose them and a copy of the job table does not tell them.

use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::signature;
use super::time::{MINUTE, Millis, SECOND};

/// How long a link token lives unless the caller says otherwise, and at most.
pub const LINK_LIFE: Millis = 15 * MINUTE;
pub const MAX_LINK_LIFE: Millis = 60 * MINUTE;

/// Why a link token does not open a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEntry {
    NotOurs,
    OfAnother,
    Expired,
}

/// Makes and judges them.
#[derive(Clone)]
pub struct Addresses {
    hooks_url: Option<String>,
    key: Arc<str>,
}

/// Hex digits of the unguessable part: 128 bits.
const MARK_DIGITS: usize = 32;
/// 32 bits: of a few stores that were ever at one address.
const LOG_NAME_DIGITS: usize = 8;

impl Addresses {
    pub fn new(hooks_url: Option<String>, key: &str) -> Self {
        Self { hooks_url, key: key.into() }
    }

    /// The part of the path behind `/webhooks/heygen/` that belongs to this job.
    pub fn mark(&self, job_id: &str) -> String {
        let mac = signature::sign(&self.key, job_id.as_bytes());
        format!("{job_id}.{}", &mac[..MARK_DIGITS])
    }

    /// Tells the event log of this store from that of any other.
    pub fn log_name(&self) -> String {
        signature::sign(&self.key, b"event log")[..LOG_NAME_DIGITS].to_owned()
    }

    /// The job a part of a path belongs to, in constant time for any of the right length.
    pub fn job_of(&self, mark: &str) -> Option<String> {
        let (job_id, _) = mark.split_once('.')?;
        let right: bool = self.mark(job_id).as_bytes().ct_eq(mark.as_bytes()).into();
        right.then(|| job_id.to_owned())
    }

    /// A token that opens this job until then, in whole seconds, and when that is.
    pub fn link_token(&self, job_id: &str, until: Millis) -> (String, Millis) {
        let until_s = until.div_euclid(SECOND);
        let says = format!("{job_id}.{until_s}");
        (format!("{says}.{}", self.seal(&says)), until_s * SECOND)
    }

    /// Until when the token opens this job; in constant time for any forged one of the right length.
    pub fn opens(&self, token: &str, job_id: &str, now: Millis) -> Result<Millis, NoEntry> {
        let (says, seal) = token.rsplit_once('.').ok_or(NoEntry::NotOurs)?;
        let right: bool = self.seal(says).as_bytes().ct_eq(seal.as_bytes()).into();
        let (of, until_s) = says.split_once('.').filter(|_| right).ok_or(NoEntry::NotOurs)?;
        let until = until_s.parse::<i64>().map_err(|_| NoEntry::NotOurs)? * SECOND;
        match () {
            () if of != job_id => Err(NoEntry::OfAnother),
            () if now >= until => Err(NoEntry::Expired),
            () => Ok(until),
        }
    }

    /// With a word before it, so that it is never that of an address.
    fn seal(&self, says: &str) -> String {
        let mac = signature::sign(&self.key, format!("link {says}").as_bytes());
        mac[..MARK_DIGITS].to_owned()
    }

    /// The whole address; none while nobody outside can reach us.
    pub fn of_job(&self, job_id: &str) -> Option<String> {
        let base = self.hooks_url.as_deref()?;
        Some(format!("{base}/webhooks/heygen/{}", self.mark(job_id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_one_job() {
        let addresses = Addresses::new(Some("https://x".to_owned()), "key");
        let mark = addresses.mark("job_1");
        assert_eq!(addresses.job_of(&mark).as_deref(), Some("job_1"));
        assert_eq!(addresses.job_of(&mark.replace("job_1", "job_2")), None);
        assert_eq!(addresses.job_of("job_1.00000000000000000000000000000000"), None);
        assert_eq!(addresses.job_of("job_1"), None);
        assert_eq!(Addresses::new(None, "other").job_of(&mark), None);
        assert!(addresses.of_job("job_1").unwrap().starts_with("https://x/webhooks/heygen/job_1."));
    }

    #[test]
    fn a_link_token_opens_one_job_until_its_second() {
        let addresses = Addresses::new(None, "key");
        let (token, until) = addresses.link_token("job_1", 5_999);
        assert_eq!(until, 5_000);
        assert_eq!(addresses.opens(&token, "job_1", 4_999), Ok(5_000));
        assert_eq!(addresses.opens(&token, "job_1", 5_000), Err(NoEntry::Expired));
        assert_eq!(addresses.opens(&token, "job_2", 0), Err(NoEntry::OfAnother));
        let forged = [
            token.replace(".5.", ".9."),
            token.replace("job_1", "job_2"),
            token[..token.len() - 1].to_owned(),
            format!("job_1.5.{}", addresses.mark("job_1.5").rsplit_once('.').unwrap().1),
            "job_1.5".to_owned(),
            String::new(),
        ];
        for forged in forged {
            assert_eq!(addresses.opens(&forged, "job_2", 0), Err(NoEntry::NotOurs), "{forged}");
        }
        assert_eq!(Addresses::new(None, "other").opens(&token, "job_1", 0), Err(NoEntry::NotOurs));
    }
}
