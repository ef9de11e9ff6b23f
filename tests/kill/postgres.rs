//! A PostgreSQL server of a test's own, which may be restarted and followed by another that takes its
//! place; and sessions on one.

use std::process::Stdio;

use postgres::{Client, NoTls};
use reelhook::cli::selftest::ground::free_port;
use reelhook::clock::Clock;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::ground::PATIENCE;

/// The server, and those that follow it; they end when this is dropped.
pub struct Ours {
    /// Of the server, and of each that may follow it, in the order in which they take its place.
    pub addresses: Vec<String>,
    script: Child,
    talk: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
}

impl Ours {
    /// With its own durability: a hard restart must not lose what was committed.
    pub async fn start(followers: usize) -> Self {
        const SERVE: &str = "echo \"$REELHOOK_TEST_POSTGRES\"
            while read -r line; do
                if $REELHOOK_TEST_POSTGRES_AS sh -c \"$line\" </dev/null >&2; then echo done; else echo failed; fi
            done";
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
        let mut addresses = vec![address];
        for _ in 0..followers {
            let mut other: url::Url = addresses[0].parse().unwrap();
            other.set_port(Some(free_port().unwrap())).unwrap();
            addresses.push(other.into());
        }
        Self { addresses, script, talk }
    }

    /// One line of the shell, as the server's user, beside the server's files.
    async fn shell(&self, line: &str) {
        let (say, hear) = &mut *self.talk.lock().await;
        say.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        assert_eq!(hear.next_line().await.unwrap().as_deref(), Some("done"), "{line}");
    }

    /// From the next start on, which this is.
    pub async fn speak_tls(&self, key: &str, certificate: &str) {
        for (text, file) in [(key, "server.key"), (certificate, "server.crt")] {
            let lines: Vec<String> = text.lines().map(|line| format!("'{line}'")).collect();
            self.shell(&format!("umask 077; printf '%s\\n' {} >data/{file}", lines.join(" "))).await;
        }
        self.shell("echo 'ssl = on' >>data/postgresql.conf").await;
        self.restart("fast").await;
    }

    /// Returns once it takes connections again.
    pub async fn restart(&self, mode: &str) {
        self.shell(&format!("pg_ctl -D data -l server.log -w -m {mode} restart")).await;
    }

    /// The next server, which follows the `nth`. Once this returns, that one answers no commit that the next does
    /// not have.
    pub async fn follow(&self, nth: usize) {
        // Settings in files are copied; those of the command line are not.
        const SETTINGS: &str =
            "-c listen_addresses=127.0.0.1 -c unix_socket_directories=$PWD -c max_connections=200";
        const KNOWN: &str = "SELECT count(*) FROM pg_settings \
                             WHERE name = 'synchronous_standby_names' AND setting = '*'";
        let (address, from, to) = (&self.addresses[nth], directory(nth), directory(nth + 1));
        let port = port(&self.addresses[nth + 1]);
        self.shell(&format!("pg_basebackup -D {to} -d {address} -R -c fast")).await;
        self.shell(&format!("pg_ctl -D {to} -l {to}.log -w -o '{SETTINGS} -p {port}' start")).await;
        let mut session = Session::open(address).await;
        session.batch("ALTER SYSTEM SET synchronous_standby_names = '*'").await;
        self.shell(&format!("pg_ctl -D {from} reload")).await;
        // A session that knows of it began after all processes were told.
        let known = async { while Session::open(address).await.number(KNOWN).await == 0 {} };
        Clock::real().within(PATIENCE, known).await.expect("it reads its settings");
        // The process that makes checkpoints switches it on before the next one; then a commit is answered
        // when the follower has it.
        session.batch("CHECKPOINT").await;
        session.batch("SELECT pg_logical_emit_message(true, '', '')").await;
        Session::leave(vec![session]).await;
    }

    /// The `nth` is killed, and the next takes its place.
    pub async fn fail_over(&self, nth: usize) {
        self.shell(&format!("pg_ctl -D {} -w -m immediate stop", directory(nth))).await;
        self.shell(&format!("pg_ctl -D {} -w promote", directory(nth + 1))).await;
    }

    pub async fn stop(mut self) {
        drop(self.talk);
        self.script.wait().await.unwrap();
    }
}

pub fn port(address: &str) -> u16 {
    address.parse::<url::Url>().unwrap().port().unwrap()
}

/// Where the `nth` server has its files.
fn directory(nth: usize) -> String {
    if nth == 0 { "data".to_owned() } else { format!("data{nth}") }
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
