//! What a caller may wish of a job in each of its states: cancel, approve, reject, retry, refresh.
//! One table, as the documentation has it; a second charge is never risked without a word.

use reelhook::heygen::sandbox::Fault;
use serde_json::json;

use crate::app::{Setup, TestApp, cases, new_job, texts};
use crate::database::Fresh;

cases! {
    every_wish_in_every_state,
    a_second_charge_must_be_accepted,
    a_retry_of_what_was_not_charged_needs_no_word,
    cancel_is_safe_to_repeat,
    a_refresh_finds_the_end_and_says_so,
    a_refresh_of_a_finished_job_brings_fresh_links,
    a_refresh_of_an_unknown_job_resolves_it_now,
}

const OK: (u16, &str) = (200, "");
const TAKEN: (u16, &str) = (202, "");

/// Cancel, approve, reject, retry, refresh.
type Row = (&'static str, [(u16, &'static str); 5]);

const TABLE: [Row; 9] = [
    ("held", [OK, OK, OK, (409, "not_finished"), (409, "not_sent")]),
    ("queued", [OK, (409, "not_held"), (409, "not_held"), (409, "not_finished"), (409, "not_sent")]),
    (
        "submitting",
        [(409, "already_sent"), (409, "not_held"), (409, "not_held"), (409, "not_finished"), TAKEN],
    ),
    ("unknown", [(409, "already_sent"), (409, "not_held"), (409, "not_held"), (409, "second_charge"), TAKEN]),
    (
        "processing",
        [(409, "already_sent"), (409, "not_held"), (409, "not_held"), (409, "not_finished"), TAKEN],
    ),
    ("completed", [(409, "finished"), (409, "not_held"), (409, "not_held"), (409, "has_result"), TAKEN]),
    ("failed", [(409, "finished"), (409, "not_held"), (409, "not_held"), TAKEN, TAKEN]),
    ("refused", [(409, "finished"), (409, "not_held"), (409, "not_held"), TAKEN, (409, "not_sent")]),
    ("canceled", [OK, (409, "not_held"), (409, "not_held"), TAKEN, (409, "not_sent")]),
];

const WISHES: [&str; 5] = ["cancel", "approve", "reject", "retry", "refresh"];

/// A job in this state, ready to be asked.
async fn make(app: &mut TestApp, state: &str) -> String {
    let mut body = new_job("video", state);
    body["hold"] = json!(matches!(state, "held" | "canceled"));
    let faults = match state {
        "submitting" => vec![Fault::HangBefore],
        "unknown" => vec![Fault::ResetBefore],
        "failed" => vec![Fault::Fail],
        "refused" => vec![Fault::Refuse],
        _ => vec![],
    };
    if !matches!(state, "held" | "canceled" | "queued") {
        app.sandbox.script_next(faults);
    }
    let job = app.post("/api/jobs", &body).await.expect(202).json();
    let id = job["id"].as_str().unwrap().to_owned();
    match state {
        "canceled" => drop(app.post(&format!("/api/jobs/{id}/cancel"), &json!({})).await.expect(200)),
        "held" | "queued" => {}
        "completed" | "failed" => app.advance_s(60).await,
        _ => drop(app.work().await),
    }
    let is = if state == "refused" { "failed" } else { state };
    assert_eq!(app.state(&id).await, is);
    id
}

async fn every_wish_in_every_state(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    for (state, row) in TABLE {
        for (wish, (status, code)) in WISHES.into_iter().zip(row) {
            let id = make(&mut app, state).await;
            let before = app.job(&id).await;
            let answer = app.call("POST", &format!("/api/jobs/{id}/{wish}"), &[], "").await;
            let context = format!("{wish} of {state}: {}", answer.text());
            assert_eq!(answer.status, status, "{context}");
            if status == 409 {
                answer.problem(409, code);
                assert_eq!(app.job(&id).await, before, "a refused wish changes nothing: {context}");
            } else {
                assert!(answer.json()["id"].is_string(), "the answer is the job: {context}");
            }
            app.advance_s(150).await;
        }
        let unknown = app.call("POST", "/api/jobs/job_none/cancel", &[], "").await;
        unknown.problem(404, "not_found");
    }
    // Everything comes to its end, and none was paid for twice (the app's own check).
    let all = app.get("/api/jobs?state=held&limit=200").await.json();
    for id in texts(&all["data"], "id") {
        app.post(&format!("/api/jobs/{id}/reject"), &json!({"reason": "over"})).await.expect(200);
    }
    app.advance_s(600).await;
    for state in ["queued", "submitting", "unknown", "processing"] {
        let left = app.get(&format!("/api/jobs?state={state}")).await.json();
        assert_eq!(left["data"], json!([]), "{state}");
    }
}

