//! `reelhook job submit`. Every submit carries an idempotency key, so that a lost answer can be
//! asked for again without a second job, and without a second charge.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::parts::Parts;
use super::{show, wait};
use crate::cli::client::{Path, Session, is_retryable};
use crate::cli::output::field;
use crate::cli::{CliError, Exit, Result, group, read, rows, units};
use crate::clock::Clock;
use crate::domain::job::{Kind, Priority};

/// A lost answer is asked for again so often, with the same key.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_secs(1);

/// Submit a job: what HeyGen shall make. Or many: a template, and rows to fill it with.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A key makes it safe to repeat: the same key and job give the first answer again, never a second charge.\n\n\
    Examples:\n  \
    reelhook job submit --kind video_agent --request '{\"prompt\": \"Hi\"}' --wait\n  \
    reelhook job submit --kind video --request video.json --label team=sales\n  \
    reelhook job submit --kind template --request template.json --dry-run\n  \
    reelhook job submit --file rows.csv --template job.json --dry-run\n  \
    reelhook job submit --file rows.csv --template job.json --wait --retry-failed\n  \
    jq .job plan.json | reelhook job submit --file - --dry-run\n\n\
    What failed of a group is tried again by --retry-failed, or later on by\n\
    `reelhook group retry-failed`."
)]
pub struct Args {
    /// What kind of job.
    #[arg(long, value_name = "KIND", value_parser = Kind::ALL.map(Kind::name), required_unless_present = "file")]
    kind: Option<String>,
    /// The body of HeyGen's create call: JSON, a file, or - for standard input.
    #[arg(long, short, value_name = "JSON|FILE|-", required_unless_present = "file")]
    request: Option<String>,
    /// The whole job, as POST /api/jobs takes it: JSON, a file, or - for standard input. With --template:
    /// the rows, as CSV with a line of column names or as one JSON object a line.
    #[arg(long, short, value_name = "JSON|FILE|-", conflicts_with = "request")]
    file: Option<String>,
    /// A job for every row of --file, with {{column}} wherever a value of the row goes; with --kind only its
    /// request. {{column:json}} is for numbers, true and lists.
    #[arg(long, value_name = "JSON|FILE|-", requires = "file")]
    template: Option<String>,
    /// A column of the rows that the template does not use, on purpose; may be given several times.
    #[arg(long = "ignore", value_name = "COLUMN", requires = "template")]
    ignored: Vec<String>,
    /// With --template: what the group of these jobs is called [default: the name of the file].
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// With --template and --wait: when all have ended, try what failed again, once, but nothing that HeyGen may
    /// have charged for. It ends well only if every row completed.
    #[arg(long, requires = "template", requires = "wait")]
    retry_failed: bool,
    /// Your own id of it; echoed and searchable.
    #[arg(long, value_name = "ID")]
    callback_id: Option<String>,
    /// A label to find it by; may be given several times.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = units::pair)]
    labels: Vec<(String, String)>,
    /// Anything you want back with it: JSON, a file, or - for standard input.
    #[arg(long, value_name = "JSON|FILE|-")]
    metadata: Option<String>,
    /// Its events are sent here, too, besides the endpoints.
    #[arg(long, value_name = "URL")]
    notify_url: Option<String>,
    /// What those are signed with: a whsec_ secret, or better a file that has it, or - for standard input.
    #[arg(long, value_name = "FILE|-")]
    notify_secret: Option<String>,
    /// Which goes first of those that wait for a slot: 9 before 1 [default: 5].
    #[arg(long, value_name = "1..9", value_parser = clap::value_parser!(i64).range(Priority::LEAST..=Priority::MOST))]
    priority: Option<i64>,
    /// Send nothing until somebody approves.
    #[arg(long)]
    hold: bool,
    /// Send it no sooner: a span from now or a time.
    #[arg(long, value_name = "SPAN|TIME", value_parser = units::moment)]
    not_before: Option<units::Moment>,
    /// When it is ended at the latest: a span from now or a time.
    #[arg(long, value_name = "SPAN|TIME", value_parser = units::moment)]
    deadline: Option<units::Moment>,
    /// Repeated with the same key it gives the same job [default: a fresh key].
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Check it and show what would be sent to HeyGen; send nothing.
    #[arg(long)]
    dry_run: bool,
    /// Send it unchecked: HeyGen may take more than reelhook knows of.
    #[arg(long)]
    no_check: bool,
    #[command(flatten)]
    wait: wait::Wait,
}

