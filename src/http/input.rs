//! Bodies of API requests, read field by field: every mistake is found, and each is named by its
//! place. Unknown fields are mistakes, too.

use std::collections::BTreeMap;

use axum::body::{Body, Bytes};
use http_body_util::{BodyExt, Limited};
use serde_json::{Map, Value, json};

use super::Http;
use super::problem::{FieldError, Kind, Problem, Result, field, unknown};
use super::serve;
use crate::domain::guard::MAX_URL_CHARS;
use crate::domain::job::{Kind as JobKind, Priority};
use crate::domain::json as strict;
use crate::domain::signing;
use crate::domain::template::escaped;
use crate::domain::time::{DAY, MINUTE, Millis, parse_rfc3339};
use crate::flow::{NewJob, Polls};
use crate::heygen::kinds;
use crate::heygen::rules::{self, Mistake};
use crate::store::webhook_secret;

/// Stands for the id, and the address, of a job that is not made.
const UNMADE: &str = "job_…";
pub const MAX_BODY_BYTES: usize = 1 << 20;
const MAX_LABELS: usize = 20;
const MAX_LABEL_CHARS: usize = 100;
const MAX_CALLBACK_ID_CHARS: usize = 255;
pub const MAX_TITLE_CHARS: usize = 500;
const MAX_LISTED: usize = 100;
const MAX_LISTED_CHARS: usize = 100;
const MAX_SECRET_CHARS: usize = 200;
const MAX_METADATA_BYTES: usize = 16 << 10;
pub const MIN_DEADLINE: Millis = MINUTE;
pub const MAX_DEADLINE: Millis = 30 * DAY;
pub const MAX_NOT_BEFORE: Millis = 30 * DAY;

/// The whole body, at most a mebibyte.
pub async fn read(body: Body) -> Result<Bytes> {
    read_up_to(body, MAX_BODY_BYTES).await
}

pub async fn read_up_to(body: Body, most: usize) -> Result<Bytes> {
    match Limited::new(body, most).collect().await {
        Ok(whole) => Ok(whole.to_bytes()),
        Err(e) if e.is::<http_body_util::LengthLimitError>() => Err(Kind::TooLarge.into()),
        Err(e) if serve::is_too_slow(&*e) => Err(Kind::TooSlow.into()),
        Err(_) => Err(Problem::saying(Kind::NotJson, "the body broke off")),
    }
}

/// A JSON object; an empty body stands for an empty one where that is allowed.
pub fn object(bytes: &[u8], may_be_empty: bool) -> Result<Map<String, Value>> {
    if may_be_empty && bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match strict::read(bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::saying(Kind::NotJson, "it must be one JSON object")),
        Err(e) => Err(Problem::saying(Kind::NotJson, e.to_string())),
    }
}

/// For the routes that take no field: nothing, or an empty object.
pub async fn nothing(body: Body) -> Result<()> {
    Fields::new(object(&read(body).await?, true)?).finish()
}

/// Takes fields out of an object and collects what is wrong with them.
pub struct Fields {
    object: Map<String, Value>,
    known: Vec<&'static str>,
    pub errors: Vec<FieldError>,
}

impl Fields {
    pub fn new(object: Map<String, Value>) -> Self {
        Self { object, known: vec![], errors: vec![] }
    }

    pub fn wrong(&mut self, name: &str, why: impl Into<String>) {
        self.errors.push(field(format!("/{name}"), why));
    }

    pub fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.object.remove(name).filter(|v| !v.is_null())
    }

    pub fn text(&mut self, name: &'static str, most: usize) -> Option<String> {
        match self.take(name)? {
            Value::String(text) if fits(&text, most) => Some(text),
            _ => {
                self.wrong(name, format!("must be a text of 1 to {most} characters, none of code zero"));
                None
            }
        }
    }

    pub fn switch(&mut self, name: &'static str) -> bool {
        self.switch_or(name, false)
    }

    fn switch_or(&mut self, name: &'static str, default: bool) -> bool {
        match self.take(name) {
            None => default,
            Some(Value::Bool(on)) => on,
            Some(_) => {
                self.wrong(name, "must be true or false");
                default
            }
        }
    }

    pub fn whole(&mut self, name: &'static str, least: i64, most: i64) -> Option<i64> {
        let number = self.take(name)?.as_i64().filter(|n| (least..=most).contains(n));
        if number.is_none() {
            self.wrong(name, format!("must be a whole number from {least} to {most}"));
        }
        number
    }

    pub fn texts(&mut self, name: &'static str) -> Option<Vec<String>> {
        let text =
            |v: &Value| v.as_str().filter(|t| (1..=MAX_LISTED_CHARS).contains(&t.len())).map(str::to_owned);
        let texts: Option<Vec<String>> = match self.take(name)? {
            Value::Array(all) if (1..=MAX_LISTED).contains(&all.len()) => all.iter().map(text).collect(),
            _ => None,
        };
        if texts.is_none() {
            self.wrong(
                name,
                format!("must be a list of 1 to {MAX_LISTED} texts of 1 to {MAX_LISTED_CHARS} characters"),
            );
        }
        texts
    }

    pub fn finish(mut self) -> Result<()> {
        for name in self.object.keys() {
            self.errors.push(field(format!("/{}", escaped(name)), unknown(&self.known)));
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(Problem::fields(Kind::InvalidRequest, self.errors))
    }
}

