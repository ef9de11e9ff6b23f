//! Reads HeyGen's event log for what its webhooks did not tell: on start, hourly, after an outage.
//!
//! One run is one page, committed with the position behind it, so a crash goes on where it was. An
//! entry no webhook told of becomes a receipt and goes the way of all receipts; nothing is applied
//! here. Two nodes never read at once: whoever holds the task's lease reads.

use std::collections::HashSet;

use serde_json::Value;

use super::Work;
use crate::domain::event_log::{EVERY, Gap, PAGE_PAUSE, Position};
use crate::domain::ids;
use crate::domain::limit::LOOK_EVERY;
use crate::domain::pause::Reason;
use crate::domain::receipt::{Note, Receipt, Verdict};
use crate::domain::retry::backoff;
use crate::domain::task::{Claimed, Outcome};
use crate::domain::time::{MINUTE, Millis, SECOND, rfc3339};
use crate::heygen::client::Page;
use crate::heygen::fault::Fault;
use crate::heygen::wire::{self, Heard};
use crate::store::{self, Tx, inbox, job, setting, task, upstream_limit};

/// The webhook of an event may still be on its way: one that concerns no job of ours would be
/// published twice, so it is left to the next reading, which goes back further than this.
const IN_FLIGHT: Millis = 10 * MINUTE;
/// Pause after a 429 that names none.
const BUSY_PAUSE: Millis = 30 * SECOND;
const PATH: &str = "/v3/webhooks/events";

pub(super) async fn run(work: &Work, task: Claimed) -> store::Result<()> {
    let (position, is_down) =
        work.db.read(|tx| Ok((find(tx)?, upstream_limit::get(tx)?.down_since.is_some()))).await?;
    if is_down {
        // Whoever finds out that it is back hastens this.
        let now = work.clock.now();
        let later = Outcome::Snooze { until: now + LOOK_EVERY, lane: None };
        return work.db.write_behind(move |tx| task::settle(tx, &task, &later, now)).await.map(drop);
    }
    let token = position.reading.as_ref().and_then(|reading| reading.token.clone());
    let seen = work.heygen.events(token.as_deref()).await;
    work.called("log", &seen).await;
    let now = work.clock.now();
    let (next, entries, outcome) = match seen {
        Ok(page) => {
            let next = position.after_page(&times(&page), page.next.clone(), now);
            tell(&position, &next);
            let until = now + if next.reading.is_some() { PAGE_PAUSE } else { EVERY };
            (next, entries(work, &page, position.floor(), now), Outcome::Snooze { until, lane: None })
        }
        Err(fault) => {
            // Once, and not at every try.
            if position.fault.as_ref() != Some(&fault.why()) {
                tracing::warn!(why = fault.why(), "HeyGen's event log cannot be read");
            }
            let outcome = after_fault(&fault, token.is_some(), &task, now, work.jitter());
            // A token upstream does not take is given up: the reading begins anew.
            let refused = matches!(fault, Fault::Refused { .. } | Fault::NotFound(_));
            let reading = position.reading.clone().filter(|_| !refused);
            (Position { reading, fault: Some(fault.why()), ..position }, vec![], outcome)
        }
    };
    let write = move |tx: &mut Tx| {
        if !task::settle(tx, &task, &outcome, now)? {
            return Ok(None);
        }
        setting::put(tx, setting::EVENT_LOG, &text(&next))?;
        let untold = untold(tx, &entries, now)?;
        inbox::accept_many(tx, &untold)?;
        Ok(Some(untold.len()))
    };
    match work.db.write_behind(write).await? {
        None => {
            work.metrics.stale_finishes.inc();
        }
        Some(0) => {}
        Some(untold) => tracing::info!(untold, "HeyGen's event log has what no webhook told"),
    }
    Ok(())
}

