//! `reelhook completion`: a script that completes commands and flags.

use super::{Exit, Result};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  source <(reelhook completion bash)\n  \
    reelhook completion fish > ~/.config/fish/completions/reelhook.fish")]
pub struct Args {
    /// Which shell it is for.
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> Result<Exit> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut super::command(), "reelhook", &mut script);
    super::output::to_stdout(&String::from_utf8_lossy(&script));
    Ok(Exit::Ok)
}
