//! Every failure of a call upstream, sorted by what it proves and what helps.
//!
//! Sorting goes by HTTP status and upstream's code, never by words. Nothing here decides; it says.

use super::wire;
use crate::domain::job::Failure;
use crate::domain::retry::MAX_RETRY_AFTER;
use crate::domain::time::{Millis, SECOND, parse_rfc3339};
use crate::net::{self, Answer};

/// A longer request id of upstream's is none.
const MAX_REQUEST_ID: usize = 128;

/// Why upstream takes nothing from us at all; it concerns every job alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// The HeyGen key is wrong, revoked or missing.
    Key,
    /// The account has no credit or quota left.
    Credit,
    /// What answers at the upstream address is not HeyGen's API.
    Address,
}

impl Blocked {
    pub const ALL: [Self; 3] = [Self::Key, Self::Credit, Self::Address];

    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "heygen_key_refused",
            Self::Credit => "out_of_credit",
            Self::Address => "not_heygen",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The request never reached upstream.
    NotSent { why: String },
    /// It reached upstream, which did not take it now. `after` is upstream's own wish.
    Wait { after: Option<Millis>, why: String, said: Option<Failure> },
    /// It reached upstream, which takes nothing from us until a person acts.
    Blocked { by: Blocked, why: String, said: Option<Failure> },
    /// Upstream says no to this request for good, in its own words.
    Refused(Failure),
    /// There is no such thing upstream.
    NotFound(Failure),
    /// No telling what upstream did with it.
    Unknown { why: String, said: Option<Failure> },
}

impl Fault {
    /// For people and logs.
    pub fn why(&self) -> String {
        match self {
            Self::NotSent { why }
            | Self::Wait { why, .. }
            | Self::Blocked { why, .. }
            | Self::Unknown { why, .. } => why.clone(),
            Self::Refused(failure) | Self::NotFound(failure) => failure.message.clone(),
        }
    }

    /// Upstream's own words, if it answered.
    pub fn said(&self) -> Option<&Failure> {
        match self {
            Self::NotSent { .. } => None,
            Self::Wait { said, .. } | Self::Blocked { said, .. } | Self::Unknown { said, .. } => {
                said.as_ref()
            }
            Self::Refused(failure) | Self::NotFound(failure) => Some(failure),
        }
    }
}

impl From<net::Fault> for Fault {
    fn from(fault: net::Fault) -> Self {
        match fault {
            net::Fault::NotSent(why) => Self::NotSent { why },
            net::Fault::NoAnswer(why) => Self::Unknown { why, said: None },
        }
    }
}

/// What an answer that is not a success means (heygen-api.md 6.2).
pub fn sort(answer: &Answer, now: Millis) -> Fault {
    let status = answer.status;
    let failure = read_failure(answer);
    let code = failure.code.as_deref().unwrap_or_default().to_ascii_lowercase();
    let why = format!("HeyGen answered {}: {}", status.as_u16(), failure.message);
    let said = Some(failure.clone());
    match status.as_u16() {
        401 => Fault::Blocked { by: Blocked::Key, why, said },
        402 if code != "plan_upgrade_required" => Fault::Blocked { by: Blocked::Credit, why, said },
        429 if code == "quota_exceeded" => Fault::Blocked { by: Blocked::Credit, why, said },
        429 => Fault::Wait { after: retry_after(answer, now), why, said },
        // The first call with this key is still running: its outcome is what is unknown.
        409 if code == "request_in_progress" => Fault::Unknown { why, said },
        409 if matches!(code.as_str(), "resource_not_ready" | "asset_not_available") => {
            Fault::Wait { after: retry_after(answer, now), why, said }
        }
        // A v3 refusal has a code. Without one, something in between answered.
        404 | 405 if code.is_empty() => Fault::Blocked { by: Blocked::Address, why, said },
        404 => Fault::NotFound(failure),
        408 | 425 => Fault::Unknown { why, said },
        _ if status.is_redirection() => Fault::Blocked { by: Blocked::Address, why, said },
        _ if status.is_client_error() => Fault::Refused(failure),
        _ => Fault::Unknown { why, said },
    }
}

/// Upstream's words, with the field it complains about and its id of the request (heygen-api.md 1.2).
fn read_failure(answer: &Answer) -> Failure {
    let said = wire::read_error(answer.status.as_u16(), &answer.body);
    let message = match said.param {
        Some(param) => format!("{} ({param})", said.message),
        None => said.message,
    };
    let id = answer.headers.get("x-request-id").and_then(|v| v.to_str().ok()).map(str::trim);
    let usable =
        |id: &&str| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    Failure { code: said.code, message, request_id: id.filter(usable).map(str::to_owned) }
}

