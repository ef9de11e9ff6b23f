//! What a job says of being charged agrees with the sandbox's ledger; and no job goes out while the account has less
//! than the least that is to be left.

use reelhook::domain::time::{MINUTE, rfc3339};
use reelhook::heygen::sandbox::{Fault, Twist};
use serde_json::{Value, json};

use crate::app::{START, Setup, TestApp, cases, new_job, request, signed, texts};
use crate::database::Fresh;

cases! {
    a_lost_answer_and_a_repeat_with_the_same_key_are_two_calls_and_one_charge,
    what_nobody_answered_until_the_deadline_is_open,
    an_open_charge_is_known_once_heygen_tells_of_the_job_after_its_end,
    what_heygen_refused_took_nothing_and_each_try_has_its_key,
    a_call_whose_server_died_is_listed,
    a_call_whose_server_died_and_whose_job_ended_meanwhile_had_no_answer,
    a_retry_has_calls_of_its_own_and_a_job_that_was_never_sent_none,
    an_adopted_job_says_nothing_of_charges,
    below_the_least_balance_nothing_is_sent_and_it_goes_on_by_itself,
    the_balance_is_seen_before_the_first_job_after_a_start,
    a_balance_that_was_not_seen_lately_lets_nothing_out,
    a_least_balance_that_is_not_told_pauses,
    nobody_who_set_nothing_is_looked_up,
    a_dry_run_tells_the_balance_last_seen,
}

async fn charge(app: &TestApp, id: &str) -> Value {
    app.job(id).await["charge"].clone()
}

/// Whether again, and what came of it, of each call.
fn calls(charge: &Value) -> Vec<(bool, Option<&str>)> {
    let calls = charge["calls"].as_array().expect("calls");
    calls.iter().map(|call| (call["repeat"] == true, call["outcome"].as_str())).collect()
}

async fn a_lost_answer_and_a_repeat_with_the_same_key_are_two_calls_and_one_charge(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    // Only the answer to the create call can tell.
    app.sandbox.script_next(vec![Fault::ResetAfter, Fault::Lost]);
    let id = app.submit("video", "lost answer").await;
    assert_eq!(charge(&app, &id).await, json!({"state": "none", "calls": [], "older_calls": 0}));
    app.work().await;
    let open = charge(&app, &id).await;
    assert_eq!((&open["state"], calls(&open)), (&json!("open"), vec![(false, Some("no_answer"))]));
    app.advance_s(10).await;
    let once = charge(&app, &id).await;
    assert_eq!(once["state"], "once");
    assert_eq!(calls(&once), [(false, Some("no_answer")), (true, Some("accepted"))]);
    assert_eq!(texts(&once["calls"], "idempotency_key"), app.keys_sent(&id), "as the ledger has them");
    assert_eq!(once["calls"][0]["sent_at"], rfc3339(START));
    assert_eq!(app.charges(&id), 1);
    app.advance_s(600).await;
    let page = app.get(&format!("/api/jobs/{id}/events")).await.expect(200).json();
    let end = page["data"].as_array().expect("events").last().expect("an end").clone();
    assert_eq!(
        (&end["type"], &end["data"]["charge"]),
        (&json!("job.completed"), &once),
        "the event tells it, too"
    );
}

async fn what_nobody_answered_until_the_deadline_is_open(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.sandbox.script_next(vec![Fault::HangBefore]);
    let mut body = new_job("video", "no answer");
    body["deadline"] = json!(rfc3339(app.now() + MINUTE));
    let id = app.post("/api/jobs", &body).await.expect(202).json()["id"].as_str().expect("an id").to_owned();
    app.settle().await;
    assert_eq!(calls(&charge(&app, &id).await), [(false, None)], "under way");
    app.advance_s(61).await;
    assert_eq!(app.job(&id).await["failure"]["code"], "outcome_unknown");
    app.advance_s(120).await;
    let open = charge(&app, &id).await;
    assert_eq!((&open["state"], calls(&open)), (&json!("open"), vec![(false, Some("no_answer"))]));
}

async fn an_open_charge_is_known_once_heygen_tells_of_the_job_after_its_end(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    app.sandbox.script_next(vec![Fault::ResetAfter, Fault::Lost]);
    let mut body = new_job("video", "fails unheard");
    body["deadline"] = json!(rfc3339(app.now() + MINUTE));
    let id = app.post("/api/jobs", &body).await.expect(202).json()["id"].as_str().expect("an id").to_owned();
    app.work().await;
    app.sandbox.set_offline(true);
    app.advance_s(61).await;
    assert_eq!(charge(&app, &id).await["state"], "open");
    let told =
        json!({"event_type": "avatar_video.fail", "event_data": {"video_id": "at-last", "callback_id": id,
        "msg": "no"}})
        .to_string();
    app.webhook(&[("signature", &signed(&secret, told.as_bytes()))], told.clone()).await.expect(200);
    app.settle().await;
    let job = app.job(&id).await;
    assert_eq!((&job["charge"]["state"], &job["upstream_id"]), (&json!("once"), &json!("at-last")));
    assert_eq!(job["failure"]["code"], "outcome_unknown", "the end stays");
    app.sandbox.set_offline(false);
    app.advance_s(20).await;
}

