//! Table `webhook_secret`: what HeyGen signs with, kept so that no variable is needed.
//! Several may be live; a retired one is kept for the record and verifies nothing.

use super::db::Tx;
use super::error::Result;
use super::row::Row;
use crate::domain::time::Millis;
use crate::params;

#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret {
    pub id: String,
    pub endpoint_id: String,
    pub url: String,
    pub secret: String,
    pub created_at: Millis,
    /// It verifies until then; absent means for good.
    pub retired_at: Option<Millis>,
}

const COLUMNS: &str = "id, endpoint_id, url, secret, created_at, retired_at";

pub fn insert(tx: &mut Tx, secret: &WebhookSecret) -> Result<()> {
    tx.execute(
        "INSERT INTO webhook_secret (id, endpoint_id, url, secret, created_at, retired_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            &secret.id,
            &secret.endpoint_id,
            &secret.url,
            &secret.secret,
            secret.created_at,
            secret.retired_at
        ],
    )?;
    tx.ring();
    Ok(())
}

/// What stays before what verifies only until its time, then newest first: the order in which they are tried, and
/// the first of an endpoint is what it signs with.
pub fn list_live(tx: &mut Tx, now: Millis) -> Result<Vec<WebhookSecret>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM webhook_secret WHERE retired_at IS NULL OR retired_at > ?1 \
         ORDER BY CASE WHEN retired_at IS NULL THEN 0 ELSE 1 END, id DESC"
    );
    tx.query(&sql, params![now])?.into_iter().map(read).collect()
}

/// The live secrets of an endpoint verify until `at`, except the one named. How many.
pub fn retire(tx: &mut Tx, endpoint_id: &str, except: Option<&str>, at: Millis) -> Result<u64> {
    tx.ring();
    tx.execute(
        "UPDATE webhook_secret SET retired_at = ?3 WHERE endpoint_id = ?1 AND id <> ?2 \
         AND (retired_at IS NULL OR retired_at > ?3)",
        params![endpoint_id, except.unwrap_or(""), at],
    )
}

fn read(mut row: Row) -> Result<WebhookSecret> {
    Ok(WebhookSecret {
        id: row.text(0)?,
        endpoint_id: row.text(1)?,
        url: row.text(2)?,
        secret: row.text(3)?,
        created_at: row.int(4)?,
        retired_at: row.opt_int(5)?,
    })
}
