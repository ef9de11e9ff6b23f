//! Dead letters over HTTP: what was given up, by its cause; made due again, or let go of. Nothing is done
//! without being told of what: a filter, ids, or `all`.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::auth::Caller;
use super::input::{self, Fields};
use super::problem::{Kind, Problem, Result};
use super::query::{NO_CURSOR, Query, page};
use super::{Http, wait};
use crate::domain::dead_letter::{Causing, DeadLetter, Filter};
use crate::domain::ids;
use crate::domain::replay::{Details, MAX_RATE, RATE, Replay};
use crate::domain::task::TaskKind;
use crate::domain::time::parse_rfc3339;
use crate::flow;
use crate::store::dead_letter::Position;
use crate::store::{Tx, dead_letter, replay};

/// Causes of one answer.
pub const MOST_CAUSES: i64 = 200;
const MAX_REASON_CHARS: usize = 500;
const NO_TIME: &str = "is no RFC 3339 time such as 2026-11-21T10:00:00Z";

pub async fn list(State(http): State<Http>, RawQuery(raw): RawQuery) -> Result<Response> {
    let mut query = Query::parse(raw.as_deref());
    let limit = query.limit();
    let cursor: Option<Position> = query.read("cursor", |text| {
        let place = text.split_once('.').and_then(|(at, id)| Some((at.parse().ok()?, id.to_owned())));
        place.ok_or_else(|| NO_CURSOR.to_owned())
    });
    let filter = asked(&mut query);
    query.finish()?;
    let read = move |tx: &mut Tx| dead_letter::list(tx, &filter, cursor.as_ref(), limit + 1);
    let found = http.db.read(read).await?;
    let cursor_of = |letter: &DeadLetter| format!("{}.{}", letter.dead_at, letter.id);
    Ok(page("/api/dead-letters", raw.as_deref(), found, limit, cursor_of, DeadLetter::json))
}

/// The causes, that of the most first.
pub async fn causes(State(http): State<Http>, RawQuery(raw): RawQuery) -> Result<Response> {
    let mut query = Query::parse(raw.as_deref());
    let filter = asked(&mut query);
    query.finish()?;
    let found = http.db.read(move |tx| dead_letter::list_causes(tx, &filter, MOST_CAUSES)).await?;
    let data: Vec<Value> = found.iter().map(Causing::json).collect();
    Ok(axum::Json(json!({"data": data, "has_more": false, "next_cursor": null})).into_response())
}

pub async fn get(State(http): State<Http>, Path(id): Path<String>) -> Result<Response> {
    let filter = Filter { ids: vec![id.clone()], ..Filter::default() };
    let found = http.db.read(move |tx| dead_letter::list(tx, &filter, None, 1)).await?;
    let found = found.first().ok_or_else(|| {
        let why = format!("no dead letter has the id {id}; one that was replayed is none any more");
        Problem::saying(Kind::NotFound, why)
    })?;
    Ok(axum::Json(found.json()).into_response())
}

/// Makes what fits due again, so many a second; or says what that would be.
pub async fn replay(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    RawQuery(raw): RawQuery,
    body: Body,
) -> Result<Response> {
    let (dry_run, mut fields, filter) = wish(raw.as_deref(), body).await?;
    let rate = rate(&mut fields);
    fields.finish()?;
    if dry_run {
        return would(&http, filter).await;
    }
    let counted = filter.clone();
    let count = http.db.read(move |tx| dead_letter::count(tx, &counted)).await?;
    begin(&http, Details::new(&caller.name, filter, rate, count)).await
}

/// Begins a replay, and answers with it.
pub async fn begin(http: &Http, details: Details) -> Result<Response> {
    let stamp = http.stamp();
    let start = move |tx: &mut Tx| flow::start_replay(tx, &details, &stamp);
    let made = http.db.write(start).await?.ok_or(Kind::TooManyReplays)?;
    let Details { by, count, rate, pending, .. } = &made.details;
    tracing::warn!(replay_id = %made.id, by, count, rate, pending, "a replay begins");
    let place = format!("/api/replays/{}", made.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, place)], axum::Json(made.json())).into_response())
}

/// Lets go of what fits, or says what that would be.
pub async fn drop(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    RawQuery(raw): RawQuery,
    body: Body,
) -> Result<Response> {
    let (dry_run, mut fields, filter) = wish(raw.as_deref(), body).await?;
    let reason = fields.text("reason", MAX_REASON_CHARS);
    if reason.is_none() && !dry_run && fields.errors.is_empty() {
        fields.wrong("reason", "is required: why they are let go of; it is kept in the audit");
    }
    fields.finish()?;
    if dry_run {
        return would(&http, filter).await;
    }
    let (reason, stamp) = (reason.unwrap_or_default(), http.stamp());
    let let_go = move |tx: &mut Tx| {
        let dropped = flow::drop_dead(tx, &caller.name, &filter, &reason, &stamp)?;
        Ok((dropped, dead_letter::count(tx, &filter)?))
    };
    let (dropped, left) = http.db.write(let_go).await?;
    tracing::warn!(dropped, left, "dead letters are dropped");
    Ok(axum::Json(json!({"dropped": dropped, "left": left})).into_response())
}

