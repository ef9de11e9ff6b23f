//! Endpoints over HTTP. A signing secret is in one answer, once. Nothing is sent from here: a test
//! event is made due, and its delivery is waited for.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};

use super::input::{self, Fields};
use super::problem::{Kind, Problem, Result, field};
use super::query::Query;
use super::{Http, deliveries, wait};
use crate::domain::delivery::{LEAST_WAIT, MAX_WAIT, MAX_WAITS, MAX_WAITS_IN_ALL, Target};
use crate::domain::endpoint::{Details, Endpoint, Filter, Format, MAX_ENDPOINTS, MAX_PATTERNS};
use crate::domain::event::{has_jobs, is_upstream, types};
use crate::domain::ids;
use crate::domain::job::Kind as JobKind;
use crate::domain::signing::{MAX_OVERLAP, OVERLAP, SigningSecret, rotate as take_over};
use crate::domain::task::TaskKind;
use crate::domain::time::{Millis, SECOND, rfc3339};
use crate::flow::{self, Enabled};
use crate::store::{Tx, endpoint, task};

const MAX_DESCRIPTION_CHARS: usize = 500;
const MAX_PATTERN_CHARS: usize = 100;
/// All that there are from 400 to 499.
pub const MAX_STATUSES: usize = 100;

pub async fn add(State(http): State<Http>, body: Body) -> Result<Response> {
    let wishes = Wishes::read(&http, &input::read(body).await?, true)?;
    let now = http.clock.now();
    let secret = SigningSecret::new(http.clock.random(), now);
    let mut details = Details { secrets: vec![secret.clone()], ..Details::default() };
    wishes.apply(&mut details);
    check(&details)?;
    let id = ids::new(ids::ENDPOINT, now, http.clock.random());
    let made = Endpoint { id, created_at: now, disabled_at: None, details };
    let new = made.clone();
    if !http.db.write(move |tx| flow::add_endpoint(tx, &new, MAX_ENDPOINTS)).await? {
        return Err(Kind::TooManyEndpoints.into());
    }
    // Not its address, which may hold a credential.
    tracing::info!(endpoint_id = %made.id, "endpoint added");
    Ok((StatusCode::CREATED, axum::Json(with_secret(&http, &made, &secret, now))).into_response())
}

pub async fn list(State(http): State<Http>) -> Result<Response> {
    let (now, hears) = (http.clock.now(), hears(&http));
    let read = move |tx: &mut Tx| {
        let all = endpoint::list(tx)?;
        all.iter()
            .map(|endpoint| shown(tx, endpoint, hears, now))
            .collect::<crate::store::Result<Vec<Value>>>()
    };
    let data = http.db.read(read).await?;
    Ok(axum::Json(json!({"data": data, "has_more": false, "next_cursor": null})).into_response())
}

pub async fn get(State(http): State<Http>, Path(id): Path<String>) -> Result<Response> {
    let (wanted, now, hears) = (id.clone(), http.clock.now(), hears(&http));
    let read = move |tx: &mut Tx| {
        endpoint::find(tx, &wanted)?.map(|found| shown(tx, &found, hears, now)).transpose()
    };
    let found = http.db.read(read).await?.ok_or_else(|| not_found(&id))?;
    Ok(axum::Json(found).into_response())
}

/// An endpoint, and until when it is left alone because nobody answers there.
fn shown(tx: &mut Tx, endpoint: &Endpoint, hears: bool, now: Millis) -> crate::store::Result<Value> {
    let until = left_alone(tx, endpoint, now)?;
    let mut shown = endpoint.json(now);
    shown["left_alone_until"] = json!(until.map(rfc3339));
    shown["hint"] = json!(hint(endpoint, hears));
    Ok(shown)
}

/// Whether anything that HeyGen sends can be verified here.
fn hears(http: &Http) -> bool {
    !http.secrets.live().secrets.is_empty()
}

