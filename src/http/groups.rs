//! Groups over HTTP: rows in, jobs out, and what a caller may wish of all of them together.
//!
//! Everything is checked before anything is stored. A job of a group is asked for, approved and retried
//! like any other, at `/api/jobs`.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::auth::Caller;
use super::jobs::{Asked, Begun, New, POLL_AGAIN_S, answer, aside, begin, key_of};
use super::problem::{Kind, Problem, Result};
use super::query::{Query, page};
use super::upstream::balance_json;
use super::{Http, input, rows, wait};
use crate::domain::group::{Counts, Group, MAX_BYTES, group_json};
use crate::domain::ids;
use crate::domain::job::Kind as JobKind;
use crate::fail::Point;
use crate::flow::{self, Added, Key, NewGroup, Retried, Submitted};
use crate::store::{Tx, group, upstream_limit};

/// Jobs canceled in one transaction, of each state that can be.
const CANCEL_STEP: i64 = 200;

pub async fn submit(
    State(http): State<Http>,
    caller: Extension<Caller>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    take_rows(&http, None, (caller, query, headers, body)).await
}

/// More rows for a group that said that more follow.
pub async fn add_rows(
    State(http): State<Http>,
    Path(id): Path<String>,
    caller: Extension<Caller>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    take_rows(&http, Some(&id), (caller, query, headers, body)).await
}

/// For a new group, or for the one with this id.
async fn take_rows(http: &Http, id: Option<&str>, asked: Asked) -> Result<Response> {
    let action = id.map_or("POST /api/groups".to_owned(), |id| format!("POST /api/groups/{id}/rows"));
    let New { bytes, key, wait, dry_run } = match begin(http, asked, &action, MAX_BYTES).await? {
        Begun::Answered(response) => return Ok(response),
        Begun::New(new) => new,
    };
    let (reader, is_new) = (http.clone(), id.is_none());
    let new = aside(move || rows::new_group(&reader, &bytes, is_new)).await?;
    match id {
        None => submit_or_show(http, new, key, wait, dry_run).await,
        Some(id) if dry_run => {
            let next_row = find(http, id).await?.0.next_row;
            if next_row != Some(new.first_row) {
                return Err(misplaced(next_row));
            }
            Ok(axum::Json(show_dry(http, &new).await?).into_response())
        }
        Some(id) => add(http, id, new, key, wait).await,
    }
}

async fn add(
    http: &Http,
    id: &str,
    new: NewGroup,
    key: Option<Key>,
    wait: Option<Duration>,
) -> Result<Response> {
    let (kinds, stamp, wanted) = (kinds_of(&new), http.stamp(), id.to_owned());
    http.fail.at(Point::SubmitRead).await;
    let write = move |tx: &mut Tx| flow::add_to_group(tx, &wanted, &new, key.as_ref(), &stamp);
    let added = http.db.write(write).await?;
    http.fail.at(Point::SubmitStored).await;
    match added {
        Added::NotFound => Err(none(id)),
        Added::Misplaced { next_row } => Err(misplaced(next_row)),
        Added::Submitted(made) => {
            taken_in(http, &made, &kinds);
            answer(http, made, wait).await
        }
    }
}

fn misplaced(next_row: Option<i64>) -> Problem {
    match next_row {
        Some(row) => Problem::saying(Kind::WrongRow, format!("the next row of the group is row {row}")),
        None => Kind::GroupWhole.into(),
    }
}

fn kinds_of(new: &NewGroup) -> Vec<JobKind> {
    new.jobs.iter().map(|job| job.kind).collect()
}

/// Stores a new group and answers for it; or shows what that would be.
pub async fn submit_or_show(
    http: &Http,
    new: NewGroup,
    key: Option<Key>,
    wait: Option<Duration>,
    dry_run: bool,
) -> Result<Response> {
    if dry_run {
        return Ok(axum::Json(show_dry(http, &new).await?).into_response());
    }
    let (kinds, stamp) = (kinds_of(&new), http.stamp());
    http.fail.at(Point::SubmitRead).await;
    let made = http.db.write(move |tx| flow::submit_group(tx, &new, key.as_ref(), &stamp)).await?;
    http.fail.at(Point::SubmitStored).await;
    taken_in(http, &made, &kinds);
    answer(http, made, wait).await
}

fn taken_in(http: &Http, made: &Submitted, kinds: &[JobKind]) {
    if let Submitted::New { id, .. } = made {
        kinds.iter().for_each(|kind| http.metrics.count(&http.metrics.jobs_submitted, kind.name()));
        tracing::info!(group_id = id, jobs = kinds.len(), "jobs of a group taken in");
    }
}

async fn show_dry(http: &Http, new: &NewGroup) -> Result<Value> {
    let (asked, now) = (new.clone(), http.clock.now());
    let read = move |tx: &mut Tx| {
        let learned = flow::find_learned(tx)?;
        Ok((upstream_limit::get(tx)?, flow::outlook(tx, &asked.jobs, &learned, now)?))
    };
    let (limit, outlook) = http.db.read(read).await?;
    let first = match new.jobs.first() {
        Some(job) => input::dry_run(http, job).await?,
        None => Value::Null,
    };
    Ok(json!({
        "jobs": new.jobs.len(),
        // HeyGen tells the price of nothing before it has made it.
        "cost": null,
        "balance": balance_json(&limit),
        "outlook": outlook.json(),
        "first": first,
    }))
}

