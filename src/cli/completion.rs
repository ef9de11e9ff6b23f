//! `reelhook completion`: a script that completes commands and flags.

use super::{Exit, Result};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  reelhook completion bash > ~/.local/share/bash-completion/completions/reelhook\n  \
    reelhook completion fish > ~/.config/fish/completions/reelhook.fish"
)]
pub struct Args {
    #[arg(value_name = "SHELL")]
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> Result<Exit> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut super::command(), "reelhook", &mut script);
    super::output::to_stdout(&String::from_utf8_lossy(&script));
    Ok(Exit::Ok)
}
