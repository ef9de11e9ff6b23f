//! Polls of many jobs: together where HeyGen has a call for that, singly wherever its answer leaves
//! anything open, and never more often than the budget allows.

use reelhook::heygen::sandbox::{Twist, What};
use reelhook::params;
use reelhook::store::Tx;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, new_job};
use crate::database::Fresh;

cases! {
    a_thousand_jobs_are_asked_for_in_ten_calls,
    one_job_alone_is_asked_for_singly,
    what_was_sent_apart_comes_due_together,
    what_the_answer_leaves_out_is_asked_for_singly,
    a_broken_entry_harms_no_other,
    without_the_route_everything_is_asked_for_singly,
    an_answer_that_fails_is_asked_for_singly,
    a_job_that_cannot_be_read_harms_no_other,
    a_429_is_honoured,
    the_budget_bounds_the_asks_of_a_minute,
    whoever_is_waited_for_is_asked_for_first,
    what_was_asked_and_answered_is_on_the_job,
    what_a_webhook_left_out_is_asked_for_once,
    without_an_answer_it_is_asked_for_again,
    what_was_told_whole_is_not_asked_for,
}

const STATUSES: &str = "/v3/videos/statuses";

async fn polling(fresh: &Fresh, flags: &[(&'static str, &str)]) -> TestApp {
    let all = [&[("first-poll", "60"), ("slots", "2000")], flags].concat();
    let setup = Setup {
        flags: &all,
        public: false,
        sandbox: |o| {
            o.concurrency = 2_000;
            o.balance = 5_000.0;
        },
        ..Setup::default()
    };
    TestApp::with(fresh, setup).await
}

async fn submit(app: &TestApp, kind: &str, count: usize, title: &str) -> Vec<String> {
    let mut ids = vec![];
    for _ in 0..count {
        ids.push(app.submit(kind, title).await);
    }
    ids
}

/// Asks after single videos, sessions or translations, since entry `from` of the ledger.
fn singles(app: &TestApp, from: usize) -> Vec<String> {
    let ledger = app.sandbox.ledger();
    let asked = ledger.into_iter().skip(from).filter_map(|e| match e.what {
        What::Call { method, path, .. } if method == "GET" && path.matches('/').count() == 3 => Some(path),
        _ => None,
    });
    asked
        .filter(|path| !path.ends_with("/statuses") && !path.contains("webhooks") && !path.contains("users"))
        .collect()
}

async fn upstream_id(app: &TestApp, id: &str) -> String {
    app.job(id).await["upstream_id"].as_str().expect("an id").to_owned()
}

fn line(id: &str, status: &str) -> Value {
    json!({"video_id": id, "status": status, "error": null})
}

fn answer(lines: Vec<Value>) -> Option<Twist> {
    Some(Twist::Answer(200, json!({ "data": lines })))
}

async fn a_thousand_jobs_are_asked_for_in_ten_calls(fresh: &Fresh) {
    let mut app = polling(fresh, &[]).await;
    submit(&app, "video", 1_000, "goes on #stuck").await;
    app.advance_s(59).await;
    assert_eq!((app.calls(STATUSES), singles(&app, 0).len()), (0, 0));
    app.advance_s(1).await;
    assert_eq!((app.calls(STATUSES), singles(&app, 0).len()), (10, 0));
    app.leave_it();
}

async fn one_job_alone_is_asked_for_singly(fresh: &Fresh) {
    let mut app = polling(fresh, &[]).await;
    submit(&app, "video", 1, "alone #lost").await;
    app.advance_s(60).await;
    assert_eq!((app.calls(STATUSES), singles(&app, 0).len()), (0, 1));
}

async fn what_was_sent_apart_comes_due_together(fresh: &Fresh) {
    let mut app = polling(fresh, &[]).await;
    for _ in 0..10 {
        submit(&app, "video", 1, "goes on #stuck").await;
        app.advance_s(1).await;
    }
    // The first is expected after a minute, the last ten seconds later.
    app.advance_s(65).await;
    assert_eq!(
        (app.calls(STATUSES), singles(&app, 0).len()),
        (1, 1),
        "the first was due at a beat of its own"
    );
    app.advance_s(30).await;
    assert_eq!((app.calls(STATUSES), singles(&app, 0).len()), (3, 1));
    app.leave_it();
}

async fn what_the_answer_leaves_out_is_asked_for_singly(fresh: &Fresh) {
    let mut app = polling(fresh, &[]).await;
    let done = submit(&app, "video", 2, "done").await;
    let open = submit(&app, "video", 2, "goes on #stuck").await;
    app.advance_s(59).await;
    // Of the four only one is listed, and one of those that ended is said not to exist.
    let listed = [upstream_id(&app, &open[0]).await, upstream_id(&app, &done[0]).await];
    app.sandbox.twist(STATUSES, answer(vec![line(&listed[0], "processing"), line(&listed[1], "not_found")]));
    app.advance_s(1).await;
    assert_eq!(app.calls(STATUSES), 1);
    let mut asked = singles(&app, 0);
    asked.sort();
    let mut expected = vec![];
    for id in [&done[0], &done[1], &open[1]] {
        expected.push(format!("/v3/videos/{}", upstream_id(&app, id).await));
    }
    expected.sort();
    assert_eq!(asked, expected);
    for id in &done {
        assert_eq!(app.state(id).await, "completed", "its own answer counts");
    }
    for id in &open {
        assert_eq!(app.state(id).await, "processing");
    }
}

async fn a_broken_entry_harms_no_other(fresh: &Fresh) {
    let mut app = polling(fresh, &[]).await;
    let open = submit(&app, "video", 3, "goes on #stuck").await;
    let done = submit(&app, "video", 1, "done").await;
    app.advance_s(59).await;
    let broken =
        [json!(7), json!({"video_id": upstream_id(&app, &done[0]).await, "status": {"odd": 1}}), json!({})];
    let mut lines = broken.to_vec();
    for id in &open {
        lines.push(line(&upstream_id(&app, id).await, "pending"));
    }
    app.sandbox.twist(STATUSES, answer(lines));
    app.advance_s(1).await;
    assert_eq!(singles(&app, 0).len(), 1, "only what was broken");
    assert_eq!(app.state(&done[0]).await, "completed");
    for id in &open {
        assert_eq!(app.job(id).await["evidence"]["last_answer"], "in progress");
    }
}

async fn without_the_route_everything_is_asked_for_singly(fresh: &Fresh) {
    let mut app = polling(fresh, &[]).await;
    for (n, body) in
        [json!({"error": {"code": "not_found", "message": "no"}}), json!("<html>")].iter().enumerate()
    {
        let ids = submit(&app, "video", 3, "done #lost").await;
        app.sandbox.twist(STATUSES, Some(Twist::Answer(404, body.clone())));
        app.advance_s(60).await;
        assert_eq!(app.calls(STATUSES), n + 1);
        for id in &ids {
            assert_eq!(app.state(id).await, "completed");
        }
    }
    assert!(app.get("/api/upstream").await.json()["paused"].is_null(), "submission goes on");
}

async fn an_answer_that_fails_is_asked_for_singly(fresh: &Fresh) {
    let mut app = polling(fresh, &[]).await;
    let ids = submit(&app, "video", 3, "done").await;
    app.sandbox.twist(STATUSES, Some(Twist::Answer(500, json!({"error": {"code": "internal_error"}}))));
    app.advance_s(60).await;
    for id in &ids {
        assert_eq!(app.state(id).await, "completed", "one id may have spoilt it for all");
    }
}

async fn a_job_that_cannot_be_read_harms_no_other(fresh: &Fresh) {
    let mut app = polling(fresh, &[]).await;
    let ids = submit(&app, "video", 3, "done").await;
    app.settle().await;
    let broken = ids[0].clone();
    let breaks = move |tx: &mut Tx| {
        let was =
            tx.one("SELECT details FROM job WHERE id = ?1", params![&broken])?.expect("the job").text(0)?;
        tx.execute("UPDATE job SET details = '{' WHERE id = ?1", params![&broken])?;
        Ok(was)
    };
    let was = app.db().write(breaks).await.expect("broken");
    app.advance_s(60).await;
    for id in &ids[1..] {
        assert_eq!(app.state(id).await, "completed");
    }
    // It is tried again, ever less often, and once it can be read it ends as well.
    let broken = ids[0].clone();
    let mend =
        move |tx: &mut Tx| tx.execute("UPDATE job SET details = ?2 WHERE id = ?1", params![&broken, &was]);
    app.db().write(mend).await.expect("mended");
    app.advance_s(60).await;
    assert_eq!(app.state(&ids[0]).await, "completed");
}

async fn a_429_is_honoured(fresh: &Fresh) {
    let mut app = polling(fresh, &[("poll-pause", "1")]).await;
    let ids = submit(&app, "video", 3, "done").await;
    let error = json!({"error": {"code": "rate_limit_exceeded", "message": "slow down"}});
    app.sandbox.twist(STATUSES, Some(Twist::Answer(429, error)));
    app.advance_s(89).await;
    assert_eq!((app.calls(STATUSES), singles(&app, 0).len()), (1, 0), "left alone for half a minute");
    app.sandbox.twist(STATUSES, None);
    app.advance_s(10).await;
    for id in &ids {
        assert_eq!(app.state(id).await, "completed");
    }
}

async fn the_budget_bounds_the_asks_of_a_minute(fresh: &Fresh) {
    let mut app = polling(fresh, &[("poll-budget", "5")]).await;
    // A session and its video: two calls each.
    submit(&app, "video_agent", 6, "goes on #stuck").await;
    app.advance_s(60).await;
    assert_eq!(singles(&app, 0).len(), 4, "a third would be the sixth call");
    app.advance_s(59).await;
    assert_eq!(singles(&app, 0).len(), 4);
    app.advance_s(1).await;
    assert_eq!(singles(&app, 0).len(), 8);
    app.advance_s(60).await;
    let mut asked = singles(&app, 0);
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 12, "nobody is passed over");
    app.leave_it();
}

async fn whoever_is_waited_for_is_asked_for_first(fresh: &Fresh) {
    let mut app = polling(fresh, &[("poll-budget", "2")]).await;
    submit(&app, "video_agent", 10, "goes on #stuck").await;
    app.advance_s(30).await;
    let wanted = app.submit("video", "wanted").await;
    app.advance_s(31).await;
    let from = app.sandbox.ledger().len();
    app.post(&format!("/api/jobs/{wanted}/refresh"), &json!({})).await.expect(202);
    app.advance_s(58).await;
    assert_eq!(singles(&app, from), [""; 0], "within the budget");
    app.advance_s(1).await;
    let job = app.job(&wanted).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("refresh")));
    app.leave_it();
}

