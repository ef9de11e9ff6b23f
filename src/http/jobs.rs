//! Jobs over HTTP: submit, look, wait, and what a caller may wish of one.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::auth::{Caller, Link};
use super::input::MAX_BODY_BYTES;
use super::problem::{Kind, Problem, Result, field};
use super::query::{Query, page};
use super::upstream::{balance_json, live_json, waits_for};
use super::{Http, events, groups, input, receipts, wait};
use crate::domain::address::{LINK_LIFE, MAX_LINK_LIFE};
use crate::domain::ids;
use crate::domain::job::{Job, Kind as JobKind, State as JobState};
use crate::domain::limit::Limit;
use crate::domain::step::{Input, Refused};
use crate::domain::time::{MINUTE, rfc3339};
use crate::fail::Point;
use crate::flow::{self, Changed, Key, NewGroup, NewJob, Submitted};
use crate::store::{Tx, job, upstream_limit};

/// A hint for those who poll instead of waiting.
pub const POLL_AGAIN_S: u32 = 5;
const MAX_KEY_CHARS: usize = 255;
const MAX_REASON_CHARS: usize = 500;

/// What a submit comes with, besides the server's own.
pub type Asked = (Extension<Caller>, RawQuery, HeaderMap, Body);

/// How a submit begins, whatever it makes.
pub enum Begun {
    /// Its key was there before, and this is the answer.
    Answered(Response),
    New(New),
}

/// A submit that is still to be judged.
pub struct New {
    pub bytes: Bytes,
    pub key: Option<Key>,
    pub wait: Option<Duration>,
    pub dry_run: bool,
}

/// Reads a submit with a body of at most `most` bytes. `action` is its method and path.
pub async fn begin(http: &Http, asked: Asked, action: &str, most: usize) -> Result<Begun> {
    let (Extension(caller), RawQuery(raw), headers, body) = asked;
    let mut query = Query::parse(raw.as_deref());
    let dry_run = query.switch("dry_run");
    let wait = wait::asked(query, &headers)?;
    let bytes = input::read_up_to(body, most).await?;
    let key = if bytes.len() > MAX_BODY_BYTES {
        let (keyed, action) = (bytes.clone(), action.to_owned());
        aside(move || key_of(&headers, &caller, &action, &keyed)).await?
    } else {
        key_of(&headers, &caller, action, &bytes)?
    };
    let key = key.filter(|_| !dry_run);
    if let Some(first) = first_of(http, key.as_ref()).await? {
        return Ok(Begun::Answered(answer(http, first, wait).await?));
    }
    Ok(Begun::New(New { bytes, key, wait, dry_run }))
}

/// Megabytes of JSON take a while to read, and webhooks shall not wait for it.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Problem::saying(Kind::Internal, e.to_string())))
}

pub async fn submit(
    State(http): State<Http>,
    caller: Extension<Caller>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let asked = (caller, query, headers, body);
    let New { bytes, key, wait, dry_run } =
        match begin(&http, asked, "POST /api/jobs", MAX_BODY_BYTES).await? {
            Begun::Answered(response) => return Ok(response),
            Begun::New(new) => new,
        };
    let new = input::new_jobs(&http, input::object(&bytes, false)?)?;
    match <[NewJob; 1]>::try_from(new) {
        Ok([new]) if dry_run => {
            let mut shown = input::dry_run(&http, &new).await?;
            shown["balance"] = json!(balance_json(&http.db.read(upstream_limit::get).await?));
            Ok(axum::Json(shown).into_response())
        }
        Ok([new]) => take_in(&http, new, key, wait).await,
        // Several languages: a job for each.
        Err(jobs) => {
            let title = jobs.first().and_then(|job| job.title.clone());
            let new = NewGroup { title, retry_of: None, jobs, first_row: 1, more: false };
            groups::submit_or_show(&http, new, key, wait, dry_run).await
        }
    }
}

