//! `reelhook event`: the log of everything published.

use serde_json::Value;

use super::client::Session;
use super::list::{self, PageFlags};
use super::output::{Fit, Output, Paint, Shown, cell, clean, field, painted};
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
    /// One event, with what it says.
    #[command(
        after_help = "Examples:\n  reelhook event show 120\n  reelhook event show evt_01… --json | jq .data"
    )]
    Show {
        /// Its number or its id; `event list` shows the one, the header webhook-id of a delivery is the other.
        #[arg(value_name = "NUMBER|ID")]
        id: String,
    },
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::List { page } => list::run(s, &["events"], vec![], &page, |rows| table(s, rows)).await,
        Verb::Show { id } => {
            let event = s.api.get(&["events", &id], &[]).await?;
            s.out.answer(&event, |out| self::page(out, &event));
            Ok(Exit::Ok)
        }
    }
}

fn page(out: &Output, event: &Value) -> String {
    let mut text = format!("{}\n", out.paint(&field(event, "type"), Paint::Bold));
    text += &out.pairs(&[
        ("number", field(event, "number")),
        ("id", field(event, "id")),
        ("published", field(event, "created_at")),
        ("job", field(event, "job_id")),
        ("receipt", field(event, "receipt_id")),
        ("about", told(&event["data"])),
    ]);
    let data = format!("{:#}", event["data"]);
    text + "\n" + &data.lines().map(|line| format!("  {}\n", clean(line))).collect::<String>()
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
