//! The job: what a caller asked HeyGen for, and everything known about it.
//!
//! Values only. What may happen to a job is decided in `step.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::charge::Calls;
use super::failure::{Class, FOR_USER};
use super::history::Usual;
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
    /// A video made from one of the account's templates.
    Template,
    /// A video whose lips follow another recording.
    Lipsync,
    /// Short clips cut out of a long video.
    AiClipping,
    /// Foreground, mask and background of a video, apart.
    BackgroundRemoval,
    /// A look for later videos: from a photo, from footage of a person, or from a prompt.
    Avatar,
    /// A voice for later videos, from a recording.
    VoiceClone,
    /// Translated subtitles, to be corrected before the video is translated.
    Proofread,
    /// The video spoken with the subtitles of a proofread: a translation like any other from then on.
    ProofreadVideo,
}

impl Kind {
    pub const ALL: [Self; 11] = [
        Self::Video,
        Self::VideoAgent,
        Self::Translation,
        Self::Template,
        Self::Lipsync,
        Self::AiClipping,
        Self::BackgroundRemoval,
        Self::Avatar,
        Self::VoiceClone,
        Self::Proofread,
        Self::ProofreadVideo,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::VideoAgent => "video_agent",
            Self::Translation => "translation",
            Self::Template => "template",
            Self::Lipsync => "lipsync",
            Self::AiClipping => "ai_clipping",
            Self::BackgroundRemoval => "background_removal",
            Self::Avatar => "avatar",
            Self::VoiceClone => "voice_clone",
            Self::Proofread => "proofread",
            Self::ProofreadVideo => "proofread_video",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// How long upstream usually takes; only when to ask first follows from it. Guides report 2 to
    /// 5 minutes for videos and HeyGen's own skill 20 to 45 for agents (docs/heygen.md, Creating); for the
    /// others nobody publishes a figure, and these are guesses.
    pub fn usual_time(self) -> Millis {
        match self {
            Self::VoiceClone => 2 * MINUTE,
            Self::Video | Self::Template | Self::BackgroundRemoval | Self::Avatar => 5 * MINUTE,
            Self::Lipsync | Self::Proofread => 10 * MINUTE,
            Self::Translation | Self::ProofreadVideo | Self::AiClipping => 15 * MINUTE,
            Self::VideoAgent => 30 * MINUTE,
        }
    }

    /// Whether upstream makes a translation of it, however it began.
    pub fn is_translation(self) -> bool {
        matches!(self, Self::Translation | Self::ProofreadVideo)
    }

    /// Whether a file is what it is for. The others end with a thing that upstream keeps under the
    /// job's id there: a look, a voice, subtitles.
    pub fn makes_file(self) -> bool {
        !matches!(self, Self::Avatar | Self::VoiceClone | Self::Proofread)
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
    /// A sample of a cloned voice.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub preview_audio_url: Option<String>,
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
    /// Of a background removal: links by the layer's name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub layers: BTreeMap<String, String>,
    /// Of AI clipping; only clips that have a file.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub clips: Vec<Clip>,
}

/// One clip cut out of a longer video.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Clip {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aspect_ratio: Option<String>,
    pub video_url: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub thumbnail_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub duration_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub virality_score: Option<f64>,
}

impl Output {
    /// Whether there is the file that a job of this kind is for.
    pub fn has_file(&self, kind: Kind) -> bool {
        match kind {
            Kind::Video | Kind::VideoAgent | Kind::Template | Kind::Lipsync => self.video_url.is_some(),
            // It may be made as sound alone.
            Kind::Translation | Kind::ProofreadVideo => self.video_url.is_some() || self.audio_url.is_some(),
            Kind::AiClipping => !self.clips.is_empty(),
            Kind::BackgroundRemoval => !self.layers.is_empty(),
            Kind::Avatar | Kind::VoiceClone | Kind::Proofread => false,
        }
    }

    /// Whether a job of this kind may be called finished with it.
    pub fn completes(&self, kind: Kind) -> bool {
        self.has_file(kind) || !kind.makes_file()
    }

