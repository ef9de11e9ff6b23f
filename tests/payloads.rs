//! Every body of the corpus is read as its line says, and no damaged one ends a job that it should
//! not. Says nothing about signatures or stores: only what `heygen::wire` takes a body to mean.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use reelhook::domain::job::{FoundBy, Job, Kind, Observation, Says, State};
use reelhook::domain::step::{Input, step};
use reelhook::domain::table::typical;
use reelhook::heygen::wire;

const WEBHOOKS: &str = include_str!("payloads/webhooks.jsonl");
const RESPONSES: &str = include_str!("payloads/responses.jsonl");

fn lines(file: &str) -> Vec<Value> {
    file.lines().map(|line| serde_json::from_str(line).expect("a line of the corpus is JSON")).collect()
}

/// The bytes of a line: its payload, or what cannot be written as JSON.
fn body(line: &Value) -> Vec<u8> {
    if let Some(raw) = line.get("raw") {
        return raw.as_str().expect("raw is text").as_bytes().to_vec();
    }
    if let Some(raw) = line.get("raw_hex") {
        return hex::decode(raw.as_str().expect("raw_hex is text")).expect("raw_hex is hex");
    }
    serde_json::to_vec(&line["payload"]).expect("a payload is JSON")
}

fn says(observation: &Observation) -> &'static str {
    match &observation.says {
        Says::Hint => "hint",
        Says::InProgress { .. } => "in_progress",
        Says::Completed(_) => "completed",
        Says::Failed { .. } => "failed",
        Says::Extra(_) => "extra",
    }
}

/// What an observation carries, in the words of the corpus.
fn carried(observation: &Observation) -> Value {
    match &observation.says {
        Says::Completed(output) | Says::Extra(output) => json!({ "output": output }),
        Says::Failed { failure, .. } => {
            // The sentence for people belongs to the class, and is tested there.
            let said = [("code", json!(failure.code)), ("message", json!(failure.message))];
            let more = [("request_id", json!(failure.request_id)), ("class", json!(failure.class))];
            let told: Map<_, _> = said.into_iter().chain(more).map(|(k, v)| (k.to_owned(), v)).collect();
            json!({ "failure": without_nulls(Value::Object(told)) })
        }
        Says::Hint | Says::InProgress { .. } => json!({}),
    }
}

/// What this version makes of the corpus. Where the lines' expectations change, a receipt read
/// before means something else now: raise `wire::VERSION`. Where lines are only added, the sum alone changes.
const READS: (i64, &str) = (2, "6a7e949542f9de11");

#[test]
fn what_is_read_otherwise_has_another_version() {
    use sha2::{Digest, Sha256};
    let sum = hex::encode(&Sha256::digest(WEBHOOKS)[..8]);
    assert_eq!((wire::VERSION, sum.as_str()), READS);
}

#[test]
fn every_webhook_is_heard_as_its_line_says() {
    for line in lines(WEBHOOKS) {
        let (name, expect) = (&line["name"], &line["expect"]);
        let heard = match wire::hear(&body(&line)) {
            Ok(heard) => heard,
            Err(unusable) => {
                assert_eq!(json!({ "unusable": unusable.name() }), *expect, "{name}: {unusable}");
                continue;
            }
        };
        assert_eq!(json!(heard.event_type), expect["event_type"], "{name}");
        assert_eq!(json!(heard.event_id), expect["event_id"], "{name}");
        assert_eq!(json!(heard.callback_id), expect["callback_id"], "{name}");
        assert_eq!(json!(heard.upstream_ids), expect["upstream_ids"], "{name}");
        assert!(!heard.summary().is_empty() && !heard.summary().contains('\n'), "{name}");
        for kind in Kind::ALL {
            let seen = heard.observe(kind, FoundBy::Webhook);
            // What a line is silent about is a hint.
            let expected = expect["says"][kind.name()].as_str().unwrap_or("hint");
            assert_eq!(says(&seen), expected, "{name}, {kind:?}");
            assert!(!matches!(seen.says, Says::Failed { confirmed: true, .. }), "{name}: never believed");
            if let Some(learns) = expect["learns"].get(kind.name()) {
                assert_eq!(json!([seen.upstream_id, seen.upstream_video_id]), *learns, "{name}, {kind:?}");
            }
            let carried = carried(&seen);
            for part in ["output", "failure"] {
                if let Some(part_carried) = carried.get(part) {
                    assert_eq!(Some(part_carried), expect.get(part), "{name}, {kind:?}");
                }
            }
        }
    }
}

