//! One job with its tasks, two nodes that run them, and upstream. A transaction is one action, and
//! so is everything that happens outside of one. What the nodes do follows `flow.rs` and `work/`;
//! what becomes of the job is decided by the real `step`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};

use reelhook::domain::charge::{Calls, Charge};
use reelhook::domain::event::EventType;
use reelhook::domain::job::{Failure, FoundBy, Job, Observation, Output, Says, State};
use reelhook::domain::step::{Input, next_ask, step};
use reelhook::domain::table::{send, typical};
use reelhook::domain::task::{TaskKind, TaskOp};
use reelhook::domain::time::{DAY, HOUR, MINUTE, Millis, SECOND};

// As in `work/submit.rs` and `work/runner.rs`.
const SUBMIT_LEASE: Millis = 150 * SECOND;
const OTHER_LEASE: Millis = 90 * SECOND;
const MARGIN: Millis = 20 * SECOND;
const CALL: Millis = 120 * SECOND;
const KEY_TRUSTED: Millis = 20 * HOUR;
/// Upstream forgets an Idempotency-Key after this long.
const KEY_KEPT: Millis = 24 * HOUR;
/// A request that has not arrived by then is gone.
const IN_FLIGHT: Millis = 2 * MINUTE;
/// Pause before a poll or a submit is tried again.
const PAUSE: Millis = 15 * SECOND;

const NODES: [usize; 2] = [0, 1];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A node takes a task that is due and not leased.
    Claim(usize, TaskKind),
    /// Its next transaction, or its next look at the clock and the socket.
    Go(usize),
    /// Its call ends without an answer.
    NoAnswer(usize),
    /// The node is gone; its lease stays.
    Crash(usize),
    /// A create request reaches upstream, which accepts it, or is too busy.
    Arrives {
        accepted: bool,
    },
    /// Upstream is done with what it accepted.
    Ends {
        well: bool,
    },
    /// Upstream's webhook of the end is applied; again and again.
    Webhook,
    Cancel,
    Refresh,
    /// Nothing happens until the next thing is due.
    Time,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Claimed,
    /// The call is on disk.
    Begun,
    /// The key is trusted no more: only a search finds out.
    Searching,
    /// A create request with this key was sent at that time.
    Calling {
        key: u32,
        since: Millis,
    },
    /// How the create call ended.
    Told {
        answer: Answer,
    },
    /// Upstream was asked how the job stands, and said whether and how it ended.
    Asked {
        found_by: FoundBy,
        over: bool,
        end: Option<bool>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Accepted,
    Busy,
    Refused,
    NotSent,
    None,
}

#[derive(Debug, Clone, Copy)]
struct Task {
    due_at: Millis,
    /// Who holds the lease, and until when; nobody when the holder is gone.
    lease: Option<(Option<usize>, Millis)>,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    kind: TaskKind,
    due_at: Millis,
    lease_until: Millis,
    stage: Stage,
}

/// A create request on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    key: u32,
    sent_at: Millis,
    /// The node that waits for the answer.
    from: Option<usize>,
}

#[derive(Debug, Clone)]
pub struct World {
    now: Millis,
    job: Job,
    tasks: BTreeMap<TaskKind, Task>,
    runs: [Option<Run>; 2],
    wire: Vec<Request>,
    /// Keys of accepted requests, and when.
    accepted: Vec<(u32, Millis)>,
    charges: usize,
    /// Whether upstream refuses this request for good, as it would each time.
    refuses: bool,
    ended: Option<bool>,
    told: usize,
}

