//! Creating jobs: validation, keys, limits, credits, and the walk to the end.

use super::*;
use crate::domain::job::Kind;
use crate::heygen::kinds;

#[tokio::test]
async fn a_video_walks_from_waiting_to_completed() {
    let rig = rig().await;
    let (status, body) = rig.post("/v3/videos", avatar(json!({ "title": "One", "folder_id": "f" }))).await;
    assert_eq!((status, &body["data"]["status"]), (200, &json!("waiting")));
    let id = body["data"]["video_id"].as_str().unwrap().to_owned();
    let path = format!("/v3/videos/{id}");
    let status = async || rig.get(&path).await.1["data"]["status"].as_str().unwrap().to_owned();
    assert_eq!(status().await, "pending");
    rig.pass(2).await;
    assert_eq!(status().await, "processing");
    rig.pass(3).await;
    let (_, body) = rig.get(&path).await;
    let data = &body["data"];
    assert_eq!(data["status"], "completed");
    assert_eq!(data["title"], "One");
    assert_eq!(data["folder_id"], "f");
    assert_eq!(data["completed_at"], START / 1_000 + 5);
    assert!(data["video_url"].as_str().unwrap().contains(&id));
    assert_eq!(data["failure_code"], Value::Null);
}

#[tokio::test]
async fn an_agent_has_a_session_a_video_and_progress() {
    let rig = rig().await;
    let (_, body) = rig.post("/v3/video-agents", json!({ "prompt": "Tell it." })).await;
    let (session, video) = (body["data"]["session_id"].clone(), body["data"]["video_id"].clone());
    assert_eq!(body["data"]["status"], "generating");
    rig.pass(4).await;
    let path = format!("/v3/video-agents/{}", session.as_str().unwrap());
    let (_, body) = rig.get(&path).await;
    assert_eq!((&body["data"]["status"], &body["data"]["progress"]), (&json!("generating"), &json!(79)));
    rig.pass(1).await;
    let (_, body) = rig.get(&path).await;
    assert_eq!((&body["data"]["status"], &body["data"]["progress"]), (&json!("completed"), &json!(100)));
    assert_eq!(body["data"]["video_id"], video);
    let (status, body) = rig.get(&format!("/v3/videos/{}", video.as_str().unwrap())).await;
    assert_eq!((status, &body["data"]["status"]), (200, &json!("completed")));
    assert_eq!(rig.get(&format!("/v3/videos/{}", session.as_str().unwrap())).await.0, 404);
}

#[tokio::test]
async fn a_translation_is_one_job_per_language() {
    let rig = rig().await;
    let body = json!({ "video": { "type": "url", "url": "https://x.test/v.mp4" }, "output_languages": ["French", "German"], "callback_id": "c" });
    let (_, body) = rig.post("/v3/video-translations", body).await;
    let ids = body["data"]["video_translation_ids"].as_array().unwrap().clone();
    assert_eq!(ids.len(), 2);
    rig.pass(2).await;
    let path = format!("/v3/video-translations/{}", ids[1].as_str().unwrap());
    let (_, body) = rig.get(&path).await;
    assert_eq!(
        (&body["data"]["status"], &body["data"]["output_language"]),
        (&json!("running"), &json!("German"))
    );
    rig.pass(3).await;
    assert_eq!(rig.get(&path).await.1["data"]["status"], "completed");
    assert_eq!(rig.sandbox.tally().paid_twice, 0);
    assert_eq!(rig.sandbox.charges().len(), 2);
    let joined = format!("{},{},nope", ids[0].as_str().unwrap(), ids[1].as_str().unwrap());
    let (_, body) = rig.get(&format!("/v3/video-translations/statuses?video_translation_ids={joined}")).await;
    let words: Vec<_> = body["data"].as_array().unwrap().iter().map(|line| line["status"].clone()).collect();
    assert_eq!(words, ["completed", "completed", "not_found"]);
}

