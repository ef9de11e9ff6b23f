//! `endpoint` and `delivery`: what they ask for, what they show, how they end.

use serde_json::{Value, json};

use crate::canned::Canned;
use crate::real::Server;
use crate::run;

fn delivery(state: &str) -> Value {
    let error = (state != "delivered").then_some("answered 500");
    json!({
        "id": "dlv_1", "state": state, "event_id": "evt_1", "event_type": "endpoint.test", "job_id": null,
        "endpoint_id": "ep_1", "url": null, "created_at": "2026-11-21T10:00:00.000Z", "next_attempt_at": null,
        "delivered_at": null, "dead_at": null, "attempts_made": 1,
        "attempts": [{"at": "2026-11-21T10:00:01.000Z", "took_ms": 12, "status": 500, "error": error, "answer": "\u{1b}[31mno"}],
    })
}

fn endpoint(disabled_at: Value) -> Value {
    json!({
        "id": "ep_1", "url": "https://app.example/", "description": null, "events": ["*"], "kinds": [], "labels": {},
        "format": "standard", "created_at": "2026-11-21T10:00:00.000Z", "disabled_at": disabled_at,
        "disabled_for": "it answered 410, gone", "failing_since": null, "tested_at": null, "secrets": [],
    })
}

#[tokio::test]
async fn an_endpoint_lives_its_life_on_the_command_line() {
    let server = Server::start().await;
    let url = "https://app.example/hook";
    let add = [
        "endpoint",
        "add",
        url,
        "--events",
        "job.completed,job.failed",
        "--label",
        "team=sales",
        "--kinds",
        "video",
    ];
    let made = server.run(&add).await.expect(0).json();
    let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    assert!(secret.starts_with("whsec_"));
    assert_eq!((&made["kinds"], &made["labels"]), (&json!(["video"]), &json!({"team": "sales"})));
    let shown = server.run(&["endpoint", "get", id, "--output", "table"]).await.expect(0).out;
    for part in [url, "live", "job.completed, job.failed", "team=sales", &secret[secret.len() - 4..]] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("whsec_"), "{shown}");
    assert!(shown.contains("after 5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h, 24h"), "{shown}");
    let change = ["endpoint", "update", id, "--retry-after", "90s,2h", "--give-up-on", "400,422"];
    let shown = server.run(&[&change[..], &["--output", "table"]].concat()).await.expect(0).out;
    assert!(shown.contains("after 90s, 2h; never on 400, 422"), "{shown}");
    server.run(&["endpoint", "update", id, "--give-up-on", "500"]).await.expect(2);
    let change = ["endpoint", "update", id, "--to", "https://app.example/new", "--description", "shop"];
    assert_eq!(server.run(&change).await.expect(0).json()["url"], "https://app.example/new");
    server.run(&["endpoint", "update", id]).await.expect(2);
    let rotated = server.run(&["endpoint", "rotate", id, "--overlap", "2h"]).await.expect(0).json();
    assert!(rotated["secret"] != made["secret"] && rotated["secrets"].as_array().unwrap().len() == 2);
    let list = server.run(&["endpoint", "list", "--output", "table"]).await.expect(0).out;
    assert!(list.contains(id) && list.contains(" until "), "{list}");
    let refused = server.run(&["endpoint", "add", "http://169.254.169.254/"]).await.expect(2).problem();
    assert_eq!(refused["errors"][0]["pointer"], "/url");

    let job =
        r#"{"kind": "video_agent", "request": {"prompt": "Hi"}, "notify_url": "https://app.example/own"}"#;
    server.run(&["job", "submit", "--file", job]).await.expect(0);
    let waiting = server.run(&["delivery", "list", "--state", "pending"]).await.expect(0).json();
    let dlv = waiting["data"][0]["id"].as_str().unwrap();
    let shown = server.run(&["delivery", "show", dlv, "--output", "table"]).await.expect(0).out;
    assert!(shown.contains("pending") && shown.contains("https://app.example/own"), "{shown}");
    let table = server.run(&["delivery", "list", "--output", "table"]).await.expect(0).out;
    assert!(table.contains(dlv) && table.contains("job.queued"), "{table}");

    let made = server.run(&["delivery", "replay", "--endpoint", id, "--rate", "5"]).await.expect(0).json();
    assert_eq!((&made["pending"], &made["rate"]), (&json!(true), &json!(5)));
    let shown = server.run(&["replay", "show", made["id"].as_str().unwrap(), "--output", "table"]).await;
    assert!(shown.out.contains(&format!("endpoint_id {id}, pending ones too")), "{}", shown.out);
    for wrong in [
        &["delivery", "replay"][..],
        &["delivery", "replay", dlv, "--endpoint", id],
        &["delivery", "replay", dlv, "--rate", "5"],
        &["delivery", "replay", dlv, "--wait"],
    ] {
        server.run(wrong).await.expect(2);
    }

    server.run(&["endpoint", "remove", id]).await.expect(2);
    server.run(&["endpoint", "remove", id, "--yes"]).await.expect(0);
    server.run(&["endpoint", "get", id]).await.expect(5);
    server.run(&["delivery", "show", "dlv_none"]).await.expect(5);
}

#[tokio::test]
async fn a_test_ends_as_the_receiver_answered() {
    for (state, code) in [("delivered", 0), ("dead", 1), ("pending", 1)] {
        let server = Canned::saying(200, delivery(state)).await;
        let ran =
            run(&["endpoint", "test", "ep_1", "--output", "table", "--url", &server.url]).await.expect(code);
        assert!(ran.out.contains(state) && !ran.out.contains('\u{1b}'), "{}", ran.out);
        assert_eq!(server.lines(), ["POST /api/endpoints/ep_1/test?wait=20"]);
    }
}

#[tokio::test]
async fn where_nobody_is_it_says_so_and_until_when() {
    let until = "2999-11-21T10:00:00.000Z";
    let mut waits = delivery("pending");
    (waits["left_alone_until"], waits["next_attempt_at"]) = (json!(until), json!(until));
    let page = json!({"data": [waits.clone()], "has_more": false, "next_cursor": null});
    let server = Canned::in_turn(vec![(200, waits), (200, page)]).await;
    let table = ["--output", "table", "--url", &server.url];
    let shown = run(&[&["delivery", "show", "dlv_1"][..], &table].concat()).await.expect(0).out;
    let line = shown.lines().find(|line| line.contains("left alone until")).unwrap();
    assert!(line.ends_with(until), "{shown}");
    let listed = run(&[&["delivery", "list"][..], &table].concat()).await.expect(0).out;
    assert!(listed.contains("left alone for ") && !listed.contains("pending"), "{listed}");
}

#[tokio::test]
async fn one_that_is_disabled_is_tested_before_it_is_enabled() {
    let since = json!("2026-11-21T09:00:00.000Z");
    let test = "POST /api/endpoints/ep_1/test?wait=20";
    let (get, enable) = ("GET /api/endpoints/ep_1", "POST /api/endpoints/ep_1/enable");
    let live = || endpoint(Value::Null);
    for (answers, code, asked) in [
        (vec![(200, live()), (200, live())], 0, vec![get, enable]),
        (
            vec![(200, endpoint(since.clone())), (200, delivery("delivered")), (200, live())],
            0,
            vec![get, test, enable],
        ),
        (vec![(200, endpoint(since.clone())), (200, delivery("dead"))], 1, vec![get, test]),
    ] {
        let server = Canned::in_turn(answers).await;
        run(&["endpoint", "enable", "ep_1", "--url", &server.url]).await.expect(code);
        assert_eq!(server.lines(), asked);
    }
}
