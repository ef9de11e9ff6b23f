//! Receipts applied per second: stored webhooks that each move a job and write an event, through the
//! same runner, flow and store as a server. Prints one JSON line per engine, with how many processors this
//! process had in use meanwhile.
//!
//!     scripts/postgres run --durable -- cargo bench --bench apply
//!
//! `RECEIPTS` says how many (20,000 by default). PostgreSQL is left out, and said to be, without
//! REELHOOK_TEST_POSTGRES.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use reelhook::app::App;
use reelhook::clock::{Clock, Stopwatch};
use reelhook::config::{Config, Given};
use reelhook::domain::ids;
use reelhook::domain::job::{Kind, Priority};
use reelhook::domain::receipt::{Note, Receipt, Verdict};
use reelhook::domain::step::Input;
use reelhook::domain::table::send;
use reelhook::domain::task::{TaskKind, TaskOp};
use reelhook::flow::{self, NewJob, Stamp, Submitted};
use reelhook::store::{Db, inbox, task};
use serde_json::json;

const BATCH: usize = 64;
/// A job's webhook comes up to so many places before or after its turn, as some take longer than others.
const DISORDER: usize = 1_024;

#[tokio::main]
async fn main() {
    let count = variable("RECEIPTS").map_or(20_000, |n| n.parse().expect("RECEIPTS is a number"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("bench.db").display().to_string();
    measure("sqlite", &file, count).await;
    match variable("REELHOOK_TEST_POSTGRES") {
        Some(url) => measure("postgres", &url, count).await,
        None => eprintln!("postgres: left out, REELHOOK_TEST_POSTGRES names no server"),
    }
}

async fn measure(engine: &str, database: &str, count: usize) {
    let mut given = Given::default();
    for (name, value) in
        [("database", database), ("heygen-api-key", "bench"), ("heygen-url", "http://127.0.0.1:9")]
    {
        given.flags.insert(name.to_owned(), value.to_owned());
    }
    let config = Config::resolve(&given).expect("a configuration");
    let clock = Clock::real();
    let app = App::prepare(&config, clock.clone()).await.expect("an app");
    let jobs = submit(&app.db, &clock, count).await;
    store(&app.db, &clock, &jobs).await;
    let (watch, before) = (Stopwatch::start(), processor_s());
    let applied = app.runner.settle().await.expect("applied");
    let seconds = watch.elapsed().as_secs_f64();
    assert!(applied >= count / BATCH, "{applied} tasks for {count} receipts");
    #[allow(clippy::cast_precision_loss)]
    let per_second = (count as f64 / seconds).round();
    let processors = (processor_s() - before) / seconds;
    println!(
        "{}",
        json!({"bench": "apply", "engine": engine, "receipts": count, "per_second": per_second, "processors": processors})
    );
}

/// Jobs that upstream has accepted.
async fn submit(db: &Db, clock: &Clock, count: usize) -> Vec<String> {
    let new = NewJob {
        kind: Kind::Video,
        request: json!({"type": "avatar", "avatar_id": "a", "script": "Hello from the bench."}).to_string(),
        callback_id: Some("bench".to_owned()),
        title: Some("Bench".to_owned()),
        labels: BTreeMap::new(),
        metadata: None,
        priority: Priority::default(),
        hold: false,
        not_before: None,
        deadline_at: clock.now() + 86_400_000,
        retry_of: None,
        notify_url: None,
        notify_secret: None,
        group_row: None,
        first_poll_ms: 3_600_000,
        least_poll_ms: 15_000,
    };
    let mut made = vec![];
    while made.len() < count {
        // Each transaction has its own time, and so have the ids it makes.
        let (new, seeds, now) = (new.clone(), seeds(clock), clock.now());
        let some = db.write(move |tx| {
            seeds
                .iter()
                .map(|random| {
                    let stamp = Stamp::new(now, *random);
                    let Submitted::New { id: job_id, .. } = flow::submit(tx, &new, None, &stamp)? else {
                        unreachable!("no key was given")
                    };
                    flow::change(tx, &job_id, send(), &stamp)?;
                    let accepted =
                        Input::Accepted { upstream_id: format!("vid-{job_id}"), upstream_video_id: None };
                    flow::change(tx, &job_id, accepted, &stamp)?;
                    // Sent already; nothing of it is part of what is measured.
                    task::apply(tx, &job_id, TaskOp::Drop(TaskKind::Submit))?;
                    Ok(job_id)
                })
                .collect::<reelhook::store::Result<Vec<String>>>()
        });
        made.extend(some.await.expect("submitted"));
    }
    made.truncate(count);
    let mut chance = StdRng::seed_from_u64(1);
    made.chunks_mut(DISORDER).for_each(|part| part.shuffle(&mut chance));
    made
}

/// One signed success for each, as HeyGen sends it.
async fn store(db: &Db, clock: &Clock, jobs: &[String]) {
    for chunk in jobs.chunks(BATCH) {
        let now = clock.now();
        let receipts: Vec<Receipt> = chunk
            .iter()
            .map(|job| Receipt {
                id: ids::new(ids::RECEIPT, now, clock.random()),
                received_at: now,
                verdict: Verdict::Signed,
                job_address: None,
                signed_by: Some("ep_bench".to_owned()),
                path: "/webhooks/heygen".to_owned(),
                remote: Some("127.0.0.1".to_owned()),
                headers: json!({"content-type": "application/json", "signature": "0".repeat(64)}).to_string(),
                body: body(job),
                note: Note::default(),
            })
            .collect();
        db.write(move |tx| inbox::accept_many(tx, &receipts)).await.expect("stored");
    }
}

fn body(job: &str) -> Vec<u8> {
    json!({"event_type": "avatar_video.success", "event_data": {
        "video_id": format!("vid-{job}"), "callback_id": job, "folder_id": null,
        "url": format!("https://files.heygen.ai/video/{job}.mp4?{}", "x".repeat(200)),
        "gif_download_url": format!("https://files.heygen.ai/gif/{job}.gif"),
        "video_page_url": format!("https://app.heygen.com/videos/{job}"),
    }})
    .to_string()
    .into_bytes()
}

fn seeds(clock: &Clock) -> Vec<[u8; 16]> {
    (0..BATCH).map(|_| clock.random()).collect()
}

/// Seconds of processor time this process has had, as Linux tells them in hundredths; elsewhere 0.
fn processor_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// How long the run is and where PostgreSQL is are the caller's to say.
#[allow(clippy::disallowed_methods)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}
