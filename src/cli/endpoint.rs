//! `reelhook endpoint`: addresses of your application that are sent events. A signing secret is
//! shown once, when it is made.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::client::{Session, rows};
use super::output::{Output, Paint, clean, field};
use super::{CliError, Exit, Result, ask, delivery, list, units};
use crate::domain::endpoint::Format;
use crate::domain::job::Kind;

/// A receiver has 15 seconds to answer a test.
const TEST_WAIT: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Have events sent to an address; its signing secret is shown only now.
    #[command(after_help = "Receivers verify with any Standard Webhooks library and the secret shown.\n\n\
        Examples:\n  reelhook endpoint add https://app.example.com/hooks/video --events job.completed,job.failed\n  \
        reelhook endpoint add https://old.example.com/heygen --format heygen")]
    Add {
        /// Where events are sent: http or https, a public address or one of the server's --allow-private.
        // Not `url`, which is the server's.
        #[arg(value_name = "URL")]
        address: String,
        #[command(flatten)]
        wishes: Wishes,
    },
    /// List endpoints.
    #[command(after_help = "Example:\n  reelhook endpoint list")]
    List,
    /// Show one endpoint.
    #[command(after_help = "Example:\n  reelhook endpoint get ep_01…")]
    Get {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Change what is named of an endpoint.
    #[command(after_help = "Example:\n  reelhook endpoint update ep_01… --events 'job.*'")]
    Update {
        #[arg(value_name = "ID")]
        id: String,
        /// Where events are sent from now on, those that wait included.
        #[arg(long, value_name = "URL")]
        to: Option<String>,
        #[command(flatten)]
        wishes: Wishes,
    },
    /// Get a new signing secret; the old one signs beside it for a while.
    #[command(
        after_help = "Examples:\n  reelhook endpoint rotate ep_01…\n  reelhook endpoint rotate ep_01… --overlap 0"
    )]
    Rotate {
        #[arg(value_name = "ID")]
        id: String,
        /// How long the old secret signs beside the new one, up to 7d; 0 when it leaked [default: 1d].
        #[arg(long, value_name = "SPAN", value_parser = units::span)]
        overlap: Option<Duration>,
    },
    /// Send a test event and show what became of it.
    #[command(
        after_help = "Exit code 0 when it was taken, 1 when not.\n\nExample:\n  reelhook endpoint test ep_01…"
    )]
    Test {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Send events to a disabled endpoint again, after a test event that it takes.
    #[command(after_help = "Example:\n  reelhook endpoint enable ep_01…")]
    Enable {
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Remove an endpoint; what waits for it is given up.
    #[command(after_help = "Example:\n  reelhook endpoint remove ep_01… --yes")]
    Remove {
        #[arg(value_name = "ID")]
        id: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

/// What it is for, and which events it wants.
#[derive(Debug, clap::Args)]
pub struct Wishes {
    /// What it is for.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Event types, families such as job.* or heygen.*, or * for all but HeyGen's own.
    #[arg(long, value_name = "TYPE[,TYPE…]", value_delimiter = ',')]
    events: Option<Vec<String>>,
    /// Only events of jobs of these kinds.
    #[arg(long, value_name = "KIND[,KIND…]", value_delimiter = ',', value_parser = Kind::ALL.map(Kind::name))]
    kinds: Option<Vec<String>>,
    /// Only events of jobs with this label; may be given several times, and then all must fit.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = units::pair)]
    labels: Vec<(String, String)>,
    /// standard: our events; heygen: HeyGen's own webhooks, byte for byte.
    #[arg(long, value_name = "FORMAT", value_parser = Format::ALL.map(Format::name))]
    format: Option<String>,
    /// Waits after the first, second, … attempt that failed; 1 to 20 of up to 7d, 14d together
    /// [default: 5s,5m,30m,2h,5h,10h,14h,20h,24h].
    #[arg(long, value_name = "SPAN[,SPAN…]", value_delimiter = ',', value_parser = units::span)]
    retry_after: Option<Vec<Duration>>,
    /// Statuses from 400 to 499 that are a refusal for good; 410, 413 and 415 always are.
    #[arg(long, value_name = "STATUS[,STATUS…]", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(400..=499))]
    give_up_on: Option<Vec<u16>>,
}

impl Wishes {
    fn body(&self, url: Option<&str>) -> Value {
        let labels: Map<String, Value> =
            self.labels.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let waits: Option<Vec<u64>> =
            self.retry_after.as_ref().map(|all| all.iter().map(Duration::as_secs).collect());
        let mut body = Map::new();
        for (name, value) in [
            ("url", url.map(|url| json!(url))),
            ("description", self.description.as_ref().map(|text| json!(text))),
            ("events", self.events.as_ref().map(|all| json!(all))),
            ("kinds", self.kinds.as_ref().map(|all| json!(all))),
            ("labels", (!labels.is_empty()).then_some(Value::Object(labels))),
            ("format", self.format.as_ref().map(|name| json!(name))),
            ("retry_after_s", waits.map(|all| json!(all))),
            ("give_up_on", self.give_up_on.as_ref().map(|all| json!(all))),
        ] {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        }
        Value::Object(body)
    }
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::Add { address, wishes } => {
            let made = s.api.post(&["endpoints"], Some(&wishes.body(Some(&address)))).await?;
            tell_secret(s, &made);
        }
        Verb::List => {
            let page = s.api.get(&["endpoints"], &[]).await?;
            let data = rows(&page)?;
            list::one_page(s, &page, data, |s, all| {
                all.iter().map(|e| block(&s.out, e)).collect::<Vec<_>>().join("\n")
            });
        }
        Verb::Get { id } => {
            let found = s.api.get(&["endpoints", &id], &[]).await?;
            s.out.answer(&found, |out| block(out, &found));
        }
        Verb::Update { id, to, wishes } => {
            let body = wishes.body(to.as_deref());
            if body.as_object().is_some_and(Map::is_empty) {
                return Err(CliError::usage("nothing to change: see `reelhook endpoint update --help`"));
            }
            let changed = s.api.patch(&["endpoints", &id], &body).await?;
            s.out.answer(&changed, |out| block(out, &changed));
        }
        Verb::Rotate { id, overlap } => {
            let body = overlap.map(|span| json!({"overlap_s": span.as_secs()}));
            let changed = s.api.post(&["endpoints", &id, "rotate"], body.as_ref()).await?;
            tell_secret(s, &changed);
        }
        Verb::Test { id } => return test(s, &id).await,
        Verb::Enable { id } => return enable(s, &id).await,
        Verb::Remove { id, yes } => {
            ask::sure(yes, &format!("remove the endpoint {id}"))?;
            s.api.delete(&["endpoints", &id]).await?;
            let answer = json!({"id": id, "removed": true});
            s.out.answer(&answer, |_| format!("{id} is removed"));
        }
    }
    Ok(Exit::Ok)
}

async fn sent(s: &Session, id: &str) -> Result<Value> {
    s.api.post_waiting(&["endpoints", id, "test"], TEST_WAIT).await
}

fn was_taken(test: &Value) -> bool {
    test["state"] == "delivered"
}

async fn test(s: &Session, id: &str) -> Result<Exit> {
    let test = sent(s, id).await?;
    s.out.answer(&test, |out| delivery::page(out, &test));
    Ok(if was_taken(&test) { Exit::Ok } else { Exit::Failure })
}

/// One that is disabled has to take a test event first.
async fn enable(s: &Session, id: &str) -> Result<Exit> {
    let found = s.api.get(&["endpoints", id], &[]).await?;
    if !found["disabled_at"].is_null() {
        let test = sent(s, id).await?;
        if !was_taken(&test) {
            s.out.answer(&test, |out| delivery::page(out, &test));
            s.out.note("the test event was not taken, so the endpoint stays disabled");
            return Ok(Exit::Failure);
        }
    }
    let enabled = s.api.post(&["endpoints", id, "enable"], None).await?;
    s.out.answer(&enabled, |out| block(out, &enabled));
    if !found["disabled_at"].is_null() {
        s.out.note(&format!(
            "what it missed meanwhile is among the dead letters: `reelhook dead-letter replay --endpoint {id}`"
        ));
    }
    Ok(Exit::Ok)
}

fn tell_secret(s: &Session, endpoint: &Value) {
    s.out.answer(endpoint, |out| {
        block(out, endpoint) + &format!("\n{}\n", out.paint(&field(endpoint, "secret"), Paint::Bold))
    });
    if s.out.is_table() {
        s.out.note("Keep it: the signing secret is shown only now. The receiver verifies with it.");
    }
}

/// An address is too long for a column.
fn block(out: &Output, e: &Value) -> String {
    let trouble = [("failing since", "failing_since"), ("left alone until", "left_alone_until")];
    let trouble =
        trouble.into_iter().filter_map(|(words, name)| Some(format!("{words} {}", e[name].as_str()?)));
    let trouble: Vec<String> = trouble.collect();
    let (state, paint) = match &e["disabled_at"] {
        Value::Null if trouble.is_empty() => ("live".to_owned(), Paint::Good),
        Value::Null => (trouble.join(", "), Paint::Care),
        _ => (format!("disabled: {}", field(e, "disabled_for")), Paint::Bad),
    };
    let secrets = e["secrets"].as_array().into_iter().flatten().map(|secret| match &secret["signs_until"] {
        Value::Null => field(secret, "hint"),
        _ => format!("{} until {}", field(secret, "hint"), field(secret, "signs_until")),
    });
    let labels = e["labels"].as_object().into_iter().flatten();
    let labels =
        labels.map(|(name, value)| format!("{}={}", clean(name), clean(value.as_str().unwrap_or_default())));
    format!("{}  {}\n", out.paint(&field(e, "url"), Paint::Bold), out.paint(&state, paint))
        + &out.pairs(&[
            ("endpoint", field(e, "id")),
            ("for", field(e, "description")),
            ("events", texts(&e["events"])),
            ("kinds", texts(&e["kinds"])),
            ("labels", labels.collect::<Vec<_>>().join(", ")),
            ("format", field(e, "format")),
            ("tried again", tried_again(e)),
            ("secrets", secrets.collect::<Vec<_>>().join(", ")),
            ("hint", field(e, "hint")),
        ])
}

/// `after 5s, 5m, 30m; never on 400`.
fn tried_again(e: &Value) -> String {
    let all = |name: &str| e[name].as_array().map_or(&[][..], Vec::as_slice);
    let waits: Vec<String> =
        all("retry_after_s").iter().filter_map(|s| s.as_i64().map(units::one_unit)).collect();
    let never: Vec<String> = all("give_up_on").iter().map(Value::to_string).collect();
    let after = format!("after {}", waits.join(", "));
    if never.is_empty() { after } else { format!("{after}; never on {}", never.join(", ")) }
}

fn texts(list: &Value) -> String {
    let all = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    all.map(clean).collect::<Vec<_>>().join(", ")
}
