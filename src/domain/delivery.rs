//! Deliveries: one event on its way to one place. What an answer means, when the next attempt is
//! due, when a place is left alone for a while.
//!
//! Deliveries never wait for one another: an event that is not taken does not hold up the next one.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::endpoint::Endpoint;
use super::event::Event;
use super::ids;
use super::retry::{parse_retry_after, scaled};
use super::time::{DAY, HOUR, MINUTE, Millis, SECOND, rfc3339};

/// Waits after the first, second, … attempt that failed, where an endpoint has none of its own: about three
/// days.
const SCHEDULE: [Millis; 9] =
    [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
/// What an endpoint's own may be: so many, each so long, and all together.
pub const MAX_WAITS: usize = 20;
pub const LEAST_WAIT: Millis = SECOND;
pub const MAX_WAIT: Millis = 7 * DAY;
pub const MAX_WAITS_IN_ALL: Millis = 14 * DAY;
/// The latest attempts of a delivery that are kept.
const ATTEMPTS_KEPT: usize = 10;
/// A `Retry-After` beyond this counts as this.
pub const MAX_RETRY_AFTER: Millis = 24 * HOUR;
/// Of what was answered, so much is kept with the attempt.
const MAX_ANSWER_CHARS: usize = 500;

/// Whom deliveries go to. Those of one target are sent by one task, so that a target that hangs
/// holds up no other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    Endpoint(String),
    /// An endpoint's test events: sent also while it is disabled, and behind nothing else.
    Test(String),
    /// Whatever jobs want told of at one scheme, host and port. Many may share it who know nothing of each other.
    Origin(String),
}

const TEST: &str = "/test";

impl Target {
    /// Of a URL that a job names.
    pub fn of_url(url: &str) -> Option<Self> {
        Url::parse(url).ok().map(|url| Self::Origin(url.origin().ascii_serialization()))
    }

    /// As it stands in the store; also the subject of its task.
    pub fn name(&self) -> String {
        match self {
            Self::Endpoint(id) => id.clone(),
            Self::Test(id) => format!("{id}{TEST}"),
            Self::Origin(origin) => origin.clone(),
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        if name.contains("://") {
            return Some(Self::Origin(name.to_owned()));
        }
        let (id, test) = name.strip_suffix(TEST).map_or((name, false), |id| (id, true));
        let id = Some(id).filter(|id| ids::has_shape(ids::ENDPOINT, id))?.to_owned();
        Some(if test { Self::Test(id) } else { Self::Endpoint(id) })
    }

    pub fn endpoint_id(&self) -> Option<&str> {
        match self {
            Self::Endpoint(id) | Self::Test(id) => Some(id),
            Self::Origin(_) => None,
        }
    }
}

/// What an endpoint wants of attempts that follow a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retries {
    /// The first attempt is immediate; after the last of these waits a delivery is given up.
    pub waits: Vec<Millis>,
    /// Statuses from 400 to 499 that are a refusal for good, besides 410, 413 and 415.
    pub give_up_on: Vec<u16>,
}

impl Default for Retries {
    fn default() -> Self {
        Self { waits: SCHEDULE.to_vec(), give_up_on: vec![] }
    }
}

impl Retries {
    /// From the first attempt to the last, at most.
    pub fn span(&self) -> Millis {
        // Jitter is a fifth.
        self.waits.iter().sum::<Millis>() * 6 / 5
    }
}

/// One attempt, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Millis,
    pub took_ms: Millis,
    pub status: Option<u16>,
    /// Why it is no success.
    pub error: Option<String>,
    /// How the answer began.
    pub answer: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub id: String,
    pub event_number: i64,
    pub event_id: String,
    pub event_type: String,
    pub job_id: Option<String>,
    pub target: Target,
    /// Where to; absent when the endpoint says it.
    pub url: Option<String>,
    pub created_at: Millis,
    /// When the next attempt is due; absent when there is none.
    pub due_at: Option<Millis>,
    pub delivered_at: Option<Millis>,
    pub dead_at: Option<Millis>,
    /// Attempts so far.
    pub attempt: i64,
    /// The latest of them, oldest first.
    pub attempts: Vec<Attempt>,
}

