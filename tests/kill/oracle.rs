//! The selftest's comparison, as the lines of the promises have it.

use std::collections::HashSet;

use reelhook::cli::selftest::client::Refused;
pub use reelhook::cli::selftest::oracle::digest;
use reelhook::cli::selftest::oracle::{self, Verdict};
use reelhook::heygen::sandbox::Entry;

use crate::ground::{Ground, PATIENCE};
use crate::server::Client;

/// What must be zero.
pub fn zeros(v: &Verdict) -> [(&'static str, usize); 7] {
    [
        ("lost_jobs", v.lost_jobs.len()),
        ("stuck", v.stuck.len()),
        ("double_jobs", v.double_jobs.len()),
        ("paid_twice", v.paid_twice.len()),
        ("lost_events", v.lost_receipts.len()),
        ("wrong_final", v.wrong_final.len()),
        ("ends_not_told_once", v.not_told_once.len()),
    ]
}

/// Waits for every job's end over the API, then compares the sets.
pub async fn compare(ground: &Ground, jobs: &[String]) -> Verdict {
    compare_by(ground, jobs, |ledger| ledger).await
}

/// The same, with the ledger as it is to be read.
pub async fn compare_by(
    ground: &Ground,
    jobs: &[String],
    read: impl FnOnce(Vec<Entry>) -> Vec<Entry>,
) -> Verdict {
    let ledger = || Ok::<_, Refused>(read(ground.ledger()));
    oracle::compare(&ground.client, jobs, PATIENCE, ledger).await.unwrap().0
}

/// The digest of each of the signed receipts in the store.
pub async fn kept(client: &Client) -> HashSet<String> {
    oracle::kept(client).await.unwrap()
}
