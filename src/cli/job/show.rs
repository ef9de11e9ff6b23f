//! Jobs as people read them.

use serde_json::Value;

use crate::cli::client::Session;
use crate::cli::output::{Fit, Output, Paint, Shown, cell, clean, field, painted};
use crate::cli::units::age;
use crate::domain::charge::Charge;
use crate::domain::job::Priority;

pub fn print(s: &Session, job: &Value) {
    s.out.answer(job, |out| page(out, job, s.clock.now()));
}

pub fn table(s: &Session, jobs: &[Value]) -> String {
    let now = s.clock.now();
    let columns = [
        ("ID", Fit::Whole),
        ("STATE", Fit::Whole),
        ("KIND", Fit::Whole),
        ("AGE", Fit::Number),
        ("ABOUT", Fit::Cut),
    ];
    let row = |job: &Value| -> Vec<Shown> {
        let state = field(job, "state");
        vec![
            cell(field(job, "id")),
            painted(&state, Paint::of_state(&state)),
            cell(field(job, "kind")),
            cell(age(job["created_at"].as_str(), now)),
            cell(headline(job)),
        ]
    };
    s.out.table(&columns, jobs.iter().map(row).collect())
}

/// What a job is told by: its failure if it has one, else its title, else the caller's id.
fn headline(job: &Value) -> String {
    let failure = &job["failure"]["message"];
    [failure, &job["cancel_reason"], &job["title"], &job["callback_id"], &job["note"]]
        .into_iter()
        .find_map(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn page(out: &Output, job: &Value, now: i64) -> String {
    let state = field(job, "state");
    let head = format!(
        "{}  {}  {}\n",
        out.paint(&field(job, "id"), Paint::Bold),
        out.paint(&state, Paint::of_state(&state)),
        field(job, "kind"),
    );
    let at = |name: &str| match job[name].as_str() {
        Some("") => String::new(),
        Some(time) => match age(Some(time), now).as_str() {
            "0s" => clean(time),
            ago => format!("{} ({ago} ago)", clean(time)),
        },
        None => String::new(),
    };
    let labels = job["labels"].as_object().into_iter().flatten();
    let labels: Vec<String> =
        labels.map(|(name, v)| format!("{}={}", clean(name), clean(v.as_str().unwrap_or("")))).collect();
    let progress = job["progress"].as_i64().map_or(String::new(), |p| format!("{p} %"));
    let deadline = if job["finished_at"].is_null() { field(job, "deadline_at") } else { String::new() };
    let mut pairs = vec![
        ("title", field(job, "title")),
        ("callback id", field(job, "callback_id")),
        ("labels", labels.join(" ")),
        ("metadata", field(job, "metadata")),
        ("HeyGen id", field(job, "upstream_id")),
        ("submitted", at("created_at")),
        ("not before", field(job, "not_before")),
        ("accepted", at("accepted_at")),
        ("ended", at("finished_at")),
        ("expected", expected(job)),
        ("deadline", deadline),
        ("progress", progress),
        ("priority", priority(job)),
        ("note", field(job, "note")),
        ("waits for", waiting(&job["waiting"])),
        ("retry of", field(job, "retry_of")),
        ("failure", failure(&job["failure"])),
        ("what to do", class(&job["failure"])),
        ("reelhook", field(&job["failure"], "reelhook_does")),
        ("for the user", field(&job["failure"], "for_user")),
        ("canceled", field(job, "cancel_reason")),
        ("found by", if state == "canceled" { String::new() } else { field(job, "found_by") }),
    ];
    pairs.extend(charge(&job["charge"]));
    pairs.extend(evidence(&job["evidence"]));
    let mut links = vec![];
    flatten("", &job["result"], &mut links);
    pairs.extend(links.iter().map(|(name, value)| (name.as_str(), value.clone())));
    if !job["late_result"].is_null() {
        pairs.push(("late result", field(job, "late_result")));
    }
    head + &out.pairs(&pairs)
}

fn expected(job: &Value) -> String {
    let range = &job["expected"];
    if range.is_null() {
        return String::new();
    }
    let late = if job["late"] == true { ", so it is late" } else { "" };
    format!("from {} to {}{late}", field(range, "from"), field(range, "to"))
}

/// Whether HeyGen took it; of a job that was sent, with a line for each call that could cost something.
fn charge(charge: &Value) -> Vec<(&'static str, String)> {
    let calls = charge["calls"].as_array().map_or(&[][..], Vec::as_slice);
    let Some(state) = charge["state"].as_str().and_then(Charge::parse).filter(|_| !calls.is_empty()) else {
        return vec![];
    };
    let mut pairs = vec![("charge", format!("{}: {}", state.name(), state.what()))];
    if charge["older_calls"].as_u64().is_some_and(|older| older > 0) {
        pairs.push(("call", format!("{} before these", field(charge, "older_calls"))));
    }
    for call in calls {
        let again = if call["repeat"] == true { "again " } else { "" };
        let outcome = match field(call, "outcome").as_str() {
            "" => "under way".to_owned(),
            outcome => outcome.replace('_', " "),
        };
        let (at, key) = (field(call, "sent_at"), field(call, "idempotency_key"));
        pairs.push(("call", format!("{at} {again}with the key {key}: {outcome}")));
    }
    pairs
}

/// What was asked and told of a job without a result.
fn evidence(evidence: &Value) -> Vec<(&'static str, String)> {
    let is = |name: &str| evidence[name].is_string();
    let said = |name: &str| field(evidence, name);
    let mut pairs = vec![];
    if is("asked_at") {
        let (times, at, answer) = (said("asked_times"), said("asked_at"), said("last_answer"));
        let times = if times == "1" { "once, at".to_owned() } else { format!("{times} times, last at") };
        pairs.push(("asked", format!("{times} {at}: {answer}")));
    }
    if is("told_at") {
        pairs.push(("told", format!("by {} at {}: {}", said("told_by"), said("told_at"), said("told"))));
    }
    pairs
}

fn failure(failure: &Value) -> String {
    let (code, message) = (field(failure, "code"), field(failure, "message"));
    if code.is_empty() || message.is_empty() { code + &message } else { format!("{code}: {message}") }
}

fn class(failure: &Value) -> String {
    let (class, advice) = (field(failure, "class"), field(failure, "advice"));
    if class.is_empty() || advice.is_empty() { class + &advice } else { format!("{class}: {advice}") }
}

/// Only where somebody set it.
fn priority(job: &Value) -> String {
    let usual = Priority::default().number();
    job["priority"].as_i64().filter(|number| *number != usual).map_or(String::new(), |n| n.to_string())
}

fn waiting(waiting: &Value) -> String {
    match (field(waiting, "what"), field(waiting, "until")) {
        (what, until) if until.is_empty() => what,
        (what, until) => format!("{what}; it goes on at {until}"),
    }
}

/// The links and figures of a result, by the names they have in the answer: `clips.0.video_url`.
fn flatten(name: &str, value: &Value, found: &mut Vec<(String, String)>) {
    let inner = |part: &str| if name.is_empty() { part.to_owned() } else { format!("{name}.{part}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(part, v)| flatten(&inner(part), v, found)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, v)| flatten(&inner(&n.to_string()), v, found));
        }
        Value::Null => {}
        Value::String(text) => found.push((clean(name), clean(text))),
        other => found.push((clean(name), other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_results_have_a_line_for_each_link() {
        let mut found = vec![];
        let result = serde_json::json!({"duration_s": 4.0, "gif_url": null, "layers": {"mask": "https://m"},
            "clips": [{"video_url": "https://c"}]});
        flatten("", &result, &mut found);
        let lines: Vec<(&str, &str)> = found.iter().map(|(name, value)| (&**name, &**value)).collect();
        let wanted =
            [("duration_s", "4.0"), ("layers.mask", "https://m"), ("clips.0.video_url", "https://c")];
        assert_eq!(lines, wanted);
    }
}
