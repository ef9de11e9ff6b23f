//! What stands outside of the process under test: a sandbox with its ledger synced to disk, and an
//! address for the server that stays its own while it is down.

use std::net::TcpListener as Std;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::client::Client;
use super::server::Setup;
use crate::clock::Clock;
use crate::heygen::sandbox::{Entry, Options, Sandbox};

/// Below the ports that systems lend to outgoing connections, one of which could take the server's
/// while it is down.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
const TRIES: usize = 100;

pub struct Ground {
    pub sandbox: Sandbox,
    pub setup: Setup,
    ledger: PathBuf,
}

impl Ground {
    /// All files are made in `directory`; the server is `program`, on `database`.
    pub async fn open(
        directory: &Path,
        program: PathBuf,
        database: String,
        change: impl FnOnce(&mut Options),
    ) -> std::io::Result<Self> {
        let ledger = directory.join("ledger.jsonl");
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let upstream = format!("http://{}", listener.local_addr()?);
        let mut options = Options {
            concurrency: 10_000,
            balance: 1e9,
            render: 20..=400,
            retry_base: Duration::from_millis(100),
            ledger_file: Some(ledger.clone()),
            ..Options::new(Clock::real(), upstream.clone())
        };
        change(&mut options);
        let sandbox = Sandbox::new(options)?;
        let (router, working) = (sandbox.router(), sandbox.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        tokio::spawn(async move { working.run().await });
        let client = Arc::new(Client::new(free_port()?));
        let directory = directory.to_owned();
        let setup = Setup { program, database, upstream, client, directory, log: None };
        Ok(Self { sandbox, setup, ledger })
    }

    /// The ledger as it is on the disk; an error when something in it is missing.
    pub fn ledger(&self) -> std::io::Result<Vec<Entry>> {
        let text = std::fs::read_to_string(&self.ledger)?;
        // What was being written while we read has no end of line yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let entries = whole.lines().map(serde_json::from_str).collect::<Result<Vec<Entry>, _>>()?;
        let holes = entries.iter().zip(1..).any(|(entry, seq)| entry.seq != seq);
        if holes { Err(std::io::Error::other("entries are missing in it")) } else { Ok(entries) }
    }
}

/// A port that nobody listens on, by chance; it is asked for again by the server under test.
pub fn free_port() -> std::io::Result<u16> {
    let clock = Clock::real();
    let mut last = std::io::Error::other("no port was tried");
    for _ in 0..TRIES {
        let port = PORTS.start + u16::from_le_bytes(clock.random()) % (PORTS.end - PORTS.start);
        match Std::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(e) => last = e,
        }
    }
    Err(last)
}
