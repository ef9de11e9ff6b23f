//! The job: what a caller asked HeyGen for, and everything known about it.
//!
//! Values only. What may happen to a job is decided in `step.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::failure::{Class, FOR_USER};
use super::time::{HOUR, MINUTE, Millis};

/// Which of HeyGen's products a job asks for. Paths and field names are in `heygen/kinds.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Avatar, image, studio and cinematic videos: one upstream route, told apart by its `type`.
    Video,
    /// A prompt that HeyGen's agent turns into a video.
    VideoAgent,
    /// A video spoken in another language.
    Translation,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Video, Self::VideoAgent, Self::Translation];

    pub fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::VideoAgent => "video_agent",
            Self::Translation => "translation",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How long upstream usually takes; only when to ask first follows from it. Guides report 2 to
    /// 5 minutes for videos and HeyGen's own skill 20 to 45 for agents (heygen-api.md 2.3).
    pub fn usual_time(self) -> Millis {
        match self {
            Self::Video => 5 * MINUTE,
            Self::VideoAgent => 30 * MINUTE,
            Self::Translation => 15 * MINUTE,
        }
    }
}

/// Which of the jobs that wait for a slot goes first: 9 before 1, and of one number the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Priority(i64);

impl Priority {
    pub const LEAST: i64 = 1;
    pub const MOST: i64 = 9;

    pub fn new(number: i64) -> Option<Self> {
        (Self::LEAST..=Self::MOST).contains(&number).then_some(Self(number))
    }

    pub fn number(self) -> i64 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(5)
    }
}

/// A job without a deadline of its own ends this long after its submit.
pub const DEFAULT_DEADLINE: Millis = 24 * HOUR;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Awaits a person's approval; nothing was sent.
    Held,
    /// Waits for an upstream slot; nothing upstream accepted is outstanding.
    Queued,
    /// Being sent.
    Submitting,
    /// Sent, and we do not know whether upstream accepted it.
    Unknown,
    /// Upstream works on it.
    Processing,
    Completed,
    Failed,
    Canceled,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Held,
        Self::Queued,
        Self::Submitting,
        Self::Unknown,
        Self::Processing,
        Self::Completed,
        Self::Failed,
        Self::Canceled,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Queued => "queued",
            Self::Submitting => "submitting",
            Self::Unknown => "unknown",
            Self::Processing => "processing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }
}

/// What told us the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundBy {
    Webhook,
    Poll,
    EventLog,
    /// A person or program asked us to look.
    Refresh,
    /// The answer to the create call itself.
    Submit,
    /// Time ran out.
    Deadline,
    /// The caller ended it.
    Caller,
}

impl FoundBy {
    pub fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::EventLog => "event_log",
            Self::Refresh => "refresh",
            Self::Submit => "submit",
            Self::Deadline => "deadline",
            Self::Caller => "caller",
        }
    }
}

/// The files of a finished job, as upstream named them. Links are upstream's and die.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Output {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub video_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub captioned_video_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub audio_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub caption_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub thumbnail_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gif_url: Option<String>,
    /// HeyGen's page about the video, for people with an account there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub page_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_s: Option<f64>,
}

impl Output {
    /// Whether there is a file a job of any kind is made for.
    pub fn has_file(&self) -> bool {
        self.video_url.is_some() || self.audio_url.is_some()
    }

    /// Fills what is still empty from `other`; what is known stays.
    pub fn fill_from(&mut self, other: &Self) {
        let fill = |mine: &mut Option<String>, theirs: &Option<String>| {
            if mine.is_none() {
                mine.clone_from(theirs);
            }
        };
        fill(&mut self.video_url, &other.video_url);
        fill(&mut self.captioned_video_url, &other.captioned_video_url);
        fill(&mut self.audio_url, &other.audio_url);
        fill(&mut self.caption_url, &other.caption_url);
        fill(&mut self.thumbnail_url, &other.thumbnail_url);
        fill(&mut self.gif_url, &other.gif_url);
        fill(&mut self.page_url, &other.page_url);
        self.duration_s = self.duration_s.or(other.duration_s);
    }
}

