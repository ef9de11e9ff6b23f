//! Rows on their way to a group, as many at once as the server takes. Where they need several calls, all of
//! them are checked before the first is sent, so that nothing is paid for a file that is wrong further down.

use std::ops::Range;

use serde_json::{Value, json};

use super::submit::{persist, send};
use crate::cli::client::Session;
use crate::cli::output::{field, to_stderr};
use crate::cli::rows::Sheet;
use crate::cli::{CliError, Result};
use crate::domain::group::{MAX_BYTES, MAX_JOBS, Outlook};
use crate::domain::history::Usual;
use crate::domain::time::SECOND;

/// Where rows of a file go, and with what.
pub struct Parts<'a> {
    pub session: &'a Session,
    pub sheet: &'a Sheet,
    /// All of the group but its rows.
    pub group: Value,
    pub key: String,
    /// The flags that make the same command the same submit.
    pub same: String,
    /// It may have been given before.
    pub repeats: bool,
}

impl Parts<'_> {
    /// The group with all its rows. With the same key what is there already is not made again.
    pub async fn submit(&self) -> Result<Value> {
        let all = 0..self.sheet.rows.len();
        let mut refused = None;
        if all.len() <= MAX_JOBS {
            match self.send(&all, &Value::Null).await {
                // Or the key is that of its first part already.
                Err(e) if is_too_much(&e) || is_of_others(&e) => refused = Some(e),
                made => return made,
            }
        }
        let parts = self.check().await.map_err(|mut e| {
            if self.repeats {
                e.problem["hint"] = json!(
                    "rows that were sent with this key before are in and go their way; without it they are \
                     submitted, and paid for, again"
                );
            }
            e
        })?;
        if let ([_], Some(e)) = (&*parts, refused) {
            return Err(e);
        }
        let (count, same) = (all.len(), &self.same);
        // Whoever wants it quiet has to know the key, too, if this is the last that is heard of it.
        to_stderr(&format!(
            "{count} rows go out in {} parts; if that stops midway, the same command with {same} goes on",
            parts.len()
        ));
        let mut made = Value::Null;
        for (part, _) in &parts {
            made = self.send(part, &made).await?;
            self.session.out.note(&format!("{} of {count} rows are in {}", part.end, field(&made, "id")));
        }
        made["outlook"] = together(&parts)["outlook"].clone();
        Ok(made)
    }

    /// What a submit would do, of all rows together.
    pub async fn dry_run(&self) -> Result<Value> {
        Ok(together(&self.check().await?))
    }

    /// Every part with what the server says of it, smaller ones where it cannot take as many at once.
    async fn check(&self) -> Result<Vec<(Range<usize>, Value)>> {
        let all = 0..self.sheet.rows.len();
        let mut open: Vec<Range<usize>> =
            all.clone().step_by(MAX_JOBS).map(|from| from..all.end.min(from + MAX_JOBS)).rev().collect();
        let mut parts = vec![];
        while let Some(part) = open.pop() {
            let asked = match self.body(&part) {
                Ok(body) => {
                    persist(self.session, async || self.session.api.post_dry(&["groups"], &body).await).await
                }
                Err(e) => Err(e),
            };
            match asked {
                Err(e) if is_too_much(&e) && part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    open.extend([middle..part.end, part.start..middle]);
                }
                Err(e) => return Err(self.sheet.locate(e, &part)),
                Ok(mut would) => {
                    if part.start > 0 {
                        would["first"] = Value::Null;
                    }
                    if part != all {
                        self.session.out.note(&format!("{} of {} rows are checked", part.end, all.len()));
                    }
                    parts.push((part, would));
                }
            }
        }
        Ok(parts)
    }

    /// The next part of the group `made`, or the first of a new one.
    async fn send(&self, part: &Range<usize>, made: &Value) -> Result<Value> {
        let mut body = self.body(part)?;
        if part.end < self.sheet.rows.len() {
            body["more"] = json!(true);
        }
        let again = format!("the same command with {}", self.same);
        let sent = match made["id"].as_str() {
            None => send(self.session, &["groups"], &body, &self.key, &again).await,
            Some(id) => {
                body.as_object_mut().map(|fields| fields.remove("title"));
                body["first_row"] = json!(part.start + 1);
                let key = format!("{id}-rows-{}", part.start + 1);
                send(self.session, &["groups", id, "rows"], &body, &key, &again).await
            }
        };
        sent.map_err(|mut e| {
            if let Some(hint) = self.advice(&e, part.start, made) {
                e.problem["hint"] = json!(hint);
            }
            self.sheet.locate(e, part)
        })
    }

    /// What to do when rows were refused behind `before` others, which `made` has.
    fn advice(&self, e: &CliError, before: usize, made: &Value) -> Option<String> {
        if is_of_others(e) {
            return Some(
                "the key came with other rows, another template or other times before; with a new key all rows \
                 are submitted, and paid for, again"
                    .to_owned(),
            );
        }
        let id = made["id"].as_str()?;
        Some(if e.problem["code"] == "group_whole" {
            format!(
                "{before} rows are in {id}, which was canceled; the others need a file and a key of their own"
            )
        } else {
            let same = &self.same;
            format!(
                "{before} rows are in {id}; once that is mended, the same command with {same} sends the others"
            )
        })
    }

    /// As a group of its own. Fails if it is longer than the server takes: one that reads no further may be
    /// heard no more.
    fn body(&self, part: &Range<usize>) -> Result<Value> {
        const FRAME: usize = 1_000;
        let rows = self.sheet.rows.get(part.clone()).unwrap_or_default();
        let bytes: usize = rows.iter().map(|row| row.len() + 1).sum();
        if bytes + self.group.to_string().len() + FRAME > MAX_BYTES {
            let mut e = CliError::usage(format!("it is more than {MAX_BYTES} bytes"));
            e.problem["errors"] = json!([{"pointer": "/rows", "message": e.problem["detail"]}]);
            return Err(e);
        }
        let mut body = self.group.clone();
        let rows: serde_json::Result<Vec<Value>> = rows.iter().map(|row| serde_json::from_str(row)).collect();
        body["rows"] = rows.map_err(|e| CliError::usage(e.to_string()))?.into();
        Ok(body)
    }
}

