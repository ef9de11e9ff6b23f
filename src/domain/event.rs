//! Events: the facts we publish. Their names are a promise and never change meaning.

use serde_json::Value;

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
/// An endpoint is sent nothing any more.
pub const ENDPOINT_DISABLED: &str = "endpoint.disabled";
/// Something was given up. Told once an hour for each cause, and never of an event of this type.
pub const DEAD_LETTER_ADDED: &str = "dead_letter.added";
/// Sent to one endpoint, to see whether it takes it.
pub const ENDPOINT_TEST: &str = "endpoint.test";

/// Every type of event that is ours and may be asked for.
pub fn types() -> Vec<&'static str> {
    let of_jobs = EventType::ALL.map(EventType::name);
    of_jobs.into_iter().chain([GROUP_FINISHED, ENDPOINT_DISABLED, DEAD_LETTER_ADDED]).collect()
}

const UPSTREAM: &str = "heygen.";

/// The type under which one of upstream's own events is published.
pub fn upstream_type(name: &str) -> String {
    format!("{UPSTREAM}{name}")
}

/// Whether it is one of upstream's own.
pub fn is_upstream(event_type: &str) -> bool {
    event_type.starts_with(UPSTREAM)
}

/// Whether what an endpoint asks for, a type or a family, has events of jobs among it: only they are of a kind
/// and have labels.
pub fn has_jobs(pattern: &str) -> bool {
    pattern == "*" || pattern.starts_with("job.")
}

/// The `data` of one of upstream's own: what its receipt says, as JSON; null where that is none.
pub fn upstream_data(body: &[u8]) -> String {
    serde_json::from_slice::<Value>(body).unwrap_or_default().to_string()
}

/// An event as it is stored: its body is frozen when it is recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// Position in the whole log, from 1. Zero until it is stored.
    pub number: i64,
    pub id: String,
    pub event_type: String,
    pub job_id: Option<String>,
    /// Position among the events of its job, from 1; 0 for an event of no job.
    pub job_sequence: i64,
    pub created_at: Millis,
    /// The JSON published as `data`. Of one of upstream's own it is empty until it is stored.
    pub data: String,
    /// Of one of upstream's own: the receipt that has its bytes.
    pub receipt_id: Option<String>,
    /// Where its job wants to be told, besides the endpoints. Not stored: deliveries are.
    pub notify_url: Option<String>,
}
