//! `reelhook webhook`: the endpoints HeyGen sends to. Secrets stay in the server's store, unless a new one is asked
//! for on the spot.

use serde_json::{Value, json};

use super::client::{Session, rows};
use super::output::{Output, Paint, clean, field};
use super::{CliError, Exit, Result, ask, list};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Register the server at HeyGen, or update its endpoint, and keep the secret.
    #[command(after_help = "The server must know its public address: serve --public-url https://…\n\n\
        Examples:\n  reelhook webhook register\n  reelhook webhook register --events avatar_video.success,avatar_video.fail")]
    Register {
        /// Event types to hear of; all by default.
        #[arg(long, value_name = "TYPE[,TYPE…]", value_delimiter = ',')]
        events: Option<Vec<String>>,
        #[command(flatten)]
        show: Show,
    },
    /// The endpoints registered at HeyGen.
    #[command(after_help = "Example:\n  reelhook webhook list")]
    List,
    /// Get a new secret for an endpoint; the old one verifies a while longer.
    #[command(
        after_help = "Examples:\n  reelhook webhook rotate\n  reelhook webhook rotate ENDPOINT_ID --show-secret"
    )]
    Rotate {
        /// HeyGen's id of the endpoint; `webhook list` shows it [default: the one that leads to the server].
        #[arg(value_name = "ENDPOINT_ID")]
        id: Option<String>,
        #[command(flatten)]
        show: Show,
    },
    /// Remove an endpoint at HeyGen.
    #[command(after_help = "Example:\n  reelhook webhook remove ENDPOINT_ID --yes")]
    Remove {
        /// HeyGen's id of the endpoint; `webhook list` shows it.
        #[arg(value_name = "ENDPOINT_ID")]
        id: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct Show {
    /// Show a secret that HeyGen makes now, once: for a receiver behind `endpoint add --format heygen`.
    #[arg(long)]
    show_secret: bool,
}

impl Show {
    fn wish(&self, mut wish: Value) -> Value {
        if self.show_secret {
            wish["show_secret"] = json!(true);
        }
        wish
    }
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::Register { events, show } => {
            let wish = show.wish(json!({"events": events}));
            let answer = s.api.post(&["webhooks"], Some(&wish)).await?;
            s.out.answer(&answer, |out| registered(&answer, out));
            if show.show_secret && answer["secret"].is_null() {
                s.out.note("HeyGen made no new secret; `reelhook webhook rotate --show-secret` gets one");
            }
        }
        Verb::List => {
            let page = s.api.get(&["webhooks"], &[]).await?;
            let data = rows(&page)?;
            list::one_page(s, &page, data, blocks);
        }
        Verb::Rotate { id, show } => {
            let id = match id {
                Some(id) => id,
                None => ours(s).await?,
            };
            let wish = show.wish(json!({}));
            let answer = s.api.post(&["webhooks", &id, "rotate"], Some(&wish)).await?;
            s.out.answer(&answer, |out| {
                let id = out.paint(&field(&answer, "endpoint_id"), Paint::Bold);
                format!("{id} has a new secret\n")
                    + &out.pairs(&[
                        ("secret", secret(&answer)),
                        (
                            "old secret",
                            format!("verifies until {}", field(&answer, "old_secret_verifies_until")),
                        ),
                    ])
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

/// The one endpoint that leads to the server.
async fn ours(s: &Session) -> Result<String> {
    let page = s.api.get(&["webhooks"], &[]).await?;
    let all = rows(&page)?;
    let mut ours = all.iter().filter(|e| e["is_ours"] == true);
    match (ours.next(), ours.next()) {
        (Some(one), None) => Ok(field(one, "endpoint_id")),
        (None, _) => Err(CliError::usage(
            "no endpoint at HeyGen leads to the server; `reelhook webhook register` makes one",
        )),
        _ => Err(CliError::usage(
            "several endpoints at HeyGen lead to the server; name one that `reelhook webhook list` shows",
        )),
    }
}

fn registered(answer: &Value, out: &Output) -> String {
    let action = match answer["action"].as_str() {
        Some("created") => "registered at HeyGen",
        Some("rotated") => "was registered; HeyGen made a new secret for it",
        _ => "was registered; its event types are up to date",
    };
    let probe = answer["probe_ms"].as_u64().map_or(String::new(), |ms| match ms {
        0 => "answers in less than 1 ms".to_owned(),
        ms => format!("answers in {ms} ms"),
    });
    format!("{} {action}\n", out.paint(&field(answer, "url"), Paint::Bold))
        + &out.pairs(&[
            ("endpoint", field(answer, "endpoint_id")),
            ("address", probe),
            ("events", events(answer)),
            ("secret", secret(answer)),
        ])
}

/// What HeyGen signs with, if that was asked for.
fn secret(answer: &Value) -> String {
    match (&answer["secret"], &answer["secret_stored"]) {
        (Value::String(secret), _) => clean(secret),
        (_, Value::Bool(true)) => "stored".to_owned(),
        _ => "not known".to_owned(),
    }
}

/// An address is too long for a column.
fn blocks(s: &Session, endpoints: &[Value]) -> String {
    let block = |e: &Value| {
        let status = field(e, "status");
        let paint = if status == "disabled" { Paint::Bad } else { Paint::Good };
        let whose = if e["is_ours"] == true { "this server" } else { "another address" };
        let secret = if e["secret_known"] == true {
            format!("known since {}", field(e, "secret_since"))
        } else {
            "not known; `reelhook webhook rotate` gets a new one".to_owned()
        };
        let head = s.out.paint(&field(e, "url"), Paint::Bold);
        format!("{head}  {}\n", s.out.paint(&status, paint))
            + &s.out.pairs(&[
                ("endpoint", field(e, "endpoint_id")),
                ("leads to", whose.to_owned()),
                ("events", events(e)),
                ("secret", secret),
            ])
    };
    endpoints.iter().map(block).collect::<Vec<_>>().join("\n")
}

fn events(endpoint: &Value) -> String {
    match endpoint["events"].as_array() {
        None => "all".to_owned(),
        Some(all) => all.iter().filter_map(Value::as_str).map(clean).collect::<Vec<_>>().join(", "),
    }
}
