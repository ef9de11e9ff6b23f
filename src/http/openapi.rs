//! The OpenAPI 3.1 document, made from the table of routes and the list of problems. Committed as
//! `docs/openapi.json`; a test fails when the two differ.

use serde_json::{Map, Value, json};

use super::problem;
use super::routes::{Doc, TABLE};
use crate::domain::failure::Class;
use crate::domain::job::{Kind, Priority, State};
use crate::domain::pause::Reason;
use crate::domain::receipt::Verdict;

pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for doc in TABLE {
        let path = paths.entry(doc.path).or_insert_with(|| json!({}));
        path[doc.method] = operation(doc);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "reelhook",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "HeyGen's asynchronous video API, made dependable: a job is submitted once and its outcome is told once.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"api_key": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
        },
    })
}

fn operation(doc: &Doc) -> Value {
    let mut parameters: Vec<Value> = doc
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    parameters.extend(doc.query.iter().map(|(name, what)| {
        json!({"name": name, "in": "query", "required": false, "description": what, "schema": {"type": "string"}})
    }));
    if doc.path == "/api/jobs" && doc.method == "post" || doc.path.ends_with("/retry") {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same key with the same body gives the first answer again; kept until the job has ended and 7 days more.",
            "schema": {"type": "string", "maxLength": 255},
        }));
    }
    let (status, schema) = doc.answer;
    let success = match schema {
        Some(name) => {
            json!({"description": "Success", "content": {"application/json": {"schema": reference(name)}}})
        }
        None if status == 204 => json!({"description": "Done"}),
        None => json!({"description": "Success"}),
    };
    let mut operation = json!({
        "summary": doc.summary,
        "operationId": operation_id(doc),
        "parameters": parameters,
        "responses": {
            status.to_string(): success,
            "default": {
                "description": "A problem document",
                "content": {"application/problem+json": {"schema": reference("Problem")}},
            },
        },
        "security": if doc.keyed { json!([{"api_key": []}]) } else { json!([]) },
    });
    if let Some(name) = doc.body {
        operation["requestBody"] = json!({
            "required": name == "NewJob",
            "content": {"application/json": {"schema": reference(name)}},
        });
    }
    operation
}

fn operation_id(doc: &Doc) -> String {
    let words: Vec<&str> = doc
        .path
        .split('/')
        .filter(|part| !part.is_empty() && *part != "api")
        .map(|part| part.trim_matches(|c| c == '{' || c == '}'))
        .collect();
    format!("{}_{}", doc.method, words.join("_").replace(['.', '-'], "_"))
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn maybe(of: &str) -> Value {
    json!({"type": [of, "null"]})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn maybe_time() -> Value {
    json!({"type": ["string", "null"], "format": "date-time"})
}

fn page_of(name: &str) -> Value {
    json!({
        "type": "object",
        "required": ["data", "has_more", "next_cursor"],
        "properties": {
            "data": {"type": "array", "items": reference(name)},
            "has_more": {"type": "boolean"},
            "next_cursor": maybe("string"),
        },
    })
}

fn schemas() -> Value {
    json!({
        "Any": {"type": "object"},
        "Job": job(),
        "JobPage": page_of("Job"),
        "Event": event(),
        "EventPage": page_of("Event"),
        "Receipt": receipt(),
        "ReceiptPage": page_of("Receipt"),
        "NewJob": new_job(),
        "Retry": {"type": "object", "properties": {"accept_second_charge": {
            "type": "boolean", "description": "Needed when HeyGen may have charged for the old job already."}}},
        "Reject": {"type": "object", "properties": {"reason": {"type": "string", "maxLength": 500}}},
        "Register": {"type": "object", "properties": {"events": {
            "type": ["array", "null"], "items": text(), "description": "Event types to hear of; all by default."}}},
        "NewKey": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 100}}},
        "Video": {"type": "object", "properties": {
            "id": text(), "video_id": maybe("string"),
            "status": {"enum": ["PROCESSING", "COMPLETED", "FAILED"]},
            "url": maybe("string"), "error": maybe("string")}},
        "Pause": {"type": "object", "properties": {"reason": {
            "type": "string", "maxLength": 500, "description": "Why, for whoever finds it paused."}}},
        "Upstream": upstream(),
        "Problem": problem_schema(),
    })
}