/// Where the id stands in the answer, where it is asked for, and the words of its course: by hand, as
/// HeyGen documents them, so that the table of kinds is held against something.
const COURSES: [(Kind, &str, &str, [&str; 3]); 11] = [
    (Kind::Video, "/video_id", "/v3/videos/", ["pending", "processing", "completed"]),
    (Kind::VideoAgent, "/session_id", "/v3/video-agents/", ["thinking", "generating", "completed"]),
    (
        Kind::Translation,
        "/video_translation_ids/0",
        "/v3/video-translations/",
        ["pending", "running", "completed"],
    ),
    (Kind::Template, "/id", "/v3/videos/", ["pending", "processing", "completed"]),
    (Kind::Lipsync, "/lipsync_id", "/v3/lipsyncs/", ["pending", "running", "completed"]),
    (Kind::AiClipping, "/id", "/v3/ai-clipping/", ["pending", "running", "completed"]),
    (Kind::BackgroundRemoval, "/id", "/v3/background-removals/", ["pending", "processing", "completed"]),
    (Kind::Avatar, "/avatar_item/id", "/v3/avatars/looks/", ["processing", "processing", "completed"]),
    (Kind::VoiceClone, "/voice_clone_id", "/v3/voices/", ["processing", "processing", "complete"]),
    (
        Kind::Proofread,
        "/proofread_ids/0",
        "/v3/video-translations/proofreads/",
        ["processing", "processing", "completed"],
    ),
    (
        Kind::ProofreadVideo,
        "/video_translation_id",
        "/v3/video-translations/",
        ["pending", "running", "completed"],
    ),
];

/// The call that reelhook makes for the example of a kind.
fn call_of(kind: Kind, key: &str) -> (String, Value) {
    let request = kinds::example(kind).as_object().unwrap().clone();
    let sent = kinds::outgoing(kind, request, "job_1", key, None);
    (sent.path, Value::Object(sent.body))
}

#[tokio::test]
async fn every_kind_walks_its_own_course() {
    for (kind, id, path, words) in COURSES {
        for (title, last) in [("fine", words[2]), ("#fail", "failed")] {
            let rig = rig().await;
            let (create, mut body) = call_of(kind, "k");
            body["title"] = json!(title);
            let (status, answer) = rig.post(&create, body).await;
            assert_eq!(status, 200, "{kind:?} {answer}");
            let id = answer["data"].pointer(id).and_then(Value::as_str).expect("an id").to_owned();
            let shown = async || rig.get(&format!("{path}{id}")).await.1["data"].clone();
            assert_eq!(shown().await["status"], words[0], "{kind:?}");
            rig.pass(2).await;
            assert_eq!(shown().await["status"], words[1], "{kind:?}");
            rig.pass(3).await;
            let end = shown().await;
            assert_eq!(end["status"], last, "{kind:?}");
            for link in links(&end) {
                let file = rig.call(Method::GET, &link, &[], "").await.unwrap();
                assert_eq!(file.status, 200, "{kind:?} {link}");
            }
            let makes_links = kind.makes_file() && kind != Kind::VideoAgent && title == "fine";
            assert_eq!(!links(&end).is_empty(), makes_links, "{kind:?} {end}");
            assert_eq!(rig.sandbox.charges().len(), 1, "{kind:?}");
            assert_eq!(rig.get(&format!("{path}nobody")).await.0, 404);
        }
    }
}

/// Every link to a file at any depth.
fn links(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if text.contains("/files/") => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(links).collect(),
        Value::Object(fields) => fields.values().flat_map(links).collect(),
        _ => vec![],
    }
}

#[tokio::test]
async fn a_repeated_call_is_known_by_what_its_route_goes_by() {
    for kind in Kind::ALL {
        let rig = rig().await;
        let (path, body) = call_of(kind, "k1");
        let first = rig.keyed(&path, "k1", body.clone()).await.unwrap();
        let again = rig.keyed(&path, "k1", body).await.unwrap();
        let is_known = kinds::route(kind).repeat != kinds::Repeat::Never;
        assert_eq!(first.body == again.body, is_known, "{kind:?}");
        assert_eq!(rig.sandbox.tally().accepted, if is_known { 1 } else { 2 }, "{kind:?}");
        let charged = rig.count(|w| matches!(w, What::Charged { .. }));
        assert_eq!(charged, if is_known { 1 } else { 2 }, "{kind:?}");
        assert_eq!(
            rig.sandbox.tally().paid_twice,
            usize::from(!is_known),
            "{kind:?}: and the ledger says so"
        );
    }
    // Where the key is a field of the body, the header is nothing.
    let rig = rig().await;
    let (path, one) = call_of(Kind::BackgroundRemoval, "k1");
    let (_, two) = call_of(Kind::BackgroundRemoval, "k2");
    rig.keyed(&path, "same", one).await.unwrap();
    rig.keyed(&path, "same", two).await.unwrap();
    assert_eq!(rig.sandbox.tally().accepted, 2);
}

