//! `reelhook delivery`: events on their way to your application, and how it went.

use serde_json::{Value, json};

use super::client::Session;
use super::job::wait;
use super::list::{self, PageFlags};
use super::output::{Fit, Output, Paint, Shown, cell, field, painted, wrapped};
use super::units::age;
use super::{CliError, Exit, Result, replay};
use crate::domain::delivery::State;
use crate::domain::replay::MAX_RATE;
use crate::domain::time::{parse_rfc3339, rfc3339};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Deliveries, newest first.
    #[command(
        after_help = "Examples:\n  reelhook delivery list --state dead\n  reelhook delivery list --job job_01… --all"
    )]
    List {
        /// Only those that stand so.
        #[arg(long, value_name = "STATE", value_parser = State::ALL.map(State::name))]
        state: Option<String>,
        /// Only those to this endpoint.
        #[arg(long, value_name = "ID")]
        endpoint: Option<String>,
        /// Only those about this job.
        #[arg(long, value_name = "ID")]
        job: Option<String>,
        #[command(flatten)]
        page: PageFlags,
    },
    /// One delivery with its attempts.
    #[command(after_help = "Example:\n  reelhook delivery show dlv_01…")]
    Show {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Send one once more, however it ended, or all that an endpoint has not taken: the same events, ids, bodies.
    #[command(
        after_help = "With --endpoint all of its deliveries are due that were given up or wait for their \
        next attempt; `reelhook replay` follows that.\nDead letters by their cause are replayed with \
        `reelhook dead-letter replay`.\n\nExamples:\n  reelhook delivery replay dlv_01…\n  \
        reelhook delivery replay --endpoint ep_01… --wait"
    )]
    Replay {
        /// One delivery.
        #[arg(value_name = "ID", required_unless_present = "endpoint", conflicts_with = "endpoint")]
        id: Option<String>,
        /// All that this endpoint has not taken.
        #[arg(long, value_name = "ID")]
        endpoint: Option<String>,
        /// With --endpoint: how many are made due in a second, 1 to 1000 [default: 50].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=MAX_RATE))]
        rate: Option<i64>,
        #[command(flatten)]
        wait: wait::Wait,
    },
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::List { state, endpoint, job, page } => {
            let filter = [("state", state), ("endpoint_id", endpoint), ("job_id", job)];
            let filter = filter.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            list::run(s, &["deliveries"], filter, &page, |rows| table(s, rows)).await
        }
        Verb::Show { id } => {
            let found = s.api.get(&["deliveries", &id], &[]).await?;
            s.out.answer(&found, |out| self::page(out, &found));
            Ok(Exit::Ok)
        }
        Verb::Replay { endpoint: Some(endpoint), rate, wait, .. } => {
            let body = json!({"endpoint_id": endpoint, "rate": rate});
            let made = s.api.post(&["deliveries", "replay"], Some(&body)).await?;
            replay::finish(s, made, &wait).await
        }
        Verb::Replay { rate, wait, .. } if rate.is_some() || wait.wait => Err(CliError::usage(
            "--rate and --wait go with --endpoint; `reelhook delivery show ID` shows what became of one",
        )),
        Verb::Replay { id, .. } => {
            let id = id.unwrap_or_default();
            let found = s.api.post(&["deliveries", &id, "replay"], None).await?;
            s.out.answer(&found, |out| self::page(out, &found));
            Ok(Exit::Ok)
        }
    }
}

fn paint(state: &str) -> Paint {
    match State::parse(state) {
        Some(State::Delivered) => Paint::Good,
        Some(State::Pending) => Paint::Busy,
        Some(State::Dead) => Paint::Bad,
        None => Paint::Plain,
    }
}

fn table(s: &Session, deliveries: &[Value]) -> String {
    let now = s.clock.now();
    let columns = [
        ("ID", Fit::Whole),
        ("AGE", Fit::Number),
        ("STATE", Fit::Whole),
        ("TRIES", Fit::Number),
        ("EVENT", Fit::Cut),
        ("LAST ERROR", Fit::Cut),
        ("TO", Fit::Cut),
    ];
    let row = |d: &Value| -> Vec<Shown> {
        let state = field(d, "state");
        // Its target is, so it waits for longer than its own schedule says.
        let shown = match d["left_alone_until"].as_str().and_then(parse_rfc3339) {
            Some(until) => {
                painted(format!("left alone for {}", age(Some(&rfc3339(now)), until)), Paint::Care)
            }
            None => painted(&state, paint(&state)),
        };
        let to = if d["endpoint_id"].is_null() { "url" } else { "endpoint_id" };
        let last = d["attempts"].as_array().and_then(|all| all.last()).unwrap_or(&Value::Null);
        vec![
            cell(field(d, "id")),
            cell(age(d["created_at"].as_str(), now)),
            shown,
            cell(field(d, "attempts_made")),
            cell(field(d, "event_type")),
            cell(field(last, "error")),
            cell(field(d, to)),
        ]
    };
    s.out.table(&columns, deliveries.iter().map(row).collect())
}

pub fn page(out: &Output, d: &Value) -> String {
    let state = field(d, "state");
    let mut text =
        format!("{}  {}\n", out.paint(&field(d, "id"), Paint::Bold), out.paint(&state, paint(&state)));
    text += &out.pairs(&[
        ("event", format!("{} {}", field(d, "event_type"), field(d, "event_id"))),
        ("job", field(d, "job_id")),
        ("endpoint", field(d, "endpoint_id")),
        ("to", field(d, "url")),
        ("made", field(d, "created_at")),
        ("next attempt", field(d, "next_attempt_at")),
        ("left alone until", field(d, "left_alone_until")),
        ("delivered", field(d, "delivered_at")),
        ("given up", field(d, "dead_at")),
    ]);
    for attempt in d["attempts"].as_array().into_iter().flatten() {
        let came = match &attempt["error"] {
            Value::Null => format!("answered {}", field(attempt, "status")),
            _ => field(attempt, "error"),
        };
        let line = format!("{}  {came}, after {} ms", field(attempt, "at"), field(attempt, "took_ms"));
        text += &format!("\n{}\n", wrapped(&line, out.width.into(), 2));
        text += &out.pairs(&[("answer", field(attempt, "answer"))]);
    }
    text
}
