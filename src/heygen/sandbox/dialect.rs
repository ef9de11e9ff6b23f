//! The shapes a webhook's body is known, or said, to come in. Without a dialect it is the one
//! that is documented: `{event_type, event_data}`. Never changes what an event means.

use serde_json::{Map, Value, json};

use super::Fault;
use super::answer::iso;
use crate::clock::Millis;

pub fn body(faults: &[Fault], event_type: &str, data: &Value, event_id: &str, at: Millis) -> Value {
    let dialect = faults.iter().find(|f| f.word().starts_with("dialect_"));
    let Some(dialect) = dialect else { return json!({ "event_type": event_type, "event_data": data }) };
    let said = Said::of(event_type, data);
    match dialect {
        Fault::DialectEmpty => json!({}),
        Fault::DialectFlat => merged(json!({ "event_type": event_type }), data),
        Fault::DialectEvent => json!({ "event": event_type, "event_data": data }),
        Fault::DialectData => json!({ "type": event_type, "data": said.with_id("id") }),
        Fault::DialectEnvelope => json!({
            "event_id": event_id,
            "event_type": event_type,
            "event_data": data,
            "created_at": iso(at),
        }),
        Fault::DialectTop => {
            let mut inner = data.clone();
            let callback_id = inner.as_object_mut().and_then(|fields| fields.remove("callback_id"));
            json!({ "event_type": event_type, "callback_id": callback_id, "event_data": inner })
        }
        Fault::DialectCompleted => {
            let name = if said.success { "video.completed" } else { "video.failed" };
            json!({ "event_type": name, "event_data": merged(said.with_id("video_id"), &said.status()) })
        }
        Fault::DialectStatus => merged(said.with_id("video_id"), &said.status()),
        Fault::DialectSkill => {
            let mut inner = said.with_id(said.id_name);
            if said.success {
                inner["thumbnail_url"] = Value::Null;
                inner["duration"] = json!(super::media::LENGTH_S);
            }
            json!({ "event_type": event_type, "event_data": inner })
        }
        Fault::DialectV3Fail if !said.success => {
            let lacks_credit = faults.contains(&Fault::FailCredit);
            let code = if lacks_credit { "MOVIO_PAYMENT_INSUFFICIENT_CREDIT" } else { "rendering_failed" };
            let inner = json!({
                said.id_name: said.id,
                "failure_code": code,
                "failure_message": said.message,
                "callback_id": said.callback_id,
            });
            json!({ "event_type": event_type, "event_data": inner })
        }
        Fault::DialectLog => {
            let error = json!({ "code": 40119, "detail": said.message, "message": said.message });
            let data = json!({
                "id": said.id,
                "video_url": said.url,
                "error": if said.success { Value::Null } else { error },
                "callback_id": said.callback_id,
            });
            json!({ "code": 100, "message": "Success", "data": merged(data, &said.status()) })
        }
        Fault::DialectString => json!({ "event_type": event_type, "event_data": data.to_string() }),
        Fault::DialectUnknown => {
            let (product, _) = event_type.rsplit_once('.').unwrap_or((event_type, ""));
            json!({ "event_type": format!("{product}.rendered"), "event_data": merged(data.clone(), &said.status()) })
        }
        _ => json!({ "event_type": event_type, "event_data": data }),
    }
}

/// What an event says, apart from its spelling.
struct Said<'a> {
    success: bool,
    id_name: &'static str,
    id: &'a Value,
    url: &'a Value,
    message: &'a Value,
    callback_id: &'a Value,
}

impl<'a> Said<'a> {
    fn of(event_type: &str, data: &'a Value) -> Self {
        let first = |names: &[&str]| names.iter().map(|name| &data[*name]).find(|v| !v.is_null());
        const IDS: [&str; 5] = ["video_translate_id", "video_id", "lipsync_id", "proofread_id", "avatar_id"];
        let id_name = IDS.into_iter().find(|name| !data[*name].is_null()).unwrap_or("id");
        Self {
            success: event_type.ends_with(".success"),
            id_name,
            id: &data[id_name],
            url: first(&["url", "caption_url"]).unwrap_or(&Value::Null),
            message: first(&["msg", "message"]).unwrap_or(&Value::Null),
            callback_id: &data["callback_id"],
        }
    }

    /// `video_url` or `error`, with the id under the given name.
    fn with_id(&self, name: &str) -> Value {
        let (what, value) = if self.success { ("video_url", self.url) } else { ("error", self.message) };
        json!({ name: self.id, what: value, "callback_id": self.callback_id })
    }

    fn status(&self) -> Value {
        json!({ "status": if self.success { "completed" } else { "failed" } })
    }
}

fn merged(base: Value, more: &Value) -> Value {
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let both: Map<String, Value> = fields(&base).into_iter().chain(fields(more)).collect();
    Value::Object(both)
}
