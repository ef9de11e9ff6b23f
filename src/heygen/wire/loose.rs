//! Reading one field of a body that may be spelled, typed or wrapped in many ways.
//!
//! What is null, empty or unusable counts as absent, so that the next spelling is tried. Nothing
//! here knows what a field means, and nothing is cut short that is later compared.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use url::Url;

use crate::domain::job::{Clip, Failure, Output};
use crate::domain::time::{Millis, SECOND, parse_rfc3339};

pub type Fields = Map<String, Value>;

/// Longer ids are no ids: cut ones could match a stranger's.
const MAX_ID: usize = 255;
const MAX_LINK: usize = 8_192;
const MAX_CODE: usize = 100;
/// Layers or clips of one job that are kept.
const MAX_FILES: usize = 100;
pub const MAX_MESSAGE: usize = 500;

/// The spellings of one file link (docs/heygen.md, Bodies in circulation). A share page is not a file.
const VIDEO: &[&str] = &["video_url", "url", "video_download_url", "download_url"];
const CAPTIONED: &[&str] = &["captioned_video_url", "video_url_caption"];
const CAPTION: &[&str] = &["caption_url", "subtitle_url", "srt_caption_url", "vtt_caption_url"];
const GIF: &[&str] = &["gif_download_url", "gif_url"];
const DURATION: &[&str] = &["duration", "duration_seconds"];
const PAGE: &[&str] = &["video_page_url", "video_share_page_url", "share_url"];

const MESSAGE: &[&str] =
    &["failure_message", "msg", "error_message", "error", "message", "reason", "detail", "details"];
const CODE: &[&str] = &["failure_code", "error_code", "code"];

/// The first of `names` that holds something `read` can use.
pub fn first<T>(fields: &Fields, names: &[&str], read: impl Fn(&Value) -> Option<T>) -> Option<T> {
    names.iter().find_map(|name| fields.get(*name).and_then(&read))
}

/// An id: a short text without control characters, or a positive whole number. Larger numbers lost
/// digits when they were parsed and would name something else.
pub fn id(value: &Value) -> Option<String> {
    let text = match alone(value) {
        Value::Object(inner) => inner.get("id").and_then(scalar),
        other => scalar(other),
    }?;
    let usable = text.len() <= MAX_ID && !text.chars().any(char::is_control);
    usable.then_some(text)
}

/// A name as sent, for events and statuses.
pub fn name(value: &Value) -> Option<String> {
    match alone(value) {
        Value::Object(inner) => first(inner, &["type", "name"], scalar),
        other => scalar(other),
    }
}

/// A link to a file: http or https, with a host.
pub fn link(value: &Value) -> Option<String> {
    let text = match alone(value) {
        Value::String(text) => text.trim(),
        Value::Object(inner) => inner.get("url").and_then(Value::as_str)?.trim(),
        _ => return None,
    };
    // The parser would silently drop tabs and line ends; such a text is no link to anybody else.
    if text.len() > MAX_LINK || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let usable = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|h| !h.is_empty());
    usable.then(|| text.to_owned())
}

/// The fields of an object, also of one sent as JSON in a string or as the only item of a list. An
/// empty one counts as absent.
pub fn object(value: &Value) -> Option<Cow<'_, Fields>> {
    let fields = match alone(value) {
        Value::Object(fields) => Cow::Borrowed(fields),
        Value::String(text) if text.trim_start().starts_with('{') => match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Cow::Owned(fields),
            _ => return None,
        },
        _ => return None,
    };
    (!fields.is_empty()).then_some(fields)
}

/// When an item of a list was made: RFC 3339, without a zone meaning UTC, or a number of seconds.
pub fn created_at(item: &Value) -> Option<Millis> {
    match alone(item.get("created_at")?) {
        Value::String(text) => {
            let text = text.trim();
            parse_rfc3339(text).or_else(|| parse_rfc3339(&format!("{text}Z")))
        }
        // So many seconds would be the year 5138: it must be milliseconds.
        Value::Number(number) => match number.as_i64()? {
            ms if ms >= 100_000_000_000 => Some(ms),
            seconds => Some(seconds * SECOND),
        },
        _ => None,
    }
}

/// A finite number that is not negative.
pub fn number(value: &Value) -> Option<f64> {
    let number = match alone(value) {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().trim_end_matches('%').trim_end().parse().ok()?,
        _ => return None,
    };
    (number.is_finite() && number >= 0.0).then_some(number)
}

pub fn percent(value: &Value) -> Option<u8> {
    // Truncation is meant: 99.9 % is not done.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    number(value).map(|number| number.min(100.0) as u8)
}

/// Every link and figure about files, whatever they are worth to the reader. `audio_url` is also
/// the name of an input (docs/heygen.md, Creating), so it is left to those who know that it is a result.
/// Of layers and clips only those count that have a link.
pub fn files(fields: &Fields) -> Output {
    Output {
        video_url: first(fields, VIDEO, link),
        captioned_video_url: first(fields, CAPTIONED, link),
        audio_url: None,
        caption_url: first(fields, CAPTION, link),
        thumbnail_url: first(fields, &["thumbnail_url"], link),
        gif_url: first(fields, GIF, link),
        page_url: first(fields, PAGE, link),
        preview_audio_url: first(fields, &["preview_audio_url"], link),
        duration_s: first(fields, DURATION, number),
        layers: first(fields, &["layers"], layers).unwrap_or_default(),
        clips: first(fields, &["clips"], clips).unwrap_or_default(),
    }
}

