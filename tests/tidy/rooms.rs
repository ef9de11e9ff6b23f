//! Which room may use which: the table of ARCHITECTURE.md, as data.

use crate::source::Source;

/// A room and what it may use besides itself and the leaves. `room::part` opens only that part.
const ROOMS: [(&str, &[&str]); 15] = [
    ("domain", &[]),
    ("store", &["domain"]),
    ("net", &["domain"]),
    ("files", &["domain", "net"]),
    ("mail", &["domain", "net"]),
    ("heygen", &["domain", "net"]),
    ("flow", &["domain", "store"]),
    ("work", &["domain", "flow", "store", "heygen", "net", "files", "mail"]),
    // Verdicts on receipts and words for upstream's faults are needed at the door; no calls are made.
    ("http", &["domain", "flow", "store", "files", "heygen::catalog", "heygen::webhooks", "heygen::fault"]),
    ("clock", &["domain"]),
    ("config", &["domain"]),
    ("fail", &[]),
    ("metrics", &["domain"]),
    ("app", &["*"]),
    ("cli", &["*"]),
];

/// Everybody but `domain` may use these; they use nobody.
const LEAVES: [&str; 4] = ["clock", "config", "fail", "metrics"];

/// Arrows of single files, each with its reason.
const EXTRA: [(&str, &str, &str); 5] = [
    ("src/store/", "net::causes", "words for a connection fault, which are the same everywhere"),
    ("src/http/mod.rs", "heygen::client", "holds the handle that look-ups and webhooks go through"),
    ("src/http/input.rs", "heygen::kinds", "knows what of a kind may be asked, and where it goes"),
    ("src/http/input.rs", "heygen::rules", "refuses before paying what upstream would refuse"),
    ("src/http/receipts.rs", "heygen::wire", "says what a body was taken to mean"),
];

/// Crates that would make the pure room impure.
const IMPURE: [&str; 8] =
    ["tokio", "rusqlite", "postgres", "axum", "hyper", "rand", "tracing", "futures_util"];

pub fn forbidden_arrows(file: &Source) -> Vec<String> {
    let Some(room) = room_of(&file.path) else { return vec![] };
    let Some((_, may)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![file.at(1, &format!("the room `{room}` is not in the table of tests/tidy/rooms.rs"))];
    };
    let mut found = vec![];
    for (line, path) in used(file) {
        let to = path.split("::").next().unwrap_or_default();
        if !allowed(room, may, &path) && !extra(file, &path) && !is_macro(to) {
            found.push(file.at(line, &format!("`{room}` may not use `{path}`")));
        }
    }
    if room == "domain" {
        for (line, code) in file.shipped() {
            let named = IMPURE.iter().find(|name| code.contains(&format!("{name}::")));
            if let Some(name) = named.copied().or(code.contains("async ").then_some("async")) {
                found.push(file.at(line, &format!("`domain` is pure and may not use `{name}`")));
            }
        }
    }
    found
}

fn allowed(room: &str, may: &[&str], path: &str) -> bool {
    let to = path.split("::").next().unwrap_or_default();
    let leaf = LEAVES.contains(&to) && room != "domain" && !LEAVES.contains(&room);
    let open = |rule: &str| path == rule || path.starts_with(&format!("{rule}::"));
    to == room || leaf || may.contains(&"*") || may.iter().any(|rule| open(rule))
}

fn extra(file: &Source, path: &str) -> bool {
    EXTRA.iter().any(|(from, to, _)| file.path.starts_with(from) && path.starts_with(to))
}

/// `params!` is exported at the root of the crate by its room.
fn is_macro(name: &str) -> bool {
    name == "params"
}

/// The first folder or file below `src`; `None` for `main.rs` and `lib.rs`, which name every room.
fn room_of(path: &str) -> Option<&str> {
    let room = path.strip_prefix("src/")?.split('/').next()?;
    let room = room.strip_suffix(".rs").unwrap_or(room);
    (!matches!(room, "main" | "lib")).then_some(room)
}

/// Paths below the crate's root that a file names, in a `use` or in place; braces are opened.
fn used(file: &Source) -> Vec<(usize, String)> {
    let mut all = vec![];
    let code: Vec<(usize, &str)> = file.code().collect();
    for (at, (line, text)) in code.iter().enumerate() {
        for (start, _) in text.match_indices("crate::") {
            let before = text[..start].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            // A group may go on over lines; its end is the first `;`.
            let mut rest = text[start + "crate::".len()..].to_owned();
            for (_, more) in &code[at + 1..] {
                if !rest.starts_with('{') && !rest.contains("::{") || rest.contains(';') {
                    break;
                }
                rest.push(' ');
                rest.push_str(more);
            }
            all.extend(opened(&rest).into_iter().map(|path| (*line, path)));
        }
    }
    all
}

/// `a::{b, c::d}` as `a::b` and `a::c::d`.
fn opened(text: &str) -> Vec<String> {
    let name_end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let head = &text[..name_end];
    if !text[name_end..].starts_with('{') || !(head.is_empty() || head.ends_with("::")) {
        return vec![head.trim_end_matches(':').to_owned()];
    }
    let inside = &text[name_end + 1..];
    let (mut depth, mut start, mut parts) = (0, 0, vec![]);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&inside[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&inside[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts.flat_map(|part| opened(part).into_iter().map(|rest| format!("{head}{rest}"))).collect()
}

#[test]
fn groups_are_opened() {
    assert_eq!(
        opened("store::{Db, task::{self, claim}};"),
        ["store::Db", "store::task::self", "store::task::claim"]
    );
    assert_eq!(opened("net::causes(e)"), ["net::causes"]);
    assert_eq!(opened("{flow, store::Tx};"), ["flow", "store::Tx"]);
}

#[test]
fn a_forbidden_arrow_is_found_wherever_it_stands() {
    let arrows = |path: &str, text: &str| forbidden_arrows(&Source::new(path, text)).len();
    assert_eq!(arrows("src/store/job.rs", "use crate::domain::job::Job;\nuse crate::clock::Clock;"), 0);
    assert_eq!(arrows("src/store/job.rs", "use crate::flow;"), 1);
    assert_eq!(arrows("src/store/job.rs", "let x = crate::http::y();"), 1);
    assert_eq!(arrows("src/store/job.rs", "use crate::{domain::ids, work::submit};"), 1);
    assert_eq!(arrows("src/store/job.rs", "use crate::{\n    domain::ids,\n    work::submit,\n};"), 1);
    assert_eq!(arrows("src/store/postgres.rs", "crate::net::causes(e)"), 0);
    assert_eq!(arrows("src/store/postgres.rs", "crate::net::Client::new()"), 1);
    assert_eq!(arrows("src/http/hook.rs", "use crate::heygen::webhooks::x;"), 0);
    assert_eq!(arrows("src/http/hook.rs", "use crate::heygen::client::Client;"), 1);
    assert_eq!(arrows("src/http/pages/job.rs", "use crate::work;"), 1);
    assert_eq!(arrows("src/clock.rs", "use crate::config::X;"), 1);
    assert_eq!(arrows("src/domain/job.rs", "use crate::clock::Clock;"), 1);
    assert_eq!(arrows("src/domain/job.rs", "let x = rand::rng();"), 1);
    assert_eq!(arrows("src/domain/job.rs", "pub async fn x() {}"), 1);
    assert_eq!(arrows("src/work/poll.rs", "use crate::cli;"), 1);
    assert_eq!(arrows("src/utils/mod.rs", ""), 1, "a room nobody planned");
    assert_eq!(arrows("src/main.rs", "use crate::cli;"), 0);
}
