//! The door for webhooks: what is signed, what is refused, what is kept, byte for byte. No 2xx
//! before it is on disk, and nothing forged is ever acted on.

use reelhook::heygen::sandbox::What;
use reelhook::store::setting;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::app::{Setup, TestApp, cases, signed, texts};
use crate::client::Headers;
use crate::database::Fresh;

cases! {
    each_header_case_and_prefix_of_a_signature_is_honoured,
    what_is_not_signed_right_is_401_and_says_why,
    a_stale_timestamp_is_401_and_a_fresh_one_is_not,
    the_exact_bytes_are_kept_and_shown,
    a_mebibyte_is_taken_and_one_byte_more_is_not,
    without_a_secret_a_signed_delivery_is_503,
    while_a_secret_is_rotated_nothing_is_refused_for_good,
    after_a_rotation_the_old_secret_verifies_for_an_hour,
    what_cannot_be_read_is_200_and_kept_with_a_reason,
    what_is_refused_is_counted_sampled_and_never_applied,
    the_check_of_a_signature_is_shown_step_by_step,
    no_credential_is_kept_with_a_receipt,
    one_that_the_store_cannot_give_back_harms_no_other,
    a_sender_is_believed_through_trusted_proxies_only,
    what_one_node_removes_another_stops_believing_within_a_minute,
}

fn success(video_id: &Value, url: &str) -> String {
    json!({"event_type": "avatar_video.success", "event_data": {"video_id": video_id, "url": url}})
        .to_string()
}

/// An app with one job in progress, its secret and HeyGen's id.
async fn rendering(fresh: &Fresh) -> (TestApp, String, String, Value) {
    let setup = Setup { sandbox: |o| o.render = 240_000..=240_000, ..Setup::default() };
    let mut app = TestApp::with(fresh, setup).await;
    let secret = app.register().await;
    let id = app.submit("video", "renders").await;
    app.settle().await;
    let upstream = app.job(&id).await["upstream_id"].clone();
    (app, secret, id, upstream)
}

async fn each_header_case_and_prefix_of_a_signature_is_honoured(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    for (nth, name) in ["signature", "heygen-signature", "x-heygen-signature"].into_iter().enumerate() {
        for (form, make) in [
            ("plain", (|hex: String| hex) as fn(String) -> String),
            ("upper", |hex| hex.to_uppercase()),
            ("prefixed", |hex| format!("sha256={hex}")),
        ] {
            let body = success(&json!(format!("{nth}-{form}")), "https://files.heygen.ai/a.mp4");
            let value = make(signed(&secret, body.as_bytes()));
            app.webhook(&[(name, &value)], body).await.expect(200);
        }
    }
    app.settle().await;
    let all = app.get("/api/receipts").await.json();
    assert!(texts(&all["data"], "verdict").iter().all(|v| v == "signed"));
    assert_eq!(all["data"].as_array().unwrap().len(), 9);
    // A nonsense header does not hide a right one.
    let body = success(&json!("both"), "https://files.heygen.ai/a.mp4");
    let right = signed(&secret, body.as_bytes());
    app.webhook(&[("signature", "nonsense"), ("x-heygen-signature", &right)], body).await.expect(200);
    app.settle().await;
}

