//! What is given up, and what people do about it: telling of it, making it due again, letting go of it.
//! A wish of a person and its line in the audit are one transaction.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Stamp;
use super::publish::publish;
use crate::domain::dead_letter::{Cause, Filter};
use crate::domain::delivery::{Delivery, Target};
use crate::domain::event::{DEAD_LETTER_ADDED, Event};
use crate::domain::ids;
use crate::domain::replay::{Details, MAX_RUNNING, Replay};
use crate::domain::task::{Claimed, Outcome, TaskKind, TaskOp};
use crate::domain::time::Millis;
use crate::store::dead_letter::Position;
use crate::store::{Result, Tx, audit, dead_letter, delivery, endpoint, replay, task};

/// Dead letters dropped by one call, which is one transaction.
pub const MOST_DROPPED: i64 = 10_000;

/// Publishes what was given up by these causes, each once an hour at most. To be called last in a
/// transaction.
pub fn tell_dead(tx: &mut Tx, causes: &[Cause], stamp: &Stamp) -> Result<()> {
    if causes.is_empty() {
        return Ok(());
    }
    // Before any cause, so that two who tell of the same ones never wait for each other.
    endpoint::lock_publishing(tx)?;
    let mut events = vec![];
    for (nth, cause) in causes.iter().enumerate() {
        if causes[..nth].contains(cause) || !dead_letter::tell(tx, cause, stamp.now)? {
            continue;
        }
        let alike = Filter { cause: Some(cause.text()), ..Filter::default() };
        events.extend(dead_letter::list_causes(tx, &alike, 1)?.iter().map(|causing| Event {
            id: stamp.id(ids::EVENT, nth),
            event_type: DEAD_LETTER_ADDED.to_owned(),
            created_at: stamp.now,
            data: causing.json().to_string(),
            ..Event::default()
        }));
    }
    publish(tx, &mut events, stamp)
}

/// Begins to make due what is meant and there now. `None` when too many replays run already.
pub fn start_replay(tx: &mut Tx, details: &Details, stamp: &Stamp) -> Result<Option<Replay>> {
    if replay::count_running(tx)? >= MAX_RUNNING {
        return Ok(None);
    }
    let new = Replay::new(stamp.id(ids::REPLAY, 0), details.clone(), stamp.now);
    replay::insert(tx, &new)?;
    // Later than what is given up in this very millisecond, so that nothing is taken twice.
    task::apply(tx, &new.id, TaskOp::Add(TaskKind::Replay, stamp.now + 1))?;
    let Details { by, filter, pending, rate, count, .. } = details;
    let action = if *pending { "delivery.replay" } else { "dead_letter.replay" };
    let details = json!({"replay_id": new.id, "filter": filter.json(), "rate": rate, "count": count});
    note(tx, by, action, &details, stamp)?;
    if let Some(endpoint) = filter.endpoint_id.as_deref().filter(|_| *pending) {
        // Who wishes it says that the receiver is there again.
        task::apply(tx, endpoint, TaskOp::Hasten(TaskKind::Deliver, stamp.now))?;
    }
    Ok(Some(new))
}

/// One step of a replay, and when the next is due. False when the lease was lost.
pub fn replay_some(tx: &mut Tx, claimed: &Claimed, stamp: &Stamp) -> Result<bool> {
    if !task::hold(tx, claimed)? {
        return Ok(false);
    }
    let mut outcome = Outcome::Done;
    if let Some(mut found) = replay::lock(tx, &claimed.subject)?.filter(|r| r.ended_at.is_none()) {
        let which = (&found.details.position, found.created_at);
        let (filter, most) = (&found.details.filter, found.step());
        let (seen, made_due) = match &filter.endpoint_id {
            Some(endpoint) if found.details.pending => revive_untaken(tx, endpoint, which, most, stamp.now)?,
            _ => revive_letters(tx, filter, which, most, stamp.now)?,
        };
        found.took(&seen, i64::try_from(made_due).unwrap_or(i64::MAX), stamp.now);
        replay::put(tx, &found)?;
        if found.ended_at.is_none() {
            outcome = Outcome::Snooze { until: stamp.now + found.pause(), lane: None };
        }
    }
    task::settle(tx, claimed, &outcome, stamp.now)
}

/// The next dead letters behind a position that were there at a time. What was looked at, and how many were made due.
fn revive_letters(
    tx: &mut Tx,
    filter: &Filter,
    which: (&Position, Millis),
    most: i64,
    now: Millis,
) -> Result<(Vec<Position>, usize)> {
    let (seen, subjects) = dead_letter::revive_some(tx, filter, which, most, now)?;
    let deliveries: Vec<&str> =
        subjects.iter().map(String::as_str).filter(|id| ids::has_shape(ids::DELIVERY, id)).collect();
    send_again(tx, &deliveries, now)?;
    Ok((seen, subjects.len()))
}

