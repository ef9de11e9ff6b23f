//! Table `idempotency`: the first answer to each of a caller's keys, word for word.

use super::db::Tx;
use super::error::Result;
use crate::domain::ids;
use crate::domain::time::{DAY, Millis};
use crate::params;

/// A key is kept until its job or group has ended and this much longer.
pub const KEPT_AFTER_END: Millis = 7 * DAY;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    pub fingerprint: Vec<u8>,
    /// Of the job or the group that was made; the column is called `job_id`.
    pub id: String,
    pub answer: String,
}

pub fn find(tx: &mut Tx, owner: &str, key: &str) -> Result<Option<Remembered>> {
    let row = tx.one(
        "SELECT fingerprint, job_id, answer FROM idempotency WHERE owner = ?1 AND idempotency_key = ?2",
        params![owner, key],
    )?;
    row.map(|mut r| Ok(Remembered { fingerprint: r.bytes(0)?, id: r.text(1)?, answer: r.text(2)? }))
        .transpose()
}

/// False when the key is taken, also by a transaction that commits at the same moment.
pub fn insert(tx: &mut Tx, owner: &str, key: &str, first: &Remembered, now: Millis) -> Result<bool> {
    let added = tx.execute(
        "INSERT INTO idempotency (owner, idempotency_key, fingerprint, job_id, answer, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (owner, idempotency_key) DO NOTHING",
        params![owner, key, &first.fingerprint, &first.id, &first.answer, now],
    )?;
    Ok(added == 1)
}

/// Forgets the keys of jobs and groups that ended long enough ago. How many. Of those made since, which may be
/// very many, none is looked at.
pub fn purge(tx: &mut Tx, now: Millis, most: i64) -> Result<u64> {
    let ended_before = now - KEPT_AFTER_END;
    // A clock may have been set back between a job's beginning and its end.
    let made_before = |prefix| ids::new(prefix, ended_before + DAY, [0; 16]);
    tx.execute(
        "DELETE FROM idempotency WHERE job_id IN (SELECT i.job_id FROM idempotency i \
         LEFT JOIN job j ON j.id = i.job_id LEFT JOIN job_group g ON g.id = i.job_id \
         WHERE COALESCE(j.finished_at, g.finished_at) < ?1 \
         AND (i.job_id > 'job_' AND i.job_id < ?3 OR i.job_id > 'grp_' AND i.job_id < ?4) \
         ORDER BY i.job_id LIMIT ?2)",
        params![ended_before, most, &made_before(ids::JOB), &made_before(ids::GROUP)],
    )
}
