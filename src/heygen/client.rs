//! The calls we make to HeyGen's v3 API. Each returns what was said or a sorted fault.
//!
//! Never repeats a call, never follows a redirect, never logs the key or a body.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::Value;

use super::fault::{self, Fault};
use super::kinds::{self, Outgoing};
use super::wire;
use crate::clock::Clock;
use crate::domain::job::{FoundBy, Job, Kind, Observation};
use crate::domain::pause::Reason;
use crate::domain::proxy::Proxies;
use crate::net::{Answer, Call, Client};

/// A create call may take 31 s at p99 (docs/heygen.md, Limits); upstream's own client waits this long.
pub const CREATE_TIMEOUT: Duration = Duration::from_secs(120);
/// Jobs in one status call (docs/heygen.md, Statuses).
pub const MOST_STATUSES: usize = 100;
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// An answer longer than this is not one of HeyGen's.
const MAX_ANSWER_BYTES: usize = 4 << 20;
const AGENT: &str = concat!("reelhook/", env!("CARGO_PKG_VERSION"));

#[derive(Clone)]
pub struct Heygen {
    base: String,
    /// `None` when no key was given: then nothing is sent.
    key: Option<String>,
    clock: Clock,
    /// For paid calls and probes: each on a connection of its own.
    pub(super) once: Client,
    reads: Client,
}

/// A page of a list, and where the next begins.
pub type Page = wire::Page;

