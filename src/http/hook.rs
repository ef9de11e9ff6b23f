//! The door for HeyGen's webhooks. Reads at most the limit, judges the raw bytes, stores, answers.
//!
//! Nothing is parsed here, and no 2xx leaves before the commit. What is refused is counted, and a
//! bounded sample kept; it is never acted on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};

use super::Http;
use super::input;
use super::peer::{is_local, remote};
use super::problem::{Kind, Problem, Result};
use super::secrets::Live;
use crate::clock::Stopwatch;
use crate::domain::event_log::DUTY as EVENT_LOG;
use crate::domain::ids;
use crate::domain::outage::WORTH_TELLING;
use crate::domain::receipt::{MAX_UNSIGNED_PER_JOB, Note, Receipt, Verdict};
use crate::domain::signature::{self, Unsigned};
use crate::domain::task::{TaskKind, TaskOp};
use crate::domain::time::{Millis, SECOND};
use crate::fail::Point;
use crate::store::{inbox, job, task};

/// HeyGen's largest known event is a few kB.
pub const MAX_BODY_BYTES: usize = 1 << 20;
/// Least time between two samples kept of what is refused; all are counted.
const SAMPLE_PAUSE: Millis = SECOND;
/// A larger refused body is not kept as a sample.
const MAX_SAMPLE_BYTES: usize = 64 << 10;

/// Our own address, and those that tutorials in circulation have people register.
pub const PATHS: [&str; 5] = [
    "/webhooks/heygen",
    "/api/webhooks/heygen",
    "/api/webhook/heygen",
    "/webhook/heygen",
    "/api/heygen/callback",
];
/// The address of one job.
pub const JOB_PATH: &str = "/webhooks/heygen/{mark}";

/// Whether webhooks for `url` come here, where `base` is our public address.
pub fn leads_here(url: &str, base: &str) -> bool {
    url.strip_prefix(base).is_some_and(|path| PATHS.contains(&path.strip_suffix('/').unwrap_or(path)))
}

/// When a sample was last kept.
#[derive(Default)]
pub struct Sampler(AtomicI64);

/// OPTIONS, HEAD and GET: HeyGen asks before anyone knows the secret (docs/heygen.md, Endpoints).
pub async fn probe() -> StatusCode {
    StatusCode::OK
}

pub async fn receive(State(http): State<Http>, request: Request) -> Response {
    let accepted = accept(&http, None, request).await;
    answer(&http, accepted).await
}

pub async fn receive_for_job(
    State(http): State<Http>,
    Path(mark): Path<String>,
    request: Request,
) -> Response {
    let accepted = accept(&http, Some(mark), request).await;
    answer(&http, accepted).await
}

async fn answer(http: &Http, accepted: Result<()>) -> Response {
    note_outage(http, &accepted).await;
    match accepted {
        Ok(()) => StatusCode::OK.into_response(),
        Err(problem) => problem.into_response(),
    }
}

/// Upstream tries again what it got a 503 for, up to hours later; its event log has it at once.
async fn note_outage(http: &Http, accepted: &Result<()>) {
    let now = http.clock.now();
    let works = accepted.as_ref().is_ok();
    let down = accepted.as_ref().is_err_and(|problem| problem.kind.status() == 503);
    if !works && !down {
        return;
    }
    let ended = http.outage.note(works, now).filter(|lasted| *lasted >= WORTH_TELLING);
    let Some(lasted) = ended else { return };
    tracing::info!(lasted_s = lasted / SECOND, "webhooks are accepted again; reading HeyGen's event log");
    let soon = TaskOp::Hasten(TaskKind::Upkeep, now);
    if let Err(e) = http.db.write(move |tx| task::apply(tx, EVENT_LOG, soon)).await {
        tracing::warn!(error = %e, "HeyGen's event log is read at its usual time only");
    }
}

/// A delivery as it stands at the door.
struct Delivery {
    path: String,
    job_address: Option<String>,
    remote: Option<IpAddr>,
    headers: HeaderMap,
    body: Bytes,
    at: Millis,
    /// An unsigned one may be taken as a hint although it came to a shared address.
    lax: bool,
}

