//! A new webhook secret while deliveries go on, though HeyGen kills the old one at once: none is
//! refused, whatever breaks and wherever the server ends, and the command is simply run again.

use reelhook::heygen::sandbox::{Twist, What};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, signed};
use crate::database::Fresh;

cases! {
    deliveries_go_on_through_a_rotation,
    a_crash_before_heygen_is_asked_is_made_good_by_running_it_again,
    a_crash_after_heygen_did_it_is_made_good_by_running_it_again,
    a_lost_answer_is_told_and_asked_for_again_with_the_same_key,
    what_heygen_surely_did_not_do_leaves_no_doubt,
    an_earlier_doubt_outlives_a_refusal,
    an_endpoint_that_is_gone_leaves_no_doubt,
    an_endpoint_whose_first_secret_was_lost_gets_it_told_again,
    another_node_refuses_nothing_meanwhile,
    a_new_secret_is_shown_once_to_who_asks_for_it,
}

async fn app(fresh: &Fresh) -> TestApp {
    let setup = Setup { sandbox: |o| o.concurrency = 100, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    app.register().await;
    app.settle().await;
    app
}

async fn endpoint(app: &TestApp) -> String {
    let list = app.get("/api/webhooks").await.expect(200).json();
    list["data"][0]["endpoint_id"].as_str().expect("an endpoint").to_owned()
}

fn rotate_path(endpoint: &str) -> String {
    format!("/v3/webhooks/endpoints/{endpoint}/rotate-secret")
}

async fn submit(app: &TestApp, count: usize) -> Vec<String> {
    let mut ids = vec![];
    for n in 0..count {
        ids.push(app.submit("video", &format!("video {n}")).await);
    }
    ids
}

/// Every job ended by the word of a webhook, and no delivery was refused.
async fn told_by_webhook(app: &TestApp, ids: &[String]) {
    for id in ids {
        let job = app.job(id).await;
        assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("webhook")), "{job}");
    }
    let answers: Vec<u16> = answers(app);
    assert!(!answers.contains(&401), "refused for good: {answers:?}");
}

/// How the deliveries were answered.
fn answers(app: &TestApp) -> Vec<u16> {
    let status = |what: What| match what {
        What::Webhook { status, .. } => status,
        _ => None,
    };
    app.sandbox.ledger().into_iter().filter_map(|e| status(e.what)).collect()
}

async fn secret_check(app: &TestApp) -> Value {
    let doctor = app.get("/api/doctor").await.expect(200).json();
    let all = doctor["checks"].as_array().expect("checks");
    all.iter().find(|c| c["check"] == "webhook secret").expect("the check").clone()
}

async fn forged(app: &TestApp) -> u16 {
    app.webhook(&[("signature", &signed("somebody's", b"{}"))], "{}").await.status
}

async fn deliveries_go_on_through_a_rotation(fresh: &Fresh) {
    let mut app = app(fresh).await;
    let id = endpoint(&app).await;
    let mut ids = vec![];
    for _ in 0..5 {
        ids.extend(submit(&app, 4).await);
        app.advance_s(4).await;
        app.post(&format!("/api/webhooks/{id}/rotate"), &json!({})).await.expect(200);
    }
    app.advance_s(30).await;
    told_by_webhook(&app, &ids).await;
    assert!(answers(&app).iter().all(|status| *status == 200));
    assert_eq!(forged(&app).await, 401, "and a forgery is one");
}

async fn a_crash_before_heygen_is_asked_is_made_good_by_running_it_again(fresh: &Fresh) {
    let mut app = app(fresh).await;
    let id = endpoint(&app).await;
    let ids = submit(&app, 3).await;
    app.settle().await;
    let old = app.secrets().await;
    app.sandbox.twist(&rotate_path(&id), Some(Twist::Drop));
    app.post(&format!("/api/webhooks/{id}/rotate"), &json!({})).await.problem(502, "webhook_rotation_open");
    app.restart().await;
    assert_eq!(forged(&app).await, 503, "in doubt");
    app.advance_s(30).await;
    told_by_webhook(&app, &ids).await;
    app.sandbox.twist(&rotate_path(&id), None);
    app.post(&format!("/api/webhooks/{id}/rotate"), &json!({})).await.expect(200);
    assert_ne!(app.secrets().await[0], old[0]);
    let ids = submit(&app, 3).await;
    app.advance_s(30).await;
    told_by_webhook(&app, &ids).await;
    assert_eq!(forged(&app).await, 401);
}

