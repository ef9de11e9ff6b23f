//! What upstream is documented to refuse in a create call, as a table per kind, and the one reader of
//! it. Unknown fields, and all that nobody documented, are let through; nothing here is our own wish.
//!
//! Our check before paying and the sandbox share this table: both are one reading of one document
//! (docs/heygen.md, Creating), and neither could prove the other right.

use serde_json::{Map, Value};
use url::Url;

use crate::domain::job::Kind;

use Rule::{Also, May, Needs, One, OneAtMost};
use Shape::{Any, Asset, Even, List, Media, Number, Object, OneOf, Switch, Text, Type, Web};

type Fields = Map<String, Value>;

/// What is asked of one object of a request.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// The field must be there; null is as good as absent.
    Needs(&'static str, Shape),
    /// If the field is there, it is like this.
    May(&'static str, Shape),
    /// Exactly one of these fields is there, and it is like this.
    One(&'static [(&'static str, Shape)]),
    /// The same, or none of them.
    OneAtMost(&'static [(&'static str, Shape)]),
    /// These, too.
    Also(&'static [Rule]),
}

/// What a field may be.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    Any,
    /// A text of so many characters at least and at most; one that must not be empty is not blank either.
    Text(usize, usize),
    /// An http or https address.
    Web,
    /// One of these words or numbers.
    OneOf(&'static [&'static str]),
    /// Bounds included.
    Number(f64, f64),
    /// Even and whole, bounds included.
    Even(i64, i64),
    Switch,
    /// A file, named in one of these ways: the words of its `type`.
    Asset(&'static [&'static str]),
    /// A list of files, with so many videos and so many images at most. What only an id names may be
    /// either, so it counts towards the sum alone.
    Media(usize, usize),
    /// A list of so many at least and at most.
    List(usize, usize, &'static Shape),
    Object(&'static [Rule]),
    /// A word that decides what else the object around it holds.
    Type(&'static [(&'static str, &'static [Rule])]),
}

const ANY_TEXT: Shape = Text(1, usize::MAX);
/// May be empty, too.
const TEXT: Shape = Text(0, usize::MAX);
/// The asset union of v3 (docs/heygen.md, Creating).
const FILE: Shape = Asset(&["url", "asset_id", "base64"]);
const LINK: Shape = Asset(&["url", "asset_id"]);
const MODE: Rule = May("mode", OneOf(&["speed", "precision"]));

/// What translations and lipsyncs have in common.
const DUBBED: &[Rule] = &[
    MODE,
    May("fps_mode", OneOf(&["vfr", "cfr", "passthrough"])),
    May("enable_caption", Switch),
    May("enable_dynamic_duration", Switch),
    May("disable_music_track", Switch),
    May("enable_speech_enhancement", Switch),
    May("enable_watermark", Switch),
];

const VIDEO: &[Rule] = &[Needs(
    "type",
    Type(&[
        ("avatar", AVATAR_VIDEO),
        ("image", IMAGE_VIDEO),
        ("studio", STUDIO),
        ("cinematic_avatar", CINEMATIC),
    ]),
)];

const SCRIPT: Shape = Text(1, 5_000);

/// What videos of an avatar, of an image and of scenes have in common.
const FRAME: &[Rule] = &[
    May("title", TEXT),
    May("aspect_ratio", OneOf(&["16:9", "9:16", "4:5", "5:4", "1:1", "auto"])),
    May("resolution", OneOf(&["4k", "1080p", "720p"])),
    May("caption", Object(&[May("file_format", OneOf(&["srt"])), May("style", TEXT)])),
    May("watermark", Object(&[Needs("image", FILE)])),
];

/// How an avatar or an image looks and sounds.
const STYLE: &[Rule] = &[
    May("voice_id", TEXT),
    May("fit", OneOf(&["contain", "cover"])),
    May("remove_background", Switch),
    May("motion_prompt", TEXT),
    May(
        "background",
        Object(&[Needs("type", OneOf(&["color", "image"])), May("url", Web), May("asset_id", ANY_TEXT)]),
    ),
    May("output_format", OneOf(&["mp4", "webm"])),
    May("expressiveness", OneOf(&["high", "medium", "low"])),
    May(
        "voice_settings",
        Object(&[
            May("speed", Number(0.5, 1.5)),
            May("pitch", Number(-50.0, 50.0)),
            May("volume", Number(0.0, 1.0)),
        ]),
    ),
];

const SOUND: &[(&str, Shape)] = &[("script", SCRIPT), ("audio_url", Web), ("audio_asset_id", ANY_TEXT)];

const SPOKEN: &[Rule] = &[One(SOUND), Also(FRAME), Also(STYLE)];

const ENGINE: Rule = May("engine", Object(&[Needs("type", Type(ENGINES))]));

const AVATAR_VIDEO: &[Rule] = &[Needs("avatar_id", ANY_TEXT), Also(SPOKEN), ENGINE];

const ENGINES: &[(&str, &[Rule])] =
    &[("avatar_iii", &[]), ("avatar_iv", &[]), ("avatar_v", &[May("reference_look_id", ANY_TEXT)])];

const IMAGE_VIDEO: &[Rule] = &[Needs("image", FILE), Also(SPOKEN)];

const STUDIO: &[Rule] = &[Needs("scenes", List(1, 50, &Object(&[Needs("type", Type(SCENES))]))), Also(FRAME)];

/// How `duration` and `narration` go together is not documented.
const SCENES: &[(&str, &[Rule])] = &[
    ("avatar_video", &[Needs("input", Object(INPUT))]),
    ("image", &[Needs("source", FILE)]),
    ("video", &[Needs("source", FILE), May("playback", Object(&[May("mute", Switch)]))]),
];

/// Whether one without a voice is taken is not documented, so none is asked for.
const INPUT: &[Rule] =
    &[One(&[("avatar_id", ANY_TEXT), ("image", FILE)]), OneAtMost(SOUND), Also(STYLE), ENGINE];

const CINEMATIC: &[Rule] = &[
    Needs("prompt", Text(1, 10_000)),
    Needs("avatar_id", List(1, 3, &ANY_TEXT)),
    May("references", Media(3, 9)),
    May("duration", Number(4.0, 15.0)),
    May("auto_duration", Switch),
    May("enhance_prompt", Switch),
    May("aspect_ratio", OneOf(&["16:9", "9:16", "1:1"])),
    May("resolution", OneOf(&["720p", "1080p"])),
];

const VIDEO_AGENT: &[Rule] = &[
    Needs("prompt", Text(1, 10_000)),
    May("mode", OneOf(&["generate", "chat"])),
    May("orientation", OneOf(&["landscape", "portrait"])),
    May("files", List(0, 20, &FILE)),
    May("incognito_mode", Switch),
];

const TEMPLATE: &[Rule] = &[
    Needs("variables", Object(&[])),
    May("caption", Switch),
    May("subtitles", Object(&[Needs("preset_name", ANY_TEXT)])),
    May("dimension", Object(&[Needs("width", Even(128, 4_096)), Needs("height", Even(128, 4_096))])),
    May("fps", OneOf(&["25", "30", "60"])),
    May("include_gif", Switch),
    May("enable_sharing", Switch),
];

const TRANSLATION: &[Rule] = &[
    Needs("video", LINK),
    Needs("output_languages", List(1, usize::MAX, &ANY_TEXT)),
    May("srt_role", OneOf(&["input", "output"])),
    May("translate_audio_only", Switch),
    Also(DUBBED),
];

const PROOFREAD: &[Rule] = &[
    Needs("video", LINK),
    Needs("output_languages", List(1, usize::MAX, &ANY_TEXT)),
    Needs("title", ANY_TEXT),
    MODE,
];

/// How `captions` is written is not documented, so it is let through.
const PROOFREAD_VIDEO: &[Rule] = &[May("translate_audio_only", Switch)];

const LIPSYNC: &[Rule] = &[Needs("video", LINK), Needs("audio", LINK), Also(DUBBED)];

const AI_CLIPPING: &[Rule] = &[
    Needs("video", FILE),
    May(
        "output_settings",
        Object(&[
            May("aspect_ratio", OneOf(&["landscape", "portrait", "square"])),
            May("duration_types", List(0, usize::MAX, &OneOf(&["30", "60", "180", "long"]))),
            May("prompt", Text(0, 500)),
        ]),
    ),
];

const BACKGROUND_REMOVAL: &[Rule] = &[
    Needs("video", FILE),
    May("layers", List(0, usize::MAX, &OneOf(&["foreground", "mask", "background"]))),
];

const AVATAR: &[Rule] =
    &[Needs("type", Type(&[("photo", SHOT), ("digital_twin", SHOT), ("prompt", PROMPTED)]))];

const SHOT: &[Rule] = &[Needs("name", ANY_TEXT), Needs("file", FILE)];

const PROMPTED: &[Rule] =
    &[Needs("name", ANY_TEXT), Needs("prompt", ANY_TEXT), May("reference_images", List(0, 3, &Any))];

const VOICE_CLONE: &[Rule] =
    &[Needs("voice_name", ANY_TEXT), Needs("audio", FILE), May("remove_background_noise", Switch)];

/// The table.
pub fn of(kind: Kind) -> &'static [Rule] {
    match kind {
        Kind::Video => VIDEO,
        Kind::VideoAgent => VIDEO_AGENT,
        Kind::Translation => TRANSLATION,
        Kind::Template => TEMPLATE,
        Kind::Lipsync => LIPSYNC,
        Kind::AiClipping => AI_CLIPPING,
        Kind::BackgroundRemoval => BACKGROUND_REMOVAL,
        Kind::Avatar => AVATAR,
        Kind::VoiceClone => VOICE_CLONE,
        Kind::Proofread => PROOFREAD,
        Kind::ProofreadVideo => PROOFREAD_VIDEO,
    }
}

/// A place in a request and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// A JSON Pointer into the request.
    pub pointer: String,
    pub message: String,
}

