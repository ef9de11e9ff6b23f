//! Looks the account up while HeyGen does not answer, while that may end a pause of submission, or a cap
//! on credits needs it. The call costs nothing, and no job is risked to find out.

use super::{Work, tell_pause};
use crate::domain::limit::LOOK;
use crate::domain::task::{Claimed, Outcome, TaskKind, TaskOp};
use crate::domain::time::Millis;
use crate::heygen::account::balance;
use crate::heygen::fault::Fault;
use crate::store::{self, Tx, task, upstream_limit};

/// Has the account looked up at once.
pub fn add(tx: &mut Tx, now: Millis) -> store::Result<()> {
    task::apply(tx, LOOK, TaskOp::Add(TaskKind::Upkeep, now))
}

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    let wanted = work.db.read(upstream_limit::get).await?.wants_look();
    let seen = if wanted { Some(work.heygen.me().await) } else { None };
    if let Some(seen) = &seen {
        work.called("me", seen).await;
    }
    let now = work.clock.now();
    let record = move |tx: &mut Tx| {
        let mut limit = upstream_limit::lock(tx)?;
        let paused = limit.pause.as_ref().map(|pause| pause.reason);
        let lacked = limit.lacks_credit(now);
        match &seen {
            None | Some(Err(Fault::NotSent { .. } | Fault::Unknown { .. })) => {}
            Some(answer) => {
                limit.answered();
                match answer {
                    Ok(me) => limit.looked(balance(me), now),
                    Err(Fault::Blocked { by, .. }) => limit.block(*by, now),
                    Err(_) => {}
                }
            }
        }
        upstream_limit::put(tx, &limit)?;
        let until = limit.next_look(now);
        let outcome = if limit.wants_look() { Outcome::Snooze { until, lane: None } } else { Outcome::Done };
        let held = task::settle(tx, &task, &outcome, now)?;
        let lacks = (lacked, limit.lacks_credit(now));
        Ok((held, lacks, paused, limit.pause.map(|pause| pause.reason)))
    };
    let (held, (lacked, lacks), before, after) = work.db.write_behind(record).await?;
    if !held {
        work.metrics.stale_finishes.inc();
    }
    tell_pause(before, after);
    match (lacked, lacks) {
        (before, Some(wait)) if before != lacks => tracing::warn!(reason = wait.reason, "{}", wait.what),
        (Some(wait), None) => tracing::info!(reason = wait.reason, "submission goes on"),
        _ => {}
    }
    Ok(())
}
