//! Table `job_group`: how many jobs a group has and how many are open. Written only by `flow`.
//!
//! A group's row is locked after its jobs and before the event counter; whoever adds jobs, which are nobody else's
//! yet, locks it before them.

use super::db::Tx;
use super::error::{Error, Result};
use super::row::{Param, Row};
use super::sql::{Conditions, in_list, padded};
use crate::domain::group::{Counts, Group};
use crate::domain::job::State;
use crate::domain::time::Millis;
use crate::params;

const COLUMNS: &str = "id, created_at, finished_at, jobs, open, title, retry_of, next_row";

pub fn insert(tx: &mut Tx, group: &Group) -> Result<()> {
    tx.execute(
        &format!("INSERT INTO job_group ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"),
        params![
            &group.id,
            group.created_at,
            group.finished_at,
            group.jobs,
            group.open,
            &group.title,
            &group.retry_of,
            group.next_row
        ],
    )?;
    Ok(())
}

/// Takes jobs that ended off those that are open. The group as it is then: finished, if these were the
/// last and it takes no more. Whoever else ends jobs of it waits here, so that only one can be last.
pub fn count_off(tx: &mut Tx, id: &str, ended: i64, now: Millis) -> Result<Group> {
    let sql = format!(
        "UPDATE job_group SET open = open - ?2, \
         finished_at = CASE WHEN open = ?2 AND next_row IS NULL THEN CAST(?3 AS BIGINT) ELSE finished_at END \
         WHERE id = ?1 RETURNING {COLUMNS}"
    );
    let row = tx.one(&sql, params![id, ended, now])?;
    row.map(read).unwrap_or_else(|| Err(Error::Bug(format!("the group {id} of a job is gone"))))
}

/// Writes how many jobs it has, how many are open and which row comes next. To be locked before.
pub fn grow(tx: &mut Tx, group: &Group) -> Result<()> {
    tx.execute(
        "UPDATE job_group SET jobs = ?2, open = ?3, next_row = ?4 WHERE id = ?1",
        params![&group.id, group.jobs, group.open, group.next_row],
    )?;
    Ok(())
}

/// Lets it take no more. The group as it is then, finished if all its jobs have ended; none if it took no
/// more before.
pub fn close(tx: &mut Tx, id: &str, now: Millis) -> Result<Option<Group>> {
    let sql = format!(
        "UPDATE job_group SET next_row = NULL, \
         finished_at = CASE WHEN open = 0 THEN CAST(?2 AS BIGINT) ELSE finished_at END \
         WHERE id = ?1 AND next_row IS NOT NULL RETURNING {COLUMNS}"
    );
    tx.one(&sql, params![id, now])?.map(read).transpose()
}

pub fn find(tx: &mut Tx, id: &str) -> Result<Option<Group>> {
    let sql = format!("SELECT {COLUMNS} FROM job_group WHERE id = ?1");
    tx.one(&sql, params![id])?.map(read).transpose()
}

/// The same, and nobody else changes it until the end of this transaction.
pub fn lock(tx: &mut Tx, id: &str) -> Result<Option<Group>> {
    let sql = format!("SELECT {COLUMNS} FROM job_group WHERE id = ?1{}", tx.for_update());
    tx.one(&sql, params![id])?.map(read).transpose()
}

/// Newest first, older than the group `before`, at most `limit`.
pub fn list(tx: &mut Tx, before: Option<&str>, limit: i64) -> Result<Vec<Group>> {
    let mut ask = Conditions::default();
    ask.and("id < ?", before);
    let (conditions, mut params) = ask.finish();
    params.push(Param::Int(limit));
    let sql = format!("SELECT {COLUMNS} FROM job_group{conditions} ORDER BY id DESC LIMIT ?{}", params.len());
    tx.query(&sql, &params)?.into_iter().map(read).collect()
}

/// How many jobs each of the groups has in each state, in the order of the groups. The index
/// `job_of_group` is read, and no job.
pub fn count_states(tx: &mut Tx, groups: &[&str]) -> Result<Vec<Counts>> {
    let mut counts = vec![Counts::default(); groups.len()];
    if groups.is_empty() {
        return Ok(counts);
    }
    let ids = padded(groups);
    let sql = format!(
        "SELECT group_id, state, COUNT(*) FROM job WHERE group_id IN ({}) GROUP BY group_id, state",
        in_list(1, ids.len())
    );
    for mut row in tx.query(&sql, &ids)? {
        let (id, state, count) = (row.text(0)?, row.text(1)?, row.int(2)?);
        let state = State::parse(&state).ok_or_else(|| Error::Corrupt {
            table: "job",
            column: "state",
            id: id.clone(),
            why: state,
        })?;
        let at = groups.iter().position(|group| *group == id);
        if let Some(counts) = at.and_then(|at| counts.get_mut(at)) {
            counts.add(state, count);
        }
    }
    Ok(counts)
}

fn read(mut row: Row) -> Result<Group> {
    Ok(Group {
        id: row.text(0)?,
        created_at: row.int(1)?,
        finished_at: row.opt_int(2)?,
        jobs: row.int(3)?,
        open: row.int(4)?,
        title: row.opt_text(5)?,
        retry_of: row.opt_text(6)?,
        next_row: row.opt_int(7)?,
    })
}
