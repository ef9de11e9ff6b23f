//! The state machine of a job: `(job, input, now)` to a change, to nothing new, or to a refusal.
//!
//! The only place that decides what may happen to a job. A terminal state never changes, and a
//! job has exactly one terminal event. `docs/states.md` is this function, written out.

use super::charge::{CallOutcome, Calls};
use super::event::EventType;
use super::job::{Failure, FoundBy, Job, LateResult, Observation, Output, Says, State, Told};
use super::task::{TaskKind, TaskOp};
use super::time::{MINUTE, Millis, SECOND, rfc3339};

/// One hinted poll per job in this time, however many hints arrive.
pub const HINT_PAUSE: Millis = MINUTE;
/// So many more polls follow a hinted one that found nothing: upstream's status may be behind what it
/// told.
pub const FOLLOW_UPS: u32 = 3;
/// One last poll is due this long before the deadline, so that an end by time rests on a fresh look.
pub const LAST_LOOK: Millis = 30 * SECOND;

#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    Approve,
    Reject {
        reason: String,
    },
    Cancel,
    /// The submit task has a slot and is about to call upstream; or it does so again with the same key, because
    /// the outcome is open. `account` stands for the HeyGen key and where it is sent.
    Send {
        account: String,
    },
    /// The run that was sending it ended without telling how.
    Interrupted,
    /// The clock was set back: by so much, where that is known.
    SetBack(Option<Millis>),
    /// Whether upstream still knows the key of the call nobody can tell.
    Forgotten,
    /// Upstream answered the create call with an id.
    Accepted {
        upstream_id: String,
        upstream_video_id: Option<String>,
    },
    /// Upstream definitely did not accept it and never will.
    Refused(Failure),
    /// Upstream definitely did not accept it now; `sent` when the request reached it, so that the
    /// key is used up.
    NotAccepted {
        sent: bool,
        why: String,
    },
    /// No telling whether upstream accepted it.
    NoAnswer {
        why: String,
    },
    Observed(Observation),
    /// Upstream was asked how it stands and did not say.
    Unanswered {
        why: String,
    },
    /// Somebody wants upstream asked now.
    Refresh,
    /// What it was put off until has come.
    Begin,
    /// What its kind usually takes is over.
    Late,
    Deadline,
}

/// Why a caller's wish is impossible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    NotHeld,
    NotSent,
    AlreadySent,
    Finished,
}

/// A decision: the next job, the events it publishes and the work that follows.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub job: Job,
    pub events: Vec<EventType>,
    pub tasks: Vec<TaskOp>,
}

pub type Step = Result<Option<Change>, Refused>;

pub fn step(job: &Job, input: Input, now: Millis) -> Step {
    let mut calls = job.details.calls.clone();
    let ended = end_call(&mut calls, &input);
    let change = decide(job, input, now)?;
    if !ended {
        return Ok(change);
    }
    // What came of a call is written whatever the job has become meanwhile.
    let mut change = change.unwrap_or_else(|| {
        // Of an open outcome `updated_at` tells since when it is.
        let next = if job.state == State::Unknown { job.clone() } else { touched(job, now) };
        Change { job: next, events: vec![], tasks: vec![] }
    });
    change.job.details.calls = calls;
    Ok(Some(change))
}

/// Whether the input tells what came of the call under way.
fn end_call(calls: &mut Calls, input: &Input) -> bool {
    match input {
        Input::Accepted { .. } => calls.end(CallOutcome::Accepted),
        Input::Refused(_) => calls.end(CallOutcome::Refused),
        Input::NotAccepted { sent: true, .. } => calls.end(CallOutcome::NotTaken),
        Input::NotAccepted { sent: false, .. } => calls.forget(),
        Input::NoAnswer { .. } | Input::Interrupted => calls.end(CallOutcome::NoAnswer),
        _ => false,
    }
}

