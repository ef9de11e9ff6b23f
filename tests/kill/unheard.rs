//! Webhooks that never come: all that are sent within a window, and those of an endpoint that HeyGen
//! disabled. Then what it costs HeyGen to be asked for many jobs of which nothing is told.

use reelhook::heygen::sandbox::{Entry, Fault, Tally, What};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::ground::{Engine, Ground, injections, is_long};
use crate::outcomes::{LATE_POLLS, OPEN_JOBS, ends, known_upstream, percentile, submit_many};

/// B08: between two moments every webhook is lost for good; those before and after it come.
pub async fn a_window_is_healed(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let server = ground.serve().await;
    server.register(&ground.client).await;
    let mut jobs = vec![];
    for window in 0..injections().div_ceil(50) {
        let third = |part: usize| format!("b08-{window}-{part}");
        jobs.extend(submit_many(&ground, &third(0), OPEN_JOBS / 4, "p").await);
        let mut news = ground.sandbox.listen();
        ground.sandbox.set_silent(true);
        jobs.extend(submit_many(&ground, &third(1), OPEN_JOBS / 2, "p").await);
        seen(&mut news, OPEN_JOBS / 2, is_lost).await;
        ground.sandbox.set_silent(false);
        jobs.extend(submit_many(&ground, &third(2), OPEN_JOBS / 4, "p").await);
    }
    let (stuck, lags) = ends(&ground, &jobs).await;
    let ledger = ground.ledger();
    let lost = ledger.iter().filter(|entry| is_lost(entry)).count();
    let zero = [
        ("stuck", stuck),
        ("dup_effects", dup_effects(&ground, &jobs).await),
        ("paid_twice", Tally::of(&ledger).paid_twice),
        ("later_than_60_s", lags.iter().filter(|lag| **lag > 60.0).count()),
    ];
    let figures = [
        ("jobs", jobs.len() as f64),
        ("finish_lag_p50_s", percentile(&lags, 50)),
        ("finish_lag_p99_s", percentile(&lags, 99)),
    ];
    ground.report("B08 window", lost, &zero, &figures);
    server.kill().await;
}

fn is_lost(entry: &Entry) -> bool {
    matches!(&entry.what, What::Webhook { status: None, fault: Some(why), .. } if why == "lost on the way")
}

/// Waits until the sandbox wrote down so many such entries.
async fn seen(news: &mut Receiver<Entry>, count: usize, wanted: impl Fn(&Entry) -> bool) {
    let mut seen = 0;
    while seen < count {
        match news.recv().await {
            Ok(entry) => seen += usize::from(wanted(&entry)),
            Err(RecvError::Lagged(_)) => panic!("the sandbox wrote faster than it was read"),
            Err(RecvError::Closed) => panic!("the sandbox ended"),
        }
    }
}

/// B08: HeyGen has disabled our endpoint. Polls find what it would have told; where no poll is due, the
/// event log does, on the next start; `doctor` tells, and what it advises brings the webhooks back.
pub async fn a_disabled_endpoint_is_healed(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let server = ground.serve().await;
    server.register(&ground.client).await;
    let endpoint = endpoint(&ground).await;
    assert!(ground.sandbox.disable_endpoint(&endpoint));
    let polled = submit_many(&ground, "b08-polled", OPEN_JOBS / 2, "p").await;
    let (stuck_polled, lags) = ends(&ground, &polled).await;
    let doctor_silent = usize::from(!doctor_tells(&ground).await);
    server.terminate().await;
    let server = ground.serve_with(&LATE_POLLS).await;
    let mut news = ground.sandbox.listen();
    let logged = submit_many(&ground, "b08-logged", OPEN_JOBS / 2, "p").await;
    seen(&mut news, logged.len(), |entry| matches!(entry.what, What::Ended { .. })).await;
    for job in &logged {
        known_upstream(&ground, job).await;
    }
    server.terminate().await;
    let server = ground.serve_with(&LATE_POLLS).await;
    let (stuck_logged, _) = ends(&ground, &logged).await;
    let not_by_log = not_found_by(&ground, &logged, "event_log").await;
    // As doctor says: removed, and registered again.
    let (status, _) =
        ground.client.call("DELETE", &format!("/api/webhooks/{endpoint}"), None, None).await.unwrap();
    assert_eq!(status, 204);
    server.register(&ground.client).await;
    let told = submit_many(&ground, "b08-told", OPEN_JOBS / 10, "p").await;
    let (stuck_told, _) = ends(&ground, &told).await;
    let not_told = not_found_by(&ground, &told, "webhook").await;
    let jobs = [polled, logged, told].concat();
    let zero = [
        ("stuck", stuck_polled + stuck_logged + stuck_told),
        ("dup_effects", dup_effects(&ground, &jobs).await),
        ("paid_twice", Tally::of(&ground.ledger()).paid_twice),
        ("not_found_by_event_log", not_by_log),
        ("doctor_silent", doctor_silent),
        ("not_told_after_registering_again", not_told),
    ];
    let figures = [("finish_lag_p99_s", percentile(&lags, 99))];
    ground.report("B08 disabled", jobs.len(), &zero, &figures);
    server.kill().await;
}

