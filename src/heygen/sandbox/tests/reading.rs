//! Reading back: lists, statuses, deletion, files and their links, catalogues, control routes.

use super::*;
use crate::heygen::sandbox::{Fault, File};

#[tokio::test]
async fn a_link_dies_and_a_fresh_status_has_a_live_one() {
    let rig = rig().await;
    let id = rig.video(json!({ "caption": { "file_format": "srt" } })).await;
    rig.pass(5).await;
    let path = format!("/v3/videos/{id}");
    let (_, body) = rig.get(&path).await;
    let old = body["data"]["video_url"].as_str().unwrap().to_owned();
    let file = rig.call(Method::GET, &old, &[], "").await.unwrap();
    assert_eq!((file.status.as_u16(), file.headers["content-type"].to_str().unwrap()), (200, "video/mp4"));
    assert_eq!(file.body, rig.sandbox.file(&id, File::Video));
    for name in ["captioned_video_url", "subtitle_url", "thumbnail_url", "gif_url"] {
        let url = body["data"][name].as_str().unwrap();
        assert_eq!(rig.call(Method::GET, url, &[], "").await.unwrap().status, 200, "{name}");
    }
    rig.clock.advance(Duration::from_secs(7 * 24 * 3_600 + 1));
    assert_eq!(rig.call(Method::GET, &old, &[], "").await.unwrap().status, 403);
    let (_, body) = rig.get(&path).await;
    let new = body["data"]["video_url"].as_str().unwrap();
    assert_ne!(old, new);
    assert_eq!(rig.call(Method::GET, new, &[], "").await.unwrap().body, file.body);
    let meddled = new.replace("video.mp4", "preview.gif");
    assert_eq!(rig.call(Method::GET, &meddled, &[], "").await.unwrap().status, 403);
}

#[tokio::test]
async fn files_come_in_ranges_and_heads() {
    let rig = rig().await;
    let id = rig.video(json!({})).await;
    rig.pass(5).await;
    let (_, body) = rig.get(&format!("/v3/videos/{id}")).await;
    let url = body["data"]["video_url"].as_str().unwrap();
    let whole = rig.sandbox.file(&id, File::Video);
    let part = rig.call(Method::GET, url, &[("range", "bytes=100-199")], "").await.unwrap();
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &whole[100..200]));
    assert_eq!(part.headers["content-range"], format!("bytes 100-199/{}", whole.len()));
    let past = rig.call(Method::GET, url, &[("range", "bytes=999999-")], "").await.unwrap();
    assert_eq!(past.status, 416);
    let other = [("range", "bytes=100-"), ("if-range", "\"another\"")];
    assert_eq!(rig.call(Method::GET, url, &other, "").await.unwrap().body, whole);
    let head = rig.call(Method::HEAD, url, &[], "").await.unwrap();
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    assert_eq!(head.headers["content-length"], whole.len().to_string());
    let served = rig.count(|w| matches!(w, What::Served { .. }));
    assert_eq!(served, 4);
}

#[tokio::test]
async fn videos_are_listed_newest_first_and_found_by_title() {
    let rig = rig().await;
    for title in ["Spring sale", "Autumn", "Spring cleaning"] {
        rig.video(json!({ "title": title })).await;
    }
    let (_, page) = rig.get("/v3/videos?limit=2").await;
    assert_eq!(page["data"][0]["title"], "Spring cleaning");
    assert_eq!(page["has_more"], true);
    let token = page["next_token"].as_str().unwrap();
    let (_, rest) = rig.get(&format!("/v3/videos?limit=2&token={token}")).await;
    assert_eq!(rest["data"][0]["title"], "Spring sale");
    assert_eq!((&rest["has_more"], &rest["next_token"]), (&json!(false), &Value::Null));
    let (_, found) = rig.get("/v3/videos?title=spring").await;
    assert_eq!(found["data"].as_array().unwrap().len(), 2);
    assert_eq!(rig.get("/v3/videos?limit=0").await.0, 400);
    assert_eq!(rig.get("/v3/videos?token=%20%20").await.0, 400);
}

