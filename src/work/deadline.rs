//! Marks a job that takes longer than usual, and ends one that has run out of time. Nothing is
//! asked: the last look was a poll's, just before.

use super::{End, Work};
use crate::domain::step::Input;
use crate::domain::task::{Claimed, Outcome};
use crate::store::{self, job};

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    let id = task.subject.clone();
    let found = work.db.read(move |tx| job::find(tx, &id)).await?;
    let end = match found.filter(|job| work.clock.now() < job.deadline_at) {
        Some(job) => {
            let until_deadline = Outcome::Snooze { until: job.deadline_at, lane: None };
            End::of(task, until_deadline).saying(Input::Late)
        }
        None => End::of(task, Outcome::Done).saying(Input::Deadline),
    };
    work.conclude(end).await
}
