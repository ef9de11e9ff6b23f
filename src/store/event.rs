//! Table `event`: the log of what we published. Rows are added in order and never changed.

use super::db::Tx;
use super::error::{Error, Result};
use super::row::{Param, Row};
use super::sql::{Conditions, chunks, in_list, value_rows};
use crate::domain::event::Event;
use crate::params;

const COLUMNS: &str = "number, id, event_type, job_id, job_sequence, created_at, data, receipt_id";
const MAX_ROWS: usize = 64;

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
    for chunk in chunks(events, MAX_ROWS) {
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
    let sql = format!("SELECT {COLUMNS} FROM event WHERE number IN ({})", in_list(1, values.len()));
    tx.query(&sql, &values)?.into_iter().map(read).collect()
}

/// Events after number `after`, oldest first; of one job when `job_id` is given.
pub fn list(tx: &mut Tx, job_id: Option<&str>, after: i64, limit: i64) -> Result<Vec<Event>> {
    let mut ask = Conditions::default();
    ask.and("number > ?", Some(after));
    ask.and("job_id = ?", job_id);
    let (conditions, mut params) = ask.finish();
    params.push(Param::Int(limit));
    let sql = format!("SELECT {COLUMNS} FROM event{conditions} ORDER BY number LIMIT ?{}", params.len());
    tx.query(&sql, &params)?.into_iter().map(read).collect()
}

/// Those of a type among the latest `among` events, newest first.
pub fn list_latest(tx: &mut Tx, event_type: &str, among: i64) -> Result<Vec<Event>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM event WHERE event_type = ?1 AND number > \
         (SELECT value FROM counter WHERE name = 'event') - ?2 ORDER BY number DESC"
    );
    tx.query(&sql, params![event_type, among])?.into_iter().map(read).collect()
}

fn read(mut row: Row) -> Result<Event> {
    Ok(Event {
        number: row.int(0)?,
        id: row.text(1)?,
        event_type: row.text(2)?,
        job_id: row.opt_text(3)?,
        job_sequence: row.int(4)?,
        created_at: row.int(5)?,
        data: row.text(6)?,
        receipt_id: row.opt_text(7)?,
        notify_url: None,
    })
}
