//! What four integration guides in circulation promise their readers about receiving, row by row.
//! They are numbered 000, 001, 003 and 004, and the name of a case begins with its guide.

use reelhook::config::{Config, Given};
use reelhook::heygen::sandbox::What;
use serde_json::json;

use crate::app::{Setup, TestApp, cases, signed, texts};
use crate::database::Fresh;

/// The addresses readers of the guides have registered, and our own.
pub const PATHS: [&str; 5] = [
    "/webhooks/heygen",
    "/api/webhooks/heygen",
    "/api/webhook/heygen",
    "/webhook/heygen",
    "/api/heygen/callback",
];

cases! {
    guide_000_port_8000_and_the_flat_body,
    guide_000_an_unsigned_body_is_401_with_a_hint_that_names_simulate,
    guide_000_a_laptop_may_accept_unsigned_bodies_and_only_asks,
    guide_000_a_job_has_a_callback_address_nobody_can_guess,
    guide_000_the_answer_comes_from_the_store_and_the_poll_is_automatic,
    guide_001_options_head_and_get_answer_200_without_a_key,
    guide_001_video_completed_and_video_failed_are_understood,
    guide_001_header_and_variable_are_honoured,
    guide_001_a_webhook_that_comes_again_has_no_effect,
    guide_001_errors_and_retries_are_counted,
    guide_003_a_webhook_is_durable_before_its_200,
    guide_003_the_signature_is_over_the_bytes_and_not_over_their_meaning,
    guide_003_health_is_told_without_a_key,
    guide_003_every_known_event_type_is_kept_and_passed_on,
    guide_003_an_unknown_event_type_is_stored_and_shown,
    guide_004_variable_header_path_and_fields_are_honoured,
}

async fn guide_000_port_8000_and_the_flat_body(fresh: &Fresh) {
    let config = Config::resolve(&Given::default()).expect("the defaults are right");
    assert_eq!(config.listen.port(), 8000);
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let id = app.submit("video", "flat").await;
    app.settle().await;
    let upstream = app.job(&id).await["upstream_id"].clone();
    let body =
        json!({"video_id": upstream, "status": "completed", "video_url": "https://files.heygen.ai/a.mp4"});
    let body = body.to_string();
    let header = [("signature", &*signed(&secret, body.as_bytes()))];
    app.call("POST", "/api/webhooks/heygen", &header, body.clone()).await.expect(200);
    app.settle().await;
    let job = app.job(&id).await;
    assert_eq!(job["state"], "completed");
    assert_eq!(job["result"]["video_url"], "https://files.heygen.ai/a.mp4");
    assert_eq!(job["found_by"], "webhook");
}

async fn guide_000_an_unsigned_body_is_401_with_a_hint_that_names_simulate(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    app.register().await;
    for path in PATHS {
        let body = json!({"video_id": path, "status": "completed", "video_url": "https://x.example/a"});
        let problem = app.post(path, &body).await.problem(401, "bad_signature");
        assert!(problem["hint"].as_str().unwrap().contains("reelhook simulate"), "{path}: {problem}");
        app.post(&format!("{path}/"), &body).await.problem(401, "bad_signature");
    }
}

async fn guide_000_a_laptop_may_accept_unsigned_bodies_and_only_asks(fresh: &Fresh) {
    let setup = Setup {
        flags: &[("accept-unsigned", "true")],
        sandbox: |o| o.render = 60_000..=60_000,
        ..Setup::default()
    };
    let mut app = TestApp::with(fresh, setup).await;
    let id = app.submit("video", "laptop").await;
    app.settle().await;
    let upstream = app.job(&id).await["upstream_id"].as_str().unwrap().to_owned();
    let body =
        json!({"video_id": upstream, "status": "completed", "video_url": "https://evil.example/a.mp4"});
    for (name, value) in [
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
        ("host", "reelhook.example.com"),
        ("origin", "https://page.example"),
    ] {
        let answer = app.webhook(&[(name, value)], body.to_string()).await;
        answer.problem(401, "bad_signature");
    }
    app.webhook(&[], body.to_string()).await.expect(200);
    app.settle().await;
    // It was only a hint: HeyGen was asked, and says that the job still runs.
    assert_eq!(app.state(&id).await, "processing");
    assert_eq!(app.calls(&format!("/v3/videos/{upstream}")), 1);
    app.advance_s(120).await;
    let job = app.job(&id).await;
    assert_eq!(job["state"], "completed");
    assert_ne!(job["result"]["video_url"], "https://evil.example/a.mp4");
}

