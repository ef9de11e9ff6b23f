//! What a promise stands on: a database, a sandbox outside the process under test with its ledger
//! synced to disk, an address for the server, and the line that is printed at the end.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use reelhook::cli::selftest::{self, oracle};
use reelhook::clock::{Clock, Stopwatch};
pub use reelhook::domain::job_json::has_ended;
use reelhook::heygen::sandbox::{Entry, Options, Sandbox, What};
use serde_json::{Map, Value, json};

use crate::server::{self, Client, Server, Setup};
use crate::told::Application;

/// Longer than the longest lease that a killed process can leave behind.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// Signs webhooks that a test makes itself; every server here knows it.
pub const SECRET: &str = "whsec_of_the_tests";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

pub struct Ground {
    pub engine: Engine,
    pub sandbox: Sandbox,
    pub client: Client,
    pub seed: u64,
    pub database: String,
    /// Hears how jobs end, once it is registered.
    pub application: Application,
    shared: selftest::ground::Ground,
    _directory: tempfile::TempDir,
}

/// How often each fault of a promise happens.
pub fn injections() -> usize {
    server::number("INJECTIONS").unwrap_or(20)
}

/// Whether what takes minutes is done, too: not where nobody asked for more than the short form.
pub fn is_long() -> bool {
    server::number("INJECTIONS").is_some()
}

