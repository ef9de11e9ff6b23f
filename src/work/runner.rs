//! Claims what is due, runs it, sleeps until there is more.
//!
//! Permits bound the claim, the lease bounds the run, the token guards the finish. The same claim
//! and the same runs serve a live server (`run`) and a test that stands the clock still (`settle`).

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{OptionFuture, join};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};

use super::{Work, apply, deadline, deliver, poll, replay, submit, upkeep};
use crate::domain::dead_letter::{Cause, Trouble};
use crate::domain::endpoint::MAX_ENDPOINTS;
use crate::domain::retry::{MAX_ATTEMPTS, backoff};
use crate::domain::task::{Claimed, Lane, Outcome, TaskKind};
use crate::domain::time::{Millis, SECOND};
use crate::fail::Point;
use crate::flow;
use crate::store::{self, task, upstream_limit};

/// Receipts applied in one transaction, unless a single task has more: bounds how long callers
/// wait for the writer.
const TOGETHER: usize = 256;
/// A sleep that nothing ends, ends now: a lost notification costs no more than this.
const LONGEST_NAP: Millis = SECOND;
/// Least time between two claims, however often the bell rings: what becomes due meanwhile is
/// claimed together.
const CLAIM_PAUSE: Duration = Duration::from_millis(10);
/// Chance never gives it.
const NO_TOKEN: i64 = 0;

struct LaneRule {
    lane: Lane,
    /// How many runs there are at once.
    permits: usize,
    /// Tasks of one run, at most.
    batch: usize,
    /// How long a claim lasts. Longer than the longest run: see each kind of task.
    lease: Millis,
}

/// Origins that are sent to at once, each with up to 16 deliveries. While so many hang, others wait until one of
/// them is done with, within 29 s; endpoints never do.
const MAX_ORIGINS: usize = 64;

const RULES: [LaneRule; 9] = [
    // Each task is about receipts that were accepted together.
    LaneRule { lane: Lane::Inbound, permits: 1, batch: 64, lease: 60 * SECOND },
    LaneRule { lane: Lane::Submit, permits: 16, batch: 1, lease: submit::LEASE },
    LaneRule { lane: Lane::Resolve, permits: 16, batch: 1, lease: submit::LEASE },
    // One read of 30 s for each kind, all at once.
    LaneRule { lane: Lane::Poll, permits: 4, batch: poll::BATCH, lease: 60 * SECOND },
    // Two reads of 30 s each.
    LaneRule { lane: Lane::Ask, permits: 8, batch: 1, lease: 90 * SECOND },
    LaneRule { lane: Lane::Clock, permits: 8, batch: 1, lease: 30 * SECOND },
    // One for each endpoint there may be.
    LaneRule { lane: Lane::Outbound, permits: MAX_ENDPOINTS, batch: 1, lease: deliver::LEASE },
    LaneRule { lane: Lane::Origin, permits: MAX_ORIGINS, batch: 1, lease: deliver::LEASE },
    LaneRule { lane: Lane::Slow, permits: 2, batch: 1, lease: 120 * SECOND },
];

