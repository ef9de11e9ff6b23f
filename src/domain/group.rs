//! A group: jobs that were submitted together. It has no state of its own: it is finished when its
//! jobs are, and it never changes one of them.

use serde_json::{Map, Value, json};

use super::job::State;
use super::time::{Millis, rfc3339};

/// Jobs of one group at most.
pub const MAX_JOBS: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub id: String,
    pub created_at: Millis,
    pub finished_at: Option<Millis>,
    pub jobs: i64,
    /// How many of them have not ended.
    pub open: i64,
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

/// The group as the outside sees it: the same object in every answer and in its event. What could be done
/// to none of its jobs has no link.
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
        "retry_of": group.retry_of,
        "status_url": path,
        "jobs_url": format!("/api/jobs?group={}", group.id),
        "cancel_url": any([State::Held, State::Queued]).then(|| format!("{path}/cancel")),
        "retry_failed_url": any([State::Failed, State::Canceled]).then(|| format!("{path}/retry-failed")),
    })
}
