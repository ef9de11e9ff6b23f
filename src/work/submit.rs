//! Sends one job upstream, or finds out what became of sending it.
//!
//! The only place that pays. `submitting` is on disk before the call; a call whose outcome is open
//! is repeated only with the same Idempotency-Key, only where upstream is known to honour one, and
//! only while it surely does. A crash at any line leaves a state from which the next owner goes on here.

use tokio::sync::MutexGuard;

use super::{End, Lesson, Work};
use crate::domain::job::{FoundBy, Job, Kind};
use crate::domain::limit::Answer;
use crate::domain::pause::Reason;
use crate::domain::retry::submit_backoff;
use crate::domain::step::Input;
use crate::domain::task::{Claimed, Lane, Outcome};
use crate::domain::time::{HOUR, MINUTE, Millis, SECOND};
use crate::fail::Point;
use crate::flow::{self, Begun};
use crate::heygen::client::CREATE_TIMEOUT;
use crate::heygen::fault::Fault;
use crate::heygen::kinds::{self, Repeat};
use crate::heygen::wire::{self, Created};
use crate::store::{self, upstream_limit, webhook_secret};

/// Call timeout 120 s < run deadline 130 s < lease 150 s: when another owner may come, our call is
/// over. The margin also covers clocks that differ by what claiming nodes are allowed to.
pub(super) const LEASE: Millis = 150 * SECOND;
const MARGIN: Millis = 20 * SECOND;
/// Upstream honours a key for 24 h (docs/heygen.md, Repeating); we trust it for this long.
const KEY_TRUSTED: Millis = 20 * HOUR;
/// A job for which the credit was too small is tried again after this long.
const CREDIT_PAUSE: Millis = 5 * MINUTE;
/// Pages of the event log and of the lists that are searched for a job of unknown outcome.
const SEARCH_PAGES: usize = 10;
const SEARCH_AGAIN: Millis = 10 * MINUTE;
/// Of a call that was made with another HeyGen key, or at another address.
const ELSEWHERE: &str = "it was sent with another HeyGen key, and this one's event log and lists do not know it. Start \
                         with that key again and it is found out.";
/// What a person can do about a call that is not repeated.
const BY_HAND: &str =
    "Look at HeyGen whether it was made: if it was not, `retry` it with accept_second_charge.";
/// Before the next one of those that go one at a time is tried.
const TURN: Millis = SECOND;

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    let (claimed, account, stamp) = (task.clone(), work.account.clone(), work.stamp());
    let begin = move |tx: &mut store::Tx| flow::begin_send(tx, &claimed, &account, repeats, &stamp);
    match work.db.write_behind(begin).await? {
        Begun::LeaseLost => {
            work.metrics.stale_finishes.inc();
            Ok(())
        }
        Begun::Nothing | Begun::NotNow => Ok(()),
        Begun::Send { job, request } => {
            // Until it is recorded what came of the call.
            let turn = turn(work, &job).await;
            let end = match &turn {
                Ok(_) => send(work, task, &job, &request).await?,
                Err(why) => {
                    let later = Outcome::Snooze { until: work.clock.now() + TURN, lane: Some(Lane::Submit) };
                    let why = (*why).to_owned();
                    End::of(task, later).saying(Input::NotAccepted { sent: false, why })
                }
            };
            work.conclude(end).await
        }
        Begun::Repeat { job, request } => {
            let end = repeat(work, task, &job, &request).await;
            work.conclude(end).await
        }
        Begun::Search { job } => {
            let end = search_for(work, task, &job).await;
            work.conclude(end).await
        }
    }
}

/// Whether a call of open outcome may be made again: only with its key, and while upstream surely honours it.
fn repeats(job: &Job, now: Millis) -> bool {
    job.sent_ago(now).is_some_and(|age| age < KEY_TRUSTED) && honours_keys(job.kind)
}

fn honours_keys(kind: Kind) -> bool {
    kinds::route(kind).repeat != Repeat::Never
}

