//! The only place that reads time or randomness, and the only place that waits.
//!
//! A `Clock` is real, steady or manual. A real one is the machine's wall clock, which may be set. A steady
//! one goes on at the machine's own pace whatever is done to the wall clock, until `shift` moves it. A
//! manual clock moves only by `advance` and draws its randomness from a seed, so a test that uses one
//! never waits and always repeats.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use tokio::sync::watch;

/// Milliseconds since the Unix epoch, UTC.
pub type Millis = i64;

/// A steady clock that the wall clock has left by more than this since it was last right is not to be
/// trusted: the wall clock was set, or the machine stood still.
pub const TRUSTED_WITHIN: Millis = 2_000;

#[derive(Clone)]
pub struct Clock(Inner);

#[derive(Clone)]
enum Inner {
    Real,
    Steady(Arc<Steady>),
    Manual(Arc<Manual>),
}

struct Steady {
    begun: Instant,
    /// What this clock showed at `begun`, as far as is known now.
    zero: AtomicI64,
    /// How far the wall clock was ahead of this one when it was last right.
    wall_ahead: AtomicI64,
    /// It is being set.
    moves: AtomicBool,
}

impl Steady {
    fn now(&self) -> Millis {
        self.zero.load(Ordering::Relaxed) + millis(self.begun.elapsed())
    }
}

struct Manual {
    now: watch::Sender<Millis>,
    dice: Mutex<StdRng>,
}

impl Clock {
    pub fn real() -> Self {
        Self(Inner::Real)
    }

    /// Begins at the wall clock's time.
    #[allow(clippy::disallowed_methods)]
    pub fn steady() -> Self {
        Self(Inner::Steady(Arc::new(Steady {
            begun: Instant::now(),
            zero: AtomicI64::new(wall()),
            wall_ahead: AtomicI64::new(0),
            moves: AtomicBool::new(false),
        })))
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

    pub fn is_steady(&self) -> bool {
        matches!(self.0, Inner::Steady(_))
    }

    pub fn now(&self) -> Millis {
        match &self.0 {
            Inner::Real => wall(),
            Inner::Steady(s) => s.now(),
            Inner::Manual(m) => *m.now.borrow(),
        }
    }

    /// How far the machine's wall clock is ahead of this one; of any but a steady clock, not at all.
    pub fn wall_ahead(&self) -> Millis {
        match &self.0 {
            Inner::Steady(s) => wall() - s.now(),
            Inner::Real | Inner::Manual(_) => 0,
        }
    }

    /// Whether a steady clock may be trusted until somebody has looked where it stands.
    pub fn is_trusted(&self) -> bool {
        match &self.0 {
            Inner::Steady(s) => {
                let left = self.wall_ahead() - s.wall_ahead.load(Ordering::Relaxed);
                left.abs() <= TRUSTED_WITHIN && !s.moves.load(Ordering::SeqCst)
            }
            Inner::Real | Inner::Manual(_) => true,
        }
    }

    /// Moves a steady clock; no other takes orders of this kind.
    pub fn shift(&self, by: Millis) {
        if let Inner::Steady(s) = &self.0 {
            s.zero.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// A steady clock is not to be trusted until `trust`, wherever the wall clock stands.
    pub fn distrust(&self) {
        if let Inner::Steady(s) = &self.0 {
            s.moves.store(true, Ordering::SeqCst);
        }
    }

    /// A steady clock is right now, wherever the wall clock stands.
    pub fn trust(&self) {
        if let Inner::Steady(s) = &self.0 {
            s.wall_ahead.store(self.wall_ahead(), Ordering::Relaxed);
            s.moves.store(false, Ordering::SeqCst);
        }
    }

    /// Moves a manual clock; a real clock takes no orders and ignores it.
    pub fn advance(&self, by: Duration) {
        if let Inner::Manual(m) = &self.0 {
            let by = millis(by);
            m.now.send_modify(|now| *now = now.saturating_add(by));
        }
    }

    /// Waits until `at`, as far away as that is now. On a manual clock that is until somebody advances it
    /// so far.
    #[allow(clippy::disallowed_methods)]
    pub async fn sleep_until(&self, at: Millis) {
        match &self.0 {
            Inner::Real | Inner::Steady(_) => {
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

    /// Waits so long from the call of this on, whatever is done to the clock meanwhile.
    #[allow(clippy::disallowed_methods)]
    pub fn sleep(&self, by: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (clock, at) = (self.clone(), self.now().saturating_add(millis(by)));
        let timer = (!self.is_manual()).then(|| tokio::time::sleep(by));
        async move {
            match timer {
                Some(timer) => timer.await,
                None => clock.sleep_until(at).await,
            }
        }
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
            Inner::Real | Inner::Steady(_) => rand::rng().fill_bytes(&mut bytes),
            Inner::Manual(m) => self.with_dice(m, |dice| dice.fill_bytes(&mut bytes)),
        }
        bytes
    }

    #[allow(clippy::disallowed_methods)]
    /// A factor in `low..high`, for jitter.
    pub fn factor(&self, low: f64, high: f64) -> f64 {
        match &self.0 {
            Inner::Real | Inner::Steady(_) => rand::rng().random_range(low..high),
            Inner::Manual(m) => self.with_dice(m, |dice| dice.random_range(low..high)),
        }
    }

    fn with_dice<T>(&self, m: &Manual, roll: impl FnOnce(&mut StdRng) -> T) -> T {
        // A poisoned lock only means that another thread panicked while rolling.
        let mut dice = m.dice.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        roll(&mut dice)
    }
}

fn millis(span: Duration) -> Millis {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[allow(clippy::disallowed_methods)]
fn wall() -> Millis {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, millis)
}

/// Time that has passed on the monotonic clock, for measuring only.
pub struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(clippy::disallowed_methods)]
    pub fn start() -> Self {
        Self(Instant::now())
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
    fn a_steady_clock_leaves_the_wall_clock_only_when_shifted() {
        let clock = Clock::steady();
        assert!(clock.is_trusted() && clock.wall_ahead().abs() <= TRUSTED_WITHIN);
        clock.shift(-3_600_000);
        assert!(!clock.is_trusted());
        clock.trust();
        assert!((clock.wall_ahead() - 3_600_000).abs() <= TRUSTED_WITHIN);
        assert!(clock.is_trusted(), "it was just put right, the wall clock is wrong");
        let Inner::Steady(steady) = &clock.0 else { panic!("steady") };
        for (moved, trusted) in [(TRUSTED_WITHIN / 2, true), (-TRUSTED_WITHIN / 2, true), (60_000, false)] {
            // As if the wall clock had been set since.
            steady.wall_ahead.store(clock.wall_ahead() - moved, Ordering::Relaxed);
            assert_eq!(clock.is_trusted(), trusted, "{moved}");
        }
        clock.trust();
        assert!(clock.is_trusted());
        clock.distrust();
        assert!(!clock.is_trusted(), "it is being set");
        clock.trust();
        assert!(clock.is_trusted());
        let manual = Clock::manual(5, 1);
        manual.shift(7);
        assert_eq!((manual.now(), manual.wall_ahead(), manual.is_trusted()), (5, 0, true));
    }

    #[test]
    fn the_same_seed_gives_the_same_randomness() {
        let bytes = |seed| Clock::manual(0, seed).random::<16>();
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }
}
