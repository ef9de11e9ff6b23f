//! Malformed requests of every kind to every route: each is refused with the status and code that
//! were promised, names the place, says what to do, and does nothing.

use http::HeaderMap;
use reelhook::http::TABLE;
use reelhook::http::hook::PATHS;
use serde_json::json;

use crate::app::{TestApp, cases, new_job};
use crate::client::{Answer, Headers};
use crate::database::Fresh;

cases! {
    every_malformed_request_is_refused_by_its_place,
    every_limit_of_every_route_holds_from_both_sides,
    a_route_takes_its_own_methods_only,
    a_route_without_parameters_or_fields_takes_none,
    what_a_body_is_called_does_not_matter,
}

/// What must not have happened afterwards.
async fn nothing_was_done(app: &TestApp, id: &str) {
    assert_eq!(app.state(id).await, "held");
    assert_eq!(app.get("/api/jobs").await.expect(200).json()["data"].as_array().unwrap().len(), 1);
    assert_eq!(app.get("/api/keys").await.expect(200).json()["data"], json!([]));
    assert_eq!(app.get("/api/webhooks").await.expect(200).json()["data"], json!([]));
    assert_eq!(app.get("/api/receipts?verdict=signed").await.expect(200).json()["data"], json!([]));
}

async fn held(app: &TestApp) -> String {
    let mut body = new_job("video", "t");
    body["hold"] = json!(true);
    app.post("/api/jobs", &body).await.expect(202).json()["id"].as_str().unwrap().to_owned()
}

struct Bad<'a>(&'a str, &'a str, Headers<'a>, &'a str, u16, &'a str, &'a [&'a str]);

