//! What the name of an event means: of which product it speaks, and whether it says an end.
//!
//! By rule, not by a list of names: what stands before an outcome word is the family. A name that
//! does not fit is unknown, never guessed at. Nothing here looks at anything but names.

use crate::domain::job::Kind;

/// The products whose events exist (docs/heygen.md, Events), and two that are no product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    AvatarVideo,
    AvatarVideoGif,
    AvatarVideoCaption,
    VideoTranslate,
    VideoTranslatePreflight,
    VideoAgent,
    PersonalizedVideo,
    InstantAvatar,
    PhotoAvatarGeneration,
    PhotoAvatarTrain,
    PhotoAvatarAddMotion,
    ProofreadCreation,
    LiveAvatar,
    HyperframesVideo,
    AiClipping,
    Batch,
    /// A body that only says how "the video" went, as hand-written senders do.
    Generic,
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Success,
    Failure,
}

/// What a family is to a job of some kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It says how the job itself ended.
    Outcome,
    /// It says that the job's GIF or captions are ready.
    Gif,
    Caption,
    /// It may concern the job, and decides nothing.
    Aside,
}

/// The words after which a name says an end. Whole words: one is cut off, and the rest is the family.
const SUCCESS: &[&str] = &["succeeded", "succeed", "success", "completed", "complete", "finished", "done"];
const FAILURE: &[&str] = &["failure", "failed", "fail", "error"];
/// Statuses of what ended without a result, and no words of any event (docs/heygen.md, Statuses).
const GONE: &[&str] = &["cancelled", "canceled", "deleted"];
/// Statuses of work that goes on (docs/heygen.md, Statuses).
const RUNNING: &[&str] = &[
    "waiting",
    "pending",
    "queued",
    "processing",
    "running",
    "generating",
    "rendering",
    "pendingconsent",
    "thinking",
    "reviewing",
    "waitingforinput",
    "inprogress",
    "started",
    "draft",
];

impl Family {
    pub fn role(self, kind: Kind) -> Role {
        use Kind::{Avatar, Lipsync, Proofread, ProofreadVideo, Template, Translation, Video, VideoAgent};
        match (self, kind) {
            (Self::Generic, Video | VideoAgent | Template | Translation | ProofreadVideo | Lipsync)
            | (Self::AvatarVideo, Video | Template)
            | (Self::VideoAgent, VideoAgent)
            | (Self::VideoTranslate, Translation | ProofreadVideo)
            | (Self::AiClipping, Kind::AiClipping)
            | (Self::ProofreadCreation, Proofread)
            | (Self::InstantAvatar | Self::PhotoAvatarGeneration, Avatar) => Role::Outcome,
            (Self::AvatarVideoGif, Video | VideoAgent | Template) => Role::Gif,
            (Self::AvatarVideoCaption, Video | VideoAgent | Template) => Role::Caption,
            _ => Role::Aside,
        }
    }

