//! Sends a plan over a number of connections and counts what comes back. Runs on one thread of its
//! own: a load generator that took every core would measure itself.
//!
//! With a rate the pace is open: a message has its time to go out, whatever became of the ones
//! before. When every connection is busy then, its latency still counts from that time, so a slow
//! server cannot hide behind the requests that were not sent (coordinated omission).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinSet;

use super::message::Maker;
use super::plan::Plan;
use super::tally::Tally;
use super::wire::Connection;
use crate::clock::{Clock, Stopwatch};
use crate::net;

/// Timers wake up to so late by themselves; that is not the server's doing.
const TIMER_SLOP: Duration = Duration::from_millis(3);
const MAX_ANSWER_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Messages to send; none means until the duration is over.
    pub count: Option<u64>,
    pub duration: Option<Duration>,
    /// Messages a second.
    pub rate: Option<f64>,
    pub connections: usize,
    pub timeout: Duration,
    /// Messages sent first, and not counted.
    pub warmup: u64,
}

/// Where to.
#[derive(Clone)]
pub enum Target {
    /// http:// without a proxy, over bare connections to HOST:PORT.
    Bare(String),
    /// Anything else, through the full client.
    Full(net::Client, String),
}

/// One answer, for people.
pub struct Told {
    pub message: u64,
    pub outcome: Result<(u16, Vec<u8>), String>,
    pub latency: Duration,
}

pub struct Load {
    pub maker: Maker,
    pub plan: Plan,
    pub shape: Shape,
    pub target: Target,
    /// The same, for people.
    pub shown: String,
    pub clock: Clock,
    pub stop: AtomicBool,
    /// Answered so far, for the progress bar.
    pub done: AtomicU64,
    pub told: Option<UnboundedSender<Told>>,
}

/// One stretch of slots, measured or not.
struct Stretch {
    load: Arc<Load>,
    next: AtomicU64,
    end: Option<u64>,
    first: u64,
    duration: Option<Duration>,
    watch: Stopwatch,
    measured: bool,
}

/// Sends everything and returns the counts with the seconds it took. Blocks.
pub fn run(load: &Arc<Load>) -> std::io::Result<(Tally, f64)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let copies = load.plan.copies;
        let warmup = load.shape.warmup.saturating_mul(copies);
        if warmup > 0 {
            stretch(load, 0, Some(warmup), None, false).await;
        }
        let end = load.shape.count.map(|count| warmup.saturating_add(count.saturating_mul(copies)));
        Ok(stretch(load, warmup, end, load.shape.duration, true).await)
    })
}

async fn stretch(
    load: &Arc<Load>,
    first: u64,
    end: Option<u64>,
    duration: Option<Duration>,
    measured: bool,
) -> (Tally, f64) {
    let stretch = Arc::new(Stretch {
        load: load.clone(),
        next: AtomicU64::new(first),
        end,
        first,
        duration,
        watch: Stopwatch::start(),
        measured,
    });
    let wanted = end.map_or(u64::MAX, |end| end - first);
    let workers = load.shape.connections.min(usize::try_from(wanted).unwrap_or(usize::MAX));
    let mut working = JoinSet::new();
    for _ in 0..workers {
        working.spawn(work(stretch.clone()));
    }
    let mut tally = Tally::default();
    while let Some(done) = working.join_next().await {
        match done {
            Ok(part) => tally.merge(&part),
            Err(e) => tally.failed(&e.to_string()),
        }
    }
    (tally, stretch.watch.elapsed().as_secs_f64())
}

async fn work(stretch: Arc<Stretch>) -> Tally {
    let load = stretch.load.clone();
    let mut tally = Tally::default();
    let mut connection = match &load.target {
        Target::Bare(address) => Some(Connection::new(address.clone())),
        Target::Full(..) => None,
    };
    let (mut body, mut request) = (vec![], vec![]);
    let total = load.shape.count.map(|c| c.saturating_add(load.shape.warmup));
    while let Some((slot, since)) = stretch.take().await {
        let Some(message) = load.plan.message(slot, total) else { continue };
        let outcome = match (&mut connection, &load.target) {
            (Some(connection), _) => {
                load.maker.request(message, &mut body, &mut request);
                bare(&load, connection, &request).await
            }
            (None, Target::Full(client, url)) => full(&load, client, url, message).await,
            (None, Target::Bare(_)) => Err("no connection".to_owned()),
        };
        let latency = stretch.watch.elapsed().saturating_sub(since);
        if !stretch.measured {
            continue;
        }
        match &outcome {
            Ok((status, _)) => tally.answered(*status, latency),
            Err(why) => tally.failed(why),
        }
        load.done.fetch_add(1, Ordering::Relaxed);
        if let Some(told) = &load.told {
            // Nobody listens any more when the command was interrupted.
            let _ = told.send(Told { message, outcome, latency });
        }
    }
    tally
}

impl Stretch {
    /// The next slot, when its time has come, and the time its latency counts from.
    async fn take(&self) -> Option<(u64, Duration)> {
        let load = &self.load;
        let slot = self.next.fetch_add(1, Ordering::Relaxed);
        if load.stop.load(Ordering::Relaxed) || self.end.is_some_and(|end| slot >= end) {
            return None;
        }
        let claimed = self.watch.elapsed();
        let Some(rate) = load.shape.rate else {
            let over = self.duration.is_some_and(|limit| claimed >= limit);
            return (!over).then_some((slot, claimed));
        };
        let intended = Duration::from_secs_f64((slot - self.first) as f64 / rate);
        if self.duration.is_some_and(|limit| intended >= limit) {
            return None;
        }
        if claimed >= intended {
            return Some((slot, intended));
        }
        load.clock.sleep(intended - claimed).await;
        if load.stop.load(Ordering::Relaxed) {
            return None;
        }
        let woken = self.watch.elapsed();
        let late = woken.saturating_sub(intended);
        Some((slot, if late > TIMER_SLOP { intended } else { woken }))
    }
}

async fn bare(load: &Load, connection: &mut Connection, request: &[u8]) -> Result<(u16, Vec<u8>), String> {
    match load.clock.within(load.shape.timeout, connection.exchange(request)).await {
        Some(Ok(status)) => {
            let body = if load.told.is_some() { connection.body.clone() } else { vec![] };
            Ok((status, body))
        }
        Some(Err(why)) => Err(why),
        None => {
            connection.close();
            Err("no answer in time".to_owned())
        }
    }
}

async fn full(load: &Load, client: &net::Client, url: &str, message: u64) -> Result<(u16, Vec<u8>), String> {
    let (headers, body) = load.maker.parts(message);
    let call = net::Call {
        method: http::Method::POST,
        url: url.to_owned(),
        headers,
        body,
        timeout: load.shape.timeout,
        max_body_bytes: MAX_ANSWER_BYTES,
    };
    let answer = client.call(call).await.map_err(|e| e.to_string())?;
    Ok((answer.status.as_u16(), answer.body.to_vec()))
}
