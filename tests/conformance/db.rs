//! `Db` itself: what a closure may do to itself and to those it is committed with, and the bell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reelhook::domain::time::DAY;
use reelhook::params;
use reelhook::store::{Bell, Db, Error, Tx, setting};

use crate::harness::{NOW, Store, cases, soon};

cases![
    a_failing_closure_takes_nobody_with_it,
    a_panicking_closure_is_a_bug_and_the_engine_lives_on,
    a_swallowed_fault_is_not_committed,
    what_takes_nothing_is_told_of_until_something_could_be_written,
    whoever_understands_rests_while_somebody_writes,
    what_met_a_full_disk_together_is_told_the_truth,
    a_broken_constraint_undoes_what_came_before_it,
    a_read_cannot_write,
    a_server_tells_its_time,
    the_runners_writes_have_their_turn_while_callers_never_stop,
    nor_do_ever_so_many_callers_keep_it_from_being_written,
    nobody_is_waited_for_in_a_transaction,
    a_read_sees_one_state_of_the_data,
    the_bell_rings_after_a_commit_and_only_then,
    every_kind_of_value_reads_back,
    a_lie_in_a_row_is_told,
    what_is_written_behind_is_written_while_callers_write_on,
];

async fn put(store: &Store, name: &'static str) {
    store.write(move |tx| setting::put(tx, name, "x")).await;
}

async fn names(store: &Store) -> i64 {
    store.count("SELECT COUNT(*) FROM setting").await
}

async fn a_server_tells_its_time(store: Store) {
    let before = store.read(|tx| tx.server_time()).await;
    let after = store.read(|tx| tx.server_time()).await;
    assert_eq!(before.is_some(), store.db.engine() == "postgres");
    assert!(before <= after && after.is_none_or(|at| at > NOW - 365 * DAY), "{before:?} {after:?}");
}

async fn a_failing_closure_takes_nobody_with_it(store: Store) {
    // Asked for together, so that SQLite commits them together.
    let writes = (0..40).map(|n| {
        let db = store.db.clone();
        async move {
            db.write(move |tx| {
                setting::put(tx, &format!("n{n}"), "x")?;
                match n % 4 {
                    0 => Err(Error::Bug("on purpose".to_owned())),
                    1 => tx.execute("INSERT INTO nowhere VALUES (1)", &[]).map(|_| ()),
                    _ => Ok(()),
                }
            })
            .await
        }
    });
    let done = futures_util::future::join_all(writes).await;
    for (n, done) in done.iter().enumerate() {
        assert_eq!(done.is_ok(), n % 4 > 1, "{n}: {done:?}");
    }
    assert_eq!(names(&store).await, 20);
    let kept = store.read(|tx| setting::find(tx, "n4")).await;
    assert_eq!(kept, None, "what the failing one wrote is gone");
}

async fn a_panicking_closure_is_a_bug_and_the_engine_lives_on(store: Store) {
    let panics = (0..20).map(|n| {
        let db = store.db.clone();
        async move {
            db.write(move |tx| {
                setting::put(tx, &format!("n{n}"), "x")?;
                assert!(n % 2 == 0, "on purpose");
                Ok(())
            })
            .await
        }
    });
    for (n, done) in futures_util::future::join_all(panics).await.into_iter().enumerate() {
        assert_eq!(matches!(done, Err(Error::Bug(_))), n % 2 == 1, "{n}: {done:?}");
    }
    let read = store.db.read(|_| -> Result<(), Error> { panic!("on purpose") }).await;
    assert!(matches!(&read, Err(e @ Error::Bug(_)) if !e.may_pass()), "{read:?}");
    assert_eq!(names(&store).await, 10);
}

/// PostgreSQL would answer such a commit with a rollback and no fault.
async fn a_swallowed_fault_is_not_committed(store: Store) {
    let careless = |tx: &mut Tx| {
        setting::put(tx, "before", "x")?;
        let _ = tx.execute("INSERT INTO setting (name, value) VALUES ('before', 'twice')", &[]);
        Ok(())
    };
    let done = store.db.write(careless).await;
    assert!(matches!(done, Err(Error::Bug(_))), "{done:?}");
    assert_eq!(names(&store).await, 0);
}

