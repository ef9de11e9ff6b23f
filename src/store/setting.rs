//! Table `setting`: the few things the server must remember of itself.

use super::db::Tx;
use super::error::Result;
use crate::params;

/// Keys the unguessable part of per-job webhook addresses.
pub const ADDRESS_KEY: &str = "address_key";

/// Whether the last server to start made jobs of strangers' receipts: `true` or `false`.
pub const ADOPTS: &str = "adopts";

/// How far upstream's event log was read, as JSON.
pub const EVENT_LOG: &str = "event_log";

/// How long the kinds of job took lately, as JSON.
pub const LEARNED: &str = "learned";

/// What a server's clock showed when it was last written down, in milliseconds.
pub const SEEN_AT: &str = "seen_at";

/// Which webhook secrets HeyGen was asked for and has not told us, as JSON.
pub const WEBHOOK_DOUBTS: &str = "webhook_doubts";

pub fn find(tx: &mut Tx, name: &str) -> Result<Option<String>> {
    tx.one("SELECT value FROM setting WHERE name = ?1", params![name])?.map(|mut r| r.text(0)).transpose()
}

pub fn put(tx: &mut Tx, name: &str, value: &str) -> Result<()> {
    tx.execute(
        "INSERT INTO setting (name, value) VALUES (?1, ?2) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        params![name, value],
    )?;
    Ok(())
}

/// The value that is there, or `fresh` put there; of two nodes that race, both get the first.
pub fn get_or_put(tx: &mut Tx, name: &str, fresh: &str) -> Result<String> {
    tx.execute(
        "INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING",
        params![name, fresh],
    )?;
    Ok(find(tx, name)?.unwrap_or_else(|| fresh.to_owned()))
}
