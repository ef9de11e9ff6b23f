//! What a reader of a stream asks for: where in the log to begin, which events, in which form.

use http::{HeaderMap, header};

use super::super::endpoints::pattern;
use super::super::problem::{Kind, Problem, Result, field};
use super::super::query::Query;
use crate::domain::endpoint::{Filter, Format as EndpointFormat};
use crate::domain::job::Kind as JobKind;
use crate::domain::time::{Millis, parse_rfc3339, parse_span};

/// Of the name of a log: ours has eight.
const MAX_LOG_CHARS: usize = 16;

/// Where in the log a stream begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    Now,
    /// With the oldest that is kept.
    All,
    /// Behind the event of this number, of the log of this name where that is said.
    After(Option<String>, i64),
    /// With what was published then.
    Time(Millis),
}

/// How what is told is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `text/event-stream`.
    Sse,
    /// `application/x-ndjson`: one JSON document a line.
    Lines,
}

pub struct Asked {
    pub since: Since,
    /// The reader was here before and lost the connection.
    pub is_back: bool,
    pub filter: Filter,
    pub form: Form,
    /// To be told what is there, and no more.
    pub is_poll: bool,
}

/// `of_job`: the stream of one job, whose events need no choosing by kind and label.
pub fn read(raw: Option<&str>, headers: &HeaderMap, of_job: bool, now: Millis) -> Result<Asked> {
    let mut query = Query::parse(raw);
    let since = query.read("since", |text| since(text, now));
    let form = query.read("format", |text| match text {
        "sse" => Ok(Form::Sse),
        "ndjson" => Ok(Form::Lines),
        _ => Err("must be sse or ndjson".to_owned()),
    });
    let is_poll = query.switch("poll");
    let mut filter = Filter { events: EndpointFormat::Standard.usual_events(), ..Filter::default() };
    if !of_job {
        let events = query.read("events", |text| listed(text, pattern));
        filter.events = events.unwrap_or(filter.events);
        let kind = |text: &str| match JobKind::parse(text) {
            Some(_) => Ok(()),
            None => {
                Err(format!("`{text}` is no kind; kinds are {}", JobKind::ALL.map(JobKind::name).join(", ")))
            }
        };
        filter.kinds = query.read("kinds", |text| listed(text, kind)).unwrap_or_default();
        let labels = query.read("labels", |text| listed(text, |label| pair(label).map(|_| ())));
        let labels = labels.unwrap_or_default();
        filter.labels = labels.iter().filter_map(|label| pair(label).ok()).collect();
    }
    query.finish()?;
    let last = last_event_id(headers)?;
    let lines = |v: &http::HeaderValue| v.to_str().is_ok_and(|v| v.contains("application/x-ndjson"));
    let accepts_lines = headers.get_all(header::ACCEPT).iter().any(lines);
    Ok(Asked {
        // A browser that reconnects asks the same address again, and says in the header where it is.
        is_back: last.is_some(),
        since: last.or(since).unwrap_or(Since::Now),
        filter,
        form: form.unwrap_or(if accepts_lines { Form::Lines } else { Form::Sse }),
        is_poll,
    })
}

fn since(text: &str, now: Millis) -> std::result::Result<Since, String> {
    if text == "all" {
        return Ok(Since::All);
    }
    if let Some(after) = after(text) {
        return Ok(after);
    }
    let ago = || parse_span(text).map(|span| now.saturating_sub(span));
    let time = parse_rfc3339(text).or_else(ago).map(Since::Time);
    time.ok_or_else(|| {
        "must be the id or the number of an event, a span such as 10m, a time such as 2026-11-21T10:00:00Z, or all"
            .to_owned()
    })
}

/// `8c1f09ab.42`, or only the number.
fn after(text: &str) -> Option<Since> {
    let (log, number) = text.split_once('.').map_or((None, text), |(log, number)| (Some(log), number));
    let is_name = |log: &str| log.len() <= MAX_LOG_CHARS && log.bytes().all(|b| b.is_ascii_hexdigit());
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number = number.parse().ok().filter(|_| is_number && log.is_none_or(is_name))?;
    Some(Since::After(log.map(str::to_owned), number))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<Since>> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    match value.to_str().ok().map(str::trim) {
        Some("") => Ok(None),
        text => text.and_then(after).map(Some).ok_or_else(|| {
            let wrong = field("Last-Event-ID", "is not the `id` of an event of a stream");
            Problem::fields(Kind::InvalidParameter, vec![wrong])
        }),
    }
}

/// Texts with commas between them.
fn listed(
    text: &str,
    judge: impl Fn(&str) -> std::result::Result<(), String>,
) -> std::result::Result<Vec<String>, String> {
    text.split(',').map(str::trim).map(|one| judge(one).map(|()| one.to_owned())).collect()
}

fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err("must be NAME:VALUE, several with commas between them".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(raw: &str, headers: &[(&'static str, &'static str)]) -> Result<Asked> {
        let headers = headers.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
        });
        read(Some(raw), &headers.collect(), false, 1_000_000)
    }

    #[test]
    fn a_place_to_begin_is_a_number_a_time_a_span_or_all() {
        for (raw, since) in [
            ("", Since::Now),
            ("since=all", Since::All),
            ("since=0", Since::After(None, 0)),
            ("since=42", Since::After(None, 42)),
            ("since=8c1f09ab.42", Since::After(Some("8c1f09ab".to_owned()), 42)),
            ("since=10m", Since::Time(400_000)),
            ("since=1970-01-01T00:00:07Z", Since::Time(7_000)),
        ] {
            assert_eq!(ask(raw, &[]).unwrap().since, since, "{raw}");
        }
        for wrong in [
            "since=",
            "since=-1",
            "since=soon",
            "since=99999999999999999999",
            "since=8c1f09ab.",
            "since=log.1",
            "since=0123456789abcdef0.1",
            "format=xml",
            "poll=yes",
            "x=1",
        ] {
            assert!(ask(wrong, &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_header_of_a_reconnecting_browser_goes_before_the_address() {
        let back = ask("since=all", &[("last-event-id", "7")]).unwrap();
        assert_eq!((back.since, back.is_back), (Since::After(None, 7), true));
        assert!(ask("", &[("last-event-id", "seven")]).is_err());
        assert!(!ask("", &[("last-event-id", "")]).unwrap().is_back);
    }

    #[test]
    fn events_are_chosen_as_endpoints_choose_them() {
        let asked = ask("events=job.*,heygen.*&kinds=video&labels=team:sales,a:b:c", &[]).unwrap();
        assert_eq!(asked.filter.events, ["job.*", "heygen.*"]);
        assert_eq!(asked.filter.labels["a"], "b:c");
        assert_eq!(ask("", &[]).unwrap().filter.events, ["*"]);
        for wrong in ["events=job.done", "events=job.*,", "kinds=film", "labels=team", "labels=:x"] {
            assert!(ask(wrong, &[]).is_err(), "{wrong}");
        }
        assert_eq!(ask("", &[("accept", "application/x-ndjson")]).unwrap().form, Form::Lines);
        assert_eq!(ask("format=sse", &[("accept", "application/x-ndjson")]).unwrap().form, Form::Sse);
    }
}