#[test]
fn every_answer_is_read_as_its_line_says() {
    for line in lines(RESPONSES) {
        let kind = line["kind"].as_str().and_then(Kind::parse).unwrap_or(Kind::Video);
        let bytes = body(&line);
        let read = match line["read"].as_str().expect("read") {
            "created" => wire::read_created(kind, &bytes).map(|created| {
                json!({ "upstream_id": created.upstream_id, "upstream_video_id": created.upstream_video_id })
            }),
            "status" => wire::read_status(kind, &bytes, FoundBy::Poll).map(|seen| status(&seen)),
            "error" => {
                let status = u16::try_from(line["status"].as_u64().expect("status")).expect("a status");
                let error = wire::read_error(status, &bytes);
                Ok(json!({ "code": error.code, "message": error.message, "param": error.param }))
            }
            "page" => {
                wire::read_page(&bytes).map(|page| json!({ "items": page.items.len(), "next": page.next }))
            }
            other => panic!("no such reader: {other}"),
        };
        let read = read.unwrap_or_else(|why| json!({ "err": why }));
        assert_eq!(without_nulls(read), without_nulls(line["expect"].clone()), "{}", line["name"]);
    }
}

fn status(seen: &Observation) -> Value {
    let mut read = carried(seen);
    read["says"] = json!(says(seen));
    read["upstream_id"] = json!(seen.upstream_id);
    read["upstream_video_id"] = json!(seen.upstream_video_id);
    if let Says::InProgress { progress } = seen.says {
        read["progress"] = json!(progress);
    }
    assert!(!matches!(seen.says, Says::Failed { confirmed: false, .. }), "upstream itself said so");
    read
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, field| !field.is_null());
    }
    value
}

#[test]
fn a_long_or_hostile_error_stays_short_and_whole() {
    let long = json!({ "error": { "code": "x", "message": "é".repeat(9_000), "param": "p\u{0}" } });
    let error = wire::read_error(400, &serde_json::to_vec(&long).expect("JSON"));
    assert_eq!(error.message.chars().count(), 500);
    assert_eq!(error.param, None);
    for body in ["", "   ", "<", "{", "null", "[]", "{}", "{\"error\":{}}", "{\"error\":\"\"}", "\u{0}"] {
        for status in [0, 200, 404, 429, 999, 65_535] {
            assert!(!wire::read_error(status, body.as_bytes()).message.is_empty(), "{body:?}");
        }
    }
    assert!(!wire::read_error(500, &[0xff, 0xfe, 0x00]).message.is_empty());
}

#[test]
fn ids_are_bounded_and_event_types_are_cut() {
    let event = "x".repeat(900);
    let heard =
        wire::hear_value(&json!({ "event_type": event, "video_id": "v1", "session_id": "s".repeat(256) }));
    let heard = heard.expect("it names a video");
    assert_eq!(heard.event_type.map(|name| name.chars().count()), Some(200));
    assert_eq!(heard.upstream_ids, ["v1"]);
    assert!(wire::hear(&json!({ "video_id": "v\u{0}1" }).to_string().into_bytes()).is_err());
}

#[test]
fn a_summary_is_one_plain_line() {
    let summary = |body: Value| wire::hear_value(&body).map(|heard| heard.summary()).unwrap_or_default();
    let done = json!({ "event_type": "avatar_video.success",
        "event_data": { "video_id": "v1", "url": "https://x/v1.mp4", "callback_id": "row-1" } });
    assert_eq!(
        summary(done),
        "avatar_video.success: avatar video v1 succeeded, with a file (callback id row-1)"
    );
    let failed = json!({ "event_type": "video_translate.fail",
        "event_data": { "video_translate_id": "t1", "message": "No speech\nfound" } });
    assert_eq!(summary(failed), "video_translate.fail: translation t1 failed: No speech found");
    let unknown = json!({ "event_type": "new\u{7}_thing", "callback_id": "row-1" });
    assert_eq!(summary(unknown), "new _thing: unknown event, no end (callback id row-1)");
}

// Mutations. The oracle below shares no code and no list with the reader.

const MUTATIONS: u64 = 4_000;

/// The states in which a webhook may find a job that was sent.
const SENT: [State; 3] = [State::Submitting, State::Unknown, State::Processing];

