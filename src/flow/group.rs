//! Groups: jobs submitted, added, canceled and retried together. Each job of a group is a job like any other
//! and goes its own way; only its end is counted, and the last to end publishes the group's.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::submit::{begin, first_state, remember};
use super::{Key, Loaded, NewJob, Polls, Slot, Stamp, Submitted, find_first, find_learned, publish};
use crate::domain::event::{Event, GROUP_FINISHED};
use crate::domain::group::{Group, MAX_BYTES, MAX_JOBS, Outlook, group_json};
use crate::domain::history::{Learned, Usual};
use crate::domain::ids;
use crate::domain::job::{FoundBy, Job, Kind, State};
use crate::domain::step::Input;
use crate::domain::time::Millis;
use crate::store::{Result, Tx, group, job, upstream_limit};

/// A group to be; every job of it was checked by whoever made it.
#[derive(Debug, Clone)]
pub struct NewGroup {
    pub title: Option<String>,
    pub retry_of: Option<String>,
    pub jobs: Vec<NewJob>,
    /// The number of the first of their rows; of a new group 1.
    pub first_row: i64,
    /// It takes more after these.
    pub more: bool,
}

/// The group, its jobs and the stored answer, together.
pub fn submit_group(tx: &mut Tx, new: &NewGroup, key: Option<&Key>, stamp: &Stamp) -> Result<Submitted> {
    if let Some(first) = key.map(|k| find_first(tx, k)).transpose()?.flatten() {
        return Ok(first);
    }
    add(tx, blank(new, stamp), new, key, stamp, &|group| group)
}

/// What came of adding jobs to a group.
#[derive(Debug, Clone, PartialEq)]
pub enum Added {
    NotFound,
    /// It takes other rows next, or none.
    Misplaced {
        next_row: Option<i64>,
    },
    Submitted(Submitted),
}

/// More jobs for a group that takes more, if they are those that come next; `new` says whether others follow.
pub fn add_to_group(
    tx: &mut Tx,
    id: &str,
    new: &NewGroup,
    key: Option<&Key>,
    stamp: &Stamp,
) -> Result<Added> {
    // Of two who add the same rows at once the second finds that others come next.
    let Some(group) = group::lock(tx, id)? else { return Ok(Added::NotFound) };
    if let Some(first) = key.map(|k| find_first(tx, k)).transpose()?.flatten() {
        return Ok(Added::Submitted(first));
    }
    if group.next_row != Some(new.first_row) {
        return Ok(Added::Misplaced { next_row: group.next_row });
    }
    Ok(Added::Submitted(add(tx, group, new, key, stamp, &|group| group)?))
}

/// One without any jobs, not stored yet.
fn blank(new: &NewGroup, stamp: &Stamp) -> Group {
    Group {
        id: stamp.id(ids::GROUP, 0),
        created_at: stamp.now,
        finished_at: None,
        jobs: 0,
        open: 0,
        next_row: Some(new.first_row),
        title: new.title.clone(),
        retry_of: new.retry_of.clone(),
    }
}