/// What was stored under the key before.
async fn first_of(http: &Http, key: Option<&Key>) -> Result<Option<Submitted>> {
    let Some(key) = key.cloned() else { return Ok(None) };
    Ok(http.db.read(move |tx| flow::find_first(tx, &key)).await?)
}

/// Stores a new job and answers for it.
async fn take_in(http: &Http, new: NewJob, key: Option<Key>, wait: Option<Duration>) -> Result<Response> {
    let (kind, stamp) = (new.kind, http.stamp());
    http.fail.at(Point::SubmitRead).await;
    let made = http.db.write(move |tx| flow::submit(tx, &new, key.as_ref(), &stamp)).await?;
    http.fail.at(Point::SubmitStored).await;
    if let Submitted::New { id, .. } = &made {
        http.metrics.count(&http.metrics.jobs_submitted, kind.name());
        tracing::info!(job_id = id, kind = kind.name(), "job taken in");
    }
    answer(http, made, wait).await
}

/// The answer to whatever was made, a job or a group.
pub async fn answer(http: &Http, made: Submitted, wait: Option<Duration>) -> Result<Response> {
    let (id, answer) = match made {
        Submitted::KeyReused => return Err(Kind::KeyReused.into()),
        Submitted::New { id, answer } | Submitted::Replayed { id, answer } => (id, answer),
    };
    let is_group = ids::has_shape(ids::GROUP, &id);
    let path = format!("/api/{}/{id}", if is_group { "groups" } else { "jobs" });
    if let Some(wait) = wait {
        let (has_ended, response) = if is_group {
            groups::shown_after(http, &id, wait).await?
        } else {
            let found = wait_for_end(http, &id, wait).await?;
            (found.state.is_terminal(), show(http, &found).await?)
        };
        let status = if has_ended { StatusCode::OK } else { StatusCode::ACCEPTED };
        return Ok(with_location(status, &path, response));
    }
    // The stored text, byte for byte: what a repeated key gets is what was answered first.
    let response = ([(header::CONTENT_TYPE, "application/json")], answer).into_response();
    Ok(with_location(StatusCode::ACCEPTED, &path, response))
}

fn with_location(status: StatusCode, path: &str, mut response: Response) -> Response {
    *response.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// The caller's key with what it stands for: method, path and the body's bytes as JSON.
pub fn key_of(headers: &HeaderMap, caller: &Caller, action: &str, bytes: &[u8]) -> Result<Option<Key>> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let text = value.to_str().unwrap_or("").trim();
    // The draft quotes the key, most clients do not.
    let key = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    if key.is_empty() || key.len() > MAX_KEY_CHARS || !key.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        let why = format!("must have 1 to {MAX_KEY_CHARS} ASCII characters");
        return Err(Problem::fields(Kind::InvalidKey, vec![field("Idempotency-Key", why)]));
    }
    let mut hash = Sha256::new();
    hash.update(action);
    hash.update([0]);
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => hash.update(canonical(value).to_string()),
        Err(_) => hash.update(bytes),
    }
    let fingerprint = hash.finalize().to_vec();
    Ok(Some(Key { owner: caller.id.clone(), key: key.to_owned(), fingerprint }))
}

/// The same JSON with the names of every object in order: two spellings of one body are one body.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.into_iter().map(|(name, v)| (name, canonical(v))).collect();
            pairs.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(pairs.into_iter().collect())
        }
        Value::Array(all) => Value::Array(all.into_iter().map(canonical).collect()),
        other => other,
    }
}

