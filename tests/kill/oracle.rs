//! The selftest's comparison, as the lines of the promises have it.

use std::collections::HashSet;

use reelhook::cli::selftest::client::Refused;
pub use reelhook::cli::selftest::oracle::digest;
use reelhook::cli::selftest::oracle::{self, Verdict};

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
        ("dup_effects", v.dup_effects.len()),
    ]
}

/// Waits for every job's end over the API, then compares the sets.
pub async fn compare(ground: &Ground, jobs: &[String]) -> Verdict {
    let ledger = || Ok::<_, Refused>(ground.ledger());
    oracle::compare(&ground.client, jobs, PATIENCE, ledger).await.unwrap().0
}

/// The digest of each of the signed receipts in the store.
pub async fn kept(client: &Client) -> HashSet<String> {
    oracle::kept(client).await.unwrap()
}
