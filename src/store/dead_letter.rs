//! Dead letters: the rows of table `task` that were given up, with what they were about. And table
//! `dead_letter_told`: when an event last told of a cause.
//!
//! Submits are left out everywhere: whether one may be repeated only its own run finds out.

use super::db::Tx;
use super::error::{Error, Result};
use super::row::{Param, Row};
use super::sql::{Conditions, padded, value_rows};
use crate::domain::dead_letter::{Cause, Causing, DeadLetter, Filter, TELL_EVERY};
use crate::domain::delivery::{Attempt, Target};
use crate::domain::task::TaskKind;
use crate::domain::time::Millis;
use crate::params;

const FROM: &str = "FROM task t LEFT JOIN delivery d ON t.kind = 'deliver' AND d.id = t.subject \
                    LEFT JOIN receipt_note n ON t.kind = 'apply' AND n.receipt_id = t.subject";
const COLUMNS: &str = "t.subject, t.kind, t.cause, t.reason, t.dead_at, t.attempt, \
                       COALESCE(d.event_type, n.event_type), COALESCE(d.job_id, n.job_id), d.target, d.attempts";

/// Where a list goes on: when the last one was given up, and its id.
pub type Position = (Millis, String);

/// What a filter means; empty lists and absent values narrow nothing down.
fn conditions<'a>(filter: &'a Filter, ids: &'a [Param<'a>]) -> Conditions<'a> {
    let mut ask = Conditions::default();
    ask.plain("t.dead_at IS NOT NULL AND t.kind <> 'submit'");
    for (nth, id) in ids.iter().enumerate() {
        let close = if nth + 1 == ids.len() { ")" } else { "" };
        match nth {
            0 => ask.and(&format!("t.subject IN (?{close}"), Some(*id)),
            _ => ask.more(&format!(", ?{close}"), *id),
        }
    }
    ask.and("t.kind = ?", filter.task.as_deref());
    ask.and("t.cause = ?", filter.cause.as_deref());
    ask.and("d.target = ?", filter.endpoint_id.as_deref());
    if let Some(job) = filter.job_id.as_deref() {
        ask.and("(d.job_id = ?", Some(job));
        ask.more(" OR n.job_id = ?)", job);
    }
    ask.and("t.dead_at >= ?", filter.since);
    ask.and("t.dead_at < ?", filter.until);
    ask
}

