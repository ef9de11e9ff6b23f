//! What a create body must have before anything else is looked at: the rules HeyGen documents, from
//! the same table as the check before paying (`heygen/rules.rs`), and the callback address. Unknown
//! fields and values are let through.

use serde_json::{Map, Value};

use super::answer::Problem;
use crate::domain::job::Kind;
use crate::heygen::rules;

/// Names the first thing that is wrong, as HeyGen does.
pub fn body(kind: Kind, body: &Value) -> Result<&Map<String, Value>, Problem> {
    let Some(fields) = body.as_object() else {
        return Err(Problem::param("body", "The body must be a JSON object."));
    };
    if let Some(mistake) = rules::check(kind, fields).first() {
        let param = mistake.pointer.trim_start_matches('/').replace('/', ".");
        return Err(Problem::param(&param, format!("{param}: {}.", mistake.message)));
    }
    callback(fields)?;
    Ok(fields)
}

fn callback(fields: &Map<String, Value>) -> Result<(), Problem> {
    match fields.get("callback_url") {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value.as_str().is_some_and(|text| rules::web(text).is_some()) => Ok(()),
        Some(_) => Err(Problem::param("callback_url", "callback_url must be a web address.")),
    }
}

/// The texts of a list; of anything else none.
pub fn texts(body: &Value, name: &str) -> Vec<String> {
    let list = body.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}
