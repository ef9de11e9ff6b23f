//! `reelhook job adopt`: jobs for what HeyGen has and reelhook did not submit, page by page.

use serde_json::{Value, json};

use crate::cli::client::{Session, rows};
use crate::cli::output::{Fit, Paint, Shown, cell, field, painted};
use crate::cli::units::{self, age};
use crate::cli::{CliError, Exit, Result};
use crate::domain::job::Kind;
use crate::heygen::catalog;

/// Make jobs of what HeyGen has and reelhook did not submit.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is sent and nothing is paid; an adopted job is asked for like any other. Repeated, it adopts nothing twice.\n\n\
    Examples:\n  reelhook job adopt --since 7d --dry-run\n  reelhook job adopt --since 2026-11-01T00:00:00Z --kind video"
)]
pub struct Args {
    /// Only what was made after this time, or in this span.
    #[arg(long, value_name = "TIME|SPAN", value_parser = units::moment)]
    since: units::Moment,
    /// Only this kind; may be given several times [default: every kind HeyGen has a list of].
    #[arg(long = "kind", value_name = "KIND", value_parser = listed())]
    kinds: Vec<String>,
    /// Show what would be adopted; adopt nothing.
    #[arg(long)]
    dry_run: bool,
}

/// The kinds HeyGen has a list of.
fn listed() -> Vec<&'static str> {
    catalog::listed_kinds().into_iter().map(Kind::name).collect()
}

pub async fn run(s: &Session, args: Args) -> Result<Exit> {
    let since = args.since.ago(s.clock.now());
    let all = || listed().into_iter().map(str::to_owned).collect();
    let kinds: Vec<String> = if args.kinds.is_empty() { all() } else { args.kinds };
    let mut all = vec![];
    for kind in kinds {
        let mut cursor = Value::Null;
        loop {
            let body = json!({"kind": kind, "since": since, "cursor": cursor, "dry_run": args.dry_run});
            let page = s.api.post(&["jobs", "adopt"], Some(&body)).await?;
            all.extend_from_slice(rows(&page)?);
            if page["next_cursor"].is_null() {
                break;
            }
            if page["next_cursor"] == cursor {
                return Err(CliError::failure("the server gave the same cursor twice"));
            }
            cursor = page["next_cursor"].clone();
            s.out.note(&format!("{} looked at", all.len()));
        }
    }
    let count = |action: &str| all.iter().filter(|row| row["action"] == action).count();
    let counts = ["adopted", "would_adopt", "known", "undecided"].map(|action| (action, count(action)));
    let mut answer = json!({ "data": all });
    for (action, n) in counts {
        answer[action] = json!(n);
    }
    s.out.answer(&answer, |_| table(s, &all));
    let said =
        counts.iter().filter(|(_, n)| *n > 0).map(|(action, n)| format!("{n} {}", action.replace('_', " ")));
    let said = said.collect::<Vec<_>>().join(", ");
    s.out.note(if said.is_empty() { "HeyGen has nothing made since then" } else { &said });
    Ok(Exit::Ok)
}

fn table(s: &Session, found: &[Value]) -> String {
    let now = s.clock.now();
    let columns = [
        ("ACTION", Fit::Whole),
        ("KIND", Fit::Whole),
        ("HEYGEN ID", Fit::Whole),
        ("AGE", Fit::Number),
        ("JOB", Fit::Spare),
        ("TITLE", Fit::Cut),
    ];
    let row = |f: &Value| -> Vec<Shown> {
        let action = field(f, "action");
        let paint = match action.as_str() {
            "adopted" => Paint::Good,
            "undecided" => Paint::Care,
            _ => Paint::Plain,
        };
        let words = action.replace('_', " ");
        vec![
            painted(&words, paint),
            cell(field(f, "kind")),
            cell(field(f, "upstream_id")),
            cell(age(f["created_at"].as_str(), now)),
            cell(field(f, "job_id")),
            cell(field(f, "title")),
        ]
    };
    s.out.table(&columns, found.iter().map(row).collect())
}