fn job() -> Value {
    let states: Vec<&str> = State::ALL.iter().map(|s| s.name()).collect();
    json!({
        "type": "object",
        "required": ["id", "kind", "state", "created_at", "updated_at", "deadline_at"],
        "properties": {
            "id": text(),
            "kind": {"enum": kinds()},
            "state": {"enum": states},
            "callback_id": maybe("string"),
            "title": maybe("string"),
            "labels": {"type": "object", "additionalProperties": text()},
            "metadata": {},
            "priority": priority(),
            "created_at": time(),
            "updated_at": time(),
            "deadline_at": time(),
            "accepted_at": maybe_time(),
            "finished_at": maybe_time(),
            "upstream_id": {"type": ["string", "null"], "description": "HeyGen's id."},
            "upstream_video_id": maybe("string"),
            "progress": {"type": ["integer", "null"], "minimum": 0, "maximum": 100},
            "result": {"type": ["object", "null"], "description": "Links are HeyGen's and die; refresh for fresh ones. Empty for what makes no file: a look, a voice, subtitles; they are HeyGen's `upstream_id`."},
            "failure": job_failure(),
            "cancel_reason": maybe("string"),
            "found_by": {"type": ["string", "null"], "description": "What told the outcome: webhook, poll, event_log, refresh, submit, deadline or caller."},
            "late_result": {"type": ["object", "null"], "description": "A result that came after the end."},
            "retry_of": maybe("string"),
            "note": {"type": ["string", "null"], "description": "What it waits for or last ran into."},
            "waiting": waiting("What holds all queued jobs up, and until when. Null in events, and in the answer to a submit."),
            "status_url": text(),
            "events_url": text(),
            "receipts_url": text(),
            "cancel_url": text(),
            "refresh_url": text(),
        },
    })
}

/// What a person or program may make of a failure of HeyGen's.
fn failure() -> Map<String, Value> {
    let classes: Vec<&str> = Class::ALL.iter().map(|class| class.name()).collect();
    let all = json!({
        "code": {"type": ["string", "null"], "description": "HeyGen's, or one of ours: docs/errors.md."},
        "message": {"type": "string", "description": "HeyGen's own words."},
        "request_id": {"type": "string", "description": "HeyGen's id of the request it refused; its support asks for it."},
        "class": {"enum": classes},
        "for_user": {"type": "string", "description": "A sentence your user may be shown."},
        "advice": {"type": "string", "description": "What you can do."},
    });
    all.as_object().cloned().unwrap_or_default()
}

fn job_failure() -> Value {
    let mut all = failure();
    all.insert(
        "reelhook_does".to_owned(),
        json!({"type": "string", "description": "What happens by itself."}),
    );
    json!({"type": ["object", "null"], "properties": all})
}

fn waiting(description: &str) -> Value {
    let properties = json!({"reason": text(), "what": text(), "until": maybe_time()});
    json!({"type": ["object", "null"], "description": description, "properties": properties})
}

