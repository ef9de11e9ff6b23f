//! Table `task`: what waits, and until when. A task has times, not states.
//!
//! A claim sets token, lease and attempt in one statement; settling presents the token, and a token
//! that is no longer there changes nothing.

use std::collections::BTreeMap;

use super::db::Tx;
use super::error::{Error, Result};
use super::row::{Param, Row};
use super::sql::{MOST_ROWS, chunks, value_rows};
use crate::domain::dead_letter::Cause;
use crate::domain::job::Priority;
use crate::domain::task::{Claimed, Lane, Outcome, TaskKind, TaskOp};
use crate::domain::time::Millis;
use crate::params;

/// A reason kept with a task; longer ones are cut.
const MAX_REASON_CHARS: usize = 500;

/// Applies what a decision says about the tasks of one subject.
pub fn apply(tx: &mut Tx, subject: &str, op: TaskOp) -> Result<()> {
    match op {
        TaskOp::Add(kind, due_at) => add_many(tx, kind, &[subject], due_at),
        TaskOp::Queue(priority, due_at) => {
            insert_many(tx, &[(subject, TaskKind::Submit, due_at, priority)], 0)
        }
        // Also while it runs: settling leaves a time that was changed meanwhile as it is. So it is
        // changed even when it was claimed in the very millisecond it is hastened to.
        TaskOp::Hasten(kind, at) => {
            tx.execute(
                "UPDATE task SET due_at = CASE WHEN due_at = ?3 THEN ?3 - 1 ELSE ?3 END \
                 WHERE subject = ?1 AND kind = ?2 \
                 AND (due_at > ?3 OR lease_token IS NOT NULL) AND dead_at IS NULL",
                params![subject, kind.name(), at],
            )?;
            tx.ring();
            Ok(())
        }
        TaskOp::Drop(kind) => drop_one(tx, subject, kind.name()),
    }
}

fn drop_one(tx: &mut Tx, subject: &str, kind: &str) -> Result<()> {
    tx.execute("DELETE FROM task WHERE subject = ?1 AND kind = ?2", params![subject, kind]).map(|_| ())
}

/// The same for several subjects at once: what is dropped goes first, then what is added, each
/// for when it was last to be.
pub fn apply_many(tx: &mut Tx, ops: &[(&str, TaskOp)]) -> Result<()> {
    let dropped = ops.iter().filter_map(|(subject, op)| match op {
        TaskOp::Drop(kind) => Some((*subject, kind.name())),
        _ => None,
    });
    for chunk in chunks(&dropped.collect::<Vec<_>>(), tx.rows_at_once()) {
        if let [(subject, kind)] = chunk {
            drop_one(tx, subject, kind)?;
            continue;
        }
        let sql =
            format!("DELETE FROM task WHERE (subject, kind) IN (VALUES {})", value_rows(chunk.len(), 2));
        let values: Vec<Param> = chunk.iter().flat_map(|(s, k)| [Param::Text(s), Param::Text(k)]).collect();
        tx.execute(&sql, &values)?;
    }
    let mut added: BTreeMap<(&str, TaskKind), New> = BTreeMap::new();
    let mut others = vec![];
    for (subject, op) in ops {
        match op {
            TaskOp::Drop(_) => {}
            TaskOp::Add(kind, due_at) => {
                added.insert((subject, *kind), (subject, *kind, *due_at, Priority::default()));
            }
            TaskOp::Queue(..) | TaskOp::Hasten(..) => others.push((subject, op)),
        }
    }
    insert_many(tx, &added.into_values().collect::<Vec<_>>(), 0)?;
    others.into_iter().try_for_each(|(subject, op)| apply(tx, subject, *op))
}

/// One task about all of the subjects, which are the first's and `more` of it.
pub fn add_together(tx: &mut Tx, kind: TaskKind, subjects: &[&str], due_at: Millis) -> Result<()> {
    let Some((first, more)) = subjects.split_first() else { return Ok(()) };
    let more: String = more.iter().flat_map(|subject| [" ", subject]).collect();
    tx.execute(
        "INSERT INTO task (subject, kind, lane, due_at, attempt, more) VALUES (?1, ?2, ?3, ?4, 0, ?5)",
        params![
            *first,
            kind.name(),
            kind.lane(first).number(),
            due_at,
            Some(more.as_str()).filter(|m| !m.is_empty())
        ],
    )?;
    tx.ring();
    Ok(())
}

