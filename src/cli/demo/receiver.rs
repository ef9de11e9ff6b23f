//! The demo's application: hears of the jobs over HTTP, as any application would, takes nothing that
//! is not signed right, and keeps each event once, by its id. One event it fails to take the first
//! time. It knows nothing of reelhook but what reaches it over the wire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::narrator::Narrator;
use crate::clock::{Clock, Millis};
use crate::domain::job_json::has_ended;
use crate::domain::signing::{SigningSecret, verify};

const PATH: &str = "/hooks/video";

#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    clock: Clock,
    narrator: Arc<Narrator>,
    /// The name of the job whose end it fails to take the first time.
    fails_at: &'static str,
    secret: OnceLock<SigningSecret>,
    heard: Mutex<Heard>,
    /// Rings when it has heard something.
    news: watch::Sender<()>,
}

#[derive(Default)]
struct Heard {
    /// By event id.
    taken: HashMap<String, Told>,
    /// Id and body of the one it failed to take.
    failed: Option<(String, Bytes)>,
    /// What must not happen: a wrong signature, or other bytes under an id it knows.
    wrong: usize,
}

/// An event that was taken.
#[derive(Clone)]
pub struct Told {
    pub id: String,
    pub job_id: String,
    pub event_type: String,
    pub at: Millis,
    pub body: Bytes,
}

/// What becomes of one call.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    Taken {
        after_failure: bool,
    },
    /// Taken before: at least once may be twice.
    Known,
    Fails,
    Refused(&'static str),
}

impl Receiver {
    /// Listens on loopback. Returns itself and its address.
    pub async fn start(
        clock: Clock,
        narrator: Arc<Narrator>,
        fails_at: &'static str,
    ) -> std::io::Result<(Self, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}{PATH}", listener.local_addr()?);
        let receiver = Self(Arc::new(Inner {
            clock,
            narrator,
            fails_at,
            secret: OnceLock::new(),
            heard: Mutex::default(),
            news: watch::Sender::new(()),
        }));
        let router = Router::new().route(PATH, post(hear)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok((receiver, url))
    }

    /// What it verifies with from now on, as it was told.
    pub fn trust(&self, secret: &str) {
        let secret = SigningSecret { secret: secret.to_owned(), created_at: 0, ends_at: None };
        let _ = self.0.secret.set(secret);
    }

    /// Waits until it has taken each of these events, named by their ids.
    pub async fn takes(&self, events: &[&str]) {
        let all = || {
            let heard = self.heard();
            events.iter().all(|id| heard.taken.contains_key(*id))
        };
        // It fails only without a sender, and that is ours.
        let _ = self.0.news.subscribe().wait_for(|()| all()).await;
    }

    /// What it took of a job.
    pub fn told(&self, job_id: &str) -> Vec<Told> {
        self.heard().taken.values().filter(|told| told.job_id == job_id).cloned().collect()
    }

    /// Whether it failed once as planned, and nothing wrong ever came.
    pub fn as_scripted(&self) -> bool {
        let heard = self.heard();
        heard.failed.is_some() && heard.wrong == 0
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, headers: &HeaderMap, body: &Bytes, event: &Value) -> Verdict {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let now = self.0.clock.now();
        let verified = match self.0.secret.get() {
            Some(secret) => verify(secret, header, body, now),
            None => Err("no secret is known yet"),
        };
        let id = header("webhook-id").unwrap_or_default();
        let mut heard = self.heard();
        let verdict = match verified {
            Ok(()) => heard.take(id, event, body, self.0.fails_at, now),
            Err(why) => Verdict::Refused(why),
        };
        heard.wrong += usize::from(matches!(verdict, Verdict::Refused(_)));
        verdict
    }
}

impl Heard {
    /// Of what was verified.
    fn take(
        &mut self,
        id: &str,
        event: &Value,
        body: &Bytes,
        fails_at: &'static str,
        now: Millis,
    ) -> Verdict {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let failed = self.failed.as_ref().filter(|(failed, _)| failed == id).map(|(_, body)| body);
        let known = self.taken.get(id).map(|told| &told.body);
        let data = &event["data"];
        if text("id") != id {
            return Verdict::Refused("its id is not that of its event");
        }
        if known.or(failed).is_some_and(|before| before != body) {
            return Verdict::Refused("other bytes under an id that is known");
        }
        if known.is_some() {
            return Verdict::Known;
        }
        if self.failed.is_none() && data["callback_id"] == fails_at && has_ended(data) {
            self.failed = Some((id.to_owned(), body.clone()));
            return Verdict::Fails;
        }
        let after_failure = failed.is_some();
        let (job_id, event_type) = (text("job_id"), text("type"));
        let told = Told { id: id.to_owned(), job_id, event_type, at: now, body: body.clone() };
        self.taken.insert(id.to_owned(), told);
        Verdict::Taken { after_failure }
    }
}

async fn hear(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    let verdict = receiver.judge(&headers, &body, &event);
    let narrator = &receiver.0.narrator;
    narrator.told(&event, &verdict).await;
    receiver.0.news.send_replace(());
    match verdict {
        Verdict::Taken { .. } | Verdict::Known => StatusCode::OK,
        Verdict::Fails => StatusCode::INTERNAL_SERVER_ERROR,
        Verdict::Refused(_) => StatusCode::UNAUTHORIZED,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_taken_once_by_its_id_and_one_only_the_second_time() {
        let mut heard = Heard::default();
        let mut take = |id: &str, job: &str, state: &str, text: &'static str| {
            let data = json!({"callback_id": job, "state": state});
            let event = json!({"id": id, "job_id": job, "type": format!("job.{state}"), "data": data});
            heard.take(id, &event, &Bytes::from_static(text.as_bytes()), "fails", 1)
        };
        let taken = Verdict::Taken { after_failure: false };
        let other = Verdict::Refused("other bytes under an id that is known");
        assert_eq!(take("evt_1", "fails", "processing", "1"), taken);
        assert_eq!(take("evt_2", "other", "completed", "2"), taken);
        assert_eq!(take("evt_3", "fails", "completed", "3"), Verdict::Fails);
        assert_eq!(take("evt_3", "fails", "completed", "other"), other);
        assert_eq!(take("evt_3", "fails", "completed", "3"), Verdict::Taken { after_failure: true });
        assert_eq!(take("evt_3", "fails", "completed", "3"), Verdict::Known);
        assert_eq!(take("evt_3", "fails", "completed", "other"), other);
        assert_eq!(heard.taken.len(), 3);
        let of_another = heard.take("evt_4", &json!({"id": "evt_5"}), &Bytes::new(), "fails", 1);
        assert_eq!(of_another, Verdict::Refused("its id is not that of its event"));
    }
}