/// Why it will get less than it asks for.
fn hint(endpoint: &Endpoint, hears: bool) -> Option<&'static str> {
    (endpoint.wants_upstream() && !hears).then_some(
        "only webhooks that HeyGen signed are passed on, and no webhook secret is known here: \
         `reelhook webhook register` gets one",
    )
}

/// Until when nothing is sent to it, though it is enabled.
pub fn left_alone(tx: &mut Tx, endpoint: &Endpoint, now: Millis) -> crate::store::Result<Option<Millis>> {
    let target = Target::Endpoint(endpoint.id.clone()).name();
    let until = task::find_put_off(tx, &target, TaskKind::Deliver)?;
    Ok(until.filter(|until| endpoint.disabled_at.is_none() && *until > now))
}

pub fn not_found(id: &str) -> Problem {
    Problem::saying(Kind::NotFound, format!("no endpoint has the id {id}"))
}

/// Changes what is named and leaves the rest.
pub async fn update(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    let wishes = Wishes::read(&http, &input::read(body).await?, false)?;
    let (wanted, stamp) = (id.clone(), http.stamp());
    let change = move |tx: &mut Tx| {
        // Judged where nobody else changes it: two changes that are right alone may not go together.
        let change = |endpoint: &mut Endpoint| {
            wishes.apply(&mut endpoint.details);
            check(&endpoint.details)
        };
        flow::change_endpoint(tx, &wanted, change, &stamp)
    };
    http.db.write(change).await?.ok_or_else(|| not_found(&id))??;
    get(State(http), Path(id)).await
}

/// A new secret; the one before goes on signing for a while.
pub async fn rotate(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    let mut fields = Fields::new(input::object(&input::read(body).await?, true)?);
    let overlap = overlap(&mut fields);
    fields.finish()?;
    let stamp = http.stamp();
    let now = stamp.now;
    let secret = SigningSecret::new(http.clock.random(), now);
    let (wanted, new) = (id.clone(), secret.clone());
    let swap = move |tx: &mut Tx| {
        let swap = |endpoint: &mut Endpoint| {
            take_over(&mut endpoint.details.secrets, new.clone(), overlap, now);
            Ok::<_, Problem>(())
        };
        flow::change_endpoint(tx, &wanted, swap, &stamp)
    };
    let found = http.db.write(swap).await?.ok_or_else(|| not_found(&id))??;
    tracing::info!(endpoint_id = %found.id, "signing secret rotated");
    Ok(axum::Json(with_secret(&http, &found, &secret, now)).into_response())
}

fn overlap(fields: &mut Fields) -> Millis {
    fields.whole("overlap_s", 0, MAX_OVERLAP / SECOND).map_or(OVERLAP, |seconds| seconds * SECOND)
}

fn with_secret(http: &Http, endpoint: &Endpoint, secret: &SigningSecret, now: Millis) -> Value {
    let mut shown = endpoint.json(now);
    shown["hint"] = json!(hint(endpoint, hears(http)));
    shown["secret"] = json!(secret.secret);
    shown
}

/// Sends a test event, and waits for what becomes of it if that is wanted.
pub async fn test(
    State(http): State<Http>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response> {
    let wait = wait::asked(Query::parse(raw.as_deref()), &headers)?.unwrap_or_default();
    input::nothing(body).await?;
    let (wanted, stamp) = (id.clone(), http.stamp());
    let made = http.db.write(move |tx| flow::test_endpoint(tx, &wanted, &stamp)).await?;
    let made = made.ok_or_else(|| not_found(&id))?;
    let (status, delivery) = deliveries::wait_for_end(&http, &made.id, wait).await?;
    Ok((status, axum::Json(delivery)).into_response())
}

pub async fn enable(State(http): State<Http>, Path(id): Path<String>, body: Body) -> Result<Response> {
    input::nothing(body).await?;
    let (wanted, stamp) = (id.clone(), http.stamp());
    match http.db.write(move |tx| flow::enable_endpoint(tx, &wanted, &stamp)).await? {
        Enabled::NotFound => Err(not_found(&id)),
        Enabled::Untested => Err(Kind::EndpointUntested.into()),
        Enabled::Ok(_) => get(State(http), Path(id)).await,
    }
}

pub async fn remove(State(http): State<Http>, Path(id): Path<String>) -> Result<Response> {
    let (wanted, stamp) = (id.clone(), http.stamp());
    if http.db.write(move |tx| flow::remove_endpoint(tx, &wanted, &stamp)).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(not_found(&id))
    }
}

