//! What HeyGen sends, as recorded: one body for each of its thirty event types, and one for each
//! dialect in circulation. From them templates are made, whose ids can differ from message to message.

use serde_json::{Map, Value};

use crate::cli::{CliError, Result};

const RECORDED: &str = include_str!("payloads.jsonl");
/// Stands in a template where the number of a message goes. No payload has it by chance.
const MARK: &str = "@reelhook-simulate-n@";
/// Written by people for the same.
const MARK_IN_OVERRIDE: &str = "{seq}";
/// Fields by which HeyGen names what an event is about.
const IDS: [&str; 15] = [
    "video_id",
    "video_translate_id",
    "video_translation_id",
    "session_id",
    "render_id",
    "avatar_id",
    "photo_avatar_id",
    "generation_id",
    "group_id",
    "proofread_id",
    "project_id",
    "batch_id",
    "event_id",
    "task_id",
    "id",
];

#[derive(Debug, Clone)]
pub struct Recorded {
    pub name: String,
    /// Whether it is named by its dialect instead of its event type.
    pub is_dialect: bool,
    pub about: String,
    pub payload: Value,
    /// A body of the caller's own, byte for byte.
    pub raw: Option<Vec<u8>>,
}

pub fn all() -> Vec<Recorded> {
    let lines = RECORDED.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let read = |mut line: Value| {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        let dialect = text("dialect");
        let about = text("about").unwrap_or_else(|| "event type of HeyGen".to_owned());
        let (is_dialect, name) = (dialect.is_some(), dialect.or_else(|| text("event"))?);
        Some(Recorded { name, is_dialect, about, payload: line["payload"].take(), raw: None })
    };
    lines.filter_map(read).collect()
}

/// Those with one of these names, or every one for `all`.
pub fn choose(names: &[String], dialects: bool) -> Result<Vec<Recorded>> {
    let there: Vec<Recorded> = all().into_iter().filter(|r| r.is_dialect == dialects).collect();
    let mut chosen = vec![];
    for name in names {
        if name == "all" {
            chosen.extend(there.iter().cloned());
            continue;
        }
        match there.iter().find(|r| r.name == *name) {
            Some(found) => chosen.push(found.clone()),
            None => {
                let flag = if dialects { "dialect" } else { "event" };
                let why = format!("--{flag} {name}: nothing of that name was recorded");
                let hint = Some("`reelhook simulate --list` shows them all; --body FILE sends your own");
                return Err(CliError::new(super::Exit::Usage, "cli_usage", why, hint));
            }
        }
    }
    Ok(chosen)
}

/// A body in pieces; between two of them goes the number of the message.
#[derive(Debug, Clone)]
pub struct Template {
    pub name: String,
    pieces: Vec<Vec<u8>>,
}

impl Template {
    pub fn fixed(name: &str, body: Vec<u8>) -> Self {
        Self { name: name.to_owned(), pieces: vec![body] }
    }

    pub fn new(name: &str, payload: &Value) -> Self {
        let text = payload.to_string();
        let pieces = text.split(MARK).map(|piece| piece.as_bytes().to_vec()).collect();
        Self { name: name.to_owned(), pieces }
    }

    /// Whether two messages from it can differ.
    pub fn varies(&self) -> bool {
        self.pieces.len() > 1
    }

    /// Appends the body with `number` in its places.
    pub fn write(&self, number: &[u8], to: &mut Vec<u8>) {
        for (nth, piece) in self.pieces.iter().enumerate() {
            if nth > 0 {
                to.extend_from_slice(number);
            }
            to.extend_from_slice(piece);
        }
    }
}

/// Gives every id a place for the message's number.
pub fn make_unique(payload: &mut Value) {
    match payload {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if IDS.contains(&name.as_str()) => {
                        text.push('-');
                        text.push_str(MARK);
                    }
                    Value::String(text) if name == "event_data" => unique_inside(text),
                    other => make_unique(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_unique),
        _ => {}
    }
}

/// The dialect whose wrapper is JSON in a string.
fn unique_inside(text: &mut String) {
    if let Ok(mut inner) = serde_json::from_str::<Value>(text) {
        make_unique(&mut inner);
        *text = inner.to_string();
    }
}

