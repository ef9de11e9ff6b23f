//! One table: kind of job, where it is created and asked for, what upstream calls it, how a repeated
//! call is known, and what tells its end. What a request may hold is in `rules`; nothing here sends.
//! Source of every path and field: docs/heygen.md, Creating; what is silent there is said beside it.

use serde_json::{Map, Value, json};

use super::client::path_segment;
use super::rules::{self, Mistake};
use crate::domain::job::Kind;
use crate::domain::time::MINUTE;

/// What upstream makes one thing for each of.
const LANGUAGES: &str = "output_languages";

pub struct Route {
    /// A name in braces is a field of the request that goes into the path and not into the body.
    pub create: &'static str,
    /// `{}` stands for the id the create call answered.
    pub status: &'static str,
    /// Where up to a hundred are asked for in one call, and the parameter that takes their ids.
    pub statuses: Option<(&'static str, &'static str)>,
    /// Names of that id, the usual one first. A bare `id` inside `data` will do, too.
    pub ids: &'static [&'static str],
    /// Where jobs of this kind are listed, newest first.
    pub list: Option<&'static str>,
    pub repeat: Repeat,
    /// Whether the create call takes `callback_id` and `callback_url`.
    pub callback: bool,
    /// What the names of the events begin with that tell registered endpoints of its end.
    pub events: &'static [&'static str],
}

/// By what upstream knows a create call that it has seen before, so that it may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// The `Idempotency-Key` header, which every call carries.
    Key,
    /// This field of the body, which reelhook sets.
    Field(&'static str),
    /// Nothing that is documented: a call of unknown outcome is not repeated, a person decides.
    Never,
}

const VIDEO: Route = Route {
    create: "/v3/videos",
    status: "/v3/videos/{}",
    statuses: Some(("/v3/videos/statuses", "video_ids")),
    ids: &["video_id", "videoId"],
    list: Some("/v3/videos"),
    repeat: Repeat::Key,
    callback: true,
    events: &["avatar_video"],
};

const TRANSLATION: Route = Route {
    create: "/v3/video-translations",
    status: "/v3/video-translations/{}",
    statuses: Some(("/v3/video-translations/statuses", "video_translation_ids")),
    // One per language, and a job asks for one language.
    ids: &["video_translation_ids", "video_translate_ids", "video_translation_id", "video_translate_id"],
    list: Some("/v3/video-translations"),
    events: &["video_translate"],
    ..VIDEO
};

pub fn route(kind: Kind) -> Route {
    match kind {
        Kind::Video => VIDEO,
        // Answers with the whole video (docs/heygen.md, Creating).
        Kind::Template => Route { create: "/v3/templates/{template_id}", ..VIDEO },
        Kind::VideoAgent => Route {
            create: "/v3/video-agents",
            status: "/v3/video-agents/{}",
            statuses: None,
            ids: &["session_id"],
            events: &["video_agent"],
            ..VIDEO
        },
        Kind::Translation => TRANSLATION,
        Kind::Proofread => Route {
            create: "/v3/video-translations/proofreads",
            status: "/v3/video-translations/proofreads/{}",
            statuses: None,
            ids: &["proofread_ids", "proofread_id"],
            list: None,
            callback: false,
            events: &["proofread_creation"],
            ..TRANSLATION
        },
        // What comes of it is a translation (docs/heygen.md, Creating).
        Kind::ProofreadVideo => {
            Route { create: "/v3/video-translations/proofreads/{proofread_id}/generate", ..TRANSLATION }
        }
        // No event of its own is known (docs/heygen.md, Events): only its callback tells of its end.
        Kind::Lipsync => Route {
            create: "/v3/lipsyncs",
            status: "/v3/lipsyncs/{}",
            statuses: Some(("/v3/lipsyncs/statuses", "lipsync_ids")),
            ids: &["lipsync_id"],
            list: None,
            events: &[],
            ..VIDEO
        },
        // Whether it honours a key is not stated (docs/heygen.md, Repeating), nor what its answer holds.
        Kind::AiClipping => Route {
            create: "/v3/ai-clipping",
            status: "/v3/ai-clipping/{}",
            statuses: None,
            ids: &["job_id"],
            list: None,
            repeat: Repeat::Never,
            events: &["ai_clipping"],
            ..VIDEO
        },
        // What its answer holds is not documented; its siblings name the id after themselves.
        Kind::BackgroundRemoval => Route {
            create: "/v3/background-removals",
            status: "/v3/background-removals/{}",
            statuses: None,
            ids: &["background_removal_id"],
            list: None,
            repeat: Repeat::Field("request_id"),
            callback: false,
            events: &[],
        },
        // Which events tell of v3's avatars is not documented; these speak of avatars being made.
        Kind::Avatar => Route {
            create: "/v3/avatars",
            status: "/v3/avatars/looks/{}",
            statuses: None,
            ids: &["avatar_item", "look_id"],
            list: None,
            repeat: Repeat::Key,
            callback: false,
            events: &["photo_avatar_generation", "instant_avatar"],
        },
        // Missing in the list of routes that honour a key (docs/heygen.md, Repeating).
        Kind::VoiceClone => Route {
            create: "/v3/voices/clone",
            status: "/v3/voices/{}",
            statuses: None,
            ids: &["voice_clone_id", "voice_id"],
            list: None,
            repeat: Repeat::Never,
            callback: false,
            events: &[],
        },
    }
}

