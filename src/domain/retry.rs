//! When to try again, and when to ask. Pure schedules; jitter comes in as a factor around 1.

use std::num::IntErrorKind;

use super::time::{HOUR, MINUTE, Millis, SECOND};

/// Attempts of a task whose trouble is ours (store down, bug), before it is a dead letter.
pub const MAX_ATTEMPTS: i64 = 20;

/// Pause after the `attempt`-th try (from 1): 1 s doubling to 5 min, times `jitter`.
pub fn backoff(attempt: i64, jitter: f64) -> Millis {
    let doublings = u32::try_from(attempt.clamp(1, 10) - 1).unwrap_or(0);
    scaled((SECOND << doublings).min(5 * MINUTE), jitter)
}

/// Pause before the submit of one job is tried again after upstream trouble: 2 s doubling to 60 s.
/// The bound keeps "back to full slots within a minute" true after an outage.
pub fn submit_backoff(tries: i64, jitter: f64) -> Millis {
    let doublings = u32::try_from(tries.clamp(1, 6) - 1).unwrap_or(0);
    scaled(((2 * SECOND) << doublings).min(MINUTE), jitter)
}

/// How long upstream's `Retry-After` is obeyed at most. Longer is treated as this.
pub const MAX_RETRY_AFTER: Millis = HOUR;

/// The value of a `Retry-After` header, seconds or an HTTP date, as a pause from now.
pub fn parse_retry_after(text: &str, now: Millis) -> Option<Millis> {
    let text = text.trim();
    match text.parse::<Millis>() {
        Ok(seconds) => Some(seconds.saturating_mul(SECOND)),
        // More than a number can hold is still a wish to wait.
        Err(e) if *e.kind() == IntErrorKind::PosOverflow => Some(Millis::MAX),
        Err(_) => http_date(text).map(|at| at.saturating_sub(now)),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the only form HTTP still sends.
fn http_date(text: &str) -> Option<Millis> {
    let at = jiff::fmt::rfc2822::parse(&text.replace("GMT", "+0000")).ok()?;
    Some(at.timestamp().as_millisecond())
}

/// Pause before the next poll of a job that was accepted `age` ago and asked for `asked` times
/// since it was expected: a tenth of its age, at least `least`, at most ten minutes.
pub fn poll_pause(age: Millis, least: Millis, jitter: f64) -> Millis {
    scaled((age / 10).clamp(least, (10 * MINUTE).max(least)), jitter)
}

/// Jobs that can be asked for in one call are asked for at whole multiples of this, or of a shorter least pause,
/// so that they come due together however far apart they were sent.
const BEAT: Millis = 15 * SECOND;

/// The beat that is nearest to `at`.
pub fn nearest_beat(at: Millis, least: Millis) -> Millis {
    let beat = BEAT.min(least).max(1);
    (at + beat / 2).div_euclid(beat) * beat
}

/// `at`, or the first beat after it.
pub fn next_beat(at: Millis, least: Millis) -> Millis {
    let beat = BEAT.min(least).max(1);
    (at + beat - 1).div_euclid(beat) * beat
}

pub(super) fn scaled(pause: Millis, jitter: f64) -> Millis {
    // Pauses are far below 2^52 ms, where f64 is exact.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    let scaled = (pause as f64 * jitter) as Millis;
    scaled.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let all: Vec<_> = [1, 2, 3, 9, 10, 1_000].iter().map(|n| backoff(*n, 1.0)).collect();
        assert_eq!(all, [1_000, 2_000, 4_000, 256_000, 300_000, 300_000]);
        assert_eq!(submit_backoff(1, 1.0), 2_000);
        assert_eq!(submit_backoff(99, 1.0), 60_000);
        assert_eq!(backoff(i64::MIN, 1.0), 1_000);
    }

    #[test]
    fn beats_are_as_far_apart_as_polls_at_most() {
        let nearest = [0, 7, 8, 22, 23].map(|s| nearest_beat(s * SECOND, MINUTE) / SECOND);
        assert_eq!(nearest, [0, 0, 15, 15, 30]);
        let next = [0, 1, 15_000, 15_001].map(|at| next_beat(at, MINUTE));
        assert_eq!(next, [0, 15_000, 15_000, 30_000]);
        assert_eq!((nearest_beat(1_400, SECOND), next_beat(1_400, SECOND)), (1_000, 2_000));
        assert_eq!((nearest_beat(7, 0), next_beat(7, 0)), (7, 7));
    }

    #[test]
    fn a_wish_to_wait_is_understood_however_long() {
        let now = 784_111_777_000;
        let wishes = [
            ("120", Some(120_000)),
            (" 0 ", Some(0)),
            ("9223372036854775807", Some(Millis::MAX)),
            ("9223372036854775808", Some(Millis::MAX)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10_000)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", Some(-10_000)),
            ("soon", None),
            ("1.5", None),
            ("", None),
        ];
        for (text, pause) in wishes {
            assert_eq!(parse_retry_after(text, now), pause, "{text}");
        }
    }

    #[test]
    fn polls_widen_with_age() {
        assert_eq!(poll_pause(0, 15_000, 1.0), 15_000);
        assert_eq!(poll_pause(20 * MINUTE, 15_000, 1.0), 2 * MINUTE);
        assert_eq!(poll_pause(24 * HOUR, 15_000, 1.0), 10 * MINUTE);
    }
}
