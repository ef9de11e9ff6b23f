//! PostgreSQL: plain threads with one connection and one statement cache each.
//!
//! A closure is a transaction and is run again after a lost race. The client never enters the
//! async runtime. Two connections tell other nodes of our commits and hear of theirs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use postgres::fallible_iterator::FallibleIterator;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, Statement, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::callers::Callers;
use super::db::{Access, Bell, Tx, Work};
use super::error::{Error, Result};
use super::migrate;
use super::row::{Param, Row, Value, storable};
use super::tls;
use crate::config::postgres as address;

const QUEUE: usize = 1_024;
const WRITERS: usize = 3;
const READERS: usize = 2;
/// Runs of one closure before a race it keeps losing is told to the caller.
const MAX_RUNS: u32 = 100;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead peer is noticed after this long without an acknowledgement.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Nothing we send takes longer on a healthy server; nor does it wait so long for us in a transaction. A node that
/// is frozen in one, or cut off, would hold up all others by its locks.
const STATEMENT_TIMEOUT_MS: u32 = 15_000;
/// By which the server finds out that a node is gone without a word, and ends its session.
const KEEPALIVES: &str =
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3";
const CHANNEL: &str = "reelhook";
/// Least time between two notifications; commits in between are told by one.
const NOTIFY_PAUSE: Duration = Duration::from_millis(10);
/// Any number will do; every node must use the same.
const MIGRATION_LOCK: i64 = 0x7265_656c_686f_6f6b;
/// Those who lost a race take turns at this one.
const TURN_LOCK: i64 = MIGRATION_LOCK + 1;
/// Shared by all nodes that live, each on the connection it listens with.
const PRESENCE_LOCK: i64 = MIGRATION_LOCK + 2;
/// The server may need a moment to see that a killed node is gone.
const ALONE_PATIENCE_MS: u32 = 100;

pub(super) struct Postgres {
    writes: Option<Sender<Box<dyn Work>>>,
    reads: Option<Sender<Box<dyn Work>>>,
    threads: Vec<JoinHandle<()>>,
    /// No other node lived when this one started.
    pub(super) started_alone: bool,
    /// Of this node.
    pub(super) callers: Callers,
    /// Dropped to end listener and notifier, which are not waited for: they may sit in a read.
    _stop: Sender<()>,
}

pub(super) fn open(url: &str, bell: Bell, now: i64) -> Result<Postgres> {
    let server = server(url)?;
    let mut first = Connection::open(&server)?;
    first
        .client
        // One of a large store takes its time, and nodes that start meanwhile wait for it.
        .batch_execute(&format!("SET statement_timeout = 0; SELECT pg_advisory_lock({MIGRATION_LOCK})"))
        .map_err(|e| sort(&e))?;
    migrate::run(&mut Tx::postgres(PostgresTx(&mut first)), now)?;
    first
        .client
        .batch_execute(&format!(
            "SELECT pg_advisory_unlock({MIGRATION_LOCK}); SET statement_timeout = {STATEMENT_TIMEOUT_MS}"
        ))
        .map_err(|e| sort(&e))?;
    refuse_transaction_pooler(&server, &mut first)?;
    let started_alone = enter(&mut first)?;
    let (writes, write_queue) = bounded(QUEUE);
    let (reads, read_queue) = bounded(QUEUE);
    let (told, tell) = bounded(1);
    let mut threads = vec![];
    for n in 0..WRITERS + READERS {
        let writes = n < WRITERS;
        let queue: Receiver<Box<dyn Work>> = if writes { write_queue.clone() } else { read_queue.clone() };
        let (server, bell, told) = (server.clone(), bell.clone(), told.clone());
        threads.push(spawn(move || {
            work_loop(&server, &queue, writes, || {
                bell.ring();
                // Full when one is waiting already, which will do for this commit, too.
                let _ = told.try_send(());
            });
        })?);
    }
    let (stop, stopped) = bounded(0);
    let own = Arc::new(AtomicI32::new(0));
    let (others, own_too, stopped_too) = (server.clone(), own.clone(), stopped.clone());
    drop(spawn(move || notify(&others, &tell, &own_too, &stopped_too))?);
    drop(spawn(move || listen(first, &server, &bell, &own, &stopped))?);
    let callers = Callers::default();
    Ok(Postgres { writes: Some(writes), reads: Some(reads), threads, started_alone, callers, _stop: stop })
}

