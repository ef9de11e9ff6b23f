//! The schemas of webhooks at HeyGen, and of what HeyGen signs them with; and the addresses they come to.

use serde_json::{Value, json};

use super::{
    a_problem, maybe, maybe_texts, maybe_time, operation_id, page_of, path_parameters, success, text, time,
    whole,
};
use crate::domain::signature::HEADERS;

pub fn schemas() -> [(&'static str, Value); 6] {
    let register = json!({"type": "object", "properties": {
        "events": {"type": ["array", "null"], "minItems": 1, "maxItems": 100, "items": text(), "description": "Event types to hear of; all by default."},
        "show_secret": show_secret()}});
    let registered = json!({
        "action": {"enum": ["created", "updated", "rotated"]}, "endpoint_id": maybe("string"), "url": text(),
        "events": maybe_texts(), "probe_ms": {"type": "integer"}, "secret_stored": {"type": "boolean"},
        "secret": shown_secret()});
    let rotated = json!({
        "endpoint_id": text(), "url": text(), "secret_stored": {"type": "boolean"}, "secret": shown_secret(),
        "old_secret_verifies_until": time()});
    let webhook = json!({
        "endpoint_id": text(), "url": text(), "events": maybe_texts(), "status": maybe("string"),
        "is_ours": {"type": "boolean"}, "secret_known": {"type": "boolean"}, "secret_since": maybe_time()});
    [
        ("Register", register),
        ("Registered", whole(registered)),
        ("Rotate", json!({"type": "object", "properties": {"show_secret": show_secret()}})),
        ("Rotated", whole(rotated)),
        ("Webhook", whole(webhook)),
        ("WebhookPage", page_of("Webhook")),
    ]
}

fn show_secret() -> Value {
    json!({"type": "boolean", "description": "Have the secret that HeyGen makes now in the answer, once: for a receiver that verifies HeyGen's signature behind an endpoint of format `heygen`."})
}

fn shown_secret() -> Value {
    json!({"type": ["string", "null"], "description": "What HeyGen signs with from now on; only if `show_secret` was asked for and HeyGen made a new one."})
}

/// An address HeyGen sends to: the shared ones are called alike, and a job's own takes unsigned ones, too.
pub(super) fn door(path: &str) -> Value {
    let mut all = json!({
        "parameters": path_parameters(path),
        "post": {
            "summary": "What HeyGen tells. 200 once it is on disk.",
            "operationId": operation_id("post", path),
            "requestBody": {"required": true, "description": "The bytes that were signed, whatever they hold.",
                "content": {"application/json": {"schema": {}}}},
            "parameters": HEADERS.map(|name| json!({
                "name": name, "in": "header", "required": false, "schema": text(),
                "description": "HMAC-SHA256 of the body with the webhook secret, in hex; one of the three will do."})),
            "responses": {"200": success(200, None), "default": a_problem()},
            "security": [],
        },
    });
    for method in ["get", "head", "options"] {
        all[method] = json!({
            "summary": "Whether the address is there: HeyGen asks before it accepts one.",
            "operationId": operation_id(method, path),
            "responses": {"200": success(200, None)},
            "security": [],
        });
    }
    all
}
