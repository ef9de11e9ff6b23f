//! The schemas of what is sent out: endpoints and deliveries.

use serde_json::{Value, json};

use super::super::endpoints::MAX_STATUSES;
use super::{kinds, maybe, maybe_time, page_of, text, time, whole};
use crate::domain::delivery::{LEAST_WAIT, MAX_WAIT, MAX_WAITS, State};
use crate::domain::endpoint::{Format, MAX_PATTERNS};
use crate::domain::guard::MAX_URL_CHARS;
use crate::domain::signing::{MAX_OVERLAP, OVERLAP};
use crate::domain::time::SECOND;

pub fn schemas() -> [(&'static str, Value); 8] {
    [
        ("Endpoint", whole(endpoint())),
        ("EndpointPage", page_of("Endpoint")),
        ("FreshEndpoint", fresh_endpoint()),
        ("NewEndpoint", endpoint_wishes(&["url"])),
        ("EndpointChange", endpoint_wishes(&[])),
        ("RotateSecret", rotate_secret()),
        ("Delivery", delivery()),
        ("DeliveryPage", page_of("Delivery")),
    ]
}

fn texts() -> Value {
    json!({"type": "array", "items": text()})
}

fn labels() -> Value {
    json!({"type": "object", "additionalProperties": text()})
}

fn endpoint() -> Value {
    json!({
        "id": text(), "url": text(), "description": maybe("string"),
        "events": texts(), "kinds": texts(), "labels": labels(), "format": {"enum": Format::ALL.map(Format::name)},
        "retry_after_s": {"type": "array", "items": {"type": "integer"}, "description": "Waits after the first, second, … attempt that failed, each give or take a fifth; after the last a delivery is given up."},
        "give_up_on": {"type": "array", "items": {"type": "integer"}, "description": "Statuses that are a refusal for good, besides 410, 413 and 415."},
        "created_at": time(),
        "disabled_at": {"type": ["string", "null"], "format": "date-time", "description": "Since when nothing is sent to it."},
        "disabled_for": {"type": ["string", "null"], "description": "Why."},
        "failing_since": {"type": ["string", "null"], "format": "date-time", "description": "Since when every attempt failed; after five days it is disabled, later where `retry_after_s` takes longer."},
        "left_alone_until": {"type": ["string", "null"], "format": "date-time", "description": "Until when nothing is sent to it, because nobody answered or it asked for a pause."},
        "hint": {"type": ["string", "null"], "description": "Why it gets less than it asks for."},
        "tested_at": {"type": ["string", "null"], "format": "date-time", "description": "When it last took a test event."},
        "secrets": {"type": "array", "description": "Those that sign now, the newest first.", "items": whole(json!({
            "hint": {"type": "string", "description": "Its last four characters."}, "created_at": time(),
            "signs_until": maybe_time()}))},
    })
}

fn fresh_endpoint() -> Value {
    let mut fresh = endpoint();
    fresh.as_object_mut().map(|fields| fields.remove("left_alone_until"));
    fresh["secret"] = json!({"type": "string", "description": "The signing secret itself, shown only now."});
    whole(fresh)
}

/// What a caller may say of one.
fn endpoint_wishes(required: &[&str]) -> Value {
    json!({
        "type": "object", "required": required, "additionalProperties": false,
        "properties": {
            "url": {"type": "string", "maxLength": MAX_URL_CHARS, "description": "Where events are sent: http or https, a public address or one of --allow-private, without user, password and `#`."},
            "description": {"type": "string", "maxLength": 500},
            "events": {"type": "array", "minItems": 1, "maxItems": MAX_PATTERNS, "items": text(), "description": "Types such as job.completed, families such as job.* and heygen.*, or `*` for all but HeyGen's own; that is the default."},
            "kinds": {"type": "array", "maxItems": MAX_PATTERNS, "items": {"enum": kinds()}, "description": "Only events of jobs of these kinds. Every entry of `events` has to have events of jobs: `*`, `job.*` or a type of theirs."},
            "labels": {"type": "object", "additionalProperties": text(), "maxProperties": 20, "description": "Only events of jobs with all of these labels; `events` as with `kinds`."},
            "retry_after_s": {"type": "array", "minItems": 1, "maxItems": MAX_WAITS, "items": {"type": "integer", "minimum": LEAST_WAIT / SECOND, "maximum": MAX_WAIT / SECOND}, "description": "Waits after the first, second, … attempt that failed, at most 14 days together; by default 5 s, 5 and 30 min, 2, 5, 10, 14, 20 and 24 h."},
            "give_up_on": {"type": "array", "maxItems": MAX_STATUSES, "items": {"type": "integer", "minimum": 400, "maximum": 499}, "description": "Statuses that are a refusal for good, besides 410, 413 and 415."},
            "format": {"enum": Format::ALL.map(Format::name), "description": "`standard`: our events, as Standard Webhooks say. `heygen`: HeyGen's own webhooks, byte for byte, with HeyGen's headers."},
        },
    })
}

fn rotate_secret() -> Value {
    json!({"type": "object", "properties": {"overlap_s": {
        "type": "integer", "minimum": 0, "maximum": MAX_OVERLAP / SECOND, "default": OVERLAP / SECOND,
        "description": "For so long the old secret signs beside the new one."}}})
}

fn delivery() -> Value {
    whole(json!({
        "id": text(), "state": {"enum": State::ALL.map(State::name)},
        "event_id": {"type": "string", "description": "The header webhook-id: the same at every attempt."},
        "event_type": text(), "job_id": maybe("string"),
        "endpoint_id": {"type": ["string", "null"], "description": "Null when it goes where its job wants to be told."},
        "url": {"type": ["string", "null"], "description": "The job's `notify_url`; null when the endpoint says where to."},
        "created_at": time(),
        "next_attempt_at": {"type": ["string", "null"], "format": "date-time", "description": "When it is next tried, not before `left_alone_until`; null when it is tried no more."},
        "left_alone_until": {"type": ["string", "null"], "format": "date-time", "description": "Until when nothing is sent to its endpoint because nobody answered or it asked for a pause, or to the host of its `notify_url` because nobody was there to connect to."},
        "delivered_at": maybe_time(), "dead_at": maybe_time(),
        "attempts_made": {"type": "integer"},
        "attempts": {"type": "array", "description": "The latest ten, oldest first.", "items": whole(json!({
            "at": time(), "took_ms": {"type": "integer"}, "status": maybe("integer"),
            "error": {"type": ["string", "null"], "description": "Why it is no success."},
            "answer": {"type": ["string", "null"], "description": "How the answer began."}}))},
    }))
}
