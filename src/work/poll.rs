//! Asks upstream how jobs stand: up to a hundred in one call where it has a route for that. Such an
//! answer is believed only where it says that a job goes on; everything else is asked singly, in the
//! lane `ask`. What can be asked for together is asked for at whole multiples of a pause, so that it comes due
//! together. Intervals widen with age; the deadline ends them.

use std::collections::{BTreeMap, HashMap};

use super::{End, Lesson, Work};
use crate::domain::job::{FoundBy, Job, Kind, Observation, Says};
use crate::domain::limit::Answer;
use crate::domain::pause::Reason;
use crate::domain::retry::{nearest_beat, next_beat, poll_pause};
use crate::domain::step::{Input, LAST_LOOK, next_ask};
use crate::domain::task::{Claimed, Lane, Outcome};
use crate::domain::time::{MINUTE, Millis, SECOND};
use crate::fail::Point;
use crate::heygen::client::MOST_STATUSES;
use crate::heygen::failure::is_lack_of_credit;
use crate::heygen::fault::Fault;
use crate::heygen::kinds;
use crate::store::{self, job};

/// Tasks of one run: what fits into one call of each kind.
pub(super) const BATCH: usize = MOST_STATUSES;
/// So often a job that has ended is asked for, if there is no answer.
const TRIES_AFTER_END: i64 = 3;
/// Calls one poll may need.
pub(super) const MOST_CALLS: usize = 2;
/// Pause after a 429 that names none.
const BUSY_PAUSE: Millis = 30 * SECOND;
/// Due before everything else that waits in its lane.
const FIRST: Millis = 0;

/// Polls that came due together.
pub(super) async fn run_many(work: &Work, tasks: Vec<Claimed>) -> store::Result<()> {
    let ids: Vec<String> = tasks.iter().map(|task| task.subject.clone()).collect();
    let read =
        move |tx: &mut store::Tx| job::find_many(tx, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let mut jobs: HashMap<String, Job> =
        work.db.read(read).await?.into_iter().map(|job| (job.id.clone(), job)).collect();
    let now = work.clock.now();
    let mut ends = vec![];
    let mut together: BTreeMap<Kind, Vec<(Claimed, Job)>> = BTreeMap::new();
    for task in tasks {
        match jobs.remove(&task.subject).filter(is_asked_for) {
            None => ends.push(End::of(task, Outcome::Done)),
            Some(job) if is_urgent(&job, now) => ends.push(singly(task, FIRST)),
            Some(job) if job.state.is_terminal() || kinds::route(job.kind).statuses.is_none() => {
                ends.push(alone(task));
            }
            Some(job) if task.due_at < beat_of(&job, &task) => {
                let until = beat_of(&job, &task);
                ends.push(End::of(task, Outcome::Snooze { until, lane: None }));
            }
            Some(job) => together.entry(job.kind).or_default().push((task, job)),
        }
    }
    let calls = together.into_iter().map(|(kind, asked)| ask_together(work, kind, asked));
    for answered in futures_util::future::join_all(calls).await {
        ends.extend(answered);
    }
    work.conclude_many(ends).await
}

/// When a job is asked for that others can be asked for with.
fn beat_of(job: &Job, task: &Claimed) -> Millis {
    next_beat(task.due_at, job.details.least_poll_ms)
}

fn is_asked_for(job: &Job) -> bool {
    job.upstream_id.is_some() && (!job.state.is_terminal() || job.details.refresh_asked)
}

/// Somebody waits for the outcome, or it is the last look before the deadline. What has ended and only
/// wants its links never goes before that.
fn is_urgent(job: &Job, now: Millis) -> bool {
    let d = &job.details;
    let asked_since = |at| d.asked.last_at.is_some_and(|asked| asked > at);
    let hinted = d.hinted_at.is_some_and(|at| at <= now && !asked_since(at));
    let is_open = !job.state.is_terminal();
    is_open && (d.refresh_asked || hinted || now >= job.deadline_at - LAST_LOOK)
}

fn alone(task: Claimed) -> End {
    let due_at = task.due_at;
    singly(task, due_at)
}

fn singly(task: Claimed, until: Millis) -> End {
    End::of(task, Outcome::Snooze { until, lane: Some(Lane::Ask) })
}

/// One call for all of these jobs.
async fn ask_together(work: &Work, kind: Kind, asked: Vec<(Claimed, Job)>) -> Vec<End> {
    if asked.len() == 1 {
        return asked.into_iter().map(|(task, _)| alone(task)).collect();
    }
    if let Err(until) = work.budget.take(1, work.clock.now()) {
        let later = |task| End::of(task, Outcome::Snooze { until, lane: None });
        return asked.into_iter().map(|(task, _)| later(task)).collect();
    }
    let ids: Vec<&str> = asked.iter().filter_map(|(_, job)| job.upstream_id.as_deref()).collect();
    work.fail.at(Point::PollBegun).await;
    let seen = work.heygen.running(kind, &ids).await;
    work.fail.at(Point::PollAnswered).await;
    work.called("statuses", &seen).await;
    let now = work.clock.now();
    match seen {
        Ok(running) => {
            let goes_on = |job: &Job| job.upstream_id.as_ref().is_some_and(|id| running.contains(id));
            let end = |(task, job): (Claimed, Job)| match goes_on(&job) {
                true => again(work, task, &job, now).saying(Input::Observed(in_progress(&job))),
                false => alone(task),
            };
            asked.into_iter().map(end).collect()
        }
        Err(fault) if says_nothing_of_single_asks(&fault) => {
            tracing::debug!(kind = kind.name(), why = fault.why(), "asked singly instead of together");
            let mut ends: Vec<End> = asked.into_iter().map(|(task, _)| alone(task)).collect();
            if let Some(first) = ends.first_mut().filter(|_| matches!(fault, Fault::Unknown { .. })) {
                first.lesson = work.lesson_of_ask(&fault);
            }
            ends
        }
        Err(fault) => asked.into_iter().map(|(task, job)| unanswered(work, task, &job, &fault)).collect(),
    }
}

/// The route may be missing, or one of the ids may spoil the answer for all.
fn says_nothing_of_single_asks(fault: &Fault) -> bool {
    match fault {
        Fault::Refused { .. } | Fault::NotFound(_) | Fault::Unknown { .. } => true,
        Fault::Blocked { by, .. } => *by == Reason::NotHeygen,
        Fault::NotSent { .. } | Fault::Wait { .. } | Fault::TooMany { .. } => false,
    }
}

fn in_progress(job: &Job) -> Observation {
    let upstream_id = job.upstream_id.clone();
    let says = Says::InProgress { progress: None };
    Observation { found_by: FoundBy::Poll, upstream_id, upstream_video_id: None, says }
}

/// An agent's session has no file: its video is asked for, too, once it is known.
fn calls_of(job: &Job) -> usize {
    1 + usize::from(job.kind == Kind::VideoAgent && job.upstream_video_id.is_some())
}

/// One poll, by itself.
pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    let id = task.subject.clone();
    let found = work.db.read(move |tx| job::find(tx, &id)).await?;
    let Some(job) = found.filter(is_asked_for) else {
        return work.conclude(End::of(task, Outcome::Done)).await;
    };
    if let Err(until) = work.budget.take(calls_of(&job), work.clock.now()) {
        return work.conclude(singly(task, until)).await;
    }
    let found_by = if job.details.refresh_asked { FoundBy::Refresh } else { FoundBy::Poll };
    work.fail.at(Point::PollBegun).await;
    let seen = work.heygen.status(&job, found_by).await;
    work.fail.at(Point::PollAnswered).await;
    work.called("status", &seen).await;
    let now = work.clock.now();
    let end = match seen {
        Ok(seen) => {
            let over = job.state.is_terminal();
            let lesson = if over { None } else { lesson_of(work, &job, &seen) };
            let done = over || seen.says.is_final();
            let end = if done { End::of(task, Outcome::Done) } else { again(work, task, &job, now) };
            End { lesson, ..end.saying(Input::Observed(seen)) }
        }
        Err(fault) => {
            tracing::debug!(job_id = %job.id, why = fault.why(), "a poll found nothing out");
            unanswered(work, task, &job, &fault)
        }
    };
    work.conclude(end).await
}

