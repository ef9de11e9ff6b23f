//! `reelhook replay`: dead letters on their way back, and how far that is. `dead-letter replay` begins one.

use serde_json::Value;

use super::client::Session;
use super::job::wait;
use super::list::{self, PageFlags};
use super::output::{Fit, Output, Paint, Shown, cell, field, painted};
use super::units::age;
use super::{CliError, Exit, Result};

const REPLAY: wait::Kind = wait::replay(words);

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List replays, newest first.
    #[command(after_help = "Example:\n  reelhook replay list --limit 5")]
    List {
        #[command(flatten)]
        page: PageFlags,
    },
    /// One replay, and how far it is.
    #[command(after_help = "Example:\n  reelhook replay show rpl_01…")]
    Show {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Wait until a replay has made due all it is about.
    #[command(after_help = "Example:\n  reelhook replay wait rpl_01… --timeout 1h")]
    Wait {
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        until: wait::Until,
    },
    /// Stop a replay; what it has not reached stays dead.
    #[command(after_help = "Example:\n  reelhook replay stop rpl_01…")]
    Stop {
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::List { page } => list::run(s, &["replays"], vec![], &page, |rows| table(s, rows)).await,
        Verb::Show { id } => {
            print(s, &s.api.get(&["replays", &id], &[]).await?);
            Ok(Exit::Ok)
        }
        Verb::Wait { id, until } => wait_for(s, &id, None, &until).await,
        Verb::Stop { id } => {
            print(s, &s.api.post(&["replays", &id, "stop"], None).await?);
            Ok(Exit::Ok)
        }
    }
}

/// Prints a new replay, or waits for its end first.
pub async fn finish(s: &Session, made: Value, wait: &wait::Wait) -> Result<Exit> {
    let id = field(&made, "id");
    if wait.wait {
        return wait_for(s, &id, Some(made), &wait.until()).await;
    }
    print(s, &made);
    s.out.note(&format!("`reelhook replay wait {id}` follows it, `reelhook replay stop {id}` ends it"));
    Ok(Exit::Ok)
}

async fn wait_for(s: &Session, id: &str, known: Option<Value>, until: &wait::Until) -> Result<Exit> {
    let found = wait::for_end(s, &REPLAY, id, known, until).await?;
    print(s, &found);
    match found["state"].as_str() {
        Some("finished") => Ok(Exit::Ok),
        Some("stopped") => {
            Err(CliError::new(Exit::Failure, "cli_replay_stopped", format!("{id} was stopped"), None))
        }
        _ => Err(wait::timed_out(&REPLAY, id, &words(&found), until)),
    }
}

/// `finished: 812 of 812 made due`.
fn words(replay: &Value) -> String {
    format!("{}: {} of {} made due", field(replay, "state"), field(replay, "done"), field(replay, "count"))
}

fn print(s: &Session, replay: &Value) {
    s.out.answer(replay, |out| page(out, replay));
}

fn paint(state: &str) -> Paint {
    match state {
        "running" => Paint::Busy,
        "stopped" => Paint::Care,
        _ => Paint::Good,
    }
}

/// What it is of, in a line.
fn which(replay: &Value) -> String {
    let filter = &replay["filter"];
    let says = |(name, value): (&String, &Value)| match value {
        Value::String(text) => Some(format!("{name} {text}")),
        Value::Array(all) if !all.is_empty() => Some(format!("{} by id", all.len())),
        _ => None,
    };
    let all: Vec<String> = filter.as_object().into_iter().flatten().filter_map(says).collect();
    let all = if all.is_empty() { "all".to_owned() } else { all.join(", ") };
    if replay["pending"] == true { format!("{all}, pending ones too") } else { all }
}

fn page(out: &Output, replay: &Value) -> String {
    let state = field(replay, "state");
    let id = out.paint(&field(replay, "id"), Paint::Bold);
    format!("{id}  {}\n", out.paint(&state, paint(&state)))
        + &out.pairs(&[
            ("made due", format!("{} of {}", field(replay, "done"), field(replay, "count"))),
            ("which", which(replay)),
            ("rate", format!("{} a second", field(replay, "rate"))),
            ("by", field(replay, "by")),
            ("begun", field(replay, "created_at")),
            ("ended", field(replay, "ended_at")),
        ])
}

fn table(s: &Session, replays: &[Value]) -> String {
    let now = s.clock.now();
    let columns = [
        ("ID", Fit::Whole),
        ("AGE", Fit::Number),
        ("STATE", Fit::Whole),
        ("DONE", Fit::Number),
        ("OF", Fit::Number),
        ("BY", Fit::Whole),
        ("WHICH", Fit::Cut),
    ];
    let row = |replay: &Value| -> Vec<Shown> {
        let state = field(replay, "state");
        vec![
            cell(field(replay, "id")),
            cell(age(replay["created_at"].as_str(), now)),
            painted(&state, paint(&state)),
            cell(field(replay, "done")),
            cell(field(replay, "count")),
            cell(field(replay, "by")),
            cell(which(replay)),
        ]
    };
    s.out.table(&columns, replays.iter().map(row).collect())
}
