//! `reelhook simulate`: what HeyGen sends, signed as HeyGen signs, to any address. A tool to try a
//! receiver with, and the load generator of this project's own benchmarks.

mod load;
mod message;
mod payloads;
mod plan;
mod report;
mod tally;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Flags, Session};
use super::output::{Fit, cell};
use super::{CliError, Exit, Result, read, units};
use crate::config::{Given, proxies_to};
use crate::http::hook;
use crate::net;
use load::{Load, Shape, Target};
use message::{Header, Maker};
use payloads::{Recorded, Template};
use plan::Plan;

/// Up to here, and when one of each is sent, every answer is told; else there is a progress bar.
const TOLD_ONE_BY_ONE: u64 = 20;
const CONNECTIONS: usize = 64;
const SECRETS: [&str; 3] = ["REELHOOK_HEYGEN_WEBHOOK_SECRET", "HEYGEN_WEBHOOK_SECRET", "HEYGEN_SECRET"];

/// Send webhooks as HeyGen does, signed, to any address.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The receiver must know the same secret: start `serve` and `simulate` with the same HEYGEN_WEBHOOK_SECRET.\n\
    Exit code 0 when every answer was 2xx; with --forge, when every answer was 401 or another 4xx; with --unsigned, \
    when every answer was one or the other.\n\n\
    Examples:\n  \
    reelhook simulate --event avatar_video.success --job job_01…\n  \
    reelhook simulate --event all --to http://localhost:3000/hook --secret whsec_…\n  \
    reelhook simulate --override event_data.video_id=v-{seq} --count 100 --reorder\n  \
    reelhook simulate --rate 1000/s --duration 10s --json"
)]
pub struct Args {
    /// Where to [default: /webhooks/heygen at the server].
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// An event type of HeyGen, or all; may be given several times [default: avatar_video.success].
    #[arg(long = "event", value_name = "TYPE", conflicts_with_all = ["dialects", "body"])]
    events: Vec<String>,
    /// A spelling met in the field, or all; may be given several times.
    #[arg(long = "dialect", value_name = "NAME", conflicts_with = "body")]
    dialects: Vec<String>,
    /// Show every recorded event type and dialect; send nothing.
    #[arg(long)]
    list: bool,
    /// A body of your own, byte for byte: JSON, a file, or - for standard input.
    #[arg(long, value_name = "JSON|FILE|-")]
    body: Option<String>,
    /// Sets a field of the body; {seq} in the value is the message's number. May be given several times.
    #[arg(long = "override", value_name = "PATH=VALUE", value_parser = units::pair)]
    overrides: Vec<(String, String)>,
    /// The job it is about: sets callback_id.
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// The webhook secret to sign with [env: HEYGEN_WEBHOOK_SECRET, HEYGEN_SECRET, or _FILE].
    #[arg(long, value_name = "SECRET")]
    secret: Option<String>,
    /// The header that carries the signature.
    #[arg(long, value_name = "NAME", value_enum, default_value = "signature")]
    header: Header,
    /// Sign with a wrong secret.
    #[arg(long, conflicts_with = "unsigned")]
    forge: bool,
    /// Send no signature.
    #[arg(long)]
    unsigned: bool,
    /// Messages to send [default: one of each chosen].
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..=4_000_000_000))]
    count: Option<u64>,
    /// Send for this long instead.
    #[arg(long, value_name = "SPAN", value_parser = units::some_span)]
    duration: Option<Duration>,
    /// Messages a second, whatever the answers do; latency counts from when a message was due.
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<f64>,
    /// Connections at once [default: 64, or one while each answer is told].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: Option<u16>,
    /// Messages sent first and not counted.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100_000_000))]
    warmup: u64,
    /// Send each message N times.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    duplicate: u64,
    /// Mix up the order.
    #[arg(long)]
    reorder: bool,
    /// Leave out this share of the messages, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    drop: f64,
    /// Wait this long before the first.
    #[arg(long, value_name = "SPAN", value_parser = units::span)]
    delay: Option<Duration>,
    /// Give each message ids of its own [default: when there are several and no --duplicate].
    #[arg(long)]
    unique: bool,
    /// Decides ids and chance: the same seed sends the same bodies [default: by chance].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How long to wait for one answer.
    #[arg(long, value_name = "SPAN", default_value = "15s", value_parser = units::some_span)]
    timeout: Duration,
    #[command(flatten)]
    flags: Flags,
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    let digits = text.strip_suffix("/s").unwrap_or(text);
    match digits.parse::<f64>() {
        Ok(n) if (0.001..=10_000_000.0).contains(&n) => Ok(n),
        _ => Err("it must be from 0.001 to 10000000 a second, such as 200 or 200/s".to_owned()),
    }
}

