//! Upstream's answers to our own calls: a job was created, or how one stands.
//!
//! Tolerant of the envelopes of all three API versions. It never takes an answer without an id for
//! a created job, nor one without a link to a file for a finished one.

use std::borrow::Cow;
use std::collections::HashSet;

use serde_json::{Value, json};

use super::error::error_inside;
use super::family::{Ending, Standing, standing};
use super::loose::{self, Fields, first};
use super::page::read_page;
use crate::domain::job::{Failure, FoundBy, Kind, Observation, Output, Says};
use crate::heygen::kinds;

const VIDEO_IDS: &[&str] = &["video_id", "videoId"];

/// Upstream accepted a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    pub upstream_id: String,
    /// The video of an agent's session, when it is known that early.
    pub upstream_video_id: Option<String>,
}

/// Reads the answer to a create call. `Err` says what was missing: such an answer, also with HTTP
/// status 200, created nothing that we could name.
pub fn read_created(kind: Kind, body: &[u8]) -> Result<Created, String> {
    let root = root(body)?;
    let part = part(&root);
    let ids = kinds::route(kind).ids;
    let wanted = ids.first().copied().unwrap_or("id");
    let named = first(&part, ids, first_id);
    let (upstream_id, upstream_video_id) = match kind {
        // v1 gave an agent's video no session (docs/heygen.md, Versions).
        Kind::VideoAgent => {
            let video = first(&part, VIDEO_IDS, loose::id);
            (named.or_else(|| video.clone()), video)
        }
        // Templates answer with the whole video, whose id is `id` (docs/heygen.md, Creating).
        _ => (named.or_else(|| data_id(&root)), None),
    };
    match (upstream_id, error_inside(&root)) {
        // An id is worth more than an error beside it: something was made, and may cost.
        (Some(upstream_id), _) => Ok(Created { upstream_id, upstream_video_id }),
        (None, Some(error)) => Err(format!("the answer has no {wanted} but an error: {error}")),
        (None, None) => Err(format!("the answer has no {wanted}")),
    }
}

/// Reads the answer to a status call. `Err` when it says nothing about any job.
pub fn read_status(kind: Kind, body: &[u8], found_by: FoundBy) -> Result<Observation, String> {
    read_status_fields(kind, &root(body)?, found_by)
}

/// The same for one item of a list.
pub fn read_status_value(kind: Kind, value: &Value, found_by: FoundBy) -> Result<Observation, String> {
    let root = value.as_object().ok_or("the item is not a JSON object")?;
    read_status_fields(kind, root, found_by)
}

/// Reads the answer to a call about many jobs: the ids that surely go on. The views of translations
/// and lipsyncs, too, may call theirs `video_id` (docs/heygen.md, Lists).
pub fn read_running(kind: Kind, body: &[u8]) -> Result<HashSet<String>, String> {
    let page = read_page(body)?;
    let lines = page.items.iter().filter_map(Value::as_object);
    let running = lines.filter(|line| {
        first(line, &["status"], loose::name).is_some_and(|status| standing(&status) == Standing::Running)
    });
    let ids = [kinds::route(kind).ids, VIDEO_IDS, &["id"]].concat();
    Ok(running.filter_map(|line| first(line, &ids, loose::id)).collect())
}

fn read_status_fields(kind: Kind, root: &Fields, found_by: FoundBy) -> Result<Observation, String> {
    let part = part(root);
    let Some(status) = first(&part, &["status"], loose::name) else {
        return Err(match error_inside(root) {
            Some(error) => format!("the answer has no status but an error: {error}"),
            None => "the answer has no status".to_owned(),
        });
    };
    let (upstream_id, upstream_video_id) = references(kind, &part);
    let says = match standing(&status) {
        Standing::Ended(Ending::Success) => finished(kind, &part),
        Standing::Ended(Ending::Failure) => {
            Says::Failed { failure: failure(kind, &status, &part), confirmed: true }
        }
        // Upstream's lists of statuses disagree; what is neither end goes on (docs/heygen.md, Statuses).
        Standing::Running | Standing::Other => in_progress(&part),
    };
    Ok(Observation { found_by, upstream_id, upstream_video_id, says })
}

/// A link wins over an `error` beside it: such videos were made, some watermarked (docs/heygen.md,
/// Statuses). Without the file it is for a job is not finished for us: an agent's session never has it,
/// its video does.
fn finished(kind: Kind, part: &Fields) -> Says {
    let mut output = loose::files(part);
    if kind.is_translation() {
        output.audio_url = first(part, &["audio_url"], loose::link);
    }
    // The only file there is, and it was paid for.
    output.video_url = output.video_url.or_else(|| output.captioned_video_url.clone());
    if output.completes(kind) { Says::Completed(Box::new(output)) } else { in_progress(part) }
}

/// An agent's session has no field for the reason, but its messages (docs/heygen.md, Statuses): the
/// last that is not the caller's own.
fn failure(kind: Kind, status: &str, part: &Fields) -> Failure {
    let mut failure = loose::failure_after(status, part);
    if kind == Kind::VideoAgent && loose::failure_text(part).is_none() {
        let messages = part.get("messages").and_then(Value::as_array).into_iter().flatten().rev();
        let said = messages.filter_map(Value::as_object).filter(|m| m.get("role") != Some(&json!("user")));
        failure.message = said.filter_map(loose::spoken).next().unwrap_or(failure.message);
    }
    failure
}

fn in_progress(part: &Fields) -> Says {
    Says::InProgress { progress: first(part, &["progress"], loose::percent) }
}

fn references(kind: Kind, part: &Fields) -> (Option<String>, Option<String>) {
    let id = || first(part, &["id"], loose::id);
    let named = first(part, kinds::route(kind).ids, loose::id);
    match kind {
        // Asked for by its session or, once that is known, by its video: only the latter has files.
        Kind::VideoAgent => {
            let video = first(part, VIDEO_IDS, loose::id);
            let is_video = Output::default() != loose::files(part) || part.contains_key("video_url");
            (named, video.or_else(|| id().filter(|_| is_video)))
        }
        _ => (named.or_else(id), None),
    }
}

fn root(body: &[u8]) -> Result<Fields, String> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(root)) => Ok(root),
        Ok(_) => Err("the answer is JSON, but not an object".to_owned()),
        Err(_) if body.is_empty() => Err("the answer is empty".to_owned()),
        Err(error) => Err(format!("the answer is not JSON: {error}")),
    }
}

/// `data`, or the whole answer when there is none.
fn part(root: &Fields) -> Cow<'_, Fields> {
    root.get("data").and_then(loose::object).unwrap_or(Cow::Borrowed(root))
}

/// `id` counts only inside `data`: on top it may be the request's.
fn data_id(root: &Fields) -> Option<String> {
    let data = root.get("data").and_then(loose::object)?;
    first(&data, &["id"], loose::id)
}

fn first_id(value: &Value) -> Option<String> {
    match value {
        Value::Array(list) => list.iter().find_map(loose::id),
        other => loose::id(other),
    }
}