pub async fn list(State(http): State<Http>, RawQuery(raw): RawQuery) -> Result<Response> {
    let mut query = Query::parse(raw.as_deref());
    let limit = query.limit();
    let cursor = query.cursor(ids::GROUP);
    query.finish()?;
    let read = move |tx: &mut Tx| {
        let groups = group::list(tx, cursor.as_deref(), limit + 1)?;
        let ids: Vec<&str> = groups.iter().map(|group| &*group.id).collect();
        let counts = group::count_states(tx, &ids)?;
        Ok(groups.into_iter().zip(counts).collect::<Vec<_>>())
    };
    let groups = http.db.read(read).await?;
    let id = |(group, _): &(Group, Counts)| group.id.clone();
    Ok(page("/api/groups", raw.as_deref(), groups, limit, id, |(group, counts)| group_json(group, counts)))
}

pub async fn get(
    State(http): State<Http>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
) -> Result<Response> {
    let wait = wait::asked(Query::parse(raw.as_deref()), &headers)?;
    let found = wait_for_end(&http, &id, wait.unwrap_or_default()).await?;
    let mut response = show(&found);
    if found.0.finished_at.is_none() {
        // As for a job: who asked to wait is told by the status whether it was for the end.
        if wait.is_some() {
            *response.status_mut() = StatusCode::ACCEPTED;
        }
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(POLL_AGAIN_S));
    }
    Ok(response)
}

fn show((group, counts): &(Group, Counts)) -> Response {
    axum::Json(group_json(group, counts)).into_response()
}

async fn find(http: &Http, id: &str) -> Result<(Group, Counts)> {
    let wanted = id.to_owned();
    let read = move |tx: &mut Tx| {
        let Some(group) = group::find(tx, &wanted)? else { return Ok(None) };
        let counts = group::count_states(tx, &[&wanted])?.pop().unwrap_or_default();
        Ok(Some((group, counts)))
    };
    http.db.read(read).await?.ok_or_else(|| none(id))
}

fn none(id: &str) -> Problem {
    Problem::saying(Kind::NotFound, format!("no group has the id {id}"))
}

/// The group when all its jobs have ended, or as it is when the time is up.
async fn wait_for_end(http: &Http, id: &str, wait: Duration) -> Result<(Group, Counts)> {
    let look = || async {
        let wanted = id.to_owned();
        Ok(http.db.read(move |tx| group::find(tx, &wanted)).await?)
    };
    let ended = |found: &Option<Group>| found.as_ref().is_none_or(|group| group.finished_at.is_some());
    wait::for_end(http, wait, look, ended).await?;
    // Its jobs are counted once, and not with every look.
    find(http, id).await
}

/// Whether a group has ended within `wait`, and how it stands.
pub async fn shown_after(http: &Http, id: &str, wait: Duration) -> Result<(bool, Response)> {
    let found = wait_for_end(http, id, wait).await?;
    Ok((found.0.finished_at.is_some(), show(&found)))
}

/// Cancels what was not sent yet, in steps, and lets no more rows come; a call that broke off is simply made
/// again.
pub async fn cancel(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    input::nothing(body).await?;
    find(&http, &id).await?;
    let (closed, stamp) = (id.clone(), http.stamp());
    http.db.write(move |tx| flow::close_group(tx, &closed, &stamp)).await?;
    let mut canceled = 0;
    loop {
        let (group_id, stamp) = (id.clone(), http.stamp());
        let some = http.db.write(move |tx| flow::cancel_some(tx, &group_id, CANCEL_STEP, &stamp)).await?;
        if some == 0 {
            break;
        }
        canceled += some;
    }
    let (group, counts) = find(&http, &id).await?;
    let left = group.open;
    let body = json!({"group": group_json(&group, &counts), "canceled": canceled, "not_canceled": left});
    Ok(axum::Json(body).into_response())
}

/// A new group of the jobs that failed or expired and that nobody retried yet.
pub async fn retry_failed(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let bytes = input::read(body).await?;
    let mut fields = input::Fields::new(input::object(&bytes, true)?);
    let accepts = fields.switch("accept_second_charge");
    fields.finish()?;
    let key = key_of(&headers, &caller, &format!("POST /api/groups/{id}/retry-failed"), &bytes)?;
    let (reader, old_id, stamp) = (http.clone(), id.clone(), http.stamp());
    let deadline_at = stamp.now.saturating_add(http.settings.deadline);
    let write = move |tx: &mut Tx| {
        // As it was taken in, so it is an object.
        let polls = |kind, request: &str| {
            let request = input::object(request.as_bytes(), false).unwrap_or_default();
            input::polls(&reader, kind, &request)
        };
        flow::retry_failed(tx, &old_id, accepts, (deadline_at, &polls), key.as_ref(), &stamp)
    };
    match http.db.write(write).await? {
        Retried::NotFound => Err(none(&id)),
        Retried::Nothing { left } if left.is_empty() => Err(Kind::NothingToRetry.into()),
        Retried::Nothing { left } => {
            let which = format!("of the failed jobs {} may have been charged, first {}", left.len(), left[0]);
            Err(Problem::saying(Kind::SecondCharge, which))
        }
        Retried::Submitted { made, kinds } => {
            taken_in(&http, &made, &kinds);
            answer(&http, made, None).await
        }
    }
}
