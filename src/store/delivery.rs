//! Table `delivery`: events on their way, and how it went. Rows of one target are sent by the one
//! task that has its name, so a row needs no lease of its own.

use super::db::Tx;
use super::error::{Error, Result};
use super::row::{Param, Row};
use super::sql::{Conditions, MOST_ROWS, chunks, in_list, value_rows};
use super::task;
use crate::domain::delivery::{Delivery, State, Target};
use crate::domain::ids;
use crate::domain::time::Millis;
use crate::params;

const COLUMNS: &str = "id, event_number, event_id, event_type, job_id, target, url, created_at, due_at, \
                       delivered_at, dead_at, attempt, attempts";

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub endpoint_id: Option<String>,
    pub job_id: Option<String>,
    pub state: Option<State>,
}

pub fn insert_many(tx: &mut Tx, deliveries: &[Delivery]) -> Result<()> {
    for chunk in chunks(deliveries, tx.rows_at_once()) {
        let sql = format!("INSERT INTO delivery ({COLUMNS}) VALUES {}", value_rows(chunk.len(), 13));
        let names: Vec<(String, String)> = chunk.iter().map(|d| (d.target.name(), attempts(d))).collect();
        let mut values: Vec<Param> = Vec::with_capacity(chunk.len() * 13);
        for (d, (target, attempts)) in chunk.iter().zip(&names) {
            values.extend_from_slice(params![
                &d.id,
                d.event_number,
                &d.event_id,
                &d.event_type,
                &d.job_id,
                target,
                &d.url,
                d.created_at,
                d.due_at,
                d.delivered_at,
                d.dead_at,
                d.attempt,
                attempts
            ]);
        }
        tx.execute(&sql, &values)?;
    }
    Ok(())
}

/// How an attempt of it, or somebody's wish, left it.
pub fn put(tx: &mut Tx, delivery: &Delivery) -> Result<()> {
    tx.execute(
        "UPDATE delivery SET due_at = ?2, delivered_at = ?3, dead_at = ?4, attempt = ?5, attempts = ?6 \
         WHERE id = ?1",
        params![
            &delivery.id,
            delivery.due_at,
            delivery.delivered_at,
            delivery.dead_at,
            delivery.attempt,
            &attempts(delivery)
        ],
    )?;
    tx.ring();
    Ok(())
}

/// Those of a target that are due, but for those to the addresses `except`: the longest due first, and of an
/// origin, which many share, first attempts before repeated ones.
pub fn list_due(
    tx: &mut Tx,
    target: &Target,
    except: &[String],
    now: Millis,
    most: i64,
) -> Result<Vec<Delivery>> {
    let first = if matches!(target, Target::Origin(_)) { "attempt > 0, " } else { "" };
    let others = match except.len() {
        0 => String::new(),
        count => format!(" AND url NOT IN ({})", in_list(4, count)),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM delivery WHERE target = ?1 AND due_at IS NOT NULL AND due_at <= ?2{others} \
         ORDER BY {first}due_at, id LIMIT ?3"
    );
    let name = target.name();
    let mut values = params![&name, now, most].to_vec();
    values.extend(except.iter().map(|url| Param::Text(url)));
    tx.query(&sql, &values)?.into_iter().map(read).collect()
}

/// When the next of a target is due.
pub fn next_due(tx: &mut Tx, target: &Target) -> Result<Option<Millis>> {
    let row = tx.one(
        "SELECT MIN(due_at) FROM delivery WHERE target = ?1 AND due_at IS NOT NULL",
        params![&target.name()],
    )?;
    row.map_or(Ok(None), |mut r| r.opt_int(0))
}

/// What a target has not taken, as a replay sees it: what waits for a later attempt, and what is a dead
/// letter; not what was let go of. Parameters: the target's name, now.
const WAITING: &str = "FROM delivery d WHERE d.due_at IS NOT NULL AND d.due_at > ?2 AND d.target || '' = ?1";
const GIVEN_UP: &str = "FROM delivery d JOIN task t ON t.subject = d.id AND t.kind = 'deliver' \
                        AND t.dead_at IS NOT NULL WHERE d.dead_at IS NOT NULL AND d.target || '' = ?1";

/// How many those are.
pub fn count_untaken(tx: &mut Tx, target: &Target, now: Millis) -> Result<i64> {
    let sql = format!("SELECT (SELECT COUNT(*) {WAITING}) + (SELECT COUNT(*) {GIVEN_UP})");
    tx.one(&sql, params![&target.name(), now])?.map_or(Ok(0), |mut r| r.int(0))
}

/// Their ids in order, behind `from`, of those that were there at `until`.
pub fn list_untaken(
    tx: &mut Tx,
    target: &Target,
    (from, until): (&str, Millis),
    most: i64,
    now: Millis,
) -> Result<Vec<String>> {
    let made_before = ids::new(ids::DELIVERY, until + 1, [0; 16]);
    // Each half by its own index, which has no other rows; the target must not choose a larger one.
    let half = |which| {
        format!(
            "SELECT * FROM (SELECT d.id {which} AND d.id > ?3 AND d.id < ?4 ORDER BY d.id LIMIT ?5) AS half"
        )
    };
    let sql = format!(
        "SELECT id FROM ({} UNION ALL {}) AS untaken ORDER BY id LIMIT ?5",
        half(WAITING),
        half(GIVEN_UP)
    );
    let rows = tx.query(&sql, params![&target.name(), now, from, &made_before, most])?;
    rows.into_iter().map(|mut row| row.text(0)).collect()
}