/// What HeyGen is not known to know when it is sent again goes one at a time, and not while others find no
/// answer: when HeyGen falls silent, one outcome is open, and not one for each slot.
async fn turn<'a>(work: &'a Work, job: &Job) -> Result<Option<MutexGuard<'a, ()>>, &'static str> {
    if honours_keys(job.kind) {
        return Ok(None);
    }
    let Ok(turn) = work.unrepeatable.try_lock() else {
        return Err("another one is being sent, and these go one at a time");
    };
    // It may have been claimed together with the one that found no answer.
    let Ok(limit) = work.db.read(upstream_limit::get).await else {
        return Err("the store could not be read");
    };
    if limit.down_since.is_none() { Ok(Some(turn)) } else { Err("HeyGen did not answer the one before") }
}

async fn send(work: &Work, task: Claimed, job: &Job, request: &str) -> store::Result<End> {
    let begun = work.clock.now();
    let fault = match call(work, &task, job, request).await {
        Ok(created) => return Ok(accepted(work, task, job, created)),
        Err(fault) => fault,
    };
    tracing::info!(job_id = %job.id, why = fault.why(), "HeyGen did not take the job");
    let now = work.clock.now();
    let later = now + submit_backoff(i64::from(job.details.refusals) + 1, work.jitter());
    // Known not to be accepted: it waits for a slot like any other.
    let queued = |until| Outcome::Snooze { until, lane: Some(Lane::Submit) };
    let (lesson, why) = (work.lesson(&fault, job.kind, begun), fault.why());
    let end = match fault {
        // All are held up for as long; the oldest goes first again.
        Fault::NotSent { .. } => End::of(task, queued(now)).saying(Input::NotAccepted { sent: false, why }),
        Fault::TooMany { .. } => End::of(task, queued(now)).saying(Input::NotAccepted { sent: true, why }),
        Fault::Wait { after, .. } => {
            let until = after.map_or(later, |pause| now + pause);
            End::of(task, queued(until)).saying(Input::NotAccepted { sent: true, why })
        }
        Fault::Blocked { by, .. } => {
            // A cheaper one may pass where this one found too little credit.
            let until = if by == Reason::OutOfCredit { now + CREDIT_PAUSE } else { now };
            End::of(task, queued(until)).saying(Input::NotAccepted { sent: true, why })
        }
        Fault::Refused { failure, .. } | Fault::NotFound(failure) => {
            End::of(task, Outcome::Done).saying(Input::Refused(failure))
        }
        Fault::Unknown { .. } => {
            let at = now + submit_backoff(1, work.jitter());
            End::of(task, Outcome::Retry { at, why: why.clone() }).saying(Input::NoAnswer { why })
        }
    };
    Ok(End { lesson, ..end })
}

fn accepted(work: &Work, task: Claimed, job: &Job, created: Created) -> End {
    let Created { upstream_id, upstream_video_id } = created;
    let said = Input::Accepted { upstream_id, upstream_video_id };
    // An answer that comes again tells how things stood when it was first given.
    let sent_at = job.details.sent_at.unwrap_or(job.created_at);
    let lesson = Some(Lesson { answer: Answer::Accepted, sent_at, jitter: work.jitter() });
    End { lesson, ..End::of(task, Outcome::Done).saying(said) }
}

/// The same key again. What is not taken this time proves nothing of the call whose outcome is open.
async fn repeat(work: &Work, task: Claimed, job: &Job, request: &str) -> End {
    let begun = work.clock.now();
    let fault = match call(work, &task, job, request).await {
        Ok(created) => return accepted(work, task, job, created),
        Err(fault) => fault,
    };
    let (lesson, why) = (work.lesson(&fault, job.kind, begun), fault.why());
    tracing::info!(job_id = %job.id, why, "the outcome of a submit is still open");
    let later = submit_backoff(task.attempt, work.jitter());
    let (said, wait) = meant_again(fault, later);
    let retry = |wait| Outcome::Retry { at: work.clock.now() + wait, why };
    End { lesson, ..End::of(task, wait.map_or(Outcome::Done, retry)).saying(said) }
}

