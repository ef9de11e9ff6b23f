//! What is wrong, and what to do about it: the checks behind `reelhook doctor`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::endpoints::left_alone;
use super::problem::Result;
use super::{Http, hook, upstream};
use crate::domain::dead_letter::Filter;
use crate::domain::event_log::{EVERY, Position};
use crate::domain::job::State as JobState;
use crate::domain::receipt::Verdict;
use crate::domain::task::Lane;
use crate::domain::time::{DAY, MINUTE, rfc3339};
use crate::heygen::webhooks::{self, Endpoint};
use crate::store::{
    self, Tx, dead_letter, endpoint, inbox, job, setting, task, upstream_limit, webhook_secret,
};

/// A gap in HeyGen's event log is told for this long.
const GAP_SHOWN: i64 = 7 * DAY;
/// More events that an endpoint lacks are counted.
const EVENTS_SHOWN: usize = 4;

struct Check {
    name: &'static str,
    /// `ok`, `warn` or `fail`.
    status: &'static str,
    detail: String,
    fix: Option<String>,
}

fn ok(name: &'static str, detail: impl Into<String>) -> Check {
    Check { name, status: "ok", detail: detail.into(), fix: None }
}

fn warn(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { name, status: "warn", detail: detail.into(), fix: Some(fix.into()) }
}

fn fail(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { status: "fail", ..warn(name, detail, fix) }
}

pub async fn get(State(http): State<Http>) -> Result<Response> {
    let mut checks = vec![store_answers(&http).await?, proxy(&http)];
    checks.extend([heygen_key(&http).await, submission(&http).await?]);
    checks.push(unknown(&http).await?);
    checks.push(public_address(&http).await);
    checks.push(heygen_endpoint(&http).await?);
    checks.push(secret(&http));
    checks.push(event_log(&http).await?);
    checks.push(refusals(&http).await?);
    checks.push(backlog(&http).await?);
    checks.push(endpoints(&http).await?);
    checks.push(dead_letters(&http).await?);
    let healthy = checks.iter().all(|c| c.status != "fail");
    let all: Vec<Value> = checks
        .into_iter()
        .map(|c| json!({"check": c.name, "status": c.status, "detail": c.detail, "fix": c.fix}))
        .collect();
    Ok(axum::Json(json!({"healthy": healthy, "checks": all})).into_response())
}

async fn store_answers(http: &Http) -> Result<Check> {
    http.db.read(upstream_limit::get).await?;
    Ok(ok("store", format!("{} answers", http.db.engine())))
}

/// Whether it works is seen by those that call HeyGen.
fn proxy(http: &Http) -> Check {
    ok("proxy", http.settings.proxies.to_string())
}

/// Jobs of which nobody knows whether HeyGen took them; of those that may not be sent again a person decides.
async fn unknown(http: &Http) -> Result<Check> {
    const NAME: &str = "unknown outcomes";
    let open = http.db.read(job::count_open).await?;
    let count = open.into_iter().find(|(state, _)| *state == JobState::Unknown).map_or(0, |(_, n)| n);
    Ok(match count {
        0 => ok(NAME, "none"),
        n => warn(
            NAME,
            format!("{n} job(s) were sent, and no answer says whether HeyGen took them"),
            "most are found out without you; `reelhook job list --state unknown` has them, and what each waits for is \
             in its note",
        ),
    })
}

async fn dead_letters(http: &Http) -> Result<Check> {
    const NAME: &str = "dead letters";
    let read = |tx: &mut Tx| {
        let all = Filter::default();
        Ok((dead_letter::count(tx, &all)?, dead_letter::list_causes(tx, &all, 1)?.pop()))
    };
    let (count, most) = http.db.read(read).await?;
    Ok(match most {
        None => ok(NAME, "none"),
        Some(most) => warn(
            NAME,
            format!(
                "{count} given up; of {} the cause is that {}, since {}",
                most.count,
                most.cause.title(),
                rfc3339(most.first_at)
            ),
            "`reelhook dead-letter list` has each cause and what to do",
        ),
    })
}

