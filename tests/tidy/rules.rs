//! The rules that look at one file at a time.

use crate::source::Source;

const MOST_LINES: usize = 500;

pub fn too_long(file: &Source) -> Vec<String> {
    let lines = file.code().count();
    let long = lines > MOST_LINES;
    long.then(|| file.at(1, &format!("{lines} lines of code, {MOST_LINES} at most"))).into_iter().collect()
}

/// Statements as they are written: a verb in capitals and the word that must follow it.
const SQL: [(&str, &str); 4] =
    [("SELECT ", " FROM "), ("INSERT INTO ", ""), ("DELETE FROM ", ""), ("UPDATE ", " SET ")];

pub fn sql_outside_the_store(file: &Source) -> Vec<String> {
    if file.path.starts_with("src/store/") {
        return vec![];
    }
    let has = |line: &str| {
        SQL.iter()
            .any(|(verb, word)| line.find(verb).is_some_and(|at| line[at + verb.len() - 1..].contains(word)))
    };
    file.code().filter(|(_, line)| has(line)).map(|(n, _)| file.at(n, "SQL outside src/store")).collect()
}

/// A command that cannot start may say so by a panic; what runs may not.
pub fn panics(file: &Source) -> Vec<String> {
    if file.path == "src/main.rs" || file.path.starts_with("src/cli/") {
        return vec![];
    }
    let words = [".unwrap()", ".expect(", ".unwrap_err()", ".expect_err(", "panic!(", "unreachable!("];
    let found = file.shipped().filter_map(|(n, line)| {
        let word = words.iter().find(|word| line.contains(**word))?;
        Some(file.at(n, &format!("`{word}` outside tests: return an error")))
    });
    found.collect()
}

pub fn sleeps(file: &Source) -> Vec<String> {
    // This folder names them.
    if file.path.starts_with("tests/tidy/") {
        return vec![];
    }
    let words = ["::sleep(", ".sleep(", "sleep_ms("];
    let found = file.code().filter_map(|(n, line)| {
        let word = words.iter().find(|word| line.contains(**word))?;
        Some(file.at(n, &format!("`{word}`: wait for what must happen, or move the clock")))
    });
    found.collect()
}

/// In two parts, so that this file does not find itself.
const LATER: [(&str, &str); 5] =
    [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("todo", "!("), ("unimplemented", "!(")];

pub fn left_for_later(file: &Source) -> Vec<String> {
    let words = LATER.map(|(a, b)| format!("{a}{b}"));
    let whole = |line: &str, word: &str| {
        let mut hits = line.match_indices(word);
        let letter = |c: char| c.is_alphanumeric() || c == '_';
        hits.any(|(at, _)| {
            let after = line[at + word.len()..].chars().next();
            let before = line[..at].chars().next_back();
            !before.is_some_and(letter) && (word.ends_with('(') || !after.is_some_and(letter))
        })
    };
    let mut found = vec![];
    for (n, line) in file.text.lines().enumerate() {
        if let Some(word) = words.iter().find(|word| whole(line, word)) {
            found.push(file.at(n + 1, &format!("`{word}`: do it now or write an issue")));
        }
    }
    found
}

pub fn no_header(file: &Source) -> Vec<String> {
    let is_rust = file.path.ends_with(".rs");
    let missing = is_rust && !file.text.trim_start().starts_with("//!");
    missing.then(|| file.at(1, "no `//!` that says what this file is for")).into_iter().collect()
}

/// Words the glossary replaces, and by what. Looked for as whole words in names of types and tables.
const BANNED: [(&[&str], &str); 14] = [
    (&["WorkItem"], "task"),
    (&["DlqItem", "Dlq", "DeadLetterQueue"], "dead letter"),
    (&["Redrive", "Requeue", "Redelivery"], "replay"),
    (&["Defer", "Deferral"], "snooze"),
    (&["JobQueue", "TaskQueue", "WorkQueue", "QueuePool", "WorkerPool"], "lane"),
    (&["Provider", "Vendor"], "upstream"),
    (&["Callback", "Notification"], "receipt"),
    (&["StatusUpdate"], "observation"),
    (&["Message"], "event"),
    (&["Subscription", "Subscriber", "Hook"], "endpoint"),
    (&["Artifact", "Artefact", "Media"], "asset"),
    (&["ApiToken", "AccessToken"], "API key"),
    (&["RenderJob", "VideoRequest"], "job"),
    (&["Util", "Utils", "Helper", "Helpers", "Manager"], "the noun it is about"),
];

/// Names that are right although a banned word is in them. `path` is where, `name` what.
const ALLOWED: [(&str, &str, &str); 3] = [
    ("src/heygen/sandbox/", "", "speaks HeyGen's language and makes media files"),
    ("src/http/hook", "Hook", "the address HeyGen calls; the design names it so"),
    ("src/mail", "Message", "a mail is one"),
];

pub fn banned_names(file: &Source) -> Vec<String> {
    let mut found = vec![];
    for (n, line) in file.shipped() {
        for name in declared(line) {
            let words = words_of(&name);
            let bad = BANNED.iter().find(|(banned, _)| banned.iter().any(|word| has_word(&words, word)));
            let fine =
                ALLOWED.iter().any(|(path, part, _)| file.path.starts_with(path) && name.contains(part));
            if let (Some((_, better)), false) = (bad, fine) {
                found.push(file.at(n, &format!("`{name}`: the glossary says {better}")));
            }
        }
    }
    found
}

