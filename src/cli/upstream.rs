//! `reelhook upstream`: slots in use at HeyGen, and whether submission is paused.

use super::client::Flags;
use super::output::{Paint, field};
use super::{Exit, Result};
use crate::config::Given;

/// Slots in use at HeyGen, and whether submission is paused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  reelhook upstream --json | jq .paused")]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
}

pub async fn run(args: Args, given: &Given) -> Result<Exit> {
    let s = args.flags.open(given)?;
    let state = s.api.get(&["upstream"], &[]).await?;
    s.out.answer(&state, |out| {
        let paused = &state["paused"];
        let submission = if paused.is_null() {
            out.paint("open", Paint::Good)
        } else {
            let next = match paused["next_try_at"].as_str() {
                Some(at) => format!("tried again at {at}"),
                None => "until a restart".to_owned(),
            };
            let since = field(paused, "since");
            format!("{}: {}, since {since}, {next}", out.paint("paused", Paint::Bad), field(paused, "reason"))
        };
        out.pairs(&[
            ("slots", format!("{} of {} in use", field(&state, "slots_in_use"), field(&state, "slots"))),
            ("submission", submission),
        ])
    });
    Ok(Exit::Ok)
}
