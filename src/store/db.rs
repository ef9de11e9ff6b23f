//! The two engines behind one handle. `write` runs a closure in a transaction and answers when it
//! is durable; `read` runs one that may not write.
//!
//! Closures are synchronous and must not wait for anything but the database. They may run more
//! than once: on PostgreSQL a lost race is run again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::error::{Error, Result};
use super::postgres::{self, Postgres, PostgresTx};
use super::row::{Param, Row};
use super::sql::MOST_ROWS;
use super::sqlite::{self, Sqlite, SqliteTx};
pub use crate::config::Address;
use crate::domain::time::Millis;

/// Rung after every commit that made work due or changed a job, by this node or another.
#[derive(Clone, Default)]
pub struct Bell(Arc<watch::Sender<u64>>);

impl Bell {
    pub fn ring(&self) {
        self.0.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Listens from now on; arm it before looking, or a ring between look and wait is lost.
    pub fn arm(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}

#[derive(Clone)]
pub struct Db {
    engine: Arc<Engine>,
    pub bell: Bell,
    takes_nothing: Arc<AtomicBool>,
}

enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Db {
    /// Opens the database, brings its schema up to date and starts the storage threads. Blocks.
    pub fn open(address: &Address, now: Millis) -> Result<Self> {
        let bell = Bell::default();
        let engine = match address {
            Address::Sqlite(path) => Engine::Sqlite(sqlite::open(path, bell.clone(), now)?),
            Address::Postgres(url) => Engine::Postgres(postgres::open(url, bell.clone(), now)?),
        };
        Ok(Self { engine: Arc::new(engine), bell, takes_nothing: Arc::default() })
    }

    /// Whether no other process may write to it while this one lives.
    pub fn has_one_owner(&self) -> bool {
        matches!(&*self.engine, Engine::Sqlite(_))
    }

    /// Whether nobody else was at the store when this handle was opened: what is leased then was
    /// leased by the dead.
    pub fn started_alone(&self) -> bool {
        match &*self.engine {
            Engine::Sqlite(_) => true,
            Engine::Postgres(engine) => engine.started_alone,
        }
    }

    /// Whether the last that was to be written could not be: the disk is full, the store away or read-only.
    pub fn takes_nothing(&self) -> bool {
        self.takes_nothing.load(Ordering::Relaxed)
    }

    pub fn engine(&self) -> &'static str {
        match &*self.engine {
            Engine::Sqlite(_) => "sqlite",
            Engine::Postgres(_) => "postgres",
        }
    }

    /// How long to rest after a turn at the store that `took` so long over receipts that had waited for `behind`,
    /// lest callers who write now wait for it, too. On SQLite the one who writes sees to that by itself.
    pub fn rest_after(&self, took: Duration, behind: Duration) -> Duration {
        match &*self.engine {
            Engine::Sqlite(_) => Duration::ZERO,
            Engine::Postgres(engine) => engine.callers.rest_after(took, behind),
        }
    }

    /// Runs `work` in a transaction; the answer comes when it is on disk.
    ///
    /// Errors with `Busy` at once when the queue is full.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Tx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.submit(Access::Write, work).await
    }

    /// Runs `work` on a connection that cannot write.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Tx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.submit(Access::Read, work).await
    }

    /// As `write`, behind the callers who wait for an answer: for the runner's own work.
    pub async fn write_behind<T: Send + 'static>(
        &self,
        work: impl Fn(&mut Tx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.submit(Access::Behind, work).await
    }

    async fn submit<T: Send + 'static>(
        &self,
        access: Access,
        work: impl Fn(&mut Tx) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let takes_nothing = self.takes_nothing.clone();
        let job: Box<dyn Work> =
            Box::new(Closure { work, result: None, has_written: false, takes_nothing, reply });
        let _caller = match &*self.engine {
            Engine::Postgres(engine) if access == Access::Write => Some(engine.callers.enter()),
            _ => None,
        };
        match &*self.engine {
            Engine::Sqlite(engine) => engine.submit(access, job)?,
            Engine::Postgres(engine) => engine.submit(access, job)?,
        }
        answer.await.unwrap_or(Err(Error::Closed))
    }
}

/// Which queue a closure goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Write,
    Behind,
    Read,
}

/// A closure on its way to a storage thread. `run` may be called again after a lost race; `answer`
/// is called once, with how the commit went.
pub(super) trait Work: Send {
    fn run(&mut self, tx: &mut Tx) -> Result<()>;
    fn answer(self: Box<Self>, commit: Result<()>);
}

