//! Table `job` with its request and labels. Written only by `flow.rs`.

use std::borrow::Cow;

use super::db::Tx;
use super::error::{Error, Result};
use super::row::{Param, Row};
use super::sql::{Conditions, chunks, in_list, padded, value_rows};
use crate::domain::job::{Details, Job, Kind, State};
use crate::domain::time::Millis;
use crate::params;

const COLUMNS: &str = "id, version, kind, state, callback_id, upstream_id, upstream_video_id, retry_of, \
                       group_id, created_at, updated_at, deadline_at, finished_at, details";

/// `request` is HeyGen's own body as the caller gave it.
pub fn insert(tx: &mut Tx, job: &Job, request: &str) -> Result<()> {
    insert_many(tx, &[(job, request)])
}

/// The same for jobs that are made together.
pub fn insert_many(tx: &mut Tx, jobs: &[(&Job, &str)]) -> Result<()> {
    for chunk in chunks(jobs, tx.rows_at_once()) {
        let texts = chunk.iter().map(|(job, _)| Ok((details_text(job)?, search_text(job))));
        let texts = texts.collect::<Result<Vec<(String, String)>>>()?;
        let mut values: Vec<Param> = Vec::with_capacity(chunk.len() * 15);
        for ((job, _), (details, search)) in chunk.iter().zip(&texts) {
            values.extend_from_slice(params![
                &job.id,
                job.version,
                job.kind.name(),
                job.state.name(),
                &job.callback_id,
                &job.upstream_id,
                &job.upstream_video_id,
                &job.retry_of,
                &job.group_id,
                job.created_at,
                job.updated_at,
                job.deadline_at,
                job.finished_at,
                details,
                search,
            ]);
        }
        let rows = value_rows(chunk.len(), 15);
        tx.execute(&format!("INSERT INTO job ({COLUMNS}, search) VALUES {rows}"), &values)?;
        let requests: Vec<Param> =
            chunk.iter().flat_map(|(job, request)| [Param::from(&job.id), Param::from(*request)]).collect();
        let rows = value_rows(chunk.len(), 2);
        tx.execute(&format!("INSERT INTO job_request (job_id, body) VALUES {rows}"), &requests)?;
        insert_labels(tx, chunk)?;
    }
    Ok(())
}

fn insert_labels(tx: &mut Tx, jobs: &[(&Job, &str)]) -> Result<()> {
    let labels = jobs.iter().flat_map(|(job, _)| job.details.labels.iter().map(|(n, v)| (n, v, &job.id)));
    for chunk in chunks(&labels.collect::<Vec<_>>(), tx.rows_at_once()) {
        let values: Vec<Param> =
            chunk.iter().flat_map(|(name, value, id)| [*name, *value, *id].map(Param::from)).collect();
        let rows = value_rows(chunk.len(), 3);
        tx.execute(&format!("INSERT INTO job_label (name, value, job_id) VALUES {rows}"), &values)?;
    }
    Ok(())
}

/// Compare-and-set: stores each job as the successor of the version it was made from.
pub fn update_many(tx: &mut Tx, jobs: &[&Job]) -> Result<()> {
    for chunk in chunks(jobs, tx.rows_at_once()) {
        let texts = chunk.iter().map(|job| Ok((details_text(job)?, search_text(job))));
        let texts = texts.collect::<Result<Vec<(String, String)>>>()?;
        let mut values: Vec<Param> = Vec::with_capacity(chunk.len() * 9);
        for (job, (details, search)) in chunk.iter().zip(&texts) {
            values.extend_from_slice(params![
                &job.id,
                job.version,
                job.state.name(),
                &job.upstream_id,
                &job.upstream_video_id,
                job.updated_at,
                job.finished_at,
                details,
                search,
            ]);
        }
        if tx.execute(&update_text(chunk.len()), &values)? != chunk.len() as u64 {
            return Err(Error::Conflict);
        }
    }
    Ok(())
}

