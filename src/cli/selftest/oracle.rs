//! The comparison: what the server says at the end, against what callers were told and the sandbox wrote
//! down. Asking is one thing, judging another, which is pure; neither changes anything.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::client::{Client, Refused};
use crate::clock::{Clock, Millis};
use crate::domain::job_json::has_ended;
use crate::domain::time::SECOND;
use crate::heygen::sandbox::{Entry, Fault, Tally, What};

/// Questions under way at once.
const AT_ONCE: usize = 16;
/// The longest `?wait=` the server grants.
const LONGEST_WAIT_S: i64 = 60;

/// What the server says of a job at the end.
#[derive(Debug, Clone)]
pub struct Said {
    pub id: String,
    /// None: it knows no such job.
    pub state: Option<String>,
    /// How many ends of it were published.
    pub ends: usize,
}

/// Whatever is in one of the lists is a broken promise: ids of jobs, and of events for receipts.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Acknowledged to a caller, and not known to the server or never sent to HeyGen.
    pub lost_jobs: Vec<String>,
    /// Not ended as a job ends.
    pub stuck: Vec<String>,
    /// Paid for, and no caller was told of it.
    pub double_jobs: Vec<String>,
    /// Once for each charge too many.
    pub paid_twice: Vec<String>,
    /// Answered 2xx, and not in the store.
    pub lost_receipts: Vec<String>,
    /// Ended otherwise than at HeyGen.
    pub wrong_final: Vec<String>,
    /// Once for each end that was published too many, or was not.
    pub not_told_once: Vec<String>,
    /// Webhooks that were answered 2xx.
    pub receipts: usize,
}

/// Waits for every job's end over the API, at most so long for all, then compares the sets.
pub async fn compare<E: From<Refused>>(
    client: &Client,
    jobs: &[String],
    patience: Duration,
    ledger: impl FnOnce() -> Result<Vec<Entry>, E>,
) -> Result<(Verdict, Vec<Entry>), E> {
    let clock = Clock::real();
    let until = clock.now() + i64::try_from(patience.as_millis()).unwrap_or(i64::MAX);
    let asked = jobs.iter().map(|id| said(client, id, &clock, until));
    let said: Vec<Said> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    // Read after the wait: what a killed process left behind may have been accepted only then. And
    // before the receipts: whatever it says was acknowledged must be among them.
    let ledger = ledger()?;
    let kept = kept(client).await?;
    Ok((judge(&said, &ledger, &kept), ledger))
}

async fn said(client: &Client, id: &str, clock: &Clock, until: Millis) -> Result<Said, Refused> {
    let missing = Said { id: id.to_owned(), state: None, ends: 0 };
    let Some(job) = end_of(client, id, clock, until).await? else { return Ok(missing) };
    let state = job["state"].as_str().map(str::to_owned);
    Ok(Said { id: id.to_owned(), state, ends: ends_told(client, id).await? })
}

/// The job once it has ended, or as it is when the time is up; `None` when there is none.
pub async fn end_of(
    client: &Client,
    id: &str,
    clock: &Clock,
    until: Millis,
) -> Result<Option<Value>, Refused> {
    loop {
        let left = until.saturating_sub(clock.now()).div_euclid(SECOND).clamp(0, LONGEST_WAIT_S);
        match client.insist("GET", &format!("/api/jobs/{id}?wait={left}"), None, None).await {
            Ok(job) if has_ended(&job) || left == 0 => return Ok(Some(job)),
            Ok(_) => {}
            Err(refused) if refused.status == 404 => return Ok(None),
            Err(refused) => return Err(refused),
        }
    }
}

/// How many ends of the job were published.
pub async fn ends_told(client: &Client, id: &str) -> Result<usize, Refused> {
    let events = client.insist("GET", &format!("/api/jobs/{id}/events?limit=200"), None, None).await?;
    let types = events["data"].as_array().into_iter().flatten().filter_map(|event| event["type"].as_str());
    Ok(types.filter(|t| matches!(*t, "job.completed" | "job.failed" | "job.canceled")).count())
}

