//! What receipts do to jobs: a hint only makes us ask, within bounds; a contradiction, a duplicate
//! or a stranger's receipt never harms; each job ends once.

use reelhook::heygen::sandbox::Twist;
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, signed, texts};
use crate::database::Fresh;

cases! {
    an_unsigned_delivery_to_a_jobs_address_causes_one_question,
    a_hint_that_is_false_is_asked_for_a_few_times_and_then_forgotten,
    an_end_told_soon_after_a_false_hint_is_found_within_a_minute,
    and_so_it_is_where_polls_are_rare,
    a_status_behind_its_webhook_is_asked_for_again,
    at_most_twenty_unsigned_deliveries_are_kept_per_job,
    a_finished_job_takes_no_hints,
    a_guessed_address_is_401_and_acts_on_nothing,
    a_hint_before_the_id_is_known_is_not_lost,
    an_address_speaks_for_its_own_job_only,
    duplicates_make_one_receipt_and_one_terminal_event,
    a_failure_then_a_success_completes,
    a_success_then_a_failure_stays_completed,
    a_forged_failure_never_acts,
    an_event_of_another_product_never_ends_a_job,
    a_strangers_receipt_is_published_once_and_kept,
    a_parked_receipt_is_applied_when_the_job_learns_its_id,
    an_unsigned_copy_does_not_swallow_the_signed_one,
}

const RENDER_S: u64 = 1_200;

async fn rendering(fresh: &Fresh) -> (TestApp, String, String) {
    // Ordinary polls are rare, so that what a hint causes is seen.
    rendering_for(fresh, &[("poll-pause", "3600")]).await
}

