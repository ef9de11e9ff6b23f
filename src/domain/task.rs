//! Tasks: pending internal work, one row each. A task has times, not states.

use super::dead_letter::Cause;
use super::delivery::Target;
use super::job::Priority;
use super::time::Millis;

/// What kind of work waits. The subject is a job id for all but `Apply`, whose subject is a
/// receipt id, `Deliver`, whose subject is a target or a delivery, `Replay`, whose subject is one, and
/// `Upkeep`, whose subject names the duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TaskKind {
    /// Understand the receipts that were accepted together.
    Apply,
    /// Send one job upstream, or find out what became of sending it.
    Submit,
    /// Ask upstream how one job stands.
    Poll,
    /// Mark one job that takes longer than usual, and later end it when it has run out of time.
    Deadline,
    /// Send what is due to one target; of a delivery itself only once it was given up.
    Deliver,
    /// Make the next dead letters of one replay due again.
    Replay,
    /// A periodic duty of the server itself.
    Upkeep,
}

impl TaskKind {
    pub const ALL: [Self; 7] =
        [Self::Apply, Self::Submit, Self::Poll, Self::Deadline, Self::Deliver, Self::Replay, Self::Upkeep];

    pub fn name(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Submit => "submit",
            Self::Poll => "poll",
            Self::Deadline => "deadline",
            Self::Deliver => "deliver",
            Self::Replay => "replay",
            Self::Upkeep => "upkeep",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The lane a new task of this kind about this subject starts in.
    pub fn lane(self, subject: &str) -> Lane {
        match self {
            Self::Apply => Lane::Inbound,
            Self::Submit => Lane::Submit,
            Self::Poll => Lane::Poll,
            Self::Deadline | Self::Replay => Lane::Clock,
            Self::Deliver if matches!(Target::parse(subject), Some(Target::Origin(_))) => Lane::Origin,
            Self::Deliver => Lane::Outbound,
            Self::Upkeep => Lane::Slow,
        }
    }
}

/// Tasks that share one bound on how many run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Receipts; taken in batches.
    Inbound,
    /// Jobs not yet sent; claimed only while an upstream slot is free.
    Submit,
    /// Jobs sent whose answer is outstanding. They hold their slot already, so they never wait for one.
    Resolve,
    /// Polls that may be asked together.
    Poll,
    /// Polls asked singly, within the budget.
    Ask,
    /// Deadlines and replays: no network, never behind anything that has one.
    Clock,
    /// Endpoints that have something due; each holds one permit, however much it is.
    Outbound,
    /// The same of origins, of which there may be any number: no endpoint is ever behind them.
    Origin,
    Slow,
}

impl Lane {
    pub const ALL: [Self; 9] = [
        Self::Inbound,
        Self::Submit,
        Self::Resolve,
        Self::Poll,
        Self::Clock,
        Self::Slow,
        Self::Ask,
        Self::Outbound,
        Self::Origin,
    ];

    pub fn number(self) -> i64 {
        match self {
            Self::Inbound => 0,
            Self::Submit => 1,
            Self::Resolve => 2,
            Self::Poll => 3,
            Self::Clock => 4,
            Self::Slow => 5,
            Self::Ask => 6,
            Self::Outbound => 7,
            Self::Origin => 8,
        }
    }

    /// Whether its runs call upstream about jobs that were sent: they wait while upstream is down.
    pub fn asks_upstream(self) -> bool {
        matches!(self, Self::Resolve | Self::Poll | Self::Ask)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Submit => "submit",
            Self::Resolve => "resolve",
            Self::Poll => "poll",
            Self::Clock => "clock",
            Self::Slow => "slow",
            Self::Ask => "ask",
            Self::Outbound => "outbound",
            Self::Origin => "origin",
        }
    }
}

/// A change to the waiting work that follows from a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskOp {
    /// Have this task, due at this time; one that is there already only changes its time.
    Add(TaskKind, Millis),
    /// Have the submit task, due at this time; it is claimed by priority.
    Queue(Priority, Millis),
    /// If the task is there, it is due at this time at the latest.
    Hasten(TaskKind, Millis),
    Drop(TaskKind),
}

/// A task this process holds the lease of. The token proves it: a finish with an old token changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub subject: String,
    /// Further subjects, for a task that is about many.
    pub more: Vec<String>,
    pub kind: TaskKind,
    pub token: i64,
    /// From 1.
    pub attempt: i64,
    pub due_at: Millis,
    pub lease_until: Millis,
}

impl Claimed {
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.subject).chain(&self.more).map(String::as_str)
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Due again at this time, no attempt spent; in the lane its kind begins in, or in another.
    Snooze {
        until: Millis,
        lane: Option<Lane>,
    },
    /// Due again at this time, in the lane it is in; the attempt counts. Never of a submit that was
    /// not accepted for sure: that one waits for a slot like any other.
    Retry {
        at: Millis,
        why: String,
    },
    /// Given up and kept with the reason: a dead letter.
    Dead {
        cause: Cause,
        why: String,
    },
}