/// The statement for so many rows of id, version, and what there is to set.
fn update_text(rows: usize) -> Cow<'static, str> {
    if rows == 1 {
        return "UPDATE job SET version = version + 1, state = ?3, upstream_id = ?4, upstream_video_id = ?5, \
                updated_at = ?6, finished_at = ?7, details = ?8, search = ?9 WHERE id = ?1 AND version = ?2"
            .into();
    }
    // PostgreSQL takes a placeholder in VALUES for text unless the first row says otherwise.
    let mut rows = value_rows(rows, 9);
    for n in [2, 6, 7] {
        rows = rows.replacen(&format!("?{n}"), &format!("CAST(?{n} AS BIGINT)"), 1);
    }
    format!(
        "WITH next (id, version, state, upstream_id, upstream_video_id, updated_at, finished_at, details, \
         search) AS (VALUES {rows}) UPDATE job SET version = job.version + 1, state = next.state, \
         upstream_id = next.upstream_id, upstream_video_id = next.upstream_video_id, \
         updated_at = next.updated_at, finished_at = next.finished_at, details = next.details, \
         search = next.search FROM next WHERE job.id = next.id AND job.version = next.version"
    )
    .into()
}

pub fn find(tx: &mut Tx, id: &str) -> Result<Option<Job>> {
    find_many(tx, &[id]).map(|jobs| jobs.into_iter().next())
}

/// Those of the jobs that exist, in no order.
pub fn find_many(tx: &mut Tx, ids: &[&str]) -> Result<Vec<Job>> {
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let ids = padded(ids);
    let sql = format!("SELECT {COLUMNS} FROM job WHERE id IN ({})", in_list(1, ids.len()));
    tx.query(&sql, &ids)?.into_iter().map(read).collect()
}

/// The jobs that upstream knows under one of these ids, in no order.
pub fn find_by_upstream(tx: &mut Tx, ids: &[&str]) -> Result<Vec<Job>> {
    if ids.is_empty() {
        return Ok(vec![]);
    }
    let ids = padded(ids);
    let list = in_list(1, ids.len());
    let sql = format!(
        "SELECT {COLUMNS} FROM job WHERE upstream_id IN ({list}) UNION \
         SELECT {COLUMNS} FROM job WHERE upstream_video_id IN ({list})"
    );
    tx.query(&sql, &ids)?.into_iter().map(read).collect()
}

pub fn find_request(tx: &mut Tx, id: &str) -> Result<Option<String>> {
    tx.one("SELECT body FROM job_request WHERE job_id = ?1", params![id])?.map(|mut r| r.text(0)).transpose()
}

/// The jobs of a group in this state that nobody has retried yet, each with its request, the oldest first, newer
/// than the job `after` and at most `limit`. The index `job_of_group` has them in this order.
pub fn list_unretried(
    tx: &mut Tx,
    group_id: &str,
    state: State,
    after: &str,
    limit: i64,
) -> Result<Vec<(Job, String)>> {
    let sql = format!(
        "SELECT {COLUMNS}, body FROM job JOIN job_request ON job_id = id WHERE group_id = ?1 AND state = ?2 AND id > ?3 \
         AND NOT EXISTS (SELECT 1 FROM job later WHERE later.retry_of = job.id) ORDER BY id LIMIT ?4"
    );
    let rows = tx.query(&sql, params![group_id, state.name(), after, limit])?;
    rows.into_iter()
        .map(|mut row| {
            let body = row.text(14)?;
            Ok((read(row)?, body))
        })
        .collect()
}

/// What a list shows. Every filter given must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub state: Option<State>,
    pub kind: Option<Kind>,
    pub callback_id: Option<String>,
    pub group: Option<String>,
    pub label: Option<(String, String)>,
    pub created_after: Option<Millis>,
    pub created_before: Option<Millis>,
    /// Part of a title, a label, a failure, of an id of ours, of upstream's or of the caller's.
    pub q: Option<String>,
}

