//! Every change of a job: load, step, record. The only writer of job state.
//!
//! Each function is one transaction's work: what a step decides commits together with the end of
//! the task that asked for it. Nothing here talks to the network.

mod adopt;
mod dead_letter;
mod group;
mod publish;
mod submit;

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use crate::domain::event::{Event, EventType};
use crate::domain::history::Learned;
use crate::domain::ids;
use crate::domain::job::{Job, Kind, Observation, Priority, State};
use crate::domain::job_json::job_text;
use crate::domain::limit::{LOOK, LOOK_EVERY};
use crate::domain::receipt::Note;
use crate::domain::step::{Change, Input, Refused, step};
use crate::domain::stranger::Stranger;
use crate::domain::task::{Claimed, Lane, Outcome, TaskKind, TaskOp};
use crate::domain::time::Millis;
use crate::store::{Result, Tx, inbox, job, setting, task, upstream_limit};

use publish::{publish, upstream_event};

pub use adopt::{Fate, Terms, adopt, judge};
pub use dead_letter::{
    MOST_DROPPED, Revived, drop_dead, replay_delivery, replay_some, start_replay, stop_replay, tell_dead,
};
pub use group::{
    Added, NewGroup, Retried, add_to_group, cancel_some, close_group, outlook, retry_failed, submit_group,
};
pub use publish::{
    Enabled, add_endpoint, change_endpoint, disable_endpoint, enable_endpoint, remove_endpoint, test_endpoint,
};
pub use submit::{find_first, submit};

/// Jobs of open calls that are read at once.
const DOUBTED_AT_ONCE: i64 = 200;

/// When a transaction happens, and the chance it needs for its ids.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub now: Millis,
    pub salt: u128,
}

impl Stamp {
    pub fn new(now: Millis, random: [u8; 16]) -> Self {
        Self { now, salt: u128::from_be_bytes(random) }
    }

    fn id(&self, prefix: &str, nth: usize) -> String {
        ids::new(prefix, self.now, self.salt.wrapping_add(nth as u128).to_be_bytes())
    }
}

/// A job to be, checked by whoever made it.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub kind: Kind,
    /// HeyGen's own body, as the caller wrote it.
    pub request: String,
    pub callback_id: Option<String>,
    pub title: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub metadata: Option<Value>,
    pub priority: Priority,
    pub hold: bool,
    /// Not to be sent before then.
    pub not_before: Option<Millis>,
    pub deadline_at: Millis,
    pub retry_of: Option<String>,
    /// Where its events are sent, besides the endpoints, and what they are signed with there.
    pub notify_url: Option<String>,
    pub notify_secret: Option<String>,
    /// The row of its group that it is made of, from 1.
    pub group_row: Option<i64>,
    pub first_poll_ms: Millis,
    pub least_poll_ms: Millis,
}

/// When a job is asked for first, and the least pause between polls.
pub type Polls = (Millis, Millis);

/// A caller's idempotency key and what it stands for.
#[derive(Debug, Clone)]
pub struct Key {
    pub owner: String,
    pub key: String,
    pub fingerprint: Vec<u8>,
}

/// What was made, a job or a group, and what was answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Submitted {
    /// The answer to give, word for word, now and whenever the key comes again.
    New {
        id: String,
        answer: String,
    },
    Replayed {
        id: String,
        answer: String,
    },
    /// The key was used for another request.
    KeyReused,
}