/// Whether upstream takes `callback_id` and `callback_url` in this request. Of videos the cinematic
/// ones do not: their schema has neither.
pub fn takes_callback(kind: Kind, request: &Map<String, Value>) -> bool {
    let cinematic = request.get("type").and_then(Value::as_str) == Some("cinematic_avatar");
    route(kind).callback && !(kind == Kind::Video && cinematic)
}

/// Whether upstream makes one thing for each language in `output_languages`.
pub fn is_per_language(kind: Kind) -> bool {
    matches!(kind, Kind::Translation | Kind::Proofread)
}

/// The requests that one of a caller's becomes: where upstream makes one thing for each language, one for
/// each, so that every language has its own outcome and is paid for by a call of its own.
pub fn one_per_language(kind: Kind, request: Map<String, Value>) -> Vec<Map<String, Value>> {
    let languages = request.get(LANGUAGES).and_then(Value::as_array).filter(|_| is_per_language(kind));
    let Some(languages) = languages.filter(|all| all.len() > 1).cloned() else { return vec![request] };
    let each = |language| {
        let mut one = request.clone();
        one.insert(LANGUAGES.to_owned(), json!([language]));
        one
    };
    languages.into_iter().map(each).collect()
}

/// Whether upstream can tell of such a job, at a registered endpoint or at an address of its own; else
/// only polls find its end.
pub fn is_told(kind: Kind, request: &Map<String, Value>, has_endpoint: bool, has_address: bool) -> bool {
    has_endpoint && !route(kind).events.is_empty() || has_address && takes_callback(kind, request)
}

/// Whether a job is to be given an address of its own: not where a registered endpoint hears of it
/// anyway, signed; a callback on top would only be a double.
pub fn wants_callback_url(kind: Kind, has_endpoint: bool) -> bool {
    !has_endpoint || route(kind).events.is_empty()
}

/// A create call as it goes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub path: String,
    pub body: Map<String, Value>,
}

/// HeyGen's body as the caller wrote it, but for what leads the answer back to us, what makes the
/// call known when it is repeated, and what belongs into the path.
pub fn outgoing(
    kind: Kind,
    mut body: Map<String, Value>,
    job_id: &str,
    key: &str,
    callback_url: Option<&str>,
) -> Outgoing {
    let route = route(kind);
    let mut path = route.create.to_owned();
    for name in path_fields(&route) {
        // Not `remove`, which would move the last field here.
        let value = body.shift_remove(name);
        let value = value.as_ref().and_then(Value::as_str).unwrap_or_default();
        path = path.replace(&format!("{{{name}}}"), &path_segment(value));
    }
    if takes_callback(kind, &body) {
        body.insert("callback_id".to_owned(), json!(job_id));
        if let Some(url) = callback_url {
            body.insert("callback_url".to_owned(), json!(url));
        }
    }
    if let Repeat::Field(name) = route.repeat {
        body.insert(name.to_owned(), json!(key));
    }
    Outgoing { path, body }
}

fn path_fields(route: &Route) -> impl Iterator<Item = &'static str> {
    route.create.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

