//! Asking before something is taken away. Only a terminal is asked; elsewhere `--yes` is needed.

use std::io::{BufRead, IsTerminal, Write};

use super::output::to_stderr;
use super::{CliError, Exit, Result};

/// Returns when the answer is yes.
pub fn sure(yes: bool, what: &str) -> Result<()> {
    asked(yes, what, "that cannot be undone, and nobody", " It cannot be undone.")
}

/// The same about what can be stopped, and is a lot.
pub fn go_on(yes: bool, what: &str) -> Result<()> {
    asked(yes, what, "that is a lot, and nobody", "")
}

fn asked(yes: bool, what: &str, unasked: &str, warning: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        let why = format!("{what}: {unasked} is there to be asked");
        return Err(CliError::new(Exit::Usage, "cli_not_confirmed", why, Some("say --yes")));
    }
    let asked = write!(std::io::stderr(), "{what}?{warning} [y/N] ");
    let mut line = String::new();
    let read = asked.and_then(|()| std::io::stdin().lock().read_line(&mut line));
    if matches!(read, Ok(0)) {
        // The end of the input, where an answer would have ended the line.
        to_stderr("\n");
    }
    match read {
        Ok(_) if matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes") => Ok(()),
        Ok(_) => Err(CliError::new(Exit::Usage, "cli_not_confirmed", "nothing was done", None)),
        Err(e) => Err(CliError::failure(format!("cannot read the answer: {e}"))),
    }
}
