//! Sends what is due to one target: an endpoint, or a place jobs name. One run holds one target and
//! sends it several deliveries at once, each on its own; so a target that hangs holds up no other,
//! and one delivery no next one. What came of some is written while more are sent.
//!
//! A target nobody answers at is left alone for a while: its own task is what waits, and the attempts
//! of that task are the breaker's memory. Then it is tried with one delivery before there are more. An origin
//! is left alone only when nobody is there at all: many share it, each with addresses of their own.

mod leave;
mod parcel;

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};
use tokio::task::{JoinError, JoinSet};

use self::leave::{Found, Leave};
use self::parcel::{Look, Parcel, UnderWay, look};
use super::{End, Work};
use crate::domain::dead_letter::{Cause, Trouble};
use crate::domain::delivery::{
    Answer, Attempt, Delivery, Meaning, Retries, Target, beginning, breaker_pause,
};
use crate::domain::endpoint::Endpoint;
use crate::domain::event::DEAD_LETTER_ADDED;
use crate::domain::task::{Claimed, Outcome, TaskKind, TaskOp};
use crate::domain::time::{DAY, Millis, SECOND};
use crate::fail::Point;
use crate::flow::{self, Stamp};
use crate::net::{self, Call};
use crate::store::{self, Tx, delivery, endpoint, task};

/// Deliveries of one endpoint, or to one address of an origin, that are sent at once.
const AT_ONCE: usize = 8;
/// To all addresses of an origin: one that hangs leaves room for the others.
const AT_ONCE_AT_ORIGIN: usize = 2 * AT_ONCE;
/// Deliveries of one target of which it is not on disk yet what came of them, those being sent included: after a
/// crash, so many may be sent again.
const UNRECORDED: usize = 32;
/// The whole exchange.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Of an answer's body no more is read.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// A run begins new attempts for so long, then others have their turn.
const BEGIN_FOR: Millis = 5 * SECOND;
/// The same at an origin, where one address that hangs must not keep others waiting for the next run; with
/// what is under way then, still within the 30 s that a stop waits.
const BEGIN_FOR_AT_ORIGIN: Millis = 12 * SECOND;
/// Longer than a run: it begins for 12 s at most, then an exchange takes 15 s and its body 2 s.
pub(super) const LEASE: Millis = 60 * SECOND;
/// So many attempts in a row without anybody there end a run.
const NOBODY_THERE: usize = 3;
/// Least time between two looks for what has become due meanwhile.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    let Some(target) = Target::parse(&task.subject) else {
        let (cause, why) =
            (Cause::new(Trouble::UnknownWork), format!("no target is called {}", task.subject));
        return work.conclude(End::of(task, Outcome::Dead { cause, why })).await;
    };
    let begun_at = work.clock.now();
    let run = Run {
        work,
        task,
        target,
        begun_at,
        endpoint: None,
        closed: false,
        sending: JoinSet::new(),
        under_way: UnderWay::new(),
        ended: Ended::default(),
        recording: None,
        is_ending: false,
        there: 0,
        slow: 0,
        after: None,
        why: String::new(),
    };
    run.send_all().await
}

/// An attempt that was made.
struct Tried {
    delivery: Delivery,
    attempt: Attempt,
    meaning: Meaning,
    wants_no_more: Option<&'static str>,
    retries: Retries,
    /// What it would be given up for.
    cause: Cause,
}

/// A delivery as an attempt left it, and for what it was given up, if it was.
type Record = (Delivery, Option<(Cause, String)>);

/// Attempts that have ended and are to be recorded together.
#[derive(Default)]
struct Ended {
    records: Vec<Record>,
    taken: bool,
    wants_no_more: Option<&'static str>,
}

/// What was found, the deliveries it was about, and why the endpoint wants no more.
type Recorded = (Found, Vec<String>, Option<&'static str>);

struct Run<'a> {
    work: &'a Work,
    task: Claimed,
    target: Target,
    begun_at: Millis,
    endpoint: Option<Endpoint>,
    /// Nothing may be sent to it any more.
    closed: bool,
    sending: JoinSet<Tried>,
    under_way: UnderWay,
    ended: Ended,
    recording: Option<BoxFuture<'static, store::Result<Recorded>>>,
    /// What is being recorded settles the task, too.
    is_ending: bool,
    /// Attempts that found the target there: an endpoint takes them, at an origin it is enough to connect.
    there: usize,
    /// Since the last of those: the ones that found nobody there, or too much to do.
    slow: usize,
    /// The longest pause the receiver asked for; nothing more is begun once it did.
    after: Option<Millis>,
    why: String,
}