/// What no success as the answer to a repeat says of the job, and how long to wait for the next one.
fn meant_again(fault: Fault, later: Millis) -> (Input, Option<Millis>) {
    match fault {
        // Upstream replays an accepted first answer before it looks at the request, so that it refuses this one
        // means that there is none.
        Fault::Refused { failure, always: true } | Fault::NotFound(failure) => {
            (Input::Refused(failure), None)
        }
        Fault::Refused { failure, always: false } => {
            (Input::NotAccepted { sent: true, why: failure.message }, Some(later))
        }
        Fault::Wait { after, why, .. } | Fault::TooMany { after, why, .. } => {
            (Input::NotAccepted { sent: true, why }, Some(after.unwrap_or(later)))
        }
        Fault::Blocked { why, .. } => (Input::NotAccepted { sent: true, why }, Some(later)),
        Fault::NotSent { why } => (Input::NotAccepted { sent: false, why }, Some(later)),
        Fault::Unknown { why, .. } => (Input::NoAnswer { why }, Some(later)),
    }
}

/// When it must not be sent again: what upstream's log and lists confirm.
async fn search_for(work: &Work, task: Claimed, job: &Job) -> End {
    let why = match search(work, job).await {
        Ok(Some(created)) => return accepted(work, task, job, created),
        _ if !honours_keys(job.kind) => for_a_person(job),
        Ok(None) if job.is_elsewhere(&work.account) => format!("{ELSEWHERE} {BY_HAND}"),
        Ok(None) => format!(
            "neither HeyGen's event log nor its lists know it, and HeyGen may have forgotten its Idempotency-Key, so \
             it is not sent again. {BY_HAND}"
        ),
        Err(fault) => fault.why(),
    };
    let at = work.clock.now() + SEARCH_AGAIN;
    End::of(task, Outcome::Retry { at, why: why.clone() }).saying(Input::NoAnswer { why })
}

/// What the job's note says of a call that must not be repeated: what happened, and who decides.
fn for_a_person(job: &Job) -> String {
    let note = job.details.note.as_deref().unwrap_or("the outcome is unknown");
    if note.ends_with(BY_HAND) {
        return note.to_owned();
    }
    let why = "HeyGen is not known to honour a repeated call here, so it is not sent again.";
    format!("{}. {why} {BY_HAND}", note.trim_end_matches('.'))
}

/// The one call that costs money.
async fn call(work: &Work, task: &Claimed, job: &Job, request: &str) -> Result<Created, Fault> {
    let now = work.clock.now();
    let live = work.db.read(move |tx| webhook_secret::list_live(tx, now)).await;
    let live = live.map_err(|e| Fault::NotSent { why: format!("the store could not be read: {e}") })?;
    let wants_url = kinds::wants_callback_url(job.kind, !live.is_empty());
    let address = work.addresses.of_job(&job.id).filter(|_| wants_url);
    let key = job.upstream_key();
    let unreadable = |e| Fault::NotSent { why: format!("the stored request is unreadable: {e}") };
    let body = serde_json::from_str(request).map_err(unreadable)?;
    let outgoing = kinds::outgoing(job.kind, body, &job.id, &key, address.as_deref());
    work.fail.at(Point::SendBegun).await;
    // The last look at the clock before the socket: a call that could outlive our lease is not begun.
    let limit = i64::try_from(CREATE_TIMEOUT.as_millis()).unwrap_or(i64::MAX);
    if work.clock.now().saturating_add(limit) > task.lease_until - MARGIN {
        return Err(Fault::NotSent { why: "the run was too slow to begin a call".to_owned() });
    }
    if !work.clock.is_trusted() {
        return Err(Fault::NotSent { why: "the clock was being set".to_owned() });
    }
    let called = work.heygen.create(job.kind, outgoing, &key).await;
    work.fail.at(Point::SendAnswered).await;
    work.called("create", &called).await;
    called
}

