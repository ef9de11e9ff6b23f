//! New jobs, one or many: as they begin, stored with their tasks, their first events and the answer to the
//! caller's key. The same for a job that is submitted alone and for a group.

use super::{Key, NewJob, Polls, Stamp, Submitted, find_learned, job_event, publish};
use crate::domain::event::EventType;
use crate::domain::history::Learned;
use crate::domain::ids;
use crate::domain::job::{Details, Job, Priority, State};
use crate::domain::job_json::job_text;
use crate::domain::task::TaskKind;
use crate::domain::time::Millis;
use crate::store::idempotency::Remembered;
use crate::store::{Result, Tx, idempotency, job, task};

impl NewJob {
    /// A job like the old one, whatever became of that. What nobody approved waits for it again.
    pub fn again(
        old: Job,
        request: String,
        deadline_at: Millis,
        (first_poll_ms, least_poll_ms): Polls,
    ) -> Self {
        Self {
            kind: old.kind,
            request,
            callback_id: old.callback_id,
            title: old.details.title,
            labels: old.details.labels,
            metadata: old.details.metadata,
            notify_url: old.details.notify_url,
            notify_secret: old.details.notify_secret,
            priority: old.details.priority,
            hold: old.details.held,
            not_before: None,
            deadline_at,
            retry_of: Some(old.id),
            group_row: old.details.group_row,
            first_poll_ms,
            least_poll_ms,
        }
    }
}

/// Job, stored answer, event and submit task, together.
pub fn submit(tx: &mut Tx, new: &NewJob, key: Option<&Key>, stamp: &Stamp) -> Result<Submitted> {
    if let Some(first) = key.map(|k| find_first(tx, k)).transpose()?.flatten() {
        return Ok(first);
    }
    let job = first_state(new, (0, None), &find_learned(tx)?, stamp);
    let answer = job_text(&job);
    if let Some(first) = remember(tx, key, &job.id, &answer, stamp)? {
        return Ok(first);
    }
    begin(tx, &[(&job, &new.request)], stamp)?;
    Ok(Submitted::New { id: job.id, answer })
}

/// Keeps the first answer to a key. Another's, if somebody took the key since it was looked for.
pub(super) fn remember(
    tx: &mut Tx,
    key: Option<&Key>,
    id: &str,
    answer: &str,
    stamp: &Stamp,
) -> Result<Option<Submitted>> {
    let Some(k) = key else { return Ok(None) };
    let fingerprint = k.fingerprint.clone();
    let first = Remembered { fingerprint, id: id.to_owned(), answer: answer.to_owned() };
    if idempotency::insert(tx, &k.owner, &k.key, &first, stamp.now)? {
        return Ok(None);
    }
    let found = idempotency::find(tx, &k.owner, &k.key)?;
    found.map_or(Err(crate::store::Error::Conflict), |found| Ok(Some(replay(found, key))))
}

/// Stores new jobs, each with its request, their tasks and their first events.
pub(super) fn begin(tx: &mut Tx, jobs: &[(&Job, &str)], stamp: &Stamp) -> Result<()> {
    job::insert_many(tx, jobs)?;
    // Until a job begins its deadline's task is what begins it.
    let first_due = |job: &Job| job.details.not_before.unwrap_or(job.deadline_at);
    let deadlines =
        jobs.iter().map(|(job, _)| (&*job.id, TaskKind::Deadline, first_due(job), Priority::default()));
    let waits = |job: &Job| job.state == State::Queued && job.details.not_before.is_none();
    let queued = jobs.iter().filter(|(job, _)| waits(job));
    let submits = queued.map(|(job, _)| (&*job.id, TaskKind::Submit, stamp.now, job.details.priority));
    task::insert_many(tx, &deadlines.chain(submits).collect::<Vec<_>>(), 0)?;
    let first = |(nth, (job, _)): (usize, &(&Job, &str))| {
        let event = if job.state == State::Held { EventType::Held } else { EventType::Queued };
        job_event(job, event, stamp, nth)
    };
    publish(tx, &mut jobs.iter().enumerate().map(first).collect::<Vec<_>>(), stamp)
}

/// What a key stands for already. To be asked before anything else of a request is judged: a time
/// or a state in it may have been right only then.
pub fn find_first(tx: &mut Tx, key: &Key) -> Result<Option<Submitted>> {
    Ok(idempotency::find(tx, &key.owner, &key.key)?.map(|found| replay(found, Some(key))))
}

fn replay(found: Remembered, key: Option<&Key>) -> Submitted {
    if key.is_some_and(|k| k.fingerprint != found.fingerprint) {
        return Submitted::KeyReused;
    }
    Submitted::Replayed { id: found.id, answer: found.answer }
}

/// A new job as it begins; nothing is stored. `nth` of those made together, in a group if they are one.
pub(super) fn first_state(
    new: &NewJob,
    (nth, group_id): (usize, Option<&str>),
    learned: &Learned,
    stamp: &Stamp,
) -> Job {
    Job {
        id: stamp.id(ids::JOB, nth),
        version: 1,
        kind: new.kind,
        state: if new.hold { State::Held } else { State::Queued },
        callback_id: new.callback_id.clone(),
        upstream_id: None,
        upstream_video_id: None,
        retry_of: new.retry_of.clone(),
        group_id: group_id.map(str::to_owned),
        created_at: stamp.now,
        updated_at: stamp.now,
        deadline_at: new.deadline_at,
        finished_at: None,
        details: Details {
            title: new.title.clone(),
            labels: new.labels.clone(),
            metadata: new.metadata.clone(),
            notify_url: new.notify_url.clone(),
            notify_secret: new.notify_secret.clone(),
            priority: new.priority,
            held: new.hold,
            not_before: new.not_before.filter(|at| *at > stamp.now),
            group_row: new.group_row,
            first_poll_ms: new.first_poll_ms,
            least_poll_ms: new.least_poll_ms,
            usual: learned.get(new.kind.name()).copied(),
            events: 1,
            ..Details::default()
        },
    }
}
