//! Sends what is due to one target: an endpoint, or a place jobs name. One run holds one target and
//! sends it several deliveries at once, each on its own; so a target that hangs holds up no other,
//! and one delivery no next one.
//!
//! A target nobody answers at is left alone for a while: its own task is what waits, and the attempts
//! of that task are the breaker's memory. Then it is tried with one delivery before there are more.

mod parcel;

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::task::{JoinError, JoinSet};

use self::parcel::{Look, Parcel, look};
use super::{End, Work};
use crate::domain::dead_letter::{Cause, Trouble};
use crate::domain::delivery::{Answer, Attempt, Delivery, Meaning, Target, beginning, breaker_pause};
use crate::domain::endpoint::{DISABLE_AFTER, Endpoint};
use crate::domain::event::DEAD_LETTER_ADDED;
use crate::domain::ids;
use crate::domain::task::{Claimed, Outcome, TaskKind, TaskOp};
use crate::domain::time::{DAY, Millis, SECOND};
use crate::fail::Point;
use crate::flow::{self, Stamp};
use crate::net::{self, Call};
use crate::store::{self, Tx, delivery, endpoint, task};

/// Deliveries of one target that are under way at once.
const AT_ONCE: usize = 8;
/// The whole exchange.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Of an answer's body no more is read.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// A run begins new attempts for so long, then others have their turn.
const BEGIN_FOR: Millis = 5 * SECOND;
/// Longer than a run: it begins for 5 s, then an exchange takes 15 s and its body 2 s.
pub(super) const LEASE: Millis = 60 * SECOND;
/// So many attempts in a row without anybody there end a run.
const NOBODY_THERE: usize = 3;
/// Least time between two looks for what has become due meanwhile.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    if ids::has_shape(ids::DELIVERY, &task.subject) {
        return revive(work, task).await;
    }
    let Some(target) = Target::parse(&task.subject) else {
        let (cause, why) =
            (Cause::new(Trouble::UnknownWork), format!("no target is called {}", task.subject));
        return work.conclude(End::of(task, Outcome::Dead { cause, why })).await;
    };
    let begun_at = work.clock.now();
    let mut run = Run {
        work,
        task,
        target,
        begun_at,
        endpoint: None,
        closed: false,
        sending: JoinSet::new(),
        under_way: HashSet::new(),
        taken: 0,
        slow: 0,
        after: None,
        why: String::new(),
    };
    run.send_all().await?;
    run.end().await
}

/// A delivery that was given up and is wanted after all goes the way of all others.
async fn revive(work: &Work, task: Claimed) -> store::Result<()> {
    let (stamp, lease_until) = (work.stamp(), task.lease_until);
    let write = move |tx: &mut Tx| {
        let held = task::settle(tx, &task, &Outcome::Done, stamp.now)?;
        if held {
            flow::revive_delivery(tx, &task.subject, &stamp)?;
        }
        Ok(held)
    };
    if !work.record(lease_until, write).await? {
        work.metrics.stale_finishes.inc();
    }
    Ok(())
}

/// An attempt that was made.
struct Tried {
    delivery: Delivery,
    attempt: Attempt,
    meaning: Meaning,
    wants_no_more: Option<&'static str>,
    /// What it would be given up for.
    cause: Cause,
}

/// A delivery as an attempt left it, and for what it was given up, if it was.
type Ended = (Delivery, Option<(Cause, String)>);

struct Run<'a> {
    work: &'a Work,
    task: Claimed,
    target: Target,
    begun_at: Millis,
    endpoint: Option<Endpoint>,
    /// Nothing may be sent to it any more.
    closed: bool,
    sending: JoinSet<Tried>,
    under_way: HashSet<String>,
    taken: usize,
    /// Since the last that was taken: those that found nobody there, or too much to do.
    slow: usize,
    /// The longest pause the receiver asked for; nothing more is begun once it did.
    after: Option<Millis>,
    why: String,
}

