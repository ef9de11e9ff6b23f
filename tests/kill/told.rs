//! The application behind the server under test: it hears how jobs ended, outside of that process,
//! and keeps what it heard on disk before it answers.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use reelhook::clock::Clock;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::server::Client;

/// Longer than the longest lease a killed process can leave behind, and a breaker's pauses.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(240);

/// Ids and bodies of the events that told of each job's end.
type Ends = HashMap<String, HashSet<(String, Bytes)>>;

#[derive(Clone)]
pub struct Application {
    url: String,
    inner: Arc<Mutex<(File, Ends, usize)>>,
    /// Jobs of which an end was told.
    count: watch::Sender<usize>,
}

/// What came of telling.
pub struct Told {
    pub lost: usize,
    /// Two different ends of one job.
    pub different: usize,
    /// The same event again, which at least once means.
    pub repeated: usize,
}

impl Application {
    pub async fn start(ledger: File) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let inner = Arc::new(Mutex::new((ledger, Ends::new(), 0)));
        let made = Self { url, inner, count: watch::Sender::new(0) };
        let router = Router::new().route("/", post(hear)).with_state(made.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        made
    }

    /// Has itself told of the ends of jobs.
    pub async fn register(&self, client: &Client) {
        let wishes = json!({"url": self.url, "events": ["job.completed", "job.failed", "job.canceled"]});
        client.insist("POST", "/api/endpoints", None, Some(&wishes)).await;
    }

    /// Waits until the end of each of these jobs was told, then says how.
    pub async fn compare(&self, jobs: &[String]) -> Told {
        let mut count = self.count.subscribe();
        let all = count.wait_for(|told| *told >= jobs.len());
        // What is missing after that is counted as lost.
        let _ = Clock::real().within(PATIENCE, all).await;
        let inner = self.inner.lock().unwrap();
        let (ends, repeated) = (&inner.1, inner.2);
        let lost = jobs.iter().filter(|id| !ends.contains_key(*id)).count();
        let different = ends.values().map(|told| told.len() - 1).sum();
        Told { lost, different, repeated }
    }
}

async fn hear(State(app): State<Application>, body: Bytes) -> StatusCode {
    let event: Value = serde_json::from_slice(&body).unwrap();
    let text = |name: &str| event[name].as_str().unwrap().to_owned();
    let mut inner = app.inner.lock().unwrap();
    let (ledger, ends, repeated) = &mut *inner;
    ledger.write_all(&[&body[..], b"\n"].concat()).and_then(|()| ledger.sync_data()).unwrap();
    if !ends.entry(text("job_id")).or_default().insert((text("id"), body.clone())) {
        *repeated += 1;
    }
    app.count.send_replace(ends.len());
    StatusCode::OK
}
