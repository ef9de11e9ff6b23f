//! Every failure of a call upstream, sorted by what it proves and what helps.
//!
//! Sorting goes by HTTP status and upstream's code, whose meaning is in `failure.rs`, never by words.
//! Nothing here decides; it says.

use super::failure::{self, Proves, sorted};
use super::wire;
use crate::domain::job::Failure;
use crate::domain::pause::Reason;
use crate::domain::retry::{MAX_RETRY_AFTER, parse_retry_after};
use crate::domain::time::{Millis, SECOND};
use crate::net::{self, Answer};

/// A longer request id of upstream's is none.
const MAX_REQUEST_ID: usize = 128;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The request never reached upstream.
    NotSent { why: String },
    /// It reached upstream, which did not take this one now. `after` is upstream's own wish.
    Wait { after: Option<Millis>, why: String, said: Option<Box<Failure>> },
    /// It reached upstream, which takes no more now, whatever it is.
    TooMany { after: Option<Millis>, why: String, said: Option<Box<Failure>> },
    /// It reached upstream, which takes nothing from us until a person acts.
    Blocked { by: Reason, why: String, said: Option<Box<Failure>> },
    /// Upstream says no to this request for good, in its own words; `always` when it would have said so of the
    /// same request at any time, and it is surely upstream that says it.
    Refused { failure: Failure, always: bool },
    /// There is no such thing upstream.
    NotFound(Failure),
    /// No telling what upstream did with it.
    Unknown { why: String, said: Option<Box<Failure>> },
}

impl Fault {
    /// For people and logs.
    pub fn why(&self) -> String {
        match self {
            Self::NotSent { why }
            | Self::Wait { why, .. }
            | Self::TooMany { why, .. }
            | Self::Blocked { why, .. }
            | Self::Unknown { why, .. } => why.clone(),
            Self::Refused { failure, .. } | Self::NotFound(failure) => failure.message.clone(),
        }
    }

    /// Upstream's own words, if it answered.
    pub fn said(&self) -> Option<&Failure> {
        match self {
            Self::NotSent { .. } => None,
            Self::Wait { said, .. }
            | Self::TooMany { said, .. }
            | Self::Blocked { said, .. }
            | Self::Unknown { said, .. } => said.as_deref(),
            Self::Refused { failure, .. } | Self::NotFound(failure) => Some(failure),
        }
    }

    /// One of ours, before anything is sent.
    pub fn blocked(by: Reason, why: &str) -> Self {
        Self::Blocked { by, why: why.to_owned(), said: None }
    }
}

impl From<net::Fault> for Fault {
    fn from(fault: net::Fault) -> Self {
        match fault {
            net::Fault::NotSent(why) | net::Fault::Forbidden(why) => Self::NotSent { why },
            net::Fault::NoAnswer(why) => Self::Unknown { why, said: None },
        }
    }
}

/// What an answer that is not a success means.
pub fn sort(answer: &Answer, now: Millis) -> Fault {
    let status = answer.status.as_u16();
    let failure = read_failure(answer);
    let why = said(status, &failure);
    let known = failure.code.as_deref().and_then(failure::proves);
    let proves = match status {
        // One of their own troubles says nothing about a charge, whatever its code.
        408 | 425 | 500.. => Proves::Nothing,
        // A v3 refusal has a code. Without one, something in between answered.
        300..=399 => Proves::Blocked(Reason::NotHeygen),
        404 | 405 if failure.code.is_none() => Proves::Blocked(Reason::NotHeygen),
        404 => return Fault::NotFound(failure),
        401 => Proves::Blocked(Reason::HeygenKeyRefused),
        402 => known.unwrap_or(Proves::Blocked(Reason::OutOfCredit)),
        429 => {
            known.filter(|p| !matches!(p, Proves::Refused | Proves::NotAllowed)).unwrap_or(Proves::TooMany)
        }
        403 | 409 => known.unwrap_or(Proves::NotAllowed),
        400..=499 => known.unwrap_or(Proves::Refused),
        _ => Proves::Nothing,
    };
    fault(proves, failure, why, retry_after(answer, now))
}

fn fault(proves: Proves, failure: Failure, why: String, after: Option<Millis>) -> Fault {
    let said = |failure| Some(Box::new(failure));
    match proves {
        Proves::Refused => {
            let always = failure.code.is_some();
            Fault::Refused { failure, always }
        }
        Proves::NotAllowed => Fault::Refused { failure, always: false },
        Proves::NotNow => Fault::Wait { after, why, said: said(failure) },
        Proves::TooMany => Fault::TooMany { after, why, said: said(failure) },
        Proves::Blocked(by) => Fault::Blocked { by, why, said: said(failure) },
        Proves::Nothing => Fault::Unknown { why, said: said(failure) },
    }
}

/// What upstream answered, in one sentence.
fn said(status: u16, failure: &Failure) -> String {
    match failure.message == wire::without_words(status, failure.code.as_deref()) {
        true => failure.message.clone(),
        false => format!("HeyGen answered {status}: {}", failure.message),
    }
}