impl Mistake {
    pub fn at(name: &str, message: impl Into<String>) -> Self {
        Self { pointer: format!("/{name}"), message: message.into() }
    }
}

/// Everything in a request that upstream would refuse.
pub fn check(kind: Kind, request: &Fields) -> Vec<Mistake> {
    let mut found = vec![];
    look(of(kind), request, "", &mut found);
    found
}

/// What is wrong with one object, which stands at `place`.
fn look(rules: &[Rule], fields: &Fields, place: &str, found: &mut Vec<Mistake>) {
    let given = |name: &str| fields.get(name).filter(|value| !value.is_null());
    for rule in rules {
        let wrong = match rule {
            Also(more) => {
                look(more, fields, place, found);
                continue;
            }
            Needs(name, shape) | May(name, shape) => match given(name) {
                Some(value) => {
                    fit(shape, value, &format!("{place}/{name}"), found);
                    if let (Type(cases), Some(word)) = (shape, value.as_str()) {
                        let case = cases.iter().find(|(name, _)| *name == word);
                        case.into_iter().for_each(|(_, more)| look(more, fields, place, found));
                    }
                    continue;
                }
                None if matches!(rule, May(..)) => continue,
                None => (*name, format!("is required: {}", wanted(shape))),
            },
            One(members) | OneAtMost(members) => {
                let mut count = 0;
                for (name, shape) in *members {
                    let Some(value) = given(name) else { continue };
                    count += 1;
                    fit(shape, value, &format!("{place}/{name}"), found);
                }
                let least = usize::from(matches!(rule, One(_)));
                if (least..=1).contains(&count) {
                    continue;
                }
                (members[0].0, format!("{} {} is needed; {count} are given", one_of(rule), names(members)))
            }
        };
        found.push(Mistake { pointer: format!("{place}/{}", wrong.0), message: wrong.1 });
    }
}

