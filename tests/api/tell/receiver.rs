//! An application that is told: a server on loopback which keeps what it hears and answers by
//! script. It can judge a signature by itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::app::{TestApp, signed as heygens};
use crate::signed;

/// What one path of it answers to the next call.
#[derive(Clone)]
pub enum Script {
    Status(u16),
    /// Status and one header.
    With(u16, &'static str, String),
    /// A redirect to itself, on another path.
    Redirect,
    Body(u16, Bytes),
    /// As a receiver written for HeyGen: what is not signed with this webhook secret as HeyGen signs is refused.
    Heygens(String),
    /// No answer for ever.
    Hang,
}

#[derive(Clone)]
pub struct Heard {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Heard {
    pub fn header(&self, name: &str) -> &str {
        signed::header(&self.headers, name)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub fn event_type(&self) -> String {
        self.json()["type"].as_str().unwrap_or_default().to_owned()
    }

    /// How many of its signatures are made with this secret, as the specification has it.
    pub fn signed_with(&self, secret: &str) -> usize {
        signed::signed_with(&self.headers, &self.body, secret)
    }
}

#[derive(Default)]
struct Inner {
    heard: Vec<Heard>,
    next: HashMap<String, VecDeque<Script>>,
    always: HashMap<String, Script>,
}

#[derive(Clone)]
pub struct Receiver {
    pub base: String,
    inner: Arc<Mutex<Inner>>,
    count: watch::Sender<usize>,
}

impl Receiver {
    pub async fn start() -> Self {
        Self::on("127.0.0.1").await
    }

    /// One that is at every address of this machine.
    pub async fn everywhere() -> Self {
        Self::on("0.0.0.0").await
    }

    async fn on(address: &str) -> Self {
        let listener = tokio::net::TcpListener::bind((address, 0)).await.expect("a port");
        let base = format!("http://127.0.0.1:{}", listener.local_addr().expect("an address").port());
        let receiver = Self { base, inner: Arc::default(), count: watch::Sender::new(0) };
        let router = Router::new().fallback(answer).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Answers of a path, one after the other; then 200 again.
    pub fn next(&self, path: &str, scripts: &[Script]) {
        let mut inner = self.inner.lock().expect("no panic");
        inner.next.entry(path.to_owned()).or_default().extend(scripts.iter().cloned());
    }

    pub fn always(&self, path: &str, script: Script) {
        self.inner.lock().expect("no panic").always.insert(path.to_owned(), script);
    }

    pub fn heard(&self, path: &str) -> Vec<Heard> {
        let inner = self.inner.lock().expect("no panic");
        inner.heard.iter().filter(|heard| heard.path == path).cloned().collect()
    }

    pub fn types(&self, path: &str) -> Vec<String> {
        self.heard(path).iter().map(Heard::event_type).collect()
    }

    /// Returns when it has heard so many in all.
    pub async fn hears(&self, count: usize) {
        let mut seen = self.count.subscribe();
        seen.wait_for(|n| *n >= count).await.expect("it lives");
    }
}

async fn answer(State(receiver): State<Receiver>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let script = {
        let mut inner = receiver.inner.lock().expect("no panic");
        inner.heard.push(Heard { path: path.clone(), headers: headers.clone(), body: body.clone() });
        let next = inner.next.get_mut(&path).and_then(VecDeque::pop_front);
        next.or_else(|| inner.always.get(&path).cloned())
    };
    receiver.count.send_modify(|n| *n += 1);
    let status = |code: u16| StatusCode::from_u16(code).expect("a status");
    match script {
        None => StatusCode::OK.into_response(),
        Some(Script::Status(code)) => status(code).into_response(),
        Some(Script::With(code, name, value)) => (status(code), [(name, value)]).into_response(),
        Some(Script::Redirect) => {
            (StatusCode::TEMPORARY_REDIRECT, [("location", receiver.url("/moved"))]).into_response()
        }
        Some(Script::Body(code, body)) => (status(code), body).into_response(),
        Some(Script::Heygens(secret)) => {
            let claimed = headers.get("signature").and_then(|value| value.to_str().ok());
            status(if claimed == Some(&*heygens(&secret, &body)) { 200 } else { 401 }).into_response()
        }
        Some(Script::Hang) => std::future::pending().await,
    }
}

/// Adds an endpoint at this address; its id and its signing secret.
pub async fn add(app: &TestApp, url: &str, wishes: Value) -> (String, String) {
    let mut body = wishes;
    body["url"] = json!(url);
    let made = app.post("/api/endpoints", &body).await.expect(201).json();
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    (text("id"), text("secret"))
}
