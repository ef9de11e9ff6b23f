//! The job as the outside sees it: the same object in every answer and in every event.

use serde_json::{Map, Value, json};

use super::job::{Failure, Job, LateResult, State};
use super::time::rfc3339;

/// Links are relative references, so that an event frozen today is right behind any address.
pub fn job_json(job: &Job) -> Value {
    let d = &job.details;
    let path = format!("/api/jobs/{}", job.id);
    json!({
        "id": job.id,
        "kind": job.kind.name(),
        "state": job.state.name(),
        "callback_id": job.callback_id,
        "title": d.title,
        "labels": d.labels,
        "metadata": d.metadata,
        "notify_url": d.notify_url,
        "priority": d.priority,
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
        "failure": d.failure.as_ref().map(job_failure_json),
        "cancel_reason": d.cancel_reason,
        "found_by": d.found_by,
        "evidence": evidence(job),
        "late_result": d.late_result.as_ref().map(late_json),
        "retry_of": job.retry_of,
        "adopted": d.adopted,
        "note": d.note,
        // What holds all queued jobs up changes without them; it is filled in where one is shown.
        "waiting": null,
        "status_url": path,
        "events_url": format!("{path}/events"),
        "receipts_url": format!("{path}/receipts"),
        "cancel_url": format!("{path}/cancel"),
        "refresh_url": format!("{path}/refresh"),
    })
}

/// Upstream's words, and what they were taken to mean.
pub fn failure_json(failure: &Failure) -> Value {
    let mut shown = json!(failure);
    shown["advice"] = json!(failure.class.advice());
    shown
}

fn job_failure_json(failure: &Failure) -> Value {
    let mut shown = failure_json(failure);
    shown["reelhook_does"] = json!(failure.class.reelhook_does());
    shown
}

/// The range of time in which a job under way is expected to end.
fn expected(job: &Job) -> Option<Value> {
    let under_way = job.state == State::Processing;
    let (from, to) = job.expected().filter(|_| under_way)?;
    Some(json!({"from": rfc3339(from), "to": rfc3339(to)}))
}

/// What is known of a job that was sent and has no result: what was sent and when, what was asked
/// and answered, what was told.
fn evidence(job: &Job) -> Option<Value> {
    let d = &job.details;
    let was_sent = d.sent_at.is_some() || job.upstream_id.is_some();
    (was_sent && job.state != State::Completed).then(|| {
        json!({
            "sent_at": d.sent_at.map(rfc3339),
            "idempotency_key": d.sent_at.map(|_| job.upstream_key()),
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
