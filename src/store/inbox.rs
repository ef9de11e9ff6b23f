//! Tables `inbox` and `receipt_note`: receipts with the exact bytes that arrived, which are never
//! changed, and what each was taken to mean.

use super::db::Tx;
use super::error::{Error, Result};
use super::row::{Param, Row};
use super::sql::{Conditions, chunks, in_list, padded, value_rows};
use super::task;
use crate::domain::receipt::{MAX_REFUSED_KEPT, Note, Receipt, Verdict};
use crate::domain::task::TaskKind;
use crate::domain::time::Millis;
use crate::params;

const FROM: &str = "SELECT i.id, i.received_at, i.verdict, i.job_address, i.signed_by, i.path, i.remote, \
                    i.headers, i.body, n.applied_at, n.event_type, n.job_id, n.parked_under, n.parked_also, \
                    n.meaning, n.wire_version FROM inbox i LEFT JOIN receipt_note n ON n.receipt_id = i.id";

/// Stores the receipts that are new and one `apply` task for all of them. Whether each was new.
///
/// Rows are sorted by key, so that two nodes that accept the same receipts cannot deadlock.
pub fn accept_many(tx: &mut Tx, receipts: &[Receipt]) -> Result<Vec<bool>> {
    let mut keyed: Vec<([u8; 16], usize)> =
        receipts.iter().enumerate().map(|(i, r)| (r.dedup_key(), i)).collect();
    keyed.sort_unstable();
    let mut fresh: Vec<String> = vec![];
    for chunk in chunks(&keyed, tx.rows_at_once()) {
        let sql = format!(
            "INSERT INTO inbox (id, dedup_key, received_at, verdict, job_address, signed_by, path, remote, \
             headers, body) VALUES {} ON CONFLICT (dedup_key) DO NOTHING{}",
            value_rows(chunk.len(), 10),
            if chunk.len() == 1 { "" } else { " RETURNING id" }
        );
        let mut values: Vec<Param> = Vec::with_capacity(chunk.len() * 10);
        for (key, i) in chunk {
            let r = &receipts[*i];
            values.extend_from_slice(params![
                &r.id,
                key,
                r.received_at,
                r.verdict.name(),
                &r.job_address,
                &r.signed_by,
                &r.path,
                &r.remote,
                &r.headers,
                &r.body
            ]);
        }
        // Of one row the count says it, at less cost than its id.
        if let [(_, i)] = chunk {
            fresh.extend((tx.execute(&sql, &values)? > 0).then(|| receipts[*i].id.clone()));
            continue;
        }
        for mut row in tx.query(&sql, &values)? {
            fresh.push(row.text(0)?);
        }
    }
    // In the order of their ids, which is the order of arrival: the cheapest order to insert in.
    fresh.sort_unstable();
    let is_fresh = |id: &String| fresh.binary_search(id).is_ok();
    let waiting: Vec<&str> = fresh.iter().map(String::as_str).collect();
    if let Some(due_at) = receipts.iter().map(|r| r.received_at).max() {
        task::add_together(tx, TaskKind::Apply, &waiting, due_at)?;
    }
    Ok(receipts.iter().map(|r| is_fresh(&r.id)).collect())
}

/// How many unsigned receipts are kept for one job.
pub fn count_unsigned(tx: &mut Tx, job_id: &str) -> Result<i64> {
    let row = tx
        .one("SELECT COUNT(*) FROM inbox WHERE job_address = ?1 AND verdict = 'unsigned'", params![job_id])?;
    row.map_or(Ok(0), |mut r| r.int(0))
}

/// Keeps a refused delivery as a sample and lets go of the oldest samples beyond the bound.
pub fn keep_refused(tx: &mut Tx, receipt: &Receipt) -> Result<()> {
    let added = tx.execute(
        "INSERT INTO inbox (id, dedup_key, received_at, verdict, job_address, signed_by, path, remote, \
         headers, body) VALUES (?1, ?2, ?3, 'refused', ?4, ?5, ?6, ?7, ?8, ?9) \
         ON CONFLICT (dedup_key) DO NOTHING",
        params![
            &receipt.id,
            &receipt.dedup_key(),
            receipt.received_at,
            &receipt.job_address,
            &receipt.signed_by,
            &receipt.path,
            &receipt.remote,
            &receipt.headers,
            &receipt.body
        ],
    )?;
    if added == 0 {
        return Ok(());
    }
    annotate(tx, &[(&receipt.id, &receipt.note)])?;
    let gone = tx.query(
        "DELETE FROM inbox WHERE verdict = 'refused' AND id < (SELECT MIN(id) FROM \
         (SELECT id FROM inbox WHERE verdict = 'refused' ORDER BY id DESC LIMIT ?1) AS kept) RETURNING id",
        params![MAX_REFUSED_KEPT],
    )?;
    for mut row in gone {
        tx.execute("DELETE FROM receipt_note WHERE receipt_id = ?1", params![&row.text(0)?])?;
    }
    Ok(())
}

/// Those of the receipts that exist, in no order.
pub fn find_many(tx: &mut Tx, ids: &[&str]) -> Result<Vec<Receipt>> {
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let ids = padded(ids);
    let sql = format!("{FROM} WHERE i.id IN ({})", in_list(1, ids.len()));
    tx.query(&sql, &ids)?.into_iter().map(read).collect()
}

