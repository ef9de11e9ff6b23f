//! `reelhook job`: submit, look, wait, and what a caller may wish of one.

mod adopt;
mod parts;
mod show;
pub mod submit;
pub mod wait;

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Path, Session};
use super::list::{self, PageFlags};
use super::{Exit, Result, event, receipt, units};
use crate::domain::job::{Kind, State};

const ID: &str = "The job's id, reelhook's or HeyGen's";

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    Submit(Box<submit::Args>),
    Adopt(adopt::Args),
    /// Show one job, by reelhook's id or HeyGen's.
    #[command(
        after_help = "Examples:\n  reelhook job get job_01…\n  reelhook job get job_01… --wait 30 --json | jq .state"
    )]
    Get {
        #[arg(value_name = "ID", help = ID)]
        id: String,
        /// Wait this many seconds for its end, 0 to 60.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=60))]
        wait: Option<u64>,
    },
    /// Wait for the end of a job and tell how it went.
    #[command(
        after_help = "Exit code 0 when it completed, 7 when it failed or was canceled, 4 when the time was up.\n\n\
        Examples:\n  reelhook job wait job_01…\n  reelhook job wait job_01… --timeout 45m --json"
    )]
    Wait {
        #[arg(value_name = "ID", help = ID)]
        id: String,
        #[command(flatten)]
        until: wait::Until,
    },
    List(ListArgs),
    /// Cancel a job that was not sent to HeyGen yet.
    #[command(after_help = "Example:\n  reelhook job cancel job_01…")]
    Cancel {
        #[arg(value_name = "ID", help = ID)]
        id: String,
    },
    /// Ask HeyGen now how a job stands.
    #[command(after_help = "Example:\n  reelhook job refresh job_01…")]
    Refresh {
        #[arg(value_name = "ID", help = ID)]
        id: String,
    },
    /// Make a new job from one that failed, was canceled, or whose outcome is unknown.
    #[command(
        after_help = "Examples:\n  reelhook job retry job_01…\n  reelhook job retry job_01… --accept-second-charge --wait"
    )]
    Retry {
        #[arg(value_name = "ID", help = ID)]
        id: String,
        #[command(flatten)]
        how: Again,
    },
    /// Let a held job go to HeyGen.
    #[command(after_help = "Example:\n  reelhook job approve job_01…")]
    Approve {
        #[arg(value_name = "ID", help = ID)]
        id: String,
    },
    /// End a held job.
    #[command(after_help = "Example:\n  reelhook job reject job_01… --reason 'wrong logo'")]
    Reject {
        #[arg(value_name = "ID", help = ID)]
        id: String,
        /// Why; kept with the job.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// What was published about a job, oldest first.
    #[command(after_help = "Example:\n  reelhook job events job_01… --output ndjson")]
    Events {
        #[arg(value_name = "ID", help = ID)]
        id: String,
        #[command(flatten)]
        page: PageFlags,
    },
    /// The webhooks that concerned a job, newest first.
    #[command(after_help = "Example:\n  reelhook job receipts job_01…")]
    Receipts {
        #[arg(value_name = "ID", help = ID)]
        id: String,
        #[command(flatten)]
        page: PageFlags,
    },
}

/// List jobs, newest first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  reelhook job list --state failed --label team=sales\n  \
    reelhook job list --all --output ndjson | jq -r .id")]
pub struct ListArgs {
    /// Only jobs in this state.
    #[arg(long, value_name = "STATE", value_parser = State::ALL.map(State::name))]
    state: Option<String>,
    /// Only jobs of this kind.
    #[arg(long, value_name = "KIND", value_parser = Kind::ALL.map(Kind::name))]
    kind: Option<String>,
    /// Only jobs with this callback id of yours.
    #[arg(long, value_name = "ID")]
    callback_id: Option<String>,
    /// Only jobs of this group.
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// Only jobs with this label.
    #[arg(long, value_name = "NAME=VALUE", value_parser = units::pair)]
    label: Option<(String, String)>,
    /// Only jobs made after this time, or in this span.
    #[arg(long, value_name = "TIME|SPAN", value_parser = units::moment)]
    since: Option<units::Moment>,
    /// Only jobs with this text in an id, a title, a label or a failure.
    #[arg(long, value_name = "TEXT")]
    q: Option<String>,
    #[command(flatten)]
    page: PageFlags,
}

/// How what failed is tried again, a job or those of a group.
#[derive(Debug, clap::Args)]
pub struct Again {
    /// HeyGen may have charged for what failed already; pay again if it did.
    #[arg(long)]
    accept_second_charge: bool,
    /// Repeated with the same key it gives the same answer [default: a fresh key].
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    pub wait: wait::Wait,
}

impl Again {
    /// What was made, as the server answered.
    pub async fn send(&self, s: &Session, path: Path<'_>) -> Result<Value> {
        let body = json!({"accept_second_charge": self.accept_second_charge});
        let key = self.idempotency_key.clone().unwrap_or_else(|| submit::fresh_key(&s.clock));
        submit::send(s, path, &body, &key, &format!("--idempotency-key {key}")).await
    }
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::Submit(args) => submit::run(s, *args).await,
        Verb::Adopt(args) => adopt::run(s, args).await,
        Verb::Get { id, wait } => get(s, &id, wait).await,
        Verb::Wait { id, until } => wait::run(s, &id, None, &until).await,
        Verb::List(args) => list_jobs(s, args).await,
        Verb::Cancel { id } => wish(s, &id, "cancel", None).await,
        Verb::Refresh { id } => wish(s, &id, "refresh", None).await,
        Verb::Approve { id } => wish(s, &id, "approve", None).await,
        Verb::Reject { id, reason } => wish(s, &id, "reject", Some(json!({"reason": reason}))).await,
        Verb::Retry { id, how } => {
            let job = how.send(s, &["jobs", &id, "retry"]).await?;
            submit::finish(s, job, &how.wait).await
        }
        Verb::Events { id, page } => {
            list::run(s, &["jobs", &id, "events"], vec![], &page, |rows| event::table(s, rows)).await
        }
        Verb::Receipts { id, page } => {
            list::run(s, &["jobs", &id, "receipts"], vec![], &page, |rows| receipt::table(s, rows)).await
        }
    }
}

async fn get(s: &Session, id: &str, wait: Option<u64>) -> Result<Exit> {
    let job = match wait {
        Some(seconds) => s.api.get_waiting(&["jobs", id], Duration::from_secs(seconds)).await?,
        None => s.api.get(&["jobs", id], &[]).await?,
    };
    show::print(s, &job);
    Ok(Exit::Ok)
}

async fn list_jobs(s: &Session, args: ListArgs) -> Result<Exit> {
    let label = args.label.map(|(name, value)| format!("{name}:{value}"));
    let since = args.since.map(|moment| moment.ago(s.clock.now()));
    let filters = [
        ("state", args.state),
        ("kind", args.kind),
        ("callback_id", args.callback_id),
        ("group", args.group),
        ("label", label),
        ("created_after", since),
        ("q", args.q),
    ];
    let query = filters.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    list::run(s, &["jobs"], query, &args.page, |rows| show::table(s, rows)).await
}

async fn wish(s: &Session, id: &str, verb: &str, body: Option<Value>) -> Result<Exit> {
    let job = s.api.post(&["jobs", id, verb], body.as_ref()).await?;
    show::print(s, &job);
    Ok(Exit::Ok)
}
