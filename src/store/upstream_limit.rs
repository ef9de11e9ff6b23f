//! Table `upstream_limit`: one row that says how much may be outstanding upstream, and whether
//! anything may be sent at all. Slots in use are derived from job states, so a crash leaks none.

use super::db::Tx;
use super::error::{Error, Result};
use super::task;
use crate::domain::task::{Claimed, Lane};
use crate::domain::time::{MINUTE, Millis};
use crate::params;

/// A job whose outcome is open holds its slot for this long; upstream has most likely dropped it.
pub const UNKNOWN_HOLDS: Millis = 15 * MINUTE;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    pub slots: i64,
    pub pause: Option<Pause>,
}

/// Nothing is sent, for a reason that concerns every job alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    pub since: Millis,
    /// From then on one job may try whether it is over.
    pub until: Millis,
    pub reason: String,
}

pub fn get(tx: &mut Tx) -> Result<Limit> {
    read(tx, "")
}

fn read(tx: &mut Tx, lock: &str) -> Result<Limit> {
    let sql = format!(
        "SELECT slots, paused_since, paused_until, paused_reason FROM upstream_limit WHERE id = 1{lock}"
    );
    let mut row = tx.one(&sql, &[])?.ok_or_else(|| Error::Bug("the upstream limit is gone".into()))?;
    let slots = row.int(0)?;
    let pause = match (row.opt_int(1)?, row.opt_int(2)?, row.opt_text(3)?) {
        (Some(since), Some(until), Some(reason)) => Some(Pause { since, until, reason }),
        _ => None,
    };
    Ok(Limit { slots, pause })
}

/// Jobs that hold a slot at `now`: sent and not ended, nor given up by time.
pub fn slots_in_use(tx: &mut Tx, now: Millis) -> Result<i64> {
    let row = tx.one(
        "SELECT COUNT(*) FROM job WHERE finished_at IS NULL AND deadline_at > ?1 AND \
         (state = 'submitting' OR state = 'processing' OR (state = 'unknown' AND updated_at > ?2))",
        params![now, now - UNKNOWN_HOLDS],
    )?;
    row.map_or(Ok(0), |mut r| r.int(0))
}

/// Claims up to `most` submits for which a slot is free. All nodes take turns at the one row.
///
/// While paused nothing is claimed; when the pause is over, one, to find out.
pub fn claim_submits(
    tx: &mut Tx,
    most: i64,
    now: Millis,
    lease_until: Millis,
    token: i64,
) -> Result<Vec<Claimed>> {
    let lock = tx.for_update();
    let limit = read(tx, lock)?;
    // Claimed and not yet recorded as sent: the claim itself holds the slot.
    let row = tx.one(
        "SELECT COUNT(*) FROM task WHERE lane = ?1 AND dead_at IS NULL AND due_at <= ?2 AND lease_until > ?2",
        params![Lane::Submit.number(), now],
    )?;
    let claimed = row.map_or(Ok(0), |mut r| r.int(0))?;
    let most = match limit.pause {
        Some(pause) if now < pause.until => 0,
        Some(_) => i64::from(claimed == 0).min(most),
        None => most,
    };
    let free = limit.slots - slots_in_use(tx, now)? - claimed;
    if free.min(most) <= 0 {
        return Ok(vec![]);
    }
    task::claim(tx, Lane::Submit, free.min(most), now, lease_until, token)
}

/// Stops sending until `until`. The first reason and its time stay while it is renewed.
pub fn pause(tx: &mut Tx, reason: &str, now: Millis, until: Millis) -> Result<()> {
    tx.execute(
        "UPDATE upstream_limit SET paused_since = COALESCE(paused_since, ?1), paused_until = ?2, \
         paused_reason = ?3 WHERE id = 1",
        params![now, until, reason],
    )?;
    tx.ring();
    Ok(())
}

/// Whether there was a pause to end.
pub fn resume(tx: &mut Tx) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE upstream_limit SET paused_since = NULL, paused_until = NULL, paused_reason = NULL \
         WHERE id = 1 AND paused_since IS NOT NULL",
        &[],
    )?;
    tx.ring();
    Ok(changed == 1)
}

/// Sets the number of slots from configuration.
pub fn set_slots(tx: &mut Tx, slots: i64) -> Result<()> {
    tx.execute("UPDATE upstream_limit SET slots = ?1 WHERE id = 1", params![slots])?;
    Ok(())
}
