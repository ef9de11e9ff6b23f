//! `reelhook selftest` as its users meet it: short runs that must end well, and ways in which one ends
//! that is not left alone. It does its own waiting; here nothing is waited for but its lines and its end.

use std::process::Stdio;

use reelhook::clock::Clock;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use crate::{Ran, run, run_in};

const PROMISES: [&str; 7] =
    ["lost_jobs", "double_jobs", "paid_twice", "lost_receipts", "stuck", "wrong_final", "not_told_once"];

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn is_empty(directory: &TempDir) -> bool {
    std::fs::read_dir(directory.path()).expect("it is there").next().is_none()
}

fn all_is_kept(ran: Ran) {
    let report = ran.expect(0).json();
    let promises = report["promises"].as_array().expect("promises");
    let names: Vec<&str> = promises.iter().filter_map(|row| row["name"].as_str()).collect();
    assert_eq!((names.as_slice(), &report["kept"]), (&PROMISES[..], &Value::Bool(true)), "{report:#}");
    for row in promises {
        assert_eq!((&row["broken"], &row["ids"]), (&0.into(), &Value::Array(vec![])), "{row}");
    }
    let figures = &report["figures"];
    assert_eq!(figures["kills"], 2, "{report:#}");
    for name in ["jobs", "receipts"] {
        assert!(figures[name].as_u64().unwrap() > 0, "{name}: {report:#}");
    }
    assert!(figures["recovery_ms"]["max"].as_f64() >= figures["recovery_ms"]["p50"].as_f64(), "{report:#}");
    for name in ["version", "store", "processor", "seed"] {
        assert!(report["conditions"][name].as_str().is_some_and(|text| !text.is_empty()), "{name}");
    }
}

#[tokio::test]
async fn a_short_run_on_sqlite_keeps_every_promise_and_leaves_nothing() {
    let place = directory();
    let args = ["selftest", "--kills", "2", "--dir", place.path().to_str().unwrap()];
    // What is in the environment is for the user's own server, and not for the one that is killed.
    let real = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"), ("HEYGEN_API_KEY", "a real one")];
    let ran = run_in(&real, &args, "").await;
    for words in
        ["2 times; this takes about 4s, 4m at most", "1 of 2 kills", "2 of 2 kills", "then comparing"]
    {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    all_is_kept(ran);
    assert!(is_empty(&place), "it removes what it made");
}

#[tokio::test]
async fn a_short_run_on_postgres_keeps_every_promise_and_leaves_nothing() {
    let server = server();
    let args = ["selftest", "--kills", "2", "--database", &server];
    let ran = run(&args).await;
    let name = database_of(&ran.err);
    all_is_kept(ran);
    assert_eq!(databases_called(&server, &name).await, 0, "it drops what it made");
}

fn database_of(said: &str) -> String {
    let name = said.split("its database: ").nth(1).and_then(|rest| rest.lines().next());
    name.unwrap_or_else(|| panic!("it names its database: {said}")).to_owned()
}

async fn databases_called(server: &str, name: &str) -> usize {
    let (server, name) = (server.to_owned(), name.to_owned());
    let count = tokio::task::spawn_blocking(move || {
        let mut client = postgres::Client::connect(&server, postgres::NoTls).expect("the server answers");
        client.query("SELECT FROM pg_database WHERE datname = $1", &[&name]).expect("a list").len()
    });
    count.await.expect("no panic")
}

#[tokio::test]
async fn a_table_fits_eighty_columns() {
    let args = ["selftest", "--kills", "1", "--output", "table", "--quiet"];
    let ran = run_in(&[("COLUMNS", "80"), ("NO_COLOR", "1")], &args, "").await.expect(0);
    assert!(ran.out.lines().all(|line| line.chars().count() <= 80), "{}", ran.out);
    for words in ["PROMISE", "TIMES", "BROKEN", "No job is paid for twice", "recovery", "processor", "seed"] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    assert!(!ran.out.contains('\u{1b}') && ran.err.is_empty(), "{}{}", ran.out, ran.err);
}

#[tokio::test]
async fn what_cannot_be_tried_is_said_before_anything_is_made() {
    let ran = run(&["selftest", "--database", "reelhook.db"]).await.expect(2);
    assert!(ran.err.contains("must begin with postgres://"), "{}", ran.err);
    run(&["selftest", "--kills", "0"]).await.expect(2);
    run(&["selftest", "--kills", "10001"]).await.expect(2);
    run(&["selftest", "--kills", "3", "--full"]).await.expect(2);
    let ran = run(&["selftest", "--dir", "not-there"]).await.expect(2);
    assert!(ran.problem()["detail"].as_str().unwrap().starts_with("--dir not-there: "), "{}", ran.err);
    let place = directory();
    let dir = place.path().to_str().unwrap();
    let ran = run(&["selftest", "--dir", dir, "--database", "postgres://a:b@127.0.0.1:1/c"]).await.expect(1);
    let detail = ran.problem()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("no database of its own") && !detail.contains("a:b"), "{detail}");
    assert!(is_empty(&place));
}

