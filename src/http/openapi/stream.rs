//! The schemas of what a stream tells, and of link tokens.

use serde_json::{Value, json};

use super::{maybe, reference, text, time, whole};
use crate::domain::address::{LINK_LIFE, MAX_LINK_LIFE};
use crate::domain::job::State;
use crate::domain::time::MINUTE;

pub fn schemas() -> [(&'static str, Value); 4] {
    [
        (
            "Stream",
            json!({
                "description": "One document for each thing told: a line of application/x-ndjson, or `data` of a server-sent event, whose `event` is the `type` and whose `id` is the position, to come back with as `Last-Event-ID` or `since`. A comment, or `{\"type\":\"keepalive\"}`, comes after 5 s of silence.",
                "anyOf": [reference("StreamMark"), reference("Event")],
            }),
        ),
        ("StreamMark", mark()),
        (
            "NewLink",
            json!({"type": "object", "properties": {"minutes": {
                "type": "integer", "minimum": 1, "maximum": MAX_LINK_LIFE / MINUTE, "default": LINK_LIFE / MINUTE,
                "description": "How long it lives."}}}),
        ),
        (
            "Link",
            whole(json!({
                "token": {"type": "string", "description": "For `?token=` of the job's own address, its stream and its /api/videos address. Whoever has it sees the whole job but for its `notify_url`."},
                "job_id": text(), "expires_at": time(), "status_url": text(), "stream_url": text()})),
        ),
    ]
}

fn mark() -> Value {
    let open: serde_json::Map<_, _> = State::ALL
        .into_iter()
        .filter(|state| !state.is_terminal())
        .map(|state| (state.name().to_owned(), json!({"type": "integer"})))
        .collect();
    json!({
        "type": "object", "required": ["type"], "properties": {
            "type": {"enum": ["snapshot", "gap", "live", "done", "keepalive"], "description": "`snapshot`: how things stand where the stream begins. `gap`: what was asked for is not there, no longer or not in this store; it begins with the oldest that is kept. `live`: all that was waiting is told. `done`: the job has ended, and nothing comes after it."},
            "log": {"type": "string", "description": "Of a snapshot: the name of the event log. `LOG.POSITION` is where a reader stands; in another log, of another store, it stands nowhere and is told of a gap."},
            "position": {"type": "integer", "description": "The number of an event; those behind it are still to be told."},
            "job": {"anyOf": [reference("Job"), {"type": "null"}], "description": "Of a snapshot of one job."},
            "open_jobs": {"type": "object", "properties": open, "description": "Of a snapshot of all: how many are in each state that is no end."},
            "asked": {"type": "integer", "description": "Of a gap: the position that was asked for."},
            "job_id": text(), "state": maybe("string"),
        },
    })
}
