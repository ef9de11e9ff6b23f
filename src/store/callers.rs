//! Who waits for PostgreSQL to write something, and how much the understanding of receipts gives way to
//! them. Otherwise a burst of webhooks would wait for what came before it to be understood. Nothing is put
//! off for good: the longer receipts have waited, the shorter the rest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Stopwatch;

/// While callers write, the runner's own work rests after each turn for this many times the turn.
pub(super) const REST: u32 = 3;
/// Callers count as writing for this long after the last of them was served: between two requests
/// of a busy sender nobody waits for a moment.
pub(super) const LULL: Duration = Duration::from_millis(3);
/// Receipts that have waited for so long are understood without any rest.
const MOST_BEHIND: Duration = Duration::from_secs(5);
/// A turn that took long because the store is slow is not made up for: the leases of those behind it go on.
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

    /// How long to rest after a turn that `took` so long over what had waited for `behind`.
    pub(super) fn rest_after(&self, took: Duration, behind: Duration) -> Duration {
        let served = self.0.served.lock().unwrap_or_else(PoisonError::into_inner);
        let since = served.as_ref().map(Stopwatch::elapsed);
        let write = self.0.waiting.load(Ordering::Relaxed) > 0 || since.is_some_and(|since| since < LULL);
        if write { rest(took, behind) } else { Duration::ZERO }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let inner = &self.0.0;
        *inner.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(Stopwatch::start());
        inner.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

fn rest(took: Duration, behind: Duration) -> Duration {
    let patience = MOST_BEHIND.saturating_sub(behind).as_secs_f64() / MOST_BEHIND.as_secs_f64();
    took.saturating_mul(REST).min(LONGEST_REST).mul_f64(patience)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_millis(10);

    #[test]
    fn a_rest_is_three_turns_bounded_and_shorter_the_longer_receipts_have_waited() {
        assert_eq!(rest(TURN, Duration::ZERO), TURN * 3);
        assert_eq!(rest(LONGEST_REST / 3, Duration::ZERO), LONGEST_REST / 3 * 3);
        assert_eq!(rest(LONGEST_REST / 3 + TURN, Duration::ZERO), LONGEST_REST);
        assert_eq!(rest(Duration::MAX, Duration::ZERO), LONGEST_REST);
        assert_eq!(rest(TURN, MOST_BEHIND / 2), TURN * 3 / 2);
        assert!(!rest(TURN, MOST_BEHIND - TURN).is_zero());
        assert_eq!(rest(TURN, MOST_BEHIND), Duration::ZERO);
        assert_eq!(rest(TURN, Duration::MAX), Duration::ZERO);
    }

    #[test]
    fn there_is_a_rest_while_anybody_waits() {
        let callers = Callers::default();
        assert_eq!(callers.rest_after(TURN, Duration::ZERO), Duration::ZERO);
        let (one, two) = (callers.enter(), callers.enter());
        drop(one);
        assert_eq!(callers.rest_after(TURN, Duration::ZERO), TURN * 3);
        drop(two);
        assert_eq!(callers.0.waiting.load(Ordering::Relaxed), 0);
    }
}
