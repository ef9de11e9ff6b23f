//! Endpoints: addresses of the application that want events, what they want of them, and how they
//! fare. Values and decisions; what is sent is in `delivery.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::delivery::Retries;
use super::event::{Event, is_upstream};
use super::signing::SigningSecret;
use super::time::{DAY, Millis, SECOND, rfc3339};

/// Endpoints there may be: all of them are looked at for every event.
pub const MAX_ENDPOINTS: usize = 100;
pub const MAX_PATTERNS: usize = 50;
/// An endpoint at which every attempt has failed for so long is disabled; later where its own waits are long.
const DISABLE_AFTER: Millis = 5 * DAY;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Our events, as Standard Webhooks say.
    #[default]
    Standard,
    /// HeyGen's own webhooks, byte for byte, with HeyGen's own headers beside ours.
    Heygen,
}

impl Format {
    pub const ALL: [Self; 2] = [Self::Standard, Self::Heygen];

    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Heygen => "heygen",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The events of an endpoint that names none.
    pub fn usual_events(self) -> Vec<String> {
        vec![match self {
            Self::Standard => "*".to_owned(),
            Self::Heygen => "heygen.*".to_owned(),
        }]
    }
}

/// Which events an endpoint wants. A job has to fit all that is said of jobs; an event of no job
/// fits only where nothing is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// A type, `job.*`, `heygen.*`, or `*` for everything but HeyGen's own.
    pub events: Vec<String>,
    /// Any of these kinds; empty for all.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// All of these labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl Filter {
    pub fn wants(&self, event: &Event) -> bool {
        if !self.wants_type(&event.event_type) {
            return false;
        }
        if self.kinds.is_empty() && self.labels.is_empty() {
            return true;
        }
        if is_upstream(&event.event_type) {
            return false;
        }
        let about: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let fits = |kind: &str| self.kinds.iter().any(|wanted| wanted == kind);
        (self.kinds.is_empty() || about["kind"].as_str().is_some_and(fits))
            && self.labels.iter().all(|(name, value)| about["labels"][name] == value.as_str())
    }

    fn wants_type(&self, event_type: &str) -> bool {
        self.events.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some("") => !is_upstream(event_type),
            Some(family) => event_type.starts_with(family),
            None => event_type == pattern,
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    pub id: String,
    pub created_at: Millis,
    /// Since when nothing is sent to it.
    pub disabled_at: Option<Millis>,
    pub details: Details,
}

/// The part of an endpoint nothing is searched by; stored as one JSON text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Details {
    pub url: String,
    #[serde(default)]
    pub description: Option<String>,
    pub filter: Filter,
    #[serde(default)]
    pub format: Format,
    #[serde(default)]
    pub retries: Retries,
    /// The newest last.
    pub secrets: Vec<SigningSecret>,
    /// Why it is disabled.
    #[serde(default)]
    pub disabled_for: Option<String>,
    /// Since when every attempt failed.
    #[serde(default)]
    pub failing_since: Option<Millis>,
    /// When it last took a test event.
    #[serde(default)]
    pub tested_at: Option<Millis>,
}

impl Endpoint {
    pub fn wants(&self, event: &Event) -> bool {
        // Only a receipt has the bytes and headers of HeyGen's.
        let sendable = self.details.format == Format::Standard || event.receipt_id.is_some();
        sendable && self.details.filter.wants(event)
    }

    /// Whether it wants anything of HeyGen's own.
    pub fn wants_upstream(&self) -> bool {
        let named = |events: &[String]| events.iter().any(|pattern| is_upstream(pattern));
        self.details.format == Format::Heygen || named(&self.details.filter.events)
    }

    /// What attempts that ended at `now` change: any that were taken, or none. Whether it is to be
    /// disabled.
    pub fn fared(&mut self, taken: bool, now: Millis) -> bool {
        if taken {
            self.details.failing_since = None;
            return false;
        }
        let since = *self.details.failing_since.get_or_insert(now);
        self.disabled_at.is_none() && now.saturating_sub(since) >= self.disable_after()
    }

    /// In whole days. Longer than the attempts of one delivery, so that one event nobody can take does not
    /// do it.
    pub fn disable_after(&self) -> Millis {
        let days = self.details.retries.span() / DAY + 1;
        DISABLE_AFTER.max(days * DAY)
    }

    /// Whether that would change anything.
    pub fn is_news(&self, taken: bool, now: Millis) -> bool {
        let mut next = self.clone();
        next.fared(taken, now) || next != *self
    }

    pub fn disable(&mut self, why: &str, now: Millis) {
        self.disabled_at = Some(now);
        self.details.disabled_for = Some(why.to_owned());
    }

    /// Whether it took a test event since it was disabled.
    pub fn may_be_enabled(&self) -> bool {
        self.disabled_at.is_none_or(|at| self.details.tested_at.is_some_and(|tested| tested >= at))
    }

    pub fn enable(&mut self) {
        self.disabled_at = None;
        self.details.disabled_for = None;
        self.details.failing_since = None;
    }