/// What is wrong with one value, which stands at `place`.
fn fit(shape: &Shape, value: &Value, place: &str, found: &mut Vec<Mistake>) {
    let fits = match shape {
        Any => true,
        Text(least, most) => {
            let fits = |text: &str| {
                (*least..=*most).contains(&text.chars().count()) && (*least == 0 || !is_blank(text))
            };
            value.as_str().is_some_and(fits)
        }
        Web => value.as_str().is_some_and(|text| web(text).is_some()),
        OneOf(words) => word(value).is_some_and(|word| words.contains(&word.as_str())),
        Number(least, most) => value.as_f64().is_some_and(|n| (*least..=*most).contains(&n)),
        Even(least, most) => value.as_i64().is_some_and(|n| (*least..=*most).contains(&n) && n % 2 == 0),
        Switch => value.is_boolean(),
        Asset(ways) => value.as_object().is_some_and(|fields| names_a_file(ways, fields, place, found)),
        Media(videos, images) => match value.as_array() {
            Some(files) if files.len() <= videos + images => {
                each_fits(&FILE, files, place, found);
                count("video", files) <= *videos && count("image", files) <= *images
            }
            _ => false,
        },
        List(least, most, each) => match value.as_array() {
            Some(items) if (*least..=*most).contains(&items.len()) => {
                each_fits(each, items, place, found);
                true
            }
            _ => false,
        },
        Object(rules) => match value.as_object() {
            Some(fields) => {
                look(rules, fields, place, found);
                true
            }
            None => false,
        },
        Type(cases) => value.as_str().is_some_and(|word| cases.iter().any(|(name, _)| *name == word)),
    };
    if !fits {
        let size = match (shape, value) {
            (Text(..), Value::String(text)) if !text.is_empty() && is_blank(text) => "is blank; ".to_owned(),
            (Text(..), Value::String(text)) => format!("has {} characters; ", text.chars().count()),
            (Media(..), Value::Array(files)) => format!(
                "has {} videos and {} images among {} files; ",
                count("video", files),
                count("image", files),
                files.len()
            ),
            (List(..), Value::Array(items)) => format!("has {} items; ", items.len()),
            _ => String::new(),
        };
        let message = format!("{size}must be {}", wanted(shape));
        found.push(Mistake { pointer: place.to_owned(), message });
    }
}

