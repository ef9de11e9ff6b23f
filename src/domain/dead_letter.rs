//! Dead letters: tasks that were given up, grouped by what caused it. One table says what each cause
//! means and what to do about it. Submits are never among them: what was sent and is open finds out.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;

use super::task::TaskKind;
use super::time::{HOUR, Millis, rfc3339};

/// An event tells of a cause once in so long, however many are given up by it.
pub const TELL_EVERY: Millis = HOUR;
/// They are kept for so long, as are deliveries that ended.
pub const KEPT_FOR: Millis = 30 * super::time::DAY;

/// What went wrong, without the place where it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// A receiver answers so.
    Answers(u16),
    /// No connection to a receiver comes about.
    Unreachable,
    /// The address guard does not let its address pass.
    Forbidden,
    /// A receiver was called and gives no answer.
    NoAnswer,
    /// It was never tried: the endpoint was disabled when it came.
    EndpointDisabled,
    /// What was to be sent is not there any more.
    EventGone,
    /// A receipt cannot be applied, however often it is tried.
    NotApplied,
    /// Work this version knows nothing of.
    UnknownWork,
    /// Given up by another version.
    Other,
}

impl Trouble {
    /// Those without a number, by their names.
    const NAMED: [(Self, &'static str); 8] = [
        (Self::Unreachable, "unreachable"),
        (Self::Forbidden, "address_forbidden"),
        (Self::NoAnswer, "no_answer"),
        (Self::EndpointDisabled, "endpoint_disabled"),
        (Self::EventGone, "event_gone"),
        (Self::NotApplied, "not_applied"),
        (Self::UnknownWork, "unknown_work"),
        (Self::Other, "other"),
    ];

    /// For labels: without the number.
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(trouble, _)| *trouble == self).map_or("answers", |(_, name)| name)
    }

    fn parse(text: &str) -> Self {
        let status = text.strip_prefix("answers_").and_then(|status| status.parse().ok());
        let named = || Self::NAMED.iter().find(|(_, name)| *name == text).map(|(trouble, _)| *trouble);
        status.map(Self::Answers).or_else(named).unwrap_or(Self::Other)
    }

    fn fix(self) -> &'static str {
        match self {
            Self::Answers(300..=399) => {
                "It redirects, which is not followed: set the address it leads to with `reelhook endpoint update ID --to URL`, then replay."
            }
            Self::Answers(401 | 403) => {
                "The receiver does not accept the signature, or wants to know who calls: compare its signing secret with the endpoint's (`reelhook endpoint rotate ID` makes a new one), then replay."
            }
            Self::Answers(404 | 405) => {
                "Nothing takes a POST at that path: correct the receiver, or the address with `reelhook endpoint update ID --to URL`, then replay."
            }
            Self::Answers(410) => {
                "The receiver wants nothing more, and its endpoint is disabled: `reelhook endpoint enable ID` if it does after all, then replay; else drop them."
            }
            Self::Answers(413 | 415) => {
                "The receiver takes no body of this size or type: raise its limit, then replay."
            }
            Self::Answers(429) => "The receiver takes fewer at a time: replay with a lower --rate.",
            Self::Answers(400..=499) => {
                "The receiver refuses the event: `reelhook dead-letter show ID` has the beginning of its answer. Repair it, then replay."
            }
            Self::Answers(_) => "The receiver fails: its own log says why. Repair it, then replay.",
            Self::Unreachable => {
                "No connection: the name does not resolve, nobody listens there, or TLS fails. `reelhook dead-letter show ID` has which. Then replay."
            }
            Self::Forbidden => {
                "The address guard calls no address of a private or special network. If the receiver is meant to be there, start the server with its network in --allow-private, then replay; else correct the address with `reelhook endpoint update ID --to URL`."
            }
            Self::NoAnswer => {
                "The receiver takes longer than 15 seconds or breaks off: have it answer first and work afterwards, then replay."
            }
            Self::EndpointDisabled => {
                "Nothing is sent to a disabled endpoint, and what it misses is kept here: repair the receiver, `reelhook endpoint enable ID`, then replay; or drop them."
            }
            Self::EventGone => "It cannot be sent any more: drop it.",
            Self::NotApplied => {
                "The fault is reelhook's, or its database's: the log says more. Replay with a newer version; the receipt itself is kept."
            }
            Self::UnknownWork => "A newer version left it: start that version and replay, or drop it.",
            Self::Other => "`reelhook dead-letter show ID` has the reason.",
        }
    }
}

/// What many dead letters have in common: `answers_401:app.example`. Stable: people filter by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    pub trouble: Trouble,
    /// The receiver's host, with its port where that is not the usual one.
    pub place: Option<String>,
}

impl Cause {
    pub fn new(trouble: Trouble) -> Self {
        Self { trouble, place: None }
    }

    /// At the receiver that has this address.
    pub fn at(trouble: Trouble, url: &str) -> Self {
        let origin = Url::parse(url).ok().map(|url| url.origin().ascii_serialization());
        let place = origin.and_then(|o| o.split_once("://").map(|(_, host)| host.to_owned()));
        Self { trouble, place: place.filter(|_| trouble != Trouble::EventGone) }
    }

    pub fn parse(text: &str) -> Self {
        let (trouble, place) = text.split_once(':').map_or((text, None), |(t, p)| (t, Some(p)));
        Self { trouble: Trouble::parse(trouble), place: place.map(str::to_owned) }
    }

    pub fn text(&self) -> String {
        let name = match self.trouble {
            Trouble::Answers(status) => format!("answers_{status}"),
            other => other.name().to_owned(),
        };
        self.place.as_ref().map_or(name.clone(), |place| format!("{name}:{place}"))
    }