/// `Retry-After` in seconds or as an HTTP date, at most an hour, as a pause from now.
fn retry_after(answer: &Answer, now: Millis) -> Option<Millis> {
    let text = answer.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match text.parse::<Millis>() {
        Ok(seconds) => seconds.checked_mul(SECOND)?,
        Err(_) => http_date(text)?.saturating_sub(now),
    };
    Some(pause.clamp(SECOND, MAX_RETRY_AFTER))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, the only form HTTP still sends.
fn http_date(text: &str) -> Option<Millis> {
    let at = jiff::fmt::rfc2822::parse(&text.replace("GMT", "+0000")).ok()?;
    Some(at.timestamp().as_millisecond()).or_else(|| parse_rfc3339(text))
}

/// An HTTP 2xx without the id it should hold.
///
/// A success that carries an error with a code is that error (heygen-api.md 8), and proves what the
/// same code proves in its own status: one of their own troubles says nothing about a charge.
pub fn unreadable(answer: &Answer, why: &str) -> Fault {
    let failure = read_failure(answer);
    let why = match &failure.code {
        Some(_) => format!("HeyGen answered {}: {}", answer.status.as_u16(), failure.message),
        None => format!("HeyGen answered {} without what was asked: {why}", answer.status.as_u16()),
    };
    let code = failure.code.as_deref().unwrap_or_default().to_ascii_lowercase();
    // Without a code it said nothing: its message is our own words for that.
    let said = failure.code.is_some().then(|| failure.clone());
    match code.as_str() {
        "" | "internal_error" | "gateway_timeout" | "request_in_progress" => Fault::Unknown { why, said },
        "unauthorized" | "authentication_failed" => Fault::Blocked { by: Blocked::Key, why, said },
        "insufficient_credit" | "trial_limit_exceeded" | "quota_exceeded" => {
            Fault::Blocked { by: Blocked::Credit, why, said }
        }
        "rate_limit_exceeded" | "rate_limited" | "resource_not_ready" | "asset_not_available" => {
            Fault::Wait { after: None, why, said }
        }
        _ => Fault::Refused(failure),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: net::headers(headers.iter().copied()),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn coded(status: u16, code: &str) -> Fault {
        sort(&answer(status, &[], &format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#)), 0)
    }

    #[test]
    fn faults_are_sorted_by_what_they_prove() {
        assert!(matches!(coded(401, "unauthorized"), Fault::Blocked { by: Blocked::Key, .. }));
        assert!(matches!(coded(402, "insufficient_credit"), Fault::Blocked { by: Blocked::Credit, .. }));
        assert!(matches!(coded(402, "plan_upgrade_required"), Fault::Refused(_)));
        assert!(matches!(coded(429, "rate_limit_exceeded"), Fault::Wait { after: None, .. }));
        assert!(matches!(coded(429, "quota_exceeded"), Fault::Blocked { by: Blocked::Credit, .. }));
        assert!(matches!(coded(409, "request_in_progress"), Fault::Unknown { .. }));
        assert!(matches!(coded(409, "resource_not_ready"), Fault::Wait { .. }));
        assert!(matches!(coded(400, "invalid_parameter"), Fault::Refused(_)));
        let code = Some("avatar_not_found".to_owned());
        let failure = Failure { code, message: "m".into(), request_id: None };
        assert_eq!(coded(404, "avatar_not_found"), Fault::NotFound(failure));
        assert!(matches!(coded(500, "internal_error"), Fault::Unknown { .. }));
        for status in [502, 503, 504] {
            assert!(matches!(sort(&answer(status, &[], "<html>"), 0), Fault::Unknown { .. }));
        }
        assert!(matches!(sort(&answer(404, &[], "<html>"), 0), Fault::Blocked { by: Blocked::Address, .. }));
        assert!(matches!(sort(&answer(302, &[], ""), 0), Fault::Blocked { by: Blocked::Address, .. }));
    }

    #[test]
    fn upstreams_own_words_are_kept_with_its_request_id() {
        let body = r#"{"error":{"code":"unauthorized","message":"No.","param":"key"}}"#;
        let said = |id: &str| sort(&answer(401, &[("x-request-id", id)], body), 0).said().cloned();
        let with = |request_id: Option<&str>| Failure {
            code: Some("unauthorized".into()),
            message: "No. (key)".into(),
            request_id: request_id.map(str::to_owned),
        };
        assert_eq!(said("abc-1"), Some(with(Some("abc-1"))));
        assert_eq!(said(&"x".repeat(MAX_REQUEST_ID)), Some(with(Some(&"x".repeat(MAX_REQUEST_ID)))));
        for no in ["", "a b", &"x".repeat(MAX_REQUEST_ID + 1)] {
            assert_eq!(said(no), Some(with(None)), "{no}");
        }
        assert_eq!(Fault::NotSent { why: "w".into() }.said(), None);
        assert_eq!(unreadable(&answer(200, &[], "{}"), "no id").said(), None);
    }

    #[test]
    fn an_error_in_a_200_proves_what_its_code_proves() {
        let inside = |code: &str| {
            let body = format!(r#"{{"error":{{"code":"{code}","message":"m"}},"data":null}}"#);
            unreadable(&answer(200, &[], &body), "no id")
        };
        assert!(matches!(inside("internal_error"), Fault::Unknown { .. }));
        assert!(matches!(inside("rate_limit_exceeded"), Fault::Wait { .. }));
        assert!(matches!(inside("insufficient_credit"), Fault::Blocked { by: Blocked::Credit, .. }));
        assert!(matches!(inside("unauthorized"), Fault::Blocked { by: Blocked::Key, .. }));
        assert!(matches!(inside("invalid_parameter"), Fault::Refused(_)));
        assert!(matches!(unreadable(&answer(200, &[], "{}"), "no id"), Fault::Unknown { .. }));
    }

    #[test]
    fn retry_after_is_obeyed_within_bounds() {
        let after = |value: &str| retry_after(&answer(429, &[("retry-after", value)], ""), 784_111_777_000);
        assert_eq!(after("7"), Some(7_000));
        assert_eq!(after("0"), Some(1_000));
        assert_eq!(after("999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:47 GMT"), Some(10_000));
        assert_eq!(after("soon"), None);
    }
}
