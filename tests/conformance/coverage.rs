//! Every public function of the store has a case: its name is looked for in the files of cases.

use std::path::Path;

/// `(file, functions)` of a room, tests left out.
fn sources(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = std::fs::read_dir(&folder).expect("the folder of sources");
    let mut all: Vec<(String, String)> = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| {
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (stem, std::fs::read_to_string(&path).expect("a source file"))
        })
        .collect();
    all.sort();
    all
}

/// How a call of each public function looks: `table::name` of a free one, `.name(` of a method.
fn public_calls(file: &str, source: &str) -> Vec<Vec<String>> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let name = |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned);
    let mut calls = vec![];
    for line in code.lines() {
        let method = line.starts_with(' ');
        let Some(rest) = line.trim_start().strip_prefix("pub ") else { continue };
        let Some(rest) = rest.trim_start_matches("async ").strip_prefix("fn ") else { continue };
        let Some(name) = name(rest) else { continue };
        calls.push(if method {
            vec![format!(".{name}("), format!("::{name}")]
        } else {
            vec![format!("{file}::{name}")]
        });
    }
    calls
}

fn uncovered(store: &[(String, String)], cases: &str) -> Vec<String> {
    let calls = store.iter().flat_map(|(file, source)| public_calls(file, source));
    calls.filter(|ways| !ways.iter().any(|way| mentions(cases, way))).map(|mut ways| ways.remove(0)).collect()
}

/// Whether the text has the call, and not only a longer name that begins like it.
fn mentions(text: &str, call: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    text.match_indices(call).any(|(at, _)| call.ends_with('(') || ends(&text[at + call.len()..]))
}

#[test]
fn every_public_function_of_the_store_has_a_case() {
    let cases: String = sources("tests/conformance")
        .into_iter()
        .filter(|(file, _)| file != "coverage")
        .map(|(_, source)| source)
        .collect();
    let missing = uncovered(&sources("src/store"), &cases);
    assert!(missing.is_empty(), "no case in tests/conformance calls {}", missing.join(", "));
}

#[test]
fn a_function_without_a_case_is_found() {
    let source = "pub fn find(tx: &mut Tx) {}\npub fn find_many() {}\nfn own() {}\nimpl Row {\n    pub fn int() {}\n}\n";
    let store = [("job".to_owned(), source.to_owned())];
    assert_eq!(uncovered(&store, "job::find_many(tx)"), ["job::find", ".int("]);
    assert_eq!(uncovered(&store, "job::find, job::find_many; row.int(0)"), [""; 0]);
}
