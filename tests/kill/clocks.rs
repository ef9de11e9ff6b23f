//! Clocks that lie: of each node the machine's wall clock is wrong from the start and is set again and again,
//! by a library between the program and the system. The clock that measures spans is left alone, as it is
//! when a wall clock is set.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reelhook::clock::Clock;
use reelhook::domain::time::{Millis, SECOND, parse_rfc3339};
use tokio::process::Command;

use crate::ground::{Engine, Ground, injections};
use crate::kills::{callers, troubled};
use crate::oracle;
use crate::server::{Client, Server, Setup};

/// What a wall clock is set to be off by, in seconds. A job's own deadline is farther away than that.
const OFF_S: [i64; 7] = [0, 300, -300, 3_600, -3_600, 6 * 3_600, -6 * 3_600];
/// The first of two nodes is ahead and the other behind by this.
const SKEW_S: i64 = 300;
/// A node that is farther from PostgreSQL's time is not trusted.
const NEAR: Millis = 2 * SECOND;

/// B17: nothing is lost, late or paid twice because a clock was wrong, or was set.
pub async fn clocks_may_lie(engine: Engine) {
    let Some(library) = library().await else {
        // Not through the test's own output, which is shown only when it fails.
        let _ = writeln!(std::io::stderr(), "NOT TESTED: B17 needs `faketime`, which scripts/test installs");
        return;
    };
    let ground = Ground::new(engine, troubled).await;
    let mut nodes = vec![Node::start(&ground, ground.client.clone(), &library, SKEW_S).await];
    if engine == Engine::Postgres {
        nodes.push(Node::start(&ground, Client::new(), &library, -SKEW_S).await);
    }
    nodes[0].server.register(&ground.client).await;
    let mut jobs = vec![];
    let mut off = vec![];
    for (node, skew) in nodes.iter().zip([SKEW_S, -SKEW_S]) {
        let own = if engine == Engine::Sqlite { skew * 1_000 } else { 0 };
        off.push(usize::from((node.shows(&ground, &mut jobs).await - own).abs() > NEAR));
    }
    let (mut dice, mut seen) = (StdRng::seed_from_u64(ground.seed), ground.sandbox.listen());
    let callers = callers(&ground);
    for nth in 0..injections() {
        for _ in 0..dice.random_range(1..60) {
            let _ = seen.recv().await;
        }
        nodes[nth % nodes.len()].set(*OFF_S.choose(&mut dice).expect("some"));
    }
    jobs.extend(callers.end().await.unwrap());
    let verdict = oracle::compare(&ground, &jobs).await;
    let zero = [&oracle::zeros(&verdict)[..], &[("times_that_are_wrong", off.iter().sum())]];
    let figures = [
        ("nodes", nodes.len() as f64),
        ("jobs", jobs.len() as f64),
        ("acknowledged_receipts", verdict.receipts as f64),
    ];
    ground.report("B17", injections(), &zero.concat(), &figures);
    for node in nodes {
        node.server.kill().await;
    }
}

/// A server and the file that says how wrong its wall clock is.
struct Node {
    server: Server,
    client: Client,
    clock: PathBuf,
}

impl Node {
    async fn start(ground: &Ground, client: Client, library: &str, off_s: i64) -> Self {
        let setup = Setup { client: client.0.clone(), ..ground.setup() };
        let clock = setup.directory.join(format!("clock-{}", client.port));
        fs::write(&clock, format!("{off_s:+}s")).unwrap();
        let at = clock.display().to_string();
        let variables = [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", &at),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        Self { server: ground.serve_as(setup, &variables).await, client, clock }
    }

    fn set(&self, off_s: i64) {
        // In one step: it is read at any time.
        let next = self.clock.with_extension("next");
        fs::write(&next, format!("{off_s:+}s")).unwrap();
        fs::rename(next, &self.clock).unwrap();
    }

    /// How far its time is off by what it says of a new job.
    async fn shows(&self, ground: &Ground, jobs: &mut Vec<String>) -> Millis {
        let body = serde_json::json!({"kind": "video_agent", "request": {"prompt": "p"}});
        let key = format!("b17-{}-{}", self.client.port, ground.seed);
        let job = self.client.insist("POST", "/api/jobs", Some(&key), Some(&body)).await;
        jobs.push(job["id"].as_str().unwrap().to_owned());
        parse_rfc3339(job["created_at"].as_str().unwrap()).unwrap() - Clock::real().now()
    }
}

/// Where the library is that lies; none where it is not installed.
async fn library() -> Option<String> {
    let said = Command::new("faketime").args(["-f", "+0s", "env"]).output().await.ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    said.lines().find_map(|line| line.strip_prefix("LD_PRELOAD=")).map(str::to_owned)
}
