//! The OpenAPI 3.1 document, made from the table of routes and the list of problems. Committed as
//! `docs/openapi.json`; a test fails when the two differ.

mod dead_letters;
mod groups;
mod outbound;
mod stream;
mod webhooks;

use serde_json::{Map, Value, json};

use super::hook::{JOB_PATH, PATHS};
use super::problem;
use super::routes::{Doc, TABLE};
use crate::domain::charge::{CallOutcome, Charge, MOST_CALLS};
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
    for path in PATHS.into_iter().chain([JOB_PATH]) {
        paths.insert(path.to_owned(), webhooks::door(path));
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
            "securitySchemes": {
                "api_key": {"type": "http", "scheme": "bearer"},
                "link_token": {"type": "apiKey", "in": "query", "name": "token", "description": "Of one job, from POST /api/jobs/{id}/link-token."},
            },
            "schemas": schemas(),
        },
    })
}

fn operation(doc: &Doc) -> Value {
    let mut parameters = path_parameters(doc.path);
    parameters.extend(doc.query.iter().map(|(name, what)| {
        json!({"name": name, "in": "query", "required": false, "description": what, "schema": {"type": "string"}})
    }));
    let makes_jobs = matches!(doc.path, "/api/jobs" | "/api/groups" | "/api/groups/{id}/rows")
        || doc.path.contains("/retry");
    if makes_jobs && doc.method == "post" {
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same key with the same body gives the first answer again; kept until the job or group has ended and 7 days more.",
            "schema": {"type": "string", "maxLength": 255},
        }));
    }
    let mut responses = Map::new();
    for (status, schema) in std::iter::once(&doc.answer).chain(doc.also) {
        responses.insert(status.to_string(), success(*status, *schema));
    }
    responses.insert("default".to_owned(), a_problem());
    let mut operation = json!({
        "summary": doc.summary,
        "operationId": operation_id(doc.method, doc.path),
        "parameters": parameters,
        "responses": responses,
        "security": match (doc.keyed, doc.linked) {
            (false, _) => json!([]),
            (true, false) => json!([{"api_key": []}]),
            (true, true) => json!([{"api_key": []}, {"link_token": []}]),
        },
    });
    if let Some(name) = doc.body {
        operation["requestBody"] = json!({
            "required": matches!(name, "NewJob"
                    | "NewGroup"
                    | "Adopt"
                    | "NewEndpoint"
                    | "EndpointChange"
                    | "ReplayDeadLetters"
                    | "DropDeadLetters"),
            "content": {"application/json": {"schema": reference(name)}},
        });
    }
    operation
}

fn path_parameters(path: &str) -> Vec<Value> {
    path.split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect()
}

fn a_problem() -> Value {
    json!({
        "description": "A problem document",
        "content": {"application/problem+json": {"schema": reference("Problem")}},
    })
}

fn success(status: u16, schema: Option<&str>) -> Value {
    match schema {
        Some("Stream") => json!({"description": "Success", "content": {
            "text/event-stream": {"schema": reference("Stream")},
            "application/x-ndjson": {"schema": reference("Stream")}}}),
        Some(name) => {
            json!({"description": "Success", "content": {"application/json": {"schema": reference(name)}}})
        }
        None if status == 204 => json!({"description": "Done"}),
        None if status == 304 => json!({"description": "Not changed since the version of `If-None-Match`"}),
        None => json!({"description": "Success"}),
    }
}