async fn what_is_not_signed_right_is_401_and_says_why(fresh: &Fresh) {
    let (mut app, secret, id, upstream) = rendering(fresh).await;
    let body = success(&upstream, "https://evil.example/a.mp4");
    let right = signed(&secret, body.as_bytes());
    let wrong = signed("some-other-secret", body.as_bytes());
    let other_body = signed(&secret, success(&upstream, "https://files.heygen.ai/a.mp4").as_bytes());
    let bytes: [(&str, Headers<'_>, String, &str); 6] = [
        ("no header", &[], body.clone(), "no signature"),
        ("wrong secret", &[("signature", &wrong)], body.clone(), "another secret"),
        ("other body", &[("signature", &other_body)], body.clone(), "other bytes"),
        ("one byte more", &[("signature", &right)], format!("{body} "), "other bytes"),
        ("cut", &[("signature", &right[..62])], body.clone(), "64 hex"),
        ("the secret itself", &[("signature", &secret)], body.clone(), "64 hex"),
    ];
    for (what, headers, body, _) in bytes {
        let problem = app.webhook(headers, body).await.problem(401, "bad_signature");
        assert!(problem["detail"].as_str().is_some_and(|d| !d.is_empty()), "{what}: {problem}");
    }
    app.settle().await;
    assert_eq!(app.state(&id).await, "processing");
    assert_eq!(app.calls(&format!("/v3/videos/{}", upstream.as_str().unwrap())), 0, "nobody was even asked");
    app.webhook(&[("signature", &right)], body).await.expect(200);
    app.settle().await;
    assert_eq!(app.state(&id).await, "completed");
}

async fn a_stale_timestamp_is_401_and_a_fresh_one_is_not(fresh: &Fresh) {
    let (mut app, secret, _, _) = rendering(fresh).await;
    let now_s = app.now() / 1_000;
    for (nth, (off, status)) in
        [(0, 200), (-300, 200), (300, 200), (-301, 401), (301, 401), (-86_400, 401)].into_iter().enumerate()
    {
        let body = success(&json!(format!("t{nth}")), "https://files.heygen.ai/a.mp4");
        let (hex, at) = (signed(&secret, body.as_bytes()), (now_s + off).to_string());
        let headers = [("heygen-signature", &*hex), ("heygen-timestamp", &*at)];
        assert_eq!(app.webhook(&headers, body).await.status, status, "{off} s");
    }
    app.settle().await;
    app.advance_s(300).await;
}

async fn the_exact_bytes_are_kept_and_shown(fresh: &Fresh) {
    use base64::Engine;
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let odd: [&[u8]; 5] = [
        b"\r\n {\"event_type\" :\t\"x\" , \"event_data\":{ \"video_id\":\"v\" } }\n\n",
        b"\xff\xfe\x00\x80 not text",
        b"\xef\xbb\xbf{\"event_type\":\"x\",\"event_data\":{\"video_id\":\"bom\"}}",
        b"\0\0\0",
        b"",
    ];
    for body in odd {
        let hex = signed(&secret, body);
        app.webhook(&[("signature", &hex)], body).await.expect(200);
        app.advance_s(1).await;
    }
    let all = app.get("/api/receipts").await.json();
    let mut ids = texts(&all["data"], "id");
    ids.reverse();
    assert_eq!(ids.len(), odd.len());
    for (id, body) in ids.iter().zip(odd) {
        let receipt = app.get(&format!("/api/receipts/{id}")).await.expect(200).json();
        let encoded = receipt["body_base64"].as_str().unwrap();
        let kept = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap();
        assert_eq!(kept, body);
        assert_eq!(receipt["size_bytes"], body.len());
        assert_eq!(receipt["sha256"], hex::encode(Sha256::digest(body)));
        assert_eq!(
            receipt["body"].as_str().map(str::as_bytes),
            std::str::from_utf8(body).ok().map(str::as_bytes)
        );
        assert_eq!(receipt["signature_check"]["signed_now"], true, "{receipt}");
    }
}

async fn a_mebibyte_is_taken_and_one_byte_more_is_not(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let (head, tail) = (r#"{"event_type":"x","event_data":{"video_id":"big","pad":""#, r#""}}"#);
    let body = format!("{head}{}{tail}", "p".repeat((1 << 20) - head.len() - tail.len()));
    assert_eq!(body.len(), 1 << 20);
    app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body.clone()).await.expect(200);
    let more = format!("{body} ");
    let hex = signed(&secret, more.as_bytes());
    app.webhook(&[("signature", &hex)], more).await.problem(413, "too_large");
    app.settle().await;
    let all = app.get("/api/receipts").await.json();
    assert_eq!(all["data"].as_array().unwrap().len(), 1);
    assert_eq!(all["data"][0]["size_bytes"], 1 << 20);
}

async fn without_a_secret_a_signed_delivery_is_503(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let body = success(&json!("v"), "https://files.heygen.ai/a.mp4");
    let hex = signed("not told yet", body.as_bytes());
    app.webhook(&[("signature", &hex)], body.clone()).await.problem(503, "no_webhook_secret");
    // HeyGen tries again, and by then the secret is known.
    let secret = app.register().await;
    let hex = signed(&secret, body.as_bytes());
    app.webhook(&[("signature", &hex)], body).await.expect(200);
    app.settle().await;
}

async fn while_a_secret_is_rotated_nothing_is_refused_for_good(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    // As the rotation itself notes it before it asks HeyGen.
    let doubt = r#"{"ep_1": {"key": "k", "since": 0}}"#;
    app.db().write(move |tx| setting::put(tx, setting::WEBHOOK_DOUBTS, doubt)).await.unwrap();
    let body = success(&json!("v"), "https://files.heygen.ai/a.mp4");
    let hex = signed("the new secret, not told yet", body.as_bytes());
    app.webhook(&[("signature", &hex)], body.clone()).await.problem(503, "webhook_secret_rotating");
    let known = signed(&secret, body.as_bytes());
    app.webhook(&[("signature", &known)], body.clone()).await.expect(200);
    app.db().write(move |tx| setting::put(tx, setting::WEBHOOK_DOUBTS, "{}")).await.unwrap();
    app.webhook(&[("signature", &hex)], body).await.problem(401, "bad_signature");
    app.settle().await;
}

async fn after_a_rotation_the_old_secret_verifies_for_an_hour(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let old = app.register().await;
    let list = app.get("/api/webhooks").await.json();
    let endpoint = list["data"][0]["endpoint_id"].as_str().unwrap().to_owned();
    let answer = app.post(&format!("/api/webhooks/{endpoint}/rotate"), &json!({})).await.expect(200);
    let new = app.secrets().await.remove(0);
    assert_ne!(new, old);
    assert!(!answer.text().contains(&new), "a secret is in no answer");
    for (nth, secret) in [&old, &new].into_iter().enumerate() {
        let body = success(&json!(format!("r{nth}")), "https://files.heygen.ai/a.mp4");
        app.webhook(&[("signature", &signed(secret, body.as_bytes()))], body).await.expect(200);
    }
    // HeyGen signs with the new one, and that is told by webhook.
    let id = app.submit("video", "after").await;
    app.advance_s(30).await;
    assert_eq!(app.job(&id).await["found_by"], "webhook");
    app.advance_s(3_600).await;
    let body = success(&json!("late"), "https://files.heygen.ai/a.mp4");
    let hex = signed(&old, body.as_bytes());
    app.webhook(&[("signature", &hex)], body).await.problem(401, "bad_signature");
    app.call("DELETE", &format!("/api/webhooks/{endpoint}"), &[], "").await.expect(204);
    let body = success(&json!("gone"), "https://files.heygen.ai/a.mp4");
    let hex = signed(&new, body.as_bytes());
    app.webhook(&[("signature", &hex)], body).await.problem(503, "no_webhook_secret");
    app.post("/api/webhooks/ep_none/rotate", &json!({})).await.problem(404, "not_found");
}

async fn what_cannot_be_read_is_200_and_kept_with_a_reason(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let deep = format!("{}{}", "[".repeat(450_000), "]".repeat(450_000));
    let deep_object = format!("{}1{}", r#"{"a":"#.repeat(150_000), "}".repeat(150_000));
    let bodies = [
        "not json",
        "{}",
        "[]",
        "[1,2]",
        "null",
        "42",
        "\"text\"",
        "{\"event_type\":",
        &deep,
        &deep_object,
        r#"{"event_type":"avatar_video.success"}"#,
        r#"{"event_type":"avatar_video.success","event_data":null}"#,
        r#"{"event_type":{"a":1},"event_data":[1]}"#,
        r#"{"event_type":"avatar_video.success","event_data":{"video_id":12.5,"url":7}}"#,
    ];
    for body in bodies {
        app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body.to_owned()).await.expect(200);
    }
    app.settle().await;
    let all = app.get("/api/receipts").await.json();
    let all = all["data"].as_array().unwrap();
    assert_eq!(all.len(), bodies.len());
    for receipt in all {
        assert!(receipt["applied_at"].is_string(), "{receipt}");
        assert!(receipt["meaning"].as_str().is_some_and(|m| !m.is_empty()), "a reason: {receipt}");
        let id = receipt["id"].as_str().unwrap();
        app.get(&format!("/api/receipts/{id}")).await.expect(200);
    }
    // Others are not harmed.
    let id = app.submit("video", "healthy").await;
    app.advance_s(30).await;
    assert_eq!(app.job(&id).await["found_by"], "webhook");
}

async fn what_is_refused_is_counted_sampled_and_never_applied(fresh: &Fresh) {
    let (mut app, _, id, upstream) = rendering(fresh).await;
    for nth in 0..130 {
        let body = success(&upstream, &format!("https://evil.example/{nth}"));
        app.webhook(&[("signature", &"0".repeat(64))], body).await.expect(401);
        if nth % 2 == 0 {
            app.advance_s(1).await;
        }
    }
    assert!(
        (app.metric(r#"reelhook_webhook_refused_total{reason="signature_mismatch"}"#).await - 130.0).abs()
            < 0.1
    );
    let kept = app.get("/api/receipts?verdict=refused&limit=200").await.json();
    let kept = kept["data"].as_array().unwrap();
    assert!((50..=70).contains(&kept.len()), "one sample a second: {}", kept.len());
    assert!(
        kept.iter().all(|r| r["meaning"]
            == "refused: the signature was made with another secret or over other bytes"
            && r["applied_at"].is_null())
    );
    assert_eq!(app.state(&id).await, "processing");
    let asked = app
        .sandbox
        .ledger()
        .into_iter()
        .filter(|e| matches!(&e.what, What::Call { path, .. } if path.starts_with("/v3/videos/")));
    assert_eq!(asked.count(), 0);
    app.advance_s(600).await;
}

async fn the_check_of_a_signature_is_shown_step_by_step(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let list = app.get("/api/webhooks").await.json();
    let whose = list["data"][0]["endpoint_id"].as_str().unwrap().to_owned();
    let body = success(&json!("v"), "https://files.heygen.ai/a.mp4");
    let (right, wrong) = (signed(&secret, body.as_bytes()), signed("other", body.as_bytes()));
    let now_s = app.now() / 1_000;
    // The second of them is sent a second later.
    let (fresh_time, stale) = (now_s.to_string(), (now_s + 1 - 301).to_string());
    let by = format!(": the HMAC-SHA256 of the {} bytes of the body under the secret of {whose}", body.len());
    let none = ": 64 hex digits, but made with none of the 1 secret(s) that live now, or over other bytes";
    let cases: [(Headers<'_>, u16, Vec<String>); 5] = [
        (
            &[("signature", "nonsense"), ("x-heygen-signature", &right), ("heygen-timestamp", &fresh_time)],
            200,
            vec![
                "signature: not 64 hex digits".to_owned(),
                format!("x-heygen-signature{by}"),
                "heygen-timestamp: 0 s from when it arrived; 300 are allowed".to_owned(),
                format!("so it is signed, with the secret of {whose}"),
            ],
        ),
        (
            &[("heygen-signature", &right), ("heygen-timestamp", &stale)],
            401,
            vec![
                format!("heygen-signature{by}"),
                "heygen-timestamp: 301 s from when it arrived; 300 are allowed".to_owned(),
                "so it is not signed: heygen-timestamp is no time in seconds, or more than five minutes off"
                    .to_owned(),
            ],
        ),
        (
            &[("signature", &wrong), ("heygen-signature", &wrong)],
            401,
            vec![
                format!("signature{none}"),
                format!("heygen-signature{none}"),
                "so it is not signed: the signature was made with another secret or over other bytes"
                    .to_owned(),
            ],
        ),
        (
            &[("signature", &right), ("heygen-timestamp", "soon")],
            401,
            vec![
                format!("signature{by}"),
                "heygen-timestamp: no number of seconds".to_owned(),
                "so it is not signed: heygen-timestamp is no time in seconds, or more than five minutes off"
                    .to_owned(),
            ],
        ),
        (
            &[],
            401,
            vec![
                "so it is not signed: there is no signature, heygen-signature or x-heygen-signature header"
                    .to_owned(),
            ],
        ),
    ];
    for (nth, (headers, status, steps)) in cases.into_iter().enumerate() {
        // Each its own, or the refused ones would be one receipt.
        let verdict = if status == 200 { "signed" } else { "refused" };
        app.webhook(headers, body.clone()).await.expect(status);
        let list = app.get(&format!("/api/receipts?verdict={verdict}")).await.json();
        let id = list["data"][0]["id"].as_str().unwrap();
        let receipt = app.get(&format!("/api/receipts/{id}")).await.expect(200).json();
        assert_eq!(receipt["signature_check"]["steps"], json!(steps), "{nth}");
        assert_eq!(receipt["signature_check"]["signed_now"], status == 200, "{nth}");
        if status == 401 {
            let last = steps.last().and_then(|step| step.split_once(": ")).unwrap().1;
            assert_eq!(receipt["meaning"], format!("refused: {last}"));
            assert!(receipt["taken_to_mean"].as_str().unwrap().contains("succeeded, with a file"));
            // The next sample is kept a second later; the same bytes would be the same receipt.
            let gone = |tx: &mut reelhook::store::Tx| tx.execute("DELETE FROM inbox", &[]).map(drop);
            app.db().write(gone).await.unwrap();
        }
        app.advance_s(1).await;
    }
}

async fn no_credential_is_kept_with_a_receipt(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let body = success(&json!("v"), "https://files.heygen.ai/a.mp4");
    let hex = signed(&secret, body.as_bytes());
    let headers = [
        ("signature", &*hex),
        ("authorization", "Bearer top-secret-1"),
        ("cookie", "session=top-secret-2"),
        ("x-api-key", "top-secret-3"),
        ("user-agent", "HeyGen/1"),
    ];
    app.webhook(&headers, body).await.expect(200);
    app.settle().await;
    let all = app.get("/api/receipts").await.json();
    let id = all["data"][0]["id"].as_str().unwrap().to_owned();
    let receipt = app.get(&format!("/api/receipts/{id}")).await.expect(200);
    assert!(!receipt.text().contains("top-secret"), "{}", receipt.text());
    assert_eq!(receipt.json()["headers"]["user-agent"], "HeyGen/1");
}

/// They are understood one by one then, each while the one before it is recorded.
async fn one_that_the_store_cannot_give_back_harms_no_other(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    for video in ["one", "two", "three"] {
        let body = success(&json!(video), "https://files.heygen.ai/a.mp4");
        app.webhook(&[("signature", &signed(&secret, body.as_bytes()))], body).await.expect(200);
    }
    let kept = texts(&app.get("/api/receipts").await.json()["data"], "id");
    let [third, second, first] = kept.try_into().expect("three of them");
    let judge = async |app: &TestApp, verdict: &'static str| {
        let id = second.clone();
        let sql = "UPDATE inbox SET verdict = ?2 WHERE id = ?1";
        app.db().write(move |tx| tx.execute(sql, reelhook::params![&id, verdict])).await.unwrap();
    };
    let applied = async |app: &TestApp, id: &str| {
        app.get(&format!("/api/receipts/{id}")).await.expect(200).json()["applied_at"].is_string()
    };
    judge(&app, "nonsense").await;
    app.settle().await;
    assert!(applied(&app, &first).await && applied(&app, &third).await);
    judge(&app, "signed").await;
    assert!(!applied(&app, &second).await);
    app.advance_s(60).await;
    assert!(applied(&app, &second).await);
    let events = texts(&app.get("/api/events").await.json()["data"], "type");
    assert_eq!(events, ["heygen.avatar_video.success"; 3], "each is published once");
}

async fn a_sender_is_believed_through_trusted_proxies_only(fresh: &Fresh) {
    let forwarded = "198.51.100.66, 203.0.113.7, 10.0.0.2";
    let told = async |fresh: &Fresh, flags| {
        let mut app = TestApp::with(fresh, Setup { flags, ..Setup::default() }).await;
        let secret = app.register().await;
        let body = success(&json!(app.now()), "https://files.heygen.ai/a.mp4");
        let hex = signed(&secret, body.as_bytes());
        app.webhook(&[("signature", &hex), ("x-forwarded-for", forwarded)], body).await.expect(200);
        app.settle().await;
        let remote = app.get("/api/receipts").await.json()["data"][0]["remote"].clone();
        app.crash().await;
        remote
    };
    assert_eq!(told(fresh, &[]).await, "127.0.0.1", "anybody can write that header");
    let fresh = if fresh.is_sqlite() { crate::database::sqlite() } else { fresh_postgres().await };
    let trusted = told(&fresh, &[("trusted-proxies", "127.0.0.1,10.0.0.2")]).await;
    assert_eq!(trusted, "203.0.113.7", "the last hop that is no proxy of ours");
    tokio::task::spawn_blocking(move || drop(fresh)).await.unwrap();
}

/// Its client blocks, so it is made and dropped elsewhere.
async fn fresh_postgres() -> Fresh {
    tokio::task::spawn_blocking(crate::database::postgres).await.unwrap()
}

async fn what_one_node_removes_another_stops_believing_within_a_minute(fresh: &Fresh) {
    let mut app = TestApp::new(fresh).await;
    let secret = app.register().await;
    let other = if fresh.is_sqlite() { app.base.clone() } else { app.second_node().await };
    let send = async |nth: usize| {
        let body = success(&json!(format!("n{nth}")), "https://files.heygen.ai/a.mp4");
        let hex = signed(&secret, body.as_bytes());
        crate::client::call("POST", &format!("{other}/webhooks/heygen"), &[("signature", &hex)], body.into())
            .await
    };
    send(1).await.expect(200);
    let list = app.get("/api/webhooks").await.json();
    let endpoint = list["data"][0]["endpoint_id"].as_str().unwrap();
    app.call("DELETE", &format!("/api/webhooks/{endpoint}"), &[], "").await.expect(204);
    app.advance_s(61).await;
    send(2).await.problem(503, "no_webhook_secret");
}
