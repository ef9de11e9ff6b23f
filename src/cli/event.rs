//! `reelhook event`: the log of everything published.

use serde_json::Value;

use super::client::Session;
use super::list::{self, PageFlags};
use super::output::{Fit, Paint, Shown, cell, field, painted};
use super::units::age;
use super::{Exit, Result};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// The whole event log, oldest first. `--cursor N` goes on behind event number N.
    #[command(
        after_help = "Examples:\n  reelhook event list --limit 20\n  reelhook event list --all --output ndjson | jq .type"
    )]
    List {
        #[command(flatten)]
        page: PageFlags,
    },
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    let Verb::List { page } = verb;
    list::run(s, &["events"], vec![], &page, |rows| table(s, rows)).await
}

pub fn table(s: &Session, events: &[Value]) -> String {
    let now = s.clock.now();
    let columns = [
        ("NUMBER", Fit::Number),
        ("AGE", Fit::Number),
        ("TYPE", Fit::Whole),
        ("JOB", Fit::Whole),
        ("ABOUT", Fit::Cut),
    ];
    let row = |event: &Value| -> Vec<Shown> {
        let kind = field(event, "type");
        let state = kind.strip_prefix("job.").unwrap_or("").to_owned();
        vec![
            cell(field(event, "number")),
            cell(age(event["created_at"].as_str(), now)),
            painted(&kind, Paint::of_state(&state)),
            cell(field(event, "job_id")),
            cell(told(&event["data"])),
        ]
    };
    s.out.table(&columns, events.iter().map(row).collect())
}

/// What an event says in a few words.
fn told(data: &Value) -> String {
    let failure = &data["failure"]["message"];
    let words = [failure, &data["cancel_reason"], &data["title"], &data["found_by"], &data["meaning"]];
    words.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned()
}
