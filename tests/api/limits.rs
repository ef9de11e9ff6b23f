//! What holds sending up: slots, a refused key, no credit, 429, an outage. Nothing is lost meanwhile,
//! the state says why, and what was repaired goes on by itself.

use reelhook::heygen::sandbox::{Fault, Twist, What};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases};
use crate::database::Fresh;

cases! {
    forty_jobs_never_hold_more_than_ten_slots,
    a_smaller_limit_of_heygens_is_ridden_out,
    a_refused_key_pauses_all_and_its_repair_resumes_all,
    an_empty_wallet_pauses_all_and_its_refill_resumes_all,
    a_restart_tries_a_pause_at_once,
    without_a_heygen_key_jobs_wait_and_the_state_says_so,
    retry_after_is_waited_for_as_told,
    a_429_without_retry_after_backs_off,
    a_refusal_ends_failed_with_heygens_own_words,
    what_heygen_refuses_of_a_request_of_ours_says_what_it_means,
    an_outage_of_an_hour_loses_and_doubles_nothing,
    while_heygen_is_down_nothing_goes_out_but_a_look,
    what_cannot_be_repeated_is_not_risked_while_heygen_is_down,
    a_create_route_that_is_down_alone_is_tried_ever_less_often,
    a_lost_answer_now_and_then_holds_nothing_up,
}

async fn submit_many(app: &TestApp, n: usize) -> Vec<String> {
    let mut ids = vec![];
    for nth in 0..n {
        ids.push(app.submit("video", &format!("number {nth}")).await);
    }
    ids
}

async fn all_completed_once(app: &TestApp, ids: &[String]) {
    for id in ids {
        assert_eq!((app.state(id).await, app.charges(id)), ("completed".to_owned(), 1), "{id}");
    }
}

async fn upstream(app: &TestApp) -> Value {
    app.get("/api/upstream").await.expect(200).json()
}

/// Create calls so far, whatever became of them.
fn creates(app: &TestApp) -> usize {
    let all = app.sandbox.ledger();
    let is = |what: &What| {
        matches!(what, What::Accepted { .. } | What::Refused { .. } | What::Replayed { .. })
            || matches!(what, What::Call { method, path, .. } if method == "POST" && path == "/v3/videos")
    };
    all.iter().filter(|e| is(&e.what)).count()
}

async fn forty_jobs_never_hold_more_than_ten_slots(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let ids = submit_many(&app, 40).await;
    app.settle().await;
    let state = upstream(&app).await;
    assert_eq!((&state["slots"], &state["slots_in_use"]), (&json!(10), &json!(10)));
    for _ in 0..60 {
        app.advance_s(1).await;
        let used = upstream(&app).await["slots_in_use"].as_i64().unwrap();
        assert!(used <= 10, "{used} slots in use");
    }
    all_completed_once(&app, &ids).await;
    assert_eq!(upstream(&app).await["slots_in_use"], 0);
    assert_eq!(app.sandbox.tally().refused, 0, "HeyGen never had to refuse an eleventh");
}

async fn a_smaller_limit_of_heygens_is_ridden_out(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { sandbox: |o| o.concurrency = 3, ..Setup::default() }).await;
    app.register().await;
    let ids = submit_many(&app, 12).await;
    app.advance_s(300).await;
    all_completed_once(&app, &ids).await;
    assert!(app.sandbox.tally().refused > 0, "the smaller limit was met");
}

async fn a_refused_key_pauses_all_and_its_repair_resumes_all(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.revoke_key(true);
    let ids = submit_many(&app, 3).await;
    app.settle().await;
    let later = app.submit("video", "later").await;
    app.advance_s(60).await;
    let state = upstream(&app).await;
    assert_eq!(state["paused"]["reason"], "heygen_key_refused");
    assert!(state["paused"]["next_look_at"].is_string(), "{state}");
    for id in ids.iter().chain([&later]) {
        assert_eq!(app.state(id).await, "queued");
    }
    let mut notes = vec![];
    for id in ids.iter().chain([&later]) {
        let job = app.job(id).await;
        assert_eq!(job["waiting"]["reason"], "heygen_key_refused", "each says why it waits");
        notes.extend(job["note"].as_str().map(str::to_owned));
    }
    assert!(matches!(notes.as_slice(), [one] if one.contains("401")), "one was tried: {notes:?}");
    let before = creates(&app);
    app.advance_s(1_800).await;
    assert_eq!(creates(&app), before, "none is sent while a free call says that the key is refused");
    app.sandbox.revoke_key(false);
    app.advance_s(400).await;
    assert_eq!(upstream(&app).await["paused"], json!(null));
    all_completed_once(&app, &[ids, vec![later]].concat()).await;
}

