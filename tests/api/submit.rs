//! Taking a job in: the answer, and what an Idempotency-Key promises. One key, one job, one
//! charge, and the first answer word for word for as long as the key is remembered.

use std::time::Duration;

use reelhook::heygen::sandbox::What;
use serde_json::{Value, json};

use crate::app::{TestApp, cases, new_job, texts};
use crate::client::Answer;
use crate::database::Fresh;

cases! {
    a_submit_is_answered_202_with_its_place_and_its_links,
    the_body_reaches_heygen_as_it_was_written,
    a_cinematic_video_is_sent_without_callback_fields,
    the_same_key_and_body_give_the_first_answer_byte_for_byte,
    the_order_of_names_in_the_body_does_not_matter,
    another_body_under_the_same_key_is_422,
    the_same_body_without_a_key_is_another_job,
    who_waits_is_told_how_the_job_stands,
    a_key_may_be_quoted,
    a_key_that_is_none_is_400,
    a_body_that_was_refused_uses_no_key_up,
    a_key_outlives_a_restart,
    a_hundred_at_once_with_one_key_make_one_job_and_one_charge,
    one_key_over_two_nodes_makes_one_job,
    a_key_is_remembered_until_the_end_and_seven_days_more,
    a_key_is_answered_also_when_the_deadline_in_the_body_has_passed,
    a_key_belongs_to_its_caller,
    a_retry_has_keys_of_its_own,
    what_nobody_approved_waits_for_it_again_when_it_is_retried,
    a_retry_is_answered_again_after_the_old_job_has_moved_on,
}

async fn submit(app: &TestApp, key: &str, body: &Value) -> Answer {
    app.call("POST", "/api/jobs", &[("idempotency-key", key)], body.to_string()).await
}

async fn count(app: &TestApp) -> usize {
    app.get("/api/jobs?limit=200").await.expect(200).json()["data"].as_array().expect("a list").len()
}

async fn a_submit_is_answered_202_with_its_place_and_its_links(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let mut body = new_job("video", "links");
    body["labels"] = json!({"team": "ads"});
    body["metadata"] = json!({"order": [1, {"b": 2, "a": null}]});
    let answer = app.post("/api/jobs", &body).await.expect(202);
    let job = answer.json();
    let id = job["id"].as_str().unwrap();
    assert!(id.starts_with("job_"), "{id}");
    assert_eq!(answer.header("location"), Some(&*format!("/api/jobs/{id}")));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(job["state"], "queued");
    assert_eq!(job["created_at"], "2026-11-21T10:00:00.000Z");
    assert_eq!(job["deadline_at"], "2026-11-22T10:00:00.000Z", "a day, unless it says otherwise");
    assert_eq!((&job["labels"], &job["metadata"]), (&body["labels"], &body["metadata"]));
    assert_eq!(job["title"], "links");
    for link in ["status_url", "events_url", "receipts_url"] {
        app.get(job[link].as_str().unwrap_or_else(|| panic!("no {link}"))).await.expect(200);
    }
    assert_eq!(app.get(job["status_url"].as_str().unwrap()).await.json(), job, "nothing was done yet");
    app.post(job["cancel_url"].as_str().unwrap(), &json!({})).await.expect(200);
    for none in ["refresh_url", "approve_url", "reject_url", "result_url"] {
        assert!(job.get(none).is_some_and(Value::is_null), "{none} would be refused: {job}");
    }
    app.post(&format!("/api/jobs/{id}/refresh"), &json!({})).await.problem(409, "not_sent");
    app.settle().await;
    assert_eq!(app.charges(id), 0);
}

async fn the_body_reaches_heygen_as_it_was_written(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    // Names in an order of its own, numbers and a field nobody knows yet.
    let request =
        r#"{"zoom":1.50,"type":"avatar","script":"Grüße \u0041","avatar_id":"A","title":"t","a":[]}"#;
    let body = format!(r#"{{"kind":"video","request":{request}}}"#);
    let answer = app.call("POST", "/api/jobs", &[], body).await.expect(202);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    app.settle().await;
    let mut expected: Value = serde_json::from_str(request).unwrap();
    expected["callback_id"] = json!(id);
    let hash = sha256(expected.to_string().as_bytes());
    let sent = app.sandbox.ledger().into_iter().find_map(|e| match e.what {
        What::Accepted { body_hash, callback_id, .. } => Some((body_hash, callback_id)),
        _ => None,
    });
    assert_eq!(sent, Some((hash, Some(id))), "order kept, our id added, nothing else");
    app.advance_s(30).await;
}

pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    hex::encode(sha2::Sha256::digest(bytes))
}