/// What a filter means, and nothing is done.
async fn would(http: &Http, filter: Filter) -> Result<Response> {
    let read = move |tx: &mut Tx| {
        Ok((dead_letter::count(tx, &filter)?, dead_letter::list_causes(tx, &filter, MOST_CAUSES)?))
    };
    let (count, causes) = http.db.read(read).await?;
    let causes: Vec<Value> = causes.iter().map(Causing::json).collect();
    Ok(axum::Json(json!({"count": count, "causes": causes})).into_response())
}

pub async fn replays(State(http): State<Http>, RawQuery(raw): RawQuery) -> Result<Response> {
    let mut query = Query::parse(raw.as_deref());
    let (limit, cursor) = (query.limit(), query.cursor(ids::REPLAY));
    query.finish()?;
    let found = http.db.read(move |tx: &mut Tx| replay::list(tx, cursor.as_deref(), limit + 1)).await?;
    Ok(page("/api/replays", raw.as_deref(), found, limit, |r| r.id.clone(), Replay::json))
}

/// One replay; it may be waited for.
pub async fn get_replay(
    State(http): State<Http>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
    headers: http::HeaderMap,
) -> Result<Response> {
    let wait = wait::asked(Query::parse(raw.as_deref()), &headers)?;
    let ended = |found: &Replay| found.ended_at.is_some();
    let found = wait::for_end(&http, wait.unwrap_or_default(), || find_replay(&http, &id), ended).await?;
    let status = if wait.is_some() && !ended(&found) { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, axum::Json(found.json())).into_response())
}

async fn find_replay(http: &Http, id: &str) -> Result<Replay> {
    let wanted = id.to_owned();
    let found = http.db.read(move |tx| replay::find(tx, &wanted)).await?;
    found.ok_or_else(|| no_replay(id))
}

fn no_replay(id: &str) -> Problem {
    Problem::saying(Kind::NotFound, format!("no replay has the id {id}"))
}

pub async fn stop_replay(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response> {
    input::nothing(body).await?;
    let (wanted, stamp) = (id.clone(), http.stamp());
    let stop = move |tx: &mut Tx| flow::stop_replay(tx, &caller.name, &wanted, &stamp);
    let (found, ran) = http.db.write(stop).await?.ok_or_else(|| no_replay(&id))?;
    if !ran {
        return Err(Problem::saying(Kind::ReplayEnded, format!("{id} is {}", found.state())));
    }
    Ok(axum::Json(found.json()).into_response())
}

/// How a replay and a drop begin: whether it is a dry run, the fields that are left, and which are meant.
async fn wish(raw: Option<&str>, body: Body) -> Result<(bool, Fields, Filter)> {
    let mut query = Query::parse(raw);
    let dry_run = query.switch("dry_run");
    query.finish()?;
    let mut fields = Fields::new(input::object(&input::read(body).await?, false)?);
    let filter = given(&mut fields);
    Ok((dry_run, fields, filter))
}

fn tasks() -> String {
    let all = TaskKind::ALL.into_iter().filter(|kind| *kind != TaskKind::Submit);
    all.map(TaskKind::name).collect::<Vec<_>>().join(", ")
}

fn is_task(name: &str) -> std::result::Result<String, String> {
    let known = TaskKind::parse(name).filter(|kind| *kind != TaskKind::Submit);
    known.map(|kind| kind.name().to_owned()).ok_or_else(|| format!("must be one of {}", tasks()))
}

/// A filter of a query.
fn asked(query: &mut Query) -> Filter {
    Filter {
        ids: vec![],
        task: query.read("task", is_task),
        cause: query.text("cause"),
        endpoint_id: query.text("endpoint_id"),
        job_id: query.text("job_id"),
        since: query.time("since"),
        until: query.time("until"),
    }
}

/// A filter of a body, which must say something.
fn given(fields: &mut Fields) -> Filter {
    const CHARS: usize = 255;
    let mut filter = Filter {
        ids: fields.texts("ids").unwrap_or_default(),
        task: None,
        cause: fields.text("cause", CHARS),
        endpoint_id: fields.text("endpoint_id", CHARS),
        job_id: fields.text("job_id", CHARS),
        since: None,
        until: None,
    };
    if let Some(name) = fields.text("task", CHARS) {
        filter.task = is_task(&name).map_err(|why| fields.wrong("task", why)).ok();
    }
    for (name, time) in [("since", &mut filter.since), ("until", &mut filter.until)] {
        if let Some(text) = fields.text(name, CHARS) {
            *time = parse_rfc3339(&text);
            if time.is_none() {
                fields.wrong(name, NO_TIME);
            }
        }
    }
    let all = fields.switch("all");
    if fields.errors.is_empty() && all == (filter != Filter::default()) {
        fields.wrong(
            "all",
            "say which: `ids`, `cause`, `task`, `endpoint_id`, `job_id`, `since` or `until`; or `\"all\": true` and none of them",
        );
    }
    filter
}

/// How many a second.
pub fn rate(fields: &mut Fields) -> i64 {
    let Some(value) = fields.take("rate") else { return RATE };
    value.as_i64().filter(|rate| (1..=MAX_RATE).contains(rate)).unwrap_or_else(|| {
        fields.wrong("rate", format!("must be a whole number a second from 1 to {MAX_RATE}"));
        RATE
    })
}
