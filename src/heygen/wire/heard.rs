//! A webhook body, or an entry of upstream's event log, read into what it claims.
//!
//! It decides which words are an end for which kind of job, and is strict there: without a known
//! event, a usable reference and a link to a file, a claim is a hint to ask. It never decides whom
//! to believe.

use std::borrow::Cow;

use serde_json::Value;

use super::family::{Ending, Family, Role, Standing, classify, standing};
use super::loose::{self, Fields, first};
use crate::domain::ids;
use crate::domain::job::{Failure, FoundBy, Kind, Observation, Output, Says};
use crate::domain::stranger::Stranger;

const MAX_EVENT_TYPE: usize = 200;

const EVENT_TYPE: &[&str] = &["event_type", "event", "type"];
const SESSION_ID: &[&str] = &["session_id"];
const TRANSLATION_ID: &[&str] = &["video_translation_id", "video_translate_id"];
const VIDEO_ID: &[&str] = &["video_id", "videoId", "video_uuid"];
/// Names of what was made, and never of what it was made from.
const OTHER_ID: &[&str] =
    &["render_id", "task_id", "lipsync_id", "background_removal_id", "voice_clone_id", "proofread_id"];

/// What a webhook body or event-log entry says, before we know whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// As sent, at most 200 characters; of a flat body its status.
    pub event_type: Option<String>,
    pub event_id: Option<String>,
    pub callback_id: Option<String>,
    /// What it may be called upstream, most specific first, no duplicates.
    pub upstream_ids: Vec<String>,
    family: Family,
    ending: Option<Ending>,
    named: Named,
    files: Output,
    audio_url: Option<String>,
    failure: Failure,
}

/// The references by what they name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Named {
    translation: Option<String>,
    session: Option<String>,
    video: Option<String>,
    /// A bare `id`: of whatever the event is about.
    own: Option<String>,
    /// The same under the one name that its family, and no other, has for it.
    of_family: Option<String>,
}

/// Why nothing can be done with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    NotUtf8,
    NotJson {
        why: String,
    },
    NotAnObject,
    /// No bytes, or an object without fields.
    Empty,
    /// Nothing in it says which job, or which thing upstream, it is about.
    NoReference {
        event_type: Option<String>,
    },
}

impl Unusable {
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::NotJson { .. } => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::Empty => "empty",
            Self::NoReference { .. } => "no_reference",
        }
    }

    /// As far as it could be read.
    pub fn event_type(&self) -> Option<&str> {
        match self {
            Self::NoReference { event_type } => event_type.as_deref(),
            _ => None,
        }
    }
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotUtf8 => f.write_str("The body is not UTF-8 text."),
            Self::NotJson { why } => write!(f, "The body is not JSON: {why}."),
            Self::NotAnObject => f.write_str("The body is JSON, but not an object."),
            Self::Empty => f.write_str("The body is empty."),
            Self::NoReference { event_type: Some(name) } => {
                write!(f, "The event {name} names neither a video, session or translation nor a callback id.")
            }
            Self::NoReference { event_type: None } => {
                f.write_str("The body names neither a video, session or translation nor a callback id.")
            }
        }
    }
}

impl std::error::Error for Unusable {}

/// Reads the body of a webhook. Never panics, whatever the bytes; JSON nested too deeply for the
/// parser is `NotJson`.
pub fn hear(body: &[u8]) -> Result<Heard, Unusable> {
    let text = std::str::from_utf8(body).map_err(|_| Unusable::NotUtf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Unusable::Empty);
    }
    let value: Value =
        serde_json::from_str(text).map_err(|error| Unusable::NotJson { why: error.to_string() })?;
    hear_value(&value)
}

