//! `reelhook selftest`: this very program, killed hard again and again under load on the user's own
//! machine and store, and compared with what was written down outside of it.
//!
//! The sandbox stands in for HeyGen, so it costs nothing. Nothing that exists is touched: files and
//! database are its own, and gone when every promise was kept.

pub mod callers;
pub mod client;
pub mod ground;
mod machine;
pub mod oracle;
mod place;
mod report;
pub mod server;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use self::callers::Callers;
use self::client::Refused;
use self::ground::Ground;
use self::place::Place;
use self::report::Run;
use self::server::Server;
use super::output::{Output, OutputFlags};
use super::serve::stop_signal;
use super::{CliError, Exit, Result, units};
use crate::clock::{Clock, Stopwatch};
use crate::config::{Address, Given};
use crate::heygen::sandbox::{Fault, Options};

const KILLS: u32 = 30;
const KILLS_FULL: u32 = 200;
/// Jobs submitted at the same time.
const CALLERS: usize = 3;
/// How long a server lives after it was ready, in seconds.
const LIFE_S: (f64, f64) = (0.1, 3.0);
/// What a kill takes with its restart and its share of the rest, by and large.
const USUAL_PER_KILL: Duration = Duration::from_secs(2);
/// With its restart a kill takes less on the whole, or the rest of them are left out.
const MOST_PER_KILL: Duration = Duration::from_secs(4);
/// And this on top of all of them.
const SLACK: Duration = Duration::from_secs(30);
/// A server that is not ready by then does not come up.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What has not ended so long after the load is stuck.
const PATIENCE: Duration = Duration::from_secs(120);
/// In which a server that ended and a Ctrl-C are the same thing.
const SAME_MOMENT: Duration = Duration::from_millis(500);
/// Where no bar shows how far it is, that is told so often.
const TOLD: u32 = 10;

/// A share of everything that goes wrong between HeyGen and a receiver.
const TROUBLE: [(Fault, f64); 9] = [
    (Fault::ResetAfter, 0.05),
    (Fault::Error504After, 0.05),
    (Fault::Error503, 0.05),
    (Fault::Lost, 0.1),
    (Fault::Double, 0.1),
    (Fault::Reorder, 0.05),
    (Fault::Forged, 0.05),
    (Fault::Unsigned, 0.05),
    (Fault::Fail, 0.1),
];

#[derive(clap::Args)]
#[command(
    after_help = "A run takes about a minute, seven at most; with --full about seven, half an hour at most. It starts a \
    server of its own on a store of its own, beside a HeyGen sandbox, and kills it; no HeyGen key, no network, no \
    credits.\n\n\
    It counts jobs and webhooks that were lost, jobs that were made or paid for twice, never ended, ended otherwise \
    than at HeyGen, or whose end was not told once: all must be 0. It measures how long a killed server takes until it \
    is ready again, and how long a webhook waits for its answer.\n\n\
    Exit code 0 when nothing was broken; else 1, and the files are kept and named. Ctrl-C ends the server and removes \
    the files.\n\n\
    Examples:\n  \
    reelhook selftest\n  \
    reelhook selftest --dir /var/lib/reelhook\n  \
    reelhook selftest --database postgres://reelhook@localhost/postgres --full"
)]
pub struct Args {
    /// Make the run's own directory in this one, to try its disk [default: where temporary files go].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Try this PostgreSQL server, in a database of its own that is made and dropped [default: SQLite].
    #[arg(long, value_name = "postgres://…")]
    database: Option<String>,
    /// How often the server is killed, 1 to 10000 [default: 30].
    #[arg(long, value_name = "N", conflicts_with = "full", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    kills: Option<u32>,
    /// The long form: 200 kills.
    #[arg(long)]
    full: bool,
    /// Decides faults and how long each server lives.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    output: OutputFlags,
}

impl Args {
    fn kills(&self) -> u32 {
        self.kills.unwrap_or(if self.full { KILLS_FULL } else { KILLS })
    }

