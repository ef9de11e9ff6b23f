//! Who waits for the store to write something, and how much the runner's own work gives way to them.
//! Otherwise a burst of webhooks would wait for the understanding of those before it. Nothing is ever
//! put off for good: a rest has a bound.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;

/// While callers write, the runner's own work rests after each turn for this many times the turn.
pub(super) const REST: u32 = 3;
/// Callers count as writing for this long after the last of them was served: between two requests
/// of a busy sender nobody waits for a moment.
pub(super) const LULL: Duration = Duration::from_millis(3);
/// A turn that took long because the store is slow is not made up for: leases go on.
const LONGEST_REST: Duration = Duration::from_millis(250);

#[derive(Clone, Default)]
pub(super) struct Callers(Arc<Inner>);

#[derive(Default)]
struct Inner {
    waiting: AtomicUsize,
    served: Mutex<Option<Stopwatch>>,
}

/// One who waits; gone when served, or when nobody wants the answer any more.
pub(super) struct Caller(Callers);

impl Callers {
    pub(super) fn enter(&self) -> Caller {
        self.0.waiting.fetch_add(1, Ordering::Relaxed);
        Caller(self.clone())
    }

    /// For how long to rest after a turn that `took` so long.
    pub(super) fn rest_after(&self, took: Duration) -> Duration {
        let served = self.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        let since = served.as_ref().map(Stopwatch::elapsed);
        rest(took, self.0.waiting.load(Ordering::Relaxed), since)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let inner = &self.0.0;
        *inner.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stopwatch::start());
        inner.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn rest(took: Duration, waiting: usize, since_served: Option<Duration>) -> Duration {
    let write = waiting > 0 || since_served.is_some_and(|since| since < LULL);
    if write { took.saturating_mul(REST).min(LONGEST_REST) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(10);

    #[test]
    fn the_runner_rests_while_callers_write_and_for_no_longer_than_a_bound() {
        assert_eq!(rest(TURN, 0, None), Duration::ZERO);
        assert_eq!(rest(TURN, 1, None), TURN * 3);
        assert_eq!(rest(TURN, 0, Some(LULL - Duration::from_nanos(1))), TURN * 3);
        assert_eq!(rest(TURN, 0, Some(LULL)), Duration::ZERO);
        let bound = LONGEST_REST / REST;
        assert_eq!(rest(bound, 1, None), bound * 3);
        assert_eq!(rest(bound + TURN, 1, None), LONGEST_REST);
        assert_eq!(rest(Duration::MAX, 1, None), LONGEST_REST);
    }

    #[test]
    fn whoever_waits_is_counted_until_served() {
        let callers = Callers::default();
        assert_eq!(callers.rest_after(TURN), Duration::ZERO);
        let (one, two) = (callers.enter(), callers.enter());
        drop(one);
        assert_eq!(callers.rest_after(TURN), TURN * 3);
        assert_eq!(callers.0.waiting.load(Ordering::Relaxed), 1);
        drop(two);
        assert_eq!(callers.0.waiting.load(Ordering::Relaxed), 0);
    }
}