fn share(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("it must be a share from 0 to 1".to_owned()),
    }
}

pub async fn run(args: Args, given: &Given) -> Result<Exit> {
    let s = args.flags.open(given)?;
    if args.list {
        list(&s);
        return Ok(Exit::Ok);
    }
    let (load, told) = prepare(&s, &args, given)?;
    if let Some(delay) = args.delay {
        s.clock.sleep(delay).await;
    }
    let load = Arc::new(load);
    let sending = load.clone();
    let work = tokio::task::spawn_blocking(move || load::run(&sending));
    let interrupted = load.clone();
    let watch = tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.stop.store(true, Ordering::Relaxed);
            // Answers on their way are still counted, unless it is said twice.
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
        }
    });
    let answers = report::follow(&s, &load, told, &work).await;
    let done = work.await.map_err(|e| CliError::failure(e.to_string()))?;
    let (tally, seconds) = done.map_err(|e| CliError::failure(format!("no runtime: {e}")))?;
    watch.abort();
    report::finish(&s, &load, &args, &tally, seconds, answers)
}

type Told = Option<tokio::sync::mpsc::UnboundedReceiver<load::Told>>;

fn prepare(s: &Session, args: &Args, given: &Given) -> Result<(Load, Told)> {
    let url = match &args.to {
        Some(to) => to.clone(),
        None => s.api.door(hook::PATHS[0]),
    };
    let url = url::Url::parse(&url)
        .ok()
        .filter(|u| {
            matches!(u.scheme(), "http" | "https") && u.host_str().is_some() && u.username().is_empty()
        })
        .ok_or_else(|| {
            CliError::usage(format!(
                "--to is `{url}`, but it must begin with http:// or https://, name a host and hold no user, such as \
                 http://localhost:3000/webhook"
            ))
        })?;
    let seed = args.seed.unwrap_or_else(|| u64::from_be_bytes(s.clock.random()));
    let chosen = chosen(args)?;
    let count = match (args.count, args.duration) {
        (None, None) => Some(chosen.len() as u64),
        (count, _) => count,
    };
    let several = count.is_none_or(|n| n > chosen.len() as u64) && args.duplicate == 1;
    let templates = templates(s, args, &chosen, args.unique || several)?;
    let sends = count.map(|c| c.saturating_mul(args.duplicate));
    let one_of_each = args.count.is_none() && args.duplicate == 1;
    let few = sends.is_some_and(|n| n <= TOLD_ONE_BY_ONE || one_of_each);
    let (teller, told) = few.then(tokio::sync::mpsc::unbounded_channel).unzip();
    let load = Load {
        maker: Maker {
            templates,
            secret: secret(args, given)?,
            header: args.header,
            head: message::head(&authority(&url), &target_path(&url)),
            run: (seed ^ (seed >> 32)) as u32,
            clock: s.clock.clone(),
        },
        plan: Plan::new(args.duplicate, args.drop, args.reorder, seed, count.map(|c| c + args.warmup)),
        shape: Shape {
            count,
            duration: args.duration,
            rate: args.rate,
            connections: args.connections.map_or(if few { 1 } else { CONNECTIONS }, usize::from),
            timeout: args.timeout,
            warmup: args.warmup,
        },
        shown: url.to_string(),
        target: target(s, &url, given)?,
        clock: s.clock.clone(),
        stop: AtomicBool::new(false),
        done: AtomicU64::new(0),
        told: teller,
    };
    Ok((load, told))
}

fn authority(url: &url::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"))
}

fn target_path(url: &url::Url) -> String {
    let query = url.query().map_or(String::new(), |q| format!("?{q}"));
    format!("{}{query}", url.path())
}

