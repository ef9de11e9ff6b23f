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

/// Reads a span such as `90s`, `20m`, `2h`, `7d`, `250ms`, and sums of them such as `1h30m`.
pub fn parse_span(text: &str) -> Option<Millis> {
    let (mut rest, mut total) = (text, None);
    while !rest.is_empty() {
        let (count, after) =
            rest.split_at(rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len());
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let unit = match &after[..letters] {
            "ms" => 1,
            "s" => SECOND,
            "m" | "min" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            _ => return None,
        };
        let part = count.parse::<Millis>().ok()?.checked_mul(unit)?;
        total = Some(total.map_or(Some(part), |sum: Millis| sum.checked_add(part))?);
        rest = &after[letters..];
    }
    total
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

    #[test]
    fn a_span_has_units_and_may_be_a_sum() {
        assert_eq!(parse_span("1h30m"), Some(90 * MINUTE));
        assert_eq!((parse_span("250ms"), parse_span("7d")), (Some(250), Some(7 * DAY)));
        for wrong in ["", "90", "h", "2x", "2 h", "-1s", "99999999999999999d", "1.5h"] {
            assert_eq!(parse_span(wrong), None, "{wrong}");
        }
    }
}