impl Run<'_> {
    async fn send_all(mut self) -> store::Result<()> {
        let clock = self.work.clock.clone();
        loop {
            // Armed before looking: what happens in between rings it.
            let mut bell = self.work.db.bell.arm();
            if self.room() > 0 {
                self.begin().await?;
            }
            if self.recording.is_none() && (self.sending.is_empty() || !self.ended.records.is_empty()) {
                self.record();
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
                recorded = written(&mut self.recording) => if self.recorded(recorded?).await? {
                    return Ok(());
                },
                Some(done) = self.sending.join_next() => self.take(done)?,
                () = news => {}
            }
        }
    }

    /// Whether what is due to it goes to addresses that may know nothing of each other.
    fn is_shared(&self) -> bool {
        matches!(self.target, Target::Origin(_))
    }

    /// How many more may be under way.
    fn room(&self) -> usize {
        // A clock that was set back meanwhile is no reason to go on.
        let begin_for = if self.is_shared() { BEGIN_FOR_AT_ORIGIN } else { BEGIN_FOR };
        let time_is_up = (self.work.clock.now() - self.begun_at).abs() >= begin_for;
        let left_alone = self.after.is_some() || self.slow >= NOBODY_THERE;
        if self.closed || self.is_ending || time_is_up || left_alone {
            return 0;
        }
        let at_once = match self.task.attempt > 1 && self.there == 0 {
            true => 1,
            false if self.is_shared() => AT_ONCE_AT_ORIGIN,
            false => AT_ONCE,
        };
        at_once.saturating_sub(self.sending.len()).min(UNRECORDED.saturating_sub(self.under_way.len()))
    }

    /// Looks for what is due and begins to send as much of it as there is room for.
    async fn begin(&mut self) -> store::Result<()> {
        let (target, now, room) = (self.target.clone(), self.work.clock.now(), self.room());
        let (under_way, configured) = (self.under_way.clone(), self.work.webhook_secrets.clone());
        let look = move |tx: &mut Tx| look(tx, &target, now, room, &under_way, &configured);
        let Look { endpoint, parcels, closed } = self.work.db.read(look).await?;
        self.endpoint = endpoint;
        self.closed = closed;
        for parcel in parcels {
            self.under_way.insert(parcel.delivery.id.clone(), parcel.delivery.url.clone());
            self.sending.spawn(send(self.work.clone(), parcel));
        }
        Ok(())
    }

    /// Takes this one in and all others that have ended by now.
    fn take(&mut self, done: Result<Tried, JoinError>) -> store::Result<()> {
        let mut all = vec![done];
        all.extend(std::iter::from_fn(|| self.sending.try_join_next()));
        let (m, now, is_shared) = (&self.work.metrics, self.work.clock.now(), self.is_shared());
        for done in all {
            let Tried { mut delivery, attempt, meaning, wants_no_more, retries, cause } =
                done.map_err(|e| store::Error::Bug(format!("an attempt ended badly: {e}")))?;
            m.count(&m.delivery_attempts, meaning.name());
            self.under_way.insert(delivery.id.clone(), None);
            match &meaning {
                Meaning::Slow { after } => {
                    self.slow += 1;
                    self.after = self.after.max(*after);
                    self.why = attempt.error.clone().unwrap_or_default();
                }
                meaning if is_shared || *meaning == Meaning::Taken => {
                    self.there += 1;
                    self.slow = 0;
                }
                _ => {}
            }
            if meaning == Meaning::Taken {
                self.ended.taken = true;
                m.told(delivery.created_at, now);
            }
            self.ended.wants_no_more = self.ended.wants_no_more.or(wants_no_more);
            let given_up = delivery.take(attempt, &meaning, (&retries.waits, self.work.jitter()), now);
            if let Some(why) = &given_up {
                let (id, target) = (&delivery.id, self.target.name());
                tracing::warn!(delivery_id = %id, target, event_type = %delivery.event_type, why, "delivery given up");
            }
            self.ended.records.push((delivery, given_up.map(|why| (cause, why))));
        }
        Ok(())
    }

    /// Begins to write what became of those that have ended; and when no other is being sent, and nothing
    /// more is due, how the task is left.
    fn record(&mut self) {
        let Ended { records, taken, wants_no_more } = std::mem::take(&mut self.ended);
        let leave = (self.sending.is_empty() && wants_no_more.is_none()).then(|| self.leave());
        self.is_ending = leave.is_some();
        let (work, stamp, lease_until) = (self.work.clone(), self.work.stamp(), self.task.lease_until);
        let (task, target) = (self.task.clone(), self.target.clone());
        let is_news = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.is_news(taken, stamp.now));
        let ids: Vec<String> = records.iter().map(|(delivery, _)| delivery.id.clone()).collect();
        let write = move |tx: &mut Tx| {
            if !records.is_empty() {
                if !task::is_held(tx, &task)? {
                    return Ok(Found::Lost);
                }
                if put(tx, &target, &records, (is_news, taken), &stamp)? {
                    return Ok(Found::GoOn { overdue: true });
                }
            }
            leave.as_ref().map_or(Ok(Found::GoOn { overdue: false }), |leave| {
                leave.settle(tx, &task, &target, stamp.now)
            })
        };
        let written = async move {
            let found = work.record(lease_until, write).await?;
            work.fail.at(Point::RunStored).await;
            Ok((found, ids, wants_no_more))
        };
        self.recording = Some(written.boxed());
    }

    /// Whether the run is over by it.
    async fn recorded(&mut self, (found, ids, wants_no_more): Recorded) -> store::Result<bool> {
        (self.recording, self.is_ending) = (None, false);
        for id in ids {
            self.under_way.remove(&id);
        }
        let overdue = match found {
            Found::Lost => {
                self.work.metrics.stale_finishes.inc();
                return Ok(true);
            }
            Found::Over => return Ok(true),
            Found::GoOn { overdue } => overdue,
        };
        let long =
            |endpoint: &Endpoint| format!("every attempt failed for {} days", endpoint.disable_after() / DAY);
        let overdue = self.endpoint.as_ref().filter(|_| overdue).map(long);
        if let Some(why) = wants_no_more.map(str::to_owned).or(overdue) {
            self.disable(&why).await?;
        }
        Ok(false)
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

    fn leave(&self) -> Leave {
        let nobody_there = self.slow >= NOBODY_THERE || (self.slow > 0 && self.there == 0);
        let left_alone = !self.closed && (nobody_there || self.after.is_some());
        let times = if self.there == 0 { self.task.attempt } else { 1 };
        let pause = breaker_pause(times, self.after, self.work.jitter());
        let at = self.work.clock.now() + pause;
        let put_off = left_alone.then(|| Outcome::Retry { at, why: self.why.clone() });
        Leave { may_go_on: self.room() > 0, put_off }
    }
}

