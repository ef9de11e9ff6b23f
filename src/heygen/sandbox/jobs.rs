//! One job of the sandbox, where it stands at a given time, and how its status routes show it.
//!
//! A job's phase follows from the time alone, so a GET is right even before `settle` ran.
//! Never decides about webhooks; see `events`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Fault;
use super::media::{File, LENGTH_S, Links};
use crate::clock::Millis;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Avatar,
    Image,
    Studio,
    CinematicAvatar,
    VideoAgent,
    Translation,
}

impl JobKind {
    pub fn is_video(self) -> bool {
        !matches!(self, JobKind::VideoAgent | JobKind::Translation)
    }

    /// What its event names begin with.
    pub fn family(self) -> &'static str {
        match self {
            JobKind::VideoAgent => "video_agent",
            JobKind::Translation => "video_translate",
            _ => "avatar_video",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Pending,
    Processing,
    Completed,
    Failed,
}

impl Phase {
    /// Each kind has its own words for the same course.
    pub fn word(self, kind: JobKind) -> &'static str {
        match (self, kind) {
            (Phase::Completed, _) => "completed",
            (Phase::Failed, _) => "failed",
            (Phase::Pending, JobKind::VideoAgent) => "thinking",
            (Phase::Processing, JobKind::VideoAgent) => "generating",
            (Phase::Pending, _) => "pending",
            (Phase::Processing, JobKind::Translation) => "running",
            (Phase::Processing, _) => "processing",
        }
    }
}

/// How a failed job says why.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    pub code: &'static str,
    pub message: &'static str,
}

#[derive(Debug, Clone)]
pub struct Job {
    /// What its status route takes: video id, session id or translation id.
    pub id: String,
    /// A video agent's video has an id of its own.
    pub video_id: Option<String>,
    pub kind: JobKind,
    pub title: Option<String>,
    pub callback_id: Option<String>,
    pub callback_url: Option<String>,
    pub folder_id: Option<String>,
    /// Of a translation.
    pub language: Option<String>,
    /// The body asked for captions.
    pub captions: bool,
    pub created_at: Millis,
    pub render_ms: i64,
    pub faults: Vec<Fault>,
    /// Status GETs still to fail.
    pub get_500_left: u32,
    /// Downloads still to break off.
    pub cuts_left: u32,
}

/// How long a file of a `file_soon` job is not there yet.
const FILE_SOON_MS: i64 = 8_000;

impl Job {
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// When it ends; never, for a stuck one.
    pub fn done_at(&self) -> Option<Millis> {
        (!self.has(Fault::Stuck)).then(|| self.created_at.saturating_add(self.render_ms))
    }

    pub fn failure(&self) -> Option<Failure> {
        if self.has(Fault::FailCredit) {
            let message = "Insufficient credit. This operation requires 'api' credits.";
            return Some(Failure { code: "MOVIO_PAYMENT_INSUFFICIENT_CREDIT", message });
        }
        let message = "The video could not be rendered.";
        self.has(Fault::Fail).then_some(Failure { code: "rendering_failed", message })
    }

    pub fn phase(&self, now: Millis) -> Phase {
        match self.done_at() {
            Some(done) if now >= done && self.failure().is_some() => Phase::Failed,
            Some(done) if now >= done => Phase::Completed,
            _ if self.elapsed(now) * 5 < self.render_ms => Phase::Pending,
            _ => Phase::Processing,
        }
    }

    fn elapsed(&self, now: Millis) -> i64 {
        now.saturating_sub(self.created_at).clamp(0, self.render_ms)
    }

    /// The id its files are kept under.
    pub fn file_id(&self) -> &str {
        self.video_id.as_deref().unwrap_or(&self.id)
    }

    pub fn has_captions(&self) -> bool {
        self.captions || self.has(Fault::Captions) || self.has(Fault::Reorder)
    }

    /// Whether its files can be had at `now`.
    pub fn has_files(&self, now: Millis) -> bool {
        let soon = if self.has(Fault::FileSoon) { FILE_SOON_MS } else { 0 };
        self.phase(now) == Phase::Completed && self.done_at().is_some_and(|done| now >= done + soon)
    }

    /// As `GET /v3/videos/{video_id}` shows it; an agent's video looks like any other.
    pub fn as_video(&self, links: &Links, now: Millis) -> Value {
        let phase = self.phase(now);
        let done = phase == Phase::Completed;
        let ended = matches!(phase, Phase::Completed | Phase::Failed);
        let link = |file: File| done.then(|| links.live(self.file_id(), file, now));
        let caption = |file: File| link(file).filter(|_| self.has_captions());
        let failure = self.failure().filter(|_| ended);
        // A video's words, also for the video of an agent.
        let status = phase.word(JobKind::Avatar);
        json!({
            "id": self.file_id(),
            "title": self.title,
            "status": status,
            "created_at": self.created_at.div_euclid(1_000),
            "completed_at": self.done_at().filter(|_| done).map(|at| at.div_euclid(1_000)),
            "video_url": link(File::Video),
            "thumbnail_url": link(File::Thumbnail),
            "gif_url": link(File::Gif),
            "captioned_video_url": caption(File::Captioned),
            "subtitle_url": caption(File::Captions),
            "duration": done.then_some(LENGTH_S),
            "folder_id": self.folder_id,
            "output_language": self.language,
            "failure_code": failure.map(|f| f.code),
            "failure_message": failure.map(|f| f.message),
            "video_page_url": done.then(|| links.page("videos", self.file_id())),
        })
    }

    /// As `GET /v3/video-agents/{session_id}` shows it.
    pub fn as_session(&self, now: Millis) -> Value {
        let phase = self.phase(now);
        let progress = match phase {
            Phase::Completed => 100,
            _ => (self.elapsed(now) * 99 / self.render_ms.max(1)).min(99),
        };
        let failure = self.failure().filter(|_| phase == Phase::Failed);
        let messages: Vec<Value> =
            failure.iter().map(|f| json!({ "role": "model", "content": f.message })).collect();
        json!({
            "session_id": self.id,
            "status": phase.word(self.kind),
            "progress": progress,
            "title": self.title,
            "video_id": self.video_id,
            "messages": messages,
            "created_at": self.created_at.div_euclid(1_000),
        })
    }

    /// As `GET /v3/video-translations/{id}` shows it.
    pub fn as_translation(&self, links: &Links, now: Millis) -> Value {
        let phase = self.phase(now);
        let done = phase == Phase::Completed;
        let link = |file: File| done.then(|| links.live(&self.id, file, now));
        let failure = self.failure().filter(|_| phase == Phase::Failed);
        json!({
            "id": self.id,
            "title": self.title,
            "status": phase.word(self.kind),
            "output_language": self.language,
            "callback_id": self.callback_id,
            "created_at": self.created_at.div_euclid(1_000),
            "video_url": link(File::Video),
            "audio_url": null,
            "srt_caption_url": link(File::Captions).filter(|_| self.has_captions()),
            "duration": done.then_some(LENGTH_S),
            "failure_message": failure.map(|f| f.message),
        })
    }
}
