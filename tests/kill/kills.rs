//! Killed hard under load, at random and at every fail point: nothing acknowledged is lost, no job is
//! lost, nothing is paid twice, and the application hears of every end.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reelhook::cli::selftest::callers::Callers;
use reelhook::cli::selftest::oracle::Verdict;
use reelhook::fail::Point;
use reelhook::heygen::sandbox::{Fault, Options};
use tokio::sync::broadcast::error::RecvError;

use crate::ground::{Engine, Ground, injections};
use crate::kinds::{self, Others};
use crate::oracle;
use crate::server;
use crate::told::Told;

/// Random kills in the ordinary test run.
const SHORT: usize = 20;
/// Jobs submitted at the same time.
const CALLERS: usize = 3;

/// After a seeded number of things the sandbox saw.
pub async fn at_random(engine: Engine) {
    let kills = server::number("KILLS").unwrap_or(SHORT);
    let ground = Ground::new(engine, troubled).await;
    let mut dice = StdRng::seed_from_u64(ground.seed);
    let mut seen = ground.sandbox.listen();
    let mut server = ground.serve().await;
    server.register(&ground.client).await;
    ground.application.register(&ground.client).await;
    let load = (callers(&ground), kinds::callers(&ground));
    for nth in 0..kills {
        let after = dice.random_range(1..60);
        for _ in 0..after {
            if matches!(seen.recv().await, Err(RecvError::Closed)) {
                panic!("the sandbox ended");
            }
        }
        server.kill().await;
        server = ground.serve().await;
        if nth % 50 == 49 {
            println!("{engine:?}: {} kills, {} jobs acknowledged", nth + 1, load.0.acknowledged());
        }
    }
    let (jobs, others, verdict) = end(&ground, load).await;
    let told = ground.application.compare(&jobs).await;
    others.report(&ground, "B02 without a key, at random", kills).await;
    server.kill().await;
    report(&ground, "B01-B03 at random", kills, jobs.len(), &verdict);
    report_told(&ground, "told, killed at random", kills, jobs.len(), &told);
}

/// Each point some times, one process after another, all on one store and under one load.
pub async fn at_fail_points(engine: Engine) {
    // A row has five points or so; together they make up its injections.
    let each = injections().div_ceil(5);
    let ground = Ground::new(engine, troubled).await;
    let mut dice = StdRng::seed_from_u64(ground.seed);
    let server = ground.serve().await;
    server.register(&ground.client).await;
    ground.application.register(&ground.client).await;
    server.kill().await;
    let load = (callers(&ground), kinds::callers(&ground));
    for point in Point::ALL {
        for _ in 0..each {
            let at = format!("{}:{}", point.name(), dice.random_range(1..8));
            ground.serve_with(&[("REELHOOK_FAIL_POINT", &at)]).await.ended().await;
        }
        println!("{engine:?}: {each} kills at {}: {}", point.name(), point.about());
    }
    let server = ground.serve().await;
    let (jobs, others, verdict) = end(&ground, load).await;
    let told = ground.application.compare(&jobs).await;
    let jobs = jobs.len();
    let points = |names: &[&str]| {
        let of_row = Point::ALL.iter().filter(|p| names.iter().any(|name| p.name().starts_with(name)));
        of_row.count() * each
    };
    let submit = points(&["submit.", "send.", "run."]);
    others.report(&ground, "B02 without a key", submit).await;
    server.kill().await;
    report(&ground, "B01", submit, jobs, &verdict);
    report(&ground, "B02 kills", submit, jobs, &verdict);
    report(&ground, "B03", points(&["hook.", "apply."]), jobs, &verdict);
    report_told(&ground, "told, killed while telling", points(&["deliver.", "run."]), jobs, &told);
}

/// A sandbox with a share of everything that goes wrong.
pub fn troubled(options: &mut Options) {
    options.faults = vec![
        (Fault::ResetAfter, 0.05),
        (Fault::Error504After, 0.05),
        (Fault::Error503, 0.05),
        (Fault::Lost, 0.1),
        (Fault::Double, 0.1),
        (Fault::Fail, 0.1),
    ];
}

pub fn callers(ground: &Ground) -> Callers {
    Callers::start(&ground.client.0, CALLERS)
}

/// The load ends, and what came of it all: the jobs that were to end, and those of other kinds.
async fn end(ground: &Ground, (callers, of_kinds): (Callers, Callers)) -> (Vec<String>, Others, Verdict) {
    let (mut jobs, others) = (callers.end().await.unwrap(), of_kinds.end().await.unwrap());
    let others = kinds::settled(ground, &others).await;
    jobs.extend_from_slice(&others.jobs);
    let verdict = oracle::compare_by(ground, &jobs, |ledger| others.known(ledger)).await;
    (jobs, others, verdict)
}

fn report(ground: &Ground, row: &str, kills: usize, jobs: usize, verdict: &Verdict) {
    let figures = [("jobs", jobs as f64), ("acknowledged_receipts", verdict.receipts as f64)];
    ground.report(row, kills, &oracle::zeros(verdict), &figures);
    assert!(jobs >= kills, "the load must be real: {jobs} jobs in {kills} kills");
}

fn report_told(ground: &Ground, row: &str, kills: usize, jobs: usize, told: &Told) {
    let zero = [("lost_notifications", told.lost), ("dup_effects", told.different)];
    let figures = [("jobs", jobs as f64), ("dup_notifications", told.repeated as f64)];
    ground.report(row, kills, &zero, &figures);
}
