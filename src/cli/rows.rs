//! Rows as producers keep them: CSV with a line of column names, or one JSON object a line. What is wrong
//! is named by its line. What a row is good for, the server decides.

use std::collections::HashSet;
use std::ops::Range;

use serde_json::{Map, Value, json};

use super::{CliError, Result, read};
use crate::domain::json as strict;

/// All of it is held in memory.
const MAX_BYTES: u64 = 128 << 20;

pub struct Sheet {
    /// JSON objects, as text: of a long file it is the least to hold.
    pub rows: Vec<String>,
    /// Where each row begins in the file, from 1.
    lines: Vec<u64>,
}

/// Rows of `-`, JSON in the argument, or a file.
pub fn read(given: &str, flag: &str) -> Result<Sheet> {
    let bytes = read::bytes_up_to(given, flag, MAX_BYTES)?;
    parse(&bytes)
        .map_err(|why| CliError::usage(format!("--{flag} {}: {why}", super::output::shorten(given, 80))))
}

impl Sheet {
    /// The server's refusal of this part of the rows, as of all of them, with the line of the file behind every
    /// row it names.
    pub fn locate(&self, mut e: CliError, part: &Range<usize>) -> CliError {
        let (CliError { problem, .. }, before) = (&mut e, part.start);
        let nth = |error: &Value| -> Option<usize> {
            match error["pointer"].as_str()?.strip_prefix("/rows")?.strip_prefix('/') {
                Some(rest) => rest.split('/').next()?.parse().ok(),
                // All of them, which is one.
                None => Some(0).filter(|_| part.len() == 1),
            }
        };
        let first = nth(&problem["errors"][0]);
        for error in problem.get_mut("errors").and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(nth) = nth(error) else { continue };
            if let Some(line) = self.lines.get(before + nth) {
                error["line"] = json!(line);
            }
            renumber(&mut error["pointer"], nth, before);
            renumber(&mut error["message"], nth, before);
        }
        if let (Some(nth), Some(line)) = (first, problem["errors"][0]["line"].as_u64()) {
            let detail = &mut problem["detail"];
            renumber(detail, nth, before);
            *detail = json!(format!("line {line} of the file: {}", detail.as_str().unwrap_or_default()));
        }
        e
    }
}

/// The server counts the rows that it was sent.
fn renumber(text: &mut Value, nth: usize, before: usize) {
    if let Value::String(text) = text {
        for (sent, stands) in [
            (format!("/rows/{nth}"), format!("/rows/{}", nth + before)),
            (format!("row {}", nth + 1), format!("row {}", nth + 1 + before)),
        ] {
            *text = text.replacen(&sent, &stands, 1);
        }
    }
}

fn parse(bytes: &[u8]) -> std::result::Result<Sheet, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| {
        let line = bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        format!("line {line} is not UTF-8; save it as UTF-8 (in Excel: \"CSV UTF-8\")")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let sheet = match text.trim_start().chars().next() {
        Some('{') => json_lines(text),
        Some('[') => {
            Err("it is a JSON list; write one object a line instead (`jq -c '.[]'` does)".to_owned())
        }
        _ => csv(text),
    }?;
    if sheet.rows.is_empty() { Err("it has no rows".to_owned()) } else { Ok(sheet) }
}

fn json_lines(text: &str) -> std::result::Result<Sheet, String> {
    let mut sheet = Sheet { rows: vec![], lines: vec![] };
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        match strict::read(text.as_bytes()) {
            Ok(row @ Value::Object(_)) => sheet.rows.push(row.to_string()),
            Ok(_) => return Err(format!("line {line} is not one JSON object")),
            Err(e) => return Err(format!("line {line} is not one JSON object: {e}")),
        }
        sheet.lines.push(line);
    }
    Ok(sheet)
}

