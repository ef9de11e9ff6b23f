//! Times as the outside sees them: RFC 3339 in UTC with milliseconds.

/// Milliseconds since the Unix epoch, UTC.
pub type Millis = i64;

pub const SECOND: Millis = 1_000;
pub const MINUTE: Millis = 60 * SECOND;
pub const HOUR: Millis = 60 * MINUTE;
pub const DAY: Millis = 24 * HOUR;

/// `2026-11-21T10:00:00.000Z`. A time outside the calendar is shown as its nearest end.
pub fn rfc3339(at: Millis) -> String {
    let at = jiff::Timestamp::from_millisecond(at).unwrap_or(if at < 0 {
        jiff::Timestamp::MIN
    } else {
        jiff::Timestamp::MAX
    });
    format!("{at:.3}")
}

/// Reads an RFC 3339 time with any offset.
pub fn parse_rfc3339(text: &str) -> Option<Millis> {
    text.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_as_it_was_written() {
        let text = rfc3339(1_795_255_200_123);
        assert_eq!(text, "2026-11-21T10:00:00.123Z");
        assert_eq!(parse_rfc3339(&text), Some(1_795_255_200_123));
        assert_eq!(parse_rfc3339("2026-11-21T11:00:00.123+01:00"), Some(1_795_255_200_123));
        assert_eq!(parse_rfc3339("tomorrow"), None);
    }
}
