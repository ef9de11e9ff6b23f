//! Every job ends by a stated time, whatever state it is in, with the evidence; and what is heard
//! after the end is kept beside it.

use std::time::Duration;

use reelhook::domain::time::rfc3339;
use reelhook::heygen::sandbox::{Fault, What};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, new_job, signed};
use crate::database::Fresh;

cases! {
    a_held_job_expires,
    a_queued_job_expires,
    an_unknown_job_ends_outcome_unknown,
    a_job_being_sent_ends_outcome_unknown,
    a_processing_job_ends_lost_upstream,
    the_last_look_before_the_deadline_finds_the_end,
    a_late_success_is_kept_beside_the_end,
    a_late_success_of_an_unknown_job_is_kept_too,
    a_key_older_than_20_hours_is_never_resent_but_found_in_the_event_log,
    what_the_event_log_does_not_know_stays_open_until_the_deadline,
}

async fn submit(app: &TestApp, title: &str, seconds: i64, hold: bool) -> String {
    let mut body = new_job("video", title);
    body["deadline"] = json!(rfc3339(app.now() + seconds * 1_000));
    body["hold"] = json!(hold);
    let job = app.post("/api/jobs", &body).await.expect(202).json();
    job["id"].as_str().unwrap().to_owned()
}

async fn ended_by_time(app: &TestApp, id: &str, state: &str, event: &str) -> Value {
    let job = app.job(id).await;
    assert_eq!(job["state"], state, "{job}");
    assert_eq!(job["found_by"], "deadline");
    assert_eq!(job["finished_at"], job["deadline_at"], "to the millisecond");
    assert_eq!(app.events(id).await.last().map(String::as_str), Some(event));
    job
}

async fn a_held_job_expires(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let id = submit(&app, "held", 60, true).await;
    app.advance(Duration::from_millis(59_999)).await;
    assert_eq!(app.state(&id).await, "held");
    app.advance_s(1).await;
    let job = ended_by_time(&app, &id, "canceled", "job.canceled").await;
    assert_eq!(job["cancel_reason"], "expired");
    assert_eq!(app.sandbox.tally().accepted, 0);
}

async fn a_queued_job_expires(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.sandbox.revoke_key(true);
    let id = submit(&app, "queued", 60, false).await;
    app.advance_s(61).await;
    let job = ended_by_time(&app, &id, "canceled", "job.canceled").await;
    assert_eq!(job["cancel_reason"], "expired");
    app.sandbox.revoke_key(false);
    app.advance_s(600).await;
    assert_eq!(app.charges(&id), 0, "what expired is not sent");
}

async fn an_unknown_job_ends_outcome_unknown(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.sandbox.script_next(vec![Fault::ResetAfter, Fault::Lost]);
    let id = submit(&app, "unknown", 120, false).await;
    app.work().await;
    app.sandbox.set_offline(true);
    app.advance_s(121).await;
    let job = ended_by_time(&app, &id, "failed", "job.failed").await;
    assert_eq!(job["failure"]["code"], "outcome_unknown");
    assert!(job["failure"]["message"].as_str().unwrap().contains("may have been charged"), "{job}");
    app.sandbox.set_offline(false);
    app.advance_s(600).await;
    assert_eq!(app.state(&id).await, "failed");
    assert_eq!(app.charges(&id), 1);
}

async fn a_job_being_sent_ends_outcome_unknown(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.sandbox.script_next(vec![Fault::HangBefore]);
    let id = submit(&app, "being sent", 60, false).await;
    app.advance_s(61).await;
    let job = ended_by_time(&app, &id, "failed", "job.failed").await;
    assert_eq!(job["failure"]["code"], "outcome_unknown");
    app.advance_s(600).await;
    assert_eq!(app.keys_sent(&id).len(), 1, "what has ended is not sent again");
    assert_eq!(app.charges(&id), 0);
}

async fn a_processing_job_ends_lost_upstream(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = submit(&app, "never ends #stuck", 3_600, false).await;
    app.advance_s(3_601).await;
    let job = ended_by_time(&app, &id, "failed", "job.failed").await;
    assert_eq!(job["failure"]["code"], "lost_upstream");
    let evidence = job["failure"]["message"].as_str().unwrap();
    assert!(evidence.contains(job["upstream_id"].as_str().unwrap()), "it names HeyGen's id: {evidence}");
    let state = app.get("/api/upstream").await.json();
    assert_eq!(state["slots_in_use"], 0);
}

async fn the_last_look_before_the_deadline_finds_the_end(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    // Shorter than the usual time to the first poll.
    let id = submit(&app, "quiet #lost", 120, false).await;
    app.advance_s(130).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("poll")));
}

