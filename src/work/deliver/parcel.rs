//! What is sent for a delivery: address, headers, bytes. Everything is made anew for each attempt of
//! what was stored with the event, so an attempt differs from the one before only by its time,
//! its number and its signatures.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::AT_ONCE;
use crate::domain::delivery::{Delivery, Retries, Target, body, heygens_test};
use crate::domain::endpoint::{Endpoint, Format};
use crate::domain::event::{ENDPOINT_TEST, Event};
use crate::domain::signature::{self, HEADERS as SIGNATURES};
use crate::domain::signing::{SigningSecret, sign, timestamp};
use crate::domain::time::Millis;
use crate::store::{Result, Tx, delivery, endpoint, event, inbox, job, webhook_secret};

const USER_AGENT: &str =
    concat!("reelhook/", env!("CARGO_PKG_VERSION"), " (+https://www.standardwebhooks.com)");

/// Deliveries that are being sent, or of which it is not on disk yet how it went; while one is being sent to an
/// origin, with its address.
pub(super) type UnderWay = HashMap<String, Option<String>>;

pub(super) struct Parcel {
    pub delivery: Delivery,
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// What follows a failure.
    pub retries: Retries,
    /// Why it can never be sent.
    pub undeliverable: Option<String>,
}

/// What a look at the store found for a target.
pub(super) struct Look {
    pub endpoint: Option<Endpoint>,
    pub parcels: Vec<Parcel>,
    /// The endpoint is gone or disabled: what waits for it waits on.
    pub closed: bool,
}

pub(super) fn find(tx: &mut Tx, target: &Target) -> Result<Option<Endpoint>> {
    Ok(target.endpoint_id().map(|id| endpoint::find(tx, id)).transpose()?.flatten())
}

/// Whether what waits for the target waits on, with the endpoint that `find` gives.
pub(super) fn is_closed(target: &Target, endpoint: Option<&Endpoint>) -> bool {
    match target {
        Target::Origin(_) => false,
        Target::Test(_) => endpoint.is_none(),
        Target::Endpoint(_) => endpoint.is_none_or(|e| e.disabled_at.is_some()),
    }
}

/// At most `most` of what is due and not under way. `configured` are webhook secrets that are not in the
/// store.
pub(super) fn look(
    tx: &mut Tx,
    target: &Target,
    now: Millis,
    most: usize,
    under_way: &UnderWay,
    configured: &[String],
) -> Result<Look> {
    let endpoint = find(tx, target)?;
    let closed = is_closed(target, endpoint.as_ref());
    if closed {
        return Ok(Look { endpoint, parcels: vec![], closed });
    }
    let due = due(tx, target, now, most, under_way)?;
    let events = event::find_many(tx, &due.iter().map(|d| d.event_number).collect::<Vec<_>>())?;
    let raw = endpoint.as_ref().is_some_and(|e| e.details.format == Format::Heygen);
    let mut heygens = if raw { heygens(tx, &events, now, configured)? } else { HashMap::new() };
    let notify_secrets = if endpoint.is_none() { notify_secrets(tx, &due)? } else { HashMap::new() };
    let events: HashMap<i64, Event> = events.into_iter().map(|event| (event.number, event)).collect();
    let parcel = |delivery: Delivery| {
        let secret = delivery.job_id.as_ref().and_then(|id| notify_secrets.get(id));
        let sender = Sender {
            url: delivery
                .url
                .clone()
                .or(endpoint.as_ref().map(|e| e.details.url.clone()))
                .unwrap_or_default(),
            secrets: endpoint
                .as_ref()
                .map_or(secret.map_or(&[], std::slice::from_ref), |e| &e.details.secrets),
            retries: endpoint.as_ref().map_or_else(Retries::default, |e| e.details.retries.clone()),
        };
        let event = events.get(&delivery.event_number);
        let heygens = heygens.remove(&delivery.event_number);
        sender.parcel(delivery, event, heygens, now)
    };
    Ok(Look { parcels: due.into_iter().map(parcel).collect(), endpoint, closed })
}

/// What is due and not under way, at most `most`, and to one address of an origin no more at once than
/// `AT_ONCE`: what is due to others is found behind it, however much that is.
fn due(
    tx: &mut Tx,
    target: &Target,
    now: Millis,
    most: usize,
    under_way: &UnderWay,
) -> Result<Vec<Delivery>> {
    let mut at: HashMap<String, usize> = HashMap::new();
    for url in under_way.values().flatten() {
        *at.entry(url.clone()).or_default() += 1;
    }
    // Those under way are still due.
    let page = most + under_way.len();
    let mut found: Vec<Delivery> = vec![];
    loop {
        let full: Vec<String> =
            at.iter().filter(|(_, n)| **n >= AT_ONCE).map(|(url, _)| url.clone()).collect();
        let listed = delivery::list_due(tx, target, &full, now, i64::try_from(page).unwrap_or(1))?;
        let is_all = listed.len() < page;
        for delivery in listed {
            if found.len() == most {
                break;
            }
            if under_way.contains_key(&delivery.id) || found.iter().any(|other| other.id == delivery.id) {
                continue;
            }
            if let Some(url) = &delivery.url {
                let n = at.entry(url.clone()).or_default();
                if *n >= AT_ONCE {
                    continue;
                }
                *n += 1;
            }
            found.push(delivery);
        }
        // Else an address has become full: a page has room for all that is under way or found, and for more.
        if is_all || found.len() == most {
            return Ok(found);
        }
    }
}