/// Those of the application.
async fn endpoints(http: &Http) -> Result<Check> {
    const NAME: &str = "endpoints";
    let now = http.clock.now();
    let read = move |tx: &mut Tx| {
        let all = endpoint::list(tx)?;
        let alone = all.iter().map(|e| left_alone(tx, e, now)).collect::<store::Result<Vec<_>>>()?;
        Ok(all.into_iter().zip(alone).collect::<Vec<_>>())
    };
    let all = http.db.read(read).await?;
    let (live, disabled): (Vec<_>, Vec<_>) = all.iter().partition(|(e, _)| e.disabled_at.is_none());
    if let Some((one, _)) = disabled.first() {
        let (id, why) = (&one.id, one.details.disabled_for.as_deref().unwrap_or("somebody wished it"));
        return Ok(fail(
            NAME,
            format!("{} of {} disabled, {id} because {why}", disabled.len(), all.len()),
            format!(
                "repair its receiver, then `reelhook endpoint enable {id}` and `reelhook dead-letter replay \
                 --endpoint {id}`; or `reelhook endpoint remove {id}`"
            ),
        ));
    }
    let in_trouble: Vec<(&String, Vec<String>)> = live
        .iter()
        .map(|(e, alone)| {
            let failing = e.details.failing_since.map(|at| format!("failing since {}", rfc3339(at)));
            let alone = alone.map(|at| format!("left alone until {}", rfc3339(at)));
            (&e.id, failing.into_iter().chain(alone).collect::<Vec<_>>())
        })
        .filter(|(_, how)| !how.is_empty())
        .collect();
    Ok(match in_trouble.first() {
        Some((id, how)) => warn(
            NAME,
            format!("{} of {} in trouble, {id} {}", in_trouble.len(), all.len(), how.join(", ")),
            format!(
                "`reelhook delivery list --endpoint {id}` has its answers; once it is repaired, `reelhook delivery \
                 replay --endpoint {id}` sends at once what waits"
            ),
        ),
        None if all.is_empty() => ok(NAME, "none"),
        None => ok(NAME, format!("{} enabled, none in trouble", all.len())),
    })
}

async fn heygen_key(http: &Http) -> Check {
    const NAME: &str = "HeyGen key";
    if !http.heygen.has_key() {
        return fail(NAME, "none is set, so nothing is sent", "set HEYGEN_API_KEY and start again");
    }
    match http.heygen.me().await {
        Ok(me) => ok(NAME, format!("works, for {}", me["username"].as_str().unwrap_or("an unnamed account"))),
        Err(fault) => fail(NAME, fault.why(), "check HEYGEN_API_KEY, and that this machine reaches HeyGen"),
    }
}

async fn submission(http: &Http) -> Result<Check> {
    const NAME: &str = "submission";
    let state = upstream::state(http).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let used = format!(
        "{} of {} slots in use, {} job(s) queued",
        state["slots_in_use"], state["slots"], state["queued"]
    );
    let (paused, waiting) = (&state["paused"], &state["waiting"]);
    if paused.is_object() {
        let who = match (paused["by"].as_str(), paused["note"].as_str()) {
            (Some(by), Some(note)) => format!(", by {by}: {note}"),
            (Some(by), None) => format!(", by {by}"),
            _ => String::new(),
        };
        let since = text(&paused["since"]);
        let what = format!("{used}; paused since {since}: {}{who}", text(&paused["what"]));
        return Ok(match paused["opened"].as_bool() {
            Some(true) => warn(NAME, what, "the account looks right again; the next job finds out"),
            _ => fail(NAME, what, text(&paused["fix"])),
        });
    }
    if waiting.is_null() {
        return Ok(ok(NAME, used));
    }
    let on = waiting["until"]
        .as_str()
        .map_or("it goes on by itself".to_owned(), |at| format!("it goes on at {at}"));
    Ok(warn(NAME, format!("{used}; {}", text(&waiting["what"])), on))
}

async fn public_address(http: &Http) -> Check {
    const NAME: &str = "public address";
    let Some(base) = &http.settings.hooks_url else {
        return warn(
            NAME,
            "none is set that HeyGen can reach; outcomes are found by polling",
            "set --public-url",
        );
    };
    let url = format!("{base}{}", hook::PATHS[0]);
    match webhooks::probe(&http.heygen, &url).await {
        Ok(took) => {
            ok(NAME, format!("{url} answers OPTIONS in {} ms (HeyGen waits 1,000)", took.as_millis()))
        }
        Err(why) => fail(NAME, format!("{url}: {why}"), "make the address lead to this server"),
    }
}

const ENDPOINT: &str = "HeyGen endpoint";

async fn heygen_endpoint(http: &Http) -> Result<Check> {
    let Some(base) = http.settings.hooks_url.clone() else {
        return Ok(warn(ENDPOINT, "not checked without a public address", "set --public-url"));
    };
    let all = match webhooks::list(&http.heygen).await {
        Ok(all) => all,
        Err(fault) => return Ok(warn(ENDPOINT, fault.why(), "repair the HeyGen key first")),
    };
    let ours: Vec<_> = all.iter().filter(|e| hook::leads_here(&e.url, &base)).collect();
    Ok(match ours.as_slice() {
        [] => warn(
            ENDPOINT,
            "none leads here; jobs get an address of their own instead",
            "run `reelhook webhook register`",
        ),
        [one] if one.status.as_deref() == Some("disabled") => {
            fail(ENDPOINT, format!("{} is disabled at HeyGen", one.url), "remove it and register again")
        }
        [one] => registered(http, one).await?,
        more => warn(
            ENDPOINT,
            format!("{} endpoints lead here, so every event comes as often", more.len()),
            "remove all but one: `reelhook webhook list`, `reelhook webhook remove ID`",
        ),
    })
}

