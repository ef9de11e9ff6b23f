//! Ends a job that has run out of time. Nothing is asked: the last look was a poll's, just before.

use super::{End, Work};
use crate::domain::step::Input;
use crate::domain::task::{Claimed, Outcome};
use crate::store;

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    work.conclude(End::of(task, Outcome::Done).saying(Input::Deadline)).await
}
