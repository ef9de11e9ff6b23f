//! The commands that are clients of a running server, and the few that need none.

use super::client::{Flags, Session};
use super::{
    Exit, Result, audit, completion, dead_letter, delivery, doctor, endpoint, event, generate, group, job,
    key, listen, receipt, replay, simulate, upstream, webhook,
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
    async fn run(self, given: &Given, act: impl AsyncFnOnce(&Session, Verb) -> Result<Exit>) -> Result<Exit> {
        act(&self.flags.open(given)?, self.verb).await
    }
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Submit jobs, wait for them, and what else a caller may wish.
    Job(Noun<job::Verb>),
    /// Jobs that were submitted together.
    Group(Noun<group::Verb>),
    /// Webhooks as they arrived.
    Receipt(Noun<receipt::Verb>),
    /// The log of everything published.
    Event(Noun<event::Verb>),
    /// Addresses of your application that are sent events.
    Endpoint(Noun<endpoint::Verb>),
    /// Events on their way to your application.
    Delivery(Noun<delivery::Verb>),
    /// What was given up, why, and what to do about it.
    DeadLetter(Noun<dead_letter::Verb>),
    /// Dead letters on their way back.
    Replay(Noun<replay::Verb>),
    /// Who replayed, dropped or stopped what.
    Audit(Noun<audit::Verb>),
    /// The endpoints HeyGen sends to.
    Webhook(Noun<webhook::Verb>),
    /// API keys of the server.
    Key(Noun<key::Verb>),
    Listen(listen::Args),
    Doctor(doctor::Args),
    /// What is outstanding at HeyGen, and whether anything is sent.
    Upstream(upstream::Args),
    Simulate(Box<simulate::Args>),
    Completion(completion::Args),
    #[command(hide = true)]
    Generate(generate::Args),
}

impl Command {
    /// Whether it works alike wherever it runs: no setting is read for it.
    pub fn needs_nothing(&self) -> bool {
        matches!(self, Self::Completion(_) | Self::Generate(_))
    }
}

pub async fn run(command: Command, given: &Given) -> Result<Exit> {
    match command {
        Command::Job(noun) => noun.run(given, job::run).await,
        Command::Group(noun) => noun.run(given, group::run).await,
        Command::Receipt(noun) => noun.run(given, receipt::run).await,
        Command::Event(noun) => noun.run(given, event::run).await,
        Command::Endpoint(noun) => noun.run(given, endpoint::run).await,
        Command::Delivery(noun) => noun.run(given, delivery::run).await,
        Command::DeadLetter(noun) => noun.run(given, dead_letter::run).await,
        Command::Replay(noun) => noun.run(given, replay::run).await,
        Command::Audit(noun) => noun.run(given, audit::run).await,
        Command::Webhook(noun) => noun.run(given, webhook::run).await,
        Command::Key(noun) => noun.run(given, key::run).await,
        Command::Listen(args) => listen::run(args, given).await,
        Command::Doctor(args) => doctor::run(args, given).await,
        Command::Upstream(args) => upstream::run(args, given).await,
        Command::Simulate(args) => simulate::run(*args, given).await,
        Command::Completion(args) => completion::run(&args),
        Command::Generate(args) => generate::run(&args),
    }
}