    /// Names under which this family, and no other, refers to its own things.
    pub fn own_ids(self) -> &'static [&'static str] {
        match self {
            Self::InstantAvatar
            | Self::PhotoAvatarGeneration
            | Self::PhotoAvatarTrain
            | Self::PhotoAvatarAddMotion => &["photo_avatar_id", "avatar_id", "generation_id", "group_id"],
            Self::ProofreadCreation => &["proofread_id"],
            Self::Batch => &["batch_id"],
            Self::AiClipping => &["job_id"],
            _ => &[],
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::AvatarVideo => "avatar video",
            Self::AvatarVideoGif => "GIF of an avatar video",
            Self::AvatarVideoCaption => "captions of an avatar video",
            Self::VideoTranslate => "translation",
            Self::VideoTranslatePreflight => "check before a translation",
            Self::VideoAgent => "video agent",
            Self::PersonalizedVideo => "personalized video",
            Self::InstantAvatar => "instant avatar",
            Self::PhotoAvatarGeneration => "photo avatar",
            Self::PhotoAvatarTrain => "training of a photo avatar",
            Self::PhotoAvatarAddMotion => "motion of a photo avatar",
            Self::ProofreadCreation => "proofread",
            Self::LiveAvatar => "live avatar",
            Self::HyperframesVideo => "Hyperframes video",
            Self::AiClipping => "AI clipping",
            Self::Batch => "batch",
            Self::Generic => "video",
            Self::Unknown => "unknown event",
        }
    }

    fn of(stem: &str) -> Self {
        match stem {
            "avatarvideo" => Self::AvatarVideo,
            "avatarvideogif" => Self::AvatarVideoGif,
            "avatarvideocaption" => Self::AvatarVideoCaption,
            "videotranslate" | "videotranslation" => Self::VideoTranslate,
            "videotranslatepreflightvalidation" | "videotranslatepreflightdownload" => {
                Self::VideoTranslatePreflight
            }
            "videoagent" => Self::VideoAgent,
            "personalizedvideo" => Self::PersonalizedVideo,
            "instantavatar" => Self::InstantAvatar,
            "photoavatargeneration" => Self::PhotoAvatarGeneration,
            "photoavatartrain" => Self::PhotoAvatarTrain,
            "photoavataraddmotion" => Self::PhotoAvatarAddMotion,
            "proofreadcreation" => Self::ProofreadCreation,
            "liveavatar" => Self::LiveAvatar,
            "hyperframesvideo" => Self::HyperframesVideo,
            "aiclipping" => Self::AiClipping,
            "batch" => Self::Batch,
            // `video.completed`, `video_status.success` and a bare `completed` are nobody's real
            // names, and many people's (docs/heygen.md, Bodies in circulation).
            "video" | "videostatus" | "" => Self::Generic,
            _ => Self::Unknown,
        }
    }
}

/// Family and end of an event name.
pub fn classify(name: &str) -> (Family, Option<Ending>) {
    let joined = joined(name);
    let (stem, ending) = split(&joined);
    match Family::of(stem) {
        Family::Unknown => (Family::Unknown, None),
        family => (family, ending),
    }
}

/// Whether nobody here knows what an event of this name is about. The status that a flat body has
/// instead of a name is known.
pub fn is_unknown_type(name: &str) -> bool {
    classify(name).0 == Family::Unknown && standing(name) == Standing::Other
}

/// What a status word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Ended(Ending),
    Running,
    Other,
}

pub fn standing(status: &str) -> Standing {
    let joined = joined(status);
    match split(&joined) {
        ("", Some(ending)) => Standing::Ended(ending),
        _ if GONE.contains(&joined.as_str()) => Standing::Ended(Ending::Failure),
        _ if RUNNING.contains(&joined.as_str()) => Standing::Running,
        _ => Standing::Other,
    }
}

/// Lower case, without the marks that part words: `Avatar_Video.Success` is `avatarvideosuccess`.
fn joined(name: &str) -> String {
    let parts = |c: char| c.is_whitespace() || matches!(c, '.' | '_' | '-' | ':' | '/');
    name.chars().filter(|c| !parts(*c)).map(|c| c.to_ascii_lowercase()).collect()
}

