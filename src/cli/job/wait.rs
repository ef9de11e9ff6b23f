//! Waiting for the end of a job, or of a group. The server holds each question open for a few seconds; a server
//! that restarts meanwhile is asked again, since what is waited for is safe with it.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::show;
use crate::cli::client::{Session, is_retryable};
use crate::cli::output::{clean, field};
use crate::cli::{CliError, Exit, Result, units};
use crate::clock::Stopwatch;
use crate::domain::job_json::has_ended;

/// How long one question is held open: shorter at first, when the state changes fastest.
const FIRST_QUESTION: Duration = Duration::from_secs(1);
const LONGEST_QUESTION: Duration = Duration::from_secs(5);
/// Between two questions the server answered at once.
const PAUSE: Duration = Duration::from_millis(300);
/// A server away for longer than this is an error.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, clap::Args)]
pub struct Until {
    /// Stop waiting after this span; the job goes on.
    #[arg(long, value_name = "SPAN", default_value = "20m", value_parser = units::span)]
    timeout: Duration,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Wait {
    /// Wait for its end, and answer with that.
    #[arg(long)]
    pub wait: bool,
    /// With --wait: stop waiting after this span; the job goes on.
    #[arg(long, value_name = "SPAN", default_value = "20m", requires = "wait", value_parser = units::span)]
    timeout: Duration,
}

impl Wait {
    pub fn until(&self) -> Until {
        Until { timeout: self.timeout }
    }
}

/// What may be waited for.
pub struct Kind {
    noun: &'static str,
    /// How it stands, in a line.
    words: fn(&Value) -> String,
    ended: fn(&Value) -> bool,
    /// How long one question is held open at most.
    longest_question: Duration,
}

const JOB: Kind = Kind { noun: "job", words: state_of, ended: has_ended, longest_question: LONGEST_QUESTION };

/// A group has a bar that is to move.
pub const fn group(words: fn(&Value) -> String) -> Kind {
    let ended = |group: &Value| !group["finished_at"].is_null();
    Kind { noun: "group", words, ended, longest_question: Duration::from_secs(2) }
}

/// So has a replay.
pub const fn replay(words: fn(&Value) -> String) -> Kind {
    let ended = |replay: &Value| !replay["ended_at"].is_null();
    Kind { noun: "replay", words, ended, longest_question: Duration::from_secs(2) }
}

fn state_of(job: &Value) -> String {
    let mut text = field(job, "state");
    if let Some(percent) = job["progress"].as_i64() {
        text.push_str(&format!(" {percent} %"));
    }
    let note = field(job, "note");
    if !note.is_empty() {
        text.push_str(&format!(" ({note})"));
    }
    text
}

/// Waits, prints the job as it is then, and says how it went. `known` is what was last heard of it.
pub async fn run(s: &Session, id: &str, known: Option<Value>, until: &Until) -> Result<Exit> {
    let job = for_end(s, &JOB, id, known, until).await?;
    show::print(s, &job);
    match job["state"].as_str() {
        Some("completed") => Ok(Exit::Ok),
        Some(state @ ("failed" | "canceled")) => Err(ended(state, &job)),
        state => Err(timed_out(&JOB, id, state.unwrap_or("?"), until)),
    }
}

/// The end of what is waited for, or how it stands when the time is up.
pub async fn for_end(
    s: &Session,
    kind: &Kind,
    id: &str,
    known: Option<Value>,
    until: &Until,
) -> Result<Value> {
    let mut progress = Progress::new(s, kind, id);
    let found = tokio::select! {
        found = until_end(s, id, known, until.timeout, &mut progress) => found,
        _ = tokio::signal::ctrl_c() => Err(CliError::new(
            Exit::Interrupted,
            "cli_interrupted",
            format!("stopped waiting; the {} goes on", kind.noun),
            Some(&format!("`reelhook {} wait {id}` waits again", kind.noun)),
        )),
    };
    progress.clear();
    found
}

pub fn timed_out(kind: &Kind, id: &str, stands: &str, until: &Until) -> CliError {
    let seconds = i64::try_from(until.timeout.as_secs()).unwrap_or(i64::MAX);
    let why = format!("{id} is still {stands} after {}", units::one_unit(seconds));
    let hint = format!("it goes on; `reelhook {} wait {id}` waits again", kind.noun);
    CliError::new(Exit::TimedOut, "cli_timed_out", why, Some(&hint))
}

fn ended(state: &str, job: &Value) -> CliError {
    let why = [&job["failure"]["message"], &job["cancel_reason"]].into_iter().find_map(Value::as_str);
    let detail = match why {
        Some(why) => format!("the job {state}: {}", clean(why)),
        None => format!("the job {state}"),
    };
    let detail = detail.replace("job canceled", "job was canceled");
    let hint = format!("`reelhook job retry {}` makes a new job from it", field(job, "id"));
    CliError::new(Exit::JobFailed, "cli_job_ended", detail, Some(&hint))
}

async fn until_end(
    s: &Session,
    id: &str,
    known: Option<Value>,
    timeout: Duration,
    progress: &mut Progress<'_>,
) -> Result<Value> {
    let watch = Stopwatch::start();
    let (mut last, kind) = (known, progress.kind);
    let (path, ended) = ([&*format!("{}s", kind.noun), id], kind.ended);
    let mut away_since: Option<Duration> = None;
    let mut patience = FIRST_QUESTION;
    loop {
        if let Some(found) = &last {
            progress.show(found);
            if ended(found) || watch.elapsed() >= timeout {
                return Ok(found.clone());
            }
        }
        let asked = watch.elapsed();
        let question = patience.min(timeout.saturating_sub(asked));
        patience = (patience * 2).min(kind.longest_question);
        match s.api.get_waiting(&path, question).await {
            Ok(heard) => (last, away_since) = (Some(heard), None),
            Err(e) => {
                let since = *away_since.get_or_insert(asked);
                let first = last.is_none() && !is_retryable(&e);
                let passes = is_retryable(&e) || e.problem["code"] == "cli_no_server";
                if first || !passes || watch.elapsed().saturating_sub(since) > PATIENCE {
                    return Err(e);
                }
                progress.away();
            }
        }
        let left = PAUSE.saturating_sub(watch.elapsed().saturating_sub(asked));
        let is_over = last.as_ref().is_some_and(ended);
        if !left.is_zero() && !is_over && watch.elapsed() < timeout {
            s.clock.sleep(left).await;
        }
    }
}

/// A spinner where a person looks on, a bar if it is many; else a line for each change.
struct Progress<'s> {
    session: &'s Session,
    kind: &'s Kind,
    id: String,
    bar: Option<ProgressBar>,
    last: String,
}

impl<'s> Progress<'s> {
    fn new(session: &'s Session, kind: &'s Kind, id: &str) -> Self {
        let bar = (!session.out.quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { session, kind, id: id.to_owned(), bar, last: String::new() }
    }

    fn show(&mut self, found: &Value) {
        let part = |of: &str, done: &str| found[of].as_u64().zip(found[done].as_u64());
        let part = part("jobs", "ended").or(part("count", "done"));
        if let (Some(bar), Some((all, done))) = (&self.bar, part) {
            if bar.length().is_none()
                && let Ok(style) = ProgressStyle::with_template("{elapsed} {bar:24} {pos}/{len} {wide_msg}")
            {
                bar.set_style(style);
            }
            bar.set_length(all);
            bar.set_position(done);
        }
        self.tell((self.kind.words)(found));
    }

    fn away(&mut self) {
        self.tell("the server does not answer; asking again".to_owned());
    }

    fn tell(&mut self, text: String) {
        if self.last == text {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}  {text}", self.id)),
            None => self.session.out.note(&format!("{}: {text}", self.id)),
        }
        self.last = text;
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