struct Closure<T, F> {
    work: F,
    result: Option<T>,
    has_written: bool,
    takes_nothing: Arc<AtomicBool>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: Fn(&mut Tx) -> Result<T> + Send> Work for Closure<T, F> {
    fn run(&mut self, tx: &mut Tx) -> Result<()> {
        // A panic in one closure must not take the storage thread and everybody's work with it.
        let work = std::panic::AssertUnwindSafe(|| (self.work)(tx));
        let result = std::panic::catch_unwind(work)
            .unwrap_or_else(|_| Err(Error::Bug("a storage closure panicked".to_owned())))?;
        // A closure that passes over a fault does not commit: PostgreSQL would answer the commit
        // with a silent rollback.
        tx.fault.take().map_or(Ok(()), Err)?;
        self.result = Some(result);
        self.has_written = tx.has_written;
        Ok(())
    }

    fn answer(self: Box<Self>, commit: Result<()>) {
        let Self { result, reply, takes_nothing, has_written, .. } = *self;
        match &commit {
            Err(Error::DiskFull(_) | Error::Unavailable(_)) => takes_nothing.store(true, Ordering::Relaxed),
            // A commit of nothing needs no room.
            Ok(()) if has_written => takes_nothing.store(false, Ordering::Relaxed),
            _ => {}
        }
        // Nobody may be waiting any more; the commit stands all the same.
        let _ = reply.send(commit.and_then(|()| result.ok_or(Error::Closed)));
    }
}

/// An open transaction.
pub struct Tx<'a> {
    inner: TxInner<'a>,
    rung: bool,
    has_written: bool,
    /// The first statement that failed.
    fault: Option<Error>,
}

enum TxInner<'a> {
    Sqlite(SqliteTx<'a>),
    Postgres(PostgresTx<'a>),
}

impl<'a> Tx<'a> {
    pub(super) fn sqlite(tx: SqliteTx<'a>) -> Self {
        Self { inner: TxInner::Sqlite(tx), rung: false, has_written: false, fault: None }
    }

    pub(super) fn postgres(tx: PostgresTx<'a>) -> Self {
        Self { inner: TxInner::Postgres(tx), rung: false, has_written: false, fault: None }
    }

    /// How many rows the statement touched.
    pub fn execute(&mut self, sql: &str, params: &[Param]) -> Result<u64> {
        let done = match &mut self.inner {
            TxInner::Sqlite(tx) => tx.execute(sql, params),
            TxInner::Postgres(tx) => tx.execute(sql, params),
        };
        self.has_written |= matches!(done, Ok(1..));
        self.remember(done)
    }

    pub fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        let rows = match &mut self.inner {
            TxInner::Sqlite(tx) => tx.query(sql, params),
            TxInner::Postgres(tx) => tx.query(sql, params),
        };
        self.remember(rows)
    }

    fn remember<T>(&mut self, done: Result<T>) -> Result<T> {
        if let Err(e) = &done {
            self.fault.get_or_insert_with(|| e.clone());
        }
        done
    }

    /// The first row, if there is one.
    pub fn one(&mut self, sql: &str, params: &[Param]) -> Result<Option<Row>> {
        Ok(self.query(sql, params)?.into_iter().next())
    }

    /// Several statements without parameters; migrations only.
    pub(super) fn batch(&mut self, sql: &str) -> Result<()> {
        match &mut self.inner {
            TxInner::Sqlite(tx) => tx.batch(sql),
            TxInner::Postgres(tx) => tx.batch(sql),
        }
    }

    /// What the database server's own clock shows; SQLite has no server.
    pub fn server_time(&mut self) -> Result<Option<Millis>> {
        if matches!(self.inner, TxInner::Sqlite(_)) {
            return Ok(None);
        }
        let now = self.one("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::BIGINT", &[])?;
        now.map(|mut row| row.int(0)).transpose()
    }

    /// Rows that one insert or update is to have. SQLite is no journey away, and a statement of one row is the
    /// cheapest there: one of many writes what it changes down once more, to be able to undo a part.
    pub(super) fn rows_at_once(&self) -> usize {
        match self.inner {
            TxInner::Sqlite(_) => 1,
            TxInner::Postgres(_) => MOST_ROWS,
        }
    }

    /// Marked at its line: SQLite has one writer and no row locks.
    pub(super) fn skip_locked(&self) -> &'static str {
        match self.inner {
            TxInner::Sqlite(_) => "",
            TxInner::Postgres(_) => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// As above, for a row that everybody must take turns with.
    pub(super) fn for_update(&self) -> &'static str {
        match self.inner {
            TxInner::Sqlite(_) => "",
            TxInner::Postgres(_) => " FOR UPDATE",
        }
    }

    /// Wakes runners and waiting callers once this transaction is committed.
    pub fn ring(&mut self) {
        self.rung = true;
    }

    pub(super) fn has_rung(&self) -> bool {
        self.rung
    }
}
