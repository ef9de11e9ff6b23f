//! What a run shows: a row for each promise with what was done to break it, the figures, and the
//! conditions they hold under. Decides only whether every promise was kept.

use serde_json::{Value, json};

use super::oracle::Verdict;
use crate::cli::output::{Fit, Output, Paint, cell, painted};
use crate::cli::{CliError, Exit, Result};
use crate::heygen::sandbox::{Entry, Fault, Stage, What};

/// Ids named in the error; the report has all.
const NAMED: usize = 5;

/// What is known of a run when it has ended.
pub struct Run {
    pub kills: usize,
    pub kills_wanted: usize,
    pub jobs: usize,
    /// Submits that were sent again because no answer came.
    pub repeated: usize,
    /// Kill to ready again, in milliseconds.
    pub recovery_ms: Vec<f64>,
    pub seconds: f64,
    pub verdict: Verdict,
    pub ledger: Vec<Entry>,
    /// Names and values, in the order they are shown.
    pub conditions: Vec<(&'static str, String)>,
}

struct Row<'a> {
    name: &'static str,
    promise: &'static str,
    fault: &'static str,
    n: usize,
    broken: &'a [String],
}

impl Run {
    fn rows(&self) -> [Row<'_>; 7] {
        let v = &self.verdict;
        let row = |name, promise, fault, n, broken| Row { name, promise, fault, n, broken };
        let given = |wanted: fn(&Fault) -> bool| {
            let with = |entry: &&Entry| match &entry.what {
                What::Accepted { faults, .. } => faults.iter().any(wanted),
                _ => false,
            };
            self.ledger.iter().filter(with).count()
        };
        [
            row(
                "lost_jobs",
                "A submit you saw accepted is never forgotten",
                "killed hard, under load",
                self.kills,
                &v.lost_jobs,
            ),
            row(
                "double_jobs",
                "One submit makes one job",
                "submits sent again, for want of an answer",
                self.repeated,
                &v.double_jobs,
            ),
            row(
                "paid_twice",
                "No job is paid for twice",
                "taken by HeyGen, and its answer lost or a 504",
                given(|f| f.stage() == Stage::Answer),
                &v.paid_twice,
            ),
            row(
                "lost_receipts",
                "A webhook that was answered 200 is never lost",
                "killed hard, while they arrive",
                self.kills,
                &v.lost_receipts,
            ),
            row(
                "stuck",
                "Every job comes to its end",
                "jobs whose webhook never came",
                given(|f| *f == Fault::Lost),
                &v.stuck,
            ),
            row(
                "wrong_final",
                "A job ends as it did at HeyGen, whoever says otherwise",
                "webhooks forged, unsigned or out of order",
                given(|f| matches!(f, Fault::Forged | Fault::Unsigned | Fault::Reorder)),
                &v.wrong_final,
            ),
            row(
                "not_told_once",
                "The end of a job is told once",
                "webhooks sent twice and three times",
                given(|f| *f == Fault::Double),
                &v.not_told_once,
            ),
        ]
    }