/// Looks for the job in upstream's event log by its callback id, then in the list of its kind. What
/// is found confirms it; what is not found proves nothing. Without a callback id there is nothing to
/// be found by.
async fn search(work: &Work, job: &Job) -> Result<Option<Created>, Fault> {
    if !kinds::route(job.kind).callback {
        return Ok(None);
    }
    let mut token = None;
    for _ in 0..SEARCH_PAGES {
        let page = work.heygen.events(token.as_deref()).await?;
        let heard = page.items.iter().filter_map(|item| wire::hear_value(item).ok());
        let ours = heard.filter(|h| h.job_id() == Some(job.id.as_str()));
        let mut created = ours.filter_map(|heard| {
            let seen = heard.observe(job.kind, FoundBy::EventLog);
            let upstream_video_id = seen.upstream_video_id;
            seen.upstream_id.map(|upstream_id| Created { upstream_id, upstream_video_id })
        });
        if let Some(created) = created.next() {
            return Ok(Some(created));
        }
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    search_list(work, job).await
}

/// The lists of translations echo the callback id; those of videos do not, and a title alone could
/// be another's, so videos are confirmed by the event log only.
async fn search_list(work: &Work, job: &Job) -> Result<Option<Created>, Fault> {
    let list = kinds::route(job.kind).list.filter(|_| job.kind.is_translation());
    let Some(list) = list else { return Ok(None) };
    let mut token = None;
    for _ in 0..SEARCH_PAGES {
        let page = work.heygen.list(list, token.as_deref()).await?;
        let ours =
            page.items.iter().find(|item| item.get("callback_id").and_then(|v| v.as_str()) == Some(&job.id));
        if let Some(id) = ours.and_then(|item| item.get("id")).and_then(|id| id.as_str()) {
            return Ok(Some(Created { upstream_id: id.to_owned(), upstream_video_id: None }));
        }
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::domain::job::State;
    use crate::domain::table::typical;
    use crate::heygen::fault;
    use crate::net::Answer;

    #[test]
    fn a_repeat_fails_the_job_only_where_the_first_call_would_have() {
        let coded = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
        for (status, body, fails) in [
            (400, coded("invalid_parameter"), true),
            (404, coded("avatar_not_found"), true),
            (413, coded("payload_too_large"), true),
            (422, coded("splines"), true),
            // What an account may do is another matter today, and may be looked at before the key is.
            (402, coded("plan_upgrade_required"), false),
            (403, coded("forbidden"), false),
            (409, coded("conflict"), false),
            (400, coded("plan_upgrade_required"), false),
            (403, coded("splines"), false),
            (409, coded("splines"), false),
            // It is not known who says so.
            (400, String::new(), false),
            (403, "<html>".to_owned(), false),
            (413, "<html>".to_owned(), false),
            (404, "<html>".to_owned(), false),
            (429, coded("rate_limit_exceeded"), false),
            (500, coded("invalid_parameter"), false),
        ] {
            let (status, body) = (StatusCode::from_u16(status).unwrap(), body.into());
            let answer = Answer { status, headers: HeaderMap::new(), body };
            let (said, wait) = meant_again(fault::sort(&answer, 0), SECOND);
            assert_eq!(matches!(said, Input::Refused(_)), fails, "{answer:?}");
            assert_eq!(wait, (!fails).then_some(SECOND), "{answer:?}");
        }
    }

    #[test]
    fn a_call_is_repeated_while_its_key_is_surely_honoured() {
        let mut job = typical(State::Unknown);
        job.details.sent_at = Some(HOUR);
        for (now, trusted) in [
            (HOUR, true),
            (HOUR + KEY_TRUSTED - 1, true),
            (HOUR + KEY_TRUSTED, false),
            // The clock was set back: a moment, or by who knows how much.
            (HOUR - MINUTE + 1, true),
            (HOUR - MINUTE, false),
        ] {
            assert_eq!(repeats(&job, now), trusted, "{now}");
        }
        job.kind = Kind::VoiceClone;
        assert!(!honours_keys(job.kind) && !repeats(&job, HOUR));
    }
}
