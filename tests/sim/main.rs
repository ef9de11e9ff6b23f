//! The whole app in one thread on a clock that stands still, under every trouble at once and in a
//! seeded order: duplicates, losses, refusals, hangs, crashes between any two steps, lost leases,
//! clocks that jump. After every step what must always hold is checked; at the end every job has
//! ended as the sandbox's ledger says.
//!
//! `SIM_SEEDS` says how many seeds (300), `SIM_SEED` runs one and tells its steps, `SIM_STEPS` how
//! many steps each (80). `scripts/nightly` runs 10,000.

// A release build has fail points only when it is asked for them.
#![cfg(any(debug_assertions, feature = "fail-points"))]

mod check;
mod step;
mod upstream;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use reelhook::clock::Stopwatch;

const SEEDS: u64 = 300;
const STEPS: u64 = 80;

#[test]
fn nothing_is_lost_paid_twice_or_stuck_whatever_happens() {
    let steps = number("SIM_STEPS").unwrap_or(STEPS);
    if let Some(seed) = number("SIM_SEED") {
        let counts = step::run(seed, steps, true);
        println!("sim: seed {seed}: {counts}");
        return;
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
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
                    match catch_unwind(AssertUnwindSafe(|| step::run(seed, steps, false))) {
                        Ok(counts) => *all.lock().unwrap() += counts,
                        Err(_) => {
                            println!("sim: again with: SIM_SEED={seed} SIM_STEPS={steps} cargo test --test sim -- --nocapture");
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
        "sim: {seeds} seeds of {steps} steps in {:.1} s: {all}; failed {}",
        watch.elapsed().as_secs_f64(),
        failed.len()
    );
    // The line of a promise whose fault only a clock that can be set can bring.
    println!(
        "promise {}",
        serde_json::json!({
            "row": "B17", "engine": "sqlite", "n": all.jumps, "seed": "1..", "kept": failed.is_empty(),
            "zero": {"failed_seeds": failed.len()}, "figures": {"seeds": seeds, "steps": all.steps},
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