async fn endpoint(ground: &Ground) -> String {
    let all = ground.client.insist("GET", "/api/webhooks", None, None).await;
    all["data"][0]["endpoint_id"].as_str().unwrap().to_owned()
}

async fn doctor_tells(ground: &Ground) -> bool {
    let told = ground.client.insist("GET", "/api/doctor", None, None).await;
    let says = |text: &Value| text.as_str().is_some_and(|text| text.contains("is disabled at HeyGen"));
    told["checks"].as_array().unwrap().iter().any(|check| check["status"] != "ok" && says(&check["detail"]))
}

async fn not_found_by(ground: &Ground, jobs: &[String], by: &str) -> usize {
    let mut otherwise = 0;
    for job in jobs {
        let now = ground.client.insist("GET", &format!("/api/jobs/{job}"), None, None).await;
        otherwise += usize::from(now["found_by"] != by);
    }
    otherwise
}

async fn dup_effects(ground: &Ground, jobs: &[String]) -> usize {
    let mut too_many = 0;
    for job in jobs {
        too_many += ground.ends_told(job).await.saturating_sub(1);
    }
    too_many
}

/// B08: no webhook comes of a hundred videos, which HeyGen tells of together. What that costs: calls for
/// each open job in each interval, and for each that ended.
pub async fn asking_for_many_is_cheap(engine: Engine) {
    let (pause_s, open_s) = if is_long() { (15, 75) } else { (3, 10) };
    let ground = Ground::new(engine, |options| {
        options.faults = vec![(Fault::Lost, 1.0)];
        options.render = open_s * 1_000..=open_s * 1_000;
    })
    .await;
    let server = ground.serve_with(&[("REELHOOK_POLL_PAUSE", &pause_s.to_string())]).await;
    server.register(&ground.client).await;
    let mut jobs = vec![];
    for nth in 0..OPEN_JOBS {
        let request = json!({"type": "avatar", "avatar_id": "a", "script": "s"});
        let body = json!({"kind": "video", "request": request});
        let job = ground.client.insist("POST", "/api/jobs", Some(&format!("b08-{nth}")), Some(&body)).await;
        jobs.push(job["id"].as_str().unwrap().to_owned());
    }
    let (stuck, lags) = ends(&ground, &jobs).await;
    let ledger = ground.ledger();
    let (calls, asked, singly) = asks(&ledger);
    // On a slow machine the first may end before the last is sent; fewer are asked for together then.
    let last_made = ledger.iter().rposition(|entry| matches!(entry.what, What::Accepted { .. }));
    let later = &ledger[last_made.unwrap()..];
    let first_end = later.iter().position(|entry| asks(std::slice::from_ref(entry)).2 > 0);
    let (calls_for_all, asked_of_all, _) = asks(&later[..first_end.unwrap()]);
    // A job that ended costs one call of its own; more of them are asks like the others.
    let more = singly.saturating_sub(jobs.len());
    let figures = [
        ("open_jobs", jobs.len() as f64),
        ("asked_for_in_all", (asked + more) as f64),
        ("calls_for_many", calls as f64),
        ("calls_per_open_job_per_interval_goal_0.02", (calls + more) as f64 / (asked + more) as f64),
        ("calls_per_finish_goal_1", singly.min(jobs.len()) as f64 / jobs.len() as f64),
        ("finish_lag_p99_s", percentile(&lags, 99)),
    ];
    let zero = [
        ("stuck", stuck),
        // They are asked for a hundred at a time, so two calls may ask for as many as are open.
        ("calls_too_many", calls_for_all.saturating_sub(asked_of_all.div_ceil(OPEN_JOBS / 2))),
        ("not_asked_together", usize::from(asked < jobs.len())),
    ];
    ground.report("B08 together", jobs.len(), &zero, &figures);
    server.kill().await;
}

/// Calls that asked for many videos, for how many in all, and calls for one.
fn asks(ledger: &[Entry]) -> (usize, usize, usize) {
    let (mut calls, mut asked, mut singly) = (0, 0, 0);
    for entry in ledger {
        match &entry.what {
            What::Call { method, path, query, .. } if method == "GET" && path == "/v3/videos/statuses" => {
                calls += 1;
                asked += query.as_ref().map_or(0, |ids| ids.split(',').count());
            }
            What::Call { method, path, .. } if method == "GET" && path.starts_with("/v3/videos/") => {
                singly += 1
            }
            _ => {}
        }
    }
    (calls, asked, singly)
}