/// The character of code zero cannot be stored as it is (PostgreSQL's text), and what is kept must
/// be what was acknowledged.
fn fits(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.chars().count()) && !text.contains('\0')
}

/// The body of a submit: one job, or where several languages are asked for, one for each.
pub fn new_jobs(http: &Http, job: Map<String, Value>) -> Result<Vec<NewJob>> {
    let mut fields = Fields::new(job);
    let kind = kind(&mut fields);
    let check = fields.switch_or("check", true);
    let request = request(&mut fields, kind, check);
    let title = request.as_ref().and_then(|r| r.get("title")).and_then(Value::as_str);
    let title = title.map(|t| t.chars().take(MAX_TITLE_CHARS).collect());
    let callback_id = fields.text("callback_id", MAX_CALLBACK_ID_CHARS);
    let labels = labels(&mut fields);
    let metadata = metadata(&mut fields);
    let notify_url = receiver(&mut fields, "notify_url", http);
    let notify_secret = notify_secret(&mut fields, notify_url.is_some());
    let priority = priority(&mut fields);
    let hold = fields.switch("hold");
    let not_before = not_before(&mut fields, http.clock.now());
    let deadline_at = deadline(&mut fields, not_before, http);
    fields.finish()?;
    let (Some(kind), Some(request)) = (kind, request) else { return Err(Kind::InvalidRequest.into()) };
    let (first_poll_ms, least_poll_ms) = polls(http, kind, &request);
    let new = |request| NewJob {
        kind,
        request: Value::Object(request).to_string(),
        callback_id: callback_id.clone(),
        title: title.clone(),
        labels: labels.clone(),
        metadata: metadata.clone(),
        priority,
        hold,
        not_before,
        deadline_at,
        retry_of: None,
        notify_url: notify_url.clone(),
        notify_secret: notify_secret.clone(),
        group_row: None,
        first_poll_ms,
        least_poll_ms,
    };
    Ok(kinds::one_per_language(kind, request).into_iter().map(new).collect())
}

/// What this job would send to HeyGen, and, where the check was left out, what it would have found.
/// Records nothing.
pub async fn dry_run(http: &Http, new: &NewJob) -> Result<Value> {
    let request = object(new.request.as_bytes(), false)?;
    let mistakes = rules::check(new.kind, &request);
    let now = http.clock.now();
    let secrets = http.db.read(move |tx| webhook_secret::list_live(tx, now)).await?;
    let wants_url = kinds::wants_callback_url(new.kind, !secrets.is_empty());
    let url = http.addresses.of_job(UNMADE).filter(|_| wants_url).map(|url| match url.rsplit_once('/') {
        Some((place, _)) => format!("{place}/{UNMADE}"),
        None => url,
    });
    let outgoing = kinds::outgoing(new.kind, request, UNMADE, UNMADE, url.as_deref());
    let errors = mistakes.into_iter().map(in_request);
    Ok(json!({
        "kind": new.kind.name(),
        "method": "POST",
        "path": outgoing.path,
        "body": outgoing.body,
        "errors": errors.map(|e| e.json()).collect::<Vec<_>>(),
    }))
}

/// When a job with this request is asked for first, and the least pause between polls.
pub fn polls(http: &Http, kind: JobKind, request: &Map<String, Value>) -> Polls {
    let least = http.settings.poll_pause;
    // Where no webhook can come, the poll is the only way to hear.
    let has_endpoint = !http.secrets.live().secrets.is_empty();
    let is_told = kinds::is_told(kind, request, has_endpoint, http.settings.hooks_url.is_some());
    let usual = if is_told { kind.usual_time() } else { least };
    (http.settings.first_poll.unwrap_or(usual), least)
}

fn kind(fields: &mut Fields) -> Option<JobKind> {
    let names = JobKind::ALL.map(JobKind::name).join(", ");
    let Some(value) = fields.take("kind") else {
        fields.wrong("kind", format!("is required: one of {names}"));
        return None;
    };
    let kind = value.as_str().and_then(JobKind::parse);
    if kind.is_none() {
        fields.wrong("kind", format!("must be one of {names}"));
    }
    kind
}

