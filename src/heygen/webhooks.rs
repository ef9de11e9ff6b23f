//! HeyGen's side of webhooks: the endpoints registered there (docs/heygen.md, Endpoints).
//!
//! A secret is told once, at create and rotate; whoever calls these must store it before anything else.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::client::{Heygen, json_of, path_segment};
use super::fault::Fault;
use super::kinds;
use crate::clock::Stopwatch;
use crate::domain::job::Kind;
use crate::net::Call;

/// Upstream gives an address this long to answer its probe.
pub const PROBE_LIMIT: Duration = Duration::from_secs(1);
const MAX_PAGES: usize = 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub endpoint_id: String,
    pub url: String,
    /// `None` stands for every event.
    pub events: Option<Vec<String>>,
    pub status: Option<String>,
}

/// A fresh secret, told once.
pub struct Secret {
    pub endpoint_id: String,
    pub secret: String,
}

pub async fn list(heygen: &Heygen) -> Result<Vec<Endpoint>, Fault> {
    let (mut all, mut token) = (vec![], None);
    for _ in 0..MAX_PAGES {
        let page = heygen.page("/v3/webhooks/endpoints?limit=100", token.as_deref()).await?;
        all.extend(page.items.iter().filter_map(read));
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    Ok(all)
}

/// Asked again with the same `key` it tells the same secret again.
pub async fn create(
    heygen: &Heygen,
    url: &str,
    events: Option<&[String]>,
    key: &str,
) -> Result<Secret, Fault> {
    let body = json!({"url": url, "events": events});
    let answer = heygen.post_with_key("/v3/webhooks/endpoints", Some(&body), key).await?;
    secret_of(&json_of(&answer)?, None)
}

/// Replaces address and events; the secret stays.
pub async fn update(heygen: &Heygen, id: &str, url: &str, events: Option<&[String]>) -> Result<(), Fault> {
    let path = format!("/v3/webhooks/endpoints/{}", path_segment(id));
    heygen.send(Method::PATCH, &path, Some(&json!({"url": url, "events": events}))).await.map(|_| ())
}

pub async fn remove(heygen: &Heygen, id: &str) -> Result<(), Fault> {
    let path = format!("/v3/webhooks/endpoints/{}", path_segment(id));
    heygen.send(Method::DELETE, &path, None).await.map(|_| ())
}

/// A new secret; asked again with the same `key`, the same. The old one is dead upstream the moment
/// this succeeds.
pub async fn rotate(heygen: &Heygen, id: &str, key: &str) -> Result<Secret, Fault> {
    let path = format!("/v3/webhooks/endpoints/{}/rotate-secret", path_segment(id));
    let answer = heygen.post_with_key(&path, None, key).await?;
    secret_of(&json_of(&answer)?, Some(id))
}

/// Asks `url` as HeyGen will before it accepts the address. How long it took, or what is wrong.
pub async fn probe(heygen: &Heygen, url: &str) -> Result<Duration, String> {
    let watch = Stopwatch::start();
    let call = Call {
        method: Method::OPTIONS,
        url: url.to_owned(),
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::new(),
        timeout: PROBE_LIMIT,
        max_body_bytes: 64 << 10,
    };
    let answer = heygen.once.call(call).await.map_err(|e| e.to_string())?;
    if answer.status.is_success() {
        Ok(watch.elapsed())
    } else {
        Err(format!("it answered {} to OPTIONS", answer.status.as_u16()))
    }
}

/// The events that tell registered endpoints how jobs of the kinds we know ended.
pub fn outcome_events() -> Vec<String> {
    let stems = Kind::ALL.into_iter().flat_map(|kind| kinds::route(kind).events);
    let mut all: Vec<String> =
        stems.flat_map(|stem| ["success", "fail"].map(|end| format!("{stem}.{end}"))).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn secret_of(whole: &Value, id: Option<&str>) -> Result<Secret, Fault> {
    let data = whole.get("data").unwrap_or(whole);
    let text = |name| data.get(name).and_then(Value::as_str).map(str::to_owned);
    let unknown = |why: &str| Fault::Unknown { why: why.to_owned(), said: None };
    Ok(Secret {
        endpoint_id: text("endpoint_id")
            .or_else(|| id.map(str::to_owned))
            .ok_or_else(|| unknown("HeyGen answered without an endpoint id"))?,
        secret: text("secret").ok_or_else(|| unknown("HeyGen answered without a secret"))?,
    })
}

fn read(item: &Value) -> Option<Endpoint> {
    let text = |name| item.get(name).and_then(Value::as_str).map(str::to_owned);
    let events = item.get("events").and_then(Value::as_array);
    Some(Endpoint {
        endpoint_id: text("endpoint_id")?,
        url: text("url")?,
        events: events.map(|all| all.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        status: text("status"),
    })
}