/// What a stored event is to be sent as, and to whom; ids are to be given. What a disabled endpoint
/// wants is given up before it is tried.
pub fn deliveries(event: &Event, endpoints: &[Endpoint], now: Millis) -> Vec<Delivery> {
    let wanted = endpoints.iter().filter(|endpoint| endpoint.wants(event));
    let to_endpoint = |endpoint: &Endpoint| {
        let made = Delivery::new(event, Target::Endpoint(endpoint.id.clone()), None, now);
        match endpoint.disabled_at {
            None => made,
            Some(_) => Delivery { due_at: None, dead_at: Some(now), ..made },
        }
    };
    let mut all: Vec<Delivery> = wanted.map(to_endpoint).collect();
    if let Some(url) = &event.notify_url
        && let Some(target) = Target::of_url(url)
    {
        all.push(Delivery::new(event, target, Some(url.clone()), now));
    }
    all
}

impl Delivery {
    pub fn new(event: &Event, target: Target, url: Option<String>, now: Millis) -> Self {
        Self {
            id: String::new(),
            event_number: event.number,
            event_id: event.id.clone(),
            event_type: event.event_type.clone(),
            job_id: event.job_id.clone(),
            target,
            url,
            created_at: now,
            due_at: Some(now),
            delivered_at: None,
            dead_at: None,
            attempt: 0,
            attempts: vec![],
        }
    }

    pub fn state(&self) -> State {
        match (self.delivered_at, self.dead_at) {
            (Some(_), _) => State::Delivered,
            (None, Some(_)) => State::Dead,
            (None, None) => State::Pending,
        }
    }

    /// Takes an attempt in that ended at `now`, with what it came to. Why it was given up, if it was.
    pub fn take(
        &mut self,
        attempt: Attempt,
        meaning: &Meaning,
        (waits, jitter): (&[Millis], f64),
        now: Millis,
    ) -> Option<String> {
        self.attempt += 1;
        let why = attempt.error.clone().unwrap_or_default();
        self.attempts.push(attempt);
        let over = self.attempts.len().saturating_sub(ATTEMPTS_KEPT);
        self.attempts.drain(..over);
        self.due_at = None;
        let after = match meaning {
            Meaning::Taken => {
                self.delivered_at = Some(now);
                return None;
            }
            Meaning::Never => None,
            // A test that is not taken has told what it is for.
            _ if matches!(self.target, Target::Test(_)) => None,
            Meaning::Failed { after } | Meaning::Slow { after } => self.pause(waits, *after, jitter),
        };
        match after {
            Some(pause) => self.due_at = Some(now + pause),
            None => self.dead_at = Some(now),
        }
        self.dead_at.map(|_| why)
    }

    /// Until the next attempt, if there is one: never before the receiver wants it.
    fn pause(&self, waits: &[Millis], after: Option<Millis>, jitter: f64) -> Option<Millis> {
        let nth = usize::try_from(self.attempt - 1).ok()?;
        let planned = scaled(*waits.get(nth)?, jitter);
        Some(after.map_or(planned, |after| planned.max(after)))
    }

    /// Is wanted after all: its attempts begin anew, at once.
    pub fn revive(&mut self, now: Millis) {
        (self.due_at, self.delivered_at, self.dead_at, self.attempt) = (Some(now), None, None, 0);
    }

    /// As the outside sees it; `left_alone_until` is until when nothing is sent to its target.
    pub fn json(&self, left_alone_until: Option<Millis>) -> Value {
        let next = self.due_at.map(|due| due.max(left_alone_until.unwrap_or(due)));
        let attempts = self.attempts.iter().map(|attempt| {
            json!({
                "at": rfc3339(attempt.at),
                "took_ms": attempt.took_ms,
                "status": attempt.status,
                "error": attempt.error,
                "answer": attempt.answer,
            })
        });
        json!({
            "id": self.id,
            "state": self.state().name(),
            "event_id": self.event_id,
            "event_type": self.event_type,
            "job_id": self.job_id,
            "endpoint_id": self.target.endpoint_id(),
            "url": self.url,
            "created_at": rfc3339(self.created_at),
            "next_attempt_at": next.map(rfc3339),
            "left_alone_until": left_alone_until.map(rfc3339),
            "delivered_at": self.delivered_at.map(rfc3339),
            "dead_at": self.dead_at.map(rfc3339),
            "attempts_made": self.attempt,
            "attempts": attempts.collect::<Vec<_>>(),
        })
    }
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    Delivered,
    /// Given up.
    Dead,
}

