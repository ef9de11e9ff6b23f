//! Which message goes out as number so-and-so: what is repeated, dropped, or out of order. A
//! function of the seed alone, so that workers agree without asking each other.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// Messages change places inside a window of so many.
const WINDOW: u64 = 256;

#[derive(Debug, Clone)]
pub struct Plan {
    pub copies: u64,
    drop: f64,
    seed: u64,
    order: Option<Vec<u64>>,
}

impl Plan {
    pub fn new(copies: u64, drop: f64, reorder: bool, seed: u64, total: Option<u64>) -> Self {
        let copies = copies.max(1);
        let order = reorder.then(|| {
            let slots = total.map_or(WINDOW, |total| WINDOW.min(total.saturating_mul(copies)));
            let mut order: Vec<u64> = (0..slots).collect();
            order.shuffle(&mut StdRng::seed_from_u64(seed));
            order
        });
        Self { copies, drop, seed, order }
    }

    /// The message of the `slot`-th request; none when it is dropped.
    pub fn message(&self, slot: u64, total: Option<u64>) -> Option<u64> {
        let slot = match &self.order {
            Some(order) => shuffled(order, slot, total.map(|t| t.saturating_mul(self.copies))),
            None => slot,
        };
        let message = slot / self.copies;
        let lost = self.drop > 0.0 && self.dice(message).random_bool(self.drop);
        (!lost).then_some(message)
    }

    fn dice(&self, message: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ message.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }
}

/// The last window may be cut short; it stays in order, since its permutation would point outside.
fn shuffled(order: &[u64], slot: u64, slots: Option<u64>) -> u64 {
    let window = order.len() as u64;
    let start = slot - slot % window;
    if slots.is_some_and(|slots| start + window > slots) {
        return slot;
    }
    let nth = usize::try_from(slot % window).unwrap_or(0);
    start + order.get(nth).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_goes_out_as_often_as_it_should() {
        for (reorder, total) in [(false, 10), (true, 10), (true, 1_000)] {
            let plan = Plan::new(3, 0.0, reorder, 7, Some(total));
            let mut seen: Vec<u64> =
                (0..total * 3).filter_map(|slot| plan.message(slot, Some(total))).collect();
            assert_eq!(seen.windows(2).all(|w| w[0] <= w[1]), !reorder);
            seen.sort_unstable();
            assert_eq!(seen, (0..total).flat_map(|m| [m; 3]).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_seed_decides_what_is_dropped_and_copies_share_their_fate() {
        let kept = |seed| {
            let plan = Plan::new(2, 0.5, false, seed, Some(100));
            (0..200).filter_map(|slot| plan.message(slot, Some(100))).collect::<Vec<_>>()
        };
        assert_eq!(kept(1), kept(1));
        assert_ne!(kept(1), kept(2));
        assert!((60..140).contains(&kept(1).len()));
        assert!(kept(1).chunks(2).all(|c| c[0] == c[1]));
    }
}
