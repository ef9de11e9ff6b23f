//! `reelhook webhook`: the endpoints HeyGen sends to. Secrets stay in the server's store.

use serde_json::{Value, json};

use super::client::{Flags, Session, rows};
use super::output::{Fit, Paint, Shown, cell, field, painted};
use super::{Exit, Result, ask};
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
    /// Register the server at HeyGen, or update its endpoint, and keep the secret.
    #[command(after_help = "The server must know its public address: serve --public-url https://…\n\n\
        Examples:\n  reelhook webhook register\n  reelhook webhook register --events avatar_video.success,avatar_video.fail")]
    Register {
        /// Event types to hear of; all by default.
        #[arg(long, value_name = "TYPE[,TYPE…]", value_delimiter = ',')]
        events: Option<Vec<String>>,
    },
    /// The endpoints registered at HeyGen.
    #[command(after_help = "Example:\n  reelhook webhook list")]
    List,
    /// Get a new secret for an endpoint; the old one verifies a while longer.
    #[command(after_help = "Example:\n  reelhook webhook rotate ENDPOINT_ID")]
    Rotate {
        #[arg(value_name = "ENDPOINT_ID")]
        id: String,
    },
    /// Remove an endpoint at HeyGen.
    #[command(after_help = "Example:\n  reelhook webhook remove ENDPOINT_ID --yes")]
    Remove {
        #[arg(value_name = "ENDPOINT_ID")]
        id: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

pub async fn run(args: Args, given: &Given) -> Result<Exit> {
    let s = args.flags.open(given)?;
    match args.verb {
        Verb::Register { events } => {
            let answer = s.api.post(&["webhooks"], Some(&json!({"events": events}))).await?;
            s.out.answer(&answer, |out| registered(&answer, out));
        }
        Verb::List => {
            let page = s.api.get(&["webhooks"], &[]).await?;
            let data = rows(&page)?;
            super::key::print_list(&s, &page, data, table);
        }
        Verb::Rotate { id } => {
            let answer = s.api.post(&["webhooks", &id, "rotate"], None).await?;
            s.out.answer(&answer, |_| {
                format!(
                    "{} has a new secret, and it is stored; the old one verifies until {}",
                    field(&answer, "endpoint_id"),
                    field(&answer, "old_secret_verifies_until"),
                )
            });
        }
        Verb::Remove { id, yes } => {
            ask::sure(yes, &format!("remove the endpoint {id} at HeyGen"))?;
            s.api.delete(&["webhooks", &id]).await?;
            let answer = json!({"endpoint_id": id, "removed": true});
            s.out.answer(&answer, |_| format!("{id} is removed at HeyGen"));
        }
    }
    Ok(Exit::Ok)
}

fn registered(answer: &Value, out: &super::output::Output) -> String {
    let action = match answer["action"].as_str() {
        Some("created") => "registered at HeyGen",
        Some("rotated") => "was registered; HeyGen made a new secret for it",
        _ => "was registered; its event types are up to date",
    };
    let secret = if answer["secret_stored"] == true { "stored" } else { "not known" };
    let events =
        answer["events"].as_array().map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>());
    let probe = answer["probe_ms"].as_u64().map_or(String::new(), |ms| format!("answers in {ms} ms"));
    format!("{} {action}\n", out.paint(&field(answer, "url"), Paint::Bold))
        + &out.pairs(&[
            ("endpoint", field(answer, "endpoint_id")),
            ("address", probe),
            ("events", events.map_or("all".to_owned(), |all| all.join(", "))),
            ("secret", secret.to_owned()),
        ])
}

fn table(s: &Session, endpoints: &[Value]) -> String {
    let columns = [
        ("ENDPOINT", Fit::Whole),
        ("STATUS", Fit::Whole),
        ("OURS", Fit::Whole),
        ("SECRET", Fit::Whole),
        ("URL", Fit::Wrap),
    ];
    let yes = |value: &Value, word: &str| if *value == true { word.to_owned() } else { "-".to_owned() };
    let row = |e: &Value| -> Vec<Shown> {
        let status = field(e, "status");
        let paint = if status == "disabled" { Paint::Bad } else { Paint::Plain };
        vec![
            cell(field(e, "endpoint_id")),
            painted(&status, paint),
            cell(yes(&e["is_ours"], "yes")),
            cell(yes(&e["secret_known"], "known")),
            cell(field(e, "url")),
        ]
    };
    s.out.table(&columns, endpoints.iter().map(row).collect())
}
