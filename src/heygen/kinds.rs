//! One table: kind of job, where it is created, where its status is asked for, what must be in it.
//! Source of every path and field: heygen-api.md 2.1, 2.3, 2.5, 2.12 and 3.

use serde_json::{Map, Value};

use crate::domain::job::Kind;

pub struct Route {
    pub create: &'static str,
    /// `{}` stands for the id the create call answered.
    pub status: &'static str,
}

pub fn route(kind: Kind) -> Route {
    match kind {
        Kind::Video => Route { create: "/v3/videos", status: "/v3/videos/{}" },
        Kind::VideoAgent => Route { create: "/v3/video-agents", status: "/v3/video-agents/{}" },
        Kind::Translation => Route { create: "/v3/video-translations", status: "/v3/video-translations/{}" },
    }
}

/// Where up to a hundred jobs of a kind are asked for in one call, and the parameter that takes
/// their ids (heygen-api.md 3.1).
pub fn statuses(kind: Kind) -> Option<(&'static str, &'static str)> {
    match kind {
        Kind::Video => Some(("/v3/videos/statuses", "video_ids")),
        Kind::Translation => Some(("/v3/video-translations/statuses", "video_translation_ids")),
        Kind::VideoAgent => None,
    }
}

/// Where upstream lists what it has of a kind (heygen-api.md 4); agents' sessions have no list.
pub fn list(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Video => Some("/v3/videos"),
        Kind::Translation => Some("/v3/video-translations"),
        Kind::VideoAgent => None,
    }
}

/// Whether upstream takes `callback_id` and `callback_url` in this request. All kinds here do, but
/// for cinematic videos, whose schema has neither.
pub fn takes_callback(kind: Kind, request: &Map<String, Value>) -> bool {
    kind != Kind::Video || request.get("type").and_then(Value::as_str) != Some("cinematic_avatar")
}

/// A field of a request that upstream would refuse, as a JSON Pointer into it and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub pointer: String,
    pub message: String,
}

fn mistake(pointer: &str, message: impl Into<String>) -> Mistake {
    Mistake { pointer: pointer.to_owned(), message: message.into() }
}

/// What upstream, or we, cannot take. Only what is certain to be refused is refused here.
pub fn check(kind: Kind, request: &Map<String, Value>) -> Vec<Mistake> {
    let mut found = vec![];
    for field in ["callback_id", "callback_url"] {
        if request.get(field).is_some_and(|v| !v.is_null()) {
            found.push(mistake(
                &format!("/{field}"),
                match field {
                    "callback_id" => {
                        "belongs beside `request`, not in it: reelhook uses HeyGen's own for itself"
                    }
                    _ => "is set by reelhook, which is told the outcome and passes it on",
                },
            ));
        }
    }
    match kind {
        Kind::Video => check_video(request, &mut found),
        Kind::VideoAgent => {
            text(request, "prompt", 10_000, &mut found);
        }
        Kind::Translation => check_translation(request, &mut found),
    }
    found
}

fn check_video(request: &Map<String, Value>, found: &mut Vec<Mistake>) {
    const TYPES: [&str; 4] = ["avatar", "image", "studio", "cinematic_avatar"];
    match request.get("type").and_then(Value::as_str) {
        Some("avatar") => {
            present(request, "avatar_id", found);
            voice_source(request, found);
        }
        Some("image") => {
            present(request, "image", found);
            voice_source(request, found);
        }
        Some("studio") => match request.get("scenes").and_then(Value::as_array).map(Vec::len) {
            Some(1..=50) => {}
            _ => found.push(mistake("/scenes", "must be a list of 1 to 50 scenes")),
        },
        Some("cinematic_avatar") => {
            text(request, "prompt", 10_000, found);
            match request.get("avatar_id").and_then(Value::as_array).map(Vec::len) {
                Some(1..=3) => {}
                _ => found.push(mistake("/avatar_id", "must be a list of 1 to 3 look ids")),
            }
        }
        _ => found.push(mistake("/type", format!("must be one of {}", TYPES.join(", ")))),
    }
}