fn operation_id(method: &str, path: &str) -> String {
    let words: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != "api")
        .map(|part| part.trim_matches(|c| c == '{' || c == '}'))
        .collect();
    format!("{method}_{}", words.join("_").replace(['.', '-'], "_"))
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn all_of<const N: usize>(names: [&str; N]) -> [Value; N] {
    names.map(reference)
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

/// An object whose fields are always there.
fn whole(properties: Value) -> Value {
    let names: Vec<&String> = properties.as_object().into_iter().flat_map(Map::keys).collect();
    json!({"type": "object", "required": names, "properties": properties})
}

fn page_of(name: &str) -> Value {
    whole(json!({
        "data": {"type": "array", "items": reference(name)},
        "has_more": {"type": "boolean"},
        "next_cursor": maybe("string"),
    }))
}

fn schemas() -> Value {
    let mut all = inbound();
    let parts = [
        groups::schemas().to_vec(),
        outbound::schemas().to_vec(),
        webhooks::schemas().to_vec(),
        dead_letters::schemas().to_vec(),
        stream::schemas().to_vec(),
    ];
    for (name, schema) in parts.into_iter().flatten() {
        all[name] = schema;
    }
    all
}

fn inbound() -> Value {
    json!({
        "Job": whole(job()),
        "JobPage": page_of("Job"),
        "Event": whole(event()),
        "EventPage": page_of("Event"),
        "Receipt": whole(receipt()),
        "WholeReceipt": whole(whole_receipt()),
        "ReceiptPage": page_of("Receipt"),
        "NewJob": new_job(),
        "Adopt": {"type": "object", "required": ["kind", "since"], "properties": {
            "kind": {"enum": kinds()}, "since": time(),
            "cursor": {"type": "string", "description": "`next_cursor` of the page before."},
            "dry_run": {"type": "boolean", "description": "Only say what would be adopted."},
        }},
        "Adopted": whole(json!({
            "action": {"enum": ["would_adopt", "adopted", "known", "undecided"]}, "kind": {"enum": kinds()},
            "upstream_id": text(), "title": maybe("string"), "created_at": maybe_time(),
            "upstream_says": text(), "job_id": maybe("string"), "state": maybe("string")})),
        "AdoptedPage": page_of("Adopted"),
        "DryRun": whole(dry_run_of_job()),
        "JobOrGroup": {"anyOf": all_of(["Job", "Group"])},
        "EndedOrDryRun": {"anyOf": all_of(["Job", "Group", "DryRun", "GroupDryRun"])},
        "Retry": {"type": "object", "properties": {"accept_second_charge": {
            "type": "boolean", "description": "Needed when HeyGen may have charged for the old job already."}}},
        "Reject": {"type": "object", "properties": {"reason": {"type": "string", "maxLength": 500}}},
        "NewKey": {"type": "object", "properties": {"name": {"type": "string", "maxLength": 100}}},
        "Key": whole(key()),
        "KeyPage": page_of("Key"),
        "FreshKey": whole(fresh_key()),
        "Video": whole(json!({
            "id": text(), "video_id": maybe("string"),
            "status": {"enum": ["PROCESSING", "COMPLETED", "FAILED"]},
            "url": maybe("string"), "error": maybe("string")})),
        "Pause": {"type": "object", "properties": {"reason": {
            "type": "string", "maxLength": 500, "description": "Why, for whoever finds it paused."}}},
        "Upstream": upstream(),
        "Doctor": whole(json!({
            "healthy": {"type": "boolean"},
            "checks": {"type": "array", "items": whole(json!({
                "check": text(), "status": {"enum": ["ok", "warn", "fail"]}, "detail": text(), "fix": maybe("string")}))}})),
        "Version": whole(json!({"name": text(), "version": text(), "store": {"enum": ["sqlite", "postgres"]}})),
        "Problem": problem_schema(),
    })
}

/// What `?dry_run=true` answers.
fn dry_run() -> Value {
    json!({
        "kind": {"enum": kinds()},
        "method": {"enum": ["POST"]},
        "path": {"type": "string", "description": "Of HeyGen's API."},
        "body": {"type": "object", "description": "What HeyGen would be sent."},
        "errors": {"type": "array", "items": field_error(), "description": "What the check would have found, where it was left out."},
    })
}

fn dry_run_of_job() -> Value {
    let mut all = dry_run();
    all["balance"] = balance();
    all
}

fn field_error() -> Value {
    whole(json!({
        "pointer": {"type": "string", "description": "A JSON Pointer into the body, or the name of a parameter or header."},
        "message": text(),
    }))
}

fn maybe_texts() -> Value {
    json!({"type": ["array", "null"], "items": text()})
}

fn key() -> Value {
    json!({
        "id": text(), "name": text(), "hint": {"type": "string", "description": "Its last four characters."},
        "created_at": time(), "expires_at": maybe_time(), "revoked_at": maybe_time(), "last_used_at": maybe_time(),
    })
}

fn fresh_key() -> Value {
    let mut fresh = key();
    fresh["key"] = json!({"type": "string", "description": "The key itself, shown only now."});
    fresh
}

fn whole_receipt() -> Value {
    let mut all = receipt();
    all["body"] =
        json!({"type": ["string", "null"], "description": "The bytes as text; null where they are none."});
    all["body_base64"] = text();
    all["headers"] = json!({"type": "object", "additionalProperties": text()});
    all["signature_check"] = whole(json!({
        "steps": {"type": "array", "items": text()}, "signed_now": {"type": "boolean"},
        "signed_by_then": maybe("string")}));
    all["taken_to_mean"] = text();
    all
}

/// The files of a finished job; what there is none of is left out.
fn output() -> Value {
    let link = || json!({"type": "string", "format": "uri"});
    json!({
        "video_url": link(), "captioned_video_url": link(), "audio_url": link(), "caption_url": link(),
        "thumbnail_url": link(), "gif_url": link(), "page_url": link(), "duration_s": {"type": "number"},
        "preview_audio_url": link(),
        "layers": {"type": "object", "additionalProperties": link(), "description": "Of a background removal, by the layer's name."},
        "clips": {"type": "array", "description": "Of AI clipping.", "items": {
            "type": "object", "required": ["video_url"], "properties": {
                "id": text(), "title": text(), "aspect_ratio": text(), "video_url": link(), "thumbnail_url": link(),
                "duration_s": {"type": "number"}, "virality_score": {"type": "number"}}}},
    })
}

/// The address of a wish, where it would be granted.
fn link(when: &str) -> Value {
    json!({"type": ["string", "null"], "description": format!("POST there; null unless {when}.")})
}

fn late_result() -> Value {
    let mut all = output();
    all["found_by"] = text();
    all["at"] = time();
    json!({
        "type": ["object", "null"], "description": "A result that came after the end.",
        "required": ["found_by", "at"], "properties": all,
    })
}

fn job() -> Value {
    let states: Vec<&str> = State::ALL.iter().map(|s| s.name()).collect();
    let mut all = json!({
            "id": text(),
            "kind": {"enum": kinds()},
            "state": {"enum": states},
            "callback_id": maybe("string"),
            "title": maybe("string"),
            "labels": {"type": "object", "additionalProperties": text()},
            "metadata": {},
            "notify_url": {"type": ["string", "null"], "description": "Where its events are sent, besides the endpoints."},
            "priority": priority(),
            "not_before": {"type": ["string", "null"], "format": "date-time", "description": "It is not sent before then; null once that has come."},
            "created_at": time(),
            "updated_at": time(),
            "deadline_at": time(),
            "accepted_at": maybe_time(),
            "expected": {"type": ["object", "null"], "properties": {"from": time(), "to": time()}, "description": "When a job under way is expected to end, as its kind took lately."},
            "late": {"type": "boolean", "description": "It takes longer than expected."},
            "finished_at": maybe_time(),
            "upstream_id": {"type": ["string", "null"], "description": "HeyGen's id."},
            "upstream_video_id": maybe("string"),
            "progress": {"type": ["integer", "null"], "minimum": 0, "maximum": 100},
            "result": {"type": ["object", "null"], "description": "What HeyGen told or answered when the job ended; what a webhook left out (length, thumbnail, captions) is asked for once and added, `poll-pause` (15 s) later, without an event. Links are HeyGen's and die; refresh for fresh ones. Empty for what makes no file: a look, a voice, subtitles; they are HeyGen's `upstream_id`.", "properties": output()},
            "failure": job_failure(),
            "cancel_reason": maybe("string"),
            "found_by": {"type": ["string", "null"], "description": "What told the outcome: webhook, poll, event_log, refresh, submit, deadline or caller."},
            "charge": charge(),
            "evidence": {"type": ["object", "null"], "description": "Of a job that was sent and has no result: how often HeyGen was asked and what it last answered, what was told unasked."},
            "late_result": late_result(),
            "retry_of": maybe("string"),
            "group_id": {"type": ["string", "null"], "description": "The group it was submitted with."},
            "group_row": {"type": ["integer", "null"], "description": "The row of the group that it was made of, from 1."},
            "adopted": {"type": "boolean", "description": "Not submitted here: found at HeyGen."},
            "note": {"type": ["string", "null"], "description": "What it waits for or last ran into."},
            "waiting": waiting("What holds the job up, `not_before`, or all queued jobs, and until when. Null in events, and in the answer to a submit."),
            "status_url": text(),
            "events_url": text(),
            "stream_url": text(),
            "receipts_url": text(),
            "result_url": {"type": ["string", "null"], "description": "Of a job that has a video: the small object with its link."},
    });
    for (name, when) in [
        ("approve_url", "it is held"),
        ("reject_url", "it is held"),
        ("cancel_url", "it was not sent"),
        ("refresh_url", "HeyGen can be asked about it"),
    ] {
        all[name] = link(when);
    }
    all
}

fn charge() -> Value {
    let states: Vec<&str> = Charge::ALL.iter().map(|charge| charge.name()).collect();
    let outcomes: Vec<Option<&str>> =
        CallOutcome::ALL.iter().map(|outcome| Some(outcome.name())).chain([None]).collect();
    json!({
        "type": ["object", "null"],
        "description": "Whether HeyGen took the job, which is what it charges for; its price HeyGen does not tell. Null of a job that was adopted.",
        "required": ["state", "calls", "older_calls"],
        "properties": {
            "state": {"enum": states, "description": "none: it surely took nothing; open: it may have, and nobody knows yet; once: it took it, once."},
            "calls": {"type": "array", "maxItems": MOST_CALLS, "description": "The latest calls that could cost something, in the order they were sent; each was written down before.",
                "items": whole(json!({
                    "sent_at": time(), "idempotency_key": text(),
                    "repeat": {"type": "boolean", "description": "The same key as the call before: HeyGen answers it as it answered that one, and charges nothing more."},
                    "outcome": {"enum": outcomes, "description": "not_taken: not this time; no_answer: none that tells whether it was taken; null while it is under way."}}))},
            "older_calls": {"type": "integer", "description": "How many came before those."},
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
        "advice": {"type": "string", "description": "What you can do."},
    });
    all.as_object().cloned().unwrap_or_default()
}

fn job_failure() -> Value {
    let mut all = failure();
    for (name, description) in
        [("for_user", "A sentence your user may be shown."), ("reelhook_does", "What happens by itself.")]
    {
        all.insert(name.to_owned(), json!({"type": "string", "description": description}));
    }
    json!({"type": ["object", "null"], "required": ["message"], "properties": all})
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
            "balance": balance(),
            "least_credits": {"type": ["number", "null"], "description": "The setting: with less than this nothing is sent."},
        },
    })
}

