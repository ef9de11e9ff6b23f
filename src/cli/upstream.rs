//! `reelhook upstream`: what is outstanding at HeyGen, what holds submission up, and the switch for it.

use serde_json::{Value, json};

use super::client::{Flags, Session};
use super::output::{Output, Paint, field};
use super::{Exit, Result};
use crate::config::Given;

#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Slots in use at HeyGen, what was sent today, and what holds submission up.
    #[command(after_help = "Example:\n  reelhook upstream show --json | jq .paused")]
    Show,
    /// Send no job to HeyGen until `resume`; jobs are taken in and wait.
    #[command(after_help = "What HeyGen has already goes on there.\n\nExample:\n  \
        reelhook upstream pause --reason 'budget of this month is spent'")]
    Pause {
        /// Why, for whoever finds it paused.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End a pause of submission, whoever began it.
    #[command(after_help = "If its cause is still there, the next job finds it.\n\nExample:\n  \
        reelhook upstream resume")]
    Resume,
}

pub async fn run(args: Args, given: &Given) -> Result<Exit> {
    let s = args.flags.open(given)?;
    let state = match args.verb {
        Verb::Show => s.api.get(&["upstream"], &[]).await?,
        Verb::Pause { reason } => {
            let body = json!({"reason": reason});
            s.api.post(&["upstream", "pause"], Some(&body)).await?
        }
        Verb::Resume => s.api.post(&["upstream", "resume"], None).await?,
    };
    print(&s, &state);
    Ok(Exit::Ok)
}

fn print(s: &Session, state: &Value) {
    s.out.answer(state, |out| {
        let of = |have: &str, most: &str| match field(state, most).as_str() {
            "" => field(state, have),
            most => format!("{} of {most}", field(state, have)),
        };
        let today = &state["today"];
        let sent = match field(today, "most_jobs").as_str() {
            "" => format!("{} job(s)", field(today, "jobs")),
            most => format!("{} of {most} jobs", field(today, "jobs")),
        };
        let spent = match field(today, "most_credits").as_str() {
            "" => String::new(),
            most => format!("{} of {most}", field(today, "credits")),
        };
        out.pairs(&[
            ("submission", submission(out, state)),
            ("to do", field(&state["paused"], "fix")),
            ("slots", format!("{} in use", of("slots_in_use", "slots"))),
            ("queued", field(state, "queued")),
            ("sent today", sent),
            ("spent today", spent),
            ("balance", balance(state)),
        ])
    });
}

fn balance(state: &Value) -> String {
    let (has, least) = (&state["balance"], field(state, "least_credits"));
    let least = if least.is_empty() { least } else { format!("; below {least} nothing is sent") };
    match field(has, "left").as_str() {
        "" => least.trim_start_matches("; ").to_owned(),
        left => format!("{left} at {}{least}", field(has, "at")),
    }
}

fn submission(out: &Output, state: &Value) -> String {
    let (paused, waiting) = (&state["paused"], &state["waiting"]);
    if paused.is_null() {
        if waiting.is_null() {
            return out.paint("open", Paint::Good);
        }
        let until = waiting["until"].as_str().map_or(String::new(), |at| format!(", until {at}"));
        return format!("{}: {}{until}", out.paint("waits", Paint::Care), field(waiting, "what"));
    }
    let mut words = format!(
        "{}: {} ({}), since {}",
        out.paint("paused", Paint::Bad),
        field(paused, "what"),
        field(paused, "reason"),
        field(paused, "since")
    );
    for (name, before) in [("by", ", by "), ("note", ": "), ("next_look_at", ", looked at again at ")] {
        let text = field(paused, name);
        if !text.is_empty() {
            words = words + before + &text;
        }
    }
    if paused["opened"] == true { words + ", and the next job finds out whether it is over" } else { words }
}
