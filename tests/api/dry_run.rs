//! Checked before it is paid for: what a dry run shows is what a submit sends, what it refuses a submit
//! refuses, and nothing is kept of it. The check can be left out; what we cannot send, never.

use reelhook::domain::job::Kind;
use reelhook::heygen::kinds;
use reelhook::heygen::sandbox::What;
use serde_json::{Value, json};

use crate::app::{TestApp, cases, new_job};
use crate::client::Answer;
use crate::database::Fresh;
use crate::submit::sha256;

cases! {
    what_a_dry_run_shows_is_what_is_sent,
    a_dry_run_keeps_nothing,
    a_dry_run_is_refused_as_the_submit_would_be,
    without_the_check_heygen_decides,
    what_we_cannot_send_is_refused_without_the_check_too,
    a_refusal_names_every_mistake_and_what_would_be_right,
}

const DRY: &str = "/api/jobs?dry_run=true";

async fn what_a_dry_run_shows_is_what_is_sent(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    // First with an address of its own for each job, then with a registered endpoint.
    for registered in [false, true] {
        if registered {
            app.register().await;
        }
        for kind in Kind::ALL {
            let body = new_job(kind.name(), "dry");
            let would = app.post(DRY, &body).await.expect(200).json();
            assert_eq!((&would["kind"], &would["method"]), (&json!(kind.name()), &json!("POST")));
            assert_eq!(would["errors"], json!([]));
            let id = app.post("/api/jobs", &body).await.expect(202).json()["id"].clone();
            let id = id.as_str().expect("an id").to_owned();
            app.settle().await;
            let sent = app.sandbox.ledger().into_iter().rev().find_map(|e| match e.what {
                What::Accepted { route, body_hash, .. } => Some((route, body_hash)),
                _ => None,
            });
            let mut shown = would["body"].clone();
            let fields = shown.as_object_mut().expect("a body");
            let stands_for = [
                ("callback_id", id.clone()),
                ("callback_url", format!("{}{}", app.base, app.address(&id))),
                ("request_id", format!("{id}-0")),
            ];
            for (name, value) in stands_for {
                if let Some(field) = fields.get_mut(name) {
                    assert!(field.as_str().is_some_and(|f| f.ends_with("job_…")), "{field}");
                    *field = json!(value);
                }
            }
            let path = would["path"].as_str().expect("a path").to_owned();
            assert_eq!(sent, Some((path, sha256(shown.to_string().as_bytes()))), "{kind:?}: {would}");
            app.advance_s(60).await;
        }
    }
}

async fn a_dry_run_keeps_nothing(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let key = [("idempotency-key", "dry")];
    let body = new_job("video", "dry");
    for _ in 0..2 {
        app.call("POST", DRY, &key, body.to_string()).await.expect(200);
    }
    app.advance_s(60).await;
    assert_eq!(app.get("/api/jobs").await.json()["data"], json!([]));
    assert_eq!(app.get("/api/events").await.json()["data"], json!([]));
    let heard = app
        .sandbox
        .ledger()
        .into_iter()
        .filter(|e| !matches!(&e.what, What::Call { path, .. } if path == "/v3/webhooks/events"));
    assert_eq!(heard.count(), 0, "HeyGen heard of nothing");
    // The key is free for another body.
    app.call("POST", "/api/jobs", &key, new_job("video_agent", "real").to_string()).await.expect(202);
    app.post("/api/jobs?dry_run=maybe", &body).await.problem(400, "invalid_parameter");
    app.post("/api/jobs?dry_run=false", &body).await.expect(202);
    app.leave_it();
}

async fn a_dry_run_is_refused_as_the_submit_would_be(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut unlabeled = new_job("video", "t");
    unlabeled["labels"] = json!(7);
    let bodies = [
        unlabeled,
        json!({"kind": "video", "request": {"type": "avatar"}}),
        json!({"kind": "video", "request": {"type": "studio", "scenes": [{"type": "banana"}]}}),
        json!({"kind": "video", "request": {"type": "avatar", "avatar_id": "a", "audio_url": "nonsense"}}),
        json!({"kind": "template", "request": {"variables": {}}}),
        json!({"kind": "video_agent", "request": {"prompt": "p"}, "check": "no"}),
        json!({"kind": "film", "request": {}}),
        json!({}),
    ];
    for body in bodies {
        let same = [("x-request-id", "same")];
        let dry = app.call("POST", DRY, &same, body.to_string()).await;
        let real = app.call("POST", "/api/jobs", &same, body.to_string()).await;
        dry.problem(422, "invalid_request");
        let said = |answer: &Answer| {
            let problem = answer.json();
            ["code", "detail", "errors"].map(|name| problem[name].clone())
        };
        assert_eq!(said(&dry), said(&real), "{body}");
    }
    app.call("POST", DRY, &[], "no json").await.problem(400, "not_json");
}

async fn without_the_check_heygen_decides(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.register().await;
    let body = json!({"kind": "video", "request": {"type": "film", "title": "new"}, "check": false});
    let would = app.post(DRY, &body).await.expect(200).json();
    assert_eq!(would["errors"][0]["pointer"], "/request/type", "what the check would have said");
    let id = app.post("/api/jobs", &body).await.expect(202).json()["id"].clone();
    app.advance_s(60).await;
    let job = app.job(id.as_str().expect("an id")).await;
    assert_eq!((&job["state"], &job["failure"]["code"]), (&json!("failed"), &json!("invalid_parameter")));
    assert_eq!(app.charges(id.as_str().expect("an id")), 0);
}

async fn what_we_cannot_send_is_refused_without_the_check_too(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let with = |kind: Kind, name: &str, value: Value| {
        let mut request = kinds::example(kind);
        request[name] = value;
        (json!({"kind": kind.name(), "request": request, "check": false}), format!("/request/{name}"))
    };
    let bodies = [
        with(Kind::Lipsync, "callback_url", json!("https://mine")),
        with(Kind::VoiceClone, "callback_id", json!("mine")),
        with(Kind::BackgroundRemoval, "request_id", json!("mine")),
        with(Kind::Template, "template_id", json!(null)),
        with(Kind::Template, "template_id", json!(7)),
    ];
    for (body, pointer) in bodies {
        let answer = app.post("/api/jobs", &body).await;
        answer.problem(422, "invalid_request");
        assert_eq!(answer.pointers(), [pointer]);
    }
}

async fn a_refusal_names_every_mistake_and_what_would_be_right(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let body = json!({"kind": "template", "request": {
        "dimension": {"width": 127, "height": 720}, "fps": 24, "subtitles": {}}});
    let answer = app.post("/api/jobs", &body).await;
    answer.problem(422, "invalid_request");
    let told: Vec<(String, String)> = answer.json()["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|e| {
            let text = |name: &str| e[name].as_str().expect("a text").to_owned();
            (text("pointer"), text("message"))
        })
        .collect();
    let told: Vec<(&str, &str)> = told.iter().map(|(p, m)| (&**p, &**m)).collect();
    assert_eq!(
        told,
        [
            ("/request/template_id", "is required: it is a part of the address HeyGen is asked at"),
            ("/request/variables", "is required: an object"),
            ("/request/subtitles/preset_name", "is required: a text that is not blank"),
            ("/request/dimension/width", "must be an even number from 128 to 4096"),
            ("/request/fps", "must be one of 25, 30, 60"),
        ]
    );
}
