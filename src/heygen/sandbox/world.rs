//! All that the sandbox remembers, under one lock: jobs, endpoints, stored answers, what is due.
//!
//! Only holds and finds; never reads the clock and never waits.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::deliver::Delivery;
use super::endpoints::Endpoint;
use super::events::{Logged, Step};
use super::idempotency::Stored;
use super::jobs::Job;
use super::{Fault, Twist};
use crate::clock::Millis;

/// Jobs remembered; beyond it the oldest are forgotten.
const JOBS_KEPT: usize = 100_000;
/// Events in the log. How long HeyGen keeps them is not documented.
const EVENTS_KEPT: usize = 100_000;
/// Unfinished creation attempts whose faults are remembered.
const TRIES_KEPT: usize = 10_000;

pub struct World {
    pub balance: f64,
    pub revoked: bool,
    pub offline: bool,
    pub silent: bool,
    /// Trouble with whole routes, by path, or by method and path.
    pub twists: HashMap<String, Twist>,
    /// Faults for the next new jobs, one list each.
    pub script: VecDeque<Vec<Fault>>,
    /// By number, in order of creation.
    pub jobs: BTreeMap<u64, Job>,
    /// Video, session and translation ids to a job's number.
    ids: HashMap<String, u64>,
    /// Jobs that have not ended yet, or ended since the last step.
    open: BTreeSet<u64>,
    /// What a job that was refused so far still has in store, by the client's name for it.
    tries: BTreeMap<String, Vec<Fault>>,
    pub stored: HashMap<String, Stored>,
    pub endpoints: BTreeMap<u64, Endpoint>,
    pub log: VecDeque<Logged>,
    pub steps: BTreeMap<(Millis, u64), Step>,
    pub deliveries: BTreeMap<(Millis, u64), Delivery>,
    last_number: u64,
}

impl World {
    pub fn new(balance: f64) -> Self {
        Self {
            balance,
            revoked: false,
            offline: false,
            silent: false,
            twists: HashMap::new(),
            script: VecDeque::new(),
            jobs: BTreeMap::new(),
            ids: HashMap::new(),
            open: BTreeSet::new(),
            tries: BTreeMap::new(),
            stored: HashMap::new(),
            endpoints: BTreeMap::new(),
            log: VecDeque::new(),
            steps: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            last_number: 0,
        }
    }

    /// One row of numbers for everything keeps equal times in order of arrival.
    pub fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    pub fn next_due(&self) -> Option<Millis> {
        let first_step = self.steps.keys().next().map(|&(at, _)| at);
        let first_delivery = self.deliveries.keys().next().map(|&(at, _)| at);
        first_step.into_iter().chain(first_delivery).min()
    }

    pub fn schedule(&mut self, at: Millis, step: Step) {
        let number = self.number();
        self.steps.insert((at, number), step);
    }

    pub fn enqueue(&mut self, at: Millis, delivery: Delivery) {
        let number = self.number();
        self.deliveries.insert((at, number), delivery);
    }

    pub fn twist_of(&self, method: &http::Method, path: &str) -> Option<Twist> {
        if self.twists.is_empty() {
            return None;
        }
        self.twists.get(path).or_else(|| self.twists.get(&format!("{method} {path}"))).cloned()
    }

    pub fn add_job(&mut self, job: Job) -> u64 {
        let number = self.number();
        self.ids.insert(job.id.clone(), number);
        if let Some(video_id) = &job.video_id {
            self.ids.insert(video_id.clone(), number);
        }
        self.open.insert(number);
        self.jobs.insert(number, job);
        while self.jobs.len() > JOBS_KEPT
            && let Some(oldest) = self.jobs.keys().next().copied()
        {
            self.forget(oldest);
        }
        number
    }

    pub fn forget(&mut self, number: u64) -> Option<Job> {
        let job = self.jobs.remove(&number)?;
        self.open.remove(&number);
        self.ids.remove(&job.id);
        if let Some(video_id) = &job.video_id {
            self.ids.remove(video_id);
        }
        Some(job)
    }

    pub fn close(&mut self, number: u64) {
        self.open.remove(&number);
    }

    pub fn number_of(&self, id: &str) -> Option<u64> {
        self.ids.get(id).copied()
    }

    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs.get(self.ids.get(id)?)
    }

    pub fn job_mut(&mut self, id: &str) -> Option<&mut Job> {
        self.jobs.get_mut(self.ids.get(id)?)
    }

    /// Unfinished jobs, and when the first of them ends.
    pub fn unfinished(&self, now: Millis) -> (usize, Option<Millis>) {
        let running = self.open.iter().filter_map(|n| self.jobs.get(n)).map(Job::done_at);
        let running: Vec<_> = running.filter(|done| done.is_none_or(|at| at > now)).collect();
        (running.len(), running.iter().flatten().min().copied())
    }

    pub fn add_event(&mut self, event: Logged) {
        self.log.push_back(event);
        if self.log.len() > EVENTS_KEPT {
            self.log.pop_front();
        }
    }

    /// What a client job that was tried before still has in store.
    pub fn take_try(&mut self, client: &str) -> Option<Vec<Fault>> {
        self.tries.remove(client)
    }

    pub fn keep_try(&mut self, client: String, faults: Vec<Fault>) {
        if self.tries.len() >= TRIES_KEPT {
            self.tries.pop_first();
        }
        self.tries.insert(client, faults);
    }
}
