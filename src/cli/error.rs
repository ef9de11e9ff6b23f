//! How a command ends: exit codes compatible with HeyGen's own CLI, and one problem object on stderr.

use std::io::IsTerminal;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::{terminal_width, to_stderr, wrapped};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// Failure or network.
    Failure,
    Usage,
    Auth,
    /// The partial resource is on stdout.
    TimedOut,
    NotFound,
    Conflict,
    /// The job ended, and not as wished.
    JobFailed,
    Quota,
    Interrupted,
}

impl Exit {
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::Auth,
        Self::TimedOut,
        Self::NotFound,
        Self::Conflict,
        Self::JobFailed,
        Self::Quota,
        Self::Interrupted,
    ];

    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Auth => 3,
            Self::TimedOut => 4,
            Self::NotFound => 5,
            Self::Conflict => 6,
            Self::JobFailed => 7,
            Self::Quota => 8,
            Self::Interrupted => 130,
        }
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Failure => "it failed, here or on the network",
            Self::Usage => "the command line or a setting is not right",
            Self::Auth => "an API key is needed, or does not do",
            Self::TimedOut => "it took too long; what there is, is on stdout",
            Self::NotFound => "there is no such thing",
            Self::Conflict => "the state of the thing does not allow it",
            Self::JobFailed => "the job ended failed or canceled",
            Self::Quota => "out of credit, quota or disk",
            Self::Interrupted => "interrupted",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

pub type Result<T> = std::result::Result<T, CliError>;

#[derive(Debug, Clone)]
pub struct CliError {
    pub exit: Exit,
    /// A problem object as the API gives it, or one in its shape.
    pub problem: Value,
}

impl CliError {
    pub fn new(exit: Exit, code: &str, detail: impl Into<String>, hint: Option<&str>) -> Self {
        let mut problem = json!({"code": code, "title": exit.meaning(), "detail": detail.into()});
        if let Some(hint) = hint {
            problem["hint"] = json!(hint);
        }
        Self { exit, problem }
    }

    pub fn usage(detail: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "cli_usage", detail, None)
    }

    /// A mistake on the command line as a problem object. None where clap's own words are better: on
    /// a terminal, and where it is help that was asked for.
    pub fn from_clap(e: &clap::Error) -> Option<Self> {
        use clap::error::ErrorKind;
        let is_help = e.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        if !e.use_stderr() || is_help || std::io::stderr().is_terminal() {
            return None;
        }
        let text = e.to_string();
        // The mistake is the first paragraph; tips and the usage line follow it.
        let mut paragraphs = text.split("\n\n");
        let lines = |p: &str| p.lines().map(str::trim).collect::<Vec<_>>().join(" ");
        let detail = paragraphs.next().map(lines).unwrap_or_default();
        let tip = paragraphs.map(lines).find(|p| p.starts_with("tip:") || p.starts_with("Usage:"));
        let detail = detail.strip_prefix("error: ").unwrap_or(&detail).to_owned();
        Some(Self::new(Exit::Usage, "cli_usage", detail, tip.as_deref()))
    }

    pub fn failure(detail: impl Into<String>) -> Self {
        Self::new(Exit::Failure, "cli_failure", detail, None)
    }

    /// One problem object when a program reads, lines when a person does.
    pub fn print(&self) {
        if !std::io::stderr().is_terminal() {
            to_stderr(&self.problem.to_string());
            return;
        }
        let text = |name: &str| self.problem.get(name).and_then(Value::as_str);
        let what = text("detail").or_else(|| text("title")).unwrap_or("unknown");
        let width = terminal_width().into();
        let mut lines = wrapped(&format!("error: {what}"), width, 2) + "\n";
        let errors = self.problem.get("errors").and_then(Value::as_array);
        // The first is in the detail already.
        for error in errors.into_iter().flatten().skip(1) {
            let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or("?");
            lines += &format!("  {}: {}\n", part("pointer"), part("message"));
        }
        if let Some(hint) = text("hint") {
            lines += &(wrapped(&format!("hint: {hint}"), width, 2) + "\n");
        }
        // To be found in the server's log, or told to HeyGen's support.
        if self.problem["status"].as_u64().is_some_and(|status| status >= 500) {
            let ids = [("request", &self.problem), ("HeyGen's request", &self.problem["upstream"])];
            for (whose, of) in ids {
                if let Some(id) = of["request_id"].as_str() {
                    lines += &format!("{whose}: {id}\n");
                }
            }
        }
        to_stderr(&lines);
    }
}
