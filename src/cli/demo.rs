//! `reelhook demo`: server, HeyGen sandbox and an application that is told, in one process, on a store
//! of its own. A handful of jobs meet what happens in the field, and every step is told as it happens.
//!
//! It uses the server as anyone would, over its API, and hears from it as anyone would, at an endpoint;
//! nothing of it is a shortcut.

mod line;
mod narrator;
mod play;
mod receiver;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use self::line::Line;
use self::narrator::Narrator;
use self::play::{RECEIVER_FAILS, Role, roles};
use self::receiver::Receiver;
use super::serve::stop_signal_with;
use super::{CliError, Exit, Result};
use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, Given};
use crate::heygen::sandbox::{Options, Sandbox};
use crate::net;

/// Everything the demo shows ends well before this.
const LONGEST: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub struct Args {
    /// Keep the store in this directory; a temporary one by default.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Where the server listens; another port is taken when this one is in use.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    listen: SocketAddr,
    /// End when every job has ended: 0 only if each ended as scripted, was charged for once, and the
    /// application heard and verified every event of it.
    #[arg(long)]
    exit_when_done: bool,
}

/// The stage: a running server and the sandbox behind it.
struct Stage {
    base: String,
    upstream: String,
    sandbox: Sandbox,
    app: App,
    api: net::Client,
    serving: tokio::task::JoinHandle<()>,
}

pub async fn run(args: Args) -> Result<Exit> {
    let dir = Dir::open(args.dir.as_deref())?;
    let mut stop = stop_signal_with(dir.clearing());
    let (down, told) = watch::channel(false);
    let stage = set_up(&args, dir.path(), told).await?;
    let narrator = Arc::new(Narrator::start(stage.app.clock.clone(), &stage.sandbox, stage.app.db.clone()));
    narrator.opening(&stage.base, &stage.upstream, dir.path());
    let (clock, teller) = (stage.app.clock.clone(), narrator.clone());
    let receiver = Receiver::start(clock, teller, RECEIVER_FAILS).await;
    let (receiver, address) = receiver.map_err(|e| CliError::failure(format!("no receiver: {e}")))?;
    let story = async { play_all(&stage, &narrator, &receiver, &address).await };
    let verdict = tokio::select! {
        verdict = story => verdict?,
        _ = stop.wait_for(|stopped| *stopped) => {
            return end(stage, down, Exit::Interrupted).await;
        }
    };
    narrator.closing(&stage.base, &verdict);
    if !args.exit_when_done {
        narrator.try_it(&stage.base, &verdict.example);
        let _ = stop.wait_for(|stopped| *stopped).await;
        return end(stage, down, Exit::Ok).await;
    }
    let exit = if verdict.as_scripted { Exit::Ok } else { Exit::Failure };
    end(stage, down, exit).await
}

async fn end(stage: Stage, down: watch::Sender<bool>, exit: Exit) -> Result<Exit> {
    let _ = down.send(true);
    let _ = stage.serving.await;
    Ok(exit)
}

async fn set_up(args: &Args, dir: &Path, stop: watch::Receiver<bool>) -> Result<Stage> {
    let clock = Clock::real();
    let bind = |at: SocketAddr| async move {
        TcpListener::bind(at).await.map_err(|e| CliError::failure(format!("cannot listen on {at}: {e}")))
    };
    let door = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let upstream = address(&door)?;
    let listener = match TcpListener::bind(args.listen).await {
        Ok(listener) => listener,
        Err(_) => bind(SocketAddr::new(args.listen.ip(), 0)).await?,
    };
    let base = address(&listener)?;
    let sandbox =
        Sandbox::new(Options { render: 1_500..=3_500, ..Options::new(clock.clone(), upstream.clone()) })
            .map_err(|e| CliError::failure(e.to_string()))?;
    let (router, working) = (sandbox.router(), sandbox.clone());
    tokio::spawn(async move { axum::serve(door, router).await });
    tokio::spawn(async move { working.run().await });
    let mut given = Given::default();
    let database = dir.join("demo.db").display().to_string();
    for (name, value) in [
        ("database", database.as_str()),
        ("public-url", &base),
        ("heygen-url", &upstream),
        ("heygen-api-key", "demo"),
        ("first-poll", "6"),
        ("poll-pause", "2"),
        ("drain", "2"),
        // The receiver, and what the reader tries out, listen on this machine.
        ("allow-private", "127.0.0.0/8,::1"),
    ] {
        given.flags.insert(name.to_owned(), value.to_owned());
    }
    let config = Config::resolve(&given).map_err(|e| CliError::usage(e.to_string()))?;
    let app = App::prepare(&config, clock.clone()).await.map_err(|e| CliError::failure(e.to_string()))?;
    let serving = {
        let app = app.clone();
        tokio::spawn(async move { app.serve(listener, stop).await })
    };
    Ok(Stage { base, upstream, sandbox, app, api: net::Client::new(clock, true), serving })
}

fn address(listener: &TcpListener) -> Result<String> {
    let at = listener.local_addr().map_err(|e| CliError::failure(e.to_string()))?;
    Ok(format!("http://{at}"))
}

/// How the play went.
struct Verdict {
    lines: Vec<Line>,
    /// Events the application was to hear.
    events: usize,
    as_scripted: bool,
    /// A job to look at.
    example: String,
}

