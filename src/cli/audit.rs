//! `reelhook audit`: who replayed, dropped or stopped what.

use serde_json::Value;

use super::client::Session;
use super::list::{self, PageFlags};
use super::output::{Fit, Shown, cell, field};
use super::units::age;
use super::{Exit, Result};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// What people did to many things at once, newest first. Lines are kept for a year.
    #[command(after_help = "Example:\n  reelhook audit list --limit 20")]
    List {
        #[command(flatten)]
        page: PageFlags,
    },
}

pub async fn run(s: &Session, verb: Verb) -> Result<Exit> {
    let Verb::List { page } = verb;
    list::run(s, &["audit"], vec![], &page, |rows| table(s, rows)).await
}

fn table(s: &Session, lines: &[Value]) -> String {
    let now = s.clock.now();
    let columns = [
        ("AGE", Fit::Number),
        ("WHO", Fit::Whole),
        ("ACTION", Fit::Whole),
        ("COUNT", Fit::Number),
        ("DETAILS", Fit::Cut),
    ];
    let row = |line: &Value| -> Vec<Shown> {
        let details = &line["details"];
        vec![
            cell(age(line["created_at"].as_str(), now)),
            cell(field(line, "who")),
            cell(field(line, "action")),
            cell(field(details, "count")),
            cell(details.to_string()),
        ]
    };
    s.out.table(&columns, lines.iter().map(row).collect())
}