/// What reelhook itself cannot take of a request, whatever upstream would.
pub fn unfit(kind: Kind, request: &Map<String, Value>) -> Vec<Mistake> {
    let route = route(kind);
    let mut ours = vec![
        ("callback_id", "belongs beside `request`, not in it: reelhook uses HeyGen's own for itself"),
        ("callback_url", "is set by reelhook, which is told the outcome and passes it on; leave it out"),
    ];
    if let Repeat::Field(name) = route.repeat {
        ours.push((name, "is set by reelhook, so that the call can be repeated safely; leave it out"));
    }
    let given = |name: &str| request.get(name).is_some_and(|v| !v.is_null());
    let mut found: Vec<Mistake> =
        ours.into_iter().filter(|(name, _)| given(name)).map(|(name, why)| Mistake::at(name, why)).collect();
    for name in path_fields(&route) {
        if request.get(name).and_then(Value::as_str).is_none_or(|id| id.trim().is_empty()) {
            found.push(Mistake::at(name, "is required: it is a part of the address HeyGen is asked at"));
        }
    }
    let languages = request.get(LANGUAGES).and_then(Value::as_array).filter(|_| is_per_language(kind));
    for (nth, language) in languages.into_iter().flatten().enumerate() {
        if languages.is_some_and(|all| all[..nth].contains(language)) {
            let why = format!("{language} is there twice, and each would be paid for");
            found.push(Mistake::at(&format!("{LANGUAGES}/{nth}"), why));
        }
    }
    found
}

/// A whole request of this kind, for the documentation.
pub fn example(kind: Kind) -> Value {
    let video = || json!({"type": "url", "url": "https://example.com/talk.mp4"});
    match kind {
        Kind::Video => json!({"type": "avatar", "avatar_id": "Abigail_standing", "script": "Hello!"}),
        Kind::VideoAgent => json!({"prompt": "Welcome our new customers"}),
        Kind::Translation => json!({"video": video(), "output_languages": ["Spanish (Spain)"]}),
        Kind::Template => json!({"template_id": "tmpl_1", "title": "Offer", "variables": {
            "name": {"name": "name", "type": "text", "properties": {"content": "Ada"}}}}),
        Kind::Lipsync => json!({
            "video": video(), "audio": {"type": "url", "url": "https://example.com/voice.mp3"}}),
        Kind::AiClipping => json!({
            "video": video(), "output_settings": {"aspect_ratio": "portrait", "duration_types": [30, 60]}}),
        Kind::BackgroundRemoval => json!({"video": video(), "layers": ["foreground", "mask"]}),
        Kind::Avatar => json!({"type": "photo", "name": "Ada",
            "file": {"type": "url", "url": "https://example.com/ada.jpg"}}),
        Kind::VoiceClone => json!({"voice_name": "Ada",
            "audio": {"type": "url", "url": "https://example.com/ada.mp3"}}),
        Kind::Proofread => {
            json!({"title": "Talk", "video": video(), "output_languages": ["Spanish (Spain)"]})
        }
        Kind::ProofreadVideo => json!({"proofread_id": "prf_1", "captions": true}),
    }
}