/// As on a file system that turned read-only, and a primary that was demoted.
fn read_only(engine: &str, tx: &mut Tx) -> reelhook::store::Result<()> {
    let (on, off) = match engine {
        "sqlite" => ("PRAGMA query_only = 1", "PRAGMA query_only = 0"),
        _ => ("SET TRANSACTION READ ONLY", "ROLLBACK"),
    };
    tx.query(on, &[])?;
    let put = setting::put(tx, "refused", "x");
    tx.query(off, &[])?;
    put
}

/// As much as there is and no more, or the answer of a server that has no more.
fn without_room(engine: &str, tx: &mut Tx) -> reelhook::store::Result<()> {
    let limit = match engine {
        "sqlite" => "PRAGMA max_page_count = 1",
        _ => "DO $$ BEGIN RAISE 'no room' USING ERRCODE = '53100'; END $$",
    };
    tx.query(limit, &[])?;
    setting::put(tx, "large", &"x".repeat(1_000_000))
}

async fn what_takes_nothing_is_told_of_until_something_could_be_written(store: Store) {
    assert!(!store.db.takes_nothing());
    let engine = store.db.engine();
    let told = store.db.write(move |tx| without_room(engine, tx)).await;
    assert!(matches!(&told, Err(e @ Error::DiskFull(_)) if e.may_pass()), "{told:?}");
    assert!(store.db.takes_nothing());
    store.write(|_| Ok(())).await;
    store.read(|tx| setting::find(tx, "large")).await;
    assert!(store.db.takes_nothing(), "neither needs room");
    put(&store, "small").await;
    assert!(!store.db.takes_nothing());
    let told = store.db.write(move |tx| read_only(engine, tx)).await;
    assert!(matches!(&told, Err(e @ Error::Unavailable(_)) if e.may_pass()), "{told:?}");
    assert!(store.db.takes_nothing());
    put(&store, "small").await;
    assert!(!store.db.takes_nothing());
}

/// SQLite ends the transaction of them all when one meets a full disk.
async fn what_met_a_full_disk_together_is_told_the_truth(store: Store) {
    // Nothing is begun before all are there, so that they are taken together where that is done.
    let (go, gate) = crossbeam_channel::bounded::<()>(0);
    let held = store.db.write(move |_| {
        let _ = gate.recv();
        Ok(())
    });
    let all = (0..9).map(|n| {
        let db = store.db.clone();
        async move {
            let engine = db.engine();
            let write = move |tx: &mut Tx| {
                setting::put(tx, &format!("n{n}"), "x")?;
                if n == 4 { without_room(engine, tx) } else { Ok(()) }
            };
            db.write(write).await
        }
    });
    let go = async move { drop(go) };
    let (_, told, ()) = futures_util::future::join3(held, futures_util::future::join_all(all), go).await;
    assert!(matches!(told[4], Err(Error::DiskFull(_))), "{:?}", told[4]);
    for (n, told) in told.into_iter().enumerate() {
        let kept = store.read(move |tx| setting::find(tx, &format!("n{n}"))).await.is_some();
        assert_eq!(kept, told.is_ok(), "the {n}th: {told:?}");
    }
}

async fn a_broken_constraint_undoes_what_came_before_it(store: Store) {
    put(&store, "taken").await;
    let done = store
        .db
        .write(|tx| {
            setting::put(tx, "new", "x")?;
            tx.execute("INSERT INTO setting (name, value) VALUES ('taken', 'y')", &[])
        })
        .await;
    assert!(matches!(done, Err(Error::Bug(_))), "{done:?}");
    assert_eq!(names(&store).await, 1);
}