/// The reader takes a quote that is never closed for one that ends with the file, and every row behind it for a
/// part of one cell.
fn check_quotes(text: &str) -> std::result::Result<(), String> {
    let (mut line, mut opened, mut is_start) = (1, None, true);
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
    while let Some(c) = rest.next() {
        line += u64::from(c == '\n');
        match (opened, c) {
            (None, '"') if is_start => opened = Some(line),
            (Some(_), '"') if rest.next_if_eq(&'"').is_none() => {
                if rest.peek().is_some_and(|next| !matches!(next, ',' | '\r' | '\n')) {
                    return Err(format!("line {line} has a quote amid a quoted cell; write it twice: \"\""));
                }
                opened = None;
            }
            _ => {}
        }
        is_start = opened.is_none() && matches!(c, ',' | '\r' | '\n');
    }
    opened.map_or(Ok(()), |line| {
        Err(format!("the quote that a cell of line {line} begins with is never closed"))
    })
}

fn csv(text: &str) -> std::result::Result<Sheet, String> {
    check_quotes(text)?;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let columns = columns(reader.headers().map_err(|e| e.to_string())?)?;
    let mut sheet = Sheet { rows: vec![], lines: vec![] };
    let mut lines = Lines { text: text.as_bytes(), at: 0, line: 1 };
    for record in reader.records() {
        let record = record.map_err(|e| ragged(&e, &mut lines))?;
        let row: Map<String, Value> =
            columns.iter().cloned().zip(record.iter().map(|cell| json!(cell))).collect();
        sheet.rows.push(Value::Object(row).to_string());
        sheet.lines.push(lines.of(record.position()));
    }
    Ok(sheet)
}

/// Counts lines as an editor does: the reader's own position stands before the end of the line before.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl Lines<'_> {
    fn of(&mut self, position: Option<&csv::Position>) -> u64 {
        let from = position.and_then(|p| usize::try_from(p.byte()).ok()).unwrap_or(self.at);
        while let Some(byte) = self.text.get(self.at) {
            if self.at >= from && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            self.line += u64::from(*byte == b'\n');
            self.at += 1;
        }
        self.line
    }
}

/// The names of the first line.
fn columns(header: &csv::StringRecord) -> std::result::Result<Vec<String>, String> {
    let names: Vec<String> = header.iter().map(|name| name.trim().to_owned()).collect();
    if let [only] = &*names
        && let Some(other) = only.chars().find(|c| matches!(c, ';' | '\t' | '|'))
    {
        return Err(format!(
            "line 1 names one column, `{only}`: separate columns by commas, not by {other:?}"
        ));
    }
    let mut seen = HashSet::new();
    for (nth, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(format!("line 1: column {} has no name", nth + 1));
        }
        if !seen.insert(name) {
            return Err(format!("line 1: two columns are called {name}"));
        }
    }
    Ok(names)
}

