//! Migrations as they happen in the field: each is applied to a database that holds rows of the
//! schema before it in every table, and may only add, so that a program of the version before keeps working.

use std::path::Path;

use sha2::{Digest, Sha256};

use reelhook::domain::dead_letter as dead_letters;
use reelhook::domain::job::State;
use reelhook::domain::task::TaskKind;
use reelhook::store::db::Address;
use reelhook::store::{
    Db, Result, Tx, api_key, audit, dead_letter, delivery, endpoint, event, group, idempotency, inbox, job,
    replay, setting, task, upstream_limit, webhook_secret,
};

#[path = "support/database.rs"]
mod database;

/// `(number, name, text)` in order.
fn migrations() -> Vec<(i64, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files = std::fs::read_dir(folder).expect("the folder of migrations");
    let mut all: Vec<_> = files
        .map(|file| {
            let path = file.expect("a file").path();
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let (number, name) = stem.split_once('_').expect("number_name.sql");
            let text = std::fs::read_to_string(&path).expect("a migration");
            (number.parse().expect("a number"), name.to_owned(), text)
        })
        .collect();
    all.sort();
    all
}

/// A job of every state, written as the first schema had it.
fn sample_rows() -> String {
    let mut rows = String::new();
    for (n, state) in State::ALL.into_iter().enumerate() {
        let end = if state.is_terminal() { "5" } else { "NULL" };
        rows += &format!(
            "INSERT INTO job (id, version, kind, state, created_at, updated_at, deadline_at, finished_at, \
             details, search) VALUES ('job_{n}', 1, 'video', '{}', 1, 1, 9, {end}, '{{}}', 'job_{n}');",
            state.name()
        );
    }
    rows
}

