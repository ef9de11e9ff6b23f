//! A group: jobs that were submitted together. It has no state of its own: it is finished when its
//! jobs are and it takes no more, and it never changes one of them.

use serde_json::{Map, Value, json};

use super::history::Usual;
use super::job::State;
use super::time::{HOUR, MINUTE, Millis, SECOND, rfc3339};

/// Jobs that one request makes at most.
pub const MAX_JOBS: usize = 10_000;
/// Bytes of the requests of these jobs at most, and of the body that asks for them.
pub const MAX_BYTES: usize = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    pub created_at: Millis,
    pub finished_at: Option<Millis>,
    pub jobs: i64,
    /// How many of them have not ended.
    pub open: i64,
    /// The number of the row that comes next, while it takes more.
    pub next_row: Option<i64>,
    pub title: Option<String>,
    /// The group whose failed jobs these try again.
    pub retry_of: Option<String>,
}

/// How many jobs of a group are in each state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(Vec<(State, i64)>);

impl Counts {
    pub fn add(&mut self, state: State, count: i64) {
        self.0.push((state, count));
    }

    pub fn of(&self, state: State) -> i64 {
        self.0.iter().filter(|(of, _)| *of == state).map(|(_, count)| count).sum()
    }
}

/// How long jobs will take that upstream works on so many at a time, seen when they are submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    pub slots: i64,
    /// From now to the last one's end, with what waits before them.
    pub takes: Usual,
    /// From now to the first one's deadline.
    pub deadline_ms: Millis,
}

impl Outlook {
    /// Of jobs that take `usual`, behind `ahead` others that are taken to be like them.
    pub fn of(usual: &[Usual], ahead: i64, slots: i64, deadline_ms: Millis) -> Self {
        let (count, slots) = (i64::try_from(usual.len()).unwrap_or(i64::MAX), slots.max(1));
        let takes = |of: fn(&Usual) -> Millis| {
            let one = usual.iter().map(of).max().unwrap_or(0);
            let all: Millis = usual.iter().map(of).fold(0, Millis::saturating_add);
            let with_ahead = all.saturating_add((all / count.max(1)).saturating_mul(ahead));
            (with_ahead / slots).max(one)
        };
        Self { slots, takes: Usual { from_ms: takes(|u| u.from_ms), to_ms: takes(|u| u.to_ms) }, deadline_ms }
    }

    /// What to do about a deadline that comes too early.
    fn hint(&self) -> Option<String> {
        (self.takes.to_ms > self.deadline_ms).then(|| {
            format!(
                "with {} at a time they take {} to {}, and a deadline is in {}: what is not sent by then expires; \
                 give a later `deadline`, or submit fewer at once",
                self.slots,
                about(self.takes.from_ms),
                about(self.takes.to_ms),
                about(self.deadline_ms)
            )
        })
    }

    pub fn json(&self) -> Value {
        json!({
            "from_s": self.takes.from_ms / SECOND,
            "to_s": self.takes.to_ms / SECOND,
            "slots": self.slots,
            "deadline_s": self.deadline_ms / SECOND,
            "hint": self.hint(),
        })
    }
}

/// In whole minutes below two hours, else in whole hours; a begun one counts.
fn about(span: Millis) -> String {
    let whole = |unit: Millis| (span + unit - 1) / unit;
    if span < 2 * HOUR { format!("{} min", whole(MINUTE)) } else { format!("{} h", whole(HOUR)) }
}

/// The group as the outside sees it: the same object in every answer and in its event. What could change nothing
/// has no link.
pub fn group_json(group: &Group, counts: &Counts) -> Value {
    let path = format!("/api/groups/{}", group.id);
    let ended = group.jobs - group.open;
    let any = |states: [State; 2]| states.iter().any(|state| counts.of(*state) > 0);
    let by_state: Map<String, Value> =
        State::ALL.iter().map(|state| (state.name().to_owned(), json!(counts.of(*state)))).collect();
    json!({
        "id": group.id,
        "title": group.title,
        "created_at": rfc3339(group.created_at),
        "finished_at": group.finished_at.map(rfc3339),
        "jobs": group.jobs,
        "ended": ended,
        "progress": ended * 100 / group.jobs.max(1),
        "counts": by_state,
        "next_row": group.next_row,
        "retry_of": group.retry_of,
        "status_url": path,
        "jobs_url": format!("/api/jobs?group={}", group.id),
        "cancel_url": (any([State::Held, State::Queued]) || group.next_row.is_some()).then(|| format!("{path}/cancel")),
        "retry_failed_url": any([State::Failed, State::Canceled]).then(|| format!("{path}/retry-failed")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIVE_MINUTES: Usual = Usual { from_ms: 3 * MINUTE, to_ms: 5 * MINUTE };

    #[test]
    fn what_one_takes_is_the_least_and_what_waits_before_counts() {
        let outlook = |jobs: usize, ahead| Outlook::of(&vec![FIVE_MINUTES; jobs], ahead, 10, 24 * HOUR).takes;
        assert_eq!(outlook(1, 0), FIVE_MINUTES);
        assert_eq!(outlook(10, 0), FIVE_MINUTES);
        assert_eq!(outlook(100, 0), Usual { from_ms: 30 * MINUTE, to_ms: 50 * MINUTE });
        assert_eq!(outlook(100, 100), Usual { from_ms: 60 * MINUTE, to_ms: 100 * MINUTE });
        assert_eq!(outlook(0, 5), Usual { from_ms: 0, to_ms: 0 });
    }

    #[test]
    fn a_deadline_that_comes_too_early_is_told_and_another_is_not() {
        let hint = |deadline| Outlook::of(&vec![FIVE_MINUTES; 3_000], 0, 10, deadline).json()["hint"].clone();
        assert_eq!(hint(25 * HOUR), Value::Null);
        assert_eq!(
            hint(25 * HOUR - 1),
            "with 10 at a time they take 15 h to 25 h, and a deadline is in 25 h: what is not sent by then \
             expires; give a later `deadline`, or submit fewer at once"
        );
        assert_eq!((about(2 * HOUR - 1), about(2 * HOUR)), ("120 min".to_owned(), "2 h".to_owned()));
    }
}
