//! Answers in HeyGen's v3 envelopes: `{data}`, lists with `has_more` and `next_token`, errors.
//!
//! Never knows what a route means; it only shapes what it is given.

use std::collections::HashMap;

use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};

/// A refusal in the v3 envelope.
#[derive(Debug, Clone)]
pub struct Problem {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    pub param: Option<String>,
    pub retry_after_s: Option<u64>,
}

impl Problem {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after_s: None }
    }

    /// 400 for one named field.
    pub fn param(param: &str, message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::BAD_REQUEST, "invalid_parameter", message);
        Self { param: Some(param.to_owned()), ..problem }
    }

    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "The API key is missing or not valid.")
    }

    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "Something went wrong on our side.")
    }

    pub fn busy() -> Self {
        Self::new(StatusCode::CONFLICT, "request_in_progress", "The first call with this key still runs.")
    }

    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after_s: Some(seconds), ..self }
    }

    pub fn envelope(&self) -> Value {
        let page = self.code.replace('_', "-");
        let mut error = json!({
            "code": self.code,
            "message": self.message,
            "doc_url": format!("https://developers.heygen.com/docs/error-codes#{page}"),
        });
        if let Some(param) = &self.param {
            error["param"] = json!(param);
        }
        json!({ "error": error })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.envelope())).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

pub fn data(value: Value) -> Response {
    axum::Json(json!({ "data": value })).into_response()
}

pub fn json_answer(status: u16, value: &Value) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    (status, axum::Json(value)).into_response()
}

/// A page of an HTML gateway, as load balancers in front of an API give it.
pub fn gateway_page(status: StatusCode) -> Response {
    let page =
        format!("<html>\n<head><title>{status}</title></head>\n<body><h1>{status}</h1></body>\n</html>\n");
    (status, [(CONTENT_TYPE, "text/html")], page).into_response()
}

/// The body of a call, or the v3 envelope for one that is too long or broke off.
pub fn whole_body(read: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    read.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", "The body is too long.")
        }
        _ => Problem::param("body", "The body could not be read."),
    })
}

/// An answer that promises `whole` and breaks off after `sent` bytes, and the connection with it.
pub fn broken(status: StatusCode, content_type: &'static str, whole: &Bytes, sent: usize) -> Response {
    partial(status, content_type, whole, sent, false)
}

/// An answer that promises `whole` and falls silent after `sent` bytes.
pub fn stalled(status: StatusCode, content_type: &'static str, whole: &Bytes, sent: usize) -> Response {
    partial(status, content_type, whole, sent, true)
}

fn partial(
    status: StatusCode,
    content_type: &'static str,
    whole: &Bytes,
    sent: usize,
    silent: bool,
) -> Response {
    let part = whole.slice(..sent.min(whole.len()));
    let chunks = futures_util::stream::unfold(Some(part), move |step| async move {
        match step {
            Some(part) if !part.is_empty() => Some((Ok(part), Some(Bytes::new()))),
            _ if silent => std::future::pending().await,
            _ => {
                if sent > 0 {
                    // Gives the server a turn to flush what came before. Without it not even the
                    // head leaves, which is right for a connection that just breaks.
                    tokio::task::yield_now().await;
                }
                Some((Err(std::io::Error::other("broken on purpose")), None))
            }
        }
    });
    let mut response = Response::new(Body::from_stream(chunks));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response.headers_mut().insert(CONTENT_LENGTH, whole.len().into());
    response
}

/// The pairs of a query string; the last of a repeated name wins.
#[derive(Debug, Default)]
pub struct Query(HashMap<String, String>);

impl Query {
    pub fn parse(raw: Option<&str>) -> Self {
        Self(url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()).into_owned().collect())
    }

    /// A value that is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The items of a comma-separated value.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let items = self.get(name).into_iter().flat_map(|value| value.split(','));
        items.map(str::trim).filter(|item| !item.is_empty()).collect()
    }

    fn limit(&self, most: usize) -> Result<usize, Problem> {
        let Some(text) = self.get("limit") else { return Ok(10) };
        match text.parse() {
            Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
            _ => Err(Problem::param("limit", format!("limit must be a number from 1 to {most}."))),
        }
    }

    /// The number below which the wanted page begins.
    fn below(&self) -> Result<u64, Problem> {
        let Some(token) = self.get("token") else { return Ok(u64::MAX) };
        let number = URL_SAFE_NO_PAD.decode(token).ok().and_then(|b| String::from_utf8(b).ok()?.parse().ok());
        number.ok_or_else(|| Problem::param("token", "token is not one that a list returned."))
    }

    /// One page of items that come numbered, highest first. The number is the cursor, so what is
    /// added at the front meanwhile neither repeats nor hides an item.
    pub fn page(&self, most: usize, items: impl Iterator<Item = (u64, Value)>) -> Result<Response, Problem> {
        let (limit, below) = (self.limit(most)?, self.below()?);
        let mut page: Vec<(u64, Value)> = items.filter(|(n, _)| *n < below).take(limit + 1).collect();
        let has_more = page.len() > limit;
        page.truncate(limit);
        let last = page.last().map(|(n, _)| *n);
        let next = last.filter(|_| has_more).map(|n| URL_SAFE_NO_PAD.encode(n.to_string()));
        let items: Vec<Value> = page.into_iter().map(|(_, item)| item).collect();
        Ok(axum::Json(json!({ "data": items, "has_more": has_more, "next_token": next })).into_response())
    }
}

/// A time as HeyGen's webhook routes print it.
pub fn iso(at: crate::clock::Millis) -> String {
    jiff::Timestamp::from_second(at.div_euclid(1_000)).map(|t| t.to_string()).unwrap_or_default()
}
