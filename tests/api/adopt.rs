//! Jobs made of what HeyGen has and nobody submitted here: by hand from its lists, or by itself
//! from webhooks. Nothing is paid, nothing is there twice, nobody else's is taken.

use reelhook::domain::time::rfc3339;
use reelhook::heygen::sandbox::Fault;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, request, signed, texts};
use crate::client::Answer;
use crate::database::Fresh;

cases! {
    a_dry_run_tells_and_changes_nothing,
    what_is_adopted_ends_like_any_other_job_and_costs_nothing,
    adopting_twice_adopts_nothing_twice,
    only_what_was_made_since_is_looked_at_page_by_page,
    what_may_be_ours_is_left_undecided,
    what_an_echoed_id_names_is_known,
    what_cannot_be_asked_is_named,
    an_adopted_job_is_not_submitted_again,
    strangers_of_webhooks_are_not_adopted_by_default,
    strangers_that_came_before_the_setting_are_adopted_once_it_is_set,
    strangers_of_webhooks_are_adopted_by_setting,
    strangers_of_the_event_log_are_adopted_too,
}

async fn quiet(fresh: &Fresh, flags: &[(&'static str, &str)]) -> TestApp {
    let setup = Setup { flags, sandbox: |o| o.concurrency = 1_000, ..Setup::default() };
    TestApp::with(fresh, setup).await
}

/// HeyGen's id of a video somebody else submitted.
async fn video(app: &TestApp, title: &str) -> String {
    let made = app.elsewhere("/v3/videos", &request("video", title)).await;
    made["video_id"].as_str().expect("an id").to_owned()
}

async fn adopt(app: &TestApp, kind: &str, since: i64, dry_run: bool) -> Vec<Value> {
    let mut all = vec![];
    let mut cursor = Value::Null;
    loop {
        let page = ask(app, kind, since, &cursor, dry_run).await.expect(200).json();
        all.extend(page["data"].as_array().expect("rows").clone());
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            assert_eq!(page["has_more"], json!(false));
            return all;
        }
    }
}

async fn ask(app: &TestApp, kind: &str, since: i64, cursor: &Value, dry_run: bool) -> Answer {
    let body = json!({"kind": kind, "since": rfc3339(since), "cursor": cursor, "dry_run": dry_run});
    app.post("/api/jobs/adopt", &body).await
}

fn actions(rows: &[Value]) -> Vec<String> {
    texts(&json!(rows), "action")
}

async fn jobs(app: &TestApp) -> Vec<Value> {
    app.get("/api/jobs?limit=200").await.expect(200).json()["data"].as_array().expect("jobs").clone()
}

async fn a_dry_run_tells_and_changes_nothing(fresh: &Fresh) {
    let mut app = quiet(fresh, &[]).await;
    let since = app.now();
    let id = video(&app, "theirs").await;
    app.advance_s(60).await;
    let found = adopt(&app, "video", since, true).await;
    assert_eq!(actions(&found), ["would_adopt"]);
    assert_eq!((&found[0]["upstream_id"], &found[0]["title"]), (&json!(id), &json!("theirs")));
    assert_eq!(found[0]["upstream_says"], "completed");
    assert!(jobs(&app).await.is_empty());
    assert_eq!(app.get("/api/events").await.json()["data"], json!([]));
}

async fn what_is_adopted_ends_like_any_other_job_and_costs_nothing(fresh: &Fresh) {
    let mut app = quiet(fresh, &[]).await;
    let since = app.now();
    video(&app, "done").await;
    video(&app, "failed #fail").await;
    let translation = request("translation", "spoken");
    app.elsewhere("/v3/video-translations", &translation).await;
    app.advance_s(60).await;
    let running = video(&app, "running").await;
    let charged = app.sandbox.tally().charges;
    assert_eq!(actions(&adopt(&app, "video", since, false).await), ["adopted"; 3]);
    assert_eq!(actions(&adopt(&app, "translation", since, false).await), ["adopted"]);
    let mut states: Vec<String> = texts(&json!(jobs(&app).await), "state");
    states.sort();
    assert_eq!(states, ["completed", "completed", "failed", "processing"], "the list itself has told");
    let under_way = app.job(&running).await;
    assert_eq!((&under_way["adopted"], &under_way["expected"].is_object()), (&json!(true), &true));
    app.advance_s(60).await;
    let job = app.job(&running).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("poll")));
    assert!(job["result"]["video_url"].is_string());
    assert_eq!(app.events(job["id"].as_str().unwrap()).await, ["job.processing", "job.completed"]);
    assert_eq!(app.sandbox.tally().charges, charged, "nothing was paid");
}

