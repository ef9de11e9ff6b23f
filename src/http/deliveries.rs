//! Deliveries over HTTP: what was sent to whom, how it went, when it is tried again.

use std::collections::HashMap;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;

use super::auth::Caller;
use super::input::{self, Fields};
use super::problem::{Kind, Problem, Result};
use super::query::{Query, page};
use super::{Http, dead_letters, endpoints, wait};
use crate::domain::dead_letter::Filter as DeadLetters;
use crate::domain::delivery::{Delivery, State as DeliveryState, Target};
use crate::domain::ids;
use crate::domain::replay::Details;
use crate::domain::task::TaskKind;
use crate::domain::time::Millis;
use crate::flow::{self, Revived};
use crate::store::{self, Tx, delivery, endpoint, task};

const MAX_ID_CHARS: usize = 100;

pub async fn list(State(http): State<Http>, RawQuery(raw): RawQuery) -> Result<Response> {
    let mut query = Query::parse(raw.as_deref());
    let limit = query.limit();
    let cursor = query.cursor(ids::DELIVERY);
    let names = DeliveryState::ALL.map(DeliveryState::name).join(", ");
    let filter = delivery::Filter {
        endpoint_id: query.text("endpoint_id"),
        job_id: query.text("job_id"),
        state: query
            .read("state", |t| DeliveryState::parse(t).ok_or_else(|| format!("must be one of {names}"))),
    };
    query.finish()?;
    let now = http.clock.now();
    let read = move |tx: &mut Tx| {
        let found = delivery::list(tx, &filter, cursor.as_deref(), limit + 1)?;
        let mut known = HashMap::new();
        found.into_iter().map(|delivery| shown(tx, delivery, &mut known, now)).collect()
    };
    let found: Vec<(Delivery, Value)> = http.db.read(read).await?;
    Ok(page(
        "/api/deliveries",
        raw.as_deref(),
        found,
        limit,
        |(d, _)| d.id.clone(),
        |(_, shown)| shown.clone(),
    ))
}

/// A delivery, and how it is shown: with the time until which its target is left alone because nobody answers
/// there. `known` are targets that were looked up already.
fn shown(
    tx: &mut Tx,
    delivery: Delivery,
    known: &mut HashMap<Target, Option<Millis>>,
    now: Millis,
) -> store::Result<(Delivery, Value)> {
    let mut until = None;
    if delivery.state() == DeliveryState::Pending {
        until = match known.get(&delivery.target) {
            Some(until) => *until,
            None => task::find_put_off(tx, &delivery.target.name(), TaskKind::Deliver)?,
        };
        known.insert(delivery.target.clone(), until);
    }
    let shown = delivery.json(until.filter(|until| *until > now));
    Ok((delivery, shown))
}

pub async fn get(State(http): State<Http>, Path(id): Path<String>) -> Result<Response> {
    Ok(axum::Json(find(&http, &id).await?.1).into_response())
}

/// Once more, whether it was taken, given up or neither.
pub async fn replay(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Response> {
    input::nothing(body).await?;
    let (wanted, stamp) = (id.clone(), http.stamp());
    match http.db.write(move |tx| flow::replay_delivery(tx, &caller.name, &wanted, &stamp)).await? {
        Revived::NotFound => Err(not_found(&id)),
        Revived::NobodyToTell => Err(Kind::NobodyToTell.into()),
        // Its target is left alone no longer.
        Revived::Ok(found) => Ok((StatusCode::ACCEPTED, axum::Json(found.json(None))).into_response()),
    }
}

/// All that one endpoint has not taken, so many a second: what was given up, and what waits for its next
/// attempt.
pub async fn replay_untaken(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response> {
    let mut fields = Fields::new(input::object(&input::read(body).await?, false)?);
    let id = fields.text("endpoint_id", MAX_ID_CHARS);
    if id.is_none() && fields.errors.is_empty() {
        fields.wrong("endpoint_id", "is required: whose deliveries are to be sent once more");
    }
    let rate = dead_letters::rate(&mut fields);
    fields.finish()?;
    let id = id.unwrap_or_default();
    let (target, now) = (Target::Endpoint(id.clone()), http.clock.now());
    let wanted = id.clone();
    let look = move |tx: &mut Tx| {
        Ok((endpoint::find(tx, &wanted)?.is_some(), delivery::count_untaken(tx, &target, now)?))
    };
    let (is_there, count) = http.db.read(look).await?;
    if !is_there {
        return Err(endpoints::not_found(&id));
    }
    let filter = DeadLetters { endpoint_id: Some(id), ..DeadLetters::default() };
    dead_letters::begin(&http, Details { pending: true, ..Details::new(&caller.name, filter, rate, count) })
        .await
}

async fn find(http: &Http, id: &str) -> Result<(Delivery, Value)> {
    let (wanted, now) = (id.to_owned(), http.clock.now());
    let read = move |tx: &mut Tx| {
        let found = delivery::find(tx, &wanted)?;
        found.map(|delivery| shown(tx, delivery, &mut HashMap::new(), now)).transpose()
    };
    http.db.read(read).await?.ok_or_else(|| not_found(id))
}

fn not_found(id: &str) -> Problem {
    let why = format!("no delivery has the id {id}; they are kept for 30 days after their end");
    Problem::saying(Kind::NotFound, why)
}

/// The delivery when it has ended: 200; or as it is when the time is up: 202.
pub async fn wait_for_end(http: &Http, id: &str, wait: Duration) -> Result<(StatusCode, Value)> {
    let ended = |(found, _): &(Delivery, Value)| found.state() != DeliveryState::Pending;
    let found = wait::for_end(http, wait, || find(http, id), ended).await?;
    Ok((if ended(&found) { StatusCode::OK } else { StatusCode::ACCEPTED }, found.1))
}