/// A word, or a number as it is written.
fn word(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| value.as_number().map(ToString::to_string))
}

fn each_fits(each: &Shape, items: &[Value], place: &str, found: &mut Vec<Mistake>) {
    for (n, item) in items.iter().enumerate() {
        fit(each, item, &format!("{place}/{n}"), found);
    }
}

fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

/// An http or https address; such a one always names a host.
pub fn web(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// Whether one of the ways is taken, of which then what it holds is looked at. `type` may be left out
/// where one of the fields says what it is.
fn names_a_file(ways: &[&str], fields: &Fields, place: &str, found: &mut Vec<Mistake>) -> bool {
    let field = |way: &str| {
        let (name, shape) = match way {
            "base64" => ("data", ANY_TEXT),
            "url" => ("url", Web),
            _ => ("asset_id", ANY_TEXT),
        };
        fields.get(name).filter(|value| !value.is_null()).map(|value| (name, shape, value))
    };
    let taken = match fields.get("type").filter(|value| !value.is_null()) {
        Some(named) => ways.iter().find(|way| named.as_str() == Some(**way)).and_then(|way| field(way)),
        None => ways.iter().find_map(|way| field(way)),
    };
    if let Some((name, shape, value)) = taken {
        fit(&shape, value, &format!("{place}/{name}"), found);
    }
    taken.is_some()
}

/// How many files say that they are of this sort: by media type, or by how their address ends.
fn count(sort: &str, files: &[Value]) -> usize {
    let says = |file: &&Value| {
        let text = |name: &str| file.get(name).and_then(Value::as_str);
        if let Some(media_type) = text("media_type") {
            return media_type.split('/').next() == Some(sort);
        }
        let path = text("url").and_then(web).map(|url| url.path().to_ascii_lowercase());
        let ending = path.as_deref().and_then(|path| path.rsplit_once('.')).map(|(_, ending)| ending);
        match ending {
            Some("mp4" | "mov" | "webm") => sort == "video",
            Some("png" | "jpg" | "jpeg" | "webp") => sort == "image",
            _ => false,
        }
    };
    files.iter().filter(says).count()
}

/// The shape in words.
fn wanted(shape: &Shape) -> String {
    match shape {
        Any => "any value".to_owned(),
        Text(0, usize::MAX) => "a text".to_owned(),
        Text(_, usize::MAX) => "a text that is not blank".to_owned(),
        Text(0, most) => format!("a text of 0 to {most} characters"),
        Text(least, most) => format!("a text of {least} to {most} characters, not blank"),
        Web => "an http or https address".to_owned(),
        OneOf(words) => format!("one of {}", words.join(", ")),
        Number(least, most) => format!("a number from {least} to {most}"),
        Even(least, most) => format!("an even number from {least} to {most}"),
        Switch => "true or false".to_owned(),
        Asset(ways) => {
            let shown = ways.iter().map(|way| match *way {
                "base64" => r#"{"type": "base64", "media_type": …, "data": …}"#.to_owned(),
                way => format!(r#"{{"type": "{way}", "{way}": …}}"#),
            });
            format!("a file: {}", shown.collect::<Vec<_>>().join(" or "))
        }
        Media(videos, images) => {
            format!("a list of at most {videos} videos and {images} images, each {}", wanted(&FILE))
        }
        List(least, usize::MAX, each) => format!("a list of {least} or more, each {}", wanted(each)),
        List(least, most, each) => format!("a list of {least} to {most}, each {}", wanted(each)),
        Object(_) => "an object".to_owned(),
        Type(cases) => {
            let words: Vec<&str> = cases.iter().map(|(word, _)| *word).collect();
            format!("one of {}", words.join(", "))
        }
    }
}

fn one_of(rule: &Rule) -> &'static str {
    if matches!(rule, One(_)) { "exactly one of" } else { "at most one of" }
}

/// `a, b and c`.
fn names(members: &[(&str, Shape)]) -> String {
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// The rules as a list for people.
pub fn markdown(rules: &[Rule]) -> String {
    let mut page = String::new();
    lines(rules, "", &mut page);
    page
}

fn lines(rules: &[Rule], indent: &str, page: &mut String) {
    let deeper = format!("{indent}  ");
    for rule in rules {
        let (name, shape, needed) = match rule {
            Needs(name, shape) => (name, shape, ", required"),
            May(name, shape) => (name, shape, ""),
            One(members) | OneAtMost(members) => {
                page.push_str(&format!("{indent}- {} {}:\n", one_of(rule), names(members)));
                for (name, shape) in *members {
                    page.push_str(&format!("{deeper}- `{name}`: {}\n", wanted(shape)));
                }
                continue;
            }
            Also(more) => {
                lines(more, indent, page);
                continue;
            }
        };
        page.push_str(&format!("{indent}- `{name}`{needed}: {}\n", wanted(shape)));
        match shape {
            Object(rules) | List(_, _, Object(rules)) => lines(rules, &deeper, page),
            Type(cases) => {
                for (word, more) in cases.iter().filter(|(_, more)| !more.is_empty()) {
                    page.push_str(&format!("{deeper}- with `{word}`:\n"));
                    lines(more, &format!("{deeper}  "), page);
                }
            }
            _ => {}
        }
    }
}
