//! Table `event`: the log of what we published. Rows are added in order and never changed. One of upstream's own
//! has no text here: its data are the bytes of its receipt.

use super::db::Tx;
use super::error::{Error, Result};
use super::row::{Param, Row};
use super::sql::{Conditions, chunks, in_list, value_rows};
use crate::domain::event::{Event, upstream_data};
use crate::domain::ids;
use crate::domain::time::{MINUTE, Millis};
use crate::params;

const COLUMNS: &str = "number, id, event_type, job_id, job_sequence, created_at, data, receipt_id";
const FROM: &str = "SELECT e.number, e.id, e.event_type, e.job_id, e.job_sequence, e.created_at, e.data, \
                    e.receipt_id, i.body FROM event e LEFT JOIN inbox i ON i.id = e.receipt_id";
/// How far apart in the log events of one moment may stand: transactions commit in an order of their own, and clocks
/// of nodes differ.
const OUT_OF_ORDER: Millis = MINUTE;

/// Numbers the events and stores them; for `flow::publish`, which has them delivered. To be called
/// last in a transaction: the counter's row is held until the commit, so numbers become visible in
/// order and a reader can never step over one. Whether an endpoint may want them.
pub fn insert_many(tx: &mut Tx, events: &mut [Event]) -> Result<bool> {
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    if count == 0 {
        return Ok(false);
    }
    let row = tx.one(
        "UPDATE counter SET value = value + ?1 WHERE name = 'event' RETURNING value, endpoints",
        params![count],
    )?;
    let mut row = row.ok_or_else(|| Error::Bug("the event counter is gone".into()))?;
    let (last, endpoints) = (row.int(0)?, row.int(1)?);
    for (event, number) in events.iter_mut().zip(last - count + 1..) {
        event.number = number;
    }
    for chunk in chunks(events, tx.rows_at_once()) {
        let sql = format!("INSERT INTO event ({COLUMNS}) VALUES {}", value_rows(chunk.len(), 8));
        let mut values: Vec<Param> = Vec::with_capacity(chunk.len() * 8);
        for e in chunk {
            values.extend_from_slice(params![
                e.number,
                &e.id,
                &e.event_type,
                &e.job_id,
                e.job_sequence,
                e.created_at,
                &e.data,
                &e.receipt_id
            ]);
        }
        tx.execute(&sql, &values)?;
    }
    tx.ring();
    Ok(endpoints > 0)
}

/// The events with these numbers that exist, in no order.
pub fn find_many(tx: &mut Tx, numbers: &[i64]) -> Result<Vec<Event>> {
    let Some(last) = numbers.last() else { return Ok(vec![]) };
    // The last again up to a power of two: few statements serve lists of any length.
    let mut values: Vec<Param> = numbers.iter().map(|n| Param::Int(*n)).collect();
    values.resize(numbers.len().next_power_of_two(), Param::Int(*last));
    let sql = format!("{FROM} WHERE e.number IN ({})", in_list(1, values.len()));
    tx.query(&sql, &values)?.into_iter().map(read).collect()
}

/// Events after number `after`, oldest first; of one job when `job_id` is given.
pub fn list(tx: &mut Tx, job_id: Option<&str>, after: i64, limit: i64) -> Result<Vec<Event>> {
    let mut ask = Conditions::default();
    ask.and("e.number > ?", Some(after));
    ask.and("e.job_id = ?", job_id);
    let (conditions, mut params) = ask.finish();
    params.push(Param::Int(limit));
    let sql = format!("{FROM}{conditions} ORDER BY e.number LIMIT ?{}", params.len());
    tx.query(&sql, &params)?.into_iter().map(read).collect()
}

/// Those of a type among the latest `among` events, newest first.
pub fn list_latest(tx: &mut Tx, event_type: &str, among: i64) -> Result<Vec<Event>> {
    let sql = format!(
        "{FROM} WHERE e.event_type = ?1 AND e.number > \
         (SELECT value FROM counter WHERE name = 'event') - ?2 ORDER BY e.number DESC"
    );
    tx.query(&sql, params![event_type, among])?.into_iter().map(read).collect()
}

/// The numbers of the oldest event that is kept and of the last there ever was. Of an empty log the oldest is the
/// next to come.
pub fn bounds(tx: &mut Tx) -> Result<(i64, i64)> {
    // The last first: what is added meanwhile is no gap.
    let last = tx.one("SELECT value FROM counter WHERE name = 'event'", &[])?;
    let last = last.map_or(Ok(0), |mut row| row.int(0))?;
    let oldest = tx.one("SELECT number FROM event ORDER BY number LIMIT 1", &[])?;
    Ok((oldest.map_or(Ok(last + 1), |mut row| row.int(0))?, last))
}

/// The number behind which every event published at `at` or later stands; some before it may, too. Found by halving:
/// numbers rise with time, nearly.
pub fn number_before(tx: &mut Tx, at: Millis) -> Result<i64> {
    let (oldest, last) = bounds(tx)?;
    let (mut low, mut high) = (oldest - 1, last);
    // All up to `low` are too old, and `high` is not known to be.
    while low < high {
        let middle = low + (high - low) / 2 + 1;
        let sql = "SELECT number, created_at FROM event WHERE number >= ?1 ORDER BY number LIMIT 1";
        let found =
            tx.one(sql, params![middle])?.map(|mut row| Ok((row.int(0)?, row.int(1)?))).transpose()?;
        match found {
            Some((number, made)) if made < at.saturating_sub(OUT_OF_ORDER) => low = number.min(high),
            _ => high = middle - 1,
        }
    }
    Ok(low)
}

/// By its id, whose time says where in the log to look.
pub fn find(tx: &mut Tx, id: &str) -> Result<Option<Event>> {
    let Some(at) = ids::time_of(ids::EVENT, id) else { return Ok(None) };
    let (after, until) = (number_before(tx, at)?, number_before(tx, at.saturating_add(3 * OUT_OF_ORDER))?);
    let sql = format!("{FROM} WHERE e.number > ?1 AND e.number <= ?2 AND e.id = ?3");
    tx.one(&sql, params![after, until, id])?.map(read).transpose()
}

fn read(mut row: Row) -> Result<Event> {
    let (data, body) = (row.text(6)?, row.opt_bytes(8)?);
    Ok(Event {
        number: row.int(0)?,
        id: row.text(1)?,
        event_type: row.text(2)?,
        job_id: row.opt_text(3)?,
        job_sequence: row.int(4)?,
        created_at: row.int(5)?,
        data: if data.is_empty() { upstream_data(body.as_deref().unwrap_or_default()) } else { data },
        receipt_id: row.opt_text(7)?,
        notify_url: None,
    })
}
