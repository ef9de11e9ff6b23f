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
            && told.iter().map(|one| &*one.id).collect::<HashSet<_>>() == events.iter().copied().collect();
        let shown = |name: &str| job[name].as_str().and_then(parse_rfc3339);
        let times =
            [shown("created_at"), rendered.map(|(_, at)| at), shown("finished_at"), end.map(|one| one.at)];
        Self { name: role.name, state, found_by, charges, times, as_scripted }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;
    use crate::cli::demo::play::roles;
    use crate::domain::job::Kind;

    const EVENTS: [&str; 2] = ["evt_1", "evt_2"];

    fn told(id: &str, event_type: &str) -> Told {
        let (id, job_id, event_type) = (id.to_owned(), "job_1".to_owned(), event_type.to_owned());
        Told { id, job_id, event_type, at: 4_000, body: Bytes::new() }
    }

    fn ended(phase: Phase) -> What {
        let (id, callback_id) = ("v".to_owned(), Some("job_1".to_owned()));
        What::Ended { id, kind: Kind::Video, callback_id, phase, done_at: 2_000 }
    }

    fn charged() -> What {
        What::Charged {
            id: "v".into(),
            route: "/v3/videos".into(),
            key: None,
            callback_id: Some("job_1".into()),
            title: None,
            language: None,
            credits: 1.0,
            balance: 1.0,
        }
    }

    fn judge(job: &Value, ledger: &[What], told: &[Told]) -> Line {
        let entry = |(what, seq): (&What, u64)| Entry { seq, at: 0, what: what.clone() };
        let ledger: Vec<Entry> = ledger.iter().zip(1..).map(entry).collect();
        Line::judge(&roles()[0], job, &EVENTS, &ledger, told)
    }

    fn job(state: &str) -> Value {
        json!({
            "id": "job_1",
            "state": state,
            "found_by": "webhook",
            "created_at": "1970-01-01T00:00:01Z",
            "finished_at": "1970-01-01T00:00:03Z",
        })
    }

    #[test]
    fn a_job_is_as_scripted_when_all_three_say_the_same_and_every_event_was_taken() {
        let ledger = [charged(), ended(Phase::Completed)];
        let both = [told("evt_1", "job.queued"), told("evt_2", "job.completed")];
        let line = judge(&job("completed"), &ledger, &both);
        assert!(line.as_scripted);
        assert_eq!(line.times, [Some(1_000), Some(2_000), Some(3_000), Some(4_000)]);

        let wrong = |job: &Value, ledger: &[What], told: &[Told]| !judge(job, ledger, told).as_scripted;
        assert!(wrong(&job("failed"), &ledger, &both), "another state");
        let mut by_poll = job("completed");
        by_poll["found_by"] = json!("poll");
        assert!(wrong(&by_poll, &ledger, &both), "found otherwise");
        assert!(wrong(&job("completed"), &ledger[1..], &both), "not paid for");
        let twice = [charged(), charged(), ended(Phase::Completed)];
        assert!(wrong(&job("completed"), &twice, &both), "paid for twice");
        let failed = [charged(), ended(Phase::Failed)];
        assert!(wrong(&job("completed"), &failed, &both), "it ended otherwise at HeyGen");
        assert!(wrong(&job("completed"), &ledger[..1], &both), "it did not end at HeyGen");
        assert!(wrong(&job("completed"), &ledger, &both[1..]), "an event was not told");
        assert!(wrong(&job("completed"), &ledger, &both[..1]), "its end was not told");
        let strange = [told("evt_3", "job.queued"), told("evt_2", "job.completed")];
        assert!(wrong(&job("completed"), &ledger, &strange), "an event that was never published");
        let opposite = [told("evt_1", "job.queued"), told("evt_2", "job.failed")];
        assert!(wrong(&job("completed"), &ledger, &opposite), "the other end was told");
    }
}
