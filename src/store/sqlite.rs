//! SQLite: one writer thread that commits for many, readers on threads of their own.
//!
//! The writer takes what is waiting, gives each closure a savepoint, commits once and answers
//! everyone; a failed commit is told to every one of them. One process owns the file.

use std::borrow::Cow;
use std::fs::File;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};

use super::callers::{LULL, REST};
use super::db::{Access, Bell, Tx, Work};
use super::error::{Error, Result};
use super::row::{Param, Row, Value, storable};
use super::{file_system, migrate};
use crate::clock::Stopwatch;

/// Closures that may wait for the writer; beyond it callers are told `Busy`.
const WRITE_QUEUE: usize = 1_024;
const READ_QUEUE: usize = 4_096;
const READERS: usize = 2;
/// Closures in one commit: bounds how long the first of them waits for the last.
const MAX_BATCH: usize = 256;
/// Statements kept prepared per connection.
const STATEMENTS: usize = 256;

/// Of the runner's rest only what the writer is idle counts, but it waits at most for this many times the
/// turn: what is understood late is late, too.
const WAITS_AT_MOST: u32 = 31;
/// Batches of callers that go before the runner when it has rested. There may be one more, always.
const PASSED_OVER_AT_MOST: u32 = 16;

pub(super) struct Sqlite {
    writes: Option<Sender<Box<dyn Work>>>,
    behind: Option<Sender<Box<dyn Work>>>,
    reads: Option<Sender<Box<dyn Work>>>,
    threads: Vec<JoinHandle<()>>,
    /// Held for as long as the engine lives; the lock goes when the file is closed.
    _lock: File,
}

pub(super) fn open(path: &Path, bell: Bell, now: i64) -> Result<Sqlite> {
    let path = &file_system::real(path)?;
    file_system::refuse_network(path)?;
    let lock = lock(path)?;
    let mut writer = connect(path, false)?;
    migrate::run(&mut Tx::sqlite(SqliteTx(&writer)), now)?;
    optimize(&mut writer);
    let (writes, write_queue) = bounded(WRITE_QUEUE);
    let (behind, behind_queue) = bounded(WRITE_QUEUE);
    let (reads, read_queue) = bounded(READ_QUEUE);
    let writer = Writer { connection: writer, callers: write_queue, runner: behind_queue, bell };
    let mut threads = vec![spawn("reelhook-write", move || writer.run())?];
    for _ in 0..READERS {
        let (connection, queue) = (connect(path, true)?, read_queue.clone());
        threads.push(spawn("reelhook-read", move || read_loop(&connection, &queue))?);
    }
    Ok(Sqlite { writes: Some(writes), behind: Some(behind), reads: Some(reads), threads, _lock: lock })
}

impl Sqlite {
    pub(super) fn submit(&self, access: Access, work: Box<dyn Work>) -> Result<()> {
        let queue = match access {
            Access::Write => &self.writes,
            Access::Behind => &self.behind,
            Access::Read => &self.reads,
        };
        let queue = queue.as_ref().ok_or(Error::Closed)?;
        queue.try_send(work).map_err(|e| match e {
            TrySendError::Full(_) => Error::Busy,
            TrySendError::Disconnected(_) => Error::Closed,
        })
    }
}

impl Drop for Sqlite {
    /// Lets the threads finish what they were given, so that no answer is owed when the file closes.
    fn drop(&mut self) {
        drop(self.writes.take());
        drop(self.behind.take());
        drop(self.reads.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|e| Error::Unavailable(format!("no thread for the database: {e}")))
}

/// Refuses a file that another process has open. The lock is the operating system's: it goes with
/// the process, however it ends.
fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::Unfit(format!(
                "{} cannot be made, because its directory is not there; make that, or give another --database",
                path.display()
            )),
            _ => Error::Unavailable(format!("cannot open {}: {e}", Path::new(&name).display())),
        })?;
    file.try_lock().map_err(|e| match e {
        std::fs::TryLockError::WouldBlock => Error::Unfit(format!(
            "{} is in use by another reelhook; stop that one, or give this one another --database",
            path.display()
        )),
        std::fs::TryLockError::Error(e) => {
            Error::Unavailable(format!("cannot lock {}: {e}", Path::new(&name).display()))
        }
    })?;
    Ok(file)
}