#[derive(Clone)]
pub struct Runner {
    work: Work,
    lanes: Arc<Vec<(&'static LaneRule, Arc<Semaphore>)>>,
    /// A run ended, so there may be a permit for what could not be claimed before.
    freed: Arc<Notify>,
    /// Of a claim that failed, and may have been committed for all that: a connection can end between a
    /// commit and its answer. Nobody runs what it took, so the next claim gives it back first.
    doubtful: Arc<AtomicI64>,
}

/// Tasks of one lane with the permit to run them.
struct Batch {
    lane: Lane,
    tasks: Vec<Claimed>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Runner {
    pub fn new(work: Work) -> Self {
        let lanes = RULES.iter().map(|rule| (rule, Arc::new(Semaphore::new(rule.permits)))).collect();
        let doubtful = Arc::new(AtomicI64::new(NO_TOKEN));
        Self { work, lanes: Arc::new(lanes), freed: Arc::new(Notify::new()), doubtful }
    }

    /// Runs until told to stop, then waits up to `drain` for what is running. What is not done by
    /// then keeps its lease and is taken up by whoever comes after it ends.
    pub async fn run(&self, mut stop: watch::Receiver<bool>, drain: Duration) {
        while !*stop.borrow() {
            let mut bell = self.work.db.bell.arm();
            let mut pause = pin!(self.work.clock.sleep(CLAIM_PAUSE));
            let batches = match self.claim().await {
                Ok(batches) => batches,
                Err(e) => {
                    tracing::warn!(error = %e, "cannot claim work");
                    vec![]
                }
            };
            for batch in batches {
                let runner = self.clone();
                tokio::spawn(async move { runner.execute(batch).await });
            }
            let nap = self.nap().await;
            let woken = async {
                tokio::select! {
                    _ = bell.changed() => {}
                    () = self.freed.notified() => {}
                    () = self.work.clock.sleep_until(nap) => {}
                }
                (&mut pause).await;
            };
            tokio::select! {
                _ = stop.changed() => {}
                () = woken => {}
            }
        }
        let finished = async {
            for (rule, permits) in self.lanes.iter() {
                let all = u32::try_from(rule.permits).unwrap_or(u32::MAX);
                // Fails only when the semaphore is closed, which nobody does.
                let _ = permits.acquire_many(all).await;
            }
        };
        if self.work.clock.within(drain, finished).await.is_none() {
            tracing::warn!("stopped with work unfinished; it is taken up when its lease ends");
        }
    }

    /// Runs everything due, and what that makes due, until nothing is. How many tasks ran.
    pub async fn settle(&self) -> store::Result<usize> {
        let mut ran = 0;
        loop {
            let batches = self.claim().await?;
            if batches.is_empty() {
                return Ok(ran);
            }
            for batch in batches {
                ran += batch.tasks.len();
                self.execute(batch).await;
            }
        }
    }

    /// When the next task becomes due, for a test that wants to go there.
    pub async fn next_due(&self) -> store::Result<Option<Millis>> {
        let now = self.work.clock.now();
        self.work.db.read(move |tx| task::next_due(tx, now)).await
    }

    async fn nap(&self) -> Millis {
        let now = self.work.clock.now();
        let due = self.next_due().await.ok().flatten();
        due.unwrap_or(now + LONGEST_NAP).min(now + LONGEST_NAP)
    }

    /// One transaction claims for all lanes what their free permits allow.
    async fn claim(&self) -> store::Result<Vec<Batch>> {
        if !self.work.clock.is_trusted() {
            // Leases would seem to have ended, or to last. It is looked at within a second.
            return Ok(vec![]);
        }
        let now = self.work.clock.now();
        let mut wanted = vec![];
        for (rule, permits) in self.lanes.iter() {
            if let Ok(permit) = permits
                .clone()
                .try_acquire_many_owned(u32::try_from(permits.available_permits()).unwrap_or(u32::MAX).max(1))
            {
                // What the budget has no room for stays due, in its turn.
                let room = match rule.lane {
                    Lane::Ask => self.work.budget.free(now) / poll::MOST_CALLS,
                    _ => usize::MAX,
                };
                let most = (permit.num_permits() * rule.batch).min(room);
                wanted.push((*rule, most, permit));
            }
        }
        let doubtful = self.doubtful.load(Ordering::Relaxed);
        let token = match doubtful {
            NO_TOKEN => i64::from_be_bytes(self.work.clock.random()),
            token => token,
        };
        let asked: Vec<(Lane, i64, Millis)> = wanted
            .iter()
            .map(|(rule, most, _)| (rule.lane, i64::try_from(*most).unwrap_or(1), now + rule.lease))
            .collect();
        let claimed = self
            .work
            .db
            .write_behind(move |tx| {
                if doubtful != NO_TOKEN {
                    // Locked before any task, as everywhere.
                    upstream_limit::lock(tx)?;
                    task::give_back(tx, doubtful)?;
                }
                let mut due = task::due_lanes(tx, now)?;
                // A look finds out when upstream is back (`work/account.rs`).
                if due.iter().any(|lane| lane.asks_upstream())
                    && upstream_limit::get(tx)?.down_since.is_some()
                {
                    due.retain(|lane| !lane.asks_upstream());
                }
                let all = asked.iter().map(|(lane, most, until)| match lane {
                    lane if !due.contains(lane) => Ok(vec![]),
                    Lane::Submit => upstream_limit::claim_submits(tx, *most, now, *until, token),
                    _ => task::claim(tx, *lane, *most, now, *until, token),
                });
                all.collect::<store::Result<Vec<_>>>()
            })
            .await;
        self.doubtful.store(if claimed.is_ok() { NO_TOKEN } else { token }, Ordering::Relaxed);
        let claimed = claimed?;
        let mut batches = vec![];
        for ((rule, _, mut permit), tasks) in wanted.into_iter().zip(claimed) {
            self.work.metrics.count_many(
                &self.work.metrics.tasks_claimed,
                rule.lane.name(),
                tasks.len() as u64,
            );
            for tasks in tasks.chunks(rule.batch) {
                let own = permit.split(1);
                batches.push(Batch { lane: rule.lane, tasks: tasks.to_vec(), permit: own });
            }
        }
        Ok(batches)
    }

    async fn execute(&self, batch: Batch) {
        let Batch { lane, tasks, permit } = batch;
        self.work.fail.at(Point::RunClaimed).await;
        if lane == Lane::Inbound {
            self.apply_groups(groups(tasks)).await;
        } else if let Err(why) = self.guard(self.dispatch(lane, tasks.clone())).await {
            self.put_back(tasks, &why).await;
        }
        drop(permit);
        self.freed.notify_one();
    }

    /// One after the other, and each is understood while the one before it is recorded: the one takes a
    /// processor, the other mostly the store's time.
    async fn apply_groups(&self, groups: Vec<Vec<Claimed>>) {
        let understand = async |tasks: Vec<Claimed>| {
            let understood = self.guard(apply::understand(&self.work, tasks.clone())).await;
            (tasks, understood)
        };
        let mut before = None;
        for tasks in groups.into_iter().map(Some).chain([None]) {
            let understanding = OptionFuture::from(tasks.map(understand));
            let recording = OptionFuture::from(before.take().map(|(tasks, got)| self.record(tasks, got)));
            (before, _) = join(understanding, recording).await;
        }
    }

    async fn record(&self, tasks: Vec<Claimed>, understood: store::Result<apply::Understood>) {
        let recorded = match understood {
            Ok(understood) => self.guard(apply::record(&self.work, understood)).await,
            Err(why) => Err(why),
        };
        match recorded {
            Ok(took) => self.give_way(took, &tasks).await,
            Err(why) => self.put_back(tasks, &why).await,
        }
    }

    /// To callers, after a turn at the store; not by a clock that somebody moves by hand.
    async fn give_way(&self, took: Duration, over: &[Claimed]) {
        let now = self.work.clock.now();
        let behind = over.iter().map(|task| now.saturating_sub(task.due_at)).max();
        let behind = Duration::from_millis(behind.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0));
        let rest = self.work.db.rest_after(took, behind);
        if !rest.is_zero() && !self.work.clock.is_manual() {
            self.work.clock.sleep(rest).await;
        }
    }

