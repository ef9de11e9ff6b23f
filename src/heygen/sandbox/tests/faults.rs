//! Every fault at least once.

use super::*;
use crate::heygen::sandbox::{Fault, Stage};

fn tagged(fault: Fault) -> Value {
    avatar(json!({ "title": format!("Launch #{fault}"), "callback_id": fault.word() }))
}

/// The first try of a body with a key, as a caller sees it: a status, or None for no usable answer.
async fn first_try(rig: &Rig, fault: Fault) -> Option<u16> {
    let mut entries = rig.sandbox.listen();
    let call = rig.keyed("/v3/videos", fault.word(), tagged(fault));
    let reached = wait_for(&mut entries, |w| matches!(w, What::Refused { .. } | What::Charged { .. }));
    // A caller that hangs is dropped once the sandbox has decided; others have answered or broken.
    let hangs = matches!(fault, Fault::Hang | Fault::HangBefore | Fault::Stall);
    let slow = fault == Fault::Slow;
    if hangs {
        tokio::select! {
            answer = call => panic!("answered {answer:?}"),
            _ = reached => return None,
        }
    }
    let (answer, ()) = tokio::join!(call, async {
        reached.await;
        if slow {
            // While the first one runs, a second with its key is turned away.
            let second = rig.keyed("/v3/videos", fault.word(), tagged(fault)).await.unwrap();
            assert_eq!(second.status, 409);
            rig.clock.advance(Duration::from_secs(31));
        }
    });
    answer.ok().map(|a| a.status.as_u16())
}

#[tokio::test]
async fn refused_before_accepting_nothing_is_charged_and_a_second_try_is_accepted() {
    for fault in Fault::ALL.iter().copied().filter(|f| f.stage() == Stage::Before) {
        let rig = rig().await;
        let status = first_try(&rig, fault).await;
        let wanted = match fault {
            Fault::Error500 => Some(500),
            Fault::Error503 => Some(503),
            Fault::Error502Html => Some(502),
            Fault::Error200 => Some(200),
            Fault::NoCredit => Some(402),
            Fault::Refuse => Some(400),
            Fault::Rate | Fault::RateBare => Some(429),
            _ => None,
        };
        assert_eq!(status, wanted, "{fault}");
        assert_eq!(rig.sandbox.tally().accepted, 0, "{fault}");
        let second = rig.keyed("/v3/videos", fault.word(), tagged(fault)).await.unwrap();
        assert_eq!(second.status, 200, "{fault}");
        assert_eq!(rig.sandbox.charges()[fault.word()], 1, "{fault}");
    }
}

#[tokio::test]
async fn accepted_with_a_spoiled_answer_the_key_gets_the_stored_one() {
    for fault in Fault::ALL.iter().copied().filter(|f| f.stage() == Stage::Answer) {
        let rig = rig().await;
        let status = first_try(&rig, fault).await;
        let wanted = match fault {
            Fault::Error504After => Some(504),
            Fault::Slow => Some(200),
            _ => None,
        };
        assert_eq!(status, wanted, "{fault}");
        assert_eq!(rig.sandbox.charges()[fault.word()], 1, "{fault}");
        let (status, body) = told(rig.keyed("/v3/videos", fault.word(), tagged(fault)).await);
        assert_eq!(status, 200, "{fault}");
        let id = body["data"]["video_id"].as_str().unwrap();
        assert_eq!(rig.get(&format!("/v3/videos/{id}")).await.0, 200, "{fault}");
        assert_eq!(rig.sandbox.tally().paid_twice, 0, "{fault}");
        // Without the key it is paid twice, and the ledger says so.
        let again = rig.keyed("/v3/videos", "another", tagged(Fault::Fail)).await.unwrap();
        assert_eq!(again.status, 200);
    }
}

#[tokio::test]
async fn a_reset_leaves_not_even_a_status_line() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for fault in [Fault::ResetBefore, Fault::ResetAfter] {
        let rig = rig().await;
        let body = tagged(fault).to_string();
        let mut wire = tokio::net::TcpStream::connect(rig.base.trim_start_matches("http://")).await.unwrap();
        let head =
            format!("POST /v3/videos HTTP/1.1\r\nhost: x\r\nx-api-key: k\r\ncontent-length: {}", body.len());
        wire.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.unwrap();
        let mut read = Vec::new();
        wire.read_to_end(&mut read).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&read), "", "{fault}");
    }
}

#[tokio::test]
async fn a_resend_under_another_key_is_seen_as_paid_twice() {
    let rig = rig().await;
    rig.keyed("/v3/videos", "one", tagged(Fault::ResetAfter)).await.unwrap_err();
    rig.sandbox.script_next(vec![]);
    let plain = avatar(json!({ "callback_id": "reset_after" }));
    rig.keyed("/v3/videos", "two", plain).await.unwrap();
    assert_eq!(rig.sandbox.tally().paid_twice, 1);
}