    /// In words.
    pub fn title(&self) -> String {
        let place = self.place.as_deref().unwrap_or("a receiver");
        match self.trouble {
            Trouble::Answers(status) => format!("{place} answers {status}"),
            Trouble::Unreachable => format!("{place} cannot be reached"),
            Trouble::Forbidden => format!("the address guard forbids {place}"),
            Trouble::NoAnswer => format!("{place} gives no answer"),
            Trouble::EndpointDisabled => format!("the endpoint at {place} was disabled"),
            Trouble::EventGone => "the event is kept no longer".to_owned(),
            Trouble::NotApplied => "a receipt cannot be applied".to_owned(),
            Trouble::UnknownWork => "this version knows no such work".to_owned(),
            Trouble::Other => "given up by another version".to_owned(),
        }
    }

    pub fn fix(&self) -> &'static str {
        self.trouble.fix()
    }
}

/// A task that was given up, and what it was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Of what it was about: a delivery, a receipt, a duty.
    pub id: String,
    pub task: TaskKind,
    pub cause: Cause,
    /// Why the last attempt failed, or why there was none.
    pub reason: String,
    /// How the answer to the last attempt began, if there was one.
    pub answer: Option<String>,
    pub dead_at: Millis,
    /// Attempts it had.
    pub attempt: i64,
    pub event_type: Option<String>,
    pub job_id: Option<String>,
    pub endpoint_id: Option<String>,
}

impl DeadLetter {
    pub fn json(&self) -> Value {
        let place = match self.task {
            TaskKind::Deliver => Some("deliveries"),
            TaskKind::Apply => Some("receipts"),
            _ => None,
        };
        json!({
            "id": self.id,
            "task": self.task.name(),
            "cause": self.cause.text(),
            "title": self.cause.title(),
            "fix": self.cause.fix(),
            "reason": self.reason,
            "answer": self.answer,
            "dead_at": rfc3339(self.dead_at),
            "attempts_made": self.attempt,
            "event_type": self.event_type,
            "job_id": self.job_id,
            "endpoint_id": self.endpoint_id,
            "about_url": place.map(|place| format!("/api/{place}/{}", self.id)),
        })
    }
}

/// All dead letters of one cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Causing {
    pub cause: Cause,
    pub count: i64,
    pub first_at: Millis,
    pub last_at: Millis,
    /// One of them.
    pub sample_id: String,
}

impl Causing {
    /// Also what `dead_letter.added` tells.
    pub fn json(&self) -> Value {
        json!({
            "cause": self.cause.text(),
            "title": self.cause.title(),
            "fix": self.cause.fix(),
            "count": self.count,
            "first_seen_at": rfc3339(self.first_at),
            "last_seen_at": rfc3339(self.last_at),
            "sample_id": self.sample_id,
        })
    }
}

/// Which dead letters are meant; what is absent does not narrow them down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// The name of a kind of task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Given up at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Millis>,
    /// Given up before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Millis>,
}

impl Filter {
    pub fn json(&self) -> Value {
        json!({
            "ids": self.ids,
            "task": self.task,
            "cause": self.cause,
            "endpoint_id": self.endpoint_id,
            "job_id": self.job_id,
            "since": self.since.map(rfc3339),
            "until": self.until.map(rfc3339),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_read_as_it_is_written() {
        for (trouble, url, text, title) in [
            (
                Trouble::Answers(401),
                "https://app.example/hook?secret",
                "answers_401:app.example",
                "app.example answers 401",
            ),
            (
                Trouble::Unreachable,
                "http://127.0.0.1:9/",
                "unreachable:127.0.0.1:9",
                "127.0.0.1:9 cannot be reached",
            ),
            (
                Trouble::Forbidden,
                "http://10.0.0.1/",
                "address_forbidden:10.0.0.1",
                "the address guard forbids 10.0.0.1",
            ),
            (
                Trouble::NoAnswer,
                "https://[2001:db8::1]:8443/",
                "no_answer:[2001:db8::1]:8443",
                "[2001:db8::1]:8443 gives no answer",
            ),
            (
                Trouble::EndpointDisabled,
                "https://app.example/hook",
                "endpoint_disabled:app.example",
                "the endpoint at app.example was disabled",
            ),
            (Trouble::EventGone, "https://app.example/", "event_gone", "the event is kept no longer"),
            (Trouble::Answers(500), "", "answers_500", "a receiver answers 500"),
        ] {
            let cause = Cause::at(trouble, url);
            assert_eq!((cause.text(), cause.title()), (text.to_owned(), title.to_owned()));
            assert_eq!(Cause::parse(text), cause);
        }
        for (trouble, name) in Trouble::NAMED {
            assert_eq!((Cause::parse(name), trouble.name()), (Cause::new(trouble), name));
        }
        assert_eq!(Cause::parse("of_a_later_version:x").trouble, Trouble::Other);
        assert_eq!(Cause::parse("answers_99999").trouble, Trouble::Other);
    }

    #[test]
    fn every_cause_says_what_to_do() {
        let answers = (100..=599).map(Trouble::Answers);
        for trouble in answers.chain(Trouble::NAMED.map(|(trouble, _)| trouble)) {
            assert!(trouble.fix().ends_with('.') && trouble.fix().len() > 20, "{trouble:?}");
        }
        let fix = |status| Trouble::Answers(status).fix();
        assert!(
            fix(401).contains("signing secret") && fix(429).contains("--rate") && fix(410).contains("enable")
        );
        assert_ne!(fix(400), fix(500));
        assert_eq!((Trouble::Answers(401).name(), Trouble::Answers(500).name()), ("answers", "answers"));
    }
}
