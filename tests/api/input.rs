//! What a submit's body may hold, each limit from both sides, each mistake named by its place; and
//! how requests are refused that are wrong in another way.

use reelhook::domain::time::{DAY, MINUTE, rfc3339};
use serde_json::{Value, json};

use crate::app::{START, TestApp, cases, new_job};
use crate::database::Fresh;

cases! {
    every_mistake_is_named_by_its_place,
    every_limit_holds_from_both_sides,
    all_mistakes_are_told_at_once,
    what_is_not_json_is_400,
    a_mebibyte_of_body_is_taken_and_one_byte_more_is_413,
    unknown_parameters_and_values_are_400_and_named,
    what_is_not_there_is_404_and_what_is_not_taken_is_405,
    bodies_of_wishes_are_checked_too,
}

/// The body of a good submit with one place changed; null takes a field away.
fn with(pointer: &str, value: Value) -> Value {
    let mut body = new_job("video", "t");
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let parent = body.pointer_mut(parent).expect("its parent");
    parent[name] = value;
    body
}

fn agent(prompt: Value) -> Value {
    json!({"kind": "video_agent", "request": {"prompt": prompt}})
}

fn translation(languages: Value) -> Value {
    json!({"kind": "translation", "request": {"video": {"type": "url", "url": "https://x"}, "output_languages": languages}})
}

fn heard(audio_url: Value) -> Value {
    json!({"kind": "video", "request": {"type": "avatar", "avatar_id": "a", "audio_url": audio_url}})
}

fn scene() -> Value {
    json!({"type": "avatar_video", "input": {"type": "avatar", "avatar_id": "a", "script": "Hi"}})
}

fn studio(scenes: Value) -> Value {
    json!({"kind": "video", "request": {"type": "studio", "scenes": scenes}})
}

fn film(references: Vec<Value>) -> Value {
    json!({"kind": "video", "request": {
        "type": "cinematic_avatar", "prompt": "p", "avatar_id": ["a"], "references": references}})
}

fn layers(layers: Value) -> Value {
    let video = json!({"type": "url", "url": "https://x"});
    json!({"kind": "background_removal", "request": {"video": video, "layers": layers}})
}

