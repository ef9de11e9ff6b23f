//! The schemas of dead letters, replays and the audit.

use serde_json::{Value, json};

use super::{maybe, maybe_time, page_of, reference, text, time, whole};
use crate::domain::replay::{MAX_RATE, RATE, STATES};
use crate::domain::task::TaskKind;

pub fn schemas() -> [(&'static str, Value); 12] {
    [
        ("DeadLetter", dead_letter()),
        ("DeadLetterPage", page_of("DeadLetter")),
        ("Cause", cause()),
        ("CausePage", page_of("Cause")),
        ("ReplayDeadLetters", wishes("rate", rate(), &[])),
        (
            "ReplayDeliveries",
            json!({"type": "object", "required": ["endpoint_id"], "additionalProperties": false,
                "properties": {"endpoint_id": text(), "rate": rate()}}),
        ),
        (
            "DropDeadLetters",
            wishes(
                "reason",
                json!({"type": "string", "maxLength": 500, "description": "Why; it is kept in the audit. Needed unless it is a dry run."}),
                &[],
            ),
        ),
        (
            "DropOrDryRun",
            json!({"anyOf": [
            whole(json!({"dropped": {"type": "integer"}, "left": {"type": "integer", "description": "Those that fit and are there still: one call drops 10,000 at most."}})),
            reference("DeadLetterDryRun")]}),
        ),
        (
            "DeadLetterDryRun",
            whole(
                json!({"count": {"type": "integer"}, "causes": {"type": "array", "items": reference("Cause")}}),
            ),
        ),
        ("Replay", replay()),
        ("ReplayPage", page_of("Replay")),
        ("AuditPage", audit_page()),
    ]
}

fn tasks() -> Value {
    let all = TaskKind::ALL.into_iter().filter(|kind| *kind != TaskKind::Submit);
    json!({"enum": all.map(TaskKind::name).collect::<Vec<_>>()})
}

fn dead_letter() -> Value {
    whole(json!({
        "id": {"type": "string", "description": "Of what was given up: a delivery, or a receipt."},
        "task": tasks(),
        "cause": {"type": "string", "description": "What many have in common, such as `answers_401:app.example`."},
        "title": {"type": "string", "description": "The cause in words."},
        "fix": {"type": "string", "description": "What to do about it."},
        "reason": {"type": "string", "description": "Why the last attempt failed, or why there was none."},
        "answer": {"type": ["string", "null"], "description": "How the answer to the last attempt began."},
        "dead_at": time(), "attempts_made": {"type": "integer"},
        "event_type": maybe("string"), "job_id": maybe("string"), "endpoint_id": maybe("string"),
        "about_url": {"type": ["string", "null"], "description": "Where all of it is shown: each attempt, or the bytes."},
    }))
}

fn cause() -> Value {
    whole(json!({
        "cause": text(), "title": text(), "fix": text(), "count": {"type": "integer"},
        "first_seen_at": time(), "last_seen_at": time(),
        "sample_id": {"type": "string", "description": "One of them."},
    }))
}

fn rate() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": MAX_RATE, "default": RATE, "description": "How many are made due in a second."})
}

/// Which dead letters are meant, and one thing more.
fn wishes(name: &str, more: Value, required: &[&str]) -> Value {
    let mut properties = json!({
        "ids": {"type": "array", "minItems": 1, "maxItems": 100, "items": text()},
        "cause": text(), "task": tasks(), "endpoint_id": text(), "job_id": text(),
        "since": {"type": "string", "format": "date-time", "description": "Only those given up then or later."},
        "until": {"type": "string", "format": "date-time", "description": "Only those given up before then."},
        "all": {"type": "boolean", "description": "All of them; needed where nothing else narrows them down."},
    });
    properties[name] = more;
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}

fn replay() -> Value {
    let filter = whole(json!({
        "ids": {"type": "array", "items": text()}, "task": maybe("string"), "cause": maybe("string"),
        "endpoint_id": maybe("string"), "job_id": maybe("string"), "since": maybe_time(),
        "until": maybe_time()}));
    whole(json!({
        "id": text(), "state": {"enum": STATES},
        "count": {"type": "integer", "description": "How many there were when it began."},
        "done": {"type": "integer", "description": "How many were made due."},
        "rate": {"type": "integer"}, "filter": filter,
        "pending": {"type": "boolean", "description": "Of all that the endpoint has not taken: what waits for its next attempt, too."},
        "by": {"type": "string", "description": "The name of the API key that began it."},
        "created_at": time(), "ended_at": maybe_time(), "status_url": text(), "stop_url": maybe("string"),
    }))
}

fn audit_page() -> Value {
    let mut page = page_of("Cause");
    page["properties"]["data"]["items"] = whole(json!({
        "id": text(), "created_at": time(),
        "who": {"type": "string", "description": "The name of an API key, or `local`."},
        "action": {"enum": ["dead_letter.replay", "dead_letter.drop", "replay.stop", "delivery.replay"]},
        "details": {"type": "object", "additionalProperties": true, "description": "To which, why, how many."},
    }));
    page
}
