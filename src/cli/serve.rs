//! `reelhook serve`: the server, until SIGTERM or Ctrl-C.

use std::io::{ErrorKind, IsTerminal};
use std::sync::Mutex;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use super::output::to_stderr;
use super::{CliError, Exit, Result};
use crate::app::App;
use crate::clock::{Clock, Stopwatch};
use crate::config::{Config, Given};
use crate::store;

pub async fn run(given: &Given) -> Result<Exit> {
    let watch = Stopwatch::start();
    let config = Config::resolve(given).map_err(|e| CliError::usage(e.to_string()))?;
    log(&config)?;
    for (name, value, from) in &config.shown {
        tracing::info!("{name} = {value} ({from})");
    }
    let listener = TcpListener::bind(config.listen).await.map_err(|e| {
        let why = format!("{}, but nothing can listen there: {e}", config.named("listen"));
        CliError::new(Exit::Failure, "cli_listen", why, Some(listen_hint(&e)))
    })?;
    let app = App::prepare(&config, Clock::steady()).await.map_err(|e| {
        let hint = match (&e, config.database.engine()) {
            // It says so itself.
            (store::Error::Unfit(_), _) => None,
            (_, "sqlite") => Some("check that the directory is there and ours to write"),
            _ => Some("check the address, and that PostgreSQL answers there"),
        };
        CliError::new(Exit::Failure, "cli_store", format!("{}: {e}", config.named("database")), hint)
    })?;
    if let Some(key) = &app.first_key {
        // Shown once, on the terminal of whoever started it; never in the log.
        to_stderr(&format!("The first API key, shown only now: {key}"));
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let stop = stop_signal();
    let at = listener.local_addr().unwrap_or(config.listen);
    let ready_ms = u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(ready_ms, "reelhook is ready at http://{at}");
    app.serve(listener, stop).await;
    tracing::info!("stopped");
    Ok(Exit::Ok)
}

/// What to do where nothing can listen.
pub fn listen_hint(e: &std::io::Error) -> &'static str {
    match e.kind() {
        ErrorKind::AddrInUse => "another server may be there; choose another port",
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address; use 127.0.0.1, or 0.0.0.0 for all that it has"
        }
        ErrorKind::PermissionDenied => "ports below 1024 need a privilege; choose a port from 1024 on",
        _ => "choose another address or port",
    }
}

/// Told once SIGTERM or Ctrl-C arrives. A second Ctrl-C ends the process at once.
pub fn stop_signal() -> watch::Receiver<bool> {
    stop_signal_with(|| {})
}

/// The same for who has something to clear away first.
pub fn stop_signal_with(last: impl FnOnce() + Send + 'static) -> watch::Receiver<bool> {
    let (tell, told) = watch::channel(false);
    // Listened for from here on: one that came before the task below has its first turn would end
    // the process hard.
    let mut signals = Signals::listen();
    tokio::spawn(async move {
        signals.next().await;
        let _ = tell.send(true);
        signals.next().await;
        last();
        std::process::exit(i32::from(Exit::Interrupted.code()));
    });
    told
}

/// SIGTERM and Ctrl-C; where the system gives neither, nobody can ask.
struct Signals {
    #[cfg(unix)]
    streams: Vec<tokio::signal::unix::Signal>,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
        Self { streams: kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect() }
    }

    #[cfg(unix)]
    async fn next(&mut self) {
        let all = self.streams.iter_mut().map(|stream| Box::pin(stream.recv()));
        futures_util::future::select_all(all).await;
    }

    #[cfg(not(unix))]
    fn listen() -> Self {
        Self {}
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// A line that cannot be written is not told on stderr: when that is gone, telling it panics.
fn layer<S>() -> fmt::Layer<S> {
    fmt::layer().log_internal_errors(false)
}

fn log(config: &Config) -> Result<()> {
    let filter = || EnvFilter::try_new(&config.log).unwrap_or_else(|_| EnvFilter::new("info"));
    let color = std::io::stderr().is_terminal();
    let on_stderr = if config.log_json {
        layer().json().flatten_event(true).with_writer(std::io::stderr).with_filter(filter()).boxed()
    } else {
        let lines = layer().with_target(false).with_ansi(color).with_writer(std::io::stderr);
        lines.with_filter(filter()).boxed()
    };
    let to_file = match &config.log_file {
        None => None,
        Some(path) => {
            let opened = std::fs::File::options().create(true).append(true).open(path);
            let file = opened.map_err(|e| {
                let why = format!("{}, but it cannot be written: {e}", config.named("log-file"));
                let hint = "name a file in a directory that is there and ours to write";
                CliError::new(Exit::Usage, "cli_usage", why, Some(hint))
            })?;
            let writer = Mutex::new(file);
            Some(if config.log_json {
                layer().json().flatten_event(true).with_writer(writer).with_filter(filter()).boxed()
            } else {
                let lines = layer().with_target(false).with_ansi(false).with_writer(writer);
                lines.with_filter(filter()).boxed()
            })
        }
    };
    tracing_subscriber::registry()
        .with(on_stderr)
        .with(to_file)
        .try_init()
        .map_err(|e| CliError::failure(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_nothing_can_listen_decides_what_is_advised() {
        let hint = |kind: ErrorKind| listen_hint(&kind.into());
        assert!(hint(ErrorKind::AddrInUse).contains("another server"));
        assert!(hint(ErrorKind::AddrNotAvailable).contains("no such address; use 127.0.0.1"));
        assert!(hint(ErrorKind::PermissionDenied).contains("a port from 1024 on"));
        assert!(!hint(ErrorKind::Unsupported).contains("server"));
    }
}
