//! The only place that reads time or randomness, and the only place that waits.
//!
//! A `Clock` is real or manual. A manual clock moves only by `advance` and draws its
//! randomness from a seed, so a test that uses one never waits and always repeats.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::sync::watch;

/// Milliseconds since the Unix epoch, UTC.
pub type Millis = i64;

#[derive(Clone)]
pub struct Clock(Inner);

#[derive(Clone)]
enum Inner {
    Real,
    Manual(Arc<Manual>),
}

struct Manual {
    now: watch::Sender<Millis>,
    dice: Mutex<StdRng>,
}

impl Clock {
    pub fn real() -> Self {
        Self(Inner::Real)
    }

    /// A clock that stands at `start` until it is advanced; `seed` decides its randomness.
    pub fn manual(start: Millis, seed: u64) -> Self {
        Self(Inner::Manual(Arc::new(Manual {
            now: watch::Sender::new(start),
            dice: Mutex::new(StdRng::seed_from_u64(seed)),
        })))
    }

    pub fn is_manual(&self) -> bool {
        matches!(self.0, Inner::Manual(_))
    }

    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> Millis {
        match &self.0 {
            Inner::Real => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
            Inner::Manual(m) => *m.now.borrow(),
        }
    }

    /// Moves a manual clock; a real clock takes no orders and ignores it.
    pub fn advance(&self, by: Duration) {
        if let Inner::Manual(m) = &self.0 {
            let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
            m.now.send_modify(|now| *now = now.saturating_add(by));
        }
    }

    /// Waits until `at`. On a manual clock that is until somebody advances it so far.
    #[allow(clippy::disallowed_methods)]
    pub async fn sleep_until(&self, at: Millis) {
        match &self.0 {
            Inner::Real => {
                let left = at.saturating_sub(self.now());
                if let Ok(left) = u64::try_from(left) {
                    tokio::time::sleep(Duration::from_millis(left)).await;
                }
            }
            Inner::Manual(m) => {
                let mut seen = m.now.subscribe();
                // The sender lives in `m`, so this cannot fail while we hold it.
                let _ = seen.wait_for(|now| *now >= at).await;
            }
        }
    }

    pub async fn sleep(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.sleep_until(self.now().saturating_add(by)).await;
    }

    /// The answer of `work`, or `None` when it takes longer than `limit` by this clock.
    pub async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.sleep(limit) => None,
        }
    }

    #[allow(clippy::disallowed_methods)]
    /// Unpredictable bytes: the operating system's on a real clock, seeded on a manual one.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        match &self.0 {
            Inner::Real => rand::rng().fill_bytes(&mut bytes),
            Inner::Manual(m) => self.with_dice(m, |dice| dice.fill_bytes(&mut bytes)),
        }
        bytes
    }

    #[allow(clippy::disallowed_methods)]
    /// A factor in `low..high`, for jitter.
    pub fn factor(&self, low: f64, high: f64) -> f64 {
        match &self.0 {
            Inner::Real => rand::rng().random_range(low..high),
            Inner::Manual(m) => self.with_dice(m, |dice| dice.random_range(low..high)),
        }
    }

    fn with_dice<T>(&self, m: &Manual, roll: impl FnOnce(&mut StdRng) -> T) -> T {
        // A poisoned lock only means that another thread panicked while rolling.
        let mut dice = m.dice.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        roll(&mut dice)
    }
}

/// Time that has passed on the monotonic clock, for measuring only.
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_moves_only_when_told() {
        let clock = Clock::manual(1_000, 7);
        assert_eq!(clock.now(), 1_000);
        let waiter = clock.clone();
        let done = tokio::spawn(async move { waiter.sleep_until(1_500).await });
        clock.advance(Duration::from_millis(500));
        done.await.unwrap();
        assert_eq!(clock.now(), 1_500);
    }

    #[test]
    fn the_same_seed_gives_the_same_randomness() {
        let bytes = |seed| Clock::manual(0, seed).random::<16>();
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }
}
