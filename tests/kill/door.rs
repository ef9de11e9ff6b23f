//! What comes to the door for webhooks: forgeries, poison, shapes nobody has seen, and everything that
//! is under way while the secret changes.

use bytes::Bytes;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reelhook::cli::selftest::client::Client;
use reelhook::clock::Stopwatch;
use reelhook::domain::signature::sign;
use reelhook::heygen::sandbox::{Fault, Tally, Twist, What};
use serde_json::{Value, json};

use crate::ground::{Engine, Ground, PATIENCE, SECRET, event, injections, success};
use crate::oracle;

/// B07: whatever is not signed by a live secret over exactly these bytes is refused and counted, and
/// nothing comes of it; nor by a secret of the same account that is another endpoint's or was removed.
pub async fn forged_events_never_act(engine: Engine) {
    let ground = Ground::new(engine, |options| options.render = 3_600_000..=3_600_000).await;
    let server = ground.serve().await;
    let (others, removed) = (secret_of_another(&ground).await, removed_secret(&ground).await);
    let before = ground.client.metric("reelhook_webhook_refused_total").await;
    let (mut sent, mut acked, mut jobs) = (0, 0, vec![]);
    for nth in 0..injections().div_ceil(10) {
        let (job, upstream) = ground.accepted(&format!("b07-{nth}"), "p").await;
        let body = success(&job, &upstream);
        let right = sign(SECRET, &body);
        let mut changed = right.clone().into_bytes();
        changed[nth % 64] = if changed[nth % 64] == b'0' { b'1' } else { b'0' };
        let changed = String::from_utf8(changed).unwrap();
        let other = sign(SECRET, &success("job_other", &upstream));
        let forged: [(&str, Option<(&'static str, &str)>); 10] = [
            ("/webhooks/heygen", None),
            ("/webhooks/heygen", Some(("signature", ""))),
            ("/webhooks/heygen", Some(("signature", &changed))),
            ("/webhooks/heygen", Some(("signature", &other))),
            ("/webhooks/heygen", Some(("signature", &right[..63]))),
            ("/webhooks/heygen", Some(("x-heygen-signature", &sign("guessed", &body)))),
            ("/webhooks/heygen", Some(("heygen-signature", &sign("", &body)))),
            ("/webhooks/heygen", Some(("signature", &sign(&others, &body)))),
            ("/webhooks/heygen", Some(("signature", &sign(&removed, &body)))),
            (&format!("/webhooks/heygen/{job}.AAAAAAAAAAAAAAAAAAAAAA"), Some(("signature", &changed))),
        ];
        for (path, header) in forged {
            let answer = ground.client.raw("POST", path, header, body.clone()).await.unwrap();
            acked += usize::from(answer.status.is_success());
            sent += 1;
        }
        jobs.push(job);
    }
    all_applied(&ground, &jobs[0]).await;
    let mut acted = 0;
    for job in &jobs {
        let now = ground.client.insist("GET", &format!("/api/jobs/{job}"), None, None).await;
        acted += usize::from(!matches!(now["state"].as_str(), Some("submitting" | "processing")));
    }
    let counted = ground.client.metric("reelhook_webhook_refused_total").await - before;
    let samples = ground.client.insist("GET", "/api/receipts?verdict=refused&limit=200", None, None).await;
    let samples = samples["data"].as_array().unwrap().len();
    let zero = [("acted", acted), ("acked", acked), ("not_counted", sent - counted as usize)];
    ground.report("B07", sent, &zero, &[("sampled", samples as f64)]);
    assert!(samples > 0, "a sample is kept");
    server.kill().await;
}

/// HeyGen's for an endpoint of the same account at another address, which we never hear of.
async fn secret_of_another(ground: &Ground) -> String {
    let url = format!("http://{}/other", ground.application.authority);
    let upstream: http::Uri = ground.setup().upstream.parse().unwrap();
    let heygen = Client::new(upstream.port_u16().unwrap());
    let body = json!({"url": url}).to_string().into();
    let key = Some(("x-api-key", "any"));
    let answer = heygen.raw("POST", "/v3/webhooks/endpoints", key, body).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    answer["data"]["secret"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// The secret of an endpoint of ours that was removed. While it was there, what it signed was accepted.
async fn removed_secret(ground: &Ground) -> String {
    const PATH: &str = "/v3/webhooks/endpoints";
    const SECRET: &str = "whsec_of_one_that_is_removed";
    let (make, remove) = (format!("POST {PATH}"), format!("DELETE {PATH}/ep_removed"));
    // HeyGen tells it to nobody else, so it is made up here.
    let made = json!({"data": {"endpoint_id": "ep_removed", "secret": SECRET}});
    ground.sandbox.twist(&make, Some(Twist::Answer(200, made)));
    ground.sandbox.twist(&remove, Some(Twist::Answer(200, json!({"data": {}}))));
    let (status, answer) = ground.client.call("POST", "/api/webhooks", None, None).await.unwrap();
    assert_eq!(status, 201, "{answer}");
    let (job, upstream) = ground.accepted("b07-removed", "p").await;
    assert_eq!(ground.client.hook(success(&job, &upstream), SECRET).await, 200);
    let (status, answer) =
        ground.client.call("DELETE", "/api/webhooks/ep_removed", None, None).await.unwrap();
    assert_eq!(status, 204, "{answer}");
    SECRET.to_owned()
}

/// B13: bodies made to break a reader, signed. Each is answered; jobs beside them end as ever.
pub async fn poison_harms_nobody(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let server = ground.serve().await;
    server.register(&ground.client).await;
    let poison = poison();
    let (mut unanswered, mut sent) = (0, 0);
    let mut jobs = vec![];
    for nth in 0..injections().div_ceil(poison.len()) {
        for (at, body) in poison.iter().enumerate() {
            // Made different each time, or it would be known already.
            let body = [body.clone(), vec![b' '; nth + 1]].concat();
            // Who sends on after he was refused for length may find the connection cut.
            let is_long = body.len() > 1 << 20;
            let status = ground.client.hook(body, SECRET).await;
            unanswered += usize::from(if is_long { status == 200 } else { status != 200 });
            jobs.push(ground.submit(&format!("b13-{nth}-{at}"), "p").await);
            sent += 1;
        }
    }
    let mut stuck = 0;
    for job in &jobs {
        stuck += usize::from(ground.end_of(job).await["state"] != "completed");
    }
    let not_understood = not_understood(&ground, "signed").await;
    let panics = ground.client.metric("reelhook_task_panics_total").await as usize;
    let zero = [
        ("unanswered", unanswered),
        ("stuck", stuck),
        ("panics", panics),
        ("not_understood", not_understood),
    ];
    ground.report("B13", sent, &zero, &[("jobs_beside", jobs.len() as f64)]);
    server.kill().await;
}

pub fn poison() -> Vec<Vec<u8>> {
    let nested = |open: &str, close: &str, depth: usize| [open.repeat(depth), close.repeat(depth)].concat();
    let wide: String = (0..40_000).map(|n| format!("\"k{n}\":{n},")).collect();
    vec![
        nested("[", "]", 400_000).into_bytes(),
        nested("{\"a\":", "}", 100_000).into_bytes(),
        vec![b'['; 10 << 20],
        b"{\"event_type\":\"avatar_video.success\",\"event_data\":{\"video_id\":\"\xff\xfe\"}}".to_vec(),
        b"\0\0\0\0".to_vec(),
        format!("{{{wide}\"video_id\":\"v\"}}").into_bytes(),
        format!("{{\"event_type\":\"{}\",\"video_id\":\"v\"}}", "x".repeat(900_000)).into_bytes(),
        br#"{"event_type":"avatar_video.success","event_data":{"video_id":"a\u0000b","url":"https://x"}}"#
            .to_vec(),
        br#"{"event_type":1e308,"event_data":{"video_id":1e999}}"#.to_vec(),
        br#"{"event_data":{"video_id":18446744073709551616,"status":[[]]}}"#.to_vec(),
        b"{\"event_type\":\"\\ud800\",\"video_id\":\"v\"}".to_vec(),
        b"".to_vec(),
    ]
}

/// Receipts of which nothing was noted, once those accepted before have had their turn.
async fn not_understood(ground: &Ground, verdict: &str) -> usize {
    let mut cursor = String::new();
    let mut silent = 0;
    loop {
        let path = format!("/api/receipts?limit=200&verdict={verdict}{cursor}");
        let page = ground.client.insist("GET", &path, None, None).await;
        silent += page["data"].as_array().unwrap().iter().filter(|r| r["applied_at"].is_null()).count();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return silent,
        }
    }
}

/// Waits until whatever was accepted has had its turn. `open` is a job that does not end before.
async fn all_applied(ground: &Ground, open: &str) {
    let watch = Stopwatch::start();
    while not_understood(ground, "signed").await + not_understood(ground, "unsigned").await > 0 {
        assert!(watch.elapsed() < PATIENCE, "receipts are not applied");
        ground.client.insist("GET", &format!("/api/jobs/{open}?wait=1"), None, None).await;
    }
}

/// B25, inbound: HeyGen kills the old secret at once, while webhooks are under way.
pub async fn rotation_loses_nothing(engine: Engine) {
    let ground = Ground::new(engine, |options| options.faults = vec![(Fault::Double, 0.2)]).await;
    let server = ground.serve().await;
    server.register(&ground.client).await;
    let endpoints = ground.client.insist("GET", "/api/webhooks", None, None).await;
    let endpoint = endpoints["data"][0]["endpoint_id"].as_str().unwrap().to_owned();
    let (mut jobs, rotations) = (vec![], injections());
    for nth in 0..rotations {
        for job in 0..5 {
            jobs.push(ground.submit(&format!("b25-{nth}-{job}"), "p").await);
        }
        let path = format!("/api/webhooks/{endpoint}/rotate");
        let (status, answer) = ground.client.call("POST", &path, None, None).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    let verdict = oracle::compare(&ground, &jobs).await;
    let refused = ground
        .ledger()
        .into_iter()
        .filter(|entry| matches!(entry.what, What::Webhook { status: Some(401 | 503), .. }));
    let figures = [("jobs", jobs.len() as f64), ("deliveries_put_off", refused.count() as f64)];
    ground.report("B25 inbound", rotations, &oracle::zeros(&verdict), &figures);
    server.kill().await;
}

/// B33: bodies of known events with fields dropped, renamed, retyped and added. Nothing panics, nothing
/// ends but by what is surely an end, and every one can be looked at.
pub async fn drift_is_tolerated(engine: Engine) {
    let ground = Ground::new(engine, |options| options.render = 3_600_000..=3_600_000).await;
    let server = ground.serve().await;
    let mut dice = StdRng::seed_from_u64(ground.seed);
    let (job, upstream) = ground.accepted("b33", "p").await;
    let mutations = injections() * 5;
    let bodies: Vec<Bytes> = (0..mutations).map(|nth| drifted(nth, &job, &upstream, &mut dice)).collect();
    let mut unanswered = 0;
    for some in bodies.chunks(20) {
        let statuses = join_all(some.iter().map(|body| ground.client.hook(body.clone(), SECRET))).await;
        unanswered += statuses.iter().filter(|status| **status != 200).count();
    }
    let kept = oracle::kept(&ground.client).await;
    all_applied(&ground, &job).await;
    let invisible = bodies.iter().filter(|body| !kept.contains(&oracle::digest(body)));
    let now = ground.client.insist("GET", &format!("/api/jobs/{job}"), None, None).await;
    let panics = ground.client.metric("reelhook_task_panics_total").await as usize;
    let zero = [
        ("panics", panics),
        ("unanswered", unanswered),
        ("invisible", invisible.count()),
        // None of them has both a known end and a link to a file.
        ("guesses", usize::from(now["state"] != "processing")),
        ("paid_twice", Tally::of(&ground.ledger()).paid_twice),
    ];
    ground.report("B33", mutations, &zero, &[]);
    server.kill().await;
}

/// A success whose link is gone or whose name nobody knows, with further damage.
fn drifted(nth: usize, job: &str, upstream: &str, dice: &mut StdRng) -> Bytes {
    let strange =
        ["video_agent.rendered", "video_agent.succes", "VIDEO", "agent.done", "", "video_agent.success.v2"];
    let whole: Value = match nth % 2 {
        // A known end without a file.
        0 => serde_json::from_slice(&event("video_agent.success", job, upstream, &json!({"nth": nth})))
            .unwrap(),
        // A file without a known end.
        _ => {
            let name = strange.choose(dice).copied().unwrap_or_default();
            let link = json!({"video_url": "https://files.example/v.mp4", "nth": nth});
            serde_json::from_slice(&event(name, job, upstream, &link)).unwrap()
        }
    };
    let mut whole = whole;
    let data = whole["event_data"].as_object_mut().unwrap();
    for _ in 0..dice.random_range(0..3) {
        let names: Vec<String> = data.keys().filter(|name| *name != "nth").cloned().collect();
        let Some(name) = names.choose(dice) else { break };
        let old = data.remove(name).unwrap_or_default();
        match dice.random_range(0..4) {
            0 => {}
            1 => drop(data.insert(format!("{name}_v2"), old)),
            2 => drop(data.insert(name.clone(), json!([old]))),
            _ => drop(data.insert(name.clone(), json!(dice.random_range(0..9)))),
        }
    }
    whole.to_string().into()
}