/// Takes this node's share of the presence lock. Whether no other node had one.
fn enter(connection: &mut Connection) -> Result<bool> {
    let all = format!("SET lock_timeout = {ALONE_PATIENCE_MS}; SELECT pg_advisory_lock({PRESENCE_LOCK})");
    let alone = match connection.client.batch_execute(&all) {
        Ok(()) => true,
        Err(e) if e.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => false,
        Err(e) => return Err(sort(&e)),
    };
    // The share is taken before the whole is given back, so there is no moment without either.
    let back = if alone { format!("SELECT pg_advisory_unlock({PRESENCE_LOCK})") } else { String::new() };
    let share = format!("SET lock_timeout = 0; SELECT pg_advisory_lock_shared({PRESENCE_LOCK}); {back}");
    connection.client.batch_execute(&share).map_err(|e| sort(&e))?;
    Ok(alone)
}

/// Where it is and how it is spoken to.
#[derive(Clone)]
struct Server {
    config: Config,
    tls: MakeRustlsConnect,
}

fn server(url: &str) -> Result<Server> {
    let (mut config, trust) =
        address::read(url).map_err(|why| Error::Unfit(format!("the address: {why}")))?;
    config.connect_timeout(CONNECT_TIMEOUT);
    config.tcp_user_timeout(TCP_USER_TIMEOUT);
    config.application_name("reelhook");
    Ok(Server { config, tls: tls::connector(&trust)? })
}

/// Listening and prepared statements belong to a session. Behind a pooler that lends a session
/// per transaction they would fail at random, later; so that is found out now.
fn refuse_transaction_pooler(server: &Server, first: &mut Connection) -> Result<()> {
    let before = first.backend()?;
    let mut second = Connection::open(server)?;
    second.client.batch_execute("BEGIN; SELECT 1").map_err(|e| sort(&e))?;
    let after = first.backend()?;
    if before == after {
        return Ok(());
    }
    Err(Error::Unfit(
        "the database address leads to a pooler in transaction mode; give reelhook the server itself \
         or a pool in session mode"
            .into(),
    ))
}

