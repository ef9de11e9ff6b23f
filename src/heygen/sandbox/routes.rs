//! The route table, the gate in front of it, and the routes that read and delete jobs.
//!
//! Every call but the creations and the files, which have entries of their own, is noted here.
//! v1, v2 and all that v3 does not have answer 404.

use std::collections::HashSet;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, RawQuery, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Problem, Query, data};
use super::jobs::Job;
use super::ledger::What;
use super::world::World;
use super::{Sandbox, catalog, control, create, endpoints, media};
use crate::domain::job::Kind;
use crate::heygen::kinds;

/// Bodies may carry pictures as base64.
const BODY_BYTES: usize = 16 * 1024 * 1024;
/// Ids in one call of a `statuses` route.
const IDS: usize = 100;

pub fn router(sandbox: &Sandbox) -> Router {
    let mut jobs = Router::new();
    let mut shown = HashSet::new();
    for kind in Kind::ALL {
        let route = kinds::route(kind);
        jobs = jobs.route(route.create, create::of(kind));
        if shown.insert(route.status) {
            jobs = jobs.route(&route.status.replace("{}", "{id}"), status_of(route.status));
        }
    }
    jobs.route("/v3/videos", get(list_videos))
        .route("/v3/videos/statuses", get(video_statuses))
        .route("/v3/videos/{id}", delete(delete_video))
        .route("/v3/video-translations", get(list_translations))
        .route("/v3/video-translations/statuses", get(translation_statuses))
        .route("/v3/lipsyncs/statuses", get(lipsync_statuses))
        .route("/v3/users/me", get(catalog::me))
        .route("/v3/avatars", get(catalog::avatars))
        .route("/v3/avatars/looks", get(catalog::looks))
        .route("/v3/voices", get(catalog::voices))
        .route("/v3/webhooks/event-types", get(endpoints::event_types))
        .route("/v3/webhooks/events", get(endpoints::event_log))
        .route("/v3/webhooks/endpoints", post(endpoints::create).get(endpoints::list))
        .route("/v3/webhooks/endpoints/{id}", patch(endpoints::change).delete(endpoints::delete))
        .route("/v3/webhooks/endpoints/{id}/rotate-secret", post(endpoints::rotate))
        .route("/files/{id}/{name}", get(media::serve))
        .route("/sandbox/ledger", get(control::ledger))
        .route("/sandbox/script", get(control::script).post(control::add_script))
        .route("/sandbox/state", get(control::state).post(control::set_state))
        .fallback(nothing_here)
        .method_not_allowed_fallback(nothing_here)
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(from_fn_with_state(sandbox.clone(), gate))
        .with_state(sandbox.clone())
}

async fn nothing_here() -> Problem {
    Problem::not_found("not_found", "There is no such route.")
}

/// What becomes of a call to a route, in place of its answer.
#[derive(Debug, Clone)]
pub enum Twist {
    /// Not carried out; this status and body instead.
    Answer(u16, Value),
    /// Not carried out; the connection breaks.
    Drop,
    /// Carried out; the connection breaks before the answer.
    Lose,
}

