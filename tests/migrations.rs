//! Migrations as they happen in the field: each is applied to a database that holds rows of the
//! schema before it, and may only add, so that a program of the version before keeps working.

use std::path::Path;

use sha2::{Digest, Sha256};

use reelhook::domain::job::State;
use reelhook::store::db::Address;
use reelhook::store::{Db, job};

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

/// What the program itself would have written after its first `count` migrations.
fn history(count: usize) -> String {
    let mut text = "CREATE TABLE migration (number BIGINT PRIMARY KEY, name TEXT NOT NULL, \
                    digest TEXT NOT NULL, applied_at BIGINT NOT NULL);"
        .to_owned();
    for (at, (number, name, sql)) in migrations().into_iter().take(count).enumerate() {
        let digest = hex::encode(Sha256::digest(sql.as_bytes()));
        text += &format!("{sql}; INSERT INTO migration VALUES ({number}, '{name}', '{digest}', 0);");
        if at == 0 {
            text += &sample_rows();
        }
    }
    text
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

/// From each version there ever was, with rows in it, to the present one.
fn every_version_is_brought_up_to_date(fresh: impl Fn() -> database::Fresh) {
    for count in 1..=migrations().len() {
        let fresh = fresh();
        run(&fresh.address, &history(count));
        let db = Db::open(&fresh.address, 1).expect("an older database opens");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let list = db.read(|tx| job::list(tx, &job::Filter::default(), None, 99));
        let jobs = runtime.block_on(list).expect("its jobs are read");
        let states: Vec<State> = jobs.iter().rev().map(|job| job.state).collect();
        assert_eq!(states, State::ALL, "after migration {count}");
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