async fn guide_000_a_job_has_a_callback_address_nobody_can_guess(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let (one, two) = (app.submit("video", "one").await, app.submit("video", "two").await);
    app.advance_s(30).await;
    let mut parts = vec![];
    for id in [&one, &two] {
        let told = app.sandbox.ledger().into_iter().find_map(|e| match e.what {
            What::Webhook { url, callback_id, endpoint_id: None, status, .. }
                if callback_id.as_ref() == Some(id) =>
            {
                Some((url, status))
            }
            _ => None,
        });
        let (url, status) = told.expect("the sandbox called the job's own address");
        assert_eq!(status, Some(200));
        let prefix = format!("{}/webhooks/heygen/{id}.", app.base);
        let part = url.strip_prefix(&prefix).unwrap_or_else(|| panic!("{url}")).to_owned();
        assert!(part.len() >= 32 && part.bytes().all(|b| b.is_ascii_hexdigit()), "128 bits, in hex: {part}");
        parts.push(part);
        // Unsigned, so HeyGen itself was asked.
        let job = app.job(id).await;
        assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("poll")));
        assert_eq!(app.charges(id), 1);
    }
    assert_ne!(parts[0], parts[1]);
    // Where an endpoint is registered, a callback on top would only be a double.
    app.register().await;
    let three = app.submit("video", "three").await;
    app.advance_s(30).await;
    assert_eq!(app.job(&three).await["found_by"], "webhook");
    let doubles = app.sandbox.ledger().into_iter().filter(
        |e| matches!(&e.what, What::Webhook { endpoint_id: None, callback_id: Some(id), .. } if *id == three),
    );
    assert_eq!(doubles.count(), 0);
}

async fn guide_000_the_answer_comes_from_the_store_and_the_poll_is_automatic(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = app.submit("video", "nobody calls #lost").await;
    app.settle().await;
    let calls = app.sandbox.tally().calls;
    for _ in 0..5 {
        assert_eq!(app.state(&id).await, "processing");
    }
    assert_eq!(app.sandbox.tally().calls, calls, "asking us asks nobody else");
    app.advance_s(400).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("poll")));
}

async fn guide_001_options_head_and_get_answer_200_without_a_key(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    app.post("/api/keys", &json!({})).await.expect(201);
    let own = app.address("job_00000000000000000000000000");
    let paths = PATHS.into_iter().chain([own.as_str(), "/webhooks/heygen/job_unknown.0"]);
    for path in paths {
        for method in ["OPTIONS", "HEAD", "GET"] {
            // Also with what a browser or a proxy adds.
            let headers = [("host", "reelhook.example.com"), ("x-forwarded-for", "203.0.113.7")];
            app.call(method, path, &headers, "").await.expect(200);
        }
    }
    app.call("PUT", PATHS[0], &[], "").await.problem(405, "method_not_allowed");
}