fn balance() -> Value {
    json!({"type": ["object", "null"], "description": "What HeyGen told at the last look.",
        "properties": {"left": {"type": "number"}, "at": time()}})
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
            "notify_url": {"type": "string", "maxLength": 2000, "description": "Its events are sent here, too: a public address, or one of --allow-private."},
            "notify_secret": {"type": "string", "description": "What they are signed with there: whsec_ and the base64 of 24 to 64 random bytes. Never shown again. Without it they are not signed, so ask for the job before you believe them."},
            "priority": priority(),
            "hold": {"type": "boolean", "description": "Wait for approval before anything is sent."},
            "not_before": {"type": "string", "format": "date-time", "description": "Send it no sooner; at most 30 days ahead. A time that has passed puts nothing off."},
            "deadline": {"type": "string", "format": "date-time", "description": "When the job is ended at the latest; from one minute to 30 days ahead, or after `not_before`."},
        },
    })
}

fn event() -> Value {
    json!({
        "number": {"type": "integer"}, "id": text(), "type": text(), "job_id": maybe("string"),
        "job_sequence": {"type": "integer"}, "created_at": time(),
        "receipt_id": {"type": ["string", "null"], "description": "Of `heygen.*`: the receipt it is."},
        "data": {"description": "The job as it was then; of `group.finished` the group; of `heygen.*` what HeyGen sent."},
    })
}