fn find(tx: &mut Tx) -> store::Result<Position> {
    let stored = setting::find(tx, setting::EVENT_LOG)?;
    Ok(stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

pub(super) fn text(position: &Position) -> String {
    // Plain numbers and texts: writing them cannot fail.
    serde_json::to_string(position).unwrap_or_default()
}

fn after_fault(fault: &Fault, mid_way: bool, task: &Claimed, now: Millis, jitter: f64) -> Outcome {
    let why = fault.why();
    match fault {
        Fault::Refused { .. } | Fault::NotFound(_) if mid_way => {
            Outcome::Retry { at: now + backoff(task.attempt, jitter), why }
        }
        // There is no such log, or nothing to ask with.
        Fault::Refused { .. } | Fault::NotFound(_) | Fault::Blocked { by: Reason::NotHeygen, .. } => {
            Outcome::Snooze { until: now + EVERY, lane: None }
        }
        Fault::Wait { after, .. } | Fault::TooMany { after, .. } => {
            Outcome::Retry { at: now + after.unwrap_or(BUSY_PAUSE), why }
        }
        _ => Outcome::Retry { at: now + backoff(task.attempt, jitter), why },
    }
}

fn tell(before: &Position, after: &Position) {
    match &after.gap {
        Some(Gap { from, to, .. }) if after.gap != before.gap => tracing::warn!(
            from = rfc3339(*from),
            to = rfc3339(*to),
            "HeyGen's event log no longer has the events of this time; polls find the jobs they concerned"
        ),
        _ => {}
    }
    if after.reading.is_none() {
        tracing::debug!(read_to = after.read_to.map(rfc3339), "HeyGen's event log is read");
    }
}

fn times(page: &Page) -> Vec<Option<Millis>> {
    page.items.iter().map(wire::created_at).collect()
}

/// An entry of the log that can be understood, with the receipt it becomes.
struct Entry {
    heard: Heard,
    at: Option<Millis>,
    receipt: Receipt,
}

/// The entries of a page that were not dealt with before.
fn entries(work: &Work, page: &Page, floor: Millis, now: Millis) -> Vec<Entry> {
    let wanted = page.items.iter().filter(|item| wire::created_at(item).is_none_or(|at| at >= floor));
    let entry = |item: &Value| {
        let heard = wire::hear_value(item).ok()?;
        let receipt = Receipt {
            id: ids::new(ids::RECEIPT, now, work.clock.random()),
            received_at: now,
            verdict: Verdict::Logged,
            job_address: None,
            signed_by: None,
            path: PATH.to_owned(),
            remote: None,
            headers: "{}".to_owned(),
            body: item.to_string().into_bytes(),
            note: Note::default(),
        };
        Some(Entry { heard, at: wire::created_at(item), receipt })
    };
    wanted.filter_map(entry).collect()
}

/// The receipts of those entries that nobody has told of.
fn untold(tx: &mut Tx, entries: &[Entry], now: Millis) -> store::Result<Vec<Receipt>> {
    let named: Vec<&str> = entries.iter().filter_map(|e| e.heard.job_id()).collect();
    let upstream: Vec<&str> =
        entries.iter().flat_map(|e| &e.heard.upstream_ids).map(String::as_str).collect();
    let mut jobs = job::find_many(tx, &named)?;
    jobs.extend(job::find_by_upstream(tx, &upstream)?);
    let ours: Vec<&str> = jobs.iter().map(|job| job.id.as_str()).collect();
    let told: HashSet<(String, String)> = inbox::list_told(tx, &ours, &upstream)?.into_iter().collect();
    let is_told = |subject: &str, entry: &Entry| {
        let event_type = entry.heard.event_type.clone().unwrap_or_default();
        told.contains(&(subject.to_owned(), event_type))
    };
    let is_untold = |entry: &&Entry| {
        let ids = &entry.heard.upstream_ids;
        let knows = |id: &Option<String>| id.as_ref().is_some_and(|id| ids.contains(id));
        let job = jobs.iter().find(|job| {
            entry.heard.job_id() == Some(job.id.as_str())
                || knows(&job.upstream_id)
                || knows(&job.upstream_video_id)
        });
        match job {
            Some(job) => !is_told(&job.id, entry),
            None if entry.at.is_some_and(|at| at > now - IN_FLIGHT) => false,
            None => !ids.iter().any(|id| is_told(id, entry)),
        }
    };
    Ok(entries.iter().filter(is_untold).map(|entry| entry.receipt.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::task::TaskKind;

    fn at(fault: &Fault, attempt: i64) -> Millis {
        let task = Claimed {
            subject: String::new(),
            more: vec![],
            kind: TaskKind::Upkeep,
            token: 1,
            attempt,
            due_at: 0,
            lease_until: 1,
        };
        match after_fault(fault, false, &task, 1_000, 1.0) {
            Outcome::Retry { at, .. } => at - 1_000,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn heygens_own_pause_is_kept() {
        let (why, said) = (String::new(), None);
        let too_many = |after| Fault::TooMany { after, why: why.clone(), said: said.clone() };
        let wait = |after| Fault::Wait { after, why: why.clone(), said: said.clone() };
        assert_eq!((at(&too_many(Some(7_000)), 1), at(&too_many(None), 1)), (7_000, BUSY_PAUSE));
        assert_eq!((at(&wait(Some(7_000)), 1), at(&wait(None), 1)), (7_000, BUSY_PAUSE));
        let unknown = Fault::Unknown { why, said };
        assert_eq!((at(&unknown, 1), at(&unknown, 2)), (backoff(1, 1.0), backoff(2, 1.0)));
    }
}