/// What a caller says of an endpoint; absent is what was not said.
#[derive(Clone)]
struct Wishes {
    url: Option<String>,
    description: Option<String>,
    events: Option<Vec<String>>,
    kinds: Option<Vec<String>>,
    labels: Option<std::collections::BTreeMap<String, String>>,
    format: Option<Format>,
    waits: Option<Vec<Millis>>,
    give_up_on: Option<Vec<u16>>,
}

impl Wishes {
    fn read(http: &Http, bytes: &[u8], new: bool) -> Result<Self> {
        let object: Map<String, Value> = input::object(bytes, !new)?;
        let says_labels = object.get("labels").is_some_and(|labels| !labels.is_null());
        let mut fields = Fields::new(object);
        let url = input::receiver(&mut fields, "url", http);
        if new && url.is_none() && fields.errors.is_empty() {
            fields.wrong("url", "is required: where events are sent");
        }
        let description = fields.text("description", MAX_DESCRIPTION_CHARS);
        let events = listed(&mut fields, "events", 1, pattern);
        let kinds = listed(&mut fields, "kinds", 0, |kind| match JobKind::parse(kind) {
            Some(_) => Ok(()),
            None => Err(format!("is no kind; kinds are {}", JobKind::ALL.map(JobKind::name).join(", "))),
        });
        let labels = input::labels(&mut fields);
        let format = fields.text("format", MAX_PATTERN_CHARS).and_then(|name| {
            let format = Format::parse(&name);
            if format.is_none() {
                let names = Format::ALL.map(Format::name).join(", ");
                fields.wrong("format", format!("must be one of {names}"));
            }
            format
        });
        let waits = waits(&mut fields);
        let give_up_on = give_up_on(&mut fields);
        fields.finish()?;
        let labels = says_labels.then_some(labels);
        Ok(Self { url, description, events, kinds, labels, format, waits, give_up_on })
    }

    fn apply(&self, details: &mut Details) {
        if let Some(url) = &self.url {
            details.url.clone_from(url);
        }
        if self.description.is_some() {
            details.description.clone_from(&self.description);
        }
        details.format = self.format.unwrap_or(details.format);
        if let Some(wanted) = &self.waits {
            details.retries.waits.clone_from(wanted);
        }
        if let Some(wanted) = &self.give_up_on {
            details.retries.give_up_on.clone_from(wanted);
        }
        let Filter { events, kinds, labels } = &mut details.filter;
        if let Some(wanted) = &self.events {
            events.clone_from(wanted);
        } else if events.is_empty() {
            *events = details.format.usual_events();
        }
        if let Some(wanted) = &self.kinds {
            kinds.clone_from(wanted);
        }
        if let Some(wanted) = &self.labels {
            labels.clone_from(wanted);
        }
    }
}

/// What does not go together: nothing that is asked for may be something that is never sent.
fn check(details: &Details) -> Result<()> {
    let Filter { events, kinds, labels } = &details.filter;
    let raw = details.format == Format::Heygen;
    let mut errors = vec![];
    if raw && !events.iter().all(|pattern| is_upstream(pattern)) {
        errors.push(field(
            "/events",
            "with format heygen only events of HeyGen's can be sent, such as heygen.*",
        ));
    }
    let any_of_jobs = !raw && events.iter().any(|pattern| has_jobs(pattern));
    for (name, is_empty) in [("/kinds", kinds.is_empty()), ("/labels", labels.is_empty())] {
        if !is_empty && !any_of_jobs {
            errors.push(field(
                name,
                "only events of jobs can be chosen by it, none is asked for; leave it out",
            ));
        }
    }
    if any_of_jobs && !(kinds.is_empty() && labels.is_empty()) {
        let never = events.iter().enumerate().filter(|(_, pattern)| !has_jobs(pattern));
        errors.extend(never.map(|(nth, _)| {
            let why = "is of no job, so with `kinds` or `labels` it is never sent; add an endpoint of its own for it";
            field(format!("/events/{nth}"), why)
        }));
    }
    if errors.is_empty() { Ok(()) } else { Err(Problem::fields(Kind::InvalidRequest, errors)) }
}

