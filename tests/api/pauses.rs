//! A pause of submission: by a revoked key or a lack of credit, where a thousand jobs wait and none is
//! spent to find out; and by an operator, who says why and ends it.

use reelhook::heygen::sandbox::{Fault, Options, What};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases};
use crate::database::Fresh;

cases! {
    a_thousand_jobs_under_a_revoked_key_wait_and_all_complete_after_its_repair,
    a_thousand_jobs_without_credit_wait_and_all_complete_after_a_top_up,
    a_job_that_waits_by_itself_says_so,
    jobs_that_fail_for_credit_after_they_were_taken_stop_the_rest,
    a_pause_nobody_waits_behind_is_opened_by_a_look,
    a_job_too_dear_for_the_wallet_does_not_hold_up_the_cheap_ones,
    an_operator_pauses_says_why_and_resumes,
    a_pause_outlives_a_restart_and_the_answers_of_what_was_sent,
    a_pause_may_have_no_reason_and_not_a_long_one,
}

const MANY: usize = 1_000;

async fn submit_many(app: &TestApp, n: usize) -> Vec<String> {
    let mut ids = vec![];
    for nth in 0..n {
        ids.push(app.submit("video", &format!("number {nth}")).await);
    }
    ids
}

/// Calls on HeyGen's API so far, whatever they were.
fn calls(app: &TestApp) -> usize {
    let is = |what: &What| match what {
        What::Accepted { .. } | What::Refused { .. } | What::Replayed { .. } => true,
        What::Call { path, .. } => path.starts_with("/v3/"),
        _ => false,
    };
    app.sandbox.ledger().iter().filter(|e| is(&e.what)).count()
}

/// Without the looks at the account and the event log, which cost nothing.
fn creates(app: &TestApp) -> usize {
    calls(app) - app.calls("/v3/users/me") - app.calls("/v3/webhooks/events")
}

async fn open_jobs(app: &TestApp, state: &str) -> usize {
    // A gauge of small whole numbers.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = app.metric(&format!("reelhook_jobs_open{{state=\"{state}\"}}")).await as usize;
    count
}

async fn upstream(app: &TestApp) -> Value {
    app.get("/api/upstream").await.expect(200).json()
}

/// Advances until all have ended, and says how often each was charged for.
async fn all_complete(app: &mut TestApp, ids: &[String]) {
    for _ in 0..60 {
        app.advance_s(60).await;
        if open_jobs(app, "queued").await + open_jobs(app, "processing").await == 0 {
            break;
        }
    }
    let tally = app.sandbox.tally();
    assert_eq!((tally.charges.len(), tally.paid_twice), (ids.len(), 0));
    for id in ids {
        assert_eq!(app.state(id).await, "completed", "{id}");
    }
}

/// A hundred at once, which end together, so that a thousand are soon done.
const FLAGS: &[(&str, &str)] = &[("slots", "100"), ("poll-budget", "6000")];

fn even(options: &mut Options) {
    options.concurrency = 100;
    options.render = 5_000..=5_000;
}

fn even_without_credit(options: &mut Options) {
    even(options);
    options.balance = 0.0;
}

async fn a_thousand_jobs_under_a_revoked_key_wait_and_all_complete_after_its_repair(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { flags: FLAGS, sandbox: even, ..Setup::default() }).await;
    app.register().await;
    app.sandbox.revoke_key(true);
    let ids = submit_many(&app, MANY).await;
    let before = calls(&app);
    app.settle().await;
    assert!(calls(&app) - before <= 3, "one tried, one look: {}", calls(&app) - before);
    let paused = upstream(&app).await["paused"].clone();
    assert_eq!(paused["reason"], "heygen_key_refused");
    assert!(
        paused["next_look_at"].is_string() && paused["fix"].as_str().unwrap().contains("key"),
        "{paused}"
    );
    assert_eq!(open_jobs(&app, "queued").await, MANY);
    let sent = creates(&app);
    app.advance_s(600).await;
    assert_eq!((creates(&app), open_jobs(&app, "queued").await), (sent, MANY), "no job is risked");
    let waiting = app.job(&ids[MANY - 1]).await["waiting"].clone();
    assert_eq!((&waiting["reason"], &waiting["until"]), (&json!("heygen_key_refused"), &json!(null)));
    assert!(
        (app.metric("reelhook_submission_paused{reason=\"heygen_key_refused\"}").await - 1.0).abs() < 0.1
    );
    app.sandbox.revoke_key(false);
    all_complete(&mut app, &ids).await;
}

