//! Numbered migrations, forward only, one numbering and one text for both engines.
//!
//! An older program refuses a newer schema, and a migration that was edited after it ran is an error.

use super::db::Tx;
use super::error::{Error, Result};
use crate::domain::time::Millis;
use crate::params;

pub(super) const ALL: [(i64, &str, &str); 10] = [
    (1, "init", include_str!("../../migrations/0001_init.sql")),
    (2, "parked_also", include_str!("../../migrations/0002_parked_also.sql")),
    (3, "submission", include_str!("../../migrations/0003_submission.sql")),
    (4, "group", include_str!("../../migrations/0004_group.sql")),
    (5, "endpoints", include_str!("../../migrations/0005_endpoints.sql")),
    (6, "dead_letters", include_str!("../../migrations/0006_dead_letters.sql")),
    (7, "missed", include_str!("../../migrations/0007_missed.sql")),
    (8, "reader", include_str!("../../migrations/0008_reader.sql")),
    (9, "wire_version", include_str!("../../migrations/0009_wire_version.sql")),
    (10, "group_rows", include_str!("../../migrations/0010_group_rows.sql")),
];

/// Brings the schema up to date inside the caller's transaction, or, on SQLite, statement by statement.
pub(super) fn run(tx: &mut Tx, now: Millis) -> Result<()> {
    tx.batch(
        "CREATE TABLE IF NOT EXISTS migration (number BIGINT PRIMARY KEY, name TEXT NOT NULL, \
         digest TEXT NOT NULL, applied_at BIGINT NOT NULL)",
    )?;
    let done = tx.query("SELECT number, digest FROM migration ORDER BY number", &[])?;
    let mut last = 0;
    for mut row in done {
        let (number, digest) = (row.int(0)?, row.text(1)?);
        let Some((_, name, sql)) = ALL.iter().find(|(n, ..)| *n == number) else {
            return Err(Error::Unfit(format!(
                "the database has schema {number}, this program knows {}; start a newer reelhook",
                ALL.len()
            )));
        };
        if digest != digest_of(sql) {
            return Err(Error::Unfit(format!(
                "migration {number}_{name} of this reelhook differs from the one that ran on the database; \
                 start the reelhook that made it, or a newer one"
            )));
        }
        last = number;
    }
    for (number, name, sql) in ALL.iter().filter(|(n, ..)| *n > last) {
        tx.batch(&format!("BEGIN; {sql}"))?;
        tx.execute(
            "INSERT INTO migration (number, name, digest, applied_at) VALUES (?1, ?2, ?3, ?4)",
            params![*number, *name, &digest_of(sql), now],
        )?;
        tx.batch("COMMIT")?;
    }
    Ok(())
}

fn digest_of(sql: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(sql.as_bytes()))
}