/// What was told of these jobs, or parked under these upstream ids, on somebody's word that counts:
/// job or upstream id, and event type.
pub fn list_told(tx: &mut Tx, job_ids: &[&str], upstream_ids: &[&str]) -> Result<Vec<(String, String)>> {
    let mut told = vec![];
    for (column, ids) in [("job_id", job_ids), ("parked_under", upstream_ids), ("parked_also", upstream_ids)]
    {
        if ids.is_empty() {
            continue;
        }
        let ids = padded(ids);
        let sql = format!(
            "SELECT DISTINCT n.{column}, n.event_type FROM receipt_note n JOIN inbox i ON i.id = n.receipt_id \
             WHERE n.{column} IN ({}) AND n.event_type IS NOT NULL AND i.verdict IN ('signed', 'logged')",
            in_list(1, ids.len())
        );
        for mut row in tx.query(&sql, &ids)? {
            told.push((row.text(0)?, row.text(1)?));
        }
    }
    Ok(told)
}

/// Records what receipts were taken to mean; a later understanding replaces an earlier one.
pub fn annotate(tx: &mut Tx, notes: &[(&str, &Note)]) -> Result<()> {
    for chunk in chunks(notes, tx.rows_at_once()) {
        let sql = format!(
            "INSERT INTO receipt_note (receipt_id, applied_at, event_type, job_id, parked_under, parked_also, \
             meaning, wire_version) VALUES {} ON CONFLICT (receipt_id) DO UPDATE SET applied_at = excluded.applied_at, \
             event_type = excluded.event_type, job_id = excluded.job_id, \
             parked_under = excluded.parked_under, parked_also = excluded.parked_also, \
             meaning = excluded.meaning, wire_version = excluded.wire_version",
            value_rows(chunk.len(), 8)
        );
        let mut values: Vec<Param> = Vec::with_capacity(chunk.len() * 8);
        for (id, note) in chunk {
            values.extend_from_slice(params![
                *id,
                note.applied_at,
                &note.event_type,
                &note.job_id,
                &note.parked_under,
                &note.parked_also,
                &note.meaning,
                note.wire_version
            ]);
        }
        tx.execute(&sql, &values)?;
    }
    Ok(())
}

/// Whoever parks a receipt, or stores an upstream id, holds this until its commit: so neither can
/// miss the other.
pub fn lock_parking(tx: &mut Tx) -> Result<()> {
    let lock = tx.for_update();
    let sql = format!("SELECT value FROM counter WHERE name = 'parking'{lock}");
    tx.one(&sql, &[]).map(|_| ())
}

/// Makes the receipts parked under one of these upstream ids due again. How many there were.
pub fn release_parked(tx: &mut Tx, upstream_ids: &[&str], now: Millis) -> Result<usize> {
    if upstream_ids.is_empty() {
        return Ok(0);
    }
    let ids = padded(upstream_ids);
    let list = in_list(1, ids.len());
    release(tx, &format!("parked_under IN ({list}) OR parked_also IN ({list})"), &ids, now)
}

/// Makes parked receipts due again, whatever they wait for, at most so many. How many there were.
pub fn release_any(tx: &mut Tx, most: i64, now: Millis) -> Result<usize> {
    let some = "receipt_id IN (SELECT receipt_id FROM receipt_note WHERE parked_under IS NOT NULL LIMIT ?1)";
    release(tx, some, params![most], now)
}

fn release(tx: &mut Tx, which: &str, params: &[Param], now: Millis) -> Result<usize> {
    let sql = format!(
        "UPDATE receipt_note SET parked_under = NULL, parked_also = NULL WHERE {which} RETURNING receipt_id"
    );
    let rows = tx.query(&sql, params)?;
    let mut freed: Vec<String> = rows.into_iter().map(|mut r| r.text(0)).collect::<Result<_>>()?;
    freed.sort_unstable();
    let subjects: Vec<&str> = freed.iter().map(String::as_str).collect();
    task::add_many(tx, TaskKind::Apply, &subjects, now)?;
    Ok(freed.len())
}

#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub verdict: Option<Verdict>,
    pub job_id: Option<String>,
}

/// Newest first, older than the receipt `before`, at most `limit`.
pub fn list(tx: &mut Tx, filter: &Filter, before: Option<&str>, limit: i64) -> Result<Vec<Receipt>> {
    let mut ask = Conditions::default();
    ask.and("i.id < ?", before);
    match filter.verdict {
        // In the text, so that the index of these alone can serve.
        Some(Verdict::Refused) => ask.plain("i.verdict = 'refused'"),
        verdict => ask.and("i.verdict = ?", verdict.map(Verdict::name)),
    }
    ask.and("n.job_id = ?", filter.job_id.as_deref());
    let (conditions, mut params) = ask.finish();
    params.push(Param::Int(limit));
    let sql = format!("{FROM}{conditions} ORDER BY i.id DESC LIMIT ?{}", params.len());
    tx.query(&sql, &params)?.into_iter().map(read).collect()
}

fn read(mut row: Row) -> Result<Receipt> {
    let id = row.text(0)?;
    let verdict = row.text(2)?;
    let lie = |column, why: String| Error::Corrupt { table: "inbox", column, id: id.clone(), why };
    Ok(Receipt {
        received_at: row.int(1)?,
        verdict: Verdict::parse(&verdict).ok_or_else(|| lie("verdict", verdict))?,
        job_address: row.opt_text(3)?,
        signed_by: row.opt_text(4)?,
        path: row.text(5)?,
        remote: row.opt_text(6)?,
        headers: row.text(7)?,
        body: row.bytes(8)?,
        note: Note {
            applied_at: row.opt_int(9)?,
            event_type: row.opt_text(10)?,
            job_id: row.opt_text(11)?,
            parked_under: row.opt_text(12)?,
            parked_also: row.opt_text(13)?,
            meaning: row.opt_text(14)?,
            wire_version: row.opt_int(15)?,
        },
        id,
    })
}
