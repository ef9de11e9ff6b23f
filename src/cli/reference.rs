//! `docs/cli.md`, made from the commands themselves, so that it cannot say anything else.

use std::fmt::Write;

use clap::{Arg, Command};

use super::Exit;

/// The whole command line as a page.
pub fn markdown() -> String {
    let mut root = super::command();
    root.build();
    let mut page = String::from(
        "# Command line\n\n\
         Generated from `src/cli` by `scripts/generate`; do not edit.\n\n\
         `serve`, `demo`, `sandbox` and `selftest` run something. Every other command is a client of a running\n\
         server, over its API. On a terminal the answer is for people; elsewhere, and with `--json`, it is JSON on\n\
         stdout. Progress, notes and errors are on stderr; an error is one problem object when stderr is not a\n\
         terminal.\n\n",
    );
    exit_codes(&mut page);
    shared(&mut page, &root);
    page.push_str("## Commands\n");
    for command in root.get_subcommands() {
        describe(&mut page, command, command.get_name());
    }
    page
}

fn exit_codes(page: &mut String) {
    page.push_str("## Exit codes\n\n| code | meaning |\n| --- | --- |\n");
    for exit in Exit::ALL {
        let _ = writeln!(page, "| {} | {} |", exit.code(), exit.meaning());
    }
    page.push('\n');
}

/// The flags every client command takes; `job` stands for all of them.
fn shared(page: &mut String, root: &Command) {
    page.push_str("## Flags of every client command\n\n");
    if let Some(job) = root.find_subcommand("job") {
        flags(page, job.get_arguments().filter(|arg| arg.is_global_set()));
    }
}

fn describe(page: &mut String, command: &Command, name: &str) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    if command.get_subcommands().any(|sub| sub.get_name() != "help") {
        for sub in command.get_subcommands() {
            describe(page, sub, &format!("{name} {}", sub.get_name()));
        }
        return;
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(page, "\n### reelhook {name}\n\n{about}\n\n");
    if name == "serve" {
        page.push_str("Its flags are the settings of `docs/configuration.md`.\n");
    } else {
        let usage = command.clone().render_usage().to_string();
        let _ = write!(page, "```text\n{}\n```\n\n", usage.trim_start_matches("Usage: ").trim());
        flags(page, command.get_arguments().filter(|arg| !arg.is_global_set()));
    }
    let after = command.get_after_long_help().or(command.get_after_help());
    if let Some(after) = after {
        let _ = write!(page, "\n```text\n{}\n```\n", after.to_string().trim_end());
    }
}

fn flags<'a>(page: &mut String, args: impl Iterator<Item = &'a Arg>) {
    let shown: Vec<&Arg> =
        args.filter(|a| !a.is_hide_set() && !matches!(a.get_id().as_str(), "help" | "version")).collect();
    if shown.is_empty() {
        return;
    }
    page.push_str("| flag | what |\n| --- | --- |\n");
    for arg in shown {
        let _ = writeln!(page, "| {} | {} |", name(arg), what(arg));
    }
    page.push('\n');
}

fn name(arg: &Arg) -> String {
    let value = arg.get_value_names().filter(|_| arg.get_action().takes_values());
    let value = value.map(|names| names.iter().map(|n| n.to_string()).collect::<Vec<_>>().join(" "));
    let value = value.map(|v| v.replace('|', "\\|"));
    let short = arg.get_short().map_or(String::new(), |c| format!("`-{c}`, "));
    match (arg.get_long(), value) {
        (Some(long), Some(value)) => format!("{short}`--{long}` {value}"),
        (Some(long), None) => format!("{short}`--{long}`"),
        (None, value) => value.unwrap_or_else(|| arg.get_id().to_string()),
    }
}

fn what(arg: &Arg) -> String {
    let mut text = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if !text.is_empty() && !text.ends_with('.') {
        text.push('.');
    }
    let values: Vec<String> = match arg.get_action().takes_values() && !arg.is_hide_possible_values_set() {
        true => arg.get_possible_values().iter().map(|v| format!("`{}`", v.get_name())).collect(),
        false => vec![],
    };
    if !values.is_empty() {
        let _ = write!(text, " One of {}.", values.join(", "));
    }
    let defaults: Vec<String> =
        arg.get_default_values().iter().map(|v| v.to_string_lossy().into_owned()).collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, " Default: `{}`.", defaults.join(" "));
    }
    text.trim().replace('\n', " ").replace('|', "\\|")
}
