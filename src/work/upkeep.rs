//! Periodic duties of the server itself: each is a task that makes itself due again.

use super::{End, Work, event_log};
use crate::domain::event_log::{DUTY as EVENT_LOG, Position};
use crate::domain::task::{Claimed, Outcome, TaskKind, TaskOp};
use crate::domain::time::{HOUR, Millis};
use crate::store::{self, Tx, idempotency, setting, task};

/// Forgets what is kept no longer.
const PURGE: &str = "purge";
const PURGE_EVERY: Millis = HOUR;
/// Rows let go of in one transaction, so that nobody waits long behind it.
const PURGE_ROWS: i64 = 500;

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    match task.subject.as_str() {
        PURGE => purge(work, task).await,
        EVENT_LOG => event_log::run(work, task).await,
        // A duty of a newer version of this program, or a mistake; either way not ours to guess.
        other => {
            let why = format!("unknown duty {other}");
            work.conclude(End::of(task, Outcome::Dead { why })).await
        }
    }
}

async fn purge(work: &Work, task: Claimed) -> store::Result<()> {
    let now = work.clock.now();
    let gone = work.db.write_behind(move |tx| idempotency::purge(tx, now, PURGE_ROWS)).await?;
    let full = gone >= PURGE_ROWS.unsigned_abs();
    let until = if full { now } else { now + PURGE_EVERY };
    work.conclude(End::of(task, Outcome::Snooze { until, lane: None })).await
}

/// Makes sure every duty has its task. One that waits keeps its time, but for the event log: what
/// happened while no server ran is looked for at once.
pub fn ensure(tx: &mut Tx, now: Millis) -> store::Result<()> {
    if task::find_due(tx, PURGE, TaskKind::Upkeep)?.is_none() {
        task::apply(tx, PURGE, TaskOp::Add(TaskKind::Upkeep, now + PURGE_EVERY))?;
    }
    setting::get_or_put(tx, setting::EVENT_LOG, &event_log::text(&Position::new(now)))?;
    task::apply(tx, EVENT_LOG, TaskOp::Add(TaskKind::Upkeep, now))
}
