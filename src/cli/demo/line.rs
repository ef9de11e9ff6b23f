//! A job of the demo at its end: what it should have come to, against what the server says, the
//! sandbox wrote down and the application was told. Only compares; asks nobody.

use std::collections::HashSet;

use serde_json::Value;

use super::play::Role;
use super::receiver::Told;
use crate::clock::Millis;
use crate::domain::time::parse_rfc3339;
use crate::heygen::sandbox::{Entry, Phase, Tally, What};

pub struct Line {
    pub name: &'static str,
    pub state: String,
    pub found_by: String,
    pub charges: usize,
    /// When it was taken in; when HeyGen had made it; when reelhook knew; when the application did.
    pub times: [Option<Millis>; 4],
    pub as_scripted: bool,
}

impl Line {
    /// `events` are the ids of all that the server says it published of the job.
    pub fn judge(role: &Role, job: &Value, events: &[&str], ledger: &[Entry], told: &[Told]) -> Self {
        let text = |name: &str| job[name].as_str().unwrap_or("-").to_owned();
        let (id, state, found_by) = (text("id"), text("state"), text("found_by"));
        let charged = Tally::of(ledger).charges.into_iter();
        let charges = charged.filter(|(job, _)| job.split('/').next() == Some(&id)).map(|(_, n)| n).sum();
        let rendered = ledger.iter().find_map(|entry| match &entry.what {
            What::Ended { callback_id, phase, done_at, .. } if callback_id.as_deref() == Some(&id) => {
                Some((*phase, *done_at))
            }
            _ => None,
        });
        let end = told.iter().find(|one| one.event_type == format!("job.{state}"));
        let as_scripted = state == role.state
            && found_by == role.found_by
            && charges == 1
            && rendered.is_some_and(|(phase, _)| (phase == Phase::Completed) == (state == "completed"))
            && end.is_some()
            && told.len() == events.len()
            && told.iter().map(|one| &*one.id).collect::<HashSet<_>>() == events.iter().copied().collect();
        let shown = |name: &str| job[name].as_str().and_then(parse_rfc3339);
        let times =
            [shown("created_at"), rendered.map(|(_, at)| at), shown("finished_at"), end.map(|one| one.at)];
        Self { name: role.name, state, found_by, charges, times, as_scripted }
    }
}