/// What the program of each schema wrote into the tables and columns that were new in it. `BYTES` stands before bytes
/// in hexadecimal digits, which the engines write differently.
const WRITTEN: [(i64, &str); 6] = [
    (
        1,
        "INSERT INTO job_request (job_id, body) VALUES ('job_0', '{\"prompt\": \"p\"}');
         INSERT INTO job_label (name, value, job_id) VALUES ('team', 'a', 'job_0');
         INSERT INTO task (subject, kind, lane, due_at, attempt) VALUES ('job_0', 'poll', 2, 7, 1);
         INSERT INTO task (subject, kind, lane, due_at, attempt, dead_at, reason)
             VALUES ('rcp_0', 'apply', 0, 2, 9, 3, 'a body like no other');
         INSERT INTO inbox (id, dedup_key, received_at, verdict, signed_by, path, headers, body)
             VALUES ('rcp_0', BYTES'01', 2, 'signed', 'sec_0', '/webhooks/heygen', '[]', BYTES'7b7d');
         INSERT INTO receipt_note (receipt_id, applied_at, event_type, job_id, parked_under, meaning)
             VALUES ('rcp_0', 3, 'avatar_video.success', 'job_0', 'v_0', 'completed');
         INSERT INTO event (number, id, event_type, job_id, job_sequence, created_at, data)
             VALUES (1, 'evt_0', 'job.queued', 'job_0', 1, 1, '{}');
         UPDATE counter SET value = 1 WHERE name = 'event';
         INSERT INTO setting (name, value) VALUES ('secret', 's');
         INSERT INTO idempotency (owner, idempotency_key, fingerprint, job_id, answer, created_at)
             VALUES ('', 'k', BYTES'02', 'job_0', '{}', 1);
         INSERT INTO api_key (id, name, hash, hint, created_at) VALUES ('key_0', 'ci', BYTES'03', 'rh_…', 1);
         INSERT INTO webhook_secret (id, endpoint_id, url, secret, created_at)
             VALUES ('sec_0', 'e', 'https://app.example', 'whsec_a', 1);
         UPDATE upstream_limit SET slots = 7;",
    ),
    (2, "UPDATE receipt_note SET parked_also = 's_0';"),
    (
        4,
        "INSERT INTO job_group (id, created_at, jobs, open, title) VALUES ('grp_0', 1, 1, 1, 'rows.csv');
         UPDATE job SET group_id = 'grp_0' WHERE id = 'job_0';",
    ),
    (
        5,
        "INSERT INTO endpoint (id, created_at, details) VALUES ('ep_01m7yyrqn8a68yztvzsqbng4pj', 1, '{\"url\": \"https://app.example/\",
             \"filter\": {\"events\": [\"*\"]},
             \"secrets\": [{\"secret\": \"whsec_b\", \"created_at\": 1, \"ends_at\": null}]}');
         UPDATE counter SET endpoints = 1 WHERE name = 'event';
         INSERT INTO delivery (id, event_number, event_id, event_type, job_id, target, created_at, due_at, attempt, attempts)
             VALUES ('dlv_0', 1, 'evt_0', 'job.queued', 'job_0', 'ep_01m7yyrqn8a68yztvzsqbng4pj', 1, 5, 0, '[]');",
    ),
    (
        6,
        "INSERT INTO dead_letter_told (cause, told_at) VALUES ('other', 4);
         INSERT INTO replay (id, created_at, details) VALUES ('rpl_0', 4, '{\"by\": \"ci\", \"filter\": {},
             \"rate\": 10, \"count\": 1, \"done\": 0, \"stopped\": false, \"position\": [0, \"\"]}');
         INSERT INTO audit (id, created_at, who, action, details)
             VALUES ('aud_0', 4, 'ci', 'dead_letter.replay', '{}');",
    ),
    (8, "UPDATE receipt_note SET reader = 1;"),
];

/// What the program itself would have written after its first `count` migrations.
fn history(address: &Address, count: usize) -> String {
    let mut text = "CREATE TABLE migration (number BIGINT PRIMARY KEY, name TEXT NOT NULL, \
                    digest TEXT NOT NULL, applied_at BIGINT NOT NULL);"
        .to_owned();
    for (number, name, sql) in migrations().into_iter().take(count) {
        let digest = hex::encode(Sha256::digest(sql.as_bytes()));
        text += &format!("{sql}; INSERT INTO migration VALUES ({number}, '{name}', '{digest}', 0);");
        if number == 1 {
            text += &sample_rows();
        }
        let written = WRITTEN.iter().filter(|(of, _)| *of == number).map(|(_, rows)| *rows);
        text.extend(written);
    }
    let before_bytes = if address.engine() == "sqlite" { "X'" } else { "'\\x" };
    text.replace("BYTES'", before_bytes)
}

/// Tables without a row: what becomes of them a test would not notice.
fn empty_tables(tx: &mut Tx, engine: &str) -> Result<Vec<String>> {
    let tables = match engine {
        "sqlite" => "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'",
        _ => "SELECT tablename::TEXT FROM pg_tables WHERE schemaname = current_schema()",
    };
    let mut empty = vec![];
    for mut table in tx.query(tables, &[])? {
        let name = table.text(0)?;
        if tx.one(&format!("SELECT 1 FROM {name}"), &[])?.is_none() {
            empty.push(name);
        }
    }
    Ok(empty)
}

/// Everything there is, as the present program reads it; what it does not understand is an error.
fn everything(tx: &mut Tx) -> Result<Vec<(&'static str, usize)>> {
    let dead = dead_letter::list(tx, &dead_letters::Filter::default(), None, 99)?;
    assert!(dead.iter().all(|letter| letter.cause.text() == "other"), "{dead:?}");
    let receipts = inbox::list(tx, &inbox::Filter::default(), None, 99)?;
    // Understood by a program that had another name for its version, or none: which is not known any more.
    assert!(receipts.iter().all(|receipt| receipt.note.wire_version.is_none()), "{receipts:?}");
    assert_eq!(receipts[0].body, b"{}");
    assert_eq!(task::find_due(tx, "job_0", TaskKind::Poll)?, Some(7));
    assert_eq!(event::bounds(tx)?.1, 1);
    upstream_limit::get(tx)?;
    let label = Some(("team".to_owned(), "a".to_owned()));
    let labelled = job::Filter { label, ..job::Filter::default() };
    Ok(vec![
        ("job_request", job::find_request(tx, "job_0")?.iter().count()),
        ("job_label", job::list(tx, &labelled, None, 99)?.len()),
        ("task", dead.len()),
        ("inbox", receipts.len()),
        ("event", event::list(tx, None, 0, 99)?.len()),
        ("setting", setting::find(tx, "secret")?.iter().count()),
        ("idempotency", idempotency::find(tx, "", "k")?.iter().count()),
        ("api_key", api_key::list(tx)?.len()),
        ("webhook_secret", webhook_secret::list_live(tx, 9)?.len()),
        ("job_group", group::list(tx, None, 99)?.len()),
        ("endpoint", endpoint::list(tx)?.len()),
        ("delivery", delivery::list(tx, &delivery::Filter::default(), None, 99)?.len()),
        ("replay", replay::list(tx, None, 99)?.len()),
        ("audit", audit::list(tx, None, 99)?.len()),
    ])
}

fn run(address: &Address, sql: &str) {
    match address {
        Address::Sqlite(path) => {
            let file = rusqlite::Connection::open(path).expect("a file");
            file.execute_batch(sql).expect("the migration runs");
        }
        Address::Postgres(url) => {
            let mut client = postgres::Client::connect(url, postgres::NoTls).expect("the server answers");
            client.batch_execute(sql).expect("the migration runs");
        }
    }
}

/// From each version there ever was, with rows in every table of it, to the present one.
fn every_version_is_brought_up_to_date(fresh: impl Fn() -> database::Fresh) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for count in 1..=migrations().len() {
        let fresh = fresh();
        run(&fresh.address, &history(&fresh.address, count));
        let db = Db::open(&fresh.address, 1).expect("an older database opens");
        let list = db.read(|tx| job::list(tx, &job::Filter::default(), None, 99));
        let jobs = runtime.block_on(list).expect("its jobs are read");
        let states: Vec<State> = jobs.iter().rev().map(|job| job.state).collect();
        assert_eq!(states, State::ALL, "after migration {count}");
        let engine = db.engine();
        let empty = runtime.block_on(db.read(move |tx| empty_tables(tx, engine))).expect("a list");
        let read =
            runtime.block_on(db.read(everything)).unwrap_or_else(|e| panic!("after migration {count}: {e}"));
        for (table, rows) in read {
            assert_eq!(
                rows == 0,
                empty.iter().any(|empty| empty == table),
                "{table}, after migration {count}"
            );
        }
        if count == migrations().len() {
            assert_eq!(empty, [""; 0], "nothing shows what would become of these");
        }
        let done =
            db.read(|tx| tx.one("SELECT COUNT(*) FROM migration", &[])?.map_or(Ok(0), |mut r| r.int(0)));
        let done = runtime.block_on(done).expect("a count");
        assert_eq!(usize::try_from(done), Ok(migrations().len()));
    }
}

