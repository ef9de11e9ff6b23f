//! Receipts over HTTP: what arrived, how it was judged, what it was taken to mean.

use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Http;
use super::problem::{Kind, Problem, Result};
use super::query::{Query, page};
use crate::domain::ids;
use crate::domain::receipt::{MAX_REFUSED_KEPT, Receipt, Verdict};
use crate::domain::signature::{self, Unsigned};
use crate::domain::time::{SECOND, rfc3339};
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
    let receipt = found.ok_or_else(|| {
        let why = format!(
            "no receipt has the id {id}; of what is refused only the last {MAX_REFUSED_KEPT} are kept"
        );
        Problem::saying(Kind::NotFound, why)
    })?;
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

/// What the door saw, once more with the secrets that live now: a step for each header that counts,
/// and what follows.
fn check(http: &Http, receipt: &Receipt) -> Value {
    if receipt.verdict == Verdict::Logged {
        let steps = ["read in HeyGen's event log with our own key, so there is no signature to check"];
        return json!({"steps": steps, "signed_now": false, "signed_by_then": null});
    }
    let headers: Value = serde_json::from_str(&receipt.headers).unwrap_or(Value::Null);
    let header = |name: &str| headers.get(name).and_then(Value::as_str);
    let (live, at) = (http.secrets.live(), receipt.received_at);
    let whose = |nth: usize| live.names.get(nth).map_or("?", |name| name);
    let mut steps = vec![];
    for name in signature::HEADERS.into_iter().filter(|name| header(name).is_some()) {
        let alone = |asked: &str| header(asked).filter(|_| asked == name);
        steps.push(match signature::verify(&receipt.body, alone, &live.secrets, at) {
            Ok(nth) => format!(
                "{name}: the HMAC-SHA256 of the {} bytes of the body under the secret of {}",
                receipt.body.len(),
                whose(nth)
            ),
            Err(Unsigned::NoMatch) => format!(
                "{name}: 64 hex digits, but made with none of the {} secret(s) that live now, or over other bytes",
                live.secrets.len()
            ),
            Err(_) => format!("{name}: not 64 hex digits"),
        });
    }
    if let Some(stamp) = header(signature::TIMESTAMP_HEADER) {
        let sent = stamp.trim().parse::<i64>().ok().and_then(|s| s.checked_mul(SECOND));
        let off = sent.map_or("no number of seconds".to_owned(), |sent| {
            format!("{} s from when it arrived; 300 are allowed", at.saturating_sub(sent).abs() / SECOND)
        });
        steps.push(format!("{}: {off}", signature::TIMESTAMP_HEADER));
    }
    let verdict = signature::verify(&receipt.body, header, &live.secrets, at);
    steps.push(match verdict {
        Ok(nth) => format!("so it is signed, with the secret of {}", whose(nth)),
        Err(why) => format!("so it is not signed: {}", why.explain()),
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
        "sha256": hex::encode(Sha256::digest(&r.body)),
        "event_type": r.note.event_type,
        "job_id": r.note.job_id,
        "parked_under": r.note.parked_under,
        "applied_at": r.note.applied_at.map(rfc3339),
        "meaning": r.note.meaning,
        "wire_version": r.note.wire_version,
    })
}