async fn a_cinematic_video_is_sent_without_callback_fields(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let request = json!({"type": "cinematic_avatar", "prompt": "A dune", "avatar_id": ["look"]});
    let body = json!({"kind": "video", "request": request});
    let id = app.post("/api/jobs", &body).await.expect(202).json()["id"].as_str().unwrap().to_owned();
    app.advance_s(30).await;
    let sent = app.sandbox.ledger().into_iter().find_map(|e| match e.what {
        What::Accepted { body_hash, .. } => Some(body_hash),
        _ => None,
    });
    assert_eq!(sent, Some(sha256(request.to_string().as_bytes())), "its schema has no such fields");
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("webhook")));
    assert_eq!(app.charges(&id), 1);
}

async fn the_same_key_and_body_give_the_first_answer_byte_for_byte(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let body = new_job("video", "once");
    let first = submit(&app, "k1", &body).await.expect(202);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    let same = |again: &Answer| {
        assert_eq!(again.status, first.status);
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("location"), first.header("location"));
    };
    same(&submit(&app, "k1", &body).await);
    app.advance_s(30).await;
    assert_eq!(app.state(&id).await, "completed");
    same(&submit(&app, "k1", &body).await);
    assert_eq!(count(&app).await, 1);
    assert_eq!(app.charges(&id), 1);
}

async fn the_order_of_names_in_the_body_does_not_matter(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let one =
        r#"{"kind":"video_agent","request":{"prompt":"p","mode":"generate"},"labels":{"a":"1","b":"2"}}"#;
    let two = r#" {"labels":{"b":"2","a":"1"},  "request":{"mode":"generate","prompt":"\u0070"},"kind":"video_agent"}"#;
    let key = [("idempotency-key", "order")];
    let first = app.call("POST", "/api/jobs", &key, one).await.expect(202);
    let again = app.call("POST", "/api/jobs", &key, two).await.expect(202);
    assert_eq!(again.body, first.body);
    app.advance_s(60).await;
    assert_eq!(app.sandbox.tally().accepted, 1);
}

async fn another_body_under_the_same_key_is_422(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    submit(&app, "k", &new_job("video_agent", "one")).await.expect(202);
    let mut others = vec![new_job("video_agent", "two"), new_job("video", "one")];
    let mut held = new_job("video_agent", "one");
    held["hold"] = json!(true);
    others.push(held);
    for other in others {
        let problem = submit(&app, "k", &other).await.problem(422, "idempotency_key_reused");
        assert_eq!(problem["retryable"], false);
    }
    assert_eq!(count(&app).await, 1);
    leave(app);
}

/// What was taken in is not what the case is about.
fn leave(mut app: TestApp) {
    app.leave_it();
}

async fn the_same_body_without_a_key_is_another_job(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let (one, two) = (app.submit("video", "twin").await, app.submit("video", "twin").await);
    assert_ne!(one, two);
    app.advance_s(60).await;
    assert_eq!((app.charges(&one), app.charges(&two)), (1, 1));
}

async fn who_waits_is_told_how_the_job_stands(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let body = new_job("video", "waited for #stuck");
    let first = submit(&app, "k", &body).await.expect(202);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    app.settle().await;
    let path = "/api/jobs?wait=0";
    let waited =
        app.call("POST", path, &[("idempotency-key", "k")], body.to_string()).await.expect(202).json();
    assert_eq!(waited, app.job(&id).await);
    assert_eq!((&waited["state"], &waited["charge"]["state"]), (&json!("processing"), &json!("once")));
    assert_eq!(
        submit(&app, "k", &body).await.expect(202).body,
        first.body,
        "who does not gets the first answer"
    );
    let mut rows = json!({"template": {"kind": "video", "request": {"type": "avatar", "avatar_id": "a",
        "script": "{{s}}"}}, "rows": [{"s": "one #stuck"}]});
    rows["title"] = json!("waited for");
    let group = app.call("POST", "/api/groups?wait=0", &[], rows.to_string()).await.expect(202).json();
    assert_eq!(group["title"], "waited for");
    leave(app);
}

async fn a_key_may_be_quoted(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let body = new_job("video", "quoted");
    let bare = submit(&app, "8e03978e-40d5", &body).await.expect(202);
    let quoted = submit(&app, "\"8e03978e-40d5\"", &body).await.expect(202);
    assert_eq!(bare.body, quoted.body);
    leave(app);
}