impl Run<'_> {
    async fn send_all(&mut self) -> store::Result<()> {
        let clock = self.work.clock.clone();
        loop {
            // Armed before looking: what happens in between rings it.
            let mut bell = self.work.db.bell.arm();
            if self.room() > 0 {
                self.begin().await?;
            }
            let has_room = self.room() > 0;
            let news = async {
                if !has_room {
                    std::future::pending::<()>().await;
                }
                // Lives as long as the database handle we hold.
                let _ = bell.changed().await;
                clock.sleep(LOOK_PAUSE).await;
            };
            tokio::select! {
                biased;
                done = self.sending.join_next() => match done {
                    Some(done) => self.take(done).await?,
                    None => return Ok(()),
                },
                () = news => {}
            }
        }
    }

    /// How many more may be under way.
    fn room(&self) -> usize {
        let time_is_up = self.work.clock.now() >= self.begun_at + BEGIN_FOR;
        if self.closed || time_is_up || self.after.is_some() || self.slow >= NOBODY_THERE {
            return 0;
        }
        let probing = self.task.attempt > 1 && self.taken == 0;
        (if probing { 1 } else { AT_ONCE }).saturating_sub(self.sending.len())
    }

    /// Looks for what is due and begins to send as much of it as there is room for.
    async fn begin(&mut self) -> store::Result<()> {
        let (target, now) = (self.target.clone(), self.work.clock.now());
        // Those under way are still due.
        let most = i64::try_from(AT_ONCE + self.under_way.len()).unwrap_or(1);
        let configured = self.work.webhook_secrets.clone();
        let seen = self.work.db.read(move |tx| look(tx, &target, now, most, &configured)).await?;
        let Look { endpoint, parcels, closed } = seen;
        self.endpoint = endpoint;
        self.closed = closed;
        let room = self.room();
        let fresh = parcels.into_iter().filter(|p| !self.under_way.contains(&p.delivery.id));
        for parcel in fresh.take(room).collect::<Vec<_>>() {
            self.under_way.insert(parcel.delivery.id.clone());
            self.sending.spawn(send(self.work.clone(), parcel));
        }
        Ok(())
    }

    /// Records this one and all others that have ended by now.
    async fn take(&mut self, done: Result<Tried, JoinError>) -> store::Result<()> {
        let mut ended = vec![done];
        ended.extend(std::iter::from_fn(|| self.sending.try_join_next()));
        let (m, now) = (self.work.metrics.clone(), self.work.clock.now());
        let (mut records, mut disable_for, mut taken) = (vec![], None, 0);
        for done in ended {
            let Tried { mut delivery, attempt, meaning, wants_no_more, cause } =
                done.map_err(|e| store::Error::Bug(format!("an attempt ended badly: {e}")))?;
            self.under_way.remove(&delivery.id);
            m.count(&m.delivery_attempts, meaning.name());
            match &meaning {
                Meaning::Taken => {
                    (taken, self.slow) = (taken + 1, 0);
                    m.told(delivery.created_at, now);
                }
                Meaning::Slow { after } => {
                    self.slow += 1;
                    self.after = self.after.max(*after);
                    self.why = attempt.error.clone().unwrap_or_default();
                }
                _ => {}
            }
            disable_for = disable_for.or(wants_no_more);
            let given_up = delivery.take(attempt, &meaning, self.work.jitter(), now);
            if let Some(why) = &given_up {
                let (id, target) = (&delivery.id, self.target.name());
                tracing::warn!(delivery_id = %id, target, event_type = %delivery.event_type, why, "delivery given up");
            }
            records.push((delivery, given_up.map(|why| (cause, why))));
        }
        self.taken += taken;
        let overdue = self.record(records, taken > 0, now).await?;
        let long = || format!("every attempt failed for {} days", DISABLE_AFTER / DAY);
        if let Some(why) = disable_for.map(str::to_owned).or(overdue.then(long)) {
            self.disable(&why).await?;
        }
        Ok(())
    }

    /// What became of some deliveries, and of their endpoint by it. Whether it has failed for too long.
    async fn record(&mut self, records: Vec<Ended>, taken: bool, now: Millis) -> store::Result<bool> {
        let (task, target, stamp) = (self.task.clone(), self.target.clone(), self.work.stamp());
        let is_news = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.is_news(taken, now));
        let is_test = matches!(target, Target::Test(_));
        let write = move |tx: &mut Tx| {
            if !task::is_held(tx, &task)? {
                return Ok(None);
            }
            let id = target.endpoint_id();
            let (mut overdue, mut dead) = (false, vec![]);
            if records.iter().any(|(_, given_up)| given_up.is_some()) {
                // Somebody may be told of it, and who publishes goes before endpoints.
                endpoint::lock_publishing(tx)?;
            }
            // The endpoint before its deliveries, as everywhere.
            if let Some(mut found) =
                id.filter(|_| is_news || is_test).map(|id| endpoint::lock(tx, id)).transpose()?.flatten()
            {
                match (is_test, taken) {
                    (false, taken) => overdue = found.fared(taken, now),
                    (true, true) => {
                        found.details.tested_at = Some(now);
                        // It is there again, so what was put off need not wait.
                        task::apply(tx, &found.id, TaskOp::Hasten(TaskKind::Deliver, now))?;
                    }
                    (true, false) => {}
                }
                endpoint::put(tx, &found)?;
            }
            let is_gone = id.map(|id| endpoint::find(tx, id)).transpose()?.is_some_and(|e| e.is_none());
            for (delivery, given_up) in &records {
                let mut delivery = delivery.clone();
                if is_gone && delivery.due_at.take().is_some() {
                    delivery.dead_at = Some(now);
                }
                delivery::put(tx, &delivery)?;
                if let Some((cause, why)) = given_up.as_ref().filter(|_| !is_test && !is_gone) {
                    let attempt = delivery.attempt;
                    task::bury(tx, TaskKind::Deliver, &delivery.id, attempt, (cause, why), now)?;
                    // To tell of the end of what tells of ends would never end.
                    dead.extend((delivery.event_type != DEAD_LETTER_ADDED).then(|| cause.clone()));
                }
            }
            flow::tell_dead(tx, &dead, &stamp)?;
            Ok(Some(overdue))
        };
        let recorded = self.work.record(self.task.lease_until, write).await?;
        self.work.fail.at(Point::RunStored).await;
        let Some(overdue) = recorded else {
            self.work.metrics.stale_finishes.inc();
            self.closed = true;
            return Ok(false);
        };
        Ok(overdue)
    }

    async fn disable(&mut self, why: &str) -> store::Result<()> {
        let Target::Endpoint(id) = self.target.clone() else { return Ok(()) };
        self.closed = true;
        let (stamp, reason): (Stamp, String) = (self.work.stamp(), why.to_owned());
        let disable = move |tx: &mut Tx| flow::disable_endpoint(tx, &id, &reason, &stamp);
        if let Some(endpoint) = self.work.record(self.task.lease_until, disable).await? {
            tracing::warn!(endpoint_id = %endpoint.id, why, "endpoint disabled");
        }
        Ok(())
    }

    /// The task is gone, or due when the next delivery is; or later, when nobody is there.
    async fn end(self) -> store::Result<()> {
        let now = self.work.clock.now();
        let nobody_there = self.slow >= NOBODY_THERE || (self.slow > 0 && self.taken == 0);
        let left_alone = !self.closed && (nobody_there || self.after.is_some());
        let times = if self.taken == 0 { self.task.attempt } else { 1 };
        let pause = breaker_pause(times, self.after, self.work.jitter());
        let Self { work, task, target, closed, why, .. } = self;
        let lease_until = task.lease_until;
        let write = move |tx: &mut Tx| {
            // From here to the commit nobody can make something due and find the task still there.
            if !task::hold(tx, &task)? {
                return Ok(false);
            }
            let next = delivery::next_due(tx, &target)?.filter(|_| !closed);
            if left_alone && next.is_some() {
                return task::settle(tx, &task, &Outcome::Retry { at: now + pause, why: why.clone() }, now);
            }
            task::settle(tx, &task, &Outcome::Done, now)?;
            if let Some(next) = next {
                task::wake(tx, TaskKind::Deliver, &[&task.subject], next)?;
            }
            Ok(true)
        };
        if !work.record(lease_until, write).await? {
            work.metrics.stale_finishes.inc();
        }
        Ok(())
    }
}