async fn every_mistake_is_named_by_its_place(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let image = |more: Value| {
        let mut request = json!({"type": "image", "script": "Hi"});
        for (name, value) in more.as_object().unwrap() {
            request[name] = value.clone();
        }
        json!({"kind": "video", "request": request})
    };
    let table: Vec<(Value, &str)> = vec![
        (with("/kind", json!(null)), "/kind"),
        (with("/kind", json!("film")), "/kind"),
        (with("/kind", json!(7)), "/kind"),
        (with("/request", json!(null)), "/request"),
        (with("/request", json!("text")), "/request"),
        (with("/request", json!([1])), "/request"),
        (with("/request/type", json!("film")), "/request/type"),
        (with("/request/avatar_id", json!(null)), "/request/avatar_id"),
        (with("/request/avatar_id", json!("")), "/request/avatar_id"),
        (with("/request/script", json!(null)), "/request/script"),
        (with("/request/script", json!("")), "/request/script"),
        (with("/request/script", json!(5)), "/request/script"),
        (with("/request/audio_url", json!("https://a")), "/request/script"),
        (with("/request/callback_id", json!("mine")), "/request/callback_id"),
        (with("/request/callback_url", json!("https://mine")), "/request/callback_url"),
        (image(json!({})), "/request/image"),
        (with("/request/script", json!("   ")), "/request/script"),
        (heard(json!("")), "/request/audio_url"),
        (heard(json!(5)), "/request/audio_url"),
        (heard(json!("nonsense")), "/request/audio_url"),
        (image(json!({"image": {"type": "url", "url": "x"}})), "/request/image/url"),
        (image(json!({"image": {"type": "asset_id", "asset_id": ""}})), "/request/image/asset_id"),
        (studio(json!([])), "/request/scenes"),
        (studio(json!([{"type": "banana"}])), "/request/scenes/0/type"),
        (studio(json!([scene(), {"type": "avatar_video"}])), "/request/scenes/1/input"),
        (studio(json!([{"type": "avatar_video", "input": {}}])), "/request/scenes/0/input/avatar_id"),
        (studio(json!([{"type": "video", "source": {"url": "x"}}])), "/request/scenes/0/source/url"),
        (layers(json!(["mask", "banana"])), "/request/layers/1"),
        (film(vec![json!({"url": "https://x/a.mp4"}); 4]), "/request/references"),
        (film(vec![json!({"url": "https://x/a.png"}); 10]), "/request/references"),
        (film(vec![json!({"asset_id": "a"}); 13]), "/request/references"),
        (
            json!({"kind": "video", "request": {"type": "cinematic_avatar", "prompt": "p", "avatar_id": "a"}}),
            "/request/avatar_id",
        ),
        (agent(json!(null)), "/request/prompt"),
        (agent(json!("")), "/request/prompt"),
        (translation(json!([])), "/request/output_languages"),
        (translation(json!(["German", "German"])), "/request/output_languages/1"),
        (translation(json!("German")), "/request/output_languages"),
        (with("/callback_id", json!("")), "/callback_id"),
        (with("/callback_id", json!(7)), "/callback_id"),
        (with("/labels", json!(["a"])), "/labels"),
        (with("/labels", json!({"a": 1})), "/labels/a"),
        (with("/labels", json!({"a": ""})), "/labels/a"),
        (with("/labels", json!({"a:b": "c"})), "/labels/a:b"),
        (with("/labels", json!({"": "c"})), "/labels/"),
        (with("/hold", json!("yes")), "/hold"),
        (with("/deadline", json!("tomorrow")), "/deadline"),
        (with("/not_before", json!("tomorrow")), "/not_before"),
        (with("/not_before", json!(1_795_255_200)), "/not_before"),
        (with("/deadline", json!(1_795_255_200)), "/deadline"),
        (with("/prority", json!(1)), "/prority"),
        // RFC 6901: `~` and `/` in a name are written `~0` and `~1`.
        (with("/labels", json!({"a/b~c": ""})), "/labels/a~1b~0c"),
        (with("/x~1y", json!(1)), "/x~01y"),
    ];
    let mut wrong = vec![];
    for (body, pointer) in table {
        let answer = app.post("/api/jobs", &body).await;
        if answer.status != 422 {
            wrong.push(format!("{pointer}: {} to {body}", answer.status));
            continue;
        }
        answer.problem(422, "invalid_request");
        if answer.pointers() != [pointer] {
            wrong.push(format!("{pointer}: named {:?} of {body}", answer.pointers()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(app.get("/api/jobs").await.json()["data"], json!([]), "nothing was taken in");
}

async fn every_limit_holds_from_both_sides(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let labels = |n: usize| -> Value {
        (0..n).map(|i| (format!("l{i}"), json!("v"))).collect::<serde_json::Map<_, _>>().into()
    };
    let text = |n: usize| "ä".repeat(n);
    let at = |ms: i64| json!(rfc3339(START + ms));
    // `{"p":"…"}` has 8 bytes around its text.
    let metadata = |bytes: usize| json!({"p": "x".repeat(bytes - 8)});
    let scenes = |n: usize| studio(json!(vec![scene(); n]));
    let clips = |n: usize| film(vec![json!({"url": "https://x/a.mp4"}); n]);
    let table: Vec<(Value, Value, &str)> = vec![
        (with("/labels", labels(20)), with("/labels", labels(21)), "/labels"),
        (with("/labels", json!({"n": text(100)})), with("/labels", json!({"n": text(101)})), "/labels/n"),
        (with("/callback_id", json!(text(255))), with("/callback_id", json!(text(256))), "/callback_id"),
        (with("/metadata", metadata(16_384)), with("/metadata", metadata(16_385)), "/metadata"),
        (with("/deadline", at(MINUTE)), with("/deadline", at(MINUTE - 1)), "/deadline"),
        (with("/not_before", at(30 * DAY)), with("/not_before", at(30 * DAY + 1)), "/not_before"),
        (with("/deadline", at(30 * DAY)), with("/deadline", at(30 * DAY + 1)), "/deadline"),
        (
            with("/request/script", json!(text(5_000))),
            with("/request/script", json!(text(5_001))),
            "/request/script",
        ),
        (agent(json!(text(10_000))), agent(json!(text(10_001))), "/request/prompt"),
        (scenes(50), scenes(51), "/request/scenes"),
        (clips(3), clips(4), "/request/references"),
        (with("/request/script", json!(" x ")), with("/request/script", json!("   ")), "/request/script"),
        (heard(json!("http://x/a")), heard(json!("ftp://x/a")), "/request/audio_url"),
        (layers(json!(["mask"])), layers(json!("mask")), "/request/layers"),
    ];
    for (fits, too_much, pointer) in table {
        let answer = app.post("/api/jobs", &fits).await;
        assert_eq!(answer.status, 202, "{pointer} fits: {}", answer.text());
        let answer = app.post("/api/jobs", &too_much).await;
        answer.problem(422, "invalid_request");
        assert_eq!(answer.pointers(), [pointer]);
    }
    app.leave_it();
}

async fn all_mistakes_are_told_at_once(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let body =
        json!({"kind": "video", "request": {"type": "avatar"}, "hold": 1, "what": 2, "labels": {"a": 1}});
    let answer = app.post("/api/jobs", &body).await;
    answer.problem(422, "invalid_request");
    let mut pointers = answer.pointers();
    pointers.sort();
    assert_eq!(pointers, ["/hold", "/labels/a", "/request/avatar_id", "/request/script", "/what"]);
}

async fn what_is_not_json_is_400(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    for body in ["", " ", "kind=video", "{", "[]", "null", "\"text\"", "{\"kind\":\"video\",}", "\u{feff}{}"]
    {
        let answer = app.call("POST", "/api/jobs", &[], body.to_owned()).await;
        answer.problem(400, "not_json");
    }
    app.call("POST", "/api/jobs", &[], &b"{\"kind\":\"\xff\"}"[..]).await.problem(400, "not_json");
    let twice = r#"{"kind": "video_agent", "request": {"prompt": "p", "prompt": "q"}}"#;
    let answer = app.call("POST", "/api/jobs", &[], twice).await;
    assert!(answer.json()["detail"].as_str().unwrap().starts_with("`prompt` stands twice"), "{answer:?}");
    answer.problem(400, "not_json");
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    app.call("POST", "/api/jobs", &[], deep).await.problem(400, "not_json");
    let deep = format!(
        r#"{{"kind":"video_agent","request":{{"prompt":"p"}},"metadata":{}1{}}}"#,
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    app.call("POST", "/api/jobs", &[], deep).await.problem(400, "not_json");
}

async fn a_mebibyte_of_body_is_taken_and_one_byte_more_is_413(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let body = new_job("video", "big").to_string();
    let padded = |n: usize| format!("{body}{}", " ".repeat(n - body.len()));
    app.call("POST", "/api/jobs", &[], padded(1 << 20)).await.expect(202);
    app.call("POST", "/api/jobs", &[], padded((1 << 20) + 1)).await.problem(413, "too_large");
    app.leave_it();
}

async fn unknown_parameters_and_values_are_400_and_named(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let id = app.submit("video", "t").await;
    let lists = ["/api/jobs", "/api/events", "/api/receipts"];
    let of_job = [format!("/api/jobs/{id}/events"), format!("/api/jobs/{id}/receipts")];
    for list in lists.iter().map(|l| (*l).to_owned()).chain(of_job) {
        for (query, name) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=-1", "limit"),
            ("limit=ten", "limit"),
            ("stat=held", "stat"),
            ("limit=1&limit=2", "limit"),
        ] {
            let answer = app.get(&format!("{list}?{query}")).await;
            answer.problem(400, "invalid_parameter");
            assert_eq!(answer.pointers(), [name], "{list}?{query}");
        }
        for limit in [1, 200] {
            app.get(&format!("{list}?limit={limit}")).await.expect(200);
        }
    }
    for (path, name) in [
        ("/api/jobs?state=done", "state"),
        ("/api/jobs?kind=film", "kind"),
        ("/api/jobs?label=team", "label"),
        ("/api/jobs?created_after=yesterday", "created_after"),
        ("/api/jobs?created_before=1", "created_before"),
        ("/api/receipts?verdict=maybe", "verdict"),
        ("/api/events?cursor=x", "cursor"),
        (&*format!("/api/jobs/{id}?wait=61"), "wait"),
        (&*format!("/api/jobs/{id}?wait=-1"), "wait"),
        (&*format!("/api/jobs/{id}?weit=1"), "weit"),
    ] {
        let answer = app.get(path).await;
        answer.problem(400, "invalid_parameter");
        assert_eq!(answer.pointers(), [name], "{path}");
    }
    let answer = app.post("/api/jobs?wait=soon", &new_job("video", "t")).await;
    answer.problem(400, "invalid_parameter");
    assert_eq!(app.get("/api/jobs").await.json()["data"].as_array().unwrap().len(), 1);
    app.leave_it();
}

async fn what_is_not_there_is_404_and_what_is_not_taken_is_405(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    for path in [
        "/api/jobs/job_none",
        "/api/receipts/rcp_none",
        "/api/videos/none",
        "/api/jobs/job_none/events",
        "/api/jobs/job_none/receipts",
    ] {
        app.get(path).await.problem(404, "not_found");
    }
    app.call("DELETE", "/api/keys/key_none", &[], "").await.problem(404, "not_found");
    app.call("DELETE", "/api/webhooks/ep_none", &[], "").await.problem(404, "not_found");
    for path in ["/api", "/api/", "/api/nothing", "/jobs", "/v3/videos", "/api/jobs/a/b/c", "/api//jobs"] {
        app.get(path).await.problem(404, "no_route");
    }
    for (method, path) in [
        ("PUT", "/api/jobs"),
        ("DELETE", "/api/jobs/x"),
        ("POST", "/api/events"),
        ("POST", "/metrics"),
        ("GET", "/api/jobs/x/cancel"),
    ] {
        app.call(method, path, &[], "").await.problem(405, "method_not_allowed");
    }
}

async fn bodies_of_wishes_are_checked_too(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut body = new_job("video", "t");
    body["hold"] = json!(true);
    let id = app.post("/api/jobs", &body).await.expect(202).json()["id"].as_str().unwrap().to_owned();
    let path = format!("/api/jobs/{id}/reject");
    for (body, pointer) in [
        (json!({"reason": ""}), "/reason"),
        (json!({"reason": 5}), "/reason"),
        (json!({"reason": "x".repeat(501)}), "/reason"),
        (json!({"why": "x"}), "/why"),
    ] {
        let answer = app.post(&path, &body).await;
        answer.problem(422, "invalid_request");
        assert_eq!(answer.pointers(), [pointer]);
    }
    app.call("POST", &path, &[], "no json").await.problem(400, "not_json");
    for (path, body, pointer) in [
        ("/api/keys", json!({"name": "x".repeat(101)}), "/name"),
        ("/api/webhooks", json!({"events": "all"}), "/events"),
        ("/api/webhooks", json!({"events": [1]}), "/events"),
        ("/api/webhooks", json!({"url": "https://x"}), "/url"),
    ] {
        let answer = app.post(path, &body).await;
        answer.problem(422, "invalid_request");
        assert_eq!(answer.pointers(), [pointer]);
    }
    assert_eq!(app.state(&id).await, "held");
    app.post(&path, &json!({"reason": "x".repeat(500)})).await.expect(200);
}