/// How long the kinds took lately, as far as enough is known of them.
pub fn find_learned(tx: &mut Tx) -> Result<Learned> {
    let learned = setting::find(tx, setting::LEARNED)?;
    Ok(learned.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

/// What came of a caller's wish.
#[derive(Debug, Clone, PartialEq)]
pub enum Changed {
    NotFound,
    Refused(Refused, Box<Job>),
    /// The job as it is now, changed or not.
    Ok(Box<Job>),
}

/// One input to one job.
pub fn change(tx: &mut Tx, job_id: &str, input: Input, stamp: &Stamp) -> Result<Changed> {
    let Some(found) = job::find(tx, job_id)? else { return Ok(Changed::NotFound) };
    match step(&found, input, stamp.now) {
        Err(refused) => Ok(Changed::Refused(refused, Box::new(found))),
        Ok(None) => Ok(Changed::Ok(Box::new(found))),
        Ok(Some(change)) => Ok(Changed::Ok(Box::new(record(tx, &found, change, stamp)?))),
    }
}

/// One input to every job of an open call, about how old its key is.
pub fn doubt_keys(tx: &mut Tx, input: &Input, now: Millis) -> Result<()> {
    // Nothing is published, so no id is made.
    let stamp = Stamp { now, salt: 0 };
    for state in [State::Submitting, State::Unknown] {
        let filter = job::Filter { state: Some(state), ..job::Filter::default() };
        let mut last: Option<String> = None;
        loop {
            let page = job::list(tx, &filter, last.as_deref(), DOUBTED_AT_ONCE)?;
            for found in &page {
                change(tx, &found.id, input.clone(), &stamp)?;
            }
            match page.last() {
                Some(job) if i64::try_from(page.len()) == Ok(DOUBTED_AT_ONCE) => last = Some(job.id.clone()),
                _ => break,
            }
        }
    }
    Ok(())
}

/// The end of a task's run: its outcome and what it found out, together. `None` when its lease was
/// lost, and then nothing is recorded.
///
/// That upstream accepted the job is recorded even so: it is true whoever holds the lease, and
/// whoever holds it now must learn of it.
pub fn conclude(
    tx: &mut Tx,
    claimed: &Claimed,
    outcome: &Outcome,
    input: Option<&Input>,
    stamp: &Stamp,
) -> Result<Option<Changed>> {
    let held = task::settle(tx, claimed, outcome, stamp.now)?;
    if let (true, Outcome::Dead { cause, .. }) = (held, outcome) {
        tell_dead(tx, std::slice::from_ref(cause), stamp)?;
    }
    match input {
        Some(input) if held || matches!(input, Input::Accepted { .. }) => {
            change(tx, &claimed.subject, input.clone(), stamp).map(Some)
        }
        _ if !held => Ok(None),
        _ => Ok(job::find(tx, &claimed.subject)?
            .map_or(Some(Changed::NotFound), |job| Some(Changed::Ok(Box::new(job))))),
    }
}

/// The ends of runs that were about one job each, in one transaction. The jobs that changed, and
/// how many leases were lost: for those nothing is recorded.
pub fn conclude_many(
    tx: &mut Tx,
    ends: &[(&Claimed, &Outcome, Option<&Input>)],
    stamp: &Stamp,
) -> Result<(Vec<Job>, usize)> {
    let mut said: HashMap<&str, &Input> = HashMap::new();
    let mut lost = 0;
    for (task, outcome, input) in ends {
        if !task::settle(tx, task, outcome, stamp.now)? {
            lost += 1;
        } else if let Some(input) = input {
            said.insert(&task.subject, input);
        }
    }
    let mut events = vec![];
    let mut slots = vec![];
    for found in job::find_many(tx, &said.keys().copied().collect::<Vec<_>>())? {
        let Some(input) = said.get(found.id.as_str()) else { continue };
        let mut slot = Slot::new(found);
        if slot.take((*input).clone(), stamp, &mut events) {
            slots.push(slot);
        }
    }
    store(tx, &slots, stamp, &mut events)?;
    publish(tx, &mut events, stamp)?;
    Ok((slots.into_iter().map(|slot| slot.job).collect(), lost))
}

/// What a submit task is to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Begun {
    /// Call upstream for the first time with this key; `submitting` is recorded.
    Send {
        job: Box<Job>,
        request: String,
    },
    /// It was sent before and the outcome is open: call again with the same key, which is recorded.
    Repeat {
        job: Box<Job>,
        request: String,
    },
    /// The same, and it must not be sent again: only what upstream has of it can tell.
    Search {
        job: Box<Job>,
    },
    /// The job needs no sending; the task is gone.
    Nothing,
    /// Nothing may be sent any more since it was claimed; the task is back in its lane.
    NotNow,
    LeaseLost,
}

/// Records `submitting`, and each call, before anything is sent, so that a crash after this line is seen as such;
/// and with it counts the job among those of the day. `repeats` says whether one that was sent may be sent again
/// with the same key; never with another `account`, which knows no such key.
pub fn begin_send(
    tx: &mut Tx,
    claimed: &Claimed,
    account: &str,
    repeats: fn(&Job, Millis) -> bool,
    stamp: &Stamp,
) -> Result<Begun> {
    let mut limit = upstream_limit::lock(tx)?;
    if !task::change_lane(tx, claimed, Lane::Resolve)? {
        return Ok(Begun::LeaseLost);
    }
    let found = job::find(tx, &claimed.subject)?;
    let request = job::find_request(tx, &claimed.subject)?;
    let (Some(found), Some(request)) = (found, request) else {
        task::settle(tx, claimed, &Outcome::Done, stamp.now)?;
        return Ok(Begun::Nothing);
    };
    let fresh = found.state == State::Queued;
    if fresh && limit.wait(stamp.now).is_some() {
        let home = Outcome::Snooze { until: claimed.due_at.min(stamp.now), lane: None };
        task::settle(tx, claimed, &home, stamp.now)?;
        return Ok(Begun::NotNow);
    }
    if fresh {
        if limit.count(stamp.now) {
            // If it does not find out, the next look lets another one try.
            task::apply(tx, LOOK, TaskOp::Add(TaskKind::Upkeep, stamp.now + LOOK_EVERY))?;
        }
        upstream_limit::put(tx, &limit)?;
    }
    let mut events = vec![];
    let mut slot = Slot::new(found);
    let waits = |job: &Job| matches!(job.state, State::Queued | State::Unknown);
    if !waits(&slot.job) {
        // Whoever was sending it will not tell any more, even where something else told how it went.
        slot.take(Input::Interrupted, stamp, &mut events);
    }
    if !waits(&slot.job) {
        task::settle(tx, claimed, &Outcome::Done, stamp.now)?;
        write(tx, slot, &mut events, stamp)?;
        return Ok(Begun::Nothing);
    }
    let repeats = repeats(&slot.job, stamp.now);
    if !fresh && !repeats {
        // Lest it looks young later on.
        slot.take(Input::SetBack(None), stamp, &mut events);
    }
    if !fresh && (!repeats || slot.job.is_elsewhere(account)) {
        return Ok(Begun::Search { job: Box::new(write(tx, slot, &mut events, stamp)?) });
    }
    slot.take(Input::Send { account: account.to_owned() }, stamp, &mut events);
    let job = Box::new(write(tx, slot, &mut events, stamp)?);
    Ok(if fresh { Begun::Send { job, request } } else { Begun::Repeat { job, request } })
}

/// What one receipt was understood to say, before it is known of which job.
pub struct Hearing {
    pub receipt_id: String,
    /// The version of `heygen/wire` that understood it.
    pub wire_version: i64,
    pub event_type: Option<String>,
    /// Our own job, named by the echoed callback id or by the address the receipt came to.
    pub job_id: Option<String>,
    pub upstream_ids: Vec<String>,
    /// What it says of a job of the given kind.
    pub observe: Box<dyn Fn(Kind) -> Observation + Send + Sync>,
    /// Whether the receipt is published as it is: only a signed one, and once.
    pub publish: bool,
    /// What to adopt if it belongs to no job of ours.
    pub stranger: Option<(Stranger, Terms)>,
    /// In place of all that: why the receipt says nothing usable.
    pub unusable: Option<String>,
}

/// How many of a batch did what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub moved: usize,
    pub nothing_new: usize,
    pub parked: usize,
    pub unusable: usize,
    pub lease_lost: usize,
}