    pub fn is_kept(&self) -> bool {
        self.rows().iter().all(|row| row.broken.is_empty())
    }

    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "name": row.name, "promise": row.promise, "fault": row.fault, "n": row.n,
                "broken": row.broken.len(), "ids": row.broken,
            })
        };
        let (recovery, acks) = (Spread::of(self.recovery_ms.clone()), self.acks());
        json!({
            "kept": self.is_kept(),
            "promises": self.rows().iter().map(row).collect::<Vec<_>>(),
            "figures": {
                "kills": self.kills,
                "kills_wanted": self.kills_wanted,
                "jobs": self.jobs,
                "receipts": self.verdict.receipts,
                "recovery_ms": {"p50": recovery.p50, "max": recovery.max},
                "ack_ms": {"p50": acks.p50, "p99": acks.p99, "max": acks.max},
                "seconds": rounded(self.seconds),
            },
            "conditions": self.conditions.iter().map(|(k, v)| (k.replace(' ', "_"), json!(v)))
                .collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Table, figures and conditions, as wide as the terminal.
    pub fn text(&self, out: &Output) -> String {
        let columns = [
            ("PROMISE", Fit::Wrap),
            ("TRIED BY", Fit::Wrap),
            ("TIMES", Fit::Number),
            ("BROKEN", Fit::Number),
        ];
        let row = |row: &Row| {
            let paint = if row.broken.is_empty() { Paint::Good } else { Paint::Bad };
            let broken = painted(row.broken.len().to_string(), paint);
            vec![cell(row.promise), cell(row.fault), cell(row.n.to_string()), broken]
        };
        let table = out.table(&columns, self.rows().iter().map(row).collect());
        let (recovery, acks) = (Spread::of(self.recovery_ms.clone()), self.acks());
        let kills = match self.kills {
            n if n == self.kills_wanted => n.to_string(),
            n => format!("{n} of {}, for the time was up", self.kills_wanted),
        };
        let mut pairs = vec![
            ("kills", kills),
            ("recovery", format!("kill to ready again: p50 {} ms, max {} ms", recovery.p50, recovery.max)),
            ("jobs", format!("{} submitted, each compared with HeyGen's ledger", self.jobs)),
            (
                "webhooks",
                format!(
                    "{} answered 200: p50 {} ms, p99 {} ms, max {} ms",
                    self.verdict.receipts, acks.p50, acks.p99, acks.max
                ),
            ),
            ("took", format!("{:.0} s", self.seconds)),
        ];
        pairs.extend(self.conditions.iter().cloned());
        format!("{}\n\n{}", table.trim_end(), out.pairs(&pairs))
    }

    /// How long webhooks that were answered 2xx waited for it, as the sandbox saw it.
    fn acks(&self) -> Spread {
        let waited = self.ledger.iter().filter_map(|entry| match entry.what {
            What::Webhook { status: Some(200..=299), sent_at, .. } => Some((entry.at - sent_at) as f64),
            _ => None,
        });
        Spread::of(waited.collect())
    }

    /// Nothing when every promise was kept; else which were not, and whose.
    pub fn verdict(&self) -> Result<Exit> {
        let broken: Vec<String> = self.rows().iter().filter(|row| !row.broken.is_empty()).map(told).collect();
        if !broken.is_empty() {
            let why = format!("a promise was broken; {}", broken.join("; "));
            return Err(CliError::new(Exit::Failure, "cli_selftest_broken", why, None));
        }
        if self.jobs == 0 || self.verdict.receipts == 0 || self.kills == 0 {
            let why = format!(
                "nothing was proved: {} kills, {} jobs, {} webhooks answered",
                self.kills, self.jobs, self.verdict.receipts
            );
            return Err(CliError::new(Exit::Failure, "cli_selftest_idle", why, None));
        }
        Ok(Exit::Ok)
    }
}

fn told(row: &Row) -> String {
    let named = row.broken.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = row.broken.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{} {}: {named}{more}", row.name, row.broken.len())
}

#[derive(Debug, Default, PartialEq)]
struct Spread {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        let Some(last) = all.len().checked_sub(1) else { return Self::default() };
        // The least value that so many hundredths do not exceed.
        let at = |percent: usize| rounded(all[((last + 1) * percent).div_ceil(100).max(1) - 1]);
        Self { p50: at(50), p99: at(99), max: rounded(all[last]) }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(verdict: Verdict) -> Run {
        Run {
            kills: 2,
            kills_wanted: 2,
            jobs: 9,
            repeated: 1,
            recovery_ms: vec![20.0, 40.04],
            seconds: 3.0,
            verdict,
            ledger: vec![],
            conditions: vec![("file system", "ext4".to_owned())],
        }
    }

    #[test]
    fn whatever_is_broken_fails_the_run_and_is_named() {
        let kept = run(Verdict { receipts: 1, ..Verdict::default() });
        assert!(kept.is_kept() && kept.verdict().is_ok_and(|exit| exit == Exit::Ok));
        let ids: Vec<String> = (1..=7).map(|n| format!("job_{n}")).collect();
        let lists: [fn(&mut Verdict) -> &mut Vec<String>; 7] = [
            |v| &mut v.lost_jobs,
            |v| &mut v.double_jobs,
            |v| &mut v.paid_twice,
            |v| &mut v.lost_receipts,
            |v| &mut v.stuck,
            |v| &mut v.wrong_final,
            |v| &mut v.not_told_once,
        ];
        for (nth, list) in lists.iter().enumerate() {
            let mut verdict = Verdict { receipts: 1, ..Verdict::default() };
            list(&mut verdict).clone_from(&ids);
            let broken = run(verdict);
            let rows = &broken.json()["promises"];
            let counts: Vec<u64> = (0..7).filter_map(|row| rows[row]["broken"].as_u64()).collect();
            assert!(counts.iter().enumerate().all(|(row, n)| *n == if row == nth { 7 } else { 0 }), "{rows}");
            let e = broken.verdict().unwrap_err();
            let detail = e.problem["detail"].as_str().unwrap();
            let name = rows[nth]["name"].as_str().unwrap();
            let told = format!("{name} 7: job_1, job_2, job_3, job_4, job_5 and 2 more");
            assert!(e.exit == Exit::Failure && detail.ends_with(&told) && !broken.is_kept(), "{detail}");
        }
    }

    #[test]
    fn a_run_in_which_nothing_happened_proves_nothing() {
        for (kills, jobs, receipts) in [(0, 9, 1), (2, 0, 1), (2, 9, 0)] {
            let idle = Run { kills, jobs, ..run(Verdict { receipts, ..Verdict::default() }) };
            assert_eq!(idle.verdict().unwrap_err().problem["code"], "cli_selftest_idle");
        }
    }

    #[test]
    fn figures_are_shown_as_numbers() {
        let json = run(Verdict::default()).json();
        assert_eq!(json["figures"]["recovery_ms"], json!({"p50": 20.0, "max": 40.0}));
        assert_eq!(json["conditions"]["file_system"], "ext4");
    }

    #[test]
    fn a_spread_is_of_values_that_were_there() {
        assert_eq!(Spread::of(vec![]), Spread::default());
        assert_eq!(Spread::of(vec![7.0]), Spread { p50: 7.0, p99: 7.0, max: 7.0 });
        let hundred = (1..=100).rev().map(f64::from).collect();
        assert_eq!(Spread::of(hundred), Spread { p50: 50.0, p99: 99.0, max: 100.0 });
    }
}