/// Waits for what is being written; for ever when nothing is.
async fn written<T>(recording: &mut Option<BoxFuture<'static, T>>) -> T {
    match recording {
        Some(recording) => recording.await,
        None => std::future::pending().await,
    }
}

/// What became of some deliveries, and of their endpoint by it. Whether it has failed for too long.
fn put(
    tx: &mut Tx,
    target: &Target,
    records: &[Record],
    (is_news, taken): (bool, bool),
    stamp: &Stamp,
) -> store::Result<bool> {
    let (is_test, now) = (matches!(target, Target::Test(_)), stamp.now);
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
    for (delivery, given_up) in records {
        let mut delivery = delivery.clone();
        if is_gone && delivery.due_at.take().is_some() {
            delivery.dead_at = Some(now);
        }
        delivery::put(tx, &delivery)?;
        if let Some((cause, why)) = given_up.as_ref().filter(|_| !is_test && !is_gone) {
            task::bury(tx, TaskKind::Deliver, &[&delivery.id], delivery.attempt, (cause, why), now)?;
            // To tell of the end of what tells of ends would never end.
            dead.extend((delivery.event_type != DEAD_LETTER_ADDED).then(|| cause.clone()));
        }
    }
    flow::tell_dead(tx, &dead, stamp)?;
    Ok(overdue)
}

async fn send(work: Work, parcel: Parcel) -> Tried {
    let Parcel { delivery, url, headers, body, retries, undeliverable } = parcel;
    let at = work.clock.now();
    if let Some(why) = undeliverable {
        let attempt = Attempt { at, took_ms: 0, status: None, error: Some(why), answer: None };
        let cause = Cause::at(Trouble::EventGone, &url);
        return Tried { delivery, attempt, meaning: Meaning::Never, wants_no_more: None, retries, cause };
    }
    work.fail.at(Point::DeliverBegun).await;
    let (answer, meaning, wants_no_more, trouble) =
        exchange(&work, url.clone(), headers, body, (&delivery.target, &retries)).await;
    work.fail.at(Point::DeliverAnswered).await;
    let attempt = Attempt { at, took_ms: work.clock.now() - at, ..answer };
    Tried { delivery, attempt, meaning, wants_no_more, retries, cause: Cause::at(trouble, &url) }
}

async fn exchange(
    work: &Work,
    url: String,
    headers: HeaderMap,
    body: Bytes,
    (target, retries): (&Target, &Retries),
) -> (Attempt, Meaning, Option<&'static str>, Trouble) {
    let call =
        Call { method: Method::POST, url, headers, body, timeout: TIMEOUT, max_body_bytes: MAX_ANSWER_BYTES };
    let none = Attempt { at: 0, took_ms: 0, status: None, error: None, answer: None };
    match work.receivers.tell(call).await {
        Ok(net::Answer { status, headers, body }) => {
            let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
            let answer = Answer {
                connected: true,
                status: Some(status.as_u16()),
                retry_after: header("retry-after"),
                wish: header("webhook-delivery"),
            };
            let attempt =
                Attempt { status: answer.status, error: answer.error(), answer: beginning(&body), ..none };
            let trouble = Trouble::Answers(status.as_u16());
            (attempt, answer.meaning(target, retries, work.clock.now()), answer.wants_no_more(), trouble)
        }
        Err(fault) => {
            let (connected, trouble) = match fault {
                net::Fault::NotSent(_) => (false, Trouble::Unreachable),
                net::Fault::Forbidden(_) => (false, Trouble::Forbidden),
                net::Fault::NoAnswer(_) => (true, Trouble::NoAnswer),
            };
            let attempt = Attempt { error: Some(fault.to_string()), ..none };
            (attempt, Answer { connected, ..Answer::default() }.meaning(target, retries, 0), None, trouble)
        }
    }
}
