//! The event log as it grows, for whoever holds a connection open: server-sent events, or the same as lines of
//! JSON. It begins with how things stand and goes on from a position in the log, so that who comes back with the
//! last one misses nothing.
//!
//! It only reads the event table, a page at a time and when the reader has taken the page before. Nothing waits
//! for a reader, and nothing is kept of one.

mod asked;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use self::asked::{Asked, Form, Since};
use super::auth::Link;
use super::events::event_json;
use super::problem::{Kind, Result};
use super::upstream::live_json;
use super::{Http, jobs};
use crate::domain::endpoint::Filter;
use crate::domain::event::Event;
use crate::domain::job::Job;
use crate::domain::time::{Millis, SECOND};
use crate::store::{self, Tx, event, job, upstream_limit};

/// A reader that was told nothing for so long is told that we are there: proxies cut what is silent for 30 s,
/// and `listen` takes a line that missed two of these for dead.
const KEEPALIVE: Millis = 5 * SECOND;
/// What a browser waits before it comes back.
const RETRY_MS: u32 = 3_000;
/// Whoever reads looks again at most this often, however often the bell rings.
const LOOK_PAUSE: Millis = 200;
/// Events of one look.
const PAGE: i64 = 50;
/// Of these a slow reader holds no more in memory than so many bytes, and one event.
const MOST_HELD: usize = 256 << 10;

/// The readers there are.
pub struct Streams {
    most: usize,
    slots: Arc<Semaphore>,
    ended: watch::Sender<bool>,
}

impl Streams {
    /// Room for so many: each looks into the event table whenever something happens.
    pub fn new(most: usize) -> Self {
        Self { most, slots: Arc::new(Semaphore::new(most)), ended: watch::Sender::new(false) }
    }

    pub fn open(&self) -> usize {
        self.most - self.slots.available_permits()
    }

    /// The server stops: readers are let go, to come back to another or to the next.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }
}

/// Everything that is published.
pub async fn all(State(http): State<Http>, RawQuery(raw): RawQuery, headers: HeaderMap) -> Result<Response> {
    let asked = asked::read(raw.as_deref(), &headers, false, http.clock.now())?;
    answer(&http, asked, None, None).await
}

/// What is published of one job, until it has ended.
pub async fn of_job(
    State(http): State<Http>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
    link: Option<Extension<Link>>,
    headers: HeaderMap,
) -> Result<Response> {
    let asked = asked::read(raw.as_deref(), &headers, true, http.clock.now())?;
    let id = jobs::find(&http, &id).await?.id;
    answer(&http, asked, Some(id), link.map(|Extension(link)| link)).await
}