/// What a body does, and says, in whichever state it finds a job: the kinds it completes, those it gives an
/// id upstream to, and those it says failed.
#[derive(Default)]
struct Effect {
    completes: Vec<Kind>,
    names: Vec<Kind>,
    fails: Vec<Kind>,
}

fn effect(body: &[u8]) -> Effect {
    let mut effect = Effect::default();
    let Ok(heard) = wire::hear(body) else { return effect };
    for kind in Kind::ALL {
        let seen = heard.observe(kind, FoundBy::Webhook);
        let fails = matches!(seen.says, Says::Failed { .. });
        let after = SENT.map(|state| {
            let job = Job { kind, ..typical(state) };
            let change = step(&job, Input::Observed(seen.clone()), 60_000).expect("nobody asked");
            change.map_or(state, |change| change.job.state)
        });
        let [submitting, unknown, processing] = after;
        assert!(!after.contains(&State::Failed), "a webhook alone made a {kind:?} fail");
        assert_eq!(submitting == State::Completed, processing == State::Completed, "{kind:?}");
        assert_eq!(unknown == State::Completed, processing == State::Completed, "{kind:?}");
        for (is_so, kinds) in [
            (processing == State::Completed, &mut effect.completes),
            (submitting == State::Processing, &mut effect.names),
            (fails, &mut effect.fails),
        ] {
            if is_so {
                kinds.push(kind);
            }
        }
    }
    effect
}

fn completes(body: &[u8]) -> Vec<Kind> {
    effect(body).completes
}

/// Every name and value, at any depth, also inside strings that are JSON.
fn leaves(value: &Value, name: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| leaves(value, name, found)),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, name, found)),
        Value::String(text) if text.trim_start().starts_with('{') => {
            found.push((name.to_owned(), value.clone()));
            if let Ok(inner) = serde_json::from_str::<Value>(text) {
                leaves(&inner, name, found);
            }
        }
        leaf => found.push((name.to_owned(), leaf.clone())),
    }
}

/// What is found of each sort anywhere in a body.
struct Found(Vec<(String, String)>);

impl Found {
    fn of(body: &Value) -> Self {
        let mut found = vec![];
        leaves(body, "", &mut found);
        let text = |value: &Value| match value {
            Value::String(text) => text.trim().to_lowercase(),
            Value::Number(number) => number.to_string(),
            _ => String::new(),
        };
        Self(found.into_iter().map(|(name, value)| (name, text(&value))).collect())
    }

    fn has_reference(&self) -> bool {
        self.0.iter().any(|(name, value)| {
            let is_id = match name.as_str() {
                "callback_id" => value.starts_with("job_"),
                "id"
                | "video_id"
                | "videoId"
                | "video_uuid"
                | "video_translate_id"
                | "video_translation_id"
                | "session_id"
                | "render_id"
                | "task_id"
                | "entity_id"
                | "job_id"
                | "lipsync_id"
                | "proofread_id"
                | "voice_clone_id"
                | "background_removal_id"
                | "photo_avatar_id"
                | "avatar_id"
                | "generation_id"
                | "group_id" => true,
                _ => false,
            };
            is_id && !value.is_empty()
        })
    }

    fn has_link(&self) -> bool {
        let is_link = |value: &str| value.starts_with("http://") || value.starts_with("https://");
        self.0.iter().any(|(name, value)| name.ends_with("url") && is_link(value))
    }

    /// A word, alone or after what events of this kind begin with, that says one of `ends`.
    fn has_end(&self, kind: Kind, ends: &[&str]) -> bool {
        let own: &[&[&str]] = match kind {
            Kind::Video | Kind::Template => &[&["avatar", "video"]],
            Kind::VideoAgent => &[&["video", "agent"]],
            Kind::Translation | Kind::ProofreadVideo => &[&["video", "translate"], &["video", "translation"]],
            Kind::AiClipping => &[&["ai", "clipping"]],
            Kind::Avatar => &[&["photo", "avatar", "generation"], &["instant", "avatar"]],
            Kind::Proofread => &[&["proofread", "creation"]],
            // No event is theirs.
            Kind::Lipsync | Kind::BackgroundRemoval | Kind::VoiceClone => &[],
        };
        let is_named = matches!(
            kind,
            Kind::AiClipping | Kind::Avatar | Kind::Proofread | Kind::BackgroundRemoval | Kind::VoiceClone
        );
        self.0.iter().any(|(name, value)| {
            let words: Vec<_> = value.split(['.', '_', ' ', '-']).filter(|word| !word.is_empty()).collect();
            let Some((last, family)) = words.split_last() else { return false };
            let is_any = matches!(family, [] | ["video"] | ["video", "status"]) && !is_named;
            matches!(name.as_str(), "event_type" | "event" | "type" | "status" | "name")
                && ends.contains(last)
                && (is_any || own.contains(&family))
        })
    }
}

