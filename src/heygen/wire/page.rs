//! One page of any of upstream's lists.
//!
//! It finds the items and the token of the next page and looks into neither.

use serde_json::Value;

use super::error::error_inside;
use super::loose::{self, Fields, first};

#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    pub items: Vec<Value>,
    /// The token that asks for the next page; none on the last.
    pub next: Option<String>,
}

/// Where lists are kept inside `data`: v1 and v2 name them after what they hold, and v3's batch
/// views too (docs/heygen.md, Lists).
const LISTS: &[&str] = &["videos", "list", "items", "events", "statuses", "data", "results"];
const NEXT: &[&str] = &["next_token", "token"];
const MAX_TOKEN: usize = 4_096;

/// Reads a page. `Err` when there is no list, which is not the same as an empty one.
pub fn read_page(body: &[u8]) -> Result<Page, String> {
    let root = match serde_json::from_slice(body) {
        Ok(Value::Object(root)) => root,
        Ok(Value::Array(items)) => return Ok(Page { items, next: None }),
        Ok(_) => return Err("the answer is JSON, but no list".to_owned()),
        Err(error) => return Err(format!("the answer is not JSON: {error}")),
    };
    let data = root.get("data");
    let inside = data.and_then(Value::as_object);
    let items = match data {
        Some(Value::Array(items)) => Some(items),
        _ => listed(inside.unwrap_or(&root)),
    };
    let Some(items) = items else {
        return Err(match error_inside(&root) {
            Some(error) => format!("the answer has no list but an error: {error}"),
            None => "the answer has no list".to_owned(),
        });
    };
    Ok(Page { items: items.clone(), next: next(&root, inside) })
}

fn listed(fields: &Fields) -> Option<&Vec<Value>> {
    LISTS.iter().find_map(|name| fields.get(*name).and_then(Value::as_array))
}

/// `has_more` stands beside `data`, or inside it in the batch views. Where it is missing the token
/// alone decides; a page that claims more but names no token is the last we can read.
fn next(root: &Fields, inside: Option<&Fields>) -> Option<String> {
    let places = || [Some(root), inside].into_iter().flatten();
    if places().find_map(|fields| fields.get("has_more").and_then(Value::as_bool)) == Some(false) {
        return None;
    }
    places().find_map(|fields| first(fields, NEXT, token))
}

/// Kept to the letter: it is handed back as it came.
fn token(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() && text.len() <= MAX_TOKEN => Some(text.clone()),
        Value::Number(_) => loose::id(value),
        _ => None,
    }
}