/// Exactly one of the three, and a script of at most 5,000 characters.
fn voice_source(request: &Map<String, Value>, found: &mut Vec<Mistake>) {
    let given = ["script", "audio_url", "audio_asset_id"]
        .into_iter()
        .filter(|name| request.get(*name).is_some_and(|v| !v.is_null()))
        .count();
    if given != 1 {
        found.push(mistake("/script", "exactly one of script, audio_url and audio_asset_id is needed"));
    } else if request.get("script").is_some_and(|v| !v.is_null()) {
        text(request, "script", 5_000, found);
    }
}

fn check_translation(request: &Map<String, Value>, found: &mut Vec<Mistake>) {
    present(request, "video", found);
    match request.get("output_languages").and_then(Value::as_array) {
        Some(languages) if languages.len() == 1 && languages[0].is_string() => {}
        Some(languages) if languages.len() > 1 => found.push(mistake(
            "/output_languages",
            "one language a job, so that each has its own outcome: submit one job for each",
        )),
        _ => found.push(mistake("/output_languages", "must be a list of one language name")),
    }
}

fn present(request: &Map<String, Value>, name: &str, found: &mut Vec<Mistake>) {
    let there = match request.get(name) {
        None | Some(Value::Null) => false,
        Some(Value::String(text)) => !text.is_empty(),
        Some(_) => true,
    };
    if !there {
        found.push(mistake(&format!("/{name}"), "is required"));
    }
}

fn text(request: &Map<String, Value>, name: &str, most: usize, found: &mut Vec<Mistake>) {
    match request.get(name).and_then(Value::as_str).map(|t| t.chars().count()) {
        Some(n) if (1..=most).contains(&n) => {}
        Some(n) if n > most => {
            found.push(mistake(&format!("/{name}"), format!("has {n} characters, at most {most} are taken")));
        }
        _ => found.push(mistake(&format!("/{name}"), format!("must be a text of 1 to {most} characters"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pointers(kind: Kind, request: Value) -> Vec<String> {
        check(kind, request.as_object().unwrap()).into_iter().map(|m| m.pointer).collect()
    }

    #[test]
    fn what_upstream_takes_passes() {
        let none: [&str; 0] = [];
        assert_eq!(pointers(Kind::Video, json!({"type": "avatar", "avatar_id": "a", "script": "Hi"})), none);
        assert_eq!(pointers(Kind::VideoAgent, json!({"prompt": "p"})), none);
        let t =
            json!({"video": {"type": "url", "url": "https://x"}, "output_languages": ["Spanish (Spain)"]});
        assert_eq!(pointers(Kind::Translation, t), none);
        let c = json!({"type": "cinematic_avatar", "prompt": "p", "avatar_id": ["a"]});
        assert_eq!(pointers(Kind::Video, c), none);
    }

    #[test]
    fn what_upstream_refuses_is_named() {
        assert_eq!(pointers(Kind::Video, json!({"type": "film"})), ["/type"]);
        assert_eq!(pointers(Kind::Video, json!({"type": "avatar"})), ["/avatar_id", "/script"]);
        let both = json!({"type": "image", "image": {}, "script": "a", "audio_url": "b"});
        assert_eq!(pointers(Kind::Video, both), ["/script"]);
        let at = |n| json!({"type": "avatar", "avatar_id": "a", "script": "x".repeat(n)});
        assert!(pointers(Kind::Video, at(5_000)).is_empty());
        assert_eq!(pointers(Kind::Video, at(5_001)), ["/script"]);
        let scenes = |n: usize| json!({"type": "studio", "scenes": vec![json!({}); n]});
        assert!(pointers(Kind::Video, scenes(50)).is_empty());
        assert_eq!(pointers(Kind::Video, scenes(51)), ["/scenes"]);
        assert_eq!(pointers(Kind::Video, scenes(0)), ["/scenes"]);
        let two = json!({"video": {}, "output_languages": ["German", "Spanish (Spain)"]});
        assert_eq!(pointers(Kind::Translation, two), ["/output_languages"]);
        assert_eq!(
            pointers(Kind::VideoAgent, json!({"prompt": "p", "callback_url": "u"})),
            ["/callback_url"]
        );
    }
}