async fn guide_001_video_completed_and_video_failed_are_understood(fresh: &Fresh) {
    let setup = Setup { sandbox: |o| o.render = 60_000..=60_000, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    let secret = app.register().await;
    let (good, bad) = (app.submit("video", "good").await, app.submit("video", "bad #fail").await);
    app.settle().await;
    let body = json!({"event_type": "video.completed", "event_data": {
        "video_id": app.job(&good).await["upstream_id"], "video_url": "https://files.heygen.ai/g.mp4",
        "thumbnail_url": "https://files.heygen.ai/g.jpg",
    }})
    .to_string();
    let header = [("x-heygen-signature", &*signed(&secret, body.as_bytes()))];
    app.call("POST", "/api/webhook/heygen", &header, body.clone()).await.expect(200);
    app.settle().await;
    let job = app.job(&good).await;
    assert_eq!(job["state"], "completed");
    assert_eq!(job["result"]["thumbnail_url"], "https://files.heygen.ai/g.jpg");
    // A failure that is only heard is asked for first, and HeyGen says that it still runs.
    let upstream = app.job(&bad).await["upstream_id"].as_str().unwrap().to_owned();
    let failed = json!({"event_type": "video.failed", "event_data": {
        "video_id": upstream, "error_message": "Somebody says so",
    }})
    .to_string();
    let header = [("x-heygen-signature", &*signed(&secret, failed.as_bytes()))];
    app.call("POST", "/api/webhook/heygen", &header, failed.clone()).await.expect(200);
    app.settle().await;
    assert_eq!(app.state(&bad).await, "processing");
    assert_eq!(app.calls(&format!("/v3/videos/{upstream}")), 1);
    app.advance_s(150).await;
    let job = app.job(&bad).await;
    assert_eq!(job["state"], "failed");
    assert_eq!(job["failure"]["code"], "rendering_failed");
}

async fn guide_001_header_and_variable_are_honoured(fresh: &Fresh) {
    let setup =
        Setup { variables: &[("HEYGEN_WEBHOOK_SECRET", "first-secret, second-secret")], ..Setup::default() };
    let app = TestApp::with(fresh, setup).await;
    for (nth, secret) in ["first-secret", "second-secret"].into_iter().enumerate() {
        let body = format!(r#"{{"event_type":"avatar_video.success","event_data":{{"video_id":"v{nth}"}}}}"#);
        let header = [("x-heygen-signature", &*signed(secret, body.as_bytes()))];
        app.webhook(&header, body.clone()).await.expect(200);
    }
    let body = "{}";
    let header = [("x-heygen-signature", &*signed("third-secret", body.as_bytes()))];
    app.webhook(&header, body).await.problem(401, "bad_signature");
    app.app().runner.settle().await.expect("the receipts are applied");
}

async fn guide_001_a_webhook_that_comes_again_has_no_effect(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let id = app.submit("video", "again and again").await;
    app.settle().await;
    let body = json!({"event_type": "avatar_video.success", "event_data": {
        "video_id": app.job(&id).await["upstream_id"], "url": "https://files.heygen.ai/1.mp4",
    }})
    .to_string();
    let header = [("signature", &*signed(&secret, body.as_bytes()))];
    for _ in 0..5 {
        app.call("POST", "/api/webhook/heygen", &header, body.clone()).await.expect(200);
    }
    app.settle().await;
    let job = app.job(&id).await;
    app.call("POST", "/api/webhook/heygen", &header, body).await.expect(200);
    app.settle().await;
    assert_eq!(app.job(&id).await, job);
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.completed"]);
    let kept = app.get(&format!("/api/jobs/{id}/receipts")).await.expect(200).json();
    assert_eq!(kept["data"].as_array().unwrap().len(), 1, "{kept}");
    assert!((app.metric("reelhook_webhook_duplicate_total").await - 5.0).abs() < 0.1);
    app.advance_s(60).await;
}

async fn guide_001_errors_and_retries_are_counted(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    app.submit("video", "fails #fail").await;
    app.submit("video", "unheard #lost").await;
    app.webhook(&[("signature", &"0".repeat(64))], "{}").await.expect(401);
    app.advance_s(600).await;
    for line in [
        r#"reelhook_jobs_finished_total{outcome="failed",found_by="poll"}"#,
        r#"reelhook_jobs_finished_total{outcome="completed",found_by="poll"}"#,
        r#"reelhook_webhook_refused_total{reason="signature_mismatch"}"#,
    ] {
        assert!((app.metric(line).await - 1.0).abs() < 0.1, "{line}\n{}", app.get("/metrics").await.text());
    }
    assert!(app.metric(r#"reelhook_tasks_claimed_total{lane="poll"}"#).await > 1.0);
}

async fn guide_003_the_signature_is_over_the_bytes_and_not_over_their_meaning(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let body =
        "{ \"event_type\" : \"avatar_video.success\",\n  \"event_data\":{\"video_id\":\"v\", \"n\":1.0} }";
    let value: serde_json::Value = serde_json::from_str(body).unwrap();
    let again = value.to_string();
    // The guide's way: what was read is written again, and that is signed.
    let header = [("signature", &*signed(&secret, again.as_bytes()))];
    app.webhook(&header, body).await.problem(401, "bad_signature");
    app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body).await.expect(200);
    app.settle().await;
}

async fn guide_003_health_is_told_without_a_key(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    app.post("/api/keys", &json!({})).await.expect(201);
    for path in ["/livez", "/readyz", "/version", "/metrics"] {
        app.get(path).await.expect(200);
    }
    fresh.break_down(app.db()).await;
    app.get("/livez").await.expect(200);
    if !fresh.is_sqlite() {
        // A full disk can still be read; a lost server cannot.
        app.get("/readyz").await.problem(503, "store_unavailable");
    }
    fresh.mend().await;
}

async fn guide_003_a_webhook_is_durable_before_its_200(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let id = app.submit("video", "durable").await;
    app.settle().await;
    let body = json!({"event_type": "avatar_video.success", "event_data": {
        "video_id": app.job(&id).await["upstream_id"], "url": "https://files.heygen.ai/d.mp4",
    }})
    .to_string();
    let header = [("signature", &*signed(&secret, body.as_bytes()))];
    app.call("POST", "/webhook/heygen", &header, body.clone()).await.expect(200);
    // Answered at once: nothing was done with it yet.
    assert_eq!(app.state(&id).await, "processing");
    app.crash().await;
    app.start().await;
    assert_eq!(app.state(&id).await, "processing");
    app.settle().await;
    assert_eq!(app.job(&id).await["result"]["video_url"], "https://files.heygen.ai/d.mp4");
}

/// The catalogue of July 2026 (docs/heygen.md, Events).
const EVENT_TYPES: [&str; 30] = [
    "avatar_video.success",
    "avatar_video.fail",
    "avatar_video_gif.success",
    "avatar_video_gif.fail",
    "avatar_video_caption.success",
    "avatar_video_caption.fail",
    "video_translate.success",
    "video_translate.fail",
    "video_translate.preflight.validation_failed",
    "video_translate.preflight.download_failed",
    "video_agent.success",
    "video_agent.fail",
    "personalized_video",
    "instant_avatar.success",
    "instant_avatar.fail",
    "photo_avatar_generation.success",
    "photo_avatar_generation.fail",
    "photo_avatar_train.success",
    "photo_avatar_train.fail",
    "photo_avatar_add_motion.success",
    "photo_avatar_add_motion.fail",
    "proofread_creation.success",
    "proofread_creation.fail",
    "live_avatar.success",
    "live_avatar.fail",
    "hyperframes_video.success",
    "hyperframes_video.fail",
    "ai_clipping.success",
    "ai_clipping.fail",
    "batch.finished",
];

async fn guide_003_every_known_event_type_is_kept_and_passed_on(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    for (nth, event_type) in EVENT_TYPES.into_iter().enumerate() {
        let body = json!({"event_type": event_type, "event_data": {"video_id": format!("foreign-{nth}")}});
        let body = body.to_string();
        let header = [("signature", &*signed(&secret, body.as_bytes()))];
        app.call("POST", "/webhook/heygen", &header, body.clone()).await.expect(200);
    }
    app.settle().await;
    let kept = app.get("/api/receipts?limit=200").await.expect(200).json();
    let mut kept = texts(&kept["data"], "event_type");
    let page = app.get("/api/events?limit=200").await.expect(200).json();
    let mut published = texts(&page["data"], "type");
    let mut names = EVENT_TYPES.map(str::to_owned);
    names.sort();
    kept.sort();
    published.sort();
    assert_eq!(kept, names);
    assert_eq!(published, names.map(|name| format!("heygen.{name}")));
}

async fn guide_003_an_unknown_event_type_is_stored_and_shown(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let id = app.submit("video", "known").await;
    app.settle().await;
    let upstream = app.job(&id).await["upstream_id"].clone();
    for (name, video_id) in
        [("hologram.ready", &json!("somebody-elses")), ("avatar_video.blessed", &upstream)]
    {
        let body = json!({"event_type": name, "event_data": {"video_id": video_id}}).to_string();
        app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body.clone()).await.expect(200);
        app.advance_s(1).await;
    }
    let all = app.get("/api/receipts").await.expect(200).json();
    assert_eq!(texts(&all["data"], "event_type"), ["avatar_video.blessed", "hologram.ready"]);
    let page = app.get("/api/events").await.expect(200).json();
    let foreign = page["data"].as_array().unwrap().iter().find(|e| e["type"] == "heygen.hologram.ready");
    let foreign = foreign.expect("it is passed on");
    assert_eq!(foreign["data"]["event_data"]["video_id"], "somebody-elses", "as it came");
    assert_eq!(app.state(&id).await, "processing", "a name nobody knows decides nothing");
    // One that names nothing we know how to look for is shown with its name, too.
    let body = json!({"event_type": "hologram.melted", "event_data": {"hologram": 7}}).to_string();
    app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body.clone()).await.expect(200);
    app.settle().await;
    let last = app.get("/api/receipts?limit=1").await.expect(200).json()["data"][0].clone();
    assert_eq!(last["event_type"], "hologram.melted");
    assert!(last["meaning"].as_str().unwrap().contains("names neither"), "{last}");
    // Each is counted once, also those that wait for their job.
    assert!((app.metric("reelhook_webhook_unknown_type_total").await - 3.0).abs() < 0.1);
    app.advance_s(30).await;
}

async fn guide_004_variable_header_path_and_fields_are_honoured(fresh: &Fresh) {
    let setup = Setup { variables: &[("HEYGEN_SECRET", "four")], ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    let (good, bad) = (app.submit("video", "good").await, app.submit("video", "bad #fail").await);
    app.settle().await;
    let body = json!({"event_type": "avatar_video.success", "event_data": {
        "video_id": app.job(&good).await["upstream_id"], "url": "https://files.heygen.ai/4.mp4",
        "callback_id": good,
    }});
    let fail = json!({"event_type": "avatar_video.fail", "event_data": {
        "video_id": app.job(&bad).await["upstream_id"], "msg": "no", "callback_id": bad,
    }});
    for body in [body.to_string(), fail.to_string()] {
        let header = [("signature", &*signed("four", body.as_bytes()))];
        app.call("POST", "/api/heygen/callback", &header, body.clone()).await.expect(200);
    }
    app.settle().await;
    assert_eq!(app.job(&good).await["result"]["video_url"], "https://files.heygen.ai/4.mp4");
    // HeyGen says "processing" when asked at once, so it is asked again when the end is expected.
    app.advance_s(600).await;
    assert_eq!(app.state(&bad).await, "failed");
}
