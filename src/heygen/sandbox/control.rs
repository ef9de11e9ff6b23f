//! The sandbox's own routes, under `/sandbox/` and without a key: read the ledger, order trouble,
//! look at the state and turn its switches. Never part of what HeyGen has.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Problem, Query, data};
use super::{Fault, Sandbox};

/// Ledger entries in one answer.
const PAGE: usize = 1_000;
/// Jobs whose faults may wait in the script.
const SCRIPTED: usize = 10_000;

/// `?after=<seq>`: the entries that follow, at most a thousand.
pub async fn ledger(State(sandbox): State<Sandbox>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref());
    let after = query.get("after").map_or(Ok(0), str::parse);
    let after = after.map_err(|_| Problem::param("after", "after must be the number of an entry."))?;
    let mut entries = sandbox.0.ledger.after(after, PAGE + 1);
    let has_more = entries.len() > PAGE;
    entries.truncate(PAGE);
    Ok(axum::Json(json!({ "data": entries, "has_more": has_more })).into_response())
}

/// What is ordered, and every word that can be.
pub async fn script(State(sandbox): State<Sandbox>) -> Response {
    let words: Vec<Value> =
        Fault::ALL.iter().map(|f| json!({ "word": f.word(), "about": f.about() })).collect();
    let waiting = sandbox.world().script.clone();
    data(json!({ "waiting": waiting, "words": words }))
}

/// `faults` for the next job, or `jobs` with one list for each of the next jobs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    #[serde(default)]
    faults: Option<Vec<Fault>>,
    #[serde(default)]
    jobs: Vec<Vec<Fault>>,
}

pub async fn add_script(State(sandbox): State<Sandbox>, body: Bytes) -> Result<Response, Problem> {
    let order: Order = read(&body)?;
    let waiting = {
        let mut world = sandbox.world();
        world.script.extend(order.faults.into_iter().chain(order.jobs));
        world.script.truncate(SCRIPTED);
        world.script.clone()
    };
    Ok(data(json!({ "waiting": waiting })))
}

pub async fn state(State(sandbox): State<Sandbox>) -> Response {
    data(sandbox.shown())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switches {
    balance: Option<f64>,
    revoked: Option<bool>,
    offline: Option<bool>,
}

pub async fn set_state(State(sandbox): State<Sandbox>, body: Bytes) -> Result<Response, Problem> {
    let switches: Switches = read(&body)?;
    if let Some(credits) = switches.balance {
        sandbox.set_balance(credits);
    }
    if let Some(revoked) = switches.revoked {
        sandbox.revoke_key(revoked);
    }
    if let Some(offline) = switches.offline {
        sandbox.set_offline(offline);
    }
    Ok(data(sandbox.shown()))
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|e| Problem::param("body", e.to_string()))
}

impl Sandbox {
    fn shown(&self) -> Value {
        let now = self.now();
        let tally = self.tally();
        let world = self.world();
        let endpoints: Vec<Value> =
            world.endpoints.values().map(|e| json!({ "endpoint_id": e.id, "url": e.url })).collect();
        json!({
            "now": now,
            "next_due": world.next_due(),
            "balance": world.balance,
            "revoked": world.revoked,
            "offline": world.offline,
            "jobs": world.jobs.len(),
            "unfinished": world.unfinished(now).0,
            "endpoints": endpoints,
            "deliveries_waiting": world.deliveries.len(),
            "tally": tally,
        })
    }
}