fn upstream() -> Value {
    let reasons: Vec<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    json!({
        "type": "object",
        "properties": {
            "slots": {"type": "integer", "description": "How many jobs may be outstanding now."},
            "most_slots": {"type": "integer", "description": "The setting."},
            "slots_in_use": {"type": "integer"},
            "queued": {"type": "integer"},
            "waiting": waiting("What holds every queued job up; full slots do not count."),
            "paused": {"type": ["object", "null"], "properties": {
                "reason": {"enum": reasons}, "what": text(), "fix": text(),
                "by": {"type": ["string", "null"], "description": "The API key of who paused, or `local`."},
                "note": maybe("string"), "since": time(),
                "opened": {"type": "boolean",
                    "description": "A look at the account found nothing wrong: the next job finds out whether it is over."},
                "next_look_at": {"type": ["string", "null"], "format": "date-time",
                    "description": "When the account is looked up next, which may end the pause."}}},
            "today": {"type": "object", "description": "Of the day, UTC.", "properties": {
                "jobs": {"type": "integer"}, "most_jobs": maybe("integer"),
                "credits": maybe("number"), "most_credits": maybe("number"), "ends_at": time()}},
            "balance": {"type": ["object", "null"], "description": "What HeyGen told at the last look.",
                "properties": {"left": {"type": "number"}, "at": time()}},
        },
    })
}

fn kinds() -> Vec<&'static str> {
    Kind::ALL.iter().map(|k| k.name()).collect()
}

fn priority() -> Value {
    json!({
        "type": "integer", "minimum": Priority::LEAST, "maximum": Priority::MOST,
        "default": Priority::default(),
        "description": "Among jobs that wait for a slot: 9 before 1, and of one number the oldest first.",
    })
}

fn new_job() -> Value {
    json!({
        "type": "object",
        "required": ["kind", "request"],
        "additionalProperties": false,
        "properties": {
            "kind": {"enum": kinds()},
            "request": {"type": "object", "description": "The body of HeyGen's create call, without callback_id and callback_url; docs/kinds.md has it for every kind."},
            "check": {"type": "boolean", "default": true, "description": "`false` leaves out the check of `request` against what HeyGen documents."},
            "callback_id": {"type": "string", "maxLength": 255, "description": "Your own id; echoed and searchable."},
            "labels": {"type": "object", "additionalProperties": text(), "maxProperties": 20},
            "metadata": {"description": "Anything, up to 16 KiB; echoed."},
            "priority": priority(),
            "hold": {"type": "boolean", "description": "Wait for approval before anything is sent."},
            "deadline": {"type": "string", "format": "date-time", "description": "When the job is ended at the latest; from one minute to 30 days ahead."},
        },
    })
}

fn event() -> Value {
    json!({
        "type": "object",
        "properties": {
            "number": {"type": "integer"}, "id": text(), "type": text(), "job_id": maybe("string"),
            "job_sequence": {"type": "integer"}, "created_at": time(), "data": {},
        },
    })
}

fn receipt() -> Value {
    let verdicts: Vec<&str> = Verdict::ALL.iter().map(|v| v.name()).collect();
    json!({
        "type": "object",
        "properties": {
            "id": text(), "received_at": time(), "verdict": {"enum": verdicts}, "path": text(),
            "remote": maybe("string"), "size_bytes": {"type": "integer"}, "event_type": maybe("string"),
            "job_id": maybe("string"), "parked_under": maybe("string"), "applied_at": maybe_time(),
            "meaning": maybe("string"),
        },
    })
}

fn problem_schema() -> Value {
    let codes: Vec<&str> = problem::Kind::ALL.iter().map(|k| k.code()).collect();
    json!({
        "type": "object",
        "required": ["type", "title", "status", "code", "retryable", "hint", "request_id"],
        "properties": {
            "type": text(), "title": text(), "status": {"type": "integer"}, "code": {"enum": codes},
            "detail": text(), "upstream": {"type": "object", "properties": failure()}, "retryable": {"type": "boolean"}, "retry_after_s": {"type": "integer"}, "hint": text(),
            "errors": {"type": "array", "items": {"type": "object", "properties": {"pointer": text(), "message": text()}}},
            "request_id": {"type": "string", "description": "Also in the header X-Request-Id, and in the lines of the server's log."},
            "instance": {"type": "string", "description": "The path that was called."},
            "upstream": failure(),
        },
    })
}
