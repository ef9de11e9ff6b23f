//! The command line: one file per command. `serve`, `demo`, `sandbox` and `selftest` own a store or a fake;
//! every other command is a client of a running server over its API.

mod ask;
mod audit;
mod client;
mod completion;
mod dead_letter;
mod delivery;
mod demo;
mod doctor;
mod endpoint;
mod error;
mod event;
pub mod generate;
mod group;
mod job;
mod key;
mod list;
mod listen;
mod nouns;
mod output;
mod read;
mod receipt;
mod reference;
mod replay;
mod rows;
mod sandbox;
pub mod selftest;
mod serve;
mod simulate;
mod units;
mod upstream;
mod webhook;

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use error::{CliError, Exit, Result};
pub use reference::markdown;

use crate::config::{Given, SETTINGS};

/// HeyGen's asynchronous video API, made dependable: submitted once, told once, never paid twice.
#[derive(Parser)]
#[command(name = "reelhook", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server.
    Serve,
    /// See it work: server and HeyGen sandbox in one process, no key, no network, no credits.
    Demo(demo::Args),
    /// Run a fake HeyGen to develop and test against.
    Sandbox(sandbox::Args),
    /// Kill this program again and again, on this machine and a store of its own, and count what broke.
    Selftest(selftest::Args),
    #[command(flatten)]
    Client(nouns::Command),
}

/// The whole command line, with the settings of `serve` as flags.
pub fn command() -> clap::Command {
    Cli::command().mut_subcommand("serve", |serve| {
        let serve = serve.after_help(
            "Each flag is also a variable, REELHOOK_ and its name in capitals; a .env file is read. A secret may \
             be in a file named by its variable with _FILE behind it. See docs/configuration.md.",
        );
        SETTINGS.iter().fold(serve, |serve, s| {
            let variables: String = s.aliases.iter().map(|a| format!(", {a}")).collect();
            let default = s.default.map_or(String::new(), |d| format!(" [default: {d}]"));
            let help = format!("{}{default} [env: {}{variables}]", s.help, s.variable());
            let arg = Arg::new(s.name).long(s.name).value_name(s.value).help(help);
            serve.arg(if s.is_switch() {
                // `--accept-unsigned` alone means yes; a value may be given to say no.
                arg.num_args(0..=1).default_missing_value("true").action(ArgAction::Set).require_equals(true)
            } else {
                arg.action(ArgAction::Set)
            })
        })
    })
}

pub fn main() -> ExitCode {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(e) => {
            // Help and version go to stdout and are no failure; the rest is a usage error.
            let code = if e.use_stderr() { Exit::Usage } else { Exit::Ok };
            if let Some(usage) = CliError::from_clap(&e) {
                usage.print();
                return code.into();
            }
            let _ = e.print();
            return code.into();
        }
    };
    let done = Cli::from_arg_matches(&matches)
        .map_err(|e| CliError::usage(e.to_string()))
        .and_then(|cli| run(cli.command, &matches));
    match done {
        Ok(exit) => exit.into(),
        Err(e) => {
            e.print();
            e.exit.into()
        }
    }
}

fn run(command: Command, matches: &clap::ArgMatches) -> Result<Exit> {
    let mut given = match &command {
        Command::Client(command) if command.needs_nothing() => Given::default(),
        _ => Given::from_process().map_err(|e| CliError::usage(e.to_string()))?,
    };
    if let Some(("serve", flags)) = matches.subcommand() {
        let flag = |name: &'static str| Some((name.to_owned(), flags.get_one::<String>(name)?.clone()));
        given.flags = SETTINGS.iter().filter_map(|s| flag(s.name)).collect::<BTreeMap<_, _>>();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| CliError::failure(format!("no runtime: {e}")))?;
    let done = runtime.block_on(async {
        match command {
            Command::Serve => serve::run(&given).await,
            Command::Demo(args) => demo::run(args).await,
            Command::Sandbox(args) => sandbox::run(args).await,
            Command::Selftest(args) => selftest::run(args, &given).await,
            Command::Client(command) => nouns::run(command, &given).await,
        }
    });
    // Storage threads are waited for by their owners; what else still runs is not.
    runtime.shutdown_background();
    done
}