async fn an_empty_wallet_pauses_all_and_its_refill_resumes_all(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup { sandbox: |o| o.balance = 2.0, ..Setup::default() }).await;
    app.register().await;
    let ids = submit_many(&app, 4).await;
    app.advance_s(60).await;
    assert_eq!(upstream(&app).await["paused"]["reason"], "out_of_credit");
    let mut states = vec![];
    for id in &ids {
        states.push(app.state(id).await);
    }
    states.sort();
    assert_eq!(states, ["completed", "completed", "queued", "queued"]);
    app.sandbox.set_balance(100.0);
    app.advance_s(400).await;
    all_completed_once(&app, &ids).await;
}

async fn a_restart_tries_a_pause_at_once(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.revoke_key(true);
    let ids = submit_many(&app, 2).await;
    app.settle().await;
    app.sandbox.revoke_key(false);
    app.settle().await;
    assert_eq!(app.state(&ids[0]).await, "queued", "the pause still runs");
    app.restart().await;
    app.advance_s(20).await;
    all_completed_once(&app, &ids).await;
}

async fn without_a_heygen_key_jobs_wait_and_the_state_says_so(fresh: &Fresh) {
    let setup = Setup { flags: &[("heygen-api-key", "")], ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    let id = app.submit("video", "no key").await;
    app.advance_s(3_600).await;
    assert_eq!(app.state(&id).await, "queued");
    let state = upstream(&app).await;
    assert_eq!(state["paused"]["reason"], "no_heygen_key");
    assert_eq!(state["paused"]["next_look_at"], json!(null));
    assert_eq!(creates(&app), 0);
    app.post(&format!("/api/jobs/{id}/cancel"), &json!({})).await.expect(200);
}

/// The times of the create calls for a job.
fn times(app: &TestApp, id: &str) -> Vec<i64> {
    let all = app.sandbox.ledger();
    let its = all.iter().filter(|e| match &e.what {
        What::Accepted { callback_id, .. } | What::Refused { callback_id, .. } => {
            callback_id.as_deref() == Some(id)
        }
        _ => false,
    });
    its.map(|e| e.at).collect()
}

async fn retry_after_is_waited_for_as_told(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::Rate]);
    let id = app.submit("video", "rate").await;
    app.settle().await;
    assert_eq!(app.state(&id).await, "queued");
    app.advance_s(60).await;
    let times = times(&app, &id);
    assert_eq!(times.len(), 2);
    assert_eq!(times[1] - times[0], 2_000, "Retry-After said 2 s");
    all_completed_once(&app, &[id]).await;
}

async fn a_429_without_retry_after_backs_off(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::RateBare, Fault::RateBare]);
    let id = app.submit("video", "bare").await;
    app.advance_s(120).await;
    let times = times(&app, &id);
    let pauses: Vec<i64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    assert!(pauses.iter().all(|p| (1_000..=60_000).contains(p)) && !pauses.is_empty(), "{pauses:?}");
    all_completed_once(&app, &[id]).await;
}

async fn a_refusal_ends_failed_with_heygens_own_words(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::Refuse]);
    let id = app.submit("video", "refused").await;
    app.settle().await;
    let job = app.job(&id).await;
    assert_eq!(job["state"], "failed");
    assert_eq!(job["failure"]["code"], "invalid_parameter");
    let message = job["failure"]["message"].as_str().unwrap();
    assert!(message.contains("refused on purpose") && message.contains("avatar_id"), "{message}");
    let failure = &job["failure"];
    assert_eq!(failure["class"], "fix_input");
    for said in ["for_user", "advice", "reelhook_does"] {
        assert!(failure[said].as_str().is_some_and(|text| !text.is_empty()), "{said}: {failure}");
    }
    let event = app.get(&format!("/api/jobs/{id}/events")).await.expect(200).json()["data"][1].clone();
    assert_eq!(event["data"]["failure"], *failure, "as it was published");
    assert_eq!(job["found_by"], "submit");
    app.advance_s(3_600).await;
    assert_eq!((app.charges(&id), app.keys_sent(&id).len()), (0, 1), "no is no");
}

async fn an_outage_of_an_hour_loses_and_doubles_nothing(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    // One is accepted with its answer lost, then HeyGen is gone.
    app.sandbox.script_next(vec![Fault::ResetAfter]);
    let mut ids = submit_many(&app, 1).await;
    app.work().await;
    app.sandbox.set_offline(true);
    ids.extend(submit_many(&app, 5).await);
    let before = creates(&app);
    app.advance_s(3_600).await;
    let tries = creates(&app) - before;
    assert!(tries < 6 * 120, "no storm against what is down: {tries} calls");
    app.sandbox.set_offline(false);
    app.advance_s(180).await;
    all_completed_once(&app, &ids).await;
}

