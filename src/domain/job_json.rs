//! The job as the outside sees it: the same object in every answer and in every event.

use serde_json::{Map, Value, json};

use super::charge::Call;
use super::job::{Failure, Job, LateResult, State};
use super::time::rfc3339;

/// Links are relative references, so that an event frozen today is right behind any address. What a
/// job of its state would be refused has no link.
pub fn job_json(job: &Job) -> Value {
    let d = &job.details;
    let path = format!("/api/jobs/{}", job.id);
    let is_held = job.state == State::Held;
    let has_video = job.state == State::Completed && d.output.video_url.is_some();
    let mut shown = json!({
        "id": job.id,
        "kind": job.kind.name(),
        "state": job.state.name(),
        "callback_id": job.callback_id,
        "title": d.title,
        "labels": d.labels,
        "metadata": d.metadata,
        "notify_url": d.notify_url,
        "priority": d.priority,
        "not_before": d.not_before.map(rfc3339),
        "created_at": rfc3339(job.created_at),
        "updated_at": rfc3339(job.updated_at),
        "deadline_at": rfc3339(job.deadline_at),
        "accepted_at": d.accepted_at.map(rfc3339),
        "expected": expected(job),
        "late": d.late,
        "finished_at": job.finished_at.map(rfc3339),
        "upstream_id": job.upstream_id,
        "upstream_video_id": job.upstream_video_id,
        "progress": d.progress,
        "result": (job.state == State::Completed).then(|| json!(d.output)),
        "failure": d.failure.as_ref().map(failure_json),
        "cancel_reason": d.cancel_reason,
        "found_by": d.found_by,
        "charge": charge(job),
        "evidence": evidence(job),
        "late_result": d.late_result.as_ref().map(late_json),
        "retry_of": job.retry_of,
        "group_id": job.group_id,
        "group_row": d.group_row,
        "adopted": d.adopted,
        "note": d.note,
        // What holds all queued jobs up changes without them; it is filled in where one is shown.
        "waiting": null,
        "status_url": path,
        "events_url": format!("{path}/events"),
        "stream_url": format!("{path}/stream"),
        "receipts_url": format!("{path}/receipts"),
        "result_url": has_video.then(|| format!("/api/videos/{}", job.id)),
    });
    for (name, possible, verb) in [
        ("approve_url", is_held, "approve"),
        ("reject_url", is_held, "reject"),
        ("cancel_url", is_held || job.state == State::Queued, "cancel"),
        ("refresh_url", may_refresh(job), "refresh"),
    ] {
        shown[name] = json!(possible.then(|| format!("{path}/{verb}")));
    }
    shown
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
fn failure_json(failure: &Failure) -> Value {
    let mut shown = json!(failure);
    shown["advice"] = json!(failure.class.advice());
    shown["reelhook_does"] = json!(failure.class.reelhook_does());
    shown
}

/// The range of time in which a job under way is expected to end.
fn expected(job: &Job) -> Option<Value> {
    let under_way = job.state == State::Processing;
    let (from, to) = job.expected().filter(|_| under_way)?;
    Some(json!({"from": rfc3339(from), "to": rfc3339(to)}))
}

/// Whether HeyGen took the job, and the calls by which it may have.
fn charge(job: &Job) -> Option<Value> {
    let calls = &job.details.calls;
    let call = |call: &Call| {
        json!({
            "sent_at": rfc3339(call.sent_at),
            "idempotency_key": job.key_of(call.key_number),
            "repeat": call.repeat,
            "outcome": call.outcome,
        })
    };
    job.charge().map(|charge| {
        json!({
            "state": charge.name(),
            "calls": calls.latest.iter().map(call).collect::<Vec<_>>(),
            "older_calls": calls.older,
        })
    })
}

/// What is known of a job that was sent and has no result: what was asked and answered, what was told.
fn evidence(job: &Job) -> Option<Value> {
    let d = &job.details;
    let was_sent = d.sent_at.is_some() || job.upstream_id.is_some();
    (was_sent && job.state != State::Completed).then(|| {
        json!({
            "asked_times": d.asked.times,
            "asked_at": d.asked.last_at.map(rfc3339),
            "last_answer": d.asked.answer,
            "told": d.told.as_ref().map(|told| &told.what),
            "told_by": d.told.as_ref().map(|told| told.by),
            "told_at": d.told.as_ref().map(|told| rfc3339(told.at)),
        })
    })
}

fn late_json(late: &LateResult) -> Value {
    let mut all = match json!(late.output) {
        Value::Object(all) => all,
        _ => Map::new(),
    };
    all.insert("found_by".to_owned(), json!(late.found_by));
    all.insert("at".to_owned(), json!(rfc3339(late.at)));
    Value::Object(all)
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
