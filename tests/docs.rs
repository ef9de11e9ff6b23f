//! The generated pages under docs/ are as the code would write them now.

use std::path::Path;

#[test]
fn no_generated_page_is_stale() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let stale = reelhook::cli::generate::stale(&docs);
    assert!(stale.is_empty(), "run scripts/generate; stale in docs/: {}", stale.join(", "));
}

#[test]
fn a_missing_page_is_stale() {
    let empty = tempfile::tempdir().expect("a directory");
    let all: Vec<&str> = reelhook::cli::generate::pages().iter().map(|(name, _)| *name).collect();
    assert_eq!(reelhook::cli::generate::stale(empty.path()), all);
}
