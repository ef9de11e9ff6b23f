//! Endpoints, signatures, retries, and the event log.

use super::*;

#[tokio::test]
async fn a_finished_video_is_told_signed_to_endpoints_and_unsigned_to_its_own_address() {
    let rig = rig().await;
    let (receiver, at) = Receiver::start().await;
    let (_, secret) = rig.register(&format!("{at}/hook"), Value::Null).await;
    assert!(secret.starts_with("whsec_"));
    let id = rig.video(json!({ "callback_id": "mine", "callback_url": format!("{at}/job?t=1") })).await;
    assert_eq!(rig.sandbox.next_due(), Some(START + 5_000));
    assert_eq!(rig.pass(5).await, 2);
    let got = receiver.take();
    assert!(got[0].is_signed("signature", &secret));
    assert_eq!(got[1].header("signature"), None);
    assert_eq!(got[0].body, got[1].body);
    let body = got[0].json();
    assert_eq!(body["event_type"], "avatar_video.success");
    assert_eq!(body["event_data"]["video_id"], id.as_str());
    assert_eq!(body["event_data"]["callback_id"], "mine");
    let file = rig.call(Method::GET, body["event_data"]["url"].as_str().unwrap(), &[], "").await.unwrap();
    assert_eq!(file.status, 200);
    assert_eq!(rig.sandbox.next_due(), None);
    assert_eq!(rig.sandbox.tally().webhooks_ok, 2);
    assert_eq!(rig.count(|w| matches!(w, What::Ended { done_at, .. } if *done_at == START + 5_000)), 1);
}

#[tokio::test]
async fn each_kind_has_its_own_event() {
    let rig = rig().await;
    let (receiver, at) = Receiver::start().await;
    rig.register(&format!("{at}/hook"), Value::Null).await;
    rig.post("/v3/video-agents", json!({ "prompt": "x", "callback_id": "a" })).await;
    let body = json!({ "video": { "asset_id": "v" }, "output_languages": ["French"], "title": "#fail" });
    rig.post("/v3/video-translations", body).await;
    rig.pass(5).await;
    let got: Vec<Value> = receiver.take().iter().map(Got::json).collect();
    assert_eq!(got[0]["event_type"], "video_agent.success");
    assert!(got[0]["event_data"]["session_id"].as_str().unwrap().starts_with("sess_"));
    assert!(got[0]["event_data"]["video_id"].is_string());
    assert_eq!(got[1]["event_type"], "video_translate.fail");
    assert!(got[1]["event_data"]["message"].is_string());
}

#[tokio::test]
async fn each_kind_is_told_of_where_heygen_tells_of_it() {
    use crate::domain::job::Kind;
    use crate::heygen::kinds;
    // The event, and whether an endpoint and the job's own address hear of it; docs/heygen.md, Events.
    let told = |kind| match kind {
        Kind::Video | Kind::Template => ("avatar_video.success", true, true),
        Kind::VideoAgent => ("video_agent.success", true, true),
        Kind::Translation | Kind::ProofreadVideo => ("video_translate.success", true, true),
        Kind::AiClipping => ("ai_clipping.success", true, true),
        Kind::Proofread => ("proofread_creation.success", true, false),
        Kind::Avatar => ("photo_avatar_generation.success", true, false),
        Kind::Lipsync => ("lipsync.success", false, true),
        Kind::BackgroundRemoval | Kind::VoiceClone => ("", false, false),
    };
    for kind in Kind::ALL {
        let rig = rig().await;
        let (receiver, at) = Receiver::start().await;
        let (_, secret) = rig.register(&format!("{at}/hook"), Value::Null).await;
        let request = kinds::example(kind).as_object().unwrap().clone();
        let url = format!("{at}/job");
        let sent = kinds::outgoing(kind, request, "job_1", "job_1-0", Some(&url));
        assert_eq!(rig.post(&sent.path, Value::Object(sent.body)).await.0, 200);
        rig.pass(5).await;
        let (event, endpoint, own) = told(kind);
        let got = receiver.take();
        assert!(got.iter().all(|one| one.event() == event), "{kind:?}");
        let signed = got.iter().filter(|one| one.is_signed("signature", &secret)).count();
        assert_eq!((signed, got.len() - signed), (usize::from(endpoint), usize::from(own)), "{kind:?}");
        let (_, log) = rig.get("/v3/webhooks/events").await;
        assert_eq!(log["data"].as_array().unwrap().len(), usize::from(endpoint), "{kind:?}");
    }
    let rig = rig().await;
    let twin = json!({ "type": "digital_twin", "name": "n", "file": { "asset_id": "a" } });
    rig.post("/v3/avatars", twin).await;
    rig.pass(5).await;
    assert_eq!(rig.get("/v3/webhooks/events").await.1["data"][0]["event_type"], "instant_avatar.success");
}

