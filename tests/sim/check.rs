//! What must hold after every step, and what the end must agree on with the sandbox's ledger.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use reelhook::domain::charge::Charge;
use reelhook::domain::event::GROUP_FINISHED;
use reelhook::domain::job::{Failure, FoundBy, Job, State};
use reelhook::domain::retry::MAX_RETRY_AFTER;
use reelhook::domain::time::Millis;
use reelhook::heygen::sandbox::{Phase, What};
use reelhook::store::{Result, Tx, job};

use crate::world::World;

/// What was acknowledged to somebody outside, and what was seen to be final.
#[derive(Default)]
pub struct Oracle {
    /// Bodies of signed webhooks that were answered 2xx.
    pub receipts: HashSet<Bytes>,
    /// Jobs, and groups, by the caller's own name for what it wants.
    pub jobs: BTreeMap<usize, String>,
    ended: HashMap<String, (State, Option<Millis>)>,
    /// The latest that the app's clock ever showed; it may have been put back since.
    latest: Millis,
}

/// The store as it is, read in one transaction.
struct Seen {
    jobs: Vec<Job>,
    tasks: Vec<Task>,
    /// Number, type, job and number within the job.
    events: Vec<(i64, String, Option<String>, i64)>,
    bodies: HashSet<Bytes>,
    /// Receipts that were not understood yet.
    waiting: Vec<String>,
}

struct Task {
    kind: String,
    subjects: Vec<String>,
    due_at: Millis,
    is_dead: bool,
}

fn look(tx: &mut Tx) -> Result<Seen> {
    let jobs = job::list(tx, &job::Filter::default(), None, 1_000)?;
    let tasks = tx.query("SELECT subject, kind, due_at, dead_at, more FROM task", &[])?;
    let tasks = tasks.into_iter().map(|mut row| {
        let (subject, more) = (row.text(0)?, row.opt_text(4)?.unwrap_or_default());
        let subjects = std::iter::once(subject).chain(more.split_whitespace().map(str::to_owned)).collect();
        Ok(Task { subjects, kind: row.text(1)?, due_at: row.int(2)?, is_dead: row.opt_int(3)?.is_some() })
    });
    let events =
        tx.query("SELECT number, event_type, job_id, job_sequence FROM event ORDER BY number", &[])?;
    let events =
        events.into_iter().map(|mut row| Ok((row.int(0)?, row.text(1)?, row.opt_text(2)?, row.int(3)?)));
    let bodies = tx.query("SELECT body FROM inbox", &[])?.into_iter().map(|mut row| Ok(row.bytes(0)?.into()));
    let waiting = "SELECT id FROM inbox WHERE verdict <> 'refused' AND NOT EXISTS \
                   (SELECT 1 FROM receipt_note n WHERE n.receipt_id = inbox.id)";
    let waiting = tx.query(waiting, &[])?.into_iter().map(|mut row| row.text(0));
    Ok(Seen {
        tasks: tasks.collect::<Result<_>>()?,
        events: events.collect::<Result<_>>()?,
        bodies: bodies.collect::<Result<_>>()?,
        waiting: waiting.collect::<Result<_>>()?,
        jobs,
    })
}

impl Oracle {
    /// Panics on the first thing that does not hold.
    pub fn check(&mut self, world: &World) {
        let seen = world.read(look);
        let lost = self.receipts.iter().filter(|body| !seen.bodies.contains(*body)).count();
        assert_eq!(lost, 0, "acknowledged receipts lost");
        for id in self.jobs.values() {
            let is_it = |job: &Job| job.id == *id || job.group_id.as_ref() == Some(id);
            assert!(seen.jobs.iter().any(is_it), "acknowledged job lost: {id}");
        }
        let mut paid: HashMap<String, usize> = HashMap::new();
        for (_, job_id) in charged(world) {
            *paid.entry(job_id).or_default() += 1;
        }
        for (id, times) in &paid {
            assert_eq!(*times, 1, "paid twice: {id}");
            assert!(seen.jobs.iter().any(|job| job.id == *id), "paid for no job: {id}");
        }
        let called = called(world);
        for job in &seen.jobs {
            charge_is_true(job, paid.contains_key(&job.id), called.get(&job.id).map_or(&[], Vec::as_slice));
        }
        self.ends_are_final(&seen.jobs);
        events_are_whole(&seen);
        self.latest = self.latest.max(world.now());
        nobody_is_stuck(&seen, self.latest);
    }

