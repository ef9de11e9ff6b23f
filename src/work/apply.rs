//! Understands receipts: bytes to a reference and an observation, then `flow::observe_many`.
//!
//! An unsigned receipt only ever makes us ask. One that cannot be read is kept with the reason.

use std::collections::HashMap;
use std::time::Duration;

use super::Work;
use crate::clock::Stopwatch;
use crate::domain::job::{FoundBy, Kind, Observation, Says};
use crate::domain::receipt::{Receipt, Verdict};
use crate::domain::stranger::Stranger;
use crate::domain::task::Claimed;
use crate::fail::Point;
use crate::flow::{self, Hearing, Terms};
use crate::heygen::wire::{self, Heard};
use crate::store::{self, inbox};

/// Receipts of claimed tasks as they were understood, not recorded yet.
pub(super) struct Understood {
    batch: Vec<flow::Heard>,
    unknown_types: u64,
}

/// Changes nothing, rolls no dice and passes no fail point, so it may be done while what came before is being
/// recorded.
pub(super) async fn understand(work: &Work, tasks: Vec<Claimed>) -> store::Result<Understood> {
    let ids: Vec<String> = tasks.iter().flat_map(Claimed::subjects).map(str::to_owned).collect();
    let read =
        move |tx: &mut store::Tx| inbox::find_many(tx, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let receipts = work.db.read(read).await?;
    let mut found: HashMap<String, Receipt> = receipts.into_iter().map(|r| (r.id.clone(), r)).collect();
    let mut understood = Understood { batch: vec![], unknown_types: 0 };
    for task in tasks {
        let hearings = task.subjects().map(|id| match found.remove(id) {
            Some(receipt) => {
                let counts = receipt.note.applied_at.is_none()
                    && matches!(receipt.verdict, Verdict::Signed | Verdict::Logged);
                let hearing = hear(receipt, work.adoption);
                let unknown = hearing.event_type.as_deref().is_some_and(wire::is_unknown_type);
                understood.unknown_types += u64::from(counts && unknown);
                hearing
            }
            None => nothing(id.to_owned(), "the receipt is gone"),
        });
        let hearings = hearings.collect();
        understood.batch.push((task, hearings));
    }
    Ok(understood)
}

/// For how long the store worked on it.
pub(super) async fn record(work: &Work, understood: Understood) -> store::Result<Duration> {
    let Understood { batch, unknown_types } = understood;
    let stamp = work.stamp();
    work.fail.at(Point::ApplyRead).await;
    let observe = move |tx: &mut store::Tx| {
        let watch = Stopwatch::start();
        Ok((flow::observe_many(tx, &batch, &stamp)?, watch.elapsed()))
    };
    let (done, took) = work.db.write_behind(observe).await?;
    work.fail.at(Point::ApplyStored).await;
    let m = &work.metrics;
    for (by, n) in [
        ("moved", done.counts.moved),
        ("nothing_new", done.counts.nothing_new),
        ("parked", done.counts.parked),
        ("unusable", done.counts.unusable),
    ] {
        m.count_many(&m.receipts_applied, by, n as u64);
    }
    m.webhook_unknown_types.inc_by(unknown_types);
    m.stale_finishes.inc_by(done.counts.lease_lost as u64);
    done.ended.iter().for_each(|job| work.tell(job));
    for (upstream_id, event_type) in &done.strangers {
        tracing::info!(upstream_id, event_type, "no job has this upstream id; kept");
    }
    Ok(took)
}

/// What a receipt says, whatever its bytes.
fn hear(receipt: Receipt, adoption: Option<Terms>) -> Hearing {
    let id = receipt.id.clone();
    let heard = wire::hear(&receipt.body);
    let hint = |_: Kind| observation(Says::Hint);
    let at_own_address = receipt.job_address.clone();
    match heard {
        _ if receipt.verdict == Verdict::Refused => nothing(id, "refused at the door"),
        Ok(heard) if receipt.verdict == Verdict::Unsigned => Hearing {
            event_type: heard.event_type.clone(),
            // On an address of its own only that job; on a shared one (a laptop) whatever it names.
            job_id: at_own_address.clone().or_else(|| heard.job_id().map(str::to_owned)),
            upstream_ids: if at_own_address.is_some() { vec![] } else { heard.upstream_ids.clone() },
            observe: Box::new(hint),
            ..blank(id)
        },
        Ok(heard) => signed(receipt, heard, adoption),
        Err(why) => {
            // What HeyGen signed is an event of theirs all the same, also if it is about nothing, or no JSON.
            let is_event = receipt.note.applied_at.is_none();
            let is_heygens = matches!(receipt.verdict, Verdict::Signed | Verdict::Logged);
            let (event_type, publish) = (why.event_type().map(str::to_owned), is_event && is_heygens);
            match at_own_address {
                // Worth a look at the one job whose address it is.
                Some(job) => {
                    Hearing { job_id: Some(job), observe: Box::new(hint), event_type, publish, ..blank(id) }
                }
                None => Hearing { event_type, publish, ..nothing(id, &why.to_string()) },
            }
        }
    }
}

fn signed(receipt: Receipt, heard: Heard, adoption: Option<Terms>) -> Hearing {
    let first_time = receipt.note.applied_at.is_none();
    let found_by = if receipt.verdict == Verdict::Logged { FoundBy::EventLog } else { FoundBy::Webhook };
    Hearing {
        event_type: heard.event_type.clone(),
        job_id: heard.job_id().map(str::to_owned).or(receipt.job_address),
        upstream_ids: heard.upstream_ids.clone(),
        stranger: adoption.and_then(|terms| Some((to_adopt(&heard)?, terms))),
        publish: first_time,
        observe: Box::new(move |kind| heard.observe(kind, found_by)),
        ..blank(receipt.id)
    }
}

/// One that carries the id of a reelhook job, and is none of ours, is another reelhook's.
fn to_adopt(heard: &Heard) -> Option<Stranger> {
    heard.stranger().filter(|stranger| stranger.job_id().is_none())
}

fn blank(receipt_id: String) -> Hearing {
    Hearing {
        receipt_id,
        wire_version: wire::VERSION,
        event_type: None,
        job_id: None,
        upstream_ids: vec![],
        observe: Box::new(|_| observation(Says::Hint)),
        publish: false,
        stranger: None,
        unusable: None,
    }
}

fn nothing(receipt_id: String, why: &str) -> Hearing {
    Hearing { unusable: Some(why.to_owned()), ..blank(receipt_id) }
}

fn observation(says: Says) -> Observation {
    Observation { found_by: FoundBy::Webhook, upstream_id: None, upstream_video_id: None, says }
}
