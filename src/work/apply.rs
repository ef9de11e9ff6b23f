//! Understands receipts: bytes to a reference and an observation, then `flow::observe_many`.
//!
//! An unsigned receipt only ever makes us ask. One that cannot be read is kept with the reason. A
//! batch that fails is tried one by one, so that a poisonous receipt harms no other.

use serde_json::Value;

use super::Work;
use crate::domain::job::{FoundBy, Kind, Observation, Says};
use crate::domain::receipt::{Receipt, Verdict};
use crate::domain::task::Claimed;
use crate::flow::{self, Hearing};
use crate::heygen::wire::{self, Heard};
use crate::store::{self, inbox};

pub(super) async fn run(work: &Work, tasks: Vec<Claimed>) -> store::Result<()> {
    let failed = match apply(work, tasks.clone()).await {
        Ok(()) => return Ok(()),
        Err(e) => e,
    };
    if tasks.len() == 1 || failed.may_pass() {
        return Err(failed);
    }
    let mut last = Ok(());
    for task in tasks {
        if let Err(e) = apply(work, vec![task]).await {
            last = Err(e);
        }
    }
    // Those that were applied have settled their tasks; putting the rest back leaves them alone.
    last
}

async fn apply(work: &Work, tasks: Vec<Claimed>) -> store::Result<()> {
    let ids: Vec<String> = tasks.iter().map(|t| t.subject.clone()).collect();
    let read =
        move |tx: &mut store::Tx| inbox::find_many(tx, &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let mut receipts = work.db.read(read).await?;
    let batch: Vec<Hearing> = tasks
        .into_iter()
        .map(|task| {
            let found = receipts.iter().position(|r| r.id == task.subject);
            match found.map(|at| receipts.swap_remove(at)) {
                Some(receipt) => hear(task, receipt),
                None => nothing(task, "the receipt is gone"),
            }
        })
        .collect();
    let stamp = work.stamp();
    let done = work.db.write_behind(move |tx| flow::observe_many(tx, &batch, &stamp)).await?;
    let m = &work.metrics;
    for (by, n) in [
        ("moved", done.counts.moved),
        ("nothing_new", done.counts.nothing_new),
        ("parked", done.counts.parked),
        ("unusable", done.counts.unusable),
    ] {
        m.count_many(&m.receipts_applied, by, n as u64);
    }
    m.stale_finishes.inc_by(done.counts.lease_lost as u64);
    done.ended.iter().for_each(|job| work.tell(job));
    for (upstream_id, event_type) in &done.strangers {
        tracing::info!(upstream_id, event_type, "no job has this upstream id; kept and published");
    }
    Ok(())
}

/// What a receipt says, whatever its bytes.
fn hear(task: Claimed, receipt: Receipt) -> Hearing {
    let heard = wire::hear(&receipt.body);
    let hint = |_: Kind| observation(Says::Hint);
    let at_own_address = receipt.job_address.clone();
    match heard {
        _ if receipt.verdict == Verdict::Refused => nothing(task, "refused at the door"),
        Ok(heard) if receipt.verdict == Verdict::Unsigned => Hearing {
            event_type: heard.event_type.clone(),
            // On an address of its own only that job; on a shared one (a laptop) whatever it names.
            job_id: at_own_address.clone().or_else(|| heard.job_id().map(str::to_owned)),
            upstream_ids: if at_own_address.is_some() { vec![] } else { heard.upstream_ids.clone() },
            observe: Box::new(hint),
            publish: None,
            ..blank(task)
        },
        Ok(heard) => signed(task, &receipt, heard),
        // Nothing readable, but it came to the address of one job: worth a look at that job.
        Err(why) if at_own_address.is_some() => Hearing {
            job_id: at_own_address,
            observe: Box::new(hint),
            event_type: Some(why.name().to_owned()),
            ..blank(task)
        },
        Err(why) => nothing(task, &why.to_string()),
    }
}

fn signed(task: Claimed, receipt: &Receipt, heard: Heard) -> Hearing {
    let first_time = receipt.note.applied_at.is_none();
    Hearing {
        event_type: heard.event_type.clone(),
        job_id: heard.job_id().map(str::to_owned).or_else(|| receipt.job_address.clone()),
        upstream_ids: heard.upstream_ids.clone(),
        publish: first_time.then(|| serde_json::from_slice(&receipt.body).unwrap_or(Value::Null)),
        observe: Box::new(move |kind| heard.observe(kind, FoundBy::Webhook)),
        ..blank(task)
    }
}

fn blank(task: Claimed) -> Hearing {
    Hearing {
        receipt_id: task.subject.clone(),
        task,
        event_type: None,
        job_id: None,
        upstream_ids: vec![],
        observe: Box::new(|_| observation(Says::Hint)),
        publish: None,
        unusable: None,
    }
}

fn nothing(task: Claimed, why: &str) -> Hearing {
    Hearing { unusable: Some(why.to_owned()), ..blank(task) }
}

fn observation(says: Says) -> Observation {
    Observation { found_by: FoundBy::Webhook, upstream_id: None, upstream_video_id: None, says }
}
