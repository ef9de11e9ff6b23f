//! HeyGen's event log heals what its webhooks did not tell: read on start, hourly and after an
//! outage, from where it was left, and without effect when it is read again.

use std::time::Duration;

use reelhook::domain::time::rfc3339;
use reelhook::heygen::sandbox::Twist;
use reelhook::store::setting;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, signed, texts};
use crate::database::Fresh;

cases! {
    with_all_webhooks_lost_and_polls_far_away_every_job_ends_by_the_event_log,
    a_crash_in_the_middle_of_paging_goes_on_from_the_position,
    a_page_read_again_changes_nothing,
    a_start_reads_it_at_once,
    the_end_of_an_outage_upstream_reads_it_at_once,
    the_end_of_an_outage_of_the_door_reads_it_at_once,
    a_stranger_no_webhook_told_of_is_published_once,
    what_a_webhook_told_is_not_told_again,
    a_failure_it_names_is_asked_for_before_it_is_believed,
    a_gap_is_told,
    trouble_with_it_is_told_and_tried_again,
}

const LOG: &str = "/v3/webhooks/events";

/// Nothing but the event log tells.
async fn deaf(fresh: &Fresh) -> TestApp {
    let flags = &[("first-poll", "86400"), ("deadline", "172800"), ("slots", "1000")];
    let setup = Setup { flags, sandbox: |o| o.concurrency = 1_000, ..Setup::default() };
    let app = TestApp::with(fresh, setup).await;
    app.register().await;
    app
}

async fn submit_lost(app: &TestApp, count: usize) -> Vec<String> {
    let mut ids = vec![];
    for n in 0..count {
        let kind = ["video", "video_agent", "translation"][n % 3];
        ids.push(app.submit(kind, &format!("quiet {n} #lost")).await);
    }
    ids
}

async fn found_by(app: &TestApp, ids: &[String]) -> Vec<String> {
    let mut all = vec![];
    for id in ids {
        let job = app.job(id).await;
        let by = job["found_by"].as_str().unwrap_or("nobody yet");
        all.push(format!("{} by {by}", job["state"].as_str().unwrap_or_default()));
    }
    all.sort();
    all.dedup();
    all
}

async fn position(app: &TestApp) -> Value {
    let text = app.db().read(|tx| setting::find(tx, setting::EVENT_LOG)).await.expect("the position");
    serde_json::from_str(&text.expect("it is kept")).expect("JSON")
}

async fn with_all_webhooks_lost_and_polls_far_away_every_job_ends_by_the_event_log(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    let ids = submit_lost(&app, 12).await;
    app.advance_s(600).await;
    assert_eq!(found_by(&app, &ids).await, ["processing by nobody yet"]);
    app.advance_s(3_000).await;
    assert_eq!(found_by(&app, &ids).await, ["completed by event_log"]);
    assert_eq!(app.calls(LOG), 2, "at the start, and after an hour");
    let receipts = app.get(&format!("/api/jobs/{}/receipts", ids[0])).await.expect(200).json();
    assert_eq!(texts(&receipts["data"], "verdict"), ["logged"], "its bytes are kept as any receipt's");
    let shown = app.get(&format!("/api/receipts/{}", texts(&receipts["data"], "id")[0])).await.json();
    assert!(shown["signature_check"]["steps"][0].as_str().unwrap().contains("event log"), "{shown}");
}

async fn a_crash_in_the_middle_of_paging_goes_on_from_the_position(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    let ids = submit_lost(&app, 250).await;
    app.advance_s(60).await;
    // Three pages; the app is gone between the second and the third.
    app.advance(Duration::from_millis(3_600_000 - 60_000)).await;
    app.advance_s(1).await;
    assert_eq!(app.calls(LOG), 1 + 2);
    let half_way = position(&app).await;
    assert!(half_way["reading"]["token"].is_string(), "{half_way}");
    assert_eq!(half_way["read_to"], Value::Null, "it moves when all is read");
    app.restart().await;
    app.settle().await;
    assert_eq!(app.calls(LOG), 1 + 3, "no page is read twice");
    assert_eq!(found_by(&app, &ids).await, ["completed by event_log"]);
    let done = position(&app).await;
    assert!(done["reading"].is_null() && done["read_to"].is_number(), "{done}");
}