/// `docs/kinds.md`.
pub fn markdown() -> String {
    let mut page = String::from(
        "# Kinds\n\n\
         Generated from `src/heygen/kinds.rs` and `src/heygen/rules.rs` by `scripts/generate`; do not edit.\n\n\
         What `kind` a job may have, and what its `request` holds: the body of HeyGen's own create call. Before\n\
         anything is stored or sent, it is checked against what HeyGen documents; `\"check\": false` beside it\n\
         leaves that out, for when HeyGen takes more than it did. Fields not named here are let through.\n",
    );
    for kind in Kind::ALL {
        let route = route(kind);
        let told = match (route.events, route.callback) {
            ([], false) => "nothing is told: polls find the end".to_owned(),
            ([], true) => "its callback only, which is unsigned and makes reelhook ask".to_owned(),
            (events, _) => events.iter().map(|e| format!("`{e}.*`")).collect::<Vec<_>>().join(", "),
        };
        let repeat = match route.repeat {
            Repeat::Key => "the same `Idempotency-Key`".to_owned(),
            Repeat::Field(name) => format!("the same `{name}`, which reelhook sets"),
            Repeat::Never => "never: after an answer that was lost, a person decides".to_owned(),
        };
        let request = example(kind);
        let asked = match is_told(kind, request.as_object().unwrap_or(&Map::new()), true, true) {
            true => format!("after {} min, if nothing was told", kind.usual_time() / MINUTE),
            false => "at once, then ever less often".to_owned(),
        };
        page.push_str(&format!(
            "\n## `{}`\n\n\
             | | |\n| --- | --- |\n\
             | created by | `POST {}` |\n| asked for by | `GET {}` |\n| its end is told by | {told} |\n\
             | repeated with | {repeat} |\n| first asked for | {asked} |\n\n```json\n{}\n```\n\n{}",
            kind.name(),
            route.create,
            route.status.replace("{}", "{upstream_id}"),
            json!({"kind": kind.name(), "request": request}),
            rules::markdown(rules::of(kind)),
        ));
        for name in path_fields(&route) {
            page.push_str(&format!("- `{name}`, required: goes into the address\n"));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_example_fits() {
        for kind in Kind::ALL {
            let request = fields(example(kind));
            assert_eq!(unfit(kind, &request), [], "{kind:?}");
            assert_eq!(rules::check(kind, &request), [], "{kind:?}");
        }
    }

    #[test]
    fn only_the_way_back_is_added() {
        let request = fields(json!({"prompt": "p", "x": [1]}));
        let sent = outgoing(Kind::VideoAgent, request, "job_1", "job_1-0", Some("https://u"));
        let whole = json!({"prompt": "p", "x": [1], "callback_id": "job_1", "callback_url": "https://u"});
        assert_eq!((sent.path.as_str(), Value::Object(sent.body)), ("/v3/video-agents", whole));
        let cinematic = json!({"type": "cinematic_avatar", "prompt": "p"});
        let sent = outgoing(Kind::Video, fields(cinematic.clone()), "job_1", "job_1-0", Some("https://u"));
        assert_eq!(Value::Object(sent.body), cinematic);
    }

    #[test]
    fn a_field_of_the_path_leaves_the_body_and_stays_one_segment() {
        let request = fields(json!({"template_id": "../a b", "variables": {}}));
        let sent = outgoing(Kind::Template, request, "job_1", "job_1-0", None);
        assert_eq!(sent.path, "/v3/templates/..%2Fa%20b");
        assert_eq!(Value::Object(sent.body), json!({"variables": {}, "callback_id": "job_1"}));
    }

    #[test]
    fn a_key_that_belongs_into_the_body_is_put_there() {
        let sent = outgoing(Kind::BackgroundRemoval, fields(json!({"video": {}})), "job_1", "job_1-0", None);
        assert_eq!(Value::Object(sent.body), json!({"video": {}, "request_id": "job_1-0"}));
    }

    #[test]
    fn what_we_cannot_take_is_named_whatever_upstream_would() {
        let named = |kind, request| -> Vec<String> {
            unfit(kind, &fields(request)).into_iter().map(|m| m.pointer).collect()
        };
        for kind in Kind::ALL {
            let mut request = example(kind);
            request["callback_id"] = json!("mine");
            request["callback_url"] = json!("https://mine");
            assert_eq!(named(kind, request), ["/callback_id", "/callback_url"], "{kind:?}");
        }
        assert_eq!(named(Kind::BackgroundRemoval, json!({"request_id": "r"})), ["/request_id"]);
        assert_eq!(named(Kind::Template, json!({"template_id": ""})), ["/template_id"]);
        let twice = json!({"output_languages": ["a", "b", "a"], "request_id": "r"});
        assert_eq!(named(Kind::Proofread, twice.clone()), ["/output_languages/2"]);
        assert_eq!(named(Kind::Lipsync, twice), [""; 0]);
    }

    #[test]
    fn each_language_is_a_request_of_its_own_and_the_rest_stays_as_it_is() {
        let split = |kind, request: Value| -> Vec<Value> {
            one_per_language(kind, fields(request)).into_iter().map(Value::Object).collect()
        };
        let two = json!({"title": "t", "output_languages": ["a", "b"], "mode": "speed"});
        let parts = split(Kind::Translation, two.clone());
        assert_eq!(parts[1].to_string(), r#"{"title":"t","output_languages":["b"],"mode":"speed"}"#);
        assert_eq!(parts.len(), 2);
        assert_eq!(split(Kind::Lipsync, two.clone()), [two]);
        for whole in [json!({"output_languages": ["a"]}), json!({}), json!({"output_languages": []})] {
            assert_eq!(split(Kind::Proofread, whole.clone()), [whole]);
        }
    }
}