    /// Whether the status of a job of this kind could tell of more than this. What webhooks hold of a
    /// video is its link and hardly ever more (docs/heygen.md, Events).
    pub fn lacks(&self, kind: Kind) -> bool {
        let common = self.duration_s.is_none() || self.caption_url.is_none();
        match kind {
            Kind::Video | Kind::VideoAgent | Kind::Template => common || self.thumbnail_url.is_none(),
            Kind::Translation | Kind::ProofreadVideo | Kind::Lipsync => common,
            // Told as the whole, or not told at all.
            Kind::AiClipping
            | Kind::BackgroundRemoval
            | Kind::Avatar
            | Kind::VoiceClone
            | Kind::Proofread => false,
        }
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
        fill(&mut self.preview_audio_url, &other.preview_audio_url);
        fill(&mut self.caption_url, &other.caption_url);
        fill(&mut self.thumbnail_url, &other.thumbnail_url);
        fill(&mut self.gif_url, &other.gif_url);
        fill(&mut self.page_url, &other.page_url);
        self.duration_s = self.duration_s.or(other.duration_s);
        for (name, link) in &other.layers {
            self.layers.entry(name.clone()).or_insert_with(|| link.clone());
        }
        if self.clips.is_empty() {
            self.clips.clone_from(&other.clips);
        }
    }
}

/// Why a job failed: upstream's own words, or ours with a code listed in `docs/errors.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    pub message: String,
    /// What HeyGen calls the request it refused; its support asks for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
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
        Self {
            code,
            message: message.into(),
            request_id: None,
            class: Class::default(),
            for_user: for_user(),
        }
    }

    pub fn ours(code: &str, message: impl Into<String>) -> Self {
        Self::new(Some(code.to_owned()), message)
    }

    /// Whether upstream may have charged for the job although it failed.
    pub fn may_be_charged(&self) -> bool {
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

/// What upstream was asked of a job, and what it last answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    pub times: u32,
    pub last_at: Option<Millis>,
    pub answer: Option<String>,
}

impl Asked {
    pub fn note(&mut self, answer: impl Into<String>, now: Millis) {
        self.times = self.times.saturating_add(1);
        self.last_at = Some(now);
        self.answer = Some(answer.into());
    }
}

/// What was last told of a job that did not end it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub what: String,
    pub by: FoundBy,
    pub at: Millis,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Everything of a job that is read whole and never searched by; stored as one JSON text. What has its default is
/// left out, and filled in when it is read: a row is written again with every change, so its length is what a change
/// costs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    #[serde(skip_serializing_if = "is_default")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    pub metadata: Option<serde_json::Value>,
    /// Where its events are sent, besides the endpoints, and what they are signed with there.
    #[serde(skip_serializing_if = "is_default")]
    pub notify_url: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub notify_secret: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub priority: Priority,
    /// It was to wait for approval, and nobody gave it.
    #[serde(skip_serializing_if = "is_default")]
    pub held: bool,
    /// Not to be sent before then; none once that has come.
    #[serde(skip_serializing_if = "is_default")]
    pub not_before: Option<Millis>,
    /// The row of its group that it was made of, from 1.
    #[serde(skip_serializing_if = "is_default")]
    pub group_row: Option<i64>,
    /// First poll this long after upstream accepted, and the least pause between polls.
    #[serde(skip_serializing_if = "is_default")]
    pub first_poll_ms: Millis,
    #[serde(skip_serializing_if = "is_default")]
    pub least_poll_ms: Millis,
    /// Rises only after a definite refusal; with the job id it makes the upstream Idempotency-Key.
    #[serde(skip_serializing_if = "is_default")]
    pub key_number: u32,
    /// Tries that upstream definitely did not accept.
    #[serde(skip_serializing_if = "is_default")]
    pub refusals: u32,
    /// When the request with the present key was first sent; 0 when nobody knows, for the clock was set back.
    #[serde(skip_serializing_if = "is_default")]
    pub sent_at: Option<Millis>,
    /// What stands for the HeyGen key it was sent with, and for where to. Not the key.
    #[serde(skip_serializing_if = "is_default")]
    pub account: Option<String>,
    /// Every call that could cost something.
    #[serde(skip_serializing_if = "is_default")]
    pub calls: Calls,
    #[serde(skip_serializing_if = "is_default")]
    pub accepted_at: Option<Millis>,
    #[serde(skip_serializing_if = "is_default")]
    pub unknown_since: Option<Millis>,
    /// How long its kind usually took when it was submitted.
    #[serde(skip_serializing_if = "is_default")]
    pub usual: Option<Usual>,
    /// It took longer than that.
    #[serde(skip_serializing_if = "is_default")]
    pub late: bool,
    /// Not submitted by us: found upstream.
    #[serde(skip_serializing_if = "is_default")]
    pub adopted: bool,
    /// A hint came before upstream's id was known.
    #[serde(skip_serializing_if = "is_default")]
    pub poll_on_accept: bool,
    /// When upstream was last asked because of a hint, or will be.
    #[serde(skip_serializing_if = "is_default")]
    pub hinted_at: Option<Millis>,
    /// How often it is still asked again soon because of a hint.
    #[serde(skip_serializing_if = "is_default")]
    pub follow_ups: u32,
    /// A refresh was asked for, by somebody or by a webhook that told too little, and not answered yet.
    #[serde(skip_serializing_if = "is_default")]
    pub refresh_asked: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub asked: Asked,
    #[serde(skip_serializing_if = "is_default")]
    pub told: Option<Told>,
    #[serde(skip_serializing_if = "is_default")]
    pub progress: Option<u8>,
    #[serde(skip_serializing_if = "is_default")]
    pub output: Output,
    #[serde(skip_serializing_if = "is_default")]
    pub failure: Option<Failure>,
    #[serde(skip_serializing_if = "is_default")]
    pub cancel_reason: Option<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub found_by: Option<FoundBy>,
    #[serde(skip_serializing_if = "is_default")]
    pub late_result: Option<LateResult>,
    /// What it waits for or last ran into, for people.
    #[serde(skip_serializing_if = "is_default")]
    pub note: Option<String>,
    /// Numbers the job's events.
    #[serde(skip_serializing_if = "is_default")]
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
    /// What HeyGen calls it: `video_id`, `session_id`, a look's id; the names are in `heygen/kinds.rs`.
    pub upstream_id: Option<String>,
    /// The video an agent's session makes.
    pub upstream_video_id: Option<String>,
    pub retry_of: Option<String>,
    /// The group it was submitted with.
    pub group_id: Option<String>,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub deadline_at: Millis,
    pub finished_at: Option<Millis>,
    pub details: Details,
}

