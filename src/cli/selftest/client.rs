//! Asks the server under test over its API, and goes on asking while that is down: what a caller does
//! who wants to be sure. Never decides what an answer means.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::net::{self, Call};

/// Longer than the longest `?wait=`.
const TIMEOUT: Duration = Duration::from_secs(90);
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Before a question that was not answered is asked again.
const PAUSE: Duration = Duration::from_millis(10);

pub struct Client {
    pub port: u16,
    net: net::Client,
    clock: Clock,
    /// Whether the server says that it is ready.
    pub is_up: watch::Sender<bool>,
    repeated: AtomicUsize,
}

/// An answer that asking again will not change.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {status} {body}")]
pub struct Refused {
    what: String,
    pub status: u16,
    body: Value,
}

impl Client {
    pub fn new(port: u16) -> Self {
        let clock = Clock::real();
        Self {
            port,
            // No reuse: a server that was restarted gets a fresh connection.
            net: net::Client::new(clock.clone(), false),
            clock,
            is_up: watch::Sender::new(false),
            repeated: AtomicUsize::new(0),
        }
    }

    pub async fn call(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(u16, Value), net::Fault> {
        let body = body.map(|b| Bytes::from(b.to_string())).unwrap_or_default();
        let key = key.map(|key| ("idempotency-key", key));
        let answer = self.raw(method, path, key, body).await?;
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        Ok((answer.status.as_u16(), body))
    }

    /// One call with at most one header of its own, byte for byte.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        header: Option<(&'static str, &str)>,
        body: Bytes,
    ) -> Result<net::Answer, net::Fault> {
        let call = Call {
            method: method.parse().unwrap_or_default(),
            url: format!("http://127.0.0.1:{}{path}", self.port),
            headers: net::headers([("content-type", "application/json")].into_iter().chain(header)),
            body,
            timeout: TIMEOUT,
            max_body_bytes: MAX_ANSWER_BYTES,
        };
        self.net.call(call).await
    }

    /// Asks until the server, which may be down or starting, answers what is not a 5xx.
    pub async fn insist(
        &self,
        method: &str,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Value, Refused> {
        loop {
            match self.call(method, path, key, body).await {
                Ok((200..=299, body)) => return Ok(body),
                Ok((status, body)) if status < 500 => {
                    return Err(Refused { what: format!("{method} {path}"), status, body });
                }
                // Busy, or down.
                _ => self.clock.sleep(PAUSE).await,
            }
            self.repeated.fetch_add(usize::from(key.is_some()), Ordering::Relaxed);
            // It fails only without a sender, and that is ours.
            let _ = self.is_up.subscribe().wait_for(|up| *up).await;
        }
    }

    /// How often what has an idempotency key had to be asked again.
    pub fn repeated(&self) -> usize {
        self.repeated.load(Ordering::Relaxed)
    }
}
