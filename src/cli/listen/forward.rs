//! Hands an event to the receiver as an endpoint would get it: our own signed as Standard Webhooks say, HeyGen's
//! own byte for byte with the headers they came with.

use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use crate::cli::client::Session;
use crate::cli::output::shorten;
use crate::cli::{CliError, Result};
use crate::clock::{Clock, Stopwatch};
use crate::domain::delivery::body;
use crate::domain::event::Event;
use crate::domain::signing::{SigningSecret, sign, timestamp};
use crate::domain::time::parse_rfc3339;
use crate::net;

/// As long as an endpoint has.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Of what was answered, so much is read and so much shown.
const MAX_ANSWER_BYTES: usize = 64 << 10;
const MAX_SHOWN_CHARS: usize = 500;
const USER_AGENT: &str = concat!("reelhook-listen/", env!("CARGO_PKG_VERSION"));

/// An event on its way, with what came of the last time it was sent.
pub struct Parcel {
    pub event: Value,
    /// Of one of HeyGen's own: the receipt it is, with the check of its signature.
    pub receipt: Option<Value>,
    body: Bytes,
    own: HeaderMap,
    pub sent: u32,
    pub came: Option<Came>,
}

/// What came of sending it.
pub struct Came {
    pub status: Option<u16>,
    pub error: Option<String>,
    pub answer: String,
    pub took_ms: u64,
}

impl Came {
    pub fn is_taken(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }
}

impl Parcel {
    /// Of an event as the stream tells it.
    pub async fn new(s: &Session, told: Value) -> Result<Self> {
        let text = |name: &str| told[name].as_str().map(str::to_owned);
        let (Some(id), Some(event_type)) = (text("id"), text("type")) else {
            return Err(CliError::failure(format!("the server told what is no event: {told}")));
        };
        let receipt = match told["receipt_id"].as_str() {
            Some(id) => Some(s.api.get(&["receipts", id], &[]).await?),
            None => None,
        };
        let (body, own) = match &receipt {
            Some(receipt) => as_it_came(receipt)?,
            None => {
                let event = Event {
                    id,
                    event_type,
                    job_id: text("job_id"),
                    job_sequence: told["job_sequence"].as_i64().unwrap_or(0),
                    created_at: text("created_at").and_then(|at| parse_rfc3339(&at)).unwrap_or(0),
                    data: told["data"].to_string(),
                    ..Event::default()
                };
                (body(&event).into(), HeaderMap::new())
            }
        };
        Ok(Self { event: told, receipt, body, own, sent: 0, came: None })
    }

    /// Sends it. False when nothing was sent, because nobody is there.
    pub async fn send(
        &mut self,
        to: &str,
        client: &net::Client,
        clock: &Clock,
        secret: &SigningSecret,
    ) -> bool {
        self.sent += 1;
        let call = net::Call {
            method: Method::POST,
            url: to.to_owned(),
            headers: self.headers(clock, secret),
            body: self.body.clone(),
            timeout: TIMEOUT,
            max_body_bytes: MAX_ANSWER_BYTES,
        };
        let watch = Stopwatch::start();
        let done = client.tell(call).await;
        let took_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (status, error, answer) = match &done {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.body);
                (Some(answer.status.as_u16()), None, shorten(text.trim(), MAX_SHOWN_CHARS))
            }
            Err(fault) => (None, Some(fault.to_string()), String::new()),
        };
        self.came = Some(Came { status, error, answer, took_ms });
        !matches!(done, Err(net::Fault::NotSent(_) | net::Fault::Forbidden(_)))
    }

    fn headers(&self, clock: &Clock, secret: &SigningSecret) -> HeaderMap {
        let (id, now) = (self.event["id"].as_str().unwrap_or_default(), clock.now());
        let signed = sign(std::slice::from_ref(secret), id, now, &self.body);
        let mut headers = self.own.clone();
        for (name, value, ours) in [
            ("content-type", "application/json", false),
            ("user-agent", USER_AGENT, false),
            ("webhook-id", id, true),
            ("webhook-timestamp", &timestamp(now), true),
            ("webhook-signature", &signed, true),
            ("reelhook-attempt", &self.sent.to_string(), true),
            ("reelhook-job", self.event["job_id"].as_str().unwrap_or_default(), true),
            ("reelhook-sequence", &self.event["job_sequence"].to_string(), true),
        ] {
            let fits = !value.is_empty() && (ours || !headers.contains_key(name));
            if let Ok(value) = HeaderValue::from_str(value)
                && fits
            {
                headers.insert(name, value);
            }
        }
        headers
    }

    /// The steps in which the signature of one of HeyGen's own was checked.
    pub fn steps(&self) -> Vec<&str> {
        let check = self.receipt.as_ref().map(|receipt| &receipt["signature_check"]["steps"]);
        check.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let came = self.came.as_ref().map(|came| {
            json!({"status": came.status, "error": came.error, "answer": came.answer, "took_ms": came.took_ms})
        });
        json!({"event": self.event, "signature_check": self.receipt.as_ref().map(|_| self.steps()), "came": came})
    }

    /// As it is sent, headers and body.
    pub fn page(&self, clock: &Clock, secret: &SigningSecret) -> String {
        let headers = self.headers(clock, secret);
        let lines = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap_or("?")));
        let body = match serde_json::from_slice::<Value>(&self.body) {
            Ok(value) => format!("{value:#}"),
            Err(_) => String::from_utf8_lossy(&self.body).into_owned(),
        };
        format!("{}\n\n{body}", lines.collect::<Vec<_>>().join("\n"))
    }
}

/// A receipt's bytes and headers.
fn as_it_came(receipt: &Value) -> Result<(Bytes, HeaderMap)> {
    let bytes = receipt["body_base64"].as_str().unwrap_or_default();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(bytes)
        .map_err(|e| CliError::failure(format!("the server gave no bytes of the receipt: {e}")))?;
    let pairs = receipt["headers"].as_object().into_iter().flatten().filter_map(|(name, value)| {
        let value = HeaderValue::from_str(value.as_str()?).ok()?;
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
    });
    Ok((bytes.into(), pairs.collect()))
}
