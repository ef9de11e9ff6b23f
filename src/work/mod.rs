//! The runner, and one file per kind of task. Work knows the network and the store; it decides
//! nothing about jobs, which is for `domain::step` alone.

mod account;
mod apply;
mod budget;
mod deadline;
mod deliver;
mod event_log;
mod poll;
mod replay;
mod runner;
mod submit;
pub mod time;
pub mod upkeep;

use std::sync::Arc;

pub use budget::Budget;
pub use runner::Runner;

use crate::clock::Clock;
use crate::domain::address::Addresses;
use crate::domain::event_log::DUTY as EVENT_LOG;
use crate::domain::job::{Job, Kind, State};
use crate::domain::limit::{Answer, Limit};
use crate::domain::outage::{Outage, WORTH_TELLING};
use crate::domain::pause::Reason;
use crate::domain::step::Input;
use crate::domain::task::{Claimed, Outcome, TaskKind, TaskOp};
use crate::domain::time::{Millis, SECOND};
use crate::fail::{FailPoints, Point};
use crate::flow::{self, Changed, Stamp};
use crate::heygen::client::Heygen;
use crate::heygen::fault::Fault;
use crate::heygen::kinds::{self, Repeat};
use crate::metrics::Metrics;
use crate::net::Client;
use crate::store::{self, Db, Tx, task, upstream_limit};

/// A store that is away is tried again after this long.
const STORE_AGAIN: Millis = SECOND;

/// What every run needs; cheap to clone.
#[derive(Clone)]
pub struct Work(Arc<Inner>);

pub struct Inner {
    pub db: Db,
    pub clock: Clock,
    pub heygen: Heygen,
    /// What stands for its key, and for where it is.
    pub account: String,
    /// For addresses that callers chose.
    pub receivers: Client,
    /// HeyGen's, from the settings.
    pub webhook_secrets: Vec<String>,
    pub metrics: Metrics,
    pub addresses: Addresses,
    /// Of HeyGen's API.
    pub outage: Outage,
    /// Of asking how jobs stand.
    pub budget: Budget,
    /// Held by whoever sends what must not be sent twice (`Repeat::Never`).
    pub unrepeatable: tokio::sync::Mutex<()>,
    /// Whether a webhook about somebody else's job makes it ours, and what it is given then.
    pub adoption: Option<flow::Terms>,
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

    /// Counts a call upstream by its outcome. One that ends an outage lets all others go; after a long
    /// one the event log is read: what was to be told meanwhile may never have been.
    async fn called<T>(&self, call: &'static str, outcome: &Result<T, Fault>) {
        self.metrics.called(call, if outcome.is_ok() { "ok" } else { "fault" });
        let now = self.clock.now();
        let works = !matches!(outcome, Err(Fault::NotSent { .. } | Fault::Unknown { .. }));
        let Some(lasted) = self.outage.note(works, now) else { return };
        let long = lasted >= WORTH_TELLING;
        if long {
            tracing::info!(lasted_s = lasted / SECOND, "HeyGen answers again");
        }
        let write = move |tx: &mut Tx| {
            let mut limit = upstream_limit::lock(tx)?;
            if limit.answered() {
                upstream_limit::put(tx, &limit)?;
            }
            if long { task::apply(tx, EVENT_LOG, TaskOp::Hasten(TaskKind::Upkeep, now)) } else { Ok(()) }
        };
        // What the call found out must be recorded whatever becomes of this.
        if let Err(e) = self.db.write_behind(write).await {
            tracing::warn!(error = %e, "that HeyGen answers again is not recorded");
        }
    }

    /// What an answer to a create call begun at `sent_at` says about sending more.
    fn lesson(&self, fault: &Fault, kind: Kind, sent_at: Millis) -> Option<Lesson> {
        let answer = match fault {
            Fault::NotSent { .. } => Answer::NotSent,
            Fault::TooMany { after, .. } => Answer::TooMany { after: *after },
            Fault::Blocked { by, .. } => Answer::Blocked(*by),
            Fault::Unknown { .. } => {
                Answer::Unanswered { repeats: kinds::route(kind).repeat != Repeat::Never }
            }
            Fault::Wait { .. } | Fault::Refused { .. } | Fault::NotFound(_) => Answer::Other,
        };
        Some(Lesson { answer, sent_at, jitter: self.jitter() })
    }