#[tokio::test]
async fn statuses_come_for_up_to_a_hundred_and_unknown_ones_are_not_found() {
    let rig = rig().await;
    let good = rig.video(json!({})).await;
    let bad = rig.video(json!({ "title": "#fail" })).await;
    rig.pass(5).await;
    let (_, body) = rig.get(&format!("/v3/videos/statuses?video_ids={good},{bad},nobody&batch_ids=b")).await;
    let words: Vec<_> = body["data"].as_array().unwrap().iter().map(|l| l["status"].clone()).collect();
    assert_eq!(words, ["completed", "failed", "not_found", "not_found"]);
    assert_eq!(body["data"][1]["error"]["code"], "rendering_failed");
    let many = vec!["x"; 101].join(",");
    assert_eq!(rig.get(&format!("/v3/videos/statuses?video_ids={many}")).await.0, 400);
    assert_eq!(rig.get("/v3/videos/statuses").await.0, 400);
}

#[tokio::test]
async fn a_deleted_video_is_gone_and_frees_its_slot() {
    let rig = rig_with(|o| o.concurrency = 1).await;
    let id = rig.video(json!({})).await;
    let path = format!("/v3/videos/{id}");
    let (status, body) = rig.send(Method::DELETE, &path, json!({})).await;
    assert_eq!((status, &body["data"]), (200, &json!({ "id": id, "deleted": true })));
    assert_eq!(rig.get(&path).await.1["error"]["code"], "video_not_found");
    assert_eq!(rig.send(Method::DELETE, &path, json!({})).await.0, 404);
    rig.video(json!({})).await;
    rig.pass(5).await;
    assert_eq!(rig.count(|w| matches!(w, What::Ended { .. })), 1);
}

#[tokio::test]
async fn routes_that_v3_does_not_have_are_404_in_its_envelope() {
    let rig = rig().await;
    let paths = [
        "/v1/webhook.add",
        "/v1/video_status.get",
        "/v2/video/generate",
        "/v3/webhooks",
        "/v2/webhook_endpoint",
        "/",
    ];
    for path in paths {
        let (status, body) = rig.post(path, json!({})).await;
        assert_eq!((status, &body["error"]["code"]), (404, &json!("not_found")), "{path}");
    }
    let answer = rig.call(Method::GET, "/v3/none", &[("x-api-key", "k")], "").await.unwrap();
    assert!(answer.headers.contains_key("x-request-id"));
}

#[tokio::test]
async fn there_is_somebody_to_choose_from() {
    let rig = rig().await;
    assert_eq!(rig.get("/v3/avatars").await.1["data"].as_array().unwrap().len(), 3);
    let (_, looks) = rig.get("/v3/avatars/looks?group_id=grp_sandbox_ada").await;
    assert_eq!(looks["data"].as_array().unwrap().len(), 2);
    let (_, voices) = rig.get("/v3/voices?language=german").await;
    assert_eq!(voices["data"][0]["voice_id"], "voice_sandbox_dag");
}

#[tokio::test]
async fn trouble_can_be_ordered_and_the_ledger_read_over_http() {
    let rig = rig().await;
    let plain = async |method, path, body: &str| told(rig.call(method, path, &[], body).await);
    let (status, body) = plain(Method::POST, "/sandbox/script", r#"{"jobs":[["fail"],["stuck"]]}"#).await;
    assert_eq!((status, &body["data"]["waiting"]), (200, &json!([["fail"], ["stuck"]])));
    assert_eq!(plain(Method::POST, "/sandbox/script", r#"{"faults":["teapot"]}"#).await.0, 400);
    let (_, words) = plain(Method::GET, "/sandbox/script", "").await;
    assert_eq!(words["data"]["words"].as_array().unwrap().len(), Fault::ALL.len());
    let id = rig.video(json!({})).await;
    rig.video(json!({})).await;
    rig.pass(5).await;
    assert_eq!(rig.get(&format!("/v3/videos/{id}")).await.1["data"]["status"], "failed");
    let (_, state) = plain(Method::GET, "/sandbox/state", "").await;
    assert_eq!((&state["data"]["jobs"], &state["data"]["unfinished"]), (&json!(2), &json!(1)));
    let (_, ledger) = plain(Method::GET, "/sandbox/ledger?after=2", "").await;
    assert_eq!(ledger["data"][0]["seq"], 3);
    let (_, state) = plain(Method::POST, "/sandbox/state", r#"{"balance":0,"offline":true}"#).await;
    assert_eq!(state["data"]["offline"], true);
    assert_eq!(rig.get("/v3/users/me").await.0, 503);
}
