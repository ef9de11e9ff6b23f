//! The sandbox over real loopback HTTP, with a clock that only these tests move.

mod create;
mod faults;
mod reading;
mod rules;
mod webhooks;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::{Entry, Options, Sandbox, What, seal};
use crate::clock::{Clock, Millis};
use crate::net::{Answer, Call, Client, Fault as NetFault};

const START: Millis = 1_795_000_000_000;

struct Rig {
    sandbox: Sandbox,
    clock: Clock,
    http: Client,
    base: String,
}

async fn rig() -> Rig {
    rig_with(|_| {}).await
}

async fn rig_with(change: impl FnOnce(&mut Options)) -> Rig {
    let clock = Clock::manual(START, 11);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut options = Options::new(clock.clone(), &base);
    options.render = 5_000..=5_000;
    change(&mut options);
    let sandbox = Sandbox::new(options).unwrap();
    tokio::spawn(axum::serve(listener, sandbox.router()).into_future());
    let http = Client::new(clock.clone(), false);
    Rig { sandbox, clock, http, base }
}

impl Rig {
    async fn call(
        &self,
        method: Method,
        url: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<Answer, NetFault> {
        let url = if url.starts_with('/') { format!("{}{url}", self.base) } else { url.to_owned() };
        let headers: HeaderMap = crate::net::headers(headers.iter().copied());
        let body = Bytes::from(body.to_owned());
        let timeout = Duration::from_secs(3_600);
        self.http.call(Call { method, url, headers, body, timeout, max_body_bytes: 1 << 20 }).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        told(self.call(Method::GET, path, &[("x-api-key", "k")], "").await)
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        told(self.call(method, path, &[("x-api-key", "k")], &body.to_string()).await)
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.send(Method::POST, path, body).await
    }

    async fn keyed(&self, path: &str, key: &str, body: Value) -> Result<Answer, NetFault> {
        let headers = [("x-api-key", "k"), ("idempotency-key", key)];
        self.call(Method::POST, path, &headers, &body.to_string()).await
    }

    /// A new avatar video's id.
    async fn video(&self, extra: Value) -> String {
        let (status, body) = self.post("/v3/videos", avatar(extra)).await;
        assert_eq!(status, 200, "{body}");
        body["data"]["video_id"].as_str().unwrap().to_owned()
    }

    /// Lets time pass and everything due happen.
    async fn pass(&self, seconds: u64) -> usize {
        self.clock.advance(Duration::from_secs(seconds));
        self.sandbox.settle().await
    }

    fn count(&self, wanted: impl Fn(&What) -> bool) -> usize {
        self.sandbox.ledger().iter().filter(|entry| wanted(&entry.what)).count()
    }

    /// Registers an endpoint and returns its id and secret.
    async fn register(&self, url: &str, events: Value) -> (String, String) {
        let (status, body) =
            self.post("/v3/webhooks/endpoints", json!({ "url": url, "events": events })).await;
        assert_eq!(status, 200, "{body}");
        let text = |name: &str| body["data"][name].as_str().unwrap().to_owned();
        (text("endpoint_id"), text("secret"))
    }
}

fn told(answer: Result<Answer, NetFault>) -> (u16, Value) {
    let answer = answer.unwrap();
    (answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

fn avatar(extra: Value) -> Value {
    let mut body = json!({ "type": "avatar", "avatar_id": "ada_office", "script": "Hello." });
    for (name, value) in extra.as_object().into_iter().flatten() {
        body[name] = value.clone();
    }
    body
}

/// Waits, without sleeping, for an entry that happens after `listen`.
async fn wait_for(
    entries: &mut tokio::sync::broadcast::Receiver<Entry>,
    wanted: impl Fn(&What) -> bool,
) -> Entry {
    loop {
        let entry = entries.recv().await.unwrap();
        if wanted(&entry.what) {
            return entry;
        }
    }
}

#[derive(Clone)]
struct Got {
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn event(&self) -> String {
        self.json()["event_type"].as_str().unwrap_or("?").to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v: &HeaderValue| v.to_str().unwrap())
    }

    fn is_signed(&self, header: &str, secret: &str) -> bool {
        self.header(header) == Some(&seal::hex_hmac(secret.as_bytes(), &self.body))
    }
}

/// A receiver of webhooks that answers 200, or what it was told to answer first.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<Got>>>,
    answers: Arc<Mutex<VecDeque<u16>>>,
}

impl Receiver {
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let hang = post(std::future::pending::<()>).options(|| async {});
        let app = Router::new()
            .route("/hook", post(take).options(|| async {}))
            .route("/job", post(take))
            .route("/hang", hang)
            .route("/deaf", post(take).options(std::future::pending::<()>))
            .with_state(receiver.clone());
        tokio::spawn(axum::serve(listener, app).into_future());
        (receiver, base)
    }

    fn take(&self) -> Vec<Got> {
        std::mem::take(&mut self.got.lock().unwrap())
    }

    fn answer_first(&self, statuses: &[u16]) {
        self.answers.lock().unwrap().extend(statuses);
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    receiver.got.lock().unwrap().push(Got { headers, body });
    let answer = receiver.answers.lock().unwrap().pop_front();
    StatusCode::from_u16(answer.unwrap_or(200)).unwrap()
}