/// A run that goes on until somebody ends it, with a server under it.
struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    /// What it said before the first kill.
    opening: String,
}

impl Running {
    async fn start(place: &TempDir, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_reelhook"))
            .args(["selftest", "--full", "--seed", &patient().to_string(), "--dir"])
            .arg(place.path())
            .args(more)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let mut opening = String::new();
        // The first server is ready by then.
        while !opening.contains("killing a server under load") {
            opening += &lines.next_line().await.expect("text").expect("it says so");
            opening += "\n";
        }
        Self { child, lines, opening }
    }

    fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Its exit code and the problem it ended with.
    async fn end(mut self) -> (i32, Value) {
        let mut last = String::new();
        while let Some(line) = self.lines.next_line().await.expect("text") {
            last = line;
        }
        let status = self.child.wait().await.expect("it ends");
        (status.code().unwrap_or(-1), serde_json::from_str(&last).unwrap_or_else(|e| panic!("{e}: {last}")))
    }
}

/// A seed whose first server is left alone for almost as long as can be: three seconds.
fn patient() -> u64 {
    (1..).find(|seed| Clock::manual(0, *seed).factor(0.1, 3.0) > 2.9).expect("there is one")
}

async fn signal(name: &str, id: u32) {
    let sent = Command::new("kill").args([name, &id.to_string()]).status().await.expect("kill is there");
    assert!(sent.success(), "{name} {id}");
}

/// Processes that run in this directory.
fn servers_in(place: &TempDir) -> Vec<u32> {
    let place = place.path().canonicalize().expect("it is there");
    let of = |entry: std::fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let runs_in = std::fs::read_link(entry.path().join("cwd")).ok()?;
        runs_in.starts_with(&place).then_some(id)
    };
    std::fs::read_dir("/proc").expect("Linux").filter_map(|entry| of(entry.ok()?)).collect()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn ctrl_c_leaves_no_server_and_no_files() {
    let place = directory();
    let running = Running::start(&place, &[]).await;
    assert!(running.opening.contains("200 times; this takes about 7m, 30m at most"), "{}", running.opening);
    assert_eq!(servers_in(&place).len(), 1);
    signal("-INT", running.id()).await;
    let (code, problem) = running.end().await;
    assert_eq!((code, &problem["code"]), (130, &"cli_interrupted".into()), "{problem}");
    assert!(servers_in(&place).is_empty());
    assert!(is_empty(&place));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn ctrl_c_drops_the_database() {
    let (place, server) = (directory(), server());
    let running = Running::start(&place, &["--database", &server]).await;
    let name = database_of(&running.opening);
    assert_eq!(databases_called(&server, &name).await, 1);
    signal("-TERM", running.id()).await;
    assert_eq!(running.end().await.0, 130);
    assert_eq!(databases_called(&server, &name).await, 0, "{name}");
    assert!(servers_in(&place).is_empty() && is_empty(&place));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_that_somebody_else_killed_is_told_and_everything_kept() {
    let place = directory();
    let running = Running::start(&place, &[]).await;
    let servers = servers_in(&place);
    assert_eq!(servers.len(), 1, "one server at a time");
    signal("-KILL", servers[0]).await;
    let (code, problem) = running.end().await;
    assert_eq!((code, &problem["code"]), (1, &"cli_selftest_ended".into()), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("SIGKILL"), "{problem}");
    let hint = problem["hint"].as_str().unwrap();
    assert!(hint.contains(&format!("kept in {}", place.path().canonicalize().unwrap().display())), "{hint}");
    let kept = std::fs::read_dir(place.path()).unwrap().next().unwrap().unwrap().path();
    for name in ["ledger.jsonl", "server.log", "selftest.db"] {
        assert!(kept.join(name).is_file(), "{name}");
    }
}

// The one variable tests read; only config.rs reads those of the program.
#[allow(clippy::disallowed_methods)]
fn server() -> String {
    std::env::var("REELHOOK_TEST_POSTGRES")
        .expect("no REELHOOK_TEST_POSTGRES: run `scripts/test`, which starts a PostgreSQL server and sets it")
}