impl State {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Dead];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What came back of an attempt.
#[derive(Debug, Clone, Default)]
pub struct Answer<'a> {
    /// Whether anybody was there, be it to say nothing.
    pub connected: bool,
    /// Absent when nothing came back.
    pub status: Option<u16>,
    pub retry_after: Option<&'a str>,
    /// The header `webhook-delivery`, by which a receiver may ask for an end.
    pub wish: Option<&'a str>,
}

/// What that means for the delivery and for its target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    Taken,
    /// Not taken, by a receiver that is there.
    Failed {
        after: Option<Millis>,
    },
    /// Not taken, and the receiver is not there or has too much to do: others of the target would fare alike.
    Slow {
        after: Option<Millis>,
    },
    /// Will never be taken.
    Never,
}

impl Meaning {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Failed { .. } => "failed",
            Self::Slow { .. } => "slow",
            Self::Never => "refused",
        }
    }
}

impl Answer<'_> {
    pub fn meaning(&self, target: &Target, retries: &Retries, now: Millis) -> Meaning {
        // What one address of an origin answers, or that it does not, says nothing of its others.
        let of_all = !(self.connected && matches!(target, Target::Origin(_)));
        let after = self.retry_after.and_then(|text| parse_retry_after(text, now));
        let after = after.map(|pause| pause.clamp(0, MAX_RETRY_AFTER));
        match self.status {
            Some(200..=299) => Meaning::Taken,
            _ if self.wish.is_some_and(|wish| ["abort-message", "disable"].contains(&wish.trim())) => {
                Meaning::Never
            }
            // Gone; and what does not fit now never will.
            Some(410 | 413 | 415) => Meaning::Never,
            Some(status) if retries.give_up_on.contains(&status) => Meaning::Never,
            None | Some(429 | 502 | 503 | 504) if of_all => Meaning::Slow { after },
            None | Some(_) => Meaning::Failed { after },
        }
    }

    /// Why the endpoint wants nothing any more, if it says so.
    pub fn wants_no_more(&self) -> Option<&'static str> {
        if self.status == Some(410) {
            return Some("it answered 410, gone");
        }
        let asks = self.wish.is_some_and(|wish| wish.trim() == "disable");
        asks.then_some("it asked for it, with `webhook-delivery: disable`")
    }

    /// Why it is no success, in words.
    pub fn error(&self) -> Option<String> {
        match self.status? {
            200..=299 => None,
            status @ 300..=399 => Some(format!("answered {status}; redirects are not followed")),
            status => Some(format!("answered {status}")),
        }
    }
}

/// What is kept of an answer's body.
pub fn beginning(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * MAX_ANSWER_CHARS)]);
    let kept: String = text.chars().take(MAX_ANSWER_CHARS).collect();
    // PostgreSQL's text cannot hold this one.
    Some(kept.replace('\0', "\u{fffd}")).filter(|text| !text.is_empty())
}

/// How long a target is left alone after its `times`-th run in a row that found nobody there: 5 s
/// doubling to 5 minutes, and never less than the receiver wants.
pub fn breaker_pause(times: i64, after: Option<Millis>, jitter: f64) -> Millis {
    let doublings = u32::try_from(times.clamp(1, 7) - 1).unwrap_or(0);
    let pause = scaled(((5 * SECOND) << doublings).min(5 * MINUTE), jitter);
    after.map_or(pause, |after| pause.max(after))
}

/// The body of a delivery, as Standard Webhooks want it. Made of what was stored with the event and
/// of nothing else, so that it is the same at every attempt.
pub fn body(event: &Event) -> String {
    let data: &str = if event.data.is_empty() { "null" } else { &event.data };
    format!(
        "{{\"id\":{},\"type\":{},\"timestamp\":{},\"job_id\":{},\"job_sequence\":{},\"data\":{data}}}",
        json!(event.id),
        json!(event.event_type),
        json!(rfc3339(event.created_at)),
        json!(event.job_id),
        event.job_sequence,
    )
}

/// The body of a test event in HeyGen's shape, for an endpoint that is sent HeyGen's own webhooks.
pub fn heygens_test(event: &Event) -> String {
    let endpoint: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let data = json!({
        "event_id": event.id,
        "endpoint_id": endpoint["id"],
        "created_at": rfc3339(event.created_at),
    });
    json!({"event_type": event.event_type, "event_data": data}).to_string()
}

#[cfg(test)]
mod tests;
