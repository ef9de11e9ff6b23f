//! What people type and read: spans such as `20m`, pairs such as `team=sales`, ages such as `3 min`.
//! Nothing here reads the time; it is handed in.

use std::time::Duration;

use crate::domain::time::{DAY, HOUR, MINUTE, Millis, SECOND, parse_rfc3339, parse_span, rfc3339};

/// `90`, `90s`, `20m`, `2h`, `7d`, `250ms`, and sums of them such as `1h30m`.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no span of time; write 90s, 20m, 2h, 7d or 1h30m");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let ms = parse_span(text).and_then(|ms| u64::try_from(ms).ok());
    ms.map(Duration::from_millis).ok_or_else(wrong)
}

/// A span in which something can happen.
pub fn some_span(text: &str) -> Result<Duration, String> {
    match span(text)? {
        Duration::ZERO => Err("it must be longer than nothing".to_owned()),
        span => Ok(span),
    }
}

/// A moment: an RFC 3339 time, or a span from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    At(Millis),
    In(Duration),
}

impl Moment {
    pub fn rfc3339(self, now: Millis) -> String {
        match self {
            Self::At(at) => rfc3339(at),
            Self::In(span) => {
                rfc3339(now.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
            }
        }
    }

    /// As RFC 3339, where a span means so long ago.
    pub fn ago(self, now: Millis) -> String {
        match self {
            Self::At(at) => rfc3339(at),
            Self::In(span) => {
                let ago = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
                rfc3339(now.saturating_sub(ago).max(0))
            }
        }
    }
}

pub fn moment(text: &str) -> Result<Moment, String> {
    if let Some(at) = parse_rfc3339(text) {
        return Ok(Moment::At(at));
    }
    let wrong = |_| format!("`{text}` is neither a span such as 2h nor a time such as 2026-11-21T10:00:00Z");
    span(text).map(Moment::In).map_err(wrong)
}

/// `NAME=VALUE`, neither of them empty.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(format!("`{text}` is no NAME=VALUE")),
    }
}

/// So many seconds in the largest unit that has them whole: `90s`, `5m`, `24h`.
pub fn one_unit(seconds: i64) -> String {
    match seconds {
        s if s > 0 && s % 3_600 == 0 => format!("{}h", s / 3_600),
        s if s > 0 && s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// How long ago, in one unit: `12s`, `3m`, `5h`, `2d`.
pub fn age(then: Option<&str>, now: Millis) -> String {
    let Some(then) = then.and_then(parse_rfc3339) else { return String::new() };
    match now.saturating_sub(then).max(0) {
        ms if ms < MINUTE => format!("{}s", ms / SECOND),
        ms if ms < HOUR => format!("{}m", ms / MINUTE),
        ms if ms < 2 * DAY => format!("{}h", ms / HOUR),
        ms => format!("{}d", ms / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_moments_read_as_people_write_them() {
        assert_eq!(span("90"), Ok(Duration::from_secs(90)));
        assert_eq!(span("1h30m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(span("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "h", "2x", "2 h", "-1s", "99999999999999999999d", "1.5h"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(some_span("1ms").is_ok());
        for nothing in ["0", "0s", "0ms", "0h0m"] {
            assert!(some_span(nothing).is_err_and(|why| why.contains("longer than nothing")), "{nothing}");
        }
        assert_eq!(moment("2h"), Ok(Moment::In(Duration::from_secs(7_200))));
        assert_eq!(moment("2026-11-21T10:00:00Z"), Ok(Moment::At(1_795_255_200_000)));
        assert!(moment("tomorrow").is_err());
    }

    #[test]
    fn ages_have_one_unit() {
        let then = Some("2026-11-21T10:00:00Z");
        let at = |ms| age(then, 1_795_255_200_000 + ms);
        assert_eq!([at(0), at(61_000), at(3 * HOUR), at(3 * DAY)], ["0s", "1m", "3h", "3d"]);
        assert_eq!(age(None, 0), "");
    }

    #[test]
    fn a_span_is_told_in_one_unit() {
        assert_eq!([0, 59, 60, 90, 3_600, 86_400].map(one_unit), ["0s", "59s", "1m", "90s", "1h", "24h"]);
    }

    #[test]
    fn a_pair_has_two_sides() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err() && pair("=b").is_err() && pair("a=").is_err());
    }
}