async fn what_heygen_refused_took_nothing_and_each_try_has_its_key(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::RateBare, Fault::Refuse]);
    let id = app.submit("video", "refused").await;
    app.advance_s(120).await;
    let none = charge(&app, &id).await;
    assert_eq!(none["state"], "none");
    assert_eq!(calls(&none), [(false, Some("not_taken")), (false, Some("refused"))]);
    assert_eq!(texts(&none["calls"], "idempotency_key"), [format!("{id}-0"), format!("{id}-1")]);
    assert_eq!((app.state(&id).await.as_str(), app.charges(&id)), ("failed", 0));
}

async fn a_call_whose_server_died_is_listed(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    // Neither webhook nor event log tells of it before the next server does.
    app.sandbox.script_next(vec![Fault::Hang, Fault::Stuck]);
    let id = app.submit("video", "crash").await;
    app.settle().await;
    app.restart().await;
    app.advance_s(300).await;
    let once = charge(&app, &id).await;
    assert_eq!(once["state"], "once");
    assert_eq!(calls(&once), [(false, Some("no_answer")), (true, Some("accepted"))]);
    assert_eq!((texts(&once["calls"], "idempotency_key"), app.charges(&id)), (app.keys_sent(&id), 1));
}

async fn a_call_whose_server_died_and_whose_job_ended_meanwhile_had_no_answer(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::Hang]);
    let id = app.submit("video", "crash").await;
    app.settle().await;
    app.advance_s(10).await;
    assert_eq!(app.state(&id).await, "completed", "the webhook told of it");
    assert_eq!(calls(&charge(&app, &id).await), [(false, None)], "the call is under way");
    app.restart().await;
    app.advance_s(300).await;
    let once = charge(&app, &id).await;
    assert_eq!((&once["state"], calls(&once)), (&json!("once"), vec![(false, Some("no_answer"))]));
    assert_eq!((app.keys_sent(&id).len(), app.charges(&id)), (1, 1));
}

async fn a_retry_has_calls_of_its_own_and_a_job_that_was_never_sent_none(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = new_job("video", "held");
    body["hold"] = json!(true);
    let held =
        app.post("/api/jobs", &body).await.expect(202).json()["id"].as_str().expect("an id").to_owned();
    app.post(&format!("/api/jobs/{held}/cancel"), &json!({})).await.expect(200);
    let retried = app.post(&format!("/api/jobs/{held}/retry"), &json!({})).await.expect(202).json();
    app.post(retried["approve_url"].as_str().expect("it waits again"), &json!({})).await.expect(200);
    app.advance_s(60).await;
    assert_eq!(charge(&app, &held).await, json!({"state": "none", "calls": [], "older_calls": 0}));
    let once = charge(&app, retried["id"].as_str().expect("an id")).await;
    assert_eq!((&once["state"], calls(&once)), (&json!("once"), vec![(false, Some("accepted"))]));
}

async fn an_adopted_job_says_nothing_of_charges(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.elsewhere("/v3/videos", &request("video", "made elsewhere")).await;
    let asked = json!({"kind": "video", "since": rfc3339(START - MINUTE)});
    let adopted = app.post("/api/jobs/adopt", &asked).await.expect(200).json()["data"][0].clone();
    assert_eq!(charge(&app, adopted["job_id"].as_str().expect("an id")).await, json!(null));
    app.advance_s(60).await;
}

async fn waits_for(app: &TestApp) -> Value {
    app.get("/api/upstream").await.expect(200).json()["waiting"]["reason"].clone()
}

const LEAST: Setup<'static> =
    Setup { flags: &[("least-credits", "5")], variables: &[], public: true, sandbox: |o| o.balance = 4.0 };