async fn a_page_read_again_changes_nothing(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    let ids = submit_lost(&app, 5).await;
    app.advance_s(3_600).await;
    let before =
        (app.get("/api/events?limit=200").await.json(), app.get("/api/receipts?limit=200").await.json());
    // As if nothing had ever been read.
    app.db().write(|tx| setting::put(tx, setting::EVENT_LOG, "{}")).await.expect("the position");
    app.restart().await;
    app.settle().await;
    let after =
        (app.get("/api/events?limit=200").await.json(), app.get("/api/receipts?limit=200").await.json());
    assert_eq!(before, after);
    assert_eq!(found_by(&app, &ids).await, ["completed by event_log"]);
}

async fn a_start_reads_it_at_once(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    let ids = submit_lost(&app, 3).await;
    app.advance_s(5).await;
    app.crash().await;
    // Six hours in which the sandbox tells nobody.
    app.clock.advance(Duration::from_secs(6 * 3_600));
    app.sandbox.settle().await;
    app.start().await;
    app.settle().await;
    assert_eq!(found_by(&app, &ids).await, ["completed by event_log"]);
}

async fn the_end_of_an_outage_upstream_reads_it_at_once(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    let ids = submit_lost(&app, 1).await;
    app.advance_s(30).await;
    let calls = app.calls(LOG);
    app.sandbox.set_offline(true);
    let next = app.submit("video", "in the outage").await;
    app.advance_s(120).await;
    app.sandbox.set_offline(false);
    app.advance_s(120).await;
    assert_eq!(app.state(&next).await, "completed");
    assert_eq!(app.calls(LOG), calls + 1, "once");
    assert_eq!(found_by(&app, &ids).await, ["completed by event_log"]);
}

async fn the_end_of_an_outage_of_the_door_reads_it_at_once(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    let secret = app.secrets().await.remove(0);
    let ids = submit_lost(&app, 1).await;
    app.advance_s(30).await;
    let calls = app.calls(LOG);
    // In doubt about the secret: answered 503.
    let doubt = r#"{"ep_1": {"key": "k", "since": 0}}"#;
    app.db().write(move |tx| setting::put(tx, setting::WEBHOOK_DOUBTS, doubt)).await.expect("set");
    app.advance_s(61).await;
    app.webhook(&[("signature", &signed("other", b"{}"))], "{}")
        .await
        .problem(503, "webhook_secret_rotating");
    app.advance_s(61).await;
    app.db().write(|tx| setting::put(tx, setting::WEBHOOK_DOUBTS, "{}")).await.expect("set");
    app.webhook(&[("signature", &signed(&secret, b"{}"))], "{}").await.expect(200);
    app.settle().await;
    assert_eq!(app.calls(LOG), calls + 1);
    assert_eq!(found_by(&app, &ids).await, ["completed by event_log"]);
}

/// A page of the log as HeyGen gives it.
fn page(entries: &[(&str, i64, Value)]) -> Twist {
    let entries: Vec<Value> = entries
        .iter()
        .map(|(kind, at, data)| {
            json!({"event_id": format!("evt_{at}"), "event_type": kind, "event_data": data,
                   "created_at": rfc3339(*at)})
        })
        .collect();
    Twist::Answer(200, json!({"data": entries, "has_more": false, "next_token": null}))
}

async fn published(app: &TestApp) -> Vec<String> {
    texts(&app.get("/api/events?limit=200").await.json()["data"], "type")
}

async fn a_stranger_no_webhook_told_of_is_published_once(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    app.settle().await;
    let at = app.now() + 60_000;
    app.sandbox.twist(LOG, Some(page(&[("photo_avatar_train.success", at, json!({"group_id": "grp_1"}))])));
    app.advance_s(120).await;
    app.restart().await;
    app.settle().await;
    assert!(published(&app).await.is_empty(), "its webhook may be on its way");
    app.advance_s(3 * 3_600).await;
    assert_eq!(published(&app).await, ["heygen.photo_avatar_train.success"]);
}