async fn what_was_asked_and_answered_is_on_the_job(fresh: &Fresh) {
    let mut app = polling(fresh, &[]).await;
    let id = app.submit("video", "goes on #stuck").await;
    app.advance_s(60).await;
    let evidence = app.job(&id).await["evidence"].clone();
    assert_eq!((&evidence["asked_times"], &evidence["last_answer"]), (&json!(1), &json!("in progress")));
    let path = format!("/v3/videos/{}", upstream_id(&app, &id).await);
    app.sandbox.twist(&path, Some(Twist::Answer(500, json!({"error": {"message": "our side"}}))));
    app.post(&format!("/api/jobs/{id}/refresh"), &json!({})).await.expect(202);
    app.settle().await;
    let evidence = app.job(&id).await["evidence"].clone();
    assert_eq!(
        (&evidence["asked_times"], &evidence["last_answer"]),
        (&json!(2), &json!("HeyGen answered 500: our side"))
    );
}

async fn told(fresh: &Fresh) -> TestApp {
    let app = TestApp::new(fresh).await;
    app.register().await;
    app
}

async fn a_captioned_video(app: &TestApp) -> String {
    let mut job = new_job("video", "captioned");
    job["request"]["caption"] = json!({"file_format": "srt"});
    let job = app.post("/api/jobs", &job).await.expect(202).json();
    job["id"].as_str().expect("an id").to_owned()
}

