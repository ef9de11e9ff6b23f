//! What becomes of outcomes: told often, told in any order, not told, told while nobody listened, or
//! drowned in upstream's own trouble.

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reelhook::clock::{Clock, Stopwatch};
use reelhook::domain::limit::LOOK_WHILE_DOWN;
use reelhook::domain::time::parse_rfc3339;
use reelhook::heygen::sandbox::{Entry, Fault, Stage, Tally, What};
use serde_json::{Value, json};

use crate::ground::{Engine, Ground, SECRET, event, has_ended, injections, is_long, success};

/// Jobs under way at once where many are looked at together.
pub const OPEN_JOBS: usize = 100;

/// How often upstream is looked at while it is down, before it is back.
const LOOKS: usize = 3;

/// B05: each webhook 1 to 50 times at once, over all nodes, and once more after a restart. What was
/// stored once is known for good, so that a day makes no difference to it.
pub async fn each_acted_on_once(engine: Engine) {
    // Long enough that only the webhook can be what ended it.
    let ground = Ground::new(engine, |options| options.render = 3_600_000..=3_600_000).await;
    let server = ground.serve().await;
    let second = ground.second().await;
    let nodes: Vec<_> = match &second.0 {
        Ok(_) => vec![ground.client.clone(), second.1.clone()],
        Err(_) => vec![ground.client.clone()],
    };
    let mut dice = StdRng::seed_from_u64(ground.seed);
    let (mut told, mut copies, mut dup_effects, mut rows) = (vec![], 0, 0, 0);
    for nth in 0..injections() {
        let (job, upstream) = ground.accepted(&format!("b05-{nth}"), "p").await;
        let body = success(&job, &upstream);
        let times = dice.random_range(1..=50);
        let all = (0..times).map(|copy| nodes[copy % nodes.len()].hook(body.clone(), SECRET));
        let acked = join_all(all).await;
        assert!(acked.iter().all(|status| *status == 200), "{acked:?}");
        assert_eq!(ground.end_of(&job).await["state"], "completed");
        copies += times;
        told.push((job, body));
    }
    server.kill().await;
    let server = ground.serve().await;
    for (job, body) in &told {
        assert_eq!(ground.client.hook(body.clone(), SECRET).await, 200);
        dup_effects += ground.ends_told(job).await - 1;
        let path = format!("/api/jobs/{job}/receipts?limit=200");
        let receipts = ground.client.insist("GET", &path, None, None).await;
        rows += receipts["data"].as_array().unwrap().len() - 1;
    }
    server.kill().await;
    drop(second);
    let figures = [("copies", copies as f64), ("nodes", nodes.len() as f64)];
    ground.report("B05", told.len(), &[("dup_effects", dup_effects), ("extra_rows", rows)], &figures);
}

/// B06: every order of five events, while polls run; the end is upstream's.
pub async fn order_does_not_matter(engine: Engine) {
    let ground = Ground::new(engine, |options| options.render = 500..=3_000).await;
    let server = ground.serve().await;
    let orders = permutations(5);
    let outcomes =
        join_all(orders.iter().enumerate().map(|(nth, order)| one_order(&ground, nth, order))).await;
    let count = |is: fn(&(bool, usize)) -> bool| outcomes.iter().filter(|o| is(o)).count();
    let zero = [("wrong_final", count(|o| !o.0)), ("dup_effects", count(|o| o.1 != 1))];
    ground.report("B06", orders.len(), &zero, &[]);
    server.kill().await;
}

/// Whether the job ended as upstream says, and how many ends were told.
async fn one_order(ground: &Ground, nth: usize, order: &[usize]) -> (bool, usize) {
    let fails = nth % 2 == 1;
    let (job, upstream) =
        ground.accepted(&format!("b06-{nth}"), if fails { "p #fail #lost" } else { "p #lost" }).await;
    // Of a job that fails nobody who can sign says that it succeeded.
    let first = if fails { "video_agent.fail" } else { "video_agent.success" };
    let link =
        if fails { json!({"error": "e"}) } else { json!({"video_url": "https://files.example/v.mp4"}) };
    let bodies = [
        event(first, &job, &upstream, &link),
        event("video_agent.fail", &job, &upstream, &json!({"error": "no"})),
        event(
            "avatar_video_caption.success",
            &job,
            &upstream,
            &json!({"caption_url": "https://files.example/c.srt"}),
        ),
        event("batch.finished", &job, &upstream, &json!({"batch_id": "b1", "status": "completed"})),
        event("video_agent.progress", &job, &upstream, &json!({"status": "processing", "progress": 50})),
    ];
    for at in order {
        assert_eq!(ground.client.hook(bodies[*at].clone(), SECRET).await, 200);
    }
    let ended = ground.end_of(&job).await;
    let right = ended["state"] == if fails { "failed" } else { "completed" };
    (right, ground.ends_told(&job).await)
}

