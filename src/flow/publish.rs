//! Publishing: events are numbered and stored, and with them what is to be sent of them to whom. An
//! event nobody wants costs nothing here.

use std::collections::BTreeSet;

use super::Stamp;
use crate::domain::dead_letter::{Cause, Filter as DeadLetters, Trouble};
use crate::domain::delivery::{Delivery, Target, deliveries};
use crate::domain::endpoint::Endpoint;
use crate::domain::event::{ENDPOINT_DISABLED, ENDPOINT_TEST, Event, upstream_type};
use crate::domain::ids;
use crate::domain::task::{TaskKind, TaskOp};
use crate::domain::time::Millis;
use crate::store::{Result, Tx, dead_letter, delivery, endpoint, event, task};

/// The one way by which events are stored. To be called last in a transaction.
pub(super) fn publish(tx: &mut Tx, events: &mut [Event], stamp: &Stamp) -> Result<()> {
    let any = event::insert_many(tx, events)?;
    let endpoints = if any { endpoint::list(tx)? } else { vec![] };
    let mut all: Vec<Delivery> =
        events.iter().flat_map(|event| deliveries(event, &endpoints, stamp.now)).collect();
    send(tx, &mut all, stamp)?;
    keep_missed(tx, &all, &endpoints, stamp.now)
}

/// What disabled endpoints miss are dead letters from the beginning, replayed once they are enabled.
/// Nobody is told of each: that the endpoint was disabled was told.
fn keep_missed(tx: &mut Tx, all: &[Delivery], endpoints: &[Endpoint], now: Millis) -> Result<()> {
    for endpoint in endpoints.iter().filter(|endpoint| endpoint.disabled_at.is_some()) {
        let its = all.iter().filter(|delivery| delivery.target.endpoint_id() == Some(&endpoint.id));
        let missed: Vec<&str> = its.map(|delivery| &*delivery.id).collect();
        let cause = Cause::at(Trouble::EndpointDisabled, &endpoint.details.url);
        let why = endpoint.details.disabled_for.as_deref().unwrap_or("somebody wished it");
        let why = format!("not tried: the endpoint was disabled, because {why}");
        task::bury(tx, TaskKind::Deliver, &missed, 0, (&cause, &why), now)?;
    }
    Ok(())
}

/// One of upstream's own events, which is a receipt. It is of no job: what it says of one is told by
/// that job's events.
pub(super) fn upstream_event(receipt_id: &str, event_type: Option<&str>, stamp: &Stamp, nth: usize) -> Event {
    Event {
        id: stamp.id(ids::EVENT, nth),
        event_type: upstream_type(event_type.unwrap_or("unnamed")),
        created_at: stamp.now,
        receipt_id: Some(receipt_id.to_owned()),
        ..Event::default()
    }
}

fn send(tx: &mut Tx, all: &mut [Delivery], stamp: &Stamp) -> Result<()> {
    if all.is_empty() {
        return Ok(());
    }
    for (nth, delivery) in all.iter_mut().enumerate() {
        delivery.id = stamp.id(ids::DELIVERY, nth);
    }
    delivery::insert_many(tx, all)?;
    // In one order, so that two who wake the same targets never wait for each other.
    let due = all.iter().filter(|delivery| delivery.due_at.is_some());
    let targets: BTreeSet<String> = due.map(|delivery| delivery.target.name()).collect();
    task::wake(tx, TaskKind::Deliver, &targets.iter().map(String::as_str).collect::<Vec<_>>(), stamp.now)
}

/// Nothing is sent to an endpoint any more, and the others hear of it. What waits for it waits until
/// it is enabled; what comes meanwhile is kept as dead letters. `None` when it is gone or disabled already.
pub fn disable_endpoint(tx: &mut Tx, id: &str, why: &str, stamp: &Stamp) -> Result<Option<Endpoint>> {
    endpoint::lock_publishing(tx)?;
    let Some(mut found) = endpoint::lock(tx, id)?.filter(|e| e.disabled_at.is_none()) else {
        return Ok(None);
    };
    found.disable(why, stamp.now);
    endpoint::put(tx, &found)?;
    let told = Event {
        id: stamp.id(ids::EVENT, 0),
        event_type: ENDPOINT_DISABLED.to_owned(),
        created_at: stamp.now,
        data: found.json(stamp.now).to_string(),
        ..Event::default()
    };
    publish(tx, &mut [told], stamp)?;
    Ok(Some(found))
}