/// Whether a job of this kind may end well by this body at all: a reference, a word that ends this kind,
/// and a link, somewhere in it.
fn may_complete(body: &Value, kind: Kind) -> bool {
    const GOOD: &[&str] = &["success", "succeed", "succeeded", "complete", "completed", "done", "finished"];
    // No event shows what the others made.
    let shows_file =
        !matches!(kind, Kind::BackgroundRemoval | Kind::Avatar | Kind::VoiceClone | Kind::Proofread);
    let found = Found::of(body);
    shows_file && found.has_reference() && found.has_end(kind, GOOD) && found.has_link()
}

/// Whether it may be heard to say that such a job failed; which only makes HeyGen be asked.
fn may_fail(body: &Value, kind: Kind) -> bool {
    const BAD: &[&str] = &["fail", "failed", "failure", "error", "cancelled", "canceled", "deleted"];
    let found = Found::of(body);
    found.has_reference() && found.has_end(kind, BAD)
}

const NAMES: &[&[&str]] = &[
    &["event_type", "event", "type", "status"],
    &["event_data", "data", "payload"],
    &["video_id", "id", "videoId", "video_uuid", "video_translate_id", "video_translation_id", "session_id"],
    &["url", "video_url", "video_download_url", "download_url", "gif_url", "audio_url", "caption_url"],
    &["msg", "error", "message", "failure_message", "reason", "error_code", "code"],
    &["callback_id", "entity_id", "event_id", "task_id", "render_id"],
];

const WORDS: &[&str] = &[
    "avatar_video.success",
    "avatar_video.fail",
    "avatar_video_gif.success",
    "avatar_video_caption.success",
    "video_agent.success",
    "video_translate.success",
    "video_translate.preflight.download_failed",
    "personalized_video",
    "hyperframes_video.success",
    "batch.finished",
    "ai_clipping.success",
    "proofread_creation.success",
    "video.completed",
    "Video_Status.SUCCESS",
    "avatar_video.rendered",
    "completed",
    "failed",
    "processing",
];

fn mutate(value: &mut Value, dice: &mut StdRng) {
    for _ in 0..dice.random_range(1..=4) {
        let depth = dice.random_range(0..3);
        mutate_at(value, depth, dice);
    }
}

fn mutate_at(value: &mut Value, depth: u32, dice: &mut StdRng) {
    let Some(fields) = value.as_object_mut() else {
        *value = retyped(value, dice);
        return;
    };
    let names: Vec<String> = fields.keys().cloned().collect();
    let Some(name) = names.choose(dice).cloned() else {
        fields.insert("unknown".to_owned(), json!({ "a": [1, null] }));
        return;
    };
    if depth > 0
        && let Some(inner @ Value::Object(_)) = fields.get_mut(&name)
    {
        return mutate_at(inner, depth - 1, dice);
    }
    mutate_field(fields, &name, dice);
}

fn mutate_field(fields: &mut Map<String, Value>, name: &str, dice: &mut StdRng) {
    let old = fields.get(name).cloned().unwrap_or(Value::Null);
    match dice.random_range(0..9) {
        0 => drop(fields.remove(name)),
        1 => drop(fields.insert(name.to_owned(), Value::Null)),
        2 => drop(fields.insert(name.to_owned(), retyped(&old, dice))),
        3 => drop(fields.insert(name.to_owned(), json!({ "id": old, "url": old, "type": old }))),
        4 => drop(fields.insert(name.to_owned(), json!([old]))),
        5 => drop(fields.insert(name.to_owned(), json!(old.to_string()))),
        6 => drop(fields.insert(name.to_owned(), json!(WORDS.choose(dice)))),
        7 => {
            let group = NAMES.iter().find(|group| group.contains(&name)).or_else(|| NAMES.choose(dice));
            if let Some(new) = group.and_then(|group| group.choose(dice)) {
                fields.remove(name);
                fields.insert((*new).to_owned(), old);
            }
        }
        _ => {
            let new = NAMES.choose(dice).and_then(|group| group.choose(dice)).copied().unwrap_or("unknown");
            let added = [
                json!("https://x.example/a.mp4"),
                json!(WORDS.choose(dice)),
                json!(7),
                json!({}),
                json!("x"),
            ];
            fields.insert(new.to_owned(), added.choose(dice).cloned().unwrap_or_default());
        }
    }
}

