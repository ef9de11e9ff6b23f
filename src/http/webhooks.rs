//! HeyGen's side of webhooks over HTTP: register, list, rotate, remove.
//!
//! A secret HeyGen tells is stored before anything else is done; it is never in an answer of ours.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::problem::{Kind, Problem, Result};
use super::secrets::ROTATING_SINCE;
use super::{Http, input};
use crate::domain::ids;
use crate::domain::time::{HOUR, rfc3339};
use crate::heygen::webhooks::{self, Endpoint, Secret};
use crate::store::{Tx, setting, webhook_secret};

/// A secret that was replaced still verifies for this long: HeyGen retries for up to 24 h what it
/// signed before, and signs anew each time, but a delivery under way must not be refused.
const OVERLAP: i64 = HOUR;

pub async fn list(State(http): State<Http>) -> Result<Response> {
    let all = webhooks::list(&http.heygen).await?;
    let now = http.clock.now();
    let known = http.db.read(move |tx| webhook_secret::list_live(tx, now)).await?;
    let ours = http.settings.public_url.as_deref();
    let data: Vec<Value> = all
        .iter()
        .map(|e| {
            let secret = known.iter().find(|k| k.endpoint_id == e.endpoint_id);
            json!({
                "endpoint_id": e.endpoint_id,
                "url": e.url,
                "events": e.events,
                "status": e.status,
                "is_ours": ours.is_some_and(|base| e.url.starts_with(base)),
                "secret_known": secret.is_some(),
                "secret_since": secret.map(|k| rfc3339(k.created_at)),
            })
        })
        .collect();
    Ok(axum::Json(json!({"data": data, "has_more": false, "next_cursor": null})).into_response())
}

/// Creates the endpoint, or updates the one there is. Never makes a second for the same address.
pub async fn register(State(http): State<Http>, body: Body) -> Result<Response> {
    let mut fields = input::Fields::new(input::object(&input::read(body).await?, true)?);
    let events = fields.texts("events");
    fields.finish()?;
    let base = http.settings.public_url.clone().ok_or(Kind::NoPublicUrl)?;
    let url = format!("{base}{}", super::hook::PATHS[0]);
    let took = webhooks::probe(&http.heygen, &url)
        .await
        .map_err(|why| Problem::saying(Kind::ProbeFailed, format!("OPTIONS {url}: {why}")))?;
    let there = webhooks::list(&http.heygen).await?.into_iter().find(|e| e.url == url);
    let action = match &there {
        Some(endpoint) => adopt(&http, endpoint, events.as_deref()).await?,
        None => {
            let made = webhooks::create(&http.heygen, &url, events.as_deref()).await?;
            keep(&http, &url, made).await?;
            "created"
        }
    };
    http.secrets.reload(http.clock.now()).await?;
    let now = http.clock.now();
    let known = http.db.read(move |tx| webhook_secret::list_live(tx, now)).await?;
    let kept = known.iter().find(|k| k.url == url);
    tracing::info!(url, action, "webhook endpoint registered at HeyGen");
    let status = if action == "created" { StatusCode::CREATED } else { StatusCode::OK };
    let answer = json!({
        "action": action,
        "endpoint_id": kept.map(|k| k.endpoint_id.clone()),
        "url": url,
        "events": events,
        "probe_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        "secret_stored": kept.is_some(),
    });
    Ok((status, axum::Json(answer)).into_response())
}

/// An endpoint with our address is there: its events are set, and its secret must be one we know.
async fn adopt(http: &Http, endpoint: &Endpoint, events: Option<&[String]>) -> Result<&'static str> {
    if endpoint.events.as_deref() != events {
        webhooks::update(&http.heygen, &endpoint.endpoint_id, &endpoint.url, events).await?;
    }
    let (id, now) = (endpoint.endpoint_id.clone(), http.clock.now());
    let known = http.db.read(move |tx| webhook_secret::list_live(tx, now)).await?;
    if known.iter().any(|k| k.endpoint_id == id) {
        return Ok("updated");
    }
    // HeyGen told its secret to somebody else, or we lost it: only a new one helps.
    replace(http, &id, &endpoint.url).await?;
    Ok("rotated")
}

pub async fn rotate(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    input::nothing(body).await?;
    let endpoint = webhooks::list(&http.heygen).await?.into_iter().find(|e| e.endpoint_id == id);
    let endpoint =
        endpoint.ok_or_else(|| Problem::saying(Kind::NotFound, format!("HeyGen has no endpoint {id}")))?;
    replace(&http, &id, &endpoint.url).await?;
    tracing::info!(endpoint_id = id, "webhook secret rotated");
    Ok(axum::Json(json!({
        "endpoint_id": id,
        "url": endpoint.url,
        "secret_stored": true,
        "old_secret_verifies_until": rfc3339(http.clock.now() + OVERLAP),
    }))
    .into_response())
}

/// From before HeyGen kills the old secret until the new one is stored, what does not verify is
/// answered 503, and HeyGen sends it again.
async fn replace(http: &Http, id: &str, url: &str) -> Result<()> {
    let now = http.clock.now();
    http.db.write(move |tx| setting::put(tx, ROTATING_SINCE, &now.to_string())).await?;
    http.secrets.reload(now).await?;
    let rotated = webhooks::rotate(&http.heygen, id).await;
    let kept = match rotated {
        Ok(made) => keep(http, url, made).await,
        Err(fault) => Err(fault.into()),
    };
    http.db.write(|tx| setting::put(tx, ROTATING_SINCE, "")).await?;
    http.secrets.reload(http.clock.now()).await?;
    kept
}

/// Stores a fresh secret; the endpoint's older ones verify a while longer.
async fn keep(http: &Http, url: &str, made: Secret) -> Result<()> {
    let now = http.clock.now();
    let stored = webhook_secret::WebhookSecret {
        id: ids::new(ids::SECRET, now, http.clock.random()),
        endpoint_id: made.endpoint_id,
        url: url.to_owned(),
        secret: made.secret,
        created_at: now,
        retired_at: None,
    };
    let write = move |tx: &mut Tx| {
        webhook_secret::insert(tx, &stored)?;
        webhook_secret::retire(tx, &stored.endpoint_id, Some(&stored.id), now + OVERLAP)
    };
    http.db.write(write).await?;
    Ok(())
}

pub async fn remove(State(http): State<Http>, Path(id): Path<String>) -> Result<Response> {
    webhooks::remove(&http.heygen, &id).await?;
    let now = http.clock.now();
    http.db.write(move |tx| webhook_secret::retire(tx, &id, None, now)).await?;
    http.secrets.reload(now).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