/// The next deliveries behind `from` that an endpoint has not taken, and that were there at `until`: dead
/// or waiting, they begin anew.
fn revive_untaken(
    tx: &mut Tx,
    endpoint: &str,
    (from, until): (&Position, Millis),
    most: i64,
    now: Millis,
) -> Result<(Vec<Position>, usize)> {
    let target = Target::Endpoint(endpoint.to_owned());
    let found = delivery::list_untaken(tx, &target, (&from.1, until), most, now)?;
    let made_due = send_again(tx, &found.iter().map(String::as_str).collect::<Vec<_>>(), now)?;
    Ok((found.into_iter().map(|id| (0, id)).collect(), made_due))
}

/// Deliveries go the way of all others once more, and are dead letters no longer. How many: not those whose
/// endpoint is gone, or that were taken meanwhile.
fn send_again(tx: &mut Tx, deliveries: &[&str], now: Millis) -> Result<usize> {
    let letters = deliveries.iter().map(|id| (*id, TaskOp::Drop(TaskKind::Deliver)));
    task::apply_many(tx, &letters.collect::<Vec<_>>())?;
    let revived = delivery::revive_many(tx, deliveries, now)?;
    let targets: BTreeSet<&str> = revived.iter().map(String::as_str).collect();
    task::wake(tx, TaskKind::Deliver, &targets.into_iter().collect::<Vec<_>>(), now)?;
    Ok(revived.len())
}

/// What is due already goes its way; the rest stays dead. The replay as it is then, and whether it ran;
/// `None` when there is none.
pub fn stop_replay(tx: &mut Tx, who: &str, id: &str, stamp: &Stamp) -> Result<Option<(Replay, bool)>> {
    // The task before its replay, as in a step.
    task::apply(tx, id, TaskOp::Drop(TaskKind::Replay))?;
    let Some(mut found) = replay::lock(tx, id)? else { return Ok(None) };
    let ran = found.stop(stamp.now);
    if ran {
        replay::put(tx, &found)?;
        let details = json!({"replay_id": id, "done": found.details.done, "count": found.details.count});
        note(tx, who, "replay.stop", &details, stamp)?;
    }
    Ok(Some((found, ran)))
}

/// Lets go of dead letters, of so many at most; what they were about stays. How many it were.
pub fn drop_dead(tx: &mut Tx, who: &str, filter: &Filter, reason: &str, stamp: &Stamp) -> Result<u64> {
    let dropped = dead_letter::drop_some(tx, filter, MOST_DROPPED)?;
    if dropped > 0 {
        let details = json!({"filter": filter.json(), "reason": reason, "count": dropped});
        note(tx, who, "dead_letter.drop", &details, stamp)?;
    }
    Ok(dropped)
}

/// What came of a wish to send a delivery again.
#[derive(Debug, Clone, PartialEq)]
pub enum Revived {
    NotFound,
    /// Its endpoint was removed.
    NobodyToTell,
    Ok(Box<Delivery>),
}

/// A delivery goes the way of all others once more: the same event, id and body. It may have been taken, given
/// up, or neither.
pub fn replay_delivery(tx: &mut Tx, who: &str, id: &str, stamp: &Stamp) -> Result<Revived> {
    let Some(mut found) = delivery::find(tx, id)? else { return Ok(Revived::NotFound) };
    let was = found.state();
    task::apply(tx, id, TaskOp::Drop(TaskKind::Deliver))?;
    let of = found.target.endpoint_id();
    if of.map(|id| endpoint::find(tx, id)).transpose()?.is_some_and(|endpoint| endpoint.is_none()) {
        return Ok(Revived::NobodyToTell);
    }
    found.revive(stamp.now);
    delivery::put(tx, &found)?;
    let target = found.target.name();
    task::wake(tx, TaskKind::Deliver, &[&target], stamp.now)?;
    // Whoever wishes it says that the receiver is there again.
    task::apply(tx, &target, TaskOp::Hasten(TaskKind::Deliver, stamp.now))?;
    note(tx, who, "delivery.replay", &json!({"delivery_id": id, "was": was.name()}), stamp)?;
    Ok(Revived::Ok(Box::new(found)))
}

fn note(tx: &mut Tx, who: &str, action: &str, details: &Value, stamp: &Stamp) -> Result<()> {
    let line = audit::Line {
        id: stamp.id(ids::AUDIT, 0),
        created_at: stamp.now,
        who: who.to_owned(),
        action: action.to_owned(),
        details: details.to_string(),
    };
    audit::insert(tx, &line)
}
