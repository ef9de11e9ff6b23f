//! Makes the next dead letters of a replay due again. What they are about is done by whoever does it
//! otherwise, too.

use super::Work;
use crate::domain::task::Claimed;
use crate::fail::Point;
use crate::flow;
use crate::store::{self, Tx};

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    let (stamp, lease_until) = (work.stamp(), task.lease_until);
    let step = move |tx: &mut Tx| flow::replay_some(tx, &task, &stamp);
    let held = work.record(lease_until, step).await?;
    work.fail.at(Point::RunStored).await;
    if !held {
        work.metrics.stale_finishes.inc();
    }
    Ok(())
}
