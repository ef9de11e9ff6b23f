//! `reelhook group`: jobs that were submitted together with `reelhook job submit --template`.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::Session;
use super::job::{Again, submit, wait};
use super::list::{self, PageFlags};
use super::output::{Fit, Output, Paint, Shown, cell, field, painted};
use super::units::age;
use super::{CliError, Exit, Result};
use crate::domain::job::State;

const GROUP: wait::Kind = wait::group(words);
/// How a job ends that did not complete.
const UNWISHED: [State; 2] = [State::Failed, State::Canceled];

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List groups, newest first.
    #[command(after_help = "Example:\n  reelhook group list --limit 5")]
    List {
        #[command(flatten)]
        page: PageFlags,
    },
    /// Show one group, with its jobs counted by state.
    #[command(
        after_help = "Examples:\n  reelhook group get grp_01…\n  reelhook job list --group grp_01… --state failed"
    )]
    Get {
        #[arg(value_name = "ID")]
        id: String,
        /// Wait this many seconds for its end, 0 to 60.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=60))]
        wait: Option<u64>,
    },
    /// Wait until every job of a group has ended and tell how it went.
    #[command(
        after_help = "Exit code 0 when all completed, 7 when a job failed or was canceled, 4 when the time was up.\n\n\
        Example:\n  reelhook group wait grp_01… --timeout 3h"
    )]
    Wait {
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        until: wait::Until,
    },
    /// Cancel the jobs of a group that were not sent to HeyGen yet; it takes no more rows.
    #[command(after_help = "Example:\n  reelhook group cancel grp_01…")]
    Cancel {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Make a new group of the jobs that failed or expired; each is retried once.
    #[command(
        after_help = "Examples:\n  reelhook group retry-failed grp_01… --wait\n  reelhook group retry-failed grp_01… --accept-second-charge"
    )]
    RetryFailed {
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        how: Again,
    },
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::List { page } => list::run(s, &["groups"], vec![], &page, |rows| table(s, rows)).await,
        Verb::Get { id, wait } => {
            let path = ["groups", &*id];
            let group = match wait {
                Some(seconds) => s.api.get_waiting(&path, Duration::from_secs(seconds)).await?,
                None => s.api.get(&path, &[]).await?,
            };
            print(s, &group);
            Ok(Exit::Ok)
        }
        Verb::Wait { id, until } => wait_for(s, &id, None, &until).await,
        Verb::Cancel { id } => cancel(s, &id).await,
        Verb::RetryFailed { id, how } => retry_failed(s, &id, &how).await,
    }
}

async fn cancel(s: &Session, id: &str) -> Result<Exit> {
    let done = s.api.post(&["groups", id, "cancel"], None).await?;
    s.out.answer(&done, |out| page(out, &done["group"], s.clock.now()));
    let (canceled, left) = (field(&done, "canceled"), field(&done, "not_canceled"));
    s.out.note(&format!("{canceled} canceled; {left} go on, because HeyGen has them"));
    Ok(Exit::Ok)
}

async fn retry_failed(s: &Session, id: &str, how: &Again) -> Result<Exit> {
    let done = how.send(s, &["groups", id, "retry-failed"]).await?;
    note_left(s, id, &done);
    if how.wait.wait {
        return finish(s, done["group"].clone(), &how.wait).await;
    }
    s.out.answer(&done, |out| page(out, &done["group"], s.clock.now()));
    Ok(Exit::Ok)
}

/// Of the group that was tried again.
fn note_left(s: &Session, id: &str, done: &Value) {
    let left = done["left"].as_array().map_or(0, Vec::len);
    if done["remaining"] == true {
        s.out.note(&format!(
            "more failed than are retried at once; `reelhook group retry-failed {id}` takes the next"
        ));
    }
    if left > 0 {
        s.out.note(&format!(
            "{left} left: HeyGen may have charged for them; `reelhook group retry-failed {id} --accept-second-charge` \
             takes them, too"
        ));
    }
}

/// Prints a new group, or waits for its end first.
pub async fn finish(s: &Session, group: Value, wait: &wait::Wait) -> Result<Exit> {
    note_outlook(s, &group);
    match group["id"].as_str() {
        Some(id) if wait.wait => {
            let id = id.to_owned();
            wait_for(s, &id, Some(group), &wait.until()).await
        }
        _ => {
            print(s, &group);
            Ok(Exit::Ok)
        }
    }
}

