//! The event log over HTTP: pages of it, and one event. As it grows it is told by `stream.rs`.

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Http;
use super::problem::{Kind, Problem, Result};
use super::query::{Query, page};
use crate::domain::event::Event;
use crate::domain::time::rfc3339;
use crate::store::{Tx, event};

pub async fn list(State(http): State<Http>, RawQuery(raw): RawQuery) -> Result<Response> {
    list_page(&http, "/api/events".to_owned(), None, raw.as_deref()).await
}

pub async fn list_page(
    http: &Http,
    path: String,
    job_id: Option<String>,
    raw: Option<&str>,
) -> Result<Response> {
    let mut query = Query::parse(raw);
    let limit = query.limit();
    let after = query.position();
    query.finish()?;
    let read = move |tx: &mut Tx| event::list(tx, job_id.as_deref(), after, limit + 1);
    let events = http.db.read(read).await?;
    Ok(page(&path, raw, events, limit, |e| e.number.to_string(), event_json))
}

/// By its number or its id.
pub async fn get(State(http): State<Http>, Path(id): Path<String>) -> Result<Response> {
    let wanted = id.clone();
    let read = move |tx: &mut Tx| match wanted.parse::<i64>() {
        Ok(number) => Ok(event::find_many(tx, &[number])?.pop()),
        Err(_) => event::find(tx, &wanted),
    };
    let found = http.db.read(read).await?;
    let found = found
        .ok_or_else(|| Problem::saying(Kind::NotFound, format!("no event has the number or id {id}")))?;
    Ok(axum::Json(event_json(&found)).into_response())
}

pub fn event_json(e: &Event) -> Value {
    json!({
        "number": e.number,
        "id": e.id,
        "type": e.event_type,
        "job_id": e.job_id,
        "job_sequence": e.job_sequence,
        "created_at": rfc3339(e.created_at),
        "receipt_id": e.receipt_id,
        "data": serde_json::from_str::<Value>(&e.data).unwrap_or(Value::Null),
    })
}
