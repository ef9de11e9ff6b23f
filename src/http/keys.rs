//! API keys over HTTP. A key's text is in one answer, once; only its hash is stored.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::problem::{Kind, Problem, Result};
use super::{Http, input, new_key};
use crate::domain::ids;
use crate::domain::time::rfc3339;
use crate::store::api_key::{self, ApiKey};

pub async fn create(State(http): State<Http>, body: Body) -> Result<Response> {
    let mut fields = input::Fields::new(input::object(&input::read(body).await?, true)?);
    let name = fields.text("name", 100).unwrap_or_else(|| "unnamed".to_owned());
    fields.finish()?;
    let now = http.clock.now();
    let (text, hash) = new_key(http.clock.random());
    let key = ApiKey {
        id: ids::new(ids::API_KEY, now, http.clock.random()),
        name,
        hint: text[text.len() - 4..].to_owned(),
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    let stored = key.clone();
    http.db.write(move |tx| api_key::insert(tx, &stored, &hash)).await?;
    let mut answer = key_json(&key);
    answer["key"] = json!(text);
    Ok((StatusCode::CREATED, axum::Json(answer)).into_response())
}

pub async fn list(State(http): State<Http>) -> Result<Response> {
    let keys = http.db.read(api_key::list).await?;
    let data: Vec<Value> = keys.iter().map(key_json).collect();
    Ok(axum::Json(json!({"data": data, "has_more": false, "next_cursor": null})).into_response())
}

pub async fn revoke(State(http): State<Http>, Path(id): Path<String>) -> Result<Response> {
    let (wanted, now) = (id.clone(), http.clock.now());
    if http.db.write(move |tx| api_key::revoke(tx, &wanted, now)).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Problem::saying(
            Kind::NotFound,
            format!("no API key that works has the id {id}; its id is not its text"),
        ))
    }
}

fn key_json(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "name": key.name,
        "hint": format!("…{}", key.hint),
        "created_at": rfc3339(key.created_at),
        "expires_at": key.expires_at.map(rfc3339),
        "revoked_at": key.revoked_at.map(rfc3339),
        "last_used_at": key.last_used_at.map(rfc3339),
    })
}