async fn the_runners_writes_have_their_turn_while_callers_never_stop(store: Store) {
    let (done, mut seen) = tokio::sync::watch::channel(false);
    let runner = async {
        for n in 0..20 {
            let put = store.db.write_behind(move |tx| setting::put(tx, &format!("n{n}"), "x"));
            put.await.expect("the runner's write");
        }
        let failed = store.db.write_behind(|_| Err::<(), _>(Error::Conflict)).await;
        assert!(matches!(failed, Err(Error::Conflict)), "{failed:?}");
        done.send(true).expect("callers look");
    };
    let callers = async {
        while !*seen.borrow_and_update() {
            let four = (0..4).map(|_| store.db.write(|tx| setting::put(tx, "caller", "x")));
            for done in futures_util::future::join_all(four).await {
                done.expect("a caller's write");
            }
        }
    };
    soon("turn of the runner", futures_util::future::join(runner, callers)).await;
    assert_eq!(names(&store).await, 21);
}

/// A node that froze in one, or was cut off, would hold up all others by its locks. SQLite has no others.
async fn nobody_is_waited_for_in_a_transaction(store: Store) {
    if store.db.engine() == "sqlite" {
        return;
    }
    let setting = |name: &'static str| {
        store.write(move |tx| {
            let row = tx.one("SELECT current_setting(?1)", params![name])?;
            row.expect("a row").text(0)
        })
    };
    assert_eq!(setting("idle_in_transaction_session_timeout").await, "15s");
    assert_eq!(setting("statement_timeout").await, "15s");
    assert_eq!(setting("tcp_keepalives_idle").await, "15");
}

async fn a_read_cannot_write(store: Store) {
    let done = store.db.read(|tx| setting::put(tx, "n", "x")).await;
    assert!(done.is_err(), "{done:?}");
    assert_eq!(names(&store).await, 0);
    put(&store, "n").await;
}

async fn a_read_sees_one_state_of_the_data(store: Store) {
    let (to_reader, from_writer) = std::sync::mpsc::channel::<()>();
    let (to_writer, from_reader) = tokio::sync::oneshot::channel::<()>();
    let from_writer = std::sync::Mutex::new(from_writer);
    let to_writer = std::sync::Mutex::new(Some(to_writer));
    let read = store.db.read(move |tx| {
        let first = tx.query("SELECT name FROM setting", &[])?.len();
        let told = to_writer.lock().expect("one reader").take();
        told.expect("a read runs once").send(()).expect("the case waits");
        from_writer.lock().expect("one reader").recv().expect("the case answers");
        Ok((first, tx.query("SELECT name FROM setting", &[])?.len()))
    });
    let write = async {
        from_reader.await.expect("the reader looked");
        put(&store, "meanwhile").await;
        to_reader.send(()).expect("the reader waits");
    };
    let (read, ()) = soon("answer", futures_util::future::join(read, write)).await;
    assert_eq!(read.expect("a read"), (0, 0));
    assert_eq!(names(&store).await, 1);
}

async fn the_bell_rings_after_a_commit_and_only_then(store: Store) {
    let bell = Bell::default();
    let mut early = bell.arm();
    bell.ring();
    assert!(early.has_changed().expect("the bell is there"));
    early.mark_unchanged();
    assert!(!bell.arm().has_changed().expect("the bell is there"), "armed later, it heard nothing");

    let rung = |name: &'static str| {
        let db: Db = store.db.clone();
        async move {
            let armed = db.bell.arm();
            let done = db
                .write(move |tx| {
                    tx.ring();
                    setting::put(tx, name, "x")?;
                    if name == "fails" { Err(Error::Conflict) } else { Ok(()) }
                })
                .await;
            (armed, done.is_ok())
        }
    };
    let (mut armed, _) = rung("a").await;
    soon("ring", armed.changed()).await.expect("the bell is there");
    // On PostgreSQL our own notifications come back to us whenever they like.
    if !store.is_postgres() {
        let (armed, done) = rung("fails").await;
        assert!(!done && !armed.has_changed().expect("the bell is there"));
        let armed = store.db.bell.arm();
        put(&store, "silent").await;
        assert!(!armed.has_changed().expect("the bell is there"));
    }
}

