//! The whole app in one thread on a clock that stands still, under every trouble at once and in a
//! seeded order: duplicates, losses, refusals, hangs, crashes between any two steps, lost leases,
//! clocks that jump. After every step what must always hold is checked; at the end every job has
//! ended as the sandbox's ledger says.
//!
//! `SIM_SEEDS` says how many seeds (300), `SIM_POSTGRES_SEEDS` how many on PostgreSQL (10), `SIM_SEED` runs one
//! and tells its steps, `SIM_STEPS` how many steps each (80). `scripts/nightly` runs 10,000.

// A release build has fail points only when it is asked for them.
#![cfg(any(debug_assertions, feature = "fail-points"))]

mod check;
// Its files are made elsewhere here: where it is fast.
#[allow(dead_code)]
#[path = "../support/database.rs"]
mod database;
mod step;
mod upstream;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use database::Fresh;
use reelhook::clock::Stopwatch;
use reelhook::store::db::Address;

const SEEDS: u64 = 300;
const POSTGRES_SEEDS: u64 = 10;
const STEPS: u64 = 80;

#[test]
fn nothing_is_lost_paid_twice_or_stuck_on_sqlite() {
    run("sqlite", number("SIM_SEEDS").unwrap_or(SEEDS), || None);
}

/// Where a transaction is retried, commits come from several connections, and a node that starts does
/// not know whether the one before it is dead.
#[test]
fn nothing_is_lost_paid_twice_or_stuck_on_postgres() {
    let seeds = number("SIM_POSTGRES_SEEDS").unwrap_or(POSTGRES_SEEDS);
    run("postgres", seeds, || Some(database::fresh_postgres()));
}

fn run(engine: &str, seeds: u64, fresh: impl Fn() -> Option<Fresh> + Sync) {
    let steps = number("SIM_STEPS").unwrap_or(STEPS);
    let one = |seed, loud| {
        let fresh = fresh();
        let postgres = fresh.as_ref().map(|fresh| match &fresh.address {
            Address::Postgres(url) => url.as_str(),
            Address::Sqlite(_) => unreachable!("only PostgreSQL is given"),
        });
        step::run(seed, steps, loud, postgres)
    };
    if let Some(seed) = number("SIM_SEED") {
        println!("sim: seed {seed} on {engine}: {}", one(seed, true));
        return;
    }
    let (watch, next) = (Stopwatch::start(), AtomicU64::new(1));
    let all = Mutex::new(step::Counts::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failed = Mutex::new(vec![]);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > seeds {
                        return;
                    }
                    // Each seed is one thread's; only different seeds run at the same time.
                    match catch_unwind(AssertUnwindSafe(|| one(seed, false))) {
                        Ok(counts) => *all.lock().unwrap() += counts,
                        Err(_) => {
                            println!("sim: again with: SIM_SEED={seed} SIM_STEPS={steps} cargo test --test sim {engine} -- --nocapture");
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let all = all.into_inner().unwrap();
    println!(
        "sim: {seeds} seeds of {steps} steps on {engine} in {:.1} s: {all}; failed {}",
        watch.elapsed().as_secs_f64(),
        failed.len()
    );
    // The line of a promise whose fault only a clock that can be set can bring.
    println!(
        "promise {}",
        serde_json::json!({
            "row": "B17 simulated", "engine": engine, "n": all.jumps, "seed": format!("1 to {seeds}"),
            "kept": failed.is_empty(), "zero": {"failed_seeds": failed.len()},
            "figures": {
                "steps": all.steps, "jobs": all.finished, "starts_an_hour_off": all.skewed,
                "stale_finishes_refused": all.stale,
            },
        })
    );
    assert!(failed.is_empty(), "these seeds failed, see above: {failed:?}");
    assert!(all.crashes > seeds && all.finished > seeds, "the trouble must be real: {all}");
}

/// How much is run is the caller's to say.
#[allow(clippy::disallowed_methods)]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}
