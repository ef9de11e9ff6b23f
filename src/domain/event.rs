//! Events: the facts we publish. Their names are a promise and never change meaning.

use super::time::Millis;

/// What happened to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    Held,
    Queued,
    Processing,
    /// It takes longer than its kind usually does. Not an end, and told at most once.
    Late,
    Completed,
    Failed,
    Canceled,
    LateResult,
}

impl EventType {
    pub const ALL: [Self; 8] = [
        Self::Held,
        Self::Queued,
        Self::Processing,
        Self::Late,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
        Self::LateResult,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "job.held",
            Self::Queued => "job.queued",
            Self::Processing => "job.processing",
            Self::Late => "job.late",
            Self::Completed => "job.completed",
            Self::Failed => "job.failed",
            Self::Canceled => "job.canceled",
            Self::LateResult => "job.late_result",
        }
    }
}

/// Of a group, once all its jobs have ended: told once.
pub const GROUP_FINISHED: &str = "group.finished";

/// The type under which an upstream event that belongs to no job of ours is published.
pub fn upstream_type(name: &str) -> String {
    format!("heygen.{name}")
}

/// An event as it is stored: its body is frozen when it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Position in the whole log, from 1. Zero until it is stored.
    pub number: i64,
    pub id: String,
    pub event_type: String,
    pub job_id: Option<String>,
    /// Position among the events of its job, from 1; 0 for an event of no job.
    pub job_sequence: i64,
    pub created_at: Millis,
    /// The JSON published as `data`.
    pub data: String,
}
