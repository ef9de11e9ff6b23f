//! The job as the outside sees it: the same object in every answer and in every event.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::charge::{Call, CallOutcome};
use super::job::{Failure, FoundBy, Job, LateResult, Output, Priority, State};
use super::time::rfc3339;

/// The job to be looked into, or added to.
pub fn job_json(job: &Job) -> Value {
    json!(Shown::new(job))
}

/// The same as text. Made for every event: a tree of values would cost as much as all of its understanding.
pub fn job_text(job: &Job) -> String {
    // Its keys are strings, which is all that could fail.
    serde_json::to_string(&Shown::new(job)).unwrap_or_default()
}

/// In the order in which a person reads it. Links are relative references, so that an event frozen today is
/// right behind any address. What a job of its state would be refused has no link.
#[derive(Serialize)]
struct Shown<'a> {
    id: &'a str,
    kind: &'static str,
    state: &'static str,
    callback_id: Option<&'a str>,
    title: Option<&'a str>,
    labels: &'a BTreeMap<String, String>,
    metadata: Option<&'a Value>,
    notify_url: Option<&'a str>,
    priority: Priority,
    not_before: Option<String>,
    created_at: String,
    updated_at: String,
    deadline_at: String,
    accepted_at: Option<String>,
    expected: Option<Expected>,
    late: bool,
    finished_at: Option<String>,
    upstream_id: Option<&'a str>,
    upstream_video_id: Option<&'a str>,
    progress: Option<u8>,
    result: Option<&'a Output>,
    failure: Option<ShownFailure<'a>>,
    cancel_reason: Option<&'a str>,
    found_by: Option<FoundBy>,
    charge: Option<ShownCharge<'a>>,
    evidence: Option<Evidence<'a>>,
    late_result: Option<ShownLate<'a>>,
    retry_of: Option<&'a str>,
    group_id: Option<&'a str>,
    group_row: Option<i64>,
    adopted: bool,
    note: Option<&'a str>,
    /// What holds all queued jobs up changes without them; it is filled in where one is shown.
    waiting: (),
    status_url: String,
    events_url: String,
    stream_url: String,
    receipts_url: String,
    result_url: Option<String>,
    approve_url: Option<String>,
    reject_url: Option<String>,
    cancel_url: Option<String>,
    refresh_url: Option<String>,
}

impl<'a> Shown<'a> {
    fn new(job: &'a Job) -> Self {
        let d = &job.details;
        let path = format!("/api/jobs/{}", job.id);
        let link = |possible: bool, verb: &str| possible.then(|| format!("{path}/{verb}"));
        let is_held = job.state == State::Held;
        let has_video = job.state == State::Completed && d.output.video_url.is_some();
        Self {
            id: &job.id,
            kind: job.kind.name(),
            state: job.state.name(),
            callback_id: job.callback_id.as_deref(),
            title: d.title.as_deref(),
            labels: &d.labels,
            metadata: d.metadata.as_ref(),
            notify_url: d.notify_url.as_deref(),
            priority: d.priority,
            not_before: d.not_before.map(rfc3339),
            created_at: rfc3339(job.created_at),
            updated_at: rfc3339(job.updated_at),
            deadline_at: rfc3339(job.deadline_at),
            accepted_at: d.accepted_at.map(rfc3339),
            expected: Expected::of(job),
            late: d.late,
            finished_at: job.finished_at.map(rfc3339),
            upstream_id: job.upstream_id.as_deref(),
            upstream_video_id: job.upstream_video_id.as_deref(),
            progress: d.progress,
            result: (job.state == State::Completed).then_some(&d.output),
            failure: d.failure.as_ref().map(ShownFailure::new),
            cancel_reason: d.cancel_reason.as_deref(),
            found_by: d.found_by,
            charge: ShownCharge::of(job),
            evidence: Evidence::of(job),
            late_result: d.late_result.as_ref().map(ShownLate::new),
            retry_of: job.retry_of.as_deref(),
            group_id: job.group_id.as_deref(),
            group_row: d.group_row,
            adopted: d.adopted,
            note: d.note.as_deref(),
            waiting: (),
            events_url: format!("{path}/events"),
            stream_url: format!("{path}/stream"),
            receipts_url: format!("{path}/receipts"),
            result_url: has_video.then(|| format!("/api/videos/{}", job.id)),
            approve_url: link(is_held, "approve"),
            reject_url: link(is_held, "reject"),
            cancel_url: link(is_held || job.state == State::Queued, "cancel"),
            refresh_url: link(may_refresh(job), "refresh"),
            status_url: path,
        }
    }
}

/// Whether the job that is shown so has ended: for those who have nothing else of it.
pub fn has_ended(shown: &Value) -> bool {
    shown["state"].as_str().and_then(State::parse).is_some_and(State::is_terminal)
}

