//! What goes to stdout: JSON for programs, tables and lines for people. Progress and notes go to
//! stderr, and what a server or HeyGen wrote never reaches a terminal with its control characters.

use std::io::{ErrorKind, IsTerminal, Write};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets,
};
use serde_json::Value;

use crate::config::Given;

/// Where the width is not known.
const DEFAULT_WIDTH: u16 = 80;
const LEAST_WIDTH: u16 = 40;
/// Ids and names are whole in a table up to here.
const WHOLE_CHARS: usize = 48;
/// A column that is cut to fewer characters says nothing.
const LEAST_CUT: u16 = 12;
/// Between two columns.
const GAP: u16 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON document.
    Json,
    /// One JSON document a line, for lists.
    Ndjson,
}

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputFlags {
    /// For people, one JSON document, or one a line for lists [default: table on a terminal, json elsewhere].
    #[arg(
        long,
        global = true,
        value_name = "table|json|ndjson",
        conflicts_with = "json",
        hide_possible_values = true
    )]
    output: Option<Format>,
    /// The same as --output json.
    #[arg(long, global = true)]
    json: bool,
    /// No progress and no notes on stderr.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// No colours; the variable NO_COLOR does the same.
    #[arg(long, global = true)]
    no_color: bool,
}

pub struct Output {
    pub format: Format,
    pub quiet: bool,
    color: bool,
    pub width: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Good,
    Bad,
    Care,
    Busy,
    Dim,
    Bold,
}

impl Paint {
    /// The colour of a job's state.
    pub fn of_state(state: &str) -> Self {
        match state {
            "completed" => Self::Good,
            "failed" => Self::Bad,
            "held" | "unknown" => Self::Care,
            "submitting" | "processing" => Self::Busy,
            "canceled" => Self::Dim,
            _ => Self::Plain,
        }
    }

    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Bad => Some("31"),
            Self::Care => Some("33"),
            Self::Busy => Some("36"),
            Self::Dim => Some("2"),
            Self::Bold => Some("1"),
        }
    }
}

/// A cell of a table.
pub struct Shown(String, Paint);

pub fn cell(text: impl AsRef<str>) -> Shown {
    Shown(clean(text.as_ref()), Paint::Plain)
}

pub fn painted(text: impl AsRef<str>, paint: Paint) -> Shown {
    Shown(clean(text.as_ref()), paint)
}

/// How a column takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// As wide as what is in it.
    Whole,
    /// The same, flush right.
    Number,
    /// One line, cut where the terminal ends; left out where too little of it were to be seen. What the
    /// columns as wide as their content leave is given to these from left to right.
    Cut,
    /// The same, but whole or not at all.
    Spare,
    /// As many lines as it takes.
    Wrap,
}