pub async fn run(s: &Session, args: Args) -> Result<Exit> {
    let now = s.clock.now();
    let job = body(&args, now)?;
    let key = args.idempotency_key.clone().unwrap_or_else(|| fresh_key(&s.clock));
    let same = same(&args, &key, now);
    let Some(file) = args.file.as_ref().filter(|_| args.template.is_some()) else {
        if args.dry_run {
            return show_dry(s, &s.api.post_dry(&["jobs"], &job).await?);
        }
        let made = send(s, &["jobs"], &job, &key, &format!("the same command with {same}")).await?;
        return finish(s, made, &args.wait).await;
    };
    let sheet = rows::read(file, "file")?;
    let group = json!({
        "title": args.title.clone().or_else(|| name_of(file)),
        "template": job,
        "ignore": Some(&args.ignored).filter(|all| !all.is_empty()),
    });
    let repeats = args.idempotency_key.is_some();
    let parts = Parts { session: s, sheet: &sheet, group, key, same, repeats };
    if args.dry_run {
        return show_dry(s, &parts.dry_run().await?);
    }
    let made = parts.submit().await?;
    if args.retry_failed {
        return group::finish_twice(s, made, &args.wait).await;
    }
    finish(s, made, &args.wait).await
}

/// The flags that make the same command the same submit later on, when a span would end at another time.
fn same(args: &Args, key: &str, now: i64) -> String {
    let mut flags = format!("--idempotency-key {key}");
    for (flag, moment) in [("not-before", args.not_before), ("deadline", args.deadline)] {
        if let Some(span @ units::Moment::In(_)) = moment {
            flags += &format!(" --{flag} {}", span.rfc3339(now));
        }
    }
    flags
}

/// The name of a file without its folder.
fn name_of(file: &str) -> Option<String> {
    let name = std::path::Path::new(file.trim_start_matches('@')).file_name()?.to_str()?;
    Some(name.to_owned()).filter(|name| name != "-" && !file.trim_start().starts_with('{'))
}

/// Prints a new job, or waits for its end first. What asked for several languages became a group.
pub async fn finish(s: &Session, made: Value, wait: &wait::Wait) -> Result<Exit> {
    if made["jobs"].is_number() {
        return group::finish(s, made, wait).await;
    }
    match made["id"].as_str() {
        Some(id) if wait.wait => {
            let id = id.to_owned();
            wait::run(s, &id, Some(made), &wait.until()).await
        }
        _ => {
            show::print(s, &made);
            Ok(Exit::Ok)
        }
    }
}