/// From where the search begins: a new job, and the places that are too far from it.
pub fn roots() -> Vec<(&'static str, World)> {
    let deadline = DAY;
    let fresh = |state: State, tasks: &[(TaskKind, Millis)], now: Millis| {
        let mut job = typical(state);
        job.created_at = 0;
        job.deadline_at = deadline;
        job.details.sent_at = (!matches!(state, State::Held | State::Queued)).then_some(0);
        let end = [(TaskKind::Deadline, deadline)];
        let all = tasks.iter().chain(&end);
        World {
            now,
            job,
            tasks: all.map(|(kind, due_at)| (*kind, Task { due_at: *due_at, lease: None })).collect(),
            runs: [None, None],
            wire: vec![],
            accepted: vec![],
            charges: 0,
            refuses: false,
            ended: None,
            told: 0,
        }
    };
    let queued = fresh(State::Queued, &[(TaskKind::Submit, 0)], 0);
    let refused = World { refuses: true, ..queued.clone() };
    let mut abandoned = fresh(State::Submitting, &[(TaskKind::Submit, 0)], 10 * SECOND);
    abandoned.tasks.insert(TaskKind::Submit, Task { due_at: 0, lease: Some((None, SUBMIT_LEASE)) });
    abandoned.wire.push(Request { key: 0, sent_at: 0, from: None });
    let mut processing = fresh(State::Processing, &[(TaskKind::Poll, 5 * MINUTE)], 5 * MINUTE);
    (processing.accepted, processing.charges) = (vec![(0, 0)], 1);
    let mut late = processing.clone();
    late.now = deadline - MINUTE;
    late.tasks.insert(TaskKind::Poll, Task { due_at: deadline - 30 * SECOND, lease: None });
    let mut old = fresh(State::Unknown, &[(TaskKind::Submit, KEY_TRUSTED - MINUTE)], KEY_TRUSTED - MINUTE);
    old.job.details.unknown_since = Some(MINUTE);
    (old.accepted, old.charges) = (vec![(0, 0)], 1);
    old.job.deadline_at = 30 * DAY;
    old.tasks.insert(TaskKind::Deadline, Task { due_at: 30 * DAY, lease: None });
    vec![
        ("a new job", queued),
        ("a new job that upstream refuses", refused),
        ("a job whose sender died", abandoned),
        ("a job upstream works on", processing),
        ("a job a minute from its deadline", late),
        ("a job accepted unheard, its key a minute from being trusted no more", old),
    ]
}

