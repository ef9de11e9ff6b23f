//! Periodic duties of the server itself: each is a task that makes itself due again.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{End, Work, account, event_log};
use crate::domain::dead_letter::{Cause, KEPT_FOR, Trouble};
use crate::domain::event::EventType;
use crate::domain::event_log::{DUTY as EVENT_LOG, Position};
use crate::domain::history::{LOOKED_AT, Usual};
use crate::domain::limit::LOOK;
use crate::domain::task::{Claimed, Outcome, TaskKind, TaskOp};
use crate::domain::time::{HOUR, MINUTE, Millis, parse_rfc3339};
use crate::flow;
use crate::store::{
    self, Tx, audit, dead_letter, delivery, event, idempotency, replay, setting, task, upstream_limit,
};

/// Forgets what is kept no longer.
const PURGE: &str = "purge";
const PURGE_EVERY: Millis = HOUR;
/// Rows let go of in one transaction, so that nobody waits long behind it.
const PURGE_ROWS: i64 = 500;
/// Learns how long jobs take.
const LEARN: &str = "learn";
const LEARN_EVERY: Millis = 10 * MINUTE;

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    match task.subject.as_str() {
        PURGE => purge(work, task).await,
        LEARN => learn(work, task).await,
        LOOK => account::run(work, task).await,
        EVENT_LOG => event_log::run(work, task).await,
        // A duty of a newer version of this program, or a mistake; either way not ours to guess.
        other => {
            let why = format!("unknown duty {other}");
            let cause = Cause::new(Trouble::UnknownWork);
            work.conclude(End::of(task, Outcome::Dead { cause, why })).await
        }
    }
}

async fn purge(work: &Work, task: Claimed) -> store::Result<()> {
    let now = work.clock.now();
    let purges: [fn(&mut Tx, Millis) -> store::Result<u64>; 6] = [
        |tx, now| idempotency::purge(tx, now, PURGE_ROWS),
        |tx, now| dead_letter::purge(tx, now - KEPT_FOR, PURGE_ROWS),
        |tx, now| delivery::purge(tx, now - KEPT_FOR, PURGE_ROWS),
        |tx, now| replay::purge(tx, now - KEPT_FOR),
        |tx, now| audit::purge(tx, now - audit::KEPT_FOR, PURGE_ROWS),
        dead_letter::forget_told,
    ];
    let mut full = false;
    for purge in purges {
        let gone = work.db.write_behind(move |tx| purge(tx, now)).await?;
        full |= gone >= PURGE_ROWS.unsigned_abs();
    }
    let until = if full { now } else { now + PURGE_EVERY };
    work.conclude(End::of(task, Outcome::Snooze { until, lane: None })).await
}

/// Learns from the jobs that completed lately how long each kind takes. A kind of which there are
/// too few keeps what was learned before.
async fn learn(work: &Work, task: Claimed) -> store::Result<()> {
    let until = work.clock.now() + LEARN_EVERY;
    let read = |tx: &mut Tx| {
        Ok((flow::find_learned(tx)?, event::list_latest(tx, EventType::Completed.name(), LOOKED_AT)?))
    };
    let (mut learned, events) = work.db.read(read).await?;
    let mut times: BTreeMap<String, Vec<Millis>> = BTreeMap::new();
    let jobs = events.iter().filter_map(|event| serde_json::from_str::<Value>(&event.data).ok());
    // When an adopted one ended nobody knows.
    for job in jobs.filter(|job| job["adopted"] != true) {
        let at = |name: &str| job[name].as_str().and_then(parse_rfc3339);
        if let (Some(kind), Some(from), Some(to)) =
            (job["kind"].as_str(), at("accepted_at"), at("finished_at"))
        {
            times.entry(kind.to_owned()).or_default().push(to.saturating_sub(from));
        }
    }
    for (kind, times) in times {
        if let Some(usual) = Usual::learned(times) {
            learned.insert(kind, usual);
        }
    }
    // Numbers under plain names: writing them cannot fail.
    let learned = serde_json::to_string(&learned).unwrap_or_default();
    work.db.write_behind(move |tx| setting::put(tx, setting::LEARNED, &learned)).await?;
    work.conclude(End::of(task, Outcome::Snooze { until, lane: None })).await
}

/// Makes sure every duty has its task. One that waits keeps its time, but for the event log, where
/// what happened while no server ran is looked for at once, and for the look at the account.
pub fn ensure(tx: &mut Tx, now: Millis) -> store::Result<()> {
    for (duty, every) in [(PURGE, PURGE_EVERY), (LEARN, LEARN_EVERY)] {
        if task::find_due(tx, duty, TaskKind::Upkeep)?.is_none() {
            task::apply(tx, duty, TaskOp::Add(TaskKind::Upkeep, now + every))?;
        }
    }
    // The key or the account may be what was repaired before this start.
    if upstream_limit::get(tx)?.wants_look() {
        account::add(tx, now)?;
    }
    setting::get_or_put(tx, setting::EVENT_LOG, &event_log::text(&Position::new(now)))?;
    task::apply(tx, EVENT_LOG, TaskOp::Add(TaskKind::Upkeep, now))
}