/// Key, power switch, ledger and request id, around every call.
async fn gate(State(sandbox): State<Sandbox>, request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let path = uri.path();
    if path.starts_with("/sandbox/") {
        return next.run(request).await;
    }
    let stopped = sandbox.stopped(path, request.headers());
    let twist = sandbox.world().twist_of(&method, path);
    let own_entry = stopped.is_none() && (path.starts_with("/files/") || is_create(&method, path));
    let mut response = match stopped {
        Some(response) => response,
        None => twisted(twist, next.run(request)).await,
    };
    if !own_entry {
        sandbox.note(What::Call {
            method: method.to_string(),
            path: path.to_owned(),
            query: uri.query().map(str::to_owned),
            status: response.status().as_u16(),
        });
        sandbox.sync();
    }
    if let Ok(id) = HeaderValue::from_str(&sandbox.new_id()) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

async fn twisted(twist: Option<Twist>, answer: impl Future<Output = Response>) -> Response {
    let broken = || answer::broken(StatusCode::OK, "application/json", &Bytes::from_static(b"{}"), 0);
    match twist {
        None => answer.await,
        Some(Twist::Answer(status, body)) => answer::json_answer(status, &body),
        Some(Twist::Drop) => broken(),
        Some(Twist::Lose) => {
            answer.await;
            broken()
        }
    }
}

fn is_create(method: &Method, path: &str) -> bool {
    // A word in braces stands for any one word.
    let is_route = |route: &str| {
        let same =
            |(word, given): (&str, &str)| word == given || (word.starts_with('{') && !given.is_empty());
        route.split('/').count() == path.split('/').count() && route.split('/').zip(path.split('/')).all(same)
    };
    method == Method::POST && Kind::ALL.into_iter().any(|kind| is_route(kinds::route(kind).create))
}

impl Sandbox {
    /// Why a call goes no further, if so.
    fn stopped(&self, path: &str, headers: &HeaderMap) -> Option<Response> {
        let (offline, revoked) = {
            let world = self.world();
            (world.offline, world.revoked)
        };
        if offline {
            return Some(StatusCode::SERVICE_UNAVAILABLE.into_response());
        }
        let known = !revoked && self.knows(headers);
        (path.starts_with("/v3/") && !known).then(|| Problem::unauthorized().into_response())
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let bearer = text("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(key) = text("x-api-key").or(bearer).filter(|key| !key.is_empty()) else { return false };
        self.0.options.api_key.as_deref().is_none_or(|wanted| wanted == key)
    }
}

type Shown = Result<Response, Problem>;

/// Spends one of the failures a job may still have in store for its status.
fn fail_on_purpose(world: &mut World, id: &str) -> Result<(), Problem> {
    match world.job_mut(id) {
        Some(job) if job.get_500_left > 0 => {
            job.get_500_left -= 1;
            Err(Problem::internal())
        }
        _ => Ok(()),
    }
}

/// The status route of the kinds that have this one; an agent's video is asked for as a video.
fn status_of(path: &'static str) -> MethodRouter<Sandbox> {
    get(move |State(sandbox): State<Sandbox>, Path(id): Path<String>| async move {
        let mut world = sandbox.world();
        fail_on_purpose(&mut world, &id)?;
        let (links, now) = (sandbox.links(), sandbox.now());
        let is_video = path == kinds::route(Kind::Video).status;
        let shown = match world.job(&id) {
            Some(job) if is_video && is_video_id(job, &id) => job.as_video(links, now),
            Some(job) if job.id == id && kinds::route(job.kind).status == path => job.shown(links, now),
            _ if is_video => return Err(no_video()),
            _ => return Err(Problem::not_found("resource_not_found", "There is no such job.")),
        };
        Ok(data(shown))
    })
}

/// A video's own id, or that of an agent's video; a session or translation id is neither.
fn is_video_id(job: &Job, id: &str) -> bool {
    matches!(job.kind, Kind::Video | Kind::Template) || job.video_id.as_deref() == Some(id)
}

fn no_video() -> Problem {
    Problem::not_found("video_not_found", "There is no such video.")
}

/// Deleting an unfinished video frees its slot; what was paid stays paid.
async fn delete_video(State(sandbox): State<Sandbox>, Path(id): Path<String>) -> Shown {
    let mut world = sandbox.world();
    world.job(&id).filter(|job| is_video_id(job, &id)).ok_or_else(no_video)?;
    if let Some(number) = world.number_of(&id) {
        world.forget(number);
    }
    Ok(data(json!({ "id": id, "deleted": true })))
}

async fn list_videos(State(sandbox): State<Sandbox>, RawQuery(query): RawQuery) -> Shown {
    let query = Query::parse(query.as_deref());
    let show = |job: &Job| job.as_video(sandbox.links(), sandbox.now());
    list(&sandbox, &query, |job| is_video_id(job, job.file_id()), show)
}

async fn list_translations(State(sandbox): State<Sandbox>, RawQuery(query): RawQuery) -> Shown {
    let query = Query::parse(query.as_deref());
    let show = |job: &Job| job.shown(sandbox.links(), sandbox.now());
    list(&sandbox, &query, |job| job.kind.is_translation(), show)
}

fn list(
    sandbox: &Sandbox,
    query: &Query,
    wanted: impl Fn(&Job) -> bool,
    show: impl Fn(&Job) -> Value,
) -> Shown {
    let title = query.get("title").map(str::to_lowercase);
    let folder = query.get("folder_id");
    let world = sandbox.world();
    let has_title = |job: &Job| {
        let own = job.title.as_deref().unwrap_or_default().to_lowercase();
        title.as_ref().is_none_or(|part| own.contains(part.as_str()))
    };
    let jobs = world.jobs.iter().rev().filter(|(_, job)| wanted(job) && has_title(job));
    let jobs = jobs.filter(|(_, job)| folder.is_none() || job.folder_id.as_deref() == folder);
    query.page(100, jobs.map(|(number, job)| (*number, show(job))))
}

async fn video_statuses(State(sandbox): State<Sandbox>, RawQuery(query): RawQuery) -> Shown {
    let query = Query::parse(query.as_deref());
    statuses(&sandbox, &query, "video_ids", is_video_id)
}

async fn translation_statuses(State(sandbox): State<Sandbox>, RawQuery(query): RawQuery) -> Shown {
    let query = Query::parse(query.as_deref());
    statuses(&sandbox, &query, "video_translation_ids", |job, _| job.kind.is_translation())
}

async fn lipsync_statuses(State(sandbox): State<Sandbox>, RawQuery(query): RawQuery) -> Shown {
    let query = Query::parse(query.as_deref());
    statuses(&sandbox, &query, "lipsync_ids", |job, _| job.kind == Kind::Lipsync)
}

/// One short line per id. Those of translations and lipsyncs too call the id `video_id`, as HeyGen's
/// batches do.
fn statuses(sandbox: &Sandbox, query: &Query, param: &str, wanted: impl Fn(&Job, &str) -> bool) -> Shown {
    let (ids, batches) = (query.list(param), query.list("batch_ids"));
    if !(1..=IDS).contains(&(ids.len() + batches.len())) {
        return Err(Problem::param(param, format!("1 to {IDS} ids are allowed.")));
    }
    let now = sandbox.now();
    let mut world = sandbox.world();
    for id in &ids {
        fail_on_purpose(&mut world, id)?;
    }
    let line = |id: &&str| match world.job(id).filter(|job| wanted(job, id)) {
        None => json!({ "video_id": id, "status": "not_found" }),
        Some(job) => {
            let phase = job.phase(now);
            let kind = if job.kind == Kind::VideoAgent { Kind::Video } else { job.kind };
            let failure = job.failure().filter(|_| phase == super::Phase::Failed);
            let error = failure.map(|f| json!({ "code": f.code, "message": f.message }));
            json!({ "video_id": id, "status": phase.word(kind), "error": error })
        }
    };
    let mut lines: Vec<Value> = ids.iter().map(line).collect();
    // The sandbox has no batches, so it knows none.
    lines.extend(batches.iter().map(|id| json!({ "batch_id": id, "status": "not_found" })));
    Ok(data(json!(lines)))
}
