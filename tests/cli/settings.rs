//! Settings as every command meets them: an unknown name or a broken `.env` stops it, whichever it is,
//! and a reader that has gone stops none.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::canned::{Canned, job};
use crate::{nowhere, run, run_in};

/// One command of each sort: those that own a store, and clients of a server.
const COMMANDS: [&[&str]; 6] = [
    &["serve", "--listen", "127.0.0.1:0"],
    &["demo", "--exit-when-done"],
    &["sandbox", "--listen", "127.0.0.1:0"],
    &["job", "list"],
    &["doctor"],
    &["simulate", "--list"],
];

/// What a run in this directory ends with, and what it says on stderr.
fn run_at(directory: &Path, args: &[&str]) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(args)
        .env_clear()
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    (done.status.code(), String::from_utf8(done.stderr).expect("text"))
}

#[tokio::test]
async fn an_unknown_variable_stops_every_command() {
    for args in COMMANDS {
        let ran = run_in(&[("REELHOOK_URI", "http://x")], args, "").await.expect(2);
        let detail = ran.problem()["detail"].as_str().unwrap().to_owned();
        let wanted =
            "REELHOOK_URI, in the environment, is no setting of reelhook; did you mean REELHOOK_URL?";
        assert!(detail.starts_with(wanted), "{args:?}: {detail}");
    }
}

#[test]
fn what_is_wrong_in_dot_env_is_told_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(".env");
    for (lines, words) in [
        (
            "# mine\nREELHOOK_SLOTTS=3\n",
            "REELHOOK_SLOTTS, in line 2 of .env, is no setting of reelhook; did you mean REELHOOK_SLOTS?",
        ),
        ("A=1\nHEYGEN_API_KEY=two hunter2\n", "line 2 of .env cannot be read."),
    ] {
        std::fs::write(&file, lines).unwrap();
        for args in COMMANDS {
            let (code, said) = run_at(directory.path(), args);
            assert_eq!(code, Some(2), "{args:?}: {said}");
            assert!(said.contains(words) && !said.contains("hunter2"), "{args:?}: {said}");
        }
        // These read no setting, and a shell starts with one of them.
        assert_eq!(run_at(directory.path(), &["completion", "bash"]).0, Some(0));
        assert_eq!(run_at(directory.path(), &["--version"]).0, Some(0));
    }
    std::fs::write(&file, "REELHOOK_SLOTS=many\n").unwrap();
    let (code, said) = run_at(directory.path(), &["serve"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("--slots is `many` (from REELHOOK_SLOTS in line 1 of .env), but it must be"),
        "{said}"
    );
}

#[tokio::test]
async fn a_secret_given_twice_stops_a_client_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let both = [("REELHOOK_API_KEY", "rhk_1"), ("REELHOOK_API_KEY_FILE", path)];
    let ran = run_in(&both, &["job", "list"], "").await.expect(2);
    assert!(ran.err.contains("the API key: it is given twice"), "{}", ran.err);
    let both = [("HEYGEN_SECRET", "s"), ("HEYGEN_SECRET_FILE", path)];
    let ran = run_in(&both, &["simulate"], "").await.expect(2);
    assert!(ran.err.contains("the webhook secret: it is given twice"), "{}", ran.err);
}

/// The exit code of a run whose stderr nobody reads any more.
fn code_without_stderr(args: &[&str]) -> Option<i32> {
    let directory = tempfile::tempdir().unwrap();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
    command.args(args).env_clear().current_dir(directory.path()).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(writer).status().expect("it runs").code()
}

#[tokio::test]
async fn a_closed_stderr_changes_no_exit_code() {
    let server = Canned::saying(200, job("failed")).await;
    let (url, nobody) = (server.url.clone(), nowhere());
    let codes = tokio::task::spawn_blocking(move || {
        [
            // A problem, a note, a mistake of clap's, and the log of a server that cannot start.
            code_without_stderr(&["job", "list", "--url", &nobody]),
            code_without_stderr(&["job", "wait", "j", "--url", &url]),
            code_without_stderr(&["job", "list", "--no-such-flag"]),
            code_without_stderr(&["serve", "--listen", "127.0.0.1:0", "--database", "none/r.db"]),
            code_without_stderr(&["sandbox", "--listen", "256.0.0.1:0"]),
        ]
    });
    assert_eq!(codes.await.unwrap(), [Some(1), Some(7), Some(2), Some(1), Some(2)]);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "Dear diary, ".repeat(100)).unwrap();
    let path = file.path().to_str().unwrap();
    let ran = run(&["serve", "--listen", "127.0.0.1:0", "--database", path]).await.expect(1);
    let problem = ran.problem();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("{path} is there and is no SQLite database; move it away")), "{detail}");
    assert_eq!(problem.get("hint"), None, "it says so itself");
    assert!(std::fs::read_to_string(file.path()).unwrap().starts_with("Dear diary"));
}