/// HeyGen's own body. Without `check` only what we could not send is refused.
fn request(fields: &mut Fields, kind: Option<JobKind>, check: bool) -> Option<Map<String, Value>> {
    match fields.take("request") {
        Some(Value::Object(request)) => {
            if let Some(kind) = kind {
                fields.errors.extend(kinds::unfit(kind, &request).into_iter().map(in_request));
                if check {
                    fields.errors.extend(rules::check(kind, &request).into_iter().map(in_request));
                }
            }
            Some(request)
        }
        _ => {
            fields.wrong("request", "must be the object HeyGen's create call takes");
            None
        }
    }
}

fn in_request(mistake: Mistake) -> FieldError {
    field(format!("/request{}", mistake.pointer), mistake.message)
}

pub fn labels(fields: &mut Fields) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let Some(value) = fields.take("labels") else { return labels };
    let Value::Object(given) = value else {
        fields.wrong("labels", "must be an object of texts");
        return labels;
    };
    if given.len() > MAX_LABELS {
        fields.wrong("labels", format!("has {} labels, at most {MAX_LABELS} are taken", given.len()));
    }
    for (name, value) in given {
        match value {
            Value::String(value)
                if fits(&name, MAX_LABEL_CHARS) && fits(&value, MAX_LABEL_CHARS) && !name.contains(':') =>
            {
                labels.insert(name, value);
            }
            _ => fields.wrong(
                &format!("labels/{}", escaped(&name)),
                format!(
                    "name and value must be texts of 1 to {MAX_LABEL_CHARS} characters, none of code zero, and \
                     the name without `:`"
                ),
            ),
        }
    }
    labels
}

/// An address that events may be sent to, as it will be called.
pub fn receiver(fields: &mut Fields, name: &'static str, http: &Http) -> Option<String> {
    let text = fields.text(name, MAX_URL_CHARS)?;
    let judged = http.settings.guard.url(&text);
    judged.map_err(|why| fields.wrong(name, why)).ok().map(String::from)
}

fn notify_secret(fields: &mut Fields, has_url: bool) -> Option<String> {
    let text = fields.text("notify_secret", MAX_SECRET_CHARS)?;
    if !has_url {
        fields.wrong("notify_secret", "signs what is sent to `notify_url`, which is not given or not right");
    } else if !signing::is_secret(&text) {
        fields.wrong("notify_secret", "must be whsec_ and the base64 of 24 to 64 random bytes");
    }
    Some(text)
}

fn metadata(fields: &mut Fields) -> Option<Value> {
    let value = fields.take("metadata")?;
    let size = value.to_string().len();
    if size > MAX_METADATA_BYTES {
        fields.wrong("metadata", format!("has {size} bytes, at most {MAX_METADATA_BYTES} are taken"));
    }
    Some(value)
}

fn priority(fields: &mut Fields) -> Priority {
    let Some(value) = fields.take("priority") else { return Priority::default() };
    value.as_i64().and_then(Priority::new).unwrap_or_else(|| {
        let (least, most) = (Priority::LEAST, Priority::MOST);
        fields.wrong("priority", format!("must be a whole number from {least} to {most}"));
        Priority::default()
    })
}

/// One that has passed puts nothing off.
fn not_before(fields: &mut Fields, now: Millis) -> Option<Millis> {
    let at = time(fields, "not_before")?;
    if at > now + MAX_NOT_BEFORE {
        fields.wrong("not_before", "must be at most 30 days ahead");
    }
    Some(at)
}

/// Counts from when the job may begin.
fn deadline(fields: &mut Fields, not_before: Option<Millis>, http: &Http) -> Millis {
    let now = http.clock.now();
    let begins_at = not_before.map_or(now, |at| at.clamp(now, now + MAX_NOT_BEFORE));
    let Some(at) = time(fields, "deadline") else { return begins_at.saturating_add(http.settings.deadline) };
    if !(begins_at + MIN_DEADLINE..=begins_at + MAX_DEADLINE).contains(&at) {
        let from = if begins_at > now { "after `not_before`" } else { "ahead" };
        fields.wrong("deadline", format!("must be from one minute to 30 days {from}"));
    }
    at
}

fn time(fields: &mut Fields, name: &'static str) -> Option<Millis> {
    let at = fields.take(name)?.as_str().and_then(parse_rfc3339);
    if at.is_none() {
        fields.wrong(name, "must be an RFC 3339 time such as 2026-11-21T10:00:00Z");
    }
    at
}