/// Waits after attempts that failed, in seconds.
fn waits(fields: &mut Fields) -> Option<Vec<Millis>> {
    const NAME: &str = "retry_after_s";
    let waits: Vec<Millis> = wholes(fields, NAME, (1, MAX_WAITS), (LEAST_WAIT / SECOND, MAX_WAIT / SECOND))?
        .iter()
        .map(|wait| wait * SECOND)
        .collect();
    if waits.iter().sum::<Millis>() > MAX_WAITS_IN_ALL {
        let most = MAX_WAITS_IN_ALL / SECOND;
        fields.wrong(NAME, format!("must be {most} seconds together at most, which is 14 days"));
    }
    Some(waits)
}

/// Statuses that are refusals for good.
fn give_up_on(fields: &mut Fields) -> Option<Vec<u16>> {
    let statuses = wholes(fields, "give_up_on", (0, MAX_STATUSES), (400, 499))?;
    let mut statuses: Vec<u16> = statuses.into_iter().filter_map(|s| u16::try_from(s).ok()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    Some(statuses)
}

/// A list of so many whole numbers, each of these.
fn wholes(
    fields: &mut Fields,
    name: &'static str,
    many: (usize, usize),
    (least, largest): (i64, i64),
) -> Option<Vec<i64>> {
    each(fields, name, many, "whole numbers", |value| {
        let number = value.as_i64().filter(|n| (least..=largest).contains(n));
        number.ok_or_else(|| format!("must be a whole number from {least} to {largest}"))
    })
}

/// A list of texts that are each judged.
fn listed(
    fields: &mut Fields,
    name: &'static str,
    least: usize,
    judge: impl Fn(&str) -> std::result::Result<(), String>,
) -> Option<Vec<String>> {
    each(fields, name, (least, MAX_PATTERNS), "texts", |value| {
        let text = value.as_str().unwrap_or_default();
        judge(text).map(|()| text.to_owned())
    })
}

/// The items of a list, of those that are as `read` wants them; every other is told by its place.
fn each<T>(
    fields: &mut Fields,
    name: &'static str,
    (least, most): (usize, usize),
    what: &str,
    read: impl Fn(&Value) -> std::result::Result<T, String>,
) -> Option<Vec<T>> {
    let all = match fields.take(name)? {
        Value::Array(all) if (least..=most).contains(&all.len()) => all,
        _ => {
            fields.wrong(name, format!("must be a list of {least} to {most} {what}"));
            return None;
        }
    };
    let mut items = vec![];
    for (nth, value) in all.iter().enumerate() {
        match read(value) {
            Ok(item) => items.push(item),
            Err(why) => fields.wrong(&format!("{name}/{nth}"), why),
        }
    }
    Some(items)
}

/// What events an endpoint, or whoever reads a stream, may ask for: a type, or all of a family.
pub fn pattern(text: &str) -> std::result::Result<(), String> {
    let family = text.strip_suffix(".*");
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._".contains(c);
    let shaped = text.len() <= MAX_PATTERN_CHARS && family.unwrap_or(text).chars().all(plain);
    let known = match family {
        Some(family) => types().iter().any(|name| name.starts_with(&format!("{family}."))),
        None => types().contains(&text),
    };
    if text == "*" || shaped && (known || is_upstream(text) && text.len() > "heygen.".len()) {
        return Ok(());
    }
    let names = types().join(", ");
    Err(format!("is no event; there are {names}, families such as job.*, `*`, and heygen.* for HeyGen's own"))
}
