//! Jobs for what upstream has and we did not submit. Each begins as if its create call had just been
//! answered, so that everything after that is as always; no charge is attributed to it.
//!
//! What a job of ours may turn out to be is never adopted: it would be there twice.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::{Loaded, Slot, Stamp, publish};
use crate::domain::event::Event;
use crate::domain::ids;
use crate::domain::job::{Details, Job, Kind, Observation, State};
use crate::domain::step::Input;
use crate::domain::stranger::Stranger;
use crate::domain::task::{TaskKind, TaskOp};
use crate::domain::time::{MINUTE, Millis};
use crate::store::{Result, Tx, inbox, job, task};

/// Upstream's clock and ours may differ by this much.
const CLOCKS_DIFFER: Millis = 5 * MINUTE;
/// Jobs of a state that are looked at; with more open outcomes nothing is certain.
const MOST_OPEN: i64 = 200;

/// What adopted jobs are given, as others get it from their submit.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// How long one that goes on is waited for.
    pub deadline_ms: Millis,
    pub least_poll_ms: Millis,
}

/// What becomes of something upstream has.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// Not ours so far.
    New,
    Known(Box<Job>),
    /// A job of ours whose upstream id we do not know may be this one.
    Undecided,
    Adopted(Box<Job>),
}

/// What adopting these would do, in their order.
pub fn judge(tx: &mut Tx, strangers: &[(Stranger, Observation)]) -> Result<Vec<Fate>> {
    let upstream: Vec<&str> = strangers.iter().map(|(s, _)| s.upstream_id.as_str()).collect();
    let named: Vec<&str> = strangers.iter().filter_map(|(s, _)| s.job_id()).collect();
    let mut known = job::find_by_upstream(tx, &upstream)?;
    known.extend(job::find_many(tx, &named)?);
    let mut fates = vec![];
    let mut seen = HashSet::new();
    let mut begun: HashMap<Kind, Vec<Millis>> = HashMap::new();
    for (stranger, _) in strangers {
        if let Entry::Vacant(kind) = begun.entry(stranger.kind) {
            kind.insert(nameless(tx, stranger.kind)?);
        }
        let is_it = |job: &&Job| {
            let ids = [job.upstream_id.as_deref(), job.upstream_video_id.as_deref()];
            ids.contains(&Some(&*stranger.upstream_id)) || stranger.job_id() == Some(job.id.as_str())
        };
        fates.push(match known.iter().find(is_it) {
            Some(job) => Fate::Known(Box::new(job.clone())),
            // The same thing twice in one list.
            None if !seen.insert(&stranger.upstream_id) => Fate::Undecided,
            None if may_be_ours(stranger, &begun[&stranger.kind]) => Fate::Undecided,
            None => Fate::New,
        });
    }
    Ok(fates)
}

/// Makes a job of each that is new, and lets it hear what upstream said of it. So does a job of ours
/// that is named and did not know its upstream id.
pub fn adopt(
    tx: &mut Tx,
    strangers: &[(Stranger, Observation)],
    terms: Terms,
    stamp: &Stamp,
) -> Result<Vec<Fate>> {
    inbox::lock_parking(tx)?;
    let mut fates = judge(tx, strangers)?;
    let (mut jobs, mut events) = (Loaded::default(), vec![]);
    for ((stranger, seen), fate) in strangers.iter().zip(&mut fates) {
        let slot = match fate {
            Fate::New => jobs.adopt(tx, stranger, terms, stamp, &mut events)?,
            // It named our job, which learns its upstream id by this.
            Fate::Known(job) if job.upstream_id.is_none() => jobs.slot_of(job),
            _ => continue,
        };
        slot.take(Input::Observed(seen.clone()), stamp, &mut events);
        let job = Box::new(slot.job.clone());
        *fate = if *fate == Fate::New { Fate::Adopted(job) } else { Fate::Known(job) };
    }
    jobs.write(tx, stamp, &mut events)?;
    publish(tx, &mut events, stamp)?;
    Ok(fates)
}