fn decide(job: &Job, input: Input, now: Millis) -> Step {
    match input {
        Input::Approve => approve(job, now),
        Input::Reject { reason } => match job.state {
            State::Held => canceled(job, format!("rejected: {reason}"), FoundBy::Caller, now),
            _ => Err(Refused::NotHeld),
        },
        Input::Cancel => cancel(job, now),
        Input::Send { account } => send(job, account, now),
        Input::Interrupted => no_answer(job, "the process that sent it ended before it knew", now),
        Input::SetBack(Some(by)) => {
            let sent_at = job.details.sent_at.unwrap_or(job.created_at);
            Ok(sent_earlier(job, sent_at.saturating_sub(by).max(0), now))
        }
        Input::SetBack(None) if job.sent_ago(now).is_some() => Ok(None),
        Input::SetBack(None) | Input::Forgotten => Ok(sent_earlier(job, 0, now)),
        Input::Accepted { upstream_id, upstream_video_id } => {
            accepted(job, upstream_id, upstream_video_id, now)
        }
        Input::Refused(failure) => match job.state {
            State::Submitting | State::Unknown => failed(job, failure, FoundBy::Submit, now),
            _ => Ok(None),
        },
        Input::NotAccepted { sent, why } => not_accepted(job, sent, why, now),
        Input::NoAnswer { why } => no_answer(job, &why, now),
        Input::Observed(observation) => observed(job, observation, now),
        Input::Unanswered { why } => Ok(unanswered(job, why, now)),
        Input::Refresh => refresh(job, now),
        Input::Begin => Ok(begin(job, now)),
        Input::Late => Ok(late(job, now)),
        Input::Deadline => deadline(job, now),
    }
}

/// Upstream is asked at once; of a finished job too, for links that still live.
fn refresh(job: &Job, now: Millis) -> Step {
    let task = match job.state {
        State::Held | State::Queued | State::Canceled => return Err(Refused::NotSent),
        State::Submitting | State::Unknown => TaskOp::Hasten(TaskKind::Submit, now),
        State::Processing => TaskOp::Hasten(TaskKind::Poll, now),
        State::Completed | State::Failed if job.upstream_id.is_none() => return Err(Refused::NotSent),
        State::Completed | State::Failed => TaskOp::Add(TaskKind::Poll, now),
    };
    let mut next = job.clone();
    next.details.refresh_asked = true;
    Ok(Some(Change { job: next, events: vec![], tasks: vec![task] }))
}

fn approve(job: &Job, now: Millis) -> Step {
    if job.state != State::Held {
        return Err(Refused::NotHeld);
    }
    let mut next = moved(job, State::Queued, now);
    next.details.note = None;
    next.details.held = false;
    // One that is put off is queued for a slot when it begins.
    let put_off = job.details.not_before.is_some_and(|at| now < at);
    let tasks = if put_off { vec![] } else { vec![TaskOp::Queue(job.details.priority, now)] };
    if !put_off {
        next.details.not_before = None;
    }
    Ok(Some(Change { job: next, events: vec![EventType::Queued], tasks }))
}

/// A job that was put off waits for a slot now, or for its approval alone.
fn begin(job: &Job, now: Millis) -> Option<Change> {
    if job.state.is_terminal() || job.details.not_before.is_none_or(|at| now < at) {
        return None;
    }
    let mut next = touched(job, now);
    next.details.not_before = None;
    let queued = job.state == State::Queued;
    let tasks = if queued { vec![TaskOp::Queue(job.details.priority, now)] } else { vec![] };
    Some(Change { job: next, events: vec![], tasks })
}

fn cancel(job: &Job, now: Millis) -> Step {
    match job.state {
        State::Held | State::Queued => canceled(job, "canceled".to_owned(), FoundBy::Caller, now),
        State::Canceled => Ok(None),
        State::Submitting | State::Unknown | State::Processing => Err(Refused::AlreadySent),
        State::Completed | State::Failed => Err(Refused::Finished),
    }
}

