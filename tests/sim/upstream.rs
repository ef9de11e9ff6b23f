//! What lies between the app and the sandbox: a line on which any call may be refused, cut or left
//! hanging, and the bag of webhooks that were sent and may arrive in any order, often or never.

use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method, Response, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reelhook::domain::time::{Millis, SECOND};
use tokio::sync::Notify;
use tower::ServiceExt;

/// What may befall one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Nothing arrived: no answer, a refusal of something in between, or silence.
    ResetBefore,
    HangBefore,
    Status500,
    Html502,
    Rate,
    /// It was done, and the answer is lost.
    ResetAfter,
    HangAfter,
    Status504After,
    CutAfter,
}

const TROUBLES: [Trouble; 9] = [
    Trouble::ResetBefore,
    Trouble::HangBefore,
    Trouble::Status500,
    Trouble::Html502,
    Trouble::Rate,
    Trouble::ResetAfter,
    Trouble::HangAfter,
    Trouble::Status504After,
    Trouble::CutAfter,
];

/// How long the app waits for an answer: 120 s to a paid call, 30 s to any other.
fn patience(method: &Method) -> Millis {
    if method == Method::POST { 120 * SECOND } else { 30 * SECOND }
}

/// A webhook on its way.
#[derive(Debug, Clone)]
pub struct Sent {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The line, shared with those who drive the world.
#[derive(Clone)]
pub struct Line {
    inner: Arc<Mutex<Inner>>,
    /// Something was noted.
    pub news: Arc<Notify>,
}

struct Inner {
    dice: StdRng,
    /// The chance that a call meets trouble.
    chance: f64,
    /// The call that was made last hangs: how long its caller will wait.
    hung: Option<Millis>,
    bag: Vec<Sent>,
}

impl Line {
    pub fn new(seed: u64) -> Self {
        let dice = StdRng::seed_from_u64(seed ^ 0x11e5);
        let inner = Inner { dice, chance: 0.0, hung: None, bag: vec![] };
        Self { inner: Arc::new(Mutex::new(inner)), news: Arc::new(Notify::new()) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn set_trouble(&self, chance: f64) {
        self.inner().chance = chance;
    }

    pub fn take_hung(&self) -> Option<Millis> {
        self.inner().hung.take()
    }

    pub fn bag_size(&self) -> usize {
        self.inner().bag.len()
    }

    /// One of those on their way, which stays in the bag when it may come again.
    pub fn pick(&self, nth: usize, stays: bool) -> Sent {
        let mut inner = self.inner();
        if stays { inner.bag[nth].clone() } else { inner.bag.swap_remove(nth) }
    }

    /// Where HeyGen's API is, as the app sees it.
    pub fn before(&self, sandbox: Router) -> Router {
        let line = self.clone();
        Router::new().fallback(move |request: Request| line.clone().carry(sandbox.clone(), request))
    }

    /// Where webhooks go, as the sandbox sees it: they are taken, and arrive when they are picked.
    pub fn door(&self) -> Router {
        let line = self.clone();
        Router::new().fallback(move |request: Request| {
            let line = line.clone();
            async move {
                let (parts, body) = request.into_parts();
                if parts.method == Method::POST {
                    let body = body.collect().await.expect("a whole webhook").to_bytes();
                    let path = parts.uri.path().to_owned();
                    line.inner().bag.push(Sent { path, headers: parts.headers, body });
                }
                StatusCode::OK
            }
        })
    }

    async fn carry(self, sandbox: Router, request: Request) -> Response<Body> {
        let trouble = {
            let mut inner = self.inner();
            let chance = inner.chance;
            inner.dice.random_bool(chance).then(|| *TROUBLES.choose(&mut inner.dice).expect("a trouble"))
        };
        let wait = patience(request.method());
        match trouble {
            None => self.forward(sandbox, request, wait).await,
            Some(Trouble::ResetBefore) => broken(b""),
            Some(Trouble::HangBefore) => self.hang(wait).await,
            Some(Trouble::Status500) => coded(StatusCode::INTERNAL_SERVER_ERROR, "internal_error"),
            Some(Trouble::Html502) => (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response(),
            Some(Trouble::Rate) => {
                let mut answer = coded(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded");
                answer.headers_mut().insert(header::RETRY_AFTER, "7".parse().expect("a header"));
                answer
            }
            Some(after) => {
                let answer = self.forward(sandbox, request, wait).await;
                match after {
                    Trouble::HangAfter => self.hang(wait).await,
                    Trouble::Status504After => coded(StatusCode::GATEWAY_TIMEOUT, "gateway_timeout"),
                    Trouble::CutAfter => match answer.into_body().collect().await {
                        Ok(whole) => {
                            let whole = whole.to_bytes();
                            broken(&whole[..whole.len() / 2])
                        }
                        Err(_) => broken(b""),
                    },
                    _ => broken(b""),
                }
            }
        }
    }

    /// The sandbox's own answer. One that does not come at once, or not whole, is noted as hanging.
    async fn forward(&self, sandbox: Router, request: Request, wait: Millis) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.expect("a whole request").to_bytes();
        let mut answer = Box::pin(sandbox.oneshot(Request::from_parts(parts, Body::from(body))));
        let answer = match (&mut answer).now_or_never() {
            Some(answer) => answer,
            None => {
                self.note_hung(wait);
                answer.await
            }
        };
        let (parts, body) = answer.expect("the sandbox answers").into_parts();
        let line = self.clone();
        let mut frames = Box::pin(body.into_data_stream());
        let watched = stream::poll_fn(move |context| {
            let frame = frames.poll_next_unpin(context);
            if frame.is_pending() {
                line.note_hung(wait);
            }
            frame
        });
        Response::from_parts(parts, Body::from_stream(watched))
    }

    async fn hang<T>(&self, wait: Millis) -> T {
        self.note_hung(wait);
        std::future::pending().await
    }

    fn note_hung(&self, wait: Millis) {
        self.inner().hung = Some(wait);
        self.news.notify_one();
    }
}

fn coded(status: StatusCode, code: &str) -> Response<Body> {
    let body = format!(r#"{{"error":{{"code":"{code}","message":"trouble on the line"}}}}"#);
    (status, body).into_response()
}

/// A part of an answer, and then the connection breaks.
fn broken(part: &[u8]) -> Response<Body> {
    let part = Ok(Bytes::copy_from_slice(part));
    let cut = Err(std::io::Error::other("the connection breaks"));
    Response::new(Body::from_stream(stream::iter([part, cut])))
}