pub async fn list(State(http): State<Http>, RawQuery(raw): RawQuery) -> Result<Response> {
    let mut query = Query::parse(raw.as_deref());
    let limit = query.limit();
    let cursor = query.cursor(ids::JOB);
    let names = |all: Vec<&str>| format!("must be one of {}", all.join(", "));
    let filter = job::Filter {
        state: query.read("state", |t| {
            JobState::parse(t).ok_or_else(|| names(JobState::ALL.map(JobState::name).to_vec()))
        }),
        kind: query.read("kind", |t| {
            JobKind::parse(t).ok_or_else(|| names(JobKind::ALL.map(JobKind::name).to_vec()))
        }),
        callback_id: query.text("callback_id"),
        group: query.text("group"),
        label: query.read("label", |t| match t.split_once(':') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err("must be NAME:VALUE".to_owned()),
        }),
        created_after: query.time("created_after"),
        created_before: query.time("created_before"),
        q: query.text("q"),
    };
    query.finish()?;
    let read = move |tx: &mut Tx| {
        Ok((job::list(tx, &filter, cursor.as_deref(), limit + 1)?, upstream_limit::get(tx)?))
    };
    let (jobs, sending) = http.db.read(read).await?;
    let now = http.clock.now();
    let json = |job: &Job| live_json(job, &sending, now);
    Ok(page("/api/jobs", raw.as_deref(), jobs, limit, |job| job.id.clone(), json))
}

pub async fn get(
    State(http): State<Http>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
    link: Option<Extension<Link>>,
    headers: HeaderMap,
) -> Result<Response> {
    let wait = wait::asked(Query::parse(raw.as_deref()), &headers)?;
    let mut found = find(&http, &id).await?;
    if let Some(wait) = wait {
        found = wait_for_end(&http, &found.id, wait).await?;
    }
    if link.is_some() {
        found.details.notify_url = None;
    }
    let mut response = show(&http, &found).await?;
    // Who asked to wait is told by the status whether it was for the end.
    if wait.is_some() && !found.state.is_terminal() {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    let tag = response.headers().get(header::ETAG);
    if let Some(tag) = tag.filter(|tag| is_known(&headers, tag.to_str().unwrap_or_default())) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag.clone())]).into_response());
    }
    Ok(response)
}

/// Whether the caller has this version: `If-None-Match` may be a list, weak, or any (RFC 9110, 13.1.2).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let all = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|list| list.split(',')).map(str::trim).any(|t| t == "*" || t.trim_start_matches("W/") == tag)
}

/// A token by which a browser may see this job, and nothing else, for some minutes.
pub async fn link_token(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    let mut fields = input::Fields::new(input::object(&input::read(body).await?, true)?);
    let minutes = fields.whole("minutes", 1, MAX_LINK_LIFE / MINUTE).unwrap_or(LINK_LIFE / MINUTE);
    fields.finish()?;
    let id = find(&http, &id).await?.id;
    let (token, until) = http.addresses.link_token(&id, http.clock.now() + minutes * MINUTE);
    let made = json!({
        "token": token,
        "job_id": id,
        "expires_at": rfc3339(until),
        "status_url": format!("/api/jobs/{id}?token={token}"),
        "stream_url": format!("/api/jobs/{id}/stream?token={token}"),
    });
    Ok((StatusCode::CREATED, axum::Json(made)).into_response())
}

/// The job as it is now, with the tag of this view of it.
async fn show(http: &Http, job: &Job) -> Result<Response> {
    let (limit, now) = match job.state {
        JobState::Queued => (http.db.read(upstream_limit::get).await?, http.clock.now()),
        _ => (Limit::default(), 0),
    };
    let wait = waits_for(job, &limit, now).map_or("", |wait| wait.reason);
    let mut response = axum::Json(live_json(job, &limit, now)).into_response();
    let headers = response.headers_mut();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}-{}{wait}\"", job.id, job.version)) {
        headers.insert(header::ETAG, tag);
    }
    if !job.state.is_terminal() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(POLL_AGAIN_S));
    }
    Ok(response)
}

/// A job by our id or by HeyGen's.
pub async fn find(http: &Http, id: &str) -> Result<Job> {
    let wanted = id.to_owned();
    let read = move |tx: &mut Tx| match job::find(tx, &wanted)? {
        Some(found) => Ok(Some(found)),
        None => Ok(job::find_by_upstream(tx, &[&wanted])?.into_iter().max_by(|a, b| a.id.cmp(&b.id))),
    };
    http.db.read(read).await?.ok_or_else(|| no_job(id))
}