/// What came of a batch, and what of it is worth a line in the log.
#[derive(Debug, Default)]
pub struct Applied {
    pub counts: Counts,
    pub ended: Vec<Job>,
    /// Upstream id and event type of those that belong to no job of ours.
    pub strangers: Vec<(String, String)>,
}

/// A task and what each of its receipts was understood to say.
pub type Heard = (Claimed, Vec<Hearing>);

/// Applies a batch of receipts in one transaction: jobs are loaded together and written once each.
pub fn observe_many(tx: &mut Tx, batch: &[Heard], stamp: &Stamp) -> Result<Applied> {
    let tasks: Vec<&Claimed> = batch.iter().map(|(task, _)| task).collect();
    let lost: HashSet<usize> = task::settle_done(tx, &tasks)?.into_iter().collect();
    let held = batch.iter().enumerate().filter(|(nth, _)| !lost.contains(nth));
    let live: Vec<&Hearing> = held.flat_map(|(_, (_, hearings))| hearings).collect();
    let mut done = Applied::default();
    done.counts.lease_lost = lost.len();
    let mut jobs = Loaded::load(tx, &live)?;
    let mut events = vec![];
    let mut notes = vec![];
    let published: Vec<(&str, Option<&str>)> = live
        .iter()
        .filter(|hearing| hearing.publish)
        .map(|hearing| (hearing.receipt_id.as_str(), hearing.event_type.as_deref()))
        .collect();
    // Strangers last: another receipt of the batch may be what tells whose they are.
    let (known, strange): (Vec<&Hearing>, Vec<&Hearing>) =
        live.into_iter().partition(|h| h.unusable.is_some() || jobs.find(h).is_some());
    for hearing in known.into_iter().chain(strange) {
        if let Some((stranger, terms)) = &hearing.stranger
            && jobs.find(hearing).is_none()
            && !adopt::may_be_ours(stranger, &adopt::nameless(tx, stranger.kind)?)
        {
            jobs.adopt(tx, stranger, *terms, stamp, &mut events)?;
        }
        let mut note = Note {
            applied_at: Some(stamp.now),
            event_type: hearing.event_type.clone(),
            wire_version: Some(hearing.wire_version),
            ..Note::default()
        };
        if let Some(why) = &hearing.unusable {
            done.counts.unusable += 1;
            note.meaning = Some(why.clone());
        } else if let Some(at) = jobs.find(hearing) {
            let moved = jobs.slots[at].take_in(hearing, &mut note, stamp, &mut events);
            jobs.learn(at);
            if moved { done.counts.moved += 1 } else { done.counts.nothing_new += 1 }
        } else {
            done.counts.parked += 1;
            park(hearing, &mut note);
            done.strangers.push((
                note.parked_under.clone().unwrap_or_default(),
                note.event_type.clone().unwrap_or_default(),
            ));
        }
        notes.push((hearing.receipt_id.as_str(), note));
    }
    // Before the jobs: one that learns its upstream id releases what is parked here under it.
    let notes: Vec<(&str, &Note)> = notes.iter().map(|(id, note)| (*id, note)).collect();
    inbox::annotate(tx, &notes)?;
    done.ended = jobs.write(tx, stamp, &mut events)?;
    for (receipt_id, event_type) in published {
        events.push(upstream_event(receipt_id, event_type, stamp, events.len()));
    }
    publish(tx, &mut events, stamp)?;
    Ok(done)
}

