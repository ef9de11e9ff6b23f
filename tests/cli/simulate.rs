//! `simulate` against a receiver that checks every signature over the bytes it got.

use std::collections::BTreeSet;

use axum::response::IntoResponse;
use http::StatusCode;
use reelhook::domain::signature;
use serde_json::{Value, json};

use crate::canned::{Asked, Canned, answer};
use crate::{Ran, nowhere, run, run_in};

const SECRET: &str = "whsec_of_the_test";

fn is_signed(asked: &Asked) -> bool {
    let now = asked.header("heygen-timestamp").map_or(0, |s| s.parse::<i64>().unwrap() * 1_000);
    signature::verify(&asked.body, |name| asked.header(name), &[SECRET.to_owned()], now).is_ok()
}

/// A receiver as it should be.
async fn strict() -> Canned {
    Canned::start(|_, asked| match is_signed(asked) {
        true => StatusCode::OK.into_response(),
        false => {
            answer(401, &json!({"code": "bad_signature", "title": "T", "detail": "not with our secret"}))
        }
    })
    .await
}

async fn send(to: &Canned, more: &[&str]) -> Ran {
    run(&[&["simulate", "--secret", SECRET, "--to", &to.url], more].concat()).await
}

#[tokio::test]
async fn every_event_and_dialect_verifies_in_every_header() {
    for header in ["signature", "heygen-signature", "x-heygen-signature"] {
        let receiver = strict().await;
        let events = send(&receiver, &["--event", "all", "--header", header]).await.expect(0).json();
        assert_eq!((&events["sent"], &events["by_status"]), (&json!(30), &json!({"200": 30})));
        let types: BTreeSet<String> =
            receiver.asked().iter().map(|a| a.json()["event_type"].as_str().unwrap().to_owned()).collect();
        assert_eq!(types.len(), 30);
        let dialects = send(&receiver, &["--dialect", "all", "--header", header]).await.expect(0).json();
        assert_eq!(dialects["by_status"], json!({"200": dialects["sent"]}));
        assert!(dialects["sent"].as_u64().unwrap() >= 16);
        assert!(receiver.asked().iter().all(|a| a.header(header).is_some()));
    }
}

#[tokio::test]
async fn a_forgery_is_refused_and_a_receiver_that_takes_it_is_named() {
    let receiver = strict().await;
    let ran = send(&receiver, &["--forge"]).await.expect(0);
    assert_eq!(ran.json()["by_status"], json!({"401": 1}));
    assert_eq!(ran.json()["answers"][0]["said"], "not with our secret");
    assert!(receiver.asked()[0].header("signature").is_some());
    send(&receiver, &["--unsigned"]).await.expect(0);
    assert!(receiver.asked()[1].header("signature").is_none());
    let lax = Canned::saying(200, json!({})).await;
    assert_eq!(send(&lax, &["--forge"]).await.expect(1).problem()["code"], "cli_forgery_taken");
    // A wrong secret that was not asked for is a failure.
    let args = ["simulate", "--to", &receiver.url, "--secret", "another"];
    assert_eq!(run(&args).await.expect(1).problem()["code"], "cli_refused");
}

#[tokio::test]
async fn the_secret_comes_from_the_environment_or_is_asked_for() {
    let receiver = strict().await;
    let args = ["simulate", "--to", &receiver.url];
    let ran = run(&args).await.expect(2);
    assert_eq!(ran.problem()["code"], "cli_no_secret");
    assert!(ran.err.contains("HEYGEN_WEBHOOK_SECRET"));
    for name in ["HEYGEN_WEBHOOK_SECRET", "HEYGEN_SECRET", "REELHOOK_HEYGEN_WEBHOOK_SECRET"] {
        let several = format!("{SECRET},an-older-one");
        run_in(&[(name, &several)], &args, "").await.expect(0);
    }
    assert_eq!(receiver.asked().len(), 3);
}