async fn below_the_least_balance_nothing_is_sent_and_it_goes_on_by_itself(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, LEAST).await;
    app.register().await;
    let first = app.submit("video", "first").await;
    let second = app.submit("video", "second").await;
    app.advance_s(600).await;
    assert_eq!(app.charges(&first) + app.keys_sent(&first).len(), 0, "nothing was sent");
    let job = app.job(&first).await;
    assert_eq!((&job["state"], &job["waiting"]["reason"]), (&json!("queued"), &json!("least_credits")));
    assert!(job["waiting"]["what"].as_str().expect("words").contains("add credit"), "{job}");
    let state = app.get("/api/upstream").await.json();
    assert_eq!((&state["least_credits"], &state["balance"]["left"]), (&json!(5.0), &json!(4.0)));
    let gauge = "reelhook_submission_paused{reason=\"least_credits\"}";
    assert!((app.metric(gauge).await - 1.0).abs() < 0.1);
    assert_eq!(app.log(&["WARN", "below --least-credits"]).len(), 1, "told once");
    let checks = app.get("/api/doctor").await.expect(200).json()["checks"].clone();
    let check =
        checks.as_array().expect("checks").iter().find(|c| c["check"] == "submission").expect("one").clone();
    assert_eq!(check["status"], "warn", "{check}");
    assert!(check["detail"].as_str().expect("words").contains("add credit"), "{check}");
    app.post("/api/upstream/resume", &json!({})).await.expect(200);
    app.advance_s(120).await;
    assert_eq!(waits_for(&app).await, "least_credits", "it is not for a person to wave through");

    app.sandbox.set_balance(5.0);
    app.advance_s(61).await;
    assert_eq!((app.charges(&first), app.charges(&second)), (1, 1), "what one look lets out");
    app.advance_s(61).await;
    assert_eq!(waits_for(&app).await, "least_credits", "3 are left");
    let third = app.submit("video", "third").await;
    app.advance_s(300).await;
    assert_eq!(app.keys_sent(&third).len(), 0);
    app.sandbox.set_balance(1_000.0);
    app.advance_s(120).await;
    for id in [&first, &second, &third] {
        assert_eq!((app.state(id).await.as_str(), app.charges(id)), ("completed", 1));
    }
    assert!(app.metric(gauge).await < 0.1);
}

async fn the_balance_is_seen_before_the_first_job_after_a_start(fresh: &Fresh) {
    let setup = Setup { sandbox: |o| o.balance = 100.0, ..LEAST };
    let mut app = TestApp::with(fresh, setup).await;
    app.register().await;
    let id = app.submit("video", "first").await;
    app.advance_s(60).await;
    assert_eq!(app.state(&id).await, "completed");
    let next = app.submit("video", "next").await;
    app.sandbox.set_balance(4.0);
    app.restart().await;
    assert_eq!(waits_for(&app).await, "balance_not_seen");
    app.advance_s(60).await;
    assert_eq!((waits_for(&app).await, app.keys_sent(&next).len()), (json!("least_credits"), 0));
    app.sandbox.set_balance(5.0);
    app.advance_s(120).await;
    assert_eq!(app.state(&next).await, "completed");
}

async fn a_balance_that_was_not_seen_lately_lets_nothing_out(fresh: &Fresh) {
    let setup = Setup { sandbox: |o| o.balance = 100.0, ..LEAST };
    let mut app = TestApp::with(fresh, setup).await;
    app.register().await;
    app.advance_s(1).await;
    let error = json!({"error": {"code": "internal_error", "message": "our side"}});
    app.sandbox.twist("/v3/users/me", Some(Twist::Answer(500, error)));
    app.advance_s(170).await;
    assert_eq!(waits_for(&app).await, json!(null), "a look or two may fail");
    app.advance_s(30).await;
    let id = app.submit("video", "waits").await;
    app.advance_s(300).await;
    assert_eq!((waits_for(&app).await, app.keys_sent(&id).len()), (json!("balance_not_seen"), 0));
    app.sandbox.twist("/v3/users/me", None);
    app.advance_s(120).await;
    assert_eq!(app.state(&id).await, "completed");
}

async fn a_least_balance_that_is_not_told_pauses(fresh: &Fresh) {
    // Beyond what is believed to be a balance.
    let setup = Setup { sandbox: |o| o.balance = 1e15, ..LEAST };
    let mut app = TestApp::with(fresh, setup).await;
    app.register().await;
    let id = app.submit("video", "waits").await;
    app.advance_s(120).await;
    let paused = app.get("/api/upstream").await.json()["paused"].clone();
    assert_eq!((&paused["reason"], app.state(&id).await.as_str()), (&json!("balance_not_told"), "queued"));
    assert!(paused["what"].as_str().expect("words").contains("--least-credits"), "{paused}");
    app.restart_with(|config| config.least_credits = None).await;
    app.advance_s(120).await;
    assert_eq!(app.state(&id).await, "completed");
}

async fn nobody_who_set_nothing_is_looked_up(fresh: &Fresh) {
    let setup = Setup { sandbox: |o| o.balance = 1.0, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    app.register().await;
    let id = app.submit("video", "the last credit").await;
    app.advance_s(600).await;
    assert_eq!((app.state(&id).await.as_str(), app.calls("/v3/users/me")), ("completed", 0));
}

async fn a_dry_run_tells_the_balance_last_seen(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, LEAST).await;
    let (job, group) = (new_job("video", "dry"), json!({"template": new_job("video", "dry"), "rows": [{}]}));
    let balance = async |app: &TestApp| {
        let of = async |path: &str, body| app.post(path, body).await.expect(200).json()["balance"].clone();
        [of("/api/jobs?dry_run=true", &job).await, of("/api/groups?dry_run=true", &group).await]
    };
    assert_eq!(balance(&app).await, [json!(null), json!(null)]);
    app.settle().await;
    let seen = json!({"left": 4.0, "at": rfc3339(START)});
    assert_eq!(balance(&app).await, [seen.clone(), seen]);
}