fn send(job: &Job, account: String, now: Millis) -> Step {
    let mut next = match job.state {
        State::Queued => {
            let mut first = moved(job, State::Submitting, now);
            first.details.sent_at = Some(now);
            first.details.account = Some(account);
            first.details.note = None;
            first
        }
        // Not `updated_at`: it tells since when the outcome is open.
        State::Unknown => job.clone(),
        _ => return Ok(None),
    };
    next.details.calls.begin(next.details.key_number, now);
    Ok(Some(Change { job: next, events: vec![], tasks: vec![] }))
}

fn accepted(job: &Job, id: String, video_id: Option<String>, now: Millis) -> Step {
    let knows = job.upstream_id.is_some();
    if knows && !matches!(job.state, State::Submitting | State::Unknown | State::Queued) {
        return Ok(None);
    }
    // The id is kept in every state: a result that comes too late is still found by it.
    let mut next = if job.state.is_terminal() {
        touched(job, now)
    } else if job.state == State::Held {
        return Ok(None);
    } else {
        processing(job, now)
    };
    next.upstream_id = Some(id);
    next.upstream_video_id = video_id.or(next.upstream_video_id);
    let mut change = Change { job: next, events: vec![], tasks: vec![] };
    announce_processing(job, &mut change, now);
    Ok(Some(change))
}

/// The job in `processing`, with what only mattered before cleared.
fn processing(job: &Job, now: Millis) -> Job {
    let mut next = moved(job, State::Processing, now);
    next.details.accepted_at.get_or_insert(now);
    next.details.unknown_since = None;
    next.details.note = None;
    next
}

/// If `change` moves the job into `processing`: its event, and its first poll.
fn announce_processing(before: &Job, change: &mut Change, now: Millis) {
    if change.job.state != State::Processing || before.state == State::Processing {
        return;
    }
    let details = &mut change.job.details;
    let hinted = std::mem::take(&mut details.poll_on_accept);
    if hinted {
        details.hinted_at = Some(now);
        details.follow_ups = FOLLOW_UPS;
    }
    let wait = if hinted { 0 } else { details.first_poll_ms };
    change.events.push(EventType::Processing);
    change.tasks.push(TaskOp::Add(TaskKind::Poll, next_look(&change.job, now.saturating_add(wait), now)));
    if let Some((_, late_at)) = change.job.expected() {
        change.tasks.push(TaskOp::Add(TaskKind::Deadline, late_at.min(change.job.deadline_at)));
    }
}

/// When a job that goes on is asked for again, if polls of its age come `pause` apart: not before its end
/// is expected, unless a hint said that something happened.
pub fn next_ask(job: &Job, pause: Millis, now: Millis) -> Millis {
    let d = &job.details;
    let paced = now.saturating_add(pause);
    let expected = d.accepted_at.unwrap_or(job.created_at).saturating_add(d.first_poll_ms);
    // However far the clock was set back since.
    let expected = expected.min(now.saturating_add(d.first_poll_ms));
    let at = if d.follow_ups > 0 { paced } else { paced.max(expected) };
    let hinted = d.hinted_at.filter(|hinted| *hinted > now);
    next_look(job, hinted.map_or(at, |hinted| hinted.min(at)), now)
}

/// `at`, but never so late that the deadline would come without a last look.
fn next_look(job: &Job, at: Millis, now: Millis) -> Millis {
    let last = job.deadline_at.saturating_sub(LAST_LOOK);
    if now < last { at.min(last) } else { at }
}

fn not_accepted(job: &Job, sent: bool, why: String, now: Millis) -> Step {
    match job.state {
        State::Submitting => {
            let mut next = moved(job, State::Queued, now);
            next.details.refusals += 1;
            if sent {
                next.details.key_number += 1;
            }
            next.details.sent_at = None;
            next.details.note = Some(why);
            Ok(Some(Change { job: next, events: vec![], tasks: vec![] }))
        }
        // It proves nothing about the try whose outcome is open.
        State::Unknown => Ok(noted(job, &why)),
        _ => Ok(None),
    }
}

