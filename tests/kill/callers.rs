//! What callers are promised: that a deploy loses nothing of theirs, that one key has one effect, and
//! that the file under it all is never locked or broken by us.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::future::{join, join_all};
use reelhook::clock::Stopwatch;
use reelhook::heygen::sandbox::Tally;
use reelhook::net::Fault;
use serde_json::{Value, json};

use crate::ground::{Engine, Ground, injections};
use crate::oracle;
use crate::server::Client;

/// B21: stopped in order and started again under load.
pub async fn deploys_lose_nothing(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let mut server = ground.serve().await;
    server.register(&ground.client).await;
    let load = Arc::new(Load::default());
    let callers: Vec<_> = (0..4)
        .map(|caller| tokio::spawn(load.clone().run(ground.client.clone(), format!("b21-{caller}"))))
        .collect();
    let mut slowest: f64 = 0.0;
    let mut seen = ground.sandbox.listen();
    for _ in 0..injections() {
        // Some work in between, so that there is something under way.
        for _ in 0..20 {
            let _ = seen.recv().await;
        }
        let watch = Stopwatch::start();
        server.terminate().await;
        slowest = slowest.max(watch.elapsed().as_secs_f64());
        server = ground.serve().await;
    }
    load.stopped.store(true, Ordering::Relaxed);
    let jobs: Vec<String> = join_all(callers).await.into_iter().flat_map(Result::unwrap).collect();
    let verdict = oracle::compare(&ground, &jobs).await;
    let count = |n: &AtomicUsize| n.load(Ordering::Relaxed);
    let figures = [
        ("jobs", jobs.len() as f64),
        ("drain_s_max", slowest),
        ("connections_refused", count(&load.refused) as f64),
    ];
    let zero = [
        &oracle::zeros(&verdict)[..],
        &[("answers_cut", count(&load.cut)), ("answers_5xx", count(&load.failed))],
    ];
    ground.report("B21", injections(), &zero.concat(), &figures);
    assert!(slowest <= 30.0, "a stop takes at most half a minute: {slowest} s");
    server.kill().await;
}

/// Callers that count how a request can fail.
#[derive(Default)]
struct Load {
    stopped: AtomicBool,
    refused: AtomicUsize,
    cut: AtomicUsize,
    failed: AtomicUsize,
}

