//! The troubles a job of the sandbox can be given, each with a word of its own.
//!
//! A fault is only a name and a stage here; what it does is written where that stage is carried
//! out (`create`, `jobs`, `deliver`, `media`). Never decides by itself: the dice are handed in.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::clock::Clock;

/// When in the life of a job a fault bites.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before anything is accepted: the attempt fails and nothing is charged.
    Before,
    /// After it was accepted and charged: only the answer suffers.
    Answer,
    /// How the job runs and ends.
    Run,
    /// What is told of it by webhook.
    Webhook,
    /// What its status route and its files do.
    Read,
}

macro_rules! faults {
    ($($name:ident $word:literal $stage:ident $about:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault { $(#[doc = $about] $name,)* }

        impl Fault {
            pub const ALL: &'static [Fault] = &[$(Fault::$name,)*];

            /// The word for it in `#word` tags, on the command line and in the ledger.
            pub fn word(self) -> &'static str {
                match self { $(Fault::$name => $word,)* }
            }

            /// One line for people.
            pub fn about(self) -> &'static str {
                match self { $(Fault::$name => $about,)* }
            }

            pub fn stage(self) -> Stage {
                match self { $(Fault::$name => Stage::$stage,)* }
            }
        }
    };
}

faults! {
    Error500 "error_500" Before "refused with 500 internal_error before anything is accepted";
    Error503 "error_503" Before "refused with an empty 503 before anything is accepted";
    Error502Html "error_502_html" Before "refused with a gateway's HTML page and 502 before anything is accepted";
    Error200 "error_200" Before "answers 200 with an error envelope; nothing is accepted";
    HangBefore "hang_before" Before "accepts nothing and never answers";
    ResetBefore "reset_before" Before "accepts nothing and breaks the connection";
    NoCredit "no_credit" Before "refused with 402 insufficient_credit";
    Refuse "refuse" Before "refused with 400 invalid_parameter";
    Rate "rate" Before "refused with 429 rate_limit_exceeded and Retry-After";
    RateBare "rate_bare" Before "refused with 429 rate_limit_exceeded and no Retry-After";

    Error504After "error_504_after" Answer "accepted and charged, then answered with 504 gateway_timeout";
    Hang "hang" Answer "accepted and charged, then never answers";
    ResetAfter "reset_after" Answer "accepted and charged, then the connection breaks with no usable answer";
    Truncated "truncated" Answer "accepted and charged, then half of the JSON answer and a broken connection";
    Stall "stall" Answer "accepted and charged, then half of the JSON answer and silence";
    Slow "slow" Answer "accepted and charged, and the answer takes 31 s";

    Fail "fail" Run "ends failed: rendering_failed";
    FailCredit "fail_credit" Run "ends failed for lack of credit, though it was accepted";
    Stuck "stuck" Run "never ends";

    Lost "lost" Webhook "no webhook is ever sent; the event log has the event";
    Late "late" Webhook "the webhooks come ten minutes late";
    Double "double" Webhook "each webhook is sent twice at once, and a third time after 30 s";
    Reorder "reorder" Webhook "caption and GIF events come first, the video's own 30 s late, behind other jobs'";
    Forged "forged" Webhook "while it renders, a forged delivery with a wrong signature claims that it failed";
    Unsigned "unsigned" Webhook "a registered endpoint gets no signature";
    NoLink "no_link" Webhook "the success event has no link; the status route has it";
    DeadLink "dead_link" Webhook "the link in the success event is dead on arrival; the status route gives a live one";
    WrongHeader "wrong_header" Webhook "the signature comes as x-heygen-signature";
    HeygenHeader "heygen_header" Webhook "the signature comes as Heygen-Signature, with Heygen-Timestamp and Heygen-Event-Id";
    Captions "captions" Webhook "a caption event about 12 s after the video's own";
    DialectFlat "dialect_flat" Webhook "the webhook's fields lie beside event_type, with no wrapper";
    DialectStatus "dialect_status" Webhook "the webhook has no event name: video_id, status and video_url only";
    DialectCompleted "dialect_completed" Webhook "the webhook's event is called video.completed or video.failed";
    DialectData "dialect_data" Webhook "the webhook says type and data, id and video_url";
    DialectEvent "dialect_event" Webhook "the webhook says event where event_type is usual";
    DialectEnvelope "dialect_envelope" Webhook "the webhook carries event_id and created_at as the event log does";
    DialectSkill "dialect_skill" Webhook "the webhook says video_url, thumbnail_url and duration, or error";
    DialectTop "dialect_top" Webhook "the webhook has callback_id beside event_data, not in it";
    DialectV3Fail "dialect_v3_fail" Webhook "the webhook of a failure says failure_code and failure_message";
    DialectLog "dialect_log" Webhook "the webhook is the v1 status answer, posted";
    DialectString "dialect_string" Webhook "the webhook's event_data is JSON in a string";
    DialectUnknown "dialect_unknown" Webhook "the webhook's event type is one that nobody listed";
    DialectEmpty "dialect_empty" Webhook "the webhook's body is an empty object";

    Get500 "get_500" Read "its first three status GETs fail with 500";
    FileCut "file_cut" Read "the first download of its file breaks off half way";
    FileSoon "file_soon" Read "its file answers 404 for the first seconds after it ended";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("no fault is called {0:?}")]
pub struct UnknownFault(pub String);

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(word: &str) -> Result<Self, UnknownFault> {
        let known = Fault::ALL.iter().find(|f| f.word() == word);
        known.copied().ok_or_else(|| UnknownFault(word.to_owned()))
    }
}

