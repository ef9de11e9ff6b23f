//! HeyGen's webhook endpoints: register (after a probe), list, change, delete, rotate; and the
//! event log. A secret is shown when it is made and never again.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use url::Url;

use super::Sandbox;
use super::answer::{Problem, Query, data, iso, json_answer};
use super::catalog::EVENT_TYPES;
use super::idempotency::{self, Earlier};
use super::world::World;
use crate::clock::Millis;
use crate::net::Call;

const PATH: &str = "/v3/webhooks/endpoints";
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
const ENDPOINTS_KEPT: usize = 100;

#[derive(Debug, Clone)]
pub struct Endpoint {
    pub id: String,
    pub url: String,
    /// None: all.
    pub events: Option<Vec<String>>,
    /// Only events of this one.
    pub entity_id: Option<String>,
    pub secret: String,
    pub created_at: Millis,
    /// HeyGen disables some, and does not say when (docs/heygen.md, Endpoints); here a test does.
    pub enabled: bool,
}

impl Endpoint {
    pub fn wants(&self, event_type: &str, job_id: &str) -> bool {
        let listed = self.events.as_ref().is_none_or(|events| events.iter().any(|e| e == event_type));
        self.enabled && listed && self.entity_id.as_ref().is_none_or(|entity| entity == job_id)
    }

    fn shown(&self) -> Value {
        json!({
            "endpoint_id": self.id,
            "url": self.url,
            "events": self.events,
            "status": if self.enabled { "enabled" } else { "disabled" },
            "created_at": iso(self.created_at),
        })
    }
}

impl World {
    pub fn endpoint(&self, id: &str) -> Option<&Endpoint> {
        self.endpoints.values().find(|e| e.id == id)
    }

    pub fn endpoint_mut(&mut self, id: &str) -> Result<&mut Endpoint, Problem> {
        let found = self.endpoints.values_mut().find(|e| e.id == id);
        found.ok_or_else(|| Problem::not_found("webhook_not_found", "There is no such endpoint."))
    }

    fn taken(&self, url: &str, but: Option<&str>) -> Result<(), Problem> {
        if self.endpoints.values().any(|e| e.url == url && Some(e.id.as_str()) != but) {
            let message = "An endpoint with this address exists.";
            return Err(Problem::new(StatusCode::CONFLICT, "conflict", message));
        }
        Ok(())
    }
}

/// A call with a key counts as running until it is answered or dropped.
struct Running<'a> {
    sandbox: &'a Sandbox,
    scope: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.sandbox.world().abandon(&self.scope);
    }
}

impl Sandbox {
    /// Carries out a call once per key; `work` is not run when a stored answer is there.
    async fn once(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: &[u8],
        work: impl Future<Output = Result<Value, Problem>>,
    ) -> Result<Response, Problem> {
        let Some(key) = idempotency::key(headers)? else { return work.await.map(data) };
        let (scope, hash) = (idempotency::scope(path, &key), idempotency::body_hash(body));
        {
            let mut world = self.world();
            match world.earlier(&scope, &hash, self.now()) {
                Earlier::Running => return Err(Problem::busy()),
                Earlier::Answered { status, value, .. } => return Ok(json_answer(status, &value)),
                Earlier::None => world.begin(&scope, &hash, self.now()),
            }
        }
        let running = Running { sandbox: self, scope };
        let value = json!({ "data": work.await? });
        let now = self.now();
        self.world().remember(&running.scope, &hash, &value, now, now);
        Ok(json_answer(200, &value))
    }

    async fn register(&self, body: &[u8]) -> Result<Value, Problem> {
        let body = object(body)?;
        let url = address(&body)?;
        let events = events(&body)?;
        self.world().taken(&url, None)?;
        self.probe(&url).await?;
        let mut world = self.world();
        // Once more: another call may have come first while this one waited for the probe.
        world.taken(&url, None)?;
        if world.endpoints.len() >= ENDPOINTS_KEPT {
            let message = "No more endpoints can be registered.";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "resource_limit_reached", message));
        }
        let endpoint = Endpoint {
            id: format!("ep_{}", self.new_id()),
            url,
            events,
            entity_id: body["entity_id"].as_str().map(str::to_owned),
            secret: self.new_secret(),
            created_at: self.now(),
            enabled: true,
        };
        let mut shown = endpoint.shown();
        shown["secret"] = json!(endpoint.secret);
        let number = world.number();
        world.endpoints.insert(number, endpoint);
        Ok(shown)
    }

    /// An address must answer OPTIONS before it is accepted.
    async fn probe(&self, url: &str) -> Result<(), Problem> {
        let call = Call {
            method: Method::OPTIONS,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: PROBE_PATIENCE,
            max_body_bytes: 64 * 1024,
        };
        match self.0.client.call(call).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => {
                Err(Problem::param("url", format!("The address answered OPTIONS with {}.", answer.status)))
            }
            Err(fault) => Err(Problem::param("url", format!("The address could not be reached: {fault}."))),
        }
    }

    fn new_secret(&self) -> String {
        format!("whsec_{}", hex::encode(self.0.ids.random::<24>()))
    }
}

