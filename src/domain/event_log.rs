//! How far HeyGen's event log has been read. Its pages come newest first, so the position moves
//! only when a reading has met what was read before; a reading under way keeps its own place.
//!
//! Decides when a reading is over and what it could not find any more; it never asks anybody.

use serde::{Deserialize, Serialize};

use super::time::{HOUR, MINUTE, Millis, SECOND};

/// The subject of the one task that reads the log.
pub const DUTY: &str = "event_log";
/// Without any trouble it is read this often.
pub const EVERY: Millis = HOUR;
/// Pause between two pages: out of politeness, and so that other work gets its turn.
pub const PAGE_PAUSE: Millis = SECOND;
/// A reading goes back this far behind the newest entry read before: how late an entry may enter
/// the log is not documented.
pub const OVERLAP: Millis = 15 * MINUTE;
/// Pages of one reading, 100 entries each: at a page a second about a quarter of an hour. Whatever
/// is older is told as a gap.
const MOST_PAGES: u32 = 1_000;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Position {
    /// When it was first written down; nothing older concerns us.
    pub began_at: Millis,
    /// Time of the newest entry read, everything older included.
    pub read_to: Option<Millis>,
    pub caught_up_at: Option<Millis>,
    pub reading: Option<Reading>,
    /// What the last reading wanted and upstream no longer had.
    pub gap: Option<Gap>,
    /// Why the last try found nothing out.
    pub fault: Option<String>,
}

/// A reading under way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// Upstream's token of the page that comes next.
    pub token: Option<String>,
    newest: Option<Millis>,
    oldest: Option<Millis>,
    pages: u32,
}

/// Events of this time can no longer be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub from: Millis,
    pub to: Millis,
    pub found_at: Millis,
}

impl Position {
    pub fn new(now: Millis) -> Self {
        Self { began_at: now, ..Self::default() }
    }

    /// Entries before this were dealt with.
    pub fn floor(&self) -> Millis {
        self.read_to.unwrap_or(self.began_at).saturating_sub(OVERLAP)
    }

    /// The position once a page is dealt with: the times of its entries in their order, as far as
    /// they have one, and the token of the page behind it.
    pub fn after_page(&self, times: &[Option<Millis>], next: Option<String>, now: Millis) -> Self {
        // One from the future would make all that follows look old.
        let known: Vec<Millis> = times.iter().flatten().copied().filter(|at| *at <= now + OVERLAP).collect();
        let so_far = self.reading.clone().unwrap_or_default();
        let reading = Reading {
            newest: so_far.newest.max(known.iter().max().copied()),
            oldest: so_far.oldest.into_iter().chain(known.iter().min().copied()).min(),
            pages: so_far.pages + 1,
            token: next,
        };
        // A page that runs from old to new says nothing of what comes behind it.
        let met = matches!((known.first(), known.last()),
            (Some(first), Some(last)) if first >= last && *last < self.floor());
        let exhausted = reading.pages >= MOST_PAGES;
        if !met && !exhausted && reading.token.is_some() {
            return Self { reading: Some(reading), fault: None, ..self.clone() };
        }
        // A log that ends before our beginning is only short; one that ends before an entry that
        // was once in it has lost some.
        let wanted = self.read_to.or(exhausted.then_some(self.began_at));
        let gap = wanted.filter(|from| !met && reading.oldest.is_none_or(|oldest| oldest > *from));
        let gap = gap.map(|from| Gap { from, to: reading.oldest.unwrap_or(now), found_at: now });
        Self {
            read_to: self.read_to.max(reading.newest),
            caught_up_at: Some(now),
            reading: None,
            gap: gap.or_else(|| self.gap.clone()),
            fault: None,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 100 * HOUR;

    fn next() -> Option<String> {
        Some("more".to_owned())
    }

    #[test]
    fn it_goes_back_page_by_page_until_it_meets_what_it_knows() {
        let start = Position { read_to: Some(NOW - 10 * HOUR), ..Position::new(0) };
        let one = start.after_page(&[Some(NOW - HOUR), Some(NOW - 5 * HOUR)], next(), NOW);
        assert_eq!(one.read_to, start.read_to, "it moves only when all is read");
        assert_eq!(one.reading.as_ref().and_then(|r| r.token.clone()), next());
        let two = one.after_page(&[Some(NOW - 9 * HOUR), Some(NOW - 11 * HOUR)], next(), NOW);
        assert_eq!((two.read_to, &two.reading, two.caught_up_at), (Some(NOW - HOUR), &None, Some(NOW)));
        assert_eq!(two.gap, None);
    }

    #[test]
    fn what_is_no_longer_there_is_a_gap_and_a_short_log_is_none() {
        let known = Position { read_to: Some(NOW - 10 * HOUR), ..Position::new(0) };
        let lost = known.after_page(&[Some(NOW), Some(NOW - HOUR)], None, NOW);
        assert_eq!(lost.gap, Some(Gap { from: NOW - 10 * HOUR, to: NOW - HOUR, found_at: NOW }));
        assert_eq!(known.after_page(&[], None, NOW).gap.map(|g| g.to), Some(NOW), "an emptied log");
        let still = [Some(NOW), Some(NOW - 10 * HOUR)];
        assert_eq!(known.after_page(&still, None, NOW).gap, None, "the last entry read is still there");
        assert_eq!(Position::new(0).after_page(&[Some(NOW)], None, NOW).gap, None);
        assert_eq!(Position::new(0).after_page(&[], None, NOW).gap, None);
    }

    #[test]
    fn times_that_cannot_be_trusted_neither_move_it_nor_end_a_reading() {
        let start = Position { read_to: Some(NOW - HOUR), ..Position::new(0) };
        let future = start.after_page(&[Some(NOW + HOUR), None], None, NOW);
        assert_eq!(future.read_to, start.read_to);
        let old_first = start.after_page(&[Some(NOW - 9 * HOUR), Some(NOW - 5 * HOUR)], next(), NOW);
        assert!(old_first.reading.is_some(), "newer ones may come behind");
        assert!(start.after_page(&[None, None], next(), NOW).reading.is_some());
    }

    #[test]
    fn a_reading_has_a_bound_and_says_what_it_left() {
        let mut at = Position::new(0);
        for n in 0..MOST_PAGES {
            assert!(at.caught_up_at.is_none(), "after {n} pages");
            at = at.after_page(&[Some(NOW - i64::from(n))], next(), NOW);
        }
        assert!(at.reading.is_none());
        assert_eq!(at.gap.map(|g| g.from), Some(0));
    }
}