impl serde::Serialize for Fault {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.word())
    }
}

impl<'de> serde::Deserialize<'de> for Fault {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let word = String::deserialize(d)?;
        word.parse().map_err(serde::de::Error::custom)
    }
}

/// Where `#word` tags are looked for: what people write into a create body. Each kind has one of them.
const TAGGED: [&str; 5] = ["title", "name", "voice_name", "prompt", "script"];

/// The faults asked for by tags in any of these fields.
pub fn tagged(body: &Value) -> Vec<Fault> {
    let mut found = Vec::new();
    collect_tags(body, &mut found);
    found
}

fn collect_tags(value: &Value, found: &mut Vec<Fault>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_tags(item, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if TAGGED.contains(&name.as_str()) => {
                        found.extend(tags(text));
                    }
                    _ => collect_tags(field, found),
                }
            }
        }
        _ => {}
    }
}

/// Words after a `#`; what is not a fault is somebody's hashtag and means nothing here.
fn tags(text: &str) -> impl Iterator<Item = Fault> {
    text.split('#').skip(1).filter_map(|rest| {
        let word: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        word.parse().ok()
    })
}

/// Throws the dice once per fault, always in the same order, so that a seed repeats its schedule.
pub fn rolled(chances: &[(Fault, f64)], dice: &Clock) -> Vec<Fault> {
    let hit = |&&(_, chance): &&(Fault, f64)| dice.factor(0.0, 1.0) < chance;
    chances.iter().filter(hit).map(|&(fault, _)| fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_has_one_word_that_reads_back() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse::<Fault>().unwrap(), *fault);
        }
        let words: std::collections::BTreeSet<_> = Fault::ALL.iter().map(|f| f.word()).collect();
        assert_eq!(words.len(), Fault::ALL.len());
        assert!("teapot".parse::<Fault>().is_err());
    }

    #[test]
    fn tags_are_found_at_any_depth_and_only_in_what_people_write() {
        let body = serde_json::json!({
            "title": "Launch #fail, #late. #marketing",
            "callback_id": "#stuck",
            "voice_name": "Ann #lost",
            "scenes": [{"input": {"script": "Hello #double"}}],
        });
        let mut found = tagged(&body);
        found.sort();
        assert_eq!(found, [Fault::Fail, Fault::Lost, Fault::Late, Fault::Double]);
    }

    #[test]
    fn the_same_seed_rolls_the_same_faults() {
        let chances = [(Fault::Fail, 0.5), (Fault::Lost, 0.5)];
        let roll = |seed| {
            let dice = Clock::manual(0, seed);
            (0..20).map(|_| rolled(&chances, &dice)).collect::<Vec<_>>()
        };
        assert_eq!(roll(3), roll(3));
        assert_ne!(roll(3), roll(4));
    }
}