fn ragged(e: &csv::Error, lines: &mut Lines) -> String {
    match e.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => format!(
            "line {} has {len} cells, and line 1 names {expected_len} columns; a cell with a comma or a line end in \
             it needs quotes around it",
            lines.of(pos.as_ref())
        ),
        _ => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &str) -> (Vec<Value>, Vec<u64>) {
        let sheet = parse(text.as_bytes()).unwrap();
        (sheet.rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect(), sheet.lines)
    }

    fn wrong(bytes: &[u8]) -> String {
        parse(bytes).err().unwrap_or_else(|| panic!("{bytes:?} is taken"))
    }

    #[test]
    fn a_quote_that_stands_wrong_is_told_and_no_row_is_lost_in_it() {
        for (text, said) in [
            ("id,s\n1,\"Hello Ann\n2,Hello Bob\n3,Cyd\n", "a cell of line 2 begins with is never closed"),
            ("id,s\n1,a\n2,\"b", "a cell of line 3 begins with is never closed"),
            ("id,s\n1,\"Hello \"Ann\" x\"\n", "line 2 has a quote amid a quoted cell"),
            ("id,s\n1,\"two\nlines\" x\n", "line 3 has a quote amid a quoted cell"),
            ("\u{feff}\"id,s\n1,a\n", "a cell of line 1 begins with is never closed"),
        ] {
            assert!(wrong(text.as_bytes()).contains(said), "{text}: {}", wrong(text.as_bytes()));
        }
        let text = "\u{feff}\"id\",s\r\n1,\"a \"\"b\"\", c\r\nd\"\r\n\"\",\"\"\"\"\r\n3,5\" wide\r\n";
        let cells: Vec<Value> = rows(text).0.iter().map(|row| row["s"].clone()).collect();
        assert_eq!(cells, ["a \"b\", c\r\nd", "\"", "5\" wide"]);
    }

    #[test]
    fn csv_is_read_as_spreadsheets_write_it() {
        let text = "\u{feff}name, text \r\nAda,\"Hi, \"\"you\"\"\r\nthere\"\r\n\r\nBo,\r\n";
        let (rows, lines) = rows(text);
        assert_eq!(
            rows,
            [json!({"name": "Ada", "text": "Hi, \"you\"\r\nthere"}), json!({"name": "Bo", "text": ""})]
        );
        assert_eq!(lines, [2, 5], "where the rows are in the file");
    }

    #[test]
    fn json_lines_keep_their_types() {
        let (rows, lines) = rows("\u{feff}{\"n\": 1.50, \"l\": [true]}\n\n  {\"n\": null}\r\n");
        assert_eq!(rows, [json!({"n": 1.50, "l": [true]}), json!({"n": null})]);
        assert_eq!(lines, [1, 3]);
    }

    #[test]
    fn what_is_no_table_is_told_by_its_line() {
        for (text, told) in [
            ("", "it has no rows"),
            ("a,b\n", "it has no rows"),
            ("a;b\n1;2\n", "separate columns by commas, not by ';'"),
            ("a\tb\n1\t2\n", "separate columns by commas, not by '\\t'"),
            ("a,b,a\n1,2,3\n", "two columns are called a"),
            ("a, ,c\n1,2,3\n", "column 2 has no name"),
            ("a,b\n1,2\n1,2,3\n", "line 3 has 3 cells, and line 1 names 2 columns"),
            ("a,b\n\"x\ny\",2\n1\n", "line 4 has 1 cells"),
            ("[{\"a\": 1}]", "one object a line"),
            ("{\"a\": 1}\n\n[1]\n", "line 3 is not one JSON object"),
            ("{\"a\": 1}\nb,c\n", "line 2 is not one JSON object"),
            ("{\"a\": 1, \"a\": 2}\n", "line 1 is not one JSON object: `a` stands twice"),
        ] {
            let why = wrong(text.as_bytes());
            assert!(why.contains(told), "{text:?}: {why}");
        }
        assert!(wrong(b"a,b\n1,2\n\xe9,4\n").starts_with("line 3 is not UTF-8"));
        assert!(wrong(b"\xff\xfea\0").starts_with("line 1 is not UTF-8"));
    }

    #[test]
    fn a_refusal_of_the_server_names_the_line_too() {
        let sheet = Sheet { rows: vec![], lines: vec![2, 5] };
        let mut e = CliError::usage("/rows/1/name: row 2, column name: is empty, and 1 more");
        e.problem["errors"] =
            json!([{"pointer": "/rows/1/name"}, {"pointer": "/template/kind"}, {"pointer": "/rows/9"}]);
        let problem = sheet.locate(e.clone(), &(0..9)).problem;
        let lines: Vec<&Value> = problem["errors"].as_array().unwrap().iter().map(|e| &e["line"]).collect();
        assert_eq!(lines, [&json!(5), &Value::Null, &Value::Null]);
        assert!(
            problem["detail"].as_str().unwrap().starts_with("line 5 of the file: /rows/1/name: row 2, "),
            "{problem}"
        );
        let sheet = Sheet { rows: vec![], lines: (2..).take(20_000).collect() };
        let problem = sheet.locate(e.clone(), &(10_000..20_000)).problem;
        let detail = "line 10003 of the file: /rows/10001/name: row 10002, column name: is empty, and 1 more";
        assert_eq!(
            (&problem["detail"], &problem["errors"][2]["pointer"]),
            (&json!(detail), &json!("/rows/10009"))
        );
    }
}