async fn what_heygen_refuses_of_a_request_of_ours_says_what_it_means(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let upstream =
        app.post("/api/webhooks", &json!({"events": ["no.such.event"]})).await.json()["upstream"].clone();
    assert_eq!((&upstream["code"], &upstream["class"]), (&json!("invalid_parameter"), &json!("fix_input")));
    // No job failed, so nothing is said of one.
    assert_eq!((&upstream["for_user"], &upstream["reelhook_does"]), (&json!(null), &json!(null)));
    assert!(upstream["advice"].as_str().is_some_and(|advice| advice.starts_with("Change the request")));
    app.sandbox.revoke_key(true);
    let answer = app.post("/api/webhooks", &json!({})).await;
    let upstream = answer.problem(502, "upstream_blocked")["upstream"].clone();
    assert_eq!((&upstream["code"], &upstream["class"]), (&json!("unauthorized"), &json!("wait")));
}

/// Calls of any sort so far.
fn all_calls(app: &TestApp) -> usize {
    let is = |what: &What| match what {
        What::Accepted { .. } | What::Refused { .. } | What::Replayed { .. } => true,
        What::Call { path, .. } => path.starts_with("/v3/"),
        _ => false,
    };
    app.sandbox.ledger().iter().filter(|e| is(&e.what)).count()
}

async fn waiting(app: &TestApp) -> Value {
    upstream(app).await["waiting"]["reason"].clone()
}

async fn while_heygen_is_down_nothing_goes_out_but_a_look(fresh: &Fresh) {
    let setup = Setup { sandbox: |o| o.render = 200_000..=200_000, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    app.register().await;
    // Some are under way, to be asked for; more wait.
    let mut ids = submit_many(&app, 5).await;
    app.advance_s(120).await;
    app.sandbox.set_offline(true);
    ids.extend(submit_many(&app, 43).await);
    let before = all_calls(&app);
    app.advance_s(15).await;
    assert!(all_calls(&app) - before <= 5, "a few, and looks: {}", all_calls(&app) - before);
    assert_eq!(waiting(&app).await, "heygen_down");
    for nth in 0..60 {
        let before = all_calls(&app);
        app.advance_s(10).await;
        assert!(all_calls(&app) - before <= 1, "in ten seconds, after {nth} of them");
    }
    let ended = app.post("/api/jobs/none/refresh", &json!({})).await;
    assert_eq!(ended.status, 404, "callers are answered as ever");
    app.sandbox.set_offline(false);
    app.advance_s(60).await;
    let state = upstream(&app).await;
    assert_eq!((&state["slots_in_use"], &state["waiting"]), (&json!(10), &json!(null)));
    app.advance_s(3_600).await;
    all_completed_once(&app, &ids).await;
}

async fn states(app: &TestApp, ids: &[String], wanted: &str) -> usize {
    let mut count = 0;
    for id in ids {
        count += usize::from(app.state(id).await == wanted);
    }
    count
}

async fn what_cannot_be_repeated_is_not_risked_while_heygen_is_down(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.sandbox.set_offline(true);
    let mut ids = vec![];
    for nth in 0..20 {
        ids.push(app.submit("voice_clone", &format!("voice {nth}")).await);
    }
    app.advance_s(20).await;
    assert_eq!((states(&app, &ids, "unknown").await, states(&app, &ids, "queued").await), (1, 19));
    app.sandbox.set_offline(false);
    app.advance_s(300).await;
    assert_eq!(states(&app, &ids, "completed").await, 19, "the one that a person decides on holds up none");
    assert_eq!(upstream(&app).await["slots_in_use"], 0);
    app.leave_it();
}

/// A look is answered, so HeyGen is not down; and yet no job is taken.
async fn a_create_route_that_is_down_alone_is_tried_ever_less_often(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.twist("/v3/videos", Some(Twist::Answer(503, json!({}))));
    let ids = submit_many(&app, 20).await;
    app.advance_s(120).await;
    let before = all_calls(&app);
    app.advance_s(300).await;
    let calls = all_calls(&app) - before;
    assert!(calls <= 100, "ten whose outcome is open, each once a minute, and looks: {calls}");
    app.sandbox.twist("/v3/videos", None);
    app.advance_s(600).await;
    all_completed_once(&app, &ids).await;
}

async fn a_lost_answer_now_and_then_holds_nothing_up(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::Error500]);
    let ids = submit_many(&app, 10).await;
    app.settle().await;
    let state = upstream(&app).await;
    assert_eq!((&state["slots_in_use"], &state["waiting"]), (&json!(10), &json!(null)));
    app.advance_s(60).await;
    all_completed_once(&app, &ids).await;
}