/// In place of one task about many, one for each, due at `at`, with the attempts it had. False
/// when the lease was lost.
pub fn split(tx: &mut Tx, task: &Claimed, at: Millis) -> Result<bool> {
    if !settle(tx, task, &Outcome::Done, at)? {
        return Ok(false);
    }
    let tasks = task.subjects().map(|subject| (subject, task.kind, at, Priority::default()));
    insert_many(tx, &tasks.collect::<Vec<_>>(), task.attempt)?;
    Ok(true)
}

/// One task per subject; one that is there already only changes its time.
pub fn add_many(tx: &mut Tx, kind: TaskKind, subjects: &[&str], due_at: Millis) -> Result<()> {
    let tasks = subjects.iter().map(|subject| (*subject, kind, due_at, Priority::default()));
    insert_many(tx, &tasks.collect::<Vec<_>>(), 0)
}

/// A task as it is added: subject, kind, when it is due, and which goes first of those that wait for a
/// slot.
pub type New<'a> = (&'a str, TaskKind, Millis, Priority);

/// The same for tasks of any kind, none of them twice, that have had so many attempts. A dead task begins
/// anew: it was given up, and somebody wants it done all the same.
pub fn insert_many(tx: &mut Tx, tasks: &[New], attempt: i64) -> Result<()> {
    for chunk in chunks(tasks, tx.rows_at_once()) {
        let sql = format!(
            "INSERT INTO task (subject, kind, lane, due_at, attempt, priority) VALUES {} \
             ON CONFLICT (subject, kind) DO UPDATE SET due_at = excluded.due_at, dead_at = NULL, \
             priority = excluded.priority, \
             attempt = CASE WHEN task.dead_at IS NULL THEN task.attempt ELSE excluded.attempt END, \
             reason = CASE WHEN task.dead_at IS NULL THEN task.reason ELSE NULL END",
            value_rows(chunk.len(), 6)
        );
        let mut values: Vec<Param> = Vec::with_capacity(chunk.len() * 6);
        for (subject, kind, due_at, priority) in chunk {
            let lane = kind.lane(subject).number();
            values.extend_from_slice(params![
                *subject,
                kind.name(),
                lane,
                *due_at,
                attempt,
                priority.number()
            ]);
        }
        tx.execute(&sql, &values)?;
    }
    tx.ring();
    Ok(())
}

/// Makes sure that each of the subjects has this task, due at this time at the latest. One that had
/// to be tried again keeps its time: it is put off for a reason that concerns all it is for.
pub fn wake(tx: &mut Tx, kind: TaskKind, subjects: &[&str], at: Millis) -> Result<()> {
    for chunk in chunks(subjects, tx.rows_at_once()) {
        // Also while it runs, and even when it was claimed in this very millisecond: see `Hasten`.
        let sql = format!(
            "INSERT INTO task (subject, kind, lane, due_at, attempt) VALUES {} \
             ON CONFLICT (subject, kind) DO UPDATE SET due_at = \
             CASE WHEN task.due_at = excluded.due_at THEN excluded.due_at - 1 ELSE excluded.due_at END \
             WHERE task.dead_at IS NULL AND task.reason IS NULL \
             AND (task.due_at > excluded.due_at OR task.lease_token IS NOT NULL)",
            value_rows(chunk.len(), 5)
        );
        let mut values: Vec<Param> = Vec::with_capacity(chunk.len() * 5);
        for subject in chunk {
            values.extend_from_slice(params![*subject, kind.name(), kind.lane(subject).number(), at, 0_i64]);
        }
        tx.execute(&sql, &values)?;
    }
    tx.ring();
    Ok(())
}

/// Keeps the reason why subjects are given up that had no task of their own.
pub fn bury(
    tx: &mut Tx,
    kind: TaskKind,
    subjects: &[&str],
    attempt: i64,
    (cause, why): (&Cause, &str),
    now: Millis,
) -> Result<()> {
    let cause = cause.text();
    for chunk in chunks(subjects, tx.rows_at_once()) {
        let sql = format!(
            "INSERT INTO task (subject, kind, lane, due_at, attempt, dead_at, cause, reason) VALUES {} \
             ON CONFLICT (subject, kind) DO UPDATE SET dead_at = excluded.dead_at, cause = excluded.cause, \
             reason = excluded.reason, attempt = excluded.attempt, lease_until = NULL, lease_token = NULL",
            value_rows(chunk.len(), 8)
        );
        let mut values: Vec<Param> = Vec::with_capacity(chunk.len() * 8);
        for subject in chunk {
            let lane = kind.lane(subject).number();
            values.extend_from_slice(params![
                *subject,
                kind.name(),
                lane,
                now,
                attempt,
                now,
                &cause,
                cut(why)
            ]);
        }
        tx.execute(&sql, &values)?;
    }
    Ok(())
}

