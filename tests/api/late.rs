//! When a job is expected to end, learned from how long its kind took; when it is late; and the
//! evidence of one that HeyGen lost.

use reelhook::domain::time::{Millis, parse_rfc3339, rfc3339};
use reelhook::heygen::sandbox::Twist;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, new_job};
use crate::database::Fresh;

cases! {
    without_a_history_the_range_is_that_of_the_kind,
    the_range_is_learned_from_what_completed,
    a_late_job_is_marked_and_told_once_and_still_ends_by_its_deadline,
    what_ends_in_time_is_never_late,
    a_deadline_before_the_range_ends_only_ends,
    a_lost_job_carries_what_was_sent_asked_and_answered,
}

async fn submit(app: &TestApp, title: &str, deadline_s: i64) -> String {
    let mut body = new_job("video", title);
    body["deadline"] = json!(rfc3339(app.now() + deadline_s * 1_000));
    let job = app.post("/api/jobs", &body).await.expect(202).json();
    job["id"].as_str().expect("an id").to_owned()
}

/// How far from its acceptance the job is expected, in milliseconds.
fn range(job: &Value) -> (Millis, Millis) {
    let at =
        |value: &Value| parse_rfc3339(value.as_str().unwrap_or_default()).unwrap_or_else(|| panic!("{job}"));
    let accepted = at(&job["accepted_at"]);
    (at(&job["expected"]["from"]) - accepted, at(&job["expected"]["to"]) - accepted)
}

async fn without_a_history_the_range_is_that_of_the_kind(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let video = app.submit("video", "one").await;
    let agent = app.submit("video_agent", "two").await;
    assert_eq!(app.job(&video).await["expected"], Value::Null, "not before HeyGen has it");
    app.settle().await;
    assert_eq!(range(&app.job(&video).await), (150_000, 600_000));
    assert_eq!(range(&app.job(&agent).await), (900_000, 3_600_000));
    app.advance_s(60).await;
    assert_eq!(app.job(&video).await["expected"], Value::Null, "it has ended");
}

async fn the_range_is_learned_from_what_completed(fresh: &Fresh) {
    let setup = Setup { sandbox: |o| o.render = 60_000..=60_000, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    app.register().await;
    for _ in 0..9 {
        app.submit("video", "done").await;
    }
    app.submit("video", "fails #fail").await;
    app.advance_s(600).await;
    let early = app.submit("video", "from nine nothing is learned").await;
    app.settle().await;
    assert_eq!(range(&app.job(&early).await), (150_000, 600_000));
    app.advance_s(600).await;
    let next = app.submit("video", "learned").await;
    let other = app.submit("translation", "of another kind").await;
    app.settle().await;
    assert_eq!(range(&app.job(&next).await), (60_000, 75_000));
    assert_eq!(range(&app.job(&other).await).1, 1_800_000);
    app.restart().await;
    assert_eq!(range(&app.job(&next).await), (60_000, 75_000), "it stays with the job");
}

async fn a_late_job_is_marked_and_told_once_and_still_ends_by_its_deadline(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = submit(&app, "never ends #stuck", 3_600).await;
    app.advance_s(599).await;
    assert_eq!(app.job(&id).await["late"], json!(false));
    app.advance_s(1).await;
    let job = app.job(&id).await;
    assert_eq!((&job["late"], &job["state"]), (&json!(true), &json!("processing")));
    app.advance_s(2_999).await;
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.late"]);
    app.advance_s(1).await;
    let job = app.job(&id).await;
    assert_eq!(job["finished_at"], job["deadline_at"]);
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.late", "job.failed"]);
}

async fn what_ends_in_time_is_never_late(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = submit(&app, "fine", 3_600).await;
    app.advance_s(4_000).await;
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.completed"]);
    assert_eq!(app.job(&id).await["late"], json!(false));
}

async fn a_deadline_before_the_range_ends_only_ends(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = submit(&app, "never ends #stuck", 120).await;
    app.advance_s(121).await;
    let job = app.job(&id).await;
    assert_eq!(job["finished_at"], job["deadline_at"]);
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.failed"]);
}

async fn a_lost_job_carries_what_was_sent_asked_and_answered(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { public: false, ..Setup::default() }).await;
    let sent_at = app.now();
    let id = submit(&app, "never ends #stuck", 600).await;
    app.advance_s(60).await;
    let upstream_id = app.job(&id).await["upstream_id"].as_str().expect("an id").to_owned();
    let error = json!({"error": {"code": "internal_error", "message": "our side"}});
    app.sandbox.twist(&format!("/v3/videos/{upstream_id}"), Some(Twist::Answer(500, error)));
    // A hint of somebody, at the job's own address.
    app.call("POST", &app.address(&id), &[], "{}").await.expect(200);
    app.advance_s(541).await;
    let job = app.job(&id).await;
    assert_eq!(job["failure"]["code"], "lost_upstream");
    let evidence = &job["evidence"];
    let call = json!({"sent_at": rfc3339(sent_at), "idempotency_key": format!("{id}-0"), "repeat": false,
        "outcome": "accepted"});
    assert_eq!(job["charge"], json!({"state": "once", "calls": [call], "older_calls": 0}));
    assert_eq!(evidence["last_answer"], "HeyGen answered 500: our side");
    assert_eq!(evidence["told"], "something happened");
    assert_eq!(evidence["told_by"], "webhook");
    let asked = app.calls(&format!("/v3/videos/{upstream_id}"));
    assert_eq!(evidence["asked_times"], json!(asked));
    let last_look = parse_rfc3339(evidence["asked_at"].as_str().expect("a time")).expect("a time");
    assert!(last_look >= sent_at + 570_000, "it was asked just before the end");
    let words = job["failure"]["message"].as_str().expect("words");
    assert!(words.contains(&format!("asked {asked} times")) && words.contains("our side"), "{words}");
}