async fn a_key_that_is_none_is_400(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let body = new_job("video", "bad key");
    let longest = "k".repeat(255);
    for key in ["", "\"\"", &format!("{longest}k"), "k\u{e9}y", "a\tb"] {
        submit(&app, key, &body).await.problem(400, "invalid_idempotency_key");
    }
    assert_eq!(count(&app).await, 0);
    submit(&app, &longest, &body).await.expect(202);
    leave(app);
}

async fn a_body_that_was_refused_uses_no_key_up(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    submit(&app, "k", &json!({"kind": "video"})).await.problem(422, "invalid_request");
    submit(&app, "k", &new_job("video", "right at last")).await.expect(202);
    leave(app);
}

async fn a_key_outlives_a_restart(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let body = new_job("video", "restart");
    let first = submit(&app, "k", &body).await.expect(202);
    app.restart().await;
    assert_eq!(submit(&app, "k", &body).await.expect(202).body, first.body);
    app.advance_s(30).await;
    app.restart().await;
    assert_eq!(submit(&app, "k", &body).await.expect(202).body, first.body);
    submit(&app, "k", &new_job("video", "other")).await.problem(422, "idempotency_key_reused");
    assert_eq!(app.sandbox.tally().accepted, 1);
}

async fn a_hundred_at_once_with_one_key_make_one_job_and_one_charge(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let body = new_job("video", "storm");
    let storm = (0..100).map(|_| submit(&app, "storm", &body));
    let answers = futures_util::future::join_all(storm).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (202, &answers[0].body));
    }
    assert_eq!(count(&app).await, 1);
    app.advance_s(30).await;
    let id = answers[0].json()["id"].as_str().unwrap().to_owned();
    assert_eq!(app.charges(&id), 1);
    assert_eq!(app.sandbox.tally().accepted, 1);
}

/// Nodes share a PostgreSQL database; a SQLite file has one, which is asked twice as often.
async fn one_key_over_two_nodes_makes_one_job(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let other = if fresh.is_sqlite() { app.base.clone() } else { app.second_node().await };
    let bases = [app.base.clone(), other];
    let body = new_job("video", "two nodes").to_string();
    let storm = (0..50).map(|nth| {
        let url = format!("{}/api/jobs", bases[nth % 2]);
        let body = body.clone();
        async move { crate::client::call("POST", &url, &[("idempotency-key", "n")], body.into()).await }
    });
    let answers = futures_util::future::join_all(storm).await;
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (202, &answers[0].body), "{}", answer.text());
    }
    assert_eq!(count(&app).await, 1);
    app.advance_s(30).await;
    assert_eq!(app.sandbox.tally().accepted, 1);
}

async fn a_key_is_remembered_until_the_end_and_seven_days_more(fresh: &Fresh) {
    const DAY: u64 = 24 * 3_600;
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = new_job("video", "a week");
    body["hold"] = json!(true);
    body["deadline"] = json!("2026-12-11T10:00:00Z");
    let first = submit(&app, "week", &body).await.expect(202);
    let id = first.json()["id"].as_str().unwrap().to_owned();
    app.advance(Duration::from_secs(10 * DAY)).await;
    assert_eq!(submit(&app, "week", &body).await.expect(202).body, first.body, "it has not ended");
    app.post(&format!("/api/jobs/{id}/approve"), &json!({})).await.expect(200);
    app.advance_s(60).await;
    assert_eq!(app.state(&id).await, "completed");
    app.advance(Duration::from_secs(7 * DAY - 300)).await;
    assert_eq!(submit(&app, "week", &body).await.expect(202).body, first.body, "seven days are not over");
    app.advance(Duration::from_secs(2 * 3_600)).await;
    let mut new = body.clone();
    new["deadline"] = json!("2026-12-21T10:00:00Z");
    let later = submit(&app, "week", &new).await.expect(202);
    assert_ne!(later.json()["id"], first.json()["id"], "the key was free again");
}

/// Whoever repeats a lost answer must not be told that nothing was done.
async fn a_key_is_answered_also_when_the_deadline_in_the_body_has_passed(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = new_job("video", "soon");
    body["deadline"] = json!("2026-11-21T10:02:00Z");
    let first = submit(&app, "soon", &body).await.expect(202);
    for seconds in [90, 3_600] {
        app.advance_s(seconds).await;
        assert_eq!(submit(&app, "soon", &body).await.expect(202).body, first.body);
    }
    // The deadline itself is judged as before where the key is new.
    submit(&app, "later", &body).await.problem(422, "invalid_request");
    assert_eq!(app.sandbox.tally().accepted, 1);
}

