//! The real binary under load, killed hard again and again, and compared with the sandbox's ledger:
//! nothing acknowledged is lost, no job is lost, nothing is paid twice.
//!
//! Kills happen after a seeded number of things the sandbox saw, never after a time; restarts wait for
//! readiness. `KILLS` and `SEED` choose how many and which; `scripts/kill` runs the long form.

mod oracle;
mod server;

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reelhook::clock::Clock;
use reelhook::heygen::sandbox::{Fault, Options, Sandbox};
use tokio::net::TcpListener;
use tokio::sync::broadcast::error::RecvError;

use oracle::Ledger;
use server::{Client, Server};

/// Kills in the ordinary test run.
const SHORT: usize = 12;
/// Jobs submitted at the same time.
const CALLERS: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_survives_hard_kills() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kill.db").display().to_string();
    run("sqlite", &file).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_survives_hard_kills() {
    let url = server::fresh_postgres().await;
    run("postgres", &url).await;
}

async fn run(engine: &str, database: &str) {
    let (kills, seed) =
        (server::number("KILLS").unwrap_or(SHORT), server::number("SEED").unwrap_or(1) as u64);
    println!("{engine}: {kills} kills, seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let (sandbox, upstream) = start_sandbox(seed).await;
    let mut seen = sandbox.listen();
    let client = Arc::new(Client::new(server::free_port().await));
    let ledger = Arc::new(Ledger::default());
    let mut server = Server::start(database, &client, &upstream).await;
    server.register(&client).await;
    let callers: Vec<_> = (0..CALLERS)
        .map(|nth| tokio::spawn(oracle::submit_for_ever(client.clone(), ledger.clone(), nth)))
        .collect();
    for nth in 0..kills {
        let after = dice.random_range(1..60);
        for _ in 0..after {
            if matches!(seen.recv().await, Err(RecvError::Closed)) {
                panic!("the sandbox ended");
            }
        }
        server.kill(&client).await;
        server = Server::start(database, &client, &upstream).await;
        if nth % 50 == 49 {
            println!("{engine}: {} kills, {} jobs acknowledged", nth + 1, ledger.count());
        }
    }
    ledger.stop();
    for caller in callers {
        caller.await.unwrap();
    }
    let jobs = ledger.jobs();
    let verdict = oracle::compare(&client, &jobs, &sandbox).await;
    server.kill(&client).await;
    println!("{engine}: {kills} kills, {} jobs, seed {seed}: {verdict}", jobs.len());
    assert!(jobs.len() >= kills, "the load must be real: {} jobs in {kills} kills", jobs.len());
    assert!(verdict.is_clean(), "{engine}, seed {seed}: {verdict}");
}

/// A sandbox outside the process under test, with a share of everything that goes wrong.
async fn start_sandbox(seed: u64) -> (Sandbox, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let faults = vec![
        (Fault::ResetAfter, 0.05),
        (Fault::Error504After, 0.05),
        (Fault::Error503, 0.05),
        (Fault::Lost, 0.1),
        (Fault::Double, 0.1),
        (Fault::Fail, 0.1),
    ];
    let sandbox = Sandbox::new(Options {
        seed,
        concurrency: 10_000,
        balance: 1e9,
        render: 20..=400,
        retry_base: std::time::Duration::from_millis(100),
        faults,
        ..Options::new(Clock::real(), base.clone())
    })
    .unwrap();
    let (router, working) = (sandbox.router(), sandbox.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    tokio::spawn(async move { working.run().await });
    (sandbox, base)
}