    /// What a run came to; a panic is a fault like others.
    async fn guard<T>(&self, run: impl Future<Output = store::Result<T>>) -> store::Result<T> {
        AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|_| {
            self.work.metrics.task_panics.inc();
            Err(store::Error::Bug("the run panicked".to_owned()))
        })
    }

    async fn dispatch(&self, lane: Lane, tasks: Vec<Claimed>) -> store::Result<()> {
        if lane == Lane::Poll {
            return poll::run_many(&self.work, tasks).await;
        }
        for task in tasks {
            match task.kind {
                TaskKind::Apply => self.apply_groups(vec![vec![task]]).await,
                TaskKind::Submit => submit::run(&self.work, task).await?,
                TaskKind::Poll => poll::run(&self.work, task).await?,
                TaskKind::Deadline => deadline::run(&self.work, task).await?,
                TaskKind::Deliver => deliver::run(&self.work, task).await?,
                TaskKind::Replay => replay::run(&self.work, task).await?,
                TaskKind::Upkeep => upkeep::run(&self.work, task).await?,
            }
        }
        Ok(())
    }

    /// After trouble of our own: tried again later, or given up and kept with the reason. A submit
    /// is never given up here: its deadline ends it.
    async fn put_back(&self, tasks: Vec<Claimed>, fault: &store::Error) {
        let (why, passes) = (fault.to_string(), fault.may_pass());
        tracing::warn!(why, tasks = tasks.len(), kind = tasks[0].kind.name(), "a task failed");
        let (stamp, jitter) = (self.work.stamp(), self.work.jitter());
        let now = stamp.now;
        let (together, lease_until) = (tasks.len() > 1, tasks[0].lease_until);
        let back = move |tx: &mut store::Tx| {
            let mut dead = vec![];
            for task in &tasks {
                if !passes && !task.more.is_empty() {
                    task::split(tx, task, now)?;
                    continue;
                }
                let outcome = match task.kind {
                    // No task is to blame, so none has an attempt less, and they stay together.
                    TaskKind::Apply | TaskKind::Poll if passes => {
                        Outcome::Snooze { until: now + backoff(1, jitter), lane: None }
                    }
                    // One of them is to blame; each is tried alone, where the others come to no harm.
                    TaskKind::Apply if together => Outcome::Retry { at: now, why: why.clone() },
                    TaskKind::Poll if together => Outcome::Snooze { until: now, lane: Some(Lane::Ask) },
                    TaskKind::Apply if task.attempt >= MAX_ATTEMPTS => {
                        Outcome::Dead { cause: Cause::new(Trouble::NotApplied), why: why.clone() }
                    }
                    _ => Outcome::Retry { at: now + backoff(task.attempt, jitter), why: why.clone() },
                };
                if task::settle(tx, task, &outcome, now)?
                    && let Outcome::Dead { cause, .. } = outcome
                {
                    dead.push(cause);
                }
            }
            flow::tell_dead(tx, &dead, &stamp)
        };
        if let Err(e) = self.work.record(lease_until, back).await {
            tracing::warn!(error = %e, "a failed task waits for its lease to end");
        }
    }
}