async fn what_a_webhook_told_is_not_told_again(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    let secret = app.secrets().await.remove(0);
    let ours = app.submit("video", "told").await;
    app.advance_s(60).await;
    let data = json!({"video_id": "of-somebody", "url": "https://files.heygen.ai/x.mp4"});
    let body = json!({"event_type": "avatar_video.success", "event_data": data}).to_string();
    app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body.clone()).await.expect(200);
    app.settle().await;
    let (events, receipts) = (published(&app).await, app.get("/api/receipts").await.json());
    assert_eq!(app.job(&ours).await["found_by"], "webhook");
    let upstream_id = app.job(&ours).await["upstream_id"].clone();
    let own = json!({"video_id": upstream_id, "url": "https://files.heygen.ai/y.mp4", "callback_id": ours});
    let now = app.now();
    let log = page(&[("avatar_video.success", now, data), ("avatar_video.success", now - 1, own)]);
    app.sandbox.twist(LOG, Some(log));
    app.advance_s(2 * 3_600).await;
    assert_eq!(published(&app).await, events);
    assert_eq!(app.get("/api/receipts").await.json(), receipts);
}

async fn a_failure_it_names_is_asked_for_before_it_is_believed(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    let failed = app.submit("video", "fails #fail #lost").await;
    let fine = app.submit("video", "goes on #stuck").await;
    app.advance_s(60).await;
    let upstream_id = app.job(&fine).await["upstream_id"].clone();
    let said = |id: &Value, at| ("avatar_video.fail", at, json!({"video_id": id, "msg": "no"}));
    let now = app.now();
    let log = page(&[said(&upstream_id, now), said(&app.job(&failed).await["upstream_id"], now)]);
    app.sandbox.twist(LOG, Some(log));
    app.advance_s(3_600).await;
    let job = app.job(&failed).await;
    assert_eq!(job["failure"]["code"], "rendering_failed", "in the status route's words: {job}");
    assert_eq!(app.state(&fine).await, "processing");
}

async fn check(app: &TestApp) -> Value {
    let doctor = app.get("/api/doctor").await.expect(200).json();
    let all = doctor["checks"].as_array().expect("checks");
    all.iter().find(|c| c["check"] == "HeyGen event log").expect("the check").clone()
}

async fn a_gap_is_told(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    app.settle().await;
    assert_eq!(check(&app).await["status"], "ok");
    let first = app.now();
    let event = |at| ("personalized_video", at, json!({"video_id": format!("v{at}")}));
    app.sandbox.twist(LOG, Some(page(&[event(first)])));
    app.advance_s(3_600).await;
    assert_eq!(check(&app).await["status"], "ok");
    let (from, to) = (first, app.now() + 1_800_000);
    app.sandbox.twist(LOG, Some(page(&[event(to)])));
    app.advance_s(3_600).await;
    let told = check(&app).await;
    assert_eq!(told["status"], "warn", "{told}");
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains(&rfc3339(from)) && detail.contains(&rfc3339(to)), "{detail}");
    app.advance(Duration::from_secs(8 * 86_400)).await;
    assert_eq!(check(&app).await["status"], "ok", "not for ever");
}

async fn trouble_with_it_is_told_and_tried_again(fresh: &Fresh) {
    let mut app = deaf(fresh).await;
    let ids = submit_lost(&app, 1).await;
    app.advance_s(60).await;
    for (status, code) in [(500, "internal_error"), (429, "rate_limit_exceeded"), (401, "unauthorized")] {
        let error = json!({"error": {"code": code, "message": "not now"}});
        app.sandbox.twist(LOG, Some(Twist::Answer(status, error)));
        app.restart().await;
        app.settle().await;
        assert_eq!(check(&app).await["status"], "warn", "{status}");
        app.sandbox.twist(LOG, None);
        app.advance_s(60).await;
        assert_eq!(check(&app).await["status"], "ok", "{status}");
    }
    assert_eq!(found_by(&app, &ids).await, ["completed by event_log"]);
}