/// Jobs behind those that the group has; one that has none is new. `answer` makes the answer of the group.
fn add(
    tx: &mut Tx,
    group: Group,
    new: &NewGroup,
    key: Option<&Key>,
    stamp: &Stamp,
    answer: &dyn Fn(Value) -> Value,
) -> Result<Submitted> {
    let (is_new, before) = (group.jobs == 0, new.first_row - 1);
    let learned = find_learned(tx)?;
    let in_group = |(nth, new)| {
        let mut job = first_state(new, (nth, Some(&group.id)), &learned, stamp);
        job.details.group_row = job.details.group_row.map(|row| row + before);
        job
    };
    let jobs: Vec<Job> = new.jobs.iter().enumerate().map(in_group).collect();
    let last_row = jobs.iter().filter_map(|job| job.details.group_row).max().unwrap_or(before);
    let count = i64::try_from(jobs.len()).unwrap_or(i64::MAX);
    let mut counts = group::count_states(tx, &[&group.id])?.pop().unwrap_or_default();
    jobs.iter().for_each(|job| counts.add(job.state, 1));
    let next_row = new.more.then_some(last_row + 1);
    let made = Group { jobs: group.jobs + count, open: group.open + count, next_row, ..group };
    let mut shown = group_json(&made, &counts);
    shown["outlook"] = outlook(tx, &new.jobs, &learned, stamp.now)?.json();
    let answer = answer(shown).to_string();
    if let Some(first) = remember(tx, key, &made.id, &answer, stamp)? {
        return Ok(first);
    }
    if is_new {
        group::insert(tx, &made)?
    } else {
        group::grow(tx, &made)?
    }
    let requests: Vec<(&Job, &str)> =
        jobs.iter().zip(&new.jobs).map(|(job, new)| (job, &*new.request)).collect();
    begin(tx, &requests, stamp)?;
    Ok(Submitted::New { id: made.id, answer })
}

/// What to expect of jobs that are submitted now.
pub fn outlook(tx: &mut Tx, jobs: &[NewJob], learned: &Learned, now: Millis) -> Result<Outlook> {
    let usual = |job: &NewJob| learned.get(job.kind.name()).copied().unwrap_or(Usual::of_kind(job.kind));
    let usual: Vec<Usual> = jobs.iter().map(usual).collect();
    let queued = job::count_open(tx)?.into_iter().find(|(state, _)| *state == State::Queued);
    let begins_at = |job: &NewJob| job.not_before.map_or(now, |at| at.max(now));
    let deadline_ms = jobs.iter().map(|job| job.deadline_at.saturating_sub(begins_at(job))).min();
    let slots = upstream_limit::get(tx)?.slots;
    Ok(Outlook::of(&usual, queued.map_or(0, |(_, n)| n), slots, deadline_ms.unwrap_or(0)))
}

/// Takes jobs that ended off their groups, in the order of the groups. Of the last job of a group, the
/// group's end is published.
pub(super) fn count_off(tx: &mut Tx, slots: &[&Slot], stamp: &Stamp, events: &mut Vec<Event>) -> Result<()> {
    let mut ended: BTreeMap<&str, i64> = BTreeMap::new();
    for slot in slots.iter().filter(|slot| slot.ended()) {
        if let Some(id) = &slot.job.group_id {
            *ended.entry(id).or_default() += 1;
        }
    }
    for (id, count) in ended {
        let group = group::count_off(tx, id, count, stamp.now)?;
        if group.finished_at.is_some() {
            events.push(end_of(tx, &group, events.len(), stamp)?);
        }
    }
    Ok(())
}

/// The `nth` event of this stamp: a group's end.
fn end_of(tx: &mut Tx, group: &Group, nth: usize, stamp: &Stamp) -> Result<Event> {
    let counts = group::count_states(tx, &[&group.id])?.remove(0);
    Ok(Event {
        id: stamp.id(ids::EVENT, nth),
        event_type: GROUP_FINISHED.to_owned(),
        created_at: stamp.now,
        data: group_json(group, &counts).to_string(),
        ..Event::default()
    })
}

/// Takes no more jobs from now on. If all that it has have ended, so does the group.
pub fn close_group(tx: &mut Tx, id: &str, stamp: &Stamp) -> Result<()> {
    match group::close(tx, id, stamp.now)? {
        Some(group) if group.finished_at.is_some() => {
            let end = end_of(tx, &group, 0, stamp)?;
            publish(tx, &mut [end], stamp)
        }
        _ => Ok(()),
    }
}

