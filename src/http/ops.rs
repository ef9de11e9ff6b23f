//! Health, version, metrics, and the first page a visitor sees.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde_json::json;

use super::endpoints::left_alone;
use super::problem::{self, Kind, Problem, Result};
use super::{Http, openapi};
use crate::domain::limit::WAITS;
use crate::domain::pause::Reason;
use crate::domain::task::Lane;
use crate::metrics::GivenUp;
use crate::store::{Tx, dead_letter, endpoint, job, task, upstream_limit};

/// An endpoint is sent to, left alone for a while, or disabled.
const CIRCUITS: [&str; 3] = ["closed", "open", "disabled"];

pub async fn livez() -> &'static str {
    "ok\n"
}

/// Ready when the store answers and can be written. Where it could not it is tried, so that a server nobody
/// sends anything to is ready again.
pub async fn readyz(State(http): State<Http>) -> Result<&'static str> {
    http.db.read(upstream_limit::get).await?;
    if http.db.takes_nothing() {
        let as_it_is =
            |tx: &mut Tx| upstream_limit::lock(tx).and_then(|limit| upstream_limit::put(tx, &limit));
        http.db.write(as_it_is).await?;
    }
    Ok("ok\n")
}

pub async fn version(State(http): State<Http>) -> Response {
    axum::Json(json!({
        "name": "reelhook",
        "version": env!("CARGO_PKG_VERSION"),
        "store": http.db.engine(),
    }))
    .into_response()
}

pub async fn root() -> &'static str {
    concat!(
        "reelhook ",
        env!("CARGO_PKG_VERSION"),
        "\n\n  POST /api/jobs            submit a job\n  GET  /api/jobs            list jobs\n  \
         GET  /api/openapi.json    every address\n  \
         GET  /errors              what each error means\n  GET  /readyz              whether it is ready\n  \
         GET  /metrics             figures\n"
    )
}

pub async fn openapi_json() -> Response {
    axum::Json(openapi::document()).into_response()
}

/// The page `type` of a problem document leads to.
pub async fn errors() -> Response {
    ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], problem::markdown()).into_response()
}

pub async fn metrics(State(http): State<Http>) -> Result<Response> {
    let now = http.clock.now();
    let read = move |tx: &mut Tx| {
        let due: Vec<(Lane, i64)> = Lane::ALL
            .into_iter()
            .map(|lane| Ok((lane, task::backlog(tx, lane, now)?.0)))
            .collect::<crate::store::Result<_>>()?;
        let limit = upstream_limit::get(tx)?;
        let dead = dead_letter::count_each(tx)?;
        let mut circuits = CIRCUITS.map(|state| (state, 0));
        for endpoint in endpoint::list(tx)? {
            let state = match endpoint.disabled_at {
                Some(_) => 2,
                None => usize::from(left_alone(tx, &endpoint, now)?.is_some()),
            };
            circuits[state].1 += 1;
        }
        Ok((due, job::count_open(tx)?, upstream_limit::slots_in_use(tx, now)?, limit, (dead, circuits)))
    };
    let (due, open, in_use, limit, (dead, circuits)) = http.db.read(read).await?;
    for (state, count) in circuits {
        http.metrics.set(&http.metrics.endpoint_circuit_state, state, count);
    }
    http.metrics.upstream_slots_in_use.set(in_use);
    http.metrics.upstream_slots_bound.set(limit.bound(now));
    http.metrics.stream_clients.set(i64::try_from(http.streams.open()).unwrap_or(i64::MAX));
    http.metrics.clock_skew_seconds.set(http.clock.wall_ahead() as f64 / 1_000.0);
    let held_up =
        [limit.pause.as_ref().map(|pause| pause.reason.name()), limit.wait(now).map(|wait| wait.reason)];
    for reason in Reason::ALL.iter().map(|reason| reason.name()).chain(WAITS) {
        let is_it = held_up.contains(&Some(reason));
        http.metrics.set(&http.metrics.submission_paused, reason, i64::from(is_it));
    }
    let mut given_up: HashMap<GivenUp, i64> = HashMap::new();
    for (task, cause, count) in dead {
        *given_up.entry(GivenUp { task: task.name(), reason: cause.trouble.name() }).or_default() += count;
    }
    http.metrics.set_dead_letters(given_up);
    for (lane, count) in due {
        http.metrics.set(&http.metrics.tasks_due, lane.name(), count);
    }
    for (state, count) in open {
        http.metrics.set(&http.metrics.jobs_open, state.name(), count);
    }
    let mut response = http.metrics.text().into_response();
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

pub async fn no_route() -> Response {
    Problem::new(Kind::NoRoute).into_response()
}

pub async fn wrong_method() -> Response {
    Problem::new(Kind::MethodNotAllowed).into_response()
}

/// The answer when a handler panicked; the log has the rest.
pub fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    tracing::error!("a handler panicked");
    Problem::new(Kind::Internal).into_response()
}
