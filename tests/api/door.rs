//! The door for webhooks when the store cannot take them: 503 with a time to try again, and nothing
//! half stored; and what is kept of those it turns away.

use std::sync::{Mutex, mpsc};

use axum::body::Body;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Request;
use reelhook::store::{Db, Tx};
use serde_json::json;
use tower::ServiceExt;

use crate::app::{TestApp, cases, signed};
use crate::database::Fresh;

cases! {
    a_full_intake_is_503_and_keeps_nothing_of_what_it_refuses,
    a_lost_database_is_503_and_keeps_nothing,
    a_delivery_to_an_unknown_address_is_sampled_without_its_secret_part,
}

/// Receipts that may wait for the next commit, and those of one transaction.
const QUEUE: usize = 4_096;
const BATCH: usize = 256;

async fn stored(app: &TestApp) -> i64 {
    let count = |tx: &mut Tx| tx.one("SELECT COUNT(*) FROM inbox", &[])?.map_or(Ok(0), |mut row| row.int(0));
    app.db().read(count).await.expect("a count")
}

fn success(video_id: &str) -> String {
    json!({"event_type": "avatar_video.success", "event_data": {"video_id": video_id, "url": "https://f.example/a"}})
        .to_string()
}

/// Holds up whatever would store a receipt, until the sender is used or dropped.
async fn hold_up(db: &Db) -> mpsc::Sender<()> {
    let (go, wait) = mpsc::channel::<()>();
    let (tell, held) = tokio::sync::oneshot::channel();
    let (wait, tell, db) = (Mutex::new(wait), Mutex::new(Some(tell)), db.clone());
    let is_postgres = db.engine() == "postgres";
    let hold = move |tx: &mut Tx| {
        // SQLite has one writer, which waits here; PostgreSQL has more, which wait for the lock.
        if is_postgres {
            tx.execute("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE", &[])?;
        }
        if let Some(tell) = tell.lock().expect("no panic").take() {
            let _ = tell.send(());
        }
        let _ = wait.lock().expect("no panic").recv();
        Ok(())
    };
    tokio::spawn(async move { db.write(hold).await });
    held.await.expect("it is held up");
    go
}

async fn a_full_intake_is_503_and_keeps_nothing_of_what_it_refuses(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let go = hold_up(app.db()).await;
    // Besides the queue there are batches under way, two at most, and one about to be.
    let (surely_too_many, sent) = (64, QUEUE + 3 * BATCH + 64);
    let router = app.app().router();
    let send = |nth: usize| {
        let body = success(&format!("v{nth}"));
        let request = Request::post("/webhooks/heygen").header("signature", signed(&secret, body.as_bytes()));
        // Without a socket: as many of them would be more than a test may have.
        router.clone().oneshot(request.body(Body::from(body)).expect("a request"))
    };
    let mut answers: FuturesUnordered<_> = (0..sent).map(send).collect();
    let (mut taken, mut refused) = (0, 0);
    let mut go = Some(go);
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("an answer");
        match answer.status().as_u16() {
            200 => taken += 1,
            503 => {
                refused += 1;
                assert_eq!(answer.headers()["retry-after"], "2");
                let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
                let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem");
                assert_eq!((&problem["code"], &problem["retryable"]), (&json!("busy"), &json!(true)));
            }
            other => panic!("{other}"),
        }
        if refused == surely_too_many {
            // While it was held up, only refusals could be answered.
            if go.take().is_some() {
                assert_eq!(taken, 0, "no 200 before the commit");
            }
        }
    }
    assert!(taken >= QUEUE && taken + refused == sent, "{taken} taken, {refused} refused");
    assert_eq!(stored(&app).await, i64::try_from(taken).expect("a count"), "what got 200 and nothing else");
    // There is room again.
    let body = success("after");
    app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body).await.expect(200);
    app.leave_it();
}

async fn a_lost_database_is_503_and_keeps_nothing(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    // More than what a file has to spare.
    let body = success(&"v".repeat(200_000));
    let hex = signed(&secret, body.as_bytes());
    let header = [("signature", &*hex)];
    fresh.break_down(app.db()).await;
    // A file is broken by a full disk, a server by its loss.
    let why = if fresh.is_sqlite() { "disk_full" } else { "store_unavailable" };
    for _ in 0..3 {
        app.webhook(&header, body.clone()).await.problem(503, why);
    }
    let at_once = [0; 4].map(|_| app.webhook(&header, body.clone()));
    for answer in futures_util::future::join_all(at_once).await {
        answer.problem(503, why);
    }
    fresh.mend().await;
    app.restart().await;
    assert_eq!(stored(&app).await, 0);
    app.webhook(&header, body).await.expect(200);
    assert_eq!(stored(&app).await, 1);
    app.settle().await;
}

async fn a_delivery_to_an_unknown_address_is_sampled_without_its_secret_part(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let mark = "f".repeat(32);
    for nth in 0..5 {
        let path = format!("/webhooks/heygen/job_00000000000000000000000000.{mark}");
        let body = success(&format!("v{nth}"));
        app.call("POST", &path, &[], body).await.problem(401, "unknown_webhook_address");
    }
    let line = r#"reelhook_webhook_refused_total{reason="unknown_address"}"#;
    assert!((app.metric(line).await - 5.0).abs() < 0.1, "all are counted");
    let kept = app.get("/api/receipts?verdict=refused").await.expect(200).json();
    let kept = kept["data"].as_array().unwrap();
    assert_eq!(kept.len(), 1, "one in a second is kept: {kept:?}");
    assert_eq!(kept[0]["meaning"], "refused: its unguessable part is that of no job here");
    let whole = app.get(&format!("/api/receipts/{}", kept[0]["id"].as_str().unwrap())).await.expect(200);
    assert!(!whole.text().contains(&mark), "{}", whole.text());
    assert!(whole.json()["taken_to_mean"].as_str().unwrap().contains("avatar video v0 succeeded"));
    app.settle().await;
}
