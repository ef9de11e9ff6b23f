//! Receipts over HTTP: what arrived, how it was judged, what it was taken to mean.

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use serde_json::{Value, json};

use super::Http;
use super::problem::{Kind, Problem, Result};
use super::query::{Query, page};
use crate::domain::ids;
use crate::domain::receipt::{Receipt, Verdict};
use crate::domain::signature;
use crate::domain::time::rfc3339;
use crate::heygen::wire;
use crate::store::{Tx, inbox};

pub async fn list(State(http): State<Http>, RawQuery(raw): RawQuery) -> Result<Response> {
    list_page(&http, "/api/receipts".to_owned(), None, raw.as_deref()).await
}

pub async fn list_of_job(http: &Http, job_id: &str, raw: Option<&str>) -> Result<Response> {
    list_page(http, format!("/api/jobs/{job_id}/receipts"), Some(job_id.to_owned()), raw).await
}

async fn list_page(http: &Http, path: String, job_id: Option<String>, raw: Option<&str>) -> Result<Response> {
    let mut query = Query::parse(raw);
    let limit = query.limit();
    let cursor = query.cursor(ids::RECEIPT);
    let names = Verdict::ALL.map(Verdict::name).join(", ");
    let filter = inbox::Filter {
        verdict: query
            .read("verdict", |t| Verdict::parse(t).ok_or_else(|| format!("must be one of {names}"))),
        job_id,
    };
    query.finish()?;
    let read = move |tx: &mut Tx| inbox::list(tx, &filter, cursor.as_deref(), limit + 1);
    let receipts = http.db.read(read).await?;
    Ok(page(&path, raw, receipts, limit, |r| r.id.clone(), receipt_json))
}

/// One receipt with its bytes and the check of its signature, step by step.
pub async fn get(State(http): State<Http>, Path(id): Path<String>) -> Result<Response> {
    let wanted = id.clone();
    let found = http.db.read(move |tx| inbox::find_many(tx, &[&wanted])).await?.into_iter().next();
    let receipt =
        found.ok_or_else(|| Problem::saying(Kind::NotFound, format!("no receipt has the id {id}")))?;
    let mut body = receipt_json(&receipt);
    body["body"] = match std::str::from_utf8(&receipt.body) {
        Ok(text) => json!(text),
        Err(_) => Value::Null,
    };
    body["body_base64"] = json!(base64::engine::general_purpose::STANDARD.encode(&receipt.body));
    body["headers"] = serde_json::from_str(&receipt.headers).unwrap_or(Value::Null);
    body["signature_check"] = check(&http, &receipt);
    body["taken_to_mean"] = json!(match wire::hear(&receipt.body) {
        Ok(heard) => heard.summary(),
        Err(why) => why.to_string(),
    });
    Ok(axum::Json(body).into_response())
}

/// What the door saw, once more with the secrets that live now.
fn check(http: &Http, receipt: &Receipt) -> Value {
    if receipt.verdict == Verdict::Logged {
        let steps = ["read in HeyGen's event log with our own key, so there is no signature to check"];
        return json!({"steps": steps, "signed_now": false, "signed_by_then": null});
    }
    let headers: Value = serde_json::from_str(&receipt.headers).unwrap_or(Value::Null);
    let header = |name: &str| headers.get(name).and_then(Value::as_str);
    let found = signature::HEADERS.iter().find(|name| header(name).is_some());
    let live = http.secrets.live();
    let verdict = signature::verify(&receipt.body, header, &live.secrets, receipt.received_at);
    let mut steps = vec![match found {
        Some(name) => format!("header {name} is there"),
        None => "none of signature, heygen-signature, x-heygen-signature is there".to_owned(),
    }];
    if let Some(name) = found {
        let hex = header(name).and_then(signature::decode).is_some();
        steps.push(format!("its value is {} 64 hex digits", if hex { "" } else { "not" }).replace("  ", " "));
        steps.push(format!(
            "HMAC-SHA256 over the {} bytes of the body, tried with {} live secret(s)",
            receipt.body.len(),
            live.secrets.len()
        ));
    }
    steps.push(match verdict {
        Ok(nth) => format!("signed with the secret of {}", live.names.get(nth).map_or("?", |n| n)),
        Err(why) => format!("not signed by a secret that lives now: {}", why.name()),
    });
    json!({"steps": steps, "signed_now": verdict.is_ok(), "signed_by_then": receipt.signed_by})
}

fn receipt_json(r: &Receipt) -> Value {
    json!({
        "id": r.id,
        "received_at": rfc3339(r.received_at),
        "verdict": r.verdict.name(),
        "path": r.path,
        "remote": r.remote,
        "size_bytes": r.body.len(),
        "event_type": r.note.event_type,
        "job_id": r.note.job_id,
        "parked_under": r.note.parked_under,
        "applied_at": r.note.applied_at.map(rfc3339),
        "meaning": r.note.meaning,
    })
}
