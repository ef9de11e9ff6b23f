//! Table `audit`: who did what to many things at once. Lines are added and, long after, forgotten; never
//! changed.

use super::db::Tx;
use super::error::Result;
use super::row::{Param, Row};
use super::sql::Conditions;
use crate::domain::time::{DAY, Millis};
use crate::params;

/// Lines are kept for so long.
pub const KEPT_FOR: Millis = 365 * DAY;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub id: String,
    pub created_at: Millis,
    /// The name of an API key.
    pub who: String,
    /// `dead_letter.replay`, `dead_letter.drop`, …
    pub action: String,
    /// To what, why, and how many it were, as a JSON object.
    pub details: String,
}

pub fn insert(tx: &mut Tx, line: &Line) -> Result<()> {
    tx.execute(
        "INSERT INTO audit (id, created_at, who, action, details) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![&line.id, line.created_at, &line.who, &line.action, &line.details],
    )?;
    Ok(())
}

/// Newest first, older than the line `before`, at most `limit`.
pub fn list(tx: &mut Tx, before: Option<&str>, limit: i64) -> Result<Vec<Line>> {
    let mut ask = Conditions::default();
    ask.and("id < ?", before);
    let (conditions, mut params) = ask.finish();
    params.push(Param::Int(limit));
    let sql = format!(
        "SELECT id, created_at, who, action, details FROM audit{conditions} ORDER BY id DESC LIMIT ?{}",
        params.len()
    );
    tx.query(&sql, &params)?.into_iter().map(read).collect()
}

/// Forgets the lines from before this time, at most so many. How many.
pub fn purge(tx: &mut Tx, before: Millis, most: i64) -> Result<u64> {
    tx.execute(
        "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE created_at < ?1 ORDER BY id LIMIT ?2)",
        params![before, most],
    )
}

fn read(mut row: Row) -> Result<Line> {
    Ok(Line {
        id: row.text(0)?,
        created_at: row.int(1)?,
        who: row.text(2)?,
        action: row.text(3)?,
        details: row.text(4)?,
    })
}
