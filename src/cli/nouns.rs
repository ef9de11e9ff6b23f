//! The commands that are clients of a running server, and the few that need none.

use super::client::{Flags, Session};
use super::{
    Exit, Result, completion, doctor, event, generate, job, key, receipt, simulate, upstream, webhook,
};
use crate::config::Given;

/// The verbs of a noun, and what every client command takes.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Noun<Verb: clap::Subcommand> {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    flags: Flags,
}

impl<Verb: clap::Subcommand> Noun<Verb> {
    fn open(self, given: &Given) -> Result<(Session, Verb)> {
        Ok((self.flags.open(given)?, self.verb))
    }
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Submit jobs, wait for them, and what else a caller may wish.
    Job(Noun<job::Verb>),
    /// Webhooks as they arrived.
    Receipt(Noun<receipt::Verb>),
    /// The log of everything published.
    Event(Noun<event::Verb>),
    /// The endpoints HeyGen sends to.
    Webhook(Noun<webhook::Verb>),
    /// API keys of the server.
    Key(Noun<key::Verb>),
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
        Command::Job(noun) => {
            let (s, verb) = noun.open(given)?;
            job::run(&s, verb).await
        }
        Command::Receipt(noun) => {
            let (s, verb) = noun.open(given)?;
            receipt::run(&s, verb).await
        }
        Command::Event(noun) => {
            let (s, verb) = noun.open(given)?;
            event::run(&s, verb).await
        }
        Command::Webhook(noun) => {
            let (s, verb) = noun.open(given)?;
            webhook::run(&s, verb).await
        }
        Command::Key(noun) => {
            let (s, verb) = noun.open(given)?;
            key::run(&s, verb).await
        }
        Command::Doctor(args) => doctor::run(args, given).await,
        Command::Upstream(args) => upstream::run(args, given).await,
        Command::Simulate(args) => simulate::run(*args, given).await,
        Command::Completion(args) => completion::run(&args),
        Command::Generate(args) => generate::run(&args),
    }
}