/// Types and tables a line declares.
fn declared(line: &str) -> Vec<String> {
    let line = line.strip_prefix("pub ").or(line.strip_prefix("pub(super) ")).unwrap_or(line);
    let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
    let starts = ["struct ", "enum ", "trait ", "type ", "CREATE TABLE IF NOT EXISTS ", "CREATE TABLE "];
    let name = |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
    starts.iter().find_map(|start| line.strip_prefix(start)).and_then(name).into_iter().collect()
}

/// `DeadLetter` and `dead_letter` as `dead`, `letter`; a plural counts as its singular.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for c in name.chars() {
        if c == '_' || c.is_uppercase() && words.last().is_some_and(|w| !w.is_empty()) {
            words.push(String::new());
        }
        if let (Some(word), true) = (words.last_mut(), c != '_') {
            word.extend(c.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

fn has_word(words: &[String], banned: &str) -> bool {
    let banned = words_of(banned);
    let same = |a: &String, b: &String| a == b || a.strip_suffix('s') == Some(b);
    words.windows(banned.len()).any(|part| part.iter().zip(&banned).all(|(a, b)| same(a, b)))
}

/// Places that exist where the code was written and nowhere else; in two parts, as above.
const MACHINE: [(&str, &str); 3] = [("/ro", "ot/"), ("/wo", "rk/"), ("/ho", "me/")];

pub fn machine_paths(file: &Source) -> Vec<String> {
    let places = MACHINE.map(|(a, b)| format!("{a}{b}"));
    let starts = |line: &str, place: &str| {
        // `src/work/` is a room; only a path from the root of the disk is meant.
        let within = |c: char| c.is_alphanumeric() || "_.-}*>)/~".contains(c);
        line.match_indices(place).any(|(at, _)| !line[..at].chars().next_back().is_some_and(within))
    };
    let mut found = vec![];
    for (n, line) in file.text.lines().enumerate() {
        if let Some(place) = places.iter().find(|place| starts(line, place)) {
            found.push(file.at(n + 1, &format!("`{place}` is a place on one machine")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
        rule(&Source::new(path, text)).len()
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let long = "x\n".repeat(501);
        assert_eq!(found(too_long, "src/a.rs", &long), 1);
        assert_eq!(found(too_long, "src/a.rs", &format!("{}\n\n// c\n", "x\n".repeat(500))), 0);

        for sql in ["SELECT a FROM b", "INSERT INTO a", "UPDATE a SET b", "DELETE FROM a"] {
            assert_eq!(found(sql_outside_the_store, "src/flow.rs", &format!("\"{sql}\"")), 1);
            assert_eq!(found(sql_outside_the_store, "src/store/job.rs", &format!("\"{sql}\"")), 0);
        }
        assert_eq!(found(sql_outside_the_store, "src/flow.rs", "// SELECT a FROM b"), 0);

        for bad in ["x.unwrap();", "x.expect(\"y\");", "panic!(\"y\");"] {
            assert_eq!(found(panics, "src/flow.rs", bad), 1);
            assert_eq!(found(panics, "src/main.rs", bad), 0);
            assert_eq!(found(panics, "src/flow.rs", &format!("#[cfg(test)]\nmod tests {{\n{bad}")), 0);
        }
        assert_eq!(found(panics, "src/flow.rs", "x.unwrap_or(1);"), 0);

        for (a, b) in
            [("std::thread::", "sleep(x);"), ("tokio::time::", "sleep(x).await;"), ("clock.", "sleep(x);")]
        {
            assert_eq!(found(sleeps, "tests/a.rs", &format!("{a}{b}")), 1);
        }

        for (a, b) in LATER {
            assert_eq!(found(left_for_later, "src/a.rs", &format!("// {a}{b}")), 1);
            let longer = if b.ends_with('(') { format!("// my_{a}{b}") } else { format!("// {a}{b}S") };
            assert_eq!(found(left_for_later, "src/a.rs", &longer), 0);
        }

        assert_eq!(found(no_header, "src/a.rs", "fn a() {}"), 1);
        assert_eq!(found(no_header, "src/a.rs", "//! A.\nfn a() {}"), 0);
    }

    #[test]
    fn a_banned_name_is_found_and_a_good_one_is_not() {
        for bad in [
            "pub struct HeyGenProvider;",
            "enum CallbackKind {",
            "struct WorkItem {",
            "pub(super) struct QueuePool {",
            "pub trait Notifications {",
            "CREATE TABLE subscription (",
            "CREATE TABLE media_file (",
            "pub struct JobManager;",
        ] {
            assert_eq!(found(banned_names, "src/a.rs", bad), 1, "{bad}");
        }
        for good in [
            "pub struct Clock;",
            "struct Blocker;",
            "fn callback_id() {}",
            "callback_id TEXT,",
            "CREATE TABLE api_key (",
            "let queue = Queue::new();",
            "pub struct Lease;",
        ] {
            assert_eq!(found(banned_names, "src/a.rs", good), 0, "{good}");
        }
        assert_eq!(found(banned_names, "src/heygen/sandbox/media.rs", "pub struct Media;"), 0);
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let path = |(a, b): (&str, &str)| format!("see {a}{b}x");
        for place in MACHINE {
            assert_eq!(found(machine_paths, "README.md", &path(place)), 1);
            for within in ["src", "~", "$HOME"] {
                let (a, b) = place;
                assert_eq!(found(machine_paths, "README.md", &format!("see {within}{a}{b}x")), 0);
            }
        }
    }
}
