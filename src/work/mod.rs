//! The runner, and one file per kind of task. Work knows the network and the store; it decides
//! nothing about jobs, which is for `domain::step` alone.

mod account;
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
use crate::domain::job::{Job, State};
use crate::domain::limit::Answer;
use crate::domain::pause::Reason;
use crate::domain::step::Input;
use crate::domain::task::{Claimed, Outcome};
use crate::domain::time::Millis;
use crate::fail::{FailPoints, Point};
use crate::flow::{self, Changed, Stamp};
use crate::heygen::client::Heygen;
use crate::heygen::fault::Fault;
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

    /// What an answer to a call begun at `sent_at` says about sending more.
    fn lesson(&self, fault: &Fault, sent_at: Millis) -> Option<Lesson> {
        let answer = match fault {
            Fault::NotSent { .. } => Answer::NotSent,
            Fault::TooMany { after, .. } => Answer::TooMany { after: *after },
            Fault::Blocked { by, .. } => Answer::Blocked(*by),
            Fault::Wait { .. } | Fault::Refused(_) | Fault::NotFound(_) | Fault::Unknown { .. } => {
                Answer::Other
            }
        };
        Some(Lesson { answer, sent_at, jitter: self.jitter() })
    }

    /// Ends a run: its outcome, what it found out, and what follows for sending.
    async fn conclude(&self, end: End) -> store::Result<()> {
        let stamp = self.stamp();
        let (found, before, after) = self.db.write_behind(move |tx| end.record(tx, &stamp)).await?;
        self.fail.at(Point::RunStored).await;
        tell_pause(before, after);
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
    input: Option<Input>,
    /// What upstream's answer says about sending more.
    lesson: Option<Lesson>,
}

/// An answer of upstream to what was sent at `sent_at`.
#[derive(Clone, Copy)]
struct Lesson {
    answer: Answer,
    sent_at: Millis,
    jitter: f64,
}

impl End {
    fn of(task: Claimed, outcome: Outcome) -> Self {
        Self { task, outcome, input: None, lesson: None }
    }

    fn saying(self, input: Input) -> Self {
        Self { input: Some(input), ..self }
    }

    /// The upstream limit is locked before anything else, as everywhere.
    fn record(&self, tx: &mut Tx, stamp: &Stamp) -> store::Result<Recorded> {
        let uncounts = matches!(self.input, Some(Input::NotAccepted { .. } | Input::Refused(_)));
        if self.lesson.is_none() && !uncounts {
            let found = flow::conclude(tx, &self.task, &self.outcome, self.input.as_ref(), stamp)?;
            return Ok((found, None, None));
        }
        let mut limit = upstream_limit::lock(tx)?;
        let before = limit.pause.as_ref().map(|pause| pause.reason);
        if let Some(Lesson { answer, sent_at, jitter }) = self.lesson {
            let others = upstream_limit::slots_of_others(tx, &self.task.subject, stamp.now)?;
            let looked_up = limit.wants_look();
            limit.learn(answer, others, sent_at, jitter, stamp.now);
            if limit.wants_look() && !looked_up {
                account::add(tx, stamp.now)?;
            }
        }
        let found = flow::conclude(tx, &self.task, &self.outcome, self.input.as_ref(), stamp)?;
        // A job that waits again has forgotten when it was sent.
        let sent_at = |job: &Job| job.details.sent_at.or(self.lesson.map(|lesson| lesson.sent_at));
        if let Some(Changed::Ok(job)) = found.as_ref().filter(|_| uncounts)
            && matches!(job.state, State::Queued | State::Failed)
            && let Some(sent_at) = sent_at(job)
        {
            limit.uncount(sent_at);
        }
        upstream_limit::put(tx, &limit)?;
        Ok((found, before, limit.pause.map(|pause| pause.reason)))
    }
}

/// What became of the job, and why submission was paused before and is after.
type Recorded = (Option<Changed>, Option<Reason>, Option<Reason>);

/// One log line for a pause that began or ended.
fn tell_pause(before: Option<Reason>, after: Option<Reason>) {
    match (before, after) {
        (before, Some(reason)) if before != after => {
            tracing::warn!(reason = reason.name(), fix = reason.fix(), "submission is paused");
        }
        (Some(reason), None) => tracing::info!(reason = reason.name(), "submission goes on"),
        _ => {}
    }
}