#[tokio::test]
async fn several_faults_bite_one_after_the_other() {
    let rig = rig().await;
    rig.sandbox.script_next(vec![Fault::Rate, Fault::Error500, Fault::Fail]);
    let body = || avatar(json!({ "callback_id": "c" }));
    assert_eq!(rig.post("/v3/videos", body()).await.0, 429);
    // Another job in between is not concerned.
    rig.video(json!({ "callback_id": "other" })).await;
    assert_eq!(rig.post("/v3/videos", body()).await.0, 500);
    let (status, answer) = rig.post("/v3/videos", body()).await;
    assert_eq!(status, 200);
    rig.pass(5).await;
    let id = answer["data"]["video_id"].as_str().unwrap();
    assert_eq!(rig.get(&format!("/v3/videos/{id}")).await.1["data"]["status"], "failed");
}

#[tokio::test]
async fn chance_follows_the_seed() {
    let outcomes = async |seed| {
        let rig = rig_with(|o| {
            o.seed = seed;
            o.concurrency = 100;
            o.faults = vec![(Fault::Fail, 0.5)];
        })
        .await;
        for _ in 0..20 {
            rig.video(json!({})).await;
        }
        let faults = |entry: Entry| match entry.what {
            What::Accepted { faults, .. } => Some(faults),
            _ => None,
        };
        rig.sandbox.ledger().into_iter().filter_map(faults).collect::<Vec<_>>()
    };
    assert_eq!(outcomes(1).await, outcomes(1).await);
    assert_ne!(outcomes(1).await, outcomes(2).await);
}

#[tokio::test]
async fn runs_that_fail_or_never_end() {
    let rig = rig().await;
    let status = async |id: &str| rig.get(&format!("/v3/videos/{id}")).await.1["data"].clone();
    let failed = rig.video(json!({ "title": "#fail" })).await;
    let broke = rig.video(json!({ "script": "Hello #fail_credit" })).await;
    let stuck = rig.video(json!({ "title": "#stuck" })).await;
    rig.pass(24 * 3_600).await;
    assert_eq!(status(&failed).await["failure_code"], "rendering_failed");
    assert_eq!(status(&broke).await["failure_code"], "MOVIO_PAYMENT_INSUFFICIENT_CREDIT");
    assert_eq!(status(&stuck).await["status"], "processing");
    assert_eq!(rig.get("/sandbox/state").await.1["data"]["unfinished"], 1);
}

/// One job with this fault, told to one endpoint: seconds after the start, and what came.
async fn webhooks_of(fault: Fault) -> (Rig, String, Vec<(i64, Got)>) {
    webhooks_of_all(vec![fault]).await
}

async fn webhooks_of_all(faults: Vec<Fault>) -> (Rig, String, Vec<(i64, Got)>) {
    let rig = rig().await;
    let (receiver, at) = Receiver::start().await;
    let (_, secret) = rig.register(&format!("{at}/hook"), Value::Null).await;
    rig.sandbox.script_next(faults);
    rig.video(json!({ "callback_id": "c" })).await;
    let mut got = Vec::new();
    while let Some(due) = rig.sandbox.next_due() {
        rig.clock.advance(Duration::from_millis(u64::try_from(due - rig.clock.now()).unwrap()));
        rig.sandbox.settle().await;
        let second = (rig.clock.now() - START) / 1_000;
        got.extend(receiver.take().into_iter().map(|one| (second, one)));
    }
    (rig, secret, got)
}

