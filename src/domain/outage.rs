//! Since when something has not worked, so that its return is noticed, once.

use std::sync::atomic::{AtomicI64, Ordering};

use super::time::{MINUTE, Millis};

/// What was shorter than this was healed by trying again.
pub const WORTH_TELLING: Millis = MINUTE;

/// Zero while all is well.
#[derive(Debug, Default)]
pub struct Outage(AtomicI64);

impl Outage {
    /// Notes how a try went. How long it had not worked, when this ends that.
    pub fn note(&self, works: bool, now: Millis) -> Option<Millis> {
        if !works {
            // An error means that it began earlier.
            let _ = self.0.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            return None;
        }
        if self.0.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let since = self.0.swap(0, Ordering::Relaxed);
        (since != 0).then_some(now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_outage_is_told_once() {
        let outage = Outage::default();
        assert_eq!(outage.note(true, 5), None);
        for at in [1_000, 30_000, 60_999] {
            assert_eq!(outage.note(false, at), None);
        }
        assert_eq!(outage.note(true, 61_000), Some(MINUTE));
        assert_eq!(outage.note(true, 61_001), None);
    }
}
