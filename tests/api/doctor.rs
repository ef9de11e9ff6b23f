//! `reelhook doctor` over HTTP: what is wrong with webhooks, and what to do about it.

use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases};
use crate::database::Fresh;

cases! {
    an_endpoint_that_lacks_ends_is_warned_of,
    an_endpoint_whose_secret_is_not_known_here_is_warned_of,
    what_is_said_of_503_is_true_with_accept_unsigned,
    jobs_of_unknown_outcome_are_warned_of,
    a_proxy_is_named_and_its_password_is_not,
}

async fn check(app: &TestApp, name: &str) -> Value {
    let report = app.get("/api/doctor").await.expect(200).json();
    let all = report["checks"].as_array().expect("checks");
    all.iter().find(|c| c["check"] == name).unwrap_or_else(|| panic!("no {name} in {report}")).clone()
}

async fn an_endpoint_that_lacks_ends_is_warned_of(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let ends = reelhook::heygen::webhooks::outcome_events();
    for name in ["avatar_video.success", "avatar_video.fail", "video_agent.success", "video_translate.fail"] {
        assert!(ends.iter().any(|end| end == name), "{name} in {ends:?}");
    }
    for (events, status, words) in [
        (json!(ends), "ok", "is registered"),
        (json!(ends[1..]), "warn", &*format!("without {};", ends[0])),
        (json!(["avatar_video.success"]), "warn", "more;"),
        (Value::Null, "ok", "is registered"),
    ] {
        app.post("/api/webhooks", &json!({"events": events})).await;
        let found = check(&app, "HeyGen endpoint").await;
        assert_eq!(found["status"], status, "{found}");
        assert!(found["detail"].as_str().unwrap().contains(words), "{words}: {found}");
        assert_eq!(found["fix"].is_string(), status == "warn", "{found}");
    }
    app.settle().await;
}

async fn an_endpoint_whose_secret_is_not_known_here_is_warned_of(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let url = format!("{}/webhooks/heygen", app.base);
    app.elsewhere("/v3/webhooks/endpoints", &json!({"url": url, "events": null})).await;
    let found = check(&app, "HeyGen endpoint").await;
    assert_eq!(found["status"], "warn", "{found}");
    assert!(found["detail"].as_str().unwrap().contains("secret is not known"), "{found}");
    assert!(found["fix"].as_str().unwrap().contains("webhook register"), "{found}");
    // What it says helps.
    app.post("/api/webhooks", &json!({})).await.expect(200);
    assert_eq!(check(&app, "HeyGen endpoint").await["status"], "ok");
    app.settle().await;
}

async fn what_is_said_of_503_is_true_with_accept_unsigned(fresh: &Fresh) {
    let app = TestApp::with(fresh, Setup { flags: &[("accept-unsigned", "true")], ..Setup::default() }).await;
    let found = check(&app, "webhook secret").await;
    assert!(found["detail"].as_str().unwrap().contains("from this machine are hints"), "{found}");
    let hex = "0".repeat(64);
    app.webhook(&[("signature", &hex)], r#"{"event_type": "x", "event_data": {"video_id": "v"}}"#)
        .await
        .expect(200);
    let elsewhere = [("signature", &*hex), ("x-forwarded-for", "203.0.113.7")];
    app.webhook(&elsewhere, "{}").await.problem(503, "no_webhook_secret");
    app.app().runner.settle().await.expect("the hint is applied");
}

async fn jobs_of_unknown_outcome_are_warned_of(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    assert_eq!(check(&app, "unknown outcomes").await["status"], "ok");
    let id = app.submit("ai_clipping", "clips #reset_after").await;
    app.settle().await;
    assert_eq!(app.state(&id).await, "unknown");
    let warned = check(&app, "unknown outcomes").await;
    assert_eq!(warned["status"], "warn");
    assert!(warned["fix"].as_str().unwrap().contains("--state unknown"), "{warned}");
    app.advance_s(2 * 86_400).await;
    assert_eq!(check(&app, "unknown outcomes").await["status"], "ok");
}

async fn a_proxy_is_named_and_its_password_is_not(fresh: &Fresh) {
    let variables = &[("HTTPS_PROXY", "http://user:hunter2@proxy.example:3128")];
    let app = TestApp::with(fresh, Setup { variables, ..Setup::default() }).await;
    let found = check(&app, "proxy").await;
    assert_eq!(found["detail"], "https:// through http://proxy.example:3128, http:// straight", "{found}");
    // HeyGen is on this machine here, where no proxy is asked for.
    assert_eq!(check(&app, "HeyGen key").await["status"], "ok");
}
