//! Every order in which two nodes, a caller, upstream and its webhooks can act on one job, to a
//! depth: breadth first over the real `domain::step`, with a small model of what lies around it.
//!
//! `SPACE_DEPTH` says how deep (8). A counterexample is printed with the way that leads to it.

mod model;

use std::collections::HashSet;

use reelhook::clock::Stopwatch;

use model::{Action, World};

const DEPTH: u64 = 8;

#[test]
fn no_order_of_events_breaks_a_job() {
    let depth = number("SPACE_DEPTH").unwrap_or(DEPTH);
    let watch = Stopwatch::start();
    // Each root is searched alone, all at the same time.
    let found: Vec<(&str, Found)> = std::thread::scope(|scope| {
        let searches =
            model::roots().into_iter().map(|(name, root)| (name, scope.spawn(move || explore(root, depth))));
        let searches: Vec<_> = searches.collect();
        searches.into_iter().map(|(name, search)| (name, search.join().expect("a search ends"))).collect()
    });
    let (mut visited, mut moves, mut ends) = (0, 0, 0);
    for (name, found) in found {
        println!("space: {name}: {} states, {} moves, {} ended", found.states, found.moves, found.ended);
        if let Some((why, way)) = found.counterexample {
            let way: Vec<String> = way.iter().map(|action| format!("  {action:?}")).collect();
            panic!("space: from {name}: {why}\n{}", way.join("\n"));
        }
        visited += found.states;
        moves += found.moves;
        ends += found.ended;
    }
    println!(
        "space: depth {depth}: {visited} states visited by {moves} moves in {:.1} s, {ends} of them ended; \
         counterexamples 0",
        watch.elapsed().as_secs_f64()
    );
    assert!(ends > 0, "some way must lead to an end");
}

struct Found {
    states: usize,
    moves: usize,
    ended: usize,
    counterexample: Option<(String, Vec<Action>)>,
}

/// Where a state came from: the place of its parent, and what led on from there.
type Origin = (usize, Option<Action>);

fn explore(root: World, depth: u64) -> Found {
    let mut seen = HashSet::from([root.fingerprint()]);
    let mut origins: Vec<Origin> = vec![(0, None)];
    let mut found = Found { states: 1, moves: 0, ended: 0, counterexample: None };
    let mut layer = vec![(0, root)];
    for _ in 0..depth {
        let mut next = vec![];
        for (at, world) in layer {
            for action in world.actions() {
                found.moves += 1;
                let (after, wrong) = world.after(action);
                let here = origins.len();
                if let Some(why) = wrong {
                    origins.push((at, Some(action)));
                    found.counterexample = Some((why, way_to(&origins, here)));
                    return found;
                }
                if seen.insert(after.fingerprint()) {
                    origins.push((at, Some(action)));
                    found.states += 1;
                    found.ended += usize::from(after.has_ended());
                    next.push((here, after));
                }
            }
        }
        layer = next;
    }
    found
}

fn way_to(origins: &[Origin], mut at: usize) -> Vec<Action> {
    let mut way = vec![];
    while let (before, Some(action)) = origins[at] {
        way.push(action);
        at = before;
    }
    way.reverse();
    way
}

/// How deep is the caller's to say.
#[allow(clippy::disallowed_methods)]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}