#[tokio::test]
async fn an_endpoint_gets_only_the_events_it_wants() {
    let rig = rig().await;
    let (receiver, at) = Receiver::start().await;
    let (id, _) = rig.register(&format!("{at}/hook"), json!(["avatar_video.fail"])).await;
    rig.video(json!({})).await;
    assert_eq!(rig.pass(5).await, 0);
    let path = format!("/v3/webhooks/endpoints/{id}");
    let (status, body) = rig.send(Method::PATCH, &path, json!({ "events": null })).await;
    assert_eq!((status, &body["data"]["events"]), (200, &Value::Null));
    assert_eq!(body["data"].get("secret"), None);
    rig.video(json!({})).await;
    assert_eq!(rig.pass(5).await, 1);
    assert_eq!(rig.send(Method::DELETE, &path, json!({})).await.0, 200);
    rig.video(json!({})).await;
    assert_eq!(rig.pass(5).await, 0);
    assert_eq!(rig.send(Method::DELETE, &path, json!({})).await.1["error"]["code"], "webhook_not_found");
    assert_eq!(receiver.take().len(), 1);
}

#[tokio::test]
async fn registration_probes_the_address_and_takes_it_once() {
    let rig = rig().await;
    let (_receiver, at) = Receiver::start().await;
    let url = format!("{at}/hook");
    rig.register(&url, Value::Null).await;
    let post = async |body: Value| rig.post("/v3/webhooks/endpoints", body).await;
    let (status, body) = post(json!({ "url": url })).await;
    assert_eq!((status, &body["error"]["code"]), (409, &json!("conflict")));
    for bad in ["http://127.0.0.1:1/", "http://example.com/", "ftp://127.0.0.1/", "no", &format!("{at}/none")]
    {
        let (status, body) = post(json!({ "url": bad })).await;
        assert_eq!((status, &body["error"]["param"]), (400, &json!("url")), "{bad}");
    }
    let (status, body) = post(json!({ "url": format!("{at}/job"), "events": ["video.completed"] })).await;
    assert_eq!((status, &body["error"]["param"]), (400, &json!("events")));
    let (_, body) = rig.get("/v3/webhooks/endpoints").await;
    assert_eq!(body["data"].as_array().unwrap().len(), 1);
    assert_eq!(body["data"][0].get("secret"), None);
}

#[tokio::test]
async fn a_probe_waits_one_second_and_no_longer() {
    let rig = Arc::new(rig().await);
    let (_receiver, at) = Receiver::start().await;
    let caller = Arc::clone(&rig);
    let call = tokio::spawn(async move {
        caller.post("/v3/webhooks/endpoints", json!({ "url": format!("{at}/deaf") })).await
    });
    // The probe's own limit is the only thing that waits for the clock, so moving it until the
    // answer is there cannot hide a probe without one.
    while !call.is_finished() {
        rig.clock.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
    }
    let (status, body) = call.await.unwrap();
    assert_eq!((status, &body["error"]["param"]), (400, &json!("url")));
}

#[tokio::test]
async fn rotation_kills_the_old_secret_at_once() {
    let rig = rig().await;
    let (receiver, at) = Receiver::start().await;
    let (id, old) = rig.register(&format!("{at}/hook"), Value::Null).await;
    receiver.answer_first(&[401]);
    rig.video(json!({})).await;
    rig.pass(5).await;
    let path = format!("/v3/webhooks/endpoints/{id}/rotate-secret");
    let first = told(rig.keyed(&path, "r", json!({})).await);
    let again = told(rig.keyed(&path, "r", json!({})).await);
    assert_eq!(first, again);
    let new = first.1["data"]["secret"].as_str().unwrap().to_owned();
    assert_ne!(old, new);
    rig.pass(2).await;
    let got = receiver.take();
    assert!(got[0].is_signed("signature", &old));
    // The retry of the same delivery is signed anew.
    assert!(got[1].is_signed("signature", &new));
    assert_eq!(got[0].body, got[1].body);
}

