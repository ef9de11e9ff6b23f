//! What is sent for a delivery: address, headers, bytes. Everything is made anew for each attempt of
//! what was stored with the event, so an attempt differs from the one before only by its time,
//! its number and its signatures.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::domain::delivery::{Delivery, Retries, Target, body};
use crate::domain::endpoint::{Endpoint, Format};
use crate::domain::event::Event;
use crate::domain::receipt::Receipt;
use crate::domain::signature::{self, HEADERS as SIGNATURES};
use crate::domain::signing::{SigningSecret, sign, timestamp};
use crate::domain::time::Millis;
use crate::store::{Result, Tx, delivery, endpoint, event, inbox, job, webhook_secret};

const USER_AGENT: &str =
    concat!("reelhook/", env!("CARGO_PKG_VERSION"), " (+https://www.standardwebhooks.com)");

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

/// At most `most` of what is due and not under way. `configured` are webhook secrets that are not in the
/// store.
pub(super) fn look(
    tx: &mut Tx,
    target: &Target,
    now: Millis,
    most: usize,
    under_way: &HashSet<String>,
    configured: &[String],
) -> Result<Look> {
    let endpoint = target.endpoint_id().map(|id| endpoint::find(tx, id)).transpose()?.flatten();
    let closed = match (target, &endpoint) {
        (Target::Origin(_), _) => false,
        (Target::Test(_), found) => found.is_none(),
        (Target::Endpoint(_), found) => found.as_ref().is_none_or(|e| e.disabled_at.is_some()),
    };
    if closed {
        return Ok(Look { endpoint, parcels: vec![], closed });
    }
    // Those under way are still due.
    let all = i64::try_from(most + under_way.len()).unwrap_or(1);
    let mut due = delivery::list_due(tx, target, now, all)?;
    due.retain(|delivery| !under_way.contains(&delivery.id));
    due.truncate(most);
    let events = event::find_many(tx, &due.iter().map(|d| d.event_number).collect::<Vec<_>>())?;
    let raw = endpoint.as_ref().is_some_and(|e| e.details.format == Format::Heygen);
    let receipts = if raw { receipts(tx, &events, now, configured)? } else { HashMap::new() };
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
        let receipt = event.and_then(|e| receipts.get(e.receipt_id.as_deref()?));
        sender.parcel(delivery, event, receipt, now)
    };
    Ok(Look { parcels: due.into_iter().map(parcel).collect(), endpoint, closed })
}

/// By their ids, with the headers they came with. One that HeyGen's event log told of came with no
/// signature; it is given the one HeyGen would have made, so that a receiver takes it like the rest.
fn receipts(
    tx: &mut Tx,
    events: &[Event],
    now: Millis,
    configured: &[String],
) -> Result<HashMap<String, (Receipt, HeaderMap)>> {
    let ids: Vec<&str> = events.iter().filter_map(|event| event.receipt_id.as_deref()).collect();
    let found = inbox::find_many(tx, &ids)?;
    let stored = webhook_secret::list_live(tx, now)?;
    let secret = stored.first().map(|live| &live.secret).or(configured.first());
    let with_headers = found.into_iter().map(|receipt| {
        let mut headers = headers_of(&receipt.headers);
        if let Some(secret) = secret
            && !SIGNATURES.iter().any(|name| headers.contains_key(*name))
        {
            set(&mut headers, "signature", &signature::sign(secret, &receipt.body));
        }
        (receipt.id.clone(), (receipt, headers))
    });
    Ok(with_headers.collect())
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
        receipt: Option<&(Receipt, HeaderMap)>,
        now: Millis,
    ) -> Parcel {
        let (body, mut headers): (Bytes, HeaderMap) = match (event, receipt) {
            (_, Some((receipt, headers))) => (receipt.body.clone().into(), headers.clone()),
            (Some(event), None) => (body(event).into(), HeaderMap::new()),
            (None, None) => (Bytes::new(), HeaderMap::new()),
        };
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