/// Upstream did not say how the job stands.
fn unanswered(work: &Work, task: Claimed, job: &Job, fault: &Fault) -> End {
    let now = work.clock.now();
    if let Fault::Wait { after, .. } | Fault::TooMany { after, .. } = fault {
        work.budget.close_until(now + after.unwrap_or(BUSY_PAUSE));
    }
    let end = match job.state.is_terminal() {
        false => again(work, task, job, now),
        true if task.attempt >= TRIES_AFTER_END => End::of(task, Outcome::Done),
        true => End::of(task, Outcome::Retry { at: now + MINUTE, why: fault.why() }),
    };
    End { lesson: work.lesson_of_ask(fault), ..end }.saying(Input::Unanswered { why: fault.why() })
}

/// HeyGen takes jobs it then fails for lack of credit: those that still wait must not go the same way.
fn lesson_of(work: &Work, job: &Job, seen: &Observation) -> Option<Lesson> {
    let Says::Failed { failure, confirmed: true } = &seen.says else { return None };
    let sent_at = job.details.sent_at.unwrap_or(job.created_at);
    let answer = Answer::Blocked(Reason::JobsFailForCredit);
    is_lack_of_credit(failure).then(|| Lesson { answer, sent_at, jitter: work.jitter() })
}

fn again(work: &Work, task: Claimed, job: &Job, now: Millis) -> End {
    let since = job.details.accepted_at.unwrap_or(job.created_at);
    let least = job.details.least_poll_ms;
    let mut pause = poll_pause(now.saturating_sub(since), least, work.jitter());
    if kinds::route(job.kind).statuses.is_some() {
        pause = nearest_beat(now.saturating_add(pause), least) - now;
    }
    End::of(task, Outcome::Snooze { until: next_ask(job, pause, now), lane: None })
}