/// The key is that of another request.
fn is_of_others(e: &CliError) -> bool {
    e.problem["code"] == "idempotency_key_reused"
}

/// Nothing is wrong with these rows but how much they are for one call.
fn is_too_much(e: &CliError) -> bool {
    let errors = e.problem["errors"].as_array();
    errors.is_some_and(|all| !all.is_empty() && all.iter().all(|e| e["pointer"] == "/rows"))
}

/// What the server says of several parts, as of one. What is told of one job is the first's. What waits already
/// counts with each, so of a long queue it may say too much, never too little.
fn together(parts: &[(Range<usize>, Value)]) -> Value {
    let mut all = match parts {
        [] => return Value::Null,
        [(_, one)] => return one.clone(),
        [(_, first), ..] => first.clone(),
    };
    let each = |of: fn(&Value) -> &Value| parts.iter().filter_map(move |(_, would)| of(would).as_i64());
    let ms = |seconds: i64| seconds.saturating_mul(SECOND);
    all["jobs"] = json!(each(|would| &would["jobs"]).sum::<i64>());
    all["outlook"] = Outlook {
        slots: each(|would| &would["outlook"]["slots"]).min().unwrap_or(1),
        takes: Usual {
            from_ms: ms(each(|would| &would["outlook"]["from_s"]).sum()),
            to_ms: ms(each(|would| &would["outlook"]["to_s"]).sum()),
        },
        deadline_ms: ms(each(|would| &would["outlook"]["deadline_s"]).min().unwrap_or(0)),
    }
    .json();
    all
}
