//! Groups: jobs submitted, canceled and retried together. Each job of a group is a job like any other
//! and goes its own way; only its end is counted, and the last to end publishes the group's.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::submit::{begin, first_state, remember};
use super::{Key, Loaded, NewJob, Polls, Slot, Stamp, Submitted, find_first, find_learned, publish};
use crate::domain::event::{Event, GROUP_FINISHED};
use crate::domain::group::{Counts, Group, Outlook, group_json};
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
}

/// The group, its jobs and the stored answer, together.
pub fn submit_group(tx: &mut Tx, new: &NewGroup, key: Option<&Key>, stamp: &Stamp) -> Result<Submitted> {
    if let Some(first) = key.map(|k| find_first(tx, k)).transpose()?.flatten() {
        return Ok(first);
    }
    submit_answering(tx, new, key, stamp, &|group| group)
}

/// `answer` makes the answer of the group as it begins.
fn submit_answering(
    tx: &mut Tx,
    new: &NewGroup,
    key: Option<&Key>,
    stamp: &Stamp,
    answer: &dyn Fn(Value) -> Value,
) -> Result<Submitted> {
    let count = i64::try_from(new.jobs.len()).unwrap_or(i64::MAX);
    let made = Group {
        id: stamp.id(ids::GROUP, 0),
        created_at: stamp.now,
        finished_at: None,
        jobs: count,
        open: count,
        title: new.title.clone(),
        retry_of: new.retry_of.clone(),
    };
    let learned = find_learned(tx)?;
    let in_group = |(nth, new)| first_state(new, (nth, Some(&made.id)), &learned, stamp);
    let jobs: Vec<Job> = new.jobs.iter().enumerate().map(in_group).collect();
    let mut counts = Counts::default();
    jobs.iter().for_each(|job| counts.add(job.state, 1));
    let mut shown = group_json(&made, &counts);
    shown["outlook"] = outlook(tx, &new.jobs, &learned, stamp.now)?.json();
    let answer = answer(shown).to_string();
    if let Some(first) = remember(tx, key, &made.id, &answer, stamp)? {
        return Ok(first);
    }
    group::insert(tx, &made)?;
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
        if group.open > 0 {
            continue;
        }
        let counts = group::count_states(tx, &[id])?.remove(0);
        events.push(Event {
            id: stamp.id(ids::EVENT, events.len()),
            event_type: GROUP_FINISHED.to_owned(),
            created_at: stamp.now,
            data: group_json(&group, &counts).to_string(),
            ..Event::default()
        });
    }
    Ok(())
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
/// are left unless `accepts` says that paying again is fine.
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
    let failed = job::list_unretried(tx, old_id)?.into_iter().filter(|(job, _)| is_unwished(job));
    let (left, again): (Vec<_>, Vec<_>) = failed.partition(|(job, _)| job.risks_second_charge() && !accepts);
    let left: Vec<String> = left.into_iter().map(|(job, _)| job.id).collect();
    if again.is_empty() {
        return Ok(Retried::Nothing { left });
    }
    let jobs = again.into_iter().map(|(job, request)| {
        let polls = polls(job.kind, &request);
        NewJob::again(job, request, deadline_at, polls)
    });
    let new = NewGroup { title: old.title, retry_of: Some(old.id), jobs: jobs.collect() };
    let answer = |group| json!({"group": group, "left": left});
    let made = submit_answering(tx, &new, key, stamp, &answer)?;
    Ok(Retried::Submitted { made, kinds: new.jobs.iter().map(|job| job.kind).collect() })
}
