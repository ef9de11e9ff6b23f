//! What HeyGen has, whoever made it: its lists, read only.

use serde_json::Value;

use super::client::Heygen;
use super::fault::Fault;
use super::{kinds, wire};
use crate::domain::job::{FoundBy, Kind, Observation};
use crate::domain::stranger::Stranger;

/// A page of a list, newest first as far as is known.
pub struct Page {
    pub found: Vec<(Stranger, Observation)>,
    pub next: Option<String>,
}

/// The kinds HeyGen has a list of their own of. Some others end up in the list of videos, where
/// nothing tells them apart.
pub fn listed_kinds() -> Vec<Kind> {
    let has_list = |kind: &Kind| kinds::route(*kind).list == Some(kinds::route(*kind).create);
    Kind::ALL.into_iter().filter(has_list).collect()
}

pub async fn page(heygen: &Heygen, kind: Kind, token: Option<&str>) -> Result<Page, Fault> {
    let Some(list) = kinds::route(kind).list else { return Ok(Page { found: vec![], next: None }) };
    let page = heygen.list(list, token).await?;
    let found = page.items.iter().filter(|item| !is_of_another_kind(kind, item));
    Ok(Page { found: found.filter_map(|item| read(kind, item)).collect(), next: page.next })
}

/// Translated videos have a list of their own; in that of videos they name their language
/// (docs/heygen.md, Lists).
fn is_of_another_kind(kind: Kind, item: &Value) -> bool {
    kind == Kind::Video && item.get("output_language").is_some_and(|language| !language.is_null())
}

fn read(kind: Kind, item: &Value) -> Option<(Stranger, Observation)> {
    let seen = wire::read_status_value(kind, item, FoundBy::Poll).ok()?;
    let text = |name: &str| item.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let stranger = Stranger {
        kind,
        upstream_id: seen.upstream_id.clone()?,
        title: text("title").map(str::to_owned),
        callback_id: text("callback_id").map(str::to_owned),
        created_at: wire::created_at(item),
    };
    Some((stranger, seen))
}