    /// As the outside sees it: of its secrets only how they end.
    pub fn json(&self, now: Millis) -> Value {
        let d = &self.details;
        let secrets = d.secrets.iter().rev().filter(|secret| secret.is_live(now)).map(|secret| {
            json!({
                "hint": format!("…{}", secret.hint()),
                "created_at": rfc3339(secret.created_at),
                "signs_until": secret.ends_at.map(rfc3339),
            })
        });
        json!({
            "id": self.id,
            "url": d.url,
            "description": d.description,
            "events": d.filter.events,
            "kinds": d.filter.kinds,
            "labels": d.filter.labels,
            "format": d.format.name(),
            "retry_after_s": d.retries.waits.iter().map(|wait| wait / SECOND).collect::<Vec<_>>(),
            "give_up_on": d.retries.give_up_on,
            "created_at": rfc3339(self.created_at),
            "disabled_at": self.disabled_at.map(rfc3339),
            "disabled_for": d.disabled_for,
            "failing_since": d.failing_since.map(rfc3339),
            "tested_at": d.tested_at.map(rfc3339),
            "secrets": secrets.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(events: &[&str]) -> Endpoint {
        let filter = Filter { events: events.iter().map(|e| (*e).to_owned()).collect(), ..Filter::default() };
        let details = Details { url: "https://a.example".to_owned(), filter, ..Details::default() };
        Endpoint { id: "ep_1".to_owned(), created_at: 0, disabled_at: None, details }
    }

    fn event(event_type: &str, data: &str) -> Event {
        Event { event_type: event_type.to_owned(), data: data.to_owned(), ..Event::default() }
    }

    #[test]
    fn patterns_are_a_type_a_family_or_everything_of_ours() {
        let wants = |events: &[&str], event_type: &str| endpoint(events).wants(&event(event_type, "{}"));
        assert!(wants(&["*"], "job.completed") && wants(&["*"], "endpoint.disabled"));
        assert!(!wants(&["*"], "heygen.avatar_video.success"), "HeyGen's own only when they are asked for");
        assert!(wants(&["heygen.*"], "heygen.never.heard.of") && !wants(&["heygen.*"], "job.completed"));
        assert!(wants(&["heygen.avatar_video.*"], "heygen.avatar_video.fail"));
        assert!(!wants(&["heygen.avatar_video.*"], "heygen.avatar_video_gif.success"));
        assert!(wants(&["job.failed", "job.completed"], "job.completed"));
        assert!(!wants(&["job.complete"], "job.completed") && !wants(&[], "job.completed"));
    }

    #[test]
    fn kinds_and_labels_must_fit() {
        let mut of_sales = endpoint(&["*", "heygen.*"]);
        of_sales.details.filter.kinds = vec!["video".to_owned(), "template".to_owned()];
        of_sales.details.filter.labels = BTreeMap::from([("team".to_owned(), "sales".to_owned())]);
        let wants = |event_type: &str, data: &str| of_sales.wants(&event(event_type, data));
        assert!(wants("job.completed", r#"{"kind": "video", "labels": {"team": "sales", "a": "b"}}"#));
        assert!(!wants("job.completed", r#"{"kind": "lipsync", "labels": {"team": "sales"}}"#));
        assert!(!wants("job.completed", r#"{"kind": "video", "labels": {"team": "press"}}"#));
        assert!(!wants("job.completed", r#"{"kind": "video", "labels": {}}"#));
        assert!(!wants("endpoint.disabled", "{}"), "of no job");
        assert!(
            !wants("heygen.x", r#"{"kind": "video", "labels": {"team": "sales"}}"#),
            "HeyGen's words, not ours"
        );
        assert!(!wants("job.completed", "no JSON"));
    }

    #[test]
    fn heygens_bytes_come_only_of_receipts() {
        let mut raw = endpoint(&["heygen.*"]);
        raw.details.format = Format::Heygen;
        let mut told = event("heygen.avatar_video.success", "{}");
        assert!(!raw.wants(&told));
        told.receipt_id = Some("rcp_1".to_owned());
        assert!(raw.wants(&told));
    }

    #[test]
    fn it_is_disabled_by_time_and_any_success_begins_anew() {
        let mut endpoint = endpoint(&["*"]);
        assert!(!endpoint.is_news(true, 0), "what works is not written");
        assert!(!endpoint.fared(false, 10) && !endpoint.is_news(false, 11));
        assert!(!endpoint.fared(false, 10 + DISABLE_AFTER - 1));
        assert!(endpoint.is_news(false, 10 + DISABLE_AFTER) && endpoint.fared(false, 10 + DISABLE_AFTER));
        assert!(endpoint.is_news(true, 11) && !endpoint.fared(true, 11));
        assert!(!endpoint.fared(false, 20 + DISABLE_AFTER), "the failures begin again");
        endpoint.details.retries.waits = vec![7 * DAY, 7 * DAY];
        assert_eq!(endpoint.disable_after(), 17 * DAY, "16.8 days of attempts at one event");
        endpoint.details.retries.waits = vec![SECOND];
        assert_eq!(endpoint.disable_after(), DISABLE_AFTER);

        endpoint.disable("it answered 410", 50);
        assert!(endpoint.wants(&event("job.completed", "{}")), "what it misses is kept");
        assert!(!endpoint.fared(false, i64::MAX), "once");
        endpoint.details.tested_at = Some(49);
        assert!(!endpoint.may_be_enabled(), "a test from before says nothing");
        endpoint.details.tested_at = Some(50);
        assert!(endpoint.may_be_enabled());
        endpoint.enable();
        assert_eq!(endpoint.details.failing_since, None);
    }

    #[test]
    fn no_secret_is_shown() {
        let mut endpoint = endpoint(&["*"]);
        endpoint.details.secrets = vec![SigningSecret::new([7; 32], 0)];
        let shown = endpoint.json(0);
        assert!(!shown.to_string().contains("whsec_"), "{shown}");
        assert_eq!(shown["secrets"][0]["hint"], "…Bwc=");
    }
}