fn split(joined: &str) -> (&str, Option<Ending>) {
    let before = |words: &[&str]| words.iter().find_map(|word| joined.strip_suffix(word));
    if let Some(stem) = before(SUCCESS) {
        (stem, Some(Ending::Success))
    } else if let Some(stem) = before(FAILURE) {
        (stem, Some(Ending::Failure))
    } else {
        (joined, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heygen::kinds;

    /// docs/heygen.md, Events, all thirty.
    const CATALOGUE: [&str; 30] = [
        "avatar_video.success",
        "avatar_video.fail",
        "avatar_video_gif.success",
        "avatar_video_gif.fail",
        "avatar_video_caption.success",
        "avatar_video_caption.fail",
        "video_translate.success",
        "video_translate.fail",
        "video_translate.preflight.validation_failed",
        "video_translate.preflight.download_failed",
        "video_agent.success",
        "video_agent.fail",
        "personalized_video",
        "instant_avatar.success",
        "instant_avatar.fail",
        "photo_avatar_generation.success",
        "photo_avatar_generation.fail",
        "photo_avatar_train.success",
        "photo_avatar_train.fail",
        "photo_avatar_add_motion.success",
        "photo_avatar_add_motion.fail",
        "proofread_creation.success",
        "proofread_creation.fail",
        "live_avatar.success",
        "live_avatar.fail",
        "hyperframes_video.success",
        "hyperframes_video.fail",
        "ai_clipping.success",
        "ai_clipping.fail",
        "batch.finished",
    ];

    #[test]
    fn every_event_has_a_family_and_ends_the_kinds_that_name_it() {
        for name in CATALOGUE {
            let (family, _) = classify(name);
            assert!(!matches!(family, Family::Unknown | Family::Generic), "{name}");
            let stem = name.strip_suffix(".success").or(name.strip_suffix(".fail")).unwrap_or(name);
            for kind in Kind::ALL {
                let named = kinds::route(kind).events.contains(&stem);
                assert_eq!(family.role(kind) == Role::Outcome, named, "{name}, {kind:?}");
            }
        }
        let known = |stem: &&str| CATALOGUE.contains(&format!("{stem}.success").as_str());
        assert!(Kind::ALL.into_iter().all(|kind| kinds::route(kind).events.iter().all(known)));
    }

    #[test]
    fn names_in_circulation_follow_the_rule() {
        for (name, family, ending) in [
            ("video.completed", Family::Generic, Some(Ending::Success)),
            ("video.succeed", Family::Generic, Some(Ending::Success)),
            ("video_completed", Family::Generic, Some(Ending::Success)),
            ("videoFailed", Family::Generic, Some(Ending::Failure)),
            ("video_status.success", Family::Generic, Some(Ending::Success)),
            ("AVATAR_VIDEO.Failed", Family::AvatarVideo, Some(Ending::Failure)),
            ("avatar-video:completed", Family::AvatarVideo, Some(Ending::Success)),
            ("video_agent.failed", Family::VideoAgent, Some(Ending::Failure)),
            ("video_translation.done", Family::VideoTranslate, Some(Ending::Success)),
            ("avatar_video.progress", Family::Unknown, None),
            ("avatar_training.success", Family::Unknown, None),
            ("video.incomplete", Family::Unknown, None),
            ("avatar_video.success.fail", Family::Unknown, None),
            ("avatar_video.success!", Family::Unknown, None),
            ("lipsync.success", Family::Unknown, None),
        ] {
            assert_eq!(classify(name), (family, ending), "{name}");
        }
    }

    #[test]
    fn a_status_is_no_unknown_event_type() {
        for known in CATALOGUE.iter().chain(&["video.completed", "completed", "processing", "cancelled"]) {
            assert!(!is_unknown_type(known), "{known}");
        }
        for unknown in ["hologram.ready", "avatar_video.blessed", "lipsync.success", "enabled"] {
            assert!(is_unknown_type(unknown), "{unknown}");
        }
    }

    #[test]
    fn statuses_are_whole_words() {
        assert_eq!(standing("COMPLETED"), Standing::Ended(Ending::Success));
        assert_eq!(standing("failed"), Standing::Ended(Ending::Failure));
        assert_eq!(standing("waiting_for_input"), Standing::Running);
        assert_eq!(standing("Cancelled"), Standing::Ended(Ending::Failure));
        assert_eq!(standing("deleted"), Standing::Ended(Ending::Failure));
        assert_eq!(standing("pending_consent"), Standing::Running);
        assert_eq!(standing("enabled"), Standing::Other);
        assert_eq!(standing("video.completed"), Standing::Other);
    }
}