#[tokio::test]
async fn counts_copies_and_ids_are_right() {
    let receiver = strict().await;
    let ran = send(&receiver, &["--count", "500", "--connections", "8", "--quiet", "--json"]).await.expect(0);
    assert_eq!(ran.json()["by_status"], json!({"200": 500}));
    assert_eq!(ran.err, "");
    assert!(
        ran.json()["latency_ms"]["p50"].as_f64().unwrap()
            <= ran.json()["latency_ms"]["max"].as_f64().unwrap()
    );
    let ids = |asked: &[Asked]| -> Vec<Value> {
        asked.iter().map(|a| a.json()["event_data"]["video_id"].clone()).collect()
    };
    let distinct = |ids: &[Value]| ids.iter().map(Value::to_string).collect::<BTreeSet<_>>().len();
    assert_eq!(distinct(&ids(&receiver.asked())), 500, "each body has its own id");

    let receiver = strict().await;
    let ran = send(&receiver, &["--count", "4", "--duplicate", "3", "--unique"]).await.expect(0);
    assert_eq!(ran.json()["sent"], 12);
    let all = ids(&receiver.asked());
    assert_eq!(distinct(&all), 4);
    assert!(all.chunks(3).all(|c| c.iter().all(|id| *id == c[0])), "copies follow each other");

    let receiver = strict().await;
    send(&receiver, &["--count", "4", "--duplicate", "3", "--unique", "--reorder", "--seed", "1"])
        .await
        .expect(0);
    let mixed = ids(&receiver.asked());
    assert_eq!((mixed.len(), distinct(&mixed)), (12, 4));
    assert!(!mixed.chunks(3).all(|c| c.iter().all(|id| *id == c[0])), "they do not any more");
}

#[tokio::test]
async fn a_warm_up_is_sent_and_not_counted() {
    let receiver = strict().await;
    let ran = send(&receiver, &["--count", "30", "--warmup", "20", "--connections", "4"]).await.expect(0);
    assert_eq!(ran.json()["sent"], 30);
    assert_eq!(receiver.asked().len(), 50);
    let dropped = send(&strict().await, &["--count", "100", "--drop", "0.5", "--seed", "3"]).await.expect(0);
    assert!((20..80).contains(&dropped.json()["sent"].as_u64().unwrap()));
}

#[tokio::test]
async fn an_open_pace_sends_what_the_rate_says() {
    let receiver = strict().await;
    let ran = send(&receiver, &["--rate", "200/s", "--duration", "250ms"]).await.expect(0);
    assert_eq!(ran.json()["sent"], 50);
}

#[tokio::test]
async fn the_same_seed_sends_the_same_bodies() {
    let bodies = async |seed: &str| {
        let receiver = strict().await;
        send(&receiver, &["--count", "25", "--connections", "1", "--seed", seed]).await.expect(0);
        receiver.asked().iter().map(|a| a.body.clone()).collect::<Vec<_>>()
    };
    let first = bodies("7").await;
    assert_eq!(first, bodies("7").await);
    assert_ne!(first, bodies("8").await);
}

#[tokio::test]
async fn overrides_job_and_own_bodies_are_sent_as_given() {
    let receiver = strict().await;
    let more =
        ["--override", "event_data.video_id=v-{seq}", "--override", "event_data.n=5", "--job", "job_1"];
    send(&receiver, &more).await.expect(0);
    let body = receiver.asked()[0].json();
    assert_eq!((&body["event_data"]["callback_id"], &body["event_data"]["n"]), (&json!("job_1"), &json!(5)));
    let id = body["event_data"]["video_id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("v-") && id.len() == 18, "{id}");

    let own = "{ \"event_type\":\"x\",\n  \"odd\" : 1.50 }\n";
    let args = ["simulate", "--secret", SECRET, "--to", &receiver.url, "--body", "-"];
    run_in(&[], &args, own).await.expect(0);
    assert_eq!(receiver.asked()[1].body, own, "byte for byte");
    run_in(&[], &[&args[..], &["--job", "j"]].concat(), "no JSON").await.expect(2);
    run_in(&[], &args, "no JSON").await.expect(0);
}

#[tokio::test]
async fn nobody_there_and_nothing_of_that_name_are_said() {
    let ran = run(&["simulate", "--secret", SECRET, "--to", &nowhere()]).await.expect(1);
    assert_eq!(ran.problem()["code"], "cli_no_answer");
    assert_eq!(ran.json()["faults"], json!({"connection refused": 1}));
    let ran = run(&["simulate", "--secret", SECRET, "--event", "video.done"]).await.expect(2);
    assert!(ran.problem()["hint"].as_str().unwrap().contains("--list"));
    let listed = run(&["simulate", "--list"]).await.expect(0).json();
    assert_eq!(listed["data"].as_array().unwrap().iter().filter(|r| r["event"].is_string()).count(), 30);
}