#[tokio::test]
async fn the_statuses_of_lipsyncs_come_together() {
    let rig = rig().await;
    let (path, body) = call_of(Kind::Lipsync, "k");
    let id = rig.post(&path, body).await.1["data"]["lipsync_id"].as_str().unwrap().to_owned();
    rig.pass(5).await;
    let (_, body) = rig.get(&format!("/v3/lipsyncs/statuses?lipsync_ids={id},nobody")).await;
    let words: Vec<_> = body["data"].as_array().unwrap().iter().map(|line| line["status"].clone()).collect();
    assert_eq!(words, ["completed", "not_found"]);
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let rig = rig().await;
    let cases = [
        ("/v3/videos", json!({}), "type"),
        ("/v3/videos", json!({ "type": "avatar", "script": "x" }), "avatar_id"),
        ("/v3/videos", json!({ "type": "avatar", "avatar_id": "a" }), "script"),
        ("/v3/videos", json!({ "type": "avatar", "avatar_id": "a", "script": "x".repeat(5_001) }), "script"),
        ("/v3/videos", json!({ "type": "image", "script": "x" }), "image"),
        ("/v3/videos", json!({ "type": "studio" }), "scenes"),
        ("/v3/videos", json!({ "type": "cinematic_avatar", "prompt": "x" }), "avatar_id"),
        ("/v3/videos", avatar(json!({ "callback_url": "not one" })), "callback_url"),
        ("/v3/video-agents", json!({}), "prompt"),
        ("/v3/video-translations", json!({ "video": { "asset_id": "v" } }), "output_languages"),
        ("/v3/video-translations", json!({ "output_languages": ["French"] }), "video"),
        ("/v3/videos", json!([]), "body"),
    ];
    for (path, body, param) in cases {
        let (status, answer) = rig.post(path, body.clone()).await;
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{body}");
        assert_eq!(answer["error"]["code"], "invalid_parameter");
    }
    assert_eq!(rig.sandbox.tally().accepted, 0);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_413() {
    let rig = rig().await;
    let (status, body) = rig.post("/v3/videos", avatar(json!({ "x": "x".repeat(17 << 20) }))).await;
    assert_eq!((status, &body["error"]["code"]), (413, &json!("payload_too_large")));
}

#[tokio::test]
async fn all_kinds_of_video_are_accepted() {
    let rig = rig().await;
    let bodies = [
        avatar(json!({})),
        json!({ "type": "avatar", "avatar_id": "a", "audio_url": "https://x.test/a.mp3" }),
        json!({ "type": "image", "image": { "type": "asset_id", "asset_id": "x" }, "script": "x" }),
        json!({ "type": "studio", "scenes": [{ "type": "video", "source": { "asset_id": "v" } }] }),
        json!({ "type": "cinematic_avatar", "prompt": "x", "avatar_id": ["a"] }),
    ];
    for body in bodies {
        assert_eq!(rig.post("/v3/videos", body).await.0, 200);
    }
}

#[tokio::test]
async fn a_key_replays_the_stored_answer_for_a_day_whatever_the_body() {
    let rig = rig().await;
    let first = rig.keyed("/v3/videos", "k-1", avatar(json!({}))).await.unwrap();
    let again = rig.keyed("/v3/videos", "k-1", avatar(json!({}))).await.unwrap();
    let other = rig.keyed("/v3/videos", "k-1", avatar(json!({ "title": "Other" }))).await.unwrap();
    assert_eq!(first.body, again.body);
    assert_eq!(first.body, other.body);
    let same = |wanted| rig.count(|w| matches!(w, What::Replayed { same_body, .. } if *same_body == wanted));
    assert_eq!((same(true), same(false)), (1, 1));
    // Another route is another scope.
    let agent = rig.keyed("/v3/video-agents", "k-1", json!({ "prompt": "x" })).await.unwrap();
    assert_ne!(agent.body, first.body);
    rig.pass(24 * 3_600).await;
    let later = rig.keyed("/v3/videos", "k-1", avatar(json!({}))).await.unwrap();
    assert_ne!(first.body, later.body);
    assert_eq!(rig.sandbox.tally().paid_twice, 1);
}

#[tokio::test]
async fn fifty_at_once_with_one_key_make_one_job() {
    let rig = rig().await;
    let calls = (0..50).map(|_| rig.keyed("/v3/videos", "k", avatar(json!({ "callback_id": "c" }))));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|a| a.as_ref().unwrap().status == 200));
    assert_eq!(rig.sandbox.charges()["c"], 1);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_and_failed_attempts_are_not_stored() {
    let rig = rig().await;
    let long = "x".repeat(256);
    for key in ["", "a b", "ä", long.as_str()] {
        let (status, body) = told(rig.keyed("/v3/videos", key, avatar(json!({}))).await);
        assert_eq!((status, &body["error"]["param"]), (400, &json!("Idempotency-Key")), "{key}");
    }
    assert_eq!(rig.keyed("/v3/videos", "k", json!({})).await.unwrap().status, 400);
    assert_eq!(rig.keyed("/v3/videos", "k", avatar(json!({}))).await.unwrap().status, 200);
}