/// Cancels up to `most` jobs of a group that can be canceled; how many.
pub fn cancel_some(tx: &mut Tx, group_id: &str, most: i64, stamp: &Stamp) -> Result<usize> {
    let (mut jobs, mut events) = (Loaded::default(), vec![]);
    for state in [State::Queued, State::Held] {
        let group = Some(group_id.to_owned());
        let filter = job::Filter { group, state: Some(state), ..job::Filter::default() };
        jobs.add(job::list(tx, &filter, None, most)?);
    }
    for slot in &mut jobs.slots {
        slot.take(Input::Cancel, stamp, &mut events);
    }
    let canceled = jobs.write(tx, stamp, &mut events)?.len();
    publish(tx, &mut events, stamp)?;
    Ok(canceled)
}

/// What came of trying the failed jobs of a group again.
#[derive(Debug, Clone, PartialEq)]
pub enum Retried {
    NotFound,
    /// No failed job is left to retry but these, which HeyGen may have charged for.
    Nothing {
        left: Vec<String>,
    },
    Submitted {
        made: Submitted,
        kinds: Vec<Kind>,
    },
}

/// Whether it failed, or expired before it was sent: not what the caller itself canceled.
fn is_unwished(job: &Job) -> bool {
    job.state == State::Failed || job.details.found_by == Some(FoundBy::Deadline)
}

/// The polls of a job of this kind with this request.
type PollsOf<'a> = &'a dyn Fn(Kind, &str) -> Polls;

/// A new group of what failed in an old one and was not retried yet. Jobs that may have been charged for
/// are left unless `accepts` says that paying again is fine. Of very many the first are taken, as many as one
/// request may make; the others remain for whoever asks again.
pub fn retry_failed(
    tx: &mut Tx,
    old_id: &str,
    accepts: bool,
    (deadline_at, polls): (Millis, PollsOf),
    key: Option<&Key>,
    stamp: &Stamp,
) -> Result<Retried> {
    // Of two who want it at once the second finds the first's answer, or all of them retried.
    let Some(old) = group::lock(tx, old_id)? else { return Ok(Retried::NotFound) };
    if let Some(first) = key.map(|k| find_first(tx, k)).transpose()?.flatten() {
        return Ok(Retried::Submitted { made: first, kinds: vec![] });
    }
    let Failed { left, again, remaining } = failed_of(tx, old_id, accepts)?;
    if again.is_empty() {
        return Ok(Retried::Nothing { left });
    }
    let jobs = again.into_iter().map(|(job, request)| {
        let polls = polls(job.kind, &request);
        NewJob::again(job, request, deadline_at, polls)
    });
    let new = NewGroup {
        title: old.title,
        retry_of: Some(old.id),
        jobs: jobs.collect(),
        first_row: 1,
        more: false,
    };
    let answer = |group| json!({"group": group, "left": left, "remaining": remaining});
    let made = add(tx, blank(&new, stamp), &new, key, stamp, &answer)?;
    Ok(Retried::Submitted { made, kinds: new.jobs.iter().map(|job| job.kind).collect() })
}

/// What failed of a group and was not retried yet.
#[derive(Default)]
struct Failed {
    /// May have been charged for.
    left: Vec<String>,
    again: Vec<(Job, String)>,
    /// There is more than one request may make.
    remaining: bool,
}

/// Page by page, and no further than one request may go: a group may be of any size.
fn failed_of(tx: &mut Tx, group_id: &str, accepts: bool) -> Result<Failed> {
    const PAGE: i64 = 100;
    let (mut failed, mut bytes) = (Failed::default(), 0);
    'all: for state in [State::Failed, State::Canceled] {
        let mut after = String::new();
        loop {
            let page = job::list_unretried(tx, group_id, state, &after, PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after.clone_from(&last.id);
            for (job, request) in page.into_iter().filter(|(job, _)| is_unwished(job)) {
                if job.risks_second_charge() && !accepts {
                    failed.left.push(job.id);
                    continue;
                }
                bytes += request.len();
                if failed.again.len() == MAX_JOBS || bytes > MAX_BYTES {
                    failed.remaining = true;
                    break 'all;
                }
                failed.again.push((job, request));
            }
        }
    }
    failed.again.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
    Ok(failed)
}
