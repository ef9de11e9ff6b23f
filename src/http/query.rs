//! Parameters of a request's query, and pages of lists. An unknown or empty parameter is an error: a
//! filter with a typing mistake must not answer as if it were not there.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::{Value, json};

use super::problem::{FieldError, Kind, Problem, Result, field, unknown};
use crate::domain::ids;
use crate::domain::time::{Millis, parse_rfc3339};

/// Rows of a page.
const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 200;
/// Nothing that is searched for is longer.
const MAX_TEXT_CHARS: usize = 255;
pub const NO_CURSOR: &str = "is not the `next_cursor` of a page of this list";

pub struct Query {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Query {
    pub fn parse(raw: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(raw.unwrap_or("").as_bytes()).into_owned().collect();
        Self { pairs, known: vec![], errors: vec![] }
    }

    pub fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let mut values = self.pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone());
        let first = values.next();
        if values.next().is_some() {
            self.errors.push(field(name, "is given more than once"));
        }
        let first = first?;
        if !(1..=MAX_TEXT_CHARS).contains(&first.chars().count()) {
            self.errors.push(field(name, format!("must have 1 to {MAX_TEXT_CHARS} characters")));
            return None;
        }
        // What is no UTF-8 was read as this.
        if first.contains(char::REPLACEMENT_CHARACTER) {
            self.errors.push(field(name, "is not UTF-8"));
            return None;
        }
        Some(first)
    }

    /// A parameter read by `read`, which says what is wrong otherwise.
    pub fn read<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&str) -> std::result::Result<T, String>,
    ) -> Option<T> {
        let text = self.text(name)?;
        read(&text).map_err(|why| self.errors.push(field(name, why))).ok()
    }

    pub fn time(&mut self, name: &'static str) -> Option<Millis> {
        self.read(name, |t| {
            parse_rfc3339(t).ok_or_else(|| "is no RFC 3339 time such as 2026-11-21T10:00:00Z".to_owned())
        })
    }

    pub fn number(&mut self, name: &'static str, least: i64, most: i64) -> Option<i64> {
        self.read(name, |t| match t.parse::<i64>() {
            Ok(n) if (least..=most).contains(&n) => Ok(n),
            _ => Err(format!("must be a whole number from {least} to {most}")),
        })
    }

    pub fn switch(&mut self, name: &'static str) -> bool {
        let on = self.read(name, |t| match t {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err("must be true or false".to_owned()),
        });
        on.unwrap_or(false)
    }

    pub fn limit(&mut self) -> i64 {
        self.number("limit", 1, MAX_LIMIT).unwrap_or(DEFAULT_LIMIT)
    }

    /// Where a list of things with such ids goes on.
    pub fn cursor(&mut self, prefix: &str) -> Option<String> {
        self.read("cursor", |t| {
            if ids::has_shape(prefix, t) { Ok(t.to_owned()) } else { Err(NO_CURSOR.to_owned()) }
        })
    }

    /// The same for a list of numbered things; it begins behind 0.
    pub fn position(&mut self) -> i64 {
        let number = |t: &str| t.parse().ok().filter(|n| *n >= 0).ok_or_else(|| NO_CURSOR.to_owned());
        self.read("cursor", number).unwrap_or(0)
    }

    /// To be called when everything was read.
    pub fn finish(mut self) -> Result<()> {
        for (name, _) in &self.pairs {
            if !self.known.contains(&name.as_str()) {
                self.errors.push(field(name, unknown(&self.known)));
            }
        }
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(Problem::fields(Kind::InvalidParameter, self.errors))
    }
}

/// For the routes that take no parameter.
pub async fn none(request: Request, next: Next) -> Response {
    match Query::parse(request.uri().query()).finish() {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// A page of a list: at most `limit` of `rows`, of which one more was read to know whether there are more.
pub fn page<T>(
    path: &str,
    raw: Option<&str>,
    mut rows: Vec<T>,
    limit: i64,
    cursor_of: impl Fn(&T) -> String,
    show: impl Fn(&T) -> Value,
) -> Response {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = more.then(|| rows.last().map(&cursor_of)).flatten();
    let body = json!({
        "data": rows.iter().map(show).collect::<Vec<_>>(),
        "has_more": more,
        "next_cursor": next,
    });
    let mut response = axum::Json(body).into_response();
    if let Some(next) = next {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let kept = url::form_urlencoded::parse(raw.unwrap_or("").as_bytes());
        query.extend_pairs(kept.filter(|(name, _)| name != "cursor"));
        query.append_pair("cursor", &next);
        let link = format!("<{path}?{}>; rel=\"next\"", query.finish());
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.headers_mut().insert(header::LINK, link);
        }
    }
    response
}