/// The job, or the template of many.
fn body(args: &Args, now: i64) -> Result<Value> {
    // clap would say what is missing, and not what asks for it.
    if args.title.is_some() && args.template.is_none() {
        return Err(CliError::usage(
            "--title names a group of jobs, which needs --file and --template; a video's title goes into the request",
        ));
    }
    let of_kind = |kind: &String, request: Map<String, Value>| {
        let mut job = Map::new();
        job.insert("kind".to_owned(), json!(kind));
        job.insert("request".to_owned(), Value::Object(request));
        job
    };
    let mut job = match (&args.template, &args.file, &args.kind, &args.request) {
        (Some(template), Some(file), ..) if template == "-" && file == "-" => {
            return Err(CliError::usage("only one of --file and --template can be on standard input"));
        }
        (Some(template), _, Some(kind), _) => of_kind(kind, read::object(template, "template")?),
        (Some(template), ..) => read::object(template, "template")?,
        (None, Some(_), Some(_), _) => {
            return Err(CliError::usage(
                "--file has the kind in it; --kind goes with --request, or with --template",
            ));
        }
        (None, Some(file), ..) => read::object(file, "file").map_err(|mut e| {
            e.problem["hint"] = json!("rows, as CSV or JSON lines, need --template");
            e
        })?,
        (None, None, Some(kind), Some(request)) => of_kind(kind, read::object(request, "request")?),
        // clap asks for them.
        _ => return Err(CliError::usage("--kind and --request are needed, or --file")),
    };
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            job.insert(name.to_owned(), value);
        }
    };
    set("callback_id", args.callback_id.as_ref().map(|id| json!(id)));
    set("labels", labels(&args.labels)?);
    set("metadata", args.metadata.as_deref().map(|given| read::json(given, "metadata")).transpose()?);
    set("notify_url", args.notify_url.as_ref().map(|url| json!(url)));
    let secret =
        args.notify_secret.as_deref().map(|given| read::secret(given, "notify-secret")).transpose()?;
    set("notify_secret", secret.map(|secret| json!(secret)));
    set("priority", args.priority.map(|number| json!(number)));
    set("hold", args.hold.then_some(json!(true)));
    set("check", args.no_check.then_some(json!(false)));
    set("not_before", args.not_before.map(|moment| json!(moment.rfc3339(now))));
    set("deadline", args.deadline.map(|moment| json!(moment.rfc3339(now))));
    Ok(Value::Object(job))
}

fn labels(given: &[(String, String)]) -> Result<Option<Value>> {
    let mut labels = Map::new();
    for (name, value) in given {
        if labels.insert(name.clone(), json!(value)).is_some() {
            return Err(CliError::usage(format!("--label {name} is given twice")));
        }
    }
    Ok((!labels.is_empty()).then_some(Value::Object(labels)))
}

/// Sends it, and again when the answer was lost or the server was busy: always with the same key. If no answer
/// comes at all, `again` says how to ask later on.
pub async fn send(s: &Session, path: Path<'_>, body: &Value, key: &str, again: &str) -> Result<Value> {
    let sent = persist(s, async || s.api.post_with_key(path, Some(body), key).await).await;
    sent.map_err(|mut e| {
        if e.problem["code"] == "cli_no_answer" {
            e.problem["hint"] = json!(format!("it may have been taken in; {again} finds out, at no risk"));
        }
        e
    })
}

/// Makes a call that may be repeated, some times when its answer is lost or the server is busy.
pub async fn persist(s: &Session, call: impl AsyncFn() -> Result<Value>) -> Result<Value> {
    let mut tries = 1;
    loop {
        match call().await {
            Err(e) if is_retryable(&e) && tries < TRIES => {
                tries += 1;
                let pause = e.problem["retry_after_s"].as_u64().map_or(PAUSE, Duration::from_secs);
                s.out.note("no answer, or not now; asking again");
                s.clock.sleep(pause.min(Duration::from_secs(30))).await;
            }
            done => return done,
        }
    }
}

pub fn fresh_key(clock: &Clock) -> String {
    format!("cli-{}", hex::encode(clock.random::<16>()))
}

/// What the server says that it would send.
fn show_dry(s: &Session, would: &Value) -> Result<Exit> {
    // Of a group, the first of its jobs.
    let first = if would["first"].is_object() { &would["first"] } else { would };
    s.out.answer(would, |_| {
        let text = |name: &str| first[name].as_str().unwrap_or_default();
        format!("{} {}\n\n{:#}", text("method"), text("path"), first["body"])
    });
    for error in first["errors"].as_array().into_iter().flatten() {
        let text = |name: &str| error[name].as_str().unwrap_or_default();
        s.out.note(&format!("not checked: {}: {}", text("pointer"), text("message")));
    }
    if let Some(jobs) = would["jobs"].as_u64() {
        s.out.note(&format!(
            "{jobs} jobs, of which this is the first; what they cost HeyGen does not tell before"
        ));
    }
    let balance = &would["balance"];
    if balance.is_object() {
        let (left, at) = (field(balance, "left"), field(balance, "at"));
        s.out.note(&format!("the balance at HeyGen was {left} at {at}"));
    }
    group::note_outlook(s, would);
    s.out.note("nothing was sent");
    Ok(Exit::Ok)
}