fn permutations(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![vec![]];
    }
    let shorter = permutations(of - 1);
    let longer = shorter.iter().flat_map(|order| {
        (0..of).map(|at| {
            let mut order = order.clone();
            order.insert(at, of - 1);
            order
        })
    });
    longer.collect()
}

/// B08: 1, 10 and 100 % of the webhooks never come; polls find what they would have told.
pub async fn missing_webhooks_are_healed(engine: Engine) {
    for share in [0.01, 0.1, 1.0] {
        let ground = Ground::new(engine, |options| options.faults = vec![(Fault::Lost, share)]).await;
        let server = ground.serve().await;
        server.register(&ground.client).await;
        let jobs = submit_many(&ground, "many", OPEN_JOBS, "p").await;
        let (stuck, lags) = ends(&ground, &jobs).await;
        let figures = [
            ("lost_share", share),
            ("finish_lag_p50_s", percentile(&lags, 50)),
            ("finish_lag_p99_s", percentile(&lags, 99)),
            ("upstream_calls_per_job", reads(&ground) as f64 / jobs.len() as f64),
        ];
        ground.report("B08", jobs.len(), &[("stuck", stuck)], &figures);
        assert!(percentile(&lags, 99) <= 60.0, "found within the poll budget: {lags:?}");
        server.kill().await;
    }
}

/// B09: all jobs end while we are down, no webhook of it comes again, and no poll is due for an hour: only
/// HeyGen's event log is left.
pub async fn a_gap_is_healed(engine: Engine) {
    let ground = Ground::new(engine, |options| {
        options.faults = vec![(Fault::Lost, 1.0)];
        options.render = 2_000..=4_000;
    })
    .await;
    let mut news = ground.sandbox.listen();
    let server = ground.serve_with(&LATE_POLLS).await;
    let jobs = submit_many(&ground, "many", OPEN_JOBS, "p").await;
    let known = join_all(jobs.iter().map(|job| known_upstream(&ground, job))).await;
    // In order: after hours nobody's lease is left.
    server.terminate().await;
    let mut ended = 0;
    while ended < known.len() {
        match news.recv().await {
            Ok(entry) => ended += usize::from(matches!(entry.what, What::Ended { .. })),
            Err(_) => break,
        }
    }
    let before = reads(&ground);
    let watch = Stopwatch::start();
    let server = ground.serve_with(&LATE_POLLS).await;
    let (stuck, _) = ends(&ground, &jobs).await;
    let took = watch.elapsed().as_secs_f64();
    let figures = [
        ("found_within_s", took),
        ("upstream_calls_per_job", (reads(&ground) - before) as f64 / jobs.len() as f64),
    ];
    let (mut dup_effects, mut found_otherwise) = (0, 0);
    for job in &jobs {
        let job_now = ground.client.insist("GET", &format!("/api/jobs/{job}"), None, None).await;
        found_otherwise += usize::from(job_now["found_by"] != "event_log");
        dup_effects += ground.ends_told(job).await.saturating_sub(1);
    }
    let zero = [("stuck", stuck), ("not_found_by_event_log", found_otherwise), ("dup_effects", dup_effects)];
    ground.report("B09", jobs.len(), &zero, &figures);
    assert!(took <= 60.0, "found in time: {took} s");
    server.kill().await;
}

/// Polls that heal nothing as long as a row lasts.
pub const LATE_POLLS: [(&str, &str); 1] = [("REELHOOK_FIRST_POLL", "3600")];

/// What keeps a caller waiting: for two minutes, or for 31 s.
const HANGS: [Fault; 4] = [Fault::HangBefore, Fault::Hang, Fault::Stall, Fault::Slow];