#[tokio::test]
async fn too_many_unfinished_jobs_of_all_kinds_are_429() {
    let rig = rig_with(|o| o.concurrency = 2).await;
    rig.video(json!({})).await;
    assert_eq!(rig.post("/v3/video-agents", json!({ "prompt": "x" })).await.0, 200);
    let headers = [("x-api-key", "k")];
    let body = avatar(json!({})).to_string();
    let answer = rig.call(Method::POST, "/v3/videos", &headers, &body).await.unwrap();
    assert_eq!(answer.status, 429);
    assert_eq!(answer.headers["retry-after"], "5");
    let (_, body) = told(Ok(answer));
    assert_eq!(body["error"]["code"], "rate_limit_exceeded");
    // Time alone frees the slots, settled or not.
    rig.clock.advance(Duration::from_secs(5));
    rig.video(json!({})).await;
}

#[tokio::test]
async fn each_job_is_charged_until_the_wallet_is_empty() {
    let rig = rig_with(|o| o.balance = 2.0).await;
    let wallet = async || rig.get("/v3/users/me").await.1["data"]["wallet"]["remaining_balance"].clone();
    rig.video(json!({})).await;
    assert_eq!(wallet().await, json!(1.0));
    let two = json!({ "video": { "asset_id": "v" }, "output_languages": ["French", "German"] });
    let (status, body) = rig.post("/v3/video-translations", two).await;
    assert_eq!((status, &body["error"]["code"]), (402, &json!("insufficient_credit")));
    rig.video(json!({})).await;
    assert_eq!(rig.post("/v3/videos", avatar(json!({}))).await.0, 402);
    rig.sandbox.set_balance(1.0);
    rig.video(json!({})).await;
}

#[tokio::test]
async fn without_a_live_key_everything_is_401() {
    let rig = rig_with(|o| o.api_key = Some("right".into())).await;
    let get = async |headers: &[(&'static str, &str)]| {
        rig.call(Method::GET, "/v3/users/me", headers, "").await.unwrap().status.as_u16()
    };
    assert_eq!(get(&[]).await, 401);
    assert_eq!(get(&[("x-api-key", "wrong")]).await, 401);
    assert_eq!(get(&[("x-api-key", "right")]).await, 200);
    assert_eq!(get(&[("authorization", "Bearer right")]).await, 200);
    rig.sandbox.revoke_key(true);
    assert_eq!(get(&[("x-api-key", "right")]).await, 401);
    let (status, body) = rig.post("/v3/videos", avatar(json!({}))).await;
    assert_eq!((status, &body["error"]["code"]), (401, &json!("unauthorized")));
    rig.sandbox.revoke_key(false);
    rig.sandbox.set_offline(true);
    assert_eq!(get(&[("x-api-key", "right")]).await, 503);
}

#[tokio::test]
async fn the_ledger_is_also_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.jsonl");
    let rig = rig_with(|o| o.ledger_file = Some(path.clone())).await;
    rig.video(json!({})).await;
    let text = std::fs::read_to_string(&path).unwrap();
    let read: Vec<Entry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, rig.sandbox.ledger());
    assert!(matches!(read[0].what, What::Accepted { .. }));
    assert!(matches!(read[1].what, What::Charged { .. }));
}