/// What runs together: tasks of their first attempt up to a bound, and each that failed before
/// alone, so that one poisonous receipt harms no other.
fn groups(tasks: Vec<Claimed>) -> Vec<Vec<Claimed>> {
    let mut groups: Vec<Vec<Claimed>> = vec![];
    let (fresh, tried): (Vec<Claimed>, Vec<Claimed>) = tasks.into_iter().partition(|t| t.attempt == 1);
    let mut room = 0;
    for task in fresh {
        let size = task.subjects().count();
        match groups.last_mut().filter(|_| size <= room) {
            Some(group) => group.push(task),
            None => {
                groups.push(vec![task]);
                room = TOGETHER;
            }
        }
        room = room.saturating_sub(size);
    }
    groups.extend(tried.into_iter().map(|task| vec![task]));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(receipts: usize, attempt: i64) -> Claimed {
        Claimed {
            subject: "rcp_0".to_owned(),
            more: (1..receipts).map(|n| format!("rcp_{n}")).collect(),
            kind: TaskKind::Apply,
            token: 1,
            attempt,
            due_at: 0,
            lease_until: 1,
        }
    }

    #[test]
    fn fresh_tasks_run_together_up_to_a_bound_and_failed_ones_alone() {
        let sizes = |tasks: Vec<Claimed>| -> Vec<Vec<usize>> {
            let sizes = |group: &Vec<Claimed>| group.iter().map(|t| t.subjects().count()).collect();
            groups(tasks).iter().map(sizes).collect()
        };
        assert_eq!(sizes(vec![]), [[0; 0]; 0]);
        assert_eq!(sizes(vec![task(200, 1), task(56, 1), task(1, 1)]), [vec![200, 56], vec![1]]);
        assert_eq!(sizes(vec![task(1, 1), task(TOGETHER + 1, 1)]), [vec![1], vec![TOGETHER + 1]]);
        assert_eq!(
            sizes(vec![task(1, 2), task(2, 1), task(3, 1), task(4, 3)]),
            [vec![2, 3], vec![1], vec![4]]
        );
    }
}