/// Names of the fields that a result has.
async fn fields(app: &TestApp, id: &str) -> Vec<String> {
    let job = app.job(id).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("webhook")));
    job["result"].as_object().expect("a result").keys().cloned().collect()
}

const WHOLE: [&str; 7] =
    ["video_url", "captioned_video_url", "caption_url", "thumbnail_url", "gif_url", "page_url", "duration_s"];

async fn what_a_webhook_left_out_is_asked_for_once(fresh: &Fresh) {
    let mut app = told(fresh).await;
    let id = a_captioned_video(&app).await;
    app.advance_s(12).await;
    assert_eq!(fields(&app, &id).await, ["video_url", "gif_url", "page_url"], "told at once");
    let told = app.events(&id).await;
    app.advance_s(15).await;
    assert_eq!(fields(&app, &id).await, WHOLE);
    app.advance_s(3_600).await;
    assert_eq!(singles(&app, 0).len(), 1);
    assert_eq!(app.events(&id).await, told, "nobody is told twice of one end");
}

async fn without_an_answer_it_is_asked_for_again(fresh: &Fresh) {
    let mut app = told(fresh).await;
    let id = a_captioned_video(&app).await;
    app.settle().await;
    let path = format!("/v3/videos/{}", upstream_id(&app, &id).await);
    app.sandbox.twist(&path, Some(Twist::Answer(500, json!({}))));
    app.advance_s(90).await;
    assert_eq!(app.calls(&path), 2);
    app.sandbox.twist(&path, None);
    app.advance_s(60).await;
    assert_eq!(fields(&app, &id).await, WHOLE);
    // Not for ever: the links are there, and a refresh gets the rest.
    let id = a_captioned_video(&app).await;
    app.settle().await;
    let path = format!("/v3/videos/{}", upstream_id(&app, &id).await);
    app.sandbox.twist(&path, Some(Twist::Answer(500, json!({}))));
    app.advance_s(3_600).await;
    assert_eq!(app.calls(&path), 3);
    let was_told = ["video_url", "caption_url", "gif_url", "page_url"];
    assert_eq!(fields(&app, &id).await, was_told, "the captions by an event of their own");
}

async fn what_was_told_whole_is_not_asked_for(fresh: &Fresh) {
    let mut app = told(fresh).await;
    let id = app.submit("ai_clipping", "two clips").await;
    app.advance_s(3_600).await;
    assert_eq!(fields(&app, &id).await, ["clips"]);
    assert_eq!(singles(&app, 0), [""; 0]);
}