/// Takes up to `most` tasks of a lane that are due and not leased, the longest due first.
pub fn claim(
    tx: &mut Tx,
    lane: Lane,
    most: i64,
    now: Millis,
    lease_until: Millis,
    token: i64,
) -> Result<Vec<Claimed>> {
    let sql = claiming(tx, "lane = ?5 AND due_at <= ?1", "due_at");
    let rows = tx.query(&sql, params![now, most, lease_until, token, lane.number()])?;
    let mut claimed: Vec<Claimed> = rows.into_iter().map(read).collect::<Result<_>>()?;
    claimed.sort_by(|a, b| (a.due_at, &a.subject).cmp(&(b.due_at, &b.subject)));
    Ok(claimed)
}

/// The same of the submits that wait for a slot: the highest priority first, then the oldest job.
pub fn claim_queued(
    tx: &mut Tx,
    most: i64,
    now: Millis,
    lease_until: Millis,
    token: i64,
) -> Result<Vec<Claimed>> {
    // The lane as the index `task_queue` has it, and no other index shall look better.
    let sql = claiming(tx, "lane = 1 AND +due_at <= ?1", "priority DESC, subject");
    let mut claimed: Vec<(i64, Claimed)> = vec![];
    for mut row in tx.query(&sql, params![now, most, lease_until, token])? {
        claimed.push((-row.int(7)?, read(row)?));
    }
    claimed.sort_by(|a, b| (a.0, &a.1.subject).cmp(&(b.0, &b.1.subject)));
    Ok(claimed.into_iter().map(|(_, task)| task).collect())
}

/// Parameters: now, how many at most, end of the lease, token, and what `which` has beyond.
fn claiming(tx: &Tx, which: &str, order: &str) -> String {
    let lock = tx.skip_locked();
    format!(
        "WITH due AS MATERIALIZED (SELECT subject, kind FROM task WHERE {which} AND dead_at IS NULL \
         AND (lease_until IS NULL OR lease_until <= ?1) ORDER BY {order} LIMIT ?2{lock}) \
         UPDATE task SET lease_until = ?3, lease_token = ?4, attempt = attempt + 1 FROM due \
         WHERE task.subject = due.subject AND task.kind = due.kind \
         RETURNING task.subject, task.kind, task.lease_token, task.attempt, task.due_at, task.lease_until, \
         task.more, task.priority"
    )
}

/// Records how an attempt ended. False when the lease was lost: then nothing was changed, and
/// nothing that the attempt wanted may be recorded either.
pub fn settle(tx: &mut Tx, task: &Claimed, outcome: &Outcome, now: Millis) -> Result<bool> {
    let changed = match outcome {
        Outcome::Done => tx.execute(
            "DELETE FROM task WHERE subject = ?1 AND kind = ?2 AND lease_token = ?3",
            params![&task.subject, task.kind.name(), task.token],
        )?,
        Outcome::Snooze { until, lane } => {
            let lane = lane.unwrap_or_else(|| task.kind.lane(&task.subject)).number();
            again(tx, task, *until, Some(lane), 1, None)?
        }
        Outcome::Retry { at, why } => again(tx, task, *at, None, 0, Some(why))?,
        Outcome::Dead { cause, why } => tx.execute(
            "UPDATE task SET dead_at = ?4, cause = ?5, reason = ?6, lease_until = NULL, lease_token = NULL \
             WHERE subject = ?1 AND kind = ?2 AND lease_token = ?3",
            params![&task.subject, task.kind.name(), task.token, now, &cause.text(), cut(why)],
        )?,
    };
    Ok(changed == 1)
}

