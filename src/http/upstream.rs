//! What holds submission up, for people and programs, and the two switches an operator has.
//!
//! It changes no job: what waits goes on by itself.

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::auth::Caller;
use super::problem::Result;
use super::{Http, input};
use crate::domain::job::{Job, State as JobState};
use crate::domain::job_json::job_json;
use crate::domain::limit::{LOOK, Limit, Milli, Wait};
use crate::domain::task::TaskKind;
use crate::domain::time::{DAY, Millis, rfc3339};
use crate::store::{Tx, job, task, upstream_limit};

const MAX_REASON_CHARS: usize = 500;

pub async fn get(State(http): State<Http>) -> Result<Response> {
    Ok(axum::Json(state(&http).await?).into_response())
}

/// Stops sending until `resume`. What HeyGen has already goes on there.
pub async fn pause(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response> {
    let mut fields = input::Fields::new(input::object(&input::read(body).await?, true)?);
    let note = fields.text("reason", MAX_REASON_CHARS);
    fields.finish()?;
    let now = http.clock.now();
    tracing::warn!(by = caller.id, note, "submission is paused by an operator");
    change(&http, move |limit| limit.pause_by(&caller.id, note.clone(), now)).await
}

/// Ends a pause, whoever began it. If its cause is still there, the next job finds it.
pub async fn resume(
    State(http): State<Http>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Response> {
    input::nothing(body).await?;
    let now = http.clock.now();
    tracing::info!(by = caller.id, "submission is resumed by an operator");
    change(&http, move |limit| {
        limit.resume(now);
    })
    .await
}

async fn change(http: &Http, change: impl Fn(&mut Limit) + Send + 'static) -> Result<Response> {
    let write = move |tx: &mut Tx| {
        let mut limit = upstream_limit::lock(tx)?;
        change(&mut limit);
        upstream_limit::put(tx, &limit)
    };
    http.db.write(write).await?;
    Ok(axum::Json(state(http).await?).into_response())
}

pub async fn state(http: &Http) -> Result<Value> {
    let now = http.clock.now();
    let read = move |tx: &mut Tx| {
        let open = job::count_open(tx)?;
        let queued = open.into_iter().find(|(state, _)| *state == JobState::Queued).map_or(0, |(_, n)| n);
        Ok((
            upstream_limit::get(tx)?,
            upstream_limit::slots_in_use(tx, now)?,
            queued,
            task::find_due(tx, LOOK, TaskKind::Upkeep)?,
        ))
    };
    let (limit, used, queued, look_at) = http.db.read(read).await?;
    let today = limit.today_at(now);
    let paused = limit.pause.as_ref().map(|pause| {
        json!({
            "reason": pause.reason.name(),
            "what": pause.reason.what(),
            "fix": pause.reason.fix(),
            "by": pause.by,
            "note": pause.note,
            "since": rfc3339(pause.since),
            "opened": pause.opened,
            "next_look_at": look_at.filter(|_| limit.wants_look()).map(rfc3339),
        })
    });
    Ok(json!({
        "slots": limit.bound(now),
        "most_slots": limit.most_slots,
        "slots_in_use": used,
        "queued": queued,
        "waiting": limit.wait(now).map(|wait| waiting_json(&wait)),
        "paused": paused,
        "today": {
            "jobs": today.jobs,
            "most_jobs": limit.daily_jobs,
            "credits": limit.daily_credits.map(|_| units(today.spent)),
            "most_credits": limit.daily_credits.map(units),
            "ends_at": rfc3339((today.day + 1) * DAY),
        },
        "balance": balance_json(&limit),
        "least_credits": limit.least_credits.map(units),
    }))
}

/// What HeyGen told at the last look.
pub fn balance_json(limit: &Limit) -> Option<Value> {
    limit.balance.map(|(has, at)| json!({"left": units(has), "at": rfc3339(at)}))
}

/// Thousandths as credits or dollars.
fn units(milli: Milli) -> f64 {
    // Far below 2^53.
    #[allow(clippy::cast_precision_loss)]
    let milli = milli as f64;
    milli / 1_000.0
}

fn waiting_json(wait: &Wait) -> Value {
    json!({"reason": wait.reason, "what": wait.what, "until": wait.until.map(rfc3339)})
}

/// A job as it is now: a queued one with what holds it or all of them up, which no event can tell.
pub fn live_json(job: &Job, limit: &Limit, now: Millis) -> Value {
    let mut shown = job_json(job);
    if let Some(wait) = waits_for(job, limit, now) {
        shown["waiting"] = waiting_json(&wait);
    }
    shown
}

pub fn waits_for(job: &Job, limit: &Limit, now: Millis) -> Option<Wait> {
    if job.state != JobState::Queued {
        return None;
    }
    let what = "it is not to be sent before then";
    let put_off = job.details.not_before.map(|at| Wait { reason: "not_before", what, until: Some(at) });
    let what = "HeyGen did not take it the last time, as its note says; it is sent again by itself";
    let not_taken = || (job.details.refusals > 0).then_some(Wait { reason: "not_taken", what, until: None });
    put_off.or_else(|| limit.wait(now)).or_else(not_taken)
}
