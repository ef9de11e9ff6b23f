//! `reelhook dead-letter`: what was given up, by its cause, and what to do about it. A replay of many is
//! counted and asked about first, and may begin with one, to see how it goes.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Session, rows};
use super::job::wait;
use super::list::{self, PageFlags};
use super::output::{Fit, Output, Paint, Shown, cell, field, painted};
use super::units::{Moment, age, moment};
use super::{CliError, Exit, Result, ask, replay};
use crate::clock::Stopwatch;
use crate::domain::replay::{MAX_RATE, RATE};
use crate::domain::task::TaskKind;

/// More than so many are asked about first.
const MANY: u64 = 10;
/// How long the first of many is waited for.
const FIRST_PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(300);

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// What was given up, by cause, with what to do; or each by itself.
    #[command(
        after_help = "Examples:\n  reelhook dead-letter list\n  reelhook dead-letter list --each --cause answers_401:app.example\n  reelhook dead-letter list --endpoint ep_01… --since 2h"
    )]
    List {
        /// Each by itself, the latest first, not by cause.
        #[arg(long)]
        each: bool,
        #[command(flatten)]
        narrowed: Narrowed,
        #[command(flatten)]
        page: PageFlags,
    },
    /// One dead letter: its cause, its reason, what to do.
    #[command(after_help = "Example:\n  reelhook dead-letter show dlv_01…")]
    Show {
        /// Of what was given up: a delivery, or a receipt.
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Make dead letters due again: the same events, ids and bodies.
    #[command(
        after_help = "Exit code 1 when the first of --one-first fails again; then the others are left.\n\nExamples:\n  \
        reelhook dead-letter replay dlv_01…\n  reelhook dead-letter replay --cause answers_401:app.example --dry-run\n  \
        reelhook dead-letter replay --cause answers_401:app.example --one-first --wait\n  \
        reelhook dead-letter replay --since 6h --until 2h\n  \
        reelhook dead-letter replay --all --rate 5 --yes"
    )]
    Replay {
        #[command(flatten)]
        which: Which,
        /// Only count them, by cause.
        #[arg(long)]
        dry_run: bool,
        /// How many are made due in a second, 1 to 1000.
        #[arg(long, value_name = "N", default_value_t = RATE, value_parser = clap::value_parser!(i64).range(1..=MAX_RATE))]
        rate: i64,
        /// Replay one, and the others only when that goes well.
        #[arg(long, conflicts_with = "dry_run")]
        one_first: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        wait: wait::Wait,
    },
    /// Let go of dead letters. Deliveries and receipts themselves stay.
    #[command(
        after_help = "Example:\n  reelhook dead-letter drop --cause event_gone --reason 'too old to matter' --yes"
    )]
    Drop {
        #[command(flatten)]
        which: Which,
        /// Why; it is kept in the audit.
        #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
        reason: Option<String>,
        /// Only count them, by cause.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// What narrows dead letters down.
#[derive(Debug, Clone, clap::Args)]
pub struct Narrowed {
    /// Only those of this cause; `dead-letter list` shows the causes.
    #[arg(long, value_name = "CAUSE")]
    cause: Option<String>,
    /// Only deliveries to this endpoint.
    #[arg(long, value_name = "ID")]
    endpoint: Option<String>,
    /// Only what is about this job.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Only those of this kind of task.
    #[arg(long, value_name = "TASK", value_parser = tasks())]
    task: Option<String>,
    /// Only those given up since then: a time, or a span such as 2h.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Only those given up before then: a time, or a span such as 1h.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
}

fn tasks() -> Vec<&'static str> {
    TaskKind::ALL.into_iter().filter(|kind| *kind != TaskKind::Submit).map(TaskKind::name).collect()
}