async fn accept(http: &Http, mark: Option<String>, request: Request) -> Result<()> {
    let watch = Stopwatch::start();
    let (parts, body) = request.into_parts();
    let job_address = mark.as_deref().and_then(|mark| http.addresses.job_of(mark));
    let is_unknown = mark.is_some() && job_address.is_none();
    let path = match (&mark, &job_address) {
        (None, _) => parts.uri.path().to_owned(),
        // The unguessable part is a credential and is not written down.
        (Some(_), Some(job_id)) => format!("/webhooks/heygen/{job_id}.…"),
        (Some(_), None) => "/webhooks/heygen/…".to_owned(),
    };
    let remote = remote(http, &parts.extensions, &parts.headers);
    let lax = http.settings.accept_unsigned && is_local(&parts.extensions, &parts.headers, &parts.uri);
    let delivery = Delivery {
        lax,
        path,
        job_address,
        remote,
        headers: parts.headers,
        body: read(http, body).await?,
        at: http.clock.now(),
    };
    if is_unknown {
        let why = Problem::saying(Kind::UnknownAddress, "its unguessable part is that of no job here");
        return Err(refuse(http, delivery, "unknown_address", why).await);
    }
    http.fail.at(Point::HookRead).await;
    let stored = match judge(http, &delivery).await? {
        Ok(signed_by) => store(http, delivery, Verdict::Signed, Some(signed_by)).await,
        Err(_) if delivery.job_address.is_some() || delivery.lax => take_hint(http, delivery).await,
        Err(why) => {
            let problem = Problem::saying(Kind::BadSignature, why.explain());
            return Err(refuse(http, delivery, why.name(), problem).await);
        }
    };
    if stored.is_ok() {
        http.metrics.acked(watch.elapsed());
    }
    stored
}

async fn read(http: &Http, body: Body) -> Result<Bytes> {
    let read = input::read_up_to(body, MAX_BODY_BYTES).await;
    if let Err(problem) = &read
        && problem.kind == Kind::TooLarge
    {
        http.metrics.count(&http.metrics.webhooks_refused, "too_large");
    }
    read
}

/// The name of the secret that signed it, or why none did. Before a refusal the secrets are read
/// again: another node may just have got a new one, or have asked for one.
async fn judge(http: &Http, d: &Delivery) -> Result<std::result::Result<String, Unsigned>> {
    let header = |name: &str| d.headers.get(name).and_then(|v| v.to_str().ok());
    let verify = |live: &Live| match signature::verify(&d.body, header, &live.secrets, d.at) {
        Ok(nth) => Ok(live.names.get(nth).cloned().unwrap_or_default()),
        Err(why) => Err(why),
    };
    let mut live = http.secrets.live_at(d.at).await?;
    let mut verdict = verify(&live);
    if verdict == Err(Unsigned::NoMatch) {
        http.secrets.refresh(d.at).await?;
        live = http.secrets.live();
        verdict = verify(&live);
    }
    let shared = d.job_address.is_none() && !d.lax;
    match verdict {
        Err(_) if shared && !live.doubts.is_empty() => Err(Kind::Rotating.into()),
        Err(why) if shared && live.secrets.is_empty() && why != Unsigned::NoHeader => {
            Err(Kind::NoSecret.into())
        }
        verdict => Ok(verdict),
    }
}

async fn store(http: &Http, d: Delivery, verdict: Verdict, signed_by: Option<String>) -> Result<()> {
    let receipt = receipt(http, d, verdict, signed_by, Note::default());
    http.fail.at(Point::HookJudged).await;
    let fresh = http.intake.accept(receipt).await?;
    http.fail.at(Point::HookStored).await;
    http.metrics.count(&http.metrics.webhooks_received, verdict.name());
    if !fresh {
        http.metrics.webhook_duplicates.inc();
    }
    Ok(())
}