/// Waits for its end; of what failed a second group is made then, whose end is the answer. That goes well only
/// if every job of the first did, there or here.
pub async fn finish_twice(s: &Session, made: Value, wait: &wait::Wait) -> Result<Exit> {
    note_outlook(s, &made);
    let id = field(&made, "id");
    let first = wait::for_end(s, &GROUP, &id, Some(made), &wait.until()).await?;
    let missed = not_completed(&first);
    if first["finished_at"].is_null() || missed.is_empty() {
        return tell_end(s, &first, &wait.until());
    }
    let body = json!({"accept_second_charge": false});
    // A key of the group's: a submit that is repeated finds the same second group.
    let key = format!("{id}-again");
    let again = format!("`reelhook group retry-failed {id} --idempotency-key {key}`");
    let done = match submit::send(s, &["groups", &id, "retry-failed"], &body, &key, &again).await {
        Err(refused) if refused.problem["status"] == 409 => {
            s.out.note(&format!("nothing is tried again: {}", field(&refused.problem, "detail")));
            return tell_end(s, &first, &wait.until());
        }
        done => done?,
    };
    s.out.note(&format!("of {id} {missed}; what failed is tried again, once"));
    note_left(s, &id, &done);
    finish(s, done["group"].clone(), wait).await?;
    let tried = done["group"]["jobs"].as_u64().unwrap_or(0);
    let unwished: u64 = UNWISHED.iter().filter_map(|state| first["counts"][state.name()].as_u64()).sum();
    if tried >= unwished {
        return Ok(Exit::Ok);
    }
    let detail = format!("of {} jobs {missed}, and {tried} tried again", field(&first, "jobs"));
    Err(ended_badly(&id, detail))
}

/// What a submit, or its dry run, warns of.
pub fn note_outlook(s: &Session, answer: &Value) {
    if let Some(hint) = answer["outlook"]["hint"].as_str() {
        s.out.note(hint);
    }
}

async fn wait_for(s: &Session, id: &str, known: Option<Value>, until: &wait::Until) -> Result<Exit> {
    let group = wait::for_end(s, &GROUP, id, known, until).await?;
    tell_end(s, &group, until)
}

/// Prints a group that was waited for, and says by the exit code how it went.
fn tell_end(s: &Session, group: &Value, until: &wait::Until) -> Result<Exit> {
    print(s, group);
    let id = field(group, "id");
    if group["finished_at"].is_null() {
        return Err(wait::timed_out(&GROUP, &id, &words(group), until));
    }
    let bad = not_completed(group);
    if bad.is_empty() {
        return Ok(Exit::Ok);
    }
    Err(ended_badly(&id, format!("of {} jobs {bad}", field(group, "jobs"))))
}

fn ended_badly(id: &str, detail: String) -> CliError {
    let hint = format!(
        "`reelhook job list --group {id} --state failed` says why; `reelhook group retry-failed {id}` tries them again"
    );
    CliError::new(Exit::JobFailed, "cli_job_ended", detail, Some(&hint))
}

/// How far it is, and what did not go well: `40 % of 500 ended (3 failed)`.
fn words(group: &Value) -> String {
    let bad = not_completed(group);
    let bad = if bad.is_empty() { bad } else { format!(" ({bad})") };
    let more = if group["next_row"].is_null() { "" } else { ", more rows to come" };
    format!("{} % of {} ended{bad}{more}", field(group, "progress"), field(group, "jobs"))
}

/// Jobs that ended otherwise than wished: `3 failed, 1 canceled`.
fn not_completed(group: &Value) -> String {
    counted(group, &UNWISHED)
}

/// How many jobs are in these states, those that are empty left out.
fn counted(group: &Value, states: &[State]) -> String {
    let some = states.iter().filter_map(|state| {
        let count = group["counts"][state.name()].as_u64().filter(|n| *n > 0)?;
        Some(format!("{count} {}", state.name()))
    });
    some.collect::<Vec<_>>().join(", ")
}

fn print(s: &Session, group: &Value) {
    s.out.answer(group, |out| page(out, group, s.clock.now()));
}

fn page(out: &Output, group: &Value, now: i64) -> String {
    let state = match (&group["finished_at"], &group["next_row"]) {
        (Value::Null, Value::Null) => "open",
        (Value::Null, _) => "open, takes more rows",
        _ => "finished",
    };
    let head = format!("{}  {state}\n", out.paint(&field(group, "id"), Paint::Bold));
    let submitted = age(group["created_at"].as_str(), now);
    head + &out.pairs(&[
        ("title", field(group, "title")),
        ("jobs", format!("{}: {}", field(group, "jobs"), counted(group, &State::ALL))),
        ("ended", format!("{} %", field(group, "progress"))),
        ("submitted", format!("{} ({submitted} ago)", field(group, "created_at"))),
        ("finished", field(group, "finished_at")),
        ("retry of", field(group, "retry_of")),
    ])
}

fn table(s: &Session, groups: &[Value]) -> String {
    let now = s.clock.now();
    let columns = [
        ("ID", Fit::Whole),
        ("JOBS", Fit::Number),
        ("ENDED", Fit::Number),
        ("FAILED", Fit::Number),
        ("AGE", Fit::Number),
        ("TITLE", Fit::Cut),
    ];
    let row = |group: &Value| -> Vec<Shown> {
        let failed = field(&group["counts"], "failed");
        let paint = if failed == "0" { Paint::Plain } else { Paint::Bad };
        vec![
            cell(field(group, "id")),
            cell(field(group, "jobs")),
            cell(format!("{} %", field(group, "progress"))),
            painted(failed, paint),
            cell(age(group["created_at"].as_str(), now)),
            cell(field(group, "title")),
        ]
    };
    s.out.table(&columns, groups.iter().map(row).collect())
}