/// Waits under the upstream ids it names, two at most, for the job that will have one of them.
fn park(hearing: &Hearing, note: &mut Note) {
    note.parked_under = hearing.upstream_ids.first().cloned();
    note.parked_also = hearing.upstream_ids.get(1).cloned();
    let published = if hearing.publish { ", and published as it is" } else { "" };
    note.meaning = Some(format!("no job of ours has this id yet; kept{published}"));
}

/// The jobs a batch is about, changed in memory and written once.
#[derive(Default)]
struct Loaded {
    slots: Vec<Slot>,
    by_id: HashMap<String, usize>,
    by_upstream: HashMap<String, usize>,
}

/// A job before and after what was decided of it.
struct Slot {
    before: Job,
    job: Job,
    tasks: Vec<TaskOp>,
    changed: bool,
}

impl Loaded {
    fn load(tx: &mut Tx, batch: &[&Hearing]) -> Result<Self> {
        let mut all = Self::default();
        let ids: HashSet<&str> = batch.iter().filter_map(|h| h.job_id.as_deref()).collect();
        all.add(job::find_many(tx, &ids.into_iter().collect::<Vec<_>>())?);
        let missing = |all: &Self| -> Vec<String> {
            let strangers = batch.iter().filter(|h| h.unusable.is_none() && all.find(h).is_none());
            let ids: HashSet<&String> = strangers.flat_map(|h| &h.upstream_ids).collect();
            ids.into_iter().cloned().collect()
        };
        let refs = missing(&all);
        all.add(job::find_by_upstream(tx, &refs.iter().map(String::as_str).collect::<Vec<_>>())?);
        let refs = missing(&all);
        if !refs.is_empty() {
            // Somebody may be storing one of these ids right now. Whoever stores one, or parks
            // under one, holds this lock until its commit; so look again once we have it.
            inbox::lock_parking(tx)?;
            all.add(job::find_by_upstream(tx, &refs.iter().map(String::as_str).collect::<Vec<_>>())?);
        }
        Ok(all)
    }

    fn add(&mut self, jobs: Vec<Job>) {
        for job in jobs {
            if self.by_id.contains_key(&job.id) {
                continue;
            }
            let at = self.slots.len();
            self.by_id.insert(job.id.clone(), at);
            self.slots.push(Slot::new(job));
            self.learn(at);
        }
    }

    /// The job is found by the upstream ids it has now.
    fn learn(&mut self, at: usize) {
        let job = &self.slots[at].job;
        for id in job.upstream_id.iter().chain(&job.upstream_video_id) {
            self.by_upstream.insert(id.clone(), at);
        }
    }

    fn find(&self, hearing: &Hearing) -> Option<usize> {
        let by_id = hearing.job_id.as_ref().and_then(|id| self.by_id.get(id));
        let mut upstream = hearing.upstream_ids.iter().filter_map(|id| self.by_upstream.get(id));
        by_id.or_else(|| upstream.next()).copied()
    }

    /// The jobs that ended.
    fn write(self, tx: &mut Tx, stamp: &Stamp, events: &mut Vec<Event>) -> Result<Vec<Job>> {
        let changed: Vec<Slot> = self.slots.into_iter().filter(|slot| slot.changed).collect();
        store(tx, &changed, stamp, events)?;
        Ok(changed.into_iter().filter(Slot::ended).map(|slot| slot.job).collect())
    }
}

