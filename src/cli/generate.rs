//! `reelhook generate`: the pages under `docs/` that the code itself writes. Hidden, because only
//! who changes the code needs it; `tests/docs.rs` runs the same check.

use std::path::{Path, PathBuf};

use super::output::to_stderr;
use super::{CliError, Exit, Result};

/// Write the pages of docs/ that are made from the code.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where they are.
    #[arg(value_name = "DIRECTORY", default_value = "docs")]
    directory: PathBuf,
    /// Write nothing; fail when one is stale.
    #[arg(long)]
    check: bool,
}

/// Every generated page: its name under `docs/` and what is in it.
pub fn pages() -> Vec<(&'static str, String)> {
    vec![
        ("states.md", crate::domain::table::markdown()),
        ("kinds.md", crate::heygen::kinds::markdown()),
        ("configuration.md", crate::config::markdown()),
        ("errors.md", crate::http::problem::markdown() + &crate::heygen::failure::markdown()),
        ("cli.md", super::markdown()),
        ("openapi.json", format!("{:#}\n", crate::http::openapi::document())),
    ]
}

/// The pages that are not as the code would write them.
pub fn stale(directory: &Path) -> Vec<&'static str> {
    let is_fresh = |(name, text): &(&'static str, String)| {
        std::fs::read_to_string(directory.join(name)).is_ok_and(|there| there == *text)
    };
    pages().iter().filter(|page| !is_fresh(page)).map(|(name, _)| *name).collect()
}

pub fn run(args: &Args) -> Result<Exit> {
    let stale = stale(&args.directory);
    if args.check {
        if stale.is_empty() {
            return Ok(Exit::Ok);
        }
        let why = format!("stale in {}: {}", args.directory.display(), stale.join(", "));
        return Err(CliError::new(Exit::Failure, "cli_stale_docs", why, Some("run scripts/generate")));
    }
    let failed = |path: &Path, e: std::io::Error| CliError::failure(format!("{}: {e}", path.display()));
    std::fs::create_dir_all(&args.directory).map_err(|e| failed(&args.directory, e))?;
    for (name, text) in pages().iter().filter(|(name, _)| stale.contains(name)) {
        let path = args.directory.join(name);
        std::fs::write(&path, text).map_err(|e| failed(&path, e))?;
        to_stderr(&format!("wrote {}", path.display()));
    }
    Ok(Exit::Ok)
}
