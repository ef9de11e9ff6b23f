//! A replay: dead letters, or all that one endpoint has not taken, made due again, some at a time. How many a
//! step takes, and when the next is.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::dead_letter::Filter;
use super::time::{Millis, SECOND, rfc3339};

/// How many are made due in a second, unless the caller says otherwise.
pub const RATE: i64 = 50;
pub const MAX_RATE: i64 = 1_000;
/// So many steps a second, that live traffic finds room between them; a step is one transaction.
const STEPS: i64 = 10;
/// Replays that may run at once.
pub const MAX_RUNNING: i64 = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    pub id: String,
    pub created_at: Millis,
    /// When it was done, or stopped.
    pub ended_at: Option<Millis>,
    pub details: Details,
}

/// The part nothing is searched by; stored as one JSON text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Details {
    /// Who began it: the name of an API key.
    pub by: String,
    pub filter: Filter,
    /// Of all that the filter's endpoint has not taken: what waits for its next attempt, too.
    #[serde(default)]
    pub pending: bool,
    /// How many a second.
    pub rate: i64,
    /// How many there were when it began.
    pub count: i64,
    /// How many were made due.
    pub done: i64,
    pub stopped: bool,
    /// The last that was looked at: when it was given up, and its id; of pending ones only the id. Each is
    /// taken once, even one that is given up again meanwhile.
    pub position: (Millis, String),
}

impl Details {
    /// Of one that begins.
    pub fn new(by: &str, filter: Filter, rate: i64, count: i64) -> Self {
        let position = (i64::MIN, String::new());
        Self { by: by.to_owned(), filter, pending: false, rate, count, done: 0, stopped: false, position }
    }
}

impl Replay {
    pub fn new(id: String, details: Details, now: Millis) -> Self {
        Self { id, created_at: now, ended_at: None, details }
    }

    /// How many the next step takes.
    pub fn step(&self) -> i64 {
        (self.details.rate / STEPS).max(1)
    }

    /// How long after a step the next is due.
    pub fn pause(&self) -> Millis {
        self.step() * SECOND / self.details.rate.max(1)
    }

    /// Takes in what a step looked at, the last last, and how many of those it made due.
    pub fn took(&mut self, looked_at: &[(Millis, String)], made_due: i64, now: Millis) {
        self.details.done += made_due;
        if let Some(last) = looked_at.last() {
            self.details.position = last.clone();
        }
        if i64::try_from(looked_at.len()).unwrap_or(i64::MAX) < self.step() {
            self.ended_at = Some(now);
        }
    }

    /// False when it had ended.
    pub fn stop(&mut self, now: Millis) -> bool {
        let runs = self.ended_at.is_none();
        if runs {
            (self.ended_at, self.details.stopped) = (Some(now), true);
        }
        runs
    }

    pub fn state(&self) -> &'static str {
        match (self.ended_at, self.details.stopped) {
            (None, _) => "running",
            (Some(_), false) => "finished",
            (Some(_), true) => "stopped",
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "id": self.id,
            "state": self.state(),
            "count": self.details.count,
            "done": self.details.done,
            "rate": self.details.rate,
            "filter": self.details.filter.json(),
            "pending": self.details.pending,
            "by": self.details.by,
            "created_at": rfc3339(self.created_at),
            "ended_at": self.ended_at.map(rfc3339),
            "status_url": format!("/api/replays/{}", self.id),
            "stop_url": self.ended_at.is_none().then(|| format!("/api/replays/{}/stop", self.id)),
        })
    }
}

/// The states a replay can be in.
pub const STATES: [&str; 3] = ["running", "finished", "stopped"];

#[cfg(test)]
mod tests {
    use super::*;

    fn replay(rate: i64) -> Replay {
        Replay::new("rpl_1".to_owned(), Details::new("ci", Filter::default(), rate, 9), 0)
    }

    #[test]
    fn steps_keep_the_rate_and_their_bound() {
        for (rate, step, pause) in
            [(1, 1, SECOND), (9, 1, 111), (50, 5, 100), (59, 5, 84), (250, 25, 100), (1_000, 100, 100)]
        {
            let replay = replay(rate);
            assert_eq!((replay.step(), replay.pause()), (step, pause));
        }
    }

    #[test]
    fn it_ends_when_a_step_finds_fewer_than_it_may_take_or_is_stopped() {
        let found = |n: i64| (0..n).map(|at| (at, format!("dlv_{at}"))).collect::<Vec<_>>();
        let mut one = replay(3);
        one.took(&found(3), 2, 7);
        assert_eq!(
            (one.state(), one.details.done, &one.details.position),
            ("running", 2, &(2, "dlv_2".to_owned()))
        );
        one.took(&found(0), 0, 8);
        assert_eq!((one.state(), one.ended_at, one.details.done), ("finished", Some(8), 2));
        assert!(!one.stop(9), "it has ended");
        let mut other = replay(3);
        assert!(other.stop(9) && !other.stop(10));
        assert_eq!((other.state(), other.ended_at), ("stopped", Some(9)));
        assert!([one, other, replay(1)].iter().all(|replay| STATES.contains(&replay.state())));
    }
}
