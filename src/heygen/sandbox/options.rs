//! How a sandbox is set up. Plain values with defaults that mirror what is known of HeyGen;
//! never reads the environment or a file itself.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Fault;
use crate::clock::Clock;

pub struct Options {
    pub clock: Clock,
    /// Decides rolled faults and how long jobs take. Ids and secrets repeat only with a
    /// manual clock: a sandbox started twice must not give one id to two jobs.
    pub seed: u64,
    /// Own address, for the links to files.
    pub base_url: String,
    /// The one key that is accepted; `None` accepts any that is not empty.
    pub api_key: Option<String>,
    /// Unfinished jobs over all kinds before 429.
    pub concurrency: usize,
    /// Credits in the wallet; each job costs [`super::PRICE`].
    pub balance: f64,
    /// How long a job takes, in milliseconds.
    pub render: RangeInclusive<u64>,
    /// How long a link to a file lives.
    pub link_life: Duration,
    /// Wait before the second delivery of a webhook; it doubles each time, up to one hour.
    pub retry_base: Duration,
    /// Faults by chance, each 0.0 to 1.0 per job.
    pub faults: Vec<(Fault, f64)>,
    /// Where to append the ledger, one JSON object per line, synced before each answer.
    pub ledger_file: Option<PathBuf>,
}

impl Options {
    pub fn new(clock: Clock, base_url: impl Into<String>) -> Self {
        Self {
            clock,
            seed: 1,
            base_url: base_url.into().trim_end_matches('/').to_owned(),
            api_key: None,
            concurrency: 10,
            balance: 1_000.0,
            render: 4_000..=9_000,
            link_life: Duration::from_secs(7 * 24 * 3600),
            retry_base: Duration::from_secs(2),
            faults: Vec::new(),
            ledger_file: None,
        }
    }
}
