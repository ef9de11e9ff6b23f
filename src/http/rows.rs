//! The body of a group, or of rows for one: a template, and rows to fill it with. Every row is checked as a job of
//! its own would be; every mistake is told, with its row and column, up to a bound. Nothing is stored here.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::Http;
use super::input::{self, Fields, MAX_BODY_BYTES, MAX_TITLE_CHARS};
use super::problem::{FieldError, Kind, Problem, Result, field};
use crate::domain::group::{MAX_BYTES, MAX_JOBS};
use crate::domain::template::{Template, escaped};
use crate::flow::{NewGroup, NewJob};

const MORE_LATER: &str = "`POST /api/groups/{id}/rows` takes more";
/// Mistakes told in one answer; more are only counted.
const MAX_MISTAKES: usize = 100;

/// Only one that is new is given a title.
pub fn new_group(http: &Http, bytes: &[u8], is_new: bool) -> Result<NewGroup> {
    let mut fields = Fields::new(input::object(bytes, false)?);
    let title = if is_new { fields.text("title", MAX_TITLE_CHARS) } else { None };
    let first_row = if is_new { 1 } else { first_row(&mut fields) };
    let more = fields.switch("more");
    let ignored = fields.texts("ignore").unwrap_or_default();
    let template = template(&mut fields);
    let rows = rows(&mut fields);
    fields.finish()?;
    let mut sheet =
        Sheet { http, template: &template, ignored, seen: HashSet::new(), found: vec![], count: 0 };
    let jobs = sheet.jobs(&rows);
    sheet.finish()?;
    Ok(NewGroup { title, retry_of: None, jobs, first_row, more })
}

/// It says where the rows belong, so that none is added twice, or before others.
fn first_row(fields: &mut Fields) -> i64 {
    match fields.take("first_row").as_ref().and_then(Value::as_i64) {
        Some(row @ 1..) => row,
        _ => {
            fields.wrong("first_row", "must be the `next_row` of the group, a whole number");
            1
        }
    }
}

fn template(fields: &mut Fields) -> Template {
    let parsed = match fields.take("template") {
        Some(template @ Value::Object(_)) => Template::parse(&template),
        _ => Err(vec![(
            String::new(),
            "must be a job as POST /api/jobs takes it, with places such as {{name}}".to_owned(),
        )]),
    };
    parsed.unwrap_or_else(|wrong| {
        let at = |(place, why): (String, String)| field(format!("/template{place}"), why);
        fields.errors.extend(wrong.into_iter().map(at));
        Template::default()
    })
}

fn rows(fields: &mut Fields) -> Vec<Map<String, Value>> {
    let given = match fields.take("rows") {
        Some(Value::Array(all)) if (1..=MAX_JOBS).contains(&all.len()) => all,
        Some(Value::Array(all)) => {
            fields.wrong("rows", format!("has {} rows; 1 to {MAX_JOBS} at once; {MORE_LATER}", all.len()));
            return vec![];
        }
        _ => {
            fields.wrong("rows", "must be a list of objects, each with a value for every column");
            return vec![];
        }
    };
    let mut rows = vec![];
    for (nth, row) in given.into_iter().enumerate() {
        match row {
            Value::Object(row) => rows.push(row),
            _ => {
                fields.wrong(&format!("rows/{nth}"), format!("row {} is no object of columns", nth + 1));
                return vec![];
            }
        }
    }
    rows
}

/// Rows on their way to be jobs, and what is wrong with them.
struct Sheet<'a> {
    http: &'a Http,
    template: &'a Template,
    /// Columns that no place needs, on purpose.
    ignored: Vec<String>,
    /// What is told once and not for every row.
    seen: HashSet<String>,
    found: Vec<FieldError>,
    count: usize,
}

impl Sheet<'_> {
    fn jobs(&mut self, rows: &[Map<String, Value>]) -> Vec<NewJob> {
        let mut jobs: Vec<NewJob> = vec![];
        let mut bytes = 0;
        for (nth, row) in rows.iter().enumerate() {
            let made = self.job_of(nth, row, &mut bytes);
            if bytes > MAX_BYTES {
                self.wrong(
                    "/rows".to_owned(),
                    format!(
                        "from row {} on they make jobs of more than {MAX_BYTES} bytes in all; {MORE_LATER}",
                        nth + 1
                    ),
                );
                return vec![];
            }
            let row = i64::try_from(nth + 1).ok();
            jobs.extend(made.into_iter().map(|job| NewJob { group_row: row, ..job }));
            if jobs.len() > MAX_JOBS {
                self.wrong(
                    "/rows".to_owned(),
                    format!("from row {} on they make more than {MAX_JOBS} jobs; {MORE_LATER}", nth + 1),
                );
                return vec![];
            }
        }
        jobs
    }

    /// The jobs of one row: more than one, where it asks for several languages.
    fn job_of(&mut self, nth: usize, row: &Map<String, Value>, bytes: &mut usize) -> Vec<NewJob> {
        self.look_for_unused(nth, row);
        let filled = match self.template.fill(row) {
            Ok(Value::Object(filled)) => filled,
            Ok(_) => return vec![],
            Err(wrong) => {
                wrong.into_iter().for_each(|(column, why)| self.wrong_cell(nth, &column, &why));
                return vec![];
            }
        };
        let size = serde_json::to_string(&filled).map_or(0, |text| text.len());
        if size > MAX_BODY_BYTES {
            let why = format!("row {} makes a job of {size} bytes; {MAX_BODY_BYTES} at most", nth + 1);
            self.wrong(format!("/rows/{nth}"), why);
            return vec![];
        }
        match input::new_jobs(self.http, filled) {
            Ok(jobs) => {
                *bytes += size * jobs.len();
                jobs
            }
            Err(problem) => {
                problem.errors.into_iter().for_each(|e| self.wrong_job(nth, e));
                vec![]
            }
        }
    }

    /// A column that is not used may be one that was forgotten in the template.
    fn look_for_unused(&mut self, nth: usize, row: &Map<String, Value>) {
        for column in row.keys() {
            let used = self.template.has_column(column) || self.ignored.contains(column);
            if !used && self.seen.insert(format!("unused {column}")) {
                let why = "the template has no {{…}} for it; list it in `ignore` if that is meant";
                self.wrong_cell(nth, column, why);
            }
        }
    }

    /// A mistake in the job of a row: of the column that stands there, or of the template itself.
    fn wrong_job(&mut self, nth: usize, mistake: FieldError) {
        let FieldError { pointer, message } = mistake;
        match self.template.column_at(&pointer).map(str::to_owned) {
            Some(column) => self.wrong_cell(nth, &column, &format!("as {pointer} it {message}")),
            None if self.seen.insert(format!("{pointer} {message}")) => {
                self.wrong(format!("/template{pointer}"), message);
            }
            None => {}
        }
    }

    fn wrong_cell(&mut self, nth: usize, column: &str, why: &str) {
        let message = format!("row {}, column {column}: {why}", nth + 1);
        self.wrong(format!("/rows/{nth}/{}", escaped(column)), message);
    }

    fn wrong(&mut self, pointer: String, message: String) {
        self.count += 1;
        if self.found.len() < MAX_MISTAKES {
            self.found.push(field(pointer, message));
        }
    }

    fn finish(self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        let mut problem = Problem::fields(Kind::InvalidRequest, self.found);
        if self.count > MAX_MISTAKES {
            let first = problem.errors.first().map_or("", |e| &*e.message);
            let detail = format!("{first}, and {} more; the first {MAX_MISTAKES} are listed", self.count - 1);
            problem.detail = Some(detail);
        }
        Err(problem)
    }
}
