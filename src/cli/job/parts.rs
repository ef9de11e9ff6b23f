//! Rows on their way to a group, as many at once as the server takes. Where they need several calls, all of
//! them are checked before the first is sent, so that nothing is paid for a file that is wrong further down.

use std::ops::Range;

use serde_json::{Value, json};

use super::submit::send;
use crate::cli::client::Session;
use crate::cli::rows::Sheet;
use crate::cli::{CliError, Result};
use crate::domain::group::MAX_JOBS;

/// Where rows of a file go, and with what.
pub struct Parts<'a> {
    pub session: &'a Session,
    pub sheet: &'a Sheet,
    /// All of the group but its rows.
    pub group: Value,
}

impl Parts<'_> {
    /// The group with all its rows. With the same key what is there already is not made again.
    pub async fn submit(&self, key: &str) -> Result<Value> {
        let all = 0..self.sheet.rows.len();
        if all.len() <= MAX_JOBS {
            match self.send(&["groups"], &all, false, key).await {
                Err(e) if is_split(&e, &all) => {}
                made => return made,
            }
        }
        let (parts, _) = self.check().await?;
        let note = |text: &str| self.session.out.note(text);
        note(&format!(
            "{} rows go out in {} parts; if that stops midway, the same command with --idempotency-key {key} goes on",
            all.len(),
            parts.len()
        ));
        let mut made = Value::Null;
        for part in &parts {
            let more = part.end < all.end;
            made = match made["id"].as_str() {
                None => self.send(&["groups"], part, more, key).await?,
                Some(id) => {
                    let key = format!("{id}-rows-{}", part.start + 1);
                    self.send(&["groups", id, "rows"], part, more, &key).await?
                }
            };
            note(&format!(
                "{} of {} rows are in {}",
                part.end,
                all.len(),
                made["id"].as_str().unwrap_or("?")
            ));
        }
        Ok(made)
    }

    /// What a submit would do, of all rows together.
    pub async fn dry_run(&self) -> Result<Value> {
        Ok(self.check().await?.1)
    }

    /// Asks the server about every part, smaller ones where it cannot take as many at once.
    async fn check(&self) -> Result<(Vec<Range<usize>>, Value)> {
        let all = 0..self.sheet.rows.len();
        let mut open: Vec<Range<usize>> =
            all.clone().step_by(MAX_JOBS).map(|from| from..all.end.min(from + MAX_JOBS)).rev().collect();
        let (mut parts, mut would) = (vec![], Value::Null);
        while let Some(part) = open.pop() {
            match self.session.api.post_dry(&["groups"], &self.body(&["groups"], &part, false)).await {
                Err(e) if is_split(&e, &part) => {
                    let middle = part.start + part.len() / 2;
                    open.extend([middle..part.end, part.start..middle]);
                }
                Err(e) => return Err(self.sheet.locate(e, part.start)),
                Ok(one) => {
                    if part != all {
                        self.session.out.note(&format!("{} of {} rows are checked", part.end, all.len()));
                    }
                    would = together(would, one);
                    parts.push(part);
                }
            }
        }
        Ok((parts, would))
    }

    async fn send(&self, path: &[&str], part: &Range<usize>, more: bool, key: &str) -> Result<Value> {
        let sent = send(self.session, path, &self.body(path, part, more), key).await;
        sent.map_err(|e| self.sheet.locate(e, part.start))
    }

    fn body(&self, path: &[&str], part: &Range<usize>, more: bool) -> Value {
        let mut body = self.group.clone();
        body["rows"] = json!(self.sheet.rows[part.clone()]);
        if more {
            body["more"] = json!(true);
        }
        if path.len() > 1
            && let Some(fields) = body.as_object_mut()
        {
            fields.remove("title");
        }
        body
    }
}

/// Whether the server would take these rows in smaller parts: nothing is wrong but how much they are.
fn is_split(e: &CliError, part: &Range<usize>) -> bool {
    let errors = e.problem["errors"].as_array();
    let only_rows = errors.is_some_and(|all| !all.is_empty() && all.iter().all(|e| e["pointer"] == "/rows"));
    part.len() > 1 && (only_rows || e.problem["status"] == 413)
}

/// What two dry runs tell, as of one. What is told of one job is the first's.
fn together(first: Value, next: Value) -> Value {
    if first.is_null() {
        return next;
    }
    let sum = |of: fn(&Value) -> &Value| of(&first).as_u64().zip(of(&next).as_u64()).map(|(a, b)| a + b);
    let (jobs, from_s, to_s) =
        (sum(|v| &v["jobs"]), sum(|v| &v["outlook"]["from_s"]), sum(|v| &v["outlook"]["to_s"]));
    let hint = [&first, &next].map(|v| v["outlook"]["hint"].clone()).into_iter().find(Value::is_string);
    let mut all = first;
    all["jobs"] = json!(jobs);
    all["outlook"] = json!({"from_s": from_s, "to_s": to_s, "hint": hint});
    all
}