/// Reads an entry of the event log, which has the same shape (docs/heygen.md, Event log).
pub fn hear_value(value: &Value) -> Result<Heard, Unusable> {
    let root = value.as_object().ok_or(Unusable::NotAnObject)?;
    if root.is_empty() {
        return Err(Unusable::Empty);
    }
    // The part is `event_data`, else `data`, else the root (docs/heygen.md, Bodies in circulation).
    let wrapped = ["event_data", "data"].iter().find_map(|name| root.get(*name).and_then(loose::object));
    let is_flat = wrapped.is_none();
    let part = wrapped.unwrap_or(Cow::Borrowed(root));

    let name = first(root, EVENT_TYPE, loose::name).or_else(|| first(&part, EVENT_TYPE, loose::name));
    let status = first(&part, &["status"], loose::name).or_else(|| first(root, &["status"], loose::name));
    let (family, ending) = meaning(name.as_deref(), status.as_deref());
    let event_type = name.or(status).map(|name| printable(&name)).filter(|name| !name.is_empty());

    let named = Named {
        translation: first(&part, TRANSLATION_ID, loose::id)
            .or_else(|| first(root, TRANSLATION_ID, loose::id)),
        session: first(&part, SESSION_ID, loose::id).or_else(|| first(root, SESSION_ID, loose::id)),
        video: first(&part, VIDEO_ID, loose::id).or_else(|| first(root, VIDEO_ID, loose::id)),
        // Beside a wrapper, `id` is the event's own.
        own: first(&part, &["id"], loose::id),
        of_family: match family.own_ids() {
            [name] => first(&part, &[name], loose::id),
            _ => None,
        },
    };
    let callback_id = first(&part, &["callback_id"], loose::id);
    let callback_id = callback_id.or_else(|| first(root, &["callback_id"], loose::id));
    let upstream_ids = references(&named, &part, root, family);
    if upstream_ids.is_empty() && callback_id.is_none() {
        return Err(Unusable::NoReference { event_type });
    }
    let event_id = first(root, &["event_id"], loose::id);
    let event_id = event_id.or_else(|| if is_flat { None } else { first(root, &["id"], loose::id) });
    Ok(Heard {
        event_type,
        event_id,
        callback_id,
        upstream_ids,
        family,
        ending,
        named,
        files: loose::files(&part),
        audio_url: first(&part, &["audio_url"], loose::link),
        failure: loose::failure(&part),
    })
}

/// Family and end. The event's name rules; a status only fills in for a name that says no end, and
/// one that contradicts the name takes its end away: then upstream is asked.
fn meaning(name: Option<&str>, status: Option<&str>) -> (Family, Option<Ending>) {
    let says = status.map_or(Standing::Other, standing);
    let (family, ending) = name.map_or((Family::Generic, None), classify);
    let ending = match (ending, says) {
        (None, Standing::Ended(by_status)) if family != Family::Unknown => Some(by_status),
        (Some(_), Standing::Running) => None,
        (Some(by_name), Standing::Ended(by_status)) if by_name != by_status => None,
        (ending, _) => ending,
    };
    (family, ending)
}

fn references(named: &Named, part: &Fields, root: &Fields, family: Family) -> Vec<String> {
    let mut found = vec![];
    let mut add = |id: Option<String>| {
        if let Some(id) = id
            && !found.contains(&id)
        {
            found.push(id);
        }
    };
    add(named.translation.clone());
    add(named.session.clone());
    add(named.video.clone());
    for name in OTHER_ID.iter().chain(family.own_ids()) {
        add(part.get(*name).and_then(loose::id));
    }
    // In a flat body with a better name beside it, `id` may be the event's: not worth a mistake.
    if found.is_empty() {
        found.extend(named.own.clone());
    }
    // What an entry of the event log is about, when it comes without data (docs/heygen.md, Event log).
    if found.is_empty() {
        found.extend(first(root, &["entity_id"], loose::id));
    }
    found
}

/// An event's name fit to be stored and shown.
fn printable(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    loose::cut(plain.trim(), MAX_EVENT_TYPE)
}

impl Heard {
    /// Our own job id, when the echoed callback id has its shape.
    pub fn job_id(&self) -> Option<&str> {
        self.callback_id.as_deref().filter(|id| ids::has_shape(ids::JOB, id))
    }

    /// What to adopt when no job of ours is meant: only what is surely about one kind. A video made
    /// of a template looks like any other, and so does a translation made of a proofread.
    pub fn stranger(&self) -> Option<Stranger> {
        let is_its = |kind: &Kind| {
            !matches!(kind, Kind::Template | Kind::ProofreadVideo) && self.family.role(*kind) == Role::Outcome
        };
        let mut kinds = Kind::ALL.into_iter().filter(is_its);
        let (kind, None) = (kinds.next()?, kinds.next()) else { return None };
        let (upstream_id, _) = self.references_for(kind);
        let callback_id = self.callback_id.clone();
        Some(Stranger { kind, upstream_id: upstream_id?, title: None, callback_id, created_at: None })
    }