async fn answer(http: &Http, asked: Asked, job_id: Option<String>, link: Option<Link>) -> Result<Response> {
    let slot = http.streams.slots.clone().try_acquire_owned();
    let slot = slot.map_err(|_| Kind::TooManyStreams)?;
    let (now, from) = (http.clock.now(), if let Since::Time(at) = asked.since { at } else { Millis::MIN });
    let (since, wanted) = (asked.since, job_id.clone());
    let (log, ours) = (http.addresses.log_name(), http.addresses.log_name());
    let start = http.db.read(move |tx| start(tx, &since, &ours, wanted.as_deref(), now)).await?;
    if asked.is_back && start.is_all_told {
        // It knows the end already. This answer, unlike an end, tells a browser not to come back.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let form = asked.form;
    let mut feed = Feed {
        http: http.clone(),
        filter: asked.filter,
        from,
        form,
        job_id,
        link,
        is_poll: asked.is_poll,
        log,
        position: start.position,
        text: String::new(),
        looked_at: now,
        told_at: now,
        is_caught_up: false,
        is_live: false,
        is_over: false,
        bell: http.db.bell.arm(),
        ended: http.streams.ended.subscribe(),
        _slot: slot,
    };
    feed.begin(start);
    let body = Body::from_stream(futures_util::stream::unfold(feed, Feed::next));
    let kind = match form {
        Form::Sse => "text/event-stream",
        Form::Lines => "application/x-ndjson",
    };
    // nginx would gather what is told until it fills a buffer.
    let headers =
        [(header::CONTENT_TYPE.as_str(), kind), ("cache-control", "no-store"), ("x-accel-buffering", "no")];
    Ok((headers, body).into_response())
}

/// Where a stream begins, and how things stand there.
struct Start {
    position: i64,
    /// What was asked for where it is not there: no longer, or in no log of ours.
    missed: Option<i64>,
    shown: (&'static str, Value),
    /// The job has ended and nothing of it stands behind the position.
    is_all_told: bool,
}

fn start(tx: &mut Tx, since: &Since, log: &str, job_id: Option<&str>, now: Millis) -> store::Result<Start> {
    // The position before the state: what happens in between is told once more rather than never.
    let (oldest, last) = event::bounds(tx)?;
    let is_ours = |named: &Option<String>| named.as_ref().is_none_or(|name| name == log);
    let (position, missed) = match since {
        Since::Now => (last, None),
        Since::All => (oldest - 1, None),
        Since::After(log, number) if is_ours(log) && (oldest - 1..=last).contains(number) => (*number, None),
        Since::After(_, number) => (oldest - 1, Some(*number)),
        Since::Time(at) => (event::number_before(tx, *at)?, None),
    };
    let Some(id) = job_id else {
        let open = job::count_open(tx)?.into_iter().map(|(state, n)| (state.name().to_owned(), json!(n)));
        let shown = ("open_jobs", Value::Object(open.collect::<Map<_, _>>()));
        return Ok(Start { position, missed, shown, is_all_told: false });
    };
    let found = job::find(tx, id)?;
    let limit = upstream_limit::get(tx)?;
    let has_ended = found.as_ref().is_none_or(|job| job.state.is_terminal());
    let is_all_told = has_ended && event::list(tx, Some(id), position, 1)?.is_empty();
    let shown = ("job", json!(found.map(|job| live_json(&job, &limit, now))));
    Ok(Start { position, missed, shown, is_all_told })
}

/// One reader's way through the log.
struct Feed {
    http: Http,
    filter: Filter,
    /// Events before this time are passed over.
    from: Millis,
    form: Form,
    job_id: Option<String>,
    link: Option<Link>,
    /// It ends where others become live.
    is_poll: bool,
    /// The name of the log.
    log: String,
    /// The number of the last event that was looked at.
    position: i64,
    /// What is to be told and was not taken yet.
    text: String,
    looked_at: Millis,
    told_at: Millis,
    /// Nothing is known to stand behind the position.
    is_caught_up: bool,
    /// It was told that it has caught up.
    is_live: bool,
    is_over: bool,
    bell: watch::Receiver<u64>,
    ended: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
}

impl Feed {
    fn begin(&mut self, start: Start) {
        if self.form == Form::Sse {
            self.text = format!("retry: {RETRY_MS}\n");
        }
        let (name, mut shown) = start.shown;
        self.hide(&mut shown);
        let mut snapshot = json!({"type": "snapshot", "log": self.log, "position": self.position});
        snapshot[name] = shown;
        self.tell(&snapshot);
        if let Some(asked) = start.missed {
            self.tell(&json!({"type": "gap", "position": self.position, "asked": asked}));
        }
    }

    /// For `unfold`: what is written next, `None` at the end.
    async fn next(mut self) -> Option<(std::result::Result<Bytes, Infallible>, Self)> {
        while self.text.is_empty() {
            if self.is_caught_up && !self.is_over {
                self.wait().await;
            }
            let now = self.http.clock.now();
            if self.is_over || *self.ended.borrow() || self.link.is_some_and(|link| link.until <= now) {
                return None;
            }
            if let Err(e) = self.look(now).await {
                // It comes back when the store does.
                tracing::debug!(error = %e, "a stream ends: the store cannot be read");
                return None;
            }
            // In either direction: the clock may have been set.
            if self.text.is_empty() && (now - self.told_at).abs() >= KEEPALIVE {
                self.text = match self.form {
                    Form::Sse => ": keepalive\n\n".to_owned(),
                    Form::Lines => "{\"type\":\"keepalive\"}\n".to_owned(),
                };
            }
        }
        self.told_at = self.http.clock.now();
        let text = std::mem::take(&mut self.text);
        Some((Ok(text.into()), self))
    }

    /// Until something happened, or something is to be said or done all the same.
    async fn wait(&mut self) {
        let clock = self.http.clock.clone();
        let now = clock.now();
        let due = self.link.map_or(Millis::MAX, |link| link.until).min(self.told_at.min(now) + KEEPALIVE);
        let again = self.looked_at.min(now) + LOOK_PAUSE;
        let (bell, ended) = (&mut self.bell, &mut self.ended);
        let news = async {
            // Lives as long as the database handle we hold.
            let _ = bell.changed().await;
            clock.sleep_until(again).await;
        };
        tokio::select! {
            () = news => {}
            () = clock.sleep_until(due) => {}
            _ = ended.wait_for(|ended| *ended) => {}
        }
    }

    async fn look(&mut self, now: Millis) -> store::Result<()> {
        // Before looking: what happens in between rings it.
        self.bell.mark_unchanged();
        self.looked_at = now;
        let (job_id, after) = (self.job_id.clone(), self.position);
        let read = move |tx: &mut Tx| {
            // The job before its events: of one that has ended they are all there.
            let job = job_id.as_deref().map(|id| job::find(tx, id)).transpose()?.flatten();
            Ok((job, event::list(tx, job_id.as_deref(), after, PAGE)?))
        };
        let (job, events) = self.http.db.read(read).await?;
        self.is_caught_up = i64::try_from(events.len()).is_ok_and(|n| n < PAGE);
        for event in events {
            if self.text.len() > MOST_HELD {
                self.is_caught_up = false;
                break;
            }
            self.position = event.number;
            if event.created_at >= self.from && self.filter.wants(&event) {
                self.tell_event(&event);
            }
        }
        if self.is_caught_up {
            self.caught_up(job.as_ref());
        }
        Ok(())
    }

    fn tell_event(&mut self, event: &Event) {
        let mut shown = event_json(event);
        self.hide(&mut shown["data"]);
        self.tell(&shown);
    }

    fn caught_up(&mut self, job: Option<&Job>) {
        if !self.is_live {
            self.is_live = true;
            self.tell(&json!({"type": "live", "position": self.position}));
            self.is_over = self.is_poll;
        }
        if let Some(job) = job.filter(|job| job.state.is_terminal()) {
            self.is_over = true;
            let (id, state) = (&job.id, job.state.name());
            self.tell(&json!({"type": "done", "position": self.position, "job_id": id, "state": state}));
        }
    }

    /// A page in a browser is not shown where the application is told.
    fn hide(&self, job: &mut Value) {
        if self.link.is_some() && job["notify_url"].is_string() {
            job["notify_url"] = Value::Null;
        }
    }

    fn tell(&mut self, what: &Value) {
        if self.form == Form::Lines {
            self.text += &format!("{what}\n");
            return;
        }
        // HeyGen names its own events; what it may put into a name must not end the line.
        let name = what["type"].as_str().unwrap_or_default().replace(['\r', '\n', '\0'], " ");
        let (log, number) = (&self.log, self.position);
        self.text += &format!("id: {log}.{number}\nevent: {name}\ndata: {what}\n\n");
    }
}