async fn every_kind_of_value_reads_back(store: Store) {
    let bytes: Vec<u8> = (0..=255).collect();
    let expected = bytes.clone();
    store
        .write(move |tx| {
            tx.execute(
                "INSERT INTO inbox (id, dedup_key, received_at, verdict, path, body, remote, headers) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, '')",
                params!["ünï ✓ 'q'", &[0_u8, 1, 255], i64::MIN, "signed", "", &bytes, None::<&str>],
            )
        })
        .await;
    // Booleans are integers, on both engines.
    store.write(|tx| tx.execute("UPDATE upstream_limit SET slots = ?1", params![true])).await;
    let sql = "SELECT inbox.id, dedup_key, received_at, path, slots, body, remote FROM inbox, upstream_limit";
    let mut row = store.read(move |tx| tx.one(sql, &[])).await.expect("the row");
    assert_eq!(row.text(0).expect("text"), "ünï ✓ 'q'");
    assert_eq!(row.bytes(1).expect("bytes"), [0, 1, 255]);
    assert_eq!(row.int(2).expect("an integer"), i64::MIN);
    assert_eq!(row.opt_text(3).expect("text").as_deref(), Some(""), "empty is not null");
    assert_eq!(row.opt_int(4).expect("a truth"), Some(1));
    assert_eq!(row.bytes(5).expect("bytes"), expected);
    assert_eq!(row.opt_text(6).expect("null"), None);
}

async fn a_lie_in_a_row_is_told(store: Store) {
    put(&store, "n").await;
    let mut row = store.read(|tx| tx.one("SELECT name, NULL FROM setting", &[])).await.expect("the row");
    assert!(row.opt_int(0).is_err(), "text is no integer");
    let mut row = store.read(|tx| tx.one("SELECT name, NULL FROM setting", &[])).await.expect("the row");
    assert!(row.int(1).is_err() && row.text(1).is_err() && row.bytes(1).is_err(), "null is no value");
    assert_eq!((row.opt_int(1).is_ok(), row.text(0).is_ok()), (true, true));
    assert!(row.text(2).is_err(), "there is no third column");
}

async fn what_is_written_behind_is_written_while_callers_write_on(store: Store) {
    let mut callers = vec![];
    let mut behind = vec![];
    for n in 0..200 {
        let db = store.db.clone();
        callers.push(async move { db.write(move |tx| setting::put(tx, &format!("caller{n}"), "x")).await });
        let db = store.db.clone();
        behind.push(
            async move { db.write_behind(move |tx| setting::put(tx, &format!("behind{n}"), "x")).await },
        );
    }
    let all = futures_util::future::join(
        futures_util::future::join_all(callers),
        futures_util::future::join_all(behind),
    );
    let (callers, behind) = all.await;
    assert!(callers.into_iter().chain(behind).all(|done| done.is_ok()));
    assert_eq!(names(&store).await, 400, "nobody starves");
}

/// Each of them asks again at once, and there are more than fit into one commit.
async fn nor_do_ever_so_many_callers_keep_it_from_being_written(store: Store) {
    let is_done = AtomicBool::new(false);
    let call = async |n: usize| {
        while !is_done.load(Ordering::Relaxed) {
            store.db.write(move |tx| setting::put(tx, &format!("caller{n}"), "x")).await.expect("a write");
        }
    };
    let behind = async {
        for n in 0..3 {
            let put = move |tx: &mut Tx| setting::put(tx, &format!("behind{n}"), "x");
            store.db.write_behind(put).await.expect("a write");
        }
        is_done.store(true, Ordering::Relaxed);
    };
    let callers = futures_util::future::join_all((0..600).map(call));
    soon("turn of the runner", futures_util::future::join(callers, behind)).await;
}

/// Seen from within a write, so that somebody waits for one. On SQLite the one who writes sees to it.
async fn whoever_understands_rests_while_somebody_writes(store: Store) {
    let turn = Duration::from_millis(10);
    let rest_of = async |behind: Duration| {
        let db = store.db.clone();
        store.db.write(move |_| Ok(db.rest_after(turn, behind))).await.expect("a write")
    };
    let wanted = if store.db.engine() == "postgres" { turn * 3 } else { Duration::ZERO };
    assert_eq!(rest_of(Duration::ZERO).await, wanted);
    assert_eq!(rest_of(Duration::from_secs(5)).await, Duration::ZERO, "they have waited long enough");
}