/// Newest first, older than the job `before`, at most `limit`.
pub fn list(tx: &mut Tx, filter: &Filter, before: Option<&str>, limit: i64) -> Result<Vec<Job>> {
    let pattern = filter.q.as_deref().map(|q| format!("%{}%", escape_like(&q.to_lowercase())));
    let mut ask = Conditions::default();
    ask.and("id < ?", before);
    ask.and("state = ?", filter.state.map(State::name));
    ask.and("kind = ?", filter.kind.map(Kind::name));
    ask.and("callback_id = ?", filter.callback_id.as_deref());
    ask.and("group_id = ?", filter.group.as_deref());
    ask.and("created_at > ?", filter.created_after);
    ask.and("created_at < ?", filter.created_before);
    // An open state is asked for through the index of open jobs.
    if filter.state.is_some_and(|state| !state.is_terminal()) {
        ask.plain("finished_at IS NULL");
    }
    if let Some((name, value)) = &filter.label {
        ask.and("id IN (SELECT job_id FROM job_label WHERE name = ?", Some(name.as_str()));
        ask.more(" AND value = ?)", value.as_str());
    }
    ask.and("search LIKE ? ESCAPE '!'", pattern.as_deref());
    let (conditions, mut params) = ask.finish();
    params.push(Param::Int(limit));
    let sql = format!("SELECT {COLUMNS} FROM job{conditions} ORDER BY id DESC LIMIT ?{}", params.len());
    tx.query(&sql, &params)?.into_iter().map(read).collect()
}

/// One line each, so that no match runs over from one to the next.
fn search_text(job: &Job) -> String {
    let d = &job.details;
    let failure = d.failure.as_ref();
    let parts = [
        job.callback_id.as_deref(),
        job.upstream_id.as_deref(),
        job.upstream_video_id.as_deref(),
        d.title.as_deref(),
        failure.and_then(|f| f.code.as_deref()),
        failure.map(|f| f.message.as_str()),
    ];
    let mut all = job.id.clone();
    for part in parts.into_iter().flatten() {
        all = all + "\n" + part;
    }
    for (name, value) in &d.labels {
        all = all + "\n" + name + ":" + value;
    }
    all.to_lowercase()
}

fn escape_like(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

fn details_text(job: &Job) -> Result<String> {
    serde_json::to_string(&job.details)
        .map_err(|e| Error::Bug(format!("details of {} cannot be written: {e}", job.id)))
}

fn read(mut row: Row) -> Result<Job> {
    let id = row.text(0)?;
    let lie = |column, why: String| Error::Corrupt { table: "job", column, id: id.clone(), why };
    let (kind, state) = (row.text(2)?, row.text(3)?);
    let details: Details = serde_json::from_str(&row.text(13)?).map_err(|e| lie("details", e.to_string()))?;
    Ok(Job {
        version: row.int(1)?,
        kind: Kind::parse(&kind).ok_or_else(|| lie("kind", kind))?,
        state: State::parse(&state).ok_or_else(|| lie("state", state))?,
        callback_id: row.opt_text(4)?,
        upstream_id: row.opt_text(5)?,
        upstream_video_id: row.opt_text(6)?,
        retry_of: row.opt_text(7)?,
        group_id: row.opt_text(8)?,
        created_at: row.int(9)?,
        updated_at: row.int(10)?,
        deadline_at: row.int(11)?,
        finished_at: row.opt_int(12)?,
        details,
        id,
    })
}

/// How many jobs are in each state that is not terminal.
pub fn count_open(tx: &mut Tx) -> Result<Vec<(State, i64)>> {
    let rows = tx.query("SELECT state, COUNT(*) FROM job WHERE finished_at IS NULL GROUP BY state", &[])?;
    let mut counts: Vec<(State, i64)> =
        State::ALL.into_iter().filter(|s| !s.is_terminal()).map(|s| (s, 0)).collect();
    for mut row in rows {
        let (state, n) = (row.text(0)?, row.int(1)?);
        if let Some(slot) = counts.iter_mut().find(|(s, _)| s.name() == state) {
            slot.1 = n;
        }
    }
    Ok(counts)
}
