//! What a promise stands on: a database, a sandbox outside the process under test with its ledger
//! synced to disk, an address for the server, and the line that is printed at the end.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use reelhook::clock::Clock;
use reelhook::heygen::sandbox::{Entry, Options, Sandbox, What};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::server::{self, Client, Server};

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
    pub client: Arc<Client>,
    pub seed: u64,
    pub database: String,
    /// Words that start a program in surroundings of its own; it stays the same process.
    pub within: Vec<String>,
    upstream: String,
    ledger: PathBuf,
    _directory: tempfile::TempDir,
}

/// How often each fault of a promise happens.
pub fn injections() -> usize {
    server::number("INJECTIONS").unwrap_or(20)
}

impl Ground {
    pub async fn new(engine: Engine, change: impl FnOnce(&mut Options)) -> Self {
        let database = match engine {
            Engine::Sqlite => None,
            Engine::Postgres => Some(server::fresh_postgres().await),
        };
        Self::on(database, change).await
    }

    /// On this PostgreSQL database, or on a file of its own.
    pub async fn on(postgres: Option<String>, change: impl FnOnce(&mut Options)) -> Self {
        let engine = if postgres.is_some() { Engine::Postgres } else { Engine::Sqlite };
        let seed = server::number("SEED").unwrap_or(1) as u64;
        let directory = tempfile::tempdir().unwrap();
        let database = postgres.unwrap_or_else(|| directory.path().join("kill.db").display().to_string());
        let ledger = directory.path().join("ledger.jsonl");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = format!("http://{}", listener.local_addr().unwrap());
        let mut options = Options {
            seed,
            concurrency: 10_000,
            balance: 1e9,
            render: 20..=400,
            retry_base: std::time::Duration::from_millis(100),
            ledger_file: Some(ledger.clone()),
            ..Options::new(Clock::real(), upstream.clone())
        };
        change(&mut options);
        let sandbox = Sandbox::new(options).unwrap();
        let (router, working) = (sandbox.router(), sandbox.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        tokio::spawn(async move { working.run().await });
        let port = server::free_port().await;
        let client = Arc::new(Client::new(port));
        Self {
            engine,
            sandbox,
            client,
            seed,
            database,
            within: vec![],
            upstream,
            ledger,
            _directory: directory,
        }
    }

    pub async fn serve(&self) -> Server {
        self.serve_with(&[]).await
    }

    pub async fn serve_with(&self, more: &[(&str, &str)]) -> Server {
        let started = self.start(&self.client, more).await;
        started.unwrap_or_else(|said| panic!("the server ended before it was ready:\n{said}"))
    }

    /// A server on the store that listens where `client` asks; or what it said when it ended instead.
    /// HeyGen reaches all of them by the address of the ground's own client.
    pub async fn start(&self, client: &Client, more: &[(&str, &str)]) -> Result<Server, String> {
        let program = env!("CARGO_BIN_EXE_reelhook").to_owned();
        let mut words = self.within.iter().chain([&program]);
        let mut command = Command::new(words.next().expect("a program"));
        command
            .args(words)
            .args(["serve", "--listen", &format!("127.0.0.1:{}", client.port), "--database", &self.database])
            .args(["--public-url", &format!("http://127.0.0.1:{}", self.client.port)])
            .args(["--heygen-url", &self.upstream, "--heygen-api-key", "any"])
            .args(["--first-poll", "1", "--poll-pause", "1", "--poll-budget", "6000"])
            .env_clear()
            .envs([("HEYGEN_WEBHOOK_SECRET", SECRET), ("REELHOOK_SLOTS", "10000")])
            .envs(more.iter().copied());
        Server::start(command, client).await
    }

    /// A second server on the same store, which only PostgreSQL allows.
    pub async fn second(&self) -> (Result<Server, String>, Arc<Client>) {
        let port = server::free_port().await;
        let client = Arc::new(Client::new(port));
        (self.start(&client, &[]).await, client)
    }

    /// Takes a job in; `words` are for the sandbox. Its id.
    pub async fn submit(&self, key: &str, words: &str) -> String {
        let body = json!({"kind": "video_agent", "request": {"prompt": words}});
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

    /// The job once it has ended, or as it is after four minutes: longer than the longest lease that
    /// a killed process can leave behind.
    pub async fn end_of(&self, id: &str) -> Value {
        let mut job = Value::Null;
        for _ in 0..4 {
            job = self.client.insist("GET", &format!("/api/jobs/{id}?wait=60"), None, None).await;
            if is_end(&job) {
                break;
            }
        }
        job
    }

    /// How many ends of the job were published.
    pub async fn ends_told(&self, id: &str) -> usize {
        let events = self.client.insist("GET", &format!("/api/jobs/{id}/events?limit=200"), None, None).await;
        let types = events["data"].as_array().unwrap().iter().map(|event| &event["type"]);
        types.filter(|t| ["job.completed", "job.failed", "job.canceled"].iter().any(|end| *t == end)).count()
    }

    /// The ledger as it is on the disk.
    pub fn ledger(&self) -> Vec<Entry> {
        let text = std::fs::read_to_string(&self.ledger).unwrap();
        // What was being written while we read has no end of line yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
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

pub fn is_end(job: &Value) -> bool {
    matches!(job["state"].as_str(), Some("completed" | "failed" | "canceled"))
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
