//! What a create body must have before anything else is looked at. Only the rules HeyGen
//! documents; unknown fields and values are let through.

use serde_json::{Map, Value};

use super::answer::Problem;
use super::jobs::JobKind;

const SCRIPT_CHARS: usize = 5_000;
const PROMPT_CHARS: usize = 10_000;
const SCENES: usize = 50;

type Fields = Map<String, Value>;

/// Which of the three create routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Videos,
    Agents,
    Translations,
}

impl Route {
    pub fn path(self) -> &'static str {
        match self {
            Route::Videos => "/v3/videos",
            Route::Agents => "/v3/video-agents",
            Route::Translations => "/v3/video-translations",
        }
    }
}

/// The kind of job a body asks for, or what is wrong with it.
pub fn kind_of(route: Route, body: &Value) -> Result<JobKind, Problem> {
    let Some(fields) = body.as_object() else {
        return Err(Problem::param("body", "The body must be a JSON object."));
    };
    let kind = match route {
        Route::Agents => {
            text(fields, "prompt", PROMPT_CHARS)?;
            JobKind::VideoAgent
        }
        Route::Translations => {
            object(fields, "video")?;
            languages(body)?;
            JobKind::Translation
        }
        Route::Videos => video_kind(fields)?,
    };
    callback(fields)?;
    Ok(kind)
}

fn video_kind(fields: &Fields) -> Result<JobKind, Problem> {
    match fields.get("type").and_then(Value::as_str) {
        Some("avatar") => {
            text(fields, "avatar_id", usize::MAX)?;
            speech(fields)?;
            Ok(JobKind::Avatar)
        }
        Some("image") => {
            object(fields, "image")?;
            speech(fields)?;
            Ok(JobKind::Image)
        }
        Some("cinematic_avatar") => {
            text(fields, "prompt", PROMPT_CHARS)?;
            items(fields, "avatar_id", 3)?;
            Ok(JobKind::CinematicAvatar)
        }
        Some("studio") => {
            items(fields, "scenes", SCENES)?;
            Ok(JobKind::Studio)
        }
        _ => Err(Problem::param("type", "type must be avatar, image, studio or cinematic_avatar.")),
    }
}

/// A source of speech: a script, or sound.
fn speech(fields: &Fields) -> Result<(), Problem> {
    let sound =
        ["audio_url", "audio_asset_id"].iter().any(|name| fields.get(*name).is_some_and(Value::is_string));
    if sound && !fields.contains_key("script") { Ok(()) } else { text(fields, "script", SCRIPT_CHARS) }
}

fn text(fields: &Fields, name: &str, most: usize) -> Result<(), Problem> {
    match fields.get(name).and_then(Value::as_str) {
        None | Some("") => Err(Problem::param(name, format!("{name} is required."))),
        Some(text) if text.chars().count() > most => {
            Err(Problem::param(name, format!("{name} may have at most {most} characters.")))
        }
        Some(_) => Ok(()),
    }
}

fn object(fields: &Fields, name: &str) -> Result<(), Problem> {
    let there = fields.get(name).is_some_and(Value::is_object);
    if there { Ok(()) } else { Err(Problem::param(name, format!("{name} is required."))) }
}

fn items(fields: &Fields, name: &str, most: usize) -> Result<(), Problem> {
    let count = fields.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    if (1..=most).contains(&count) {
        return Ok(());
    }
    Err(Problem::param(name, format!("{name} must be a list of 1 to {most}.")))
}

fn callback(fields: &Fields) -> Result<(), Problem> {
    match fields.get("callback_url") {
        None | Some(Value::Null) => Ok(()),
        Some(value) => {
            let url = value.as_str().and_then(|text| url::Url::parse(text).ok());
            let web = url.is_some_and(|url| matches!(url.scheme(), "https" | "http"));
            if web {
                Ok(())
            } else {
                Err(Problem::param("callback_url", "callback_url must be a web address."))
            }
        }
    }
}

/// The wanted languages of a translation, each a job of its own.
pub fn languages(body: &Value) -> Result<Vec<String>, Problem> {
    let wanted = body.get("output_languages").and_then(Value::as_array);
    let wanted = wanted.and_then(|list| list.iter().map(|l| l.as_str().map(str::to_owned)).collect());
    let wanted: Option<Vec<String>> = wanted;
    match wanted {
        Some(list) if !list.is_empty() => Ok(list),
        _ => Err(Problem::param("output_languages", "output_languages must be a list of language names.")),
    }
}