/// Over bare connections where it can be: no TLS, and no proxy.
fn target(s: &Session, url: &url::Url, given: &Given) -> Result<Target> {
    let host = url.host_str().unwrap_or_default();
    let proxies = proxies_to(url, given).map_err(|e| CliError::usage(e.to_string()))?;
    if url.scheme() == "http" && proxies.of(false, host).is_none() {
        return Ok(Target::Bare(format!("{host}:{}", url.port_or_known_default().unwrap_or(80))));
    }
    Ok(Target::Full(net::Client::through(proxies, s.clock.clone(), true), url.to_string()))
}

/// The payloads to send, by event type, by dialect, or one of the caller's own.
fn chosen(args: &Args) -> Result<Vec<Recorded>> {
    if let Some(body) = &args.body {
        let bytes = read::bytes(body, "body")?;
        let payload = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let (name, about) = ("body".to_owned(), "your own".to_owned());
        return Ok(vec![Recorded { name, is_dialect: false, about, payload, raw: Some(bytes) }]);
    }
    if args.dialects.is_empty() {
        let usual = ["avatar_video.success".to_owned()];
        let names = if args.events.is_empty() { &usual[..] } else { &args.events };
        return payloads::choose(names, false);
    }
    payloads::choose(&args.dialects, true)
}

fn templates(s: &Session, args: &Args, chosen: &[Recorded], unique: bool) -> Result<Vec<Template>> {
    let changes = unique || args.job.is_some() || !args.overrides.is_empty();
    let mut all = vec![];
    for recorded in chosen {
        if let Some(raw) = &recorded.raw
            && (!changes || !recorded.payload.is_object())
        {
            if args.job.is_some() || !args.overrides.is_empty() {
                return Err(CliError::usage("--job and --override need a --body that is a JSON object"));
            }
            all.push(Template::fixed(&recorded.name, raw.clone()));
            continue;
        }
        let mut payload = recorded.payload.clone();
        if unique {
            payloads::make_unique(&mut payload);
        }
        if let Some(job) = &args.job {
            payloads::set_callback_id(&mut payload, job);
        }
        for (path, value) in &args.overrides {
            payloads::set(&mut payload, path, value)?;
        }
        all.push(Template::new(&recorded.name, &payload));
    }
    if unique && !all.iter().all(Template::varies) {
        s.out.note("a body without an id stays the same each time; --override FIELD={seq} makes it differ");
    }
    Ok(all)
}

fn secret(args: &Args, given: &Given) -> Result<Option<String>> {
    if args.unsigned {
        return Ok(None);
    }
    if args.forge {
        return Ok(Some("whsec_not_the_secret".to_owned()));
    }
    if let Some(secret) = &args.secret {
        return Ok(Some(secret.clone()));
    }
    for name in SECRETS {
        let wrong = |why| CliError::usage(format!("the webhook secret: {why}"));
        if let Some((secrets, _)) = given.secret(name).map_err(wrong)? {
            // Several may be live; any of them does.
            return Ok(Some(secrets.split(',').next().unwrap_or_default().trim().to_owned()));
        }
    }
    Err(CliError::new(
        Exit::Usage,
        "cli_no_secret",
        "a webhook is signed, and no webhook secret is given: --secret, or HEYGEN_WEBHOOK_SECRET",
        Some(
            "to try it, start `serve` with HEYGEN_WEBHOOK_SECRET set to any text, and `simulate` with the same; \
              --unsigned and --forge need none",
        ),
    ))
}

fn list(s: &Session) {
    let all = payloads::all();
    let data: Vec<Value> = all
        .iter()
        .map(|r| {
            let kind = if r.is_dialect { "dialect" } else { "event" };
            json!({kind: r.name, "about": r.about, "payload": r.payload})
        })
        .collect();
    let page = json!({"data": data, "has_more": false, "next_cursor": null});
    super::list::one_page(s, &page, &data, |s, _| {
        let columns = [("FLAG", Fit::Whole), ("NAME", Fit::Whole), ("WHAT", Fit::Cut)];
        let row = |r: &Recorded| {
            let flag = if r.is_dialect { "--dialect" } else { "--event" };
            let what = if r.is_dialect { r.about.clone() } else { r.payload["event_data"].to_string() };
            vec![cell(flag), cell(&r.name), cell(what)]
        };
        s.out.table(&columns, all.iter().map(row).collect())
    });
}