async fn a_thousand_jobs_without_credit_wait_and_all_complete_after_a_top_up(fresh: &Fresh) {
    let setup = Setup { flags: FLAGS, sandbox: even_without_credit, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    app.register().await;
    let ids = submit_many(&app, MANY).await;
    let before = calls(&app);
    app.settle().await;
    assert!(calls(&app) - before <= 3, "one tried, one look: {}", calls(&app) - before);
    let state = upstream(&app).await;
    assert_eq!(
        (&state["paused"]["reason"], &state["balance"]["left"]),
        (&json!("out_of_credit"), &json!(0.0))
    );
    let sent = creates(&app);
    app.advance_s(600).await;
    assert_eq!((creates(&app), open_jobs(&app, "queued").await), (sent, MANY), "no job is risked");
    #[allow(clippy::cast_precision_loss)]
    app.sandbox.set_balance(MANY as f64);
    all_complete(&mut app, &ids).await;
}

/// The account has credit, and yet this one was refused for want of it.
async fn a_job_that_waits_by_itself_says_so(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::NoCredit]);
    let id = app.submit("video", "refused once").await;
    app.advance_s(60).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["waiting"]["reason"]), (&json!("queued"), &json!("not_taken")), "{job}");
    assert!(job["note"].as_str().is_some_and(|note| note.contains("credit")), "{job}");
    app.advance_s(600).await;
    assert_eq!(app.state(&id).await, "completed");
}

/// HeyGen takes a job and tells only when it is made that it cannot be paid.
async fn jobs_that_fail_for_credit_after_they_were_taken_stop_the_rest(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    for _ in 0..10 {
        app.sandbox.script_next(vec![Fault::FailCredit]);
    }
    let ids = submit_many(&app, 60).await;
    app.advance_s(3_600).await;
    let state = upstream(&app).await;
    assert_eq!(state["paused"]["reason"], "jobs_fail_for_credit");
    let mut failed = vec![];
    for id in &ids {
        let job = app.job(id).await;
        if job["state"] == "failed" {
            assert_eq!(job["failure"]["class"], "top_up", "{job}");
            failed.push(id.clone());
        }
    }
    assert!((1..=10).contains(&failed.len()), "those on their way, and no more: {}", failed.len());
    let queued = open_jobs(&app, "queued").await;
    assert!(queued >= 40, "the rest waits: {queued}");
    app.sandbox.set_balance(5_000.0);
    app.advance_s(1_200).await;
    assert_eq!(upstream(&app).await["paused"], json!(null));
    for id in ids.iter().filter(|id| !failed.contains(id)) {
        assert_eq!(app.state(id).await, "completed");
    }
}

async fn a_pause_nobody_waits_behind_is_opened_by_a_look(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.revoke_key(true);
    let id = app.submit("video", "first").await;
    app.settle().await;
    app.post(&format!("/api/jobs/{id}/cancel"), &json!({})).await.expect(200);
    app.sandbox.revoke_key(false);
    app.advance_s(120).await;
    let paused = upstream(&app).await["paused"].clone();
    assert_eq!((&paused["opened"], &paused["next_look_at"]), (&json!(true), &json!(null)));
    let looks = app.calls("/v3/users/me");
    app.advance_s(3_600).await;
    assert_eq!(app.calls("/v3/users/me"), looks, "it is the next job's turn");
    // One that does not find out: the look goes on, and lets the next one try.
    app.sandbox.script_next(vec![Fault::HangBefore]);
    let ids = submit_many(&app, 3).await;
    app.settle().await;
    assert_eq!(open_jobs(&app, "queued").await, 2, "one goes to find out");
    app.advance_s(300).await;
    assert_eq!(upstream(&app).await["paused"], json!(null));
    for id in ids {
        assert_eq!((app.state(&id).await, app.charges(&id)), ("completed".to_owned(), 1));
    }
}