impl Output {
    pub fn new(flags: &OutputFlags, given: &Given) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let format = match (flags.output, flags.json) {
            (Some(format), _) => format,
            (None, true) => Format::Json,
            (None, false) if terminal => Format::Table,
            (None, false) => Format::Json,
        };
        let columns = given.variable("COLUMNS").and_then(|(text, _)| text.parse().ok());
        let width = columns.map_or_else(terminal_width, |columns: u16| columns.max(LEAST_WIDTH));
        let color = terminal && !flags.no_color && given.variable("NO_COLOR").is_none();
        Self { format, quiet: flags.quiet, color, width }
    }

    pub fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// One answer: what `people` makes of it on a terminal, else the JSON.
    pub fn answer(&self, value: &Value, people: impl FnOnce(&Self) -> String) {
        match self.format {
            Format::Table => self.text(&people(self)),
            Format::Json => self.text(&format!("{value:#}")),
            Format::Ndjson => self.text(&value.to_string()),
        }
    }

    pub fn text(&self, text: &str) {
        to_stdout(text);
    }

    /// A remark on stderr.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            to_stderr(&clean(text));
        }
    }

    pub fn paint(&self, text: &str, paint: Paint) -> String {
        match paint.code() {
            Some(code) if self.color => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            _ => text.to_owned(),
        }
    }

    pub fn table(&self, columns: &[(&str, Fit)], rows: Vec<Vec<Shown>>) -> String {
        let wraps = columns.iter().any(|(_, fit)| *fit == Fit::Wrap);
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_truncation_indicator("…")
            .set_width(self.width);
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let heads = columns.iter().map(|(name, _)| Cell::new(name).add_attribute(Attribute::Dim));
        table.set_header(heads.collect::<Vec<_>>());
        for shown in rows {
            let cells = shown.into_iter().zip(columns).map(|(shown, (_, fit))| to_cell(shown, *fit));
            let mut row = Row::from(cells.collect::<Vec<_>>());
            if !wraps {
                row.max_height(1);
            }
            table.add_row(row);
        }
        let fits: Vec<Fit> = columns.iter().map(|(_, fit)| *fit).collect();
        let places = places(&fits, &table.column_max_content_widths(), self.width);
        for (nth, (fit, place)) in fits.iter().zip(places).enumerate() {
            let Some(column) = table.column_mut(nth) else { continue };
            column.set_padding((0, GAP));
            if let Some(place) = place {
                column.set_constraint(place);
            }
            if *fit == Fit::Cut {
                // Cut where the room ends, not at the last blank before it: no text holds this one.
                column.set_delimiter('\u{0}');
            }
            if *fit == Fit::Number {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt()
    }

    /// Names and values under each other, a long value in several lines; what is empty is left out.
    pub fn pairs(&self, pairs: &[(&str, String)]) -> String {
        let filled = || pairs.iter().filter(|(_, value)| !value.is_empty());
        let widest = filled().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let line = |(name, value): &(&str, String)| {
            let name = self.paint(&format!("{name:widest$}"), Paint::Dim);
            let value = wrapped(value, self.width.into(), widest + 4);
            format!("  {name}  {value}\n")
        };
        filled().map(line).collect()
    }
}

/// The place of each column, by how wide its content is; none for those that take what is left.
fn places(fits: &[Fit], wide: &[u16], width: u16) -> Vec<Option<ColumnConstraint>> {
    let all = || fits.iter().zip(wide).map(|(fit, wide)| (*fit, wide.saturating_add(GAP)));
    let whole = all().filter(|(fit, _)| matches!(fit, Fit::Whole | Fit::Number));
    let mut room = width.saturating_sub(whole.map(|(_, wide)| wide).fold(0, u16::saturating_add));
    let place = |(fit, wide): (Fit, u16)| {
        let taken = match fit {
            Fit::Whole | Fit::Number => return Some(ColumnConstraint::ContentWidth),
            Fit::Wrap => return None,
            Fit::Cut | Fit::Spare if wide <= room => wide,
            Fit::Cut if room >= LEAST_CUT + GAP => room,
            Fit::Cut | Fit::Spare => return Some(ColumnConstraint::Hidden),
        };
        room -= taken;
        Some(ColumnConstraint::Absolute(Width::Fixed(taken)))
    };
    all().map(place).collect()
}

/// A line, or several, on stdout. A reader that has gone, as `| head` does, ends us quietly.
pub fn to_stdout(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let done = write!(stdout, "{text}{end}").and_then(|()| stdout.flush());
    if done.is_err_and(|e| e.kind() == ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
}

/// A line, or several, on stderr. Nobody is left to be told when it is gone.
pub fn to_stderr(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let _ = write!(stderr, "{text}{end}");
}

fn to_cell(Shown(text, paint): Shown, fit: Fit) -> Cell {
    let text = if matches!(fit, Fit::Whole | Fit::Number) { shorten(&text, WHOLE_CHARS) } else { text };
    let cell = Cell::new(text);
    match paint {
        Paint::Plain => cell,
        Paint::Good => cell.fg(Color::DarkGreen),
        Paint::Bad => cell.fg(Color::DarkRed),
        Paint::Care => cell.fg(Color::DarkYellow),
        Paint::Busy => cell.fg(Color::DarkCyan),
        Paint::Dim => cell.add_attribute(Attribute::Dim),
        Paint::Bold => cell.add_attribute(Attribute::Bold),
    }
}

/// Columns of the terminal.
pub fn terminal_width() -> u16 {
    Table::new().width().unwrap_or(DEFAULT_WIDTH).max(LEAST_WIDTH)
}

/// Text that begins in column `indent` and goes on there in the next line, broken between words
/// before `width`. A word longer than a line stays whole, so that a link can still be copied.
pub fn wrapped(text: &str, width: usize, indent: usize) -> String {
    let room = width.saturating_sub(indent).max(1);
    let (mut lines, mut line) = (String::new(), String::new());
    for word in text.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines += line.trim_end();
            lines += &format!("\n{:indent$}", "");
            line.clear();
        } else if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    (lines + &line).trim_end().to_owned()
}

pub fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// Text of others, made harmless for a terminal: line ends and escapes become blanks.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A field as people read it; nothing when it is absent.
pub fn field(value: &Value, name: &str) -> String {
    match &value[name] {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> Output {
        Output { format: Format::Table, quiet: false, color: false, width: 80 }
    }

    #[test]
    fn a_table_fits_its_width_whatever_is_in_it() {
        let columns = [("ID", Fit::Whole), ("STATE", Fit::Whole), ("N", Fit::Number), ("TITLE", Fit::Cut)];
        let row = |title: &str| {
            vec![
                cell("job_01hzy3k8v9q2m4n6p8r0s2t4w6"),
                painted("processing", Paint::Busy),
                cell("12"),
                cell(title),
            ]
        };
        let rows = vec![
            row("Short"),
            row(&"a very long title ".repeat(20)),
            row(&"x".repeat(300)),
            row("日本語の題".repeat(20).as_str()),
        ];
        let text = output().table(&columns, rows);
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(
            text.lines().skip(1).all(|line| line.starts_with("job_01hzy3k8v9q2m4n6p8r0s2t4w6  processing")),
            "{text}"
        );
    }

    /// Room is given from the left, and a column that would say nothing is not there.
    #[test]
    fn what_has_no_room_is_left_out() {
        let columns = [
            ("ID", Fit::Whole),
            ("CAUSE", Fit::Cut),
            ("EVENT", Fit::Cut),
            ("JOB", Fit::Spare),
            ("REASON", Fit::Cut),
        ];
        let id = "dlv_01hzy3k8v9q2m4n6p8r0s2t4w6";
        let job = "job_01hzy3k8v9q2m4n6p8r0s2t4w6";
        let shown = |width: u16, cause: &str| {
            let row = [id, cause, "heygen.avatar_video.success", job, "answered 401"].map(cell).into();
            let text = Output { width, ..output() }.table(&columns, vec![row]);
            assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{width}: {text}");
            text.lines().nth(1).unwrap().split("  ").map(|t| t.trim().to_owned()).collect::<Vec<_>>()
        };
        let (short, long) = ("answers_401:app.example", "endpoint_disabled:hooks.staging.example.com");
        assert_eq!(shown(80, short), [id, short, "heygen.avatar_video.…"]);
        assert_eq!(shown(120, short), [id, short, "heygen.avatar_video.success", job]);
        assert_eq!(shown(80, long), [id, long]);
        // Exactly the least that is worth it, and one less.
        assert_eq!(shown(32 + 25 + 14, short).len(), 3);
        assert_eq!(shown(32 + 25 + 13, short).len(), 2);
    }

    #[test]
    fn nothing_of_others_reaches_the_terminal_raw() {
        assert_eq!(clean("a\u{1b}[31mb\r\nc\u{7}"), "a [31mb  c ");
    }

    #[test]
    fn colours_are_there_only_when_wanted() {
        let columns = [("STATE", Fit::Whole), ("TITLE", Fit::Cut)];
        let rows = || vec![vec![painted("failed", Paint::of_state("failed")), cell("T")]];
        let mut out = output();
        assert!(!out.table(&columns, rows()).contains('\u{1b}'));
        assert_eq!(out.paint("x", Paint::Bad), "x");
        out.color = true;
        assert!(out.table(&columns, rows()).contains("\u{1b}[38;5;1mfailed"));
        assert_eq!(out.paint("x", Paint::Bad), "\u{1b}[31mx\u{1b}[0m");
    }

    #[test]
    fn long_values_go_on_below_themselves_and_long_words_stay_whole() {
        let mut out = output();
        out.width = 40;
        let link = format!("https://files.example/{}", "x".repeat(60));
        let text = out.pairs(&[
            ("title", "Twelve words of a title that is too long for its line".to_owned()),
            ("url", link.clone()),
            ("mixed", format!("see {link} for more")),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "  title  Twelve words of a title that is",
                "         too long for its line",
                &format!("  url    {link}"),
                "  mixed  see",
                &format!("         {link}"),
                "         for more",
            ]
        );
        // Exactly as wide as the room, and one more.
        assert_eq!(wrapped("abc def", 9, 2), "abc def");
        assert_eq!(wrapped("abc defg", 9, 2), "abc\n  defg");
    }

    #[test]
    fn pairs_leave_out_what_is_empty() {
        let text =
            output().pairs(&[("title", "T".to_owned()), ("note", String::new()), ("id", "1".to_owned())]);
        assert_eq!(text, "  title  T\n  id     1\n");
    }
}