fn no_answer(job: &Job, why: &str, now: Millis) -> Step {
    match job.state {
        State::Submitting => {
            let mut next = moved(job, State::Unknown, now);
            next.details.unknown_since = Some(now);
            next.details.note = Some(why.to_owned());
            Ok(Some(Change { job: next, events: vec![], tasks: vec![] }))
        }
        State::Unknown => Ok(noted(job, why)),
        _ => Ok(None),
    }
}

/// How old the key of an open call is; as good as forgotten where nobody knows: by the time that it seems young,
/// upstream may have forgotten it, and would take the call as a new one.
fn sent_earlier(job: &Job, sent_at: Millis, now: Millis) -> Option<Change> {
    let known = job.details.sent_at == Some(sent_at) && job.updated_at <= now;
    if known || !matches!(job.state, State::Submitting | State::Unknown) {
        return None;
    }
    let mut next = job.clone();
    next.details.sent_at = Some(sent_at);
    // Else it holds its slot until this time has come once more.
    next.updated_at = job.updated_at.min(now);
    Some(Change { job: next, events: vec![], tasks: vec![] })
}

fn noted(job: &Job, why: &str) -> Option<Change> {
    if job.details.note.as_deref() == Some(why) {
        return None;
    }
    // Not `updated_at`: it tells since when the outcome is open.
    let mut next = job.clone();
    next.details.note = Some(why.to_owned());
    Some(Change { job: next, events: vec![], tasks: vec![] })
}

fn observed(job: &Job, seen: Observation, now: Millis) -> Step {
    if seen.found_by == FoundBy::Refresh && job.details.refresh_asked {
        let mut answered = job.clone();
        answered.details.refresh_asked = false;
        let change = observed(&answered, seen, now)?;
        return Ok(change.or(Some(Change { job: answered, events: vec![], tasks: vec![] })));
    }
    // Nothing true can be said of a job that was never sent.
    if matches!(job.state, State::Held | State::Queued) && job.details.accepted_at.is_none() {
        let was_sent = job.state == State::Queued && job.details.key_number > 0;
        if !was_sent {
            return Ok(None);
        }
    }
    if job.state.is_terminal() {
        return Ok(after_the_end(job, seen, now));
    }
    let mut known = job.clone();
    if !matches!(seen.says, Says::Hint) {
        known.upstream_id = known.upstream_id.or(seen.upstream_id);
        known.upstream_video_id = known.upstream_video_id.or(seen.upstream_video_id);
    }
    keep_as_evidence(&mut known, &seen.says, seen.found_by, now);
    match seen.says {
        Says::Completed(output) if output.completes(job.kind) => {
            completed(&known, &output, seen.found_by, now)
        }
        Says::Failed { failure, confirmed: true } => failed(&known, failure, seen.found_by, now),
        Says::Failed { .. } | Says::Completed(_) | Says::Hint => Ok(hinted(job, known, now)),
        Says::InProgress { progress } => Ok(in_progress(job, known, progress, now)),
        Says::Extra(output) => {
            known.details.output.fill_from(&output);
            Ok(changed(job, known, now))
        }
    }
}

/// Every answer to an ask; of what is told unasked and ends nothing, only what is new.
fn keep_as_evidence(job: &mut Job, says: &Says, by: FoundBy, now: Millis) {
    let what = says.words();
    if matches!(by, FoundBy::Poll | FoundBy::Refresh) {
        job.details.asked.note(what, now);
        job.details.follow_ups = job.details.follow_ups.saturating_sub(1);
    } else if !says.is_final() && job.details.told.as_ref().is_none_or(|told| told.what != what) {
        job.details.told = Some(Told { what, by, at: now });
    }
}

fn unanswered(job: &Job, why: String, now: Millis) -> Option<Change> {
    if job.state.is_terminal() {
        return None;
    }
    let mut next = job.clone();
    next.details.asked.note(why, now);
    Some(Change { job: next, events: vec![], tasks: vec![] })
}