impl Ground {
    pub async fn new(engine: Engine, change: impl FnOnce(&mut Options)) -> Self {
        let postgres = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(server::fresh_postgres().await),
        };
        Self::on(postgres, change).await
    }

    /// On this PostgreSQL database, or on a file of its own.
    pub async fn on(postgres: Option<String>, change: impl FnOnce(&mut Options)) -> Self {
        let engine = if postgres.is_some() { Engine::Postgres } else { Engine::Sqlite };
        let seed = server::number("SEED").unwrap_or(1) as u64;
        let directory = tempfile::tempdir().unwrap();
        let database = postgres.unwrap_or_else(|| directory.path().join("kill.db").display().to_string());
        let change = |options: &mut Options| {
            options.seed = seed;
            change(options);
        };
        let program = env!("CARGO_BIN_EXE_reelhook").into();
        let shared = selftest::ground::Ground::open(directory.path(), program, database.clone(), change)
            .await
            .unwrap();
        let (sandbox, client) = (shared.sandbox.clone(), Client(shared.setup.client.clone()));
        let told = std::fs::File::create(directory.path().join("told.jsonl")).unwrap();
        let application = Application::start("127.0.0.1", told).await;
        Self { engine, sandbox, client, seed, database, application, shared, _directory: directory }
    }

    pub async fn serve(&self) -> Server {
        self.serve_with(&[]).await
    }

    pub async fn serve_with(&self, more: &[(&str, &str)]) -> Server {
        self.serve_as(self.setup(), more).await
    }

    /// What the server is started with, to be changed for one that is started otherwise.
    pub fn setup(&self) -> Setup {
        self.shared.setup.clone()
    }

    pub async fn serve_as(&self, setup: Setup, more: &[(&str, &str)]) -> Server {
        // The application is on this machine.
        let ours = [("HEYGEN_WEBHOOK_SECRET", SECRET), ("REELHOOK_ALLOW_PRIVATE", "127.0.0.1")];
        Server::start(&setup, &[&ours[..], more].concat()).await
    }

    /// A second server on the same store, which only PostgreSQL allows.
    pub async fn second(&self) -> (Result<Server, String>, Client) {
        let client = Client::new();
        let setup = Setup { client: client.0.clone(), ..self.setup() };
        (Server::try_start(&setup, &[("HEYGEN_WEBHOOK_SECRET", SECRET)]).await, client)
    }

    /// Takes a job in; `words` are for the sandbox. Its id.
    pub async fn submit(&self, key: &str, words: &str) -> String {
        self.submit_with(key, words, json!({})).await
    }

    /// The same, with more to say of the job.
    pub async fn submit_with(&self, key: &str, words: &str, mut body: Value) -> String {
        body["kind"] = json!("video_agent");
        body["request"] = json!({"prompt": words});
        let job = self.client.insist("POST", "/api/jobs", Some(key), Some(&body)).await;
        job["id"].as_str().unwrap().to_owned()
    }

    /// Takes a job in and waits until HeyGen has it. Its id and HeyGen's.
    pub async fn accepted(&self, key: &str, words: &str) -> (String, String) {
        let mut news = self.sandbox.listen();
        let id = self.submit(key, words).await;
        let of_it = |what: What| match what {
            What::Accepted { callback_id, mut ids, .. } if callback_id.as_deref() == Some(&id) => ids.pop(),
            _ => None,
        };
        let mut known = self.sandbox.ledger().into_iter().find_map(|entry| of_it(entry.what));
        while known.is_none() {
            match news.recv().await {
                Ok(entry) => known = of_it(entry.what),
                Err(_) => known = self.sandbox.ledger().into_iter().find_map(|entry| of_it(entry.what)),
            }
        }
        (id.clone(), known.unwrap())
    }

    /// The job once it has ended, or as it is after `PATIENCE`.
    pub async fn end_of(&self, id: &str) -> Value {
        let clock = Clock::real();
        let until = clock.now() + i64::try_from(PATIENCE.as_millis()).unwrap();
        oracle::end_of(&self.client, id, &clock, until).await.unwrap().expect("there is such a job")
    }

    /// A job more, from its submit to its end. Its id, and how many seconds that took.
    pub async fn one_more(&self, key: &str) -> (String, f64) {
        let watch = Stopwatch::start();
        let job = self.submit(key, "p").await;
        self.end_of(&job).await;
        (job, watch.elapsed().as_secs_f64())
    }

    /// In how many seconds these have ended.
    pub async fn drained(&self, jobs: &[String]) -> f64 {
        let watch = Stopwatch::start();
        join_all(jobs.iter().map(|job| self.end_of(job))).await;
        watch.elapsed().as_secs_f64()
    }

    /// How many ends of the job were published.
    pub async fn ends_told(&self, id: &str) -> usize {
        oracle::ends_told(&self.client, id).await.unwrap()
    }

    /// The ledger as it is on the disk.
    pub fn ledger(&self) -> Vec<Entry> {
        self.shared.ledger().unwrap()
    }

    /// Prints the line of a promise; fails on what must be zero and is not.
    pub fn report(&self, row: &str, n: usize, zero: &[(&str, usize)], figures: &[(&str, f64)]) {
        let counts: Map<String, Value> = zero.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let rounded = |v: f64| (v * 1_000.0).round() / 1_000.0;
        let figures: Map<String, Value> =
            figures.iter().map(|(k, v)| ((*k).to_owned(), json!(rounded(*v)))).collect();
        let kept = zero.iter().all(|(_, count)| *count == 0);
        let engine = format!("{:?}", self.engine).to_lowercase();
        println!(
            "promise {}",
            json!({
                "row": row, "engine": engine, "n": n, "seed": self.seed, "kept": kept, "zero": counts,
                "figures": figures,
            })
        );
        assert!(kept, "{row} on {engine}, seed {}: {zero:?}", self.seed);
    }
}

/// A success as HeyGen tells it of an agent's video, for the job and under HeyGen's id.
pub fn success(job: &str, upstream: &str) -> Bytes {
    event("video_agent.success", job, upstream, &json!({"video_url": "https://files.example/v.mp4"}))
}

/// A webhook body of this type.
pub fn event(event_type: &str, job: &str, upstream: &str, more: &Value) -> Bytes {
    let mut data = json!({"session_id": upstream, "callback_id": job});
    for (name, value) in more.as_object().into_iter().flatten() {
        data[name] = value.clone();
    }
    json!({"event_type": event_type, "event_data": data}).to_string().into()
}