/// Upstream's words, with the field it complains about and its id of the request (docs/heygen.md, Calls).
fn read_failure(answer: &Answer) -> Failure {
    let said = wire::read_error(answer.status.as_u16(), &answer.body);
    let message = match said.param {
        Some(param) => format!("{} ({param})", said.message),
        None => said.message,
    };
    let id = answer.headers.get("x-request-id").and_then(|v| v.to_str().ok()).map(str::trim);
    let usable =
        |id: &&str| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    Failure { request_id: id.filter(usable).map(str::to_owned), ..sorted(said.code, message) }
}

/// `Retry-After`, at most an hour, as a pause from now.
fn retry_after(answer: &Answer, now: Millis) -> Option<Millis> {
    let text = answer.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    parse_retry_after(text, now).map(|pause| pause.clamp(SECOND, MAX_RETRY_AFTER))
}

/// An HTTP 2xx without the id it should hold.
///
/// A success that carries an error with a code is that error (docs/heygen.md, Field reports), and
/// proves what the same code proves in its own status: one of their own troubles says nothing about
/// a charge.
pub fn unreadable(answer: &Answer, why: &str) -> Fault {
    let (status, failure) = (answer.status.as_u16(), read_failure(answer));
    let Some(code) = &failure.code else {
        // Without a code it said nothing: its message is our own words for that.
        let why = format!("HeyGen answered {status} without what was asked: {why}");
        return Fault::Unknown { why, said: None };
    };
    let why = said(status, &failure);
    let proves = failure::proves(code).unwrap_or(Proves::NotAllowed);
    fault(proves, failure, why, None)
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
        assert!(matches!(coded(401, "unauthorized"), Fault::Blocked { by: Reason::HeygenKeyRefused, .. }));
        assert!(matches!(coded(402, "insufficient_credit"), Fault::Blocked { by: Reason::OutOfCredit, .. }));
        assert!(matches!(coded(402, "plan_upgrade_required"), Fault::Refused { .. }));
        assert!(matches!(coded(429, "rate_limit_exceeded"), Fault::TooMany { after: None, .. }));
        assert!(matches!(coded(429, "splines"), Fault::TooMany { .. }));
        assert!(matches!(coded(429, "invalid_parameter"), Fault::TooMany { .. }));
        assert!(matches!(coded(429, "quota_exceeded"), Fault::Blocked { by: Reason::OutOfCredit, .. }));
        assert!(matches!(coded(409, "request_in_progress"), Fault::Unknown { .. }));
        assert!(matches!(coded(409, "resource_not_ready"), Fault::Wait { .. }));
        assert!(matches!(coded(400, "invalid_parameter"), Fault::Refused { .. }));
        let code = Some("avatar_not_found".to_owned());
        assert_eq!(coded(404, "avatar_not_found"), Fault::NotFound(sorted(code, "m")));
        assert!(matches!(coded(402, "splines"), Fault::Blocked { by: Reason::OutOfCredit, .. }));
        assert!(matches!(coded(403, "splines"), Fault::Refused { .. }));
        assert!(matches!(coded(500, "invalid_parameter"), Fault::Unknown { .. }));
        assert!(matches!(coded(400, "internal_error"), Fault::Unknown { .. }));
        assert!(matches!(coded(500, "internal_error"), Fault::Unknown { .. }));
        for status in [502, 503, 504] {
            assert!(matches!(sort(&answer(status, &[], "<html>"), 0), Fault::Unknown { .. }));
        }
        assert!(matches!(sort(&answer(404, &[], "<html>"), 0), Fault::Blocked { by: Reason::NotHeygen, .. }));
        assert!(matches!(sort(&answer(302, &[], ""), 0), Fault::Blocked { by: Reason::NotHeygen, .. }));
    }

    #[test]
    fn upstreams_own_words_are_kept_with_its_request_id() {
        let body = r#"{"error":{"code":"unauthorized","message":"No.","param":"key"}}"#;
        let said = |id: &str| sort(&answer(401, &[("x-request-id", id)], body), 0).said().cloned();
        let with = |request_id: Option<&str>| Failure {
            request_id: request_id.map(str::to_owned),
            ..sorted(Some("unauthorized".into()), "No. (key)")
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
        assert!(matches!(inside("rate_limit_exceeded"), Fault::TooMany { .. }));
        assert!(matches!(inside("resource_not_ready"), Fault::Wait { .. }));
        assert!(matches!(inside("insufficient_credit"), Fault::Blocked { by: Reason::OutOfCredit, .. }));
        assert!(matches!(inside("unauthorized"), Fault::Blocked { by: Reason::HeygenKeyRefused, .. }));
        assert!(matches!(inside("invalid_parameter"), Fault::Refused { always: true, .. }));
        for code in ["plan_upgrade_required", "forbidden", "conflict", "splines"] {
            assert!(matches!(inside(code), Fault::Refused { always: false, .. }), "{code}");
        }
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