/// A poll is due soon: at once, when the pause after the last hinted one is over, or as soon as
/// upstream's id is known. A hint within the pause is put off and never dropped: it may be the true one
/// after a false one.
fn hinted(job: &Job, known: Job, now: Millis) -> Option<Change> {
    let mut next = known;
    if next.upstream_id.is_none() {
        next.details.poll_on_accept = true;
        return changed(job, next, now);
    }
    if job.state != State::Processing {
        let mut change = Change { job: processing(&next, now), events: vec![], tasks: vec![] };
        change.job.details.poll_on_accept = true;
        announce_processing(job, &mut change, now);
        return Some(change);
    }
    let at = match next.details.hinted_at {
        Some(ahead) if ahead > now => ahead,
        Some(last) => last.saturating_add(HINT_PAUSE).max(now),
        None => now,
    };
    // A clock that was put back makes nobody wait longer than was meant.
    let at = at.min(now.saturating_add(HINT_PAUSE));
    next.details.hinted_at = Some(at);
    next.details.follow_ups = FOLLOW_UPS;
    let mut change = changed(job, next, now)?;
    change.tasks.push(TaskOp::Hasten(TaskKind::Poll, at));
    Some(change)
}

fn in_progress(job: &Job, known: Job, progress: Option<u8>, now: Millis) -> Option<Change> {
    let mut next = if known.upstream_id.is_some() { processing(&known, now) } else { known };
    next.updated_at = job.updated_at;
    next.details.progress = progress.or(next.details.progress);
    if job.state == State::Processing {
        next.details.note.clone_from(&job.details.note);
    }
    let mut change = changed(job, next, now)?;
    announce_processing(job, &mut change, now);
    Some(change)
}

/// The change from `job` to `next`, unless they are the same.
fn changed(job: &Job, mut next: Job, now: Millis) -> Option<Change> {
    if *job == next {
        return None;
    }
    next.updated_at = now;
    Some(Change { job: next, events: vec![], tasks: vec![] })
}

/// The end is told at once. What a webhook left out, upstream is asked for once, after the least pause
/// between polls: by then the captions, too, which come some seconds later, are in its status.
fn completed(job: &Job, output: &Output, found_by: FoundBy, now: Millis) -> Step {
    let mut next = finished(job, State::Completed, found_by, now);
    let mut files = output.clone();
    files.fill_from(&job.details.output);
    next.details.output = files;
    next.details.progress = None;
    let was_told = matches!(found_by, FoundBy::Webhook | FoundBy::EventLog);
    let asks = was_told && next.upstream_id.is_some() && next.details.output.lacks(next.kind);
    next.details.refresh_asked |= asks;
    let look_at = now.saturating_add(next.details.least_poll_ms);
    let mut change = ended(job, next, EventType::Completed);
    if asks {
        change.tasks.retain(|op| *op != TaskOp::Drop(TaskKind::Poll));
        change.tasks.push(TaskOp::Add(TaskKind::Poll, look_at));
    }
    Ok(Some(change))
}

fn failed(job: &Job, failure: Failure, found_by: FoundBy, now: Millis) -> Step {
    let mut next = finished(job, State::Failed, found_by, now);
    next.details.failure = Some(failure);
    Ok(Some(ended(job, next, EventType::Failed)))
}

fn canceled(job: &Job, reason: String, found_by: FoundBy, now: Millis) -> Step {
    let mut next = finished(job, State::Canceled, found_by, now);
    next.details.cancel_reason = Some(reason);
    Ok(Some(ended(job, next, EventType::Canceled)))
}

/// A mark and one event; the job goes on.
fn late(job: &Job, now: Millis) -> Option<Change> {
    let is_late = job.expected().is_some_and(|(_, late_at)| now >= late_at);
    if job.state != State::Processing || job.details.late || !is_late {
        return None;
    }
    let mut next = touched(job, now);
    next.details.late = true;
    Some(Change { job: next, events: vec![EventType::Late], tasks: vec![] })
}

