//! One job of the sandbox, where it stands at a given time, and how its status routes show it.
//!
//! A job's phase follows from the time alone, so a GET is right even before `settle` ran.
//! Never decides about webhooks; see `events`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::Fault;
use super::media::{File, LENGTH_S, Links};
use crate::clock::Millis;
use crate::domain::job::Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Pending,
    Processing,
    Completed,
    Failed,
}

impl Phase {
    /// Each kind has its own words for the same course (docs/heygen.md, Statuses).
    pub fn word(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Phase::Completed, Kind::VoiceClone) => "complete",
            (Phase::Completed, _) => "completed",
            (Phase::Failed, _) => "failed",
            (Phase::Pending, Kind::VideoAgent) => "thinking",
            (Phase::Processing, Kind::VideoAgent) => "generating",
            (_, Kind::Avatar | Kind::VoiceClone | Kind::Proofread) => "processing",
            (Phase::Pending, _) => "pending",
            (Phase::Processing, Kind::Lipsync | Kind::AiClipping) => "running",
            (Phase::Processing, kind) if kind.is_translation() => "running",
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
    /// What its status route takes: the id of a video, a session, a look.
    pub id: String,
    /// A video agent's video has an id of its own.
    pub video_id: Option<String>,
    pub kind: Kind,
    /// What its event names begin with; none for what has no event.
    pub family: Option<&'static str>,
    pub title: Option<String>,
    pub callback_id: Option<String>,
    pub callback_url: Option<String>,
    pub folder_id: Option<String>,
    /// Of a translation or a proofread.
    pub language: Option<String>,
    /// Of a background removal: those asked for.
    pub layers: Vec<String>,
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

    /// Percent of what is not finished.
    fn progress(&self, now: Millis) -> i64 {
        (self.elapsed(now) * 99 / self.render_ms.max(1)).min(99)
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

    /// As its own status route shows it.
    pub fn shown(&self, links: &Links, now: Millis) -> Value {
        match self.kind {
            Kind::Video | Kind::Template => self.as_video(links, now),
            Kind::VideoAgent => self.as_session(now),
            Kind::Translation | Kind::ProofreadVideo | Kind::Lipsync => self.as_translation(links, now),
            Kind::AiClipping => self.as_clipping(links, now, |file| Some(links.live(&self.id, file, now))),
            Kind::BackgroundRemoval => self.as_removal(links, now),
            Kind::Avatar | Kind::VoiceClone | Kind::Proofread => self.as_thing(now),
        }
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
        let status = phase.word(Kind::Video);
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
        let progress = if phase == Phase::Completed { 100 } else { self.progress(now) };
        let failure = self.failed(phase);
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

    /// As `GET /v3/video-translations/{id}` and `GET /v3/lipsyncs/{id}` show it.
    pub fn as_translation(&self, links: &Links, now: Millis) -> Value {
        let phase = self.phase(now);
        let done = phase == Phase::Completed;
        let link = |file: File| done.then(|| links.live(&self.id, file, now));
        let failure = self.failed(phase);
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

    /// As `GET /v3/ai-clipping/{job_id}` and its events show it; two clips of each video.
    pub fn as_clipping(&self, links: &Links, now: Millis, link: impl Fn(File) -> Option<String>) -> Value {
        let phase = self.phase(now);
        let done = phase == Phase::Completed;
        let clip = |n: u32, file: File| {
            json!({
                "id": format!("{}-{n}", self.id),
                "status": "completed",
                "title": format!("Clip {n}"),
                "aspect_ratio": "portrait",
                "duration_seconds": LENGTH_S,
                "video_url": link(file),
                "thumbnail_url": links.live(&self.id, File::Thumbnail, now),
                "virality_score": 70 + n,
                "failure_message": null,
            })
        };
        let clips = if done { vec![clip(1, File::Video), clip(2, File::Captioned)] } else { vec![] };
        json!({
            "id": self.id,
            "title": self.title,
            "status": phase.word(self.kind),
            "progress": if done { 100 } else { self.progress(now) },
            "clips": clips,
            "callback_id": self.callback_id,
            "source_duration": done.then_some(LENGTH_S),
            "failure_message": self.failed(phase).map(|f| f.message),
        })
    }

    /// As `GET /v3/background-removals/{id}` shows it.
    fn as_removal(&self, links: &Links, now: Millis) -> Value {
        let phase = self.phase(now);
        let done = phase == Phase::Completed;
        let link = |name: &String| (name.clone(), json!(links.live(&self.id, File::of_layer(name), now)));
        let layers: Map<String, Value> = self.layers.iter().filter(|_| done).map(link).collect();
        json!({
            "id": self.id,
            "title": self.title,
            "status": phase.word(self.kind),
            "layers": layers,
            "duration": done.then_some(LENGTH_S),
            "error": self.failed(phase).map(|f| f.message),
        })
    }

    /// As the status routes of what makes no file show it.
    fn as_thing(&self, now: Millis) -> Value {
        let phase = self.phase(now);
        let failure = self.failed(phase);
        let status = phase.word(self.kind);
        match self.kind {
            Kind::Avatar => json!({
                "id": self.id,
                "name": self.title,
                "status": status,
                "supported_api_engines": ["avatar_iv"],
                "error": failure.map(|f| json!({ "code": f.code, "message": f.message })),
            }),
            Kind::VoiceClone => json!({
                "voice_id": self.id,
                "name": self.title,
                "status": status,
                // The sandbox has no sound of its own.
                "preview_audio_url": null,
                "failure_message": failure.map(|f| f.message),
            }),
            _ => json!({
                "id": self.id,
                "title": self.title,
                "status": status,
                "output_language": self.language,
                "failure_message": failure.map(|f| f.message),
            }),
        }
    }

    fn failed(&self, phase: Phase) -> Option<Failure> {
        self.failure().filter(|_| phase == Phase::Failed)
    }
}