impl Narrowed {
    fn pairs(&self, now: i64) -> Vec<(&'static str, String)> {
        let pairs = [
            ("cause", self.cause.clone()),
            ("endpoint_id", self.endpoint.clone()),
            ("job_id", self.job.clone()),
            ("task", self.task.clone()),
            ("since", self.since.map(|since| since.ago(now))),
            ("until", self.until.map(|until| until.ago(now))),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// Which dead letters are meant; something must be said.
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// These, up to 100.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    narrowed: Narrowed,
    /// All of them.
    #[arg(long)]
    all: bool,
}

impl Which {
    fn body(&self, now: i64) -> Value {
        let mut body = json!({});
        for (name, value) in self.narrowed.pairs(now) {
            body[name] = json!(value);
        }
        if !self.ids.is_empty() {
            body["ids"] = json!(self.ids);
        }
        if self.all {
            body["all"] = json!(true);
        }
        body
    }
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::List { each: true, narrowed, page } => {
            let filter = narrowed.pairs(s.clock.now());
            list::run(s, &["dead-letters"], filter, &page, |rows| table(s, rows)).await
        }
        Verb::List { page, .. } if page.is_given() => {
            Err(CliError::usage("causes come on one page; --limit, --cursor and --all go with --each"))
        }
        Verb::List { narrowed, .. } => {
            let filter = narrowed.pairs(s.clock.now());
            let page = s.api.get(&["dead-letters", "causes"], &filter).await?;
            list::one_page(s, &page, rows(&page)?, |s, causes| self::causes(&s.out, causes, s.clock.now()));
            Ok(Exit::Ok)
        }
        Verb::Show { id } => {
            let found = s.api.get(&["dead-letters", &id], &[]).await?;
            s.out.answer(&found, |out| self::page(out, &found));
            Ok(Exit::Ok)
        }
        Verb::Replay { which, dry_run, rate, one_first, yes, wait } => {
            let mut body = which.body(s.clock.now());
            let would = s.api.post_dry(&["dead-letters", "replay"], &body).await?;
            if dry_run {
                return show_dry_run(s, &would, "replay");
            }
            begin_with(s, &would, one_first, yes).await?;
            body["rate"] = json!(rate);
            let made = s.api.post(&["dead-letters", "replay"], Some(&body)).await?;
            replay::finish(s, made, &wait).await
        }
        Verb::Drop { which, reason, dry_run, yes } => {
            let mut body = which.body(s.clock.now());
            let would = s.api.post_dry(&["dead-letters", "drop"], &body).await?;
            if dry_run {
                return show_dry_run(s, &would, "drop");
            }
            ask::sure(yes, &format!("drop {}", counted(&would)))?;
            body["reason"] = json!(reason);
            let done = s.api.post(&["dead-letters", "drop"], Some(&body)).await?;
            s.out.answer(&done, |_| {
                format!("{} dropped, {} left", field(&done, "dropped"), field(&done, "left"))
            });
            Ok(Exit::Ok)
        }
    }
}

fn show_dry_run(s: &Session, would: &Value, verb: &str) -> Result<Exit> {
    s.out.answer(would, |out| {
        let all = would["causes"].as_array().map_or(&[][..], Vec::as_slice);
        format!("would {verb} {}\n{}", counted(would), causes(out, all, s.clock.now()))
    });
    Ok(Exit::Ok)
}

/// `812 dead letters: app.example answers 401`.
fn counted(would: &Value) -> String {
    let causes = would["causes"].as_array().map_or(&[][..], Vec::as_slice);
    let count = would["count"].as_u64().unwrap_or(0);
    let letters = if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") };
    match causes {
        [] => letters,
        [one] => format!("{letters}: {}", field(one, "title")),
        [most, ..] => format!("{letters} of {} causes, first of all: {}", causes.len(), field(most, "title")),
    }
}

/// Asks where they are many, and replays one of them first where that is wanted.
async fn begin_with(s: &Session, would: &Value, one_first: bool, yes: bool) -> Result<()> {
    if would["count"].as_u64().unwrap_or(0) > MANY {
        let hint = if one_first { ", one of them first" } else { "" };
        ask::go_on(yes, &format!("replay {}{hint}", counted(would)))?;
    }
    match would["causes"][0]["sample_id"].as_str() {
        Some(id) if one_first => first(s, id).await,
        _ => Ok(()),
    }
}

/// Replays one, and returns when that went well.
async fn first(s: &Session, id: &str) -> Result<()> {
    let place = if id.starts_with("rcp_") { "receipts" } else { "deliveries" };
    let before = fate(&s.api.get(&[place, id], &[]).await?);
    s.api.post(&["dead-letters", "replay"], Some(&json!({"ids": [id]}))).await?;
    let watch = Stopwatch::start();
    loop {
        let now = fate(&s.api.get(&[place, id], &[]).await?);
        if now != before {
            return match now {
                Fate::Well(_) => {
                    s.out.note(&format!("{id} went well"));
                    Ok(())
                }
                Fate::Failed(_, why) => Err(CliError::new(
                    Exit::Failure,
                    "cli_first_failed",
                    format!("{id} failed again: {why}; the others are left"),
                    Some(&format!("`reelhook dead-letter show {id}` has more")),
                )),
            };
        }
        if watch.elapsed() > FIRST_PATIENCE {
            let why =
                format!("{id} was not tried within {} s; the others are left", FIRST_PATIENCE.as_secs());
            let hint = "its endpoint may be disabled, or left alone for a while: `reelhook endpoint list`";
            return Err(CliError::new(Exit::TimedOut, "cli_timed_out", why, Some(hint)));
        }
        s.clock.sleep(FIRST_PAUSE).await;
    }
}

/// What became of a delivery, or of a receipt.
#[derive(Debug, PartialEq)]
enum Fate {
    /// When it was taken, or applied.
    Well(String),
    /// When it was last tried, and what came of it.
    Failed(String, String),
}

fn fate(thing: &Value) -> Fate {
    if thing["state"] == "delivered" || thing["applied_at"].is_string() {
        return Fate::Well(field(thing, "delivered_at") + &field(thing, "applied_at"));
    }
    let last = thing["attempts"].as_array().and_then(|all| all.last()).unwrap_or(&Value::Null);
    Fate::Failed(field(last, "at"), field(last, "error"))
}

/// Causes with what to do, a paragraph each.
fn causes(out: &Output, causes: &[Value], now: i64) -> String {
    let paragraph = |cause: &Value| {
        let head = format!("{:>6}  {}", field(cause, "count"), field(cause, "title"));
        let seen = |name: &str| format!("{} ago ({})", age(cause[name].as_str(), now), field(cause, name));
        format!("{}\n", out.paint(&head, Paint::Bold))
            + &out.pairs(&[
                ("cause", field(cause, "cause")),
                ("first", seen("first_seen_at")),
                ("last", seen("last_seen_at")),
                ("one of them", field(cause, "sample_id")),
                ("what to do", field(cause, "fix")),
            ])
    };
    causes.iter().map(paragraph).collect::<Vec<_>>().join("\n")
}

fn table(s: &Session, letters: &[Value]) -> String {
    let now = s.clock.now();
    let columns = [
        ("ID", Fit::Whole),
        ("AGE", Fit::Number),
        ("CAUSE", Fit::Cut),
        ("EVENT", Fit::Cut),
        ("REASON", Fit::Cut),
        ("TASK", Fit::Spare),
    ];
    let row = |letter: &Value| -> Vec<Shown> {
        vec![
            cell(field(letter, "id")),
            cell(age(letter["dead_at"].as_str(), now)),
            painted(field(letter, "cause"), Paint::Bad),
            cell(field(letter, "event_type")),
            cell(field(letter, "reason")),
            cell(field(letter, "task")),
        ]
    };
    s.out.table(&columns, letters.iter().map(row).collect())
}

fn page(out: &Output, letter: &Value) -> String {
    let head = format!("{}  {}\n", field(letter, "id"), field(letter, "title"));
    let show = if letter["task"] == "apply" { "receipt" } else { "delivery" };
    let all = letter["about_url"].as_str().map(|_| format!("reelhook {show} show {}", field(letter, "id")));
    out.paint(&head, Paint::Bold)
        + &out.pairs(&[
            ("cause", field(letter, "cause")),
            ("reason", field(letter, "reason")),
            ("answer", field(letter, "answer")),
            ("given up", field(letter, "dead_at")),
            ("attempts", field(letter, "attempts_made")),
            ("event", field(letter, "event_type")),
            ("job", field(letter, "job_id")),
            ("endpoint", field(letter, "endpoint_id")),
            ("what to do", field(letter, "fix")),
            ("all of it", all.unwrap_or_default()),
        ])
}