/// Those of them that were not taken meanwhile, and whose endpoint is not gone, are due, and their attempts begin
/// anew. Of each of those its target.
pub fn revive_many(tx: &mut Tx, ids: &[&str], now: Millis) -> Result<Vec<String>> {
    let mut targets = vec![];
    for chunk in chunks(ids, MOST_ROWS) {
        let sql = format!(
            "UPDATE delivery SET due_at = ?1, dead_at = NULL, attempt = 0 \
             WHERE delivered_at IS NULL AND id IN ({}) AND (target LIKE '%://%' \
             OR EXISTS (SELECT 1 FROM endpoint e WHERE e.id = delivery.target)) RETURNING target",
            in_list(2, chunk.len())
        );
        let mut values = vec![Param::Int(now)];
        values.extend(chunk.iter().map(|id| Param::Text(id)));
        for mut row in tx.query(&sql, &values)? {
            targets.push(row.text(0)?);
        }
    }
    tx.ring();
    Ok(targets)
}

/// Nothing of a target is tried any more. How many were waiting.
pub fn end_all(tx: &mut Tx, target: &Target, now: Millis) -> Result<u64> {
    tx.execute(
        "UPDATE delivery SET due_at = NULL, dead_at = ?2 WHERE target = ?1 AND due_at IS NOT NULL",
        params![&target.name(), now],
    )
}

/// Forgets those that ended before this time, at most so many, and none that a dead letter is about. How
/// many.
pub fn purge(tx: &mut Tx, before: Millis, most: i64) -> Result<u64> {
    // What ended then was made before then: only the oldest are looked at.
    let made_before = ids::new(ids::DELIVERY, before, [0; 16]);
    tx.execute(
        "DELETE FROM delivery WHERE id IN (SELECT d.id FROM delivery d WHERE d.id < ?1 AND d.due_at IS NULL \
         AND COALESCE(d.delivered_at, d.dead_at) < ?2 AND NOT EXISTS \
         (SELECT 1 FROM task t WHERE t.subject = d.id AND t.kind = 'deliver') ORDER BY d.id LIMIT ?3)",
        params![&made_before, before, most],
    )
}

/// After the clock was set by so much, when it showed `was`: what waits waits as long as it would have. Only
/// for whoever is alone at the store.
pub fn shift(tx: &mut Tx, by: Millis, was: Millis) -> Result<u64> {
    let meant = task::set_before(by);
    tx.execute(&format!("UPDATE delivery SET due_at = due_at + ?1 WHERE {meant}"), params![by, was + by])
}

pub fn find(tx: &mut Tx, id: &str) -> Result<Option<Delivery>> {
    let sql = format!("SELECT {COLUMNS} FROM delivery WHERE id = ?1");
    tx.one(&sql, params![id])?.map(read).transpose()
}

/// Newest first, from behind `cursor` on.
pub fn list(tx: &mut Tx, filter: &Filter, cursor: Option<&str>, limit: i64) -> Result<Vec<Delivery>> {
    let tests = filter.endpoint_id.as_ref().map(|id| Target::Test(id.clone()).name());
    let mut ask = Conditions::default();
    ask.and("id < ?", cursor);
    ask.and("target IN (?", filter.endpoint_id.as_deref());
    if let Some(tests) = &tests {
        ask.more(", ?)", tests);
    }
    ask.and("job_id = ?", filter.job_id.as_deref());
    match filter.state {
        Some(State::Pending) => ask.plain("due_at IS NOT NULL"),
        Some(State::Delivered) => ask.plain("delivered_at IS NOT NULL"),
        Some(State::Dead) => ask.plain("dead_at IS NOT NULL"),
        None => {}
    }
    let (conditions, mut params) = ask.finish();
    params.push(Param::Int(limit));
    let sql = format!("SELECT {COLUMNS} FROM delivery{conditions} ORDER BY id DESC LIMIT ?{}", params.len());
    tx.query(&sql, &params)?.into_iter().map(read).collect()
}

fn attempts(delivery: &Delivery) -> String {
    // Texts and numbers under plain names: writing them cannot fail.
    serde_json::to_string(&delivery.attempts).unwrap_or_default()
}

fn read(mut row: Row) -> Result<Delivery> {
    let (id, target, attempts) = (row.text(0)?, row.text(5)?, row.text(12)?);
    let corrupt = |column, why: String| Error::Corrupt { table: "delivery", column, id: id.clone(), why };
    let target = Target::parse(&target).ok_or_else(|| corrupt("target", target))?;
    let attempts = serde_json::from_str(&attempts).map_err(|e| corrupt("attempts", e.to_string()))?;
    Ok(Delivery {
        event_number: row.int(1)?,
        event_id: row.text(2)?,
        event_type: row.text(3)?,
        job_id: row.opt_text(4)?,
        target,
        url: row.opt_text(6)?,
        created_at: row.int(7)?,
        due_at: row.opt_int(8)?,
        delivered_at: row.opt_int(9)?,
        dead_at: row.opt_int(10)?,
        attempt: row.int(11)?,
        attempts,
        id,
    })
}