async fn play_all(stage: &Stage, narrator: &Narrator, receiver: &Receiver, address: &str) -> Result<Verdict> {
    call(stage, "POST", "/api/webhooks", None).await?;
    narrator.registered();
    let endpoint = add_receiver(stage, address).await?;
    receiver.trust(endpoint["secret"].as_str().unwrap_or_default());
    narrator.added(address);
    let mut cast: Vec<(Role, String)> = vec![];
    for role in roles() {
        let body = json!({
            "kind": role.kind,
            "request": role.request,
            "callback_id": role.name,
            "labels": {"demo": "yes"},
        });
        // Announced before it is submitted, so that no line about it is told without its name.
        narrator.introduce(&role);
        let job = call(stage, "POST", "/api/jobs", Some(&body)).await?;
        let id = job["id"].as_str().unwrap_or_default().to_owned();
        cast.push((role, id));
    }
    narrator.submitted();
    let mut ended = vec![];
    for (role, id) in &cast {
        let job = wait_for(stage, id).await?;
        let events = call(stage, "GET", &format!("/api/jobs/{id}/events?limit=200"), None).await?;
        ended.push((role, job, events));
    }
    let events: Vec<&str> = ended.iter().flat_map(|(_, _, events)| texts(events, "id")).collect();
    // What has not come by then is missing in the table.
    let _ = stage.app.clock.within(LONGEST, receiver.takes(&events)).await;
    narrator.settle().await;
    let ledger = stage.sandbox.ledger();
    let lines = ended.iter().map(|(role, job, events)| {
        let told = receiver.told(job["id"].as_str().unwrap_or_default());
        Line::judge(role, job, &texts(events, "id"), &ledger, &told)
    });
    let lines: Vec<_> = lines.collect();
    let as_scripted = lines.iter().all(|line| line.as_scripted)
        && receiver.as_scripted()
        && stage.sandbox.tally().paid_twice == 0;
    let example = cast.first().map(|(_, id)| id.clone()).unwrap_or_default();
    Ok(Verdict { lines, events: events.len(), as_scripted, example })
}

/// Has the application told, and that of an earlier demo on the same store no more.
async fn add_receiver(stage: &Stage, address: &str) -> Result<Value> {
    const DESCRIPTION: &str = "the demo's application";
    let all = call(stage, "GET", "/api/endpoints", None).await?;
    for old in all["data"].as_array().into_iter().flatten().filter(|e| e["description"] == DESCRIPTION) {
        let path = format!("/api/endpoints/{}", old["id"].as_str().unwrap_or_default());
        call(stage, "DELETE", &path, None).await?;
    }
    let wishes = json!({"url": address, "description": DESCRIPTION, "events": ["job.*"]});
    call(stage, "POST", "/api/endpoints", Some(&wishes)).await
}

/// This field of each in a page.
fn texts<'a>(page: &'a Value, name: &str) -> Vec<&'a str> {
    page["data"].as_array().into_iter().flatten().filter_map(|one| one[name].as_str()).collect()
}

/// The job when it has ended; the wait is the server's.
async fn wait_for(stage: &Stage, id: &str) -> Result<Value> {
    let path = format!("/api/jobs/{id}?wait=60");
    let waited = async {
        loop {
            let job = call(stage, "GET", &path, None).await?;
            if matches!(job["state"].as_str(), Some("completed" | "failed" | "canceled")) {
                return Ok(job);
            }
        }
    };
    let late = || CliError::new(Exit::TimedOut, "cli_timeout", format!("{id} did not end in time"), None);
    stage.app.clock.within(LONGEST, waited).await.unwrap_or_else(|| Err(late()))
}

async fn call(stage: &Stage, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let request = net::Call {
        method: method.parse().unwrap_or_default(),
        url: format!("{}{path}", stage.base),
        headers: net::headers([("content-type", "application/json")]),
        body: body.map(|b| b.to_string().into()).unwrap_or_default(),
        timeout: Duration::from_secs(90),
        max_body_bytes: 4 << 20,
    };
    let answer = stage.api.call(request).await.map_err(|e| CliError::failure(e.to_string()))?;
    if answer.body.is_empty() && answer.status.is_success() {
        return Ok(Value::Null);
    }
    let value: Value = serde_json::from_slice(&answer.body).map_err(|e| CliError::failure(e.to_string()))?;
    if answer.status.is_success() { Ok(value) } else { Err(CliError { exit: Exit::Failure, problem: value }) }
}

/// The demo's directory: the one given, or one that goes when the demo ends.
enum Dir {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Dir {
    fn open(given: Option<&Path>) -> Result<Self> {
        let wrong = |e: std::io::Error| {
            let which = given.map_or("a temporary directory".to_owned(), |path| path.display().to_string());
            CliError::failure(format!("{which} cannot be made for the demo: {e}"))
        };
        match given {
            None => tempfile::Builder::new()
                .prefix("reelhook-demo-")
                .tempdir()
                .map(Self::Temporary)
                .map_err(wrong),
            Some(path) => {
                std::fs::create_dir_all(path).map_err(wrong)?;
                Ok(Self::Given(path.to_owned()))
            }
        }
    }

    /// Takes away what is temporary, for an end that drops nothing.
    fn clearing(&self) -> impl FnOnce() + Send + 'static {
        let temporary = matches!(self, Self::Temporary(_)).then(|| self.path().to_owned());
        move || {
            // Nothing can be done about what is left, nor be told any more.
            let _ = temporary.map(std::fs::remove_dir_all);
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}
