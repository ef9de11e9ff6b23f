//! What HeyGen lists besides jobs: its event types (all thirty names), and a handful of invented
//! avatars and voices. The names of events are facts; the people are not.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::Sandbox;
use super::answer::{Problem, Query, data};

pub const EVENT_TYPES: [(&str, &str); 30] = [
    ("avatar_video.success", "A video is ready."),
    ("avatar_video.fail", "A video could not be made."),
    ("avatar_video_gif.success", "The GIF of a video is ready."),
    ("avatar_video_gif.fail", "The GIF of a video could not be made."),
    ("avatar_video_caption.success", "The captions of a video are ready."),
    ("avatar_video_caption.fail", "The captions of a video could not be made."),
    ("video_translate.success", "A translation is ready."),
    ("video_translate.fail", "A translation could not be made."),
    ("video_translate.preflight.validation_failed", "The video to translate was not accepted."),
    ("video_translate.preflight.download_failed", "The video to translate could not be fetched."),
    ("video_agent.success", "A video agent's video is ready."),
    ("video_agent.fail", "A video agent could not make its video."),
    ("personalized_video", "A personalized video is ready."),
    ("instant_avatar.success", "An instant avatar is ready."),
    ("instant_avatar.fail", "An instant avatar could not be made."),
    ("photo_avatar_generation.success", "The pictures of a photo avatar are ready."),
    ("photo_avatar_generation.fail", "The pictures of a photo avatar could not be made."),
    ("photo_avatar_train.success", "A photo avatar is trained."),
    ("photo_avatar_train.fail", "A photo avatar could not be trained."),
    ("photo_avatar_add_motion.success", "A photo avatar has its motion."),
    ("photo_avatar_add_motion.fail", "A photo avatar could not be given motion."),
    ("proofread_creation.success", "A proofread is ready."),
    ("proofread_creation.fail", "A proofread could not be made."),
    ("live_avatar.success", "A live avatar's session ended well."),
    ("live_avatar.fail", "A live avatar's session ended badly."),
    ("hyperframes_video.success", "A HyperFrames video is ready."),
    ("hyperframes_video.fail", "A HyperFrames video could not be made."),
    ("ai_clipping.success", "Clips are ready."),
    ("ai_clipping.fail", "Clips could not be made."),
    ("batch.finished", "All jobs of a batch have ended."),
];

/// Invented people: group, name, gender, looks.
const AVATARS: [(&str, &str, &str, &[&str]); 3] = [
    ("grp_sandbox_ada", "Ada (sandbox)", "female", &["ada_office", "ada_outdoor"]),
    ("grp_sandbox_bo", "Bo (sandbox)", "male", &["bo_studio"]),
    ("grp_sandbox_cleo", "Cleo (sandbox)", "female", &["cleo_desk"]),
];

/// Invented voices: id, name, language, gender.
const VOICES: [(&str, &str, &str, &str); 4] = [
    ("voice_sandbox_ada", "Ada (sandbox)", "English", "female"),
    ("voice_sandbox_bo", "Bo (sandbox)", "English", "male"),
    ("voice_sandbox_cleo", "Cleo (sandbox)", "Spanish", "female"),
    ("voice_sandbox_dag", "Dag (sandbox)", "German", "male"),
];

pub async fn avatars(RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let groups = AVATARS.iter().map(|(id, name, gender, looks)| {
        json!({ "id": id, "name": name, "gender": gender, "looks_count": looks.len(), "created_at": 1_793_500_000 })
    });
    listed(query.as_deref(), 50, groups)
}

pub async fn looks(RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let parsed = Query::parse(query.as_deref());
    let group = parsed.get("group_id");
    let groups = AVATARS.iter().filter(|(id, ..)| group.is_none_or(|wanted| wanted == *id));
    let looks = groups.flat_map(|(group_id, name, gender, looks)| {
        looks.iter().map(move |id| {
            json!({
                "id": id,
                "group_id": group_id,
                "name": name,
                "gender": gender,
                "avatar_type": "studio_avatar",
                "status": "completed",
                "supported_api_engines": ["avatar_iv"],
            })
        })
    });
    listed(query.as_deref(), 50, looks)
}

pub async fn voices(RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let parsed = Query::parse(query.as_deref());
    let wanted = |name: &str, value: &str| parsed.get(name).is_none_or(|w| w.eq_ignore_ascii_case(value));
    let voices = VOICES.iter().filter(|(_, _, l, g)| wanted("language", l) && wanted("gender", g));
    let voices = voices.map(|(id, name, language, gender)| {
        json!({
            "voice_id": id,
            "name": name,
            "language": language,
            "gender": gender,
            "type": "public",
            "support_pause": true,
            "support_locale": false,
            "preview_audio_url": null,
        })
    });
    listed(query.as_deref(), 100, voices)
}

pub async fn me(State(sandbox): State<Sandbox>) -> Response {
    let balance = sandbox.world().balance;
    data(json!({
        "username": "sandbox",
        "email": "sandbox@example.com",
        "first_name": "Sand",
        "last_name": "Box",
        "billing_type": "wallet",
        "wallet": {
            "currency": "credits",
            "remaining_balance": balance,
            "auto_reload": { "enabled": false, "threshold_usd": null, "amount_usd": null },
        },
        "subscription": null,
        "usage_based": null,
    }))
}

fn listed(query: Option<&str>, most: usize, items: impl Iterator<Item = Value>) -> Result<Response, Problem> {
    // Pages count downwards, and these are shown in the order they are written in.
    Query::parse(query).page(most, (0..1_000).rev().zip(items))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thirty_names_differ() {
        let names: std::collections::BTreeSet<_> = EVENT_TYPES.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), 30);
    }
}
