//! A server that answers what it is told to, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the request's body is JSON")
    }

    /// Method and address, as `GET /api/jobs?limit=2`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.uri)
    }
}

pub struct Canned {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Canned {
    /// Answers each request by `answer`, which is told how many came before.
    pub async fn start(answer: impl Fn(usize, &Asked) -> Response + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", answer).await
    }

    /// The same at this address.
    pub async fn at(
        address: &str,
        answer: impl Fn(usize, &Asked) -> Response + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(Mutex::new(vec![]));
        let (remembered, answer) = (asked.clone(), Arc::new(answer));
        let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let one = Asked { method, uri, headers, body };
            let mut all = remembered.lock().expect("the list");
            let response = answer(all.len(), &one);
            all.push(one);
            async move { response }
        };
        let listener = TcpListener::bind(address).await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = Router::new().fallback(handler).layer(DefaultBodyLimit::disable());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, asked }
    }

    /// Answers everything with one status and object.
    pub async fn saying(status: u16, body: Value) -> Self {
        Self::start(move |_, _| answer(status, &body)).await
    }

    /// Answers one after the other, and the last for ever.
    pub async fn in_turn(answers: Vec<(u16, Value)>) -> Self {
        Self::start(move |nth, _| {
            let (status, body) = &answers[nth.min(answers.len() - 1)];
            answer(*status, body)
        })
        .await
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("the list").clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.asked().iter().map(Asked::line).collect()
    }
}

pub fn answer(status: u16, body: &Value) -> Response {
    let status = StatusCode::from_u16(status).expect("a status");
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    (status, [(header::CONTENT_TYPE, kind)], body.to_string()).into_response()
}

pub fn problem(status: u16, code: &str) -> (u16, Value) {
    let body =
        json!({"code": code, "title": "T", "status": status, "detail": "D", "hint": "H", "retryable": false});
    (status, body)
}

pub fn job(state: &str) -> Value {
    json!({
        "id": "job_01hzy3k8v9q2m4n6p8r0s2t4w6",
        "kind": "video",
        "state": state,
        "title": "Launch",
        "labels": {"team": "sales"},
        "created_at": "2026-11-21T10:00:00.000Z",
        "deadline_at": "2026-11-22T10:00:00.000Z",
        "finished_at": null,
        "progress": null,
        "note": null,
        "failure": (state == "failed").then(|| json!({"code": "rendering_failed", "message": "No face found"})),
    })
}