fn deadline(job: &Job, now: Millis) -> Step {
    if job.state.is_terminal() {
        return Ok(None);
    }
    if now < job.deadline_at {
        return Ok(None);
    }
    match job.state {
        State::Held | State::Queued => canceled(job, "expired".to_owned(), FoundBy::Deadline, now),
        State::Submitting | State::Unknown => {
            let since = job.details.unknown_since.or(job.details.sent_at).unwrap_or(job.created_at);
            let why = format!(
                "Sent to HeyGen with the key {}; no answer came, and nothing HeyGen told since confirmed it in {} s. \
                 It may have been charged.",
                job.upstream_key(),
                now.saturating_sub(since) / SECOND
            );
            failed(job, Failure::ours(Failure::OUTCOME_UNKNOWN, why), FoundBy::Deadline, now)
        }
        _ => {
            let since = job.details.accepted_at.unwrap_or(job.created_at);
            let why = format!(
                "HeyGen accepted it as {} and told no end within {} s. {}",
                job.upstream_id.as_deref().unwrap_or("an id we never learned"),
                now.saturating_sub(since) / SECOND,
                what_was_asked(job)
            );
            failed(job, Failure::ours(Failure::LOST_UPSTREAM, why), FoundBy::Deadline, now)
        }
    }
}

fn what_was_asked(job: &Job) -> String {
    let asked = &job.details.asked;
    match (asked.last_at, &asked.answer) {
        (Some(at), Some(answer)) => {
            let times = if asked.times == 1 { "once".to_owned() } else { format!("{} times", asked.times) };
            format!("It was asked {times}; the last answer, at {}, was: {answer}", rfc3339(at))
        }
        _ => "There was no occasion to ask.".to_owned(),
    }
}

/// What is heard after the end never changes the state. A file that comes late is kept beside it, and so is the
/// id of one of which nobody knew whether upstream took it.
fn after_the_end(job: &Job, seen: Observation, now: Millis) -> Option<Change> {
    let mut next = job.clone();
    let is_news = job.state == State::Failed && job.upstream_id.is_none() && seen.upstream_id.is_some();
    match seen.says {
        Says::Completed(output) if output.completes(job.kind) && job.state != State::Completed => {
            if job.details.late_result.is_some() {
                return None;
            }
            next.upstream_id = next.upstream_id.or(seen.upstream_id);
            next.details.late_result = Some(LateResult { output: *output, found_by: seen.found_by, at: now });
            let mut change = changed(job, next, now)?;
            change.events.push(EventType::LateResult);
            Some(change)
        }
        // A fresh look brings fresh links; a webhook that repeats itself does not.
        Says::Completed(output) if matches!(seen.found_by, FoundBy::Poll | FoundBy::Refresh) => {
            let mut files = *output;
            files.fill_from(&job.details.output);
            next.details.output = files;
            next.details.refresh_asked = false;
            changed(job, next, now)
        }
        Says::Extra(output) if job.state == State::Completed => {
            next.details.output.fill_from(&output);
            changed(job, next, now)
        }
        Says::Hint => None,
        _ if is_news => {
            next.upstream_id = seen.upstream_id;
            changed(job, next, now)
        }
        _ => None,
    }
}

fn touched(job: &Job, now: Millis) -> Job {
    Job { updated_at: now, ..job.clone() }
}

fn moved(job: &Job, state: State, now: Millis) -> Job {
    Job { state, ..touched(job, now) }
}

fn finished(job: &Job, state: State, found_by: FoundBy, now: Millis) -> Job {
    let mut next = moved(job, state, now);
    next.finished_at = Some(now);
    next.details.found_by = Some(found_by);
    next.details.note = None;
    next
}

/// The terminal change. A submit in flight is left to its run, which finds the job ended.
fn ended(before: &Job, job: Job, event: EventType) -> Change {
    let mut tasks = vec![TaskOp::Drop(TaskKind::Deadline)];
    match before.state {
        State::Held => {}
        State::Queued => tasks.push(TaskOp::Drop(TaskKind::Submit)),
        _ => tasks.push(TaskOp::Drop(TaskKind::Poll)),
    }
    Change { job, events: vec![event], tasks }
}