/// Sets the callback id where the body has one, else where HeyGen puts it.
pub fn set_callback_id(payload: &mut Value, id: &str) {
    let Some(top) = payload.as_object_mut() else { return };
    if top.contains_key("callback_id") {
        top.insert("callback_id".to_owned(), Value::from(id));
        return;
    }
    let wrapper =
        ["event_data", "data"].into_iter().find(|name| top.get(*name).is_some_and(Value::is_object));
    let inner = match wrapper {
        Some(name) => top.get_mut(name).and_then(Value::as_object_mut),
        None => Some(top),
    };
    if let Some(inner) = inner {
        inner.insert("callback_id".to_owned(), Value::from(id));
    }
}

/// `event_data.video_id=x`: sets what is at the path, making objects on the way. The value is JSON
/// where it reads as that, else text; `{seq}` in it is the number of the message.
pub fn set(payload: &mut Value, path: &str, value: &str) -> Result<()> {
    let value = value.replace(MARK_IN_OVERRIDE, MARK);
    let value = serde_json::from_str(&value).unwrap_or(Value::String(value));
    let mut at = payload;
    for word in path.split('.') {
        if word.is_empty() {
            return Err(CliError::usage(format!("--override {path}: a word of the path is empty")));
        }
        at = match at {
            Value::Array(items) => {
                let length = items.len();
                let nth = word.parse::<usize>().ok().filter(|nth| *nth < length);
                let wrong = || {
                    CliError::usage(format!("--override {path}: `{word}` is no place in a list of {length}"))
                };
                items.get_mut(nth.ok_or_else(wrong)?).ok_or_else(wrong)?
            }
            other => {
                if !other.is_object() {
                    *other = Value::Object(Map::new());
                }
                &mut other[word]
            }
        };
    }
    *at = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heygen::wire;
    use serde_json::json;

    #[test]
    fn thirty_event_types_and_every_dialect_are_there() {
        let all = all();
        assert_eq!(all.iter().filter(|r| !r.is_dialect).count(), 30);
        assert_eq!(all.len(), RECORDED.lines().count());
        for r in all.iter().filter(|r| r.name != "empty") {
            let heard = wire::hear(r.payload.to_string().as_bytes());
            assert!(heard.is_ok(), "{}: {heard:?}", r.name);
        }
        for word in ["flat", "status", "completed", "data", "event", "envelope", "skill", "top", "empty"] {
            assert!(all.iter().any(|r| r.is_dialect && r.name == word), "{word}");
        }
    }

    #[test]
    fn every_payload_with_an_id_can_be_made_unique() {
        for mut r in all() {
            make_unique(&mut r.payload);
            let template = Template::new(&r.name, &r.payload);
            assert_eq!(template.varies(), r.name != "empty", "{}", r.name);
            let mut body = vec![];
            template.write(b"0001", &mut body);
            assert!(serde_json::from_slice::<Value>(&body).is_ok(), "{}", r.name);
            assert!(!String::from_utf8(body).unwrap().contains(MARK));
        }
    }

    #[test]
    fn an_override_goes_where_its_path_says() {
        let mut payload = json!({"event_data": {"video_id": "v1"}, "list": [1, 2]});
        set(&mut payload, "event_data.video_id", "x").unwrap();
        set(&mut payload, "event_data.new.deep", "{\"a\": 1}").unwrap();
        set(&mut payload, "list.1", "null").unwrap();
        assert_eq!(
            payload,
            json!({"event_data": {"video_id": "x", "new": {"deep": {"a": 1}}}, "list": [1, null]})
        );
        assert!(set(&mut payload, "list.7", "1").is_err() && set(&mut payload, "a..b", "1").is_err());
    }

    #[test]
    fn the_callback_id_goes_where_the_body_has_it() {
        let mut top = json!({"callback_id": null, "event_data": {}});
        set_callback_id(&mut top, "j");
        assert_eq!(top, json!({"callback_id": "j", "event_data": {}}));
        let mut data = json!({"data": {"id": "v"}});
        set_callback_id(&mut data, "j");
        assert_eq!(data, json!({"data": {"id": "v", "callback_id": "j"}}));
        let mut flat = json!({"video_id": "v"});
        set_callback_id(&mut flat, "j");
        assert_eq!(flat["callback_id"], "j");
    }
}