    /// What it says of a job of this kind. Which event ends a job is bound to the kind; whatever
    /// is not surely meant for it, or is incomplete, is a hint.
    pub fn observe(&self, kind: Kind, found_by: FoundBy) -> Observation {
        let (upstream_id, upstream_video_id) = self.references_for(kind);
        Observation { found_by, upstream_id, upstream_video_id, says: self.says(kind) }
    }

    fn says(&self, kind: Kind) -> Says {
        let is_known = self.job_id().is_some() || !self.upstream_ids.is_empty();
        let role = if is_known { self.family.role(kind) } else { Role::Aside };
        match (role, self.ending) {
            (Role::Outcome, Some(Ending::Success)) => match self.output(kind) {
                output if output.has_file(kind) => Says::Completed(Box::new(output)),
                // Successes without a usable link were met (docs/heygen.md, Deliveries). What makes no
                // file has none to show for it, and what its events hold is not documented: asked for.
                _ => Says::Hint,
            },
            // A refund was had for a forged failure (docs/heygen.md, Field reports): upstream is asked first.
            (Role::Outcome, Some(Ending::Failure)) => {
                Says::Failed { failure: self.failure.clone(), confirmed: false }
            }
            (Role::Gif, Some(Ending::Success)) => self.gif(),
            (Role::Caption, Some(Ending::Success)) => self.captions(),
            _ => Says::Hint,
        }
    }

    fn output(&self, kind: Kind) -> Output {
        // Only translations are made as sound alone; elsewhere `audio_url` is an input.
        let audio_url = self.audio_url.clone().filter(|_| kind.is_translation());
        Output { audio_url, ..self.files.clone() }
    }

    /// In this event `url` is the GIF, or the video again (docs/heygen.md, Events): never the video.
    fn gif(&self) -> Says {
        match self.files.gif_url.as_ref().or(self.files.video_url.as_ref()) {
            Some(link) => Says::Extra(Box::new(Output { gif_url: Some(link.clone()), ..Output::default() })),
            None => Says::Hint,
        }
    }

    /// What `url` is in this event nobody documented, so it is left out.
    fn captions(&self) -> Says {
        let captions = Output {
            caption_url: self.files.caption_url.clone(),
            captioned_video_url: self.files.captioned_video_url.clone(),
            ..Output::default()
        };
        if captions == Output::default() { Says::Hint } else { Says::Extra(Box::new(captions)) }
    }

    /// The job's id upstream and, of an agent's session, its video's. Only what surely names them:
    /// polls will ask for it.
    fn references_for(&self, kind: Kind) -> (Option<String>, Option<String>) {
        let is_mine = self.family.role(kind) != Role::Aside;
        let own = self
            .named
            .own
            .clone()
            .filter(|_| is_mine && self.upstream_ids.first() == self.named.own.as_ref());
        let video = self.named.video.clone();
        match kind {
            Kind::Video | Kind::Template => (video.or(own), None),
            Kind::VideoAgent => (self.named.session.clone(), video),
            Kind::Translation | Kind::ProofreadVideo => (self.named.translation.clone().or(own), None),
            _ => (self.named.of_family.clone().filter(|_| is_mine).or(own), None),
        }
    }

    /// One line for people: what the body was taken to mean.
    pub fn summary(&self) -> String {
        let event = self.event_type.as_deref().unwrap_or("no event type");
        let id = self.upstream_ids.first().map(|id| format!(" {id}")).unwrap_or_default();
        let files = &self.files;
        let has_file = files.video_url.is_some()
            || self.audio_url.is_some()
            || !files.clips.is_empty()
            || !files.layers.is_empty();
        let ending = match self.ending {
            Some(Ending::Success) if has_file => " succeeded, with a file",
            Some(Ending::Success) => " succeeded, no file named",
            Some(Ending::Failure) => " failed",
            None => ", no end",
        };
        let why = match self.ending {
            Some(Ending::Failure) => format!(": {}", self.failure.message),
            _ => String::new(),
        };
        let callback = self.callback_id.as_ref().map(|id| format!(" (callback id {id})")).unwrap_or_default();
        format!("{event}: {}{id}{ending}{why}{callback}", self.family.words())
    }
}
