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

/// A fact about HeyGen in a comment is cited by the heading of `docs/heygen.md` it stands under.
#[test]
fn what_the_code_cites_of_heygen_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/heygen.md")).expect("the page");
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut cited = 0;
    let mut folders = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            // In two parts, so that this file does not find itself.
            for (at, mark) in text.match_indices(&["docs/heygen", ".md,"].concat()) {
                let rest = text[at + mark.len()..].trim_start_matches(['/', '!', ' ', '\n']);
                let found = headings.iter().any(|heading| rest.starts_with(heading));
                assert!(found, "{}: {}", path.display(), rest.lines().next().unwrap_or_default());
                cited += 1;
            }
        }
    }
    assert!(cited > 40, "{cited} citations");
}