/// The digest of each of the signed receipts in the store, made by the server of the bytes it kept.
pub async fn kept(client: &Client) -> Result<HashSet<String>, Refused> {
    let mut kept = HashSet::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/receipts?limit=200&verdict=signed{cursor}");
        let page = client.insist("GET", &path, None, None).await?;
        let rows = page["data"].as_array().into_iter().flatten();
        kept.extend(rows.filter_map(|row| row["sha256"].as_str().map(str::to_owned)));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(kept),
        }
    }
}

/// As `kept` has it.
pub fn digest(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

/// The sets compared; `said` has one entry for each job that was acknowledged to a caller.
pub fn judge(said: &[Said], ledger: &[Entry], kept: &HashSet<String>) -> Verdict {
    let mut verdict = Verdict::default();
    let charges = Tally::of(ledger).charges;
    let failing = failing_upstream(ledger);
    let acknowledged: HashSet<&String> = said.iter().map(|said| &said.id).collect();
    for Said { id, state, ends } in said {
        // Of one that is lost or stuck that is said elsewhere.
        let has_ended = matches!(state.as_deref(), Some("completed" | "failed"));
        let wanted = if has_ended { 1 } else { (*ends).min(1) };
        verdict.not_told_once.extend(std::iter::repeat_n(id.clone(), ends.abs_diff(wanted)));
        if state.is_none() || !charges.contains_key(id) {
            verdict.lost_jobs.push(id.clone());
        }
        match state.as_deref() {
            Some("completed") if failing.contains(id) => verdict.wrong_final.push(id.clone()),
            Some("failed") if !failing.contains(id) => verdict.wrong_final.push(id.clone()),
            // One that is gone is lost, and nothing more can be said of it.
            None | Some("completed" | "failed") => {}
            Some(_) => verdict.stuck.push(id.clone()),
        }
    }
    for (id, times) in &charges {
        verdict.paid_twice.extend(std::iter::repeat_n(id.clone(), times - 1));
        // A job that was made but never acknowledged is charged under an id no caller has.
        if !acknowledged.contains(id) {
            verdict.double_jobs.push(id.clone());
        }
    }
    for entry in ledger {
        let What::Webhook { body, status: Some(200..=299), forged: false, event_id, id, .. } = &entry.what
        else {
            continue;
        };
        verdict.receipts += 1;
        if !kept.contains(&digest(body.as_bytes())) {
            verdict.lost_receipts.push(event_id.as_ref().unwrap_or(id).clone());
        }
    }
    verdict
}

/// The jobs that the sandbox was told to fail.
fn failing_upstream(ledger: &[Entry]) -> HashSet<String> {
    let accepted = ledger.iter().filter_map(|entry| match &entry.what {
        What::Accepted { callback_id: Some(id), faults, .. } => Some((id, faults)),
        _ => None,
    });
    accepted.filter(|(_, faults)| faults.contains(&Fault::Fail)).map(|(id, _)| id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &str = r#"{"event_type":"video_agent.success"}"#;

    /// A run of two jobs in which every promise was kept: the second failed, as it was told to.
    fn kept_run() -> (Vec<Said>, Vec<What>, HashSet<String>) {
        let said = |id: &str, state: &str| Said { id: id.into(), state: Some(state.into()), ends: 1 };
        let what = vec![
            accepted("job_1", vec![]),
            charged("job_1"),
            accepted("job_2", vec![Fault::Fail]),
            charged("job_2"),
            webhook(BODY, Some(200), false),
            webhook("refused", Some(401), true),
            webhook("nobody there", None, false),
        ];
        let kept = HashSet::from([digest(BODY.as_bytes())]);
        (vec![said("job_1", "completed"), said("job_2", "failed")], what, kept)
    }

    fn accepted(job: &str, faults: Vec<Fault>) -> What {
        What::Accepted {
            route: "/v3/videos".into(),
            kind: crate::domain::job::Kind::Video,
            key: None,
            body_hash: String::new(),
            callback_id: Some(job.into()),
            title: None,
            ids: vec![],
            faults,
        }
    }

    fn charged(job: &str) -> What {
        What::Charged {
            id: "v".into(),
            route: "/v3/videos".into(),
            key: None,
            callback_id: Some(job.into()),
            title: None,
            language: None,
            credits: 1.0,
            balance: 1.0,
        }
    }

    fn webhook(body: &str, status: Option<u16>, forged: bool) -> What {
        What::Webhook {
            event_id: Some(format!("evt_{}", body.len())),
            event_type: "video_agent.success".into(),
            id: "v".into(),
            callback_id: None,
            endpoint_id: None,
            url: String::new(),
            body: body.into(),
            signed: None,
            forged,
            attempt: 1,
            sent_at: 0,
            status,
            fault: None,
        }
    }

    /// The verdict on the run after `doctor` had its hands on it: names of the lists with what is in them.
    fn broken(
        doctor: impl FnOnce(&mut Vec<Said>, &mut Vec<What>, &mut HashSet<String>),
    ) -> Vec<(&'static str, Vec<String>)> {
        let (mut said, mut what, mut kept) = kept_run();
        doctor(&mut said, &mut what, &mut kept);
        let entries: Vec<Entry> =
            what.into_iter().zip(1..).map(|(what, seq)| Entry { seq, at: 0, what }).collect();
        let v = judge(&said, &entries, &kept);
        let lists = [
            ("lost_jobs", v.lost_jobs),
            ("stuck", v.stuck),
            ("double_jobs", v.double_jobs),
            ("paid_twice", v.paid_twice),
            ("lost_receipts", v.lost_receipts),
            ("wrong_final", v.wrong_final),
            ("not_told_once", v.not_told_once),
        ];
        lists.into_iter().filter(|(_, ids)| !ids.is_empty()).collect()
    }

    fn one(name: &'static str, ids: &[&str]) -> Vec<(&'static str, Vec<String>)> {
        vec![(name, ids.iter().map(|id| (*id).to_owned()).collect())]
    }

    #[test]
    fn a_run_in_which_all_was_kept_has_nothing_in_any_list() {
        assert_eq!(broken(|_, _, _| {}), []);
    }

    #[test]
    fn each_broken_promise_is_in_its_own_list_and_no_other() {
        assert_eq!(broken(|said, _, _| said[0].state = None), one("lost_jobs", &["job_1"]));
        let never_sent = broken(|_, what, _| drop(what.drain(0..2)));
        assert_eq!(never_sent, one("lost_jobs", &["job_1"]));
        for state in ["queued", "submitting", "unknown", "processing", "canceled"] {
            let ids = broken(|said, _, _| said[0].state = Some(state.into()));
            assert_eq!(ids, one("stuck", &["job_1"]), "{state}");
        }
        let unheard_of = broken(|_, what, _| what.push(charged("job_3")));
        assert_eq!(unheard_of, one("double_jobs", &["job_3"]));
        let thrice = broken(|_, what, _| what.extend([charged("job_2"), charged("job_2")]));
        assert_eq!(thrice, one("paid_twice", &["job_2", "job_2"]));
        assert_eq!(broken(|_, _, kept| kept.clear()), one("lost_receipts", &["evt_36"]));
        let other_bytes = broken(|_, what, _| what.push(webhook("other", Some(204), false)));
        assert_eq!(other_bytes, one("lost_receipts", &["evt_5"]));
        let wrong = broken(|said, _, _| {
            said[0].state = Some("failed".into());
            said[1].state = Some("completed".into());
        });
        assert_eq!(wrong, one("wrong_final", &["job_1", "job_2"]));
        assert_eq!(broken(|said, _, _| said[1].ends = 3), one("not_told_once", &["job_2", "job_2"]));
        assert_eq!(broken(|said, _, _| said[1].ends = 0), one("not_told_once", &["job_2"]));
    }
}