fn layers(value: &Value) -> Option<BTreeMap<String, String>> {
    let named = object(value)?;
    let all = named.iter().filter_map(|(name, value)| Some((cut(name, MAX_CODE), link(value)?)));
    Some(all.take(MAX_FILES).collect())
}

fn clips(value: &Value) -> Option<Vec<Clip>> {
    let all = value.as_array()?.iter().filter_map(|item| {
        let clip = item.as_object()?;
        let short = |name| first(clip, &[name], scalar).and_then(|text| message(&text));
        Some(Clip {
            id: first(clip, &["id"], id),
            title: short("title"),
            aspect_ratio: short("aspect_ratio"),
            video_url: first(clip, VIDEO, link)?,
            thumbnail_url: first(clip, &["thumbnail_url"], link),
            duration_s: first(clip, DURATION, number),
            virality_score: first(clip, &["virality_score"], number),
        })
    });
    Some(all.take(MAX_FILES).collect())
}

/// Why something ended with this status without being finished; the message is never empty.
pub fn failure_after(status: &str, fields: &Fields) -> Failure {
    let failure = failure(fields);
    let silent = failure.code.is_none() && failure_text(fields).is_none();
    // `cancelled` and `deleted` say why by themselves (docs/heygen.md, Statuses).
    match message(status).filter(|_| silent && !status.eq_ignore_ascii_case("failed")) {
        Some(word) => Failure { message: format!("HeyGen reports it as {word}."), ..failure },
        None => failure,
    }
}

/// Why something failed; the message is never empty.
pub fn failure(fields: &Fields) -> Failure {
    let code = failure_code(fields);
    let message = failure_text(fields).unwrap_or_else(|| match &code {
        Some(code) => format!("HeyGen reported the failure {code}."),
        None => "HeyGen reported a failure without a reason.".to_owned(),
    });
    super::super::failure::sorted(code, message)
}

/// The same in upstream's own words, if it has any.
pub fn failure_text(fields: &Fields) -> Option<String> {
    first(fields, MESSAGE, words)
}

/// What a message of a conversation says. Neither its name nor its shape is documented.
pub fn spoken(message: &Fields) -> Option<String> {
    let part = |value: &Value| match value {
        Value::Object(inner) => inner.get("text").and_then(words),
        other => words(other),
    };
    first(message, &["content", "text", "message"], |value| match value {
        Value::Array(parts) => parts.iter().find_map(part),
        other => part(other),
    })
}

/// Upstream's code for a failure. An `error` that is a text is words, not a code.
pub fn failure_code(fields: &Fields) -> Option<String> {
    let inner = || fields.get("error").and_then(Value::as_object).and_then(|error| first(error, CODE, code));
    first(fields, &CODE[..2], code).or_else(inner).or_else(|| first(fields, &CODE[2..], code))
}

/// Words for people out of a text, or out of an object or a list that has some.
fn words(value: &Value) -> Option<String> {
    let value = value.as_array().map_or(Some(value), |list| list.first())?;
    let Value::Object(inner) = value else {
        return scalar(value).and_then(|text| message(&text));
    };
    let plain = |name: &str| inner.get(name).and_then(scalar).and_then(|text| message(&text));
    let short = plain("message").or_else(|| plain("msg"));
    let long = plain("detail").or_else(|| plain("details"));
    match (short, long) {
        // "Video is too long", then the same again with the limit (docs/heygen.md, Statuses).
        (Some(short), Some(long)) if long.starts_with(&short) => Some(long),
        (short, long) => short.or(long).or_else(|| plain("reason")),
    }
}

fn code(value: &Value) -> Option<String> {
    let word = |text: &String| text.len() <= MAX_CODE && text.chars().all(|c| c.is_ascii_graphic());
    scalar(value).filter(word)
}

/// `text` fit for people: one line, no markup, at most 500 characters. None if nothing is left.
pub fn message(text: &str) -> Option<String> {
    if is_markup(text) {
        return None;
    }
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    (!line.is_empty()).then(|| cut(&line, MAX_MESSAGE))
}

/// Whether it is a page rather than a sentence. A sentence may name a tag, as `<break>` in a script.
fn is_markup(text: &str) -> bool {
    const SIGNS: [&str; 14] = [
        "</", "<!", "<?", "<html", "<head", "<title", "<body", "<center", "<div", "<script", "<style",
        "<img", "<iframe", "<svg",
    ];
    let text = text.to_ascii_lowercase();
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// At most `most` characters of `text`.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept.push('…');
    kept
}

/// A list of one is the thing itself. Of several nobody can say which was meant.
fn alone(value: &Value) -> &Value {
    match value {
        Value::Array(list) if list.len() == 1 => &list[0],
        other => other,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim()).filter(|text| !text.is_empty()).map(str::to_owned),
        Value::Number(number) => number.as_u64().filter(|number| *number > 0).map(|n| n.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_however_it_is_written() {
        let at = |value: Value| created_at(&serde_json::json!({"created_at": value}));
        let read = Some(1_795_255_200_000);
        for text in ["2026-11-21T10:00:00Z", "2026-11-21T10:00:00", "2026-11-21T11:00:00+01:00"] {
            assert_eq!(at(text.into()), read, "{text}");
        }
        assert_eq!(at(1_795_255_200.into()), read);
        assert_eq!(at(1_795_255_200_000_i64.into()), read);
        for none in [Value::Null, "yesterday".into(), serde_json::json!({})] {
            assert_eq!(at(none), None);
        }
        assert_eq!(created_at(&Value::Null), None);
    }
}