#[tokio::test]
async fn deliveries_lost_late_doubled_reordered() {
    let times =
        async |fault| webhooks_of(fault).await.2.iter().map(|(s, g)| (*s, g.event())).collect::<Vec<_>>();
    let success = || "avatar_video.success".to_owned();
    assert_eq!(times(Fault::Lost).await, []);
    assert_eq!(times(Fault::Late).await, [(605, success())]);
    assert_eq!(times(Fault::Double).await, [(5, success()), (5, success()), (35, success())]);
    let caption = || "avatar_video_caption.success".to_owned();
    assert_eq!(times(Fault::Captions).await, [(5, success()), (17, caption())]);
    let gif = "avatar_video_gif.success".to_owned();
    assert_eq!(times(Fault::Reorder).await, [(5, caption()), (5, gif), (35, success())]);
    let (rig, ..) = webhooks_of(Fault::Lost).await;
    assert_eq!(rig.get("/v3/webhooks/events").await.1["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_forgery_comes_before_the_truth() {
    let (rig, secret, got) = webhooks_of(Fault::Forged).await;
    let (early, forged) = &got[0];
    assert_eq!((*early, forged.event().as_str()), (2, "avatar_video.fail"));
    assert!(forged.header("signature").is_some());
    assert!(!forged.is_signed("signature", &secret));
    assert!(got[1].1.is_signed("signature", &secret));
    assert_eq!(got[1].1.event(), "avatar_video.success");
    let (_, log) = rig.get("/v3/webhooks/events").await;
    assert_eq!(log["data"].as_array().unwrap().len(), 1);
    assert_eq!(rig.sandbox.tally().webhooks_ok, 1);
}

#[tokio::test]
async fn signatures_missing_or_in_other_headers() {
    let (_, _, got) = webhooks_of(Fault::Unsigned).await;
    assert!(got[0].1.headers.keys().all(|name| !name.as_str().contains("signature")));
    let (_, secret, got) = webhooks_of(Fault::WrongHeader).await;
    assert!(got[0].1.is_signed("x-heygen-signature", &secret));
    assert_eq!(got[0].1.header("signature"), None);
    let (_, secret, got) = webhooks_of(Fault::HeygenHeader).await;
    assert!(got[0].1.is_signed("heygen-signature", &secret));
    assert_eq!(got[0].1.header("heygen-timestamp").unwrap(), (START / 1_000 + 5).to_string());
    assert!(got[0].1.header("heygen-event-id").unwrap().starts_with("evt_"));
}

#[tokio::test]
async fn links_missing_or_dead_in_the_event_live_in_the_status() {
    for (fault, status) in [(Fault::NoLink, None), (Fault::DeadLink, Some(403))] {
        let (rig, _, got) = webhooks_of(fault).await;
        let data = got[0].1.json()["event_data"].clone();
        let answer = match data["url"].as_str() {
            Some(url) => Some(rig.call(Method::GET, url, &[], "").await.unwrap().status.as_u16()),
            None => None,
        };
        assert_eq!(answer, status, "{fault}");
        let (_, body) = rig.get(&format!("/v3/videos/{}", data["video_id"].as_str().unwrap())).await;
        let url = body["data"]["video_url"].as_str().unwrap();
        assert_eq!(rig.call(Method::GET, url, &[], "").await.unwrap().status, 200, "{fault}");
    }
}

#[tokio::test]
async fn each_dialect_says_the_same_in_its_own_words() {
    let said = async |fault| webhooks_of(fault).await.2[0].1.json();
    assert_eq!(said(Fault::DialectEmpty).await, json!({}));
    let flat = said(Fault::DialectFlat).await;
    assert_eq!((&flat["event_type"], &flat["callback_id"]), (&json!("avatar_video.success"), &json!("c")));
    let status = said(Fault::DialectStatus).await;
    assert_eq!((&status["status"], status.get("event_type")), (&json!("completed"), None));
    assert!(status["video_url"].is_string());
    let completed = said(Fault::DialectCompleted).await;
    assert_eq!(
        (&completed["event_type"], &completed["event_data"]["status"]),
        (&json!("video.completed"), &json!("completed"))
    );
    let data = said(Fault::DialectData).await;
    assert_eq!(data["type"], "avatar_video.success");
    assert!(data["data"]["id"].is_string() && data["data"]["video_url"].is_string());
    let event = said(Fault::DialectEvent).await;
    assert_eq!(event["event"], "avatar_video.success");
    let envelope = said(Fault::DialectEnvelope).await;
    assert!(envelope["event_id"].is_string() && envelope["created_at"].is_string());
    let skill = said(Fault::DialectSkill).await;
    assert!(skill["event_data"]["video_url"].is_string() && skill["event_data"]["duration"].is_number());
    let top = said(Fault::DialectTop).await;
    assert_eq!((&top["callback_id"], top["event_data"].get("callback_id")), (&json!("c"), None));
    let log = said(Fault::DialectLog).await;
    assert_eq!((&log["code"], &log["data"]["status"]), (&json!(100), &json!("completed")));
    let string = said(Fault::DialectString).await;
    let inner: Value = serde_json::from_str(string["event_data"].as_str().unwrap()).unwrap();
    assert_eq!(inner["callback_id"], "c");
    assert_eq!(said(Fault::DialectUnknown).await["event_type"], "avatar_video.rendered");
    let failed = webhooks_of_all(vec![Fault::DialectV3Fail, Fault::FailCredit]).await;
    let failed = failed.2[0].1.json();
    assert_eq!(failed["event_data"]["failure_code"], "MOVIO_PAYMENT_INSUFFICIENT_CREDIT");
}

#[tokio::test]
async fn status_and_files_that_fail_for_a_while() {
    let rig = rig().await;
    let id = rig.video(json!({ "title": "#get_500 #file_cut #file_soon" })).await;
    rig.pass(5).await;
    let path = format!("/v3/videos/{id}");
    let bulk = format!("/v3/videos/statuses?video_ids={id}");
    assert_eq!((rig.get(&path).await.0, rig.get(&bulk).await.0, rig.get(&path).await.0), (500, 500, 500));
    let (status, body) = rig.get(&path).await;
    assert_eq!(status, 200);
    let url = body["data"]["video_url"].as_str().unwrap();
    assert_eq!(rig.call(Method::GET, url, &[], "").await.unwrap().status, 404);
    rig.pass(8).await;
    rig.call(Method::GET, url, &[], "").await.unwrap_err();
    assert_eq!(rig.call(Method::GET, url, &[], "").await.unwrap().status, 200);
}
