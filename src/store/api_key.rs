//! Table `api_key`: callers' credentials. Only their hashes are stored.

use super::db::Tx;
use super::error::Result;
use super::row::Row;
use crate::domain::time::Millis;
use crate::params;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: String,
    pub name: String,
    /// The last four characters, to tell keys apart.
    pub hint: String,
    pub created_at: Millis,
    pub expires_at: Option<Millis>,
    pub revoked_at: Option<Millis>,
    pub last_used_at: Option<Millis>,
}

const COLUMNS: &str = "id, name, hint, created_at, expires_at, revoked_at, last_used_at";

pub fn insert(tx: &mut Tx, key: &ApiKey, hash: &[u8; 32]) -> Result<()> {
    tx.execute(
        "INSERT INTO api_key (id, name, hash, hint, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![&key.id, &key.name, hash, &key.hint, key.created_at, key.expires_at],
    )?;
    Ok(())
}

pub fn find_by_hash(tx: &mut Tx, hash: &[u8; 32]) -> Result<Option<ApiKey>> {
    let sql = format!("SELECT {COLUMNS} FROM api_key WHERE hash = ?1");
    tx.one(&sql, params![hash])?.map(read).transpose()
}

/// Newest first.
pub fn list(tx: &mut Tx) -> Result<Vec<ApiKey>> {
    let sql = format!("SELECT {COLUMNS} FROM api_key ORDER BY id DESC");
    tx.query(&sql, &[])?.into_iter().map(read).collect()
}

/// Whether there ever was a key. Before the first the API is open, and then only to this machine.
pub fn any(tx: &mut Tx) -> Result<bool> {
    Ok(tx.one("SELECT 1 FROM api_key LIMIT 1", &[])?.is_some())
}

/// Whether any key works.
pub fn any_live(tx: &mut Tx, now: Millis) -> Result<bool> {
    let row = tx.one(
        "SELECT 1 FROM api_key WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1) LIMIT 1",
        params![now],
    )?;
    Ok(row.is_some())
}

/// False when there is no such key or it was revoked before.
pub fn revoke(tx: &mut Tx, id: &str, now: Millis) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE api_key SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL",
        params![id, now],
    )?;
    Ok(changed == 1)
}

pub fn touch(tx: &mut Tx, id: &str, now: Millis) -> Result<()> {
    tx.execute("UPDATE api_key SET last_used_at = ?2 WHERE id = ?1", params![id, now])?;
    Ok(())
}

fn read(mut row: Row) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.text(0)?,
        name: row.text(1)?,
        hint: row.text(2)?,
        created_at: row.int(3)?,
        expires_at: row.opt_int(4)?,
        revoked_at: row.opt_int(5)?,
        last_used_at: row.opt_int(6)?,
    })
}