fn connect(path: &Path, read_only: bool) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | if read_only { OpenFlags::empty() } else { OpenFlags::SQLITE_OPEN_CREATE };
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // FULL: a commit that was answered survives power loss. With grouped commits it costs no
        // more than NORMAL (see docs/performance.md).
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 10_000)?;
        connection.pragma_update(None, "cache_size", -16_000)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        // Else a statement is planned anew whenever a value is bound that a partial index or the statistics
        // speak of, which for tasks is each time; so what may use such an index names its value in its text.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        if read_only {
            connection.pragma_update(None, "query_only", true)?;
        }
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(connection)
    };
    open().map_err(|e| match e.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => Error::Unfit(format!(
            "{} is there and is no SQLite database; move it away, or give another --database",
            path.display()
        )),
        _ => Error::Unavailable(format!("cannot open {}: {e}", path.display())),
    })
}

/// Keeps the planner's statistics fresh; failing to is no fault worth stopping for.
fn optimize(connection: &mut Connection) {
    let _ = connection.execute_batch("PRAGMA optimize = 0x10002");
}

struct Writer {
    connection: Connection,
    callers: Receiver<Box<dyn Work>>,
    runner: Receiver<Box<dyn Work>>,
    bell: Bell,
}

/// What the runner's last turn at the writer has still to wait for while callers write.
#[derive(Default)]
struct Turn {
    idle_owed: Duration,
    longest: Duration,
    ended: Option<Stopwatch>,
}

impl Turn {
    fn after(took: Duration) -> Self {
        let (idle_owed, longest) = (took * REST, took * WAITS_AT_MOST);
        Self { idle_owed, longest, ended: Some(Stopwatch::start()) }
    }

    fn rest(&self) -> Duration {
        let gone = self.ended.as_ref().map_or(Duration::MAX, Stopwatch::elapsed);
        self.idle_owed.min(self.longest.saturating_sub(gone))
    }
}

/// What is to be done next.
enum Next {
    Batch(Vec<Box<dyn Work>>),
    Nothing,
    Closed,
}

impl Writer {
    fn run(self) {
        let mut callers_at: Option<Stopwatch> = None;
        let mut turn = Turn::default();
        let mut passed_over = 0_u32;
        loop {
            let busy = callers_at.as_ref().is_some_and(|at| at.elapsed() < LULL);
            let rest = if busy { turn.rest() } else { Duration::ZERO };
            let idle = Stopwatch::start();
            let (next, is_callers) = match self.overdue(passed_over) {
                Some(first) => (Next::Batch(vec![first]), false),
                None => self.next(rest, busy),
            };
            turn.idle_owed = turn.idle_owed.saturating_sub(idle.elapsed());
            match next {
                Next::Batch(batch) => {
                    let watch = Stopwatch::start();
                    write_batch(&self.connection, batch, &self.bell);
                    if is_callers {
                        callers_at = Some(Stopwatch::start());
                        passed_over = passed_over.saturating_add(u32::from(rest.is_zero()));
                    } else {
                        turn = Turn::after(watch.elapsed());
                        passed_over = 0;
                    }
                }
                Next::Nothing => {}
                Next::Closed => return,
            }
        }
    }

    /// What the runner has waiting, when it has rested and yet so many callers went before it.
    fn overdue(&self, passed_over: u32) -> Option<Box<dyn Work>> {
        (passed_over >= PASSED_OVER_AT_MOST).then(|| self.runner.try_recv().ok()).flatten()
    }