/// HeyGen is asked about what was sent, and after its end about what it has an id of.
fn may_refresh(job: &Job) -> bool {
    match job.state {
        State::Held | State::Queued | State::Canceled => false,
        State::Submitting | State::Unknown | State::Processing => true,
        State::Completed | State::Failed => job.upstream_id.is_some(),
    }
}

/// Upstream's words, and what they were taken to mean.
#[derive(Serialize)]
struct ShownFailure<'a> {
    #[serde(flatten)]
    failure: &'a Failure,
    advice: &'static str,
    reelhook_does: &'static str,
}

impl<'a> ShownFailure<'a> {
    fn new(failure: &'a Failure) -> Self {
        let class = failure.class;
        Self { failure, advice: class.advice(), reelhook_does: class.reelhook_does() }
    }
}

/// The range of time in which a job under way is expected to end.
#[derive(Serialize)]
struct Expected {
    from: String,
    to: String,
}

impl Expected {
    fn of(job: &Job) -> Option<Self> {
        let under_way = job.state == State::Processing;
        let (from, to) = job.expected().filter(|_| under_way)?;
        Some(Self { from: rfc3339(from), to: rfc3339(to) })
    }
}

/// Whether HeyGen took the job, and the calls by which it may have.
#[derive(Serialize)]
struct ShownCharge<'a> {
    state: &'static str,
    calls: Vec<ShownCall<'a>>,
    older_calls: u32,
}

#[derive(Serialize)]
struct ShownCall<'a> {
    sent_at: String,
    idempotency_key: String,
    repeat: bool,
    outcome: Option<&'a CallOutcome>,
}

impl<'a> ShownCharge<'a> {
    fn of(job: &'a Job) -> Option<Self> {
        let calls = &job.details.calls;
        let shown = |call: &'a Call| ShownCall {
            sent_at: rfc3339(call.sent_at),
            idempotency_key: job.key_of(call.key_number),
            repeat: call.repeat,
            outcome: call.outcome.as_ref(),
        };
        job.charge().map(|charge| Self {
            state: charge.name(),
            calls: calls.latest.iter().map(shown).collect(),
            older_calls: calls.older,
        })
    }
}

/// What is known of a job that was sent and has no result: what was asked and answered, what was told.
#[derive(Serialize)]
struct Evidence<'a> {
    asked_times: u32,
    asked_at: Option<String>,
    last_answer: Option<&'a str>,
    told: Option<&'a str>,
    told_by: Option<FoundBy>,
    told_at: Option<String>,
}

impl<'a> Evidence<'a> {
    fn of(job: &'a Job) -> Option<Self> {
        let d = &job.details;
        let was_sent = d.sent_at.is_some() || job.upstream_id.is_some();
        (was_sent && job.state != State::Completed).then(|| Self {
            asked_times: d.asked.times,
            asked_at: d.asked.last_at.map(rfc3339),
            last_answer: d.asked.answer.as_deref(),
            told: d.told.as_ref().map(|told| &*told.what),
            told_by: d.told.as_ref().map(|told| told.by),
            told_at: d.told.as_ref().map(|told| rfc3339(told.at)),
        })
    }
}

#[derive(Serialize)]
struct ShownLate<'a> {
    #[serde(flatten)]
    output: &'a Output,
    found_by: FoundBy,
    at: String,
}

impl<'a> ShownLate<'a> {
    fn new(late: &'a LateResult) -> Self {
        Self { output: &late.output, found_by: late.found_by, at: rfc3339(late.at) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::job::Output;
    use super::super::step::{Input, step};
    use super::super::table::typical;
    use super::*;

    #[test]
    fn a_link_is_there_where_its_wish_would_do_something() {
        for state in State::ALL {
            for upstream_id in [None, Some("vid_1".to_owned())] {
                let job = Job { upstream_id, ..typical(state) };
                let shown = job_json(&job);
                for (link, wish) in [
                    ("approve_url", Input::Approve),
                    ("reject_url", Input::Reject { reason: "no".to_owned() }),
                    ("cancel_url", Input::Cancel),
                    ("refresh_url", Input::Refresh),
                ] {
                    let does = matches!(step(&job, wish, 0), Ok(Some(_)));
                    assert_eq!(shown[link].is_string(), does, "{link} of {job:?}");
                }
            }
        }
    }

    #[test]
    fn a_result_has_an_address_once_there_is_a_video() {
        let mut job = typical(State::Completed);
        assert_eq!(job_json(&job)["result_url"], Value::Null, "a voice has none");
        job.details.output = Output { video_url: Some("https://v".to_owned()), ..Output::default() };
        assert_eq!(job_json(&job)["result_url"], "/api/videos/job_00000000000000000000000000");
        job.state = State::Processing;
        assert_eq!(job_json(&job)["result_url"], Value::Null);
    }
}