async fn a_second_charge_must_be_accepted(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::ResetAfter]);
    let id = app.submit("video", "paid, perhaps").await;
    app.work().await;
    let path = format!("/api/jobs/{id}/retry");
    app.post(&path, &json!({})).await.problem(409, "second_charge");
    app.post(&path, &json!({"accept_second_charge": false})).await.problem(409, "second_charge");
    app.post(&path, &json!({"accept_second_charge": "yes"})).await.problem(422, "invalid_request");
    app.post(&path, &json!({"acept_second_charge": true})).await.problem(422, "invalid_request");
    let new = app.post(&path, &json!({"accept_second_charge": true})).await.expect(202).json();
    assert_eq!(new["retry_of"], json!(id));
    app.advance_s(60).await;
    let new = new["id"].as_str().unwrap();
    assert_eq!((app.charges(&id), app.charges(new)), (1, 1), "two jobs, as was accepted");
    // Lost upstream may have been charged, too.
    let setup = json!({"kind": "video", "request": crate::app::request("video", "gone #stuck"),
        "deadline": reelhook::domain::time::rfc3339(app.now() + 60_000)});
    let lost = app.post("/api/jobs", &setup).await.expect(202).json()["id"].as_str().unwrap().to_owned();
    app.advance_s(61).await;
    assert_eq!(app.job(&lost).await["failure"]["code"], "lost_upstream");
    app.post(&format!("/api/jobs/{lost}/retry"), &json!({})).await.problem(409, "second_charge");
}

async fn a_retry_of_what_was_not_charged_needs_no_word(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::Refuse]);
    let mut body = new_job("video", "once more");
    body["callback_id"] = json!("order-1");
    body["labels"] = json!({"team": "ads"});
    body["metadata"] = json!({"n": 1});
    let old = app.post("/api/jobs", &body).await.expect(202).json();
    app.settle().await;
    let path = format!("/api/jobs/{}/retry", old["id"].as_str().unwrap());
    let new = app.call("POST", &path, &[], "").await.expect(202).json();
    for name in ["kind", "callback_id", "labels", "metadata", "title"] {
        assert_eq!(new[name], old[name], "{name}");
    }
    app.advance_s(60).await;
    assert_eq!(app.state(new["id"].as_str().unwrap()).await, "completed");
}

async fn cancel_is_safe_to_repeat(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let id = app.submit("video", "never mind").await;
    for _ in 0..3 {
        let job = app.call("POST", &format!("/api/jobs/{id}/cancel"), &[], "").await.expect(200).json();
        assert_eq!(job["state"], "canceled");
    }
    assert_eq!(app.events(&id).await, ["job.queued", "job.canceled"]);
    app.advance_s(60).await;
    assert_eq!(app.charges(&id), 0);
}

async fn a_refresh_finds_the_end_and_says_so(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = app.submit("video", "look now #lost").await;
    app.advance_s(20).await;
    assert_eq!(app.state(&id).await, "processing");
    app.call("POST", &format!("/api/jobs/{id}/refresh"), &[], "").await.expect(202);
    app.settle().await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("refresh")));
}

async fn a_refresh_of_a_finished_job_brings_fresh_links(fresh: &Fresh) {
    let mut app = TestApp::with(fresh, Setup::default()).await;
    app.register().await;
    let id = app.submit("video", "dead on arrival #dead_link").await;
    app.advance_s(20).await;
    let before = app.job(&id).await;
    assert_eq!(before["state"], "completed");
    let dead = before["result"]["video_url"].as_str().unwrap().to_owned();
    assert_eq!(crate::client::call("GET", &dead, &[], "".into()).await.status, 403, "the link is dead");
    app.call("POST", &format!("/api/jobs/{id}/refresh"), &[], "").await.expect(202);
    app.settle().await;
    let after = app.job(&id).await;
    let live = after["result"]["video_url"].as_str().unwrap().to_owned();
    assert_eq!(crate::client::call("GET", &live, &[], "".into()).await.status, 200);
    assert_eq!((&after["state"], &after["found_by"]), (&before["state"], &before["found_by"]));
    assert_eq!(after["finished_at"], before["finished_at"]);
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.completed"]);
}

async fn a_refresh_of_an_unknown_job_resolves_it_now(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![Fault::ResetAfter]);
    let id = app.submit("video", "now").await;
    app.work().await;
    assert_eq!(app.state(&id).await, "unknown");
    app.call("POST", &format!("/api/jobs/{id}/refresh"), &[], "").await.expect(202);
    app.settle().await;
    assert_eq!(app.state(&id).await, "processing", "without waiting for the next try");
    app.advance_s(30).await;
}
