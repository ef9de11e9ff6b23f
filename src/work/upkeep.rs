//! Periodic duties of the server itself: each is a task that makes itself due again.

use super::{End, Work, account};
use crate::domain::limit::LOOK;
use crate::domain::task::{Claimed, Outcome, TaskKind, TaskOp};
use crate::domain::time::{HOUR, Millis};
use crate::store::{self, Tx, idempotency, task, upstream_limit};

/// Forgets what is kept no longer.
const PURGE: &str = "purge";
const PURGE_EVERY: Millis = HOUR;
/// Rows let go of in one transaction, so that nobody waits long behind it.
const PURGE_ROWS: i64 = 500;

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    let now = work.clock.now();
    if task.subject == LOOK {
        return account::run(work, task).await;
    }
    if task.subject != PURGE {
        // A duty of a newer version of this program, or a mistake; either way not ours to guess.
        let why = format!("unknown duty {}", task.subject);
        return work.conclude(End::of(task, Outcome::Dead { why })).await;
    }
    let gone = work.db.write_behind(move |tx| idempotency::purge(tx, now, PURGE_ROWS)).await?;
    let full = gone >= PURGE_ROWS.unsigned_abs();
    let until = if full { now } else { now + PURGE_EVERY };
    work.conclude(End::of(task, Outcome::Snooze { until, lane: None })).await
}

/// Makes sure every duty has its task; one that waits keeps its time, but for the look at the account,
/// which is due at once.
pub fn ensure(tx: &mut Tx, now: Millis) -> store::Result<()> {
    if task::find_due(tx, PURGE, TaskKind::Upkeep)?.is_none() {
        task::apply(tx, PURGE, TaskOp::Add(TaskKind::Upkeep, now + PURGE_EVERY))?;
    }
    // The key or the account may be what was repaired before this start.
    if upstream_limit::get(tx)?.wants_look() {
        account::add(tx, now)?;
    }
    Ok(())
}
