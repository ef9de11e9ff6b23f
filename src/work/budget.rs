//! How often HeyGen is asked how jobs stand: so many calls in any minute, and none while it wants us
//! to wait. Counted in memory and per node; what is over it simply stays due.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::retry::MAX_RETRY_AFTER;
use crate::domain::time::{MINUTE, Millis};

pub struct Budget {
    per_minute: usize,
    spent: Mutex<Spent>,
}

#[derive(Default)]
struct Spent {
    /// The calls of the last minute, oldest first.
    calls: VecDeque<Millis>,
    closed_until: Millis,
}

impl Budget {
    pub fn new(per_minute: usize) -> Self {
        Self { per_minute, spent: Mutex::default() }
    }

    /// How many calls there is room for.
    pub fn free(&self, now: Millis) -> usize {
        let spent = self.now(now);
        if now < spent.closed_until { 0 } else { self.per_minute.saturating_sub(spent.calls.len()) }
    }

    /// Spends so many calls; `Err` says when there is room for them. What is more than a whole
    /// minute's budget has a minute of its own.
    pub fn take(&self, calls: usize, now: Millis) -> Result<(), Millis> {
        let mut spent = self.now(now);
        if now < spent.closed_until {
            return Err(spent.closed_until);
        }
        let over = (spent.calls.len() + calls).saturating_sub(self.per_minute).min(spent.calls.len());
        if over > 0 {
            return Err(spent.calls.get(over - 1).map_or(now, |last_in_the_way| last_in_the_way + MINUTE));
        }
        spent.calls.extend(std::iter::repeat_n(now, calls));
        Ok(())
    }

    /// Upstream wants nothing before then.
    pub fn close_until(&self, at: Millis) {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.closed_until = spent.closed_until.max(at);
    }

    /// Without what is over a minute old, or from a future that a corrected clock took back.
    fn now(&self, now: Millis) -> MutexGuard<'_, Spent> {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.calls.retain(|at| (now - MINUTE < *at) && *at <= now);
        // A little more: who closed it may have read the time later than who asks.
        if spent.closed_until > now + MAX_RETRY_AFTER + MINUTE {
            spent.closed_until = now;
        }
        spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_minute_has_more_calls_than_the_budget() {
        let budget = Budget::new(2);
        assert_eq!(budget.free(0), 2);
        assert_eq!(
            [budget.take(1, 0), budget.take(1, 10), budget.take(1, 20)],
            [Ok(()), Ok(()), Err(MINUTE)]
        );
        assert_eq!(budget.take(1, MINUTE - 1), Err(MINUTE));
        assert_eq!([budget.take(1, MINUTE), budget.take(1, MINUTE)], [Ok(()), Err(10 + MINUTE)]);
    }

    #[test]
    fn what_needs_several_calls_waits_for_room_for_all() {
        let budget = Budget::new(3);
        assert_eq!([budget.take(1, 0), budget.take(1, 10)], [Ok(()), Ok(())]);
        assert_eq!(budget.take(2, 20), Err(MINUTE));
        assert_eq!(budget.take(3, 20), Err(10 + MINUTE));
        assert_eq!(budget.take(1, 20), Ok(()));
        assert_eq!(budget.take(9, 20), Err(20 + MINUTE));
        assert_eq!(budget.take(9, 20 + MINUTE), Ok(()), "or it would wait for ever");
    }

    #[test]
    fn it_is_closed_while_upstream_wants_to_be_left_alone() {
        let budget = Budget::new(5);
        budget.close_until(100);
        budget.close_until(50);
        assert_eq!((budget.free(99), budget.take(1, 99)), (0, Err(100)));
        assert_eq!((budget.free(100), budget.take(1, 100)), (5, Ok(())));
    }

    #[test]
    fn a_clock_set_back_does_not_lock_it() {
        let budget = Budget::new(1);
        assert_eq!(budget.take(1, 1_000_000), Ok(()));
        assert_eq!(budget.take(1, 5), Ok(()));
        let budget = Budget::new(1);
        budget.close_until(5 + MAX_RETRY_AFTER + MINUTE);
        assert_eq!((budget.free(5), budget.free(4)), (0, 1), "no longer than upstream may wish for");
    }
}
