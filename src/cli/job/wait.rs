//! Waiting for the end of a job. The server holds each question open for a few seconds; a server
//! that restarts meanwhile is asked again, since the job is safe with it.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::show;
use crate::cli::client::{Session, is_retryable};
use crate::cli::output::{clean, field};
use crate::cli::{CliError, Exit, Result, units};
use crate::clock::Stopwatch;

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

/// Waits, prints the job as it is then, and says how it went. `known` is what was last heard of it.
pub async fn run(s: &Session, id: &str, known: Option<Value>, until: &Until) -> Result<Exit> {
    let mut progress = Progress::new(s, id);
    let job = tokio::select! {
        job = until_end(s, id, known, until.timeout, &mut progress) => job,
        _ = tokio::signal::ctrl_c() => Err(CliError::new(
            Exit::Interrupted,
            "cli_interrupted",
            "stopped waiting; the job goes on",
            Some(&format!("`reelhook job wait {id}` waits again")),
        )),
    };
    progress.clear();
    let job = job?;
    show::print(s, &job);
    match job["state"].as_str() {
        Some("completed") => Ok(Exit::Ok),
        Some(state @ ("failed" | "canceled")) => Err(ended(state, &job)),
        state => {
            let why = format!("{id} is still {} after {:?}", state.unwrap_or("?"), until.timeout);
            let hint = format!("it goes on; `reelhook job wait {id}` waits again");
            Err(CliError::new(Exit::TimedOut, "cli_timed_out", why, Some(&hint)))
        }
    }
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

/// The job when it has ended, or as it is when the time is up.
async fn until_end(
    s: &Session,
    id: &str,
    known: Option<Value>,
    timeout: Duration,
    progress: &mut Progress<'_>,
) -> Result<Value> {
    let watch = Stopwatch::start();
    let mut job = known;
    let mut away_since: Option<Duration> = None;
    let mut patience = FIRST_QUESTION;
    loop {
        if let Some(job) = &job {
            progress.show(job);
            let ended = matches!(job["state"].as_str(), Some("completed" | "failed" | "canceled"));
            if ended || watch.elapsed() >= timeout {
                return Ok(job.clone());
            }
        }
        let asked = watch.elapsed();
        let question = patience.min(timeout.saturating_sub(asked));
        patience = (patience * 2).min(LONGEST_QUESTION);
        match s.api.get_waiting(&["jobs", id], question).await {
            Ok(heard) => (job, away_since) = (Some(heard), None),
            Err(e) => {
                let since = *away_since.get_or_insert(asked);
                let first = job.is_none() && !is_retryable(&e);
                let passes = is_retryable(&e) || e.problem["code"] == "cli_no_server";
                if first || !passes || watch.elapsed().saturating_sub(since) > PATIENCE {
                    return Err(e);
                }
                progress.away();
            }
        }
        let left = PAUSE.saturating_sub(watch.elapsed().saturating_sub(asked));
        let is_over = job.as_ref().is_some_and(|j| !j["finished_at"].is_null());
        if !left.is_zero() && !is_over && watch.elapsed() < timeout {
            s.clock.sleep(left).await;
        }
    }
}

/// A spinner where a person looks on, else a line for each change.
struct Progress<'s> {
    session: &'s Session,
    id: String,
    bar: Option<ProgressBar>,
    last: String,
}

impl<'s> Progress<'s> {
    fn new(session: &'s Session, id: &str) -> Self {
        let bar = (!session.out.quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { session, id: id.to_owned(), bar, last: String::new() }
    }

    fn show(&mut self, job: &Value) {
        let mut text = field(job, "state");
        if let Some(percent) = job["progress"].as_i64() {
            text.push_str(&format!(" {percent} %"));
        }
        let note = field(job, "note");
        if !note.is_empty() {
            text.push_str(&format!(" ({note})"));
        }
        self.tell(text);
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