async fn a_crash_after_heygen_did_it_is_made_good_by_running_it_again(fresh: &Fresh) {
    let mut app = app(fresh).await;
    let id = endpoint(&app).await;
    let ids = submit(&app, 3).await;
    app.settle().await;
    app.sandbox.twist(&rotate_path(&id), Some(Twist::Lose));
    app.post(&format!("/api/webhooks/{id}/rotate"), &json!({})).await.problem(502, "webhook_rotation_open");
    app.restart().await;
    app.advance_s(12).await;
    let asked_again = answers(&app);
    assert!(asked_again.len() >= 3 && asked_again.iter().all(|status| *status == 503), "{asked_again:?}");
    // Days later than any limit of time there might be, but for HeyGen's own.
    app.advance_s(3_000).await;
    assert_eq!(forged(&app).await, 503, "in doubt until somebody asks again");
    app.sandbox.twist(&rotate_path(&id), None);
    let late = submit(&app, 3).await;
    app.advance_s(12).await;
    app.post(&format!("/api/webhooks/{id}/rotate"), &json!({})).await.expect(200);
    app.advance_s(3_600).await;
    for id in ids.iter().chain(&late) {
        assert_eq!(app.state(id).await, "completed");
    }
    assert!(!answers(&app).contains(&401));
    assert_eq!(forged(&app).await, 401);
}

async fn a_lost_answer_is_told_and_asked_for_again_with_the_same_key(fresh: &Fresh) {
    let mut app = app(fresh).await;
    let id = endpoint(&app).await;
    let path = format!("/api/webhooks/{id}/rotate");
    app.sandbox.twist(&rotate_path(&id), Some(Twist::Lose));
    for _ in 0..3 {
        app.post(&path, &json!({})).await.problem(502, "webhook_rotation_open");
        assert_eq!(secret_check(&app).await["status"], "fail");
    }
    app.sandbox.twist(&rotate_path(&id), None);
    app.post(&path, &json!({})).await.expect(200);
    assert_eq!(secret_check(&app).await["status"], "ok");
    assert_eq!(app.secrets().await.len(), 2, "the old one verifies a while longer, and there is one new");
    let ids = submit(&app, 2).await;
    app.advance_s(30).await;
    told_by_webhook(&app, &ids).await;
    assert!(
        answers(&app).iter().all(|status| *status == 200),
        "what was told first is what HeyGen signs with"
    );
}

async fn what_heygen_surely_did_not_do_leaves_no_doubt(fresh: &Fresh) {
    let app = app(fresh).await;
    let id = endpoint(&app).await;
    let error = json!({"error": {"code": "rate_limit_exceeded", "message": "slow down"}});
    app.sandbox.twist(&rotate_path(&id), Some(Twist::Answer(429, error)));
    let refused = app.post(&format!("/api/webhooks/{id}/rotate"), &json!({})).await;
    assert!(refused.status >= 400 && refused.json()["code"] != "webhook_rotation_open", "{}", refused.text());
    assert_eq!(forged(&app).await, 401);
    assert_eq!(secret_check(&app).await["status"], "ok");
}

async fn an_earlier_doubt_outlives_a_refusal(fresh: &Fresh) {
    let app = app(fresh).await;
    let id = endpoint(&app).await;
    let path = format!("/api/webhooks/{id}/rotate");
    app.sandbox.twist(&rotate_path(&id), Some(Twist::Lose));
    app.post(&path, &json!({})).await.problem(502, "webhook_rotation_open");
    let error = json!({"error": {"code": "rate_limit_exceeded", "message": "slow down"}});
    app.sandbox.twist(&rotate_path(&id), Some(Twist::Answer(429, error)));
    app.post(&path, &json!({})).await.problem(502, "webhook_rotation_open");
    assert_eq!(forged(&app).await, 503);
    app.sandbox.twist(&rotate_path(&id), None);
    app.post(&path, &json!({})).await.expect(200);
    assert_eq!(forged(&app).await, 401);
}