/// Due again at `at`, unless somebody changed the time while it ran: that time is newer knowledge.
fn again(
    tx: &mut Tx,
    task: &Claimed,
    at: Millis,
    lane: Option<i64>,
    unspent: i64,
    why: Option<&String>,
) -> Result<u64> {
    tx.ring();
    tx.execute(
        "UPDATE task SET due_at = CASE WHEN due_at = ?4 THEN ?5 ELSE due_at END, \
         lane = COALESCE(?6, lane), attempt = attempt - ?7, reason = ?8, lease_until = NULL, \
         lease_token = NULL WHERE subject = ?1 AND kind = ?2 AND lease_token = ?3",
        params![
            &task.subject,
            task.kind.name(),
            task.token,
            task.due_at,
            at,
            lane,
            unspent,
            why.map(|w| cut(w))
        ],
    )
}

/// Settles many as done, in few statements. The positions in `tasks` whose lease was lost.
pub fn settle_done(tx: &mut Tx, tasks: &[&Claimed]) -> Result<Vec<usize>> {
    let mut lost = vec![];
    let mut at = 0;
    for chunk in chunks(tasks, MOST_ROWS) {
        // PostgreSQL takes a placeholder in VALUES for text unless the first row says otherwise.
        let rows = value_rows(chunk.len(), 3).replacen("?3", "CAST(?3 AS BIGINT)", 1);
        let sql = format!(
            "DELETE FROM task WHERE (subject, kind, lease_token) IN (VALUES {rows}) RETURNING subject"
        );
        let mut values: Vec<Param> = Vec::with_capacity(chunk.len() * 3);
        for task in chunk {
            values.extend_from_slice(params![&task.subject, task.kind.name(), task.token]);
        }
        let rows = tx.query(&sql, &values)?;
        let gone: Vec<String> = rows.into_iter().map(|mut r| r.text(0)).collect::<Result<_>>()?;
        if gone.len() != chunk.len() {
            let missing = (0..chunk.len()).filter(|i| !gone.contains(&chunk[*i].subject));
            lost.extend(missing.map(|i| at + i));
        }
        at += chunk.len();
    }
    Ok(lost)
}

/// Moves a task this process runs to another lane and keeps the lease. False when it was lost.
pub fn change_lane(tx: &mut Tx, task: &Claimed, lane: Lane) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE task SET lane = ?4 WHERE subject = ?1 AND kind = ?2 AND lease_token = ?3",
        params![&task.subject, task.kind.name(), task.token, lane.number()],
    )?;
    Ok(changed == 1)
}

/// Whether the lease still stands.
pub fn is_held(tx: &mut Tx, task: &Claimed) -> Result<bool> {
    held(tx, task, "")
}

/// The same, and nobody changes the task until this transaction ends.
pub fn hold(tx: &mut Tx, task: &Claimed) -> Result<bool> {
    let lock = tx.for_update();
    held(tx, task, lock)
}

fn held(tx: &mut Tx, task: &Claimed, lock: &str) -> Result<bool> {
    let sql = format!("SELECT 1 FROM task WHERE subject = ?1 AND kind = ?2 AND lease_token = ?3{lock}");
    let row = tx.one(&sql, params![&task.subject, task.kind.name(), task.token])?;
    Ok(row.is_some())
}

/// Gives back whatever a claim took, nothing of which was run; no attempt is spent. How many tasks.
pub fn give_back(tx: &mut Tx, token: i64) -> Result<u64> {
    tx.execute(
        "UPDATE task SET attempt = attempt - 1, lease_until = NULL, lease_token = NULL WHERE lease_token = ?1",
        params![token],
    )
}

/// Voids every lease. Only for a store whose one owner has just started: nobody else can hold any.
pub fn void_leases(tx: &mut Tx) -> Result<u64> {
    tx.execute("UPDATE task SET lease_until = NULL, lease_token = NULL WHERE lease_token IS NOT NULL", &[])
}

/// After the clock was set by so much, when it showed `was`: what waits waits, and a lease lasts, as long as
/// they would have. What runs may be due at once when it ends, lest it is never when it does not. Deadlines are
/// times of day, and stay. Only for whoever is alone at the store.
pub fn shift(tx: &mut Tx, by: Millis, was: Millis) -> Result<u64> {
    let meant = set_before(by);
    let waiting = tx.execute(
        &format!(
            "UPDATE task SET due_at = due_at + ?1 WHERE {meant} AND dead_at IS NULL AND kind <> 'deadline'"
        ),
        params![by, was + by],
    )?;
    let leased = tx.execute(
        "UPDATE task SET lease_until = lease_until + ?1 WHERE lease_token IS NOT NULL",
        params![by],
    )?;
    Ok(waiting + leased)
}