/// A value that only its use shows to be wrong is told as one that cannot be read: by name, value and source.
#[tokio::test]
async fn what_cannot_be_used_is_told_with_its_source_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    let directory = directory.to_str().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (name, flag, value, code, why, fix) in [
        (
            "LOG_FILE",
            "log-file",
            "/nope/x.log",
            2,
            "but it cannot be written: ",
            "in a directory that is there",
        ),
        ("LISTEN", "listen", "192.0.2.1:8000", 1, "but nothing can listen there: ", "no such address; use"),
        ("LISTEN", "listen", &taken, 1, "but nothing can listen there: ", "choose another port"),
        ("DATABASE", "database", directory, 1, " is a directory", "; give a file in it"),
    ] {
        let variable = format!("REELHOOK_{name}");
        let set = [("REELHOOK_LISTEN", "127.0.0.1:0"), (&*variable, value)];
        let ran = run_in(&set, &["serve"], "").await.expect(code);
        let problem = ran.problem();
        let said = format!("{} {}", problem["detail"], problem["hint"]);
        for part in [&*format!("--{flag} is `{value}` (from the variable {variable})"), why, fix] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}

#[tokio::test]
async fn a_password_of_the_database_is_in_no_log() {
    for (database, code) in [
        ("postgres://127.0.0.1:1/x?password=s3cret&user=u", 1),
        ("postgres://u:s3cret@127.0.0.1:1/x", 1),
        ("host=127.0.0.1 port=1 password=s3cret", 2),
    ] {
        let set = [("REELHOOK_LISTEN", "127.0.0.1:0"), ("DATABASE_URL", database), ("REELHOOK_LOG", "trace")];
        let ran = run_in(&set, &["serve"], "").await.expect(code);
        assert!(ran.err.contains("DATABASE_URL") && !ran.err.contains("s3cret"), "{}", ran.err);
    }
    let ran = run(&["selftest", "--database", "host=127.0.0.1 password=s3cret"]).await.expect(2);
    assert!(ran.err.contains("must begin with postgres://") && !ran.err.contains("s3cret"), "{}", ran.err);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_stops_a_command() {
    use std::os::unix::ffi::OsStrExt;
    let run = |name: &str| {
        let value = std::ffi::OsStr::from_bytes(b"\xff");
        let mut command = Command::new(env!("CARGO_BIN_EXE_reelhook"));
        command.args(["simulate", "--list"]).env_clear().env(name, value).output().expect("it runs")
    };
    let ran = run("REELHOOK_SLOTS");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.code() == Some(2) && said.contains("REELHOOK_SLOTS, in the environment, is not UTF-8")
    );
    assert!(run("LS_COLORS").status.success());
}

#[tokio::test]
async fn a_proxy_is_used_for_servers_elsewhere_and_only_for_them() {
    let proxy = Canned::saying(403, json!({})).await;
    let server = Canned::saying(200, job("completed")).await;
    let at = proxy.url.replace("http://", "http://user:hunter2@");
    // As a desktop sets them; the last is of no kind that is known here, and not used.
    let set = [("HTTP_PROXY", &*at), ("https_proxy", &*at), ("ALL_PROXY", "socks5://127.0.0.1:1")];
    run_in(&set, &["job", "get", "j", "--url", &server.url], "").await.expect(0);
    run_in(&set[2..], &["job", "get", "j", "--url", &server.url], "").await.expect(0);
    run_in(&set, &["simulate", "--secret", "s", "--to", &format!("{}/hook", server.url)], "").await.expect(0);
    assert_eq!((proxy.lines(), server.lines().len()), (vec![], 3));
    for (args, to) in [
        (["job", "get", "j", "--url", "http://far.example"], "far.example:80"),
        (["job", "get", "j", "--url", "https://far.example"], "far.example:443"),
        (["simulate", "--secret", "s", "--to", "http://far.example/hook"], "far.example:80"),
    ] {
        let ran = run_in(&set, &args, "").await.expect(1);
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains(&format!("answered 403 Forbidden to CONNECT {to}")), "{args:?}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
        assert_eq!(proxy.lines().last(), Some(&format!("CONNECT {to}")));
    }
    let gone = nowhere();
    let ran = run_in(&[("HTTP_PROXY", &gone)], &["job", "get", "j", "--url", "http://far.example"], "").await;
    assert!(ran.expect(1).err.contains(&format!("the proxy {gone} is not reached")));
    let ran = run_in(&set[2..], &["job", "get", "j", "--url", "http://far.example"], "").await.expect(2);
    assert!(
        ran.err.contains("--all-proxy is `socks5://127.0.0.1:1` (from the variable ALL_PROXY)"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn a_span_a_rate_or_a_count_of_nothing_is_refused() {
    for (args, words) in [
        (&["simulate", "--duration", "0s"][..], "it must be longer than nothing"),
        (&["simulate", "--timeout", "0"], "it must be longer than nothing"),
        (&["simulate", "--rate", "0/s"], "it must be from 0.001 to 10000000 a second"),
        (&["simulate", "--count", "0"], "0 is not in 1..=4000000000"),
        (&["simulate", "--duplicate", "0"], "0 is not in 1..=1000"),
        (&["simulate", "--connections", "0"], "0 is not in 1..=4096"),
        (&["sandbox", "--concurrency", "0"], "0 is not in 1..=100000"),
        (&["sandbox", "--link-life", "0"], "0 is not in 1.."),
        (&["sandbox", "--balance", "-1"], "unexpected argument"),
        (&["sandbox", "--balance=-1"], "it must be a number of credits, 0 or more"),
        (&["sandbox", "--balance=NaN"], "it must be a number of credits, 0 or more"),
    ] {
        let ran = run(args).await.expect(2);
        assert!(ran.err.contains(words), "{args:?}: {}", ran.err);
    }
    let help = run(&["simulate", "--help"]).await.expect(0).out;
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("with --unsigned, when every answer was one or the other"), "{help}");
}
