//! The runner, and one file per kind of task. Work knows the network and the store; it decides
//! nothing about jobs, which is for `domain::step` alone.

mod apply;
mod deadline;
mod poll;
mod runner;
mod submit;
pub mod upkeep;

use std::sync::Arc;

pub use runner::Runner;

use crate::clock::Clock;
use crate::domain::address::Addresses;
use crate::domain::job::Job;
use crate::domain::task::{Claimed, Outcome};
use crate::fail::{FailPoints, Point};
use crate::flow::{self, Changed, Stamp};
use crate::heygen::client::Heygen;
use crate::heygen::fault::{Blocked, Fault};
use crate::metrics::Metrics;
use crate::store::{self, Db, Tx, upstream_limit};

/// What every run needs; cheap to clone.
#[derive(Clone)]
pub struct Work(Arc<Inner>);

pub struct Inner {
    pub db: Db,
    pub clock: Clock,
    pub heygen: Heygen,
    pub metrics: Metrics,
    pub addresses: Addresses,
    pub fail: FailPoints,
}

impl std::ops::Deref for Work {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Work {
    pub fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    fn stamp(&self) -> Stamp {
        Stamp::new(self.clock.now(), self.clock.random())
    }

    /// Jitter for pauses, so that what failed together does not come back together.
    fn jitter(&self) -> f64 {
        self.clock.factor(0.8, 1.2)
    }

    /// Ends a run: its outcome, what it found out, and a pause of submission if it met one.
    async fn conclude(&self, end: End) -> store::Result<()> {
        let stamp = self.stamp();
        let found = self.db.write_behind(move |tx| end.record(tx, &stamp)).await?;
        self.fail.at(Point::RunStored).await;
        match found {
            None => {
                self.metrics.stale_finishes.inc();
            }
            Some(Changed::Ok(job)) => self.tell(&job),
            Some(_) => {}
        }
        Ok(())
    }

    /// One log line and one count for a job that has just ended.
    fn tell(&self, job: &Job) {
        if job.finished_at != Some(job.updated_at) || !job.state.is_terminal() {
            return;
        }
        let found_by = job.details.found_by.map_or("unknown", |by| by.name());
        self.metrics.finished(job.state.name(), found_by);
        let upstream_id = job.upstream_id.as_deref().unwrap_or("-");
        let why = job.details.failure.as_ref().map_or("", |f| f.message.as_str());
        tracing::info!(job_id = %job.id, upstream_id, found_by, why, "job {}", job.state.name());
    }
}

/// The end of a run, recorded in one transaction.
struct End {
    task: Claimed,
    outcome: Outcome,
    input: Option<crate::domain::step::Input>,
    /// Upstream takes nothing from us: until when, and why.
    pause: Option<(i64, &'static str)>,
    /// Upstream took something from us: a pause is over.
    resume: bool,
}

impl End {
    fn of(task: Claimed, outcome: Outcome) -> Self {
        Self { task, outcome, input: None, pause: None, resume: false }
    }

    fn saying(self, input: crate::domain::step::Input) -> Self {
        Self { input: Some(input), ..self }
    }

    fn record(&self, tx: &mut Tx, stamp: &Stamp) -> store::Result<Option<Changed>> {
        if let Some((until, reason)) = self.pause {
            upstream_limit::pause(tx, reason, stamp.now, until)?;
        }
        if self.resume {
            upstream_limit::resume(tx)?;
        }
        flow::conclude(tx, &self.task, &self.outcome, self.input.as_ref(), stamp)
    }
}

/// The pause a fault asks for, if it concerns every job.
fn pause_for(fault: &Fault, now: i64) -> Option<(i64, &'static str)> {
    use crate::domain::time::MINUTE;
    match fault {
        Fault::Blocked { by: Blocked::Address, .. } => Some((now + MINUTE, Blocked::Address.name())),
        Fault::Blocked { by, .. } => Some((now + 5 * MINUTE, by.name())),
        _ => None,
    }
}