/// What was written by the clock as it was, by whether it is due before or after ?2, which is now. Of what was
/// written since, waits as long as the clock was set ahead, and all after it was set back, end early.
pub(super) fn set_before(by: Millis) -> &'static str {
    if by < 0 { "due_at > ?2" } else { "due_at < ?2" }
}

/// The lanes in which something may be claimed.
pub fn due_lanes(tx: &mut Tx, now: Millis) -> Result<Vec<Lane>> {
    let mut row = of_each_lane(
        tx,
        "EXISTS (SELECT 1 FROM task WHERE lane = ? AND dead_at IS NULL AND due_at <= ?1 \
         AND (lease_until IS NULL OR lease_until <= ?1))",
        now,
    )?;
    let mut due = vec![];
    for (at, lane) in Lane::ALL.into_iter().enumerate() {
        if row.int(at)? != 0 {
            due.push(lane);
        }
    }
    Ok(due)
}

/// The earliest time after `now` at which a task becomes due.
pub fn next_due(tx: &mut Tx, now: Millis) -> Result<Option<Millis>> {
    let mut row = of_each_lane(
        tx,
        "(SELECT MIN(due_at) FROM task WHERE lane = ? AND dead_at IS NULL AND due_at > ?1)",
        now,
    )?;
    let all: Vec<Option<Millis>> = (0..Lane::ALL.len()).map(|at| row.opt_int(at)).collect::<Result<_>>()?;
    Ok(all.into_iter().flatten().min())
}

/// One column per lane, all asked for in one statement: `?` stands for the lane, `?1` for `now`.
fn of_each_lane(tx: &mut Tx, column: &str, now: Millis) -> Result<Row> {
    let columns = (2..).take(Lane::ALL.len()).map(|n| column.replace("? ", &format!("?{n} ")));
    let sql = format!("SELECT {}", columns.collect::<Vec<_>>().join(", "));
    let mut values = vec![Param::Int(now)];
    values.extend(Lane::ALL.map(|lane| Param::Int(lane.number())));
    tx.one(&sql, &values)?.ok_or_else(|| Error::Bug("a query without a table gave no row".into()))
}

/// How many tasks of a lane are due and since when, for the metrics.
pub fn backlog(tx: &mut Tx, lane: Lane, now: Millis) -> Result<(i64, Option<Millis>)> {
    let row = tx.one(
        "SELECT COUNT(*), MIN(due_at) FROM task WHERE lane = ?1 AND dead_at IS NULL AND due_at <= ?2",
        params![lane.number(), now],
    )?;
    match row {
        Some(mut row) => Ok((row.int(0)?, row.opt_int(1)?)),
        None => Ok((0, None)),
    }
}

/// When a subject's task of this kind is due, if it has one.
pub fn find_due(tx: &mut Tx, subject: &str, kind: TaskKind) -> Result<Option<Millis>> {
    due(tx, subject, kind, "")
}

/// Until when a subject's task of this kind is put off because its last attempt failed, if it is.
pub fn find_put_off(tx: &mut Tx, subject: &str, kind: TaskKind) -> Result<Option<Millis>> {
    due(tx, subject, kind, " AND reason IS NOT NULL")
}

fn due(tx: &mut Tx, subject: &str, kind: TaskKind, and: &str) -> Result<Option<Millis>> {
    let sql = format!("SELECT due_at FROM task WHERE subject = ?1 AND kind = ?2 AND dead_at IS NULL{and}");
    tx.one(&sql, params![subject, kind.name()])?.map(|mut row| row.int(0)).transpose()
}

fn cut(reason: &str) -> &str {
    match reason.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => &reason[..end],
        None => reason,
    }
}

fn read(mut row: Row) -> Result<Claimed> {
    let (subject, kind) = (row.text(0)?, row.text(1)?);
    let kind = TaskKind::parse(&kind).ok_or_else(|| Error::Corrupt {
        table: "task",
        column: "kind",
        id: subject.clone(),
        why: kind,
    })?;
    Ok(Claimed {
        kind,
        token: row.int(2)?,
        attempt: row.int(3)?,
        due_at: row.int(4)?,
        lease_until: row.int(5)?,
        more: row.opt_text(6)?.map_or(vec![], |more| more.split_whitespace().map(str::to_owned).collect()),
        subject,
    })
}
