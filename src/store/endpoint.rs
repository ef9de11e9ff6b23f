//! Table `endpoint`: addresses of the application that want events. There are few; all are read at
//! once.
//!
//! How many there are stands in the event counter's row, so that those who publish know it for free.
//! Whoever adds, removes, disables or enables one takes the row's lock first, before any endpoint.

use super::db::Tx;
use super::error::{Error, Result};
use super::row::Row;
use crate::domain::endpoint::{Details, Endpoint};
use crate::params;

const COLUMNS: &str = "id, created_at, disabled_at, details";

/// Nobody publishes until this transaction ends. To be called before an endpoint is added, enabled,
/// disabled or removed.
pub fn lock_publishing(tx: &mut Tx) -> Result<()> {
    let sql = format!("SELECT value FROM counter WHERE name = 'event'{}", tx.for_update());
    tx.query(&sql, &[]).map(|_| ())
}

/// Under `lock_publishing`.
pub fn insert(tx: &mut Tx, endpoint: &Endpoint) -> Result<()> {
    tx.execute(
        "INSERT INTO endpoint (id, created_at, disabled_at, details) VALUES (?1, ?2, ?3, ?4)",
        params![&endpoint.id, endpoint.created_at, endpoint.disabled_at, &text(endpoint)],
    )?;
    count(tx)
}

/// Under `lock_publishing`. False when it was not there.
pub fn remove(tx: &mut Tx, id: &str) -> Result<bool> {
    let gone = tx.execute("DELETE FROM endpoint WHERE id = ?1", params![id])?;
    count(tx)?;
    Ok(gone > 0)
}

/// Writes one that was read by `lock`.
pub fn put(tx: &mut Tx, endpoint: &Endpoint) -> Result<()> {
    tx.execute(
        "UPDATE endpoint SET disabled_at = ?2, details = ?3 WHERE id = ?1",
        params![&endpoint.id, endpoint.disabled_at, &text(endpoint)],
    )?;
    tx.ring();
    Ok(())
}

fn count(tx: &mut Tx) -> Result<()> {
    tx.execute("UPDATE counter SET endpoints = (SELECT COUNT(*) FROM endpoint) WHERE name = 'event'", &[])?;
    Ok(())
}

pub fn find(tx: &mut Tx, id: &str) -> Result<Option<Endpoint>> {
    let sql = format!("SELECT {COLUMNS} FROM endpoint WHERE id = ?1");
    tx.one(&sql, params![id])?.map(read).transpose()
}

/// As `find`, for one that is about to be changed.
pub fn lock(tx: &mut Tx, id: &str) -> Result<Option<Endpoint>> {
    let sql = format!("SELECT {COLUMNS} FROM endpoint WHERE id = ?1{}", tx.for_update());
    tx.one(&sql, params![id])?.map(read).transpose()
}

/// All of them, newest first.
pub fn list(tx: &mut Tx) -> Result<Vec<Endpoint>> {
    let sql = format!("SELECT {COLUMNS} FROM endpoint ORDER BY id DESC");
    tx.query(&sql, &[])?.into_iter().map(read).collect()
}

fn text(endpoint: &Endpoint) -> String {
    // Texts and numbers under plain names: writing them cannot fail.
    serde_json::to_string(&endpoint.details).unwrap_or_default()
}

fn read(mut row: Row) -> Result<Endpoint> {
    let (id, details) = (row.text(0)?, row.text(3)?);
    let details: Details = serde_json::from_str(&details).map_err(|e| Error::Corrupt {
        table: "endpoint",
        column: "details",
        id: id.clone(),
        why: e.to_string(),
    })?;
    Ok(Endpoint { id, created_at: row.int(1)?, disabled_at: row.opt_int(2)?, details })
}