/// B10: every trouble of the create call, for half of the jobs and for all of them, in the long form with calls
/// that hang beside them; then an upstream that is down for everybody: it is looked at now and then, and all jobs end soon after
/// it is back.
pub async fn upstream_trouble_is_ridden_out(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let server = ground.serve().await;
    server.register(&ground.client).await;
    let troubles: Vec<Fault> = Fault::ALL.iter().copied().filter(|fault| is_ridden_out(*fault)).collect();
    let each = injections().div_ceil(troubles.len()).max(2);
    let (mut jobs, watch) = (vec![], Stopwatch::start());
    // Twice each, so that two slots are left.
    let hangs: Vec<Fault> = if is_long() { [HANGS, HANGS].concat() } else { vec![] };
    let mut hung = vec![];
    for (nth, fault) in hangs.iter().enumerate() {
        hung.push(ground.submit(&format!("b10-{fault}-{nth}"), &format!("p #{fault}")).await);
    }
    for (nth, share) in [(0, 2), (1, 1)] {
        for fault in &troubles {
            for job in 0..each * share {
                let words = if job % share == 0 { format!("p #{fault}") } else { "p".to_owned() };
                jobs.push(ground.submit(&format!("b10-{nth}-{fault}-{job}"), &words).await);
            }
        }
    }
    // They end first, or the recovery would be theirs, too.
    let (stuck, _) = ends(&ground, &jobs).await;
    let (stuck_hung, _) = ends(&ground, &hung).await;
    jobs.extend(hung);
    let troubled = watch.elapsed().as_secs_f64();
    ground.sandbox.set_offline(true);
    let mut news = ground.sandbox.listen();
    let down = submit_many(&ground, "down", 20, "p").await;
    while ground.client.insist("GET", "/api/upstream", None, None).await["waiting"]["reason"] != "heygen_down"
    {
        let _ = news.recv().await;
    }
    // What was under way when it became known is over by then.
    let settled = Clock::real().now() + LOOK_WHILE_DOWN / 2;
    let mut seen = 0;
    while seen < LOOKS {
        let is_look = |entry: Entry| is_unavailable(&entry) && entry.at > settled;
        seen += usize::from(news.recv().await.is_ok_and(is_look));
    }
    let refused: Vec<i64> = ground.ledger().iter().filter(|e| is_unavailable(e)).map(|e| e.at).collect();
    let looks: Vec<i64> = refused.iter().copied().filter(|at| *at > settled).collect();
    let too_often = looks.windows(2).filter(|two| two[1] - two[0] < LOOK_WHILE_DOWN).count();
    ground.sandbox.set_offline(false);
    let back = Stopwatch::start();
    let (stuck_down, _) = ends(&ground, &down).await;
    let recovery = back.elapsed().as_secs_f64();
    let tally = Tally::of(&ground.ledger());
    let lost = jobs.iter().chain(&down).filter(|job| !tally.charges.contains_key(*job)).count();
    let zero = [
        ("stuck", stuck + stuck_hung + stuck_down),
        ("lost_jobs", lost),
        ("paid_twice", tally.paid_twice),
        ("calls_within_10_s_while_down", too_often),
        ("not_recovered_within_60_s", usize::from(recovery > 60.0)),
    ];
    let figures = [
        ("calls_before_looks", (refused.len() - looks.len()) as f64),
        ("looks_while_down", looks.len() as f64),
        ("recovery_s", recovery),
        ("troubles", troubles.len() as f64),
        ("calls_that_hung", hangs.len() as f64),
        ("troubles_took_s", troubled),
    ];
    ground.report("B10", jobs.len() + down.len(), &zero, &figures);
    server.kill().await;
}

/// A call that met an upstream that is down.
fn is_unavailable(entry: &Entry) -> bool {
    matches!(entry.what, What::Call { status: 503, .. })
}

/// Those that say nothing for good of the job, and do not hang.
fn is_ridden_out(fault: Fault) -> bool {
    let for_good = [Fault::Refuse, Fault::NoCredit];
    matches!(fault.stage(), Stage::Before | Stage::Answer)
        && !HANGS.contains(&fault)
        && !for_good.contains(&fault)
}

pub async fn submit_many(ground: &Ground, name: &str, count: usize, words: &str) -> Vec<String> {
    let mut jobs = vec![];
    for nth in 0..count {
        jobs.push(ground.submit(&format!("{name}-{nth}"), words).await);
    }
    jobs
}

/// Waits until HeyGen's id of the job is on our disk.
pub async fn known_upstream(ground: &Ground, id: &str) -> String {
    loop {
        let job = ground.client.insist("GET", &format!("/api/jobs/{id}?wait=1"), None, None).await;
        if let Some(upstream) = job["upstream_id"].as_str() {
            return upstream.to_owned();
        }
    }
}

/// How many jobs did not end, and how long after upstream's end each of the others was known, in
/// seconds.
pub async fn ends(ground: &Ground, jobs: &[String]) -> (usize, Vec<f64>) {
    let ended: Vec<Value> = join_all(jobs.iter().map(|job| ground.end_of(job))).await;
    let mut done = std::collections::HashMap::new();
    for entry in ground.ledger() {
        if let What::Ended { callback_id: Some(id), done_at, .. } = entry.what {
            done.insert(id, done_at);
        }
    }
    let lag = |job: &Value| {
        let at = parse_rfc3339(job["finished_at"].as_str()?)?;
        Some((at - done.get(job["id"].as_str()?)?) as f64 / 1_000.0)
    };
    let mut lags: Vec<f64> = ended.iter().filter_map(lag).collect();
    lags.sort_by(f64::total_cmp);
    (ended.iter().filter(|job| !has_ended(job)).count(), lags)
}

pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// How often HeyGen was asked anything that is free.
fn reads(ground: &Ground) -> usize {
    let calls = ground.ledger().into_iter().filter(|entry| match &entry.what {
        What::Call { method, path, .. } => method == "GET" && path.starts_with("/v3/"),
        _ => false,
    });
    calls.count()
}
