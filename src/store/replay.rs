//! Table `replay`: dead letters on their way back, and how far that is.

use super::db::Tx;
use super::error::{Error, Result};
use super::row::{Param, Row};
use super::sql::Conditions;
use crate::domain::replay::Replay;
use crate::domain::time::Millis;
use crate::params;

const COLUMNS: &str = "id, created_at, ended_at, details";

pub fn insert(tx: &mut Tx, replay: &Replay) -> Result<()> {
    tx.execute(
        &format!("INSERT INTO replay ({COLUMNS}) VALUES (?1, ?2, ?3, ?4)"),
        params![&replay.id, replay.created_at, replay.ended_at, &text(replay)],
    )?;
    Ok(())
}

/// Writes one that was read by `lock`.
pub fn put(tx: &mut Tx, replay: &Replay) -> Result<()> {
    tx.execute(
        "UPDATE replay SET ended_at = ?2, details = ?3 WHERE id = ?1",
        params![&replay.id, replay.ended_at, &text(replay)],
    )?;
    tx.ring();
    Ok(())
}

pub fn find(tx: &mut Tx, id: &str) -> Result<Option<Replay>> {
    let sql = format!("SELECT {COLUMNS} FROM replay WHERE id = ?1");
    tx.one(&sql, params![id])?.map(read).transpose()
}

/// As `find`, for one that is about to be changed; behind its task.
pub fn lock(tx: &mut Tx, id: &str) -> Result<Option<Replay>> {
    let sql = format!("SELECT {COLUMNS} FROM replay WHERE id = ?1{}", tx.for_update());
    tx.one(&sql, params![id])?.map(read).transpose()
}

pub fn count_running(tx: &mut Tx) -> Result<i64> {
    let row = tx.one("SELECT COUNT(*) FROM replay WHERE ended_at IS NULL", &[])?;
    row.map_or(Ok(0), |mut r| r.int(0))
}

/// Newest first, older than the replay `before`, at most `limit`.
pub fn list(tx: &mut Tx, before: Option<&str>, limit: i64) -> Result<Vec<Replay>> {
    let mut ask = Conditions::default();
    ask.and("id < ?", before);
    let (conditions, mut params) = ask.finish();
    params.push(Param::Int(limit));
    let sql = format!("SELECT {COLUMNS} FROM replay{conditions} ORDER BY id DESC LIMIT ?{}", params.len());
    tx.query(&sql, &params)?.into_iter().map(read).collect()
}

/// Forgets those that ended before this time. How many.
pub fn purge(tx: &mut Tx, before: Millis) -> Result<u64> {
    tx.execute("DELETE FROM replay WHERE ended_at < ?1", params![before])
}

fn text(replay: &Replay) -> String {
    // Texts and numbers under plain names: writing them cannot fail.
    serde_json::to_string(&replay.details).unwrap_or_default()
}

fn read(mut row: Row) -> Result<Replay> {
    let (id, details) = (row.text(0)?, row.text(3)?);
    let details = serde_json::from_str(&details).map_err(|e| Error::Corrupt {
        table: "replay",
        column: "details",
        id: id.clone(),
        why: e.to_string(),
    })?;
    Ok(Replay { id, created_at: row.int(1)?, ended_at: row.opt_int(2)?, details })
}
