//! Text of statements that depends on how many values there are. Values never enter the text.

use std::fmt::Write;

use super::row::Param;

/// Rows of one statement, at most. A power of two, as `chunks` makes them.
pub(super) const MOST_ROWS: usize = 64;
/// Bytes that a placeholder takes with its comma, brackets counted.
const MOST_PER_VALUE: usize = 8;

/// `?n, ?n+1, …`: `count` placeholders from number `first`.
pub(super) fn in_list(first: usize, count: usize) -> String {
    let mut text = String::with_capacity(count * MOST_PER_VALUE);
    push_list(&mut text, first, count);
    text
}

/// Written in place: a batch of receipts asks for thousands of these.
fn push_list(text: &mut String, first: usize, count: usize) {
    for n in first..first + count {
        let comma = if n == first { "" } else { ", " };
        let _ = write!(text, "{comma}?{n}");
    }
}

/// The values, with the last repeated up to a power of two: few statements serve lists of any length.
pub(super) fn padded<'a>(values: &[&'a str]) -> Vec<Param<'a>> {
    let mut all: Vec<Param> = values.iter().map(|v| Param::Text(v)).collect();
    if let Some(last) = all.last().copied() {
        all.resize(all.len().next_power_of_two(), last);
    }
    all
}

/// `(?1, ?2), (?3, ?4), …`: rows of placeholders for an insert.
pub(super) fn value_rows(rows: usize, columns: usize) -> String {
    let mut text = String::with_capacity(rows * columns * MOST_PER_VALUE);
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        push_list(&mut text, row * columns + 1, columns);
        text.push(')');
    }
    text
}

/// Splits into chunks whose lengths are powers of two up to `most`, for the same reason.
pub(super) fn chunks<T>(mut all: &[T], most: usize) -> Vec<&[T]> {
    let mut parts = vec![];
    while !all.is_empty() {
        let mut size = most;
        while size > all.len() {
            size /= 2;
        }
        let (part, rest) = all.split_at(size.max(1));
        parts.push(part);
        all = rest;
    }
    parts
}

/// A `WHERE` of conditions that are each there or not. `?` in a condition becomes the next number.
#[derive(Default)]
pub(super) struct Conditions<'a> {
    text: String,
    params: Vec<Param<'a>>,
}

impl<'a> Conditions<'a> {
    pub(super) fn and(&mut self, condition: &str, value: Option<impl Into<Param<'a>>>) {
        if let Some(value) = value {
            self.plain("");
            self.more(condition, value);
        }
    }

    /// A condition without a value.
    pub(super) fn plain(&mut self, condition: &str) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        self.text.push_str(condition);
    }

    /// Goes on with the condition before.
    pub(super) fn more(&mut self, condition: &str, value: impl Into<Param<'a>>) {
        self.params.push(value.into());
        self.text.push_str(&condition.replacen('?', &format!("?{}", self.params.len()), 1));
    }

    pub(super) fn finish(self) -> (String, Vec<Param<'a>>) {
        (self.text, self.params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_grows_with_the_values() {
        assert_eq!(in_list(3, 2), "?3, ?4");
        assert_eq!(value_rows(2, 2), "(?1, ?2), (?3, ?4)");
        assert_eq!(padded(&["a", "b", "c"]).len(), 4);
        let lengths: Vec<usize> = chunks(&[0; 23], 8).iter().map(|c| c.len()).collect();
        assert_eq!(lengths, [8, 8, 4, 2, 1]);
        let mut ask = Conditions::default();
        ask.and("a = ?", Some(1));
        ask.and("b = ?", None::<i64>);
        ask.and("c = ?", Some("x"));
        assert_eq!(ask.finish().0, " WHERE a = ?1 AND c = ?2");
    }
}