    fn ends_are_final(&mut self, jobs: &[Job]) {
        for job in jobs {
            let now = (job.state, job.finished_at);
            match self.ended.get(&job.id) {
                Some(end) => assert_eq!(*end, now, "{} left its end", job.id),
                None if job.state.is_terminal() => drop(self.ended.insert(job.id.clone(), now)),
                None => {}
            }
        }
    }

    /// When all trouble is over: every job has ended, and as the ledger says.
    pub fn check_end(&mut self, world: &World, wanted: usize) {
        self.check(world);
        let seen = world.read(look);
        let charged = charged(world);
        let mut ends: HashMap<String, Phase> = HashMap::new();
        for entry in world.sandbox.ledger() {
            if let What::Ended { id, phase, .. } = entry.what
                && let Some(job_id) = charged.get(&id)
            {
                ends.insert(job_id.clone(), phase);
            }
        }
        assert_eq!(seen.jobs.len(), wanted, "one job for each thing that was wanted");
        for task in &seen.tasks {
            assert!(!task.is_dead, "given up: {} of {:?}", task.kind, task.subjects);
        }
        for job in &seen.jobs {
            let charged = charged.values().any(|id| *id == job.id);
            agrees(job, charged, ends.get(&job.id).copied());
        }
    }

    pub fn finished(&self) -> usize {
        self.ended.len()
    }
}

/// The sandbox's id of everything that was paid for, and our job: the one it was told of, or whose key
/// the call carried.
fn charged(world: &World) -> HashMap<String, String> {
    let charges = world.sandbox.ledger().into_iter().filter_map(|entry| match entry.what {
        What::Charged { id, callback_id, key, .. } => {
            let by_key = || key.as_deref()?.split_once('-').map(|(job_id, _)| job_id.to_owned());
            Some((id, callback_id.or_else(by_key).unwrap_or_default()))
        }
        _ => None,
    });
    charges.collect()
}

/// The keys of the create calls that reached the sandbox, by our job, in their order.
fn called(world: &World) -> HashMap<String, Vec<String>> {
    let mut called: HashMap<String, Vec<String>> = HashMap::new();
    for entry in world.sandbox.ledger() {
        let key = match entry.what {
            What::Accepted { key, .. } | What::Refused { key, .. } => key,
            What::Replayed { key, .. } => Some(key),
            _ => None,
        };
        if let Some(key) = key
            && let Some((job_id, _)) = key.split_once('-')
        {
            called.entry(job_id.to_owned()).or_default().push(key);
        }
    }
    called
}

/// What a job says of being charged is never more certain than the ledger, and names every call in it.
fn charge_is_true(job: &Job, charged: bool, called: &[String]) {
    let calls = &job.details.calls;
    let what = format!("{} {:?}, charged: {charged}, called: {called:?}, {calls:?}", job.id, job.state);
    match job.charge() {
        Some(Charge::None) => assert!(!charged, "said to be free: {what}"),
        Some(Charge::Once) => assert!(charged, "said to be charged: {what}"),
        Some(Charge::Open) => {}
        None => panic!("none is adopted: {what}"),
    }
    let mut kept = calls.latest.iter().map(|call| job.key_of(call.key_number));
    // More may be kept than arrived; what arrived is among them, in its order.
    let told = called.iter().skip(calls.older as usize);
    assert!(told.into_iter().all(|key| kept.any(|kept| kept == *key)), "a call was not written down: {what}");
}