async fn rendering_for(fresh: &Fresh, flags: &[(&'static str, &str)]) -> (TestApp, String, String) {
    let setup = Setup { flags, sandbox: |o| o.render = 1_200_000..=1_200_000, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    let id = app.submit("video", "renders").await;
    app.settle().await;
    let upstream = app.job(&id).await["upstream_id"].as_str().expect("accepted").to_owned();
    (app, id, upstream)
}

fn event(event_type: &str, data: Value) -> String {
    json!({"event_type": event_type, "event_data": data}).to_string()
}

async fn send_signed(app: &TestApp, secret: &str, body: &str) {
    let hex = signed(secret, body.as_bytes());
    app.webhook(&[("signature", &hex)], body.to_owned()).await.expect(200);
}

async fn an_unsigned_delivery_to_a_jobs_address_causes_one_question(fresh: &Fresh) {
    let (mut app, id, upstream) = rendering(fresh).await;
    let (address, status) = (app.address(&id), format!("/v3/videos/{upstream}"));
    for nth in 0..5 {
        let body = event(
            "avatar_video.success",
            json!({"video_id": upstream, "url": format!("https://e.example/{nth}")}),
        );
        app.call("POST", &address, &[], body).await.expect(200);
    }
    app.settle().await;
    assert_eq!(app.calls(&status), 1, "five hints at once are one question");
    assert_eq!(app.state(&id).await, "processing", "HeyGen says that it still runs");
    app.advance_s(30).await;
    app.call("POST", &address, &[], "anything").await.expect(200);
    app.advance_s(29).await;
    assert_eq!(app.calls(&status), 1, "one hinted poll a minute");
    app.advance_s(1).await;
    assert_eq!(app.calls(&status), 2, "the hint within the minute is put off and not dropped");
    app.call("POST", &address, &[], "anything else").await.expect(200);
    app.advance_s(59).await;
    assert_eq!(app.calls(&status), 2);
    app.advance_s(1).await;
    assert_eq!(app.calls(&status), 3);
    app.advance_s(RENDER_S + 300).await;
    assert_eq!(app.state(&id).await, "completed");
}

/// A video usually takes five minutes: asked for too early, it is not asked for every few seconds.
async fn a_hint_that_is_false_is_asked_for_a_few_times_and_then_forgotten(fresh: &Fresh) {
    let setup = Setup { sandbox: |o| o.render = 1_200_000..=1_200_000, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    let id = app.submit("video", "renders").await;
    app.settle().await;
    let status = format!("/v3/videos/{}", app.job(&id).await["upstream_id"].as_str().expect("accepted"));
    app.advance_s(20).await;
    app.call("POST", &app.address(&id), &[], "{}").await.expect(200);
    app.settle().await;
    assert_eq!(app.calls(&status), 1, "the hint");
    app.advance_s(60).await;
    assert_eq!(app.calls(&status), 4, "three more, a quarter of a minute apart");
    app.advance_s(219).await;
    assert_eq!(app.calls(&status), 4, "not before five minutes are over");
    app.advance_s(1).await;
    assert_eq!(app.calls(&status), 5, "and then as if there had been no hint");
    app.advance_s(60).await;
    assert!(app.calls(&status) > 5, "from then on by age");
    app.leave_it();
}

async fn an_end_told_soon_after_a_false_hint_is_found_within_a_minute(fresh: &Fresh) {
    end_after_a_false_hint(fresh, "15").await;
}

async fn and_so_it_is_where_polls_are_rare(fresh: &Fresh) {
    end_after_a_false_hint(fresh, "3600").await;
}

/// Told at its own address only, so by hints: a forged failure after 6 s, the true success after 12 s.
async fn end_after_a_false_hint(fresh: &Fresh, pause: &str) {
    let setup = Setup {
        flags: &[("poll-pause", pause)],
        sandbox: |o| o.render = 12_000..=12_000,
        ..Setup::default()
    };
    let mut app = TestApp::with(fresh, setup).await;
    let id = app.submit("video", "Hi #forged").await;
    app.advance_s(8).await;
    let evidence = app.job(&id).await["evidence"].clone();
    assert_eq!((&evidence["asked_times"], &evidence["last_answer"]), (&json!(1), &json!("in progress")));
    app.advance_s(5).await;
    assert_eq!(receipts(&app).await, 2, "the true one is there");
    app.advance_s(60).await;
    assert_eq!(app.state(&id).await, "completed");
}

/// HeyGen tells of the end before its own status shows it.
async fn a_status_behind_its_webhook_is_asked_for_again(fresh: &Fresh) {
    let (mut app, id, upstream) = rendering_for(fresh, &[]).await;
    let secret = app.register().await;
    let told = event("avatar_video.fail", json!({"video_id": upstream, "msg": "it could not be rendered"}));
    app.advance_s(30).await;
    send_signed(&app, &secret, &told).await;
    app.settle().await;
    assert_eq!(app.state(&id).await, "processing", "asked first, and HeyGen says that it goes on");
    let body = json!({"data": {"id": upstream, "status": "failed", "failure_message": "no"}});
    app.sandbox.twist(&format!("/v3/videos/{upstream}"), Some(Twist::Answer(200, body)));
    app.advance_s(20).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("failed"), &json!("poll")));
}

async fn at_most_twenty_unsigned_deliveries_are_kept_per_job(fresh: &Fresh) {
    let (mut app, id, _) = rendering(fresh).await;
    let address = app.address(&id);
    for nth in 0..30 {
        app.call("POST", &address, &[], format!("{{\"n\":{nth}}}")).await.expect(200);
    }
    app.settle().await;
    let kept = app.get(&format!("/api/jobs/{id}/receipts?limit=200")).await.expect(200).json();
    assert_eq!(kept["data"].as_array().unwrap().len(), 20);
    assert!(
        (app.metric(r#"reelhook_webhook_hint_dropped_total{reason="per_job"}"#).await - 10.0).abs() < 0.1
    );
    assert!(kept["data"].as_array().unwrap().iter().all(|r| r["event_type"].is_null()), "nobody named one");
    let mark = address.rsplit_once('.').unwrap().1;
    assert!(!kept.to_string().contains(mark), "the unguessable part is written down nowhere");
}

async fn a_finished_job_takes_no_hints(fresh: &Fresh) {
    let (mut app, id, upstream) = rendering(fresh).await;
    app.advance_s(RENDER_S + 300).await;
    assert_eq!(app.state(&id).await, "completed");
    let (calls, kept) = (app.calls(&format!("/v3/videos/{upstream}")), receipts(&app).await);
    for nth in 0..3 {
        let body = event("avatar_video.fail", json!({"video_id": upstream, "msg": nth.to_string()}));
        app.call("POST", &app.address(&id), &[], body).await.expect(200);
    }
    app.advance_s(120).await;
    assert_eq!(app.calls(&format!("/v3/videos/{upstream}")), calls);
    assert_eq!(receipts(&app).await, kept);
    assert!(
        (app.metric(r#"reelhook_webhook_hint_dropped_total{reason="job_finished"}"#).await - 3.0).abs() < 0.1
    );
}

async fn receipts(app: &TestApp) -> usize {
    app.get("/api/receipts?limit=200").await.expect(200).json()["data"].as_array().unwrap().len()
}

async fn a_guessed_address_is_401_and_acts_on_nothing(fresh: &Fresh) {
    let (mut app, id, upstream) = rendering(fresh).await;
    let right = app.address(&id);
    let other = app.submit("video", "another").await;
    let others_part = app.address(&other).rsplit_once('.').unwrap().1.to_owned();
    let guesses = [
        format!("/webhooks/heygen/{id}"),
        format!("/webhooks/heygen/{id}."),
        format!("/webhooks/heygen/{id}.{}", "0".repeat(32)),
        format!("/webhooks/heygen/{id}.{others_part}"),
        right[..right.len() - 1].to_owned(),
        format!("{right}0"),
        right.to_uppercase().replace("/WEBHOOKS/HEYGEN/", "/webhooks/heygen/"),
    ];
    for guess in guesses {
        let body = event("avatar_video.success", json!({"video_id": upstream, "url": "https://e.example/a"}));
        app.call("POST", &guess, &[], body).await.problem(401, "unknown_webhook_address");
    }
    app.settle().await;
    assert_eq!(receipts(&app).await, 1, "a sample");
    assert_eq!(app.calls(&format!("/v3/videos/{upstream}")), 0);
}

async fn a_hint_before_the_id_is_known_is_not_lost(fresh: &Fresh) {
    let setup = Setup { sandbox: |o| o.render = 10_000..=10_000, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    app.sandbox.script_next(vec![
        reelhook::heygen::sandbox::Fault::ResetAfter,
        reelhook::heygen::sandbox::Fault::Lost,
    ]);
    let id = app.submit("video", "unknown yet").await;
    app.work().await;
    assert_eq!(app.state(&id).await, "unknown");
    app.call("POST", &app.address(&id), &[], "{}").await.expect(200);
    app.work().await;
    app.advance_s(4).await;
    let job = app.job(&id).await;
    assert_eq!(job["state"], "processing");
    let status = format!("/v3/videos/{}", job["upstream_id"].as_str().unwrap());
    assert_eq!(app.calls(&status), 1, "asked as soon as the id was known, not minutes later");
    app.advance_s(400).await;
    assert_eq!(app.state(&id).await, "completed");
}

async fn an_address_speaks_for_its_own_job_only(fresh: &Fresh) {
    let (mut app, id, upstream) = rendering(fresh).await;
    let other = app.submit("video", "another").await;
    app.settle().await;
    let others = app.job(&other).await["upstream_id"].as_str().unwrap().to_owned();
    let body = event(
        "avatar_video.success",
        json!({"video_id": others, "callback_id": other, "url": "https://e.example/a"}),
    );
    app.call("POST", &app.address(&id), &[], body).await.expect(200);
    app.settle().await;
    assert_eq!(app.calls(&format!("/v3/videos/{upstream}")), 1);
    assert_eq!(app.calls(&format!("/v3/videos/{others}")), 0, "whatever it names");
}

async fn duplicates_make_one_receipt_and_one_terminal_event(fresh: &Fresh) {
    let (mut app, id, upstream) = rendering(fresh).await;
    let secret = app.register().await;
    let body = event("avatar_video.success", json!({"video_id": upstream, "url": "https://f.example/a.mp4"}));
    let hex = signed(&secret, body.as_bytes());
    let header = [("signature", &*hex)];
    let many = (0..50).map(|_| app.webhook(&header, body.clone()));
    for answer in futures_util::future::join_all(many).await {
        assert_eq!(answer.status, 200, "a duplicate is 200, too");
    }
    app.settle().await;
    // And again a day later, with other headers outside the signature.
    app.advance_s(25 * 3_600).await;
    app.webhook(&[("x-heygen-signature", &hex), ("x-request-id", "9")], body).await.expect(200);
    app.settle().await;
    let of_job = app.get(&format!("/api/jobs/{id}/receipts")).await.json();
    let same = of_job["data"].as_array().unwrap().iter().filter(|r| r["size_bytes"] == 111);
    assert!(same.count() <= 1);
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.completed"]);
    assert!((app.metric("reelhook_webhook_duplicate_total").await - 50.0).abs() < 0.1);
}

async fn a_failure_then_a_success_completes(fresh: &Fresh) {
    let (mut app, id, upstream) = rendering(fresh).await;
    let secret = app.register().await;
    send_signed(&app, &secret, &event("avatar_video.fail", json!({"video_id": upstream, "msg": "no"}))).await;
    app.settle().await;
    assert_eq!(app.state(&id).await, "processing", "HeyGen itself says otherwise");
    let good = json!({"video_id": upstream, "url": "https://f.example/a.mp4"});
    send_signed(&app, &secret, &event("avatar_video.success", good)).await;
    app.settle().await;
    assert_eq!(app.state(&id).await, "completed");
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.completed"]);
}

async fn a_success_then_a_failure_stays_completed(fresh: &Fresh) {
    let (mut app, id, upstream) = rendering(fresh).await;
    let secret = app.register().await;
    let good = json!({"video_id": upstream, "url": "https://f.example/a.mp4"});
    let bad = event("avatar_video.fail", json!({"video_id": upstream, "msg": "no"}));
    send_signed(&app, &secret, &event("avatar_video.success", good)).await;
    app.settle().await;
    let before = app.job(&id).await;
    assert_eq!(before["state"], "completed");
    send_signed(&app, &secret, &bad).await;
    app.advance_s(RENDER_S + 600).await;
    let after = app.job(&id).await;
    assert_eq!((&after["state"], &after["failure"]), (&before["state"], &json!(null)));
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.completed"]);
    // Both in one batch, whatever their order in it.
    let two = app.submit("video", "both at once").await;
    app.settle().await;
    let upstream = app.job(&two).await["upstream_id"].clone();
    let bad = event("avatar_video.fail", json!({"video_id": upstream, "msg": "no"}));
    let good = event("avatar_video.success", json!({"video_id": upstream, "url": "https://f.example/b.mp4"}));
    send_signed(&app, &secret, &bad).await;
    send_signed(&app, &secret, &good).await;
    app.settle().await;
    assert_eq!(app.state(&two).await, "completed");
}

async fn a_forged_failure_never_acts(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let id = app.submit("video", "forged #forged #lost").await;
    app.advance_s(30).await;
    assert_eq!(app.state(&id).await, "processing");
    assert!(app.metric(r#"reelhook_webhook_refused_total{reason="signature_mismatch"}"#).await > 0.5);
    app.advance_s(600).await;
    assert_eq!(app.state(&id).await, "completed");
    assert_eq!(app.events(&id).await, ["job.queued", "job.processing", "job.completed"]);
}

async fn an_event_of_another_product_never_ends_a_job(fresh: &Fresh) {
    let (mut app, id, upstream) = rendering(fresh).await;
    let secret = app.register().await;
    for event_type in [
        "avatar_video_gif.success",
        "avatar_video_caption.success",
        "video_translate.success",
        "video_agent.success",
        "personalized_video",
        "batch.finished",
        "proofread_creation.success",
        "live_avatar.success",
    ] {
        let data = json!({"video_id": upstream, "url": "https://f.example/other", "callback_id": id});
        send_signed(&app, &secret, &event(event_type, data)).await;
        app.settle().await;
        assert_eq!(app.state(&id).await, "processing", "{event_type}");
    }
    app.advance_s(RENDER_S + 600).await;
    let job = app.job(&id).await;
    assert_eq!(job["state"], "completed");
    assert_ne!(job["result"]["video_url"], "https://f.example/other");
}

async fn a_strangers_receipt_is_published_once_and_kept(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let body =
        event("avatar_video.success", json!({"video_id": "not-ours", "url": "https://f.example/a.mp4"}));
    for _ in 0..3 {
        send_signed(&app, &secret, &body).await;
        app.settle().await;
    }
    let page = app.get("/api/events").await.json();
    assert_eq!(texts(&page["data"], "type"), ["heygen.avatar_video.success"]);
    assert_eq!(page["data"][0]["job_id"], json!(null));
    assert_eq!(page["data"][0]["data"], serde_json::from_str::<Value>(&body).unwrap());
    let kept = app.get("/api/receipts").await.json();
    assert_eq!(texts(&kept["data"], "parked_under"), ["not-ours"]);
    assert_eq!(app.get("/api/jobs").await.json()["data"], json!([]), "no job is made of it");
}

async fn a_parked_receipt_is_applied_when_the_job_learns_its_id(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    // Cinematic videos echo no callback id: HeyGen's id is all there is.
    app.sandbox.script_next(vec![reelhook::heygen::sandbox::Fault::ResetAfter]);
    let request = json!({"type": "cinematic_avatar", "prompt": "A dune", "avatar_id": ["look"]});
    let job = app.post("/api/jobs", &json!({"kind": "video", "request": request})).await.expect(202).json();
    let id = job["id"].as_str().unwrap().to_owned();
    app.work().await;
    assert_eq!(app.state(&id).await, "unknown");
    let upstream = app.sandbox.ledger().into_iter().find_map(|e| match e.what {
        reelhook::heygen::sandbox::What::Charged { id, .. } => Some(id),
        _ => None,
    });
    let body = event("avatar_video.success", json!({"video_id": upstream, "url": "https://f.example/c.mp4"}));
    send_signed(&app, &secret, &body).await;
    app.work().await;
    assert_eq!(app.state(&id).await, "unknown", "nobody knows yet whose it is");
    let mut parked = app.get("/api/receipts").await.json()["data"][0].clone();
    assert_eq!(parked["parked_under"], json!(upstream));
    app.advance_s(3).await;
    let job = app.job(&id).await;
    assert_eq!((&job["state"], &job["found_by"]), (&json!("completed"), &json!("webhook")));
    assert_eq!(job["result"]["video_url"], "https://f.example/c.mp4");
    parked = app.get("/api/receipts").await.json()["data"][0].clone();
    assert_eq!((&parked["parked_under"], &parked["job_id"]), (&json!(null), &json!(id)));
    let page = app.get("/api/events").await.json();
    let foreign = texts(&page["data"], "type").into_iter().filter(|t| t.starts_with("heygen.")).count();
    assert_eq!(foreign, 1, "published once, as it was a stranger's then");
    assert_eq!(app.charges(&id), 1);
}

async fn an_unsigned_copy_does_not_swallow_the_signed_one(fresh: &Fresh) {
    let (mut app, id, upstream) = rendering(fresh).await;
    let secret = app.register().await;
    let body = event("avatar_video.success", json!({"video_id": upstream, "url": "https://f.example/a.mp4"}));
    app.call("POST", &app.address(&id), &[], body.clone()).await.expect(200);
    app.webhook(&[("signature", &"0".repeat(64))], body.clone()).await.expect(401);
    app.settle().await;
    assert_eq!(app.state(&id).await, "processing");
    send_signed(&app, &secret, &body).await;
    app.settle().await;
    assert_eq!(app.state(&id).await, "completed");
}