fn ids(filter: &Filter) -> Vec<Param<'_>> {
    padded(&filter.ids.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Those given up last come first, from behind `cursor` on.
pub fn list(tx: &mut Tx, filter: &Filter, cursor: Option<&Position>, limit: i64) -> Result<Vec<DeadLetter>> {
    let ids = ids(filter);
    let mut ask = conditions(filter, &ids);
    if let Some((at, id)) = cursor {
        ask.and("(t.dead_at, t.subject) < (?", Some(*at));
        ask.more(", ?)", id);
    }
    let (conditions, mut params) = ask.finish();
    params.push(Param::Int(limit));
    let sql = format!(
        "SELECT {COLUMNS} {FROM}{conditions} ORDER BY t.dead_at DESC, t.subject DESC LIMIT ?{}",
        params.len()
    );
    tx.query(&sql, &params)?.into_iter().map(read).collect()
}

pub fn count(tx: &mut Tx, filter: &Filter) -> Result<i64> {
    let ids = ids(filter);
    let (conditions, params) = conditions(filter, &ids).finish();
    let row = tx.one(&format!("SELECT COUNT(*) {FROM}{conditions}"), &params)?;
    row.map_or(Ok(0), |mut r| r.int(0))
}

/// The causes, that of the most first.
pub fn list_causes(tx: &mut Tx, filter: &Filter, most: i64) -> Result<Vec<Causing>> {
    let ids = ids(filter);
    let (conditions, mut params) = conditions(filter, &ids).finish();
    params.push(Param::Int(most));
    let sql = format!(
        "SELECT t.cause, COUNT(*), MIN(t.dead_at), MAX(t.dead_at), MAX(t.subject) {FROM}{conditions} \
         GROUP BY t.cause ORDER BY 2 DESC, 1 LIMIT ?{}",
        params.len()
    );
    let read = |mut row: Row| {
        Ok(Causing {
            cause: cause(row.opt_text(0)?),
            count: row.int(1)?,
            first_at: row.int(2)?,
            last_at: row.int(3)?,
            sample_id: row.text(4)?,
        })
    };
    tx.query(&sql, &params)?.into_iter().map(read).collect()
}

/// How many there are of each task and cause, for the metrics.
pub fn count_each(tx: &mut Tx) -> Result<Vec<(TaskKind, Cause, i64)>> {
    let rows = tx.query(
        "SELECT kind, cause, COUNT(*) FROM task WHERE dead_at IS NOT NULL AND kind <> 'submit' \
         GROUP BY kind, cause",
        &[],
    )?;
    let read = |mut row: Row| {
        let kind = row.text(0)?;
        let kind = TaskKind::parse(&kind).ok_or_else(|| lie(&kind, &kind))?;
        Ok((kind, cause(row.opt_text(1)?), row.int(2)?))
    };
    rows.into_iter().map(read).collect()
}

/// Makes due what is still dead of the next `most` behind `from` that were given up by `until`. What was
/// looked at, and the subjects of those made due: one that somebody else replays is theirs.
pub fn revive_some(
    tx: &mut Tx,
    filter: &Filter,
    (from, until): (&Position, Millis),
    most: i64,
    now: Millis,
) -> Result<(Vec<Position>, Vec<String>)> {
    let ids = ids(filter);
    let mut ask = conditions(filter, &ids);
    ask.and("t.dead_at <= ?", Some(until));
    ask.and("(t.dead_at, t.subject) > (?", Some(from.0));
    ask.more(", ?)", &from.1);
    let (conditions, mut params) = ask.finish();
    params.push(Param::Int(most));
    let sql = format!(
        "SELECT t.dead_at, t.subject, t.kind {FROM}{conditions} ORDER BY t.dead_at, t.subject LIMIT ?{}",
        params.len()
    );
    let (mut seen, mut kinds) = (vec![], vec![]);
    for mut row in tx.query(&sql, &params)? {
        seen.push((row.int(0)?, row.text(1)?));
        kinds.push(row.text(2)?);
    }
    if seen.is_empty() {
        return Ok((seen, vec![]));
    }
    let sql = format!(
        "UPDATE task SET dead_at = NULL, due_at = ?{}, attempt = 0, reason = NULL, cause = NULL \
         WHERE dead_at IS NOT NULL AND (subject, kind) IN (VALUES {}) RETURNING subject",
        2 * seen.len() + 1,
        value_rows(seen.len(), 2)
    );
    let pairs = seen.iter().zip(&kinds);
    let mut params: Vec<Param> =
        pairs.flat_map(|((_, id), kind)| [Param::Text(id), Param::Text(kind)]).collect();
    params.push(Param::Int(now));
    tx.ring();
    let revived = tx.query(&sql, &params)?.into_iter().map(|mut row| row.text(0));
    Ok((seen, revived.collect::<Result<_>>()?))
}

/// Lets go of those of a filter that were given up first, at most so many. How many.
pub fn drop_some(tx: &mut Tx, filter: &Filter, most: i64) -> Result<u64> {
    let ids = ids(filter);
    let (conditions, mut params) = conditions(filter, &ids).finish();
    params.push(Param::Int(most));
    let sql = format!(
        "DELETE FROM task WHERE dead_at IS NOT NULL AND (subject, kind) IN \
         (SELECT t.subject, t.kind {FROM}{conditions} ORDER BY t.dead_at, t.subject LIMIT ?{})",
        params.len()
    );
    tx.execute(&sql, &params)
}

/// Lets go of those that were given up before this time, at most so many. How many.
pub fn purge(tx: &mut Tx, before: Millis, most: i64) -> Result<u64> {
    tx.execute(
        "DELETE FROM task WHERE dead_at IS NOT NULL AND (subject, kind) IN (SELECT subject, kind FROM task \
         WHERE dead_at < ?1 AND kind <> 'submit' ORDER BY dead_at LIMIT ?2)",
        params![before, most],
    )
}

/// Whether a cause is to be told of now; then it is not told of again for an hour, by anybody.
pub fn tell(tx: &mut Tx, cause: &Cause, now: Millis) -> Result<bool> {
    let told = tx.execute(
        "INSERT INTO dead_letter_told (cause, told_at) VALUES (?1, ?2) ON CONFLICT (cause) \
         DO UPDATE SET told_at = excluded.told_at WHERE dead_letter_told.told_at <= excluded.told_at - ?3",
        params![&cause.text(), now, TELL_EVERY],
    )?;
    Ok(told == 1)
}

/// Forgets the causes that may be told of again.
pub fn forget_told(tx: &mut Tx, now: Millis) -> Result<u64> {
    tx.execute("DELETE FROM dead_letter_told WHERE told_at <= ?1", params![now - TELL_EVERY])
}

/// A version that knew no causes left none.
fn cause(text: Option<String>) -> Cause {
    Cause::parse(text.as_deref().unwrap_or_default())
}

fn lie(id: &str, kind: &str) -> Error {
    Error::Corrupt { table: "task", column: "kind", id: id.to_owned(), why: kind.to_owned() }
}

fn read(mut row: Row) -> Result<DeadLetter> {
    let (id, kind) = (row.text(0)?, row.text(1)?);
    let task = TaskKind::parse(&kind).ok_or_else(|| lie(&id, &kind))?;
    let target = row.opt_text(8)?;
    let attempts = row.opt_text(9)?.and_then(|text| serde_json::from_str::<Vec<Attempt>>(&text).ok());
    Ok(DeadLetter {
        task,
        cause: cause(row.opt_text(2)?),
        reason: row.opt_text(3)?.unwrap_or_default(),
        answer: attempts.and_then(|all| all.into_iter().next_back()?.answer),
        dead_at: row.int(4)?,
        attempt: row.int(5)?,
        event_type: row.opt_text(6)?,
        job_id: row.opt_text(7)?,
        endpoint_id: target
            .as_deref()
            .and_then(Target::parse)
            .and_then(|t| t.endpoint_id().map(str::to_owned)),
        id,
    })
}