async fn every_malformed_request_is_refused_by_its_place(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let id = held(&app).await;
    let of = |verb: &str| format!("/api/jobs/{id}/{verb}");
    let (cancel, reject, retry, events) = (of("cancel"), of("reject"), of("retry"), of("events"));
    let (receipts, one) = (of("receipts"), format!("/api/jobs/{id}"));
    let (one_wait, one_typo) = (format!("{one}?wait=1.5"), format!("{one}?wiat=1"));
    let good = new_job("video", "t").to_string();
    let long = "x".repeat(256);
    let (long_q, long_label) = (format!("/api/jobs?q={long}"), format!("/api/jobs?label=a:{long}"));
    let (not_json, invalid, parameter, key, missing) =
        ("not_json", "invalid_request", "invalid_parameter", "invalid_idempotency_key", "not_found");
    let none: &[&str] = &[];
    let table = [
        // No JSON, or none that is an object.
        Bad("POST", "/api/jobs", &[], "", 400, not_json, none),
        Bad("POST", "/api/jobs", &[], "{", 400, not_json, none),
        Bad("POST", "/api/jobs", &[], "{}}", 400, not_json, none),
        Bad("POST", "/api/jobs", &[], "[]", 400, not_json, none),
        Bad("POST", "/api/jobs", &[], "null", 400, not_json, none),
        Bad("POST", "/api/jobs", &[], "kind=video", 400, not_json, none),
        Bad("POST", &reject, &[], "[]", 400, not_json, none),
        Bad("POST", &retry, &[], "true", 400, not_json, none),
        Bad("POST", &cancel, &[], "{,}", 400, not_json, none),
        Bad("POST", "/api/keys", &[], "\"ci\"", 400, not_json, none),
        Bad("POST", "/api/webhooks", &[], "7", 400, not_json, none),
        // Fields.
        Bad("POST", "/api/jobs", &[], "{}", 422, invalid, &["/kind", "/request"]),
        Bad("POST", "/api/jobs", &[], r#"{"kind":[],"request":{}}"#, 422, invalid, &["/kind"]),
        Bad("POST", "/api/jobs", &[], r#"{"kind":"video","request":[]}"#, 422, invalid, &["/request"]),
        Bad("POST", "/api/jobs", &[], r#"{"kind":"video","request":{}}"#, 422, invalid, &["/request/type"]),
        Bad("POST", &reject, &[], r#"{"reason":{}}"#, 422, invalid, &["/reason"]),
        Bad("POST", &reject, &[], r#"{"reason":"r","Reason":"r"}"#, 422, invalid, &["/Reason"]),
        Bad(
            "POST",
            &retry,
            &[],
            r#"{"accept_second_charge":"yes"}"#,
            422,
            invalid,
            &["/accept_second_charge"],
        ),
        Bad("POST", &retry, &[], r#"{"accept":true}"#, 422, invalid, &["/accept"]),
        Bad("POST", "/api/keys", &[], r#"{"name":""}"#, 422, invalid, &["/name"]),
        Bad("POST", "/api/keys", &[], r#"{"name":["ci"]}"#, 422, invalid, &["/name"]),
        Bad("POST", "/api/keys", &[], r#"{"title":"ci"}"#, 422, invalid, &["/title"]),
        Bad("POST", "/api/webhooks", &[], r#"{"events":{}}"#, 422, invalid, &["/events"]),
        Bad("POST", "/api/webhooks", &[], r#"{"events":[]}"#, 422, invalid, &["/events"]),
        Bad("POST", "/api/webhooks", &[], r#"{"events":[""]}"#, 422, invalid, &["/events"]),
        Bad("POST", "/api/webhooks", &[], r#"{"events":["a",null]}"#, 422, invalid, &["/events"]),
        // HeyGen knows its own event types.
        Bad("POST", "/api/webhooks", &[], r#"{"events":["no.such"]}"#, 422, "upstream_refused", none),
        // Keys that make a submit safe to repeat.
        Bad("POST", "/api/jobs", &[("idempotency-key", "")], &good, 400, key, &["Idempotency-Key"]),
        Bad("POST", "/api/jobs", &[("idempotency-key", "\"\"")], &good, 400, key, &["Idempotency-Key"]),
        Bad("POST", "/api/jobs", &[("idempotency-key", &long)], &good, 400, key, &["Idempotency-Key"]),
        Bad("POST", "/api/jobs", &[("idempotency-key", "a\tb")], &good, 400, key, &["Idempotency-Key"]),
        Bad("POST", &retry, &[("idempotency-key", &long)], "", 400, key, &["Idempotency-Key"]),
        // Waits.
        Bad("POST", "/api/jobs?wait=", &[], &good, 400, parameter, &["wait"]),
        Bad("POST", "/api/jobs?wait=9999999999999999999", &[], &good, 400, parameter, &["wait"]),
        Bad("GET", &one_wait, &[], "", 400, parameter, &["wait"]),
        Bad("GET", &one_typo, &[], "", 400, parameter, &["wiat"]),
        // Filters and pages.
        Bad("GET", "/api/jobs?state=", &[], "", 400, parameter, &["state"]),
        Bad("GET", "/api/jobs?state=Held", &[], "", 400, parameter, &["state"]),
        Bad("GET", "/api/jobs?state=held&state=queued", &[], "", 400, parameter, &["state"]),
        Bad("GET", "/api/jobs?kind=film&limit=0", &[], "", 400, parameter, &["limit", "kind"]),
        Bad("GET", "/api/jobs?label=", &[], "", 400, parameter, &["label"]),
        Bad("GET", "/api/jobs?created_after=2026-11-21", &[], "", 400, parameter, &["created_after"]),
        Bad(
            "GET",
            "/api/jobs?created_before=2026-13-01T00:00:00Z",
            &[],
            "",
            400,
            parameter,
            &["created_before"],
        ),
        Bad("GET", &long_q, &[], "", 400, parameter, &["q"]),
        Bad("GET", &long_label, &[], "", 400, parameter, &["label"]),
        Bad("GET", "/api/jobs?q=%00", &[], "", 400, parameter, &["query"]),
        Bad("GET", "/api/jobs?cursor=2", &[], "", 400, parameter, &["cursor"]),
        Bad("GET", "/api/jobs?cursor=rcp_01m7yg0ng1hry505pvcqaqvfzw", &[], "", 400, parameter, &["cursor"]),
        Bad("GET", "/api/receipts?cursor=x", &[], "", 400, parameter, &["cursor"]),
        Bad("GET", "/api/receipts?verdict=Signed", &[], "", 400, parameter, &["verdict"]),
        Bad("GET", "/api/receipts?state=held", &[], "", 400, parameter, &["state"]),
        Bad("GET", "/api/events?cursor=-1", &[], "", 400, parameter, &["cursor"]),
        Bad("GET", "/api/events?cursor=evt_1", &[], "", 400, parameter, &["cursor"]),
        Bad("GET", "/api/events?type=job.held", &[], "", 400, parameter, &["type"]),
        Bad("GET", "/api/jobs?q=%ff", &[], "", 400, parameter, &["q"]),
        // Ids.
        Bad("GET", "/api/jobs/%00", &[], "", 400, parameter, &["path"]),
        Bad("GET", "/api/jobs/%ff", &[], "", 400, parameter, &["path"]),
        Bad("POST", "/api/jobs/%c3%28/cancel", &[], "", 400, parameter, &["path"]),
        Bad("GET", "/api/jobs/%20", &[], "", 404, missing, none),
        Bad("GET", "/api/jobs/job_'%20OR%201=1", &[], "", 404, missing, none),
        Bad("GET", "/api/videos/..%2f..%2fetc", &[], "", 404, missing, none),
        Bad("GET", "/api/receipts/job_x", &[], "", 404, missing, none),
        Bad("POST", "/api/jobs/x/cancel", &[], "", 404, missing, none),
        Bad("POST", "/api/jobs/x/approve", &[], "", 404, missing, none),
        Bad("POST", "/api/jobs/x/reject", &[], "", 404, missing, none),
        Bad("POST", "/api/jobs/x/refresh", &[], "", 404, missing, none),
        Bad("POST", "/api/jobs/x/retry", &[], "", 404, missing, none),
        Bad("POST", "/api/webhooks/ep_x/rotate", &[], "", 404, missing, none),
        Bad("DELETE", "/api/webhooks/%2e%2e", &[], "", 404, missing, none),
        Bad("DELETE", "/api/keys/x", &[], "", 404, missing, none),
        // Credentials.
        Bad("GET", "/api/jobs", &[("authorization", "")], "", 401, "unauthorized", none),
        Bad("GET", "/api/jobs", &[("authorization", "Basic eDp5")], "", 401, "unauthorized", none),
        Bad("GET", &events, &[("authorization", "Bearer")], "", 401, "unauthorized", none),
        Bad("GET", &receipts, &[("authorization", "Bearer rhk_1")], "", 401, "unauthorized", none),
        // The door.
        Bad("POST", "/webhooks/heygen", &[], "{}", 401, "bad_signature", none),
        Bad("POST", "/webhooks/heygen", &[("signature", "00")], "{}", 503, "no_webhook_secret", none),
        Bad("POST", "/webhooks/heygen/x", &[], "{}", 401, "unknown_webhook_address", none),
    ];
    let mut wrong = vec![];
    for Bad(method, path, headers, body, status, code, pointers) in table {
        let answer = app.call(method, path, headers, body.to_owned()).await;
        let what = format!("{method} {path} {headers:?} {body}");
        if answer.status != status || !answer.text().contains(&format!("\"{code}\"")) {
            wrong.push(format!("{what}: {} {}", answer.status, answer.text()));
            continue;
        }
        let problem = answer.problem(status, code);
        let named: Vec<String> = if problem["errors"].is_array() { answer.pointers() } else { vec![] };
        if named != pointers {
            wrong.push(format!("{what}: named {named:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    nothing_was_done(&app, &id).await;
}

/// One more than fits is refused, and what fits is not: method, path, headers and body of both.
async fn every_limit_of_every_route_holds_from_both_sides(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let id = held(&app).await;
    let text = |n: usize| "é".repeat(n);
    let list = |n: usize| json!({"events": vec!["avatar_video.success"; n]}).to_string();
    let named = |n: usize| json!({"events": ["x".repeat(n)]}).to_string();
    let search = |name: &str, n: usize| format!("/api/jobs?{name}={}", "%C3%A9".repeat(n));
    let label = |n: usize| format!("/api/jobs?label=l:{}", "v".repeat(n - 2));
    let key = |n: usize| "k".repeat(n);
    let good = new_job("video", "t").to_string();
    let padded = |n: usize| format!("{{}}{}", " ".repeat(n - 2));
    for (fits, too_much, code) in [
        (search("q", 255), search("q", 256), "invalid_parameter"),
        (search("callback_id", 255), search("callback_id", 256), "invalid_parameter"),
        (label(255), label(256), "invalid_parameter"),
        ("/api/events?limit=200".to_owned(), "/api/events?limit=201".to_owned(), "invalid_parameter"),
        (format!("/api/jobs/{id}?wait=0"), format!("/api/jobs/{id}?wait=-1"), "invalid_parameter"),
        (
            format!("/api/events?cursor={}", i64::MAX),
            "/api/events?cursor=9223372036854775808".to_owned(),
            "invalid_parameter",
        ),
    ] {
        // A wait that ends before the job does is 202.
        app.get(&fits).await.expect(if fits.contains("wait") { 202 } else { 200 });
        app.get(&too_much).await.problem(400, code);
    }
    let (fits, too_much) = (key(255), key(256));
    app.call("POST", "/api/jobs", &[("idempotency-key", &fits)], good.clone()).await.expect(202);
    let refused = app.call("POST", "/api/jobs", &[("idempotency-key", &too_much)], good).await;
    refused.problem(400, "invalid_idempotency_key");
    let (name, reject) = (|n: usize| json!({"name": text(n)}).to_string(), format!("/api/jobs/{id}/reject"));
    let reason = |n: usize| json!({"reason": text(n)}).to_string();
    for (path, fits, too_much, status) in [
        ("/api/webhooks", list(100), list(101), 201),
        // HeyGen has no such event type, but it is asked.
        ("/api/webhooks", named(100), named(101), 422),
        (&*reject, reason(500), reason(501), 200),
        ("/api/upstream/pause", reason(500), reason(501), 200),
        ("/api/keys", name(100), name(101), 201),
    ] {
        let refused = app.call("POST", path, &[], too_much).await;
        refused.problem(422, "invalid_request");
        let answer = app.call("POST", path, &[], fits).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(!answer.text().contains("invalid_request"), "{path}: {}", answer.text());
    }
    // A key exists now. Nobody reads a body that no key came with.
    app.call("POST", "/api/jobs", &[], "no json").await.problem(401, "unauthorized");
    // As if there had never been one.
    app.db().write(|tx| tx.execute("DELETE FROM api_key", &[])).await.unwrap();
    for doc in TABLE.iter().filter(|doc| doc.method == "post") {
        let path = doc.path.replace("{id}", "x");
        let is_rows = matches!(doc.path, "/api/groups" | "/api/groups/{id}/rows");
        let most = if is_rows { 16 << 20 } else { 1 << 20 };
        app.call("POST", &path, &[], padded(most + 1)).await.problem(413, "too_large");
        let taken = app.call("POST", &path, &[], padded(most)).await;
        assert_ne!(taken.status, 413, "{path}");
    }
    for path in PATHS {
        app.call("POST", path, &[], padded((1 << 20) + 1)).await.problem(413, "too_large");
        app.call("POST", path, &[], padded(1 << 20)).await.problem(401, "bad_signature");
    }
    app.leave_it();
}

fn allowed(headers: &HeaderMap) -> Vec<String> {
    let all = headers.get_all("allow").into_iter().filter_map(|v| v.to_str().ok());
    let mut words: Vec<String> =
        all.flat_map(|list| list.split(',')).map(|word| word.trim().to_owned()).collect();
    words.sort();
    words
}

async fn a_route_takes_its_own_methods_only(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    for doc in TABLE {
        let path = doc.path.replace("{id}", "x");
        let taken = TABLE.iter().filter(|d| d.path == doc.path).map(|d| d.method.to_uppercase());
        let mut taken: Vec<String> = taken.collect();
        if taken.contains(&"GET".to_owned()) {
            taken.push("HEAD".to_owned());
        }
        taken.sort();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned) {
            if !taken.contains(&method) {
                let answer: Answer = app.call(&method, &path, &[], "").await;
                answer.problem(405, "method_not_allowed");
                assert_eq!(allowed(&answer.headers), taken, "{method} {path}");
            }
        }
    }
    for path in PATHS {
        for method in ["PUT", "PATCH", "DELETE"] {
            let answer = app.call(method, path, &[], "").await;
            answer.problem(405, "method_not_allowed");
            assert_eq!(allowed(&answer.headers), ["GET", "HEAD", "OPTIONS", "POST"], "{method} {path}");
        }
    }
}

async fn a_route_without_parameters_or_fields_takes_none(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let id = held(&app).await;
    for doc in TABLE.iter().filter(|doc| doc.keyed) {
        let path = doc.path.replace("{id}", &id);
        let answer =
            app.call(&doc.method.to_uppercase(), &format!("{path}?nothing=1"), &[], "{\"x\":1}").await;
        let problem = answer.problem(400, "invalid_parameter");
        assert_eq!(answer.pointers(), ["nothing"], "{} {path}", doc.method);
        assert!(problem["detail"].as_str().unwrap().contains("not known here"), "{problem}");
        if doc.method == "post" && doc.body.is_none() {
            let answer = app.call("POST", &path, &[], r#"{"why":"because"}"#).await;
            answer.problem(422, "invalid_request");
            assert_eq!(answer.pointers(), ["/why"], "{path}");
        }
    }
    nothing_was_done(&app, &id).await;
    // Health checks add what they like, and HeyGen's address may carry anything.
    for path in ["/livez?t=1", "/readyz?t=1", "/version?x", "/webhooks/heygen?token=t"] {
        app.get(path).await.expect(200);
    }
}

/// `curl -d` calls every body a form; what counts is whether it is JSON.
async fn what_a_body_is_called_does_not_matter(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let good = new_job("video", "t").to_string();
    for kind in ["application/json", "application/x-www-form-urlencoded", "text/plain", "nonsense", ""] {
        app.call("POST", "/api/jobs", &[("content-type", kind)], good.clone()).await.expect(202);
    }
    let form = "--x\r\ncontent-disposition: form-data; name=\"kind\"\r\n\r\nvideo\r\n--x--\r\n";
    let kind = ("content-type", "multipart/form-data; boundary=x");
    let problem = app.call("POST", "/api/jobs", &[kind], form).await.problem(400, "not_json");
    assert!(problem["hint"].as_str().unwrap().contains("application/json"), "{problem}");
    app.call("POST", "/api/jobs", &[], format!("\u{feff}{good}")).await.problem(400, "not_json");
    app.leave_it();
}
