//! A template: JSON with places such as `{{name}}` in its texts, filled from the columns of a row.
//!
//! Values go into the parsed tree and never into text that is parsed again, so that no value can
//! become anything but a value. What a value holds is not looked at for places.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Behind a column's name: the cell is read as JSON, for a number, true, a list.
const AS_JSON: &str = ":json";

/// A place and what is wrong there: a JSON Pointer into the template, or a column's name.
pub type Wrong = (String, String);

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Template {
    tree: Node,
    columns: BTreeSet<String>,
    /// Where columns stand, by JSON Pointer.
    places: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Plain(Value),
    Text(Vec<Part>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Cell { column: String, as_json: bool },
}

impl Default for Node {
    fn default() -> Self {
        Self::Plain(Value::Null)
    }
}

impl Template {
    pub fn parse(template: &Value) -> Result<Self, Vec<Wrong>> {
        let (mut places, mut wrong) = (vec![], vec![]);
        let tree = node(template, "", &mut places, &mut wrong);
        let columns = places.iter().map(|(_, column)| column.clone()).collect();
        if wrong.is_empty() { Ok(Self { tree, columns, places }) } else { Err(wrong) }
    }

    pub fn has_column(&self, name: &str) -> bool {
        self.columns.contains(name)
    }

    /// The column that decides what stands at this place, if one does.
    pub fn column_at(&self, pointer: &str) -> Option<&str> {
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let decides = |(place, _): &&(String, String)| within(place, pointer) || within(pointer, place);
        self.places.iter().find(decides).map(|(_, column)| &**column)
    }

    /// The template with a row's values; or the columns that will not do, and why.
    pub fn fill(&self, row: &Map<String, Value>) -> Result<Value, Vec<Wrong>> {
        let mut wrong: Vec<Wrong> =
            self.columns.iter().filter_map(|column| Some((column.clone(), lack(row, column)?))).collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let filled = filled(&self.tree, row, &mut wrong);
        if wrong.is_empty() { Ok(filled) } else { Err(wrong) }
    }
}

fn lack(row: &Map<String, Value>, column: &str) -> Option<String> {
    match row.get(column) {
        None => Some("is missing; the template needs it".to_owned()),
        Some(Value::Null) => Some("is empty; the template needs it".to_owned()),
        Some(Value::String(text)) if text.trim().is_empty() => {
            Some("is empty; the template needs it".to_owned())
        }
        Some(_) => None,
    }
}

fn node(value: &Value, place: &str, places: &mut Vec<(String, String)>, wrong: &mut Vec<Wrong>) -> Node {
    match value {
        Value::String(text) => match parts(text) {
            Ok(parts) => {
                let columns = parts.iter().filter_map(|part| match part {
                    Part::Cell { column, .. } => Some((place.to_owned(), column.clone())),
                    Part::Text(_) => None,
                });
                places.extend(columns);
                Node::Text(parts)
            }
            Err(why) => {
                wrong.push((place.to_owned(), why));
                Node::Plain(Value::Null)
            }
        },
        Value::Array(all) => {
            let at = |(n, v)| node(v, &format!("{place}/{n}"), places, wrong);
            Node::List(all.iter().enumerate().map(at).collect())
        }
        Value::Object(fields) => {
            let mut nodes = vec![];
            for (name, value) in fields {
                let here = format!("{place}/{}", escaped(name));
                if name.contains("{{") {
                    wrong.push((here.clone(), "`{{` stands in a name; only values are filled in".to_owned()));
                }
                nodes.push((name.clone(), node(value, &here, places, wrong)));
            }
            Node::Object(nodes)
        }
        plain => Node::Plain(plain.clone()),
    }
}

fn parts(text: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut rest) = (vec![], text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((inside, after)) = after.split_once("}}") else {
            return Err("has `{{` without `}}` behind it".to_owned());
        };
        let inside = inside.trim();
        let (column, as_json) = match inside.strip_suffix(AS_JSON) {
            Some(column) => (column.trim_end(), true),
            None => (inside, false),
        };
        if column.is_empty() || column.contains(['{', '}']) {
            return Err(format!("`{{{{{inside}}}}}` names no column"));
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        parts.push(Part::Cell { column: column.to_owned(), as_json });
        rest = after;
    }
    if !rest.is_empty() || parts.is_empty() {
        parts.push(Part::Text(rest.to_owned()));
    }
    Ok(parts)
}

fn filled(node: &Node, row: &Map<String, Value>, wrong: &mut Vec<Wrong>) -> Value {
    match node {
        Node::Plain(value) => value.clone(),
        Node::List(all) => all.iter().map(|node| filled(node, row, wrong)).collect(),
        Node::Object(fields) => {
            let fill = |(name, node): &(String, Node)| (name.clone(), filled(node, row, wrong));
            Value::Object(fields.iter().map(fill).collect())
        }
        Node::Text(parts) => match &**parts {
            [Part::Cell { column, as_json }] => whole(&row[column], column, *as_json, wrong),
            parts => Value::String(parts.iter().map(|part| inside(part, row, wrong)).collect()),
        },
    }
}

/// The cell in place of the whole text: as what it is.
fn whole(cell: &Value, column: &str, as_json: bool, wrong: &mut Vec<Wrong>) -> Value {
    match cell {
        Value::String(text) if as_json => serde_json::from_str(text.trim()).unwrap_or_else(|_| {
            let why =
                format!("is not JSON, such as 12, true or [\"a\"], as {{{{{column}{AS_JSON}}}}} asks for");
            wrong.push((column.to_owned(), why));
            Value::Null
        }),
        cell => cell.clone(),
    }
}

fn inside(part: &Part, row: &Map<String, Value>, wrong: &mut Vec<Wrong>) -> String {
    match part {
        Part::Text(text) => text.clone(),
        Part::Cell { column, .. } => match &row[column] {
            Value::String(text) => text.clone(),
            cell @ (Value::Array(_) | Value::Object(_)) => {
                let what = if cell.is_array() { "a list" } else { "an object" };
                wrong.push((column.clone(), format!("is {what} and cannot stand inside a text")));
                String::new()
            }
            other => other.to_string(),
        },
    }
}

/// A name as a part of a JSON Pointer (RFC 6901).
pub fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: Value, row: Value) -> Result<Value, Vec<Wrong>> {
        Template::parse(&template).unwrap().fill(row.as_object().unwrap())
    }

    #[test]
    fn a_place_takes_what_the_cell_is_and_inside_a_text_it_is_text() {
        let template =
            json!({"a": "{{n}}", "b": "n is {{ n }}, ok {{ok}}", "c": ["{{list}}", 1, null], "{": "}}"});
        let row = json!({"n": 1.50, "ok": true, "list": [1, {"x": "{{n}}"}]});
        let wanted =
            json!({"a": 1.50, "b": "n is 1.5, ok true", "c": [[1, {"x": "{{n}}"}], 1, null], "{": "}}"});
        assert_eq!(fill(template, row), Ok(wanted));
    }

    #[test]
    fn no_value_becomes_anything_but_a_value() {
        let nasty = "\", \"avatar_id\": \"other\"}} \\ \u{0} {{b}}\n";
        let filled = fill(json!({"s": "<{{a}}>", "t": "{{a}}"}), json!({"a": nasty})).unwrap();
        assert_eq!(filled, json!({"s": format!("<{nasty}>"), "t": nasty}));
    }

    #[test]
    fn a_cell_of_text_is_read_as_json_only_where_the_template_says_so() {
        let read = |cell: &str| fill(json!({"x": "{{c:json}}"}), json!({"c": cell}));
        assert_eq!(read(" 12 "), Ok(json!({"x": 12})));
        assert_eq!(read("[\"a\", true]"), Ok(json!({"x": ["a", true]})));
        assert_eq!(fill(json!("{{c}}"), json!({"c": "12"})), Ok(json!("12")));
        assert_eq!(fill(json!("{{c:json}}"), json!({"c": 12})), Ok(json!(12)), "it is JSON already");
        let wrong = read("twelve").unwrap_err();
        assert_eq!(wrong[0].0, "c");
        assert!(wrong[0].1.contains("{{c:json}}"), "{wrong:?}");
    }

    #[test]
    fn what_is_missing_or_empty_is_named_by_its_column() {
        let template = json!({"a": "{{one}} {{two}}", "b": "{{one}} {{three}}"});
        let wrong = fill(template, json!({"two": " ", "three": null, "four": "x"})).unwrap_err();
        let columns: Vec<&str> = wrong.iter().map(|(column, _)| &**column).collect();
        assert_eq!(columns, ["one", "three", "two"], "each once");
        assert!(wrong[0].1.starts_with("is missing") && wrong[1].1.starts_with("is empty"), "{wrong:?}");
        let wrong = fill(json!("see {{l}}"), json!({"l": []})).unwrap_err();
        assert_eq!(wrong, [("l".to_owned(), "is a list and cannot stand inside a text".to_owned())]);
    }

    #[test]
    fn a_template_that_is_not_right_is_named_by_its_place() {
        for text in ["{{name", "{{}}", "{{ :json }}", "{{a{b}}", "}} {{ {{x}}"] {
            let wrong = Template::parse(&json!({"a/b": [0, text]})).unwrap_err();
            assert_eq!(wrong[0].0, "/a~1b/1", "{text}");
        }
        let wrong = Template::parse(&json!({"{{x}}": 1})).unwrap_err();
        assert_eq!(wrong[0].0, "/{{x}}");
    }

    #[test]
    fn a_place_is_known_by_its_column_above_and_below() {
        let template =
            json!({"request": {"script": "Hi {{name}}", "video": {"url": "{{url}}"}, "scriptx": 1}});
        let template = Template::parse(&template).unwrap();
        assert_eq!(template.column_at("/request/script"), Some("name"));
        assert_eq!(template.column_at("/request/video"), Some("url"));
        assert_eq!(template.column_at("/request/video/url/0"), Some("url"));
        assert_eq!(template.column_at("/request/scriptx"), None);
        assert_eq!(template.column_at("/kind"), None);
        assert!(template.has_column("url") && !template.has_column("Url"));
    }
}
