//! Adoption over HTTP: jobs for what HeyGen's lists have and we did not submit. One call is one page
//! of one list, so that a long list keeps nobody waiting; repeated, it adopts nothing twice.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::problem::Result;
use super::{Http, input};
use crate::domain::job::{Kind, Observation};
use crate::domain::stranger::Stranger;
use crate::domain::time::{parse_rfc3339, rfc3339};
use crate::flow::{self, Fate};
use crate::heygen::catalog;

const MAX_CURSOR_CHARS: usize = 4_096;

pub async fn adopt(State(http): State<Http>, body: Body) -> Result<Response> {
    let mut fields = input::Fields::new(input::object(&input::read(body).await?, false)?);
    let kind = listed_kind(&mut fields);
    let since = since(&mut fields);
    let cursor = fields.text("cursor", MAX_CURSOR_CHARS);
    let dry_run = fields.switch("dry_run");
    fields.finish()?;
    let page = catalog::page(&http.heygen, kind, cursor.as_deref()).await?;
    let at = |stranger: &Stranger| stranger.created_at;
    let ages = || page.found.iter().filter_map(|(stranger, _)| at(stranger));
    // Newest first: behind one that is too old there are only older ones.
    let is_last = matches!((ages().next(), ages().next_back()), (Some(a), Some(b)) if a >= b && b < since);
    let next = page.next.clone().filter(|_| !is_last);
    let wanted: Vec<(Stranger, Observation)> =
        page.found.into_iter().filter(|(stranger, _)| at(stranger).is_none_or(|at| at >= since)).collect();
    let (asked, stamp, terms) = (wanted.clone(), http.stamp(), http.settings.terms());
    let fates = if dry_run {
        http.db.read(move |tx| flow::judge(tx, &asked)).await?
    } else {
        http.db.write(move |tx| flow::adopt(tx, &asked, terms, &stamp)).await?
    };
    let data: Vec<Value> =
        wanted.iter().zip(&fates).map(|((stranger, seen), fate)| row(stranger, seen, fate)).collect();
    let adopted = fates.iter().filter(|fate| matches!(fate, Fate::Adopted(_))).count();
    if adopted > 0 {
        tracing::info!(adopted, kind = kind.name(), "jobs adopted from HeyGen's list");
    }
    Ok(axum::Json(json!({"data": data, "has_more": next.is_some(), "next_cursor": next})).into_response())
}

fn listed_kind(fields: &mut input::Fields) -> Kind {
    let listed = catalog::listed_kinds();
    let given = fields.text("kind", 100);
    let kind = given.and_then(|name| listed.iter().copied().find(|kind| kind.name() == name));
    kind.unwrap_or_else(|| {
        let names: Vec<&str> = listed.iter().map(|kind| kind.name()).collect();
        fields.wrong("kind", format!("must be a kind HeyGen has a list of: {}", names.join(", ")));
        Kind::Video
    })
}

fn since(fields: &mut input::Fields) -> i64 {
    fields.text("since", 100).and_then(|text| parse_rfc3339(&text)).unwrap_or_else(|| {
        fields.wrong("since", "must be an RFC 3339 time such as 2026-11-21T10:00:00Z");
        0
    })
}

fn row(stranger: &Stranger, seen: &Observation, fate: &Fate) -> Value {
    let (action, job) = match fate {
        Fate::New => ("would_adopt", None),
        Fate::Adopted(job) => ("adopted", Some(job)),
        Fate::Known(job) => ("known", Some(job)),
        Fate::Undecided => ("undecided", None),
    };
    json!({
        "action": action,
        "kind": stranger.kind.name(),
        "upstream_id": stranger.upstream_id,
        "title": stranger.title,
        "created_at": stranger.created_at.map(rfc3339),
        "upstream_says": seen.says.words(),
        "job_id": job.map(|job| &job.id),
        "state": job.map(|job| job.state.name()),
    })
}