/// What came of a wish to enable an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Enabled {
    NotFound,
    /// It has to take a test event first.
    Untested,
    Ok(Box<Endpoint>),
}

/// What waited for it is due at once.
pub fn enable_endpoint(tx: &mut Tx, id: &str, stamp: &Stamp) -> Result<Enabled> {
    endpoint::lock_publishing(tx)?;
    let Some(mut found) = endpoint::lock(tx, id)? else { return Ok(Enabled::NotFound) };
    if !found.may_be_enabled() {
        return Ok(Enabled::Untested);
    }
    if found.disabled_at.is_some() {
        found.enable();
        endpoint::put(tx, &found)?;
        let target = Target::Endpoint(found.id.clone()).name();
        task::apply(tx, &target, TaskOp::Add(TaskKind::Deliver, stamp.now))?;
    }
    Ok(Enabled::Ok(Box::new(found)))
}

/// A test event on its way to one endpoint, whatever it wants and however it fares. `None` when
/// there is no such endpoint.
pub fn test_endpoint(tx: &mut Tx, id: &str, stamp: &Stamp) -> Result<Option<Delivery>> {
    let Some(found) = endpoint::find(tx, id)? else { return Ok(None) };
    let mut told = [Event {
        id: stamp.id(ids::EVENT, 0),
        event_type: ENDPOINT_TEST.to_owned(),
        created_at: stamp.now,
        data: found.json(stamp.now).to_string(),
        ..Event::default()
    }];
    event::insert_many(tx, &mut told)?;
    let mut all = [Delivery::new(&told[0], Target::Test(found.id), None, stamp.now)];
    send(tx, &mut all, stamp)?;
    let [made] = all;
    Ok(Some(made))
}

/// False when there is no such endpoint. What waits for it is given up for good: nobody is left to send
/// it to.
pub fn remove_endpoint(tx: &mut Tx, id: &str, stamp: &Stamp) -> Result<bool> {
    endpoint::lock_publishing(tx)?;
    if !endpoint::remove(tx, id)? {
        return Ok(false);
    }
    for target in [Target::Endpoint(id.to_owned()), Target::Test(id.to_owned())] {
        delivery::end_all(tx, &target, stamp.now)?;
        task::apply(tx, &target.name(), TaskOp::Drop(TaskKind::Deliver))?;
    }
    let its = DeadLetters { endpoint_id: Some(id.to_owned()), ..DeadLetters::default() };
    dead_letter::drop_some(tx, &its, i64::MAX)?;
    Ok(true)
}

/// Changes an endpoint as `change` says, unless that says why not; nobody else changes it meanwhile. At
/// another address it is not put off for what happened at the old one.
pub fn change_endpoint<Refusal>(
    tx: &mut Tx,
    id: &str,
    change: impl Fn(&mut Endpoint) -> std::result::Result<(), Refusal>,
    stamp: &Stamp,
) -> Result<Option<std::result::Result<Endpoint, Refusal>>> {
    let Some(found) = endpoint::lock(tx, id)? else { return Ok(None) };
    let mut next = found.clone();
    if let Err(refusal) = change(&mut next) {
        return Ok(Some(Err(refusal)));
    }
    endpoint::put(tx, &next)?;
    if next.details.url != found.details.url {
        task::apply(tx, id, TaskOp::Hasten(TaskKind::Deliver, stamp.now))?;
    }
    Ok(Some(Ok(next)))
}

/// False when there are too many already.
pub fn add_endpoint(tx: &mut Tx, new: &Endpoint, most: usize) -> Result<bool> {
    endpoint::lock_publishing(tx)?;
    if endpoint::list(tx)?.len() >= most {
        return Ok(false);
    }
    endpoint::insert(tx, new)?;
    Ok(true)
}