/// Body and headers of HeyGen's.
type Heygens = (Bytes, HeaderMap);

/// Of events by their numbers: of receipts as they came, and of tests as HeyGen would send them. What came
/// with no signature, as tests do and what HeyGen's event log told of, is given the one HeyGen would have made,
/// so that a receiver takes it like the rest.
fn heygens(
    tx: &mut Tx,
    events: &[Event],
    now: Millis,
    configured: &[String],
) -> Result<HashMap<i64, Heygens>> {
    let ids: Vec<&str> = events.iter().filter_map(|event| event.receipt_id.as_deref()).collect();
    let receipts = inbox::find_many(tx, &ids)?;
    let stored = webhook_secret::list_live(tx, now)?;
    let secret = stored.first().map(|live| &live.secret).or(configured.first());
    let of = |event: &Event| {
        let (body, mut headers) = match &event.receipt_id {
            Some(id) => {
                let receipt = receipts.iter().find(|receipt| receipt.id == *id)?;
                (receipt.body.clone(), headers_of(&receipt.headers))
            }
            None if event.event_type == ENDPOINT_TEST => (heygens_test(event).into(), HeaderMap::new()),
            None => return None,
        };
        if let Some(secret) = secret
            && !SIGNATURES.iter().any(|name| headers.contains_key(*name))
        {
            set(&mut headers, "signature", &signature::sign(secret, &body));
        }
        Some((event.number, (body.into(), headers)))
    };
    Ok(events.iter().filter_map(of).collect())
}

fn headers_of(json: &str) -> HeaderMap {
    let all: Value = serde_json::from_str(json).unwrap_or_default();
    let pairs = all.as_object().into_iter().flatten().filter_map(|(name, value)| {
        let value = HeaderValue::from_str(value.as_str()?).ok()?;
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
    });
    pairs.collect()
}

/// What jobs want their events signed with, where they named a place of their own.
fn notify_secrets(tx: &mut Tx, due: &[Delivery]) -> Result<HashMap<String, SigningSecret>> {
    let ids: Vec<&str> = due.iter().filter_map(|delivery| delivery.job_id.as_deref()).collect();
    let secrets = job::find_many(tx, &ids)?.into_iter().filter_map(|job| {
        let secret = SigningSecret { secret: job.details.notify_secret?, created_at: 0, ends_at: None };
        Some((job.id, secret))
    });
    Ok(secrets.collect())
}

/// Where deliveries of one target go, and what they are signed with.
struct Sender<'a> {
    url: String,
    secrets: &'a [SigningSecret],
    retries: Retries,
}

impl Sender<'_> {
    fn parcel(
        self,
        delivery: Delivery,
        event: Option<&Event>,
        heygens: Option<Heygens>,
        now: Millis,
    ) -> Parcel {
        let ours = || (event.map_or_else(Bytes::new, |event| body(event).into()), HeaderMap::new());
        let (body, mut headers) = heygens.unwrap_or_else(ours);
        let signed = sign(self.secrets, &delivery.event_id, now, &body);
        for (name, value, ours) in [
            ("content-type", "application/json", false),
            ("user-agent", USER_AGENT, false),
            ("webhook-id", &delivery.event_id, true),
            ("webhook-timestamp", &timestamp(now), true),
            ("webhook-signature", &signed, true),
            ("reelhook-delivery", &delivery.id, true),
            ("reelhook-attempt", &(delivery.attempt + 1).to_string(), true),
            ("reelhook-endpoint", delivery.target.endpoint_id().unwrap_or_default(), true),
            ("reelhook-job", delivery.job_id.as_deref().unwrap_or_default(), true),
            ("reelhook-sequence", &event.map_or(0, |e| e.job_sequence).to_string(), true),
        ] {
            // HeyGen's own go before ours, and what says nothing is left out.
            if !value.is_empty() && (ours || !headers.contains_key(name)) {
                set(&mut headers, name, value);
            }
        }
        let undeliverable = event.is_none().then(|| "the event is kept no longer".to_owned());
        Parcel { url: self.url, delivery, headers, body, retries: self.retries, undeliverable }
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