impl Heygen {
    pub fn new(base: &str, key: Option<String>, proxies: Proxies, clock: Clock) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            key,
            once: Client::through(proxies.clone(), clock.clone(), false),
            reads: Client::through(proxies, clock.clone(), true),
            clock,
        }
    }

    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The one call that costs money. `idempotency_key` must belong to this request alone; routes
    /// that do not know the header ignore it.
    pub async fn create(
        &self,
        kind: Kind,
        outgoing: Outgoing,
        idempotency_key: &str,
    ) -> Result<wire::Created, Fault> {
        let mut headers = self.headers()?;
        if let Ok(value) = HeaderValue::from_str(idempotency_key) {
            headers.insert("idempotency-key", value);
        }
        let call = Call {
            method: Method::POST,
            url: format!("{}{}", self.base, outgoing.path),
            headers,
            body: Bytes::from(Value::Object(outgoing.body).to_string()),
            timeout: CREATE_TIMEOUT,
            max_body_bytes: MAX_ANSWER_BYTES,
        };
        let answer = self.once.call(call).await?;
        if !answer.status.is_success() {
            return Err(fault::sort(&answer, self.clock.now()));
        }
        wire::read_created(kind, &answer.body).map_err(|why| fault::unreadable(&answer, &why))
    }

    /// How a job stands. An agent's finished session only names its video, which is asked for too.
    pub async fn status(&self, job: &Job, found_by: FoundBy) -> Result<Observation, Fault> {
        let id = job.upstream_id.as_deref().unwrap_or_default();
        let seen = self.status_of(job.kind, id, found_by).await?;
        let video = seen.upstream_video_id.clone().or_else(|| job.upstream_video_id.clone());
        match video {
            Some(video) if job.kind == Kind::VideoAgent && !seen.says.is_final() => {
                let of_video = self.status_of(Kind::Video, &video, found_by).await?;
                let says = if of_video.says.is_final() { of_video.says } else { seen.says };
                Ok(Observation {
                    upstream_id: Some(id.to_owned()),
                    upstream_video_id: Some(video),
                    says,
                    found_by,
                })
            }
            _ => Ok(seen),
        }
    }

    async fn status_of(&self, kind: Kind, id: &str, found_by: FoundBy) -> Result<Observation, Fault> {
        let path = kinds::route(kind).status.replace("{}", &path_segment(id));
        let answer = self.get(&path).await?;
        wire::read_status(kind, &answer.body, found_by).map_err(|why| fault::unreadable(&answer, &why))
    }

    /// Which of these jobs go on, in one call. Of any other nothing is known: it may have ended, be
    /// unknown upstream, or be missing from the answer.
    pub async fn running(&self, kind: Kind, ids: &[&str]) -> Result<HashSet<String>, Fault> {
        let Some((path, param)) = kinds::route(kind).statuses else { return Ok(HashSet::new()) };
        let ids: Vec<String> = ids.iter().take(MOST_STATUSES).map(|id| path_segment(id)).collect();
        let answer = self.get(&format!("{path}?{param}={}", ids.join(","))).await?;
        wire::read_running(kind, &answer.body).map_err(|why| fault::unreadable(&answer, &why))
    }

    /// Whether the key works and what the account has; the cheapest call there is.
    pub async fn me(&self) -> Result<Value, Fault> {
        let answer = self.get("/v3/users/me").await?;
        let whole = json_of(&answer)?;
        Ok(whole.get("data").cloned().unwrap_or(Value::Null))
    }

    /// Events upstream recorded, newest first.
    pub async fn events(&self, token: Option<&str>) -> Result<Page, Fault> {
        self.page("/v3/webhooks/events?limit=100", token).await
    }

    /// A page of one of upstream's lists, newest first.
    pub async fn list(&self, path: &str, token: Option<&str>) -> Result<Page, Fault> {
        self.page(&format!("{path}?limit=100"), token).await
    }

    pub(super) async fn page(&self, path: &str, token: Option<&str>) -> Result<Page, Fault> {
        let path = match token {
            Some(token) => format!("{path}&token={}", path_segment(token)),
            None => path.to_owned(),
        };
        let answer = self.get(&path).await?;
        wire::read_page(&answer.body).map_err(|why| fault::unreadable(&answer, &why))
    }

    async fn get(&self, path: &str) -> Result<Answer, Fault> {
        self.send(Method::GET, path, None).await
    }

    /// A call that costs nothing. The answer is a success.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Fault> {
        self.send_with(self.headers()?, method, path, body).await
    }

    /// A call that upstream carries out once, however often it is made with this key.
    pub(super) async fn post_with_key(
        &self,
        path: &str,
        body: Option<&Value>,
        key: &str,
    ) -> Result<Answer, Fault> {
        let mut headers = self.headers()?;
        if let Ok(value) = HeaderValue::from_str(key) {
            headers.insert("idempotency-key", value);
        }
        self.send_with(headers, Method::POST, path, body).await
    }

    async fn send_with(
        &self,
        headers: HeaderMap,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, Fault> {
        let call = Call {
            method,
            url: format!("{}{path}", self.base),
            headers,
            body: body.map(|b| Bytes::from(b.to_string())).unwrap_or_default(),
            timeout: READ_TIMEOUT,
            max_body_bytes: MAX_ANSWER_BYTES,
        };
        let answer = self.reads.call(call).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(fault::sort(&answer, self.clock.now())) }
    }

    fn headers(&self) -> Result<HeaderMap, Fault> {
        let missing = || {
            Fault::blocked(Reason::NoHeygenKey, "no HeyGen key is set; start reelhook with HEYGEN_API_KEY")
        };
        let key = self.key.as_deref().ok_or_else(missing)?;
        let mut key = HeaderValue::from_str(key).map_err(|_| {
            let why = "the HeyGen key has characters no header can carry; check HEYGEN_API_KEY";
            Fault::blocked(Reason::HeygenKeyRefused, why)
        })?;
        key.set_sensitive(true);
        let mut headers = crate::net::headers([("content-type", "application/json"), ("user-agent", AGENT)]);
        headers.insert("x-api-key", key);
        Ok(headers)
    }
}

pub(super) fn json_of(answer: &Answer) -> Result<Value, Fault> {
    serde_json::from_slice(&answer.body).map_err(|e| fault::unreadable(answer, &e.to_string()))
}

/// An id in a path or query: whatever it is made of, it stays one segment.
pub(super) fn path_segment(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_stays_one_segment() {
        assert_eq!(path_segment("../a b?c"), "..%2Fa%20b%3Fc");
    }
}
