//! Counts of a run: answers by status, faults by words, and latencies in a histogram of fixed size,
//! so that a run of any length takes no memory. Off by less than 1 % at every quantile.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// Each power of two is cut into so many buckets.
const CUTS: u64 = 128;
const BUCKETS: usize = 40 * CUTS as usize;

#[derive(Debug, Clone)]
pub struct Tally {
    by_status: BTreeMap<u16, u64>,
    by_fault: BTreeMap<String, u64>,
    buckets: Vec<u64>,
    answers: u64,
    max: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            by_status: BTreeMap::new(),
            by_fault: BTreeMap::new(),
            buckets: vec![0; BUCKETS],
            answers: 0,
            max: Duration::ZERO,
        }
    }
}

fn bucket(us: u64) -> usize {
    let shift = (u64::BITS - us.leading_zeros()).saturating_sub(CUTS.trailing_zeros() + 1);
    let nth = u64::from(shift) * CUTS + (us >> shift);
    usize::try_from(nth).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The middle of a bucket, in microseconds.
fn middle(nth: usize) -> f64 {
    let nth = nth as u64;
    let shift = (nth / CUTS).saturating_sub(1);
    let low = (nth - shift * CUTS) << shift;
    low as f64 + ((1u64 << shift) - 1) as f64 / 2.0
}

impl Tally {
    pub fn answered(&mut self, status: u16, latency: Duration) {
        *self.by_status.entry(status).or_default() += 1;
        self.buckets[bucket(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX))] += 1;
        self.answers += 1;
        self.max = self.max.max(latency);
    }

    pub fn failed(&mut self, why: &str) {
        *self.by_fault.entry(why.to_owned()).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (status, count) in &other.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
        for (why, count) in &other.by_fault {
            *self.by_fault.entry(why.clone()).or_default() += count;
        }
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(a, b)| *a += b);
        self.answers += other.answers;
        self.max = self.max.max(other.max);
    }

    pub fn answers(&self) -> u64 {
        self.answers
    }

    pub fn faults(&self) -> u64 {
        self.by_fault.values().sum()
    }

    pub fn sent(&self) -> u64 {
        self.answers + self.faults()
    }

    pub fn statuses(&self) -> impl Iterator<Item = (u16, u64)> {
        self.by_status.iter().map(|(status, count)| (*status, *count))
    }

    pub fn fault_words(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_fault.iter().map(|(why, count)| (why.as_str(), *count))
    }

    /// Milliseconds below which `share` of the answers came.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let wanted = ((self.answers as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (nth, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return (middle(nth) / 1_000.0).min(self.max_ms());
            }
        }
        0.0
    }

    pub fn max_ms(&self) -> f64 {
        self.max.as_secs_f64() * 1_000.0
    }

    pub fn json(&self, seconds: f64) -> Value {
        let round = |ms: f64| json!((ms * 1_000.0).round() / 1_000.0);
        let by_status: BTreeMap<String, u64> = self.statuses().map(|(s, n)| (s.to_string(), n)).collect();
        let latency = (self.answers > 0).then(|| {
            json!({
                "p50": round(self.quantile_ms(0.50)),
                "p90": round(self.quantile_ms(0.90)),
                "p99": round(self.quantile_ms(0.99)),
                "p999": round(self.quantile_ms(0.999)),
                "max": round(self.max_ms()),
            })
        });
        json!({
            "sent": self.sent(),
            "by_status": by_status,
            "faults": self.by_fault,
            "seconds": round(seconds),
            "per_second": if seconds > 0.0 { json!((self.answers as f64 / seconds).round()) } else { Value::Null },
            "latency_ms": latency,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_within_a_hundredth() {
        let mut tally = Tally::default();
        for us in 1..=100_000u64 {
            tally.answered(200, Duration::from_micros(us));
        }
        for (share, ms) in [(0.5, 50.0), (0.9, 90.0), (0.99, 99.0), (0.999, 99.9)] {
            let found = tally.quantile_ms(share);
            assert!((found - ms).abs() / ms < 0.01, "{share}: {found}");
        }
        assert_eq!(tally.max_ms(), 100.0);
        assert_eq!(Tally::default().quantile_ms(0.5), 0.0);
    }

    #[test]
    fn small_and_huge_values_have_their_buckets() {
        let mut last = 0;
        for us in [0, 1, 127, 128, 255, 256, 1 << 20, 1 << 40, u64::MAX] {
            assert!(bucket(us) >= last && bucket(us) < BUCKETS);
            last = bucket(us);
        }
        for us in [5u64, 200, 3_000, 1_000_000] {
            let found = middle(bucket(us));
            assert!((found - us as f64).abs() / us as f64 <= 0.01, "{us}: {found}");
        }
    }
}