fn agrees(job: &Job, charged: bool, end: Option<Phase>) {
    let what = format!("{} {:?}, charged: {charged}, ended there: {end:?}", job.id, job.state);
    let failure = job.details.failure.as_ref();
    let code = failure.and_then(|f| f.code.as_deref());
    let found_by = job.details.found_by;
    // By the clock as it stood then: it may have been set back since.
    let in_time = job.finished_at.is_some_and(|at| at >= job.deadline_at);
    match job.state {
        State::Completed => assert_eq!(end, Some(Phase::Completed), "{what}"),
        State::Canceled => assert!(!charged, "{what}"),
        State::Failed => match (found_by, code) {
            (Some(FoundBy::Submit), _) => assert!(!charged, "refused, and yet {what}"),
            (_, Some(Failure::LOST_UPSTREAM)) => {
                assert!(charged && in_time, "given up too early: {what}");
            }
            (_, Some(Failure::OUTCOME_UNKNOWN)) => {
                assert!(in_time, "given up too early: {what}");
            }
            _ => assert_eq!(end, Some(Phase::Failed), "{what}: {failure:?}"),
        },
        _ => panic!("stuck: {what}: {:?}", job.details.note),
    }
}

fn is_end(event_type: &str) -> bool {
    matches!(event_type, "job.completed" | "job.failed" | "job.canceled")
}

fn events_are_whole(seen: &Seen) {
    let mut last: HashMap<&str, i64> = HashMap::new();
    let mut ends: HashMap<&str, usize> = HashMap::new();
    for (at, (number, event_type, job_id, sequence)) in seen.events.iter().enumerate() {
        assert_eq!(*number, at as i64 + 1, "event numbers have no hole and no repeat");
        let Some(job_id) = job_id else { continue };
        let before = last.insert(job_id, *sequence).unwrap_or(0);
        assert_eq!(*sequence, before + 1, "events of {job_id} have no hole and no repeat");
        *ends.entry(job_id).or_default() += usize::from(is_end(event_type));
    }
    let mut open: HashMap<&str, usize> = HashMap::new();
    for job in &seen.jobs {
        if let Some(group) = &job.group_id {
            *open.entry(group).or_default() += usize::from(!job.state.is_terminal());
        }
    }
    let finished = open.values().filter(|open| **open == 0).count();
    let told = seen.events.iter().filter(|(_, event_type, ..)| event_type == GROUP_FINISHED).count();
    assert_eq!(told, finished, "ends told of groups");
    for job in &seen.jobs {
        let told = ends.get(job.id.as_str()).copied().unwrap_or(0);
        assert_eq!(told, usize::from(job.state.is_terminal()), "ends told of {} {:?}", job.id, job.state);
        assert_eq!(last.get(job.id.as_str()), Some(&job.details.events), "the job counts its events");
    }
}

/// Whatever waits has a task that will wake it.
fn nobody_is_stuck(seen: &Seen, now: Millis) {
    let due = |subject: &str, kind: &str| {
        let mut tasks = seen.tasks.iter().filter(|t| t.kind == kind && !t.is_dead);
        tasks.find(|t| t.subjects.iter().any(|s| s == subject)).map(|t| t.due_at)
    };
    for job in seen.jobs.iter().filter(|job| !job.state.is_terminal()) {
        let id = job.id.as_str();
        let end = due(id, "deadline");
        assert!(end.is_some_and(|at| at <= job.deadline_at), "{id} {:?} has no deadline", job.state);
        let next = match job.state {
            State::Held => continue,
            State::Queued if job.details.not_before.is_some() => {
                assert!(end <= job.details.not_before, "{id} is not begun in time: {end:?}");
                continue;
            }
            State::Queued | State::Submitting | State::Unknown => due(id, "submit"),
            _ => due(id, "poll"),
        };
        // Nothing waits longer than upstream may ask for, and no poll is first due later.
        let latest = (now + MAX_RETRY_AFTER).max(job.deadline_at);
        assert!(next.is_some_and(|at| at <= latest), "{id} {:?} is stuck: {next:?}", job.state);
    }
    for job in seen.jobs.iter().filter(|job| due(&job.id, "submit").is_none()) {
        let calls = &job.details.calls.latest;
        assert!(calls.iter().all(|call| call.outcome.is_some()), "{}: nobody is calling: {calls:?}", job.id);
    }
    for receipt in &seen.waiting {
        assert!(due(receipt, "apply").is_some(), "receipt {receipt} is never understood");
    }
}