impl Job {
    /// The upstream Idempotency-Key of the present try. Never used for another request.
    pub fn upstream_key(&self) -> String {
        self.key_of(self.details.key_number)
    }

    /// How long ago the present try was first sent, if it was. None when that seems yet to come: the clock was set
    /// back, by who knows how much.
    pub fn sent_ago(&self, now: Millis) -> Option<Millis> {
        let age = now.saturating_sub(self.details.sent_at.unwrap_or(self.created_at));
        // Clocks of nodes differ a little.
        (age > -MINUTE).then_some(age)
    }

    /// Whether it was sent with another key of HeyGen's than `account` stands for, or to another place.
    pub fn is_elsewhere(&self, account: &str) -> bool {
        self.details.account.as_deref().is_some_and(|sent_with| sent_with != account)
    }

    /// When it is expected to end: from, to. Unknown before upstream accepted it.
    pub fn expected(&self) -> Option<(Millis, Millis)> {
        let accepted_at = self.details.accepted_at?;
        let usual = self.details.usual.unwrap_or(Usual::of_kind(self.kind));
        Some((accepted_at.saturating_add(usual.from_ms), accepted_at.saturating_add(usual.to_ms)))
    }

    /// Whether upstream may have charged for this job without giving a result, so that a retry may be paid for
    /// a second time.
    pub fn risks_second_charge(&self) -> bool {
        match self.state {
            State::Submitting | State::Unknown => true,
            State::Failed => {
                // HeyGen refused it, and told of it later all the same.
                let taken = self.details.found_by == Some(FoundBy::Submit) && self.upstream_id.is_some();
                taken || self.details.failure.as_ref().is_some_and(Failure::may_be_charged)
            }
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
    /// For people who read what was asked and told.
    pub fn words(&self) -> String {
        match self {
            Self::Hint => "something happened".to_owned(),
            Self::InProgress { progress: None } => "in progress".to_owned(),
            Self::InProgress { progress: Some(percent) } => format!("in progress, {percent} %"),
            Self::Completed(output) if **output == Output::default() => {
                "completed, without a file".to_owned()
            }
            Self::Completed(_) => "completed".to_owned(),
            Self::Failed { failure, .. } => format!("failed: {}", failure.message),
            Self::Extra(_) => "one more file".to_owned(),
        }
    }

    /// Whether it ends a job.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Completed(_) | Self::Failed { confirmed: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn details_that_have_their_default_are_not_stored() {
        assert_eq!(json!(Details::default()), json!({}));
        let details = Details { progress: Some(0), events: 1, ..Details::default() };
        assert_eq!(json!(details), json!({"progress": 0, "events": 1}));
        assert_eq!(serde_json::from_str::<Details>("{}").unwrap(), Details::default());
    }
}
