//! HeyGen's side of webhooks over HTTP: register, list, rotate, remove.
//!
//! A secret HeyGen tells is stored before anything else is done (`rotation`). It is in an answer of ours only
//! if that was asked for, and only in the one to what made it: for a receiver that verifies HeyGen's signature
//! behind us.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::hook::{PATHS, leads_here};
use super::problem::{Kind, Problem, Result};
use super::{Http, input, rotation};
use crate::domain::time::rfc3339;
use crate::heygen::fault::Fault;
use crate::heygen::webhooks::{self, Endpoint};
use crate::store::webhook_secret;

pub async fn list(State(http): State<Http>) -> Result<Response> {
    let all = webhooks::list(&http.heygen).await?;
    let now = http.clock.now();
    let known = http.db.read(move |tx| webhook_secret::list_live(tx, now)).await?;
    let ours = http.settings.hooks_url.as_deref();
    let data: Vec<Value> = all
        .iter()
        .map(|e| {
            let secret = known.iter().find(|k| k.endpoint_id == e.endpoint_id);
            json!({
                "endpoint_id": e.endpoint_id,
                "url": e.url,
                "events": e.events,
                "status": e.status,
                "is_ours": ours.is_some_and(|base| leads_here(&e.url, base)),
                "secret_known": secret.is_some(),
                "secret_since": secret.map(|k| rfc3339(k.created_at)),
            })
        })
        .collect();
    Ok(axum::Json(json!({"data": data, "has_more": false, "next_cursor": null})).into_response())
}

/// Creates the endpoint, or updates the one there is, at whichever of our addresses. Never makes a second: every
/// event would come twice.
pub async fn register(State(http): State<Http>, body: Body) -> Result<Response> {
    let mut fields = input::Fields::new(input::object(&input::read(body).await?, true)?);
    let events = fields.texts("events");
    let show = fields.switch("show_secret");
    fields.finish()?;
    let base = http.settings.hooks_url.clone().ok_or(Kind::NoPublicUrl)?;
    let usual = format!("{base}{}", PATHS[0]);
    let took = webhooks::probe(&http.heygen, &usual)
        .await
        .map_err(|why| Problem::saying(Kind::ProbeFailed, format!("OPTIONS {usual}: {why}")))?;
    let mut there = webhooks::list(&http.heygen).await?;
    there.retain(|e| leads_here(&e.url, &base));
    let there = there.iter().find(|e| e.url == usual).or(there.first());
    let url = there.map_or(usual, |e| e.url.clone());
    let action = match there {
        Some(endpoint) => adopt(&http, endpoint, events.as_deref()).await?,
        None => {
            rotation::create(&http, &url, events.as_deref()).await?;
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
        "secret": kept.filter(|_| show && action != "updated").map(|k| k.secret.clone()),
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
    rotation::replace(http, &id, &endpoint.url).await?;
    Ok("rotated")
}

pub async fn rotate(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    let mut fields = input::Fields::new(input::object(&input::read(body).await?, true)?);
    let show = fields.switch("show_secret");
    fields.finish()?;
    let endpoint = webhooks::list(&http.heygen).await?.into_iter().find(|e| e.endpoint_id == id);
    let Some(endpoint) = endpoint else {
        rotation::forget(&http, &id).await?;
        return Err(no_endpoint(&id));
    };
    rotation::replace(&http, &id, &endpoint.url).await?;
    let now = http.clock.now();
    let known = http.db.read(move |tx| webhook_secret::list_live(tx, now)).await?;
    let new = known.into_iter().find(|k| show && k.endpoint_id == id);
    tracing::info!(endpoint_id = id, "webhook secret rotated");
    Ok(axum::Json(json!({
        "endpoint_id": id,
        "url": endpoint.url,
        "secret_stored": true,
        "secret": new.map(|k| k.secret),
        "old_secret_verifies_until": rfc3339(now + rotation::OVERLAP),
    }))
    .into_response())
}

fn no_endpoint(id: &str) -> Problem {
    Problem::saying(
        Kind::NotFound,
        format!("HeyGen has no webhook endpoint with the id {id} in this account"),
    )
}

pub async fn remove(State(http): State<Http>, Path(id): Path<String>) -> Result<Response> {
    if let Err(fault) = webhooks::remove(&http.heygen, &id).await {
        let is_gone = matches!(fault, Fault::NotFound(_));
        let told = Problem::from(fault);
        return Err(if is_gone { Problem { upstream: told.upstream, ..no_endpoint(&id) } } else { told });
    }
    let now = http.clock.now();
    let gone = id.clone();
    http.db.write(move |tx| webhook_secret::retire(tx, &gone, None, now)).await?;
    rotation::forget(&http, &id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
