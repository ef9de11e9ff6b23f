//! The webhook address of a single job: its id and a part that only we can make.
//!
//! Nothing is stored for it, so a crash cannot lose it and a copy of the job table does not tell it.

use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::signature;

/// The webhook addresses of single jobs: a job's id and a part that only we can make.
#[derive(Clone)]
pub struct Addresses {
    public_url: Option<String>,
    key: Arc<str>,
}

/// Hex digits of the unguessable part: 128 bits.
const MARK_DIGITS: usize = 32;

impl Addresses {
    pub fn new(public_url: Option<String>, key: &str) -> Self {
        Self { public_url, key: key.into() }
    }

    /// The part of the path behind `/webhooks/heygen/` that belongs to this job.
    pub fn mark(&self, job_id: &str) -> String {
        let mac = signature::sign(&self.key, job_id.as_bytes());
        format!("{job_id}.{}", &mac[..MARK_DIGITS])
    }

    /// The job a part of a path belongs to, in constant time for any of the right length.
    pub fn job_of(&self, mark: &str) -> Option<String> {
        let (job_id, _) = mark.split_once('.')?;
        let right: bool = self.mark(job_id).as_bytes().ct_eq(mark.as_bytes()).into();
        right.then(|| job_id.to_owned())
    }

    /// The whole address; none while nobody outside can reach us.
    pub fn of_job(&self, job_id: &str) -> Option<String> {
        let base = self.public_url.as_deref()?;
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
}