async fn send(work: Work, parcel: Parcel) -> Tried {
    let Parcel { delivery, url, headers, body, undeliverable } = parcel;
    let at = work.clock.now();
    if let Some(why) = undeliverable {
        let attempt = Attempt { at, took_ms: 0, status: None, error: Some(why), answer: None };
        let cause = Cause::at(Trouble::EventGone, &url);
        return Tried { delivery, attempt, meaning: Meaning::Never, wants_no_more: None, cause };
    }
    work.fail.at(Point::DeliverBegun).await;
    let (answer, meaning, wants_no_more, trouble) = exchange(&work, url.clone(), headers, body).await;
    work.fail.at(Point::DeliverAnswered).await;
    let attempt = Attempt { at, took_ms: work.clock.now() - at, ..answer };
    Tried { delivery, attempt, meaning, wants_no_more, cause: Cause::at(trouble, &url) }
}

async fn exchange(
    work: &Work,
    url: String,
    headers: HeaderMap,
    body: Bytes,
) -> (Attempt, Meaning, Option<&'static str>, Trouble) {
    let call =
        Call { method: Method::POST, url, headers, body, timeout: TIMEOUT, max_body_bytes: MAX_ANSWER_BYTES };
    let none = Attempt { at: 0, took_ms: 0, status: None, error: None, answer: None };
    match work.receivers.tell(call).await {
        Ok(net::Answer { status, headers, body }) => {
            let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
            let answer = Answer {
                status: Some(status.as_u16()),
                retry_after: header("retry-after"),
                wish: header("webhook-delivery"),
            };
            let attempt =
                Attempt { status: answer.status, error: answer.error(), answer: beginning(&body), ..none };
            let trouble = Trouble::Answers(status.as_u16());
            (attempt, answer.meaning(work.clock.now()), answer.wants_no_more(), trouble)
        }
        Err(fault) => {
            let trouble = match fault {
                net::Fault::NotSent(_) => Trouble::Unreachable,
                net::Fault::NoAnswer(_) => Trouble::NoAnswer,
            };
            let attempt = Attempt { error: Some(fault.to_string()), ..none };
            (attempt, Answer::default().meaning(0), None, trouble)
        }
    }
}
