//! Table `upstream_limit`: one row that says how much may be outstanding upstream, and whether
//! anything may be sent at all. Slots in use are derived from job states, so a crash leaks none.
//!
//! Whoever changes it locks it first, before any other row. It decides nothing: `domain::limit` does.

use super::db::Tx;
use super::error::{Error, Result};
use super::task;
use crate::domain::job::Kind;
use crate::domain::limit::Limit;
use crate::domain::task::{Claimed, Lane};
use crate::domain::time::{MINUTE, Millis};
use crate::params;

/// A job of which nobody knows whether upstream took it holds a slot for as long as its kind usually takes,
/// and never longer than this: if it was taken it has ended by then, and what upstream still has beyond its
/// limit it refuses, which is learned from.
pub const UNKNOWN_HOLDS: Millis = 15 * MINUTE;

pub fn get(tx: &mut Tx) -> Result<Limit> {
    read(tx, "")
}

/// The same, and nobody else changes it until the end of this transaction.
pub fn lock(tx: &mut Tx) -> Result<Limit> {
    let lock = tx.for_update();
    read(tx, lock)
}

fn read(tx: &mut Tx, lock: &str) -> Result<Limit> {
    let sql = format!("SELECT details FROM upstream_limit WHERE id = 1{lock}");
    let mut row = tx.one(&sql, &[])?.ok_or_else(|| Error::Bug("the upstream limit is gone".into()))?;
    serde_json::from_str(&row.text(0)?).map_err(|e| Error::Corrupt {
        table: "upstream_limit",
        column: "details",
        id: "1".to_owned(),
        why: e.to_string(),
    })
}

/// Stores what was made of the row that `lock` gave.
pub fn put(tx: &mut Tx, limit: &Limit) -> Result<()> {
    let details = serde_json::to_string(limit)
        .map_err(|e| Error::Bug(format!("the upstream limit cannot be written: {e}")))?;
    tx.execute(
        "UPDATE upstream_limit SET slots = ?1, details = ?2 WHERE id = 1",
        params![limit.slots, &details],
    )?;
    tx.ring();
    Ok(())
}

/// Jobs that hold a slot at `now`: sent and not ended, nor given up by time.
pub fn slots_in_use(tx: &mut Tx, now: Millis) -> Result<i64> {
    slots_of_others(tx, "", now)
}

/// The same without one job. The states are listed as the index of open jobs can use it: those that wait may be
/// very many.
pub fn slots_of_others(tx: &mut Tx, job_id: &str, now: Millis) -> Result<i64> {
    let holds: String = Kind::ALL
        .iter()
        .map(|kind| format!("WHEN '{}' THEN {} ", kind.name(), unknown_holds(*kind)))
        .collect();
    let sql = format!(
        "SELECT COUNT(*) FROM job WHERE finished_at IS NULL AND deadline_at > ?1 AND id <> ?2 \
         AND state IN ('submitting', 'processing', 'unknown') \
         AND (state <> 'unknown' OR updated_at > ?1 - CASE kind {holds}ELSE {UNKNOWN_HOLDS} END)"
    );
    let row = tx.one(&sql, params![now, job_id])?;
    row.map_or(Ok(0), |mut r| r.int(0))
}

/// For how long a job of this kind holds a slot while its outcome is open.
pub fn unknown_holds(kind: Kind) -> Millis {
    kind.usual_time().min(UNKNOWN_HOLDS)
}

/// Claims up to `most` submits for which there is room, by priority. All nodes take turns at the one
/// row.
pub fn claim_submits(
    tx: &mut Tx,
    most: i64,
    now: Millis,
    lease_until: Millis,
    token: i64,
) -> Result<Vec<Claimed>> {
    let limit = lock(tx)?;
    let in_use = slots_in_use(tx, now)?;
    // The rest looks at every job that waits, and that may be very many.
    if limit.room(in_use, 0, now) <= 0 {
        return Ok(vec![]);
    }
    // Claimed and not yet recorded as sent: the claim itself holds the slot.
    let row = tx.one(
        "SELECT COUNT(*) FROM task WHERE lane = ?1 AND dead_at IS NULL AND due_at <= ?2 AND lease_until > ?2",
        params![Lane::Submit.number(), now],
    )?;
    let mut claimed = row.map_or(Ok(0), |mut r| r.int(0))?;
    if limit.is_trying() {
        // The one that finds out may be under way.
        let sql = "SELECT COUNT(*) FROM job WHERE finished_at IS NULL AND deadline_at > ?1 \
                   AND state = 'submitting'";
        let row = tx.one(sql, params![now])?;
        claimed += row.map_or(Ok(0), |mut r| r.int(0))?;
    }
    let room = limit.room(in_use, claimed, now).min(most);
    if room <= 0 { Ok(vec![]) } else { task::claim_queued(tx, room, now, lease_until, token) }
}