    /// When no more are killed.
    fn longest(&self) -> Duration {
        SLACK + MOST_PER_KILL.saturating_mul(self.kills())
    }

    /// How long the comparison may take after that.
    fn longest_after(&self) -> Duration {
        PATIENCE + self.longest()
    }

    fn opening(&self) -> String {
        let kills = self.kills();
        let times = if kills == 1 { "once".to_owned() } else { format!("{kills} times") };
        let (usual, most) = (USUAL_PER_KILL * kills, self.longest() + self.longest_after());
        format!(
            "killing a server under load, {times}; this takes about {}, {} at most",
            span(usual),
            span(most)
        )
    }
}

/// Long ones in whole minutes, rounded up.
fn span(of: Duration) -> String {
    let seconds = i64::try_from(of.as_secs()).unwrap_or(i64::MAX);
    units::one_unit(if seconds < 120 { seconds } else { (seconds + 59) / 60 * 60 })
}

/// Not by clap, which would show what is refused, and it may hold a password.
fn postgres(text: String) -> Result<String> {
    match Address::parse(&text) {
        Address::Postgres(url) => Ok(url),
        Address::Sqlite(_) => Err(CliError::usage(
            "--database must begin with postgres://; SQLite is tried without it, on the disk of --dir",
        )),
    }
}

pub async fn run(args: Args, given: &Given) -> Result<Exit> {
    let out = Output::new(&args.output, given);
    let server = args.database.clone().map(postgres).transpose()?;
    let mut stop = stop_signal();
    let place = Place::open(args.dir.as_deref(), server.as_deref()).await?;
    out.note(&place.opening());
    let mut server = None;
    let mut done = tokio::select! {
        done = course(&args, &out, &place, &mut server) => done,
        _ = stop.wait_for(|stopped| *stopped) => Err(interrupted()),
    };
    // A Ctrl-C on a terminal reaches the server, too.
    let clock = Clock::real();
    if done.as_ref().is_err_and(|e| e.exit != Exit::Interrupted)
        && clock.within(SAME_MOMENT, stop.wait_for(|stopped| *stopped)).await.is_some()
    {
        done = Err(interrupted());
    }
    if let Some(server) = server {
        let _ = server.kill().await;
    }
    match done {
        Ok(run) => {
            out.answer(&run.json(), |out| run.text(out));
            match run.verdict() {
                Ok(exit) => place.clear(&out).await.map(|()| exit),
                Err(e) => Err(place.keep(e, Some(&run.json()))),
            }
        }
        Err(e) if e.exit == Exit::Interrupted => place.clear(&out).await.and(Err(e)),
        Err(e) => Err(place.keep(e, None)),
    }
}

fn interrupted() -> CliError {
    CliError::new(Exit::Interrupted, "cli_interrupted", "interrupted; nothing of the run is left", None)
}

/// Everything up to the comparison. The server is left to the caller, who ends it however this ends.
async fn course(args: &Args, out: &Output, place: &Place, server: &mut Option<Server>) -> Result<Run> {
    let (clock, whole) = (Clock::real(), Stopwatch::start());
    let trouble = |options: &mut Options| {
        options.seed = args.seed;
        options.faults = TROUBLE.to_vec();
    };
    let program = std::env::current_exe().map_err(|e| CliError::failure(format!("this program: {e}")))?;
    let opened = Ground::open(place.directory(), program, place.database(), trouble).await;
    let mut ground = opened.map_err(|e| CliError::failure(format!("the sandbox: {e}")))?;
    ground.setup.log = Some(place.directory().join("server.log"));
    let client = ground.setup.client.clone();
    start(&ground, server).await?;
    client.insist("POST", "/api/webhooks", None, None).await?;
    let callers = Callers::start(&client, CALLERS);
    let recovery_ms = kill(args, out, &ground, server, &callers).await?;
    out.note("waiting for the last jobs, then comparing");
    let compared = clock.within(args.longest_after(), async {
        let jobs = callers.end().await?;
        let ledger = || ground.ledger().map_err(|e| CliError::failure(format!("the ledger: {e}")));
        oracle::compare(&client, &jobs, PATIENCE, ledger).await.map(|compared| (jobs.len(), compared))
    });
    let (jobs, (verdict, ledger)) = tokio::select! {
        compared = compared => compared.unwrap_or_else(|| {
            Err(CliError::failure("the server did not answer all that it was asked in the end"))
        })?,
        status = ended(server) => return Err(ended_alone(&status)),
    };
    Ok(Run {
        kills: recovery_ms.len(),
        kills_wanted: args.kills() as usize,
        jobs,
        repeated: client.repeated(),
        recovery_ms,
        seconds: whole.elapsed().as_secs_f64(),
        verdict,
        ledger,
        conditions: place.conditions(args.seed).await,
    })
}

