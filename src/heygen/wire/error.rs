//! An error answer of upstream, in any of its envelopes, read into code and words.
//!
//! It never decides what follows from an error, and never passes on a gateway's HTML page.

use serde_json::Value;

use super::loose::{self, Fields, first};

/// What upstream gave as the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamError {
    /// As sent. Upstream writes codes in both letter cases (docs/heygen.md, Errors).
    pub code: Option<String>,
    /// Never empty, at most 500 characters.
    pub message: String,
    /// The field it complains about.
    pub param: Option<String>,
}

/// v1's code for "all is well" (docs/heygen.md, Versions).
const V1_SUCCESS: &str = "100";

/// Reads an answer that is known to be an error.
pub fn read_error(status: u16, body: &[u8]) -> UpstreamError {
    let text = String::from_utf8_lossy(body);
    let mut found = match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(root)) => from_fields(&root),
        // A gateway's plain sentence is worth having; other JSON is not a sentence.
        Ok(_) => Found::default(),
        Err(_) => Found { message: plain(&text), ..Found::default() },
    };
    let message = found.message.take().unwrap_or_else(|| without_words(status, found.code.as_deref()));
    UpstreamError { code: found.code, message, param: found.param }
}

/// The error inside an answer that had HTTP status 200, if there is one.
pub fn error_inside(root: &Fields) -> Option<String> {
    let found = from_fields(root);
    let is_error = root.get("error").is_some_and(|error| !error.is_null()) || found.code.is_some();
    match (is_error, found.message, found.code) {
        (true, Some(message), Some(code)) => Some(format!("{message} ({code})")),
        (true, message, code) => message.or(code),
        (false, ..) => None,
    }
}

#[derive(Default)]
struct Found {
    code: Option<String>,
    message: Option<String>,
    param: Option<String>,
}

fn from_fields(root: &Fields) -> Found {
    let inner = root.get("error").and_then(Value::as_object);
    let code = loose::failure_code(root).filter(|code| code != V1_SUCCESS);
    let param = |fields: &Fields| first(fields, &["param"], loose::id);
    Found { code, message: loose::failure_text(root), param: inner.and_then(param).or_else(|| param(root)) }
}

fn plain(text: &str) -> Option<String> {
    // Neither broken JSON nor any markup is a sentence.
    if text.trim_start().starts_with(['{', '[', '<']) { None } else { loose::message(text) }
}

/// Our own words for an answer that has none.
pub fn without_words(status: u16, code: Option<&str>) -> String {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let status = match reason {
        Some(reason) => format!("HTTP {status} ({reason})"),
        None => format!("HTTP {status}"),
    };
    match code {
        Some(code) => format!("HeyGen answered {status} with the code {code} and no explanation."),
        None => format!("HeyGen answered {status} without an explanation."),
    }
}