fn retyped(old: &Value, dice: &mut StdRng) -> Value {
    let text = old.as_str().unwrap_or("7").to_owned();
    let forms = [
        json!(""),
        json!("  "),
        json!(0),
        json!(-3),
        json!(u64::MAX),
        json!(1e300),
        json!(true),
        json!([]),
        json!([old, old]),
        json!({}),
        json!(text.to_uppercase()),
        json!("ftp://x.example/a.mp4"),
        json!(format!(" {text}\n")),
        json!(text.chars().rev().collect::<String>()),
        json!(text.repeat(300)),
        json!(format!("{text}\u{0}")),
    ];
    forms.choose(dice).cloned().unwrap_or_default()
}

#[test]
fn no_mutation_ends_a_job_without_reference_meaning_and_file() {
    let bodies: Vec<Value> =
        lines(WEBHOOKS).into_iter().filter_map(|line| line.get("payload").cloned()).collect();
    let (mut ended, mut failed, mut kept) = (0, 0, 0);
    for seed in 0..MUTATIONS {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut body = bodies.choose(&mut dice).cloned().unwrap_or_default();
        mutate(&mut body, &mut dice);
        let bytes = body.to_string().into_bytes();
        let effect = std::panic::catch_unwind(|| effect(&bytes));
        let effect = effect.unwrap_or_else(|_| panic!("seed {seed} panics: {body}"));
        for kind in &effect.completes {
            assert!(may_complete(&body, *kind), "seed {seed} completes a {kind:?}: {body}");
        }
        for kind in &effect.fails {
            assert!(may_fail(&body, *kind), "seed {seed} says that a {kind:?} failed: {body}");
        }
        for kind in &effect.names {
            assert!(Found::of(&body).has_reference(), "seed {seed} names a {kind:?}: {body}");
        }
        failed += u64::from(!effect.fails.is_empty());
        if effect.completes.is_empty() { kept += 1 } else { ended += 1 }
    }
    // Else the test would pass with a reader that hears nothing, or mutations that break nothing.
    assert!(ended > MUTATIONS / 20 && kept > MUTATIONS / 5, "{ended} ended, {kept} kept");
    assert!(failed > MUTATIONS / 20, "{failed} said to have failed");
}

#[test]
fn a_good_share_of_whole_bodies_completes_a_job() {
    let all = lines(WEBHOOKS);
    let ending = all.iter().filter(|line| !completes(&body(line)).is_empty()).count();
    assert!(ending * 4 > all.len(), "{ending} of {}", all.len());
    let oracle = |line: &&Value| Kind::ALL.into_iter().any(|kind| may_complete(&line["payload"], kind));
    assert!(all.iter().filter(|line| !oracle(line)).count() * 4 > all.len(), "the oracle forbids something");
}

#[test]
fn damaged_bytes_are_refused_without_a_panic() {
    let bodies: Vec<Vec<u8>> = lines(WEBHOOKS).iter().map(body).collect();
    for seed in 0..MUTATIONS {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut bytes = bodies.choose(&mut dice).cloned().unwrap_or_default();
        for _ in 0..dice.random_range(1..=5) {
            let at = dice.random_range(0..=bytes.len());
            match dice.random_range(0..3) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, dice.random()),
                _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = dice.random()),
            }
        }
        let read = std::panic::catch_unwind(|| {
            completes(&bytes);
            let error = wire::read_error(500, &bytes);
            assert!(!error.message.is_empty() && error.message.chars().count() <= 500);
            for kind in Kind::ALL {
                let _ = (wire::read_created(kind, &bytes), wire::read_status(kind, &bytes, FoundBy::Poll));
            }
            let _ = wire::read_page(&bytes);
        });
        assert!(read.is_ok(), "seed {seed} panics: {:?}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    for (open, close) in [("[", "]"), ("{\"event_data\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        assert_eq!(wire::hear(deep.as_bytes()).map_err(|why| why.name()), Err("not_json"));
        let hidden = json!({ "event_type": "avatar_video.success", "video_id": "v1", "event_data": deep });
        let heard = wire::hear(hidden.to_string().as_bytes()).expect("it names a video");
        assert_eq!(heard.observe(Kind::Video, FoundBy::Webhook).says, Says::Hint);
    }
}
