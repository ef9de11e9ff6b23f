//! Keeps the tree as ARCHITECTURE.md draws it: which room may use which, how long a file may be,
//! where SQL and panics may stand, what things are called. Every rule is tried on a bad snippet.

#[path = "tidy/rooms.rs"]
mod rooms;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use source::{Source, all, machine_text};

fn check(files: &[Source], rule: impl Fn(&Source) -> Vec<String>) {
    let found: Vec<String> = files.iter().flat_map(rule).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn rooms_use_only_what_the_table_allows() {
    check(&all(&["src"]), rooms::forbidden_arrows);
}

#[test]
fn no_file_is_longer_than_five_hundred_lines_of_code() {
    check(&all(&["src", "tests"]), rules::too_long);
}

#[test]
fn sql_is_written_in_the_store_only() {
    check(&all(&["src"]), rules::sql_outside_the_store);
}

#[test]
fn nothing_panics_on_purpose_outside_tests_and_start_up() {
    check(&all(&["src"]), rules::panics);
}

#[test]
fn tests_do_not_sleep() {
    check(&all(&["tests"]), rules::sleeps);
}

#[test]
fn nothing_is_left_for_later() {
    check(&all(&["src", "tests"]), rules::left_for_later);
}

#[test]
fn every_source_file_says_what_it_is() {
    check(&all(&["src", "tests"]), rules::no_header);
}

#[test]
fn types_and_tables_have_the_names_of_the_glossary() {
    check(&all(&["src", "migrations"]), rules::banned_names);
}

#[test]
fn no_tracked_file_names_a_place_on_one_machine() {
    check(&machine_text(), rules::machine_paths);
}
