//! Lists: one page, or with --all every page, as a table or as JSON. Lines of JSON go out page by
//! page, so that a long list needs no memory.

use serde_json::{Value, json};

use super::client::{Path, Session, rows};
use super::output::Format;
use super::{CliError, Exit, Result};

/// Rows asked for at once where all are wanted; the server's most.
const LARGEST_PAGE: u32 = 200;

#[derive(Debug, Clone, clap::Args)]
pub struct PageFlags {
    /// Rows of a page, 1 to 200; 50 by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: Option<u32>,
    /// Go on behind this page: `next_cursor` of the answer before.
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Every page, not only the first.
    #[arg(long)]
    all: bool,
}

impl PageFlags {
    /// Whether anything was said of pages.
    pub fn is_given(&self) -> bool {
        self.limit.is_some() || self.cursor.is_some() || self.all
    }
}

/// Reads pages and writes them; `people` makes the table.
pub async fn run(
    session: &Session,
    path: Path<'_>,
    filter: Vec<(&str, String)>,
    page: &PageFlags,
    people: impl Fn(&[Value]) -> String,
) -> Result<Exit> {
    let out = &session.out;
    let (mut cursor, mut all) = (page.cursor.clone(), vec![]);
    loop {
        let mut query = filter.clone();
        let limit = page.limit.or(page.all.then_some(LARGEST_PAGE));
        query.extend(limit.map(|n| ("limit", n.to_string())));
        query.extend(cursor.iter().map(|c| ("cursor", c.clone())));
        let answer = session.api.get(path, &query).await?;
        let data = rows(&answer)?;
        let next = answer["next_cursor"].as_str().map(str::to_owned);
        if out.format == Format::Ndjson {
            out.text(&data.iter().map(|row| format!("{row}\n")).collect::<String>());
        } else {
            all.extend_from_slice(data);
        }
        if !page.all || next.is_none() {
            finish(session, &answer, all, next.as_deref(), people);
            return Ok(Exit::Ok);
        }
        if next == cursor {
            return Err(CliError::failure("the server gave the same cursor twice"));
        }
        cursor = next;
    }
}

fn finish(
    session: &Session,
    last: &Value,
    all: Vec<Value>,
    next: Option<&str>,
    people: impl Fn(&[Value]) -> String,
) {
    let out = &session.out;
    match out.format {
        Format::Ndjson => {}
        Format::Json => {
            let mut page = json!({"data": all, "has_more": last["has_more"], "next_cursor": next});
            for (name, value) in last.as_object().into_iter().flatten() {
                page.as_object_mut().map(|p| p.entry(name.clone()).or_insert_with(|| value.clone()));
            }
            out.text(&format!("{page:#}"));
        }
        Format::Table if all.is_empty() => out.note("nothing found"),
        Format::Table => {
            out.text(&people(&all));
            if let Some(next) = next {
                out.note(&format!("there are more: --cursor {next}, or --all"));
            }
        }
    }
}

/// A list that has one page.
pub fn one_page(s: &Session, page: &Value, data: &[Value], people: impl Fn(&Session, &[Value]) -> String) {
    match s.out.format {
        Format::Ndjson => s.out.text(&data.iter().map(|row| format!("{row}\n")).collect::<String>()),
        Format::Json => s.out.text(&format!("{page:#}")),
        Format::Table if data.is_empty() => s.out.note("nothing found"),
        Format::Table => s.out.text(&people(s, data)),
    }
}
