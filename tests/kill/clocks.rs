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
use reelhook::heygen::sandbox::{Fault, Options};
use tokio::process::Command;

use crate::ground::{Engine, Ground, injections};
use crate::kills::{callers, troubled};
use crate::oracle;
use crate::server::{Client, Server, Setup};

/// The first of two nodes is ahead and the other behind by this.
const SKEW_S: i64 = 300;
/// A node that is farther from PostgreSQL's time is not trusted.
const NEAR: Millis = 2 * SECOND;
/// The longest there is, in seconds: no clock here is ever set past a job's own deadline.
const DEADLINE_S: &str = "2592000";
const DAY_S: i64 = 86_400;

/// What is wrong with wall clocks.
struct Lie {
    row: &'static str,
    /// What they show at the start, in seconds since 1970, if that is another time than now.
    shown_s: Option<i64>,
    /// What they are set to be off by from there, in seconds.
    off_s: &'static [i64],
    times: usize,
    /// What else goes wrong.
    trouble: fn(&mut Options),
}

/// B17: nothing is lost, late or paid twice because a clock was wrong, or was set.
pub async fn clocks_may_lie(engine: Engine) {
    let Some(library) = library().await else {
        // Not through the test's own output, which is shown only when it fails.
        let _ = writeln!(std::io::stderr(), "NOT TESTED: B17 needs `faketime`, which scripts/test installs");
        return;
    };
    let few = injections().div_ceil(4);
    // Each time that it is set ahead an open call grows older by as much: so little that no key is given up.
    let hours = [0, 300, -300, 3_600, -3_600, 3 * 3_600, -3 * 3_600].as_slice();
    let days = [0, DAY_S, -DAY_S].as_slice();
    let around = [0, 60, -60, DAY_S, -DAY_S].as_slice();
    let lie = |row, shown_s, off_s, times, trouble| Lie { row, shown_s, off_s, times, trouble };
    let (signed, unsigned) = (i64::from(i32::MAX), i64::from(u32::MAX));
    for lie in [
        lie("B17", None, hours, injections(), troubled),
        lie("B17 days", None, days, few, no_answer_lost),
        lie("B17 2038", Some(signed), around, few, no_answer_lost),
        lie("B17 2106", Some(unsigned), around, few, no_answer_lost),
    ] {
        believed(engine, &library, &lie).await;
    }
}

/// A call whose answer was lost is not repeated when a day seems to have passed: HeyGen may have forgotten its key.
fn no_answer_lost(options: &mut Options) {
    options.faults = vec![(Fault::Lost, 0.1), (Fault::Double, 0.1), (Fault::Fail, 0.1)];
}

async fn believed(engine: Engine, library: &str, lie: &Lie) {
    let ground = Ground::new(engine, lie.trouble).await;
    let base = lie.shown_s.map_or(0, |shown| shown - Clock::real().now() / SECOND);
    let mut nodes = vec![Node::start(&ground, ground.client.clone(), library, base + SKEW_S).await];
    if engine == Engine::Postgres {
        nodes.push(Node::start(&ground, Client::new(), library, base - SKEW_S).await);
    }
    nodes[0].server.register(&ground.client).await;
    let mut jobs = vec![];
    let mut off = vec![];
    for (node, skew) in nodes.iter().zip([SKEW_S, -SKEW_S]) {
        let own = if engine == Engine::Sqlite { (base + skew) * SECOND } else { 0 };
        off.push(usize::from((node.shows(&ground, &mut jobs).await - own).abs() > NEAR));
    }
    let (mut dice, mut seen) = (StdRng::seed_from_u64(ground.seed), ground.sandbox.listen());
    let callers = callers(&ground);
    for nth in 0..lie.times {
        for _ in 0..dice.random_range(1..60) {
            let _ = seen.recv().await;
        }
        nodes[nth % nodes.len()].set(base + lie.off_s.choose(&mut dice).expect("some"));
    }
    jobs.extend(callers.end().await.unwrap());
    let verdict = oracle::compare(&ground, &jobs).await;
    let zero = [&oracle::zeros(&verdict)[..], &[("times_that_are_wrong", off.iter().sum())]];
    let figures = [
        ("nodes", nodes.len() as f64),
        ("jobs", jobs.len() as f64),
        ("acknowledged_receipts", verdict.receipts as f64),
    ];
    ground.report(lie.row, lie.times, &zero.concat(), &figures);
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
            ("REELHOOK_DEADLINE", DEADLINE_S),
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
