//! How long the store is held while a group of the largest size is made, and how long counting its jobs
//! takes. Prints one JSON line per engine, the median of five.
//!
//!     scripts/postgres run --durable -- cargo bench --bench groups
//!
//! PostgreSQL is left out, and said to be, without REELHOOK_TEST_POSTGRES.

use reelhook::clock::{Clock, Stopwatch};
use reelhook::config::Address;
use reelhook::domain::group::MAX_JOBS;
use reelhook::domain::job::{Kind, Priority};
use reelhook::flow::{self, NewGroup, NewJob, Stamp, Submitted};
use reelhook::store::{Db, group};
use serde_json::json;

const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    measure("sqlite", Address::Sqlite(dir.path().join("bench.db"))).await;
    #[allow(clippy::disallowed_methods)]
    match std::env::var("REELHOOK_TEST_POSTGRES") {
        Ok(url) => measure("postgres", Address::Postgres(url)).await,
        Err(_) => eprintln!("postgres: left out, REELHOOK_TEST_POSTGRES names no server"),
    }
}

async fn measure(engine: &str, address: Address) {
    let clock = Clock::real();
    let now = clock.now();
    let opened = tokio::task::spawn_blocking(move || Db::open(&address, now)).await.expect("no panic");
    let db = opened.expect("the store opens");
    let (mut made, mut counted) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let (new, stamp) = (new_group(clock.now()), Stamp::new(clock.now(), clock.random()));
        let watch = Stopwatch::start();
        let done = db.write(move |tx| flow::submit_group(tx, &new, None, &stamp)).await;
        made.push(watch.elapsed().as_millis());
        let Submitted::New { id, .. } = done.expect("a group") else { panic!("no key was given") };
        let watch = Stopwatch::start();
        db.read(move |tx| group::count_states(tx, &[&id])).await.expect("counts");
        counted.push(watch.elapsed().as_micros());
    }
    made.sort_unstable();
    counted.sort_unstable();
    let (made, counted) = (made[ROUNDS / 2], counted[ROUNDS / 2]);
    let line = json!({"bench": "groups", "engine": engine, "jobs": MAX_JOBS, "made_ms": made, "counted_us": counted});
    println!("{line}");
}

fn new_group(now: i64) -> NewGroup {
    let script = "Hello, this is a script of about four hundred characters. ".repeat(7);
    let job = |row| NewJob {
        kind: Kind::Video,
        request: json!({"type": "avatar", "avatar_id": "a", "title": format!("Row {row}"), "script": script})
            .to_string(),
        callback_id: Some(format!("order-{row}")),
        title: Some(format!("Row {row}")),
        labels: [("team".to_owned(), "bench".to_owned())].into(),
        metadata: None,
        priority: Priority::default(),
        hold: false,
        not_before: None,
        deadline_at: now + 86_400_000,
        retry_of: None,
        notify_url: None,
        notify_secret: None,
        group_row: Some(row),
        first_poll_ms: 300_000,
        least_poll_ms: 15_000,
    };
    let jobs = (1..).take(MAX_JOBS).map(job).collect();
    NewGroup { title: Some("rows.csv".to_owned()), retry_of: None, jobs, first_row: 1, more: false }
}