/// An unsigned delivery may make us look, within bounds; beyond them it is answered and counted.
async fn take_hint(http: &Http, d: Delivery) -> Result<()> {
    let Some(job_id) = d.job_address.clone() else {
        return store(http, d, Verdict::Unsigned, None).await;
    };
    let read = move |tx: &mut crate::store::Tx| {
        let over = job::find(tx, &job_id)?.is_none_or(|job| job.state.is_terminal());
        Ok((over, inbox::count_unsigned(tx, &job_id)?))
    };
    let bound = match http.db.read(read).await? {
        (true, _) => "job_finished",
        (false, kept) if kept >= MAX_UNSIGNED_PER_JOB => "per_job",
        _ => return store(http, d, Verdict::Unsigned, None).await,
    };
    http.metrics.count(&http.metrics.hints_dropped, bound);
    Ok(())
}

/// Counts what is refused, by `reason`, and keeps a sample with the words of the answer.
async fn refuse(http: &Http, d: Delivery, reason: &'static str, problem: Problem) -> Problem {
    http.metrics.count(&http.metrics.webhooks_refused, reason);
    let at = d.at;
    let last = http.sampler.0.load(Ordering::Relaxed);
    let due = at.saturating_sub(last) >= SAMPLE_PAUSE || at < last;
    let sampled = due
        && d.body.len() <= MAX_SAMPLE_BYTES
        && http.sampler.0.compare_exchange(last, at, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    if sampled {
        let why = problem.detail.as_deref().unwrap_or(reason);
        let note = Note { meaning: Some(format!("refused: {why}")), ..Note::default() };
        let sample = receipt(http, d, Verdict::Refused, None, note);
        if let Err(e) = http.db.write(move |tx| inbox::keep_refused(tx, &sample)).await {
            tracing::debug!(error = %e, "a sample of a refused webhook was not kept");
        }
    }
    problem
}

fn receipt(http: &Http, d: Delivery, verdict: Verdict, signed_by: Option<String>, note: Note) -> Receipt {
    Receipt {
        id: ids::new(ids::RECEIPT, d.at, http.clock.random()),
        received_at: d.at,
        verdict,
        job_address: d.job_address,
        signed_by,
        path: d.path,
        remote: d.remote.map(|ip| ip.to_string()),
        headers: chosen(&d.headers),
        body: d.body.into(),
        note,
    }
}

/// The headers that say something about the delivery, and all that HeyGen may come to send. No cookie and no
/// credential is among them. At most so many, each so long: more is nobody's we know.
fn chosen(headers: &HeaderMap) -> String {
    const KEPT: [&str; 5] = ["content-type", "user-agent", "signature", "x-request-id", "x-forwarded-proto"];
    const HEYGENS: [&str; 2] = ["heygen-", "x-heygen-"];
    const MOST: usize = 24;
    const MAX_BYTES: usize = 1_024;
    let wanted = |name: &str| KEPT.contains(&name) || HEYGENS.iter().any(|start| name.starts_with(start));
    let kept = headers.keys().map(http::HeaderName::as_str).filter(|name| wanted(name));
    let kept = kept.filter_map(|name| {
        let value = headers.get(name).filter(|value| value.len() <= MAX_BYTES)?;
        Some((name, String::from_utf8_lossy(value.as_bytes())))
    });
    let kept: BTreeMap<&str, Cow<str>> = kept.take(MOST).collect();
    // Texts by text always are JSON.
    serde_json::to_string(&kept).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_addresses_lead_here() {
        let base = "https://h.example";
        for path in PATHS {
            assert!(leads_here(&format!("{base}{path}"), base), "{path}");
            assert!(leads_here(&format!("{base}{path}/"), base), "{path}/");
        }
        for url in [
            "https://h.example",
            "https://h.example/webhooks/heygen/job_1.0",
            "https://h.example/webhooks/heygen//",
            "https://h.example.com/webhooks/heygen",
            "https://h.example-staging/webhooks/heygen",
            "http://h.example/webhooks/heygen",
        ] {
            assert!(!leads_here(url, base), "{url}");
        }
    }
}