impl Postgres {
    /// The runner's writes need no queue of their own: understanding, which is most of them, gives way by itself
    /// (`callers.rs`), and callers find another thread.
    pub(super) fn submit(&self, access: Access, work: Box<dyn Work>) -> Result<()> {
        let queue = if access == Access::Read { &self.reads } else { &self.writes };
        let queue = queue.as_ref().ok_or(Error::Closed)?;
        queue.try_send(work).map_err(|e| match e {
            TrySendError::Full(_) => Error::Busy,
            TrySendError::Disconnected(_) => Error::Closed,
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.writes.take());
        drop(self.reads.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A statement to the server itself, outside of any transaction. Blocks.
pub(super) fn administer(address: &str, statement: &str) -> Result<()> {
    Connection::open(&server(address)?)?.client.batch_execute(statement).map_err(|e| sort(&e))
}

/// How a setting of the server stands. Blocks.
pub(super) fn show(address: &str, setting: &str) -> Result<String> {
    let mut connection = Connection::open(&server(address)?)?;
    let row = connection.client.query_one(&format!("SHOW {setting}"), &[]).map_err(|e| sort(&e))?;
    row.try_get(0).map_err(|e| sort(&e))
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("reelhook-pg".to_owned())
        .spawn(work)
        .map_err(|e| Error::Unavailable(format!("no thread for the database: {e}")))
}

struct Connection {
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Connection {
    fn open(server: &Server) -> Result<Self> {
        let mut client = server.config.connect(server.tls.clone()).map_err(|e| sort(&e))?;
        client
            .batch_execute(&format!(
                "SET statement_timeout = {STATEMENT_TIMEOUT_MS}; SET client_min_messages = warning; \
                 SET idle_in_transaction_session_timeout = {STATEMENT_TIMEOUT_MS}; {KEEPALIVES}"
            ))
            .map_err(|e| sort(&e))?;
        Ok(Self { client, statements: HashMap::new() })
    }

    fn backend(&mut self) -> Result<i32> {
        let row = self.client.query_one("SELECT pg_backend_pid()", &[]).map_err(|e| sort(&e))?;
        row.try_get(0).map_err(|e| sort(&e))
    }
}

fn work_loop(server: &Server, queue: &Receiver<Box<dyn Work>>, writes: bool, rung: impl Fn()) {
    let mut connection: Option<Connection> = None;
    while let Ok(mut work) = queue.recv() {
        if connection.as_ref().is_none_or(|c| c.client.is_closed()) {
            connection = match Connection::open(server) {
                Ok(fresh) => Some(fresh),
                Err(e) => {
                    work.answer(Err(e));
                    continue;
                }
            };
        }
        let Some(open) = connection.as_mut() else { continue };
        let result = run(open, server, &mut work, writes);
        if matches!(result, Err(Error::Unavailable(_))) {
            connection = None;
        }
        if matches!(result, Ok(true)) {
            rung();
        }
        work.answer(result.map(|_| ()));
    }
}

/// Runs the closure until it commits or can not. Whether it asked for the bell.
fn run(connection: &mut Connection, server: &Server, work: &mut Box<dyn Work>, writes: bool) -> Result<bool> {
    let mut begin =
        if writes { "BEGIN" } else { "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" }.to_owned();
    for run in 0..MAX_RUNS {
        match connection.client.batch_execute(&begin).map_err(|e| sort(&e)) {
            // The server was restarted, or let go of us, since the last use; nothing has begun.
            Err(Error::Unavailable(_)) if run == 0 => {
                *connection = Connection::open(server)?;
                connection.client.batch_execute(&begin).map_err(|e| sort(&e))?;
            }
            begun => begun?,
        }
        match attempt(connection, work) {
            Err(Error::Conflict) => {
                connection.client.batch_execute("ROLLBACK").map_err(|e| sort(&e))?;
                // Losers that raced each other again would starve one another. The lock is taken
                // while nothing else is held, so it cannot be part of a deadlock.
                begin = format!("BEGIN; SELECT pg_advisory_xact_lock({TURN_LOCK})");
            }
            Err(e) => {
                // The connection may be what failed; the next use finds out.
                let _ = connection.client.batch_execute("ROLLBACK");
                return Err(e);
            }
            done => return done,
        }
    }
    Err(Error::Conflict)
}

fn attempt(connection: &mut Connection, work: &mut Box<dyn Work>) -> Result<bool> {
    let mut tx = Tx::postgres(PostgresTx(connection));
    work.run(&mut tx)?;
    let rung = tx.has_rung();
    drop(tx);
    connection.client.batch_execute("COMMIT").map_err(|e| sort(&e))?;
    Ok(rung)
}

/// Tells the other nodes of commits, after them and on a connection of its own: a transaction that
/// notifies holds a lock of the whole server while it commits, and all would take turns at it.
/// A notification that is lost costs a node one nap at most, so failures are not made good.
fn notify(server: &Server, tell: &Receiver<()>, own: &AtomicI32, stop: &Receiver<()>) {
    let mut connection: Option<Connection> = None;
    while tell.recv().is_ok() {
        connection = connection.filter(|c| !c.client.is_closed()).or_else(|| {
            let mut fresh = Connection::open(server).ok()?;
            own.store(fresh.backend().ok()?, Ordering::Relaxed);
            // Nothing is written that a crash could lose.
            fresh.client.batch_execute("SET synchronous_commit = off").ok()?;
            Some(fresh)
        });
        if let Some(open) = connection.as_mut() {
            let _ = open.client.batch_execute(&format!("NOTIFY {CHANNEL}"));
        }
        if stop.recv_timeout(NOTIFY_PAUSE) != Err(RecvTimeoutError::Timeout) {
            return;
        }
    }
}

/// Rings our bell when another node has committed. A lost connection is only reopened; the presence
/// lock is held by whichever is open.
fn listen(first: Connection, server: &Server, bell: &Bell, own: &AtomicI32, stop: &Receiver<()>) {
    let waits = |pause| stop.recv_timeout(pause) == Err(RecvTimeoutError::Timeout);
    let again = || {
        let mut fresh = Connection::open(server)?;
        enter(&mut fresh).map(|_| fresh)
    };
    let mut next = Ok(first);
    loop {
        if let Ok(mut connection) = next
            && connection.client.batch_execute(&format!("LISTEN {CHANNEL}")).is_ok()
        {
            bell.ring();
            while waits(Duration::ZERO) {
                let heard = {
                    let mut notifications = connection.client.notifications();
                    notifications.timeout_iter(Duration::from_secs(1)).next()
                };
                match heard {
                    Ok(Some(note)) if note.process_id() == own.load(Ordering::Relaxed) => {}
                    Ok(Some(_)) => bell.ring(),
                    Ok(None) if !connection.client.is_closed() => {}
                    Ok(None) | Err(_) => break,
                }
            }
        }
        if !waits(Duration::from_secs(1)) {
            return;
        }
        next = again();
    }
}

pub(super) struct PostgresTx<'a>(&'a mut Connection);

impl PostgresTx<'_> {
    fn prepared(&mut self, sql: &str) -> Result<Statement> {
        if let Some(found) = self.0.statements.get(sql) {
            return Ok(found.clone());
        }
        // One text for both engines: `?1` here is `$1` there. No statement holds a literal `?`.
        let text = sql.replace('?', "$");
        let statement = self.0.client.prepare(&text).map_err(|e| sort(&e))?;
        self.0.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    pub(super) fn execute(&mut self, sql: &str, params: &[Param]) -> Result<u64> {
        let statement = self.prepared(sql)?;
        self.0.client.execute(&statement, &refs(params)).map_err(|e| sort(&e))
    }

    pub(super) fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        let statement = self.prepared(sql)?;
        let rows = self.0.client.query(&statement, &refs(params)).map_err(|e| sort(&e))?;
        rows.iter().map(read).collect()
    }

    /// Several statements without parameters.
    pub(super) fn batch(&mut self, sql: &str) -> Result<()> {
        self.0.client.batch_execute(sql).map_err(|e| sort(&e))
    }
}

fn refs<'a>(params: &'a [Param<'a>]) -> Vec<&'a (dyn ToSql + Sync)> {
    params.iter().map(|p| p as &(dyn ToSql + Sync)).collect()
}

fn read(row: &postgres::Row) -> Result<Row> {
    let value = |i: usize| -> std::result::Result<Value, postgres::Error> {
        Ok(match *row.columns()[i].type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(i)?.map_or(Value::Null, Value::Int),
            Type::INT4 => row.try_get::<_, Option<i32>>(i)?.map_or(Value::Null, |v| Value::Int(v.into())),
            Type::BOOL => row.try_get::<_, Option<bool>>(i)?.map_or(Value::Null, |v| Value::Int(v.into())),
            Type::BYTEA => row.try_get::<_, Option<Vec<u8>>>(i)?.map_or(Value::Null, Value::Bytes),
            _ => row.try_get::<_, Option<String>>(i)?.map_or(Value::Null, Value::Text),
        })
    };
    let values = (0..row.len()).map(|i| value(i).map_err(|e| sort(&e)));
    Ok(Row(values.collect::<Result<_>>()?))
}

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut bytes::BytesMut,
    ) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Param::Null => Ok(IsNull::Yes),
            Param::Int(v) if *ty == Type::INT4 => i32::try_from(*v)?.to_sql(ty, out),
            Param::Int(v) => v.to_sql(ty, out),
            Param::Text(v) => storable(v).to_sql(ty, out),
            Param::Bytes(v) => v.to_sql(ty, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// By SQLSTATE class, never by words.
fn sort(e: &postgres::Error) -> Error {
    let Some(state) = e.code() else {
        return Error::Unavailable(crate::net::causes(e));
    };
    if *state == SqlState::T_R_SERIALIZATION_FAILURE || *state == SqlState::T_R_DEADLOCK_DETECTED {
        return Error::Conflict;
    }
    if *state == SqlState::DISK_FULL {
        return Error::DiskFull(crate::net::causes(e));
    }
    // 08 connection, 25 read-only primary, 28 and 3D during a failover, 53 resources, 57 shutdown or
    // cancelled, 58 system.
    match &state.code()[..2] {
        "08" | "25" | "28" | "3D" | "53" | "57" | "58" => Error::Unavailable(crate::net::causes(e)),
        _ => Error::Bug(crate::net::causes(e)),
    }
}