    /// A batch, and whether it is callers'. They go first; the runner waits out `rest`.
    fn next(&self, rest: Duration, busy: bool) -> (Next, bool) {
        if let Ok(first) = self.callers.try_recv() {
            return (Next::Batch(gather(first, &self.callers)), true);
        }
        if !rest.is_zero() {
            return match self.callers.recv_timeout(rest) {
                Ok(first) => (Next::Batch(gather(first, &self.callers)), true),
                Err(RecvTimeoutError::Timeout) => (Next::Nothing, true),
                Err(RecvTimeoutError::Disconnected) => self.last(),
            };
        }
        crossbeam_channel::select! {
            recv(self.callers) -> first => match first {
                Ok(first) => (Next::Batch(gather(first, &self.callers)), true),
                Err(_) => self.last(),
            },
            recv(self.runner) -> first => match first {
                // One at a time while callers write, so that none of them waits for several.
                Ok(first) if busy => (Next::Batch(vec![first]), false),
                Ok(first) => (Next::Batch(gather(first, &self.runner)), false),
                Err(_) => self.last(),
            },
        }
    }

    /// The senders are gone; what they left is still done.
    fn last(&self) -> (Next, bool) {
        let first = self.callers.try_recv().or_else(|_| self.runner.try_recv());
        (first.map_or(Next::Closed, |first| Next::Batch(vec![first])), true)
    }
}

fn gather(first: Box<dyn Work>, queue: &Receiver<Box<dyn Work>>) -> Vec<Box<dyn Work>> {
    let mut batch = vec![first];
    while batch.len() < MAX_BATCH
        && let Ok(next) = queue.try_recv()
    {
        batch.push(next);
    }
    batch
}

fn write_batch(connection: &Connection, batch: Vec<Box<dyn Work>>, bell: &Bell) {
    if let Err(e) = run_batch_sql(connection, "BEGIN IMMEDIATE") {
        return batch.into_iter().for_each(|work| work.answer(Err(e.clone())));
    }
    let alone = batch.len() == 1;
    let mut rung = false;
    let mut gone = Ok(());
    let done: Vec<(Box<dyn Work>, Result<()>)> = batch
        .into_iter()
        .map(|mut work| {
            // What ran now would be committed by itself, and its caller told that it was not.
            if gone.is_err() {
                return (work, gone.clone());
            }
            let ran =
                if alone { run_one(connection, &mut work) } else { run_in_savepoint(connection, &mut work) };
            rung |= *ran.as_ref().unwrap_or(&false);
            let ran = ran.map(|_| ());
            // SQLite itself ends a transaction that met a full disk.
            if connection.is_autocommit() {
                gone = ran.clone().and(Err(Error::Unavailable("the transaction was ended".to_owned())));
            }
            (work, ran)
        })
        .collect();
    let failed_alone = alone && done.iter().any(|(_, ran)| ran.is_err());
    let end = if failed_alone { "ROLLBACK" } else { "COMMIT" };
    let committed = gone.and_then(|()| run_batch_sql(connection, end));
    if committed.is_err() {
        // The transaction may be gone or still open; either way nothing of it may stay.
        let _ = connection.execute_batch("ROLLBACK");
    }
    for (work, ran) in done {
        work.answer(ran.and_then(|()| committed.clone()));
    }
    if rung && committed.is_ok() {
        bell.ring();
    }
}

/// Whether the closure asked for the bell.
fn run_one(connection: &Connection, work: &mut Box<dyn Work>) -> Result<bool> {
    let mut tx = Tx::sqlite(SqliteTx(connection));
    work.run(&mut tx)?;
    Ok(tx.has_rung())
}

fn run_in_savepoint(connection: &Connection, work: &mut Box<dyn Work>) -> Result<bool> {
    run_batch_sql(connection, "SAVEPOINT one")?;
    let ran = run_one(connection, work);
    let end = if ran.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
    let ended = connection.execute_batch(end).map_err(|e| sort(&e));
    if ended.is_err() {
        // The transaction is gone, or must be: half of a closure may stand in it.
        let _ = connection.execute_batch("ROLLBACK");
    }
    let rung = ran?;
    ended.map(|()| rung)
}

