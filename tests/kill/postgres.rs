//! A PostgreSQL server of a test's own, which may be restarted, and sessions on one.

use std::process::Stdio;

use postgres::{Client, NoTls};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// The server; it ends when this is dropped.
pub struct Ours {
    pub address: String,
    script: Child,
    talk: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
}

impl Ours {
    /// With its own durability: a hard restart must not lose what was committed.
    pub async fn start() -> Self {
        const SERVE: &str = "echo \"$REELHOOK_TEST_POSTGRES\"
            while read -r mode; do $REELHOOK_TEST_POSTGRES_RESTART -m \"$mode\" >&2; echo restarted; done";
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/postgres"))
            .args(["run", "--durable", "--", "bash", "-c", SERVE])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
        let address = lines.next_line().await.unwrap().expect("the server starts; see scripts/postgres");
        let talk = Mutex::new((script.stdin.take().unwrap(), lines));
        Self { address, script, talk }
    }

    /// Returns once it takes connections again.
    pub async fn restart(&self, mode: &str) {
        let (say, hear) = &mut *self.talk.lock().await;
        say.write_all(format!("{mode}\n").as_bytes()).await.unwrap();
        assert_eq!(hear.next_line().await.unwrap().as_deref(), Some("restarted"));
    }

    pub async fn stop(mut self) {
        drop(self.talk);
        self.script.wait().await.unwrap();
    }
}

/// One connection. Its client blocks, so it lives on threads that may.
pub struct Session(Option<Client>);

impl Session {
    pub async fn open(address: &str) -> Self {
        let address = address.to_owned();
        spawn_blocking(move || Self(Some(Client::connect(&address, NoTls).unwrap()))).await.unwrap()
    }

    pub async fn many(address: &str, count: usize) -> Vec<Self> {
        let mut all = vec![];
        for _ in 0..count {
            all.push(Self::open(address).await);
        }
        all
    }

    pub async fn batch(&mut self, sql: &'static str) {
        let mut client = self.0.take().expect("an open session");
        let done = spawn_blocking(move || {
            client.batch_execute(sql).unwrap();
            client
        });
        self.0 = Some(done.await.unwrap());
    }

    /// One number, and the session ends.
    pub async fn number(mut self, sql: impl Into<String>) -> i64 {
        let (mut client, sql) = (self.0.take().expect("an open session"), sql.into());
        spawn_blocking(move || client.query_one(&sql, &[]).unwrap().get(0)).await.unwrap()
    }

    pub async fn leave(all: Vec<Self>) {
        spawn_blocking(move || drop(all)).await.unwrap();
    }
}