fn no_job(id: &str) -> Problem {
    let why = format!(
        "no job has the id {id}, neither as reelhook's nor as HeyGen's; by your own callback id it is found \
         with /api/jobs?callback_id=…"
    );
    Problem::saying(Kind::NotFound, why)
}

/// The job when it has ended, or as it is when the time is up.
async fn wait_for_end(http: &Http, id: &str, wait: Duration) -> Result<Job> {
    wait::for_end(http, wait, || find(http, id), |job| job.state.is_terminal()).await
}

pub async fn events(
    State(http): State<Http>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response> {
    let job = find(&http, &id).await?;
    events::list_page(&http, format!("/api/jobs/{}/events", job.id), Some(job.id), raw.as_deref()).await
}

pub async fn receipts_of(
    State(http): State<Http>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response> {
    let job = find(&http, &id).await?;
    receipts::list_of_job(&http, &job.id, raw.as_deref()).await
}

pub async fn cancel(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    input::nothing(body).await?;
    wish(&http, &id, Input::Cancel).await
}

pub async fn approve(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    input::nothing(body).await?;
    wish(&http, &id, Input::Approve).await
}

pub async fn reject(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    let mut fields = input::Fields::new(input::object(&input::read(body).await?, true)?);
    let reason = fields.text("reason", MAX_REASON_CHARS).unwrap_or_else(|| "no reason given".to_owned());
    fields.finish()?;
    wish(&http, &id, Input::Reject { reason }).await
}

pub async fn refresh(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    input::nothing(body).await?;
    let mut response = wish(&http, &id, Input::Refresh).await?;
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

async fn wish(http: &Http, id: &str, input: Input) -> Result<Response> {
    let id = find(http, id).await?.id;
    let (wanted, stamp) = (id.clone(), http.stamp());
    match http.db.write(move |tx| flow::change(tx, &wanted, input.clone(), &stamp)).await? {
        Changed::NotFound => Err(no_job(&id)),
        Changed::Ok(job) => show(http, &job).await,
        Changed::Refused(refused, job) => {
            let kind = match refused {
                Refused::NotHeld => Kind::NotHeld,
                Refused::NotSent => Kind::NotSent,
                Refused::AlreadySent => Kind::AlreadySent,
                Refused::Finished => Kind::Finished,
            };
            Err(Problem::saying(kind, format!("the job is {}", job.state.name())))
        }
    }
}

/// A new job from one that failed, was canceled, or whose outcome is unknown.
pub async fn retry(
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
    let old = find(&http, &id).await?;
    let key = key_of(&headers, &caller, &format!("POST /api/jobs/{}/retry", old.id), &bytes)?;
    if let Some(first) = first_of(&http, key.as_ref()).await? {
        return answer(&http, first, None).await;
    }
    if old.details.adopted {
        return Err(Kind::Adopted.into());
    }
    if !matches!(old.state, JobState::Failed | JobState::Canceled | JobState::Unknown) {
        let completed = old.state == JobState::Completed;
        let kind = if completed { Kind::HasResult } else { Kind::NotFinished };
        return Err(Problem::saying(kind, format!("the job is {}", old.state.name())));
    }
    if old.risks_second_charge() && !accepts {
        return Err(Kind::SecondCharge.into());
    }
    let old_id = old.id.clone();
    let request = http.db.read(move |tx| job::find_request(tx, &old_id)).await?;
    let request = request.ok_or_else(|| no_job(&old.id))?;
    let polls = input::polls(&http, old.kind, &input::object(request.as_bytes(), false)?);
    let deadline_at = http.clock.now().saturating_add(http.settings.deadline);
    take_in(&http, NewJob::again(old, request, deadline_at, polls), key, None).await
}
