//! Asks upstream how one job stands. Intervals widen with age; the deadline ends them.

use super::{End, Lesson, Work};
use crate::domain::job::{FoundBy, Job, Observation, Says};
use crate::domain::limit::Answer;
use crate::domain::pause::Reason;
use crate::domain::retry::poll_pause;
use crate::domain::step::{Input, next_look};
use crate::domain::task::{Claimed, Outcome};
use crate::domain::time::Millis;
use crate::fail::Point;
use crate::heygen::failure::is_lack_of_credit;
use crate::store::{self, job};

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    let id = task.subject.clone();
    let found = work.db.read(move |tx| job::find(tx, &id)).await?;
    let asked =
        |job: &Job| job.upstream_id.is_some() && (!job.state.is_terminal() || job.details.refresh_asked);
    let Some(job) = found.filter(asked) else {
        return work.conclude(End::of(task, Outcome::Done)).await;
    };
    let found_by = if job.details.refresh_asked { FoundBy::Refresh } else { FoundBy::Poll };
    work.fail.at(Point::PollBegun).await;
    let seen = work.heygen.status(&job, found_by).await;
    work.fail.at(Point::PollAnswered).await;
    let m = &work.metrics;
    m.count(&m.upstream_calls, if seen.is_ok() { "status_ok" } else { "status_fault" });
    let now = work.clock.now();
    let again = Outcome::Snooze { until: next_poll(&job, now, work.jitter()), lane: None };
    let over = job.state.is_terminal();
    match seen {
        Ok(seen) => {
            let outcome = if over || seen.says.is_final() { Outcome::Done } else { again };
            let lesson = if over { None } else { lesson_of(work, &job, &seen) };
            work.conclude(End { lesson, ..End::of(task, outcome).saying(Input::Observed(seen)) }).await
        }
        Err(fault) => {
            tracing::debug!(job_id = %job.id, why = fault.why(), "a poll found nothing out");
            let outcome = if over { Outcome::Done } else { again };
            // Only what concerns every job; a poll that did not get through holds no submit up.
            let lesson = work.lesson(&fault, now).filter(|l| matches!(l.answer, Answer::Blocked(_)));
            work.conclude(End { lesson, ..End::of(task, outcome) }).await
        }
    }
}

/// HeyGen takes jobs it then fails for lack of credit: those that still wait must not go the same way.
fn lesson_of(work: &Work, job: &Job, seen: &Observation) -> Option<Lesson> {
    let Says::Failed { failure, confirmed: true } = &seen.says else { return None };
    let sent_at = job.details.sent_at.unwrap_or(job.created_at);
    let answer = Answer::Blocked(Reason::JobsFailForCredit);
    is_lack_of_credit(failure).then(|| Lesson { answer, sent_at, jitter: work.jitter() })
}

/// Not before its end is expected, however early a hint made us ask.
fn next_poll(job: &Job, now: Millis, jitter: f64) -> Millis {
    let since = job.details.accepted_at.unwrap_or(job.created_at);
    let pause = poll_pause(now.saturating_sub(since), job.details.least_poll_ms, jitter);
    let expected = since.saturating_add(job.details.first_poll_ms);
    next_look(job, expected.max(now + pause), now)
}
