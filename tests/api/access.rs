//! Who may use the API: this machine while there is no key, then whoever has one. And what everyone
//! may see: health, figures, the description, and errors that say what to do.

use reelhook::app::App;
use reelhook::config::{Config, Given};
use reelhook::http::{TABLE, problem};
use serde_json::{Value, json};

use crate::app::{Setup, TestApp, cases, new_job, signed};
use crate::database::Fresh;

cases! {
    without_keys_only_this_machine_may_call,
    with_a_key_everybody_needs_one,
    a_wrong_cut_or_revoked_key_is_401,
    a_keys_text_is_shown_once,
    a_server_others_reach_makes_its_first_key_itself,
    every_route_of_the_table_answers_and_the_description_lists_it,
    every_problem_document_is_complete,
    the_metrics_count_what_happened,
    health_and_version_need_no_key,
    answers_carry_safe_headers,
    a_database_in_use_is_refused_at_start,
}

async fn without_keys_only_this_machine_may_call(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    app.get("/api/jobs").await.expect(200);
    for good in [("host", "localhost:8000"), ("host", "[::1]:8000"), ("origin", "http://127.0.0.1:3000")] {
        app.call("GET", "/api/jobs", &[good], "").await.expect(200);
    }
    let bad = [
        ("host", "reelhook.example.com"),
        ("host", "127.0.0.1.nip.io"),
        ("host", "localhost.evil.example"),
        ("origin", "https://page.example"),
        ("origin", "null"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=127.0.0.1"),
        ("x-real-ip", "127.0.0.1"),
    ];
    for header in bad {
        let body = new_job("video", "t").to_string();
        let problem = app.call("POST", "/api/jobs", &[header], body).await;
        problem.problem(401, "unauthorized");
        assert_eq!(problem.header("www-authenticate"), Some("Bearer"), "{header:?}");
    }
    assert_eq!(app.get("/api/jobs").await.json()["data"], json!([]));
    app.settle().await;
}

async fn make_key(app: &TestApp, bearer: Option<&str>) -> Value {
    let headers: Vec<(&'static str, &str)> = bearer.map(|b| ("authorization", b)).into_iter().collect();
    app.call("POST", "/api/keys", &headers, r#"{"name":"ci"}"#).await.expect(201).json()
}

fn bearer(key: &Value) -> String {
    format!("Bearer {}", key["key"].as_str().expect("the key's text"))
}

async fn with_a_key_everybody_needs_one(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let key = make_key(&app, None).await;
    let bearer = bearer(&key);
    for doc in TABLE {
        let path = doc.path.replace("{id}", "x");
        let method = doc.method.to_uppercase();
        let answer = app.call(&method, &path, &[], "").await;
        assert_eq!(answer.status == 401, doc.keyed, "{method} {path}: {}", answer.status);
        if doc.keyed {
            answer.problem(401, "unauthorized");
        }
    }
    let remote =
        [("authorization", &*bearer), ("host", "reelhook.example.com"), ("x-forwarded-for", "203.0.113.9")];
    app.call("GET", "/api/jobs", &remote, "").await.expect(200);
    // Webhooks have no API key; their own door judges them.
    app.webhook(&[], "{}").await.problem(401, "bad_signature");
}

async fn a_wrong_cut_or_revoked_key_is_401(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let (one, two) = {
        let one = make_key(&app, None).await;
        let two = make_key(&app, Some(&bearer(&one))).await;
        (one, two)
    };
    let good = bearer(&two);
    let text = one["key"].as_str().unwrap();
    let mut changed = text.to_owned();
    changed.replace_range(6..7, if &text[6..7] == "0" { "1" } else { "0" });
    let list = [
        format!("Bearer {}", &text[..text.len() - 1]),
        format!("Bearer {changed}"),
        format!("Bearer {text}0"),
        format!("bearer{text}"),
        format!("Basic {text}"),
        text.to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Bearer {}", text.to_uppercase()),
    ];
    for wrong in &list {
        app.call("GET", "/api/jobs", &[("authorization", wrong)], "").await.problem(401, "unauthorized");
    }
    // RFC 9110 11.1: the scheme's name has no case.
    app.call("GET", "/api/jobs", &[("authorization", &format!("bearer {text}"))], "").await.expect(200);
    app.call("GET", "/api/jobs", &[("authorization", &bearer(&one))], "").await.expect(200);
    let path = format!("/api/keys/{}", one["id"].as_str().unwrap());
    app.call("DELETE", &path, &[("authorization", &good)], "").await.expect(204);
    let refused = app.call("GET", "/api/jobs", &[("authorization", &bearer(&one))], "").await;
    assert!(refused.problem(401, "unauthorized")["detail"].as_str().unwrap().contains("revoked"));
    app.call("DELETE", &path, &[("authorization", &good)], "").await.problem(404, "not_found");
    app.restart().await;
    app.call("GET", "/api/jobs", &[("authorization", &bearer(&one))], "").await.expect(401);
    app.call("GET", "/api/jobs", &[("authorization", &good)], "").await.expect(200);
    let last = format!("/api/keys/{}", two["id"].as_str().unwrap());
    app.call("DELETE", &last, &[("authorization", &good)], "").await.expect(204);
    let closed = app.get("/api/jobs").await;
    let why = closed.problem(401, "unauthorized")["detail"].to_string();
    assert!(why.contains("--bootstrap"), "revoking the last key opens nothing: {why}");
}

async fn a_keys_text_is_shown_once(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let key = make_key(&app, None).await;
    let text = key["key"].as_str().unwrap().to_owned();
    assert_eq!(key["name"], "ci");
    assert!(key["hint"].as_str().unwrap().ends_with(&text[text.len() - 4..]));
    app.advance_s(120).await;
    let list = app.call("GET", "/api/keys", &[("authorization", &bearer(&key))], "").await.expect(200);
    assert!(!list.text().contains(&text[4..30]), "{}", list.text());
    let list = app.call("GET", "/api/keys", &[("authorization", &bearer(&key))], "").await.expect(200).json();
    assert_eq!(list["data"][0]["id"], key["id"]);
    assert_eq!(list["data"][0]["last_used_at"], "2026-11-21T10:02:00.000Z");
    let name = text.clone();
    let stored = app.db().read(move |tx| {
        let rows = tx.query("SELECT id, name, hint FROM api_key", &[])?;
        rows.into_iter()
            .map(|mut r| Ok([r.text(0)?, r.text(1)?, r.text(2)?].concat()))
            .collect::<reelhook::store::Result<Vec<_>>>()
    });
    assert!(stored.await.unwrap().iter().all(|row| !row.contains(&name)), "only its hash is stored");
}

async fn a_server_others_reach_makes_its_first_key_itself(fresh: &Fresh) {
    let setup = Setup { flags: &[("public-url", "https://video.example.com")], ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    let key = app.app().first_key.clone().expect("the first key");
    app.get("/api/jobs").await.problem(401, "unauthorized");
    let bearer = format!("Bearer {key}");
    app.call("GET", "/api/jobs", &[("authorization", &bearer)], "").await.expect(200);
    app.restart().await;
    assert_eq!(app.app().first_key, None, "shown once");
    app.call("GET", "/api/jobs", &[("authorization", &bearer)], "").await.expect(200);
    // Without any key nobody is let in, this machine's user neither: others share its address.
    let keys = app.call("GET", "/api/keys", &[("authorization", &bearer)], "").await.json();
    let path = format!("/api/keys/{}", keys["data"][0]["id"].as_str().unwrap());
    app.call("DELETE", &path, &[("authorization", &bearer)], "").await.expect(204);
    app.get("/api/jobs").await.problem(401, "unauthorized");
}

async fn every_route_of_the_table_answers_and_the_description_lists_it(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let description = app.get("/api/openapi.json").await.expect(200).json();
    assert_eq!(description["openapi"], "3.1.0");
    let mut listed = 0;
    for doc in TABLE {
        let operation = &description["paths"][doc.path][doc.method];
        assert!(operation["summary"].is_string(), "{} {} is not listed", doc.method, doc.path);
        listed += 1;
        // A stream has no end to wait for.
        let method = if doc.path == "/api/stream" { "HEAD".to_owned() } else { doc.method.to_uppercase() };
        let answer = app.call(&method, &doc.path.replace("{id}", "x"), &[], "").await;
        let is_problem = answer.header("content-type") == Some("application/problem+json");
        let code =
            if is_problem { answer.json()["code"].as_str().unwrap().to_owned() } else { String::new() };
        assert!(
            !matches!(&*code, "no_route" | "method_not_allowed" | "internal"),
            "{} {}: {code}",
            doc.method,
            doc.path
        );
        if is_problem {
            answer.problem(answer.status, &code);
        }
    }
    // The addresses webhooks come to, each by four methods.
    for path in ["/webhooks/heygen", "/api/heygen/callback", "/webhooks/heygen/{mark}"] {
        for method in ["OPTIONS", "GET", "HEAD"] {
            assert!(
                description["paths"][path][method.to_lowercase()]["summary"].is_string(),
                "{method} {path}"
            );
            app.call(method, path, &[], "").await.expect(200);
        }
        assert!(description["paths"][path]["post"]["responses"]["200"].is_object(), "{path}");
        assert!(app.call("POST", path, &[], "").await.status >= 400);
    }
    listed += 6 * 4;
    let paths = description["paths"].as_object().unwrap();
    let all: usize =
        paths.values().map(|p| p.as_object().unwrap().keys().filter(|k| *k != "parameters").count()).sum();
    assert_eq!(all, listed, "nothing is listed that is not there");
    // Every schema that is named exists.
    let text = description.to_string();
    for reference in text.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(description["components"]["schemas"][name].is_object(), "{name}");
    }
    app.leave_it();
}

async fn every_problem_document_is_complete(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let description = app.get("/api/openapi.json").await.json();
    let codes = &description["components"]["schemas"]["Problem"]["properties"]["code"]["enum"];
    for kind in problem::Kind::ALL {
        let answer = problem::Problem::new(*kind).json(None, None);
        for name in ["type", "title", "hint", "code"] {
            assert!(answer[name].as_str().is_some_and(|t| !t.is_empty()), "{name} of {}", kind.code());
        }
        assert!((400..600).contains(&kind.status()) && answer["retryable"].is_boolean());
        assert!(codes.as_array().unwrap().contains(&json!(kind.code())), "{} is described", kind.code());
    }
}

async fn the_metrics_count_what_happened(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let open = app.submit("video", "never ends #stuck").await;
    app.submit("video", "good").await;
    app.submit("video_agent", "good too").await;
    app.submit("video", "quiet #lost").await;
    app.advance_s(900).await;
    let body = "{}";
    for _ in 0..2 {
        app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body).await.expect(200);
    }
    app.webhook(&[], body).await.expect(401);
    app.settle().await;
    for (line, value) in [
        (r#"reelhook_jobs_submitted_total{kind="video"}"#, 3.0),
        (r#"reelhook_jobs_submitted_total{kind="video_agent"}"#, 1.0),
        (r#"reelhook_jobs_finished_total{outcome="completed",found_by="webhook"}"#, 2.0),
        (r#"reelhook_jobs_finished_total{outcome="completed",found_by="poll"}"#, 1.0),
        (r#"reelhook_jobs_open{state="processing"}"#, 1.0),
        (r#"reelhook_jobs_open{state="queued"}"#, 0.0),
        (r#"reelhook_webhook_received_total{verdict="signed"}"#, 4.0),
        ("reelhook_webhook_duplicate_total", 1.0),
        (r#"reelhook_webhook_refused_total{reason="no_signature"}"#, 1.0),
        (r#"reelhook_upstream_calls_total{call="create",outcome="ok"}"#, 4.0),
        (r#"reelhook_tasks_due{lane="inbound"}"#, 0.0),
        ("reelhook_task_panics_total", 0.0),
        ("reelhook_webhook_ack_duration_seconds_count", 4.0),
    ] {
        let found = app.metric(line).await;
        assert!((found - value).abs() < 0.1, "{line}: {found} and not {value}");
    }
    let answer = app.get("/metrics").await;
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(answer.text().ends_with("# EOF\n"));
    assert!(!answer.text().contains(&open), "an id is no label");
}

async fn health_and_version_need_no_key(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    make_key(&app, None).await;
    for path in ["/livez", "/readyz", "/version", "/metrics", "/errors", "/api/openapi.json", "/"] {
        app.get(path).await.expect(200);
    }
    let version = app.get("/version").await.json();
    let store = if fresh.is_sqlite() { "sqlite" } else { "postgres" };
    assert_eq!((&version["name"], &version["store"]), (&json!("reelhook"), &json!(store)));
}

async fn answers_carry_safe_headers(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    for path in ["/api/jobs", "/api/jobs/none", "/", "/nowhere", "/webhooks/heygen"] {
        let answer = app.get(path).await;
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        let stored = answer.header("cache-control");
        assert_eq!(stored == Some("no-store"), path.starts_with("/api/"), "{path}: {stored:?}");
    }
}

async fn a_database_in_use_is_refused_at_start(fresh: &Fresh) {
    let app = TestApp::new(fresh).await;
    let mut given = Given::default();
    given.flags.insert("database".to_owned(), fresh.address.clone());
    let config = Config::resolve(&given).unwrap();
    let second = App::prepare(&config, app.clock.clone()).await;
    if fresh.is_sqlite() {
        let refused = second.err().expect("a second owner of the file is refused").to_string();
        assert!(refused.contains("in use by another reelhook"), "{refused}");
        assert!(refused.contains(&fresh.address), "it names the file: {refused}");
    } else {
        // Any number of nodes share a PostgreSQL database.
        let second = second.expect("a second node");
        tokio::task::spawn_blocking(move || drop(second)).await.unwrap();
    }
    app.get("/api/jobs").await.expect(200);
}