impl Slot {
    fn new(job: Job) -> Self {
        Self { before: job.clone(), job, tasks: vec![], changed: false }
    }

    /// Whether the input changed the job. A refusal is for callers only, and they use `change`.
    fn take(&mut self, input: Input, stamp: &Stamp, events: &mut Vec<Event>) -> bool {
        let Ok(Some(change)) = step(&self.job, input, stamp.now) else { return false };
        self.follow(change, stamp, events);
        true
    }

    fn follow(&mut self, change: Change, stamp: &Stamp, events: &mut Vec<Event>) {
        self.job = change.job;
        self.tasks.extend(change.tasks);
        self.changed = true;
        for event in change.events {
            self.job.details.events += 1;
            events.push(job_event(&self.job, event, stamp, events.len()));
        }
    }

    fn ended(&self) -> bool {
        self.job.state.is_terminal() && !self.before.state.is_terminal()
    }

    /// The upstream ids that the job has now and had not before.
    fn learned(&self) -> impl Iterator<Item = &str> {
        let (old, new) = (&self.before, &self.job);
        let ids = [(&old.upstream_id, &new.upstream_id), (&old.upstream_video_id, &new.upstream_video_id)];
        ids.into_iter().filter(|(old, new)| old != new).filter_map(|(_, new)| new.as_deref())
    }

    /// Whether the job changed.
    fn take_in(
        &mut self,
        hearing: &Hearing,
        note: &mut Note,
        stamp: &Stamp,
        events: &mut Vec<Event>,
    ) -> bool {
        note.job_id = Some(self.job.id.clone());
        let seen = (hearing.observe)(self.job.kind);
        let from = self.job.state;
        if !self.take(Input::Observed(seen), stamp, events) {
            note.meaning = Some(format!("nothing new: the job is {}", from.name()));
            return false;
        }
        note.meaning = Some(if from == self.job.state {
            format!("noted; the job stays {}", from.name())
        } else {
            format!("moved the job from {} to {}", from.name(), self.job.state.name())
        });
        true
    }
}

/// Writes a decision.
fn record(tx: &mut Tx, before: &Job, change: Change, stamp: &Stamp) -> Result<Job> {
    let mut events = vec![];
    let mut slot = Slot::new(before.clone());
    slot.follow(change, stamp, &mut events);
    write(tx, slot, &mut events, stamp)
}

/// Writes what was decided of a job, if anything was: the job, its tasks, then its events.
fn write(tx: &mut Tx, mut slot: Slot, events: &mut Vec<Event>, stamp: &Stamp) -> Result<Job> {
    if slot.changed {
        store(tx, std::slice::from_ref(&slot), stamp, events)?;
        publish(tx, events, stamp)?;
        slot.job.version += 1;
    }
    Ok(slot.job)
}

/// Everything of decisions but their events, which are numbered last; the end of a group is added to
/// them.
fn store(tx: &mut Tx, slots: &[Slot], stamp: &Stamp, events: &mut Vec<Event>) -> Result<()> {
    let learned: Vec<&str> = slots.iter().flat_map(Slot::learned).collect();
    if !learned.is_empty() {
        inbox::lock_parking(tx)?;
    }
    // Tasks before their jobs, as in a conclusion, and both in the order of the jobs: two who take
    // the same rows in opposite orders would stand still until PostgreSQL calls it a deadlock, a
    // second later.
    let mut slots: Vec<&Slot> = slots.iter().collect();
    slots.sort_by(|a, b| a.job.id.cmp(&b.job.id));
    let ops = slots.iter().flat_map(|slot| slot.tasks.iter().map(|op| (slot.job.id.as_str(), *op)));
    task::apply_many(tx, &ops.collect::<Vec<_>>())?;
    job::update_many(tx, &slots.iter().map(|slot| &slot.job).collect::<Vec<_>>())?;
    inbox::release_parked(tx, &learned, stamp.now)?;
    group::count_off(tx, &slots, stamp, events)?;
    tx.ring();
    Ok(())
}

fn job_event(job: &Job, event_type: EventType, stamp: &Stamp, nth: usize) -> Event {
    Event {
        number: 0,
        id: stamp.id(ids::EVENT, nth),
        event_type: event_type.name().to_owned(),
        job_id: Some(job.id.clone()),
        job_sequence: job.details.events,
        created_at: stamp.now,
        data: job_text(job),
        receipt_id: None,
        notify_url: job.details.notify_url.clone(),
    }
}