impl World {
    /// Two states with one fingerprint behave alike; 128 bits, so that chance is no concern.
    pub fn fingerprint(&self) -> (u64, u64) {
        struct Both(DefaultHasher, DefaultHasher);
        impl Write for Both {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                self.0.write(text.as_bytes());
                self.1.write(text.as_bytes());
                Ok(())
            }
        }
        let mut both = Both(DefaultHasher::new(), DefaultHasher::new());
        both.1.write_u8(1);
        // What nothing depends on: words for people, what came of each call, and the number of changes.
        let mut plain = self.clone();
        plain.job.details.note = None;
        plain.job.details.calls = Calls::default();
        plain.job.version = 0;
        plain.job.updated_at = 0;
        write!(both, "{plain:?}").expect("hashing does not fail");
        (both.0.finish(), both.1.finish())
    }

    pub fn has_ended(&self) -> bool {
        self.job.state.is_terminal()
    }

    pub fn actions(&self) -> Vec<Action> {
        let mut all = vec![Action::Cancel, Action::Refresh, Action::Time];
        for node in NODES {
            match &self.runs[node] {
                None => {
                    let due = |task: &Task| {
                        task.due_at <= self.now && task.lease.is_none_or(|(_, until)| until <= self.now)
                    };
                    let due = self.tasks.iter().filter(|(_, task)| due(task));
                    all.extend(due.map(|(kind, _)| Action::Claim(node, *kind)));
                }
                Some(run) => {
                    all.push(Action::Crash(node));
                    match run.stage {
                        // It waits for an answer, or for the end of its patience.
                        Stage::Calling { .. } => all.push(Action::NoAnswer(node)),
                        _ => all.push(Action::Go(node)),
                    }
                }
            }
        }
        if !self.wire.is_empty() {
            all.extend([true, false].map(|accepted| Action::Arrives { accepted }));
        }
        if self.charges > 0 && self.ended.is_none() {
            all.extend([true, false].map(|well| Action::Ends { well }));
        }
        if self.ended.is_some() {
            all.push(Action::Webhook);
        }
        all
    }

    /// The state after an action, and what is wrong with it.
    pub fn after(&self, action: Action) -> (Self, Option<String>) {
        let mut next = self.clone();
        next.act(action);
        let wrong = next.wrong(&self.job);
        (next, wrong)
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Claim(node, kind) => self.claim(node, kind),
            Action::Go(node) => self.go(node),
            Action::NoAnswer(node) => self.told(node, Answer::None),
            Action::Crash(node) => self.crash(node),
            Action::Arrives { accepted } => self.arrives(accepted),
            Action::Ends { well } => self.ended = Some(well),
            Action::Webhook => {
                let seen = self.observation(FoundBy::Webhook, self.ended);
                self.take(Input::Observed(seen));
            }
            Action::Cancel => self.take(Input::Cancel),
            Action::Refresh => self.take(Input::Refresh),
            Action::Time => self.pass_time(),
        }
    }

    fn claim(&mut self, node: usize, kind: TaskKind) {
        let lease = if kind == TaskKind::Submit { SUBMIT_LEASE } else { OTHER_LEASE };
        let lease_until = self.now + lease;
        let Some(task) = self.tasks.get_mut(&kind) else { return };
        task.lease = Some((Some(node), lease_until));
        self.runs[node] = Some(Run { kind, due_at: task.due_at, lease_until, stage: Stage::Claimed });
    }

    fn crash(&mut self, node: usize) {
        let Some(run) = self.runs[node].take() else { return };
        if self.holds(node, run.kind)
            && let Some(task) = self.tasks.get_mut(&run.kind)
        {
            task.lease = task.lease.map(|(_, until)| (None, until));
        }
        for request in self.wire.iter_mut().filter(|request| request.from == Some(node)) {
            request.from = None;
        }
    }

    /// Whether the node's token is the one in the task's row.
    fn holds(&self, node: usize, kind: TaskKind) -> bool {
        self.tasks
            .get(&kind)
            .is_some_and(|task| matches!(task.lease, Some((Some(holder), _)) if holder == node))
    }

    /// The next thing a run does by itself.
    fn go(&mut self, node: usize) {
        let Some(run) = self.runs[node] else { return };
        match (run.kind, run.stage) {
            (TaskKind::Submit, Stage::Claimed) => self.begin_send(node),
            (TaskKind::Submit, Stage::Begun) => self.call(node, run),
            (TaskKind::Submit, Stage::Searching) => {
                let answer = if self.accepted.is_empty() { Answer::None } else { Answer::Accepted };
                self.set_stage(node, Stage::Told { answer });
            }
            (TaskKind::Submit, Stage::Told { answer }) => self.conclude_send(node, answer),
            (TaskKind::Poll, Stage::Claimed) => self.ask(node),
            (TaskKind::Poll, Stage::Asked { found_by, over, end }) => {
                let seen = self.observation(found_by, end);
                // What upstream itself answers is confirmed.
                let seen = Observation { says: confirmed(seen.says), ..seen };
                let again = (!over && end.is_none()).then(|| next_ask(&self.job, PAUSE, self.now));
                self.conclude(node, again, Some(Input::Observed(seen)));
            }
            (TaskKind::Deadline, _) => {
                let deadline = Some(self.job.deadline_at).filter(|at| self.now < *at);
                let input = if deadline.is_some() { Input::Late } else { Input::Deadline };
                self.conclude(node, deadline, Some(input));
            }
            _ => {}
        }
    }

    /// `flow::begin_send`.
    fn begin_send(&mut self, node: usize) {
        if !self.holds(node, TaskKind::Submit) {
            self.runs[node] = None;
            return;
        }
        let again = match self.job.state {
            State::Queued => {
                self.take(send());
                false
            }
            State::Submitting => {
                self.take(Input::Interrupted);
                true
            }
            State::Unknown => true,
            _ => return self.conclude(node, None, None),
        };
        let age = self.now - self.job.details.sent_at.unwrap_or(self.job.created_at);
        if again && age >= KEY_TRUSTED {
            return self.set_stage(node, Stage::Searching);
        }
        if again {
            self.take(send());
        }
        self.set_stage(node, Stage::Begun);
    }

    /// `submit::call`, up to the socket.
    fn call(&mut self, node: usize, run: Run) {
        if self.now + CALL > run.lease_until - MARGIN {
            return self.set_stage(node, Stage::Told { answer: Answer::NotSent });
        }
        // The key is of the job as it was when the run began; nothing else changes it meanwhile.
        let key = self.job.details.key_number;
        self.wire.push(Request { key, sent_at: self.now, from: Some(node) });
        self.wire.sort_by_key(|request| (request.sent_at, request.key, request.from));
        self.set_stage(node, Stage::Calling { key, since: self.now });
    }

    /// The oldest request on the wire reaches upstream.
    fn arrives(&mut self, accepts: bool) {
        let request = self.wire.remove(0);
        let known = self.accepted.iter().any(|(key, at)| *key == request.key && self.now - at < KEY_KEPT);
        let answer = if known {
            Answer::Accepted
        } else if self.refuses {
            Answer::Refused
        } else if accepts {
            self.accepted.push((request.key, self.now));
            self.charges += 1;
            Answer::Accepted
        } else {
            Answer::Busy
        };
        if let Some(node) = request.from {
            self.told(node, answer);
        }
    }

    fn told(&mut self, node: usize, answer: Answer) {
        if let Some(Run { stage: Stage::Calling { .. }, .. }) = self.runs[node] {
            self.set_stage(node, Stage::Told { answer });
            for request in self.wire.iter_mut().filter(|request| request.from == Some(node)) {
                request.from = None;
            }
        }
    }

    /// The ends of `submit::send` and `submit::repeat`.
    fn conclude_send(&mut self, node: usize, answer: Answer) {
        let later = Some(self.now + PAUSE);
        let why = "w".to_owned();
        match answer {
            Answer::Accepted => {
                let said = Input::Accepted { upstream_id: "vid_1".to_owned(), upstream_video_id: None };
                self.conclude(node, None, Some(said));
            }
            Answer::Refused => {
                let failure = Failure::new(None, why);
                self.conclude(node, None, Some(Input::Refused(failure)));
            }
            Answer::Busy => self.conclude(node, later, Some(Input::NotAccepted { sent: true, why })),
            Answer::NotSent => {
                self.conclude(node, later, Some(Input::NotAccepted { sent: false, why }));
            }
            Answer::None => self.conclude(node, later, Some(Input::NoAnswer { why })),
        }
    }

    /// `poll::run`, up to upstream's answer.
    fn ask(&mut self, node: usize) {
        let job = &self.job;
        let over = job.state.is_terminal();
        if job.upstream_id.is_none() || over && !job.details.refresh_asked {
            return self.conclude(node, None, None);
        }
        let found_by = if job.details.refresh_asked { FoundBy::Refresh } else { FoundBy::Poll };
        let end = self.ended;
        self.set_stage(node, Stage::Asked { found_by, over, end });
    }

    fn set_stage(&mut self, node: usize, stage: Stage) {
        if let Some(run) = &mut self.runs[node] {
            run.stage = stage;
        }
    }

    /// `flow::conclude`: the task's end and what was found out, together, for who holds the lease.
    fn conclude(&mut self, node: usize, again: Option<Millis>, input: Option<Input>) {
        let Some(run) = self.runs[node].take() else { return };
        let held = self.holds(node, run.kind);
        if held {
            match again {
                None => drop(self.tasks.remove(&run.kind)),
                Some(at) => {
                    if let Some(task) = self.tasks.get_mut(&run.kind) {
                        // A time that was changed meanwhile is newer knowledge.
                        task.due_at = if task.due_at == run.due_at { at } else { task.due_at };
                        task.lease = None;
                    }
                }
            }
        }
        match input {
            Some(input) if held || matches!(input, Input::Accepted { .. }) => self.take(input),
            _ => {}
        }
    }

    /// `flow::change`: one input to the job, and what follows from it, in one transaction.
    fn take(&mut self, input: Input) {
        let Ok(Some(change)) = step(&self.job, input, self.now) else { return };
        self.job = change.job;
        self.job.version += 1;
        let ends = [EventType::Completed, EventType::Failed, EventType::Canceled];
        self.told += change.events.iter().filter(|event| ends.contains(event)).count();
        for op in change.tasks {
            let op = match op {
                TaskOp::Queue(_, due_at) => TaskOp::Add(TaskKind::Submit, due_at),
                other => other,
            };
            match op {
                TaskOp::Queue(..) => {}
                TaskOp::Add(kind, due_at) => match self.tasks.get_mut(&kind) {
                    Some(task) => task.due_at = due_at,
                    None => drop(self.tasks.insert(kind, Task { due_at, lease: None })),
                },
                TaskOp::Hasten(kind, at) => {
                    if let Some(task) = self.tasks.get_mut(&kind)
                        && (task.due_at > at || task.lease.is_some())
                    {
                        task.due_at = if task.due_at == at { at - 1 } else { at };
                    }
                }
                TaskOp::Drop(kind) => drop(self.tasks.remove(&kind)),
            }
        }
    }

    fn observation(&self, found_by: FoundBy, end: Option<bool>) -> Observation {
        let says = match end {
            None => Says::InProgress { progress: None },
            Some(true) => Says::Completed(Box::new(Output {
                video_url: Some("https://v".to_owned()),
                ..Output::default()
            })),
            Some(false) => Says::Failed { failure: Failure::new(None, "f"), confirmed: false },
        };
        Observation { found_by, upstream_id: Some("vid_1".to_owned()), upstream_video_id: None, says }
    }

    /// To the next time at which anything can be different.
    fn pass_time(&mut self) {
        let tasks = self.tasks.values();
        let leases = tasks.clone().filter_map(|task| task.lease.map(|(_, until)| until));
        let trusted = self.job.details.sent_at.map(|at| at + KEY_TRUSTED);
        let gone = self.wire.iter().map(|request| request.sent_at + IN_FLIGHT);
        let all = tasks.map(|task| task.due_at).chain(leases).chain(trusted).chain(gone);
        let Some(next) = all.filter(|at| *at > self.now).min() else { return };
        self.now = next;
        self.wire.retain(|request| request.sent_at + IN_FLIGHT > next);
        // A call ends within its limit.
        for node in NODES {
            if let Some(Run { stage: Stage::Calling { since, .. }, .. }) = self.runs[node]
                && since + CALL <= next
            {
                self.told(node, Answer::None);
            }
        }
    }

    /// What must hold in every state.
    fn wrong(&self, before: &Job) -> Option<String> {
        let job = &self.job;
        let state = job.state;
        let has = |kind| self.tasks.contains_key(&kind);
        let broken = [
            (self.charges > 1, "paid twice"),
            (before.state.is_terminal() && before.state != state, "an end was left"),
            (self.told != usize::from(state.is_terminal()), "not exactly one end was told"),
            (!state.is_terminal() && !has(TaskKind::Deadline), "no deadline"),
            (
                matches!(state, State::Queued | State::Submitting | State::Unknown) && !has(TaskKind::Submit),
                "nothing will send it",
            ),
            (state == State::Processing && !has(TaskKind::Poll), "nothing will ask for it"),
            (state == State::Canceled && self.charges > 0, "paid for, and canceled"),
            (state == State::Queued && self.charges > 0, "paid for, and to be sent again"),
            (state == State::Completed && self.ended != Some(true), "completed, and upstream says otherwise"),
            (self.failed_wrongly(), "failed, and upstream says otherwise"),
            (job.charge() == Some(Charge::None) && self.charges > 0, "paid for, and said not to be"),
            (job.charge() == Some(Charge::Once) && self.charges == 0, "not paid for, and said to be"),
        ];
        broken.iter().find(|(is, _)| *is).map(|(_, why)| format!("{why}: {self:#?}"))
    }

    fn failed_wrongly(&self) -> bool {
        let job = &self.job;
        let given_up = job.details.failure.as_ref().is_some_and(Failure::may_be_charged);
        let by_upstream = self.ended == Some(false) || self.refuses && self.charges == 0;
        job.state == State::Failed
            && if given_up { job.finished_at < Some(job.deadline_at) } else { !by_upstream }
    }
}

fn confirmed(says: Says) -> Says {
    match says {
        Says::Failed { failure, .. } => Says::Failed { failure, confirmed: true },
        other => other,
    }
}