impl Load {
    /// One job after another, each insisted on with its own key. Their ids.
    async fn run(self: Arc<Self>, client: Client, name: String) -> Vec<String> {
        let mut jobs = vec![];
        while !self.stopped.load(Ordering::Relaxed) {
            let key = format!("{name}-{}", jobs.len());
            let body = json!({"kind": "video_agent", "request": {"prompt": "p"}});
            let fault = match client.call("POST", "/api/jobs", Some(&key), Some(&body)).await {
                Ok((202, job)) => {
                    jobs.push(job["id"].as_str().unwrap().to_owned());
                    continue;
                }
                Ok((status, answer)) => {
                    assert!(status >= 500, "{status} {answer}");
                    &self.failed
                }
                Err(Fault::NotSent(_) | Fault::Forbidden(_)) => &self.refused,
                Err(Fault::NoAnswer(_)) => &self.cut,
            };
            fault.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
        jobs
    }
}

/// B34: one key a hundred times at once over all nodes; with another body; after a restart.
pub async fn one_key_one_effect(engine: Engine) {
    let ground = Ground::new(engine, |_| {}).await;
    let mut server = ground.serve().await;
    let second = ground.second().await;
    let nodes: Vec<_> = match &second.0 {
        Ok(_) => vec![ground.client.clone(), second.1.clone()],
        Err(_) => vec![ground.client.clone()],
    };
    let keys = injections();
    let (mut first, mut differ, mut taken) = (vec![], 0, 0);
    for nth in 0..keys {
        let key = format!("b34-{nth}");
        let all = join_all((0..100).map(|at| post(&nodes[at % nodes.len()], &key, "p"))).await;
        differ += all.iter().filter(|answer| **answer != all[0]).count();
        assert_eq!(all[0].0, 202, "{:?}", all[0]);
        taken += usize::from(post(&nodes[0], &key, "another").await.0 != 422);
        first.push(all[0].clone());
    }
    server.kill().await;
    server = ground.serve().await;
    let mut jobs = vec![];
    for (nth, answer) in first.iter().enumerate() {
        differ += usize::from(post(&ground.client, &format!("b34-{nth}"), "p").await != *answer);
        let job: Value = serde_json::from_slice(&answer.1).unwrap();
        jobs.push(job["id"].as_str().unwrap().to_owned());
        ground.end_of(jobs.last().unwrap()).await;
    }
    let tally = Tally::of(&ground.ledger());
    let effects = tally.charges.len().abs_diff(jobs.len());
    let zero = [
        ("answers_that_differ", differ),
        ("other_bodies_taken", taken),
        ("effects_too_many", effects),
        ("paid_twice", tally.paid_twice),
    ];
    ground.report("B34", keys, &zero, &[("times_each", 100.0), ("nodes", nodes.len() as f64)]);
    server.kill().await;
}

async fn post(client: &Client, key: &str, prompt: &str) -> (u16, Bytes) {
    let body = json!({"kind": "video_agent", "request": {"prompt": prompt}}).to_string();
    let answer = client.raw("POST", "/api/jobs", Some(("idempotency-key", key)), body.into()).await.unwrap();
    (answer.status.as_u16(), answer.body)
}

/// B35, which is SQLite's: hundreds of writers, and beside them backups and reads from the command line; a second
/// server on the file, and hard kills.
pub async fn the_file_is_never_locked_or_broken(engine: Engine) {
    if engine == Engine::Postgres {
        return;
    }
    const WRITERS: usize = 500;
    let ground = Ground::new(engine, |_| {}).await;
    let mut server = ground.serve().await;
    let (jobs, busy) = (Arc::new(std::sync::Mutex::new(vec![])), Arc::new(AtomicUsize::new(0)));
    let kills = injections().div_ceil(5);
    let rounds = kills + 1;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (client, jobs, busy) = (ground.client.clone(), jobs.clone(), busy.clone());
            tokio::spawn(async move {
                for nth in 0..rounds {
                    let key = format!("b35-{writer}-{nth}");
                    // Held, so that only the file is at work.
                    let body = json!({"kind": "video_agent", "request": {"prompt": "p"}, "hold": true});
                    if let Ok((503, _)) = client.call("POST", "/api/jobs", Some(&key), Some(&body)).await {
                        busy.fetch_add(1, Ordering::Relaxed);
                    }
                    let job = client.insist("POST", "/api/jobs", Some(&key), Some(&body)).await;
                    jobs.lock().unwrap().push(job["id"].as_str().unwrap().to_owned());
                }
            })
        })
        .collect();
    let (mut broken, mut second_served, mut unread, mut missing) = (0, 0, 0, 0);
    for nth in 0..kills {
        // Somewhere in the middle of the writing: when so many more were taken in.
        let wanted = (nth + 1) * WRITERS * rounds / (kills + 2);
        while jobs.lock().unwrap().len() < wanted {
            ground.client.insist("GET", "/api/jobs?limit=1", None, None).await;
        }
        let taken = jobs.lock().unwrap().clone();
        let backup = std::path::Path::new(&ground.database).with_file_name(format!("backup-{nth}.db"));
        let (copied, read) = join(backed_up(&ground.database, &backup), read_by_hand(&ground)).await;
        unread += read;
        match copied {
            Ok(kept) => missing += taken.iter().filter(|job| !kept.contains(*job)).count(),
            Err(why) => {
                println!("B35: no backup: {why}");
                unread += 1;
            }
        }
        match ground.second().await.0 {
            Ok(_) => second_served += 1,
            Err(said) => assert!(said.contains("is in use by another reelhook"), "{said}"),
        }
        server.kill().await;
        broken += usize::from(!is_whole(&ground.database));
        server = ground.serve().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let jobs = jobs.lock().unwrap().clone();
    let mut lost = 0;
    let ground = &ground;
    for some in jobs.chunks(50) {
        let found = some.iter().map(|job| format!("/api/jobs/{job}")).map(|path| async move {
            ground.client.call("GET", &path, None, None).await.is_ok_and(|(status, _)| status == 200)
        });
        lost += join_all(found).await.into_iter().filter(|found| !found).count();
    }
    let zero = [
        ("busy_errors", busy.load(Ordering::Relaxed)),
        ("second_servers", second_served),
        ("broken", broken),
        ("lost_jobs", lost),
        ("reads_and_backups_refused", unread),
        ("missing_in_backups", missing),
    ];
    let figures = [
        ("writers", WRITERS as f64),
        ("jobs", jobs.len() as f64),
        ("reads_by_command", (kills * COMMANDS.len() * READS_OF_EACH) as f64),
        ("backups", kills as f64),
    ];
    ground.report("B35", kills, &zero, &figures);
    server.kill().await;
}

/// What an operator looks at, at the same time.
const COMMANDS: [&[&str]; 4] =
    [&["job", "list", "--limit", "100"], &["event", "list"], &["receipt", "list"], &["upstream", "show"]];
const READS_OF_EACH: usize = 2;

/// How many of the commands did not succeed.
async fn read_by_hand(ground: &Ground) -> usize {
    let all = COMMANDS.into_iter().cycle().take(COMMANDS.len() * READS_OF_EACH);
    let read = join_all(all.map(|command| {
        let url = format!("http://127.0.0.1:{}", ground.client.port);
        let mut process = tokio::process::Command::new(ground.setup().program);
        process.args(command).arg("--json").env_clear().env("REELHOOK_URL", url);
        async move { process.current_dir(ground.setup().directory).output().await.unwrap() }
    }))
    .await;
    let refused = read.iter().filter(|read| !read.status.success());
    refused.inspect(|read| println!("B35: {}", String::from_utf8_lossy(&read.stderr))).count()
}

/// A copy made by another program while the server writes, as `sqlite3 FILE "VACUUM INTO 'COPY'"` does, read back. The
/// jobs in it.
async fn backed_up(file: &str, copy: &std::path::Path) -> Result<HashSet<String>, String> {
    let (file, copy) = (file.to_owned(), copy.display().to_string());
    let made = move || -> rusqlite::Result<HashSet<String>> {
        rusqlite::Connection::open(&file)?.execute("VACUUM INTO ?1", [&copy])?;
        if !is_whole(&copy) {
            return Ok(HashSet::new());
        }
        let copy = rusqlite::Connection::open(&copy)?;
        let mut jobs = copy.prepare("SELECT id FROM job")?;
        jobs.query_map([], |row| row.get(0))?.collect()
    };
    tokio::task::spawn_blocking(made).await.unwrap().map_err(|e| e.to_string())
}

fn is_whole(file: &str) -> bool {
    let file = rusqlite::Connection::open(file).unwrap();
    file.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap() == "ok"
}
