//! The audit over HTTP: who did what to many things at once.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::Http;
use super::problem::Result;
use super::query::{Query, page};
use crate::domain::ids;
use crate::domain::time::rfc3339;
use crate::store::audit::Line;
use crate::store::{Tx, audit};

pub async fn list(State(http): State<Http>, RawQuery(raw): RawQuery) -> Result<Response> {
    let mut query = Query::parse(raw.as_deref());
    let (limit, cursor) = (query.limit(), query.cursor(ids::AUDIT));
    query.finish()?;
    let found = http.db.read(move |tx: &mut Tx| audit::list(tx, cursor.as_deref(), limit + 1)).await?;
    Ok(page("/api/audit", raw.as_deref(), found, limit, |line| line.id.clone(), line_json))
}

fn line_json(line: &Line) -> Value {
    let details: Value = serde_json::from_str(&line.details).unwrap_or_default();
    json!({
        "id": line.id,
        "created_at": rfc3339(line.created_at),
        "who": line.who,
        "action": line.action,
        "details": details,
    })
}