fn receipt() -> Value {
    let verdicts: Vec<&str> = Verdict::ALL.iter().map(|v| v.name()).collect();
    json!({
        "id": text(), "received_at": time(), "verdict": {"enum": verdicts}, "path": text(),
        "remote": maybe("string"), "size_bytes": {"type": "integer"},
        "sha256": {"type": "string", "description": "Of the bytes of the body, in hex."}, "event_type": maybe("string"),
        "job_id": maybe("string"), "parked_under": maybe("string"), "applied_at": maybe_time(),
        "meaning": maybe("string"),
        "wire_version": {"type": ["integer", "null"], "description": "The version of reelhook's understanding of HeyGen's shapes that found the meaning."},
    })
}

fn problem_schema() -> Value {
    let codes: Vec<&str> = problem::Kind::ALL.iter().map(|k| k.code()).collect();
    json!({
        "type": "object",
        "required": ["type", "title", "status", "code", "retryable", "hint", "request_id"],
        "properties": {
            "type": text(), "title": text(), "status": {"type": "integer"}, "code": {"enum": codes},
            "detail": text(), "retryable": {"type": "boolean"}, "retry_after_s": {"type": "integer"}, "hint": text(),
            "errors": {"type": "array", "items": field_error()},
            "request_id": {"type": "string", "description": "Also in the header X-Request-Id, and in the lines of the server's log about requests to /api/."},
            "instance": {"type": "string", "description": "The path that was called."},
            "upstream": {"type": "object", "required": ["message"], "properties": failure()},
        },
    })
}
