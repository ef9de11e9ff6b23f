//! `reelhook sandbox`: a fake HeyGen to develop and test against. No key, no network, no credits.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;

use super::output::{to_stderr, wrapped};
use super::serve::{listen_hint, stop_signal};
use super::{CliError, Exit, Result};
use crate::clock::Clock;
use crate::heygen::sandbox::{Fault, Options, Sandbox};

#[derive(clap::Args)]
#[command(after_long_help = faults_help())]
pub struct Args {
    /// Where the sandbox listens.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8100")]
    listen: SocketAddr,
    /// The address in the links it hands out, where it differs from the listener.
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// The only key it takes; any by default.
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
    /// Jobs that may be unfinished at once; more are answered 429.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,
    /// Credits in the wallet; a job costs one.
    #[arg(long, value_name = "CREDITS", default_value_t = 1_000.0, value_parser = credits)]
    balance: f64,
    /// How long a job takes, in milliseconds, from the shortest to the longest.
    #[arg(long, value_name = "MS..MS", default_value = "4000..9000", value_parser = render)]
    render: (u64, u64),
    /// Seconds that links to files live.
    #[arg(long, value_name = "SECONDS", default_value_t = 604_800, value_parser = clap::value_parser!(u64).range(1..))]
    link_life: u64,
    /// A fault by chance, as WORD=PROBABILITY; may be given several times. See --help for the words.
    #[arg(long = "fault", value_name = "WORD=P", value_parser = chance)]
    faults: Vec<(Fault, f64)>,
    /// Decides chance; the same seed gives the same faults.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Append what it accepted, charged, sent and served to this file, synced, as JSON lines.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

pub async fn run(args: Args) -> Result<Exit> {
    let listener = TcpListener::bind(args.listen).await.map_err(|e| {
        let why = format!("--listen {}: {e}", args.listen);
        CliError::new(Exit::Failure, "cli_listen", why, Some(listen_hint(&e)))
    })?;
    let at = listener.local_addr().unwrap_or(args.listen);
    let base = args.public_url.clone().unwrap_or_else(|| format!("http://{at}"));
    let sandbox = Sandbox::new(Options {
        seed: args.seed,
        api_key: args.api_key,
        concurrency: args.concurrency as usize,
        balance: args.balance,
        render: args.render.0..=args.render.1,
        link_life: Duration::from_secs(args.link_life),
        faults: args.faults,
        ledger_file: args.ledger.clone(),
        ..Options::new(Clock::real(), base)
    })
    .map_err(|e| CliError::failure(format!("--ledger: {e}")))?;
    to_stderr(&format!(
        "HeyGen sandbox at http://{at}\n\
        \u{20} start reelhook with  --heygen-url http://{at} --heygen-api-key any\n\
        \u{20} what it did          curl http://{at}/sandbox/ledger\n\
        \u{20} a fault for one job  put #lost, #fail, #double, ... into its title, name, prompt or script"
    ));
    let working = sandbox.clone();
    tokio::spawn(async move { working.run().await });
    let mut stop = stop_signal();
    let told = async move {
        let _ = stop.wait_for(|stopped| *stopped).await;
    };
    axum::serve(listener, sandbox.router())
        .with_graceful_shutdown(told)
        .await
        .map_err(|e| CliError::failure(e.to_string()))?;
    Ok(Exit::Ok)
}

fn render(text: &str) -> std::result::Result<(u64, u64), String> {
    let wrong = || "must be two numbers of milliseconds, such as 4000..9000".to_owned();
    let (low, high) = text.split_once("..").ok_or_else(wrong)?;
    let (low, high) = (low.parse().map_err(|_| wrong())?, high.parse().map_err(|_| wrong())?);
    if low <= high { Ok((low, high)) } else { Err(wrong()) }
}

fn credits(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.0 => Ok(n),
        _ => Err("it must be a number of credits, 0 or more".to_owned()),
    }
}

fn chance(text: &str) -> std::result::Result<(Fault, f64), String> {
    let (word, p) = text.split_once('=').ok_or("must be WORD=PROBABILITY, such as lost=0.1")?;
    let fault = word.parse::<Fault>().map_err(|e| format!("{e}; `reelhook sandbox --help` names them"))?;
    match p.parse::<f64>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok((fault, p)),
        _ => Err("the probability must be from 0 to 1".to_owned()),
    }
}

fn faults_help() -> String {
    let line = |f: &Fault| format!("  {:<18} {}", f.word(), wrapped(f.about(), 79, 21));
    let lines: Vec<String> = Fault::ALL.iter().map(line).collect();
    format!(
        "Faults, by chance with --fault or as #word in a job's title, name, prompt or script:\n{}",
        lines.join("\n")
    )
}