fn run_batch_sql(connection: &Connection, sql: &str) -> Result<()> {
    let mut statement = connection.prepare_cached(sql).map_err(|e| sort(&e))?;
    statement.execute([]).map(|_| ()).map_err(|e| sort(&e))
}

fn read_loop(connection: &Connection, queue: &Receiver<Box<dyn Work>>) {
    while let Ok(mut work) = queue.recv() {
        // Deferred: all statements of the closure see one state of the database.
        let result = run_batch_sql(connection, "BEGIN").and_then(|()| {
            let ran = run_one(connection, &mut work);
            run_batch_sql(connection, "COMMIT")?;
            ran.map(|_| ())
        });
        work.answer(result);
    }
}

pub(super) struct SqliteTx<'a>(&'a Connection);

impl SqliteTx<'_> {
    pub(super) fn execute(&mut self, sql: &str, params: &[Param]) -> Result<u64> {
        let mut statement = self.0.prepare_cached(sql).map_err(|e| sort(&e))?;
        let n = statement.execute(rusqlite::params_from_iter(params)).map_err(|e| sort(&e))?;
        Ok(n as u64)
    }

    pub(super) fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        let mut statement = self.0.prepare_cached(sql).map_err(|e| sort(&e))?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(|e| sort(&e))?;
        let mut all = vec![];
        while let Some(row) = rows.next().map_err(|e| sort(&e))? {
            let values = (0..columns).map(|i| row.get_ref(i).map(value).map_err(|e| sort(&e)));
            all.push(Row(values.collect::<Result<_>>()?));
        }
        Ok(all)
    }

    /// Several statements without parameters.
    pub(super) fn batch(&mut self, sql: &str) -> Result<()> {
        self.0.execute_batch(sql).map_err(|e| sort(&e))
    }
}

fn value(v: ValueRef) -> Value {
    match v {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(i) => Value::Int(i),
        // No column is a float; one would be a lie that `Row` reports.
        ValueRef::Real(f) => Value::Text(f.to_string()),
        ValueRef::Text(t) => Value::Text(String::from_utf8_lossy(t).into_owned()),
        ValueRef::Blob(b) => Value::Bytes(b.to_vec()),
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Param::Null => ValueRef::Null,
            Param::Int(i) => ValueRef::Integer(*i),
            Param::Text(t) => match storable(t) {
                Cow::Borrowed(t) => ValueRef::Text(t.as_bytes()),
                Cow::Owned(t) => return Ok(ToSqlOutput::Owned(t.into())),
            },
            Param::Bytes(b) => ValueRef::Blob(b),
        }))
    }
}

/// By code, never by words.
fn sort(e: &rusqlite::Error) -> Error {
    // The file with the index of the log could not grow.
    if e.sqlite_error().is_some_and(|e| e.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE) {
        return Error::DiskFull(e.to_string());
    }
    match e.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Error::DiskFull(e.to_string()),
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::OutOfMemory
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase,
        ) => Error::Unavailable(e.to_string()),
        _ => Error::Bug(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    #[test]
    fn a_statement_is_planned_once_whatever_is_bound_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let connection = connect(&directory.path().join("r.db"), false).unwrap();
        migrate::run(&mut Tx::sqlite(SqliteTx(&connection)), 0).unwrap();
        // Of `lane` a partial index speaks, and of `subject` the statistics.
        connection
            .execute_batch(
                "INSERT INTO task (subject, kind, lane, due_at, attempt) VALUES ('a', 'b', 1, 1, 0); ANALYZE",
            )
            .unwrap();
        let sql = "SELECT due_at FROM task WHERE dead_at IS NULL AND (lane = ?1 OR subject < ?2)";
        let mut statement = connection.prepare(sql).unwrap();
        for bound in [(1, "z"), (2, "y"), (1, "x")] {
            let _: Vec<i64> = statement
                .query_map(bound, |row| row.get(0))
                .unwrap()
                .collect::<rusqlite::Result<_>>()
                .unwrap();
        }
        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }
}
