//! The commands that are clients of a running server, and the few that need none.

use super::{
    Exit, Result, completion, doctor, event, generate, job, key, receipt, simulate, upstream, webhook,
};
use crate::config::Given;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Submit jobs, wait for them, and what else a caller may wish.
    Job(job::Args),
    /// Webhooks as they arrived.
    Receipt(receipt::Args),
    /// The log of everything published.
    Event(event::Args),
    /// The endpoints HeyGen sends to.
    Webhook(webhook::Args),
    /// API keys of the server.
    Key(key::Args),
    Doctor(doctor::Args),
    /// What is outstanding at HeyGen, and whether anything is sent.
    Upstream(upstream::Args),
    Simulate(Box<simulate::Args>),
    Completion(completion::Args),
    #[command(hide = true)]
    Generate(generate::Args),
}

pub async fn run(command: Command, given: &Given) -> Result<Exit> {
    match command {
        Command::Job(args) => job::run(args, given).await,
        Command::Receipt(args) => receipt::run(args, given).await,
        Command::Event(args) => event::run(args, given).await,
        Command::Webhook(args) => webhook::run(args, given).await,
        Command::Key(args) => key::run(args, given).await,
        Command::Doctor(args) => doctor::run(args, given).await,
        Command::Upstream(args) => upstream::run(args, given).await,
        Command::Simulate(args) => simulate::run(*args, given).await,
        Command::Completion(args) => completion::run(&args),
        Command::Generate(args) => generate::run(&args),
    }
}