#[tokio::test]
async fn a_delivery_is_tried_again_with_growing_waits_until_2xx() {
    let rig = rig().await;
    let (receiver, at) = Receiver::start().await;
    rig.register(&format!("{at}/hook"), Value::Null).await;
    receiver.answer_first(&[500, 302, 404]);
    rig.video(json!({})).await;
    rig.pass(5).await;
    let mut waits = Vec::new();
    while let Some(due) = rig.sandbox.next_due() {
        let wait = u64::try_from(due - rig.clock.now()).unwrap();
        waits.push(wait);
        rig.pass(wait / 1_000).await;
    }
    assert_eq!(waits, [2_000, 4_000, 8_000]);
    assert_eq!(receiver.take().len(), 4);
    assert_eq!(rig.sandbox.tally().webhooks_ok, 1);
}

#[tokio::test]
async fn after_a_day_a_delivery_is_given_up_and_the_log_still_has_the_event() {
    let rig = rig().await;
    let (receiver, at) = Receiver::start().await;
    rig.register(&format!("{at}/hook"), Value::Null).await;
    receiver.answer_first(&[500; 100]);
    rig.video(json!({})).await;
    let start = rig.clock.now();
    while let Some(due) = rig.sandbox.next_due() {
        rig.pass(u64::try_from(due - rig.clock.now()).unwrap() / 1_000).await;
    }
    assert!(rig.clock.now() - start <= 24 * 3_600_000 + 5_000);
    assert_eq!(rig.count(|w| matches!(w, What::GaveUp { .. })), 1);
    let tried = receiver.take().len();
    assert!((30..40).contains(&tried), "{tried}");
    assert_eq!(rig.get("/v3/webhooks/events").await.1["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_event_log_is_newest_first_paged_and_filtered() {
    let rig = rig().await;
    let first = rig.video(json!({})).await;
    rig.pass(5).await;
    rig.video(json!({ "title": "#fail" })).await;
    rig.pass(5).await;
    rig.video(json!({})).await;
    rig.pass(5).await;
    let (_, page) = rig.get("/v3/webhooks/events?limit=2").await;
    let names = |page: &Value| -> Vec<Value> {
        page["data"].as_array().unwrap().iter().map(|e| e["event_type"].clone()).collect()
    };
    assert_eq!(names(&page), ["avatar_video.success", "avatar_video.fail"]);
    assert_eq!(page["has_more"], true);
    // A new event at the front does not move the next page.
    rig.video(json!({})).await;
    rig.pass(5).await;
    let token = page["next_token"].as_str().unwrap();
    let (_, rest) = rig.get(&format!("/v3/webhooks/events?limit=2&token={token}")).await;
    assert_eq!((names(&rest).len(), &rest["has_more"]), (1, &json!(false)));
    assert_eq!(rest["data"][0]["event_data"]["video_id"], first.as_str());
    assert!(rest["data"][0]["created_at"].as_str().unwrap().ends_with('Z'));
    let (_, failed) = rig.get("/v3/webhooks/events?event_type=avatar_video.fail").await;
    assert_eq!(names(&failed).len(), 1);
    let (_, one) = rig.get(&format!("/v3/webhooks/events?entity_id={first}")).await;
    assert_eq!(names(&one).len(), 1);
    assert_eq!(rig.get("/v3/webhooks/events?limit=101").await.0, 400);
    assert_eq!(rig.get("/v3/webhooks/event-types").await.1["data"].as_array().unwrap().len(), 30);
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_nobody_else_in_run() {
    let rig = rig().await;
    let (receiver, at) = Receiver::start().await;
    rig.register(&format!("{at}/hang"), Value::Null).await;
    rig.register(&format!("{at}/hook"), Value::Null).await;
    let mut entries = rig.sandbox.listen();
    let sandbox = rig.sandbox.clone();
    let running = tokio::spawn(async move { sandbox.run().await });
    rig.video(json!({})).await;
    rig.clock.advance(Duration::from_secs(5));
    let entry = wait_for(&mut entries, |w| matches!(w, What::Webhook { .. })).await;
    assert!(matches!(entry.what, What::Webhook { status: Some(200), .. }));
    assert_eq!(receiver.take().len(), 1);
    rig.clock.advance(Duration::from_secs(10));
    let entry = wait_for(&mut entries, |w| matches!(w, What::Webhook { .. })).await;
    assert!(matches!(entry.what, What::Webhook { status: None, attempt: 1, .. }));
    running.abort();
}