async fn a_retry_is_answered_again_after_the_old_job_has_moved_on(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.sandbox.script_next(vec![reelhook::heygen::sandbox::Fault::ResetAfter]);
    let id = app.submit("video", "unknown").await;
    app.work().await;
    assert_eq!(app.state(&id).await, "unknown");
    let path = format!("/api/jobs/{id}/retry");
    let key = [("idempotency-key", "r")];
    let body = r#"{"accept_second_charge":true}"#;
    let first = app.call("POST", &path, &key, body).await.expect(202);
    app.advance_s(60).await;
    assert_eq!(app.state(&id).await, "completed");
    let second = app.call("POST", &path, &key, body).await.expect(202);
    assert_eq!(second.body, first.body);
    assert_eq!(count(&app).await, 2);
}

async fn a_key_belongs_to_its_caller(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut bearers = vec![];
    let made = app.post("/api/keys", &json!({"name": "one"})).await.expect(201).json();
    bearers.push(format!("Bearer {}", made["key"].as_str().unwrap()));
    let made = app
        .call("POST", "/api/keys", &[("authorization", &bearers[0])], r#"{"name":"two"}"#)
        .await
        .expect(201)
        .json();
    bearers.push(format!("Bearer {}", made["key"].as_str().unwrap()));
    let mut ids = vec![];
    for (bearer, title) in bearers.iter().zip(["one", "two"]) {
        let headers = [("authorization", &**bearer), ("idempotency-key", "same")];
        let body = new_job("video", title).to_string();
        let job = app.call("POST", "/api/jobs", &headers, body).await.expect(202).json();
        ids.push(job["id"].clone());
    }
    assert_ne!(ids[0], ids[1], "what one caller asked for is not shown to another");
    leave(app);
}

async fn a_retry_has_keys_of_its_own(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = app.submit("video", "again #refuse").await;
    app.settle().await;
    assert_eq!(app.state(&id).await, "failed");
    let path = format!("/api/jobs/{id}/retry");
    let key = [("idempotency-key", "retry-1")];
    let first = app.call("POST", &path, &key, "").await.expect(202);
    let again = app.call("POST", &path, &key, "").await.expect(202);
    assert_eq!(first.body, again.body);
    let job = first.json();
    assert_eq!(job["retry_of"], json!(id));
    assert_ne!(job["id"], json!(id));
    assert_eq!(app.get("/api/jobs").await.json()["data"].as_array().unwrap().len(), 2);
    let all = app.get("/api/jobs").await.json();
    assert_eq!(texts(&all["data"], "title"), ["again #refuse", "again #refuse"]);
    app.settle().await;
    assert_eq!(app.state(&id).await, "failed", "the old job stays as it is");
    assert_eq!(app.charges(&id), 0);
}

async fn what_nobody_approved_waits_for_it_again_when_it_is_retried(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let mut body = new_job("video", "held #fail");
    body["hold"] = json!(true);
    body["deadline"] = json!(reelhook::domain::time::rfc3339(app.now() + 3_600_000));
    let mut ids = vec![];
    for _ in 0..3 {
        ids.push(app.post("/api/jobs", &body).await.expect(202).json()["id"].as_str().unwrap().to_owned());
    }
    app.post(&format!("/api/jobs/{}/reject", ids[0]), &json!({"reason": "wrong logo"})).await.expect(200);
    app.post(&format!("/api/jobs/{}/approve", ids[1]), &json!({})).await.expect(200);
    app.advance_s(3_700).await;
    let states = [app.state(&ids[0]).await, app.state(&ids[1]).await, app.state(&ids[2]).await];
    assert_eq!(states, ["canceled", "failed", "canceled"], "rejected, failed, and expired");
    for (id, begins) in ids.iter().zip(["held", "queued", "held"]) {
        let again = app.post(&format!("/api/jobs/{id}/retry"), &json!({})).await.expect(202).json();
        assert_eq!(again["state"], begins, "of {id}");
        if begins == "held" {
            app.settle().await;
            assert_eq!(app.charges(again["id"].as_str().unwrap()), 0);
        }
    }
    app.advance_s(60).await;
}