/// Why a job failed: upstream's own words, or ours with a code listed in `docs/errors.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    pub message: String,
    #[serde(default)]
    pub class: Class,
    /// A sentence an end user may be shown.
    #[serde(default = "for_user")]
    pub for_user: String,
}

fn for_user() -> String {
    FOR_USER.to_owned()
}

impl Failure {
    pub const LOST_UPSTREAM: &str = "lost_upstream";
    pub const OUTCOME_UNKNOWN: &str = "outcome_unknown";

    /// Of a class nobody knows; upstream's are sorted by `heygen/failure.rs`.
    pub fn new(code: Option<String>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), class: Class::default(), for_user: for_user() }
    }

    pub fn ours(code: &str, message: impl Into<String>) -> Self {
        Self::new(Some(code.to_owned()), message)
    }

    /// Whether upstream may have charged for the job although it failed.
    pub fn charge_is_open(&self) -> bool {
        matches!(self.code.as_deref(), Some(Self::LOST_UPSTREAM | Self::OUTCOME_UNKNOWN))
    }
}

/// How a job ended, or what was heard of it after its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LateResult {
    pub output: Output,
    pub found_by: FoundBy,
    pub at: Millis,
}

/// Everything of a job that is read whole and never searched by; stored as one JSON text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    pub title: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub metadata: Option<serde_json::Value>,
    pub priority: Priority,
    /// First poll this long after upstream accepted, and the least pause between polls.
    pub first_poll_ms: Millis,
    pub least_poll_ms: Millis,
    /// Rises only after a definite refusal; with the job id it makes the upstream Idempotency-Key.
    pub key_number: u32,
    /// Tries that upstream definitely did not accept.
    pub refusals: u32,
    /// When the request with the present key was first sent.
    pub sent_at: Option<Millis>,
    pub accepted_at: Option<Millis>,
    pub unknown_since: Option<Millis>,
    /// A hint came before upstream's id was known.
    pub poll_on_accept: bool,
    pub hinted_at: Option<Millis>,
    /// A refresh was asked for and not answered yet.
    pub refresh_asked: bool,
    pub progress: Option<u8>,
    pub output: Output,
    pub failure: Option<Failure>,
    pub cancel_reason: Option<String>,
    pub found_by: Option<FoundBy>,
    pub late_result: Option<LateResult>,
    /// What it waits for or last ran into, for people.
    pub note: Option<String>,
    /// Numbers the job's events.
    pub events: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: String,
    /// Rises with every change; a change made from an older version is refused.
    pub version: i64,
    pub kind: Kind,
    pub state: State,
    /// The caller's own id, echoed and searchable, never unique.
    pub callback_id: Option<String>,
    /// What HeyGen calls it: `video_id`, `session_id` or `video_translation_id`.
    pub upstream_id: Option<String>,
    /// The video an agent's session makes.
    pub upstream_video_id: Option<String>,
    pub retry_of: Option<String>,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub deadline_at: Millis,
    pub finished_at: Option<Millis>,
    pub details: Details,
}

impl Job {
    /// The upstream Idempotency-Key of the present try. Never used for another request.
    pub fn upstream_key(&self) -> String {
        format!("{}-{}", self.id, self.details.key_number)
    }

    /// Whether upstream may have charged for this job without giving a result.
    pub fn charge_is_open(&self) -> bool {
        match self.state {
            State::Submitting | State::Unknown => true,
            State::Failed => self.details.failure.as_ref().is_some_and(Failure::charge_is_open),
            _ => false,
        }
    }
}

/// What somebody says of a job. All of them meet the same pure function.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub found_by: FoundBy,
    pub upstream_id: Option<String>,
    pub upstream_video_id: Option<String>,
    pub says: Says,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Says {
    /// Not enough, or not believed enough, to act on: ask upstream soon.
    Hint,
    InProgress {
        progress: Option<u8>,
    },
    /// Finished with a file.
    Completed(Box<Output>),
    /// `confirmed` when upstream itself answered so; a failure only heard is asked for first.
    Failed {
        failure: Failure,
        confirmed: bool,
    },
    /// One more file of a job, no news of its state.
    Extra(Box<Output>),
}

impl Says {
    /// Whether it ends a job.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::Failed { confirmed: true, .. })
    }
}