    /// The same of a call that only asks: what concerns every job. It holds no submit up, as long as
    /// there are others that upstream answers.
    fn lesson_of_ask(&self, fault: &Fault) -> Option<Lesson> {
        let answer = match fault {
            Fault::NotSent { .. } | Fault::Unknown { .. } => Answer::AskUnanswered,
            Fault::Blocked { by, .. } => Answer::Blocked(*by),
            _ => return None,
        };
        Some(Lesson { answer, sent_at: self.clock.now(), jitter: self.jitter() })
    }

    /// Writes how a run ended. It may have been paid for, so a store that is away for a while is waited
    /// for as long as the lease lasts.
    async fn record<T: Send + 'static>(
        &self,
        lease_until: Millis,
        write: impl Fn(&mut Tx) -> store::Result<T> + Send + Sync + 'static,
    ) -> store::Result<T> {
        let write = Arc::new(write);
        loop {
            let again = write.clone();
            match self.db.write_behind(move |tx| again(tx)).await {
                Err(e) if e.may_pass() && self.clock.now() + STORE_AGAIN < lease_until => {
                    tracing::warn!(error = %e, "the end of a run waits to be written");
                    self.clock.sleep_until(self.clock.now() + STORE_AGAIN).await;
                }
                done => return done,
            }
        }
    }

    /// Ends a run: its outcome, what it found out, and what follows for sending.
    async fn conclude(&self, end: End) -> store::Result<()> {
        let (stamp, lease_until) = (self.stamp(), end.task.lease_until);
        let write = move |tx: &mut Tx| end.record(tx, &stamp);
        let (found, before, after) = self.record(lease_until, write).await?;
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

    /// The same for several runs that were about one job each, in the order of their jobs: whoever
    /// takes the same rows takes them in this order, too.
    async fn conclude_many(&self, mut ends: Vec<End>) -> store::Result<()> {
        ends.sort_by(|a, b| a.task.subject.cmp(&b.task.subject));
        let stamp = self.stamp();
        let write = move |tx: &mut Tx| {
            let mut reasons = (None, None);
            if ends.iter().any(|end| end.lesson.is_some()) {
                let mut limit = upstream_limit::lock(tx)?;
                reasons.0 = limit.pause.as_ref().map(|pause| pause.reason);
                ends.iter().try_for_each(|end| end.teach(tx, &mut limit, &stamp))?;
                reasons.1 = limit.pause.as_ref().map(|pause| pause.reason);
                upstream_limit::put(tx, &limit)?;
            }
            let all: Vec<_> = ends.iter().map(|end| (&end.task, &end.outcome, end.input.as_ref())).collect();
            Ok((flow::conclude_many(tx, &all, &stamp)?, reasons))
        };
        let ((jobs, lost), (before, after)) = self.db.write_behind(write).await?;
        tell_pause(before, after);
        self.metrics.stale_finishes.inc_by(lost as u64);
        jobs.iter().for_each(|job| self.tell(job));
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

    /// The lesson, if there is one, changes what is sent from now on.
    fn teach(&self, tx: &mut Tx, limit: &mut Limit, stamp: &Stamp) -> store::Result<()> {
        let Some(Lesson { answer, sent_at, jitter }) = self.lesson else { return Ok(()) };
        let others = upstream_limit::slots_of_others(tx, &self.task.subject, stamp.now)?;
        let looked_up = limit.wants_look();
        limit.learn(answer, others, sent_at, jitter, stamp.now);
        if limit.wants_look() && !looked_up {
            account::add(tx, stamp.now)?;
        }
        Ok(())
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
        self.teach(tx, &mut limit, stamp)?;
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