async fn a_late_success_is_kept_beside_the_end(fresh: &Fresh) {
    let setup = Setup { sandbox: |o| o.render = 120_000..=120_000, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    app.register().await;
    let id = submit(&app, "late #double", 60, false).await;
    app.advance_s(61).await;
    let before = ended_by_time(&app, &id, "failed", "job.failed").await;
    app.advance_s(600).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["failure"]), (&before["state"], &before["failure"]), "the end stays");
    assert_eq!(job["finished_at"], before["finished_at"]);
    assert_eq!(job["result"], json!(null));
    assert!(job["late_result"]["video_url"].is_string(), "{job}");
    assert_eq!(job["late_result"]["found_by"], "webhook");
    let events = app.events(&id).await;
    assert_eq!(events, ["job.queued", "job.processing", "job.failed", "job.late_result"], "once");
    assert_eq!(app.charges(&id), 1);
}

async fn a_late_success_of_an_unknown_job_is_kept_too(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    app.sandbox.script_next(vec![Fault::ResetAfter, Fault::Lost]);
    let id = submit(&app, "never heard of", 60, false).await;
    app.work().await;
    app.sandbox.set_offline(true);
    app.advance_s(61).await;
    ended_by_time(&app, &id, "failed", "job.failed").await;
    let body = json!({"event_type": "avatar_video.success", "event_data": {
        "video_id": "at-last", "url": "https://files.heygen.ai/late.mp4", "callback_id": id,
    }})
    .to_string();
    app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body.clone()).await.expect(200);
    app.settle().await;
    let job = app.job(&id).await;
    assert_eq!(job["state"], "failed");
    assert_eq!(job["late_result"]["video_url"], "https://files.heygen.ai/late.mp4");
    assert_eq!(job["upstream_id"], "at-last");
    // It is found by HeyGen's id from now on.
    assert_eq!(app.get("/api/jobs/at-last").await.expect(200).json()["id"], json!(id));
    // Its submit waits for HeyGen, to learn that there is nothing left to do.
    app.sandbox.set_offline(false);
    app.advance_s(20).await;
}

/// Create calls for the job that arrived after `since`.
fn creates_after(app: &TestApp, since: i64) -> usize {
    let all = app.sandbox.ledger();
    let is_create = |what: &What| match what {
        What::Accepted { .. } | What::Refused { .. } | What::Replayed { .. } => true,
        What::Call { method, path, .. } => method == "POST" && path == "/v3/videos",
        _ => false,
    };
    all.iter().filter(|e| e.at > since && is_create(&e.what)).count()
}

const HOUR: u64 = 3_600;

async fn a_key_older_than_20_hours_is_never_resent_but_found_in_the_event_log(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.sandbox.script_next(vec![Fault::ResetAfter, Fault::Lost]);
    let id = app.submit("video", "old key").await;
    let sent_at = app.now();
    app.work().await;
    app.sandbox.set_offline(true);
    app.advance(Duration::from_secs(20 * HOUR)).await;
    assert_eq!(app.state(&id).await, "unknown");
    app.advance_s(600).await;
    app.sandbox.set_offline(false);
    app.advance_s(1_800).await;
    let job = app.job(&id).await;
    assert_eq!(job["state"], "completed", "{job}");
    assert_eq!(app.charges(&id), 1);
    assert_eq!(creates_after(&app, sent_at + 20 * 3_600_000), 0, "never resent after 20 h");
    assert!(app.calls("/v3/webhooks/events") > 0, "the event log was read");
}

async fn what_the_event_log_does_not_know_stays_open_until_the_deadline(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.sandbox.script_next(vec![Fault::ResetBefore]);
    let id = app.submit("video", "never accepted").await;
    let sent_at = app.now();
    app.work().await;
    app.sandbox.set_offline(true);
    app.advance(Duration::from_secs(20 * HOUR)).await;
    app.sandbox.set_offline(false);
    // The last resend may have fallen right on the limit.
    let since = sent_at + 20 * 3_600_000;
    app.advance(Duration::from_secs(HOUR)).await;
    let job = app.job(&id).await;
    let note = job["note"].as_str().unwrap_or_default();
    assert!(
        note.contains("event log") && note.contains("accept_second_charge"),
        "why, and what to do: {job}"
    );
    app.advance(Duration::from_secs(3 * HOUR + 1)).await;
    let job = ended_by_time(&app, &id, "failed", "job.failed").await;
    assert_eq!(job["failure"]["code"], "outcome_unknown");
    assert_eq!((app.charges(&id), creates_after(&app, since)), (0, 0));
}