/// Whether a job of ours may be this one, though nothing names it. `begun` is of `nameless`.
pub(super) fn may_be_ours(stranger: &Stranger, begun: &[Millis]) -> bool {
    // Ours carry our id.
    let unnamed = stranger.callback_id.is_none();
    unnamed && begun.iter().any(|begun| stranger.created_at.is_none_or(|at| at >= begun - CLOCKS_DIFFER))
}

/// When the jobs were begun that may turn out to be something of this kind that upstream has: those
/// whose create call has no answer yet, and agents' that have not named their video.
pub(super) fn nameless(tx: &mut Tx, kind: Kind) -> Result<Vec<Millis>> {
    let mut asked = vec![(kind, State::Submitting), (kind, State::Unknown)];
    if kind == Kind::Video {
        asked.extend([State::Submitting, State::Unknown].map(|state| (Kind::Template, state)));
        asked.extend(
            [State::Submitting, State::Unknown, State::Processing].map(|state| (Kind::VideoAgent, state)),
        );
    }
    if kind == Kind::Translation {
        asked.extend([State::Submitting, State::Unknown].map(|state| (Kind::ProofreadVideo, state)));
    }
    let mut begun = vec![];
    for (kind, state) in asked {
        let filter = job::Filter { kind: Some(kind), state: Some(state), ..job::Filter::default() };
        let open = job::list(tx, &filter, None, MOST_OPEN)?;
        if i64::try_from(open.len()) == Ok(MOST_OPEN) {
            // There may be more, begun whenever.
            begun.push(0);
        }
        let is_nameless = |job: &&Job| match kind {
            Kind::VideoAgent => job.upstream_video_id.is_none(),
            // One that was adopted a line above has its id, which is stored at the end.
            _ => job.upstream_id.is_none() && !job.details.adopted,
        };
        let since = |job: &Job| job.details.sent_at.or(job.details.accepted_at).unwrap_or(job.created_at);
        begun.extend(open.iter().filter(is_nameless).map(since));
    }
    Ok(begun)
}

impl Loaded {
    fn slot_of(&mut self, job: &Job) -> &mut Slot {
        self.add(vec![job.clone()]);
        let at = self.by_id[&job.id];
        &mut self.slots[at]
    }

    /// Stores a job for the stranger and has it accepted. The parking lock must be held.
    pub(super) fn adopt(
        &mut self,
        tx: &mut Tx,
        stranger: &Stranger,
        terms: Terms,
        stamp: &Stamp,
        events: &mut Vec<Event>,
    ) -> Result<&mut Slot> {
        let at = self.slots.len();
        let job = job_of(stranger, terms, stamp, at);
        job::insert(tx, &job, "{}")?;
        task::apply(tx, &job.id, TaskOp::Add(TaskKind::Deadline, job.deadline_at))?;
        self.by_id.insert(job.id.clone(), at);
        let mut slot = Slot::new(job);
        let accepted = Input::Accepted { upstream_id: stranger.upstream_id.clone(), upstream_video_id: None };
        slot.take(accepted, stamp, events);
        self.slots.push(slot);
        self.learn(at);
        Ok(&mut self.slots[at])
    }
}

/// As a job is that was just sent, for as long as this transaction lasts.
fn job_of(stranger: &Stranger, terms: Terms, stamp: &Stamp, nth: usize) -> Job {
    Job {
        id: stamp.id(ids::JOB, nth),
        version: 1,
        kind: stranger.kind,
        state: State::Submitting,
        callback_id: stranger.callback_id.clone(),
        upstream_id: None,
        upstream_video_id: None,
        retry_of: None,
        group_id: None,
        created_at: stamp.now,
        updated_at: stamp.now,
        deadline_at: stamp.now.saturating_add(terms.deadline_ms),
        finished_at: None,
        details: Details {
            title: stranger.title.clone(),
            adopted: true,
            accepted_at: Some(stranger.created_at.unwrap_or(stamp.now).min(stamp.now)),
            // As if it had waited its usual time.
            first_poll_ms: terms.least_poll_ms,
            least_poll_ms: terms.least_poll_ms,
            ..Details::default()
        },
    }
}
