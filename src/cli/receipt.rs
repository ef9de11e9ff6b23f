//! `reelhook receipt`: webhooks as they arrived, how they were judged, what they were taken to mean.

use serde_json::Value;

use super::client::Session;
use super::list::{self, PageFlags};
use super::output::{Fit, Output, Paint, Shown, cell, clean, field, painted, wrapped};
use super::units::age;
use super::{Exit, Result};
use crate::domain::receipt::Verdict;

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Webhooks as they arrived, newest first.
    #[command(
        after_help = "Examples:\n  reelhook receipt list\n  reelhook receipt list --verdict refused --limit 5"
    )]
    List {
        /// Only those judged so.
        #[arg(long, value_name = "VERDICT", value_parser = Verdict::ALL.map(Verdict::name))]
        verdict: Option<String>,
        #[command(flatten)]
        page: PageFlags,
    },
    /// One webhook: its bytes, its headers, its signature step by step, its meaning.
    #[command(
        after_help = "Examples:\n  reelhook receipt show rcp_01…\n  reelhook receipt show rcp_01… --json | jq -r .body"
    )]
    Show {
        /// The receipt's id; `receipt list` shows them.
        #[arg(value_name = "ID")]
        id: String,
    },
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    match verb {
        Verb::List { verdict, page } => {
            let filter = verdict.map(|v| ("verdict", v)).into_iter().collect();
            list::run(s, &["receipts"], filter, &page, |rows| table(s, rows)).await
        }
        Verb::Show { id } => {
            let receipt = s.api.get(&["receipts", &id], &[]).await?;
            s.out.answer(&receipt, |out| page(out, &receipt));
            Ok(Exit::Ok)
        }
    }
}

fn paint(verdict: &str) -> Paint {
    match Verdict::parse(verdict) {
        Some(Verdict::Signed | Verdict::Logged) => Paint::Good,
        Some(Verdict::Unsigned) => Paint::Care,
        Some(Verdict::Refused) => Paint::Bad,
        None => Paint::Plain,
    }
}

pub fn table(s: &Session, receipts: &[Value]) -> String {
    let now = s.clock.now();
    let columns = [
        ("ID", Fit::Whole),
        ("AGE", Fit::Number),
        ("VERDICT", Fit::Whole),
        ("EVENT", Fit::Cut),
        ("MEANING", Fit::Cut),
    ];
    let row = |r: &Value| -> Vec<Shown> {
        let verdict = field(r, "verdict");
        vec![
            cell(field(r, "id")),
            cell(age(r["received_at"].as_str(), now)),
            painted(&verdict, paint(&verdict)),
            cell(field(r, "event_type")),
            cell(field(r, "meaning")),
        ]
    };
    s.out.table(&columns, receipts.iter().map(row).collect())
}

fn page(out: &Output, r: &Value) -> String {
    let verdict = field(r, "verdict");
    let mut text =
        format!("{}  {}\n", out.paint(&field(r, "id"), Paint::Bold), out.paint(&verdict, paint(&verdict)));
    text += &out.pairs(&[
        ("received", field(r, "received_at")),
        ("from", field(r, "remote")),
        ("address", field(r, "path")),
        ("event", field(r, "event_type")),
        ("job", field(r, "job_id")),
        ("waits for a job with", field(r, "parked_under")),
        ("taken to mean", field(r, "taken_to_mean")),
        ("wire version", field(r, "wire_version")),
        ("what it did", or(&field(r, "meaning"), "nothing yet: it is still to be applied")),
    ]);
    text += &section(out, "Signature");
    let steps = r["signature_check"]["steps"].as_array().into_iter().flatten();
    for (nth, step) in steps.enumerate() {
        let step = clean(step.as_str().unwrap_or_default());
        text += &format!("  {}. {}\n", nth + 1, wrapped(&step, out.width.into(), 5));
    }
    text += &section(out, "Headers");
    let headers = r["headers"].as_object().into_iter().flatten();
    for (name, value) in headers {
        text += &format!("  {}: {}\n", clean(name), clean(value.as_str().unwrap_or_default()));
    }
    text += &section(out, &format!("Body, {} bytes", field(r, "size_bytes")));
    text += &format!("  {}\n", out.paint(&format!("sha256 {}", field(r, "sha256")), Paint::Dim));
    text + &body(r)
}

fn or(text: &str, else_text: &str) -> String {
    if text.is_empty() { else_text } else { text }.to_owned()
}

fn section(out: &Output, name: &str) -> String {
    format!("\n{}\n", out.paint(name, Paint::Bold))
}

/// Indented JSON where it is JSON; else the text line by line; else where to get the bytes.
fn body(r: &Value) -> String {
    let Some(text) = r["body"].as_str() else {
        return "  (no text; `--json | jq -r .body_base64 | base64 -d` gives the bytes)\n".to_owned();
    };
    let pretty = match serde_json::from_str::<Value>(text) {
        Ok(value) => format!("{value:#}"),
        Err(_) => text.to_owned(),
    };
    pretty.lines().map(|line| format!("  {}\n", clean(line))).collect()
}