#[test]
fn sqlite_is_brought_up_to_date_from_every_version() {
    every_version_is_brought_up_to_date(database::fresh_sqlite);
}

#[test]
fn postgres_is_brought_up_to_date_from_every_version() {
    every_version_is_brought_up_to_date(database::fresh_postgres);
}

#[test]
fn numbers_go_up_by_one() {
    let numbers: Vec<i64> = migrations().into_iter().map(|(number, ..)| number).collect();
    let expected: Vec<i64> = (1..).take(numbers.len()).collect();
    assert_eq!(numbers, expected);
}

/// While nodes are replaced one by one, the version before still runs on the new schema.
fn breaks_the_version_before(sql: &str) -> Vec<&'static str> {
    let code: Vec<&str> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let code = code.join(" ").to_uppercase();
    let words: Vec<&str> = code.split_whitespace().collect();
    let mut found = vec![];
    for (at, word) in words.iter().enumerate() {
        let statement = &words[words[..at].iter().rposition(|w| w.ends_with(';')).map_or(0, |n| n + 1)..at];
        let alters = statement.contains(&"ALTER");
        match *word {
            "DROP" => found.push("DROP"),
            "RENAME" => found.push("RENAME"),
            "TYPE" if alters => found.push("ALTER … TYPE"),
            // A row written by the version before has no value for it.
            "NOT" if alters && words.get(at + 1).is_some_and(|w| w.starts_with("NULL")) => {
                let rest = words[at..].iter().take_while(|w| !w.ends_with(';'));
                if !statement.contains(&"DEFAULT") && !rest.clone().any(|w| *w == "DEFAULT") {
                    found.push("NOT NULL without DEFAULT");
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn after_the_first_a_migration_only_adds() {
    for (number, name, sql) in migrations().into_iter().skip(1) {
        assert_eq!(breaks_the_version_before(&sql), [""; 0], "{number}_{name}");
    }
}

#[test]
fn what_breaks_the_version_before_is_found() {
    for bad in [
        "DROP TABLE job;",
        "ALTER TABLE job RENAME COLUMN a TO b;",
        "ALTER TABLE job ALTER COLUMN a TYPE TEXT;",
        "ALTER TABLE job\n  DROP COLUMN a;",
        "ALTER TABLE job ADD COLUMN a TEXT NOT NULL;",
    ] {
        assert_eq!(breaks_the_version_before(bad).len(), 1, "{bad}");
    }
    for good in [
        "CREATE TABLE x (a TEXT NOT NULL, kind TEXT);",
        "ALTER TABLE job ADD COLUMN a TEXT;\nCREATE TABLE y (event_type TEXT NOT NULL);",
        "ALTER TABLE job ADD COLUMN a BIGINT NOT NULL DEFAULT 0;",
        "-- never DROP\nCREATE INDEX i ON job (id);",
    ] {
        assert_eq!(breaks_the_version_before(good), [""; 0], "{good}");
    }
}
