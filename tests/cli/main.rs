//! The command line as its users meet it: the real binary, what it prints, and how it ends. Most
//! talk to a canned server, so that every answer can be had; `real` talks to the whole application.

mod canned;
mod commands;
mod dead_letters;
mod demo;
mod endpoints;
mod flags;
mod groups;
mod listen;
mod long_files;
mod real;
mod selftest;
mod settings;
mod simulate;
mod tables;

use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What a run left behind.
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }

    /// The problem on stderr: its last line.
    pub fn problem(&self) -> Value {
        let last = self.err.lines().last().unwrap_or_default();
        serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {}", self.err))
    }

    /// Panics with everything when the code is another.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }
}

/// A run in an empty directory, with this environment and no other.
pub async fn run_in(environment: &[(&str, &str)], args: &[&str], input: &str) -> Ran {
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_reelhook"))
        .args(args)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("stdin");
    // A command that reads nothing may be gone already.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let done = child.wait_with_output().await.expect("it ends");
    Ran {
        code: done.status.code().unwrap_or(-1),
        out: String::from_utf8(done.stdout).expect("stdout is text"),
        err: String::from_utf8(done.stderr).expect("stderr is text"),
    }
}

pub async fn run(args: &[&str]) -> Ran {
    run_in(&[], args, "").await
}

/// An address where nothing listens.
pub fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}