async fn adopting_twice_adopts_nothing_twice(fresh: &Fresh) {
    let mut app = quiet(fresh, &[]).await;
    let since = app.now();
    video(&app, "theirs").await;
    let ours = app.submit("video", "ours").await;
    app.advance_s(60).await;
    let first = adopt(&app, "video", since, false).await;
    assert_eq!(actions(&first), ["known", "adopted"], "newest first");
    assert_eq!(first[0]["job_id"], json!(ours));
    let before = (jobs(&app).await, app.get("/api/events").await.json());
    let second = adopt(&app, "video", since, false).await;
    assert_eq!(actions(&second), ["known", "known"]);
    assert_eq!(second[1]["job_id"], first[1]["job_id"]);
    assert_eq!((jobs(&app).await, app.get("/api/events").await.json()), before);
}

async fn only_what_was_made_since_is_looked_at_page_by_page(fresh: &Fresh) {
    let mut app = quiet(fresh, &[]).await;
    for n in 0..230 {
        video(&app, &format!("old {n}")).await;
    }
    app.advance_s(3_600).await;
    let since = app.now();
    for n in 0..120 {
        video(&app, &format!("new {n}")).await;
    }
    app.advance_s(60).await;
    let found = adopt(&app, "video", since, false).await;
    assert_eq!(actions(&found), ["adopted"; 120].map(str::to_owned));
    assert_eq!(app.calls("/v3/videos"), 2, "the pages behind are too old");
    assert_eq!(actions(&adopt(&app, "video", since - 7_200_000, true).await).len(), 350);
}

async fn what_may_be_ours_is_left_undecided(fresh: &Fresh) {
    let mut app = quiet(fresh, &[]).await;
    let since = app.now();
    app.sandbox.script_next(vec![Fault::ResetAfter, Fault::Lost]);
    let ours = app.submit("video", "accepted, and we do not know").await;
    app.work().await;
    assert_eq!(app.state(&ours).await, "unknown");
    assert_eq!(actions(&adopt(&app, "video", since, false).await), ["undecided"]);
    assert_eq!(jobs(&app).await.len(), 1);
    app.advance_s(600).await;
    assert_eq!(app.state(&ours).await, "completed");
    assert_eq!(actions(&adopt(&app, "video", since, false).await), ["known"]);
    assert_eq!(app.charges(&ours), 1);
}

async fn what_an_echoed_id_names_is_known(fresh: &Fresh) {
    let mut app = quiet(fresh, &[]).await;
    let since = app.now();
    app.sandbox.script_next(vec![Fault::ResetAfter, Fault::Lost]);
    let ours = app.submit("translation", "accepted, and we do not know").await;
    app.work().await;
    let found = adopt(&app, "translation", since, false).await;
    assert_eq!((actions(&found), &found[0]["job_id"]), (vec!["known".to_owned()], &json!(ours)));
    let job = app.job(&ours).await;
    assert_eq!((&job["state"], &job["upstream_id"]), (&json!("processing"), &found[0]["upstream_id"]));
    app.advance_s(1_200).await;
    assert_eq!((app.state(&ours).await.as_str(), app.charges(&ours)), ("completed", 1));
}

