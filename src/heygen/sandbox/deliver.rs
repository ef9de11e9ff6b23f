//! Brings webhooks to their receivers: signed at the moment of sending with the secret that is
//! live then, ten seconds for a 2xx, tried again with growing waits for 24 hours.
//!
//! Never holds the lock while it waits for a receiver.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::events::Logged;
use super::ledger::What;
use super::{Fault, Sandbox, seal};
use crate::clock::Millis;
use crate::net::Call;

const PATIENCE: Duration = Duration::from_secs(10);
const MOST_WAIT_MS: i64 = 3_600_000;
const GIVE_UP_AFTER_MS: i64 = 24 * 3_600_000;
/// What a receiver answers is thrown away; a longer answer counts as none.
const ANSWER_BYTES: usize = 64 * 1024;

/// How a delivery is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    Nothing,
    /// `signature`: what is seen on real traffic.
    Signature,
    /// `x-heygen-signature`: what much public code expects.
    WrongHeader,
    /// The three headers of the mid-2026 documentation.
    Heygen,
    /// `signature`, made with some other secret.
    Forged,
}

impl Seal {
    pub fn of(faults: &[Fault]) -> Self {
        let first = faults.iter().find_map(|fault| match fault {
            Fault::Unsigned => Some(Seal::Nothing),
            Fault::WrongHeader => Some(Seal::WrongHeader),
            Fault::HeygenHeader => Some(Seal::Heygen),
            _ => None,
        });
        first.unwrap_or(Seal::Signature)
    }

    fn header(self) -> Option<&'static str> {
        match self {
            Seal::Nothing => None,
            Seal::Signature | Seal::Forged => Some("signature"),
            Seal::WrongHeader => Some("x-heygen-signature"),
            Seal::Heygen => Some("heygen-signature"),
        }
    }
}

/// One event on its way to one receiver.
#[derive(Clone)]
pub struct Delivery {
    pub event_id: Option<String>,
    pub event_type: String,
    /// The job's id.
    pub id: String,
    pub callback_id: Option<String>,
    /// None: the job's own `callback_url`.
    pub endpoint_id: Option<String>,
    pub url: String,
    pub body: Bytes,
    pub seal: Seal,
    /// Tries so far.
    pub attempts: u32,
    pub first_at: Option<Millis>,
}

impl Delivery {
    /// Without a receiver yet; `fan_out` fills that in.
    pub fn new(
        event: Option<&Logged>,
        event_type: &str,
        id: &str,
        callback_id: Option<String>,
        body: String,
    ) -> Self {
        Self {
            event_id: event.map(|e| e.event_id.clone()),
            event_type: event_type.to_owned(),
            id: id.to_owned(),
            callback_id,
            endpoint_id: None,
            url: String::new(),
            body: Bytes::from(body),
            seal: Seal::Nothing,
            attempts: 0,
            first_at: None,
        }
    }
}

impl Sandbox {
    /// One try. A failed one is queued again.
    pub(super) async fn attempt(&self, mut delivery: Delivery) {
        let sent_at = self.now();
        delivery.attempts += 1;
        delivery.first_at.get_or_insert(sent_at);
        let Some(headers) = self.sealed(&mut delivery, sent_at) else {
            return self.give_up(&delivery, "the endpoint is gone");
        };
        if self.world().silent {
            self.note_attempt(&delivery, sent_at, None, Some("lost on the way".to_owned()));
            return self.sync();
        }
        let call = Call {
            method: Method::POST,
            url: delivery.url.clone(),
            headers,
            body: delivery.body.clone(),
            timeout: PATIENCE,
            max_body_bytes: ANSWER_BYTES,
        };
        let outcome = self.0.client.call(call).await;
        let status = outcome.as_ref().ok().map(|answer| answer.status);
        self.note_attempt(&delivery, sent_at, status, outcome.err().map(|fault| fault.to_string()));
        if !status.is_some_and(|s| s.is_success()) {
            self.again_later(delivery);
        }
        self.sync();
    }

    /// The headers of a try, with the endpoint's address and secret as they are now.
    fn sealed(&self, delivery: &mut Delivery, now: Millis) -> Option<HeaderMap> {
        let mut secret = b"not the secret of this endpoint".to_vec();
        if let Some(endpoint_id) = &delivery.endpoint_id {
            let world = self.world();
            let endpoint = world.endpoint(endpoint_id)?;
            delivery.url.clone_from(&endpoint.url);
            if delivery.seal != Seal::Forged {
                secret = endpoint.secret.clone().into_bytes();
            }
        }
        let mut headers = HeaderMap::new();
        let mut add = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        add("content-type", "application/json");
        if let Some(header) = delivery.seal.header() {
            add(header, &seal::hex_hmac(&secret, &delivery.body));
        }
        if delivery.seal == Seal::Heygen {
            add("heygen-timestamp", &now.div_euclid(1_000).to_string());
            add("heygen-event-id", delivery.event_id.as_deref().unwrap_or_default());
        }
        Some(headers)
    }

    fn note_attempt(
        &self,
        d: &Delivery,
        sent_at: Millis,
        status: Option<http::StatusCode>,
        fault: Option<String>,
    ) {
        let forged = d.seal == Seal::Forged;
        self.note(What::Webhook {
            event_id: d.event_id.clone(),
            event_type: d.event_type.clone(),
            id: d.id.clone(),
            callback_id: d.callback_id.clone(),
            endpoint_id: d.endpoint_id.clone(),
            url: d.url.clone(),
            body: String::from_utf8_lossy(&d.body).into_owned(),
            signed: d.seal.header().filter(|_| !forged).map(str::to_owned),
            forged,
            attempt: d.attempts,
            sent_at,
            status: status.map(|s| s.as_u16()),
            fault,
        });
    }

    fn again_later(&self, delivery: Delivery) {
        // A forger has one shot; HeyGen's own retries are not his.
        if delivery.seal == Seal::Forged {
            return;
        }
        let now = self.now();
        let base = i64::try_from(self.0.options.retry_base.as_millis()).unwrap_or(MOST_WAIT_MS);
        let doublings = delivery.attempts.saturating_sub(1).min(30);
        let due = now + base.saturating_mul(1 << doublings).min(MOST_WAIT_MS);
        if due > delivery.first_at.unwrap_or(now) + GIVE_UP_AFTER_MS {
            return self.give_up(&delivery, "24 hours are over");
        }
        self.world().enqueue(due, delivery);
        self.wake();
    }

    fn give_up(&self, delivery: &Delivery, why: &str) {
        self.note(What::GaveUp {
            event_id: delivery.event_id.clone(),
            id: delivery.id.clone(),
            url: delivery.url.clone(),
            attempts: delivery.attempts,
            why: why.to_owned(),
        });
    }
}
