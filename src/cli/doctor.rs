//! `reelhook doctor`: what is wrong with the server and its ties to HeyGen, and what to do about it.

use serde_json::Value;

use super::client::{Flags, Session};
use super::output::{Fit, Paint, Shown, cell, field, painted};
use super::{CliError, Exit, Result};
use crate::config::Given;

/// What is wrong, and what to do about it. Exit code 1 when something is.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  reelhook doctor\n  reelhook doctor --json | jq '.checks[] | select(.status != \"ok\")'"
)]
pub struct Args {
    #[command(flatten)]
    flags: Flags,
}

pub async fn run(args: Args, given: &Given) -> Result<Exit> {
    let s = args.flags.open(given)?;
    let report = s.api.get(&["doctor"], &[]).await?;
    let Some(checks) = report["checks"].as_array() else {
        return Err(CliError::failure("the answer has no `checks`; is it an older server?"));
    };
    s.out.answer(&report, |_| table(&s, checks));
    if report["healthy"] == true {
        return Ok(Exit::Ok);
    }
    let failed: Vec<String> =
        checks.iter().filter(|c| c["status"] == "fail").map(|c| field(c, "check")).collect();
    let why = format!("not healthy: {}", failed.join(", "));
    Err(CliError::new(Exit::Failure, "cli_unhealthy", why, Some("do what stands behind each")))
}

fn table(s: &Session, checks: &[Value]) -> String {
    let columns = [("", Fit::Whole), ("CHECK", Fit::Whole), ("WHAT WAS FOUND, AND WHAT TO DO", Fit::Wrap)];
    let row = |check: &Value| -> Vec<Shown> {
        let (mark, paint) = match check["status"].as_str() {
            Some("ok") => ("✓", Paint::Good),
            Some("warn") => ("!", Paint::Care),
            _ => ("✗", Paint::Bad),
        };
        let fix = field(check, "fix");
        let fix = if fix.is_empty() { fix } else { format!("; {fix}") };
        let found = format!("{}{fix}", field(check, "detail"));
        vec![painted(mark, paint), cell(field(check, "check")), cell(found)]
    };
    s.out.table(&columns, checks.iter().map(row).collect())
}