/// Kills the server and starts it again, until it was often enough or took too long. How long each
/// time from the kill until it was ready again, in milliseconds.
async fn kill(
    args: &Args,
    out: &Output,
    ground: &Ground,
    server: &mut Option<Server>,
    callers: &Callers,
) -> Result<Vec<f64>> {
    let (clock, dice, whole) = (Clock::real(), Clock::manual(0, args.seed), Stopwatch::start());
    out.note(&args.opening());
    let bar = bar(args.kills(), out);
    let mut recovery_ms = vec![];
    while recovery_ms.len() < args.kills() as usize && whole.elapsed() < args.longest() {
        let life = Duration::from_secs_f64(dice.factor(LIFE_S.0, LIFE_S.1));
        tokio::select! {
            () = clock.sleep(life) => {}
            status = ended(server) => return Err(ended_alone(&status)),
        }
        let watch = Stopwatch::start();
        if let Some(server) = server.take() {
            server.kill().await.map_err(|e| CliError::failure(format!("cannot kill the server: {e}")))?;
        }
        start(ground, server).await?;
        recovery_ms.push(watch.elapsed().as_secs_f64() * 1_000.0);
        if let Some(bar) = &bar {
            bar.inc(1);
            bar.set_message(format!("{} jobs", callers.acknowledged()));
        } else if recovery_ms.len() % args.kills().div_ceil(TOLD) as usize == 0 {
            let (done, of, jobs) = (recovery_ms.len(), args.kills(), callers.acknowledged());
            out.note(&format!("{done} of {of} kills, {jobs} jobs"));
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(recovery_ms)
}

async fn start(ground: &Ground, server: &mut Option<Server>) -> Result<()> {
    let failed = |why: String| {
        CliError::new(Exit::Failure, "cli_selftest_start", format!("the server does not start: {why}"), None)
    };
    let started = server.insert(Server::spawn(&ground.setup, &[]).map_err(|e| failed(e.to_string()))?);
    match Clock::real().within(READY_WITHIN, started.ready()).await {
        Some(Ok(())) => Ok(()),
        Some(Err(said)) => Err(failed(format!("{}\n{said}", ended(server).await))),
        None => Err(failed(format!("it is not ready after {} s", READY_WITHIN.as_secs()))),
    }
}

/// Waits for the end of a server that nobody here ended.
async fn ended(server: &mut Option<Server>) -> String {
    match server {
        Some(server) => server.ended().await.map_or_else(|e| e.to_string(), |s: ExitStatus| s.to_string()),
        None => std::future::pending().await,
    }
}

fn ended_alone(status: &str) -> CliError {
    let why = format!("the server under test has ended, and it was not the selftest that ended it: {status}");
    let hint = "was it killed by somebody, or for want of memory? else its log says why";
    CliError::new(Exit::Failure, "cli_selftest_ended", why, Some(hint))
}

fn bar(kills: u32, out: &Output) -> Option<ProgressBar> {
    if out.quiet || !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(kills.into());
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} kills  {msg}  {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    Some(bar)
}

impl From<Refused> for CliError {
    fn from(refused: Refused) -> Self {
        Self::failure(format!("the server under test refused {refused}"))
    }
}
