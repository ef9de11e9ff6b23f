//! A small HTTP client for the cases: one call, one answer, and what every problem document must
//! have. It runs on the real clock with a limit, so that a case that would hang fails instead.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use reelhook::clock::Clock;
use reelhook::net;
use serde_json::Value;

/// A case that waits longer than this for an answer has found a hang.
const LIMIT: Duration = Duration::from_secs(240);

pub type Headers<'a> = &'a [(&'static str, &'a str)];

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// One call to an address of this machine.
pub async fn call(method: &str, url: &str, headers: Headers<'_>, body: Bytes) -> Answer {
    let request = net::Call {
        method: method.parse().expect("a method"),
        url: url.to_owned(),
        headers: net::headers(headers.iter().copied()),
        body,
        timeout: LIMIT,
        max_body_bytes: 16 << 20,
    };
    let answer = net::Client::new(Clock::real(), false).call(request).await;
    let answer = answer.unwrap_or_else(|e| panic!("{method} {url}: {e}"));
    Answer { status: answer.status.as_u16(), headers: answer.headers, body: answer.body }
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "the answer was {}", self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The problem document with this status and code, complete.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "the answer was {}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let body = self.json();
        assert_eq!(body["code"], code, "in {body}");
        assert_eq!(body["status"], status, "in {body}");
        for name in ["type", "title", "hint"] {
            assert!(body[name].as_str().is_some_and(|text| !text.is_empty()), "no {name} in {body}");
        }
        assert!(body["retryable"].is_boolean(), "no retryable in {body}");
        assert_eq!(body["type"], format!("/errors#{code}"));
        assert!(body["instance"].as_str().is_some_and(|path| path.starts_with('/')), "no instance in {body}");
        assert_eq!(body["request_id"].as_str(), self.header("x-request-id"), "in {body}");
        if status == 503 {
            let seconds = self.header("retry-after").and_then(|v| v.parse::<u64>().ok());
            assert!(seconds.is_some_and(|s| s > 0), "a 503 says when to try again");
        }
        body
    }

    /// The pointers of a problem's field errors, in order.
    #[track_caller]
    pub fn pointers(&self) -> Vec<String> {
        let body = self.json();
        let errors = body["errors"].as_array().unwrap_or_else(|| panic!("no errors in {body}"));
        errors
            .iter()
            .map(|e| {
                assert!(e["message"].as_str().is_some_and(|m| !m.is_empty()), "no message in {e}");
                e["pointer"].as_str().unwrap_or_default().to_owned()
            })
            .collect()
    }
}
