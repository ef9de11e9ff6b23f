//! Begins a job that was put off, marks one that takes longer than usual, and ends one that has run out of
//! time. Nothing is asked: the last look was a poll's, just before.

use super::{End, Work};
use crate::domain::step::Input;
use crate::domain::task::{Claimed, Outcome};
use crate::store::{self, job};

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    let id = task.subject.clone();
    let found = work.db.read(move |tx| job::find(tx, &id)).await?;
    let now = work.clock.now();
    let end = match found.filter(|job| now < job.deadline_at) {
        Some(job) => {
            let begins_at = job.details.not_before;
            let until = begins_at.filter(|at| now < *at).unwrap_or(job.deadline_at);
            let input = if begins_at.is_some() { Input::Begin } else { Input::Late };
            End::of(task, Outcome::Snooze { until, lane: None }).saying(input)
        }
        None => End::of(task, Outcome::Done).saying(Input::Deadline),
    };
    work.conclude(end).await
}