async fn a_job_too_dear_for_the_wallet_does_not_hold_up_the_cheap_ones(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let dear = app.submit("video", "dear #no_credit").await;
    app.work().await;
    let cheap = submit_many(&app, 5).await;
    app.advance_s(200).await;
    for id in &cheap {
        assert_eq!(app.state(id).await, "completed");
    }
    app.advance_s(600).await;
    assert_eq!(app.state(&dear).await, "completed");
}

async fn an_operator_pauses_says_why_and_resumes(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let first = app.submit("video", "on its way").await;
    app.settle().await;
    let said =
        app.post("/api/upstream/pause", &json!({"reason": "the budget is spent"})).await.expect(200).json();
    assert_eq!(said["paused"]["reason"], "operator");
    assert_eq!(
        (&said["paused"]["by"], &said["paused"]["note"]),
        (&json!("local"), &json!("the budget is spent"))
    );
    assert_eq!(said, upstream(&app).await);
    let waits = app.submit("video", "waits").await;
    let looks = app.calls("/v3/users/me");
    app.advance_s(3_600).await;
    assert_eq!(app.state(&first).await, "completed", "what HeyGen has goes on");
    let job = app.job(&waits).await;
    assert_eq!((&job["state"], &job["waiting"]["reason"]), (&json!("queued"), &json!("operator")));
    let list = app.get("/api/jobs?state=queued").await.expect(200).json();
    assert_eq!(list["data"][0]["waiting"], job["waiting"]);
    assert_eq!(app.calls("/v3/users/me"), looks, "nothing is to be found out");
    let checks = app.get("/api/doctor").await.expect(200).json()["checks"].clone();
    let check = checks.as_array().unwrap().iter().find(|c| c["check"] == "submission").unwrap().clone();
    assert_eq!(check["status"], "fail");
    assert!(check["detail"].as_str().unwrap().contains("by local: the budget is spent"), "{check}");
    assert!(check["fix"].as_str().unwrap().contains("reelhook upstream resume"), "{check}");
    let said = app.post("/api/upstream/resume", &json!({})).await.expect(200).json();
    assert_eq!(said["paused"], json!(null));
    app.advance_s(60).await;
    assert_eq!(app.state(&waits).await, "completed");
}

async fn a_pause_outlives_a_restart_and_the_answers_of_what_was_sent(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::Hang]);
    let sent = app.submit("video", "sent").await;
    app.settle().await;
    app.post("/api/upstream/pause", &json!({})).await.expect(200);
    let waits = app.submit("video", "waits").await;
    app.advance_s(300).await;
    assert_eq!((app.state(&sent).await, app.charges(&sent)), ("completed".to_owned(), 1));
    app.restart().await;
    app.advance_s(300).await;
    assert_eq!(app.state(&waits).await, "queued", "neither what was taken nor a start resumes");
    app.post("/api/upstream/resume", &json!({})).await.expect(200);
    app.advance_s(60).await;
    assert_eq!(app.state(&waits).await, "completed");
}

async fn a_pause_may_have_no_reason_and_not_a_long_one(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let pause = |reason: Value| {
        let app = &app;
        async move { app.post("/api/upstream/pause", &json!({"reason": reason})).await }
    };
    pause(json!("x".repeat(500))).await.expect(200);
    for bad in [json!("x".repeat(501)), json!(""), json!(7)] {
        let problem = pause(bad).await.problem(422, "invalid_request");
        assert_eq!(problem["errors"][0]["pointer"], "/reason");
    }
    let said = pause(json!(null)).await.expect(200).json();
    assert_eq!(said["paused"]["note"], json!(null));
    app.post("/api/upstream/pause", &json!({"why": "x"})).await.problem(422, "invalid_request");
    for _ in 0..2 {
        let said = app.post("/api/upstream/resume", &json!({})).await.expect(200).json();
        assert_eq!(said["paused"], json!(null), "twice is once");
    }
}