async fn an_endpoint_that_is_gone_leaves_no_doubt(fresh: &Fresh) {
    let app = app(fresh).await;
    let id = endpoint(&app).await;
    let path = format!("/api/webhooks/{id}/rotate");
    app.sandbox.twist(&rotate_path(&id), Some(Twist::Lose));
    app.post(&path, &json!({})).await.problem(502, "webhook_rotation_open");
    app.sandbox.twist(&rotate_path(&id), None);
    app.call("DELETE", &format!("/api/webhooks/{id}"), &[], "").await.expect(204);
    assert_eq!(secret_check(&app).await["status"], "warn", "none is known, and none is in doubt");
    app.post(&path, &json!({})).await.problem(404, "not_found");
}

async fn an_endpoint_whose_first_secret_was_lost_gets_it_told_again(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let create = "POST /v3/webhooks/endpoints";
    app.sandbox.twist(create, Some(Twist::Lose));
    app.post("/api/webhooks", &json!({})).await.problem(502, "webhook_rotation_open");
    assert_eq!(forged(&app).await, 503);
    app.sandbox.twist(create, None);
    app.post("/api/webhooks", &json!({})).await.expect(200);
    assert_eq!(secret_check(&app).await["status"], "ok");
    let ids = submit(&app, 2).await;
    app.advance_s(30).await;
    told_by_webhook(&app, &ids).await;
}

async fn another_node_refuses_nothing_meanwhile(fresh: &Fresh) {
    let mut app = app(fresh).await;
    let other = if fresh.is_sqlite() { app.base.clone() } else { app.second_node().await };
    let at_other = async |secret: &str| {
        let url = format!("{other}/webhooks/heygen");
        let headers = [("signature", &*signed(secret, b"{}"))];
        crate::client::call("POST", &url, &headers, "{}".into()).await.status
    };
    // It has read the secrets this very millisecond.
    assert_eq!(at_other("unknown").await, 401);
    let id = endpoint(&app).await;
    let path = format!("/api/webhooks/{id}/rotate");
    app.sandbox.twist(&rotate_path(&id), Some(Twist::Lose));
    app.post(&path, &json!({})).await.problem(502, "webhook_rotation_open");
    assert_eq!(at_other("unknown").await, 503);
    app.sandbox.twist(&rotate_path(&id), None);
    app.post(&path, &json!({})).await.expect(200);
    let new = app.secrets().await.remove(0);
    assert_eq!((at_other(&new).await, at_other("unknown").await), (200, 401));
    app.settle().await;
}

async fn a_new_secret_is_shown_once_to_who_asks_for_it(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let (shown, quiet) = (json!({"show_secret": true}), json!({}));
    let first = app.post("/api/webhooks", &shown).await.expect(201).json();
    assert_eq!(json!(app.secrets().await[0]), first["secret"]);
    let again = app.post("/api/webhooks", &shown).await.expect(200).json();
    assert_eq!((&again["action"], &again["secret"]), (&json!("updated"), &Value::Null), "it is not new");
    let rotate = format!("/api/webhooks/{}/rotate", endpoint(&app).await);
    let second = app.post(&rotate, &shown).await.expect(200).json();
    assert_eq!(json!(app.secrets().await[0]), second["secret"]);
    assert_ne!(first["secret"], second["secret"]);
    assert_eq!(app.post(&rotate, &quiet).await.expect(200).json()["secret"], Value::Null);
    let list = app.get("/api/webhooks").await.expect(200).text();
    for secret in app.secrets().await {
        assert!(!list.contains(&secret), "nowhere else");
        assert!(app.log(&[&secret]).is_empty(), "least of all in the log");
    }
    for (body, pointer) in [(json!({"show_secret": "yes"}), "/show_secret"), (json!({"show": true}), "/show")]
    {
        assert_eq!(app.post(&rotate, &body).await.expect(422).pointers(), [pointer]);
    }
}