async fn what_cannot_be_asked_is_named(fresh: &Fresh) {
    let app = quiet(fresh, &[]).await;
    let refused = app.post("/api/jobs/adopt", &json!({"kind": "video_agent", "sinse": "x"})).await;
    refused.problem(422, "invalid_request");
    assert_eq!(refused.pointers(), ["/kind", "/since", "/sinse"]);
    app.sandbox.revoke_key(true);
    let problem = ask(&app, "video", 0, &Value::Null, false).await.problem(502, "upstream_blocked");
    assert!(problem["detail"].as_str().unwrap().contains("key"), "{problem}");
}

async fn an_adopted_job_is_not_submitted_again(fresh: &Fresh) {
    let mut app = quiet(fresh, &[]).await;
    let id = video(&app, "failed #fail").await;
    app.advance_s(60).await;
    adopt(&app, "video", 0, false).await;
    app.post(&format!("/api/jobs/{id}/retry"), &json!({})).await.problem(409, "adopted");
}

async fn strangers_of_webhooks_are_not_adopted_by_default(fresh: &Fresh) {
    let mut app = quiet(fresh, &[]).await;
    app.register().await;
    let id = video(&app, "theirs").await;
    app.advance_s(60).await;
    assert!(jobs(&app).await.is_empty());
    let receipts = app.get("/api/receipts").await.json();
    assert_eq!(texts(&receipts["data"], "parked_under"), [id.as_str()]);
    adopt(&app, "video", 0, false).await;
    app.settle().await;
    let job = app.job(&id).await;
    let receipts = app.get("/api/receipts").await.json();
    assert_eq!(
        texts(&receipts["data"], "job_id"),
        [job["id"].as_str().unwrap()],
        "the parked one is its own"
    );
}

async fn strangers_of_webhooks_are_adopted_by_setting(fresh: &Fresh) {
    let mut app = quiet(fresh, &[("adopt-strangers", "true")]).await;
    let secret = app.register().await;
    let id = video(&app, "theirs #double").await;
    app.advance_s(60).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("webhook")));
    assert_eq!(job["adopted"], json!(true));
    let types = texts(&app.get("/api/events").await.json()["data"], "type");
    assert_eq!(types, ["job.processing", "job.completed", "heygen.avatar_video.success"]);
    let failed = video(&app, "theirs #fail").await;
    app.advance_s(60).await;
    assert_eq!(app.state(&failed).await, "failed");
    // Of another reelhook, of no kind of job, and unsigned.
    let data = json!({"video_id": "x", "url": "https://v", "callback_id": "job_01hzy3k8v9q2m4n6p8r0s2t4w6"});
    let other = json!({"event_type": "avatar_video.success", "event_data": data}).to_string();
    let data = json!({"group_id": "y"});
    let odd = json!({"event_type": "photo_avatar_train.success", "event_data": data}).to_string();
    for body in [other, odd] {
        app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body.clone()).await.expect(200);
    }
    app.settle().await;
    assert_eq!(jobs(&app).await.len(), 2);
}

async fn strangers_that_came_before_the_setting_are_adopted_once_it_is_set(fresh: &Fresh) {
    let mut app = quiet(fresh, &[]).await;
    app.register().await;
    let ids = [video(&app, "theirs").await, video(&app, "theirs, too").await];
    app.advance_s(60).await;
    assert!(jobs(&app).await.is_empty());
    app.restart_with(|config| config.adopt_strangers = true).await;
    app.settle().await;
    for id in &ids {
        assert_eq!(
            (app.state(id).await, app.job(id).await["adopted"].clone()),
            ("completed".into(), json!(true))
        );
    }
    let types = texts(&app.get("/api/events?limit=50").await.json()["data"], "type");
    assert_eq!(types.iter().filter(|name| name.starts_with("heygen.")).count(), 2, "each once: {types:?}");
    assert_eq!(jobs(&app).await.len(), 2);
}

async fn strangers_of_the_event_log_are_adopted_too(fresh: &Fresh) {
    let mut app = quiet(fresh, &[("adopt-strangers", "true")]).await;
    app.register().await;
    app.settle().await;
    let id = video(&app, "theirs #lost").await;
    app.advance_s(3_600).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("event_log")));
}