pub async fn create(
    State(sandbox): State<Sandbox>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    sandbox.once(PATH, &headers, &body, sandbox.register(&body)).await
}

pub async fn list(State(sandbox): State<Sandbox>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let world = sandbox.world();
    let newest_first = world.endpoints.iter().rev().map(|(number, e)| (*number, e.shown()));
    Query::parse(query.as_deref()).page(100, newest_first)
}

pub async fn change(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let body = object(&body)?;
    sandbox.world().endpoint_mut(&id)?;
    let url = if body["url"].is_null() { None } else { Some(address(&body)?) };
    if let Some(url) = &url {
        sandbox.probe(url).await?;
    }
    let mut world = sandbox.world();
    if let Some(url) = &url {
        world.taken(url, Some(&id))?;
    }
    let endpoint = world.endpoint_mut(&id)?;
    if let Some(url) = url {
        endpoint.url = url;
    }
    if body.get("events").is_some() {
        endpoint.events = events(&body)?;
    }
    Ok(data(endpoint.shown()))
}

pub async fn delete(State(sandbox): State<Sandbox>, Path(id): Path<String>) -> Result<Response, Problem> {
    let mut world = sandbox.world();
    world.endpoint_mut(&id)?;
    world.endpoints.retain(|_, endpoint| endpoint.id != id);
    Ok(data(json!({})))
}

/// The old secret stops at once: the next delivery is signed with the new one.
pub async fn rotate(
    State(sandbox): State<Sandbox>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let path = format!("{PATH}/{id}/rotate-secret");
    let work = async {
        let secret = sandbox.new_secret();
        sandbox.world().endpoint_mut(&id)?.secret.clone_from(&secret);
        Ok(json!({ "endpoint_id": id, "secret": secret }))
    };
    sandbox.once(&path, &headers, &body, work).await
}

pub async fn event_types() -> Response {
    let all: Vec<Value> =
        EVENT_TYPES.iter().map(|(name, about)| json!({ "event_type": name, "description": about })).collect();
    axum::Json(json!({ "data": all, "has_more": false, "next_token": null })).into_response()
}

/// What happened, newest first, whether or not it was delivered to anybody.
pub async fn event_log(
    State(sandbox): State<Sandbox>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref());
    let (event_type, entity_id) = (query.get("event_type"), query.get("entity_id"));
    let world = sandbox.world();
    let wanted = world.log.iter().rev().filter(|event| {
        event_type.is_none_or(|name| name == event.event_type) && entity_id.is_none_or(|id| id == event.id)
    });
    let shown = wanted.map(|event| {
        let line = json!({
            "event_id": event.event_id,
            "event_type": event.event_type,
            "event_data": event.event_data,
            "created_at": iso(event.created_at),
        });
        (event.number, line)
    });
    query.page(100, shown)
}

fn object(body: &[u8]) -> Result<Value, Problem> {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let body = body.filter(Value::is_object);
    body.ok_or_else(|| Problem::param("body", "The body must be a JSON object."))
}

/// https only, as HeyGen wants it; plain http on this machine, because this is a sandbox.
fn address(body: &Value) -> Result<String, Problem> {
    let text = body["url"].as_str().unwrap_or_default();
    let fine = Url::parse(text).is_ok_and(|url| match url.scheme() {
        "https" => true,
        "http" => url.host_str().is_some_and(is_loopback),
        _ => false,
    });
    if fine { Ok(text.to_owned()) } else { Err(Problem::param("url", "url must be a public https address.")) }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}

fn events(body: &Value) -> Result<Option<Vec<String>>, Problem> {
    let list = match body.get("events") {
        None | Some(Value::Null) => return Ok(None),
        Some(list) => list.as_array().cloned().unwrap_or_else(|| vec![Value::Null]),
    };
    let known = |name: &Value| {
        let name = name.as_str()?;
        EVENT_TYPES.iter().any(|(known, _)| *known == name).then(|| name.to_owned())
    };
    let events: Option<Vec<String>> = list.iter().map(known).collect();
    match events {
        Some(events) => Ok(Some(events).filter(|events| !events.is_empty())),
        None => Err(Problem::param("events", "events must be a list of known event types.")),
    }
}