/// The one endpoint that leads here: whether we can verify what it sends, and whether it sends the
/// ends of jobs.
async fn registered(http: &Http, one: &Endpoint) -> Result<Check> {
    let now = http.clock.now();
    let known = http.db.read(move |tx: &mut Tx| webhook_secret::list_live(tx, now)).await?;
    // One that was set may be its secret; what it signs will tell.
    let may_verify =
        known.iter().any(|k| k.endpoint_id == one.endpoint_id) || !http.settings.webhook_secrets.is_empty();
    if !may_verify {
        return Ok(warn(
            ENDPOINT,
            format!(
                "{} is registered, and its secret is not known here, so nothing it signs is believed",
                one.url
            ),
            "run `reelhook webhook register`: it gets a new secret",
        ));
    }
    let mut missing = webhooks::outcome_events();
    missing.retain(|event| one.events.as_ref().is_some_and(|chosen| !chosen.contains(event)));
    if missing.is_empty() {
        return Ok(ok(ENDPOINT, format!("{} is registered", one.url)));
    }
    let more = missing.len().saturating_sub(EVENTS_SHOWN);
    missing.truncate(EVENTS_SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Ok(warn(
        ENDPOINT,
        format!(
            "{} is registered without {}{more}; ends they would tell are found by polling, later",
            one.url,
            missing.join(", ")
        ),
        "where you make such jobs, run `reelhook webhook register`, which asks for all events",
    ))
}

fn secret(http: &Http) -> Check {
    const NAME: &str = "webhook secret";
    let live = http.secrets.live();
    if let Some((about, doubt)) = live.doubts.first_key_value() {
        return fail(
            NAME,
            format!(
                "since {} it is open whether HeyGen has made a new one for {about}; what no known secret signed is \
                 answered 503",
                rfc3339(doubt.since)
            ),
            "run `reelhook webhook rotate`, or `register`, again: it gets the same answer",
        );
    }
    match live.secrets.len() {
        0 if http.settings.accept_unsigned => warn(
            NAME,
            "none is known: with --accept-unsigned webhooks from this machine are hints, whatever their \
             signature; signed ones from elsewhere are answered 503",
            "for a laptop this will do; else run `reelhook webhook register`, or set HEYGEN_WEBHOOK_SECRET",
        ),
        0 => warn(
            NAME,
            "none is known: signed webhooks are answered 503",
            "run `reelhook webhook register`, or set HEYGEN_WEBHOOK_SECRET",
        ),
        n => ok(NAME, format!("{n} live")),
    }
}

async fn event_log(http: &Http) -> Result<Check> {
    const NAME: &str = "HeyGen event log";
    let stored = http.db.read(|tx: &mut Tx| setting::find(tx, setting::EVENT_LOG)).await?;
    let position: Position = stored.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let now = http.clock.now();
    if let Some(fault) = &position.fault {
        return Ok(warn(
            NAME,
            format!("the last try to read it failed: {fault}"),
            "it is tried again by itself; polls go on meanwhile",
        ));
    }
    if let Some(gap) = position.gap.filter(|gap| now.saturating_sub(gap.found_at) < GAP_SHOWN) {
        return Ok(warn(
            NAME,
            format!("HeyGen no longer had the events from {} to {}", rfc3339(gap.from), rfc3339(gap.to)),
            "polls find the jobs they concerned; `reelhook job adopt --since` finds what else was made then",
        ));
    }
    Ok(match position.caught_up_at {
        Some(at) if now.saturating_sub(at) < 2 * EVERY => {
            ok(NAME, format!("read to its end at {}", rfc3339(at)))
        }
        Some(at) => warn(NAME, format!("not read since {}", rfc3339(at)), "see the log for why work stands"),
        None => ok(NAME, "being read for the first time"),
    })
}

async fn refusals(http: &Http) -> Result<Check> {
    let filter = inbox::Filter { verdict: Some(Verdict::Refused), job_id: None };
    let last = http.db.read(move |tx: &mut Tx| inbox::list(tx, &filter, None, 1)).await?;
    let recent = last.into_iter().find(|r| http.clock.now() - r.received_at < 60 * MINUTE);
    Ok(match recent {
        None => ok("refused webhooks", "none in the last hour"),
        Some(r) => warn(
            "refused webhooks",
            format!("the last: {} ({})", r.id, r.note.meaning.unwrap_or_default()),
            format!("`reelhook receipt show {}` goes through its signature", r.id),
        ),
    })
}

async fn backlog(http: &Http) -> Result<Check> {
    let now = http.clock.now();
    let read = move |tx: &mut Tx| task::backlog(tx, Lane::Inbound, now);
    let (count, since) = http.db.read(read).await?;
    let age = since.map_or(0, |at| now.saturating_sub(at));
    Ok(if age > MINUTE {
        fail(
            "inbox",
            format!("{count} receipts wait, the oldest for {} s", age / 1_000),
            "see the log for why work stands",
        )
    } else {
        ok("inbox", format!("{count} receipts wait"))
    })
}
